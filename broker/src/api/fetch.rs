//! Fetch (key 1): record batches from the cache or the segments to the socket, without copying.
//!
//! A request below `min_bytes` parks on the shards that own its partitions until enough is there or `max_wait_ms` is over;
//! it is woken by appends. Answers consist of small encoded headers and the stored batches themselves.
//!
//! Source: KIP-227 (sessions), KIP-320 and KIP-595 (epochs), KIP-516 (topic ids), `KafkaApis.handleFetchRequest`, `DelayedFetch`.

use std::borrow::Cow;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::{Either, join_all, select, select_all};
use protocol::ErrorCode;
use protocol::messages::fetch::{
    EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use protocol::wire::Records;
use tokio::sync::oneshot;

use super::{Answer, Call};
use crate::budget::{self, Permit};
use crate::fetch_session::{
    FetchPartition, FetchPlan, FinishedFetch, PartitionNews, SessionRequest, TopicRef,
};
use crate::fetching::{self, Isolation, PartitionRead, ReadLimits, ReadResult};
use crate::logs;
use crate::net::DispatchOutcome;
use crate::partitions::{self, TopicName};
use crate::placement::ShardId;
use crate::runtime;
use crate::shard::Shard;

const FIRST_VERSION_WITH_TOPIC_IDS: i16 = 13;
/// An answer takes at most this fraction of a shard's memory for requests …
const MEMORY_FRACTION_PER_ANSWER: u64 = 64;
/// … but may always have so much.
const MEMORY_PER_ANSWER_MIN: usize = 1 << 20;

/// Reads, waits if there is too little, and answers.
pub async fn handle(call: Call) -> Answer {
    let request: FetchRequest<'_> = call.decode()?;
    let uses_topic_ids = call.version >= FIRST_VERSION_WITH_TOPIC_IDS;
    let session_request = session_request(&request, uses_topic_ids);
    let shard = &call.shard;
    let begun = shard.fetch_sessions.borrow_mut().begin(session_request, logs::now_ms());
    let plan = match begun {
        Ok(plan) => plan,
        Err(error) => return call.respond(&FetchResponse { error_code: error.code(), ..Default::default() }),
    };
    // Reading takes memory until the client has taken the answer, so only the front of the connection's queue reads.
    runtime::wait_for_next_poll().await;
    let limits = ReadLimits {
        max_bytes: (request.max_bytes.max(0) as usize).min(max_response_bytes(shard)),
        isolation: Isolation::from_wire(request.isolation_level),
    };
    let wait = FetchWait {
        min_bytes: (request.min_bytes.max(0) as usize).min(limits.max_bytes),
        deadline: Instant::now() + Duration::from_millis(request.max_wait_ms.max(0) as u64),
    };

    let (mut results, memory) = read_or_wait(&call, &plan, limits, wait).await;
    apply_total_limit(&mut results, limits.max_bytes);
    let news: Vec<_> = results.iter().map(news_of).collect();
    let finished = shard.fetch_sessions.borrow_mut().finish(&plan, &news, uses_topic_ids, logs::now_ms());
    if let Some(connection) = &call.connection {
        connection.fetch_session.set(finished.session_id);
    }
    let mut answer = call.respond(&response(plan, results, finished))?;
    if let DispatchOutcome::Respond(segments) = &mut answer {
        hold(segments, memory);
    }
    Ok(answer)
}

/// Most bytes of one answer: the configured limit, and no more than a fraction of the shard's memory, so that a few clients that do not take
/// their answers leave enough for others.
fn max_response_bytes(shard: &Shard) -> usize {
    let share = shard.budget.total_bytes() / MEMORY_FRACTION_PER_ANSWER;
    let share = usize::try_from(share).unwrap_or(usize::MAX).max(MEMORY_PER_ANSWER_MIN);
    share.min(shard.config().fetch_max_bytes as usize)
}

/// Gives back the memory of an answer when its last segment has been sent.
fn hold(segments: &mut [Bytes], memory: Vec<Permit>) {
    if let Some(last) = segments.last_mut()
        && !memory.is_empty()
    {
        *last = budget::charged(std::mem::take(last), memory);
    }
}

fn session_request(request: &FetchRequest<'_>, uses_topic_ids: bool) -> SessionRequest {
    let topic_ref = |name: &str, id: uuid::Uuid| {
        if uses_topic_ids { TopicRef::Id(id) } else { TopicRef::Name(Arc::from(name)) }
    };
    let mut partitions = Vec::new();
    for topic in &request.topics {
        let topic_ref = topic_ref(&topic.topic, topic.topic_id);
        partitions.extend(topic.partitions.iter().map(|partition| FetchPartition {
            topic: topic_ref.clone(),
            partition: partition.partition,
            current_leader_epoch: partition.current_leader_epoch,
            fetch_offset: partition.fetch_offset,
            last_fetched_epoch: partition.last_fetched_epoch,
            max_bytes: partition.partition_max_bytes,
        }));
    }
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        let topic_ref = topic_ref(&topic.topic, topic.topic_id);
        forgotten.extend(topic.partitions.iter().map(|&partition| (topic_ref.clone(), partition)));
    }
    SessionRequest {
        session_id: request.session_id,
        epoch: request.session_epoch,
        uses_topic_ids,
        partitions,
        forgotten,
    }
}

