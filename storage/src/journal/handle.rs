//! The journal as its users see it: append, wait, release.

use super::{
    commit::{OpenCommit, RecentSizes, SealedCommit},
    config::{Durability, JournalConfig},
    entry::{Appended, CommitSeq, EntryHeader, FileSeq, JournalEvent, Pressure},
    format::{COMMIT_HEADER_BYTES, ENTRY_HEADER_BYTES, Identity},
    maintain,
    ring::{RetiredFile, Ring, UsedFile, max_payload_bytes},
    scan::{self, Scan},
    signal::{Durable, Progress, Signal},
    writer,
};
use crate::{
    disk::{Disk, DiskFile},
    error::{DiskError, JournalError, StorageError},
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    rc::Rc,
};

/// One shard's journal. Cheap to clone; all clones are the same journal.
pub struct Journal<D: Disk> {
    pub(super) inner: Rc<Inner<D>>,
}

impl<D: Disk> Clone for Journal<D> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

type Observer = Box<dyn FnMut(JournalEvent)>;

pub(super) struct Inner<D: Disk> {
    pub disk: D,
    pub dir: PathBuf,
    pub config: JournalConfig,
    pub identity: Identity,
    pub state: RefCell<State<D::File>>,
    pub progress: Rc<Progress>,
    pub writer_signal: Signal,
    pub maintainer_signal: Signal,
    observer: RefCell<Option<Observer>>,
}

pub(super) struct State<F> {
    pub ring: Ring<F>,
    pub open: Option<OpenCommit<F>>,
    pub sealed: VecDeque<SealedCommit<F>>,
    /// Commits that must not be written yet, and for how many reasons.
    pub held: BTreeMap<CommitSeq, u32>,
    pub next_seq: CommitSeq,
    /// Everything up to here was written, synced or not.
    pub written: CommitSeq,
    /// Everything up to here was synced.
    pub synced: CommitSeq,
    /// Files with writes that were not synced, each with the last commit that was written so.
    pub unsynced: Vec<UnsyncedFile<F>>,
    pub released: CommitSeq,
    /// The newest commit on disk says that everything up to here was released.
    pub recorded_released: CommitSeq,
    pub is_read_only: bool,
    pub is_closing: bool,
    /// Bytes of commits written since the journal was opened.
    pub written_bytes: u64,
    /// How large commits have been lately.
    pub sizes: RecentSizes,
}

pub(super) struct UnsyncedFile<F> {
    pub seq: FileSeq,
    pub file: Rc<F>,
    pub last: CommitSeq,
}

impl<D: Disk> Journal<D> {
    /// Opens the journal in `dir`, or makes a new one there. The [`Scan`] has to be read to its end and applied before anything is appended;
    /// nothing on disk changes by reading it, and the files that it covers stay until they are released.
    ///
    /// Damage is not an error here: [`Scan::damage`] tells.
    pub async fn open(disk: D, dir: &Path, config: JournalConfig) -> Result<(Self, Scan<D>), StorageError> {
        config.validate()?;
        disk.create_dir_all(dir).await?;
        scan::remove_unfinished(&disk, dir).await?;
        let scan = Scan::open(disk.clone(), dir).await?;
        let identity = scan.next_identity(&config);
        let last = scan.last();
        let next_file_seq = FileSeq(scan.max_file_seq().0 + 1);

        let (mut used, mut empty) = (Vec::new(), Vec::new());
        for file in scan.files() {
            let opened = maintain::open_ring_file(&disk, file.seq, file.path.clone(), file.bytes).await?;
            if file.last == CommitSeq::NONE && !file.is_damaged {
                // It was ready when the broker was killed. Kept until the files before it are released, it would be missed now, and the
                // ring would grow with every crash.
                empty.push(RetiredFile::new(Rc::new(opened), false));
                continue;
            }
            // A leftover of a write that nobody has synced is never taken for a place: appends go to other files.
            used.push(UsedFile {
                file: Rc::new(opened),
                tail: file.end,
                last: file.last,
                is_damaged: file.is_damaged,
            });
        }
        let mut unsynced: Vec<_> = used
            .iter()
            .map(|used| UnsyncedFile { seq: used.file.seq, file: used.file.plain.clone(), last })
            .collect();
        // What the scan has read may never have been synced ("write" durability, or the last moments before the crash): before anything is
        // built on it, it is.
        for file in unsynced.drain(..) {
            file.file.sync_data().await?;
        }
        let mut ring = Ring::new(used, empty, next_file_seq);
        ring.release(scan.released());
        let inner = Rc::new(Inner {
            disk,
            dir: dir.to_owned(),
            identity,
            state: RefCell::new(State {
                ring,
                open: None,
                sealed: VecDeque::new(),
                held: BTreeMap::new(),
                next_seq: last.next(),
                written: last,
                synced: last,
                unsynced,
                released: scan.released(),
                recorded_released: scan.released(),
                is_read_only: false,
                is_closing: false,
                written_bytes: 0,
                sizes: RecentSizes::default(),
            }),
            progress: Rc::new(Progress::starting_at(last)),
            writer_signal: Signal::default(),
            maintainer_signal: Signal::default(),
            observer: RefCell::new(None),
            config,
        });
        writer::prepare_first_files(&inner).await?;
        Ok((Self { inner }, scan))
    }

