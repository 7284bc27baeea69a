//! What one partition has to send next: a pure core without clock or socket.
//!
//! A [`Feed`] hands out batches in the order of the schedule. A batch that must be sent again comes back with the same records,
//! stamps and sequence numbers, before anything newer and only when nothing of this partition is in flight any more, so that the
//! partition's order holds through every retry.

use std::collections::VecDeque;

use hdrhistogram::Histogram;

use crate::schedule::{Schedule, Share};

/// One batch of consecutive records of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Number of its first record within the partition, from 0.
    pub first: u64,
    /// How many records.
    pub count: u32,
    /// Sequence number of the first record, for idempotent producers.
    pub sequence: i32,
    /// In a closed loop, the moment of its first sending; in an open loop the schedule knows.
    pub closed_loop_ns: Option<u64>,
}

/// Whether a partition has something to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Send this now.
    Ready(Batch),
    /// Nothing before this moment.
    At(u64),
    /// Nothing until an answer arrives.
    Blocked,
    /// Nothing ever again.
    Finished,
}

/// How a run paces itself; the same for all its partitions.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// By the schedule. A batch waits up to `linger_ns` for more records.
    Open {
        /// The schedule of this worker.
        schedule: Schedule,
        /// How long the oldest record of a batch waits for others.
        linger_ns: u64,
    },
    /// Full batches whenever one may be in flight, until `end_ns`.
    Closed {
        /// When the run ends.
        end_ns: u64,
    },
}

impl Pace {
    /// The same, but the run ends at `end_ns`.
    pub fn until(self, end_ns: u64) -> Pace {
        match self {
            Pace::Open { schedule, linger_ns } => Pace::Open { schedule: schedule.until(end_ns), linger_ns },
            Pace::Closed { .. } => Pace::Closed { end_ns },
        }
    }

    /// The intended send time of record `number` of `batch`.
    #[inline]
    pub fn intended_ns(&self, share: &Share, batch: &Batch, number: u32) -> u64 {
        match (self, batch.closed_loop_ns) {
            (Pace::Open { schedule, .. }, None) => {
                schedule.intended_ns(share.index_of(batch.first + u64::from(number)))
            }
            (_, sent) => sent.unwrap_or_default(),
        }
    }
}

/// One partition's supply of batches.
#[derive(Debug)]
pub struct Feed {
    /// Which records of the schedule are this partition's.
    pub share: Share,
    taken: u64,
    /// How many records fit into the next batch, once it has been asked.
    room: Option<u32>,
    /// Records written for good.
    written: u64,
    in_flight: u32,
    sequence: i32,
    retry: VecDeque<Batch>,
    /// Batches that were taken and not written: in flight, waiting to be sent again, or given up.
    unwritten: Vec<Batch>,
    not_before_ns: u64,
    /// How often in a row a batch of this partition had to be sent again.
    failures_in_a_row: u32,
    /// Nothing leaves until what is in flight is answered: the partition changes its connection.
    moving: bool,
}

impl Feed {
    /// A feed that has sent nothing yet.
    pub fn new(share: Share) -> Feed {
        Feed {
            share,
            taken: 0,
            room: None,
            written: 0,
            in_flight: 0,
            sequence: 0,
            retry: VecDeque::new(),
            unwritten: Vec::new(),
            not_before_ns: 0,
            failures_in_a_row: 0,
            moving: false,
        }
    }

