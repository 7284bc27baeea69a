//! Produce (key 0): record batches into partition logs, acknowledged when they are durable.
//!
//! The work that must keep a connection's order (validation, offsets, journal) happens in the first poll of
//! [`handle`], which the connection does at receipt; only the wait for the journal's sync comes after it, and the request's memory is free by then.
//! Partitions of another shard cross the mesh together, their records as slices of the frame.
//!
//! Source: KIP-98 (idempotence), KIP-467 (record errors), KIP-516 (topic ids), KIP-951 (leader hints),
//! `kafka.server.ReplicaManager.appendRecords`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, join_all};
use protocol::ErrorCode;
use protocol::messages::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceData,
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use protocol::wire::{Few, Records};
use uuid::Uuid;

use super::leader_hints::LeaderHints;
use super::{Answer, Call, Refusal};
use crate::append::{self, AppendFailure, AppendResult, AppendRules, PartitionAppend};
use crate::net::DispatchOutcome;
use crate::partitions::{self, LedPartition, TopicName};
use crate::placement::ShardId;

const OLDEST_VERSION: i16 = 3;
const FIRST_VERSION_WITH_ZSTD: i16 = 7;
const FIRST_VERSION_WITH_LEADER_HINTS: i16 = 10;
const FIRST_VERSION_WITH_TOPIC_IDS: i16 = 13;

/// Appends, and answers as `acks` asks.
pub async fn handle(mut call: Call) -> Answer {
    if call.version < OLDEST_VERSION {
        // Advertised for the sake of old librdkafka, removed in Kafka 4.0.
        return Err(Refusal::new(format!("Produce version {} is no longer supported", call.version)));
    }
    let request: ProduceRequest<'_> = call.decode()?;
    let wait_until_durable = match request.acks {
        0 => false,
        1 | -1 => true,
        _ => return refuse_all(&call, &request, AppendFailure::new(ErrorCode::INVALID_REQUIRED_ACKS)),
    };
    if request.transactional_id.is_some() {
        let refused =
            AppendFailure::explained(ErrorCode::INVALID_TXN_STATE, "transactions are not supported yet");
        return refuse_all(&call, &request, refused);
    }

    let rules = AppendRules {
        allow_zstd: call.version >= FIRST_VERSION_WITH_ZSTD,
        wait_until_durable,
        acks_all: request.acks == -1,
        timeout: Duration::from_millis(request.timeout_ms.max(0).unsigned_abs().into()),
    };
    let (routed, names) = route(&call, &request);
    let appending = append(&call, routed, rules);
    let mut response = response_without_results(&request);
    // The records are in the journal's buffer by now: while they are being synced, the next request can be received where they were.
    call.let_go_of_frame();
    let results = appending.await;
    let failed = results.iter().filter(|result| result.is_err()).count();
    call.shard.metrics.failed_produce_requests.add(failed as u64);
    if !wait_until_durable {
        // A producer that wants no answer learns of an error by losing its connection.
        return match results.into_iter().find_map(Result::err) {
            Some(failure) => Err(Refusal::new(format!("produce with acks=0 failed: {}", failure.code))),
            None => Ok(DispatchOutcome::NoResponse),
        };
    }
    fill_in(&call, &mut response, &names, results);
    call.respond(&response)
}

/// The answer to a request of which nothing is appended.
fn refuse_all(call: &Call, request: &ProduceRequest<'_>, why: AppendFailure) -> Answer {
    let named = request.topic_data.iter().filter(|_| !has_topic_ids(call.version));
    let names: Few<Arc<str>> = named.map(|topic| topic.name.as_ref().into()).collect();
    let mut response = response_without_results(request);
    fill_in(call, &mut response, &names, std::iter::repeat_with(|| Err(why.clone())));
    call.respond(&response)
}

/// Appends every partition's batch on its owner; results are in the order of the request. What has to keep its order has happened when this returns.
fn append(
    call: &Call,
    routed: Few<Routed>,
    rules: AppendRules,
) -> impl Future<Output = Few<AppendResult>> + use<> {
    match only_owner(&routed) {
        Some(owner) => {
            let appends =
                routed.into_iter().filter_map(|routed| routed.ok().map(|(_, append)| append)).collect();
            Either::Left(append_on(call, owner, appends, rules))
        }
        None => Either::Right(append_apart(call, routed, rules)),
    }
}

