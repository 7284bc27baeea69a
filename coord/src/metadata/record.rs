//! Records of the metadata log and their encoding.
//!
//! One *entry* of the log holds all records of one decision, so that they take effect together or not at all. Primitive types are those
//! of [`super::codec`].
//!
//! ```text
//! entry          := version u8 (= 1) | list of records
//! record         := kind u8 | version u8 (0 unless said otherwise) | body length u32 | body
//!
//! kind  0 NoOp            := (empty)
//! kind  1 Cluster         := cluster_id uuid
//! kind  2 RegisterBroker  := broker_id i32 | incarnation_id uuid | broker_epoch i64 | fenced bool | rack optional string
//!                            | list of (listener string | host string | port u16 | security_protocol i16)
//! kind  3 UnregisterBroker:= broker_id i32 | broker_epoch i64
//! kind  4 BrokerFencing   := broker_id i32 | broker_epoch i64 | fenced bool
//! kind  5 Topic           := topic_id uuid | name string | list of (config string | value string) | list of partition
//! kind  6 RemoveTopic     := topic_id uuid
//! kind  7 Partitions      := topic_id uuid | first_partition i32 | list of partition
//! kind  8 PartitionChange := topic_id uuid | partition_index i32 | partition
//! kind  9 TopicConfig     := topic_id uuid | config string | value optional string (absent = back to the default)
//! kind 10 ProducerIds     := broker_id i32 | broker_epoch i64 | next_producer_id i64
//! kind 11 FeatureLevel    := feature string | level i16 (0 = removed)
//! kind 12 SnapshotEnd     := next_offset i64
//! kind 13 ResourceConfig  := resource_type u8 (Kafka's number, never 2) | resource_name string | config string
//!                            | value optional string (absent = back to the default)
//! kind 14 NodeDirectory   := node_id i32 | directory_id uuid | host string | port u16
//! partition      := leader i32 (-1 = none) | leader_epoch i32 | partition_epoch i32 | list of replica i32 | list of in-sync replica i32
//!
//! Version 1 of the kinds 5, 7 and 8 is written when a partition has something that version 0 has no room for:
//! partition      := as in version 0 | list of eligible leader replica i32 | list of last known eligible leader replica i32
//!                   | list of adding replica i32 | list of removing replica i32 | last_unclean_epoch i32 (-1 = none)
//! ```
//!
//! A reader refuses entry versions, kinds and record versions that it does not know: silently skipping a change would give an image
//! that differs from everybody else's. A body must be consumed to its last byte.

use std::sync::Arc;

use uuid::Uuid;

use super::codec::{Reader, RecordError, Writer};
use super::image::{BrokerRegistration, Endpoint, NodeDirectory};
use super::partition::PartitionImage;
use crate::config::ConfigResourceType;
use crate::types::{BrokerId, LeaderEpoch, PartitionId};

/// Version of an entry's framing that [`encode_entry`] writes.
pub const ENTRY_VERSION: u8 = 1;
/// Version of a record that holds partitions with all their state.
const WHOLE_PARTITION_VERSION: u8 = 1;
/// kind + version + body length
const MIN_RECORD_BYTES: usize = 6;
/// leader, two epochs, two list lengths
const MIN_PARTITION_BYTES: usize = 20;