    /// What can be sent at `now_ns`; `room` tells how many records from one on fit into a batch. A `Ready` batch counts as in flight from here on.
    ///
    /// `eager` takes what is due without waiting for the linger: when one partition's batch leaves, those of other partitions on
    /// the same connection travel along (as Kafka's `RecordAccumulator.drain` does it), or each would need a request of its own.
    pub fn next(&mut self, pace: &Pace, now_ns: u64, room: impl Fn(u64) -> u32, eager: bool) -> Next {
        if self.moving {
            if self.in_flight > 0 {
                return Next::Blocked;
            }
            self.moving = false;
        }
        if let Some(batch) = self.retry.front() {
            return if self.in_flight > 0 {
                Next::Blocked
            } else if now_ns < self.not_before_ns {
                Next::At(self.not_before_ns)
            } else {
                let batch = *batch;
                self.retry.pop_front();
                self.in_flight += 1;
                Next::Ready(batch)
            };
        }
        match pace {
            Pace::Closed { end_ns } if now_ns >= *end_ns => Next::Finished,
            Pace::Closed { .. } => {
                let count = self.room(room);
                Next::Ready(self.take(count, Some(now_ns)))
            }
            Pace::Open { .. } if self.share.is_empty() => Next::Finished,
            Pace::Open { schedule, linger_ns } => {
                let mine = self.share.count_in(schedule.total());
                if self.taken >= mine {
                    return Next::Finished;
                }
                let max_records = self.room(room);
                let due = self.share.count_in(schedule.due(now_ns)) - self.taken;
                let oldest = schedule.intended_ns(self.share.index_of(self.taken));
                let complete = due >= u64::from(max_records) || self.taken + due == mine;
                if due > 0 && (complete || eager || now_ns >= oldest + linger_ns) {
                    return Next::Ready(self.take(due.min(u64::from(max_records)) as u32, None));
                }
                let last = (self.taken + u64::from(max_records)).min(mine) - 1;
                Next::At((oldest + linger_ns).min(schedule.intended_ns(self.share.index_of(last))))
            }
        }
    }

    /// Nothing can be sent before, not even along with others: for a feed that has said [`Next::At`].
    pub fn empty_until(&self, pace: &Pace) -> u64 {
        match pace {
            _ if !self.retry.is_empty() => self.not_before_ns,
            Pace::Open { schedule, .. } => schedule.intended_ns(self.share.index_of(self.taken)),
            Pace::Closed { .. } => 0,
        }
    }

    fn room(&mut self, room: impl Fn(u64) -> u32) -> u32 {
        *self.room.get_or_insert_with(|| room(self.taken))
    }

    fn take(&mut self, count: u32, closed_loop_ns: Option<u64>) -> Batch {
        let batch = Batch { first: self.taken, count, sequence: self.sequence, closed_loop_ns };
        self.taken += u64::from(count);
        self.room = None;
        // Sequence numbers run from 0 to 2^31 - 1 and start again at 0 (`DefaultRecordBatch.incrementSequence`).
        self.sequence = ((i64::from(self.sequence) + i64::from(count)) & 0x7fff_ffff) as i32;
        self.in_flight += 1;
        self.unwritten.push(batch);
        batch
    }

    /// A batch was written.
    pub fn settle(&mut self, batch: &Batch) {
        self.written += u64::from(batch.count);
        // Those given up stay in front; what is in flight is found near the end.
        let position = self.unwritten.iter().rposition(|other| other.first == batch.first);
        self.unwritten.remove(position.expect("only batches in flight are settled"));
        self.give_up();
    }

    /// A batch failed for good.
    pub fn give_up(&mut self) {
        self.in_flight = self.in_flight.checked_sub(1).expect("only batches in flight are settled");
        self.failures_in_a_row = 0;
    }

    /// Records written for good.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// From now on the partition's batches take another connection: what is in flight must be answered first, or the two
    /// connections could overtake each other.
    pub fn change_connection(&mut self) {
        self.moving = true;
    }

    /// How often in a row a batch had to be sent again.
    pub fn failures_in_a_row(&self) -> u32 {
        self.failures_in_a_row
    }

    /// A batch in flight must be sent again, not before `not_before_ns`.
    pub fn send_again(&mut self, batch: Batch, not_before_ns: u64) {
        self.in_flight = self.in_flight.checked_sub(1).expect("only batches in flight are sent again");
        self.failures_in_a_row += 1;
        let at = self.retry.partition_point(|waiting| waiting.first < batch.first);
        self.retry.insert(at, batch);
        self.not_before_ns = self.not_before_ns.max(not_before_ns);
    }

    /// Records that are due at `now_ns` and neither written nor in flight.
    pub fn backlog(&self, pace: &Pace, now_ns: u64) -> u64 {
        let waiting: u64 = self.retry.iter().map(|batch| u64::from(batch.count)).sum();
        match pace {
            Pace::Open { schedule, .. } => {
                waiting + self.share.count_in(schedule.due(now_ns)).saturating_sub(self.taken)
            }
            Pace::Closed { .. } => waiting,
        }
    }

