//! Compaction as a user sees it: what stays, what goes, and when.

use crate::{harness::*, keyed::*};
use protocol::records::{BatchBuilder, BatchOptions};
use std::rc::Rc;
use storage::{LogConfig, Offset, PartitionLog, cleaner::CleanerConfig, disk::SimDisk};

/// Appends `count` random batches durably.
fn fill(run: &mut Run, model: &mut Keyed, seed: u64, count: usize, keys: u64) {
    let (log, mut random) = (only_log(run), Random(seed));
    for _ in 0..count {
        run.pool.run_until(run.store.wait_for_room());
        let outcome = model.append(&log, &mut random, keys).unwrap();
        run.pool.run_until(run.store.durable(outcome.commit)).unwrap();
    }
}

fn put(run: &mut Run, key: u64, value: Option<&[u8]>, timestamp: i64) -> i64 {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(timestamp, Some(&key.to_be_bytes()), value, &[]);
    let log = only_log(run);
    run.append_durably(&log, &builder.build().unwrap()).base_offset.0
}

/// Closes the active segment by a record of a key that nothing else has.
fn close_segment(run: &mut Run, timestamp: i64) -> i64 {
    put(run, u64::MAX, Some(&[0; 4000]), timestamp)
}

fn log_files(disk: &SimDisk) -> usize {
    disk.files().iter().filter(|file| file.extension().is_some_and(|e| e == "log")).count()
}

#[test]
fn each_key_stays_once_and_small_segments_become_one_also_after_a_restart() {
    let disk = SimDisk::new(1);
    let mut run = open_compacted(&disk, compacted());
    let mut model = Keyed::default();
    fill(&mut run, &mut model, 1, 200, 10);
    let report = run.clean(NOW).unwrap().unwrap();
    assert!(report.segments.0 > 10 && report.segments.1 < 4, "{report:?}");
    assert!(report.bytes.1 < report.bytes.0 / 5, "{report:?}");
    assert_eq!((report.first_dirty, report.is_map_full), (Offset(0), false));
    let log = only_log(&run);
    let offsets = log.offsets();
    let found = run.rows(&log);
    model.check_clean(&found, report.clean_end, "cleaned");
    assert_eq!(log_files(&disk), report.segments.1 + 1, "{:?}", disk.files());
    assert_eq!(run.clean(NOW).unwrap(), None, "there is nothing to do");

    for clean in [false, true] {
        match clean {
            true => run.shutdown(),
            false => drop(run),
        }
        run = open_compacted(&disk, compacted());
        let log = only_log(&run);
        assert_eq!(log.offsets(), offsets);
        assert_eq!(run.rows(&log), found);
        assert_eq!(run.clean(NOW).unwrap(), None, "what is clean is remembered");
        // Reads from the middle find their way by the index, and by the gaps.
        for from in 0..offsets.high_watermark.0 {
            let read = rows(&run.read_all(&log, Offset(from), 3000));
            let expected: Vec<_> = found.iter().filter(|row| row.offset >= from).cloned().collect();
            let read: Vec<_> = read.into_iter().filter(|row| row.offset >= from).collect();
            assert_eq!(read, expected, "from {from}");
        }
    }
}

#[test]
fn a_second_pass_cleans_what_came_after_the_first() {
    let disk = SimDisk::new(2);
    let mut run = open_compacted(&disk, compacted());
    let mut model = Keyed::default();
    let mut clean_end = Offset(0);
    for round in 0..4 {
        fill(&mut run, &mut model, round, 60, 10);
        let report = run.clean(NOW).unwrap().unwrap();
        assert_eq!(report.first_dirty, clean_end, "it begins where the last one ended");
        clean_end = report.clean_end;
        let log = only_log(&run);
        let found = run.rows(&log);
        model.check_clean(&found, clean_end, &format!("round {round}"));
    }
}

#[test]
fn a_map_without_room_for_all_keys_cleans_in_several_passes() {
    let disk = SimDisk::new(3);
    let mut run = open_compacted(&disk, compacted());
    let mut model = Keyed::default();
    fill(&mut run, &mut model, 3, 150, 40);
    let little = CleanerConfig { dedupe_buffer_bytes: 24 * 20, ..cleaner_config() };
    let mut passes = 0;
    while let Some(report) = run.clean_with(&little, NOW).unwrap() {
        passes += 1;
        assert!(report.map_bytes <= 24 * 20 && report.clean_end > report.first_dirty, "{report:?}");
        let log = only_log(&run);
        let found = run.rows(&log);
        model.check_clean(&found, report.clean_end, &format!("pass {passes}"));
    }
    assert!(passes > 2, "{passes}");
}