/// One change of the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataRecord {
    /// Nothing; proves that the log can be written.
    NoOp,
    /// The cluster's identity, the first record of every log.
    Cluster {
        /// The cluster's id; clients see it as 22 characters of base64.
        cluster_id: Uuid,
    },
    /// A broker has started (again).
    RegisterBroker(BrokerRegistration),
    /// A broker has left for good.
    UnregisterBroker {
        /// Which broker.
        broker_id: BrokerId,
        /// The registration that ends.
        broker_epoch: i64,
    },
    /// A broker has been fenced or unfenced.
    BrokerFencing {
        /// Which broker.
        broker_id: BrokerId,
        /// Its current registration.
        broker_epoch: i64,
        /// The new state.
        fenced: bool,
    },
    /// A topic was created, with everything that it has from the start.
    Topic {
        /// The new topic's id.
        topic_id: Uuid,
        /// Its name.
        name: Arc<str>,
        /// Configs that differ from the defaults, sorted by name.
        configs: Vec<(String, String)>,
        /// Partitions 0 and up.
        partitions: Vec<PartitionImage>,
    },
    /// A topic was deleted with all its partitions and configs.
    RemoveTopic {
        /// Which topic.
        topic_id: Uuid,
    },
    /// Partitions were added to a topic.
    Partitions {
        /// Which topic.
        topic_id: Uuid,
        /// The index of the first new partition: the number of partitions before.
        first_partition: PartitionId,
        /// The new partitions.
        partitions: Vec<PartitionImage>,
    },
    /// The state of one partition changed: replicas, in-sync replicas, leader or epochs.
    PartitionChange {
        /// Which topic.
        topic_id: Uuid,
        /// Which partition.
        partition: PartitionId,
        /// The whole new state.
        state: PartitionImage,
    },
    /// One config of a topic changed.
    TopicConfig {
        /// Which topic.
        topic_id: Uuid,
        /// The config's name.
        config: String,
        /// The new value; `None` goes back to the default.
        value: Option<String>,
    },
    /// A block of producer ids was handed to a broker.
    ProducerIds {
        /// The broker that may use the ids below `next_producer_id`.
        broker_id: BrokerId,
        /// Its registration.
        broker_epoch: i64,
        /// The first id that nobody has.
        next_producer_id: i64,
    },
    /// A feature's finalized level.
    FeatureLevel {
        /// The feature, e.g. `transaction.version`.
        feature: String,
        /// The level; 0 removes the feature.
        level: i16,
    },
    /// The end of a snapshot: the image is that of the log before this offset.
    SnapshotEnd {
        /// The offset that the next record of the log gets.
        next_offset: i64,
    },
    /// One config of a broker, of all brokers or of a group changed. (Those of topics have records of their own, by the topic's id.)
    ResourceConfig {
        /// What kind of resource.
        resource_type: ConfigResourceType,
        /// Which; the empty name of a broker stands for all.
        resource_name: String,
        /// The config's name.
        config: String,
        /// The new value; `None` goes back to the default.
        value: Option<String>,
    },
    /// A node keeps its data in this directory from now on, and is reached there.
    NodeDirectory(NodeDirectory),
}

impl MetadataRecord {
    /// The record's kind on disk and in messages.
    fn kind(&self) -> (u8, &'static str) {
        let kind = match self {
            MetadataRecord::NoOp => 0,
            MetadataRecord::Cluster { .. } => 1,
            MetadataRecord::RegisterBroker(_) => 2,
            MetadataRecord::UnregisterBroker { .. } => 3,
            MetadataRecord::BrokerFencing { .. } => 4,
            MetadataRecord::Topic { .. } => 5,
            MetadataRecord::RemoveTopic { .. } => 6,
            MetadataRecord::Partitions { .. } => 7,
            MetadataRecord::PartitionChange { .. } => 8,
            MetadataRecord::TopicConfig { .. } => 9,
            MetadataRecord::ProducerIds { .. } => 10,
            MetadataRecord::FeatureLevel { .. } => 11,
            MetadataRecord::SnapshotEnd { .. } => 12,
            MetadataRecord::ResourceConfig { .. } => 13,
            MetadataRecord::NodeDirectory(_) => 14,
        };
        (kind, KIND_NAMES[usize::from(kind)])
    }