    /// Who hears of every commit; called from [`Journal::run`], may call the journal. Replaces an earlier observer.
    pub fn set_observer(&self, observer: impl FnMut(JournalEvent) + 'static) {
        *self.inner.observer.borrow_mut() = Some(Box::new(observer));
    }

    /// Copies an entry, whose payload is the concatenation of `parts`, into the commit that is gathering, and has that written as soon as the
    /// one before it is done. `patch` may edit the copy in place; it must not call the journal. The patched payload of a batch has to have the right
    /// checksum of its own: the journal's is derived from it, and a wrong one is taken for damage at the next start.
    ///
    /// Nothing is durable yet: wait for [`Journal::durable`] of the commit, or for the observer's [`JournalEvent::Done`].
    pub fn append(
        &self,
        header: &EntryHeader,
        durability: Durability,
        parts: &[&[u8]],
        patch: impl FnOnce(&mut [u8]),
    ) -> Result<Appended, JournalError> {
        let inner = &*self.inner;
        if let Some(reason) = inner.progress.ended() {
            return Err(reason);
        }
        let state = &mut *inner.state.borrow_mut();
        if state.is_closing || state.is_read_only {
            return Err(JournalError::ReadOnly);
        }
        let payload_bytes = parts.iter().map(|part| part.len() as u64).sum::<u64>();
        let limit_bytes = max_payload_bytes(inner.config.file_bytes);
        if payload_bytes > limit_bytes {
            return Err(JournalError::TooLarge { bytes: payload_bytes, limit_bytes });
        }
        let entry_bytes = ENTRY_HEADER_BYTES + payload_bytes as usize;
        if state.open.as_ref().is_some_and(|open| !open.has_room(entry_bytes)) {
            inner.seal(state);
        }
        if state.open.is_none() && !inner.open_commit(state, entry_bytes) {
            inner.maintainer_signal.set();
            return Err(JournalError::Full);
        }
        let open = state.open.as_mut().expect("opened above");
        let location = open.append(&inner.disk, header, parts, patch);
        open.durability = open.durability.max(durability);
        let commit = open.seq;
        inner.writer_signal.set();
        Ok(Appended { commit, location })
    }

    /// Keeps a commit that was not written yet from being written until [`Journal::let_go`] was called as often. To be called right after the append whose
    /// entry must not be on disk before something else is.
    pub fn hold(&self, commit: CommitSeq) {
        let state = &mut *self.inner.state.borrow_mut();
        assert!(commit > state.written, "commit {commit} is held, but may be written already");
        *state.held.entry(commit).or_default() += 1;
    }

    /// One reason for holding the commit is gone.
    pub fn let_go(&self, commit: CommitSeq) {
        let state = &mut *self.inner.state.borrow_mut();
        let reasons = state.held.get_mut(&commit).expect("a commit is let go as often as it is held");
        *reasons -= 1;
        if *reasons == 0 {
            state.held.remove(&commit);
            self.inner.writer_signal.set();
        }
    }

    /// Something that a held commit waits for has failed: ends the journal, so that nobody waits for the commit any longer.
    pub(crate) fn abandon(&self, error: &StorageError) {
        match error {
            StorageError::Disk(error) => drop(self.inner.fail(error.clone())),
            _ => self.inner.end(JournalError::Closed),
        }
    }

    /// Lets no further entry into `commit` and those before it.
    pub fn seal_through(&self, commit: CommitSeq) {
        let state = &mut *self.inner.state.borrow_mut();
        if state.open.as_ref().is_some_and(|open| open.seq <= commit) {
            self.inner.seal(state);
        }
    }

    /// Waits until `commit` is as durable as its appends asked for (and with it all before it). There may be any number of waiters.
    pub fn durable(&self, commit: CommitSeq) -> Durable {
        self.inner.progress.wait_for(commit)
    }

    /// The newest commit that is as durable as its appends asked for.
    pub fn durable_end(&self) -> CommitSeq {
        self.inner.progress.durable()
    }

    /// The newest commit that is synced, whatever its appends asked for.
    pub fn synced_end(&self) -> CommitSeq {
        self.inner.state.borrow().synced
    }

    /// The newest commit that holds an entry, durable or not.
    pub fn last_appended(&self) -> CommitSeq {
        CommitSeq(self.inner.state.borrow().next_seq.0 - 1)
    }

    /// Bytes of commits, in whole blocks, that were written since the journal was opened.
    pub fn written_bytes(&self) -> u64 {
        self.inner.state.borrow().written_bytes
    }

