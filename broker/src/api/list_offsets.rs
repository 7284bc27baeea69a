//! ListOffsets (key 2): where a log starts, ends, or reaches a timestamp.
//!
//! A replica id of -2 (Kafka's `DEBUGGING_REPLICA_ID`) asks for the end of this broker's replica, whoever leads: so tools find out how far followers are.
//!
//! Source: KIP-79 (timestamps), KIP-98 (isolation), KIP-734 (maximum timestamp), KIP-405 (local log), `KafkaApis.handleListOffsetRequest`.

use std::collections::HashSet;
use std::rc::Rc;

use futures::future::join_all;
use protocol::ErrorCode;
use protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use storage::{Offset, TopicIdPartition};

use super::{Answer, Call};
use crate::fetching::Isolation;
use crate::partitions::{self, HeldPartition, TopicName, check_leader_epoch};
use crate::shard::Shard;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const UNKNOWN: i64 = -1;
const ANY_REPLICA: i32 = -2;
const FIRST_VERSION_WITH_EPOCHS: i16 = 4;
const FIRST_VERSION_WITH_OFFSET_NOT_AVAILABLE: i16 = 5;

/// One partition's question, on its way to the owner.
#[derive(Debug, Clone, Copy)]
struct Question {
    held: HeldPartition,
    timestamp: i64,
    asked: Asked,
}

/// Whose records count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Those that a consumer of the leader may read.
    Leader(Isolation),
    /// All that this broker has, whether it leads or follows.
    Replica,
}

/// What is known of the place asked for.
#[derive(Debug, Clone, Copy)]
struct Place {
    timestamp: i64,
    offset: i64,
    leader_epoch: i32,
}

impl Place {
    const NOWHERE: Place = Place { timestamp: UNKNOWN, offset: UNKNOWN, leader_epoch: UNKNOWN as i32 };
}

/// Asks every partition's owner.
pub async fn handle(call: Call) -> Answer {
    let request: ListOffsetsRequest<'_> = call.decode()?;
    let asked = match request.replica_id {
        ANY_REPLICA => Asked::Replica,
        _ => Asked::Leader(Isolation::from_wire(request.isolation_level)),
    };
    let repeated = repeated_partitions(&request);
    let mut answers = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let is_repeated = repeated.contains(&(topic.name.as_ref(), partition.partition_index));
            let question = if is_repeated {
                Err(ErrorCode::INVALID_REQUEST)
            } else {
                question(&call, &topic.name, partition, asked)
            };
            let shard = &call.shard;
            answers.push(async move {
                let question = question?;
                shard.mesh.call(question.held.owner, move |shard| answer(shard.clone(), question)).await
            });
        }
    }
    let mut answers = join_all(answers).await.into_iter();
    let topics = request.topics.iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name.as_ref().into(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| {
                row(call.version, partition.partition_index, answers.next().expect("one answer per question"))
            })
            .collect(),
        ..Default::default()
    });
    call.respond(&ListOffsetsResponse { topics: topics.collect(), ..Default::default() })
}

fn repeated_partitions<'a>(request: &'a ListOffsetsRequest<'_>) -> HashSet<(&'a str, i32)> {
    let mut seen = HashSet::new();
    let mut repeated = HashSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let key = (topic.name.as_ref(), partition.partition_index);
            if !seen.insert(key) {
                repeated.insert(key);
            }
        }
    }
    repeated
}

