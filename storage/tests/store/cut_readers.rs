//! Readers of cold data, compaction among them, while the log's end is cut off under them.

use crate::{harness::*, keyed::*};
use futures::{
    FutureExt,
    channel::oneshot,
    future::{join, ready},
    poll,
};
use protocol::records::{BatchBuilder, BatchOptions};
use std::{cell::RefCell, pin::pin, rc::Rc};
use storage::{LogConfig, Offset, ReadError, disk::SimDisk};

/// Where the log is cut.
const CUT: Offset = Offset(20);

/// Reads from `from` beside the cut, lets the log grow again with batches of `value_bytes`, and reads them from the disk from `again_from` on.
fn read_beside_cut(seed: u64, from: Offset, value_bytes: usize, again_from: Offset) {
    let config = Rc::new(LogConfig { segment_bytes: 1 << 20, ..small_log_config() });
    let disk = SimDisk::new(seed);
    let specs = [spec(0, &config), spec(1, &config)];
    let mut store_config = small_store_config(0, 1);
    store_config.read_ahead_bytes = 4 << 20;
    let (mut run, log) = Run::open_cold(&disk, &store_config, &specs, 30);
    let read = async {
        for _ in 0..seed % 40 {
            yield_now().await;
        }
        // What is cut off may be read or not.
        let _ = log.read(from, log.offsets().high_watermark, 8000, true).await;
    };
    let (_, cut) = run.pool.run_until(join(read, run.store.truncate_to(&specs[0].id(), CUT)));
    cut.unwrap();
    let mut expected = Vec::new();
    for value in 0..20 {
        let bytes = batch(BatchOptions::default(), 1000 + value, 1, value_bytes, NOW);
        let outcome = run.append_durably(&log, &bytes);
        if outcome.base_offset >= again_from {
            expected.extend(stored(&bytes, outcome.base_offset));
        }
    }
    // These take the room in memory.
    let other = run.log(&specs[1]);
    for value in 0..100 {
        run.append_durably(&other, &batch(BatchOptions::default(), value, 1, 4000, NOW));
    }
    run.pool.run_until(run.store.flush()).unwrap();
    let found = run.try_read_all(&log, again_from, 5000);
    assert!(found.is_ok_and(|found| found == expected), "seed {seed}: not what was appended");
}

#[test]
fn what_is_read_beside_a_cut_is_not_read_ahead_for_those_who_come_later() {
    for seed in 0..150 {
        read_beside_cut(seed, Offset(10), 2000, CUT);
    }
}

#[test]
fn a_reader_whose_records_are_cut_off_does_not_say_where_the_next_ones_lie() {
    for seed in 0..150 {
        // It would have got three batches.
        read_beside_cut(seed, Offset(18), 1500, Offset(21));
    }
}

#[test]
fn a_log_that_begins_anew_under_a_reader_is_not_written_to_its_old_file() {
    let config = Rc::new(LogConfig { segment_bytes: 1 << 20, ..small_log_config() });
    for seed in 0..60 {
        let disk = SimDisk::new(seed);
        let specs = [spec(0, &config)];
        let mut store_config = small_store_config(0, 1);
        store_config.sync_together_from = 1;
        let (mut run, log) = Run::open_cold(&disk, &store_config, &specs, 10);
        let read = async {
            let _ = log.read(Offset(3), log.offsets().high_watermark, 4000, true).await;
        };
        let (_, restarted) = run.pool.run_until(join(read, run.store.restart_at(&specs[0].id(), Offset(0))));
        restarted.unwrap();
        let bytes = batch(BatchOptions::default(), 1000, 1, 2000, NOW);
        let outcome = run.append_durably(&log, &bytes);
        drop(log);
        run.shutdown();

        let mut run = Run::open(&disk, store_config, specs.to_vec()).unwrap();
        let log = run.log(&specs[0]);
        let found = run.try_read_all(&log, Offset(0), 5000);
        let expected = stored(&bytes, outcome.base_offset);
        assert!(found.is_ok_and(|found| found == expected), "seed {seed}: what was acknowledged is gone");
    }
}

#[test]
fn a_reader_of_a_partition_that_is_deleted_gets_nothing_of_one_that_takes_its_name() {
    let config = Rc::new(small_log_config());
    let disk = SimDisk::new(1);
    let specs = [spec(0, &config)];
    let (mut run, log) = Run::open_cold(&disk, &small_store_config(0, 1), &specs, 10);
    let store = &run.store;
    run.pool.run_until(async {
        let mut read = pin!(log.read(Offset(3), log.offsets().high_watermark, 4000, true));
        // It opens the file when another partition has it.
        let (go_on, may_go_on) = oneshot::channel::<()>();
        let held = RefCell::new(Some(may_go_on));
        disk.set_pace(move |_| {
            held.take().map_or(ready(()).boxed_local(), |held| held.map(drop).boxed_local())
        });
        assert!(poll!(&mut read).is_pending());
        store.delete_partition(&specs[0].id()).await.unwrap();
        let new = store.create_partition(specs[0].clone()).await.unwrap();
        for value in 1000..1010 {
            let outcome = append(&new, &batch(BatchOptions::default(), value, 1, 2000, NOW)).unwrap();
            store.durable(outcome.commit).await.unwrap();
        }
        store.flush().await.unwrap();
        go_on.send(()).unwrap();
        assert!(matches!(read.await, Err(ReadError::Deleted)));
    });
}

/// A batch of one record with this key; all are of one size.
fn keyed_batch(key: u64, value: u8) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(NOW, Some(&key.to_be_bytes()), Some(&[value; 400]), &[]);
    builder.build().unwrap().to_vec()
}

#[test]
fn what_compaction_has_made_of_cut_off_records_does_not_replace_those_that_came_after_them() {
    for seed in 0..60 {
        let disk = SimDisk::new(seed);
        let mut run = open_compacted(&disk, compacted());
        let log = only_log(&run);
        // Each key comes twice, so that every segment has something to be cleaned of.
        for n in 0..40 {
            run.append_durably(&log, &keyed_batch(n / 2, 1));
        }
        run.pool.run_until(run.store.flush()).unwrap();
        let store = &run.store;
        let config = cleaner_config();
        let cut_and_grow = async {
            for _ in 0..seed {
                yield_now().await;
            }
            store.truncate_to(&store.partitions()[0], Offset(2)).await.unwrap();
            for n in 2..40 {
                store.wait_for_room().await;
                let outcome = append(&log, &keyed_batch(n, 2)).unwrap();
                store.durable(outcome.commit).await.unwrap();
            }
            store.flush().await.unwrap();
        };
        let cleaning = store.clean_next(&InlineHost, &config, NOW);
        let (cleaned, ()) = run.pool.run_until(join(cleaning, cut_and_grow));
        cleaned.unwrap();
        let rows = run.rows(&log);
        let lacks = |n: &i64| !rows.iter().any(|r| r.offset == *n && r.value.as_deref() == Some(&[2; 400]));
        let missing: Vec<i64> = (2..40).filter(lacks).collect();
        assert!(missing.is_empty(), "seed {seed}: {missing:?} are not what was appended last");
    }
}
