//! `brokerctl group list|describe`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use clap::Args;
use serde_json::{Value, json};

use crate::client::{Client, Committed, GroupDescription, GroupMember, OffsetSpec, TopicPartition};
use crate::ctl::CtlError;
use crate::ctl::table::{cell, count_text, list_text, write_table};

/// Options of `group list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only groups in these states, separated by commas: Stable, Empty, PreparingRebalance, CompletingRebalance, Assigning,
    /// Reconciling, Dead
    #[arg(long, value_delimiter = ',')]
    state: Vec<String>,
    /// Only groups of these types, separated by commas: classic, consumer
    #[arg(long = "type", value_delimiter = ',', value_name = "TYPE")]
    kind: Vec<String>,
}

/// Options of `group describe`.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// The groups
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "GROUP")]
    groups: Vec<String>,
    /// All groups
    #[arg(long, short)]
    all: bool,
}

/// Runs `group list`.
pub fn list(client: &mut Client, args: &ListArgs, json: bool, out: &mut dyn Write) -> Result<(), CtlError> {
    let groups = client.list_groups(&args.state, &args.kind)?;
    if json {
        let value: Vec<Value> = groups
            .iter()
            .map(|group| {
                json!({
                    "group": group.id, "type": group.kind, "state": group.state,
                    "protocol_type": group.protocol_type, "coordinator": group.coordinator,
                })
            })
            .collect();
        return writeln!(out, "{}", json!(value)).map_err(CtlError::stdout);
    }
    let rows: Vec<Vec<String>> = groups
        .into_iter()
        .map(|group| {
            let protocol = if group.protocol_type.is_empty() { "-".to_owned() } else { group.protocol_type };
            vec![group.id, group.kind, group.state, protocol, group.coordinator.to_string()]
        })
        .collect();
    write_table(out, &["GROUP", "TYPE", "STATE", "PROTOCOL", "COORDINATOR"], &rows).map_err(CtlError::stdout)
}

/// Runs `group describe`.
pub fn describe(
    client: &mut Client,
    args: &DescribeArgs,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    let groups = match args.all {
        true => client.list_groups(&[], &[])?.into_iter().map(|group| group.id).collect(),
        false => args.groups.clone(),
    };
    for (number, group) in groups.iter().enumerate() {
        let report = Report::of(client, group)?;
        match json {
            true => writeln!(out, "{}", report.json()),
            false => report.write(number > 0, out),
        }
        .map_err(CtlError::stdout)?;
    }
    Ok(())
}

/// A group with its offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Report {
    group: GroupDescription,
    committed: BTreeMap<TopicPartition, Committed>,
    /// Partitions that the group has committed or that a member has, with the first and the next offset of their logs. A partition
    /// that does not exist any more has none.
    logs: BTreeMap<TopicPartition, Option<(i64, i64)>>,
}

impl Report {
    fn of(client: &mut Client, id: &str) -> Result<Report, CtlError> {
        let group = client.describe_group(id)?;
        let committed = client.committed(id)?;
        let assigned = group.members.iter().flat_map(|member| {
            member.assignment.iter().flat_map(|(topic, partitions)| {
                partitions.iter().map(|partition| TopicPartition::new(topic.as_str(), *partition))
            })
        });
        let partitions: BTreeSet<TopicPartition> = committed.keys().cloned().chain(assigned).collect();
        let partitions: Vec<TopicPartition> = partitions.into_iter().collect();
        let names: BTreeSet<&str> = partitions.iter().map(|partition| partition.topic.as_str()).collect();
        let topics = client.topics_named(&names.into_iter().collect::<Vec<_>>())?;
        let start = client.offsets(topics.values(), &partitions, OffsetSpec::Earliest)?;
        let end = client.offsets(topics.values(), &partitions, OffsetSpec::Latest)?;
        let logs = partitions.into_iter().map(|partition| {
            let log = start.get(&partition).copied().zip(end.get(&partition).copied());
            (partition, log)
        });
        Ok(Report { group, committed, logs: logs.collect() })
    }

    /// How many offsets a partition has after what is committed; `None` if nothing is committed or the partition is gone.
    fn lag(&self, partition: &TopicPartition) -> Option<i64> {
        let committed = self.committed.get(partition)?.offset;
        let (start, end) = self.logs.get(partition).copied().flatten()?;
        // What retention has removed cannot be read any more.
        Some((end - committed.max(start)).max(0))
    }

    fn total_lag(&self) -> i64 {
        self.logs.keys().filter_map(|partition| self.lag(partition)).sum()
    }

    fn reader(&self, partition: &TopicPartition) -> Option<&GroupMember> {
        self.group.members.iter().find(|member| {
            let assigned = member.assignment.get(&partition.topic);
            assigned.is_some_and(|partitions| partitions.contains(&partition.partition))
        })
    }

