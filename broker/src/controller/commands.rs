//! What handlers on any shard ask of the controller: each command crosses to shard 0 and comes back when all shards know.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use coord::CoordError;
use coord::metadata::decide::{
    AlterConfigs, ClusterView, ConfigRules, CreatePartitions, CreatePartitionsReply, CreateTopicsOptions,
    CreateTopicsReply, CreatedTopic, DeleteTopicsReply, ElectionType, FeatureUpdate, NewTopic,
    ProducerIdBlock, Reassignment, TopicSelector, allocate_producer_ids,
    alter_replica_configs as decide_alter_configs, check_reassignment,
    create_partitions as decide_create_partitions, create_topics as decide_create_topics,
    delete_topics as decide_delete_topics, elect_leaders as decide_elect_leaders,
    reassign_partitions as decide_reassign_partitions, unregister_broker as decide_unregister_broker,
    update_features as decide_update_features,
};
use coord::metadata::{DecideContext, Decision, MetadataImage};
use coord::planted::Planted;
use coord::quorum::MemberChange;
use coord::replica::AlterPartition;
use coord::types::{BrokerId, PartitionId, ProducerId};
use protocol::ErrorCode;
use protocol::messages::allocate_producer_ids::AllocateProducerIdsRequest;
use protocol::messages::alter_partition::{AlterPartitionRequest, BrokerState, PartitionData, TopicData};
use protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreatableTopicResult, CreateTopicsRequest,
};
use storage::TopicIdPartition;

use super::control::{PATIENCE, ask_own};
use super::{CONTROLLER_SHARD, ControllerError};
use crate::config::kafka_names;
use crate::groups::config::group_config;
use crate::shard::Shard;

const CREATE_TOPICS_VERSION: i16 = 7;
const ALLOCATE_PRODUCER_IDS_VERSION: i16 = 0;
const ALTER_PARTITION_VERSION: i16 = 3;

/// Has this node decide, if it is the active controller; answers when the decision is committed and all shards of this node know it.
pub async fn submit<R: Send + 'static>(
    shard: &Rc<Shard>,
    decide: impl FnOnce(&MetadataImage, &mut DecideContext<'_>) -> Result<Decision<R>, CoordError>
    + Send
    + 'static,
) -> Result<R, ControllerError> {
    let call = move |shard: &Rc<Shard>| {
        let commit = shard.metadata.controller.get().map(|controller| controller.commit(decide));
        let shard = Rc::clone(shard);
        async move {
            let Some(commit) = commit else { return Err(ControllerError::Stopped) };
            let (reply, index) = commit.await?;
            shard.metadata.applied.reach(index).await;
            Ok(reply)
        }
    };
    shard.mesh.call(CONTROLLER_SHARD, call).await
}

/// Like [`submit`], for decisions about replicas.
async fn submit_view<R: Send + 'static>(
    shard: &Rc<Shard>,
    decide: impl FnOnce(ClusterView<'_>) -> Result<Decision<R>, CoordError> + Send + 'static,
) -> Result<R, ControllerError> {
    let live = shard.live();
    let defaults = live.topic_defaults.clone();
    submit(shard, move |image, _| {
        decide(ClusterView { image, defaults: &defaults, planted: Planted::default() })
    })
    .await
}

/// Waits until all shards of this node know the entry.
async fn reach(shard: &Rc<Shard>, index: u64) {
    shard.mesh.call(CONTROLLER_SHARD, move |shard: &Rc<Shard>| shard.metadata.applied.reach(index)).await;
}

/// Creates topics, or only checks that they could be; an outcome for each name.
pub async fn create_topics(
    shard: &Rc<Shard>,
    topics: Vec<NewTopic>,
    validate_only: bool,
) -> Result<CreateTopicsReply, ControllerError> {
    let config = shard.config();
    let options = CreateTopicsOptions {
        validate_only,
        default_partitions: config.num_partitions,
        default_replication_factor: i16::try_from(config.default_replication_factor).unwrap_or(i16::MAX),
    };
    submit(shard, move |image, context| decide_create_topics(image, &topics, options, context)).await
}

/// A topic that was created, by the number of its partitions, or what a client is told instead.
pub type Creation = (String, Result<i32, (ErrorCode, String)>);

