//! The journal at work: group commit, back-pressure, recycling, waiters.

use super::harness::*;
use crate::{
    JournalError,
    disk::sim::{SimDisk, SimOp, Survival},
    journal::{CommitSeq, Durability, Journal, JournalConfig, Scan},
};
use futures::{FutureExt, executor::LocalPool, future::join_all};
use std::{cell::RefCell, rc::Rc};

fn model() -> SharedModel {
    Rc::new(RefCell::new(Default::default()))
}

#[test]
fn a_lone_small_entry_is_one_block_on_disk_and_in_memory() {
    let (disk, model) = (SimDisk::new(1), model());
    let shared = model.clone();
    with_journal(&disk, config(), &model, |journal, _| async move {
        let big = append(&journal, &shared, batch_of(partition(0), 0), Durability::Sync, &[7; 12_000])
            .expect("room");
        journal.durable(big.commit).await.expect("a healthy disk");
        let small =
            append(&journal, &shared, batch_of(partition(0), 1), Durability::Sync, &[8; 200]).expect("room");
        journal.durable(small.commit).await.expect("a healthy disk");
        let commit = shared.borrow().last_commit.clone().expect("a commit");
        assert_eq!((commit.seq, commit.bytes, commit.buffer.capacity()), (small.commit, 4096, 4096));
        let payload = shared.borrow().appended[1].payload.clone();
        assert_eq!(commit.buffer.slice(small.location.range()), payload);
    })
    .expect("promises kept");
}

#[test]
fn appends_that_arrive_during_a_write_share_the_next_commit() {
    let (disk, model) = (SimDisk::new(2), model());
    let shared = model.clone();
    with_journal(&disk, config(), &model, |journal, _| async move {
        let one = |i| {
            append(&journal, &shared, batch_of(partition(0), i), Durability::Sync, &[1; 100]).expect("room")
        };
        let first = one(0).commit;
        while shared.borrow().last_commit.is_none() {
            yield_now().await;
        }
        let second = one(1).commit;
        assert_eq!(second, first.next(), "the first one is on its way already");
        for i in 2..20 {
            assert_eq!(one(i).commit, second);
        }
        journal.durable(second).await.expect("a healthy disk");
        assert_eq!(shared.borrow().done, [first, second]);
    })
    .expect("promises kept");
}

#[test]
fn an_entry_above_the_commit_size_gets_its_own_commit_and_one_above_the_file_size_is_refused() {
    let (disk, model) = (SimDisk::new(3), model());
    let shared = model.clone();
    with_journal(&disk, config(), &model, |journal, _| async move {
        let one = |len| append(&journal, &shared, batch_of(partition(0), 0), Durability::Sync, &vec![1; len]);
        let commits: Vec<_> =
            [100, 40_000, 100].into_iter().map(|len| one(len).expect("room").commit).collect();
        assert_eq!(commits, [CommitSeq(1), CommitSeq(2), CommitSeq(3)]);
        assert!(matches!(one(64 << 10), Err(JournalError::TooLarge { .. })));
        journal.durable(CommitSeq(3)).await.expect("a healthy disk");
    })
    .expect("promises kept");
    assert_eq!(verify(&disk, &model).expect("promises kept").len(), 3);
}

#[test]
fn a_full_ring_refuses_appends_until_something_is_released() {
    let (disk, model) = (SimDisk::new(4), model());
    let shared = model.clone();
    with_journal(&disk, config(), &model, |journal, _| async move {
        let one = || append(&journal, &shared, batch_of(partition(0), 0), Durability::Sync, &[1; 10_000]);
        let mut appended = 0;
        loop {
            match one() {
                Ok(entry) => journal.durable(entry.commit).await.expect("a healthy disk"),
                Err(JournalError::Full)
                    if journal.pressure().free_files == 0 && journal.pressure().used_files == 4 =>
                {
                    break;
                }
                Err(JournalError::Full) => yield_now().await,
                Err(error) => panic!("{error}"),
            }
            appended += 1;
            assert!(appended < 1000, "the ring never fills up");
        }
        let pressure = journal.pressure();
        assert_eq!((pressure.fullness(), pressure.oldest_unreleased), (1.0, CommitSeq(1)));
        let oldest = pressure.oldest_file_last.expect("a complete file");
        release(&journal, &shared, oldest);
        while journal.pressure().used_files == 4 || one().is_err() {
            yield_now().await;
        }
        journal.durable(journal.last_appended()).await.expect("a healthy disk");
    })
    .expect("promises kept");
    assert_eq!(journal_files(&disk).len(), 4);
    verify(&disk, &model).expect("promises kept");
}

