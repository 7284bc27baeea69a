//! Large batches: written once, straight to their segment, and named in the journal.

use crate::harness::*;
use futures::FutureExt;
use protocol::records::{BatchOptions, iter_batches};
use std::{path::PathBuf, rc::Rc};
use storage::{
    LogConfig, Offset, PartitionLog, PartitionSpec, StorageError, StoreConfig,
    disk::{SimDisk, sim::Survival},
    journal,
};

const VALUE_BYTES: usize = 5000;

fn config() -> StoreConfig {
    StoreConfig { direct_from_bytes: 4000, ..small_store_config(0, 1) }
}

fn specs(count: i32) -> Vec<PartitionSpec> {
    let config = Rc::new(LogConfig { segment_bytes: 1 << 20, ..small_log_config() });
    (0..count).map(|p| spec(p, &config)).collect()
}

fn large(value: u64) -> Vec<u8> {
    batch(BatchOptions::default(), value, 1, VALUE_BYTES + value as usize % 97, NOW)
}

fn small(value: u64) -> Vec<u8> {
    batch(BatchOptions::default(), value, 1, 50, NOW)
}

/// Appends `count` large batches, with a small one after each `small_every`-th, and gives back what the log must hold.
fn append_many(
    run: &mut Run,
    log: &PartitionLog<SimDisk>,
    count: u64,
    small_every: u64,
    expected: &mut Vec<u8>,
) {
    for i in 0..count {
        let mut batches = vec![large(i)];
        if i % small_every == small_every - 1 {
            batches.push(small(i));
        }
        for bytes in batches {
            let outcome = run.append_durably(log, &bytes);
            expected.extend(stored(&bytes, outcome.base_offset));
        }
    }
}

#[test]
fn a_steady_flow_of_large_batches_is_written_once() {
    let disk = SimDisk::new(1);
    let specs = specs(1);
    let mut run = Run::open(&disk, config(), specs.clone()).unwrap();
    let log = run.log(&specs[0]);
    let mut expected = Vec::new();
    append_many(&mut run, &log, 100, u64::MAX, &mut expected);
    let stats = run.store.stats();
    assert!(stats.direct_bytes > stats.appended_bytes / 10 * 8, "{stats:?}");
    // A block for each commit, and what went through the journal before the segment was there.
    assert!(stats.journal_written_bytes < 101 * 4096 + 16 * VALUE_BYTES as u64, "{stats:?}");
    assert_eq!(run.read_all(&log, Offset(0), 1 << 20), expected);

    drop((run, log));
    let disk = disk.crash(Survival::Nothing, 1);
    let mut run = Run::open(&disk, config(), specs.clone()).unwrap();
    let log = run.log(&specs[0]);
    assert_eq!(run.read_all(&log, Offset(0), 1 << 20), expected);
    append_many(&mut run, &log, 10, 3, &mut expected);
    assert_eq!(run.read_all(&log, Offset(0), 1 << 20), expected);
    run.shutdown();
    let mut run = Run::open(&disk, config(), specs.clone()).unwrap();
    assert!(run.report.was_clean);
    let log = run.log(&specs[0]);
    assert_eq!(run.read_all(&log, Offset(0), 1 << 20), expected);
}

#[test]
fn large_and_small_batches_of_many_partitions_stay_in_order() {
    let disk = SimDisk::new(2);
    let specs = specs(4);
    let mut run = Run::open(&disk, config(), specs.clone()).unwrap();
    let mut expected = vec![Vec::new(); specs.len()];
    let mut last = None;
    for i in 0..400u64 {
        run.pool.run_until(run.store.wait_for_room());
        let p = (i % specs.len() as u64) as usize;
        let bytes = if i % 11 < 8 { large(i) } else { small(i) };
        let outcome = append(&run.log(&specs[p]), &bytes).unwrap();
        expected[p].extend(stored(&bytes, outcome.base_offset));
        last = Some(outcome.commit);
        if i % 50 == 49 {
            run.pool.run_until(run.store.flush()).unwrap();
        }
    }
    run.pool.run_until(run.store.durable(last.unwrap())).unwrap();
    assert!(run.store.stats().direct_bytes > 0);
    for survival in [None, Some(Survival::Nothing)] {
        if let Some(survival) = survival {
            drop(run);
            run = Run::open(&disk.crash(survival, 3), config(), specs.clone()).unwrap();
        }
        for (spec, expected) in specs.iter().zip(&expected) {
            let log = run.log(spec);
            let bytes = run.read_all(&log, Offset(0), 1 << 20);
            iter_batches(&bytes).for_each(|b| b.unwrap().check_crc().unwrap());
            assert!(bytes == *expected);
        }
    }
}

