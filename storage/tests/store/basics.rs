//! Append, read, flush, roll, restart.

use crate::harness::*;
use protocol::records::BatchOptions;
use std::{path::Path, rc::Rc};
use storage::{
    Offset,
    disk::{Disk, SimDisk, sim::Survival},
    journal::JournalConfig,
};

#[test]
fn what_is_appended_is_read_back_from_memory_and_from_segments() {
    let disk = SimDisk::new(1);
    let config = Rc::new(small_log_config());
    let spec = spec(0, &config);
    let mut run = Run::open(&disk, small_store_config(0, 1), vec![spec.clone()]).unwrap();
    let log = run.log(&spec);
    let mut expected = Vec::new();
    let mut random = Random(3);
    for i in 0..200 {
        let batch = batch(
            BatchOptions::default(),
            i,
            1 + random.below(5) as usize,
            8 + random.below(900) as usize,
            NOW,
        );
        let outcome = run.append_durably(&log, &batch);
        expected.extend_from_slice(&stored(&batch, outcome.base_offset));
        if i % 50 == 0 {
            assert_eq!(run.read_all(&log, Offset(0), 3000), expected);
        }
    }
    run.settle();
    let stats = run.store.stats();
    assert!(stats.flush_rounds > 0 && stats.cold_reads > 0 && stats.cache_reads > 0, "{stats:?}");
    assert!(stats.open_files <= 4 && stats.cache_bytes <= 128 << 10, "{stats:?}");
    for max_bytes in [1, 500, 5_000, 1 << 20] {
        assert_eq!(run.read_all(&log, Offset(0), max_bytes), expected, "{max_bytes}");
    }
    assert_eq!(log.size_bytes(), expected.len() as u64);
    run.shutdown();

    let mut again = Run::open(&disk, small_store_config(0, 1), vec![spec.clone()]).unwrap();
    assert!(again.report.was_clean, "{:?}", again.report);
    assert_eq!(again.report.replayed_batches, 0);
    let log = again.log(&spec);
    assert_eq!(again.read_all(&log, Offset(0), 4096), expected);
    let more = batch(BatchOptions::default(), 999, 1, 100, NOW);
    let outcome = again.append_durably(&log, &more);
    expected.extend_from_slice(&stored(&more, outcome.base_offset));
    assert_eq!(again.read_all(&log, Offset(0), 1 << 20), expected);
}

fn directories(run: &mut Run, disk: &SimDisk) -> usize {
    run.pool.run_until(disk.list(Path::new("/data/topics"))).unwrap().len()
}

#[test]
fn what_a_crash_left_in_the_journal_is_served_at_once_and_goes_into_segments_later() {
    let log_config = Rc::new(small_log_config());
    let specs: Vec<_> = (0..20).map(|p| spec(p, &log_config)).collect();
    let mut disk = SimDisk::new(2);
    let mut expected = vec![Vec::new(); specs.len()];
    // Nothing makes the flusher run.
    let mut config = small_store_config(0, 1);
    config.journal = JournalConfig { file_bytes: 1 << 20, initial_files: 8, max_files: 16, ..config.journal };
    config.cache_bytes = 4 << 20;
    for life in 0..3 {
        let mut run = Run::open(&disk, config.clone(), specs.clone()).unwrap();
        assert_eq!(run.report.replayed_batches, life * specs.len() as u64);
        assert_eq!(directories(&mut run, &disk), 0, "a start writes no segments");
        for (spec, expected) in specs.iter().zip(&mut expected) {
            let log = run.log(spec);
            assert_eq!(run.read_all(&log, Offset(0), 4096), *expected);
            let batch = batch(BatchOptions::default(), life, 2, 50, NOW);
            let outcome = run.append_durably(&log, &batch);
            expected.extend_from_slice(&stored(&batch, outcome.base_offset));
            assert_eq!(run.read_all(&log, Offset(0), 4096), *expected);
        }
        drop(run);
        disk = disk.crash(Survival::Nothing, life);
    }
    let mut run = Run::open(&disk, config.clone(), specs.clone()).unwrap();
    run.pool.run_until(run.store.flush()).unwrap();
    assert_eq!(directories(&mut run, &disk), specs.len());
    drop(run);
    let disk = disk.crash(Survival::Nothing, 9);
    let mut run = Run::open(&disk, config.clone(), specs.clone()).unwrap();
    for (spec, expected) in specs.iter().zip(&expected) {
        let log = run.log(spec);
        assert_eq!(run.read_all(&log, Offset(0), 4096), *expected);
    }
    assert_eq!(run.report.replayed_batches, 0, "what was flushed is not replayed");
}

#[test]
fn a_broker_that_is_killed_again_and_again_does_not_let_its_journal_grow() {
    let config = Rc::new(small_log_config());
    let spec = spec(0, &config);
    let mut disk = SimDisk::new(3);
    let journal = Path::new("/data/shards/0/0/journal");
    for life in 0..30 {
        let mut run = Run::open(&disk, small_store_config(0, 1), vec![spec.clone()]).unwrap();
        let log = run.log(&spec);
        assert_eq!(log.offsets().log_end_offset, Offset(life as i64));
        let batch = batch(BatchOptions::default(), life, 1, 50, NOW);
        run.pool.run_until(run.store.wait_for_room());
        let outcome = append(&log, &batch).unwrap();
        run.pool.run_until(run.store.durable(outcome.commit)).unwrap();
        let files = run.pool.run_until(disk.list(journal)).unwrap().len();
        assert!(files <= small_store_config(0, 1).journal.max_files + 1, "{files} files in life {life}");
        drop(run);
        disk = disk.crash(Survival::Everything, life);
    }
}
