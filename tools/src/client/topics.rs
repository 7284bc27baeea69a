//! Topics, their leaders and offsets, as every subcommand needs them.

use std::collections::BTreeMap;

use protocol::client::{
    EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, Topic, TopicPartition, broker_addresses, list_offsets,
};
use protocol::error::ErrorCode;
use protocol::messages::MetadataRequest;
use protocol::messages::metadata::MetadataRequestTopic;

use super::Client;
use super::error::{ClientError, check, nearest};

/// Those partitions of `topic` that are `asked` for, all if none is.
///
/// # Errors
/// [`ClientError::NoSuchPartition`].
pub fn choose(topic: &Topic, asked: &[i32]) -> Result<Vec<TopicPartition>, ClientError> {
    match asked.iter().find(|index| topic.partition(**index).is_none()) {
        Some(index) => Err(ClientError::NoSuchPartition {
            topic: topic.name.clone(),
            partition: *index,
            count: topic.partitions.len(),
        }),
        None if asked.is_empty() => Ok(topic.topic_partitions().collect()),
        None => Ok(asked.iter().map(|index| TopicPartition::new(&topic.name, *index)).collect()),
    }
}

/// A position that only the broker can turn into an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The oldest record that is there.
    Earliest,
    /// The end.
    Latest,
    /// The first record with this timestamp (ms since 1970) or a later one.
    Timestamp(i64),
}

impl OffsetSpec {
    /// The number that stands for it in ListOffsets.
    fn wire(self) -> i64 {
        match self {
            OffsetSpec::Latest => LATEST_TIMESTAMP,
            OffsetSpec::Earliest => EARLIEST_TIMESTAMP,
            OffsetSpec::Timestamp(timestamp_ms) => timestamp_ms,
        }
    }
}

impl Client {
    /// All topics, by name.
    pub fn topics(&mut self) -> Result<Vec<Topic>, ClientError> {
        let topics = self.metadata(None, false)?;
        Ok(topics.into_values().filter_map(Result::ok).collect())
    }

    /// One topic. With `create`, a broker that allows it makes the topic.
    pub fn topic(&mut self, name: &str, create: bool) -> Result<Topic, ClientError> {
        match self.metadata(Some(&[name]), create)?.remove(name) {
            Some(Ok(topic)) => Ok(topic),
            Some(Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)) | None => Err(self.no_such_topic(name)),
            Some(Err(code)) => {
                Err(ClientError::Refused { what: format!("topic '{name}'"), code, message: None })
            }
        }
    }

    /// Those of these topics that exist.
    pub fn topics_named(&mut self, names: &[&str]) -> Result<BTreeMap<String, Topic>, ClientError> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let topics = self.metadata(Some(names), false)?;
        Ok(topics.into_iter().filter_map(|(name, topic)| Some((name, topic.ok()?))).collect())
    }

    /// Says that there is no such topic, with the name that was probably meant.
    pub fn no_such_topic(&mut self, name: &str) -> ClientError {
        let topics = self.topics().unwrap_or_default();
        let nearest = nearest(name, topics.iter().map(|topic| topic.name.as_str()));
        ClientError::NoSuchTopic { name: name.to_owned(), nearest }
    }

    fn metadata(
        &mut self,
        names: Option<&[&str]>,
        create: bool,
    ) -> Result<BTreeMap<String, Result<Topic, ErrorCode>>, ClientError> {
        let request = MetadataRequest {
            topics: names.map(|names| names.iter().map(|name| asked_metadata(name)).collect()),
            allow_auto_topic_creation: create,
            ..Default::default()
        };
        let response = self.any()?.call(&request)?;
        let brokers = broker_addresses(&response);
        let topics = response
            .topics
            .iter()
            .map(|answer| {
                let topic = Topic::from(answer);
                // Some partitions may have a leader although the topic as a whole has not yet one for each.
                let code = match ErrorCode(answer.error_code) {
                    ErrorCode::LEADER_NOT_AVAILABLE if !topic.partitions.is_empty() => ErrorCode::NONE,
                    code => code,
                };
                (topic.name.clone(), if code.is_none() { Ok(topic) } else { Err(code) })
            })
            .collect();
        self.brokers = brokers;
        Ok(topics)
    }

    /// The offset of each of `partitions` at `spec`, asked of the leaders that `topics` tells; partitions without leader are left
    /// out. A timestamp later than every record gives -1.
    pub fn offsets<'a>(
        &mut self,
        topics: impl IntoIterator<Item = &'a Topic>,
        partitions: &[TopicPartition],
        spec: OffsetSpec,
    ) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
        let mut by_leader: BTreeMap<i32, BTreeMap<&str, Vec<i32>>> = BTreeMap::new();
        for topic in topics {
            for wanted in partitions.iter().filter(|wanted| wanted.topic == topic.name) {
                if let Some(leader) = topic.partition(wanted.partition).map(|partition| partition.leader)
                    && leader >= 0
                {
                    let of_leader = by_leader.entry(leader).or_default();
                    of_leader.entry(&topic.name).or_default().push(wanted.partition);
                }
            }
        }
        let mut offsets = BTreeMap::new();
        for (leader, asked) in by_leader {
            let request = list_offsets(asked, spec.wire());
            let response = self.broker(leader)?.call(&request)?;
            for topic in &response.topics {
                for answer in &topic.partitions {
                    let partition = TopicPartition::new(topic.name.as_ref(), answer.partition_index);
                    check(|| format!("offsets of {partition}"), answer.error_code, None)?;
                    offsets.insert(partition, answer.offset);
                }
            }
        }
        Ok(offsets)
    }
}

fn asked_metadata(name: &str) -> MetadataRequestTopic<'_> {
    MetadataRequestTopic { name: Some(name.into()), ..Default::default() }
}
