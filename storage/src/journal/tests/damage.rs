//! Bits that flip on the disk.

use super::harness::{self, *};
use crate::{
    disk::{BLOCK, sim::SimDisk},
    journal::{CommitSeq, Damage, Durability, Journal, JournalConfig, Scan},
};
use futures::executor::LocalPool;
use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    rc::Rc,
};

/// Files with room for exactly seven commits of [`journal_of`].
fn config() -> JournalConfig {
    JournalConfig { file_bytes: 60 << 10, initial_files: 3, ..harness::config() }
}

/// A journal of `commits` commits with two entries each: one of partition 0 and one of partition 1, 2 or 3 in turn.
fn journal_of(commits: u64) -> (SimDisk, SharedModel) {
    let model: SharedModel = Rc::new(RefCell::new(Default::default()));
    let disk = SimDisk::new(11);
    let shared = model.clone();
    with_journal(&disk, config(), &model, move |journal, _| async move {
        for i in 0..commits {
            for partition in [partition(0), partition(1 + i % 3)] {
                let header = batch_of(partition, i as i64);
                let appended =
                    append(&journal, &shared, header, Durability::Sync, &[i as u8; 3000]).expect("room");
                assert_eq!(appended.commit, CommitSeq(i + 1));
            }
            journal.durable(CommitSeq(i + 1)).await.expect("a healthy disk");
        }
    })
    .expect("promises kept");
    (disk, model)
}

fn scan(disk: &SimDisk) -> (Vec<Known>, Vec<Damage>, CommitSeq) {
    LocalPool::new().run_until(async {
        let mut scan = Scan::open(disk.clone(), dir()).await.expect("opens");
        let entries = read_all(&mut scan).await.expect("reads");
        (entries, scan.damage().to_vec(), scan.last())
    })
}

/// Where commit `n` of [`journal_of`] starts: two blocks each, seven to a file.
fn place_of(commit: u64) -> (PathBuf, u64) {
    let per_file = 7;
    let path = dir().join(format!("{:020}.journal", 1 + (commit - 1) / per_file));
    (path, (BLOCK as u64) * (1 + 2 * ((commit - 1) % per_file)))
}

#[test]
fn a_damaged_payload_names_its_partition_and_leaves_the_others_their_entries() {
    let (disk, model) = journal_of(10);
    let (path, position) = place_of(4);
    // In the second entry's payload, which is of partition 1.
    disk.corrupt(&path, position + 96 + 56 + 3000 + 56 + 100, 0x40);
    let (entries, damage, last) = scan(&disk);
    let expected = Damage {
        commits: CommitSeq(4)..=CommitSeq(4),
        path,
        position,
        partitions: vec![partition(1)],
        is_complete: true,
    };
    assert_eq!(damage, [expected]);
    assert_eq!(last, CommitSeq(10));
    let is_left = |known: &&Known| known.header.partition != partition(1) || known.commit < CommitSeq(4);
    assert_eq!(entries, model.borrow().appended.iter().filter(is_left).cloned().collect::<Vec<_>>());
}

#[test]
fn a_damaged_commit_header_in_the_middle_is_reported_as_incomplete_knowledge() {
    let (disk, _) = journal_of(10);
    let (path, position) = place_of(3);
    disk.corrupt(&path, position + 90, 0x01);
    let (_, damage, last) = scan(&disk);
    assert_eq!(damage.len(), 1);
    assert_eq!((damage[0].commits.clone(), damage[0].is_complete), (CommitSeq(3)..=CommitSeq(3), false));
    assert_eq!((&damage[0].path, damage[0].position), (&path, position));
    assert_eq!(last, CommitSeq(10));
}

#[test]
fn damage_at_the_end_of_one_file_is_seen_by_the_commits_of_the_next() {
    let (disk, _) = journal_of(9);
    let (path, position) = place_of(7);
    disk.corrupt(&path, position, 0x01);
    let (_, damage, _) = scan(&disk);
    assert_eq!(damage.len(), 1);
    assert_eq!((damage[0].commits.clone(), &damage[0].path), (CommitSeq(7)..=CommitSeq(7), &path));
}

#[test]
fn a_file_whose_header_is_damaged_still_gives_its_commits() {
    let (disk, model) = journal_of(10);
    disk.corrupt(&place_of(1).0, 20, 0xff);
    verify(&disk, &model).expect("nothing is lost");
}

#[test]
fn a_flipped_bit_anywhere_is_reported_or_costs_at_most_the_last_commit() {
    let (disk, model) = journal_of(10);
    let appended = model.borrow().appended.clone();
    let mut reported = 0;
    for file in journal_files(&disk) {
        for position in (0..60 * 1024).step_by(149) {
            disk.corrupt(&file, position, 0x08);
            let (entries, damage, last) = scan(&disk);
            if damage.is_empty() {
                assert!(last >= CommitSeq(9), "{} {position}: ends at {last}", file.display());
                let expected: Vec<_> =
                    appended.iter().filter(|known| known.commit <= last).cloned().collect();
                assert_eq!(entries, expected, "{} {position}", file.display());
            } else {
                reported += 1;
                assert!(
                    entries.iter().all(|entry| appended.contains(entry)),
                    "{} {position}",
                    file.display()
                );
            }
            disk.corrupt(&file, position, 0x08);
        }
    }
    assert!(reported > 300, "{reported}");
}

