//! Partitions that other brokers were given while this one was down.

use crate::harness::*;
use std::rc::Rc;
use storage::{
    Offset, PartitionSpec,
    disk::{SimDisk, sim::Survival},
};

fn wanted(partitions: &[i32]) -> Vec<PartitionSpec> {
    partitions.iter().map(|partition| spec(*partition, &Rc::new(small_log_config()))).collect()
}

fn is_held(held: &[i32]) -> impl Fn(&str) -> bool {
    let names: Vec<String> = held.iter().map(|partition| format!("orders-{partition}")).collect();
    move |name| names.iter().any(|held| held == name)
}

/// A store whose journal holds batches of partitions 0 and 1; those of 0 are in a segment, too, if `is_flushed`.
fn with_both(is_flushed: bool) -> SimDisk {
    let disk = SimDisk::new(1);
    let mut run = Run::open(&disk, small_store_config(0, 1), wanted(&[0, 1])).unwrap();
    for partition in wanted(&[0, 1]) {
        let log = run.store.partition(&partition.id()).unwrap();
        for value in 0..4 {
            append(&log, &batch(Default::default(), value, 2, 100, NOW)).unwrap();
        }
    }
    run.pool.run_until(run.store.all_durable()).unwrap();
    if is_flushed {
        run.pool.run_until(run.store.flush()).unwrap();
        let log = run.store.partition(&wanted(&[0])[0].id()).unwrap();
        append(&log, &batch(Default::default(), 9, 1, 100, NOW)).unwrap();
        run.pool.run_until(run.store.all_durable()).unwrap();
    }
    drop(run);
    disk.crash(Survival::Nothing, 2)
}

#[test]
fn a_partition_that_has_moved_away_keeps_nobody_from_starting_and_leaves_nothing_behind() {
    for is_flushed in [false, true] {
        let disk = with_both(is_flushed);
        let mut run = Run::open(&disk, small_store_config(0, 1), wanted(&[1])).unwrap();
        assert!(run.report.dropped_entries > 0);
        let moved = run.pool.run_until(run.store.remove_moved(is_held(&[1]), |_| true)).unwrap();
        assert_eq!(moved, [wanted(&[0])[0].id()]);
        let stays = run.store.partition(&wanted(&[1])[0].id()).unwrap();
        assert_eq!(stays.offsets().log_end_offset, Offset(8));
        assert!(!disk.files().iter().any(|path| path.to_string_lossy().contains("/orders-0/")));

        // It comes back, and begins anew: also after a crash nothing of its former life is in it.
        let back = wanted(&[0]).remove(0);
        let id = back.id();
        let log = run.pool.run_until(run.store.create_partition(back)).unwrap();
        let first = batch(Default::default(), 77, 3, 100, NOW);
        append(&log, &first).unwrap();
        run.pool.run_until(run.store.all_durable()).unwrap();
        drop((run, log, stays));
        let disk = disk.crash(Survival::Nothing, 3);
        let mut run = Run::open(&disk, small_store_config(0, 1), wanted(&[0, 1])).unwrap();
        assert_eq!(run.report.offline, []);
        let log = run.store.partition(&id).unwrap();
        assert_eq!(log.offsets().log_end_offset, Offset(3));
        let read = run.pool.run_until(log.read(Offset(0), Offset(3), 10_000, true)).unwrap();
        assert_eq!(read.slices.concat(), stored(&first, Offset(0)));
        assert_eq!(run.pool.run_until(run.store.remove_moved(is_held(&[0, 1]), |_| true)).unwrap(), []);
    }
}

#[test]
fn what_belongs_to_another_shard_or_to_an_unknown_topic_is_left_to_others() {
    let disk = with_both(true);
    let mut run = Run::open(&disk, small_store_config(0, 1), wanted(&[0, 1])).unwrap();
    run.pool.run_until(run.store.flush()).unwrap();
    run.pool.run_until(run.store.shutdown()).unwrap();
    drop(run);
    let mut run = Run::open(&disk, small_store_config(0, 1), wanted(&[1])).unwrap();
    let moved = run.pool.run_until(run.store.remove_moved(is_held(&[1]), |_| false)).unwrap();
    assert_eq!(moved, []);
    assert!(disk.files().iter().any(|path| path.to_string_lossy().contains("/orders-0/")));
}