#[test]
fn a_damaged_large_batch_that_was_acknowledged_takes_its_partition_offline() {
    let disk = SimDisk::new(4);
    let specs = specs(2);
    // Room enough that nothing is put behind a checkpoint.
    let mut config = StoreConfig { cache_bytes: 8 << 20, ..config() };
    config.journal.file_bytes = 1 << 20;
    let mut run = Run::open(&disk, config.clone(), specs.clone()).unwrap();
    let mut expected = vec![Vec::new(); 2];
    for (spec, expected) in specs.iter().zip(&mut expected) {
        let log = run.log(spec);
        append_many(&mut run, &log, 40, u64::MAX, expected);
    }
    drop(run);
    let disk = disk.crash(Survival::Everything, 1);
    let path = PathBuf::from("/data/topics/orders-1/00000000000000000000.log");
    disk.corrupt(&path, expected[1].len() as u64 - 3 * VALUE_BYTES as u64, 0x55);
    let before = disk.content(&path).unwrap();
    let mut run = Run::open(&disk, config, specs.clone()).unwrap();
    assert!(run.log(&specs[1]).offline_reason().unwrap().contains("is not in its segment"));
    assert_eq!(disk.content(&path).unwrap(), before, "nothing of it is touched");
    let log = run.log(&specs[0]);
    assert_eq!(run.read_all(&log, Offset(0), 1 << 20), expected[0]);
}

#[test]
fn a_partition_with_large_batches_under_way_can_be_deleted() {
    let disk = SimDisk::new(5);
    let specs = specs(2);
    let mut run = Run::open(&disk, config(), specs.clone()).unwrap();
    let mut ignored = Vec::new();
    for spec in &specs {
        let log = run.log(spec);
        append_many(&mut run, &log, 20, u64::MAX, &mut ignored);
        append(&log, &large(20)).unwrap();
        append(&log, &small(21)).unwrap();
    }
    let log = run.log(&specs[1]);
    let last = append(&log, &large(22)).unwrap();
    run.pool.run_until(run.store.delete_partition(&specs[0].id())).unwrap();
    run.pool.run_until(run.store.durable(last.commit)).unwrap();
    run.shutdown();
}

/// A store whose first log is prepared for large batches, on a disk that is full then: what the log must hold, the last of it not durable.
fn with_a_batch_that_finds_no_space(
    disk: &SimDisk,
    specs: &[PartitionSpec],
) -> (Run, Vec<u8>, journal::CommitSeq) {
    let mut run = Run::open(disk, config(), specs.to_vec()).unwrap();
    let log = run.log(&specs[0]);
    let mut expected = Vec::new();
    append_many(&mut run, &log, 20, u64::MAX, &mut expected);
    disk.fill_up_for_writes("log");
    let written = run.store.stats().direct_bytes;
    let outcome = append(&log, &large(20)).unwrap();
    expected.extend(stored(&large(20), outcome.base_offset));
    assert!(run.store.stats().direct_bytes > written, "it goes straight to its segment");
    run.settle();
    assert!(run.ended.borrow().is_empty(), "{:?}", run.ended.borrow());
    assert!(run.store.writable().is_err());
    (run, expected, outcome.commit)
}

#[test]
fn a_large_batch_that_finds_no_space_waits_for_it_and_nothing_ends() {
    let disk = SimDisk::new(7);
    let specs = specs(2);
    let (mut run, expected, commit) = with_a_batch_that_finds_no_space(&disk, &specs);
    let mut durable = Box::pin(run.store.durable(commit));
    for _ in 0..3 {
        run.pool.run_until(run.store.tick(NOW)).unwrap();
        run.settle();
        assert!(run.store.writable().is_err() && durable.as_mut().now_or_never().is_none());
    }
    disk.make_room();
    for _ in 0..2 {
        run.pool.run_until(run.store.tick(NOW)).unwrap();
        run.settle();
    }
    assert_eq!(durable.now_or_never().map(|outcome| outcome.is_ok()), Some(true));
    let other = run.log(&specs[1]);
    run.append_durably(&other, &large(1));
    drop((run, other));
    let mut run = Run::open(&disk.crash(Survival::Nothing, 1), config(), specs.clone()).unwrap();
    let log = run.log(&specs[0]);
    assert!(run.read_all(&log, Offset(0), 1 << 20) == expected);
}

#[test]
fn a_store_that_is_closed_while_a_large_batch_waits_for_space_says_so() {
    let disk = SimDisk::new(8);
    let (mut run, ..) = with_a_batch_that_finds_no_space(&disk, &specs(1));
    assert!(run.store.shutdown().now_or_never().is_none(), "it waits for what was appended");
    run.settle();
    let is_told =
        |outcome: &Result<(), StorageError>| outcome.as_ref().is_err_and(StorageError::is_out_of_space);
    assert!(run.ended.borrow().iter().any(is_told), "{:?}", run.ended.borrow());
}

#[test]
fn a_log_that_cannot_be_prepared_for_large_batches_on_a_full_disk_takes_them_through_the_journal() {
    let disk = SimDisk::new(9);
    let specs = [spec(0, &Rc::new(LogConfig { segment_bytes: 64 << 20, ..small_log_config() }))];
    let mut config = StoreConfig { cache_bytes: 64 << 20, ..config() };
    config.journal.file_bytes = 16 << 20;
    config.journal.max_commit_bytes = 1 << 20;
    let mut run = Run::open(&disk, config, specs.to_vec()).unwrap();
    let log = run.log(&specs[0]);
    // Space is reserved for what comes after the first 4 MiB.
    disk.fill_up();
    let mut expected = Vec::new();
    append_many(&mut run, &log, 1000, u64::MAX, &mut expected);
    assert!(run.ended.borrow().is_empty(), "{:?}", run.ended.borrow());
    assert_eq!(run.store.stats().direct_bytes, 0);
    disk.make_room();
    run.pool.run_until(run.store.flush()).unwrap();
    assert!(run.read_all(&log, Offset(0), 1 << 20) == expected);
    run.shutdown();
}
