//! `brokerctl topic list|describe`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use protocol::messages::{DescribeConfigsRequest, DescribeLogDirsRequest};
use protocol::uuid_text;
use serde_json::json;

use crate::client::{Client, ConfigResource, OffsetSpec, ResourceKind, Topic, TopicPartition};
use crate::ctl::CtlError;
use crate::ctl::table::{bytes_text, cell, count_text, list_text, write_table};

/// Runs `topic list`.
pub fn list(client: &mut Client, internal: bool, json: bool, out: &mut dyn Write) -> Result<(), CtlError> {
    let topics: Vec<Topic> =
        client.topics()?.into_iter().filter(|topic| internal || !topic.is_internal).collect();
    let replication = |topic: &Topic| topic.partitions.iter().map(|p| p.replicas.len()).max().unwrap_or(0);
    if json {
        let value: Vec<_> = topics
            .iter()
            .map(|topic| {
                json!({
                    "name": topic.name, "id": uuid_text(topic.id), "internal": topic.is_internal,
                    "partitions": topic.partitions.len(), "replication_factor": replication(topic),
                })
            })
            .collect();
        return writeln!(out, "{}", json!(value)).map_err(CtlError::stdout);
    }
    let rows: Vec<Vec<String>> = topics
        .iter()
        .map(|topic| {
            let partitions = topic.partitions.len().to_string();
            vec![topic.name.clone(), partitions, replication(topic).to_string(), uuid_text(topic.id)]
        })
        .collect();
    write_table(out, &["TOPIC", "PARTITIONS", "REPLICAS", "ID"], &rows).map_err(CtlError::stdout)
}

/// What `topic describe` shows of a topic.
struct Description {
    topic: Topic,
    start: BTreeMap<TopicPartition, i64>,
    end: BTreeMap<TopicPartition, i64>,
    /// Bytes of each partition's log at its leader.
    sizes: BTreeMap<TopicPartition, u64>,
    configs: BTreeMap<String, String>,
}

/// Runs `topic describe`.
pub fn describe(client: &mut Client, name: &str, json: bool, out: &mut dyn Write) -> Result<(), CtlError> {
    let topic = client.topic(name, false)?;
    let partitions: Vec<TopicPartition> = topic.topic_partitions().collect();
    let description = Description {
        start: client.offsets([&topic], &partitions, OffsetSpec::Earliest)?,
        end: client.offsets([&topic], &partitions, OffsetSpec::Latest)?,
        sizes: sizes(client, &topic)?,
        configs: own_configs(client, name)?,
        topic,
    };
    match json {
        true => writeln!(out, "{}", description.json()),
        false => description.write(out),
    }
    .map_err(CtlError::stdout)
}

/// The sizes of the partitions' logs at their leaders; nothing of brokers that do not serve the request.
fn sizes(client: &mut Client, topic: &Topic) -> Result<BTreeMap<TopicPartition, u64>, CtlError> {
    let leaders: BTreeSet<i32> =
        topic.partitions.iter().map(|partition| partition.leader).filter(|leader| *leader >= 0).collect();
    let mut sizes = BTreeMap::new();
    for leader in leaders {
        if client.broker(leader)?.version::<DescribeLogDirsRequest<'_>>().is_none() {
            continue;
        }
        let is_led_here = |partition: &TopicPartition| {
            topic.partition(partition.partition).is_some_and(|known| known.leader == leader)
        };
        let dirs = client.log_dirs(leader, Some(topic))?;
        let replicas = dirs.into_iter().flat_map(|dir| dir.replicas);
        let led = replicas.filter(|replica| is_led_here(&replica.partition));
        sizes.extend(led.map(|replica| (replica.partition, replica.bytes)));
    }
    Ok(sizes)
}

/// What the topic itself has configured; nothing if the broker does not serve the request.
fn own_configs(client: &mut Client, name: &str) -> Result<BTreeMap<String, String>, CtlError> {
    if client.any()?.version::<DescribeConfigsRequest<'_>>().is_none() {
        return Ok(BTreeMap::new());
    }
    let resource = ConfigResource { kind: ResourceKind::Topic, name: name.to_owned() };
    let entries = client.describe_configs(&resource, false)?;
    let own = entries.into_iter().filter(|entry| entry.is_own);
    Ok(own.map(|entry| (entry.name, entry.value.unwrap_or_else(|| "(hidden)".to_owned()))).collect())
}

impl Description {
    fn json(&self) -> serde_json::Value {
        let partitions: Vec<_> = self
            .topic
            .partitions
            .iter()
            .map(|p| {
                let partition = TopicPartition::new(&self.topic.name, p.index);
                json!({
                    "partition": p.index, "leader": p.leader, "leader_epoch": p.leader_epoch,
                    "replicas": p.replicas, "in_sync_replicas": p.in_sync_replicas,
                    "log_start_offset": self.start.get(&partition),
                    "log_end_offset": self.end.get(&partition),
                    "bytes": self.sizes.get(&partition),
                })
            })
            .collect();
        json!({
            "name": self.topic.name, "id": uuid_text(self.topic.id), "internal": self.topic.is_internal,
            "configs": self.configs, "partitions": partitions,
        })
    }

    /// Offsets between start and end, over all partitions.
    fn records(&self) -> i64 {
        let start = |partition| self.start.get(partition).copied().unwrap_or_default();
        self.end.iter().map(|(partition, end)| end - start(partition)).sum()
    }

    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        write!(
            out,
            "topic {}   id {}   {}   {}",
            self.topic.name,
            uuid_text(self.topic.id),
            count_text(self.topic.partitions.len(), "partition"),
            count_text(usize::try_from(self.records()).unwrap_or_default(), "record"),
        )?;
        if !self.sizes.is_empty() {
            write!(out, "   {}", bytes_text(self.sizes.values().sum()))?;
        }
        writeln!(out)?;
        for (name, value) in &self.configs {
            writeln!(out, "  {name} = {value}")?;
        }
        let row = |p: &crate::client::Partition| {
            let partition = TopicPartition::new(&self.topic.name, p.index);
            vec![
                p.index.to_string(),
                p.leader.to_string(),
                p.leader_epoch.to_string(),
                list_text(&p.replicas),
                list_text(&p.in_sync_replicas),
                cell(self.start.get(&partition)),
                cell(self.end.get(&partition)),
                cell(self.sizes.get(&partition).map(|bytes| bytes_text(*bytes))),
            ]
        };
        let rows: Vec<Vec<String>> = self.topic.partitions.iter().map(row).collect();
        let header = ["PARTITION", "LEADER", "EPOCH", "REPLICAS", "IN SYNC", "START", "END", "SIZE"];
        write_table(out, &header, &rows)
    }
}
