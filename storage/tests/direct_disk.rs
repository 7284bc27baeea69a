//! The real disk, in a glommio executor, in the temporary directory.

use glommio::LocalExecutorBuilder;
use protocol::records::CRC_START;
use std::{cell::Cell, future::Future, path::PathBuf, rc::Rc};
use storage::{
    LeaderEpoch, Offset, PartitionId, TopicIdPartition,
    disk::{BLOCK, DirectDisk, Disk, DiskFile, DiskObserver, NameStep, OpenMode, zero_fill},
    journal::{CommitSeq, Durability, EntryHeader, EntryKind, Journal, JournalConfig, JournalEvent},
    record_log::RecordLog,
};
use uuid::Uuid;

/// Runs `work` on an executor of its own, with a directory that vanishes afterwards.
fn on_disk<F: Future<Output = ()> + 'static>(work: impl FnOnce(DirectDisk, PathBuf) -> F + 'static) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_owned();
    LocalExecutorBuilder::default().make().expect("io_uring is allowed").run(async move {
        let disk = DirectDisk::new(&path, 16 << 20).await.expect("a disk");
        work(disk, path).await;
    });
}

fn header(offset: i64) -> EntryHeader {
    EntryHeader {
        kind: EntryKind::Batch,
        partition: TopicIdPartition::new(Uuid::from_u128(7), PartitionId(1)),
        base_offset: Offset(offset),
        last_offset: Offset(offset),
        leader_epoch: LeaderEpoch(0),
    }
}

/// Counts operations in progress, and those that have ended.
#[derive(Debug, Default)]
struct Counter {
    in_progress: Cell<usize>,
    ended: Cell<usize>,
}

impl DiskObserver for Counter {
    fn begun(&self) {
        self.in_progress.set(self.in_progress.get() + 1);
    }

    fn ended(&self) {
        self.in_progress.set(self.in_progress.get() - 1);
        self.ended.set(self.ended.get() + 1);
    }
}

#[test]
fn an_observer_is_told_of_the_beginning_and_end_of_every_operation() {
    on_disk(|disk, dir| async move {
        let counter = Rc::new(Counter::default());
        let disk = disk.observed_by(counter.clone());
        let file = disk.open(&dir.join("file"), OpenMode::CREATE_NEW).await.expect("created");
        let buffer = disk.alloc(BLOCK).freeze();
        let mut write = Box::pin(file.write_at(0, &buffer, BLOCK));
        assert!(futures::poll!(&mut write).is_pending());
        assert_eq!((counter.in_progress.get(), counter.ended.get()), (1, 1), "opened, and writing");
        write.await.expect("written");
        file.sync_data().await.expect("synced");
        file.read_at(0, BLOCK).await.expect("read");
        file.truncate(0).await.expect("truncated");
        assert!(disk.open(&dir.join("none"), OpenMode::READ).await.is_err());
        file.close().await.expect("closed");
        disk.list(&dir).await.expect("listed");
        disk.sync_dir(&dir).await.expect("synced");
        assert_eq!((counter.in_progress.get(), counter.ended.get()), (0, 9));
    });
}

#[test]
fn what_is_written_is_read_back_at_any_position_and_length() {
    on_disk(|disk, dir| async move {
        let file = disk.open(&dir.join("file"), OpenMode::CREATE_NEW).await.expect("created");
        let mut buffer = disk.alloc(3 * BLOCK);
        for (i, byte) in buffer.iter_mut().enumerate() {
            *byte = (i % 251) as u8;
        }
        let buffer = buffer.freeze();
        file.write_at(BLOCK as u64, &buffer, 2 * BLOCK).await.expect("written");
        file.sync_data().await.expect("synced");
        assert_eq!(file.len().await.expect("stat"), 3 * BLOCK as u64);
        for (pos, len) in [
            (0, 10),
            (4090, 20),
            (4096, 8192),
            (5000, 1),
            (5001, 4096),
            (12_000, 5000),
            (12_288, 1),
            (99_999, 9),
        ] {
            let read = file.read_at(pos as u64, len).await.expect("read");
            let expected: Vec<u8> = (pos..(pos + len).min(3 * BLOCK))
                .map(|at| if at < BLOCK { 0 } else { ((at - BLOCK) % 251) as u8 })
                .collect();
            assert_eq!(read, expected, "{len} bytes at {pos}");
        }
        let again = disk.open(&dir.join("file"), OpenMode::CREATE_NEW).await.expect_err("exists");
        assert_eq!(again.kind(), std::io::ErrorKind::AlreadyExists);
        assert!(disk.open(&dir.join("none"), OpenMode::READ).await.expect_err("none").is_not_found());
    });
}