/// Creates topics wherever the active controller is: what this broker wants of itself.
pub async fn create_topics_anywhere(
    shard: &Rc<Shard>,
    topics: Vec<NewTopic>,
) -> Result<Vec<Creation>, ControllerError> {
    if shard.broker.cluster.is_none() {
        let reply = create_topics(shard, topics, false).await?;
        let told = |(name, outcome): (String, Result<CreatedTopic, CoordError>)| {
            let outcome = outcome.map(|created| created.num_partitions);
            (name, outcome.map_err(|error| (error.code(), error.to_string())))
        };
        return Ok(reply.into_iter().map(told).collect());
    }
    let request = CreateTopicsRequest {
        topics: topics.iter().map(creatable).collect(),
        timeout_ms: i32::try_from(PATIENCE.as_millis()).unwrap_or(i32::MAX),
        ..Default::default()
    };
    let asked = ask_own(shard, &request, CREATE_TOPICS_VERSION, PATIENCE, |response| {
        let told = |topic: &CreatableTopicResult<'_>| {
            let text = || topic.error_message.as_deref().unwrap_or_default().to_owned();
            let outcome = match ErrorCode(topic.error_code) {
                ErrorCode::NONE => Ok(topic.num_partitions),
                error => Err((error, text())),
            };
            (topic.name.to_string(), outcome)
        };
        response.topics.iter().map(told).collect()
    });
    let (created, index) = asked.await?;
    reach(shard, index).await;
    Ok(created)
}

fn creatable(topic: &NewTopic) -> CreatableTopic<'_> {
    let configs = topic.configs.iter().map(|(name, value)| CreatableTopicConfig {
        name: Cow::Borrowed(name),
        value: value.as_deref().map(Cow::Borrowed),
        ..Default::default()
    });
    CreatableTopic {
        name: Cow::Borrowed(&topic.name),
        num_partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        configs: configs.collect(),
        ..Default::default()
    }
}

/// Creates topics that a client has asked for in passing; returns what clients are told of those that could not be created. One that somebody else
/// has created meanwhile is as good as created.
pub async fn auto_create(shard: &Rc<Shard>, topics: Vec<NewTopic>) -> HashMap<String, ErrorCode> {
    let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
    let created = match create_topics_anywhere(shard, topics).await {
        Ok(created) => created,
        Err(error) => return names.into_iter().map(|name| (name, error.code())).collect(),
    };
    let mut failures = HashMap::new();
    for (name, outcome) in created {
        match outcome {
            Ok(partitions) => tracing::info!(topic = name, partitions, "topic created on demand"),
            Err((ErrorCode::TOPIC_ALREADY_EXISTS, _)) => {}
            Err((code, error)) => {
                tracing::warn!(topic = name, error, "topic not created on demand");
                failures.insert(name, code);
            }
        }
    }
    failures
}

/// Deletes topics; an outcome for each selector.
pub async fn delete_topics(
    shard: &Rc<Shard>,
    selectors: Vec<TopicSelector>,
) -> Result<DeleteTopicsReply, ControllerError> {
    submit(shard, move |image, _| Ok(decide_delete_topics(image, &selectors))).await
}

/// Adds partitions to topics, or only checks that they could be; an outcome for each topic.
pub async fn create_partitions(
    shard: &Rc<Shard>,
    commands: Vec<CreatePartitions>,
    validate_only: bool,
) -> Result<CreatePartitionsReply, ControllerError> {
    let decide = move |image: &MetadataImage, context: &mut DecideContext<'_>| {
        Ok(decide_create_partitions(image, &commands, validate_only, context))
    };
    submit(shard, decide).await
}

/// Changes configs of topics, brokers and groups, or only checks; an outcome for each resource.
pub async fn alter_configs(
    shard: &Rc<Shard>,
    resources: Vec<AlterConfigs>,
    validate_only: bool,
) -> Result<Vec<Result<(), CoordError>>, ControllerError> {
    let rules =
        ConfigRules { read_only: kafka_names::read_only_names(), group: group_config(shard.config()) };
    submit_view(shard, move |view| Ok(decide_alter_configs(view, &resources, &rules, validate_only))).await
}

/// Changes the levels of features, or only checks.
pub async fn update_features(
    shard: &Rc<Shard>,
    updates: Vec<FeatureUpdate>,
    validate_only: bool,
) -> Result<(), ControllerError> {
    let controller = shard.broker_id();
    submit(shard, move |image, _| decide_update_features(image, &updates, controller, validate_only)).await
}

/// Elects leaders for partitions, by the names of their topics; an outcome for each, in their order.
pub async fn elect_leaders(
    shard: &Rc<Shard>,
    partitions: Vec<(String, PartitionId)>,
    election: ElectionType,
) -> Result<Vec<Result<(), CoordError>>, ControllerError> {
    submit_view(shard, move |view| Ok(decide_elect_leaders(view, &partitions, election))).await
}