    /// Syncs what [`Durability::Write`] commits have written so far. For a shell with such topics to call every `flush.ms`; does nothing if there
    /// is nothing to sync.
    pub async fn sync_now(&self) -> Result<(), JournalError> {
        let synced = writer::sync_written(&self.inner).await;
        synced.map_err(|error| self.inner.fail(error))
    }

    /// Everything up to `up_to` is in synced segments, so the journal need not keep it. Files that are released as a whole are recycled.
    ///
    /// # Panics
    /// If `up_to` is not durable yet.
    pub fn release(&self, up_to: CommitSeq) {
        let state = &mut *self.inner.state.borrow_mut();
        assert!(up_to <= self.inner.progress.durable(), "commit {up_to} is released before it is durable");
        if up_to > state.released {
            state.released = up_to;
            state.ring.release(up_to);
            self.inner.maintainer_signal.set();
        }
    }

    /// Tries again what found no space, if anything did: for a shell to call every second or so.
    pub fn retry_upkeep(&self) {
        if self.inner.state.borrow_mut().ring.retry() {
            self.inner.maintainer_signal.set();
        }
    }

    /// How full the ring is.
    pub fn pressure(&self) -> Pressure {
        let state = self.inner.state.borrow();
        let open = state.open.as_ref().map_or(0, OpenCommit::used);
        let waiting = state.sealed.iter().map(|commit| commit.bytes).sum::<usize>() + open;
        state.ring.pressure(&self.inner.config, state.released, waiting as u64)
    }

    /// Refuses appends from now on, or accepts them again: for low space.
    pub fn set_read_only(&self, is_read_only: bool) {
        self.inner.state.borrow_mut().is_read_only = is_read_only;
    }

    /// Writes what was appended, keeps the ring in shape, and calls the observer, until [`Journal::shutdown`] (`Ok`) or a disk error (`Err`: the
    /// broker has to stop). To be spawned once.
    pub async fn run(&self) -> Result<(), StorageError> {
        let inner = &self.inner;
        futures::future::try_join(writer::write_loop(inner), writer::maintain_loop(inner)).await.map(|_| ())
    }

    /// Takes no more appends, waits until all is written and synced, notes on disk what was released, and ends [`Journal::run`], which has to be
    /// running.
    pub async fn shutdown(&self) -> Result<(), JournalError> {
        let inner = &self.inner;
        let last = {
            let state = &mut *inner.state.borrow_mut();
            state.is_closing = true;
            let is_news = state.released > state.recorded_released && state.sealed.is_empty();
            if is_news && state.open.is_none() && inner.open_commit(state, 0) {
                // A commit without entries: its header says how far the next start need not read.
                inner.writer_signal.set();
            }
            CommitSeq(state.next_seq.0 - 1)
        };
        self.durable(last).await?;
        self.sync_now().await?;
        inner.end(JournalError::Closed);
        Ok(())
    }
}

impl<D: Disk> Inner<D> {
    /// Starts the next commit, for at least one entry of `entry_bytes` (with its header). False if the ring has no place for it.
    fn open_commit(&self, state: &mut State<D::File>, entry_bytes: usize) -> bool {
        let at_least = COMMIT_HEADER_BYTES + entry_bytes;
        let Some((file, pos, room)) = state.ring.place(at_least) else { return false };
        let limit = room.min(self.config.max_commit_bytes.max(at_least));
        let expected = state.sizes.expected().max(at_least);
        state.open = Some(OpenCommit::new(&self.disk, state.next_seq, file, pos, limit, expected));
        state.next_seq = state.next_seq.next();
        true
    }

    /// Closes the open commit and queues it.
    pub fn seal(&self, state: &mut State<D::File>) {
        let Some(open) = state.open.take() else { return };
        let sealed = open.seal(&self.disk);
        state.ring.occupy(sealed.seq, sealed.file.seq, sealed.bytes);
        state.sizes.note(sealed.bytes);
        state.sealed.push_back(sealed);
    }

    /// Tells the observer. No borrow of the state may be held: it may call the journal.
    pub fn notify(&self, event: JournalEvent) {
        let observer = self.observer.borrow_mut().take();
        if let Some(mut observer) = observer {
            observer(event);
            self.observer.borrow_mut().get_or_insert(observer);
        }
    }

    /// Ends the journal for good.
    pub fn fail(&self, error: DiskError) -> JournalError {
        if self.progress.ended().is_none() {
            tracing::error!(%error, dir = %self.dir.display(), "the journal has failed; nothing pending will be acknowledged");
            self.notify(JournalEvent::Failed(error.clone()));
        }
        let reason = JournalError::Failed(error);
        self.end(reason.clone());
        reason
    }

    fn end(&self, reason: JournalError) {
        self.progress.end(reason);
        self.writer_signal.set();
        self.maintainer_signal.set();
    }
}