#[test]
fn a_ring_that_is_released_in_time_goes_round_and_round_without_growing() {
    let (disk, model) = (SimDisk::new(5), model());
    let shared = model.clone();
    with_journal(&disk, config(), &model, |journal, _| async move {
        for i in 0..200 {
            let header = batch_of(partition(i as u64 % 4), i);
            let appended =
                append_or_flush(&journal, &shared, header, Durability::Sync, &[i as u8; 5000]).await;
            let commit = appended.expect("room").commit;
            journal.durable(commit).await.expect("a healthy disk");
            release(&journal, &shared, CommitSeq(commit.0.saturating_sub(2)));
            for _ in 0..40 {
                yield_now().await;
            }
        }
    })
    .expect("promises kept");
    let files = journal_files(&disk);
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(files.iter().all(|file| *file > dir().join("00000000000000000020.journal")), "{files:?}");
    let left = verify(&disk, &model).expect("promises kept");
    assert!(left.len() < 20);
}

#[test]
fn a_ring_does_not_grow_with_the_number_of_crashes() {
    let (mut disk, model) = (SimDisk::new(13), model());
    for crash in 0..20 {
        let shared = model.clone();
        with_journal(&disk, config(), &model, move |journal, _| async move {
            // As a recovery does when all is in segments.
            release(&journal, &shared, journal.durable_end());
            for i in 0..3 {
                let entry = batch_of(partition(0), 3 * crash + i);
                let appended = append_or_flush(&journal, &shared, entry, Durability::Sync, &[1; 100]).await;
                journal.durable(appended.expect("room").commit).await.expect("a healthy disk");
            }
        })
        .expect("promises kept");
        disk = disk.crash(Survival::Nothing, 1);
        let files = journal_files(&disk);
        assert_eq!(files.len(), 2, "after crash {crash}: {files:?}");
    }
}

#[test]
fn thousands_of_waiters_are_woken_in_one_go_and_some_may_have_left() {
    let (disk, model) = (SimDisk::new(6), model());
    let shared = model.clone();
    with_journal(&disk, config(), &model, |journal, _| async move {
        let commit = append(&journal, &shared, batch_of(partition(0), 0), Durability::Sync, b"one")
            .expect("room")
            .commit;
        let mut waiters: Vec<_> = (0..40_000).map(|_| journal.durable(commit)).collect();
        for waiter in waiters.iter_mut().step_by(2) {
            assert!(waiter.now_or_never().is_none());
        }
        waiters.truncate(20_000);
        assert!(join_all(waiters).await.iter().all(Result::is_ok));
        journal.durable(CommitSeq::NONE).await.expect("always true");
    })
    .expect("promises kept");
}

#[test]
fn waiters_learn_of_a_failure_and_later_appends_are_refused() {
    let (disk, model) = (SimDisk::new(7), model());
    let (shared, failing) = (model.clone(), disk.clone());
    with_journal(&disk, config(), &model, |journal, _| async move {
        let one = || append(&journal, &shared, batch_of(partition(0), 0), Durability::Sync, b"one");
        let first = one().expect("room").commit;
        journal.durable(first).await.expect("a healthy disk");
        failing.fail_after(SimOp::Write, 0);
        let second = one().expect("room").commit;
        let waiters = join_all((0..100).map(|_| journal.durable(second))).await;
        assert!(waiters.iter().all(|outcome| matches!(outcome, Err(JournalError::Failed(_)))));
        assert!(matches!(one(), Err(JournalError::Failed(_))));
        assert!(shared.borrow().failed.is_some());
        journal.durable(first).await.expect("what was confirmed stays confirmed");
    })
    .expect("promises kept");
}

#[test]
fn written_commits_are_confirmed_before_a_sync_and_lost_without_one() {
    let (disk, model) = (SimDisk::new(8), model());
    let shared = model.clone();
    with_journal(&disk, config(), &model, |journal, _| async move {
        let one = |durability| {
            append(&journal, &shared, batch_of(partition(0), 0), durability, b"one").expect("room").commit
        };
        journal.durable(one(Durability::Write)).await.expect("a healthy disk");
        assert_eq!((journal.durable_end(), journal.synced_end()), (CommitSeq(1), CommitSeq(0)));
        journal.sync_now().await.expect("a healthy disk");
        assert_eq!(journal.synced_end(), CommitSeq(1));
        journal.durable(one(Durability::Write)).await.expect("a healthy disk");
        journal.durable(one(Durability::Sync)).await.expect("a healthy disk");
        assert_eq!(journal.synced_end(), CommitSeq(3), "a synced commit takes its predecessors along");
        journal.durable(one(Durability::Write)).await.expect("a healthy disk");
    })
    .expect("promises kept");
    let after = disk.crash(Survival::Nothing, 1);
    assert_eq!(verify(&after, &model).expect("promises kept").len(), 3);
}

