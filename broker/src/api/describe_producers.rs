//! DescribeProducers (key 61): the idempotent producers that partitions remember (KIP-664).
//!
//! Source: `ReplicaManager.activeProducerState`.

use std::borrow::Cow;

use coord::CoordError;
use coord::metadata::names;
use futures::future::join_all;
use protocol::ErrorCode;
use protocol::messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};

use super::{Answer, Call};
use crate::logs::ShardLog;
use crate::partitions::{self, LedPartition, TopicName};

/// Why a partition's producers cannot be told.
type Refused = (ErrorCode, String);

/// There are no transactions yet.
const NONE: i32 = -1;

/// Asks every partition's owner.
pub async fn handle(call: Call) -> Answer {
    let request: DescribeProducersRequest<'_> = call.decode()?;
    let mut answers = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partition_indexes {
            let led = find(&call, &topic.name, *partition);
            let shard = &call.shard;
            answers.push(async move {
                let led = led?;
                let ask = shard.mesh.call(led.owner, move |shard| {
                    std::future::ready(shard.log(&led.id).as_ref().map(producers))
                });
                ask.await.ok_or_else(|| unexplained(ErrorCode::NOT_LEADER_OR_FOLLOWER))
            });
        }
    }
    let mut answers = join_all(answers).await.into_iter();
    let topics = request.topics.iter().map(|topic| TopicResponse {
        name: topic.name.as_ref().into(),
        partitions: topic
            .partition_indexes
            .iter()
            .map(|partition| row(*partition, answers.next().expect("one answer per question")))
            .collect(),
        ..Default::default()
    });
    call.respond(&DescribeProducersResponse { topics: topics.collect(), ..Default::default() })
}

fn find(call: &Call, topic: &str, partition: i32) -> Result<LedPartition, Refused> {
    names::validate(topic).map_err(|error| (error.code(), error.to_string()))?;
    let image = call.shard.image();
    let topic = partitions::find_topic(&image, TopicName::Name(topic)).map_err(unexplained)?;
    partitions::find_led(&call.shard, topic, partition).map_err(unexplained)
}

fn unexplained(error: ErrorCode) -> Refused {
    let text = match error {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => CoordError::UnknownTopicOrPartition.to_string(),
        _ => error.message().to_owned(),
    };
    (error, text)
}

fn producers(log: &ShardLog) -> Vec<ProducerState<'static>> {
    let known = log.producers().into_iter();
    let state = known.map(|(producer_id, epoch, last_sequence, _, last_timestamp)| ProducerState {
        producer_id: producer_id.0,
        producer_epoch: i32::from(epoch),
        last_sequence,
        last_timestamp,
        coordinator_epoch: NONE,
        current_txn_start_offset: i64::from(NONE),
        ..Default::default()
    });
    state.collect()
}

fn row(
    partition_index: i32,
    answer: Result<Vec<ProducerState<'static>>, Refused>,
) -> PartitionResponse<'static> {
    match answer {
        Ok(active_producers) => {
            PartitionResponse { partition_index, active_producers, error_message: None, ..Default::default() }
        }
        Err((error, message)) => PartitionResponse {
            partition_index,
            error_code: error.code(),
            error_message: Some(Cow::Owned(message)),
            ..Default::default()
        },
    }
}