    /// The record's name, for logs and errors.
    pub fn name(&self) -> &'static str {
        self.kind().1
    }

    /// The oldest version that holds everything in the record: what a single node writes, an older broker can read.
    fn version(&self) -> u8 {
        let partitions = match self {
            MetadataRecord::Topic { partitions, .. } | MetadataRecord::Partitions { partitions, .. } => {
                partitions.as_slice()
            }
            MetadataRecord::PartitionChange { state, .. } => std::slice::from_ref(state),
            _ => &[],
        };
        if partitions.iter().all(fits_version_0) { 0 } else { WHOLE_PARTITION_VERSION }
    }

    fn encode(&self, w: &mut Writer) {
        w.u8(self.kind().0);
        let version = self.version();
        w.u8(version);
        let body = w.open_length();
        match self {
            MetadataRecord::NoOp => {}
            MetadataRecord::Cluster { cluster_id } => w.uuid(*cluster_id),
            MetadataRecord::RegisterBroker(broker) => encode_broker(w, broker),
            MetadataRecord::UnregisterBroker { broker_id, broker_epoch } => {
                w.i32(broker_id.0);
                w.i64(*broker_epoch);
            }
            MetadataRecord::BrokerFencing { broker_id, broker_epoch, fenced } => {
                w.i32(broker_id.0);
                w.i64(*broker_epoch);
                w.bool(*fenced);
            }
            MetadataRecord::Topic { topic_id, name, configs, partitions } => {
                w.uuid(*topic_id);
                w.string(name);
                w.len(configs.len());
                for (config, value) in configs {
                    w.string(config);
                    w.string(value);
                }
                encode_partitions(w, partitions, version);
            }
            MetadataRecord::RemoveTopic { topic_id } => w.uuid(*topic_id),
            MetadataRecord::Partitions { topic_id, first_partition, partitions } => {
                w.uuid(*topic_id);
                w.i32(first_partition.0);
                encode_partitions(w, partitions, version);
            }
            MetadataRecord::PartitionChange { topic_id, partition, state } => {
                w.uuid(*topic_id);
                w.i32(partition.0);
                encode_partition(w, state, version);
            }
            MetadataRecord::TopicConfig { topic_id, config, value } => {
                w.uuid(*topic_id);
                w.string(config);
                w.optional_string(value.as_deref());
            }
            MetadataRecord::ProducerIds { broker_id, broker_epoch, next_producer_id } => {
                w.i32(broker_id.0);
                w.i64(*broker_epoch);
                w.i64(*next_producer_id);
            }
            MetadataRecord::FeatureLevel { feature, level } => {
                w.string(feature);
                w.i16(*level);
            }
            MetadataRecord::SnapshotEnd { next_offset } => w.i64(*next_offset),
            MetadataRecord::ResourceConfig { resource_type, resource_name, config, value } => {
                w.u8(resource_type.wire() as u8);
                w.string(resource_name);
                w.string(config);
                w.optional_string(value.as_deref());
            }
            MetadataRecord::NodeDirectory(node) => {
                w.i32(node.id.0);
                w.uuid(node.directory);
                w.string(&node.host);
                w.u16(node.port);
            }
        }
        w.close_length(body);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, RecordError> {
        let kind = r.u8("record kind")?;
        let version = r.u8("record version")?;
        let body_length = r.len(1, "record body")?;
        let body = r.take(body_length, "record body")?;
        let name = *KIND_NAMES.get(usize::from(kind)).ok_or(RecordError::UnknownKind(kind))?;
        let known = if matches!(kind, 5 | 7 | 8) { WHOLE_PARTITION_VERSION } else { 0 };
        if version > known {
            return Err(RecordError::UnknownRecordVersion { kind: name, version, known });
        }
        let mut body = Reader::new(body);
        let record = decode_body(kind, version, &mut body)?;
        match body.remaining() {
            0 => Ok(record),
            extra => Err(RecordError::TrailingBytes { what: name, extra }),
        }
    }
}

/// Names of the kinds, at the index of their number.
const KIND_NAMES: [&str; 15] = [
    "NoOp",
    "Cluster",
    "RegisterBroker",
    "UnregisterBroker",
    "BrokerFencing",
    "Topic",
    "RemoveTopic",
    "Partitions",
    "PartitionChange",
    "TopicConfig",
    "ProducerIds",
    "FeatureLevel",
    "SnapshotEnd",
    "ResourceConfig",
    "NodeDirectory",
];

/// Encodes the records of one decision as one entry of the log.
pub fn encode_entry(records: &[MetadataRecord]) -> Vec<u8> {
    let mut w = Writer::default();
    w.u8(ENTRY_VERSION);
    w.len(records.len());
    for record in records {
        record.encode(&mut w);
    }
    w.bytes
}

/// Decodes one entry of the log.
pub fn decode_entry(bytes: &[u8]) -> Result<Vec<MetadataRecord>, RecordError> {
    let mut r = Reader::new(bytes);
    let version = r.u8("entry version")?;
    if version != ENTRY_VERSION {
        return Err(RecordError::UnknownEntryVersion(version));
    }
    let count = r.len(MIN_RECORD_BYTES, "records")?;
    let mut records = Vec::new();
    for _ in 0..count {
        records.push(MetadataRecord::decode(&mut r)?);
    }
    match r.remaining() {
        0 => Ok(records),
        extra => Err(RecordError::TrailingBytes { what: "entry", extra }),
    }
}

