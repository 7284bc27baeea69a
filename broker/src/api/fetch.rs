//! Fetch (key 1): record batches from the cache or the segments to the socket, without copying.
//!
//! A request below `min_bytes` parks on the shards that own its partitions until enough is there or `max_wait_ms` is over;
//! it is woken by appends. Answers consist of small encoded headers and the stored batches themselves.
//!
//! A leader may send a consumer to a follower in its rack (KIP-392), and followers serve whoever comes, if the request is of a version that knows of this.
//!
//! Source: KIP-227 (sessions), KIP-320 and KIP-595 (epochs), KIP-516 (topic ids), KIP-951 (leader hints),
//! `KafkaApis.handleFetchRequest`, `DelayedFetch`.

use std::borrow::Cow;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use coord::metadata::MetadataImage;
use coord::types::BrokerId;
use futures::future::{Either, join_all, select, select_all};
use protocol::ErrorCode;
use protocol::messages::fetch::{
    EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
    PartitionData,
};
use protocol::wire::{Few, Records};
use tokio::sync::oneshot;

use super::leader_hints::LeaderHints;
use super::{Answer, Call};
use crate::budget::{self, Permit};
use crate::config::ReplicaSelector;
use crate::fetch_session::{
    FetchPartition, FetchPlan, FinishedFetch, PartitionNews, SessionRequest, TopicRef,
};
use crate::fetching::{self, Isolation, PartitionRead, ReadLimits, ReadResult};
use crate::logs;
use crate::net::DispatchOutcome;
use crate::partitions::{self, ByOwner, HeldPartition, TopicName};
use crate::runtime;
use crate::shard::Shard;

/// From this version on consumers may read from followers.
const FIRST_VERSION_WITH_RACKS: i16 = 11;
const FIRST_VERSION_WITH_TOPIC_IDS: i16 = 13;
const FIRST_VERSION_WITH_LEADER_HINTS: i16 = 16;
/// An answer takes at most this fraction of a shard's memory for requests …
const MEMORY_FRACTION_PER_ANSWER: u64 = 64;
/// … but may always have so much.
const MEMORY_PER_ANSWER_MIN: usize = 1 << 20;

/// Reads, waits if there is too little, and answers.
pub async fn handle(call: Call) -> Answer {
    let request: FetchRequest<'_> = call.decode()?;
    let uses_topic_ids = call.version >= FIRST_VERSION_WITH_TOPIC_IDS;
    let shard = &call.shard;
    let session_request = session_request(&request, uses_topic_ids, &shard.image());
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
        rack: rack(&call, &request),
    };
    let wait = FetchWait {
        min_bytes: (request.min_bytes.max(0) as usize).min(limits.max_bytes),
        deadline: Instant::now() + Duration::from_millis(request.max_wait_ms.max(0) as u64),
    };

    let (mut results, memory) = read_or_wait(&call, &plan, &limits, wait).await;
    apply_total_limit(&mut results, limits.max_bytes);
    count(shard, &results);
    let news: Few<_> = results.iter().map(news_of).collect();
    let finished = shard.fetch_sessions.borrow_mut().finish(&plan, &news, uses_topic_ids, logs::now_ms());
    if let Some(connection) = &call.connection {
        connection.fetch_session.set(finished.session_id);
    }
    let image = shard.image();
    let hints = (call.version >= FIRST_VERSION_WITH_LEADER_HINTS)
        .then(|| LeaderHints::new(&image, shard.broker_id()));
    let mut answer = call.respond(&response(&plan, results, finished, hints))?;
    if let DispatchOutcome::Respond(segments) = &mut answer {
        hold(segments, memory);
    }
    Ok(answer)
}

/// Where the client is, if that matters.
fn rack(call: &Call, request: &FetchRequest<'_>) -> Option<Arc<str>> {
    let selects = call.shard.config().replica_selector_class == Some(ReplicaSelector::RackAware);
    let is_known = call.version >= FIRST_VERSION_WITH_RACKS && !request.rack_id.is_empty();
    (selects && is_known).then(|| Arc::from(&*request.rack_id))
}

