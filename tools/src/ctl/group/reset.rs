//! `brokerctl group reset`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::TopicChoice;
use super::plan::{Known, Step, Target, parse_offsets, step};
use crate::client::{Client, ClientError, GroupDescription, OffsetSpec, Topic, TopicPartition, choose};
use crate::ctl::CtlError;
use crate::ctl::table::{cell, count_text, write_table};
use crate::ctl::time::moment;

const EXAMPLES: &str = "\
Nothing is changed without --execute. The group must have no members then: they would go on where they are, and commit that.

Examples:
  brokerctl group reset billing --topic orders --to-earliest             what would be read again
  brokerctl group reset billing --topic orders --to-earliest --execute
  brokerctl group reset billing --topic orders:0,3 --shift-by -100
  brokerctl group reset billing --all-topics --to-datetime 2026-01-31T12:00:00Z
  brokerctl group reset billing --all-topics --shift-by 0 --export > offsets.csv
  brokerctl group reset billing --from-file offsets.csv --execute";

/// Options of `group reset`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ResetArgs {
    /// The group
    group: String,
    /// A topic, or some partitions of it: orders:0,3 (may be repeated)
    #[arg(long, short, value_name = "TOPIC[:PARTITIONS]", conflicts_with_all = ["all_topics", "from_file"])]
    topic: Vec<TopicChoice>,
    /// All topics for which the group has committed something
    #[arg(long, conflicts_with = "from_file")]
    all_topics: bool,
    #[command(flatten)]
    target: TargetArgs,
    /// Only show what would be done (as without --execute)
    #[arg(long, conflicts_with = "execute")]
    dry_run: bool,
    /// Do it
    #[arg(long)]
    execute: bool,
    /// Print the new offsets as lines of topic,partition,offset, for --from-file
    #[arg(long)]
    export: bool,
}

/// Where to; one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct TargetArgs {
    /// To the first record that is there
    #[arg(long)]
    to_earliest: bool,
    /// To the end
    #[arg(long)]
    to_latest: bool,
    /// To this offset in each partition
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// Forwards by so many offsets, backwards if negative
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    shift_by: Option<i64>,
    /// To the first record of this time or later: 2026-01-31, 2026-01-31T12:30:00Z, -2h (ago) or milliseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    to_datetime: Option<i64>,
    /// To the offsets in this file: lines of topic,partition,offset
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
}

/// A reset, partition by partition.
struct Plan {
    steps: BTreeMap<TopicPartition, (Known, Step)>,
}

