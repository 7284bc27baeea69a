//! `brokerctl partition`.
//!
//! | file | owns |
//! |---|---|
//! | `moves` | replicas on their way: begun, waited for, with progress |
//! | `throttle` | `--throttle` and `partition unthrottle` |
//! | `elect` | `partition elect` |

mod elect;
pub mod moves;
mod throttle;

use std::collections::BTreeMap;
use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::json;

use super::group::TopicChoice;
use super::table::{list_text, write_table};
use super::{CtlError, GlobalArgs};
use crate::client::{Client, Reassignment, TopicPartition, choose};
use moves::{MoveOptions, Moves};

const MOVE_EXAMPLES: &str = "\
New replicas are added first; the old ones go when all of the new ones are in sync. Producers and consumers go on meanwhile.
Of a topic's partitions each next one begins its list with another broker, so that they share the leaders; a single partition gets
the list as it is, its preferred leader first.

With --throttle the copying leaves room for the rest; the limit goes when everything is there. If the command is interrupted, or does not
wait, it stays: 'brokerctl partition list' shows it, and 'brokerctl partition unthrottle' takes it away.

Examples:
  brokerctl partition move orders:0 --to 2,3,4        one partition
  brokerctl partition move orders --to 2,3,4          all partitions of a topic
  brokerctl partition move orders --to 2,3,4 --throttle 50000000
  brokerctl partition move orders payments:0,1 --to 4,5 --no-wait";

/// What to do with partitions.
#[derive(Debug, Subcommand)]
pub enum PartitionCommand {
    /// Move partitions to other brokers, and wait until they are there
    Move(MoveArgs),
    /// Show the partitions that are being moved, and the limits on that
    List,
    /// Call off moves: the replicas from before stay
    Cancel(CancelArgs),
    /// Take away all limits that --throttle has set; what is under way goes on at full speed
    Unthrottle,
    /// Have the preferred leaders lead again
    Elect(elect::ElectArgs),
}

/// Options of `partition move`.
#[derive(Debug, Args)]
#[command(after_help = MOVE_EXAMPLES)]
pub struct MoveArgs {
    /// A topic, or some partitions of it: orders:0,3
    #[arg(required = true, value_name = "TOPIC[:PARTITIONS]")]
    topics: Vec<TopicChoice>,
    /// The brokers that are to hold them, separated by commas
    #[arg(long, required = true, value_delimiter = ',', value_name = "BROKERS")]
    to: Vec<i32>,
    #[command(flatten)]
    options: MoveOptions,
}

/// Options of `partition cancel`.
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// A topic, or some partitions of it: orders:0,3
    #[arg(required_unless_present = "all", value_name = "TOPIC[:PARTITIONS]")]
    topics: Vec<TopicChoice>,
    /// Call off all moves
    #[arg(long, conflicts_with = "topics")]
    all: bool,
}

/// Runs a partition command.
pub fn run(command: &PartitionCommand, global: &GlobalArgs, out: &mut dyn Write) -> Result<(), CtlError> {
    let mut client = global.client();
    match command {
        PartitionCommand::Move(args) => {
            let chosen = chosen(&mut client, &args.topics)?;
            moves::carry_out(&mut client, targets(chosen, &args.to), &args.options, global.json, out)
        }
        PartitionCommand::List => {
            let under_way = client.reassignments()?;
            write_reassignments(&under_way, global.json, out).map_err(CtlError::stdout)?;
            if global.json { Ok(()) } else { throttle::tell(&mut client, out) }
        }
        PartitionCommand::Cancel(args) => cancel(&mut client, args, global.json, out),
        PartitionCommand::Unthrottle => throttle::remove(&mut client, global.json, out),
        PartitionCommand::Elect(args) => elect::run(&mut client, args, global.json, out),
    }
}

/// The partitions that are meant, topic by topic.
fn chosen(client: &mut Client, choices: &[TopicChoice]) -> Result<Vec<Vec<TopicPartition>>, CtlError> {
    let mut partitions = Vec::new();
    for choice in choices {
        let topic = client.topic(&choice.topic, false)?;
        partitions.push(choose(&topic, &choice.partitions)?);
    }
    Ok(partitions)
}

/// Each partition of a topic begins with the next of the brokers.
fn targets(chosen: Vec<Vec<TopicPartition>>, brokers: &[i32]) -> Moves {
    let mut moves = Moves::new();
    for partitions in chosen {
        for (place, partition) in partitions.into_iter().enumerate() {
            let mut replicas = brokers.to_vec();
            replicas.rotate_left(place % brokers.len());
            moves.insert(partition, replicas);
        }
    }
    moves
}

fn cancel(client: &mut Client, args: &CancelArgs, json: bool, out: &mut dyn Write) -> Result<(), CtlError> {
    let meant = chosen(client, &args.topics)?.concat();
    let under_way = client.reassignments()?.into_iter().map(|moving| moving.partition);
    let under_way: Vec<TopicPartition> =
        under_way.filter(|partition| args.all || meant.contains(partition)).collect();
    if let Some(still) = meant.iter().find(|partition| !args.all && !under_way.contains(partition)) {
        return Err(CtlError::NotFound(format!("{still} is not being moved")));
    }
    let calls: BTreeMap<TopicPartition, Option<Vec<i32>>> =
        under_way.into_iter().map(|partition| (partition, None)).collect();
    if !calls.is_empty() {
        client.reassign(&calls)?.into_values().collect::<Result<(), _>>()?;
    }
    match json {
        true => {
            let rows: Vec<_> = calls
                .keys()
                .map(|partition| json!({ "topic": partition.topic, "partition": partition.partition }))
                .collect();
            writeln!(out, "{}", json!(rows))
        }
        false if calls.is_empty() => writeln!(out, "Nothing is being moved."),
        false => calls.keys().try_for_each(|partition| writeln!(out, "{partition}: called off")),
    }
    .map_err(CtlError::stdout)
}

fn write_reassignments(under_way: &[Reassignment], json: bool, out: &mut dyn Write) -> std::io::Result<()> {
    if json {
        let row = |moving: &Reassignment| {
            json!({
                "topic": moving.partition.topic, "partition": moving.partition.partition, "replicas": moving.replicas,
                "adding": moving.adding, "removing": moving.removing,
            })
        };
        return writeln!(out, "{}", json!(under_way.iter().map(row).collect::<Vec<_>>()));
    }
    if under_way.is_empty() {
        return writeln!(out, "Nothing is being moved.");
    }
    let row = |moving: &Reassignment| {
        vec![
            moving.partition.topic.clone(),
            moving.partition.partition.to_string(),
            list_text(&moving.replicas),
            list_text(&moving.adding),
            list_text(&moving.removing),
        ]
    };
    let rows: Vec<Vec<String>> = under_way.iter().map(row).collect();
    write_table(out, &["TOPIC", "PARTITION", "REPLICAS", "ADDING", "REMOVING"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_a_topic_share_the_leaders_and_a_single_one_gets_the_list_as_it_is() {
        let partitions = |indexes: &[i32]| indexes.iter().map(|i| TopicPartition::new("t", *i)).collect();
        let all = targets(vec![partitions(&[0, 1, 2, 3])], &[7, 8, 9]);
        let lists: Vec<Vec<i32>> = all.into_values().collect();
        assert_eq!(lists, [[7, 8, 9], [8, 9, 7], [9, 7, 8], [7, 8, 9]]);
        let one = targets(vec![partitions(&[3])], &[9, 7]);
        assert_eq!(one[&TopicPartition::new("t", 3)], [9, 7]);
    }
}
