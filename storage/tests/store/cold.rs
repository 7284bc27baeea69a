//! Readers of old data: what they cost, what they share, and whom they leave alone.

use crate::harness::*;
use futures::{FutureExt, future::join};
use protocol::records::BatchOptions;
use std::{cell::Cell, rc::Rc};
use storage::{
    LogConfig, Offset, PartitionLog, StoreConfig, StoreStats,
    disk::{SimDisk, sim::SimOp},
    wake::yield_now,
};

/// Large enough for some pieces of read-ahead.
const LOG_BYTES: usize = 3 << 20;
const BATCH_VALUE_BYTES: usize = 10_000;

/// A store with a log of [`LOG_BYTES`] in segments, none of it in memory, and what the log holds.
fn cold_log(read_ahead_bytes: usize) -> (Run, PartitionLog<SimDisk>, Vec<u8>) {
    cold_log_on(&SimDisk::new(1), read_ahead_bytes)
}

fn cold_log_on(disk: &SimDisk, read_ahead_bytes: usize) -> (Run, PartitionLog<SimDisk>, Vec<u8>) {
    let config = Rc::new(LogConfig { segment_bytes: 1 << 20, ..small_log_config() });
    let mut store_config = small_store_config(0, 1);
    store_config.read_ahead_bytes = read_ahead_bytes;
    let mut run = Run::open(disk, store_config.clone(), vec![spec(0, &config)]).unwrap();
    let log = run.log(&spec(0, &config));
    let mut expected = Vec::new();
    for value in 0.. {
        let batch = batch(BatchOptions::default(), value, 1, BATCH_VALUE_BYTES, NOW);
        let outcome = run.append_durably(&log, &batch);
        expected.extend(stored(&batch, outcome.base_offset));
        if expected.len() >= LOG_BYTES {
            break;
        }
    }
    drop(log);
    run.shutdown();
    let run = Run::open(disk, store_config, vec![spec(0, &config)]).unwrap();
    let log = run.log(&spec(0, &config));
    (run, log, expected)
}

fn read_bytes(run: &Run) -> u64 {
    let StoreStats { cold_read_bytes, .. } = run.store.stats();
    cold_read_bytes
}

#[test]
fn a_reader_that_goes_on_finds_most_of_it_in_memory_and_the_disk_is_read_once() {
    let (mut run, log, expected) = cold_log(1 << 20);
    assert!(run.read_all(&log, Offset(0), 50_000) == expected);
    let stats = run.store.stats();
    assert!(stats.read_ahead_hits * 10 >= stats.cold_reads * 8, "{stats:?}");
    assert!(stats.cold_read_bytes <= expected.len() as u64 * 11 / 10, "{stats:?}");
    assert_eq!(stats.read_ahead_wasted_bytes, 0);
    assert!(stats.read_ahead_bytes <= 1 << 20);
    assert_eq!(stats.cache_bytes, 0, "nothing enters the tail cache");
}

#[test]
fn readers_that_follow_each_other_share_what_is_read() {
    let (mut run, log, expected) = cold_log(1 << 20);
    let end = log.offsets().high_watermark;
    let mut readers = vec![(Offset(0), Vec::new()); 3];
    while readers.iter().any(|(at, _)| *at < end) {
        for (at, bytes) in &mut readers {
            if *at < end {
                let outcome = run.pool.run_until(log.read(*at, end, 50_000, true)).unwrap();
                outcome.slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
                *at = outcome.next_offset;
            }
        }
    }
    assert!(readers.iter().all(|(_, bytes)| *bytes == expected));
    assert!(read_bytes(&run) <= expected.len() as u64 * 12 / 10, "{:?}", run.store.stats());
}

#[test]
fn a_scan_leaves_the_tail_in_memory() {
    let (mut run, log, _) = cold_log(1 << 20);
    let tail = log.offsets().high_watermark;
    run.append_durably(&log, &batch(BatchOptions::default(), 1, 1, 1000, NOW));
    let before = run.store.stats();
    run.read_all(&log, Offset(0), 100_000);
    assert_eq!(run.store.stats().cache_bytes, before.cache_bytes);
    let reads = |run: &Run| (run.store.stats().cache_reads, run.store.stats().cold_reads);
    let (cache_reads, cold_reads) = reads(&run);
    let read = log.read(tail, log.offsets().high_watermark, 100_000, true).now_or_never();
    assert_eq!(read.expect("memory does not wait").unwrap().slices.len(), 1);
    assert_eq!(reads(&run), (cache_reads + 1, cold_reads));
}

