//! Reads of one fetch request on the shard that owns the logs, and the wait for more.
//!
//! Leaders and followers serve them alike, each up to the high watermark that it knows; a leader may send a consumer to a follower in its rack
//! instead (KIP-392).

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coord::types::BrokerId;
use protocol::ErrorCode;
use protocol::wire::Few;
use storage::{LeaderEpoch, LogOffsets, Offset, TopicIdPartition, WakeSignal};

use crate::budget::Permit;
use crate::logs::ShardLog;
use crate::replication::Host;
use crate::runtime;
use crate::shard::Shard;

/// How long a read waits for memory.
pub const BUDGET_WAIT: Duration = Duration::from_secs(1);

/// What a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Everything below the high watermark.
    ReadUncommitted,
    /// Everything below the last stable offset.
    ReadCommitted,
}

impl Isolation {
    /// From the wire: 1 is read_committed.
    pub fn from_wire(level: i8) -> Self {
        if level == 1 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted }
    }

    /// The end of what the reader may see.
    pub fn end(self, offsets: &LogOffsets) -> Offset {
        match self {
            Isolation::ReadUncommitted => offsets.high_watermark,
            Isolation::ReadCommitted => offsets.last_stable_offset,
        }
    }
}

/// One partition of a fetch.
#[derive(Debug, Clone, Copy)]
pub struct PartitionRead {
    /// Which.
    pub id: TopicIdPartition,
    /// The leader's epoch by the metadata that the request was routed with.
    pub leader_epoch: LeaderEpoch,
    /// Whether this broker is the leader, by the same metadata.
    pub is_led: bool,
    /// Where to read from.
    pub fetch_offset: i64,
    /// Epoch of the last record that the client has (KIP-595); -1: unknown.
    pub last_fetched_epoch: i32,
    /// Most bytes.
    pub max_bytes: usize,
}

impl PartitionRead {
    /// Where to read from, if that is within the log. It may be beyond the high watermark: readers come with what they got from another replica, which
    /// knew more of what is committed, and wait here until this one knows it, too.
    fn offset_in(&self, offsets: &LogOffsets) -> Result<Offset, ErrorCode> {
        let from = Offset(self.fetch_offset);
        let is_in = offsets.log_start_offset <= from && from <= offsets.log_end_offset;
        is_in.then_some(from).ok_or(ErrorCode::OFFSET_OUT_OF_RANGE)
    }
}

/// What a partition's read came to.
#[derive(Debug, Clone)]
pub struct ReadResult {
    /// Error, or `NONE`.
    pub error: ErrorCode,
    /// High watermark, or -1.
    pub high_watermark: i64,
    /// Last stable offset, or -1.
    pub last_stable_offset: i64,
    /// Log start offset, or -1.
    pub log_start_offset: i64,
    /// The client's log parts from ours here: (epoch, end offset).
    pub diverging: Option<(i32, i64)>,
    /// The follower that the client had better read from.
    pub preferred_read_replica: Option<BrokerId>,
    /// Whole batches.
    pub slices: Few<Bytes>,
    /// Bytes in `slices`.
    pub bytes: usize,
}

impl ReadResult {
    /// The row of a partition that could not be read.
    pub fn failed(error: ErrorCode) -> Self {
        Self {
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging: None,
            preferred_read_replica: None,
            slices: Few::new(),
            bytes: 0,
        }
    }

    /// The row of a partition without records.
    fn empty(offsets: &LogOffsets) -> Self {
        Self {
            high_watermark: offsets.high_watermark.0,
            last_stable_offset: offsets.last_stable_offset.0,
            log_start_offset: offsets.log_start_offset.0,
            ..Self::failed(ErrorCode::NONE)
        }
    }

    /// Whether the request must be answered at once because of this partition.
    pub fn is_urgent(&self) -> bool {
        self.error != ErrorCode::NONE || self.diverging.is_some() || self.preferred_read_replica.is_some()
    }

    /// Drops whole slices from the end until at most `max_bytes` are left.
    pub fn trim(&mut self, max_bytes: usize) {
        while self.bytes > max_bytes {
            let Some(slice) = self.slices.pop() else { break };
            self.bytes -= slice.len();
        }
    }
}