#[test]
fn files_keep_working_under_a_new_name_and_directories_tell_what_is_there() {
    on_disk(|disk, dir| async move {
        let sub = dir.join("a/b/c");
        disk.create_dir_all(&sub).await.expect("made");
        disk.create_dir_all(&sub).await.expect("it may exist");
        let file = disk.open(&sub.join("old"), OpenMode::CREATE).await.expect("created");
        zero_fill(&disk, &file, 0, 8 * BLOCK as u64).await.expect("written");
        disk.rename(&sub.join("old"), &sub.join("new")).await.expect("renamed");
        disk.sync_dir(&sub).await.expect("synced");
        file.truncate(5000).await.expect("cut");
        assert_eq!(file.len().await.expect("stat"), 5000);
        let names: Vec<_> =
            disk.list(&sub).await.expect("list").into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["new"]);
        assert!(disk.list(&dir).await.expect("list").iter().any(|entry| entry.name == "a" && entry.is_dir));
        disk.remove_dir(&sub).await.expect_err("not empty");
        disk.remove(&sub.join("new")).await.expect("removed");
        disk.remove_dir(&sub).await.expect("removed");
        assert!(disk.free_space(&dir).await.expect("statvfs") > 0);
        let left: Vec<_> = disk.list(&dir).await.expect("list").into_iter().map(|entry| entry.name).collect();
        assert_eq!(left, ["a"], "the probe file is gone");
    });
}

#[test]
fn directories_and_files_that_are_created_together_are_there() {
    on_disk(|disk, dir| async move {
        let (sub, file) = (dir.join("sub"), dir.join("sub/file"));
        let steps = vec![
            NameStep::CreateDir(sub.clone()),
            NameStep::CreateDir(sub.clone()),
            NameStep::WriteFile(dir.join("sub/beside"), b"longer than that".to_vec()),
            NameStep::WriteFile(dir.join("sub/beside"), b"content".to_vec()),
            NameStep::Rename { from: dir.join("sub/beside"), to: file.clone() },
        ];
        disk.carry_out(steps).await.expect("done");
        if disk.can_sync_all(&dir).await.expect("asked") {
            disk.sync_all(&dir).await.expect("synced");
        }
        let opened = disk.open(&file, OpenMode::READ).await.expect("it is there");
        assert_eq!(opened.read_at(0, 100).await.expect("read"), "content");
        let into_nowhere = vec![
            NameStep::CreateDir(dir.join("not/there")),
            NameStep::WriteFile(dir.join("not reached"), Vec::new()),
        ];
        assert!(disk.carry_out(into_nowhere).await.expect_err("no parent").is_not_found());
        assert!(!dir.join("not reached").exists());
    });
}

#[test]
fn a_write_whose_future_is_dropped_leaves_its_buffer_alone() {
    on_disk(|disk, dir| async move {
        let file = disk.open(&dir.join("file"), OpenMode::CREATE).await.expect("created");
        for round in 0..50u8 {
            let mut buffer = disk.alloc(64 << 10);
            buffer.fill(round);
            let buffer = buffer.freeze();
            let mut write = Box::pin(file.write_at(0, &buffer, 64 << 10));
            let _ = futures::poll!(&mut write);
            drop(write);
            drop(buffer);
        }
        let mut buffer = disk.alloc(64 << 10);
        buffer.fill(0xee);
        assert!(buffer.iter().all(|byte| *byte == 0xee));
        file.sync_data().await.expect("synced");
    });
}

/// Bytes that have a batch's checksum in its place, which the journal relies on.
fn batch(i: usize) -> Vec<u8> {
    let mut batch = vec![i as u8; 1000 * (i + 1)];
    let checksum = crc32c::crc32c(&batch[CRC_START..]);
    batch[CRC_START - 4..CRC_START].copy_from_slice(&checksum.to_be_bytes());
    batch
}