#[test]
fn many_readers_at_different_places_stay_within_the_bound() {
    let bound = 512 << 10;
    let (mut run, log, expected) = cold_log(bound);
    let end = log.offsets().high_watermark;
    let mut readers: Vec<_> = (0..20).map(|n| Offset(end.0 * n / 20)).collect();
    let mut random = Random(3);
    for _ in 0..600 {
        let reader = &mut readers[random.below(20) as usize];
        if *reader < end {
            let outcome = run.pool.run_until(log.read(*reader, end, 30_000, true)).unwrap();
            assert!(outcome.bytes > 0);
            *reader = outcome.next_offset;
        }
        let stats = run.store.stats();
        assert!(stats.read_ahead_bytes <= bound, "{stats:?}");
    }
    assert!(run.read_all(&log, Offset(0), 50_000) == expected);
}

#[test]
fn what_was_read_ahead_of_a_reader_that_stopped_is_given_up_and_counted() {
    let (mut run, log, _) = cold_log(1 << 20);
    let end = log.offsets().high_watermark;
    let mut at = Offset(0);
    for _ in 0..3 {
        at = run.pool.run_until(log.read(at, end, 50_000, true)).unwrap().next_offset;
    }
    run.settle();
    assert!(run.store.stats().read_ahead_bytes > 0);
    run.pool.run_until(run.store.tick(NOW + 60_000)).unwrap();
    let stats = run.store.stats();
    assert_eq!(stats.read_ahead_bytes, 0);
    assert!(stats.read_ahead_wasted_bytes > 0);
}

#[test]
fn a_read_that_is_given_up_half_way_does_not_hold_up_others() {
    let (mut run, log, expected) = cold_log(1 << 20);
    let end = log.offsets().high_watermark;
    for n in 0..200 {
        // Polled once or twice, then dropped, as when a client goes away.
        let mut read = Box::pin(log.read(Offset(n % end.0), end, 1 << 20, true));
        for _ in 0..n % 3 {
            let _ = run.pool.run_until(async { futures::poll!(&mut read).is_ready() });
        }
    }
    assert!(run.read_all(&log, Offset(0), 50_000) == expected);
}

/// Lets all others get on by some steps.
async fn give_way() {
    for _ in 0..20 {
        yield_now().await;
    }
}

/// Reads at different places that come at once: four in each of three segments.
const READS: i64 = 12;
/// Batches that fill a segment, and those between two of the reads: none is cut short by a segment's end.
const SEGMENT_BATCHES: i64 = 104;
const BATCHES_BETWEEN_READS: i64 = 25;
/// Two of them are more than the 256 KiB that may be under way beside a commit, and all of them less than the disk takes otherwise.
const LARGE_READ_BYTES: usize = 200_000;
/// Three of them are less than 256 KiB, and four more.
const SMALL_READ_BYTES: usize = 80_000;

/// A store with a cold log, which counts the reads at its disk and can hold back the writes there.
struct WatchedStore {
    run: Run,
    log: PartitionLog<SimDisk>,
    is_write_held: Rc<Cell<bool>>,
    /// The most reads that were at the disk at once.
    most_reading: Rc<Cell<i64>>,
    now_ms: i64,
}

impl WatchedStore {
    fn open() -> Self {
        let disk = SimDisk::new(1);
        let (mut run, log, _) = cold_log_on(&disk, 8 << 20);
        let (is_write_held, most_reading) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        let reading = Rc::new(Cell::new(0));
        disk.set_pace({
            let (is_held, most) = (is_write_held.clone(), most_reading.clone());
            move |op| {
                let (is_held, reading, most) = (is_held.clone(), reading.clone(), most.clone());
                async move {
                    if op == SimOp::Read {
                        reading.set(reading.get() + 1);
                        most.set(most.get().max(reading.get()));
                        give_way().await;
                        reading.set(reading.get() - 1);
                    }
                    while op == SimOp::Write && is_held.get() {
                        yield_now().await;
                    }
                }
                .boxed_local()
            }
        });
        // So that the indexes are in memory, and nothing else after a tick.
        run.read_all(&log, Offset(0), 100_000);
        let mut store = Self { run, log, is_write_held, most_reading, now_ms: NOW };
        store.tick();
        store
    }

    /// What a shell does every second. Here a minute goes by, so that pieces which have been read leave the memory, too.
    fn tick(&mut self) {
        self.now_ms += 60_000;
        self.run.pool.run_until(self.run.store.tick(self.now_ms)).unwrap();
        self.run.settle();
    }

    /// Makes a batch durable, and with it a commit.
    fn commit(&mut self) {
        self.run.append_durably(&self.log, &batch(BatchOptions::default(), 0, 1, 1000, NOW));
        // The flusher reads, too.
        self.run.settle();
    }

