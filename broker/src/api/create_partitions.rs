//! CreatePartitions (key 37): a topic grows (KIP-195).
//!
//! Answered when every shard has the new partitions. Source: `ControllerApis.createPartitions`, `ReplicationControlManager.createPartitions`.

use std::borrow::Cow;

use coord::CoordError;
use coord::metadata::decide::CreatePartitions;
use coord::types::BrokerId;
use protocol::ErrorCode;
use protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
};

use super::{Answer, Call};
use crate::controller;

/// Adds the partitions, or only checks.
pub async fn handle(call: Call) -> Answer {
    let request: CreatePartitionsRequest<'_> = call.decode()?;
    let commands: Vec<CreatePartitions> = request.topics.iter().map(command).collect();
    let outcome = controller::create_partitions(&call.shard, commands, request.validate_only).await;
    let results = match outcome {
        Ok(reply) => reply
            .into_iter()
            .map(|(name, outcome)| match outcome {
                Ok(()) => result(name, ErrorCode::NONE, None),
                // Kafka gives no text here.
                Err(CoordError::UnknownTopicOrPartition) => {
                    result(name, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None)
                }
                Err(error) => result(name, error.code(), Some(error.to_string())),
            })
            .collect(),
        Err(error) => request
            .topics
            .iter()
            .map(|topic| result(topic.name.to_string(), error.code(), Some(error.to_string())))
            .collect(),
    };
    call.respond(&CreatePartitionsResponse { results, ..Default::default() })
}

fn command(topic: &CreatePartitionsTopic<'_>) -> CreatePartitions {
    let brokers = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
    let assignments = topic.assignments.as_ref();
    CreatePartitions {
        topic: topic.name.to_string(),
        count: topic.count,
        assignments: assignments.map(|all| all.iter().map(|one| brokers(&one.broker_ids)).collect()),
    }
}

fn result(name: String, error: ErrorCode, message: Option<String>) -> CreatePartitionsTopicResult<'static> {
    CreatePartitionsTopicResult {
        name: Cow::Owned(name),
        error_code: error.code(),
        error_message: message.map(Cow::Owned),
        ..Default::default()
    }
}
