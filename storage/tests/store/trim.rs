//! Delete-records, retention, deletion of partitions, look-ups by timestamp.

use crate::harness::*;
use protocol::records::BatchOptions;
use std::rc::Rc;
use storage::{
    AppendError, JournalError, LeaderEpoch, LogConfig, Offset, PartitionSpec, ReadError, StorageError,
    WakeSignal,
    disk::{SimDisk, sim::Survival},
    store::{StrayReport, TopicStatus, remove_gone_partitions},
};

/// A store whose partition has 100 batches of about 1 KiB with timestamps `NOW`, `NOW` + 10, …, all in segments.
fn filled(disk: &SimDisk, config: LogConfig) -> (Run, PartitionSpec, Vec<Vec<u8>>) {
    let spec = spec(0, &Rc::new(config));
    let mut run = Run::open(disk, small_store_config(0, 1), vec![spec.clone()]).unwrap();
    let log = run.log(&spec);
    let mut all = Vec::new();
    for i in 0..100 {
        let bytes = batch(BatchOptions::default(), i, 2, 500, NOW + 10 * i as i64);
        let outcome = run.append_durably(&log, &bytes);
        all.push(stored(&bytes, outcome.base_offset));
    }
    run.pool.run_until(run.store.flush()).unwrap();
    (run, spec, all)
}

#[test]
fn retention_by_size_deletes_whole_segments_from_the_front() {
    let disk = SimDisk::new(1);
    let (mut run, spec, all) = filled(&disk, LogConfig { retention_bytes: 40_000, ..small_log_config() });
    let log = run.log(&spec);
    let report = run.pool.run_until(run.store.enforce_retention(NOW)).unwrap();
    assert!(report.deleted_segments > 2, "{report:?}");
    let offsets = log.offsets();
    assert!((40_000..60_000).contains(&log.size_bytes()), "{}", log.size_bytes());
    let gone = run.pool.run_until(log.read(Offset(0), offsets.high_watermark, 1000, true));
    assert!(matches!(gone, Err(ReadError::OffsetOutOfRange { .. })));
    let from = offsets.log_start_offset.0 as usize / 2;
    assert_eq!(run.read_all(&log, offsets.log_start_offset, 5000), all[from..].concat());

    drop(run);
    let disk = disk.crash(Survival::Nothing, 3);
    let mut run = Run::open(&disk, small_store_config(0, 1), vec![spec.clone()]).unwrap();
    let log = run.log(&spec);
    assert_eq!(log.offsets(), offsets);
    assert_eq!(run.read_all(&log, offsets.log_start_offset, 5000), all[from..].concat());
}

#[test]
fn retention_by_time_empties_a_log_and_its_offsets_go_on() {
    let disk = SimDisk::new(2);
    let (mut run, spec, _) = filled(&disk, LogConfig { retention_ms: 5_000, ..small_log_config() });
    let log = run.log(&spec);
    run.pool.run_until(run.store.enforce_retention(NOW + 5_000)).unwrap();
    assert_eq!(log.offsets().log_start_offset, Offset(0), "nothing is old enough");
    run.pool.run_until(run.store.enforce_retention(NOW + 1_000_000)).unwrap();
    assert_eq!((log.offsets().log_start_offset, log.size_bytes()), (Offset(200), 0));
    assert_eq!(disk.files().iter().filter(|f| f.extension().is_some_and(|e| e == "log")).count(), 1);
    for clean in [false, true] {
        match clean {
            true => run.shutdown(),
            false => drop(run),
        }
        run = Run::open(&disk, small_store_config(0, 1), vec![spec.clone()]).unwrap();
        let log = run.log(&spec);
        assert_eq!(log.offsets().log_end_offset, Offset(200));
    }
    let log = run.log(&spec);
    let bytes = batch(BatchOptions::default(), 1, 1, 10, NOW);
    assert_eq!(run.append_durably(&log, &bytes).base_offset, Offset(200));
}

