//! Crashes during compaction, at every write, sync, rename and removal: the log opens with old segments or new ones, and means the same.

use crate::{harness::*, keyed::*};
use storage::{
    Offset,
    disk::{SimDisk, sim::Survival},
};

/// Does the same work with every call up to the moment when the log is to be cleaned; answers how often the disk was written to by then.
fn prepare(disk: &SimDisk, model: &mut Keyed, passes_before: usize) -> Run {
    // With many keys what is left takes more than one segment.
    let keys = if passes_before > 0 { 80 } else { 12 };
    let mut run = open_compacted(disk, compacted());
    let mut random = Random(77);
    for pass in 0..=passes_before {
        let log = only_log(&run);
        for _ in 0..45 {
            run.pool.run_until(run.store.wait_for_room());
            let outcome = model.append(&log, &mut random, keys).unwrap();
            run.pool.run_until(run.store.durable(outcome.commit)).unwrap();
        }
        run.pool.run_until(run.store.flush()).unwrap();
        if pass < passes_before {
            run.clean(NOW + 10_000 * pass as i64).unwrap().unwrap();
        }
    }
    run
}

/// After a crash: the log is whole, the next pass comes to its end, and once more after that.
fn check_and_clean(disk: &SimDisk, model: &Keyed, offsets: storage::LogOffsets, now_ms: i64, context: &str) {
    let mut run = open_compacted(disk, compacted());
    let log = only_log(&run);
    assert!(log.offline_reason().is_none(), "{context}: {:?}", log.offline_reason());
    assert_eq!(log.offsets(), offsets, "{context}");
    let found = run.rows(&log);
    model.check(&found, context);
    let sequences = log.producers().iter().map(|(id, _, last, ..)| (id.0, last + 1)).collect();
    assert_eq!(model.sequences, sequences, "{context}");
    let mut clean_end = None;
    while let Some(report) = run.clean(now_ms).unwrap() {
        clean_end = Some(report.clean_end);
    }
    let found = run.rows(&log);
    model.check(&found, context);
    if let Some(clean_end) = clean_end {
        model.check_clean(&found, clean_end, context);
    }
    let left: Vec<_> = disk
        .files()
        .into_iter()
        .filter(|f| f.extension().is_some_and(|e| e == "cleaned" || e == "swap"))
        .collect();
    assert!(left.is_empty(), "{context}: {left:?}");
    let mut random = Random(1);
    let outcome = model.clone().append(&log, &mut random, 12).unwrap();
    assert_eq!(outcome.base_offset, offsets.log_end_offset, "{context}");
}

fn crash_everywhere(passes_before: usize, survival: Survival) {
    let now_ms = NOW + 10_000 * passes_before as i64;
    let (from, to, offsets) = {
        let (disk, mut model) = (SimDisk::new(3), Keyed::default());
        let mut run = prepare(&disk, &mut model, passes_before);
        let from = disk.operations();
        run.clean(now_ms).unwrap().unwrap();
        (from, disk.operations(), only_log(&run).offsets())
    };
    assert!(to - from > 20, "{from} to {to}");
    for at in from + 1..=to {
        let (disk, mut model) = (SimDisk::new(3), Keyed::default());
        let mut run = prepare(&disk, &mut model, passes_before);
        disk.crash_at(at);
        let cleaned = run.clean(now_ms);
        assert!(!matches!(cleaned, Ok(Some(_))) || at == to, "operation {at}: {cleaned:?}");
        drop(run);
        let disk = disk.crash(survival, at);
        check_and_clean(
            &disk,
            &model,
            offsets,
            now_ms,
            &format!("{survival:?}, operation {at} of {from}..{to}"),
        );
    }
}

#[test]
fn a_first_pass_may_be_interrupted_anywhere() {
    crash_everywhere(0, Survival::AnySubset);
    crash_everywhere(0, Survival::Nothing);
}

#[test]
fn a_later_pass_that_removes_tombstones_may_be_interrupted_anywhere() {
    crash_everywhere(2, Survival::AnySubset);
    crash_everywhere(2, Survival::Everything);
}

