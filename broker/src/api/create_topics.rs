//! CreateTopics (key 19).
//!
//! The answer is given when the topics are in the metadata log and every shard has their partitions. Rules and messages are those of
//! `coord::metadata::decide`; this file translates. Source: `ControllerApis.createTopics`.

use std::borrow::Cow;

use coord::config::{TOPIC_CONFIGS, TopicDefaults, effective_config};
use coord::metadata::decide::{CreatedTopic, NewTopic};
use coord::types::BrokerId;
use protocol::ErrorCode;
use protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};

use super::{Answer, Call};
use crate::controller;

/// Creates the topics, or only checks them.
pub async fn handle(call: Call) -> Answer {
    let request: CreateTopicsRequest<'_> = call.decode()?;
    let topics: Vec<NewTopic> = request.topics.iter().map(new_topic).collect();
    let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
    let outcome = controller::create_topics(&call.shard, topics, request.validate_only).await;
    let live = call.shard.live();
    let results = match outcome {
        Ok(reply) => reply
            .into_iter()
            .map(|(name, outcome)| match outcome {
                Ok(created) => created_result(name, &created, &live.topic_defaults),
                Err(error) => failed_result(name, error.code(), error.to_string()),
            })
            .collect(),
        // The whole request failed: each topic says so.
        Err(error) => {
            names.into_iter().map(|name| failed_result(name, error.code(), error.to_string())).collect()
        }
    };
    call.respond(&CreateTopicsResponse { topics: results, ..Default::default() })
}

fn new_topic(topic: &CreatableTopic<'_>) -> NewTopic {
    NewTopic {
        name: topic.name.to_string(),
        num_partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .iter()
            .map(|a| (a.partition_index, a.broker_ids.iter().copied().map(BrokerId).collect()))
            .collect(),
        configs: topic
            .configs
            .iter()
            .map(|config| (config.name.to_string(), config.value.as_deref().map(str::to_owned)))
            .collect(),
    }
}

fn created_result(
    name: String,
    created: &CreatedTopic,
    defaults: &TopicDefaults,
) -> CreatableTopicResult<'static> {
    let configs = TOPIC_CONFIGS
        .iter()
        .map(|definition| {
            let config = effective_config(definition, &created.configs, defaults);
            CreatableTopicConfigs {
                name: Cow::Borrowed(definition.name),
                value: Some(Cow::Owned(config.value)),
                config_source: config.source.wire(),
                ..Default::default()
            }
        })
        .collect();
    CreatableTopicResult {
        name: Cow::Owned(name),
        topic_id: created.id,
        num_partitions: created.num_partitions,
        replication_factor: created.replication_factor,
        configs: Some(configs),
        error_message: None,
        ..Default::default()
    }
}

fn failed_result(name: String, error: ErrorCode, message: String) -> CreatableTopicResult<'static> {
    CreatableTopicResult {
        name: Cow::Owned(name),
        error_code: error.code(),
        error_message: Some(Cow::Owned(message)),
        ..Default::default()
    }
}
