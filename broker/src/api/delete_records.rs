//! DeleteRecords (key 21): moves the start of logs forward (KIP-107).
//!
//! Answered when the new start is durable; segments that lie wholly below it go with the next look at retention. Source:
//! `KafkaApis.handleDeleteRecordsRequest`, `ReplicaManager.deleteRecordsOnLocalLog`, `Partition.deleteRecordsOnLeader`.

use std::collections::BTreeMap;
use std::rc::Rc;

use futures::future::join_all;
use protocol::ErrorCode;
use protocol::messages::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use storage::Offset;

use super::{Answer, Call};
use crate::partitions::{self, LedPartition, TopicName};
use crate::shard::Shard;

/// What is told as the log's start when nothing was deleted.
const UNKNOWN: i64 = -1;

/// Asks every partition's owner. Of a partition that is named more than once the last offset counts, as in Kafka.
pub async fn handle(call: Call) -> Answer {
    let request: DeleteRecordsRequest<'_> = call.decode()?;
    let mut wanted: BTreeMap<&str, BTreeMap<i32, i64>> = BTreeMap::new();
    for topic in &request.topics {
        let partitions = wanted.entry(topic.name.as_ref()).or_default();
        partitions.extend(topic.partitions.iter().map(|p| (p.partition_index, p.offset)));
    }
    let questions = wanted.iter().flat_map(|(topic, partitions)| {
        partitions.iter().map(|(partition, offset)| {
            let led = find(&call, topic, *partition);
            let before = Offset(*offset);
            let shard = &call.shard;
            async move {
                let led = led?;
                shard.mesh.call(led.owner, move |shard| delete(Rc::clone(shard), led, before)).await
            }
        })
    });
    let mut answers = join_all(questions).await.into_iter();
    let topics = wanted.iter().map(|(topic, partitions)| DeleteRecordsTopicResult {
        name: (*topic).into(),
        partitions: partitions
            .keys()
            .map(|partition| row(*partition, answers.next().expect("one answer per question")))
            .collect(),
        ..Default::default()
    });
    call.respond(&DeleteRecordsResponse { topics: topics.collect(), ..Default::default() })
}

fn row(partition_index: i32, answer: Result<i64, ErrorCode>) -> DeleteRecordsPartitionResult<'static> {
    let (low_watermark, error_code) = match answer {
        Ok(log_start) => (log_start, 0),
        Err(error) => (UNKNOWN, error.code()),
    };
    DeleteRecordsPartitionResult { partition_index, low_watermark, error_code, ..Default::default() }
}

fn find(call: &Call, topic: &str, partition: i32) -> Result<LedPartition, ErrorCode> {
    let image = call.shard.image();
    let topic = partitions::find_topic(&image, TopicName::Name(topic))?;
    let led = partitions::find_led(&call.shard, topic, partition)?;
    if topic.is_internal() { Err(ErrorCode::INVALID_TOPIC_EXCEPTION) } else { Ok(led) }
}

/// On the owner: the log's start after the deletion.
async fn delete(shard: Rc<Shard>, led: LedPartition, before: Offset) -> Result<i64, ErrorCode> {
    let log = shard.log(&led.id).ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
    if !log.config().cleanup_delete {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let deleted = log.delete_records(before).await;
    deleted.map(|log_start| log_start.0).map_err(|error| error.code())
}