    fn json(&self) -> Value {
        let partition = |(partition, log): (&TopicPartition, &Option<(i64, i64)>)| {
            let committed = self.committed.get(partition);
            json!({
                "topic": partition.topic, "partition": partition.partition,
                "committed": committed.map(|committed| committed.offset),
                "metadata": committed.map(|committed| &committed.metadata),
                "log_start_offset": log.map(|(start, _)| start), "log_end_offset": log.map(|(_, end)| end),
                "lag": self.lag(partition), "member": self.reader(partition).map(|member| &member.id),
            })
        };
        let member = |member: &GroupMember| {
            json!({
                "id": member.id, "instance_id": member.instance_id, "client_id": member.client_id,
                "host": member.host, "epoch": member.epoch, "subscription": member.subscription,
                "assignment": member.assignment, "target": member.target,
            })
        };
        json!({
            "group": self.group.id, "type": self.group.kind, "state": self.group.state,
            "assignor": self.group.assignor, "coordinator": self.group.coordinator,
            "epoch": self.group.epochs.map(|(epoch, _)| epoch),
            "assignment_epoch": self.group.epochs.map(|(_, epoch)| epoch),
            "lag": self.total_lag(),
            "partitions": self.logs.iter().map(partition).collect::<Vec<_>>(),
            "members": self.group.members.iter().map(member).collect::<Vec<_>>(),
        })
    }

    fn write(&self, follows_another: bool, out: &mut dyn Write) -> std::io::Result<()> {
        if follows_another {
            writeln!(out)?;
        }
        let group = &self.group;
        write!(out, "group {}   {}   {}", group.id, group.kind, group.state)?;
        if !group.assignor.is_empty() {
            write!(out, "   assignor {}", group.assignor)?;
        }
        if let Some((epoch, assignment)) = group.epochs {
            write!(out, "   epoch {epoch} (assignment {assignment})")?;
        }
        let members = count_text(group.members.len(), "member");
        writeln!(out, "   coordinator {}   {members}   lag {}", group.coordinator, self.total_lag())?;
        self.write_partitions(out)?;
        if !group.members.is_empty() {
            writeln!(out)?;
            self.write_members(out)?;
        }
        Ok(())
    }

    fn write_partitions(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let row = |(partition, log): (&TopicPartition, &Option<(i64, i64)>)| {
            vec![
                partition.topic.clone(),
                partition.partition.to_string(),
                cell(self.committed.get(partition).map(|committed| committed.offset)),
                cell(log.map(|(_, end)| end)),
                cell(self.lag(partition)),
                cell(self.reader(partition).map(|member| &member.client_id)),
                cell(self.reader(partition).map(|member| &member.host)),
            ]
        };
        let rows: Vec<Vec<String>> = self.logs.iter().map(row).collect();
        write_table(out, &["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "CLIENT", "HOST"], &rows)
    }

    fn write_members(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let row = |member: &GroupMember| {
            let name = member.instance_id.clone();
            let mut assignment = assignment_text(&member.assignment);
            if let Some(target) = member.target.as_ref().filter(|target| **target != member.assignment) {
                assignment = format!("{assignment} (to become {})", assignment_text(target));
            }
            vec![
                member.id.clone(),
                cell(name),
                member.client_id.clone(),
                member.host.clone(),
                member.subscription.join(","),
                assignment,
            ]
        };
        let rows: Vec<Vec<String>> = self.group.members.iter().map(row).collect();
        write_table(out, &["MEMBER", "STATIC", "CLIENT", "HOST", "WANTS", "HAS"], &rows)
    }
}

/// `orders:0,1 payments:3`
fn assignment_text(assignment: &BTreeMap<String, Vec<i32>>) -> String {
    if assignment.is_empty() {
        return "nothing".to_owned();
    }
    let topic = |(topic, partitions): (&String, &Vec<i32>)| format!("{topic}:{}", list_text(partitions));
    assignment.iter().map(topic).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let member = GroupMember {
            id: "m-1".to_owned(),
            instance_id: None,
            client_id: "app".to_owned(),
            host: "10.0.0.1".to_owned(),
            epoch: Some(3),
            subscription: vec!["t".to_owned()],
            assignment: BTreeMap::from([("t".to_owned(), vec![0, 1])]),
            target: Some(BTreeMap::from([("t".to_owned(), vec![0])])),
        };
        let group = GroupDescription {
            id: "g".to_owned(),
            kind: "consumer",
            state: "Reconciling".to_owned(),
            assignor: "uniform".to_owned(),
            epochs: Some((4, 4)),
            coordinator: 1,
            members: vec![member],
        };
        let at = |partition| TopicPartition::new("t", partition);
        let committed = |offset| Committed { offset, metadata: String::new() };
        Report {
            group,
            committed: BTreeMap::from([(at(0), committed(10)), (at(2), committed(3)), (at(3), committed(7))]),
            logs: BTreeMap::from([
                (at(0), Some((0, 15))),
                (at(1), Some((0, 5))),
                (at(2), Some((5, 9))),
                (at(3), None),
            ]),
        }
    }

    #[test]
    fn lag_is_what_is_there_after_the_committed_offset() {
        let report = report();
        let lag = |partition| report.lag(&TopicPartition::new("t", partition));
        assert_eq!(lag(0), Some(5));
        assert_eq!(lag(1), None, "nothing has been committed");
        assert_eq!(lag(2), Some(4), "two of the records are gone");
        assert_eq!(lag(3), None, "the partition is gone");
        assert_eq!(report.total_lag(), 9);
    }

    #[test]
    fn tables_show_who_reads_what_and_what_changes() {
        let mut out = Vec::new();
        report().write(false, &mut out).expect("a vector takes everything");
        let text = String::from_utf8(out).expect("text");
        assert!(text.starts_with("group g   consumer   Reconciling   assignor uniform   epoch 4 (assignment 4)   coordinator 1   1 member   lag 9\n"), "{text}");
        assert!(text.contains("t:0,1 (to become t:0)"), "{text}");
        assert_eq!(report().json()["partitions"][1]["member"], "m-1");
    }
}
