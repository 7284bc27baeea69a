//! `brokerctl consume`: records as lines, by assignment of partitions or as a member of a group.
//!
//! | file | owns |
//! |---|---|
//! | this | options, and reading by assignment |
//! | `from` | positions: where reading starts and stops |
//! | `reader` | fetching, decoding, going on after failures |
//! | `printer` | a record as a line |
//! | `group` | membership: partitions that come and go, commits, leaving |

mod from;
mod group;
mod printer;
mod reader;

use std::collections::BTreeMap;
use std::io::Write;

pub use self::from::From;
use self::printer::Printer;
use self::reader::{Position, Reader, ends};
use super::encoding::Encoding;
use super::format::{Format, VERBS, unescape};
use super::{CtlError, GlobalArgs};
use crate::client::{Client, OffsetSpec, Topic, TopicPartition, choose};

/// Options of `consume`.
#[derive(Debug, clap::Args)]
#[command(after_help = VERBS)]
pub struct ConsumeArgs {
    /// The topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Only these partitions, separated by commas
    #[arg(long, short, value_delimiter = ',', conflicts_with = "group")]
    partition: Vec<i32>,
    /// Read as a member of this group: go on where it has stopped, commit what was printed, leave at the end
    #[arg(long, short, value_name = "GROUP")]
    group: Option<String>,
    /// With --group: commit nothing
    #[arg(long, requires = "group")]
    no_commit: bool,
    /// Where to start: earliest, latest, an offset, -N (the last N of each partition) or @TIME (a date, or milliseconds since 1970);
    /// with --group only where the group has committed nothing
    #[arg(long, short = 'o', default_value = "earliest", allow_hyphen_values = true)]
    from: From,
    /// Where to stop: an offset or @TIME, before which the last record lies [default: what is there when reading begins]
    #[arg(long, conflicts_with = "follow", allow_hyphen_values = true)]
    until: Option<From>,
    /// Stop after this many records
    #[arg(long, short)]
    count: Option<u64>,
    /// Do not stop at the end, wait for more
    #[arg(long, short)]
    follow: bool,
    /// How to print a record
    #[arg(long, value_parser = Format::parse, default_value = "%s\\n")]
    format: Format,
    /// What keys are
    #[arg(long, value_enum, default_value_t, value_name = "TYPE")]
    key_type: Encoding,
    /// What values are
    #[arg(long, value_enum, default_value_t, value_name = "TYPE")]
    value_type: Encoding,
    /// What is printed for null
    #[arg(long, value_parser = unescape, default_value = "", value_name = "TEXT")]
    null: std::vec::Vec<u8>,
}

/// Runs `consume`.
pub fn run(args: &ConsumeArgs, global: &GlobalArgs, out: &mut dyn Write) -> Result<(), CtlError> {
    if args.topics.len() > 1 && !args.partition.is_empty() {
        return Err(CtlError::Usage("--partition needs a single topic".to_owned()));
    }
    let mut client = global.client();
    let mut topics = BTreeMap::new();
    for name in &args.topics {
        topics.insert(name.clone(), client.topic(name, false)?);
    }
    let reader = Reader::new(Printer::new(args, global.json), topics, args.follow, args.count);
    match &args.group {
        Some(id) => {
            let stop = group::stop_on_signals()?;
            group::read(args, id, reader, &mut client, &stop, out)
        }
        None => read(args, reader, &mut client, out),
    }
}

fn read(
    args: &ConsumeArgs,
    mut reader: Reader<'_>,
    client: &mut Client,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    let topics: Vec<Topic> = reader.topics().values().cloned().collect();
    let mut partitions: Vec<TopicPartition> = Vec::new();
    for topic in &topics {
        partitions.extend(choose(topic, &args.partition)?);
    }
    let latest = client.offsets(&topics, &partitions, OffsetSpec::Latest)?;
    let ends = ends(client, &topics, &partitions, &latest, args.until)?;
    let begin = args.from.resolve(client, &topics, &partitions, &latest)?;
    let position = |(partition, next): (TopicPartition, i64)| {
        let end = ends.get(&partition).copied().unwrap_or_default();
        (partition, Position { next, end })
    };
    let begun: BTreeMap<TopicPartition, Position> = begin.into_iter().map(position).collect();
    reader.positions = begun.clone();
    while !reader.is_finished() {
        reader.round(client, out)?;
        if !args.follow {
            reader.show_share(&begun);
        }
    }
    Ok(())
}
