//! Idempotent producers of one partition: who appended what last, so that a retry is recognised and a gap is refused.
//!
//! Kafka's rules (`ProducerAppendInfo.java`, `ProducerStateEntry.java`, KIP-98, KIP-360): the last five batches of each producer are remembered;
//! an exact repetition of one of them is answered with its original offsets; the next batch must continue the sequence; a new epoch starts at 0;
//! a producer that is not known may start anywhere (its state may have expired or been lost to retention).

use crate::types::{Offset, ProducerId};
use std::collections::VecDeque;

/// How many batches per producer are remembered; idempotent producers keep at most this many requests in flight.
pub const BATCHES_REMEMBERED: usize = 5;

/// What a batch header says about its producer, and where the batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerBatch {
    /// The producer; not negative.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Sequence number of the first record.
    pub base_sequence: i32,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// Largest timestamp of the batch (or its append time). Milliseconds.
    pub timestamp_ms: i64,
}

impl ProducerBatch {
    fn remembered(&self) -> RememberedBatch {
        let delta = (self.last_offset.0 - self.base_offset.0) as i32;
        RememberedBatch {
            last_sequence: add_sequence(self.base_sequence, delta),
            offset_delta: delta,
            last_offset: self.last_offset,
            timestamp_ms: self.timestamp_ms,
        }
    }
}

/// One of the last batches of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RememberedBatch {
    /// Sequence number of the last record.
    pub last_sequence: i32,
    /// Number of records minus one.
    pub offset_delta: i32,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// Timestamp of the batch. Milliseconds.
    pub timestamp_ms: i64,
}

impl RememberedBatch {
    /// Sequence number of the first record.
    pub fn first_sequence(&self) -> i32 {
        subtract_sequence(self.last_sequence, self.offset_delta)
    }

    /// Offset of the first record.
    pub fn first_offset(&self) -> Offset {
        Offset(self.last_offset.0 - self.offset_delta as i64)
    }
}

/// All that is known about one producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerEntry {
    /// The producer.
    pub producer_id: ProducerId,
    /// Its newest epoch.
    pub producer_epoch: i16,
    /// Its last batches under that epoch, oldest first, at most [`BATCHES_REMEMBERED`].
    pub batches: VecDeque<RememberedBatch>,
}

impl ProducerEntry {
    /// Timestamp of the last append. Milliseconds.
    pub fn last_timestamp_ms(&self) -> i64 {
        self.batches.back().map_or(i64::MIN, |b| b.timestamp_ms)
    }
}

/// What to do with a batch of an idempotent producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequenceCheck {
    /// It is the next one: append it.
    Append,
    /// It is already there: this is what is remembered of it.
    Duplicate(RememberedBatch),
    /// Its epoch is older than `current` (`INVALID_PRODUCER_EPOCH`).
    StaleEpoch {
        /// The newest epoch known.
        current: i16,
    },
    /// It does not continue the sequence (`OUT_OF_ORDER_SEQUENCE_NUMBER`).
    OutOfOrder {
        /// The sequence number that would.
        expected: i32,
    },
}

/// The producers of one partition. Few per partition as a rule, so a sorted vector: no memory at all while there are none.
#[derive(Debug, Clone, Default)]
pub struct ProducerStates {
    entries: Vec<ProducerEntry>,
    /// For each entry when [`ProducerStates::expire`] first saw it as it is; `None` if it has appended since. Records may carry any timestamp,
    /// so expiry goes by this clock, and a restart begins it anew.
    seen_ms: Vec<Option<i64>>,
}

impl PartialEq for ProducerStates {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for ProducerStates {}

impl ProducerStates {
    /// Restores the state from entries that were stored; their order does not matter.
    pub fn from_entries(entries: impl IntoIterator<Item = ProducerEntry>) -> Self {
        let mut states = Self::default();
        for e in entries {
            states.put(e);
        }
        states
    }

    /// All entries, by producer id.
    pub fn entries(&self) -> &[ProducerEntry] {
        &self.entries
    }

    /// Whether no producer is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of producers.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// What is known about a producer.
    pub fn get(&self, id: ProducerId) -> Option<&ProducerEntry> {
        self.find(id).ok().map(|i| &self.entries[i])
    }

    /// Stores an entry in place of what was known about its producer.
    pub fn put(&mut self, entry: ProducerEntry) {
        match self.find(entry.producer_id) {
            Ok(i) => {
                self.entries[i] = entry;
                self.seen_ms[i] = None;
            }
            Err(i) => {
                self.entries.insert(i, entry);
                self.seen_ms.insert(i, None);
            }
        }
    }

