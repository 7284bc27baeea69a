//! `brokerctl` as the tests type it.

use clap::Parser;
use serde_json::Value;
use tools::ctl::{Cli, run};

use super::RunningBroker;

/// Runs one command line with `input`; gives what it printed, or the exit code and the message.
pub fn try_brokerctl(broker: &RunningBroker, line: &str, input: &str) -> Result<String, (u8, String)> {
    let bootstrap = broker.kafka.to_string();
    let words = ["brokerctl", "--bootstrap", &bootstrap].into_iter().chain(line.split(' '));
    let cli = Cli::try_parse_from(words).map_err(|error| (2, error.to_string()))?;
    let mut out = Vec::new();
    run(&cli, &mut input.as_bytes(), &mut out).map_err(|error| (error.exit_code(), error.to_string()))?;
    Ok(String::from_utf8(out).expect("the tests print text"))
}

/// The same for a line that succeeds.
pub fn brokerctl(broker: &RunningBroker, line: &str, input: &str) -> String {
    try_brokerctl(broker, line, input).unwrap_or_else(|error| panic!("{line}: {error:?}"))
}

/// The same for a line that prints JSON.
pub fn json(broker: &RunningBroker, line: &str) -> Value {
    serde_json::from_str(&brokerctl(broker, &format!("--json {line}"), "")).expect("JSON")
}

/// Node ids of the quorum's members: voters and observers.
pub fn quorum(broker: &RunningBroker) -> (Vec<i64>, Vec<i64>) {
    let shown = json(broker, "cluster");
    let members = shown["quorum"]["members"].as_array().cloned().unwrap_or_default();
    let (voters, observers): (Vec<Value>, Vec<Value>) =
        members.into_iter().partition(|member| member["voter"] == true);
    let ids = |members: Vec<Value>| members.iter().filter_map(|member| member["id"].as_i64()).collect();
    (ids(voters), ids(observers))
}

/// `1\n2\n…`
pub fn numbers(range: std::ops::RangeInclusive<u32>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}