fn decode_body(kind: u8, version: u8, r: &mut Reader<'_>) -> Result<MetadataRecord, RecordError> {
    Ok(match kind {
        0 => MetadataRecord::NoOp,
        1 => MetadataRecord::Cluster { cluster_id: r.uuid("cluster id")? },
        2 => MetadataRecord::RegisterBroker(decode_broker(r)?),
        3 => MetadataRecord::UnregisterBroker {
            broker_id: decode_broker_id(r)?,
            broker_epoch: r.i64("broker epoch")?,
        },
        4 => MetadataRecord::BrokerFencing {
            broker_id: decode_broker_id(r)?,
            broker_epoch: r.i64("broker epoch")?,
            fenced: r.bool("fenced")?,
        },
        5 => {
            let topic_id = r.uuid("topic id")?;
            let name = r.string("topic name")?.into();
            let count = r.len(8, "configs")?;
            let mut configs = Vec::with_capacity(count);
            for _ in 0..count {
                configs.push((r.string("config name")?.to_owned(), r.string("config value")?.to_owned()));
            }
            MetadataRecord::Topic { topic_id, name, configs, partitions: decode_partitions(r, version)? }
        }
        6 => MetadataRecord::RemoveTopic { topic_id: r.uuid("topic id")? },
        7 => MetadataRecord::Partitions {
            topic_id: r.uuid("topic id")?,
            first_partition: decode_partition_id(r)?,
            partitions: decode_partitions(r, version)?,
        },
        8 => MetadataRecord::PartitionChange {
            topic_id: r.uuid("topic id")?,
            partition: decode_partition_id(r)?,
            state: decode_partition(r, version)?,
        },
        9 => MetadataRecord::TopicConfig {
            topic_id: r.uuid("topic id")?,
            config: r.string("config name")?.to_owned(),
            value: r.optional_string("config value")?.map(str::to_owned),
        },
        10 => MetadataRecord::ProducerIds {
            broker_id: decode_broker_id(r)?,
            broker_epoch: r.i64("broker epoch")?,
            next_producer_id: r.i64("next producer id")?,
        },
        11 => MetadataRecord::FeatureLevel {
            feature: r.string("feature")?.to_owned(),
            level: r.i16("feature level")?,
        },
        12 => MetadataRecord::SnapshotEnd { next_offset: r.i64("next offset")? },
        13 => MetadataRecord::ResourceConfig {
            resource_type: decode_resource_type(r)?,
            resource_name: r.string("resource name")?.to_owned(),
            config: r.string("config name")?.to_owned(),
            value: r.optional_string("config value")?.map(str::to_owned),
        },
        14 => MetadataRecord::NodeDirectory(NodeDirectory {
            id: decode_broker_id(r)?,
            directory: r.uuid("directory id")?,
            host: r.string("host")?.to_owned(),
            port: r.u16("port")?,
        }),
        _ => return Err(RecordError::UnknownKind(kind)),
    })
}

fn decode_resource_type(r: &mut Reader<'_>) -> Result<ConfigResourceType, RecordError> {
    let number = r.u8("resource type")? as i8;
    ConfigResourceType::from_wire(number)
        .filter(|kind| *kind != ConfigResourceType::Topic)
        .ok_or(RecordError::Invalid("resource type"))
}

fn encode_broker(w: &mut Writer, broker: &BrokerRegistration) {
    w.i32(broker.id.0);
    w.uuid(broker.incarnation_id);
    w.i64(broker.broker_epoch);
    w.bool(broker.fenced);
    w.optional_string(broker.rack.as_deref());
    w.len(broker.endpoints.len());
    for endpoint in &broker.endpoints {
        w.string(&endpoint.listener);
        w.string(&endpoint.host);
        w.u16(endpoint.port);
        w.i16(endpoint.security_protocol);
    }
}

fn decode_broker(r: &mut Reader<'_>) -> Result<BrokerRegistration, RecordError> {
    let id = decode_broker_id(r)?;
    let incarnation_id = r.uuid("incarnation id")?;
    let broker_epoch = r.i64("broker epoch")?;
    let fenced = r.bool("fenced")?;
    let rack = r.optional_string("rack")?.map(str::to_owned);
    let count = r.len(12, "endpoints")?;
    let mut endpoints = Vec::with_capacity(count);
    for _ in 0..count {
        endpoints.push(Endpoint {
            listener: r.string("listener")?.to_owned(),
            host: r.string("host")?.to_owned(),
            port: r.u16("port")?,
            security_protocol: r.i16("security protocol")?,
        });
    }
    Ok(BrokerRegistration { id, incarnation_id, broker_epoch, fenced, rack, endpoints })
}

fn encode_partitions(w: &mut Writer, partitions: &[PartitionImage], version: u8) {
    w.len(partitions.len());
    for partition in partitions {
        encode_partition(w, partition, version);
    }
}

