//! A restart with another number of shards.

use crate::harness::*;
use protocol::records::BatchOptions;
use std::rc::Rc;
use storage::{
    Offset, PartitionSpec,
    disk::{SimDisk, sim::Survival},
};

const PARTITIONS: usize = 4;

/// Opens all shards, each with its partitions. `finish` makes the change count.
fn open_all(disk: &SimDisk, shards: u32, specs: &[PartitionSpec], finish: bool) -> Vec<Run> {
    let mut runs: Vec<Run> = (0..shards)
        .map(|shard| {
            let own = specs.iter().filter(|s| s.partition.0 as u32 % shards == shard).cloned().collect();
            Run::open(disk, small_store_config(shard, shards), own).unwrap()
        })
        .collect();
    if finish {
        for run in &mut runs {
            run.pool.run_until(run.store.finish_migration()).unwrap();
        }
    }
    runs
}

#[test]
fn partitions_follow_the_number_of_shards_and_keep_everything() {
    let config = Rc::new(small_log_config());
    let specs: Vec<_> = (0..PARTITIONS as i32).map(|p| spec(p, &config)).collect();
    let mut disk = SimDisk::new(1);
    let mut expected = vec![Vec::new(); PARTITIONS];
    for (life, shards) in [1, 2, 3, 1, 1, 2].into_iter().enumerate() {
        if life % 2 == 1 {
            // The power fails after all shards are open, before the change counts: the next start begins it anew.
            drop(open_all(&disk, shards, &specs, false));
            disk = disk.crash(Survival::AnySubset, life as u64);
        }
        let mut runs = open_all(&disk, shards, &specs, true);
        for (p, spec) in specs.iter().enumerate() {
            let run = &mut runs[p % shards as usize];
            let log = run.log(spec);
            assert_eq!(run.read_all(&log, Offset(0), 3000), expected[p], "life {life}, partition {p}");
            for i in 0..10 + life as u64 * 7 {
                let options = BatchOptions {
                    producer_id: 5,
                    producer_epoch: life as i16,
                    base_sequence: i as i32,
                    ..BatchOptions::default()
                };
                let batch = batch(options, i, 1, 300, NOW);
                let outcome = run.append_durably(&log, &batch);
                expected[p].extend_from_slice(&stored(&batch, outcome.base_offset));
            }
        }
        match life {
            2 | 4 => runs.into_iter().for_each(Run::shutdown),
            _ => drop(runs),
        }
        disk = disk.crash(Survival::AnySubset, 77 + life as u64);
    }
    let generations: std::collections::BTreeSet<_> = disk
        .files()
        .iter()
        .filter_map(|f| f.strip_prefix("/data/shards").ok()?.iter().next().map(|c| c.to_owned()))
        .collect();
    assert_eq!(generations.len(), 1, "old generations are removed");
}

#[test]
fn no_produce_is_accepted_before_the_change_counts() {
    let config = Rc::new(small_log_config());
    let spec = spec(0, &config);
    let disk = SimDisk::new(2);
    Run::open(&disk, small_store_config(0, 1), vec![spec.clone()]).unwrap().shutdown();
    let mut run = Run::open(&disk, small_store_config(0, 2), vec![spec.clone()]).unwrap();
    assert!(run.report.is_migrating);
    let log = run.log(&spec);
    let batch = batch(BatchOptions::default(), 1, 1, 10, NOW);
    assert!(append(&log, &batch).is_err());
    run.pool.run_until(run.store.finish_migration()).unwrap();
    run.append_durably(&log, &batch);
}
