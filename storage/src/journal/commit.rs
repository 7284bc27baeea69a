//! A commit from its first entry to its last byte: the buffer that appends are copied into.

use super::{
    checksum,
    config::Durability,
    entry::{CommitSeq, EntryHeader, Location},
    format::{self, COMMIT_HEADER_BYTES, CommitHeader, ENTRY_HEADER_BYTES, Identity},
    ring::RingFile,
};
use crate::disk::{Disk, IoBuf, block_align};
use std::rc::Rc;

/// A commit that takes entries. Its place on disk is settled, so that what was appended can always be written.
pub(super) struct OpenCommit<F> {
    pub seq: CommitSeq,
    pub file: Rc<RingFile<F>>,
    pub pos: u64,
    pub durability: Durability,
    /// The most that it may hold, header included.
    limit: usize,
    buffer: IoBuf,
    used: usize,
    entry_count: u32,
    entries_checksum: u32,
}

/// A commit that takes no more entries, and waits for its turn. `buffer` lacks only the commit header.
pub(super) struct SealedCommit<F> {
    pub seq: CommitSeq,
    pub file: Rc<RingFile<F>>,
    pub pos: u64,
    pub durability: Durability,
    pub buffer: IoBuf,
    /// In whole blocks.
    pub bytes: usize,
    entries_bytes: u32,
    entry_count: u32,
    entries_checksum: u32,
}

/// A commit buffer has this size before there is any experience.
const FIRST_BUFFER_BYTES: usize = 16 * 1024;

/// The sizes of the last commits, in whole blocks: how large the next one's buffer has to be.
#[derive(Debug)]
pub(super) struct RecentSizes {
    newest_first: [usize; 4],
}

impl Default for RecentSizes {
    fn default() -> Self {
        Self { newest_first: [FIRST_BUFFER_BYTES; 4] }
    }
}

impl RecentSizes {
    pub fn note(&mut self, bytes: usize) {
        self.newest_first.rotate_right(1);
        self.newest_first[0] = bytes;
    }

    /// The larger of those before the last and two before that. The last one says nothing: what comes while a commit is written goes with the next, so
    /// under load large and small ones take turns.
    pub fn expected(&self) -> usize {
        self.newest_first[1].max(self.newest_first[3])
    }
}

impl<F> OpenCommit<F> {
    /// An empty commit that will hold up to `limit` bytes, in a buffer for `expected` bytes.
    pub fn new<D: Disk<File = F>>(
        disk: &D,
        seq: CommitSeq,
        file: Rc<RingFile<F>>,
        pos: u64,
        limit: usize,
        expected: usize,
    ) -> Self {
        let buffer = disk.alloc(expected.clamp(COMMIT_HEADER_BYTES, limit));
        Self {
            seq,
            file,
            pos,
            durability: Durability::Write,
            limit,
            buffer,
            used: COMMIT_HEADER_BYTES,
            entry_count: 0,
            entries_checksum: 0,
        }
    }

    pub fn used(&self) -> usize {
        self.used
    }

    /// Whether an entry of this size with its header still fits.
    pub fn has_room(&self, entry_bytes: usize) -> bool {
        self.used + entry_bytes <= self.limit
    }

    /// Copies an entry in. The caller has checked [`OpenCommit::has_room`].
    pub fn append<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        header: &EntryHeader,
        parts: &[&[u8]],
        patch: impl FnOnce(&mut [u8]),
    ) -> Location {
        let payload_bytes: usize = parts.iter().map(|part| part.len()).sum();
        let entry_bytes = ENTRY_HEADER_BYTES + payload_bytes;
        assert!(
            self.has_room(entry_bytes),
            "an entry of {entry_bytes} bytes after {} of {}",
            self.used,
            self.limit
        );
        self.reserve(disk, entry_bytes);

        let (header_at, payload_at) = (self.used, self.used + ENTRY_HEADER_BYTES);
        let entry = &mut self.buffer[header_at..header_at + entry_bytes];
        let (entry_header, payload) = entry.split_at_mut(ENTRY_HEADER_BYTES);
        let mut at = 0;
        for part in parts {
            payload[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        patch(payload);
        let payload_checksum = checksum::of_payload(header.kind, payload);
        format::encode_entry_header(entry_header, self.seq, header, payload_bytes as u32, payload_checksum);
        self.entries_checksum = crc32c::crc32c_append(self.entries_checksum, entry_header);
        self.entry_count += 1;
        self.used += entry_bytes;
        Location { start: payload_at as u32, len: payload_bytes as u32 }
    }

    /// Moves to a larger buffer if the present one is too small: rare, because it was chosen by [`RecentSizes`].
    fn reserve<D: Disk<File = F>>(&mut self, disk: &D, more: usize) {
        let needed = self.used + more;
        if needed > self.buffer.len() {
            let mut larger = disk.alloc(needed.max((self.buffer.len() * 2).min(self.limit)));
            larger[..self.used].copy_from_slice(&self.buffer[..self.used]);
            self.buffer = larger;
        }
    }

    /// Ends appending. A buffer that is less than half used is exchanged for one that fits: cached batches will pin it.
    pub fn seal<D: Disk<File = F>>(mut self, disk: &D) -> SealedCommit<F> {
        let bytes = block_align(self.used);
        if bytes * 2 <= self.buffer.len() {
            let mut fitting = disk.alloc(bytes);
            fitting[..self.used].copy_from_slice(&self.buffer[..self.used]);
            self.buffer = fitting;
        }
        self.buffer[self.used..bytes].fill(0);
        SealedCommit {
            seq: self.seq,
            file: self.file,
            pos: self.pos,
            durability: self.durability,
            buffer: self.buffer,
            bytes,
            entries_bytes: (self.used - COMMIT_HEADER_BYTES) as u32,
            entry_count: self.entry_count,
            entries_checksum: self.entries_checksum,
        }
    }
}

impl<F> SealedCommit<F> {
    /// Writes the commit header: the last bytes to change.
    pub fn finish(&mut self, identity: Identity, released: CommitSeq, synced: CommitSeq) {
        let header = CommitHeader {
            identity,
            file_seq: self.file.seq,
            seq: self.seq,
            released,
            synced,
            is_sync: self.durability == Durability::Sync,
            entries_bytes: self.entries_bytes,
            entry_count: self.entry_count,
            entries_checksum: self.entries_checksum,
        };
        header.encode(&mut self.buffer);
        assert_eq!(header.commit_bytes(), self.bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_and_small_commits_that_take_turns_are_both_expected() {
        let mut sizes = RecentSizes::default();
        let (large, small) = (448 << 10, 192 << 10);
        for _ in 0..2 {
            sizes.note(large);
            sizes.note(small);
        }
        assert_eq!(sizes.expected(), large);
        sizes.note(large);
        assert_eq!(sizes.expected(), small);
    }

    #[test]
    fn one_small_commit_among_large_ones_does_not_count_and_many_do() {
        let mut sizes = RecentSizes::default();
        for bytes in [1 << 20, 1 << 20, 1 << 20, 4096] {
            sizes.note(bytes);
        }
        assert_eq!(sizes.expected(), 1 << 20);
        sizes.note(1 << 20);
        assert_eq!(
            sizes.expected(),
            1 << 20,
            "the turn of the small one, but before that there was a large one"
        );
        for _ in 0..4 {
            sizes.note(4096);
        }
        assert_eq!(sizes.expected(), 4096);
    }
}
