//! The open-loop schedule: when every record of a run is meant to be sent, fixed before the run starts.
//!
//! Record `i` of a schedule is due at `start + i × period`. Nothing that the broker does moves that moment: when the broker
//! stalls, records become due all the same, wait in the backlog, and their latency counts from the moment at which they were due.
//! That is what avoids *coordinated omission*, the mistake of a load generator that politely waits together with the server that
//! it measures.
//!
//! No queue of records exists. Records are dealt to partitions in a fixed cycle, so that "which records of this partition are due
//! at time t" and "when was its j-th record due" are arithmetic: a backlog of a billion records costs nothing to hold.
//!
//! Times are nanoseconds since the start of the run.

/// Fraction bits of the period: the error after 10^12 records is far under a microsecond.
const FRACTION_BITS: u32 = 32;

/// A constant rate from the start of the run until its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Nanoseconds between records, as fixed point with [`FRACTION_BITS`].
    period: u128,
    /// When the first record is due, in the same unit; less than a period.
    phase: u128,
    /// Records of the whole run.
    total: u64,
}

impl Schedule {
    /// A schedule of `rate` records per second that lasts `duration_ns`.
    ///
    /// # Panics
    /// If `rate` is not positive.
    pub fn new(rate: f64, duration_ns: u64) -> Schedule {
        assert!(rate > 0.0, "a schedule needs a positive rate");
        let period = ((1e9 / rate) * (1u64 << FRACTION_BITS) as f64).round().max(1.0) as u128;
        let total = ((u128::from(duration_ns) << FRACTION_BITS) / period) as u64;
        Schedule { period, phase: 0, total }
    }

    /// The same schedule, later by `part` (in `0..1`) of a period, so that several together are as even as one.
    pub fn later_by(self, part: f64) -> Schedule {
        Schedule { phase: (part.clamp(0.0, 0.999) * self.period as f64) as u128, ..self }
    }

    /// The same schedule without what is due later than `end_ns`.
    pub fn until(self, end_ns: u64) -> Schedule {
        Schedule { total: self.due(end_ns), ..self }
    }

    /// How many records the run consists of.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// When record `index` is meant to be sent.
    #[inline]
    pub fn intended_ns(&self, index: u64) -> u64 {
        ((u128::from(index) * self.period + self.phase) >> FRACTION_BITS) as u64
    }

    /// How many records are due at `now_ns`: those whose intended time is not later.
    #[inline]
    pub fn due(&self, now_ns: u64) -> u64 {
        // The smallest index whose intended time is later than now.
        let until = ((u128::from(now_ns) + 1) << FRACTION_BITS).saturating_sub(self.phase);
        let index = until.div_ceil(self.period) as u64;
        index.min(self.total)
    }
}

/// Which records of the schedule belong to one partition.
///
/// Records are dealt in a cycle: without keys, record `i` goes to partition `i mod partitions`; with `k` keys, record `i` has key
/// `i mod k` and goes where that key's hash says. A partition owns some places of the cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Length of the cycle: the number of partitions or of keys.
    cycle: u64,
    /// The places of this partition in the cycle, ascending.
    places: Vec<u64>,
}