/// How long a request may wait for how much.
#[derive(Debug, Clone, Copy)]
struct FetchWait {
    min_bytes: usize,
    deadline: Instant,
}

/// The reads of one request by shard, each with its places in the plan.
type Groups = Vec<(ShardId, Vec<(usize, PartitionRead)>)>;

async fn read_or_wait(
    call: &Call,
    plan: &FetchPlan,
    limits: ReadLimits,
    wait: FetchWait,
) -> (Vec<ReadResult>, Vec<Permit>) {
    let shard = &call.shard;
    let mut bytes_before = None;
    loop {
        let (mut results, groups) = route(shard, plan);
        groups.iter().for_each(|(owner, _)| call.note_call(*owner));
        let memory = read(shard, &groups, limits, &mut results).await;
        let bytes: usize = results.iter().map(|result| result.bytes).sum();
        let is_enough = bytes >= wait.min_bytes || results.iter().any(ReadResult::is_urgent);
        // Woken for more, but no further whole batch fits the limits: this is what there is.
        let is_stuck = bytes_before.is_some_and(|before| bytes <= before);
        let left = wait.deadline.saturating_duration_since(Instant::now());
        if is_enough || is_stuck || left.is_zero() || groups.is_empty() {
            return (results, memory);
        }
        let have: Vec<usize> = groups
            .iter()
            .map(|(_, group)| group.iter().map(|(place, _)| results[*place].bytes).sum())
            .collect();
        // Nothing of the cache is held while waiting.
        drop((results, memory));
        let missing = wait.min_bytes - bytes;
        if !wait_for_bytes(shard, &groups, limits.isolation, &have, missing, left).await {
            // No more waiting: one last look.
            bytes_before = Some(usize::MAX);
            continue;
        }
        bytes_before = Some(bytes);
    }
}

/// Finds every partition's log; those that cannot be read have their result already.
fn route(shard: &Rc<Shard>, plan: &FetchPlan) -> (Vec<ReadResult>, Groups) {
    let image = shard.image();
    let mut results = Vec::with_capacity(plan.partitions.len());
    let mut reads = Vec::with_capacity(plan.partitions.len());
    for (place, partition) in plan.partitions.iter().enumerate() {
        let name = match &partition.topic {
            TopicRef::Name(name) => TopicName::Name(name),
            TopicRef::Id(id) => TopicName::Id(*id),
        };
        let led = partitions::find_topic(&image, name)
            .and_then(|topic| partitions::find_led(shard, topic, partition.partition));
        match led {
            Ok(led) => {
                let read = PartitionRead {
                    id: led.id,
                    leader_epoch: led.leader_epoch,
                    client_leader_epoch: partition.current_leader_epoch,
                    fetch_offset: partition.fetch_offset,
                    last_fetched_epoch: partition.last_fetched_epoch,
                    max_bytes: partition.max_bytes.max(0) as usize,
                };
                reads.push((led.owner, (place, read)));
                // Replaced when the owner has answered.
                results.push(ReadResult::failed(ErrorCode::UNKNOWN_SERVER_ERROR));
            }
            Err(error) => results.push(ReadResult::failed(error)),
        }
    }
    (results, partitions::by_owner(shard.count(), reads))
}

async fn read(
    shard: &Rc<Shard>,
    groups: &Groups,
    limits: ReadLimits,
    results: &mut [ReadResult],
) -> Vec<Permit> {
    let reads_of = |group: &[(usize, PartitionRead)]| group.iter().map(|(_, read)| *read).collect::<Vec<_>>();
    let answers = match &groups[..] {
        [(owner, group)] if *owner == shard.id => {
            shard.mesh.note_local_call();
            vec![fetching::read_all(shard.clone(), reads_of(group), limits).await]
        }
        _ => {
            let calls = groups.iter().map(|(owner, group)| {
                let reads = reads_of(group);
                shard.mesh.call(*owner, move |shard| fetching::read_all(shard.clone(), reads, limits))
            });
            join_all(calls.collect::<Vec<_>>()).await
        }
    };
    let mut memory = Vec::new();
    for ((_, group), answer) in groups.iter().zip(answers) {
        for ((place, _), result) in group.iter().zip(answer.results) {
            results[*place] = result;
        }
        memory.extend(answer.permit);
    }
    memory
}

