//! Damage is named, takes one partition offline, and nothing else.

use crate::harness::*;
use protocol::records::BatchOptions;
use std::{path::Path, rc::Rc};
use storage::{AppendError, Offset, PartitionSpec, ReadError, disk::SimDisk};

/// Two partitions with data in several segments, closed cleanly.
fn two_partitions(disk: &SimDisk) -> (Vec<PartitionSpec>, Vec<Vec<u8>>) {
    let config = Rc::new(small_log_config());
    let specs = vec![spec(0, &config), spec(1, &config)];
    let mut run = Run::open(disk, small_store_config(0, 1), specs.clone()).unwrap();
    let mut bytes = vec![Vec::new(); 2];
    for i in 0..60 {
        for (p, spec) in specs.iter().enumerate() {
            let log = run.log(spec);
            let batch = batch(BatchOptions::default(), i, 1, 900, NOW);
            let outcome = run.append_durably(&log, &batch);
            bytes[p].extend_from_slice(&stored(&batch, outcome.base_offset));
        }
    }
    run.shutdown();
    (specs, bytes)
}

fn segments(disk: &SimDisk, partition: i32, suffix: &str) -> Vec<std::path::PathBuf> {
    let dir = Path::new(DATA).join(format!("topics/orders-{partition}"));
    disk.files()
        .into_iter()
        .filter(|f| f.starts_with(&dir) && f.extension().is_some_and(|e| e == suffix))
        .collect()
}

#[test]
fn a_partition_without_its_active_segment_goes_offline_and_the_other_works() {
    let disk = SimDisk::new(1);
    let (specs, bytes) = two_partitions(&disk);
    let active = segments(&disk, 0, "log").pop().unwrap();
    futures::executor::block_on(storage::disk::Disk::remove(&disk, &active)).unwrap();
    for _ in 0..2 {
        let mut run = Run::open(&disk, small_store_config(0, 1), specs.clone()).unwrap();
        assert_eq!(run.report.offline.len(), 1);
        assert!(run.report.offline[0].1.contains("is missing"), "{:?}", run.report.offline);
        let damaged = run.log(&specs[0]);
        let batch = batch(BatchOptions::default(), 1, 1, 10, NOW);
        assert!(matches!(append(&damaged, &batch), Err(AppendError::Offline(_))));
        let read = run.pool.run_until(damaged.read(Offset(0), Offset(1), 1, true));
        assert!(matches!(read, Err(ReadError::Offline(_))));
        let healthy = run.log(&specs[1]);
        assert_eq!(run.read_all(&healthy, Offset(0), 4000), bytes[1]);
        run.shutdown();
    }
}

#[test]
fn index_files_that_are_missing_or_wrong_are_rebuilt() {
    let disk = SimDisk::new(2);
    let (specs, bytes) = two_partitions(&disk);
    let indexes = segments(&disk, 0, "index");
    assert!(indexes.len() >= 3, "{indexes:?}");
    futures::executor::block_on(storage::disk::Disk::remove(&disk, &indexes[0])).unwrap();
    disk.corrupt(&indexes[1], 3, 0x40);
    disk.corrupt(&indexes[2], 7, 0x01);
    let mut run = Run::open(&disk, small_store_config(0, 1), specs.clone()).unwrap();
    let log = run.log(&specs[0]);
    for from in (0..60).rev() {
        let outcome = run.pool.run_until(log.read(Offset(from), Offset(60), 100, true)).unwrap();
        let each = bytes[0].len() / 60;
        assert_eq!(outcome.slices.concat(), bytes[0][from as usize * each..][..each], "offset {from}");
    }
}

#[test]
fn a_failed_sync_stops_the_store_for_good() {
    let disk = SimDisk::new(3);
    let config = Rc::new(small_log_config());
    let spec = spec(0, &config);
    let mut run = Run::open(&disk, small_store_config(0, 1), vec![spec.clone()]).unwrap();
    let log = run.log(&spec);
    disk.fail_after(storage::disk::sim::SimOp::Write, 0);
    let outcome = append(&log, &batch(BatchOptions::default(), 1, 1, 10, NOW)).unwrap();
    assert!(run.pool.run_until(run.store.durable(outcome.commit)).is_err());
    run.settle();
    assert!(run.store.writable().is_err());
    assert_eq!(run.ended.borrow().len(), 3, "the loops end");
    assert!(run.ended.borrow().iter().all(Result::is_err));
}