#[test]
fn a_deleted_key_is_told_for_as_long_as_configured_and_then_forgotten() {
    let disk = SimDisk::new(4);
    let mut run = open_compacted(&disk, compacted());
    put(&mut run, 1, Some(b"one"), NOW);
    let tombstone = put(&mut run, 1, None, NOW);
    close_segment(&mut run, NOW);
    run.clean(NOW).unwrap().unwrap();
    let log = only_log(&run);
    let of_key = |rows: Vec<Row>| {
        rows.into_iter().filter(|row| row.key == Some(1)).map(|row| row.offset).collect::<Vec<_>>()
    };
    assert_eq!(of_key(run.rows(&log)), [tombstone]);

    // The next pass comes before the horizon, the one after that behind it.
    for (now, left) in [(NOW + 999, vec![tombstone]), (NOW + 1_000, vec![])] {
        close_segment(&mut run, NOW);
        run.clean(now).unwrap().unwrap();
        assert_eq!(of_key(run.rows(&log)), left, "at {}", now - NOW);
    }
}

#[test]
fn young_records_are_left_alone_and_old_ones_do_not_wait_for_ever() {
    let config = LogConfig { min_compaction_lag_ms: 10_000, ..compacted() };
    let disk = SimDisk::new(5);
    let mut run = open_compacted(&disk, config);
    for i in 0..3 {
        put(&mut run, 1, Some(&[i; 3000]), NOW);
    }
    for restart in [false, true] {
        if restart {
            run.shutdown();
            run = open_compacted(&disk, LogConfig { min_compaction_lag_ms: 10_000, ..compacted() });
        }
        assert_eq!(run.clean(NOW + 9_999).unwrap(), None);
    }
    let report = run.clean(NOW + 10_000).unwrap().unwrap();
    assert_eq!(report.clean_end, Offset(2), "the active segment is left out");

    // Without a lag that is too long: a ratio that is never reached, and an active segment that nothing closes.
    let config = LogConfig { min_cleanable_dirty_ratio: 1.0, max_compaction_lag_ms: 5_000, ..compacted() };
    let disk = SimDisk::new(6);
    let mut run = open_compacted(&disk, config.clone());
    for i in 0..3 {
        put(&mut run, 1, Some(&[i; 100]), NOW);
    }
    assert_eq!(run.clean(NOW + 5_000).unwrap(), None);
    let report = run.clean(NOW + 5_001).unwrap().unwrap();
    assert_eq!(report.clean_end, Offset(3), "the active segment was closed");
    let log = only_log(&run);
    assert_eq!(run.rows(&log).len(), 1);
    assert_eq!(run.clean(NOW + 50_000).unwrap(), None);
    drop(run);
    let mut run = open_compacted(&disk, config);
    assert_eq!(put(&mut run, 1, Some(b"x"), NOW), 3);
}

#[test]
fn the_dirty_ratio_decides_when_a_log_is_due() {
    let disk = SimDisk::new(7);
    let mut run = open_compacted(&disk, LogConfig { min_cleanable_dirty_ratio: 0.6, ..compacted() });
    for key in 0..4 {
        put(&mut run, key, Some(&[1; 3900]), NOW);
    }
    assert_eq!(run.clean(NOW).unwrap().unwrap().clean_end, Offset(3));
    assert_eq!(run.store.stats().max_dirty_ratio, 0.0);
    for key in 0..4 {
        put(&mut run, key, Some(&[2; 3900]), NOW);
    }
    // Three segments clean, four dirty.
    assert_eq!(run.clean(NOW).unwrap(), None);
    assert!((run.store.stats().max_dirty_ratio - 4.0 / 7.0).abs() < 0.01);
    put(&mut run, 9, Some(&[2; 3900]), NOW);
    assert_eq!(run.clean(NOW).unwrap().unwrap().first_dirty, Offset(3));
    assert_eq!(run.store.stats().cleaner_runs, 2);
}

#[test]
fn compact_and_delete_does_both() {
    let config = LogConfig { cleanup_delete: true, retention_ms: 5_000, ..compacted() };
    let disk = SimDisk::new(8);
    let mut run = open_compacted(&disk, config);
    for i in 0..20u64 {
        put(&mut run, i % 2, Some(&[3; 2000]), NOW + 1_000 * i as i64);
    }
    let report = run.clean(NOW).unwrap().unwrap();
    let log = only_log(&run);
    let found = run.rows(&log);
    let clean = found.iter().filter(|row| row.offset < report.clean_end.0).count();
    assert_eq!(clean, 2);
    // The first segment holds the latest of what was cleaned: retention goes by the records that are left.
    run.pool.run_until(run.store.enforce_retention(NOW + 17_000 + 5_000)).unwrap();
    assert_eq!(log.offsets().log_start_offset, Offset(0));
    run.pool.run_until(run.store.enforce_retention(NOW + 17_001 + 5_000)).unwrap();
    assert!(log.offsets().log_start_offset.0 >= 18, "{:?}", log.offsets());
}