#[test]
fn deleted_records_stay_deleted() {
    let disk = SimDisk::new(3);
    let (mut run, spec, all) = filled(&disk, small_log_config());
    let log = run.log(&spec);
    assert_eq!(run.pool.run_until(log.delete_records(Offset(101))).unwrap(), Offset(101));
    assert_eq!(
        run.pool.run_until(log.delete_records(Offset(50))).unwrap(),
        Offset(101),
        "it never goes back"
    );
    assert!(run.pool.run_until(log.delete_records(Offset(201))).is_err());
    drop(run);
    let disk = disk.crash(Survival::Nothing, 5);
    let mut run = Run::open(&disk, small_store_config(0, 1), vec![spec.clone()]).unwrap();
    let log = run.log(&spec);
    assert_eq!(log.offsets().log_start_offset, Offset(101));
    // The batch that holds offset 101 comes whole; consumers skip what they did not ask for.
    assert_eq!(run.read_all(&log, Offset(101), 5000), all[50..].concat());
    assert_eq!(run.pool.run_until(log.delete_records(Offset(-1))).unwrap(), Offset(200));
    let report = run.pool.run_until(run.store.enforce_retention(NOW)).unwrap();
    assert!(report.deleted_segments > 3);
    assert!(run.read_all(&log, Offset(200), 1000).is_empty());
}

#[test]
fn records_are_found_by_timestamp_in_segments_and_in_memory() {
    let disk = SimDisk::new(4);
    let (mut run, spec, _) = filled(&disk, small_log_config());
    let log = run.log(&spec);
    for i in 100..110 {
        run.append_durably(&log, &batch(BatchOptions::default(), i, 2, 500, NOW + 10 * i as i64));
    }
    for round in 0..2 {
        let log = run.log(&spec);
        for (wanted, offset, timestamp) in [
            (0, 0, 0),
            (1, 1, 1),
            (2, 2, 10),
            (505, 102, 510),
            (511, 103, 511),
            (1089, 218, 1090),
            (1091, 219, 1091),
        ] {
            let found = run.pool.run_until(log.offset_for_timestamp(NOW + wanted)).unwrap().unwrap();
            assert_eq!(
                (found.offset.0, found.timestamp - NOW),
                (offset, timestamp),
                "{wanted}, round {round}"
            );
        }
        assert_eq!(run.pool.run_until(log.offset_for_timestamp(NOW + 1092)).unwrap(), None);
        let newest = run.pool.run_until(log.max_timestamp()).unwrap().unwrap();
        assert_eq!(
            (newest.offset.0, newest.timestamp - NOW, newest.leader_epoch),
            (219, 1091, LeaderEpoch(0))
        );
        run.shutdown();
        run = Run::open(&disk, small_store_config(0, 1), vec![spec.clone()]).unwrap();
    }
}

#[test]
fn a_deleted_partition_is_gone_and_a_new_one_of_the_name_begins_at_zero() {
    let disk = SimDisk::new(5);
    let (mut run, spec, _) = filled(&disk, small_log_config());
    let log = run.log(&spec);
    let signal = WakeSignal::new();
    log.subscribe(&signal);
    run.pool.run_until(run.store.delete_partition(&spec.id())).unwrap();
    assert!(signal.has_fired());
    let bytes = batch(BatchOptions::default(), 1, 1, 10, NOW);
    assert!(matches!(append(&log, &bytes), Err(AppendError::Deleted)));
    assert!(matches!(run.pool.run_until(log.read(Offset(0), Offset(1), 1, true)), Err(ReadError::Deleted)));
    assert!(!disk.files().iter().any(|f| f.starts_with("/data/topics")), "{:?}", disk.files());

    let again = PartitionSpec { topic_id: uuid::Uuid::from_u128(8), ..spec.clone() };
    let log = run.pool.run_until(run.store.create_partition(again.clone())).unwrap();
    assert_eq!(run.append_durably(&log, &bytes).base_offset, Offset(0));
    drop(run);
    let disk = disk.crash(Survival::Nothing, 5);
    let mut config = small_store_config(0, 1);
    config.topic_status = Rc::new(|id| if id.as_u128() == 7 { TopicStatus::Gone } else { TopicStatus::Live });
    let mut run = Run::open(&disk, config, vec![again.clone()]).unwrap();
    let log = run.log(&again);
    assert_eq!(run.read_all(&log, Offset(0), 100), stored(&bytes, Offset(0)));
}

