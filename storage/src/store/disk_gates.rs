//! How much may be under way to the disk, or from it, beside commits. A commit's write, and the sync behind it, wait for whatever the disk was given before.

use crate::{log::read_ahead::PIECE_BYTES_MAX, wake::ByteGate};
use std::{cell::Cell, rc::Rc};

/// Bytes of reads under way at once: enough to keep a disk busy.
const READ_BYTES: usize = 4 << 20;
/// The same while a commit is under way, which consists of up to three operations in turn, each behind the reads: 4 MiB made a commit wait for 10 ms,
/// 1 MiB for 3, and one piece for 1.5, without loss for the reads as long as that is small. Also between commits that follow each other closely: the next
/// one would be behind all that was let in meanwhile.
const READ_BYTES_BESIDE_COMMITS: usize = PIECE_BYTES_MAX;
/// Bytes of segment writes under way at once.
const WRITE_BYTES: usize = 3 << 20;
/// The same while commits follow each other closely and there is room for what they bring meanwhile: with 3 MiB, the 64 MiB of a round made a tenth of all commits
/// wait for 2 to 4 ms.
const WRITE_BYTES_BESIDE_COMMITS: usize = 256 << 10;
/// So many commits in about a second follow each other closely.
const MANY_COMMITS: u32 = 20;

/// Lets in what readers, the flusher and compaction ask of the disk.
#[derive(Debug)]
pub(crate) struct DiskGates {
    /// What readers read from segment files.
    pub reads: Rc<ByteGate>,
    /// What the flusher and compaction write to segment files.
    pub writes: ByteGate,
    commits_lately: CommitsLately,
}

impl Default for DiskGates {
    fn default() -> Self {
        Self {
            reads: Rc::new(ByteGate::new(READ_BYTES)),
            writes: ByteGate::new(WRITE_BYTES),
            commits_lately: CommitsLately::default(),
        }
    }
}

impl DiskGates {
    /// The journal has begun to write a commit.
    pub fn commit_began(&self) {
        self.commits_lately.note();
        self.reads.set_limit(READ_BYTES_BESIDE_COMMITS);
    }

    /// A commit is done.
    pub fn commit_ended(&self) {
        self.widen_reads();
    }

    /// Unless the next commit is to be expected soon.
    fn widen_reads(&self) {
        if !self.commits_lately.are_many() {
            self.reads.set_limit(READ_BYTES);
        }
    }

    /// To be called about every second.
    pub fn tick(&self, is_pressed: bool) {
        self.commits_lately.tick();
        self.widen_reads();
        self.limit_writes(is_pressed);
    }

    /// How many bytes of segments may be written at once. `is_pressed` says that appends will soon have to wait for the flusher.
    pub fn limit_writes(&self, is_pressed: bool) -> usize {
        let is_gentle = self.commits_lately.are_many() && !is_pressed;
        let limit = if is_gentle { WRITE_BYTES_BESIDE_COMMITS } else { WRITE_BYTES };
        self.writes.set_limit(limit);
        limit
    }
}

/// How many commits there were in this second and in the last one.
#[derive(Debug, Default)]
struct CommitsLately {
    this_tick: Cell<u32>,
    last_tick: Cell<u32>,
}

impl CommitsLately {
    /// Notes a commit.
    fn note(&self) {
        self.this_tick.set(self.this_tick.get().saturating_add(1));
    }

    /// To be called about every second.
    fn tick(&self) {
        self.last_tick.set(self.this_tick.take());
    }

    /// Whether the next commit is to be expected soon.
    fn are_many(&self) -> bool {
        self.this_tick.get().max(self.last_tick.get()) >= MANY_COMMITS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_follow_each_other_closely_until_a_whole_second_had_few() {
        let lately = CommitsLately::default();
        (1..MANY_COMMITS).for_each(|_| lately.note());
        assert!(!lately.are_many());
        lately.note();
        assert!(lately.are_many(), "at once, not with the next second");
        lately.tick();
        lately.note();
        assert!(lately.are_many(), "there were many in the last second");
        lately.tick();
        assert!(!lately.are_many());
    }

    #[test]
    fn segments_are_written_gently_beside_many_commits_as_long_as_there_is_room() {
        let gates = DiskGates::default();
        assert_eq!(gates.limit_writes(false), WRITE_BYTES);
        (0..MANY_COMMITS).for_each(|_| gates.commit_began());
        assert_eq!(gates.limit_writes(false), WRITE_BYTES_BESIDE_COMMITS);
        assert_eq!(gates.limit_writes(true), WRITE_BYTES);
        (0..2).for_each(|_| gates.tick(false));
        assert_eq!(gates.limit_writes(false), WRITE_BYTES);
    }
}