/// Runs `group reset`.
pub fn run(client: &mut Client, args: &ResetArgs, json: bool, out: &mut dyn Write) -> Result<(), CtlError> {
    let group = match client.describe_group(&args.group) {
        Ok(group) => Some(group),
        // A group begins to exist with what is committed for it.
        Err(ClientError::NoSuchGroup { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let members = group.as_ref().map_or(0, |group| group.members.len());
    if let Some(group) = group.as_ref().filter(|_| args.execute && members > 0) {
        return Err(CtlError::Refused(active_text(group)));
    }
    let plan = plan(client, args)?;
    if args.execute {
        let offsets: BTreeMap<TopicPartition, i64> = plan
            .steps
            .iter()
            .filter_map(|(partition, (known, step))| {
                step.new.filter(|new| known.committed != Some(*new)).map(|new| (partition.clone(), new))
            })
            .collect();
        if !offsets.is_empty() {
            client.commit(&args.group, None, &offsets)?;
        }
    }
    match (json, args.export) {
        (true, _) => writeln!(out, "{}", plan.json(args)),
        (false, true) => plan.export(out),
        (false, false) => plan.write(out).and_then(|()| write_outcome(args, group.as_ref(), out)),
    }
    .map_err(CtlError::stdout)
}

fn active_text(group: &GroupDescription) -> String {
    let clients: BTreeSet<String> =
        group.members.iter().map(|member| format!("{} at {}", member.client_id, member.host)).collect();
    format!(
        "group '{}' has {} ({}): they would go on where they are and commit that. Stop them first; one that has died \
         is forgotten after its session's time-out. 'brokerctl group describe {}' shows who is there",
        group.id,
        count_text(group.members.len(), "member"),
        clients.into_iter().collect::<Vec<_>>().join(", "),
        group.id
    )
}

fn write_outcome(
    args: &ResetArgs,
    group: Option<&GroupDescription>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    if args.execute {
        return writeln!(out, "Done.");
    }
    match group {
        None => writeln!(out, "There is no group '{}' yet: it would be made.", args.group)?,
        Some(group) if !group.members.is_empty() => {
            let members = count_text(group.members.len(), "member");
            writeln!(out, "The group has {members}: stop them before --execute.")?;
        }
        Some(_) => {}
    }
    writeln!(out, "Nothing has been changed. To do it, add --execute.")
}

fn plan(client: &mut Client, args: &ResetArgs) -> Result<Plan, CtlError> {
    let committed = client.committed(&args.group)?;
    let from_file = args.target.from_file.as_ref().map(|path| read_offsets(path, &args.group)).transpose()?;
    let (topics, partitions) = match &from_file {
        Some(offsets) => with_topics(client, offsets.keys().cloned().collect())?,
        None if args.all_topics => with_topics(client, committed.keys().cloned().collect())?,
        None => chosen(client, args)?,
    };
    let start = client.offsets(&topics, &partitions, OffsetSpec::Earliest)?;
    let end = client.offsets(&topics, &partitions, OffsetSpec::Latest)?;
    let at_time = match args.target.to_datetime {
        Some(at) => client.offsets(&topics, &partitions, OffsetSpec::Timestamp(at))?,
        None => BTreeMap::new(),
    };
    let mut steps = BTreeMap::new();
    for partition in partitions {
        let (Some(start), Some(end)) = (start.get(&partition), end.get(&partition)) else {
            return Err(CtlError::Refused(format!(
                "{partition} has no leader now, so that nobody knows its offsets: try again later, or leave it out with --topic"
            )));
        };
        let committed = committed.get(&partition).map(|committed| committed.offset);
        let known = Known { committed, start: *start, end: *end };
        let target = match (&from_file, args.target.to_offset, args.target.shift_by, args.target.to_datetime)
        {
            (Some(offsets), ..) => Target::Offset(offsets[&partition]),
            (_, Some(offset), ..) => Target::Offset(offset),
            (_, _, Some(by), _) => Target::Shift(by),
            (_, _, _, Some(_)) => {
                Target::Time(at_time.get(&partition).copied().filter(|offset| *offset >= 0))
            }
            _ if args.target.to_earliest => Target::Offset(*start),
            _ => Target::Offset(*end),
        };
        steps.insert(partition, (known, step(target, known)));
    }
    Ok(Plan { steps })
}

fn read_offsets(path: &std::path::Path, group: &str) -> Result<BTreeMap<TopicPartition, i64>, CtlError> {
    let failed = |source| CtlError::Io { what: format!("cannot read {}", path.display()), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    parse_offsets(&text, group).map_err(|reason| CtlError::Data(format!("{}: {reason}", path.display())))
}

/// The topics of these partitions, all of which have to exist.
fn with_topics(
    client: &mut Client,
    partitions: Vec<TopicPartition>,
) -> Result<(Vec<Topic>, Vec<TopicPartition>), CtlError> {
    let names: BTreeSet<&str> = partitions.iter().map(|partition| partition.topic.as_str()).collect();
    let mut topics = Vec::new();
    for name in names {
        let topic = client.topic(name, false)?;
        let of_topic = partitions.iter().filter(|partition| partition.topic == name);
        let indexes: Vec<i32> = of_topic.map(|partition| partition.partition).collect();
        choose(&topic, &indexes)?;
        topics.push(topic);
    }
    Ok((topics, partitions))
}

fn chosen(client: &mut Client, args: &ResetArgs) -> Result<(Vec<Topic>, Vec<TopicPartition>), CtlError> {
    if args.topic.is_empty() {
        return Err(CtlError::Usage(
            "which topics? --topic orders, --topic orders:0,3, or --all-topics for all that the group has committed"
                .to_owned(),
        ));
    }
    let mut topics: Vec<Topic> = Vec::new();
    let mut partitions = BTreeSet::new();
    for choice in &args.topic {
        let topic = client.topic(&choice.topic, false)?;
        partitions.extend(choose(&topic, &choice.partitions)?);
        if !topics.iter().any(|known| known.name == topic.name) {
            topics.push(topic);
        }
    }
    Ok((topics, partitions.into_iter().collect()))
}

impl Plan {
    fn json(&self, args: &ResetArgs) -> Value {
        let row = |(partition, (known, step)): (&TopicPartition, &(Known, Step))| {
            json!({
                "topic": partition.topic, "partition": partition.partition, "committed": known.committed,
                "new": step.new, "log_start_offset": known.start, "log_end_offset": known.end,
                "note": step.note,
            })
        };
        let rows: Vec<Value> = self.steps.iter().map(row).collect();
        json!({ "group": args.group, "executed": args.execute, "partitions": rows })
    }

    fn export(&self, out: &mut dyn Write) -> std::io::Result<()> {
        for (partition, (_, step)) in &self.steps {
            if let Some(new) = step.new {
                writeln!(out, "{},{},{new}", partition.topic, partition.partition)?;
            }
        }
        Ok(())
    }

    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let row = |(partition, (known, step)): (&TopicPartition, &(Known, Step))| {
            let lag = step.new.or(known.committed).map(|at| (known.end - at).max(0));
            vec![
                partition.topic.clone(),
                partition.partition.to_string(),
                cell(known.committed),
                cell(step.new),
                cell(lag),
                step.note.to_owned(),
            ]
        };
        let rows: Vec<Vec<String>> = self.steps.iter().map(row).collect();
        write_table(out, &["TOPIC", "PARTITION", "COMMITTED", "NEW", "NEW LAG", "NOTE"], &rows)
    }
}