/// Limits of a whole request.
#[derive(Debug, Clone)]
pub struct ReadLimits {
    /// Most bytes of all partitions together.
    pub max_bytes: usize,
    /// What the reader may see.
    pub isolation: Isolation,
    /// Where the reader is, if leaders look whether a follower is nearer.
    pub rack: Option<Arc<str>>,
}

/// What a shard has read, and the memory that it takes: to be held until the last slice is sent.
#[derive(Debug)]
pub struct ShardReads {
    /// In the order of the partitions asked for.
    pub results: Few<ReadResult>,
    /// Taken from the budget of the shard that has read.
    pub permit: Option<Permit>,
}

/// Reads the partitions in order. The first that has data yields at least one whole batch, however large it is.
///
/// What is read is charged to the shard's memory budget first. If the budget stays short for [`BUDGET_WAIT`] the answer is empty rather than
/// late: two requests that each hold memory of one shard and wait for another's would wait for each other.
pub async fn read_all(shard: Rc<Shard>, reads: Few<PartitionRead>, limits: ReadLimits) -> ShardReads {
    let mut wanted: Few<_> = reads.into_iter().map(|read| WantedRead::of(&shard, read)).collect();
    if let Some(rack) = &limits.rack {
        wanted.iter_mut().for_each(|wanted| wanted.look_for_nearer(&shard, rack));
    }
    let permit = match available_bytes(&wanted, &limits) {
        0 => None,
        bytes => runtime::timeout(BUDGET_WAIT, shard.budget.acquire(bytes)).await,
    };
    let has_memory = permit.is_some();
    let mut results = Few::with_capacity(wanted.len());
    let mut left = if has_memory { limits.max_bytes } else { 0 };
    let mut is_first = has_memory;
    for wanted in &wanted {
        let max_bytes = wanted.read.max_bytes.min(left);
        let result = match wanted.read(&shard, limits.isolation, max_bytes, is_first).await {
            Ok(result) => result,
            Err(error) => ReadResult::failed(error),
        };
        if !wanted.read.is_led {
            shard.metrics.follower_bytes_out.add(result.bytes as u64);
        }
        is_first &= result.bytes == 0;
        left = left.saturating_sub(result.bytes);
        results.push(result);
    }
    ShardReads { results, permit }
}

/// What the partitions would yield now, at most the limit; at least 1 if there is anything.
fn available_bytes(wanted: &[WantedRead], limits: &ReadLimits) -> usize {
    let enough = limits.max_bytes.max(1);
    let mut available = 0;
    for wanted in wanted {
        available += wanted.available_bytes(limits.isolation).unwrap_or(0);
        if available >= enough {
            return enough;
        }
    }
    available
}

/// One partition of a fetch with its log, which is looked up once.
struct WantedRead {
    read: PartitionRead,
    log: Option<ShardLog>,
    /// The follower that the client is sent to instead.
    preferred_read_replica: Option<BrokerId>,
}

impl WantedRead {
    fn of(shard: &Shard, read: PartitionRead) -> Self {
        Self { read, log: shard.log(&read.id), preferred_read_replica: None }
    }

    /// Finds a follower in the reader's rack, if this is the leader and there is one that has what is wanted.
    fn look_for_nearer(&mut self, shard: &Rc<Shard>, rack: &str) {
        let Some(log) = self.log.as_ref().filter(|log| self.read.is_led && log.is_replicated()) else {
            return;
        };
        let Ok(from) = self.read.offset_in(&log.offsets()) else { return };
        let Some(hosted) = shard.replication.replicas.get(&self.read.id) else { return };
        let image = shard.image();
        let rack_of = |id| image.broker(id).filter(|broker| !broker.fenced)?.rack.as_deref();
        self.preferred_read_replica = hosted.preferred_read_replica(from, rack, rack_of, shard.now_ms());
        if self.preferred_read_replica.is_some() {
            shard.metrics.preferred_read_replicas.increment();
        }
    }

    /// What it would yield now; `None` if it has something else to tell.
    fn available_bytes(&self, isolation: Isolation) -> Option<usize> {
        if self.preferred_read_replica.is_some() {
            return None;
        }
        let log = self.log.as_ref()?;
        let offsets = log.offsets();
        let from = self.read.offset_in(&offsets).ok()?;
        log.available_bytes(from, isolation.end(&offsets), self.read.max_bytes.max(1)).ok()
    }