fn decode_partitions(r: &mut Reader<'_>, version: u8) -> Result<Vec<PartitionImage>, RecordError> {
    let count = r.len(MIN_PARTITION_BYTES, "partitions")?;
    let mut partitions = Vec::with_capacity(count);
    for _ in 0..count {
        partitions.push(decode_partition(r, version)?);
    }
    Ok(partitions)
}

fn fits_version_0(partition: &PartitionImage) -> bool {
    partition.eligible_leader_replicas.is_empty()
        && partition.last_known_eligible_leader_replicas.is_empty()
        && !partition.is_reassigning()
        && partition.last_unclean_epoch == LeaderEpoch::UNKNOWN
}

fn encode_partition(w: &mut Writer, partition: &PartitionImage, version: u8) {
    w.i32(partition.leader.0);
    w.i32(partition.leader_epoch.0);
    w.i32(partition.partition_epoch);
    encode_broker_ids(w, &partition.replicas);
    encode_broker_ids(w, &partition.in_sync_replicas);
    if version >= WHOLE_PARTITION_VERSION {
        encode_broker_ids(w, &partition.eligible_leader_replicas);
        encode_broker_ids(w, &partition.last_known_eligible_leader_replicas);
        encode_broker_ids(w, &partition.adding_replicas);
        encode_broker_ids(w, &partition.removing_replicas);
        w.i32(partition.last_unclean_epoch.0);
    }
}

fn decode_partition(r: &mut Reader<'_>, version: u8) -> Result<PartitionImage, RecordError> {
    let leader = BrokerId(r.i32("leader")?);
    let leader_epoch = LeaderEpoch(r.i32("leader epoch")?);
    let partition_epoch = r.i32("partition epoch")?;
    if leader < BrokerId::NONE || leader_epoch.0 < 0 || partition_epoch < 0 {
        return Err(RecordError::Invalid("partition"));
    }
    let replicas = decode_broker_ids(r)?;
    let in_sync_replicas = decode_broker_ids(r)?;
    let mut partition = PartitionImage {
        leader_epoch,
        partition_epoch,
        ..PartitionImage::new(leader, replicas, in_sync_replicas)
    };
    if version >= WHOLE_PARTITION_VERSION {
        partition.eligible_leader_replicas = decode_broker_ids(r)?;
        partition.last_known_eligible_leader_replicas = decode_broker_ids(r)?;
        partition.adding_replicas = decode_broker_ids(r)?;
        partition.removing_replicas = decode_broker_ids(r)?;
        partition.last_unclean_epoch = LeaderEpoch(r.i32("last unclean epoch")?);
    }
    Ok(partition)
}

fn encode_broker_ids(w: &mut Writer, brokers: &[BrokerId]) {
    w.len(brokers.len());
    brokers.iter().for_each(|broker| w.i32(broker.0));
}

fn decode_broker_ids(r: &mut Reader<'_>) -> Result<Box<[BrokerId]>, RecordError> {
    let count = r.len(4, "replicas")?;
    (0..count).map(|_| decode_broker_id(r)).collect()
}

fn decode_broker_id(r: &mut Reader<'_>) -> Result<BrokerId, RecordError> {
    match r.i32("broker id")? {
        id if id >= 0 => Ok(BrokerId(id)),
        _ => Err(RecordError::Invalid("broker id")),
    }
}