#[test]
fn a_missing_file_is_damage() {
    let (disk, _) = journal_of(17);
    LocalPool::new().run_until(crate::disk::Disk::remove(&disk, &place_of(8).0)).expect("removed");
    let (_, damage, last) = scan(&disk);
    assert_eq!(damage.len(), 1);
    assert_eq!(damage[0].commits, CommitSeq(8)..=CommitSeq(14));
    assert!(!damage[0].is_complete);
    assert_eq!(last, CommitSeq(17));
}

#[test]
fn a_damaged_file_is_set_aside_when_it_is_released_and_the_journal_goes_on() {
    let (disk, _) = journal_of(10);
    let (path, position) = place_of(4);
    disk.corrupt(&path, position + 200, 0x40);
    let damaged = disk.content(&path).expect("the file");
    LocalPool::new().run_until(async {
        let (journal, mut scan) = Journal::open(disk.clone(), dir(), config()).await.expect("opens");
        read_all(&mut scan).await.expect("reads");
        assert_eq!(scan.damage().len(), 1);
        journal.release(scan.last());
        let work = async {
            let header = batch_of(partition(0), 77);
            let appended = journal.append(&header, Durability::Sync, &[b"after"], |_| {}).expect("room");
            journal.durable(appended.commit).await.expect("a healthy disk");
            journal.shutdown().await.expect("a healthy disk");
        };
        let (ran, ()) = futures::join!(journal.run(), work);
        ran.expect("a healthy disk");
    });
    let aside = path.with_extension("journal.damaged");
    assert_eq!(disk.content(&aside).expect("set aside, not deleted"), damaged);
    let (entries, damage, last) = scan(&disk);
    assert_eq!((entries.len(), damage.len(), last), (1, 0, CommitSeq(11)));
}

#[test]
fn another_journal_s_file_is_not_taken_for_ours() {
    let (disk, _) = journal_of(3);
    let model: SharedModel = Rc::new(RefCell::new(Default::default()));
    let stranger = SimDisk::new(5);
    let mut strange = config();
    strange.new_journal_id = uuid::Uuid::from_u128(0xbad);
    let shared = model.clone();
    with_journal(&stranger, strange, &model, move |journal, _| async move {
        let appended =
            append(&journal, &shared, batch_of(partition(0), 0), Durability::Sync, b"x").expect("room");
        journal.durable(appended.commit).await.expect("a healthy disk");
    })
    .expect("promises kept");
    // Its commit, bit by bit, in the place of ours.
    let (path, position) = place_of(2);
    let theirs = stranger.content(&place_of(1).0).expect("a file");
    let ours = disk.content(&path).expect("a file");
    for i in 0..BLOCK as u64 {
        let xor = theirs[BLOCK + i as usize] ^ ours[(position + i) as usize];
        disk.corrupt(&path, position + i, xor);
    }
    let (entries, damage, _) = scan(&disk);
    assert_eq!(damage.len(), 1);
    assert!(entries.iter().all(|entry| entry.payload != b"x"));
}

/// Gives every header in a journal file the version that it has in files of the first format.
fn make_version_1(disk: &SimDisk, path: &Path) {
    let content = disk.content(path).expect("a journal file");
    for (at, checksum_at) in (0..content.len()).step_by(4096).filter_map(|at| match &content[at..at + 8] {
        b"JRNLFILE" => Some((at, at + 76)),
        b"JRNLCMIT" => Some((at, at + 92)),
        _ => None,
    }) {
        let mut header = content[at..checksum_at].to_vec();
        header[8..10].copy_from_slice(&1u16.to_le_bytes());
        let checksum = crc32c::crc32c(&header).to_le_bytes();
        for (i, byte) in header.iter().chain(&checksum).enumerate() {
            disk.corrupt(path, (at + i) as u64, content[at + i] ^ byte);
        }
    }
}

#[test]
fn a_journal_of_the_first_format_version_is_read_and_continued() {
    let (disk, model) = journal_of(10);
    journal_files(&disk).iter().for_each(|path| make_version_1(&disk, path));
    let shared = model.clone();
    with_journal(&disk, config(), &model, |journal, _| async move {
        let header = batch_of(partition(0), 10);
        let appended = append(&journal, &shared, header, Durability::Sync, &[1; 3000]).expect("room");
        journal.durable(appended.commit).await.expect("a healthy disk");
    })
    .expect("the old entries are there, and the journal goes on");
}
