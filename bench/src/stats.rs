//! What a run counts: latency histograms, records, bytes, errors and backlog, second by second and in total.
//!
//! Every worker (one per core) fills an [`Interval`] and hands it over when its second is past; the [`Collector`] joins the
//! workers' intervals into one time line and one total. Printing and joining happen on the main thread, away from the measured
//! cores.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// Length of one interval of the time line.
pub const INTERVAL_NS: u64 = 1_000_000_000;

/// The longest latency that a histogram distinguishes (longer ones count as this): one hour.
const HIGHEST_NS: u64 = 3_600_000_000_000;
/// The shortest: below it values share a bucket.
const LOWEST_NS: u64 = 100;

/// An empty latency histogram in nanoseconds, with three significant digits.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, 3).expect("constant bounds are valid")
}

/// What one worker saw in one second.
#[derive(Debug, Clone)]
pub struct Interval {
    /// Which second of the run, from 0.
    pub second: u64,
    /// Latencies of the records completed in this second; in the last one, how long the others have waited too.
    pub latency: Histogram<u64>,
    /// How many of these latencies are lower bounds: the records had no answer when the run ended.
    pub lower_bounds: u64,
    /// Records completed.
    pub records: u64,
    /// Bytes of their keys and values.
    pub payload_bytes: u64,
    /// Bytes of the record batches that carried them.
    pub wire_bytes: u64,
    /// Requests answered.
    pub requests: u64,
    /// Record batches completed.
    pub batches: u64,
    /// Records that were due but not yet written to a socket when the second ended.
    pub backlog: u64,
    /// Errors by name; each counts the records that it hit.
    pub errors: BTreeMap<String, u64>,
    /// Records sent again after a retriable error or a lost connection.
    pub retried: u64,
    /// Connections that had to be made again.
    pub reconnects: u64,
}

impl Interval {
    /// An empty interval.
    pub fn new(second: u64) -> Interval {
        Interval {
            second,
            latency: new_histogram(),
            lower_bounds: 0,
            records: 0,
            payload_bytes: 0,
            wire_bytes: 0,
            requests: 0,
            batches: 0,
            backlog: 0,
            errors: BTreeMap::new(),
            retried: 0,
            reconnects: 0,
        }
    }

    /// Counts an error that hit `records` records.
    pub fn count_error(&mut self, name: &str, records: u64) {
        *self.errors.entry(name.to_owned()).or_default() += records;
    }

    /// Adds what another worker saw in the same second, or another second when totals are formed.
    pub fn add(&mut self, other: &Interval) {
        self.latency.add(&other.latency).expect("all histograms have the same bounds");
        self.lower_bounds += other.lower_bounds;
        self.records += other.records;
        self.payload_bytes += other.payload_bytes;
        self.wire_bytes += other.wire_bytes;
        self.requests += other.requests;
        self.batches += other.batches;
        self.backlog += other.backlog;
        for (name, count) in &other.errors {
            *self.errors.entry(name.clone()).or_default() += count;
        }
        self.retried += other.retried;
        self.reconnects += other.reconnects;
    }
}

/// One point of the time line, as reports show it.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Point {
    /// Which second of the run, from 0.
    pub second: u64,
    /// Whether the second belongs to the warm-up, which totals leave out.
    pub warmup: bool,
    /// Records completed.
    pub records: u64,
    /// Bytes of their keys and values.
    pub payload_bytes: u64,
    /// Median latency, nanoseconds.
    pub p50_ns: u64,
    /// 99th percentile, nanoseconds.
    pub p99_ns: u64,
    /// 99.9th percentile, nanoseconds.
    pub p999_ns: u64,
    /// Largest latency, nanoseconds.
    pub max_ns: u64,
    /// Records due but unsent at the end of the second.
    pub backlog: u64,
    /// Records hit by errors in this second.
    pub errors: u64,
}

/// Joins the workers' intervals.
#[derive(Debug)]
pub struct Collector {
    workers: usize,
    warmup_seconds: u64,
    /// Seconds that some workers have not delivered yet, with the number of workers that have.
    open: BTreeMap<u64, (usize, Interval)>,
    points: Vec<Point>,
    total: Interval,
    largest_backlog: u64,
}

impl Collector {
    /// A collector of `workers` workers that leaves the first `warmup_seconds` out of the totals.
    pub fn new(workers: usize, warmup_seconds: u64) -> Collector {
        Collector {
            workers,
            warmup_seconds,
            open: BTreeMap::new(),
            points: Vec::new(),
            total: Interval::new(0),
            largest_backlog: 0,
        }
    }

    /// Takes one worker's second; returns the joined second once every worker has delivered it.
    pub fn deliver(&mut self, interval: Interval) -> Option<(Point, Interval)> {
        let second = interval.second;
        let joined = match self.open.remove(&second) {
            None => (1, interval),
            Some((count, mut sum)) => {
                sum.add(&interval);
                (count + 1, sum)
            }
        };
        if joined.0 < self.workers {
            self.open.insert(second, joined);
            return None;
        }
        Some(self.join(joined.1))
    }

