//! What the cluster knows: a function of the records replayed so far, and of nothing else.
//!
//! Every shard holds its own image and replays into it. Lookups by topic id or name are one or two hash lookups; names are also kept in
//! order, for answers in pages. Topics are shared (`Arc`) between copies of an image, so that a copy costs one pointer per topic and a
//! change copies only the topic that it touches; replaying into an image that nobody else holds copies nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ahash::AHashMap;
use thiserror::Error;
use uuid::Uuid;

use super::names;
use super::partition::PartitionImage;
use super::record::MetadataRecord;
use crate::config::ConfigResourceType;
use crate::types::{BrokerId, PartitionId};

/// Where clients reach a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name, e.g. `PLAINTEXT`.
    pub listener: String,
    /// The advertised host.
    pub host: String,
    /// The advertised port.
    pub port: u16,
    /// Kafka's number of the security protocol: 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
}

/// A broker that has registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerRegistration {
    /// `node.id`.
    pub id: BrokerId,
    /// New for every start of the process.
    pub incarnation_id: Uuid,
    /// Grows with every registration in the cluster: the offset of the record that registered the broker.
    pub broker_epoch: i64,
    /// A fenced broker leads nothing and is not shown to clients.
    pub fenced: bool,
    /// `broker.rack`
    pub rack: Option<String>,
    /// One for each listener that clients may use.
    pub endpoints: Vec<Endpoint>,
}

impl BrokerRegistration {
    /// The address under the listener of this name.
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.listener == listener)
    }
}

/// The directory of a node's data (KIP-853): who votes with another one has lost what it has promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeDirectory {
    /// `node.id`
    pub id: BrokerId,
    /// Drawn when the directory was set up.
    pub directory: Uuid,
    /// Where the node's internal listener is.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicImage {
    /// The topic's id, unique for ever: a topic that is created again under the same name has another one.
    pub id: Uuid,
    /// The topic's name.
    pub name: Arc<str>,
    /// Partitions by index, without gaps.
    pub partitions: Vec<PartitionImage>,
    /// Configs that were set on the topic, by name; everything else has its default.
    pub configs: BTreeMap<String, String>,
}

impl TopicImage {
    /// One partition's state.
    pub fn partition(&self, partition: PartitionId) -> Option<&PartitionImage> {
        self.partitions.get(usize::try_from(partition.0).ok()?)
    }

    /// Whether the broker itself owns the topic.
    pub fn is_internal(&self) -> bool {
        names::is_internal(&self.name)
    }

    /// Partitions with their indexes, in order.
    pub fn indexed_partitions(&self) -> impl ExactSizeIterator<Item = (PartitionId, &PartitionImage)> {
        self.partitions.iter().enumerate().map(|(index, partition)| (PartitionId(index as i32), partition))
    }
}

/// A record that does not fit the image: the log is not the one that the image came from, or was written by faulty code.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("metadata record {record} at offset {offset} does not fit the state before it: {problem}")]
pub struct ReplayError {
    /// The record's name.
    pub record: &'static str,
    /// The record's offset in the metadata log.
    pub offset: i64,
    /// What does not fit.
    pub problem: String,
}

/// Everything that the cluster's metadata log says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetadataImage {
    cluster_id: Uuid,
    brokers: BTreeMap<BrokerId, BrokerRegistration>,
    nodes: BTreeMap<BrokerId, NodeDirectory>,
    topics: AHashMap<Uuid, Arc<TopicImage>>,
    topic_ids: AHashMap<Arc<str>, Uuid>,
    topic_names: BTreeSet<Arc<str>>,
    /// Names that contain `.` or `_`, in the form in which they collide.
    collisions: AHashMap<String, Arc<str>>,
    partition_count: usize,
    features: BTreeMap<String, i16>,
    /// Of resources that are no topics; a resource without configs has no entry.
    resource_configs: BTreeMap<(ConfigResourceType, String), BTreeMap<String, String>>,
    next_producer_id: i64,
    next_offset: i64,
}

static NO_CONFIGS: BTreeMap<String, String> = BTreeMap::new();

impl MetadataImage {
    /// The state before the first record.
    pub fn new() -> Self {
        Self::default()
    }

    /// The cluster's id; nil before the first record.
    pub fn cluster_id(&self) -> Uuid {
        self.cluster_id
    }