/// Starts, changes or calls off reassignments of partitions, by the names of their topics; an outcome for each, in their order.
pub async fn reassign_partitions(
    shard: &Rc<Shard>,
    reassignments: Vec<(String, PartitionId, Reassignment)>,
    allow_replication_factor_change: bool,
) -> Result<Vec<Result<(), CoordError>>, ControllerError> {
    let moves = shard.broker.cluster.is_some();
    submit_view(shard, move |view| {
        if moves {
            return Ok(decide_reassign_partitions(view, &reassignments, allow_replication_factor_change));
        }
        let check = |(topic, partition, reassignment): &(String, PartitionId, Reassignment)| {
            check_reassignment(view.image, topic, *partition, reassignment, allow_replication_factor_change)
        };
        Ok(Decision::unchanged(reassignments.iter().map(check).collect()))
    })
    .await
}

/// Removes the registration of a broker that is gone for good.
pub async fn unregister_broker(shard: &Rc<Shard>, broker: BrokerId) -> Result<(), ControllerError> {
    submit(shard, move |image, _| decide_unregister_broker(image, broker)).await?;
    let forget = move |shard: &Rc<Shard>| {
        let quorum = shard.metadata.quorum();
        async move {
            let Some(quorum) = quorum.filter(|quorum| quorum.members().learners.contains(&broker)) else {
                return;
            };
            // It would be sent the log for ever. If this fails, that is all the harm.
            if let Err(error) = quorum.change_members(MemberChange::Remove(broker)).await {
                tracing::info!(broker = broker.0, %error, "an unregistered broker is still sent the metadata log");
            }
        }
    };
    shard.mesh.call(CONTROLLER_SHARD, forget).await;
    Ok(())
}

/// A new block of producer ids for this broker.
pub async fn producer_id_block(shard: &Rc<Shard>) -> Result<ProducerIdBlock, ControllerError> {
    let broker = shard.broker_id();
    if shard.broker.cluster.is_none() {
        return submit(shard, move |image, _| allocate_producer_ids(image, broker)).await;
    }
    let request = AllocateProducerIdsRequest {
        broker_id: broker.0,
        broker_epoch: broker_epoch(shard)?,
        ..Default::default()
    };
    let asked =
        ask_own(shard, &request, ALLOCATE_PRODUCER_IDS_VERSION, PATIENCE, |response| {
            match ErrorCode(response.error_code) {
                ErrorCode::NONE => Some(ProducerIdBlock {
                    first: ProducerId(response.producer_id_start),
                    count: i64::from(response.producer_id_len),
                }),
                _ => None,
            }
        });
    asked.await?.0.ok_or(ControllerError::Busy)
}

fn broker_epoch(shard: &Shard) -> Result<i64, ControllerError> {
    let me = shard.broker_id();
    let registered = shard.image().broker(me).map(|broker| broker.broker_epoch);
    registered.ok_or(ControllerError::Refused(CoordError::BrokerIdNotRegistered(me.0)))
}

/// Proposes other in-sync replicas for partitions that this broker leads; an outcome for each, in their order. What was accepted is in the images of all shards when
/// this returns. An error says that nobody knows the outcome: ask the same again until the partition changes.
pub async fn alter_partition(
    shard: &Rc<Shard>,
    proposals: &[(TopicIdPartition, AlterPartition)],
) -> Result<Vec<Result<(), ErrorCode>>, ControllerError> {
    let data = |id: &TopicIdPartition, proposal: &AlterPartition| PartitionData {
        partition_index: id.partition.0,
        leader_epoch: proposal.leader_epoch.0,
        partition_epoch: proposal.partition_epoch,
        new_isr_with_epochs: proposal
            .in_sync_replicas
            .iter()
            .map(|(id, epoch)| BrokerState { broker_id: id.0, broker_epoch: *epoch, ..Default::default() })
            .collect(),
        ..Default::default()
    };
    // The order of the proposals is the order of the answer, so a topic may appear more than once.
    let topics = proposals.iter().map(|(id, proposal)| TopicData {
        topic_id: id.topic_id,
        partitions: vec![data(id, proposal)],
        ..Default::default()
    });
    let request = AlterPartitionRequest {
        broker_id: shard.broker_id().0,
        broker_epoch: broker_epoch(shard)?,
        topics: topics.collect(),
        ..Default::default()
    };
    let count = proposals.len();
    let asked = ask_own(shard, &request, ALTER_PARTITION_VERSION, PATIENCE, move |response| {
        let whole = ErrorCode(response.error_code);
        if whole != ErrorCode::NONE {
            return vec![Err(whole); count];
        }
        let outcomes = response.topics.iter().flat_map(|topic| &topic.partitions);
        outcomes
            .map(|partition| match ErrorCode(partition.error_code) {
                ErrorCode::NONE => Ok(()),
                error => Err(error),
            })
            .collect()
    });
    let (outcomes, index) = asked.await?;
    reach(shard, index).await;
    Ok(outcomes)
}