    /// Adds to `latency` how long each record that is due at `end_ns` and was not written has waited until then, and returns how
    /// many those are. Records of the schedule that were due before `from_ns` are left out.
    ///
    /// Without them a broker that stops answering would be judged by the answers that it gave before.
    pub fn charge_unwritten(
        &self,
        pace: &Pace,
        from_ns: u64,
        end_ns: u64,
        latency: &mut Histogram<u64>,
    ) -> u64 {
        let mut charged = 0;
        match pace {
            Pace::Closed { .. } => {
                for batch in &self.unwritten {
                    let waited_ns = end_ns.saturating_sub(batch.closed_loop_ns.unwrap_or(end_ns));
                    latency.saturating_record_n(waited_ns, u64::from(batch.count));
                    charged += u64::from(batch.count);
                }
            }
            Pace::Open { .. } if self.share.is_empty() => {}
            Pace::Open { schedule, .. } => {
                let due = self.share.count_in(schedule.due(end_ns));
                let skipped =
                    from_ns.checked_sub(1).map_or(0, |before| self.share.count_in(schedule.due(before)));
                let taken =
                    self.unwritten.iter().map(|batch| batch.first..batch.first + u64::from(batch.count));
                for range in taken.chain(std::iter::once(self.taken..due)) {
                    let (mut next, end) = (range.start.max(skipped), range.end.min(due));
                    // All records whose waits share a bucket of the histogram at once: a backlog may be of any length.
                    while next < end {
                        let intended_ns = schedule.intended_ns(self.share.index_of(next));
                        let waited_ns = (end_ns - intended_ns).min(latency.high());
                        let until_ns = end_ns - latency.lowest_equivalent(waited_ns);
                        let until = self.share.count_in(schedule.due(until_ns)).min(end);
                        latency.saturating_record_n(waited_ns, until - next);
                        charged += until - next;
                        next = until;
                    }
                }
            }
        }
        charged
    }

