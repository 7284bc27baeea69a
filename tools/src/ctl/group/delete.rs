//! `brokerctl group delete`.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::TopicChoice;
use crate::client::{Client, ClientError, TopicPartition};
use crate::ctl::CtlError;
use crate::ctl::table::count_text;

/// Options of `group delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The groups; they must have no members
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    /// Keep the groups, and delete only what they have committed for this topic, or for some partitions of it: orders:0,3 (may be
    /// repeated)
    #[arg(long, short, value_name = "TOPIC[:PARTITIONS]")]
    topic: Vec<TopicChoice>,
    /// A group that is not there is no failure
    #[arg(long)]
    if_exists: bool,
}

/// Runs `group delete`.
pub fn run(client: &mut Client, args: &DeleteArgs, json: bool, out: &mut dyn Write) -> Result<(), CtlError> {
    let mut failure = None;
    for group in &args.groups {
        let outcome = match args.topic.is_empty() {
            true => client.delete_group(group).map(|()| "deleted".to_owned()),
            false => delete_offsets(client, group, &args.topic),
        };
        let (deleted, text) = match outcome {
            Ok(text) => (true, text),
            Err(ClientError::NoSuchGroup { .. }) if args.if_exists => (false, "was not there".to_owned()),
            Err(error) => {
                failure = Some(error);
                continue;
            }
        };
        match json {
            true => writeln!(out, "{}", json!({ "group": group, "deleted": deleted })),
            false => writeln!(out, "{group}: {text}"),
        }
        .map_err(CtlError::stdout)?;
    }
    failure.map_or(Ok(()), |failure| Err(failure.into()))
}

fn delete_offsets(client: &mut Client, group: &str, topics: &[TopicChoice]) -> Result<String, ClientError> {
    // A topic that does not exist any more may still have committed offsets: they tell which.
    let chosen = |partition: &TopicPartition| {
        topics.iter().any(|choice| {
            choice.topic == partition.topic
                && (choice.partitions.is_empty() || choice.partitions.contains(&partition.partition))
        })
    };
    let partitions: Vec<TopicPartition> = client.committed(group)?.into_keys().filter(chosen).collect();
    if partitions.is_empty() {
        // Says whether the group or only the offsets are missing.
        client.describe_group(group)?;
        return Ok("has committed nothing there".to_owned());
    }
    client.delete_offsets(group, &partitions)?;
    Ok(format!("deleted what it has committed for {}", count_text(partitions.len(), "partition")))
}
