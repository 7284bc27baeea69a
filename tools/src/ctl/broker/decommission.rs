//! `brokerctl broker decommission`.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::plan::plan;
use crate::client::{Client, ClusterBroker, Topic, TopicPartition};
use crate::ctl::CtlError;
use crate::ctl::partition::moves::{MoveOptions, Moves, carry_out};
use crate::ctl::table::{count_text, list_text, write_table};

/// New partitions may come to the broker while the old ones go; so often they are moved, too.
const ROUNDS_MAX: usize = 5;

const NOTES: &str = "\
Nothing is changed without --execute. Each replica goes to the broker that has least to do, on a rack that the partition's other
replicas are not on, where there is one. Producers and consumers go on meanwhile. A broker that is down can be decommissioned, too:
its partitions are copied from their other replicas.

At the end the broker holds nothing. Stop it, then have it forgotten with 'brokerctl broker unregister'. A node that votes in the
metadata quorum goes on voting as long as it runs, unless its vote is taken with 'brokerctl quorum remove'; the command says so.";

/// Options of `broker decommission`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub struct DecommissionArgs {
    /// The broker's id
    id: i32,
    /// Do it; without it only show what would be moved where
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    options: MoveOptions,
}

/// Runs `broker decommission`.
pub fn run(
    client: &mut Client,
    args: &DecommissionArgs,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    let (topics, moves, leaving) = planned(client, args.id)?;
    if !args.execute {
        return show(&topics, &moves, args.id, json, out).map_err(CtlError::stdout);
    }
    let mut moves = moves;
    for _ in 0..ROUNDS_MAX {
        if moves.is_empty() {
            return tell_end(client, &leaving, json, out);
        }
        carry_out(client, moves, &args.options, json, out)?;
        if args.options.is_hurried() {
            return Ok(());
        }
        (_, moves, _) = planned(client, args.id)?;
    }
    Err(CtlError::Refused(format!(
        "broker {} keeps getting new partitions: stop whatever creates topics, and decommission it again",
        args.id
    )))
}

/// What there is, what has to go, and who leaves.
fn planned(client: &mut Client, id: i32) -> Result<(Vec<Topic>, Moves, ClusterBroker), CtlError> {
    let brokers = client.describe_cluster()?.brokers;
    let leaving = brokers.iter().find(|broker| broker.id == id).cloned();
    let leaving = leaving.ok_or_else(|| CtlError::NotFound(format!("there is no broker {id}")))?;
    // What is being moved counts by where it will be.
    let mut topics = client.topics()?;
    for moving in client.reassignments()? {
        let topic = topics.iter_mut().find(|topic| topic.name == moving.partition.topic);
        let partitions = topic.into_iter().flat_map(|topic| &mut topic.partitions);
        for found in partitions.filter(|found| found.index == moving.partition.partition) {
            found.replicas = moving.replicas.clone();
            found.replicas.retain(|broker| !moving.removing.contains(broker));
        }
    }
    let moves = plan(&topics, &brokers, id).map_err(|partition| {
        CtlError::Refused(format!(
            "{partition} has a replica on broker {id}, and there is no other broker that is up and does not hold it: add one, or \
             make do with fewer replicas ('brokerctl partition move {}:{} --to …')",
            partition.topic, partition.partition
        ))
    })?;
    Ok((topics, moves, leaving))
}

fn show(topics: &[Topic], moves: &Moves, id: i32, json: bool, out: &mut dyn Write) -> std::io::Result<()> {
    let now = |partition: &TopicPartition| {
        let topic = topics.iter().find(|topic| topic.name == partition.topic);
        let found = topic.and_then(|topic| topic.partition(partition.partition));
        found.map_or(&[][..], |found| &found.replicas)
    };
    if json {
        let row = |(partition, to): (&TopicPartition, &Vec<i32>)| json!({ "topic": partition.topic, "partition": partition.partition, "replicas": now(partition), "to": to });
        return writeln!(out, "{}", json!(moves.iter().map(row).collect::<Vec<_>>()));
    }
    if moves.is_empty() {
        return writeln!(out, "broker {id} holds nothing.");
    }
    let row = |(partition, to): (&TopicPartition, &Vec<i32>)| {
        let TopicPartition { topic, partition: index } = partition;
        vec![topic.clone(), index.to_string(), list_text(now(partition)), list_text(to)]
    };
    let rows: Vec<Vec<String>> = moves.iter().map(row).collect();
    write_table(out, &["TOPIC", "PARTITION", "REPLICAS", "TO"], &rows)?;
    writeln!(
        out,
        "{} would move. Nothing has been changed. To do it, add --execute.",
        count_text(moves.len(), "partition")
    )
}

/// The broker holds nothing any more: what is left to do.
fn tell_end(
    client: &mut Client,
    leaving: &ClusterBroker,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    let id = leaving.id;
    let votes = client
        .quorum()?
        .is_some_and(|quorum| quorum.members.iter().any(|member| member.is_voter && member.id == id));
    // One that is down stays so, unless somebody starts it again; then it registers anew.
    if leaving.is_fenced && !votes {
        client.unregister_broker(id)?;
    }
    if json {
        let value = json!({ "broker": id, "empty": true, "votes": votes, "unregistered": leaving.is_fenced && !votes });
        return writeln!(out, "{value}").map_err(CtlError::stdout);
    }
    let next = match (votes, leaving.is_fenced) {
        (true, _) => {
            "It votes in the metadata quorum: keep it running for that, or take its vote before it is stopped for good ('brokerctl quorum remove')."
        }
        (false, true) => "It is down, and has been forgotten.",
        (false, false) => "Stop it, then have it forgotten:",
    };
    let command = match (votes, leaving.is_fenced) {
        (false, false) => format!("\n  brokerctl broker unregister {id}"),
        _ => String::new(),
    };
    writeln!(out, "broker {id} holds nothing any more. {next}{command}").map_err(CtlError::stdout)
}