    /// Records handed out so far, each counted once.
    pub fn taken(&self) -> u64 {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::new_histogram;

    const MS: u64 = 1_000_000;

    fn open(rate: f64, linger_ms: u64, seconds: u64) -> Pace {
        Pace::Open { schedule: Schedule::new(rate, seconds * 1000 * MS), linger_ns: linger_ms * MS }
    }

    fn ready(next: Next) -> Batch {
        match next {
            Next::Ready(batch) => batch,
            other => panic!("expected a batch, got {other:?}"),
        }
    }

    #[test]
    fn without_linger_a_record_leaves_when_it_is_due() {
        let pace = open(1000.0, 0, 10);
        let mut feed = Feed::new(Share::new(1, vec![0]));
        assert_eq!(ready(feed.next(&pace, 0, |_| 100, false)).count, 1);
        assert_eq!(feed.next(&pace, MS / 2, |_| 100, false), Next::At(MS));
        assert_eq!(ready(feed.next(&pace, MS, |_| 100, false)).first, 1);
    }

    #[test]
    fn linger_gathers_records_until_the_oldest_has_waited_or_the_batch_is_full() {
        let pace = open(1000.0, 5, 10);
        let mut feed = Feed::new(Share::new(1, vec![0]));
        assert_eq!(feed.next(&pace, 0, |_| 100, false), Next::At(5 * MS));
        let batch = ready(feed.next(&pace, 5 * MS, |_| 100, false));
        assert_eq!((batch.first, batch.count), (0, 6));
        // Of the next batch, with room for three: full when the ninth record is due.
        assert_eq!(feed.next(&pace, 6 * MS, |_| 3, false), Next::At(8 * MS));
        assert_eq!(ready(feed.next(&pace, 8 * MS, |_| 3, false)).count, 3);
    }

    #[test]
    fn a_batch_leaves_early_when_the_connection_sends_anyway() {
        let pace = open(1000.0, 5, 10);
        let mut feed = Feed::new(Share::new(1, vec![0]));
        assert_eq!(ready(feed.next(&pace, 2 * MS, |_| 100, true)).count, 3);
        assert_eq!(feed.next(&pace, 2 * MS, |_| 100, true), Next::At(8 * MS), "nothing is due");
    }

    #[test]
    fn what_waited_during_a_stall_keeps_its_intended_times() {
        let pace = open(1000.0, 0, 10);
        let mut feed = Feed::new(Share::new(1, vec![0]));
        assert_eq!(feed.backlog(&pace, 2000 * MS), 2001);
        let batch = ready(feed.next(&pace, 2000 * MS, |_| 500, false));
        assert_eq!(batch.count, 500);
        assert_eq!(pace.intended_ns(&feed.share, &batch, 0), 0);
        assert_eq!(pace.intended_ns(&feed.share, &batch, 499), 499 * MS);
        assert_eq!(feed.backlog(&pace, 2000 * MS), 1501);
    }

    #[test]
    fn a_failed_batch_is_sent_again_unchanged_and_before_newer_ones() {
        let pace = open(1000.0, 0, 10);
        let mut feed = Feed::new(Share::new(1, vec![0]));
        let first = ready(feed.next(&pace, 0, |_| 100, false));
        let second = ready(feed.next(&pace, MS, |_| 100, false));
        let third = ready(feed.next(&pace, 2 * MS, |_| 100, false));
        feed.send_again(second, 10 * MS);
        assert_eq!(
            feed.next(&pace, 3 * MS, |_| 100, false),
            Next::Blocked,
            "others of the partition are in flight"
        );
        feed.send_again(first, 12 * MS);
        feed.send_again(third, 11 * MS);
        assert_eq!(feed.next(&pace, 4 * MS, |_| 100, false), Next::At(12 * MS), "back off");
        assert_eq!(feed.next(&pace, 12 * MS, |_| 100, false), Next::Ready(first));
        assert_eq!(feed.next(&pace, 12 * MS, |_| 100, false), Next::Blocked);
        feed.settle(&first);
        assert_eq!(feed.next(&pace, 12 * MS, |_| 100, false), Next::Ready(second));
        feed.settle(&second);
        assert_eq!(feed.next(&pace, 12 * MS, |_| 100, false), Next::Ready(third));
        feed.settle(&third);
        let fourth = ready(feed.next(&pace, 12 * MS, |_| 100, false));
        assert_eq!((fourth.first, fourth.sequence, fourth.count), (3, 3, 10));
    }

    #[test]
    fn a_partition_that_changes_its_connection_waits_for_what_is_in_flight() {
        let pace = open(1000.0, 0, 10);
        let mut feed = Feed::new(Share::new(1, vec![0]));
        let first = ready(feed.next(&pace, 0, |_| 100, false));
        feed.change_connection();
        assert_eq!(feed.next(&pace, 5 * MS, |_| 100, false), Next::Blocked);
        feed.settle(&first);
        assert_eq!(ready(feed.next(&pace, 5 * MS, |_| 100, false)).first, 1);
    }

    #[test]
    fn the_last_records_do_not_linger_and_then_nothing_is_left() {
        let pace = open(1000.0, 1000, 1);
        let mut feed = Feed::new(Share::new(1, vec![0]));
        let batch = ready(feed.next(&pace, 999 * MS, |_| 2000, false));
        assert_eq!(batch.count, 1000);
        assert_eq!(feed.next(&pace, 999 * MS, |_| 2000, false), Next::Finished);
        assert_eq!(feed.backlog(&pace, 5000 * MS), 0);
    }

    #[test]
    fn a_partition_that_no_key_reaches_has_nothing_to_send() {
        let mut feed = Feed::new(Share::new(4, vec![]));
        assert_eq!(feed.next(&open(1000.0, 0, 1), 500 * MS, |_| 10, false), Next::Finished);
    }

    #[test]
    fn a_closed_loop_sends_full_batches_until_its_end() {
        let pace = Pace::Closed { end_ns: 100 * MS };
        let mut feed = Feed::new(Share::new(1, vec![0]));
        let batch = ready(feed.next(&pace, 42 * MS, |_| 64, false));
        assert_eq!(batch.count, 64);
        assert_eq!(pace.intended_ns(&feed.share, &batch, 63), 42 * MS);
        assert_eq!(feed.next(&pace, 100 * MS, |_| 64, false), Next::Finished);
    }

    #[test]
    fn a_batch_holds_what_fits_from_its_first_record_on() {
        let pace = open(1000.0, 5, 10);
        let mut feed = Feed::new(Share::new(1, vec![0]));
        // Large records at first, small ones later.
        let room = |first: u64| if first < 4 { 2 } else { 100 };
        assert_eq!(feed.next(&pace, 0, room, false), Next::At(MS), "full with the second record");
        let first = ready(feed.next(&pace, 4 * MS, room, false));
        assert_eq!(first.count, 2);
        assert_eq!(ready(feed.next(&pace, 4 * MS, room, false)).count, 2);
        assert_eq!(feed.next(&pace, 4 * MS, room, false), Next::At(9 * MS));
        feed.settle(&first);
        feed.give_up();
        assert_eq!(feed.written(), 2);
    }

    #[test]
    fn what_is_never_written_is_charged_as_if_its_answer_came_at_the_end() {
        let pace = open(100_000.0, 0, 2);
        let mut feed = Feed::new(Share::new(7, vec![1, 4, 5]));
        let written = ready(feed.next(&pace, 300 * MS, |_| 5000, false));
        let refused = ready(feed.next(&pace, 600 * MS, |_| 5000, false));
        let again = ready(feed.next(&pace, 900 * MS, |_| 5000, false));
        let in_flight = ready(feed.next(&pace, 900 * MS, |_| 5000, false));
        feed.settle(&written);
        feed.give_up();
        feed.send_again(again, 2000 * MS);
        assert!(refused.first < again.first && again.first < in_flight.first);
        let Pace::Open { schedule, .. } = &pace else { panic!("an open loop") };
        let total = feed.share.count_in(schedule.total());
        // The warm-up ends among the refused records.
        for (from_ns, end_ns) in [(0, 2500 * MS), (200 * MS, 2500 * MS), (0, 7_200_000 * MS)] {
            let (mut expected, mut found) = (new_histogram(), new_histogram());
            for number in u64::from(written.count)..total {
                let intended_ns = schedule.intended_ns(feed.share.index_of(number));
                if intended_ns >= from_ns {
                    expected.saturating_record(end_ns - intended_ns);
                }
            }
            let charged = feed.charge_unwritten(&pace, from_ns, end_ns, &mut found);
            assert_eq!((found.len(), charged), (expected.len(), expected.len()));
            assert!(found == expected, "the same distribution, from {from_ns} to {end_ns}");
        }
    }

    #[test]
    fn a_backlog_of_billions_is_charged_at_once() {
        let pace = open(1e9, 0, 10);
        let feed = Feed::new(Share::new(1, vec![0]));
        let mut latency = new_histogram();
        assert_eq!(feed.charge_unwritten(&pace, 0, 20_000 * MS, &mut latency), 10_000_000_000);
        let median_ms = latency.value_at_quantile(0.5) / MS;
        assert!((14_900..15_100).contains(&median_ms), "{median_ms} ms");
        assert!(latency.min() >= 9_990 * MS && latency.max() >= 20_000 * MS);
    }

    #[test]
    fn in_a_closed_loop_what_was_sent_and_not_answered_is_charged() {
        let pace = Pace::Closed { end_ns: 100 * MS };
        let mut feed = Feed::new(Share::new(1, vec![0]));
        let written = ready(feed.next(&pace, 10 * MS, |_| 64, false));
        ready(feed.next(&pace, 40 * MS, |_| 16, false));
        feed.settle(&written);
        let mut latency = new_histogram();
        assert_eq!(feed.charge_unwritten(&pace, 0, 200 * MS, &mut latency), 16);
        assert!(latency.len() == 16 && latency.min() / MS >= 159 && latency.max() / MS <= 161);
    }

    #[test]
    fn sequence_numbers_start_again_at_zero_after_the_largest() {
        let pace = Pace::Closed { end_ns: u64::MAX };
        let mut feed = Feed::new(Share::new(1, vec![0]));
        feed.sequence = i32::MAX - 1;
        assert_eq!(ready(feed.next(&pace, 0, |_| 3, false)).sequence, i32::MAX - 1);
        assert_eq!(ready(feed.next(&pace, 0, |_| 3, false)).sequence, 1);
    }
}
