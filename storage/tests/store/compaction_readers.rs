//! Readers and writers while compaction exchanges the segments under them.

use crate::{harness::*, keyed::*};
use futures::{channel::oneshot, task::LocalSpawnExt};
use std::{cell::RefCell, rc::Rc};
use storage::{Offset, PartitionLog, disk::SimDisk};

/// Reads the log from the start to where it ends when it gets there; compares what it saw with what was there when it began.
async fn read_through(log: &PartitionLog<SimDisk>, model: &RefCell<Keyed>, random: &mut Random) {
    let before = model.borrow().rows.clone();
    let begun_at = log.offsets().high_watermark;
    let (mut at, mut bytes) = (Offset(0), Vec::new());
    while at < log.offsets().high_watermark {
        let outcome = log
            .read(at, log.offsets().high_watermark, 200 + random.below(4000) as usize, true)
            .await
            .unwrap();
        assert!(outcome.next_offset > at, "a reader never stands still");
        outcome.slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
        at = outcome.next_offset;
        for _ in 0..random.below(6) {
            yield_now().await;
        }
    }
    let seen = rows(&bytes);
    let model = model.borrow();
    for row in &seen {
        assert_eq!(model.rows.iter().find(|r| r.offset == row.offset), Some(row));
    }
    // Of every key the reader has seen the record that was the latest at its start, or a later one.
    let mut latest = std::collections::BTreeMap::new();
    for row in before.iter().filter(|row| row.offset < begun_at.0) {
        latest.insert(row.key, row.offset);
    }
    for (key, offset) in latest {
        assert!(seen.iter().any(|row| row.key == key && row.offset >= offset), "key {key:?} at {offset}");
    }
    let end = seen.last().map_or(0, |row| row.offset + 1);
    let written: Vec<Row> = model.rows.iter().filter(|row| row.offset < end).cloned().collect();
    assert_eq!(fold(&seen), fold(&written));
}

#[test]
fn readers_see_every_latest_record_whatever_is_exchanged_under_them() {
    for seed in 0..12 {
        let disk = SimDisk::new(seed);
        let mut config = compacted();
        // A reader that began before a tombstone's horizon must be told of the deletion.
        config.delete_retention_ms = 1 << 40;
        let mut run = open_compacted(&disk, config);
        let log = only_log(&run);
        let model = Rc::new(RefCell::new(Keyed::default()));
        let is_over = Rc::new(std::cell::Cell::new(false));
        let mut readers = Vec::new();
        for n in 0..3 {
            let (log, model, is_over) = (log.clone(), model.clone(), is_over.clone());
            let (done, ended) = oneshot::channel();
            let reader = async move {
                let mut random = Random(seed * 100 + n);
                let mut rounds = 0;
                while !is_over.get() {
                    read_through(&log, &model, &mut random).await;
                    rounds += 1;
                    for _ in 0..20 {
                        yield_now().await;
                    }
                }
                let _ = done.send(rounds);
            };
            run.pool.spawner().spawn_local(reader).unwrap();
            readers.push(ended);
        }
        let mut random = Random(seed);
        let mut exchanged = 0;
        for _ in 0..12 {
            for _ in 0..20 {
                run.pool.run_until(run.store.wait_for_room());
                let outcome = model.borrow_mut().append(&log, &mut random, 20).unwrap();
                run.pool.run_until(run.store.durable(outcome.commit)).unwrap();
            }
            if let Some(report) = run.clean(NOW).unwrap() {
                exchanged += report.segments.0;
            }
        }
        is_over.set(true);
        for ended in readers {
            assert!(run.pool.run_until(ended).unwrap() > 2, "seed {seed}");
        }
        assert!(exchanged > 20, "{exchanged}");
    }
}

#[test]
fn look_ups_by_timestamp_agree_with_the_log_whatever_is_exchanged_under_them() {
    for seed in 0..6 {
        let disk = SimDisk::new(seed);
        let mut run = open_compacted(&disk, compacted());
        let log = only_log(&run);
        let mut model = Keyed::default();
        let mut random = Random(seed);
        for _ in 0..100 {
            run.pool.run_until(run.store.wait_for_room());
            let outcome = model.append(&log, &mut random, 20).unwrap();
            run.pool.run_until(run.store.durable(outcome.commit)).unwrap();
        }
        run.pool.run_until(run.store.flush()).unwrap();
        let Run { pool, store, .. } = &mut run;
        let newest = model.rows.iter().map(|row| row.timestamp).max().unwrap();
        let looking = async {
            for wanted in NOW..=newest {
                let found = log.offset_for_timestamp(wanted).await.unwrap().unwrap();
                let row = model.rows.iter().find(|row| row.offset == found.offset.0).unwrap();
                assert!(row.timestamp == found.timestamp && row.timestamp >= wanted);
            }
        };
        let (config, host) = (cleaner_config(), InlineHost);
        let (cleaned, ()) =
            pool.run_until(futures::future::join(store.clean_next(&host, &config, NOW), looking));
        cleaned.unwrap().unwrap();
    }
}
