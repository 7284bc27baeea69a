//! Appends of one request on the shard that owns the logs: validate, give offsets, journal; then wait until it is durable.

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{LocalBoxFuture, join_all};
use protocol::ErrorCode;
use protocol::compression::{Compression, DecompressionLimit};
use protocol::records::Origin;
use protocol::records::{self, BatchError, BatchView, RecordError, ValidatedBatch, ValidationLimits};
use protocol::wire::Few;
use storage::disk::DirectDisk;
use storage::log::config::{TimestampType, TopicCompression};
use storage::{AppendContext, AppendOutcome, LeaderEpoch, LogConfig, Offset, TopicIdPartition};

use crate::append_queue::AppendQueue;
use crate::logs::{ShardLog, now_ms};
use crate::replication::{CommitOutcome, Hosted, replicas};
use crate::runtime;
use crate::shard::Shard;

/// Most bytes that the records of one compressed batch may come to.
const DECOMPRESSED_BATCH_MAX: usize = 128 << 20;

/// What a producer wants appended to one partition.
#[derive(Debug)]
pub struct PartitionAppend {
    /// Where to.
    pub id: TopicIdPartition,
    /// The leader's epoch by the metadata that the request was routed with.
    pub leader_epoch: LeaderEpoch,
    /// One record batch.
    pub records: Bytes,
}

/// Rules of the whole request.
#[derive(Debug, Clone, Copy)]
pub struct AppendRules {
    /// Whether the request's version knows zstd.
    pub allow_zstd: bool,
    /// Whether anybody waits for the batches to be durable (acks is not 0).
    pub wait_until_durable: bool,
    /// Whether all in-sync replicas have to have them (acks is -1).
    pub acks_all: bool,
    /// How long other replicas may take.
    pub timeout: Duration,
}

/// Where a batch has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendSuccess {
    /// Offset of the first record.
    pub base_offset: i64,
    /// The broker's time on the batch in ms; -1 if the producer's timestamps were kept.
    pub log_append_time_ms: i64,
    /// First offset of the log.
    pub log_start_offset: i64,
}

/// Why a batch was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendFailure {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: Option<String>,
    /// The records that are to blame (KIP-467).
    pub record_errors: Vec<RecordError>,
}

impl AppendFailure {
    /// A failure without further details.
    pub fn new(code: ErrorCode) -> Self {
        Self { code, message: None, record_errors: Vec::new() }
    }

    /// A failure with an explanation.
    pub fn explained(code: ErrorCode, message: impl ToString) -> Self {
        Self { message: Some(message.to_string()), ..Self::new(code) }
    }
}

impl From<BatchError> for AppendFailure {
    fn from(error: BatchError) -> Self {
        Self {
            code: error.code(),
            message: Some(error.to_string()),
            record_errors: error.record_errors().to_vec(),
        }
    }
}

/// One partition's outcome.
pub type AppendResult = Result<AppendSuccess, AppendFailure>;

/// Appends all batches, in order, now or in their turn if the store has no room; answers when they are durable, in the order of `appends`.
pub fn append_all(
    shard: &Rc<Shard>,
    appends: Few<PartitionAppend>,
    rules: AppendRules,
) -> impl Future<Output = Few<AppendResult>> + use<> {
    // Whoever asked may be gone; the batches are appended all the same.
    let begun = AppendQueue::call(shard, move |shard| append_now(shard, &appends, rules));
    async move { begun.await.await }
}

/// Appends all batches now; the future answers when they are durable.
fn append_now(
    shard: &Rc<Shard>,
    appends: &[PartitionAppend],
    rules: AppendRules,
) -> impl Future<Output = Few<AppendResult>> + use<> {
    let now_ms = now_ms();
    let mut results = Few::with_capacity(appends.len());
    let mut last_commit = None;
    let mut elsewhere = Few::new();
    for append in appends {
        match append_one(shard, append, rules, now_ms) {
            Ok((outcome, hosted)) => {
                let records = outcome.last_offset.next().0 - outcome.base_offset.0;
                shard.metrics.messages_in.add(u64::try_from(records).unwrap_or(0));
                shard.metrics.bytes_in.add(append.records.len() as u64);
                match hosted.filter(|_| rules.acks_all && rules.wait_until_durable) {
                    Some(hosted) => {
                        elsewhere.push(Elsewhere::of(hosted, results.len(), outcome.last_offset.next()));
                    }
                    None => last_commit = last_commit.max(Some(outcome.commit)),
                }
                results.push(Ok(AppendSuccess {
                    base_offset: outcome.base_offset.0,
                    log_append_time_ms: outcome.log_append_time_ms,
                    log_start_offset: outcome.log_start_offset.0,
                }));
            }
            Err(failure) => results.push(Err(failure)),
        }
    }
    let durable =
        last_commit.filter(|_| rules.wait_until_durable).map(|commit| shard.store().durable(commit));
    async move {
        if let Some(durable) = durable
            && let Err(error) = durable.await
        {
            let lost = AppendFailure::explained(ErrorCode::KAFKA_STORAGE_ERROR, error);
            for result in results.iter_mut().filter(|result| result.is_ok()) {
                *result = Err(lost.clone());
            }
        }
        if !elsewhere.is_empty() {
            wait_for_others(elsewhere, rules.timeout, &mut results).await;
        }
        results
    }
}

