//! The ring of journal files: which are in use, which are ready, which come back.
//!
//! A file's life: *ready* (zero-filled or recycled, with the header of its coming life synced) → *current* (takes commits) → complete →
//! released by the flusher → *retired* → recycled into a ready file with a new sequence. Only bookkeeping here; the I/O is in
//! [`super::maintain`].
//!
//! Where that finds no space the file stays retired. What needs space is tried again when something else was recycled, or when the shell
//! says that there may be some ([`Ring::retry`]); what needs none goes on.

use super::{
    config::JournalConfig,
    entry::{CommitSeq, FileSeq, Pressure},
    format::{COMMIT_HEADER_BYTES, ENTRY_HEADER_BYTES, FILE_HEADER_BYTES},
};
use crate::disk::block_align;
use std::{collections::VecDeque, path::PathBuf, rc::Rc};

/// An open file in one of its lives.
pub(super) struct RingFile<F> {
    pub seq: FileSeq,
    pub path: PathBuf,
    pub bytes: u64,
    /// Writes that are durable when they return.
    pub write_through: Rc<F>,
    /// Writes that need a sync.
    pub plain: Rc<F>,
}

impl<F> Clone for RingFile<F> {
    fn clone(&self) -> Self {
        let Self { seq, path, bytes, write_through, plain } = self;
        let (write_through, plain) = (write_through.clone(), plain.clone());
        Self { seq: *seq, path: path.clone(), bytes: *bytes, write_through, plain }
    }
}

/// A file that holds commits.
pub(super) struct UsedFile<F> {
    pub file: Rc<RingFile<F>>,
    /// Where the next commit goes.
    pub tail: u64,
    /// The last commit placed in it.
    pub last: CommitSeq,
    /// It holds acknowledged commits that do not verify: kept as evidence, not recycled.
    pub is_damaged: bool,
}

/// A file whose commits are all released.
pub(super) struct RetiredFile<F> {
    pub file: Rc<RingFile<F>>,
    pub is_damaged: bool,
    /// A new file that takes its place, if it cannot be used again: there already, but it could not be put away yet.
    pub replacement: Option<RingFile<F>>,
    /// Recycling it has found no space.
    has_found_no_space: bool,
}

impl<F> RetiredFile<F> {
    pub fn new(file: Rc<RingFile<F>>, is_damaged: bool) -> Self {
        Self { file, is_damaged, replacement: None, has_found_no_space: false }
    }

    /// Whether it is as it should be, so that its bytes can be used again.
    pub fn is_reusable(&self, config: &JournalConfig) -> bool {
        !self.is_damaged && self.file.bytes == config.file_bytes
    }
}

pub(super) struct Ring<F> {
    /// Oldest first. If `has_current`, the last one takes commits.
    used: VecDeque<UsedFile<F>>,
    has_current: bool,
    ready: VecDeque<Rc<RingFile<F>>>,
    retired: VecDeque<RetiredFile<F>>,
    /// Being created or recycled at this moment.
    preparing: usize,
    next_file_seq: FileSeq,
    /// An append was refused for want of a ready file.
    is_starved: bool,
    /// Something failed for want of space; nothing that needs some is tried before something was recycled, or [`Ring::retry`].
    is_out_of_space: bool,
    /// That was told, and no file was prepared since.
    is_want_told: bool,
}

/// What the maintainer should do next.
pub(super) enum Chore<F> {
    Recycle(RetiredFile<F>, FileSeq),
    Create(FileSeq),
}

impl<F> Ring<F> {
    pub fn new(used: Vec<UsedFile<F>>, retired: Vec<RetiredFile<F>>, next_file_seq: FileSeq) -> Self {
        Self {
            used: used.into(),
            has_current: false,
            ready: VecDeque::new(),
            retired: retired.into(),
            preparing: 0,
            next_file_seq,
            is_starved: false,
            is_out_of_space: false,
            is_want_told: false,
        }
    }

    /// Finds the place for a commit that must hold `at_least` bytes (header included): the file, the position, and how much
    /// room there is. Nothing if the ring is full.
    pub fn place(&mut self, at_least: usize) -> Option<(Rc<RingFile<F>>, u64, usize)> {
        let fits = |file: &UsedFile<F>| file.file.bytes - file.tail >= block_align(at_least) as u64;
        if !self.has_current || !self.used.back().is_some_and(fits) {
            let Some(file) = self.ready.pop_front() else {
                self.is_starved = true;
                return None;
            };
            self.used.push_back(UsedFile {
                file,
                tail: FILE_HEADER_BYTES as u64,
                last: CommitSeq::NONE,
                is_damaged: false,
            });
            self.has_current = true;
        }
        let current = self.used.back().expect("a current file was found or made");
        Some((current.file.clone(), current.tail, (current.file.bytes - current.tail) as usize))
    }