#[test]
fn slices_of_a_commit_are_good_on_other_threads_and_come_home() {
    on_disk(|disk, dir| async move {
        let config = JournalConfig { file_bytes: 4 << 20, ..JournalConfig::new(Uuid::from_u128(9), 0) };
        let (journal, mut scan) =
            Journal::open(disk.clone(), &dir.join("journal"), config.clone()).await.expect("opens");
        assert!(scan.next().await.expect("reads").is_none());
        let (sender, receiver) = std::sync::mpsc::channel();
        journal.set_observer(move |event| {
            if let JournalEvent::Done(commit) = event {
                sender.send(commit.buffer.slice(..commit.bytes)).expect("the thread listens");
            }
        });
        let thread = std::thread::spawn(move || receiver.iter().map(|slice| slice.len()).sum::<usize>());
        let running = journal.clone();
        let run = glommio::spawn_local(async move { running.run().await });
        for i in 0..40 {
            let durability = if i % 4 == 3 { Durability::Write } else { Durability::Sync };
            let payload = batch(i as usize);
            let appended = journal.append(&header(i), durability, &[&payload], |_| {}).expect("room");
            journal.durable(appended.commit).await.expect("durable");
        }
        journal.shutdown().await.expect("synced");
        run.await.expect("no disk error");
        drop(journal);
        assert!(thread.join().expect("adds up") >= (1..=40).map(|i| 1000 * i).sum());

        let (journal, mut scan) = Journal::open(disk, &dir.join("journal"), config).await.expect("opens");
        let mut entries = Vec::new();
        while let Some(commit) = scan.next().await.expect("reads") {
            entries.extend(commit.entries);
        }
        assert!(scan.damage().is_empty());
        assert_eq!(entries.len(), 40);
        for (i, entry) in entries.iter().enumerate() {
            assert_eq!(entry.header, header(i as i64));
            assert_eq!(entry.payload, batch(i));
        }
        assert_eq!(journal.durable_end(), CommitSeq(40));
    });
}

#[test]
fn a_record_log_survives_restarts_and_rewrites() {
    on_disk(|disk, dir| async move {
        let path = dir.join("records.log");
        for round in 0..3usize {
            let (mut log, records) = RecordLog::open(disk.clone(), &path).await.expect("opens");
            assert_eq!(records.len(), round * 21);
            for i in 0..20 {
                log.append(&[vec![i as u8; i * 100]]).await.expect("appends");
            }
            let (_, records) = RecordLog::open(disk.clone(), &path).await.expect("opens");
            let mut records: Vec<_> = records.into_iter().collect();
            records.push("one more".into());
            log.rewrite(&records).await.expect("rewrites");
        }
    });
}

#[test]
fn the_probe_runs_on_many_executors_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_owned();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || {
                LocalExecutorBuilder::default().make().expect("io_uring is allowed").run(async move {
                    DirectDisk::new(&path, 1 << 20).await.expect("a disk");
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("probes");
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0);
}

#[test]
fn what_was_read_may_be_dropped_on_any_thread_and_outlives_the_disk() {
    let (sender, receiver) = std::sync::mpsc::channel::<bytes::Bytes>();
    let elsewhere = std::thread::spawn(move || receiver.iter().map(|slice| slice.len()).sum::<usize>());
    let kept = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let keep = kept.clone();
    on_disk(|disk, dir| async move {
        let file = disk.open(&dir.join("file"), OpenMode::CREATE).await.expect("created");
        let mut buffer = disk.alloc(1 << 20);
        for (i, byte) in buffer.iter_mut().enumerate() {
            *byte = (i / 1000) as u8;
        }
        file.write_at(0, &buffer.freeze(), 1 << 20).await.expect("written");
        for round in 0..50 {
            let read = file.read_at(round * 100, 500_000).await.expect("read");
            assert!(
                read.iter().enumerate().all(|(i, byte)| *byte == ((i + round as usize * 100) / 1000) as u8)
            );
            sender.send(read.slice(..1000)).expect("somebody listens");
            if round == 49 {
                keep.borrow_mut().push(read);
            }
        }
    });
    assert_eq!(elsewhere.join().expect("no panic"), 50_000);
    let read = &kept.borrow()[0];
    assert!(read.iter().enumerate().all(|(i, byte)| *byte == ((i + 4900) / 1000) as u8));
}
