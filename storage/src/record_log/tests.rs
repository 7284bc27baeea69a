use super::*;
use crate::disk::sim::{SimDisk, SimOp, Survival};
use futures::executor::LocalPool;

const PATH: &str = "/data/meta/metadata.log";

fn path() -> &'static Path {
    Path::new(PATH)
}

fn run<R>(future: impl Future<Output = R>) -> R {
    LocalPool::new().run_until(future)
}

fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    run(disk.create_dir_all(path().parent().expect("a directory"))).expect("made");
    disk
}

fn reopen(disk: &SimDisk) -> Result<Vec<Bytes>, StorageError> {
    run(RecordLog::open(disk.clone(), path())).map(|(_, records)| records)
}

fn record(i: usize) -> Vec<u8> {
    let len = [0, 1, 17, 300, 4096, 9000, 511, 4072][i % 8];
    (0..len).map(|k| (i * 31 + k * 7) as u8).collect()
}

/// Groups of the workload, with a rewrite after the given group that keeps every second record.
async fn workload(
    disk: SimDisk,
    groups: usize,
    rewrite_after: usize,
    acknowledged: &mut Vec<Vec<Vec<u8>>>,
) -> Result<(), StorageError> {
    let (mut log, records) = RecordLog::open(disk, path()).await?;
    assert!(records.is_empty());
    let mut state: Vec<Vec<u8>> = Vec::new();
    acknowledged.push(state.clone());
    for g in 0..groups {
        let group: Vec<_> = (g * 3..g * 3 + 1 + g % 3).map(record).collect();
        state.extend(group.iter().cloned());
        acknowledged.push(state.clone());
        log.append(&group).await?;
        if g == rewrite_after {
            state = state.into_iter().step_by(2).collect();
            acknowledged.push(state.clone());
            log.rewrite(&state).await?;
        }
    }
    Ok(())
}

#[test]
fn records_come_back_in_order_after_a_clean_restart_and_appends_go_on() {
    let disk = disk(1);
    let mut states = Vec::new();
    run(workload(disk.clone(), 20, 9, &mut states)).expect("a healthy disk");
    let expected = states.last().expect("states").clone();
    assert_eq!(reopen(&disk).expect("opens"), expected);
    let (mut log, _) = run(RecordLog::open(disk.clone(), path())).expect("opens");
    run(log.append(&[b"more"])).expect("appends");
    let records = reopen(&disk).expect("opens");
    assert_eq!(records.len(), expected.len() + 1);
    assert_eq!(records.last().expect("a record"), "more");
}

#[test]
fn a_crash_at_any_operation_leaves_the_last_acknowledged_state_or_the_one_that_was_being_written() {
    let mut states = Vec::new();
    let healthy = disk(7);
    run(workload(healthy.clone(), 12, 5, &mut states)).expect("a healthy disk");
    let operations = healthy.operations();
    for crash_at in 2..=operations {
        for (seed, survival) in
            [Survival::Nothing, Survival::Everything, Survival::AnySubset, Survival::AnySubset]
                .into_iter()
                .enumerate()
        {
            let disk = disk(crash_at * 10 + seed as u64);
            disk.crash_at(crash_at);
            let mut states = Vec::new();
            let outcome = run(workload(disk.clone(), 12, 5, &mut states));
            let after = disk.crash(survival, crash_at * 100 + seed as u64);
            let records = reopen(&after).expect("a crash is no damage");
            // The last state was begun, the one before it was acknowledged.
            let begun = states.last().cloned().unwrap_or_default();
            let acknowledged = states.iter().rev().nth(1).cloned().unwrap_or_default();
            let is_right = records == begun || (outcome.is_err() && records == acknowledged);
            assert!(is_right, "crash at {crash_at}, {survival:?}: {} records", records.len());
            assert_eq!(reopen(&after).expect("opens"), records, "opening changes nothing");
        }
    }
}

#[test]
fn a_lying_sync_is_noticed_by_these_tests() {
    let disk = disk(3);
    let (mut log, _) = run(RecordLog::open(disk.clone(), path())).expect("opens");
    disk.lie_about_syncs();
    run(log.append(&[b"lost"])).expect("the disk says so");
    assert!(reopen(&disk.crash(Survival::Nothing, 1)).expect("opens").is_empty());
}

#[test]
fn damage_in_the_middle_is_reported_and_damage_at_the_end_ends_the_log() {
    let mut states = Vec::new();
    let disk = disk(5);
    run(workload(disk.clone(), 8, usize::MAX, &mut states)).expect("a healthy disk");
    let content = disk.content(path()).expect("the file");
    let last_group = (0..content.len()).rev().find(|at| group_at(&content[*at..]).is_some()).expect("groups");
    disk.corrupt(path(), BLOCK as u64 + 25, 0x10);
    assert!(matches!(reopen(&disk), Err(StorageError::Corrupt { position, .. }) if position == BLOCK as u64));
    disk.corrupt(path(), BLOCK as u64 + 25, 0x10);
    disk.corrupt(path(), last_group as u64 + 21, 0x01);
    assert_eq!(reopen(&disk).expect("opens"), states[states.len() - 2]);
    disk.corrupt(path(), 3, 0x01);
    assert!(matches!(reopen(&disk), Err(StorageError::Corrupt { position: 0, .. })));
}

#[test]
fn after_a_disk_error_the_log_takes_no_more_appends() {
    let disk = disk(6);
    let (mut log, _) = run(RecordLog::open(disk.clone(), path())).expect("opens");
    run(log.append(&[b"first"])).expect("appends");
    disk.fail_after(SimOp::Write, 0);
    run(log.append(&[b"second"])).expect_err("the disk fails");
    run(log.append(&[b"third"])).expect_err("and that is final");
}

#[test]
fn a_log_that_finds_no_space_keeps_what_it_has_and_goes_on_when_there_is_some() {
    let disk = disk(8);
    let (mut log, _) = run(RecordLog::open(disk.clone(), path())).expect("opens");
    let record = Bytes::from_static(&[7; 3 * BLOCK / 2]);
    let mut records = vec![record.clone(); 2];
    run(log.append(&records)).expect("appends");
    disk.fill_up();
    while run(log.append(&[&record])).is_ok() {
        records.push(record.clone());
    }
    run(log.rewrite(&[b"short"])).expect_err("there is no space for another file");
    run(log.append(&[&record])).expect_err("there is none for more of this one");
    assert_eq!(reopen(&disk).expect("opens"), records);
    disk.make_room();
    run(log.append(&[&record])).expect("there is room");
    records.push(record);
    assert_eq!(reopen(&disk).expect("opens"), records);
    run(log.rewrite(&[b"short"])).expect("there is room");
    assert_eq!(reopen(&disk).expect("opens"), [&b"short"[..]]);
}