    /// How many of [`READS`] are at the disk at once, at most.
    fn most_reads_at_the_disk(&mut self, max_bytes: usize) -> i64 {
        self.most_reading.set(0);
        let end = self.log.offsets().high_watermark;
        let place = |n: i64| Offset(n / 4 * SEGMENT_BATCHES + n % 4 * BATCHES_BETWEEN_READS);
        let reads = (0..READS).map(|n| self.log.read(place(n), end, max_bytes, true));
        for read in self.run.pool.run_until(futures::future::join_all(reads)) {
            assert!(read.unwrap().bytes > max_bytes - BATCH_VALUE_BYTES * 11 / 10);
        }
        self.most_reading.get()
    }

    /// The same while a commit is under way.
    fn most_reads_beside_a_commit(&mut self, max_bytes: usize) -> i64 {
        // The journal has its file then.
        self.commit();
        self.is_write_held.set(true);
        let appended = append(&self.log, &batch(BatchOptions::default(), 1, 1, 1000, NOW)).unwrap();
        // The commit begins.
        self.run.pool.run_until(give_way());
        let most = self.most_reads_at_the_disk(max_bytes);
        assert!(self.run.store.durable(appended.commit).now_or_never().is_none(), "it is still there");
        self.is_write_held.set(false);
        let durable = self.run.store.durable(appended.commit);
        self.run.pool.run_until(durable).unwrap();
        most
    }
}

#[test]
fn reads_leave_the_disk_to_a_commit() {
    assert_eq!(WatchedStore::open().most_reads_at_the_disk(LARGE_READ_BYTES), READS);
    assert_eq!(WatchedStore::open().most_reads_beside_a_commit(LARGE_READ_BYTES), 1);
    assert_eq!(WatchedStore::open().most_reads_beside_a_commit(SMALL_READ_BYTES), 3, "256 KiB at once");
}

#[test]
fn reads_come_back_as_soon_as_a_lone_commit_is_over() {
    let mut store = WatchedStore::open();
    assert_eq!(store.most_reads_beside_a_commit(LARGE_READ_BYTES), 1);
    store.tick();
    store.commit();
    assert_eq!(store.most_reads_at_the_disk(LARGE_READ_BYTES), READS);
}

#[test]
fn reads_leave_the_disk_to_commits_that_follow_each_other_closely_until_these_have_stopped() {
    // As many as in `DiskGates`.
    const MANY_COMMITS: usize = 20;
    let mut store = WatchedStore::open();
    (1..MANY_COMMITS).for_each(|_| store.commit());
    assert_eq!(store.most_reads_at_the_disk(LARGE_READ_BYTES), READS, "not yet many");
    store.tick();
    store.tick();

    (0..MANY_COMMITS).for_each(|_| store.commit());
    assert_eq!(
        store.most_reads_at_the_disk(LARGE_READ_BYTES),
        1,
        "no commit is under way, but the next is near"
    );
    store.tick();
    // Its end opens the gate no more than the tick does.
    store.commit();
    assert_eq!(store.most_reads_at_the_disk(LARGE_READ_BYTES), 1, "there were many in the last second");
    store.tick();
    assert_eq!(store.most_reads_at_the_disk(LARGE_READ_BYTES), READS, "a whole second had few");
}

#[test]
fn what_is_read_while_the_log_is_cut_is_not_served_later() {
    let config = Rc::new(LogConfig { segment_bytes: 1 << 20, ..small_log_config() });
    let specs = [spec(0, &config), spec(1, &config)];
    let settings = StoreConfig { read_ahead_bytes: 4 << 20, ..small_store_config(0, 1) };
    for seed in 0..80 {
        let disk = SimDisk::new(seed);
        let (mut run, log) = Run::open_cold(&disk, &settings, &specs, 30);
        let read = async {
            for _ in 0..seed % 40 {
                yield_now().await;
            }
            let _ = log.read(Offset(10), Offset(20), 4000, true).await;
        };
        let id = specs[0].id();
        let (_, cut) = run.pool.run_until(join(read, run.store.truncate_to(&id, Offset(20))));
        cut.unwrap();
        let mut expected = Vec::new();
        for value in 1000..1010 {
            let bytes = batch(BatchOptions::default(), value, 1, 2000, NOW);
            let outcome = run.append_durably(&log, &bytes);
            expected.extend(stored(&bytes, outcome.base_offset));
        }
        // Until nothing of it is in the tail cache.
        let other = run.log(&specs[1]);
        for value in 0..100 {
            run.append_durably(&other, &batch(BatchOptions::default(), value, 1, 4000, NOW));
        }
        run.pool.run_until(run.store.flush()).unwrap();
        assert!(run.try_read_all(&log, Offset(20), 5000).unwrap() == expected, "seed {seed}");
    }
}
