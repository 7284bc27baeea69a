//! The loops behind a journal: one writes commits, one at a time and in order; the other keeps ready files at hand.

use super::{
    commit::SealedCommit,
    config::Durability,
    entry::{Commit, CommitSeq, JournalEvent},
    handle::{Inner, UnsyncedFile},
    maintain,
    ring::Chore,
};
use crate::{
    disk::{Disk, DiskFile, DiskResult},
    error::{DiskError, JournalError, StorageError},
};
use std::rc::Rc;

/// Writes commits as they come, until the journal has ended.
pub(super) async fn write_loop<D: Disk>(inner: &Rc<Inner<D>>) -> Result<(), StorageError> {
    loop {
        if let Some(reason) = inner.progress.ended() {
            return ended(reason);
        }
        let Some(commit) = next_commit(inner) else {
            inner.writer_signal.wait().await;
            continue;
        };
        if let Err(error) = write(inner, commit).await {
            return ended(inner.fail(error));
        }
    }
}

fn ended(reason: JournalError) -> Result<(), StorageError> {
    match reason {
        JournalError::Closed => Ok(()),
        reason => Err(reason.into()),
    }
}

/// The oldest sealed commit, or what has gathered meanwhile, with its header written. Nothing while that is held.
fn next_commit<D: Disk>(inner: &Inner<D>) -> Option<SealedCommit<D::File>> {
    let state = &mut *inner.state.borrow_mut();
    if state.sealed.is_empty() {
        inner.seal(state);
    }
    let held = state.held.first_key_value().map(|(seq, _)| *seq);
    let mut commit = state.sealed.pop_front_if(|commit| held != Some(commit.seq))?;
    assert_eq!(commit.seq, state.written.next(), "commits are written in order");
    commit.finish(inner.identity, state.released, state.synced);
    state.recorded_released = state.released;
    Some(commit)
}

/// Writes one commit, makes it as durable as its appends asked for, and says so.
async fn write<D: Disk>(inner: &Rc<Inner<D>>, sealed: SealedCommit<D::File>) -> DiskResult<()> {
    let SealedCommit { seq, file, pos, durability, bytes, .. } = sealed;
    let commit = Commit { seq, file_seq: file.seq, buffer: sealed.buffer.freeze(), bytes, durability };
    inner.notify(JournalEvent::Started(commit.clone()));

    let is_all_synced = inner.state.borrow().synced.next() == seq;
    if durability == Durability::Sync && is_all_synced {
        file.write_through.write_at(pos, &commit.buffer, bytes).await?;
        written(inner, seq, bytes, |state| state.synced = seq);
    } else {
        file.plain.write_at(pos, &commit.buffer, bytes).await?;
        written(inner, seq, bytes, |state| {
            match state.unsynced.iter_mut().find(|unsynced| unsynced.seq == file.seq) {
                Some(unsynced) => unsynced.last = seq,
                None => {
                    state.unsynced.push(UnsyncedFile { seq: file.seq, file: file.plain.clone(), last: seq })
                }
            }
        });
        if durability == Durability::Sync {
            // A written-through commit would not be enough: the scan stops at the first commit that is missing.
            sync_written(inner).await?;
        }
    }
    // The other loop or `sync_now` may have failed meanwhile; then nothing is confirmed any more.
    if inner.progress.ended().is_none() {
        inner.confirm(commit);
    }
    inner.maintainer_signal.set();
    Ok(())
}

fn written<D: Disk>(
    inner: &Inner<D>,
    seq: CommitSeq,
    bytes: usize,
    note: impl FnOnce(&mut super::handle::State<D::File>),
) {
    let state = &mut *inner.state.borrow_mut();
    state.written = seq;
    state.written_bytes += bytes as u64;
    note(state);
}

impl<D: Disk> Inner<D> {
    fn confirm(&self, commit: Commit) {
        let seq = commit.seq;
        self.notify(JournalEvent::Done(commit));
        self.progress.advance(seq);
    }
}

/// Syncs all that is written. Every commit that was written before the call is synced when it returns.
pub(super) async fn sync_written<D: Disk>(inner: &Inner<D>) -> DiskResult<()> {
    let (target, files) = {
        let state = inner.state.borrow();
        let files: Vec<_> = state.unsynced.iter().map(|unsynced| unsynced.file.clone()).collect();
        (state.written, files)
    };
    for file in files {
        file.sync_data().await?;
    }
    let state = &mut *inner.state.borrow_mut();
    state.synced = state.synced.max(target);
    state.unsynced.retain(|unsynced| unsynced.last > target);
    Ok(())
}

/// Creates and recycles files as the ring asks, until the journal has ended.
pub(super) async fn maintain_loop<D: Disk>(inner: &Rc<Inner<D>>) -> Result<(), StorageError> {
    loop {
        if let Some(reason) = inner.progress.ended() {
            return ended(reason);
        }
        let chore = inner.state.borrow_mut().ring.next_chore(&inner.config);
        let Some(chore) = chore else {
            inner.maintainer_signal.wait().await;
            continue;
        };
        if let Err(error) = carry_out(inner, chore).await {
            return ended(inner.fail(error));
        }
    }
}

async fn carry_out<D: Disk>(inner: &Inner<D>, chore: Chore<D::File>) -> DiskResult<()> {
    let released = inner.state.borrow().released;
    let Inner { disk, dir, config, identity, .. } = inner;
    let (outcome, retired) = match chore {
        Chore::Recycle(mut retired, seq) => {
            let recycled = maintain::recycle(disk, dir, config, *identity, &mut retired, seq, released).await;
            (recycled, Some(retired))
        }
        Chore::Create(seq) => (maintain::create(disk, dir, config, *identity, seq, released).await, None),
    };
    match outcome {
        Ok(file) => {
            inner.state.borrow_mut().ring.prepared(file, retired.is_some());
            inner.notify(JournalEvent::FileReady);
        }
        Err(error) if error.is_out_of_space() => {
            if inner.state.borrow_mut().ring.not_prepared(retired) {
                tracing::warn!(%error, "no space for another journal file; the ring stays as it is until there is");
            }
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Recycles what recovery has found released, and creates files until the ring has its initial number, one of them ready at least.
pub(super) async fn prepare_first_files<D: Disk>(inner: &Rc<Inner<D>>) -> Result<(), DiskError> {
    loop {
        let chore = {
            let ring = &mut inner.state.borrow_mut().ring;
            let has_enough = ring.total() >= inner.config.initial_files && ring.ready_files() > 0;
            match ring.next_retired(&inner.config) {
                Some(recycle) => recycle,
                None if has_enough || ring.is_out_of_space() => break,
                None => Chore::Create(ring.start_creating()),
            }
        };
        carry_out(inner, chore).await?;
    }
    if inner.state.borrow().ring.ready_files() == 0 {
        let full = std::io::ErrorKind::StorageFull.into();
        return Err(DiskError::new("create a journal file in", &inner.dir, full));
    }
    Ok(())
}
