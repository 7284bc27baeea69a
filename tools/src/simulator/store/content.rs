//! Batches, and what a log consists of.

use bytes::Bytes;
use coord::replica::BatchSpan;
use coord::types::LeaderEpoch;
use protocol::records::{BatchView, iter_batches};
use storage::log::producer_state::ProducerBatch;
use storage::{Offset, ProducerId};

/// A batch as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBatch {
    /// Where it lies.
    pub span: BatchSpan,
    /// Its bytes, the same on every replica.
    pub bytes: Bytes,
}

impl StoredBatch {
    /// A batch whose offsets and epoch are assigned.
    pub fn new(bytes: Bytes) -> Self {
        let view = BatchView::parse(&bytes).expect("batches are built here");
        let span = BatchSpan {
            leader_epoch: LeaderEpoch(view.leader_epoch()),
            base_offset: Offset(view.base_offset()),
            end_offset: Offset(view.next_offset()),
        };
        StoredBatch { span, bytes }
    }

    /// The batches in what was read; `None` if there is something else in it.
    pub fn parse_all(slices: &[Bytes]) -> Option<Vec<Self>> {
        let mut batches = Vec::new();
        for slice in slices {
            let mut at = 0;
            for view in iter_batches(slice) {
                let view = view.ok()?;
                view.check_crc().ok()?;
                let end = at + view.size();
                batches.push(StoredBatch::new(slice.slice(at..end)));
                at = end;
            }
            if at != slice.len() {
                return None;
            }
        }
        Some(batches)
    }

    /// The batch's header and records.
    pub fn view(&self) -> BatchView<'_> {
        BatchView::parse(&self.bytes).expect("batches are built here")
    }

    /// What it says about its producer.
    pub fn producer(&self) -> Option<ProducerBatch> {
        let view = self.view();
        view.has_producer_id().then(|| ProducerBatch {
            producer_id: ProducerId(view.producer_id()),
            producer_epoch: view.producer_epoch(),
            base_sequence: view.base_sequence(),
            base_offset: Offset(view.base_offset()),
            last_offset: Offset(view.last_offset()),
            timestamp_ms: view.max_timestamp(),
        })
    }
}

/// What a log consists of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    start: Offset,
    batches: Vec<StoredBatch>,
}

impl Content {
    /// What was found in a log.
    pub fn new(start: Offset, batches: Vec<StoredBatch>) -> Self {
        Content { start, batches }
    }

    /// Where the log begins.
    pub fn start(&self) -> Offset {
        self.start
    }

    /// Where it ends.
    pub fn end(&self) -> Offset {
        self.batches.last().map_or(self.start, |batch| batch.span.end_offset)
    }

    /// The batches from an offset on.
    pub fn from(&self, offset: Offset) -> &[StoredBatch] {
        &self.batches[self.batches.partition_point(|batch| batch.span.end_offset <= offset)..]
    }

    /// All batches.
    pub fn batches(&self) -> &[StoredBatch] {
        &self.batches
    }

    /// Appends a batch. The first one may hold the start.
    pub fn append(&mut self, batch: StoredBatch) {
        let continues = match self.batches.last() {
            Some(last) => batch.span.base_offset >= last.span.end_offset,
            None => batch.span.end_offset > self.start,
        };
        assert!(continues, "a batch does not continue the log");
        self.batches.push(batch);
    }

    /// Cuts the end off.
    pub fn truncate(&mut self, to: Offset) {
        self.batches.retain(|batch| batch.span.end_offset <= to);
        self.start = self.start.min(to);
        assert_eq!(self.end(), to, "a truncation cuts between batches");
    }

    /// Drops everything; the log goes on at `at`.
    pub fn restart_at(&mut self, at: Offset) {
        self.batches.clear();
        self.start = at;
    }

    /// Cuts the front off. A batch that holds `to` stays whole.
    pub fn advance_start(&mut self, to: Offset) {
        self.batches.retain(|batch| batch.span.end_offset > to);
        self.start = self.start.max(to);
    }
}
