//! `brokerctl` against a fake broker: what a user types, and what comes out.

use clap::{CommandFactory, Parser};

use super::fake_broker::FakeBroker;
use super::{Cli, run};

const NOT_LEADER: i16 = 6;

/// Runs one command line with `input`; gives what it printed, or the exit code and the message.
fn brokerctl(broker: &FakeBroker, line: &str, input: &str) -> Result<String, (u8, String)> {
    let words = ["brokerctl", "--bootstrap", &broker.address].into_iter().chain(line.split(' '));
    let cli = Cli::try_parse_from(words).map_err(|error| (2, error.to_string()))?;
    let mut out = Vec::new();
    run(&cli, &mut input.as_bytes(), &mut out).map_err(|error| (error.exit_code(), error.to_string()))?;
    Ok(String::from_utf8(out).expect("the tests print text"))
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn lines_go_in_and_come_out_again_with_their_keys_and_headers() {
    let broker = FakeBroker::start().with_topic("t", 1);
    brokerctl(&broker, "produce t -K : -H from=test", "a:one\nb:two\nno separator\n").expect("written");
    let shown = brokerctl(&broker, r"consume t --format %o/%k/%s/%h\n", "").expect("read");
    assert_eq!(shown, "0/a/one/from=test\n1/b/two/from=test\n2//no separator/from=test\n");
}

#[test]
fn every_compression_and_idempotence_give_the_same_lines_back() {
    for options in ["-z gzip", "-z snappy", "-z lz4", "-z zstd", "--idempotent", "--acks 1"] {
        let broker = FakeBroker::start().with_topic("t", 1);
        brokerctl(&broker, &format!("produce t {options}"), "one\n\ntwo").expect("written");
        assert_eq!(brokerctl(&broker, "consume t", "").expect("read"), "one\n\ntwo\n", "{options}");
    }
}

#[test]
fn equal_keys_go_to_the_same_partition_and_a_partition_can_be_chosen() {
    let broker = FakeBroker::start().with_topic("t", 4);
    brokerctl(&broker, "produce t --key k", "1\n2\n3\n").expect("written");
    let shown = brokerctl(&broker, r"consume t --format %p", "").expect("read");
    assert!(shown.len() == 3 && shown.chars().all(|partition| shown.starts_with(partition)), "{shown}");
    brokerctl(&broker, "produce t --partition 3", "x\n").expect("written");
    assert!(brokerctl(&broker, "consume t --partition 3", "").expect("read").ends_with("x\n"));
}

#[test]
fn reading_starts_and_stops_where_it_was_told() {
    let broker = FakeBroker::start().with_topic("t", 1);
    brokerctl(&broker, "produce t", "a\nb\nc\nd\n").expect("written");
    for (options, lines) in [
        ("--from 2", "c\nd\n"),
        ("--from -1", "d\n"),
        ("--from earliest --count 2", "a\nb\n"),
        ("--from latest", ""),
        ("--follow --count 4", "a\nb\nc\nd\n"),
    ] {
        assert_eq!(
            brokerctl(&broker, &format!("consume t {options}"), "").expect("read"),
            lines,
            "{options}"
        );
    }
}

#[test]
fn json_tells_null_from_empty() {
    let broker = FakeBroker::start().with_topic("t", 1);
    brokerctl(&broker, "produce t -K : --null-empty", "k:\nno key\n").expect("written");
    let shown = brokerctl(&broker, "--json consume t", "").expect("read");
    let rows: Vec<serde_json::Value> =
        shown.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&rows[0]["key"], &rows[0]["value"]), (&"k".into(), &serde_json::Value::Null));
    assert_eq!((&rows[1]["key"], &rows[1]["value"]), (&serde_json::Value::Null, &"no key".into()));
    assert_eq!(rows[1]["offset"], 1);
}

#[test]
fn topics_are_created_listed_described_and_deleted() {
    let broker = FakeBroker::start();
    assert_eq!(
        brokerctl(&broker, "topic create orders --partitions 3", "").expect("created"),
        "orders: created\n"
    );
    let listed = brokerctl(&broker, "topic list", "").expect("listed");
    assert!(
        listed.lines().nth(1).is_some_and(|row| row.starts_with("orders") && row.contains('3')),
        "{listed}"
    );
    let described = brokerctl(&broker, "topic describe orders", "").expect("described");
    assert_eq!(described.lines().count(), 5, "{described}");
    let (code, message) = brokerctl(&broker, "topic create orders", "").expect_err("exists");
    assert!(code == 1 && message.contains("TOPIC_ALREADY_EXISTS"), "{message}");
    brokerctl(&broker, "topic create orders --if-not-exists", "").expect("no failure");
    assert_eq!(brokerctl(&broker, "topic delete orders", "").expect("deleted"), "orders: deleted\n");
    let (code, message) = brokerctl(&broker, "topic describe orders", "").expect_err("gone");
    assert!(code == 4 && message.contains("'orders'"), "{message}");
}

#[test]
fn a_passing_error_and_a_broken_connection_are_tried_again() {
    let broker = FakeBroker::start().with_topic("t", 1);
    broker.refuse_next(&[NOT_LEADER]);
    broker.hang_up(1);
    brokerctl(&broker, "produce t", "once\n").expect("written at the third try");
    assert_eq!(brokerctl(&broker, "consume t", "").expect("read"), "once\n");
    assert_eq!((broker.produced(), broker.log("t", 0).map(|log| log.end)), (2, Some(1)));
}

#[test]
fn failures_have_their_own_exit_codes() {
    let broker = FakeBroker::start().with_topic("t", 1);
    let code = |line: &str| brokerctl(&broker, line, "x\n").expect_err("fails").0;
    assert_eq!(code("consume missing"), 4);
    assert_eq!(code("consume t --partition 7"), 4);
    assert_eq!(code("consume t --format %q"), 2);
    assert_eq!(code("produce t --acks 2"), 2);
    assert_eq!(code("produce t --file /does/not/exist"), 5);
    assert_eq!(code("log dump /does/not/exist"), 5);
    broker.refuse_next(&[10]);
    assert_eq!(code("produce t"), 1, "MESSAGE_TOO_LARGE does not pass");
    let nobody = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let gone = nobody.local_addr().expect("bound").to_string();
    drop(nobody);
    assert_eq!(code(&format!("topic list --bootstrap {gone}")), 3);
}

#[test]
fn completions_name_the_subcommands() {
    let broker = FakeBroker::start();
    let script = brokerctl(&broker, "completions bash", "").expect("printed");
    assert!(script.contains("describe") && script.contains("--follow"));
}