impl Share {
    /// The share that owns `places` (ascending, each below `cycle`) of every `cycle` records.
    ///
    /// # Panics
    /// If a place lies outside the cycle or the places are not ascending.
    pub fn new(cycle: u64, places: Vec<u64>) -> Share {
        assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "places must ascend");
        assert!(places.last().is_none_or(|last| *last < cycle), "places must lie in the cycle");
        Share { cycle, places }
    }

    /// How many of the first `records` records of the schedule are this partition's.
    #[inline]
    pub fn count_in(&self, records: u64) -> u64 {
        let rest = records % self.cycle;
        let in_rest = match self.places.as_slice() {
            [only] => u64::from(*only < rest),
            places => places.partition_point(|place| *place < rest) as u64,
        };
        records / self.cycle * self.places.len() as u64 + in_rest
    }

    /// The schedule index of this partition's `j`-th record.
    ///
    /// # Panics
    /// If the share owns nothing.
    #[inline]
    pub fn index_of(&self, j: u64) -> u64 {
        match self.places.as_slice() {
            [only] => j * self.cycle + only,
            places => {
                let turns = j / places.len() as u64;
                turns * self.cycle + places[(j % places.len() as u64) as usize]
            }
        }
    }

    /// The place in the cycle (the key's number, when there are keys) of this partition's `j`-th record.
    #[inline]
    pub fn place_of(&self, j: u64) -> u64 {
        self.places[(j % self.places.len() as u64) as usize]
    }

    /// Whether no record ever goes to this partition (possible with few keys).
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_rate_of_a_thousand_is_one_record_each_millisecond() {
        let schedule = Schedule::new(1000.0, 10 * SECOND);
        assert_eq!(schedule.total(), 10_000);
        assert_eq!(schedule.intended_ns(0), 0);
        assert_eq!(schedule.intended_ns(1), 1_000_000);
        assert_eq!(schedule.intended_ns(9_999), 9_999_000_000);
    }

    #[test]
    fn a_record_is_due_exactly_from_its_intended_time_on() {
        for rate in [0.7, 3.0, 999.0, 1e6, 1e6 / 3.0, 123_456_789.0] {
            let schedule = Schedule::new(rate, 1000 * SECOND).later_by(rate % 1.0);
            for index in [0, 1, 2, 17, 699, 1_000_003].into_iter().filter(|i| *i < schedule.total()) {
                let intended = schedule.intended_ns(index);
                assert!(schedule.due(intended) > index, "rate {rate}, record {index} not due at its time");
                if intended > 0 {
                    assert!(schedule.due(intended - 1) <= index, "rate {rate}, record {index} due too early");
                }
            }
        }
    }

    #[test]
    fn schedules_that_share_a_rate_are_as_even_as_one() {
        let whole = Schedule::new(1000.0, SECOND);
        let parts: Vec<Schedule> =
            (0..4).map(|n| Schedule::new(250.0, SECOND).later_by(f64::from(n) / 4.0)).collect();
        let mut intended: Vec<u64> =
            parts.iter().flat_map(|part| (0..part.total()).map(|index| part.intended_ns(index))).collect();
        intended.sort_unstable();
        assert_eq!(intended, (0..whole.total()).map(|index| whole.intended_ns(index)).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_is_due_after_the_last_record() {
        let schedule = Schedule::new(1e6, SECOND);
        assert_eq!(schedule.due(0), 1);
        assert_eq!(schedule.due(SECOND / 2), 500_001);
        assert_eq!(schedule.due(100 * SECOND), schedule.total());
        assert_eq!(schedule.total(), 1_000_000);
    }

    #[test]
    fn a_schedule_that_is_cut_ends_with_what_was_due_by_then() {
        let schedule = Schedule::new(1000.0, 10 * SECOND).until(SECOND);
        assert_eq!((schedule.total(), schedule.due(5 * SECOND)), (1001, 1001));
        assert_eq!(schedule.intended_ns(1000), SECOND);
        assert_eq!(schedule.until(20 * SECOND), schedule);
    }

    #[test]
    fn a_day_at_an_odd_rate_does_not_drift() {
        let schedule = Schedule::new(333_333.0, 86_400 * SECOND);
        let last = schedule.total() - 1;
        let exact = last as f64 * 1e9 / 333_333.0;
        assert!((schedule.intended_ns(last) as f64 - exact).abs() < 10_000.0);
    }

    #[test]
    fn shares_divide_the_schedule_without_gap_or_overlap() {
        let shares = [
            Share::new(7, vec![0, 3]),
            Share::new(7, vec![1]),
            Share::new(7, vec![2, 4, 5, 6]),
            Share::new(7, vec![]),
        ];
        for records in 0..100 {
            let sum: u64 = shares.iter().map(|share| share.count_in(records)).sum();
            assert_eq!(sum, records);
        }
        let mut seen: Vec<u64> = Vec::new();
        for share in shares.iter().filter(|share| !share.is_empty()) {
            seen.extend((0..share.count_in(70)).map(|j| share.index_of(j)));
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..70).collect::<Vec<_>>());
    }

    #[test]
    fn a_share_knows_the_key_of_each_of_its_records() {
        let share = Share::new(10, vec![2, 7]);
        assert_eq!((0..4).map(|j| share.place_of(j)).collect::<Vec<_>>(), [2, 7, 2, 7]);
        assert_eq!((0..4).map(|j| share.index_of(j)).collect::<Vec<_>>(), [2, 7, 12, 17]);
    }
}