/// The shard that owns all partitions, if it is one and none of them is refused already.
fn only_owner(routed: &[Routed]) -> Option<ShardId> {
    let mut owners = routed.iter().map(|routed| routed.as_ref().ok().map(|(owner, _)| *owner));
    let first = owners.next()??;
    owners.all(|owner| owner == Some(first)).then_some(first)
}

/// Appends what different shards own or was refused already.
fn append_apart(
    call: &Call,
    routed: Few<Routed>,
    rules: AppendRules,
) -> impl Future<Output = Few<AppendResult>> + use<> {
    let mut results = Few::with_capacity(routed.len());
    let mut appends = Vec::with_capacity(routed.len());
    for (place, routed) in routed.into_iter().enumerate() {
        match routed {
            Ok((owner, append)) => {
                appends.push((owner, (place, append)));
                // Replaced below: every owner answers for all that it was given.
                results.push(Err(AppendFailure::new(ErrorCode::UNKNOWN_SERVER_ERROR)));
            }
            Err(failure) => results.push(Err(failure)),
        }
    }
    let calls = partitions::by_owner(appends).into_iter().map(|(owner, group)| {
        let (places, appends): (Vec<usize>, Few<PartitionAppend>) = group.into_iter().unzip();
        let answer = append_on(call, owner, appends, rules);
        async move { (places, answer.await) }
    });
    // All of them begin now, not when they are awaited.
    let calls: Vec<_> = calls.collect();
    async move {
        for (places, group) in join_all(calls).await {
            for (place, result) in places.into_iter().zip(group) {
                results[place] = result;
            }
        }
        results
    }
}

/// Begins the appends on their owner.
fn append_on(
    call: &Call,
    owner: ShardId,
    appends: Few<PartitionAppend>,
    rules: AppendRules,
) -> impl Future<Output = Few<AppendResult>> + use<> {
    call.note_call(owner);
    let mesh = &call.shard.mesh;
    if owner == call.shard.id {
        // What has to keep its order has happened when `append_all` returns, so the mesh need not poll ahead.
        mesh.note_local_call();
        return Either::Left(append::append_all(&call.shard, appends, rules));
    }
    Either::Right(mesh.call(owner, move |shard| append::append_all(shard, appends, rules)))
}

type Routed = Result<(ShardId, PartitionAppend), AppendFailure>;

/// Where each partition's batch goes; and the topics' names if the request has names, shared with the metadata for those that there are.
fn route(call: &Call, request: &ProduceRequest<'_>) -> (Few<Routed>, Few<Arc<str>>) {
    let image = call.shard.image();
    let mut names = Few::new();
    let mut routed =
        Few::with_capacity(request.topic_data.iter().map(|topic| topic.partition_data.len()).sum());
    for topic_data in &request.topic_data {
        let name = topic_name(call.version, &topic_data.name, topic_data.topic_id);
        let topic = partitions::find_topic(&image, name);
        if let TopicName::Name(name) = name {
            names.push(topic.map_or_else(|_| name.into(), |topic| Arc::clone(&topic.name)));
        }
        let topic = topic.and_then(|topic| {
            if topic.is_internal() { Err(ErrorCode::INVALID_TOPIC_EXCEPTION) } else { Ok(topic) }
        });
        for data in &topic_data.partition_data {
            let led = topic.and_then(|topic| partitions::find_led(&call.shard, topic, data.index));
            routed.push(led.map_err(AppendFailure::new).and_then(|led| partition_append(call, led, data)));
        }
    }
    (routed, names)
}

fn partition_append(call: &Call, led: LedPartition, data: &PartitionProduceData<'_>) -> Routed {
    let records = match &data.records {
        Some(Records::Borrowed(bytes)) if !bytes.is_empty() => call.share(bytes),
        _ => {
            let message = "a produce request carries exactly one record batch for each partition";
            return Err(AppendFailure::explained(ErrorCode::INVALID_RECORD, message));
        }
    };
    Ok((led.owner, PartitionAppend { id: led.id, leader_epoch: led.leader_epoch, records }))
}

