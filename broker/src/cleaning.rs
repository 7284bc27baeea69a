//! Compaction of a shard's logs: when it looks for work, with how much memory, and how fast it may read and write. What it does is `storage`'s.
//!
//! Each shard cleans one log at a time. Keys are hashed and records are filtered on threads of idle priority, so that produce and fetch on the same
//! cores do not wait for it; the shard itself only moves bytes between them and the disk, one piece at a time.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use storage::cleaner::{CleanReport, CleanerConfig, CleanerHost};
use uuid::Uuid;

use crate::config::Config;
use crate::logs::now_ms;
use crate::runtime;
use crate::shard::Shard;

/// What compaction reads and writes in a second, on the whole broker, while there are producers and no other rate was set: more than 100 MB of segments,
/// each read twice. On a disk that can do a multiple of it, producers notice little.
const CONSIDERATE_BYTES_PER_SECOND: f64 = 250e6;
/// A producer counts for so long after its last batch.
const PRODUCING_FOR: Duration = Duration::from_secs(1);

/// How often a pause is interrupted to see whether the shard is being closed.
const TICK: Duration = Duration::from_secs(1);

/// Cleans logs for as long as the shard lives.
pub async fn run(shard: Rc<Shard>) {
    if !shard.config().log_cleaner_enable {
        return;
    }
    let host = Host { shard: shard.clone(), pace: RefCell::default(), producing: RefCell::default() };
    while pause(&shard).await {
        while !shard.is_closing.get() {
            let began = Instant::now();
            let config = cleaner_config(&shard.live().config, shard.count());
            match shard.store().clean_next(&host, &config, now_ms()).await {
                Ok(Some(report)) => tell(&shard, &report, began.elapsed()),
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(shard = shard.id.0, %error, "compaction was interrupted; it will be tried again");
                    break;
                }
            }
        }
    }
}

/// A shard's part of what the settings say; a pass keeps to what they said when it began.
fn cleaner_config(settings: &Config, shards: usize) -> CleanerConfig {
    let dedupe_buffer_bytes =
        usize::try_from(settings.log_cleaner_dedupe_buffer_size.0).unwrap_or(usize::MAX);
    CleanerConfig {
        dedupe_buffer_bytes: dedupe_buffer_bytes / shards,
        io_buffer_bytes: settings.log_cleaner_io_buffer_size as usize,
    }
}

/// Waits for `log.cleaner.backoff.ms`, which may change meanwhile; false when the shard is being closed.
async fn pause(shard: &Shard) -> bool {
    let began = Instant::now();
    loop {
        if shard.is_closing.get() {
            return false;
        }
        let backoff = Duration::from_millis(shard.live().config.log_cleaner_backoff_ms);
        let left = backoff.saturating_sub(began.elapsed());
        if left.is_zero() {
            return true;
        }
        runtime::sleep(left.min(TICK)).await;
    }
}

fn tell(shard: &Shard, report: &CleanReport, duration: Duration) {
    let CleanReport { stats, segments, bytes, .. } = report;
    tracing::info!(
        shard = shard.id.0,
        partition = %format_args!("{}-{}", report.topic, report.partition.partition),
        dirty_from = report.first_dirty.0,
        clean_to = report.clean_end.0,
        keys = report.keys,
        map_bytes = report.map_bytes,
        is_map_full = report.is_map_full,
        records_read = stats.records_read,
        records_kept = stats.records_kept,
        tombstones_removed = stats.tombstones_removed,
        keyless_removed = stats.keyless_removed,
        segments_before = segments.0,
        segments_after = segments.1,
        bytes_before = bytes.0,
        bytes_after = bytes.1,
        duration_ms = duration.as_millis() as u64,
        "log compacted"
    );
}

struct Host {
    shard: Rc<Shard>,
    pace: RefCell<Pace>,
    producing: RefCell<Producing>,
}

impl CleanerHost for Host {
    async fn compute<R, F>(&self, work: F) -> R
    where
        R: Send + 'static,
        F: FnOnce() -> R + Send + 'static,
    {
        // The answer comes from another thread: the guard must not let the shard sleep over it.
        let _in_flight = self.shard.pulse.begin();
        self.shard.background.run(work).await
    }

