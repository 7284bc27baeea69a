//! Metadata (key 3): brokers, topics, partitions and their leaders; creates missing topics on the way.
//!
//! A missing topic that may be created is created before the answer, which then has it. (Kafka answers UNKNOWN_TOPIC_OR_PARTITION and
//! creates it behind the scenes; clients come again either way.) Source: `KafkaApis.handleTopicMetadataRequest`.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use coord::metadata::decide::NewTopic;
use coord::metadata::names;
use coord::metadata::{MetadataImage, PartitionImage, TopicImage};
use protocol::ErrorCode;
use protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use uuid::Uuid;

use super::{Answer, Call, Refusal};
use crate::controller::{self, CLIENT_LISTENER, contact};
use crate::net::DispatchOutcome;
use crate::shard::Shard;

/// Operations on a topic that a client may be allowed, as bits: READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS,
/// ALTER_CONFIGS.
pub(super) const TOPIC_OPERATIONS: i32 =
    1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// Operations on the cluster: CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE.
pub(super) const CLUSTER_OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
/// What stands there when nobody asked.
pub(super) const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

/// Answers from this shard's image, after creating what is missing and may be created.
pub async fn handle(call: Call) -> Answer {
    let request: MetadataRequest<'_> = call.decode()?;
    check(&request, call.version)?;
    let mut failures = HashMap::new();
    let missing = missing_topics(&call.shard.image(), &request);
    if call.shard.config().auto_create_topics_enable && !missing.is_empty() {
        failures = controller::auto_create(&call.shard, missing).await;
    }
    let image = call.shard.image();
    let controller_id = call.shard.metadata.controller_id(&image);
    let answer = call.respond(&response(&image, controller_id, &request, call.version, &failures))?;
    Ok(match answer {
        // It may be old news. Clients prefer to ask whoever has least to do, which is nobody as much as a broker that is cut off: without the connection they ask another next.
        DispatchOutcome::Respond(segments) if is_cut_off(&call.shard, &image) => {
            let why = "this broker is cut off from all others and hears no active controller".to_owned();
            DispatchOutcome::RespondAndClose(segments, why)
        }
        answer => answer,
    })
}

/// Whether this broker reaches nobody who would know better.
fn is_cut_off(shard: &Shard, image: &MetadataImage) -> bool {
    shard.replication.replicas.is_cut_off_from(contact::others(shard, image))
}

/// Topic ids came with version 10, but Kafka's brokers took them from version 12 on.
fn check(request: &MetadataRequest<'_>, version: i16) -> Result<(), Refusal> {
    let by_id = |topic: &MetadataRequestTopic<'_>| topic.name.is_none() || !topic.topic_id.is_nil();
    if (10..12).contains(&version) && request.topics.iter().flatten().any(by_id) {
        return Err(Refusal::new(format!("Metadata version {version} cannot ask for topics by id")));
    }
    Ok(())
}

/// Topics that do not exist and may be created: asked for by name, allowed by the client, with a valid name that no part of the broker
/// has reserved.
fn missing_topics(image: &MetadataImage, request: &MetadataRequest<'_>) -> Vec<NewTopic> {
    if !request.allow_auto_topic_creation {
        return Vec::new();
    }
    let mut seen = HashSet::new();
    let asked = request.topics.iter().flatten().filter(|topic| topic.topic_id.is_nil());
    asked
        .filter_map(|topic| topic.name.as_deref())
        .filter(|name| image.topic(name).is_none() && names::validate(name).is_ok())
        .filter(|name| !names::is_internal(name) && *name != names::CLUSTER_METADATA_TOPIC)
        .filter(|name| seen.insert(*name))
        .map(|name| NewTopic {
            name: name.to_owned(),
            num_partitions: -1,
            replication_factor: -1,
            ..NewTopic::default()
        })
        .collect()
}

