//! Where the partitions of a topic are led, and making the topic when it is not there.

use std::collections::BTreeMap;
use std::time::Duration;

use glommio::timer::sleep;
use protocol::client::{self, Partition, broker_addresses};
use protocol::messages::create_topics::CreatableTopic;
use protocol::messages::metadata::MetadataRequestTopic;
use protocol::messages::{CreateTopicsRequest, MetadataRequest};
use uuid::Uuid;

use super::{Client, error_name};
use crate::error::BenchError;

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const LEADER_NOT_AVAILABLE: i16 = 5;
const TOPIC_ALREADY_EXISTS: i16 = 36;
/// How long a new topic may take until each of its partitions has a leader.
const CREATION_TRIES: u32 = 600;
const CREATION_PAUSE: Duration = Duration::from_millis(100);

/// A topic as metadata shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id; nil from brokers older than Kafka 2.8.
    pub id: Uuid,
    /// Its partitions, ascending.
    pub partitions: Vec<Partition>,
    /// Addresses of the brokers by id.
    pub brokers: BTreeMap<i32, String>,
}

impl Topic {
    fn is_led(&self) -> bool {
        !self.partitions.is_empty()
            && self.partitions.iter().all(|partition| self.brokers.contains_key(&partition.leader))
    }
}

/// Looks the topic up; `None` if it does not exist.
pub async fn describe_topic(client: &mut Client, name: &str) -> Result<Option<Topic>, BenchError> {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { name: Some(name.into()), ..Default::default() }]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let response = client.call(&request).await?;
    let brokers = broker_addresses(&response);
    let Some(topic) = response.topics.iter().find(|topic| topic.name.as_deref() == Some(name)) else {
        return Ok(None);
    };
    match topic.error_code {
        0 | LEADER_NOT_AVAILABLE => {}
        UNKNOWN_TOPIC_OR_PARTITION => return Ok(None),
        code => {
            return Err(BenchError::Refused {
                what: format!("metadata of topic {name}"),
                code: error_name(code),
                message: String::new(),
            });
        }
    }
    let client::Topic { name, id, partitions, .. } = client::Topic::from(topic);
    Ok(Some(Topic { name, id, partitions, brokers }))
}

/// Looks the topic up, makes it with `partitions` if it is not there, and waits until every partition has a leader.
pub async fn ensure_topic(client: &mut Client, name: &str, partitions: u32) -> Result<Topic, BenchError> {
    if describe_topic(client, name).await?.is_none() {
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: name.into(),
                num_partitions: partitions as i32,
                replication_factor: -1,
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = client.call(&request).await?;
        let refused = |code: i16| code != 0 && code != TOPIC_ALREADY_EXISTS;
        if let Some(topic) = response.topics.iter().find(|topic| refused(topic.error_code)) {
            return Err(BenchError::Refused {
                what: format!("creating topic {name}"),
                code: error_name(topic.error_code),
                message: topic.error_message.as_ref().map(|text| format!(": {text}")).unwrap_or_default(),
            });
        }
    }
    for _ in 0..CREATION_TRIES {
        match describe_topic(client, name).await? {
            Some(topic) if topic.is_led() => return Ok(topic),
            _ => sleep(CREATION_PAUSE).await,
        }
    }
    Err(BenchError::Refused {
        what: format!("topic {name}"),
        code: "LEADER_NOT_AVAILABLE".to_owned(),
        message: ": some partitions have no leader".to_owned(),
    })
}
