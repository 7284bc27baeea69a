//! Reading a partition of `__consumer_offsets` at the start, and replaying what is found: in slices, so that the shard does its other work meanwhile.

use std::rc::Rc;
use std::time::{Duration, Instant};

use coord::group::{GroupCoordinator, GroupRecord, GroupRecordError};
use protocol::records::{self, BatchError, RecordIter};
use storage::log::error::ReadError;

use super::coordinators::{Partition, PartitionState};
use super::overrides;
use crate::append_queue::AppendQueue;
use crate::runtime;
use crate::shard::Shard;

/// Read at once.
const READ_BYTES: usize = 1 << 20;
/// Most bytes that one compressed batch may come to.
const DECOMPRESSED_BATCH_MAX: usize = 128 << 20;
/// After so many bytes of records others get their turn.
const SLICE_BYTES: usize = 128 << 10;

/// Why a partition cannot be loaded.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("it cannot be read: {0}")]
    Read(#[from] ReadError),
    #[error("a batch is damaged: {0}")]
    Batch(#[from] BatchError),
    #[error("offset {offset}: {error}. A newer version of the broker may have written it")]
    Record { offset: i64, error: GroupRecordError },
}

/// What was read.
#[derive(Debug, Default, Clone, Copy)]
struct Loaded {
    records: u64,
    bytes: u64,
}

/// Loads the partitions, one after the other; a failure leaves its partition without coordinator and is logged.
pub async fn load_all(shard: Rc<Shard>, partitions: Vec<Rc<Partition>>) {
    if partitions.is_empty() {
        return;
    }
    let began = Instant::now();
    let mut total = Loaded::default();
    let mut failed = 0;
    for partition in &partitions {
        let began = Instant::now();
        match load(&shard, partition).await {
            Ok(loaded) => {
                total.records += loaded.records;
                total.bytes += loaded.bytes;
            }
            Err(error) => {
                failed += 1;
                tracing::error!(
                    partition = partition.index,
                    %error,
                    "the groups of a partition of __consumer_offsets cannot be loaded; their clients are told COORDINATOR_NOT_AVAILABLE"
                );
                *partition.state.borrow_mut() = PartitionState::Failed;
            }
        }
        shard.groups.metrics.note_load(began.elapsed());
    }
    let (groups, offsets) =
        partitions.iter().map(|partition| counts(partition)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    let took: Duration = began.elapsed();
    tracing::info!(
        shard = shard.id.0,
        partitions = partitions.len(),
        failed,
        groups,
        offsets,
        records = total.records,
        bytes = total.bytes,
        duration_ms = took.as_millis() as u64,
        "groups loaded"
    );
}

/// Groups and their committed offsets.
fn counts(partition: &Partition) -> (usize, usize) {
    match &*partition.state.borrow() {
        PartitionState::Active(coordinator) => (coordinator.group_count(), coordinator.offset_count()),
        _ => (0, 0),
    }
}

async fn load(shard: &Rc<Shard>, partition: &Rc<Partition>) -> Result<Loaded, LoadError> {
    // What a follower has appended just now cannot be read before its commit has begun.
    shard.store().all_durable().await.map_err(ReadError::from)?;
    // Seeds the generator of member ids, which must differ from those of an earlier start.
    let mut coordinator = GroupCoordinator::new(Rc::clone(shard.groups.config()), runtime::random_bits());
    let loaded = replay_log(partition, &mut coordinator).await?;
    let partition = Rc::clone(partition);
    let began = AppendQueue::call(shard, move |shard| {
        let groups = &shard.groups;
        if !groups.has(&partition) {
            // Somebody else leads meanwhile, or this broker leads anew.
            return;
        }
        let now_ms = groups.now_ms();
        groups.tell_topics(&shard.image(), &partition, &mut coordinator, now_ms);
        let output = coordinator.loaded(now_ms);
        groups.carry_out(&partition, &mut coordinator, output, None, now_ms);
        for topics in partition.take_deleted_topics() {
            let topics: Vec<&str> = topics.iter().map(AsRef::as_ref).collect();
            let output = coordinator.topics_deleted(&topics);
            groups.carry_out(&partition, &mut coordinator, output, None, now_ms);
        }
        overrides::apply(shard, &mut coordinator);
        *partition.state.borrow_mut() = PartitionState::Active(Box::new(coordinator));
    });
    began.await;
    Ok(loaded)
}

/// Replays the whole log. Nobody appends to it meanwhile: only the coordinator does.
async fn replay_log(partition: &Partition, coordinator: &mut GroupCoordinator) -> Result<Loaded, LoadError> {
    let mut loaded = Loaded::default();
    let mut since_yield = 0;
    let mut next = partition.log.offsets().log_start_offset;
    let end = partition.log.offsets().log_end_offset;
    while next < end {
        let read = partition.log.read(next, end, READ_BYTES, true).await?;
        for slice in &read.slices {
            for batch in records::iter_batches(slice) {
                let batch = batch?;
                batch.check_crc()?;
                loaded.bytes += batch.size() as u64;
                since_yield += batch.size();
                if !batch.is_control() {
                    let payload = records::decompress(&batch, DECOMPRESSED_BATCH_MAX)?;
                    since_yield += payload.len() - payload.len().min(batch.size());
                    for record in RecordIter::new(&batch, &payload) {
                        let record = record?;
                        let key = record.key.unwrap_or_default();
                        let decoded = GroupRecord::decode(key, record.value);
                        let damaged = |error| LoadError::Record { offset: record.offset, error };
                        coordinator.replay(&decoded.map_err(damaged)?);
                        loaded.records += 1;
                    }
                }
                if since_yield >= SLICE_BYTES {
                    since_yield = 0;
                    runtime::yield_now().await;
                }
            }
        }
        if read.next_offset <= next {
            // What is left of the log has been compacted away.
            break;
        }
        next = read.next_offset;
    }
    Ok(loaded)
}