fn response<'a>(
    image: &'a MetadataImage,
    controller_id: i32,
    request: &'a MetadataRequest<'_>,
    version: i16,
    failures: &HashMap<String, ErrorCode>,
) -> MetadataResponse<'a> {
    let operations = match request.include_topic_authorized_operations {
        true => TOPIC_OPERATIONS,
        false => OPERATIONS_NOT_ASKED,
    };
    let all = match &request.topics {
        None => true,
        Some(topics) => version == 0 && topics.is_empty(),
    };
    let topics = if all {
        image.topics().map(|topic| topic_response(image, topic, operations, version)).collect()
    } else {
        let mut seen = HashSet::new();
        let asked = request.topics.iter().flatten();
        asked
            .filter(|topic| seen.insert((topic.topic_id, topic.name.as_deref())))
            .map(|topic| asked_topic(image, topic, operations, version, failures))
            .collect()
    };
    let brokers: Vec<_> = image
        .brokers()
        .filter(|broker| !broker.fenced)
        .filter_map(|broker| {
            let endpoint = broker.endpoint(CLIENT_LISTENER)?;
            Some(MetadataResponseBroker {
                node_id: broker.id.0,
                host: Cow::Borrowed(&endpoint.host),
                port: i32::from(endpoint.port),
                rack: broker.rack.as_deref().map(Cow::Borrowed),
                ..Default::default()
            })
        })
        .collect();
    MetadataResponse {
        controller_id,
        brokers,
        cluster_id: Some(Cow::Owned(protocol::uuid_text(image.cluster_id()))),
        topics,
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => CLUSTER_OPERATIONS,
            false => OPERATIONS_NOT_ASKED,
        },
        ..Default::default()
    }
}

fn asked_topic<'a>(
    image: &'a MetadataImage,
    asked: &'a MetadataRequestTopic<'_>,
    operations: i32,
    version: i16,
    failures: &HashMap<String, ErrorCode>,
) -> MetadataResponseTopic<'a> {
    let name = asked.name.as_deref();
    let (found, error) = match name {
        Some(name) if asked.topic_id.is_nil() => {
            let error = match failures.get(name) {
                Some(error) => *error,
                None if names::validate(name).is_err() => ErrorCode::INVALID_TOPIC_EXCEPTION,
                None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            };
            (image.topic(name), error)
        }
        _ => (image.topic_by_id(asked.topic_id), ErrorCode::UNKNOWN_TOPIC_ID),
    };
    if let Some(topic) = found {
        return topic_response(image, topic, operations, version);
    }
    let by_name = asked.topic_id.is_nil();
    MetadataResponseTopic {
        error_code: error.code(),
        name: if by_name { name.map(Cow::Borrowed) } else { None },
        topic_id: if by_name { Uuid::nil() } else { asked.topic_id },
        is_internal: name.is_some_and(names::is_internal),
        topic_authorized_operations: OPERATIONS_NOT_ASKED,
        ..Default::default()
    }
}

fn topic_response<'a>(
    image: &MetadataImage,
    topic: &'a TopicImage,
    operations: i32,
    version: i16,
) -> MetadataResponseTopic<'a> {
    let partitions = topic
        .indexed_partitions()
        .map(|(index, partition)| MetadataResponsePartition {
            error_code: partition_error(image, partition, version).code(),
            partition_index: index.0,
            leader_id: partition.leader.0,
            leader_epoch: partition.leader_epoch.0,
            replica_nodes: partition.replicas.iter().map(|id| id.0).collect(),
            isr_nodes: partition.in_sync_replicas.iter().map(|id| id.0).collect(),
            offline_replicas: offline_replicas(image, partition),
            ..Default::default()
        })
        .collect();
    MetadataResponseTopic {
        name: Some(Cow::Borrowed(&topic.name)),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions,
        topic_authorized_operations: operations,
        ..Default::default()
    }
}

/// Replicas on brokers that are fenced or gone.
pub(super) fn offline_replicas(image: &MetadataImage, partition: &PartitionImage) -> Vec<i32> {
    partition.replicas.iter().filter(|id| !image.is_active(**id)).map(|id| id.0).collect()
}

fn partition_error(image: &MetadataImage, partition: &PartitionImage, version: i16) -> ErrorCode {
    match image.broker(partition.leader).filter(|broker| !broker.fenced) {
        None => ErrorCode::LEADER_NOT_AVAILABLE,
        Some(broker) if broker.endpoint(CLIENT_LISTENER).is_some() => ErrorCode::NONE,
        Some(_) if version <= 5 => ErrorCode::LEADER_NOT_AVAILABLE,
        Some(_) => ErrorCode::LISTENER_NOT_FOUND,
    }
}