#[test]
fn a_clean_shutdown_after_everything_was_released_leaves_nothing_to_read() {
    let (disk, model) = (SimDisk::new(9), model());
    let shared = model.clone();
    with_journal(&disk, config(), &model, |journal, _| async move {
        let commit = append(&journal, &shared, batch_of(partition(0), 0), Durability::Sync, b"one")
            .expect("room")
            .commit;
        journal.durable(commit).await.expect("a healthy disk");
        release(&journal, &shared, commit);
        journal.shutdown().await.expect("a healthy disk");
        let refused = append(&journal, &shared, batch_of(partition(0), 1), Durability::Sync, b"two");
        assert!(matches!(refused, Err(JournalError::Closed)));
    })
    .expect("promises kept");
    assert_eq!(verify(&disk, &model).expect("promises kept"), []);
}

#[test]
fn a_ring_without_space_to_grow_stays_as_it_is_and_appends_go_on_after_a_release() {
    let (disk, model) = (SimDisk::new(10), model());
    let (shared, small) = (model.clone(), disk.clone());
    with_journal(&disk, config(), &model, |journal, _| async move {
        small.fill_up();
        let one = || append(&journal, &shared, batch_of(partition(0), 0), Durability::Sync, &[1; 10_000]);
        let mut refusals = 0;
        while refusals < 100 {
            match one() {
                Ok(entry) => journal.durable(entry.commit).await.expect("a healthy disk"),
                Err(error) => {
                    assert!(matches!(error, JournalError::Full), "{error}");
                    refusals += 1;
                    yield_now().await;
                }
            }
        }
        assert_eq!(journal.pressure().used_files, 2);
        release(&journal, &shared, journal.durable_end());
        while one().is_err() {
            yield_now().await;
        }
        journal.durable(journal.last_appended()).await.expect("a healthy disk");
    })
    .expect("promises kept");
}

#[test]
fn a_journal_can_be_read_without_being_opened_for_writing() {
    let (disk, model) = (SimDisk::new(12), model());
    let shared = model.clone();
    with_journal(&disk, config(), &model, |journal, _| async move {
        let commit = append(&journal, &shared, batch_of(partition(0), 0), Durability::Sync, b"one")
            .expect("room")
            .commit;
        journal.durable(commit).await.expect("a healthy disk");
    })
    .expect("promises kept");
    let before = disk.operations();
    LocalPool::new().run_until(async {
        let mut scan = Scan::open(disk.clone(), dir()).await.expect("opens");
        assert_eq!(read_all(&mut scan).await.expect("reads").len(), 1);
        assert_eq!(scan.journal_id(), Some(config().new_journal_id));
    });
    assert_eq!(disk.operations(), before);
}

#[test]
fn a_held_commit_is_written_when_every_reason_is_gone_and_later_appends_gather_behind_it() {
    let (disk, model) = (SimDisk::new(2), model());
    let shared = model.clone();
    with_journal(&disk, config(), &model, |journal, _| async move {
        let one = |i| {
            append(&journal, &shared, batch_of(partition(0), i), Durability::Sync, &[1; 100]).expect("room")
        };
        let first = one(0).commit;
        journal.hold(first);
        journal.hold(first);
        for _ in 0..100 {
            yield_now().await;
        }
        assert_eq!(shared.borrow().last_commit.as_ref().map(|commit| commit.seq), None);
        let second = one(1).commit;
        assert_eq!(second, first.next(), "the held one takes no more");
        journal.let_go(first);
        for _ in 0..100 {
            yield_now().await;
        }
        assert_eq!(shared.borrow().last_commit.as_ref().map(|commit| commit.seq), None);
        journal.let_go(first);
        journal.durable(second).await.expect("a healthy disk");
        assert_eq!(shared.borrow().done, [first, second]);
    })
    .expect("promises kept");
}

#[test]
fn a_sync_of_a_recycled_file_that_finds_no_space_ends_the_journal() {
    let (disk, model) = (SimDisk::new(13), model());
    let (shared, failing) = (model.clone(), disk.clone());
    with_journal(&disk, config(), &model, |journal, _| async move {
        let one = || append(&journal, &shared, batch_of(partition(0), 0), Durability::Sync, &[1; 10_000]);
        while journal.pressure().used_files < 3 {
            match one() {
                Ok(entry) => journal.durable(entry.commit).await.expect("a healthy disk"),
                Err(_) => yield_now().await,
            }
        }
        rest().await;
        // Commits are written through.
        failing.fill_up_after(SimOp::Sync, 0);
        release(&journal, &shared, journal.durable_end());
        rest().await;
        assert!(shared.borrow().failed.is_some());
        assert!(matches!(one(), Err(JournalError::Failed(_))));
    })
    .expect("promises kept");
}