    /// A commit was sealed: the next one goes behind it.
    pub fn occupy(&mut self, seq: CommitSeq, file_seq: FileSeq, bytes: usize) {
        let current = self.used.back_mut().expect("a commit was placed in it");
        assert_eq!(current.file.seq, file_seq, "commits are sealed in the order of their placement");
        current.tail += bytes as u64;
        current.last = seq;
        assert!(current.tail <= current.file.bytes);
    }

    /// Retires the files whose commits are all released.
    pub fn release(&mut self, released: CommitSeq) {
        let complete = |ring: &Self| ring.used.len() - usize::from(ring.has_current);
        while complete(self) > 0 && self.used[0].last <= released {
            let used = self.used.pop_front().expect("there is a complete file");
            self.retired.push_back(RetiredFile::new(used.file, used.is_damaged));
        }
    }

    /// How many files there are.
    pub fn total(&self) -> usize {
        self.used.len() + self.ready.len() + self.retired.len() + self.preparing
    }

    /// The next piece of upkeep, if there is any: retired files first; growth when the last ready file is half full.
    pub fn next_chore(&mut self, config: &JournalConfig) -> Option<Chore<F>> {
        if let Some(recycle) = self.next_retired(config) {
            return Some(recycle);
        }
        let half_full = |file: &UsedFile<F>| file.tail > file.file.bytes / 2;
        let needs_more = self.ready.is_empty()
            && (self.is_starved || !self.has_current || self.used.back().is_some_and(half_full));
        if needs_more && self.total() < config.max_files && !self.is_out_of_space {
            self.preparing += 1;
            return Some(Chore::Create(self.take_file_seq()));
        }
        None
    }

    /// The next file to recycle.
    pub fn next_retired(&mut self, config: &JournalConfig) -> Option<Chore<F>> {
        let needs_space =
            |retired: &RetiredFile<F>| retired.has_found_no_space || !retired.is_reusable(config);
        let at = self.retired.iter().position(|retired| !self.is_out_of_space || !needs_space(retired))?;
        let retired = self.retired.remove(at).expect("found there");
        self.preparing += 1;
        Some(Chore::Recycle(retired, self.take_file_seq()))
    }

    /// Whether growth has stopped for want of space.
    pub fn is_out_of_space(&self) -> bool {
        self.is_out_of_space
    }

    fn take_file_seq(&mut self) -> FileSeq {
        let seq = self.next_file_seq;
        self.next_file_seq = FileSeq(seq.0 + 1);
        seq
    }

    /// For [`super::Journal::open`], which creates files regardless of the cap: a ring that a crash left full must be able to go on.
    pub fn start_creating(&mut self) -> FileSeq {
        self.preparing += 1;
        self.take_file_seq()
    }

    /// A chore has given a file that can be used.
    pub fn prepared(&mut self, file: RingFile<F>, was_recycled: bool) {
        self.preparing -= 1;
        self.is_starved = false;
        self.is_out_of_space &= !was_recycled;
        self.is_want_told &= self.is_out_of_space;
        self.ready.push_back(Rc::new(file));
    }

    /// A chore has given no file, for want of space; the one that was to be recycled comes back. Answers whether that is news.
    pub fn not_prepared(&mut self, retired: Option<RetiredFile<F>>) -> bool {
        self.preparing -= 1;
        self.is_out_of_space = true;
        self.retired.extend(retired.map(|file| RetiredFile { has_found_no_space: true, ..file }));
        !std::mem::replace(&mut self.is_want_told, true)
    }

    /// There may be space again. Answers whether something has waited for that.
    pub fn retry(&mut self) -> bool {
        std::mem::take(&mut self.is_out_of_space)
    }

    pub fn ready_files(&self) -> usize {
        self.ready.len()
    }

    /// Fills in what the ring knows of the pressure.
    pub fn pressure(&self, config: &JournalConfig, released: CommitSeq, waiting_bytes: u64) -> Pressure {
        let complete = self.used.len() - usize::from(self.has_current);
        let current = self.used.back().filter(|_| self.has_current);
        let room = |file: &RingFile<F>| file.bytes - FILE_HEADER_BYTES as u64;
        Pressure {
            ready_bytes: current.map_or(0, |used| used.file.bytes - used.tail)
                + self.ready.iter().map(|file| room(file)).sum::<u64>(),
            used_files: self.used.len(),
            free_files: self.ready.len() + self.retired.len() + self.preparing,
            max_files: config.max_files,
            used_bytes: self.used.iter().map(|used| used.tail - FILE_HEADER_BYTES as u64).sum(),
            capacity_bytes: (config.file_bytes - FILE_HEADER_BYTES as u64) * config.max_files as u64,
            waiting_bytes,
            oldest_unreleased: released.next(),
            oldest_file_last: (complete > 0).then(|| self.used[0].last),
        }
    }
}

/// The largest payload that a journal with files of this size can take.
pub(super) fn max_payload_bytes(file_bytes: u64) -> u64 {
    file_bytes - (FILE_HEADER_BYTES + COMMIT_HEADER_BYTES + ENTRY_HEADER_BYTES) as u64
}