#[test]
fn directories_of_gone_topics_are_removed_and_unknown_ones_left_alone() {
    for (status, left) in [(TopicStatus::Gone, 0), (TopicStatus::Unknown, 1), (TopicStatus::Live, 1)] {
        let disk = SimDisk::new(6);
        let (run, _, _) = filled(&disk, small_log_config());
        run.shutdown();
        let look = |is_wanted: bool| {
            let looked = remove_gone_partitions(&disk, DATA.as_ref(), move |_| is_wanted, |_| status);
            futures::executor::block_on(looked).unwrap()
        };
        assert_eq!(look(true), StrayReport::default());
        let found = look(false);
        assert_eq!(found.removed.len(), 1 - left);
        assert_eq!(found.unknown.len(), usize::from(status == TopicStatus::Unknown));
        let files = disk.files().iter().filter(|f| f.starts_with("/data/topics")).count();
        assert_eq!(files > 0, left > 0, "{status:?}");
    }
}

#[test]
fn low_space_refuses_produce_while_reads_go_on() {
    let disk = SimDisk::new(7);
    let (mut run, spec, all) = filled(&disk, small_log_config());
    disk.set_free_space(1000);
    run.pool.run_until(run.store.tick(NOW)).unwrap();
    let log = run.log(&spec);
    let bytes = batch(BatchOptions::default(), 1, 1, 10, NOW);
    let refused = append(&log, &bytes).unwrap_err();
    assert_eq!(refused.code(), protocol::ErrorCode::KAFKA_STORAGE_ERROR);
    assert!(run.store.writable().is_err());
    assert_eq!(run.read_all(&log, Offset(0), 5000), all.concat());
    disk.set_free_space(1 << 30);
    run.pool.run_until(run.store.tick(NOW)).unwrap();
    run.append_durably(&log, &bytes);
}