fn decode_partition_id(r: &mut Reader<'_>) -> Result<PartitionId, RecordError> {
    match r.i32("partition index")? {
        index if index >= 0 => Ok(PartitionId(index)),
        _ => Err(RecordError::Invalid("partition index")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each() -> Vec<MetadataRecord> {
        let topic_id = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        let partition = PartitionImage {
            leader_epoch: LeaderEpoch(2),
            partition_epoch: 3,
            ..PartitionImage::new(BrokerId(1), [BrokerId(1), BrokerId(4)].into(), [BrokerId(1)].into())
        };
        let whole = PartitionImage {
            eligible_leader_replicas: [BrokerId(4)].into(),
            last_known_eligible_leader_replicas: [BrokerId(5)].into(),
            adding_replicas: [BrokerId(6)].into(),
            removing_replicas: [BrokerId(7), BrokerId(8)].into(),
            last_unclean_epoch: LeaderEpoch(1),
            ..partition.clone()
        };
        let broker = BrokerRegistration {
            id: BrokerId(5),
            incarnation_id: topic_id,
            broker_epoch: 6,
            fenced: true,
            rack: Some("r".to_owned()),
            endpoints: vec![Endpoint {
                listener: "PLAINTEXT".to_owned(),
                host: "h".to_owned(),
                port: 9092,
                security_protocol: 0,
            }],
        };
        vec![
            MetadataRecord::NoOp,
            MetadataRecord::Cluster { cluster_id: topic_id },
            MetadataRecord::RegisterBroker(broker),
            MetadataRecord::UnregisterBroker { broker_id: BrokerId(5), broker_epoch: 6 },
            MetadataRecord::BrokerFencing { broker_id: BrokerId(5), broker_epoch: 6, fenced: false },
            MetadataRecord::Topic {
                topic_id,
                name: "t".into(),
                configs: vec![("a".to_owned(), "b".to_owned())],
                partitions: vec![partition.clone(), partition.clone()],
            },
            MetadataRecord::RemoveTopic { topic_id },
            MetadataRecord::Partitions {
                topic_id,
                first_partition: PartitionId(7),
                partitions: vec![partition.clone()],
            },
            MetadataRecord::PartitionChange { topic_id, partition: PartitionId(8), state: partition },
            MetadataRecord::PartitionChange { topic_id, partition: PartitionId(9), state: whole },
            MetadataRecord::TopicConfig { topic_id, config: "c".to_owned(), value: None },
            MetadataRecord::TopicConfig { topic_id, config: "c".to_owned(), value: Some("d".to_owned()) },
            MetadataRecord::ProducerIds { broker_id: BrokerId(5), broker_epoch: 6, next_producer_id: 1000 },
            MetadataRecord::FeatureLevel { feature: "f".to_owned(), level: 2 },
            MetadataRecord::SnapshotEnd { next_offset: 9 },
            MetadataRecord::ResourceConfig {
                resource_type: ConfigResourceType::Group,
                resource_name: "g".to_owned(),
                config: "c".to_owned(),
                value: Some("d".to_owned()),
            },
            MetadataRecord::NodeDirectory(NodeDirectory {
                id: BrokerId(4),
                directory: Uuid::from_u128(8),
                host: "h".to_owned(),
                port: 9093,
            }),
        ]
    }

    #[test]
    fn every_kind_survives_encoding_and_every_cut_of_it_is_an_error() {
        let records = one_of_each();
        let entry = encode_entry(&records);
        assert_eq!(decode_entry(&entry).unwrap(), records);
        for end in 0..entry.len() {
            assert!(matches!(decode_entry(&entry[..end]), Err(RecordError::Truncated { .. })), "{end}");
        }
        let longer = [entry.as_slice(), &[0]].concat();
        assert_eq!(decode_entry(&longer), Err(RecordError::TrailingBytes { what: "entry", extra: 1 }));
    }

    #[test]
    fn the_bytes_of_a_topic_are_those_of_the_documentation() {
        let partition = PartitionImage::new(BrokerId(1), [BrokerId(1)].into(), [BrokerId(1)].into());
        let entry = encode_entry(&[MetadataRecord::Topic {
            topic_id: Uuid::from_u128(7),
            name: "ab".into(),
            configs: vec![],
            partitions: vec![partition],
        }]);
        let mut expected = vec![1, 0, 0, 0, 1, 5, 0, 0, 0, 0, 58];
        expected.extend([0; 15]);
        expected.push(7);
        expected.extend([0, 0, 0, 2, b'a', b'b', 0, 0, 0, 0, 0, 0, 0, 1]);
        expected.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]);
        assert_eq!(entry, expected);
    }

    #[test]
    fn what_a_newer_broker_wrote_is_refused_and_named() {
        assert_eq!(decode_entry(&[2, 0, 0, 0, 0]), Err(RecordError::UnknownEntryVersion(2)));
        let kind = decode_entry(&[1, 0, 0, 0, 1, 99, 0, 0, 0, 0, 0]).unwrap_err();
        assert_eq!(kind, RecordError::UnknownKind(99));
        assert!(kind.to_string().contains("newer broker"));
        let version = decode_entry(&[1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0]).unwrap_err();
        assert_eq!(version, RecordError::UnknownRecordVersion { kind: "NoOp", version: 1, known: 0 });
    }

    #[test]
    fn lengths_beyond_the_entry_are_refused_before_anything_is_allocated() {
        assert!(decode_entry(&[1, 0xff, 0xff, 0xff, 0xff]).is_err());
        let mut body = vec![0; 16];
        body.extend([0xff, 0xff, 0xff, 0xff]);
        let mut entry = vec![1, 0, 0, 0, 1, 5, 0, 0, 0, 0, body.len() as u8];
        entry.extend(body);
        assert!(decode_entry(&entry).is_err());
    }
}