#[test]
fn recovery_of_an_interrupted_exchange_may_be_interrupted_too() {
    let now_ms = NOW;
    let (disk, mut model) = (SimDisk::new(4), Keyed::default());
    let mut run = prepare(&disk, &mut model, 0);
    let from = disk.operations();
    run.clean(now_ms).unwrap();
    let (to, offsets) = (disk.operations(), only_log(&run).offsets());
    for at in (from + 1..=to).step_by(3) {
        for again in 1..25 {
            let (disk, mut model) = (SimDisk::new(4), Keyed::default());
            let mut run = prepare(&disk, &mut model, 0);
            disk.crash_at(at);
            let _ = run.clean(now_ms);
            drop(run);
            let disk = disk.crash(Survival::AnySubset, at);
            disk.crash_at(disk.operations() + again);
            let spec = spec(0, &std::rc::Rc::new(compacted()));
            drop(Run::open(&disk, small_store_config(0, 1), vec![spec]));
            let disk = disk.crash(Survival::AnySubset, at * again);
            check_and_clean(&disk, &model, offsets, now_ms, &format!("operations {at} and {again}"));
        }
    }
}

/// Lives of random work and random ends.
#[test]
fn random_lives_of_compaction_lose_nothing() {
    for seed in 0..40u64 {
        let mut random = Random(seed);
        let (mut disk, mut model) = (SimDisk::new(seed), Keyed::default());
        let (mut now_ms, mut acknowledged) = (NOW, Offset(0));
        for life in 0..5 {
            let context = format!("seed {seed}, life {life}");
            disk.crash_at(disk.operations() + 60 + random.below(500));
            let spec = spec(0, &std::rc::Rc::new(compacted()));
            if let Ok(mut run) = Run::open(&disk, small_store_config(0, 1), vec![spec]) {
                let log = only_log(&run);
                assert!(log.offsets().log_end_offset >= acknowledged, "{context}");
                model.cut(log.offsets().log_end_offset, &log);
                'work: for _ in 0..40 {
                    for _ in 0..random.below(12) {
                        run.pool.run_until(run.store.wait_for_room());
                        let Ok(outcome) = model.append(&log, &mut random, 15) else { break 'work };
                        if random.below(2) == 0
                            && run.pool.run_until(run.store.durable(outcome.commit)).is_ok()
                        {
                            acknowledged = outcome.last_offset.next();
                        }
                    }
                    now_ms += random.below(600) as i64;
                    match random.below(3) {
                        0 => {
                            if let Ok(Some(report)) = run.clean(now_ms) {
                                let end = log.offsets().high_watermark;
                                let read = run.try_read_all(&log, Offset(0), 2000);
                                let Ok(bytes) = read else { break };
                                let mut durable = model.clone();
                                durable.rows.retain(|row| row.offset < end.0);
                                durable.check_clean(&rows(&bytes), report.clean_end, &context);
                            }
                        }
                        1 => drop(run.pool.run_until(run.store.flush())),
                        _ => run.settle(),
                    }
                    if !run.ended.borrow().is_empty() {
                        break;
                    }
                }
            }
            let survival = [Survival::AnySubset, Survival::Nothing, Survival::Everything][seed as usize % 3];
            disk = disk.crash(survival, seed * 31 + life);
        }
        let mut run = open_compacted(&disk, compacted());
        let log = only_log(&run);
        assert!(log.offsets().log_end_offset >= acknowledged, "seed {seed}");
        model.cut(log.offsets().log_end_offset, &log);
        let found = run.rows(&log);
        model.check(&found, &format!("seed {seed}, after all"));
    }
}

#[test]
fn these_tests_notice_a_disk_that_lies_about_syncs() {
    let is_lost = |seed: &u64| {
        let (disk, mut model) = (SimDisk::new(3), Keyed::default());
        let mut run = prepare(&disk, &mut model, 0);
        let offsets = only_log(&run).offsets();
        disk.lie_about_syncs();
        run.clean(NOW).unwrap().unwrap();
        drop(run);
        let disk = disk.crash(Survival::AnySubset, *seed);
        let check = || check_and_clean(&disk, &model, offsets, NOW, "lying disk");
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_err()
    };
    assert!((1..20).any(|seed| is_lost(&seed)));
}