    /// Takes the seconds that not every worker delivered, once no more will come: a worker with less to do ends earlier.
    pub fn close(&mut self) -> Vec<(Point, Interval)> {
        let open = std::mem::take(&mut self.open);
        open.into_values().map(|(_, interval)| self.join(interval)).collect()
    }

    fn join(&mut self, interval: Interval) -> (Point, Interval) {
        let point = self.point(&interval);
        self.points.push(point);
        if !point.warmup {
            self.largest_backlog = self.largest_backlog.max(interval.backlog);
            self.total.add(&interval);
            self.total.backlog = interval.backlog;
        }
        (point, interval)
    }

    fn point(&self, interval: &Interval) -> Point {
        let at = |quantile| interval.latency.value_at_quantile(quantile);
        Point {
            second: interval.second,
            warmup: interval.second < self.warmup_seconds,
            records: interval.records,
            payload_bytes: interval.payload_bytes,
            p50_ns: at(0.5),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: interval.latency.max(),
            backlog: interval.backlog,
            errors: interval.errors.values().sum(),
        }
    }

    /// The time line so far.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Everything after the warm-up; `backlog` is that of the last second.
    pub fn total(&self) -> &Interval {
        &self.total
    }

    /// The largest backlog at the end of any second after the warm-up.
    pub fn largest_backlog(&self) -> u64 {
        self.largest_backlog
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Schedule;

    /// A server that answers each record `service_ns` after the one before, and nothing during its stall; returns the
    /// histogram of latencies counted from the intended times.
    fn simulate(rate: f64, seconds: u64, service_ns: u64, stall_from: u64, stall_to: u64) -> Histogram<u64> {
        let schedule = Schedule::new(rate, seconds * INTERVAL_NS);
        let mut histogram = new_histogram();
        let mut free_at = 0;
        for index in 0..schedule.total() {
            let intended = schedule.intended_ns(index);
            let mut start = intended.max(free_at);
            if (stall_from..stall_to).contains(&start) {
                start = stall_to;
            }
            free_at = start + service_ns;
            histogram.saturating_record(free_at - intended);
        }
        histogram
    }

    #[test]
    fn a_stalled_server_is_charged_for_every_record_that_was_due_meanwhile() {
        const MS: u64 = 1_000_000;
        // 1,000 records a second for ten seconds, 0.1 ms each; the server stalls once, for a whole second.
        let histogram = simulate(1000.0, 10, MS / 10, 5000 * MS, 6000 * MS);
        // A tenth of the run was due during the stall, at even distances: the waits spread evenly up to a second.
        let waited_half = histogram.len() - histogram.count_between(0, 500 * MS);
        assert!((450..=560).contains(&waited_half), "{waited_half} records waited half a second or more");
        assert!(histogram.value_at_quantile(0.99) > 880 * MS, "p99 hides the stall");
        assert!(histogram.max() >= 999 * MS);
        assert!(histogram.value_at_quantile(0.5) < MS, "the median is that of an unstalled server");

        // The mistake that this avoids: a client that counts from the moment at which it got round to sending sees one slow
        // record in ten thousand, and a p99 of 0.1 ms.
        let calm = simulate(1000.0, 10, MS / 10, 0, 0);
        assert!(calm.value_at_quantile(0.99) < MS / 5);
    }

    #[test]
    fn a_second_is_complete_when_every_worker_has_delivered_it() {
        let mut collector = Collector::new(2, 0);
        let mut first = Interval::new(0);
        first.records = 10;
        first.latency.record_n(1_000_000, 10).expect("in range");
        let mut second = Interval::new(0);
        second.records = 5;
        second.backlog = 3;
        second.latency.record_n(3_000_000, 5).expect("in range");
        assert!(collector.deliver(first).is_none());
        assert!(collector.deliver(Interval::new(1)).is_none());
        let (point, joined) = collector.deliver(second).expect("both workers delivered");
        assert_eq!((point.second, point.records, point.backlog), (0, 15, 3));
        assert_eq!(joined.latency.len(), 15);
        assert!(point.max_ns >= 2_990_000);
    }

    #[test]
    fn seconds_that_one_worker_did_not_live_to_see_count_in_the_end() {
        let mut collector = Collector::new(2, 0);
        let mut interval = Interval::new(0);
        interval.records = 7;
        assert!(collector.deliver(interval).is_none());
        assert_eq!(collector.close().len(), 1);
        assert_eq!((collector.points().len(), collector.total().records), (1, 7));
    }

    #[test]
    fn the_warm_up_is_shown_but_not_counted() {
        let mut collector = Collector::new(1, 2);
        for second in 0..4 {
            let mut interval = Interval::new(second);
            interval.records = 100;
            interval.backlog = 40 - 10 * second;
            interval.count_error("NOT_LEADER_OR_FOLLOWER", 1);
            let (point, _) = collector.deliver(interval).expect("only one worker");
            assert_eq!(point.warmup, second < 2);
        }
        assert_eq!(collector.points().len(), 4);
        assert_eq!(collector.total().records, 200);
        assert_eq!(collector.total().backlog, 10);
        assert_eq!(collector.largest_backlog(), 20);
        assert_eq!(collector.total().errors["NOT_LEADER_OR_FOLLOWER"], 2);
    }
}