    /// The offset that the next record will get: the number of records ever replayed.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The first producer id that has not been handed to any broker.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// All registered brokers in the order of their ids.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &BrokerRegistration> {
        self.brokers.values()
    }

    /// One broker's registration.
    pub fn broker(&self, id: BrokerId) -> Option<&BrokerRegistration> {
        self.brokers.get(&id)
    }

    /// The nodes whose data directories are known, brokers or not.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &NodeDirectory> {
        self.nodes.values()
    }

    /// Where a node keeps its data, if it has said so.
    pub fn node(&self, id: BrokerId) -> Option<&NodeDirectory> {
        self.nodes.get(&id)
    }

    /// Whether the broker is registered and not fenced.
    pub fn is_active(&self, id: BrokerId) -> bool {
        self.brokers.get(&id).is_some_and(|broker| !broker.fenced)
    }

    /// Finalized feature levels by name.
    pub fn features(&self) -> &BTreeMap<String, i16> {
        &self.features
    }

    /// Configs that were set on a broker (by its id, or for all brokers under the empty name), or on a group. Those of a topic are in its
    /// [`TopicImage`].
    pub fn resource_configs(&self, kind: ConfigResourceType, name: &str) -> &BTreeMap<String, String> {
        self.resource_configs.get(&(kind, name.to_owned())).unwrap_or(&NO_CONFIGS)
    }

    /// Configs that were set on a group.
    pub fn group_configs(&self, group_id: &str) -> &BTreeMap<String, String> {
        self.resource_configs(ConfigResourceType::Group, group_id)
    }

    /// All resources that have configs of their own, except topics.
    pub fn configured_resources(
        &self,
    ) -> impl Iterator<Item = (ConfigResourceType, &str, &BTreeMap<String, String>)> {
        self.resource_configs.iter().map(|((kind, name), configs)| (*kind, name.as_str(), configs))
    }

    /// The number of topics.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// The number of partitions of all topics.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// All topics in the order of their names.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topic_names.iter().map(|name| self.named(name))
    }

    /// Topics in the order of their names, from the first whose name is not below `name`.
    pub fn topics_from<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Arc<TopicImage>> {
        let bounds = (std::ops::Bound::Included(name), std::ops::Bound::Unbounded);
        self.topic_names.range::<str, _>(bounds).map(|name| self.named(name))
    }

    /// A topic by its name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topic_by_id(*self.topic_ids.get(name)?)
    }

    /// A topic by its id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<TopicImage>> {
        self.topics.get(&id)
    }

    /// The name of the existing topic with which a new topic of this name would collide (`a.b` with `a_b`).
    pub fn colliding_topic(&self, name: &str) -> Option<&str> {
        let existing = self.collisions.get(&names::collision_key(name)?)?;
        (existing.as_ref() != name).then_some(existing.as_ref())
    }

    fn named(&self, name: &str) -> &Arc<TopicImage> {
        self.topic(name).expect("names and topics are changed together")
    }

    /// Applies the records of one entry of the log.
    pub fn replay_all(&mut self, records: &[MetadataRecord]) -> Result<(), ReplayError> {
        records.iter().try_for_each(|record| self.replay(record))
    }

    /// Applies one record; the only way in which an image changes. After an error the image is unchanged by this record, but is not
    /// what the log's author had: stop.
    pub fn replay(&mut self, record: &MetadataRecord) -> Result<(), ReplayError> {
        self.apply(record).map_err(|problem| ReplayError {
            record: record.name(),
            offset: self.next_offset,
            problem,
        })?;
        if !matches!(record, MetadataRecord::SnapshotEnd { .. }) {
            self.next_offset += 1;
        }
        Ok(())
    }

    fn apply(&mut self, record: &MetadataRecord) -> Result<(), String> {
        match record {
            MetadataRecord::NoOp => Ok(()),
            MetadataRecord::Cluster { cluster_id } => {
                ensure(self.cluster_id.is_nil(), || {
                    format!("the cluster already has id {}", self.cluster_id)
                })?;
                ensure(!cluster_id.is_nil(), || "the cluster id is nil".to_owned())?;
                self.cluster_id = *cluster_id;
                Ok(())
            }
            MetadataRecord::RegisterBroker(broker) => {
                if let Some(earlier) = self.brokers.get(&broker.id) {
                    ensure(broker.broker_epoch > earlier.broker_epoch, || {
                        format!("broker {} already has epoch {}", broker.id, earlier.broker_epoch)
                    })?;
                }
                self.brokers.insert(broker.id, broker.clone());
                Ok(())
            }
            MetadataRecord::UnregisterBroker { broker_id, broker_epoch } => {
                self.registered(*broker_id, *broker_epoch)?;
                self.brokers.remove(broker_id);
                Ok(())
            }
            MetadataRecord::BrokerFencing { broker_id, broker_epoch, fenced } => {
                self.registered(*broker_id, *broker_epoch)?.fenced = *fenced;
                Ok(())
            }
            MetadataRecord::Topic { topic_id, name, configs, partitions } => {
                self.add_topic(*topic_id, name, configs, partitions)
            }
            MetadataRecord::RemoveTopic { topic_id } => self.remove_topic(*topic_id),
            MetadataRecord::Partitions { topic_id, first_partition, partitions } => {
                let topic = self.topic_mut(*topic_id)?;
                let count = topic.partitions.len();
                ensure(first_partition.0 as usize == count, || {
                    format!(
                        "topic {} has {count} partitions, the new ones start at {}",
                        topic.name, first_partition.0
                    )
                })?;
                topic.partitions.extend_from_slice(partitions);
                self.partition_count += partitions.len();
                Ok(())
            }
            MetadataRecord::PartitionChange { topic_id, partition, state } => {
                let topic = self.topic_mut(*topic_id)?;
                let current = topic
                    .partitions
                    .get_mut(partition.0 as usize)
                    .ok_or_else(|| format!("topic {} has no partition {}", topic.name, partition.0))?;
                ensure(
                    state.partition_epoch == current.partition_epoch + 1
                        && state.leader_epoch >= current.leader_epoch,
                    || format!("epochs of partition {}-{} do not advance", topic.name, partition.0),
                )?;
                *current = state.clone();
                Ok(())
            }
            MetadataRecord::TopicConfig { topic_id, config, value } => {
                let topic = self.topic_mut(*topic_id)?;
                match value {
                    Some(value) => topic.configs.insert(config.clone(), value.clone()),
                    None => topic.configs.remove(config),
                };
                Ok(())
            }
            MetadataRecord::ProducerIds { next_producer_id, .. } => {
                ensure(*next_producer_id >= self.next_producer_id, || {
                    format!("next producer id {next_producer_id} is below {}", self.next_producer_id)
                })?;
                self.next_producer_id = *next_producer_id;
                Ok(())
            }
            MetadataRecord::FeatureLevel { feature, level } => {
                match level {
                    0 => self.features.remove(feature),
                    _ => self.features.insert(feature.clone(), *level),
                };
                Ok(())
            }
            MetadataRecord::ResourceConfig { resource_type, resource_name, config, value } => {
                self.set_resource_config(*resource_type, resource_name, config, value.as_deref())
            }
            MetadataRecord::NodeDirectory(node) => {
                ensure(!node.directory.is_nil(), || format!("node {} has no directory", node.id))?;
                self.nodes.insert(node.id, node.clone());
                Ok(())
            }
            MetadataRecord::SnapshotEnd { next_offset } => {
                ensure(*next_offset >= self.next_offset, || {
                    format!("a snapshot of {} records ends before offset {next_offset}", self.next_offset)
                })?;
                self.next_offset = *next_offset;
                Ok(())
            }
        }
    }

    fn set_resource_config(
        &mut self,
        kind: ConfigResourceType,
        name: &str,
        config: &str,
        value: Option<&str>,
    ) -> Result<(), String> {
        ensure(kind != ConfigResourceType::Topic, || format!("configs of topic {name} are not by its name"))?;
        let key = (kind, name.to_owned());
        let configs = self.resource_configs.entry(key.clone()).or_default();
        match value {
            Some(value) => configs.insert(config.to_owned(), value.to_owned()),
            None => configs.remove(config),
        };
        if configs.is_empty() {
            self.resource_configs.remove(&key);
        }
        Ok(())
    }

    fn add_topic(
        &mut self,
        id: Uuid,
        name: &Arc<str>,
        configs: &[(String, String)],
        partitions: &[PartitionImage],
    ) -> Result<(), String> {
        ensure(!self.topics.contains_key(&id), || format!("topic id {id} exists"))?;
        ensure(!self.topic_ids.contains_key(name), || format!("topic {name} exists"))?;
        ensure(!partitions.is_empty(), || format!("topic {name} has no partitions"))?;
        if let Some(key) = names::collision_key(name) {
            self.collisions.insert(key, Arc::clone(name));
        }
        self.topic_ids.insert(Arc::clone(name), id);
        self.topic_names.insert(Arc::clone(name));
        self.partition_count += partitions.len();
        let topic = TopicImage {
            id,
            name: Arc::clone(name),
            partitions: partitions.to_vec(),
            configs: configs.iter().cloned().collect(),
        };
        self.topics.insert(id, Arc::new(topic));
        Ok(())
    }

    fn remove_topic(&mut self, id: Uuid) -> Result<(), String> {
        let topic = self.topics.remove(&id).ok_or_else(|| format!("topic id {id} does not exist"))?;
        self.topic_ids.remove(&topic.name);
        self.topic_names.remove(&topic.name);
        self.partition_count -= topic.partitions.len();
        if let Some(key) = names::collision_key(&topic.name) {
            self.collisions.remove(&key);
        }
        Ok(())
    }

    fn topic_mut(&mut self, id: Uuid) -> Result<&mut TopicImage, String> {
        let topic = self.topics.get_mut(&id).ok_or_else(|| format!("topic id {id} does not exist"))?;
        Ok(Arc::make_mut(topic))
    }

    fn registered(&mut self, id: BrokerId, epoch: i64) -> Result<&mut BrokerRegistration, String> {
        let broker = self.brokers.get_mut(&id).ok_or_else(|| format!("broker {id} is not registered"))?;
        ensure(broker.broker_epoch == epoch, || {
            format!("broker {id} has epoch {}, the record says {epoch}", broker.broker_epoch)
        })?;
        Ok(broker)
    }
}

fn ensure(condition: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(problem()) }
}