#[test]
fn records_below_the_log_start_stay_deleted() {
    let disk = SimDisk::new(9);
    let mut run = open_compacted(&disk, compacted());
    let mut model = Keyed::default();
    fill(&mut run, &mut model, 9, 100, 10);
    let log = only_log(&run);
    run.pool.run_until(log.delete_records(Offset(57))).unwrap();
    let report = run.clean(NOW).unwrap().unwrap();
    assert_eq!(report.first_dirty, Offset(57));
    run.pool.run_until(run.store.enforce_retention(NOW)).unwrap();
    for restart in [false, true] {
        if restart {
            drop(run);
            run = open_compacted(&disk, compacted());
        }
        let log = only_log(&run);
        assert_eq!(log.offsets().log_start_offset, Offset(57));
        let mut found = run.rows(&log);
        found.retain(|row| row.offset >= 57);
        let mut later = model.clone();
        later.rows.retain(|row| row.offset >= 57);
        later.check_clean(&found, report.clean_end, "behind the log start");
    }
}

#[test]
fn timestamps_are_found_among_the_records_that_are_left() {
    let disk = SimDisk::new(10);
    let mut run = open_compacted(&disk, compacted());
    let mut model = Keyed::default();
    fill(&mut run, &mut model, 10, 150, 15);
    run.clean(NOW).unwrap().unwrap();
    for restart in [false, true] {
        if restart {
            run.shutdown();
            run = open_compacted(&disk, compacted());
        }
        let log = only_log(&run);
        let found = run.rows(&log);
        let newest = found.iter().map(|row| row.timestamp).max().unwrap();
        for wanted in NOW - 1..=newest + 1 {
            let first =
                found.iter().find(|row| row.timestamp >= wanted).map(|row| (row.offset, row.timestamp));
            let answer = run.pool.run_until(log.offset_for_timestamp(wanted)).unwrap();
            assert_eq!(answer.map(|found| (found.offset.0, found.timestamp)), first, "{}", wanted - NOW);
        }
        let answer = run.pool.run_until(log.max_timestamp()).unwrap().unwrap();
        assert_eq!(answer.timestamp, newest);
    }
}

#[test]
fn producers_are_known_even_if_nothing_but_segments_is_left() {
    let disk = SimDisk::new(11);
    let mut run = open_compacted(&disk, compacted());
    let mut model = Keyed::default();
    fill(&mut run, &mut model, 11, 40, 3);
    // A producer falls silent, and others go on with its keys.
    let mut builder = BatchBuilder::new(BatchOptions {
        producer_id: 77,
        producer_epoch: 3,
        base_sequence: 0,
        ..BatchOptions::default()
    });
    builder.append(NOW, Some(&1u64.to_be_bytes()), Some(b"last words"), &[]);
    let log = only_log(&run);
    let silent = run.append_durably(&log, &builder.build().unwrap()).base_offset;
    for key in 0..3 {
        put(&mut run, key, Some(&[1; 3000]), NOW);
    }
    close_segment(&mut run, NOW);
    run.clean(NOW).unwrap().unwrap();
    let known = log.producers();
    assert!(
        known
            .iter()
            .any(|(id, epoch, sequence, offset, _)| (id.0, *epoch, *sequence, *offset) == (77, 3, 0, silent))
    );
    assert!(run.rows(&log).iter().all(|row| row.offset != silent.0), "its record is gone");
    run.shutdown();
    // The folder of another broker: segments, but no checkpoints.
    let spec = spec(0, &Rc::new(compacted()));
    let checkpoints = disk.files().into_iter().find(|file| file.ends_with("checkpoints")).unwrap();
    futures::executor::block_on(storage::disk::Disk::remove(&disk, &checkpoints)).unwrap();
    let run = Run::open(&disk, small_store_config(0, 1), vec![spec.clone()]).unwrap();
    let again = run.log(&spec);
    let facts = |log: &PartitionLog<SimDisk>| {
        log.producers()
            .iter()
            .map(|(id, epoch, sequence, offset, _)| (*id, *epoch, *sequence, *offset))
            .collect::<Vec<_>>()
    };
    assert_eq!(facts(&again), facts(&log));
    assert_eq!(again.offsets(), log.offsets());
}