fn has_topic_ids(version: i16) -> bool {
    version >= FIRST_VERSION_WITH_TOPIC_IDS
}

fn topic_name(version: i16, name: &str, id: Uuid) -> TopicName<'_> {
    if has_topic_ids(version) { TopicName::Id(id) } else { TopicName::Name(name) }
}

/// The answer as far as the request says it, but for names: a row for each partition. It borrows nothing, because the request goes first.
fn response_without_results<'a>(request: &ProduceRequest<'_>) -> ProduceResponse<'a> {
    let topics = request.topic_data.iter().map(|topic| TopicProduceResponse {
        topic_id: topic.topic_id,
        partition_responses: topic
            .partition_data
            .iter()
            .map(|data| PartitionProduceResponse { index: data.index, ..Default::default() })
            .collect(),
        ..Default::default()
    });
    ProduceResponse { responses: topics.collect(), ..Default::default() }
}

/// Gives the topics their names, if there are any, and every row its result; both are in the order of the request.
fn fill_in<'a>(
    call: &Call,
    response: &mut ProduceResponse<'a>,
    names: &'a [Arc<str>],
    results: impl IntoIterator<Item = AppendResult>,
) {
    let image = call.shard.image();
    let mut hints = LeaderHints::new(&image, call.shard.broker_id());
    let mut results = results.into_iter();
    for (place, topic) in response.responses.iter_mut().enumerate() {
        topic.name = names.get(place).map(|name| name.as_ref().into()).unwrap_or_default();
        let name = topic_name(call.version, &topic.name, topic.topic_id);
        for row in &mut topic.partition_responses {
            *row = partition_response(row.index, results.next().expect("one result per partition"));
            if call.version >= FIRST_VERSION_WITH_LEADER_HINTS
                && let Some((leader, epoch)) = hints.leader_of(name, row.index, ErrorCode(row.error_code))
            {
                let (leader_id, leader_epoch) = (leader.0, epoch.0);
                row.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch, ..Default::default() };
            }
        }
    }
    let node_endpoints = hints.endpoints().into_iter().map(|endpoint| NodeEndpoint {
        node_id: endpoint.id.0,
        host: endpoint.host.into(),
        port: endpoint.port,
        rack: endpoint.rack.map(Into::into),
        ..Default::default()
    });
    response.node_endpoints = node_endpoints.collect();
}

fn partition_response(index: i32, result: AppendResult) -> PartitionProduceResponse<'static> {
    match result {
        Ok(success) => PartitionProduceResponse {
            index,
            base_offset: success.base_offset,
            log_append_time_ms: success.log_append_time_ms,
            log_start_offset: success.log_start_offset,
            ..Default::default()
        },
        Err(failure) => PartitionProduceResponse {
            index,
            error_code: failure.code.code(),
            base_offset: -1,
            error_message: failure.message.map(Into::into),
            record_errors: failure
                .record_errors
                .into_iter()
                .map(|error| BatchIndexAndErrorMessage {
                    batch_index: error.batch_index,
                    batch_index_error_message: Some(error.message.into()),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::table;
    use crate::append::AppendSuccess;
    use protocol::records::RecordError;
    use protocol::{ApiKey, frame::encode_response};

    #[test]
    fn successes_and_failures_can_be_encoded_in_every_version_that_is_answered() {
        let served = table::find(ApiKey::Produce as i16).unwrap();
        for version in OLDEST_VERSION..=served.max_version {
            let success = AppendSuccess { base_offset: 4, log_append_time_ms: 5, log_start_offset: 1 };
            let bad_record = RecordError { batch_index: 2, message: "no key".into() };
            let failure = AppendFailure {
                record_errors: vec![bad_record],
                ..AppendFailure::explained(ErrorCode::INVALID_RECORD, "bad records")
            };
            let rows = vec![partition_response(0, Ok(success)), partition_response(1, Err(failure))];
            let topic = TopicProduceResponse { partition_responses: rows.into(), ..Default::default() };
            let response = ProduceResponse { responses: Few::one(topic), ..Default::default() };
            assert!(encode_response(1, &response, version).is_ok(), "version {version}");
        }
    }
}
