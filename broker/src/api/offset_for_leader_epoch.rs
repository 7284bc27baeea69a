//! OffsetForLeaderEpoch (key 23): where a leader epoch ended, so that a consumer notices lost records (KIP-320).
//!
//! Source: `KafkaApis.handleOffsetForLeaderEpochRequest`, `LeaderEpochFileCache.endOffsetFor`.

use futures::future::join_all;
use protocol::ErrorCode;
use protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
};
use storage::LeaderEpoch;

use super::{Answer, Call};
use crate::partitions::{self, LedPartition, TopicName, check_leader_epoch};

/// Asks every partition's owner.
pub async fn handle(call: Call) -> Answer {
    let request: OffsetForLeaderEpochRequest<'_> = call.decode()?;
    let mut answers = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let led = find(&call, &topic.topic, partition);
            let epoch = LeaderEpoch(partition.leader_epoch);
            let shard = &call.shard;
            answers.push(async move {
                let led = led?;
                let ask = shard.mesh.call(led.owner, move |shard| {
                    let end = shard.log(&led.id).map(|log| log.end_offset_for_epoch(epoch));
                    std::future::ready(end.ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER))
                });
                ask.await
            });
        }
    }
    let mut answers = join_all(answers).await.into_iter();
    let topics = request.topics.iter().map(|topic| OffsetForLeaderTopicResult {
        topic: topic.topic.as_ref().into(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| match answers.next().expect("one answer per question") {
                // An epoch newer than all that the log has.
                Ok(None) => EpochEndOffset { partition: partition.partition, ..Default::default() },
                Ok(Some((epoch, end_offset))) => EpochEndOffset {
                    partition: partition.partition,
                    leader_epoch: epoch.0,
                    end_offset: end_offset.0,
                    ..Default::default()
                },
                Err(error) => EpochEndOffset {
                    partition: partition.partition,
                    error_code: error.code(),
                    ..Default::default()
                },
            })
            .collect(),
        ..Default::default()
    });
    call.respond(&OffsetForLeaderEpochResponse { topics: topics.collect(), ..Default::default() })
}

fn find(
    call: &Call,
    topic: &str,
    partition: &OffsetForLeaderPartition<'_>,
) -> Result<LedPartition, ErrorCode> {
    let image = call.shard.image();
    let topic = partitions::find_topic(&image, TopicName::Name(topic))?;
    let led = partitions::find_led(&call.shard, topic, partition.partition)?;
    check_leader_epoch(partition.current_leader_epoch, led.leader_epoch)?;
    Ok(led)
}