    async fn read(
        &self,
        shard: &Shard,
        isolation: Isolation,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<ReadResult, ErrorCode> {
        let read = &self.read;
        let log = self.log.as_ref().ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
        let offsets = log.offsets();
        let mut result = ReadResult::empty(&offsets);
        if self.preferred_read_replica.is_some() {
            return Ok(ReadResult { preferred_read_replica: self.preferred_read_replica, ..result });
        }
        result.diverging = diverging_end(log, read);
        if result.diverging.is_some() {
            return Ok(result);
        }
        let from = read.offset_in(&offsets)?;
        let end = isolation.end(&offsets);
        if from < end && (max_bytes > 0 || at_least_one) {
            let outcome = log.read(from, end, max_bytes, at_least_one).await.map_err(|error| error.code())?;
            result.bytes = outcome.bytes;
            result.slices = outcome.slices;
        } else if from >= end && self.is_led_in_vain(shard) {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        Ok(result)
    }

    /// Whether this broker leads the partition in vain: there may be more elsewhere.
    fn is_led_in_vain(&self, shard: &Shard) -> bool {
        let is_replicated = self.log.as_ref().is_some_and(ShardLog::is_replicated);
        is_replicated
            && shard.replication.replicas.get(&self.read.id).is_some_and(|hosted| hosted.is_in_vain())
    }

    /// Whether the partition has had another leader elected since the request was routed.
    fn is_outdated(&self, shard: &Shard) -> bool {
        let is_replicated = self.log.as_ref().is_some_and(ShardLog::is_replicated);
        is_replicated && {
            let image = shard.image();
            let topic = image.topic_by_id(self.read.id.topic_id);
            let partition = topic.and_then(|topic| topic.partition(self.read.id.partition));
            partition.is_none_or(|partition| partition.leader_epoch != self.read.leader_epoch)
        }
    }
}

/// KIP-595: a client whose last record's epoch ended earlier here has records that we do not have.
fn diverging_end(log: &ShardLog, read: &PartitionRead) -> Option<(i32, i64)> {
    if read.last_fetched_epoch < 0 {
        return None;
    }
    let (epoch, end) = log.end_offset_for_epoch(LeaderEpoch(read.last_fetched_epoch))?;
    let diverges = epoch.0 < read.last_fetched_epoch || end.0 < read.fetch_offset;
    diverges.then_some((epoch.0, end.0))
}

/// Returns as soon as the partitions have `threshold` readable bytes or more together, or one of them cannot be read any more or has another leader.
pub async fn wait_for_bytes(
    shard: Rc<Shard>,
    reads: Few<PartitionRead>,
    isolation: Isolation,
    threshold: usize,
) {
    let signal = WakeSignal::new();
    let wanted: Few<_> = reads.into_iter().map(|read| WantedRead::of(&shard, read)).collect();
    loop {
        let mut available = 0;
        for wanted in &wanted {
            // Registered before looking, so that what comes in between is not missed.
            if let Some(log) = &wanted.log {
                log.subscribe(&signal);
            }
            let is_over = wanted.is_outdated(&shard) || wanted.is_led_in_vain(&shard);
            let Some(bytes) = wanted.available_bytes(isolation).filter(|_| !is_over) else { return };
            available += bytes;
            if available >= threshold {
                return;
            }
        }
        signal.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::PartitionId;
    use uuid::Uuid;

    #[test]
    fn a_reader_may_be_ahead_of_the_high_watermark_but_not_of_the_log() {
        let offsets = LogOffsets {
            log_start_offset: Offset(10),
            log_end_offset: Offset(30),
            durable_end_offset: Offset(30),
            high_watermark: Offset(20),
            last_stable_offset: Offset(20),
        };
        let from = |fetch_offset| {
            let id = TopicIdPartition::new(Uuid::nil(), PartitionId(0));
            let (leader_epoch, last_fetched_epoch) = (LeaderEpoch(0), -1);
            let read = PartitionRead {
                id,
                leader_epoch,
                is_led: true,
                fetch_offset,
                last_fetched_epoch,
                max_bytes: 1,
            };
            read.offset_in(&offsets)
        };
        for offset in [10, 20, 25, 30] {
            assert_eq!(from(offset), Ok(Offset(offset)));
        }
        for offset in [-1, 9, 31] {
            assert_eq!(from(offset), Err(ErrorCode::OFFSET_OUT_OF_RANGE), "{offset}");
        }
    }
}