    /// Decides about a batch of `record_count` records from a client. Changes nothing.
    pub fn check(&self, id: ProducerId, epoch: i16, base_sequence: i32, record_count: i32) -> SequenceCheck {
        let Some(entry) = self.get(id) else {
            return SequenceCheck::Append;
        };
        if epoch < entry.producer_epoch {
            return SequenceCheck::StaleEpoch { current: entry.producer_epoch };
        }
        if epoch > entry.producer_epoch {
            return match base_sequence {
                0 => SequenceCheck::Append,
                _ => SequenceCheck::OutOfOrder { expected: 0 },
            };
        }
        let last_sequence = add_sequence(base_sequence, record_count - 1);
        let same =
            |b: &&RememberedBatch| b.first_sequence() == base_sequence && b.last_sequence == last_sequence;
        if let Some(b) = entry.batches.iter().find(same) {
            return SequenceCheck::Duplicate(*b);
        }
        match entry.batches.back() {
            Some(last) if add_sequence(last.last_sequence, 1) != base_sequence => {
                SequenceCheck::OutOfOrder { expected: add_sequence(last.last_sequence, 1) }
            }
            _ => SequenceCheck::Append,
        }
    }

    /// Notes a batch that was appended. Used alike when live, when a segment is flushed and when a log is recovered.
    pub fn apply(&mut self, batch: &ProducerBatch) {
        debug_assert!(batch.producer_id.0 >= 0);
        let remembered = batch.remembered();
        match self.find(batch.producer_id) {
            Err(i) => {
                let mut batches = VecDeque::with_capacity(1);
                batches.push_back(remembered);
                let (producer_id, producer_epoch) = (batch.producer_id, batch.producer_epoch);
                self.entries.insert(i, ProducerEntry { producer_id, producer_epoch, batches });
                self.seen_ms.insert(i, None);
            }
            Ok(i) => {
                self.seen_ms[i] = None;
                let entry = &mut self.entries[i];
                if batch.producer_epoch != entry.producer_epoch {
                    entry.producer_epoch = batch.producer_epoch;
                    entry.batches.clear();
                }
                if entry.batches.len() == BATCHES_REMEMBERED {
                    entry.batches.pop_front();
                }
                entry.batches.push_back(remembered);
            }
        }
    }

    /// Forgets the batches from `end` on. Answers which producers are no longer known by that, although they may have had batches before `end`
    /// that are not remembered.
    ///
    /// A producer of which something remains may be remembered with less than before, which does no harm: what it may send once more are its last batches
    /// that were not acknowledged, at most [`BATCHES_REMEMBERED`], and the forgotten ones are the last of these.
    pub fn truncate(&mut self, end: Offset) -> Vec<ProducerId> {
        let mut unknown = Vec::new();
        for entry in &mut self.entries {
            entry.batches.retain(|batch| batch.last_offset < end);
            if entry.batches.is_empty() {
                unknown.push(entry.producer_id);
            }
        }
        let mut is_known = self.entries.iter().map(|entry| !entry.batches.is_empty());
        self.seen_ms.retain(|_| is_known.next().expect("one for each entry"));
        self.entries.retain(|entry| !entry.batches.is_empty());
        unknown
    }

    /// Forgets producers that have not appended for `expiration_ms`, as far as calls of this function can tell. Answers how many.
    pub fn expire(&mut self, now_ms: i64, expiration_ms: i64) -> usize {
        let before = self.entries.len();
        let mut is_idle = self.seen_ms.iter_mut().map(|seen_ms| {
            let since_ms = *seen_ms.get_or_insert(now_ms);
            now_ms.saturating_sub(since_ms) >= expiration_ms
        });
        self.entries.retain(|_| !is_idle.next().expect("one for each entry"));
        self.seen_ms
            .retain(|seen_ms| seen_ms.is_none_or(|since_ms| now_ms.saturating_sub(since_ms) < expiration_ms));
        if self.entries.is_empty() {
            *self = Self::default();
        }
        before - self.entries.len()
    }

    /// Bytes of memory held.
    pub fn heap_bytes(&self) -> usize {
        let batches: usize =
            self.entries.iter().map(|e| e.batches.capacity() * size_of::<RememberedBatch>()).sum();
        let seen = self.seen_ms.capacity() * size_of::<Option<i64>>();
        self.entries.capacity() * size_of::<ProducerEntry>() + seen + batches
    }

    fn find(&self, id: ProducerId) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&id.0, |e| e.producer_id.0)
    }
}

/// Sequence numbers wrap from 2^31-1 to 0 (`DefaultRecordBatch.incrementSequence`).
fn add_sequence(sequence: i32, increment: i32) -> i32 {
    ((sequence as i64 + increment as i64) & 0x7fff_ffff) as i32
}

