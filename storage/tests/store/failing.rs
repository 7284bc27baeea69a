//! A sync that has failed, or that nobody has seen succeed: nothing may be built on it.

use crate::harness::*;
use futures::{FutureExt, task::noop_waker_ref};
use protocol::records::BatchOptions;
use std::{rc::Rc, task::Context};
use storage::{
    LogConfig, Offset, PartitionSpec, StoreConfig,
    disk::{
        SimDisk,
        sim::{SimOp, Survival},
    },
};

fn settings() -> StoreConfig {
    let mut settings = small_store_config(0, 1);
    settings.sync_together_from = 1_000_000;
    settings.journal.file_bytes = 1 << 20;
    settings.cache_bytes = 4 << 20;
    settings
}

fn specs(count: i32) -> Vec<PartitionSpec> {
    let config = Rc::new(LogConfig { segment_bytes: 1 << 20, ..small_log_config() });
    (0..count).map(|p| spec(p, &config)).collect()
}

/// Appends a batch, and answers what the log holds then.
fn one_more(run: &mut Run, spec: &PartitionSpec, value: u64) -> Vec<u8> {
    let bytes = batch(BatchOptions::default(), value, 1, 1000, NOW);
    let log = run.log(spec);
    let outcome = run.append_durably(&log, &bytes);
    stored(&bytes, outcome.base_offset)
}

/// The power goes; what is there after the next start?
fn survives(disk: &SimDisk, spec: &PartitionSpec) -> Vec<u8> {
    let disk = disk.crash(Survival::Nothing, 5);
    let mut run = Run::open(&disk, settings(), vec![spec.clone()]).unwrap();
    let log = run.log(spec);
    run.read_all(&log, Offset(0), 1 << 20)
}

fn assert_failed(run: &mut Run) {
    for second in 1..4 {
        // Whoever has failed may say so.
        let _ = run.pool.run_until(run.store.tick(NOW + 100_000 * second));
        run.settle();
    }
    assert!(run.ended.borrow().iter().any(Result::is_err), "the store goes on after a failed sync");
    assert!(
        run.pool.run_until(run.store.shutdown()).is_err(),
        "the store is marked clean after a failed sync"
    );
}

#[test]
fn a_failed_sync_is_final_also_if_the_disk_is_full_for_others() {
    let (disk, specs) = (SimDisk::new(3), specs(8));
    let mut run = Run::open(&disk, settings(), specs.clone()).unwrap();
    let mut expected = one_more(&mut run, &specs[0], 0);
    run.pool.run_until(run.store.flush()).unwrap();
    // The others' first flush finds no space, and has done so when the first one's sync fails.
    for spec in &specs[1..] {
        one_more(&mut run, spec, 1);
    }
    expected.extend(one_more(&mut run, &specs[0], 2));
    disk.fill_up_for_writes("tmp");
    disk.fail_after(SimOp::Sync, 0);
    assert_failed(&mut run);
    drop(run);
    disk.make_room();
    assert!(survives(&disk, &specs[0]) == expected, "acknowledged data is gone");
}

#[test]
fn a_failed_sync_is_final_also_before_a_log_is_cut() {
    let (disk, specs) = (SimDisk::new(4), specs(1));
    let mut run = Run::open(&disk, settings(), specs.clone()).unwrap();
    let mut expected = one_more(&mut run, &specs[0], 0);
    run.pool.run_until(run.store.flush()).unwrap();
    expected.extend(one_more(&mut run, &specs[0], 1));
    disk.fail_after(SimOp::Sync, 0);
    let cut = run.pool.run_until(run.store.truncate_to(&specs[0].id(), Offset(1)));
    assert!(cut.is_err());
    assert_failed(&mut run);
    drop(run);
    assert!(survives(&disk, &specs[0]) == expected, "acknowledged data is gone");
}

#[test]
fn what_a_killed_broker_has_written_and_not_synced_is_synced_by_the_next_one() {
    let (disk, specs) = (SimDisk::new(5), specs(2));
    let mut run = Run::open(&disk, settings(), specs.clone()).unwrap();
    let mut expected = Vec::new();
    for value in 0..20 {
        expected.extend(one_more(&mut run, &specs[0], value));
    }
    let synced = run.store.stats().segment_syncs;
    {
        let mut flush = Box::pin(run.store.flush());
        while run.store.stats().flushed_bytes == 0 {
            assert!(flush.poll_unpin(&mut Context::from_waker(noop_waker_ref())).is_pending());
        }
    }
    assert_eq!(run.store.stats().segment_syncs, synced);
    drop(run);
    // The machine goes on, so the new broker finds it in the segment.
    let mut run = Run::open(&disk, settings(), specs.clone()).unwrap();
    one_more(&mut run, &specs[1], 20);
    run.pool.run_until(run.store.flush()).unwrap();
    one_more(&mut run, &specs[1], 21);
    drop(run);
    assert!(survives(&disk, &specs[0]) == expected, "acknowledged data is gone");
}

#[test]
fn a_journal_that_found_no_space_for_its_files_has_it_when_there_is_some() {
    let (disk, specs) = (SimDisk::new(6), specs(1));
    let small = small_store_config(0, 1);
    let mut run = Run::open(&disk, small.clone(), specs.clone()).unwrap();
    one_more(&mut run, &specs[0], 0);
    drop(run);
    let mut larger = small;
    larger.journal.file_bytes = 128 << 10;
    let mut run = Run::open(&disk, larger, specs.clone()).unwrap();
    disk.fill_up();
    run.settle();
    let log = run.log(&specs[0]);
    let mut values = 1..200;
    let mut fill = |run: &mut Run| {
        for value in &mut values {
            if append(&log, &batch(BatchOptions::default(), value, 1, 8000, NOW)).is_err() {
                return;
            }
            run.settle();
        }
        panic!("the journal is never full");
    };
    fill(&mut run);
    run.pool.run_until(run.store.flush()).unwrap();
    run.settle();
    fill(&mut run);
    disk.make_room();
    run.pool.run_until(run.store.tick(NOW + 1000)).unwrap();
    run.settle();
    one_more(&mut run, &specs[0], 1000);
}