fn append_one(
    shard: &Rc<Shard>,
    append: &PartitionAppend,
    rules: AppendRules,
    now_ms: i64,
) -> Result<(AppendOutcome, Option<Rc<ShardReplica>>), AppendFailure> {
    let log = shard.log(&append.id).ok_or(AppendFailure::new(ErrorCode::NOT_LEADER_OR_FOLLOWER))?;
    let config = log.config();
    let limits = validation_limits(&config, rules);
    let validated = records::validate(&append.records, &limits, now_ms)?;
    let append_validated = |batch: &[u8], validated: &ValidatedBatch| {
        let context = AppendContext { leader_epoch: append.leader_epoch, now_ms, origin: Origin::Client };
        append_validated(shard, &log, batch, validated, context, rules)
    };
    match wanted_codec(config.compression, validated.compression) {
        None => append_validated(&append.records, &validated),
        Some(codec) => {
            let batch = BatchView::parse(&append.records)?;
            let recoded = records::recompress(&batch, codec, None, DECOMPRESSED_BATCH_MAX)?;
            let validated = ValidatedBatch { size: recoded.len(), compression: codec, ..validated };
            append_validated(&recoded, &validated)
        }
    }
}

fn append_validated(
    shard: &Rc<Shard>,
    log: &ShardLog,
    batch: &[u8],
    validated: &ValidatedBatch,
    context: AppendContext,
    rules: AppendRules,
) -> Result<(AppendOutcome, Option<Rc<ShardReplica>>), AppendFailure> {
    if !log.is_replicated() {
        let appended = log.append(batch, validated, context);
        return match appended {
            Ok(outcome) => Ok((outcome, None)),
            Err(error) => Err(AppendFailure::explained(error.code(), error)),
        };
    }
    let hosted = shard.replication.replicas.get(&log.id());
    let hosted = hosted.ok_or(AppendFailure::new(ErrorCode::NOT_LEADER_OR_FOLLOWER))?;
    match replicas::append(shard, &hosted, batch, validated, context, rules.acks_all) {
        Ok(outcome) => Ok((outcome, Some(hosted))),
        Err(error) => Err(AppendFailure::explained(error.code(), error)),
    }
}

/// A replica of this shard.
type ShardReplica = Hosted<DirectDisk>;

/// A batch that the other in-sync replicas have to have before its producer is answered.
struct Elsewhere {
    /// The place of its result.
    place: usize,
    end: Offset,
    hosted: Rc<ShardReplica>,
    committed: LocalBoxFuture<'static, CommitOutcome>,
}

impl Elsewhere {
    fn of(hosted: Rc<ShardReplica>, place: usize, end: Offset) -> Self {
        let committed = hosted.committed(end).boxed_local();
        Elsewhere { place, end, hosted, committed }
    }

    /// What its producer hears when it has waited for long enough.
    fn overdue(&self) -> Option<ErrorCode> {
        if self.hosted.log.offsets().high_watermark >= self.end {
            return None;
        }
        Some(match self.hosted.has_enough_in_sync() {
            true => ErrorCode::REQUEST_TIMED_OUT,
            false => ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        })
    }
}

/// Waits until all in-sync replicas have the batches; the results of those that they do not get in time, or never, become failures.
async fn wait_for_others(mut elsewhere: Few<Elsewhere>, timeout: Duration, results: &mut [AppendResult]) {
    let waiting = join_all(elsewhere.iter_mut().map(|batch| &mut batch.committed));
    let outcomes = runtime::timeout(timeout, waiting).await;
    for (at, batch) in elsewhere.iter().enumerate() {
        let failure = match outcomes.as_ref().map(|outcomes| outcomes[at]) {
            Some(CommitOutcome::Committed) => None,
            Some(CommitOutcome::NotLeader) => Some(ErrorCode::NOT_LEADER_OR_FOLLOWER),
            None => batch.overdue(),
        };
        if let Some(code) = failure {
            results[batch.place] = Err(AppendFailure::new(code));
        }
    }
}

fn validation_limits(config: &LogConfig, rules: AppendRules) -> ValidationLimits {
    ValidationLimits {
        max_message_bytes: config.max_message_bytes as usize,
        decompression: DecompressionLimit::bytes(DECOMPRESSED_BATCH_MAX),
        message_timestamp_type: match config.timestamp_type {
            TimestampType::CreateTime => records::TimestampType::CreateTime,
            TimestampType::LogAppendTime => records::TimestampType::LogAppendTime,
        },
        message_timestamp_before_max_ms: config.timestamp_before_max_ms,
        message_timestamp_after_max_ms: config.timestamp_after_max_ms,
        require_keys: config.cleanup_compact,
        allow_zstd: rules.allow_zstd,
        ..ValidationLimits::default()
    }
}

/// The codec that a batch has to be re-coded to, if the topic wants another than it has.
fn wanted_codec(topic: TopicCompression, batch: Compression) -> Option<Compression> {
    let wanted = match topic {
        TopicCompression::Producer => return None,
        TopicCompression::Uncompressed => Compression::None,
        TopicCompression::Gzip => Compression::Gzip,
        TopicCompression::Snappy => Compression::Snappy,
        TopicCompression::Lz4 => Compression::Lz4,
        TopicCompression::Zstd => Compression::Zstd,
    };
    (wanted != batch).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_recoded_only_where_the_topic_wants_another_codec() {
        assert_eq!(wanted_codec(TopicCompression::Producer, Compression::Gzip), None);
        assert_eq!(wanted_codec(TopicCompression::Gzip, Compression::Gzip), None);
        assert_eq!(wanted_codec(TopicCompression::Uncompressed, Compression::Gzip), Some(Compression::None));
        assert_eq!(wanted_codec(TopicCompression::Zstd, Compression::None), Some(Compression::Zstd));
    }
}