fn subtract_sequence(sequence: i32, decrement: i32) -> i32 {
    ((sequence as i64 - decrement as i64) & 0x7fff_ffff) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const P: ProducerId = ProducerId(7);

    struct Log {
        states: ProducerStates,
        end: i64,
    }

    impl Log {
        fn new() -> Self {
            Self { states: ProducerStates::default(), end: 0 }
        }

        fn offer(&mut self, epoch: i16, base_sequence: i32, count: i32) -> SequenceCheck {
            let check = self.states.check(P, epoch, base_sequence, count);
            if check == SequenceCheck::Append {
                let base = self.end;
                self.end += count as i64;
                self.states.apply(&ProducerBatch {
                    producer_id: P,
                    producer_epoch: epoch,
                    base_sequence,
                    base_offset: Offset(base),
                    last_offset: Offset(self.end - 1),
                    timestamp_ms: base,
                });
            }
            check
        }
    }

    fn duplicate_of(check: SequenceCheck) -> Option<(i64, i64)> {
        match check {
            SequenceCheck::Duplicate(b) => Some((b.first_offset().0, b.last_offset.0)),
            _ => None,
        }
    }

    #[test]
    fn an_unknown_producer_may_start_anywhere() {
        assert_eq!(Log::new().offer(3, 1000, 2), SequenceCheck::Append);
    }

    #[test]
    fn a_repetition_of_the_last_five_is_answered_with_its_offsets_and_an_older_one_refused() {
        let mut log = Log::new();
        for i in 0..6 {
            assert_eq!(log.offer(0, i * 10, 10), SequenceCheck::Append);
        }
        for i in 1..6 {
            let base = i as i64 * 10;
            assert_eq!(duplicate_of(log.offer(0, i * 10, 10)), Some((base, base + 9)));
        }
        assert_eq!(log.offer(0, 0, 10), SequenceCheck::OutOfOrder { expected: 60 });
        assert_eq!(log.offer(0, 50, 11), SequenceCheck::OutOfOrder { expected: 60 });
        assert_eq!(log.offer(0, 61, 1), SequenceCheck::OutOfOrder { expected: 60 });
    }

    #[test]
    fn a_new_epoch_starts_at_zero_and_an_old_one_is_fenced() {
        let mut log = Log::new();
        log.offer(1, 0, 5);
        assert_eq!(log.offer(2, 5, 1), SequenceCheck::OutOfOrder { expected: 0 });
        assert_eq!(log.offer(2, 0, 1), SequenceCheck::Append);
        assert_eq!(log.offer(1, 5, 1), SequenceCheck::StaleEpoch { current: 2 });
    }

    #[test]
    fn sequence_numbers_wrap_to_zero() {
        let mut log = Log::new();
        assert_eq!(log.offer(0, i32::MAX - 1, 4), SequenceCheck::Append);
        assert_eq!(duplicate_of(log.offer(0, i32::MAX - 1, 4)), Some((0, 3)));
        assert_eq!(log.offer(0, 2, 1), SequenceCheck::Append);
        let mut edge = Log::new();
        assert_eq!(edge.offer(0, i32::MAX, 1), SequenceCheck::Append);
        assert_eq!(edge.offer(0, 0, 1), SequenceCheck::Append);
    }

    #[test]
    fn producers_that_fell_silent_are_forgotten() {
        let mut log = Log::new();
        log.offer(0, 0, 1);
        assert_eq!(log.states.expire(5_000, 100), 0, "the records' old timestamps do not count");
        assert_eq!(log.states.expire(5_099, 100), 0);
        log.offer(0, 1, 1);
        assert_eq!(log.states.expire(5_100, 100), 0, "it has appended");
        assert_eq!(log.states.expire(5_199, 100), 0);
        assert_eq!(log.states.expire(5_200, 100), 1);
        assert!(log.states.is_empty());
    }

    proptest! {
        /// A producer that sends batches in order, with repetitions of anything among the last five, gets each batch stored exactly once.
        #[test]
        fn retries_never_store_a_batch_twice(
            start in prop_oneof![Just(0i32), Just(i32::MAX - 20)],
            steps in prop::collection::vec((1i32..20, 0usize..8), 1..60),
        ) {
            let mut log = Log::new();
            let mut sent: Vec<(i32, i32, i64)> = Vec::new();
            let mut next = start;
            for (count, back) in steps {
                let base = log.end;
                prop_assert_eq!(log.offer(0, next, count), SequenceCheck::Append);
                sent.push((next, count, base));
                next = add_sequence(next, count);
                if let Some(&(seq, n, offset)) = sent.len().checked_sub(1 + back).and_then(|i| sent.get(i)) {
                    let got = log.offer(0, seq, n);
                    if back < BATCHES_REMEMBERED {
                        prop_assert_eq!(duplicate_of(got), Some((offset, offset + n as i64 - 1)));
                    } else {
                        prop_assert_eq!(got, SequenceCheck::OutOfOrder { expected: next });
                    }
                }
            }
        }
    }
}