#[test]
fn a_topic_that_was_not_compacted_becomes_so_and_records_without_key_go() {
    let disk = SimDisk::new(12);
    let mut run = open_compacted(&disk, small_log_config());
    let log = only_log(&run);
    for i in 0..40 {
        run.append_durably(&log, &batch(BatchOptions::default(), i, 1, 1000, NOW));
    }
    assert_eq!(run.clean(NOW).unwrap(), None);
    run.store.update_config(log.id().topic_id, &Rc::new(compacted()));
    put(&mut run, 5, Some(b"five"), NOW);
    close_segment(&mut run, NOW);
    close_segment(&mut run, NOW);
    let report = run.clean(NOW).unwrap().unwrap();
    assert_eq!(report.stats.keyless_removed, 40);
    let kept: Vec<_> = run.rows(&log).iter().map(|row| row.offset).collect();
    assert_eq!(kept[0], 40);
}

#[test]
fn a_damaged_log_is_left_as_it_is_and_others_are_cleaned() {
    let disk = SimDisk::new(13);
    let config = Rc::new(compacted());
    let specs = [spec(0, &config), spec(1, &config)];
    let mut run = Run::open(&disk, small_store_config(0, 1), specs.to_vec()).unwrap();
    for spec in &specs {
        let log = run.log(spec);
        let mut random = Random(13);
        let mut model = Keyed::default();
        for _ in 0..60 {
            run.pool.run_until(run.store.wait_for_room());
            let outcome = model.append(&log, &mut random, 10).unwrap();
            run.pool.run_until(run.store.durable(outcome.commit)).unwrap();
        }
    }
    run.pool.run_until(run.store.flush()).unwrap();
    let is_victim =
        |file: &&std::path::PathBuf| file.to_string_lossy().ends_with("orders-1/00000000000000000000.log");
    let victim = disk.files().into_iter().find(|file| is_victim(&file)).unwrap();
    disk.corrupt(&victim, 1000, 1);
    let before = disk.files();
    let mut cleaned = Vec::new();
    for _ in 0..3 {
        cleaned.extend(run.clean(NOW).unwrap().map(|report| report.partition.partition.0));
    }
    assert_eq!(cleaned, [0]);
    let of_victim = |files: Vec<std::path::PathBuf>| {
        files.into_iter().filter(|f| f.starts_with(victim.parent().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(of_victim(disk.files()), of_victim(before));
    assert_eq!(run.store.stats().uncleanable_partitions, 1);
}

#[test]
fn a_partition_that_is_deleted_during_its_pass_leaves_nothing() {
    let mut ends = std::collections::BTreeSet::new();
    for turns in (0..600).step_by(7) {
        let disk = SimDisk::new(14);
        let mut run = open_compacted(&disk, compacted());
        let mut model = Keyed::default();
        fill(&mut run, &mut model, 14, 60, 10);
        run.pool.run_until(run.store.flush()).unwrap();
        let id = run.store.partitions()[0];
        let Run { pool, store, .. } = &mut run;
        let deletion = async {
            for _ in 0..turns {
                yield_now().await;
            }
            store.delete_partition(&id).await
        };
        let (config, host) = (cleaner_config(), InlineHost);
        let (cleaned, deleted) =
            pool.run_until(futures::future::join(store.clean_next(&host, &config, NOW), deletion));
        deleted.unwrap();
        ends.insert(cleaned.unwrap().is_some());
        assert!(
            !disk.files().iter().any(|f| f.starts_with("/data/topics")),
            "after {turns}: {:?}",
            disk.files()
        );
    }
    assert_eq!(ends.len(), 2, "some deletions come in the middle, some behind the end");
}

#[test]
fn without_space_nothing_is_lost_and_cleaning_goes_on_later() {
    let disk = SimDisk::new(15);
    let mut run = open_compacted(&disk, compacted());
    let mut model = Keyed::default();
    fill(&mut run, &mut model, 15, 100, 10);
    run.pool.run_until(run.store.flush()).unwrap();
    let (log, before) = (only_log(&run), log_files(&disk));
    disk.set_free_space(1000);
    run.pool.run_until(run.store.tick(NOW)).unwrap();
    run.clean(NOW).unwrap_err();
    assert_eq!(log_files(&disk), before);
    let found = run.rows(&log);
    model.check(&found, "nothing has happened");
    disk.set_free_space(1 << 30);
    run.pool.run_until(run.store.tick(NOW)).unwrap();
    let report = run.clean(NOW).unwrap().unwrap();
    let found = run.rows(&log);
    model.check_clean(&found, report.clean_end, "with space");
}