#[test]
fn a_producer_hears_of_want_of_space_and_not_of_the_gap_that_it_leaves() {
    let disk = SimDisk::new(7);
    let (mut run, spec, _) = filled(&disk, small_log_config());
    let log = run.log(&spec);
    let sent = |base_sequence| {
        let producer =
            BatchOptions { producer_id: 1, producer_epoch: 0, base_sequence, ..Default::default() };
        batch(producer, 1, 1, 10, NOW)
    };
    run.append_durably(&log, &sent(0));
    disk.set_free_space(1000);
    run.pool.run_until(run.store.tick(NOW)).unwrap();
    for sequence in [1, 2] {
        let refused = append(&log, &sent(sequence)).unwrap_err();
        assert_eq!(refused.code(), protocol::ErrorCode::KAFKA_STORAGE_ERROR, "{sequence}");
    }
    assert!(append(&log, &sent(0)).unwrap().duplicate, "what is there needs no space");
    disk.set_free_space(1 << 30);
    run.pool.run_until(run.store.tick(NOW)).unwrap();
    let refused = append(&log, &sent(2)).unwrap_err();
    assert_eq!(refused.code(), protocol::ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    run.append_durably(&log, &sent(1));
}

#[test]
fn a_disk_that_has_run_full_takes_nothing_before_a_flush_succeeds_whatever_it_says_is_free() {
    let disk = SimDisk::new(7);
    let (mut run, spec, _) = filled(&disk, small_log_config());
    let log = run.log(&spec);
    let bytes = batch(BatchOptions::default(), 1, 1, 1000, NOW);
    disk.fill_up();
    for _ in 0..10_000 {
        run.settle();
        if run.store.writable().is_err() {
            break;
        }
        // The journal has no room as soon as the flusher has none.
        let _ = append(&log, &bytes);
    }
    for _ in 0..3 {
        run.pool.run_until(run.store.tick(NOW)).unwrap();
        run.settle();
        assert!(run.store.writable().is_err());
    }
    disk.make_room();
    for _ in 0..2 {
        run.pool.run_until(run.store.tick(NOW)).unwrap();
        run.settle();
    }
    run.append_durably(&log, &bytes);
}

#[test]
fn a_partition_is_deleted_when_the_journal_has_room_again() {
    let disk = SimDisk::new(5);
    let config = Rc::new(small_log_config());
    let specs = [spec(0, &config), spec(1, &config)];
    let mut run = Run::open(&disk, small_store_config(0, 1), specs.to_vec()).unwrap();
    let log = run.log(&specs[0]);
    // Nothing runs meanwhile that could make room.
    let refused =
        (0..100).find_map(|value| append(&log, &batch(BatchOptions::default(), value, 1, 8000, NOW)).err());
    assert!(
        matches!(refused, Some(AppendError::NotWritable(StorageError::Journal(JournalError::Full)))),
        "{refused:?}"
    );
    run.pool.run_until(run.store.delete_partition(&specs[1].id())).unwrap();
    assert_eq!(run.store.partitions(), [specs[0].id()]);
    run.shutdown();
    let run = Run::open(&disk, small_store_config(0, 1), vec![specs[0].clone()]).unwrap();
    assert_eq!(run.store.partitions(), [specs[0].id()]);
}

#[test]
fn what_a_flush_has_written_before_the_disk_was_full_is_synced_whatever_the_next_round_takes() {
    let disk = SimDisk::new(7);
    let config = Rc::new(LogConfig { segment_bytes: 64 << 20, ..small_log_config() });
    let specs: Vec<_> = (0..40).map(|p| spec(p, &config)).collect();
    let mut settings = small_store_config(0, 1);
    settings.sync_together_from = 1_000_000;
    settings.direct_from_bytes = 1 << 30;
    settings.cache_bytes = 256 << 20;
    settings.idle_flush_ms = 1000;
    settings.journal.file_bytes = 1 << 20;
    settings.journal.max_files = 64;
    settings.journal.initial_files = 20;
    settings.journal.max_commit_bytes = 64 << 10;
    let mut run = Run::open(&disk, settings.clone(), specs.clone()).unwrap();
    let log = run.log(&specs[0]);
    let mut expected = Vec::new();
    for value in 0..100 {
        let bytes = batch(BatchOptions::default(), value, 1, 50_000, NOW);
        let outcome = run.append_durably(&log, &bytes);
        expected.extend(stored(&bytes, outcome.base_offset));
    }
    for spec in &specs[1..] {
        let other = run.log(spec);
        run.append_durably(&other, &batch(BatchOptions::default(), 0, 1, 10, NOW));
    }
    // The first 4 MiB of a segment need no space to be reserved.
    disk.fill_up();
    let mut ticks = 0;
    let mut tick = |run: &mut Run| {
        ticks += 1;
        run.pool.run_until(run.store.tick(NOW + 2000 * ticks)).unwrap();
        run.settle();
    };
    tick(&mut run);
    assert!(run.store.writable().is_err() && run.store.stats().flushed_bytes > 3 << 20);
    // Fewer logs share a round then, so it takes less.
    for spec in &specs[1..] {
        run.pool.run_until(run.store.delete_partition(&spec.id())).unwrap();
    }
    let rounds = run.store.stats().flush_rounds;
    (0..6).for_each(|_| tick(&mut run));
    assert!(run.store.stats().flush_rounds > rounds, "what needs no space is released");
    drop((run, log));
    let disk = disk.crash(Survival::Nothing, 5);
    disk.make_room();
    let mut run = Run::open(&disk, settings, specs[..1].to_vec()).unwrap();
    let log = run.log(&specs[0]);
    assert!(run.read_all(&log, Offset(0), 1 << 20) == expected, "acknowledged data is gone");
}