/// Waits until the request is worth reading again; false if time is over or the broker stops first. `have` is what each group had when it was read.
///
/// With several shards each waits for an equal part of the missing bytes: when all of them are there, at least one shard has its part.
async fn wait_for_bytes(
    shard: &Rc<Shard>,
    groups: &Groups,
    isolation: Isolation,
    have: &[usize],
    missing: usize,
    left: Duration,
) -> bool {
    let share = missing.div_ceil(groups.len()).max(1);
    let mut cancels = Vec::with_capacity(groups.len());
    let waits = groups.iter().zip(have).map(|((owner, group), have)| {
        let reads: Vec<_> = group.iter().map(|(_, read)| *read).collect();
        let (cancel, cancelled) = oneshot::channel();
        cancels.push(cancel);
        let threshold = have + share;
        let wait = shard.mesh.call(*owner, move |shard| {
            fetching::wait_for_bytes(shard.clone(), reads, isolation, threshold, cancelled)
        });
        Box::pin(wait)
    });
    let waits: Vec<_> = waits.collect();
    let mut is_draining = shard.is_draining.subscribe();
    let stopping = pin!(is_draining.wait_for(|is_draining| *is_draining));
    matches!(runtime::timeout(left, select(select_all(waits), stopping)).await, Some(Either::Left(_)))
}

/// The limit holds for all shards together; each has kept it for itself.
fn apply_total_limit(results: &mut [ReadResult], max_bytes: usize) {
    let mut left = max_bytes;
    let mut is_first = true;
    for result in results.iter_mut().filter(|result| result.bytes > 0) {
        if !is_first {
            result.trim(left);
        }
        is_first = false;
        left = left.saturating_sub(result.bytes);
    }
}

fn news_of(result: &ReadResult) -> PartitionNews {
    PartitionNews {
        error: result.error,
        high_watermark: result.high_watermark,
        log_start_offset: result.log_start_offset,
        bytes: result.bytes,
        has_hint: result.diverging.is_some(),
    }
}

fn response(plan: FetchPlan, results: Vec<ReadResult>, finished: FinishedFetch) -> FetchResponse<'static> {
    let mut responses: Vec<FetchableTopicResponse<'static>> = Vec::new();
    let mut last_topic: Option<TopicRef> = None;
    let rows =
        plan.partitions.into_iter().zip(results).zip(finished.include).filter(|(_, included)| *included);
    for ((partition, result), _) in rows {
        if last_topic.as_ref() != Some(&partition.topic) {
            let mut topic = FetchableTopicResponse::default();
            match &partition.topic {
                TopicRef::Name(name) => topic.topic = Cow::Owned(name.to_string()),
                TopicRef::Id(id) => topic.topic_id = *id,
            }
            responses.push(topic);
            last_topic = Some(partition.topic);
        }
        let topic = responses.last_mut().expect("pushed above");
        topic.partitions.push(partition_data(partition.partition, result));
    }
    FetchResponse { session_id: finished.session_id, responses, ..Default::default() }
}

fn partition_data(partition_index: i32, result: ReadResult) -> PartitionData<'static> {
    let diverging_epoch = match result.diverging {
        Some((epoch, end_offset)) => EpochEndOffset { epoch, end_offset, ..Default::default() },
        None => EpochEndOffset::default(),
    };
    PartitionData {
        partition_index,
        error_code: result.error.code(),
        high_watermark: result.high_watermark,
        last_stable_offset: result.last_stable_offset,
        log_start_offset: result.log_start_offset,
        diverging_epoch,
        // Never null, which old clients cannot read.
        records: Some(Records::Shared(result.slices)),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::table;
    use protocol::{ApiKey, frame::encode_response};

    fn result(slices: &[usize]) -> ReadResult {
        let slices: Vec<_> = slices.iter().map(|&len| Bytes::from(vec![0; len])).collect();
        let bytes = slices.iter().map(Bytes::len).sum();
        ReadResult { slices, bytes, error: ErrorCode::NONE, ..ReadResult::failed(ErrorCode::NONE) }
    }

    #[test]
    fn answers_can_be_encoded_in_every_version_served() {
        let served = table::find(ApiKey::Fetch as i16).unwrap();
        for version in served.min_version..=served.max_version {
            let read = ReadResult {
                high_watermark: 9,
                last_stable_offset: 8,
                log_start_offset: 1,
                ..result(&[10, 2000])
            };
            let rows = vec![
                partition_data(0, read),
                partition_data(1, ReadResult::failed(ErrorCode::OFFSET_OUT_OF_RANGE)),
            ];
            let topic = FetchableTopicResponse { partitions: rows, ..Default::default() };
            let response = FetchResponse { responses: vec![topic], ..Default::default() };
            assert!(encode_response(1, &response, version).is_ok(), "version {version}");
        }
    }

    #[test]
    fn the_total_limit_cuts_later_partitions_but_never_the_first_with_data() {
        let mut results = vec![result(&[]), result(&[100]), result(&[30, 30, 30]), result(&[10])];
        apply_total_limit(&mut results, 50);
        let bytes: Vec<_> = results.iter().map(|result| result.bytes).collect();
        assert_eq!(bytes, vec![0, 100, 0, 0], "the first batch is whole and uses the limit up");
        let mut results = vec![result(&[10]), result(&[30, 30, 30]), result(&[10])];
        apply_total_limit(&mut results, 75);
        let bytes: Vec<_> = results.iter().map(|result| result.bytes).collect();
        assert_eq!(bytes, vec![10, 60, 0], "whole slices only");
    }
}
