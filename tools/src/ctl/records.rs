//! `brokerctl records delete`: old records go before their time.

use std::collections::BTreeMap;
use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::json;

use super::consume::From;
use super::table::write_table;
use super::{CtlError, GlobalArgs};
use crate::client::{OffsetSpec, TopicPartition, choose};

/// What to do with records.
#[derive(Debug, Subcommand)]
pub enum RecordsCommand {
    /// Delete the oldest records of a topic, up to an offset or a time
    Delete(DeleteArgs),
}

/// Options of `records delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The topic
    topic: String,
    /// Only in these partitions, separated by commas
    #[arg(long, short, value_delimiter = ',')]
    partition: Vec<i32>,
    /// The first that stays: an offset, -N (the last N of each partition), @TIME (a date, or milliseconds since 1970), or latest
    /// to delete all
    #[arg(long, allow_hyphen_values = true, value_name = "POSITION")]
    before: From,
    /// Delete them; without it only show what would be deleted
    #[arg(long)]
    execute: bool,
}

/// Runs a records command.
pub fn run(command: &RecordsCommand, global: &GlobalArgs, out: &mut dyn Write) -> Result<(), CtlError> {
    let RecordsCommand::Delete(args) = command;
    let mut client = global.client();
    let topic = client.topic(&args.topic, false)?;
    let partitions = choose(&topic, &args.partition)?;
    let start = client.offsets([&topic], &partitions, OffsetSpec::Earliest)?;
    let end = client.offsets([&topic], &partitions, OffsetSpec::Latest)?;
    let before = args.before.resolve(&mut client, [&topic], &partitions, &end)?;
    let mut plan: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    for (partition, offset) in before {
        let (start, end) = (start.get(&partition).copied(), end.get(&partition).copied());
        let (start, end) = (start.unwrap_or_default(), end.unwrap_or_default());
        // A partition that ends before has only records to delete.
        plan.insert(partition, offset.clamp(start, end.max(start)));
    }
    let starts = match args.execute {
        true => client.delete_records(&topic, &plan)?,
        false => plan,
    };
    let deleted = |partition: &TopicPartition, now: i64| now - start.get(partition).copied().unwrap_or(now);
    if global.json {
        let rows: Vec<_> = starts
            .iter()
            .map(|(partition, now)| {
                json!({
                    "topic": partition.topic, "partition": partition.partition, "log_start_offset": now,
                    "log_end_offset": end.get(partition), "deleted_offsets": deleted(partition, *now),
                })
            })
            .collect();
        return writeln!(out, "{}", json!({ "executed": args.execute, "partitions": rows }))
            .map_err(CtlError::stdout);
    }
    let row = |(partition, now): (&TopicPartition, &i64)| {
        let was = start.get(partition).copied().unwrap_or_default();
        let end = end.get(partition).copied().unwrap_or_default();
        [i64::from(partition.partition), was, *now, end, deleted(partition, *now)]
            .iter()
            .map(i64::to_string)
            .collect()
    };
    let rows: Vec<Vec<String>> = starts.iter().map(row).collect();
    write_table(out, &["PARTITION", "OLD START", "NEW START", "END", "DELETED"], &rows)
        .map_err(CtlError::stdout)?;
    if !args.execute {
        writeln!(out, "Nothing has been deleted. To do it, add --execute.").map_err(CtlError::stdout)?;
    }
    Ok(())
}
