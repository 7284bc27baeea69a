//! The flusher beside commits: what it has under way to the disk is in the way of the next one.

use crate::harness::*;
use futures::FutureExt;
use protocol::records::BatchOptions;
use std::{cell::Cell, rc::Rc};
use storage::{
    LogConfig, PartitionSpec, StoreConfig,
    disk::{SimDisk, sim::SimOp},
    wake::yield_now,
};

const LOGS: usize = 4;
/// More than in `DiskGates`, so that commits follow each other closely; six for each log, of which two are more than half of the 256 KiB that may be under way
/// then.
const COMMITS: usize = 6 * LOGS;

/// A store with some commits that fill a little of its room.
struct Store {
    run: Run,
    specs: Vec<PartitionSpec>,
    /// The most writes that were at the disk at once.
    most_writing: Rc<Cell<usize>>,
}

impl Store {
    fn open() -> Self {
        let mut config = StoreConfig { cache_bytes: 64 << 20, ..small_store_config(0, 1) };
        config.journal.file_bytes = 16 << 20;
        config.journal.max_commit_bytes = 1 << 20;
        let log_config = Rc::new(LogConfig { segment_bytes: 64 << 20, ..small_log_config() });
        let specs: Vec<_> = (0..LOGS as i32).map(|partition| spec(partition, &log_config)).collect();
        let disk = SimDisk::new(1);
        let run = Run::open(&disk, config, specs.clone()).unwrap();
        let (writing, most_writing) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        disk.set_pace({
            let most = most_writing.clone();
            move |op| {
                let (writing, most) = (writing.clone(), most.clone());
                async move {
                    if op == SimOp::Write {
                        writing.set(writing.get() + 1);
                        most.set(most.get().max(writing.get()));
                        for _ in 0..20 {
                            yield_now().await;
                        }
                        writing.set(writing.get() - 1);
                    }
                }
                .boxed_local()
            }
        });
        let mut store = Self { run, specs, most_writing };
        // So that each log has its segment.
        store.commit();
        store.most_writes_of_a_flush();
        store
    }

    /// Some commits, and half a megabyte for each log.
    fn commit(&mut self) {
        for n in 0..COMMITS {
            let log = self.run.log(&self.specs[n % LOGS]);
            self.run.append_durably(&log, &batch(BatchOptions::default(), n as u64, 10, 10_000, NOW));
        }
    }

    fn most_writes_of_a_flush(&mut self) -> usize {
        let flushed = self.run.store.stats().flushed_bytes;
        self.most_writing.set(0);
        self.run.pool.run_until(self.run.store.flush()).unwrap();
        assert!(
            self.run.store.stats().flushed_bytes - flushed > 1_000_000,
            "the flusher has left it to this"
        );
        self.most_writing.get()
    }
}

#[test]
fn the_flusher_leaves_the_disk_to_commits_that_follow_each_other_closely() {
    let mut store = Store::open();
    store.commit();
    assert_eq!(store.most_writes_of_a_flush(), 1);

    store.commit();
    for second in 1..=2 {
        store.run.pool.run_until(store.run.store.tick(NOW + second * 1000)).unwrap();
    }
    assert_eq!(store.most_writes_of_a_flush(), LOGS, "there were few in the last second");
}