    async fn pace(&self, bytes: usize) {
        let now = Instant::now();
        let set = self.shard.live().config.log_cleaner_io_max_bytes_per_second;
        let has_producers = self.producing.borrow_mut().is_now(now, self.shard.store().appended_batches());
        let bytes_per_second = rate_of_broker(set, has_producers) / self.shard.count() as f64;
        let delay = self.pace.borrow_mut().delay(now, bytes, bytes_per_second);
        if !delay.is_zero() {
            runtime::sleep(delay).await;
        }
    }

    fn secret(&self) -> [u8; 16] {
        Uuid::new_v4().into_bytes()
    }
}

/// `log.cleaner.io.max.bytes.per.second`, or what is considerate if it was not set.
fn rate_of_broker(set: f64, has_producers: bool) -> f64 {
    if set == f64::MAX && has_producers { CONSIDERATE_BYTES_PER_SECOND } else { set }
}

/// Whether batches come in, as far as whoever looks now and then can tell.
#[derive(Debug, Default)]
struct Producing {
    appended_batches: u64,
    last_seen: Option<Instant>,
}

impl Producing {
    fn is_now(&mut self, now: Instant, appended_batches: u64) -> bool {
        if appended_batches != self.appended_batches {
            self.appended_batches = appended_batches;
            self.last_seen = Some(now);
        }
        self.last_seen.is_some_and(|seen| now.duration_since(seen) < PRODUCING_FOR)
    }
}

/// Spreads bytes evenly over time.
#[derive(Debug, Default)]
struct Pace {
    /// When what has been let through so far is paid off.
    paid_at: Option<Instant>,
}

impl Pace {
    /// How long to wait before `bytes` more may go.
    fn delay(&mut self, now: Instant, bytes: usize, bytes_per_second: f64) -> Duration {
        let start = self.paid_at.unwrap_or(now).max(now);
        // A piece is at most some MB and the rate at least 1 byte/s: far from what a Duration can hold.
        self.paid_at = Some(start + Duration::from_secs_f64(bytes as f64 / bytes_per_second));
        start - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ByteSize;

    #[test]
    fn bytes_are_spread_over_time_and_a_pause_earns_nothing() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::default();
        let mut delay = |ms, bytes| pace.delay(at(ms), bytes, 1000.0);
        assert_eq!(delay(0, 500), Duration::ZERO, "the first piece goes at once");
        assert_eq!(delay(0, 500), Duration::from_millis(500));
        assert_eq!(delay(500, 100), Duration::from_millis(500));
        assert_eq!(delay(60_000, 500), Duration::ZERO);
        assert_eq!(delay(60_000, 1), Duration::from_millis(500), "not what was saved up in a minute");
        assert_eq!(pace.delay(at(60_501), 1000, 100.0), Duration::ZERO);
        assert_eq!(pace.delay(at(60_501), 1, f64::MAX), Duration::from_secs(10), "what went has to be paid");
        let mut unlimited = Pace::default();
        assert!((0..1000).all(|_| unlimited.delay(at(0), 1 << 20, f64::MAX).is_zero()));
    }

    #[test]
    fn without_a_rate_of_its_own_compaction_is_considerate_while_batches_come_in() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut producing = Producing::default();
        assert!(!producing.is_now(at(0), 0));
        assert!(producing.is_now(at(10), 5));
        assert!(producing.is_now(at(900), 5));
        assert!(!producing.is_now(at(1_010), 5));
        assert_eq!(rate_of_broker(f64::MAX, true), CONSIDERATE_BYTES_PER_SECOND);
        assert_eq!(rate_of_broker(f64::MAX, false), f64::MAX);
        assert_eq!([1e9, 1.0].map(|set| rate_of_broker(set, true)), [1e9, 1.0], "what was set holds");
    }

    #[test]
    fn memory_is_that_of_the_broker_shared_out_among_its_cores() {
        let settings = Config { log_cleaner_dedupe_buffer_size: ByteSize(64 << 20), ..Config::default() };
        let config = cleaner_config(&settings, 4);
        assert_eq!((config.dedupe_buffer_bytes, config.io_buffer_bytes), (16 << 20, 524_288));
    }
}
