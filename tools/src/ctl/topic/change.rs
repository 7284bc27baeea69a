//! `brokerctl topic alter|delete`.

use std::io::Write;

use clap::Args;
use protocol::error::ErrorCode;
use protocol::messages::create_partitions::CreatePartitionsTopic;
use protocol::messages::delete_topics::DeleteTopicState;
use protocol::messages::{CreatePartitionsRequest, DeleteTopicsRequest};
use serde_json::json;

use super::parse_entry;
use crate::client::{
    Client, ClientError, ConfigChange, ConfigOperation, ConfigResource, ResourceKind, check,
};
use crate::ctl::CtlError;

/// Options of `topic alter`.
#[derive(Debug, Args)]
pub struct AlterArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    changes: ChangeArgs,
    /// Only check whether it could be done
    #[arg(long)]
    check: bool,
}

/// What to change; at least one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct ChangeArgs {
    /// How many partitions it is to have; more than now, and keys will go to other partitions than before
    #[arg(long, short, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Give a configuration entry a value, such as retention.ms=3600000 (may be repeated)
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = parse_entry)]
    set: Vec<(String, String)>,
    /// Go back to the broker's value of a configuration entry (may be repeated)
    #[arg(long, short, value_name = "NAME")]
    unset: Vec<String>,
}

/// Runs `topic alter`.
pub fn alter(client: &mut Client, args: &AlterArgs, json: bool, out: &mut dyn Write) -> Result<(), CtlError> {
    let topic = client.topic(&args.name, false)?;
    let resource = ConfigResource { kind: ResourceKind::Topic, name: args.name.clone() };
    let set = args.changes.set.iter().map(|(name, value)| ConfigChange {
        name: name.clone(),
        operation: ConfigOperation::Set,
        value: value.clone(),
    });
    let unset = args.changes.unset.iter().map(|name| ConfigChange {
        name: name.clone(),
        operation: ConfigOperation::Unset,
        value: String::new(),
    });
    let changes: Vec<ConfigChange> = set.chain(unset).collect();
    // What cannot be done is found before anything is.
    let passes: &[bool] = if args.check { &[true] } else { &[true, false] };
    for validate_only in passes {
        if !changes.is_empty() {
            client.alter_configs(&resource, &changes, *validate_only)?;
        }
        if let Some(count) = args.changes.partitions {
            create_partitions(client, &args.name, count, *validate_only)?;
        }
    }
    if json {
        let value = json!({
            "name": args.name, "altered": !args.check, "partitions": args.changes.partitions.unwrap_or(topic.partitions.len() as i32),
        });
        return writeln!(out, "{value}").map_err(CtlError::stdout);
    }
    let mut done = Vec::new();
    if let Some(count) = args.changes.partitions {
        done.push(format!("{count} partitions instead of {}", topic.partitions.len()));
    }
    done.extend(args.changes.set.iter().map(|(name, value)| format!("{name}={value}")));
    done.extend(args.changes.unset.iter().map(|name| format!("{name} as the broker has it")));
    let verb = if args.check { "could have" } else { "has now" };
    writeln!(out, "{}: {verb} {}", args.name, done.join(", ")).map_err(CtlError::stdout)
}

fn create_partitions(
    client: &mut Client,
    topic: &str,
    count: i32,
    validate_only: bool,
) -> Result<(), ClientError> {
    let request = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: topic.into(),
            count,
            assignments: None,
            ..Default::default()
        }],
        timeout_ms: client.timeout_ms(),
        validate_only,
        ..Default::default()
    };
    let response = client.any()?.call(&request)?;
    for result in &response.results {
        let what = || format!("giving topic '{topic}' {count} partitions");
        check(what, result.error_code, result.error_message.as_deref())?;
    }
    Ok(())
}

/// Runs `topic delete`.
pub fn delete(
    client: &mut Client,
    names: &[String],
    if_exists: bool,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    let timeout_ms = client.timeout_ms();
    let connection = client.any()?;
    // Topics are named in another field since topics can be deleted by id (KIP-516).
    let by_state = connection.version::<DeleteTopicsRequest<'_>>().is_some_and(|version| version >= 6);
    let mut request = DeleteTopicsRequest { timeout_ms, ..Default::default() };
    for name in names {
        match by_state {
            true => {
                let name = Some(name.as_str().into());
                request.topics.push(DeleteTopicState { name, ..Default::default() });
            }
            false => request.topic_names.push(name.as_str().into()),
        }
    }
    let response = connection.call(&request)?;
    let mut failures = Vec::new();
    for result in &response.responses {
        let name = result.name.as_deref().unwrap_or_default();
        let code = ErrorCode(result.error_code);
        let missing = code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        if code.is_err() && !(missing && if_exists) {
            let message = result.error_message.as_deref().map(str::to_owned);
            failures.push((name.to_owned(), code, message));
            continue;
        }
        let line = match json {
            true => json!({ "name": name, "deleted": !missing }).to_string(),
            false => format!("{name}: {}", if missing { "was not there" } else { "deleted" }),
        };
        writeln!(out, "{line}").map_err(CtlError::stdout)?;
    }
    match failures.pop() {
        None => Ok(()),
        Some((name, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, _)) => Err(client.no_such_topic(&name).into()),
        Some((name, code, message)) => {
            Err(ClientError::Refused { what: format!("deleting topic '{name}'"), code, message }.into())
        }
    }
}