/// Appends until the ring is full, and waits until nothing moves; answers how many entries went in.
async fn fill(journal: &Journal<SimDisk>, model: &SharedModel) -> usize {
    let mut count = 0;
    while let Ok(entry) = append(journal, model, batch_of(partition(0), 1), Durability::Sync, &[1; 10_000]) {
        journal.durable(entry.commit).await.expect("a healthy disk");
        count += 1;
    }
    rest().await;
    count
}

async fn rest() {
    for _ in 0..2000 {
        yield_now().await;
    }
}

fn files(journal: &Journal<SimDisk>) -> usize {
    let pressure = journal.pressure();
    pressure.used_files + pressure.free_files
}

#[test]
fn files_that_find_no_space_to_be_replaced_stay_in_the_ring_until_there_is_some() {
    let (disk, model) = (SimDisk::new(10), model());
    let shared = model.clone();
    with_journal(&disk, config(), &model, |journal, _| async move {
        fill(&journal, &shared).await;
    })
    .expect("promises kept");
    let (shared, small) = (model.clone(), disk.clone());
    // Files of another size cannot be used again.
    let larger = JournalConfig { file_bytes: 128 << 10, max_files: 8, ..config() };
    with_journal(&disk, larger, &model, |journal, _| async move {
        small.fill_up();
        rest().await;
        let before = files(&journal);
        release(&journal, &shared, journal.durable_end());
        fill(&journal, &shared).await;
        release(&journal, &shared, journal.durable_end());
        rest().await;
        assert_eq!(files(&journal), before);
        let operations = small.operations();
        journal.retry_upkeep();
        rest().await;
        assert!((1..20).contains(&(small.operations() - operations)), "one try, and no more");
        small.make_room();
        journal.retry_upkeep();
        rest().await;
        assert!(fill(&journal, &shared).await > 0);
        let sizes = journal_files(&small).into_iter().filter_map(|path| Some(small.content(&path)?.len()));
        assert!(sizes.eq(std::iter::repeat_n(128 << 10, files(&journal))), "nothing is left of the old ones");
    })
    .expect("promises kept");
    verify(&disk, &model).expect("promises kept");
}

#[test]
fn a_file_that_finds_no_space_for_its_new_header_is_recycled_later() {
    for is_crash in [false, true] {
        let (disk, model) = (SimDisk::new(11), model());
        let (shared, small) = (model.clone(), disk.clone());
        with_journal(&disk, config(), &model, move |journal, _| async move {
            fill(&journal, &shared).await;
            let before = (files(&journal), journal_files(&small));
            small.fill_up_for_writes("journal");
            release(&journal, &shared, journal.durable_end());
            rest().await;
            assert_eq!(files(&journal), before.0);
            assert_ne!(journal_files(&small), before.1, "they have new names and old headers");
            if is_crash {
                return;
            }
            small.make_room();
            journal.retry_upkeep();
            rest().await;
            assert!(fill(&journal, &shared).await > 0);
            assert!(files(&journal) >= before.0);
        })
        .expect("promises kept");
        let disk = disk.crash(Survival::AnySubset, 7);
        disk.make_room();
        verify(&disk, &model).expect("promises kept");
        let shared = model.clone();
        with_journal(&disk, config(), &model, |journal, _| async move {
            release(&journal, &shared, journal.durable_end());
            rest().await;
            assert!(fill(&journal, &shared).await > 0);
        })
        .expect("promises kept");
        verify(&disk, &model).expect("promises kept");
    }
}

#[test]
fn a_journal_opens_on_a_full_disk_with_the_files_that_it_has() {
    let (disk, model) = (SimDisk::new(14), model());
    let shared = model.clone();
    with_journal(&disk, config(), &model, |journal, _| async move {
        let entry = append(&journal, &shared, batch_of(partition(0), 1), Durability::Sync, b"one");
        journal.durable(entry.expect("room").commit).await.expect("a healthy disk");
    })
    .expect("promises kept");
    disk.fill_up();
    let (shared, small) = (model.clone(), disk.clone());
    let more = JournalConfig { initial_files: 3, ..config() };
    with_journal(&disk, more, &model, |journal, _| async move {
        assert!(fill(&journal, &shared).await > 0);
        assert_eq!(files(&journal), 2);
        small.make_room();
        journal.retry_upkeep();
        rest().await;
        assert!(files(&journal) > 2 && fill(&journal, &shared).await > 0);
    })
    .expect("promises kept");
}