/// Most bytes of one answer: the configured limit, and no more than a fraction of the shard's memory, so that a few clients that do not take
/// their answers leave enough for others.
fn max_response_bytes(shard: &Shard) -> usize {
    let share = shard.budget.total_bytes() / MEMORY_FRACTION_PER_ANSWER;
    let share = usize::try_from(share).unwrap_or(usize::MAX).max(MEMORY_PER_ANSWER_MIN);
    share.min(shard.config().fetch_max_bytes as usize)
}

/// Gives back the memory of an answer when its last segment has been sent.
fn hold(segments: &mut [Bytes], memory: Few<Permit>) {
    if let Some(last) = segments.last_mut()
        && !memory.is_empty()
    {
        *last = budget::charged(std::mem::take(last), memory);
    }
}

fn session_request(
    request: &FetchRequest<'_>,
    uses_topic_ids: bool,
    image: &MetadataImage,
) -> SessionRequest {
    let topic_ref = |name: &str, id: uuid::Uuid| {
        if uses_topic_ids {
            return TopicRef::Id(id);
        }
        let known = image.topic(name).map(|topic| Arc::clone(&topic.name));
        TopicRef::Name(known.unwrap_or_else(|| Arc::from(name)))
    };
    let mut partitions = Few::new();
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
type Groups = ByOwner<(usize, PartitionRead)>;

async fn read_or_wait(
    call: &Call,
    plan: &FetchPlan,
    limits: &ReadLimits,
    wait: FetchWait,
) -> (Few<ReadResult>, Few<Permit>) {
    let shard = &call.shard;
    let mut bytes_before = None;
    loop {
        let (mut results, groups) = route(call, plan);
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
        let have: Few<usize> = groups
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
fn route(call: &Call, plan: &FetchPlan) -> (Few<ReadResult>, Groups) {
    let shard = &call.shard;
    let image = shard.image();
    let mut results = Few::with_capacity(plan.partitions.len());
    let mut reads = Few::with_capacity(plan.partitions.len());
    for (place, partition) in plan.partitions.iter().enumerate() {
        match find_readable(call, &image, partition) {
            Ok(held) => {
                let read = PartitionRead {
                    id: held.id,
                    leader_epoch: held.leader_epoch,
                    is_led: held.is_led,
                    fetch_offset: partition.fetch_offset,
                    last_fetched_epoch: partition.last_fetched_epoch,
                    max_bytes: partition.max_bytes.max(0) as usize,
                };
                reads.push((held.owner, (place, read)));
                // Replaced when the owner has answered.
                results.push(ReadResult::failed(ErrorCode::UNKNOWN_SERVER_ERROR));
            }
            Err(error) => results.push(ReadResult::failed(error)),
        }
    }
    (results, partitions::by_owner(reads))
}

fn find_readable(
    call: &Call,
    image: &MetadataImage,
    partition: &FetchPartition,
) -> Result<HeldPartition, ErrorCode> {
    let topic = partitions::find_topic(image, topic_name(&partition.topic))?;
    let held = partitions::find_held(&call.shard, topic, partition.partition)?;
    partitions::check_leader_epoch(partition.current_leader_epoch, held.leader_epoch)?;
    let may_follow = call.version >= FIRST_VERSION_WITH_RACKS;
    (held.is_led || may_follow).then_some(held).ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)
}

fn reads_of(group: &[(usize, PartitionRead)]) -> Few<PartitionRead> {
    group.iter().map(|(_, read)| *read).collect()
}

async fn read(
    shard: &Rc<Shard>,
    groups: &Groups,
    limits: &ReadLimits,
    results: &mut [ReadResult],
) -> Few<Permit> {
    let answers = match &groups[..] {
        [(owner, group)] if *owner == shard.id => {
            shard.mesh.note_local_call();
            Few::one(fetching::read_all(shard.clone(), reads_of(group), limits.clone()).await)
        }
        _ => {
            let calls = groups.iter().map(|(owner, group)| {
                let (reads, limits) = (reads_of(group), limits.clone());
                shard.mesh.call(*owner, move |shard| fetching::read_all(shard.clone(), reads, limits))
            });
            join_all(calls.collect::<Vec<_>>()).await.into()
        }
    };
    let mut memory = Few::new();
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
    let mut is_draining = shard.is_draining.subscribe();
    let stopping = pin!(is_draining.wait_for(|is_draining| *is_draining));
    if let ([(owner, group)], [have]) = (&groups[..], have)
        && *owner == shard.id
    {
        shard.mesh.note_local_call();
        let wait = pin!(fetching::wait_for_bytes(shard.clone(), reads_of(group), isolation, have + missing));
        return matches!(runtime::timeout(left, select(wait, stopping)).await, Some(Either::Left(_)));
    }
    let share = missing.div_ceil(groups.len()).max(1);
    let mut cancels: Vec<oneshot::Sender<()>> = Vec::with_capacity(groups.len());
    let waits = groups.iter().zip(have).map(|((owner, group), have)| {
        let reads = reads_of(group);
        let (cancel, cancelled) = oneshot::channel();
        cancels.push(cancel);
        let threshold = have + share;
        let wait = shard.mesh.call(*owner, move |shard| {
            let shard = shard.clone();
            async move {
                let wait = pin!(fetching::wait_for_bytes(shard, reads, isolation, threshold));
                drop(select(wait, cancelled).await);
            }
        });
        Box::pin(wait)
    });
    let waits: Vec<_> = waits.collect();
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

fn count(shard: &Shard, results: &[ReadResult]) {
    let failed = results.iter().filter(|result| result.error != ErrorCode::NONE).count();
    shard.metrics.failed_fetch_requests.add(failed as u64);
    shard.metrics.bytes_out.add(results.iter().map(|result| result.bytes as u64).sum());
}

fn news_of(result: &ReadResult) -> PartitionNews {
    PartitionNews {
        error: result.error,
        high_watermark: result.high_watermark,
        log_start_offset: result.log_start_offset,
        bytes: result.bytes,
        has_hint: result.diverging.is_some() || result.preferred_read_replica.is_some(),
    }
}

fn response<'a>(
    plan: &'a FetchPlan,
    results: Few<ReadResult>,
    finished: FinishedFetch,
    mut hints: Option<LeaderHints<'_>>,
) -> FetchResponse<'a> {
    let mut responses: Few<FetchableTopicResponse<'a>> = Few::new();
    let mut last_topic: Option<&TopicRef> = None;
    let rows = plan.partitions.iter().zip(results).zip(finished.include).filter(|(_, included)| *included);
    for ((partition, result), _) in rows {
        let mut data = partition_data(partition.partition, result);
        if let Some(hints) = &mut hints
            && let Some((leader, epoch)) =
                hints.leader_of(topic_name(&partition.topic), partition.partition, ErrorCode(data.error_code))
        {
            let (leader_id, leader_epoch) = (leader.0, epoch.0);
            data.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch, ..Default::default() };
        }
        if last_topic != Some(&partition.topic) {
            let mut topic = FetchableTopicResponse::default();
            match &partition.topic {
                TopicRef::Name(name) => topic.topic = Cow::Borrowed(name),
                TopicRef::Id(id) => topic.topic_id = *id,
            }
            responses.push(topic);
            last_topic = Some(&partition.topic);
        }
        responses.last_mut().expect("pushed above").partitions.push(data);
    }
    let endpoints = hints.map(|hints| hints.endpoints()).unwrap_or_default();
    let node_endpoints = endpoints.into_iter().map(|endpoint| NodeEndpoint {
        node_id: endpoint.id.0,
        host: endpoint.host.into(),
        port: endpoint.port,
        rack: endpoint.rack.map(Into::into),
        ..Default::default()
    });
    let session_id = finished.session_id;
    FetchResponse { session_id, responses, node_endpoints: node_endpoints.collect(), ..Default::default() }
}

fn topic_name(topic: &TopicRef) -> TopicName<'_> {
    match topic {
        TopicRef::Name(name) => TopicName::Name(name),
        TopicRef::Id(id) => TopicName::Id(*id),
    }
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
        preferred_read_replica: result.preferred_read_replica.unwrap_or(BrokerId::NONE).0,
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
        let slices: Few<_> = slices.iter().map(|&len| Bytes::from(vec![0; len])).collect();
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
            let topic = FetchableTopicResponse { partitions: rows.into(), ..Default::default() };
            let response = FetchResponse { responses: Few::one(topic), ..Default::default() };
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