fn question(
    call: &Call,
    topic: &str,
    partition: &ListOffsetsPartition<'_>,
    asked: Asked,
) -> Result<Question, ErrorCode> {
    let image = call.shard.image();
    let topic = partitions::find_topic(&image, TopicName::Name(topic))?;
    let held = partitions::find_held(&call.shard, topic, partition.partition_index)?;
    check_leader_epoch(partition.current_leader_epoch, held.leader_epoch)?;
    if asked != Asked::Replica && !held.is_led {
        return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }
    let since = match partition.timestamp {
        0.. | LATEST | EARLIEST => 1,
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        _ => return Err(ErrorCode::UNSUPPORTED_VERSION),
    };
    if call.version < since {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    Ok(Question { held, timestamp: partition.timestamp, asked })
}

async fn answer(shard: Rc<Shard>, question: Question) -> Result<Place, ErrorCode> {
    let log = shard.log(&question.held.id).ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
    let offsets = log.offsets();
    let end = match question.asked {
        Asked::Leader(isolation) => isolation.end(&offsets),
        Asked::Replica => offsets.log_end_offset,
    };
    let asks_for_start = matches!(question.timestamp, EARLIEST | EARLIEST_LOCAL);
    let asks_leader = question.asked != Asked::Replica;
    if log.is_replicated() && asks_leader && !asks_for_start && !knows_latest(&shard, &question.held.id) {
        return Err(ErrorCode::OFFSET_NOT_AVAILABLE);
    }
    let current_epoch = question.held.leader_epoch.0;
    let place = |timestamp, offset: Offset, leader_epoch| Place { timestamp, offset: offset.0, leader_epoch };
    let found = match question.timestamp {
        LATEST => return Ok(place(UNKNOWN, end, current_epoch)),
        EARLIEST | EARLIEST_LOCAL => {
            let start = offsets.log_start_offset;
            let epoch = log.epoch_for_offset(start).map_or(UNKNOWN as i32, |epoch| epoch.0);
            return Ok(place(UNKNOWN, start, epoch));
        }
        // There is no tier, so nothing has been moved to it.
        LATEST_TIERED => return Ok(Place::NOWHERE),
        MAX_TIMESTAMP => log.max_timestamp().await.map_err(|error| error.code())?,
        timestamp => log.offset_for_timestamp(timestamp).await.map_err(|error| error.code())?,
    };
    Ok(match found {
        Some(found) if found.offset < end => {
            let epoch = log.epoch_for_offset(found.offset).map_or(UNKNOWN as i32, |epoch| epoch.0);
            place(found.timestamp, found.offset, epoch)
        }
        _ => Place::NOWHERE,
    })
}

/// Whether a leader has heard from its followers how far everything is committed (KIP-207).
fn knows_latest(shard: &Shard, id: &TopicIdPartition) -> bool {
    shard.replication.replicas.get(id).is_some_and(|hosted| hosted.knows_latest_offset())
}

fn row(
    version: i16,
    partition_index: i32,
    answer: Result<Place, ErrorCode>,
) -> ListOffsetsPartitionResponse<'static> {
    let (error, place) = match answer {
        Ok(place) => (ErrorCode::NONE, place),
        // Older clients do not know the code, and try again for this one, too.
        Err(ErrorCode::OFFSET_NOT_AVAILABLE) if version < FIRST_VERSION_WITH_OFFSET_NOT_AVAILABLE => {
            (ErrorCode::LEADER_NOT_AVAILABLE, Place::NOWHERE)
        }
        Err(error) => (error, Place::NOWHERE),
    };
    ListOffsetsPartitionResponse {
        partition_index,
        error_code: error.code(),
        timestamp: place.timestamp,
        offset: place.offset,
        leader_epoch: if version >= FIRST_VERSION_WITH_EPOCHS { place.leader_epoch } else { UNKNOWN as i32 },
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::table;
    use protocol::{ApiKey, frame::encode_response};

    #[test]
    fn an_answer_with_an_epoch_can_be_encoded_in_every_version_served() {
        let served = table::find(ApiKey::ListOffsets as i16).unwrap();
        for version in served.min_version..=served.max_version {
            let place = Place { timestamp: 5, offset: 7, leader_epoch: 3 };
            let topic = ListOffsetsTopicResponse {
                partitions: vec![row(version, 0, Ok(place))],
                ..Default::default()
            };
            let response = ListOffsetsResponse { topics: vec![topic], ..Default::default() };
            assert!(encode_response(1, &response, version).is_ok(), "version {version}");
        }
    }
}
