//! What handlers on any shard ask of the controller: each command crosses to shard 0 and comes back when all shards know.

use std::collections::HashMap;
use std::rc::Rc;

use coord::CoordError;
use coord::metadata::decide::{
    AlterConfigs, ConfigRules, CreatePartitions, CreatePartitionsReply, CreateTopicsOptions,
    CreateTopicsReply, DeleteTopicsReply, FeatureUpdate, NewTopic, ProducerIdBlock, TopicSelector,
    allocate_producer_ids, alter_configs as decide_alter_configs,
    create_partitions as decide_create_partitions, create_topics as decide_create_topics,
    delete_topics as decide_delete_topics, unregister_broker as decide_unregister_broker,
    update_features as decide_update_features,
};
use coord::metadata::{DecideContext, Decision, MetadataImage};
use coord::types::BrokerId;
use protocol::ErrorCode;

use super::{CONTROLLER_SHARD, ControllerError};
use crate::config::kafka_names;
use crate::groups::config::group_config;
use crate::shard::Shard;

/// Runs a decision on the controller.
pub async fn submit<R: Send + 'static>(
    shard: &Rc<Shard>,
    decide: impl FnOnce(&MetadataImage, &mut DecideContext<'_>) -> Result<Decision<R>, CoordError>
    + Send
    + 'static,
) -> Result<R, ControllerError> {
    let call = move |shard: &Rc<Shard>| {
        let commit = shard.metadata.controller.get().map(|controller| controller.commit(decide));
        async move {
            match commit {
                Some(commit) => commit.await,
                None => Err(ControllerError::Stopped),
            }
        }
    };
    shard.mesh.call(CONTROLLER_SHARD, call).await
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

/// Creates topics that a client has asked for in passing; returns what clients are told of those that could not be created. One that somebody else
/// has created meanwhile is as good as created.
pub async fn auto_create(shard: &Rc<Shard>, topics: Vec<NewTopic>) -> HashMap<String, ErrorCode> {
    let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
    match create_topics(shard, topics, false).await {
        Ok(reply) => reply
            .into_iter()
            .filter_map(|(name, outcome)| match outcome {
                Ok(created) => {
                    tracing::info!(
                        topic = name,
                        partitions = created.num_partitions,
                        "topic created on demand"
                    );
                    None
                }
                Err(CoordError::TopicAlreadyExists(_)) => None,
                Err(error) => {
                    tracing::warn!(topic = name, %error, "topic not created on demand");
                    Some((name, error.code()))
                }
            })
            .collect(),
        Err(error) => names.into_iter().map(|name| (name, error.code())).collect(),
    }
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
    submit(shard, move |image, _| Ok(decide_alter_configs(image, &resources, &rules, validate_only))).await
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

/// Removes the registration of a broker that is gone for good.
pub async fn unregister_broker(shard: &Rc<Shard>, broker: BrokerId) -> Result<(), ControllerError> {
    submit(shard, move |image, _| decide_unregister_broker(image, broker)).await
}

/// A new block of producer ids for this broker.
pub async fn producer_id_block(shard: &Rc<Shard>) -> Result<ProducerIdBlock, ControllerError> {
    let broker = BrokerId(shard.config().node_id);
    submit(shard, move |image, _| allocate_producer_ids(image, broker)).await
}
