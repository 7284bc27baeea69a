//! Crashes at every operation, again and again.

use super::harness::*;
use crate::disk::sim::{SimDisk, SimOp, Survival};
use std::{cell::RefCell, rc::Rc};

const SURVIVALS: [Survival; 3] = [Survival::Nothing, Survival::AnySubset, Survival::Everything];

fn load(seed: u64, written_of_ten: u64) -> Load {
    Load { seed, rounds: 25, largest: 6000, written_of_ten, shuts_down: seed.is_multiple_of(2) }
}

/// Crashes at the given operation, then lives and crashes some more.
fn crash_and_go_on(
    crash_at: u64,
    survival: Survival,
    written_of_ten: u64,
    prepare: impl Fn(&SimDisk),
) -> Result<(), String> {
    let mut random = Random(crash_at * 1000 + survival as u64);
    let model: SharedModel = Rc::new(RefCell::new(Default::default()));
    let mut disk = SimDisk::new(random.next());
    prepare(&disk);
    disk.crash_at(crash_at);
    for life in 0..4 {
        // An error is a disk that has stopped while the journal was opened: nothing was promised.
        match live(&disk, &model, load(crash_at + life, written_of_ten)) {
            Err(promise) if !disk.has_stopped() => return Err(format!("life {life}: {promise}")),
            Ok(Err(error)) if !disk.has_stopped() => return Err(format!("life {life}: {error}")),
            _ => {}
        }
        disk = disk.crash(survival, random.next());
        model.borrow_mut().failed = None;
        // Reading does not depend on being the first to open it.
        if !disk.files().is_empty() {
            verify(&disk, &model).map_err(|promise| format!("after life {life}: {promise}"))?;
        }
        prepare(&disk);
        if life < 2 {
            disk.crash_at(1 + random.below(150));
        }
    }
    Ok(())
}

fn operations_of_a_whole_life(written_of_ten: u64) -> u64 {
    let model: SharedModel = Rc::new(RefCell::new(Default::default()));
    let disk = SimDisk::new(1);
    live(&disk, &model, load(1, written_of_ten)).expect("promises kept").expect("a healthy disk");
    disk.operations()
}

fn crash_everywhere(written_of_ten: u64) {
    let operations = operations_of_a_whole_life(written_of_ten);
    for crash_at in 1..=operations {
        for survival in SURVIVALS {
            if let Err(promise) = crash_and_go_on(crash_at, survival, written_of_ten, |_| {}) {
                panic!("crash at operation {crash_at} of {operations}, {survival:?}: {promise}");
            }
        }
    }
}

#[test]
fn every_synced_commit_survives_a_crash_at_any_operation() {
    crash_everywhere(0);
}

#[test]
fn every_synced_commit_survives_a_crash_at_any_operation_among_commits_that_are_only_written() {
    crash_everywhere(6);
}

#[test]
fn written_commits_that_are_lost_leave_no_holes_and_no_false_alarm() {
    crash_everywhere(10);
}

#[test]
fn these_tests_notice_a_disk_that_lies_about_syncs() {
    let noticed = (10..80)
        .filter(|crash_at| {
            crash_and_go_on(*crash_at, Survival::Nothing, 0, SimDisk::lie_about_syncs).is_err()
        })
        .count();
    assert!(noticed > 50, "{noticed} of 70 lies were noticed");
}

#[test]
fn a_disk_error_in_any_operation_is_final_and_takes_nothing_that_was_acknowledged() {
    let operations = operations_of_a_whole_life(3);
    for op in [SimOp::Write, SimOp::Sync, SimOp::Meta] {
        for successes in 0..operations {
            let model: SharedModel = Rc::new(RefCell::new(Default::default()));
            let disk = SimDisk::new(successes);
            disk.fail_after(op, successes);
            let outcome = live(&disk, &model, load(successes, 3));
            let has_failed = model.borrow().failed.is_some();
            if let Ok(outcome) = &outcome {
                assert!(!has_failed || outcome.is_err(), "{op:?} {successes}: a waiter was not told");
            }
            if matches!(outcome, Ok(Ok(()))) {
                break;
            }
            let disk = disk.crash(Survival::AnySubset, successes);
            if !journal_files(&disk).is_empty() {
                verify(&disk, &model).unwrap_or_else(|promise| panic!("{op:?} {successes}: {promise}"));
            }
        }
    }
}
