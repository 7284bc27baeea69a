//! The journal's bytes on disk. All integers are little-endian; all checksums CRC-32C.
//!
//! A journal is a directory of files `<file sequence, 20 digits>.journal`, all of one size. `*.journal.new` is a file under construction
//! and holds nothing. A file is block 0 with the *file header*, then *commits* one after the other, each starting on a block boundary
//! (4096 bytes), then what was there before: zeros, or commits of the file's previous lives, which their file sequence gives away.
//!
//! ```text
//! file header (block 0; the rest of the block is zero)
//!   0   8  magic "JRNLFILE"
//!   8   2  format version (2; 1 is read too)
//!  10   2  zero
//!  12   4  shard
//!  16  16  journal id: random, one per journal; a commit or file with another id is not ours
//!  32   8  file sequence: of this life of the file; the name is only a hint
//!  40   8  generation: grows by one each time the journal is opened
//!  48   8  first commit of the generation
//!  56   8  released: all commits up to this one are in synced segments (when the header was written)
//!  64   8  file size in bytes
//!  72   4  zero
//!  76   4  checksum of bytes 0..76
//!
//! commit (at a block boundary)
//!   0   8  magic "JRNLCMIT"
//!   8   2  format version (2; 1 is read too)
//!  10   2  flags: bit 0 = acknowledged when synced (else when written)
//!  12   4  shard
//!  16  16  journal id
//!  32   8  file sequence: must be that of the file
//!  40   8  commit sequence
//!  48   8  generation
//!  56   8  first commit of the generation: commits from here on that were written by an older generation are void
//!  64   8  released: all commits up to this one are in synced segments
//!  72   8  synced: all commits up to this one were synced when this one was closed
//!  80   4  length of the entries, with their headers; the commit's size is 96 + this, rounded up to blocks with zeros
//!  84   4  number of entries
//!  88   4  checksum of all entry headers, one after the other (each of which holds the checksum of its payload)
//!  92   4  checksum of bytes 0..92
//!  96      entries
//!
//! entry
//!   0   1  kind: 1 batch, 2 truncate, 3 log start offset, 4 high watermark, 5 partition deleted,
//!          6 batch in segment (payload: 4 bytes length and 4 bytes CRC-32C of the batch; since version 2),
//!          7 batch after a gap in the log's offsets (since version 2)
//!   1   3  zero
//!   4   4  payload length
//!   8  16  topic id
//!  24   4  partition
//!  28   4  leader epoch
//!  32   8  base offset
//!  40   8  last offset
//!  48   4  checksum of the payload
//!  52   4  checksum of the commit sequence (8 bytes) and bytes 0..52
//!  56      payload
//! ```
//!
//! The checksums form a tree: the commit header covers the entry headers, they cover their payloads. So a commit verifies as a whole,
//! pieces of an older commit at the same place cannot complete it, and where it does not verify the entries that were hit can be told.
//!
//! Which commits count: see [`super::scan`].

use super::entry::{CommitSeq, EntryHeader, EntryKind, FileSeq};
use crate::{
    disk::{BLOCK, block_align},
    types::{LeaderEpoch, Offset, PartitionId, TopicIdPartition},
};
use uuid::Uuid;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{I32, I64, U16, U32, U64},
};

pub(super) const FORMAT_VERSION: u16 = 2;
/// The oldest version that is read. It knows no batches in segments, and is the same otherwise.
const OLDEST_VERSION: u16 = 1;
/// The file header takes a whole block.
pub(super) const FILE_HEADER_BYTES: usize = BLOCK;
pub(super) const COMMIT_HEADER_BYTES: usize = size_of::<RawCommitHeader>();
pub(super) const ENTRY_HEADER_BYTES: usize = size_of::<RawEntryHeader>();

const FILE_MAGIC: [u8; 8] = *b"JRNLFILE";
const COMMIT_MAGIC: [u8; 8] = *b"JRNLCMIT";
const FLAG_SYNC: u16 = 1;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawFileHeader {
    magic: [u8; 8],
    version: U16,
    zero: [u8; 2],
    shard: U32,
    journal_id: [u8; 16],
    file_seq: U64,
    generation: U64,
    generation_first: U64,
    released: U64,
    file_bytes: U64,
    zero2: [u8; 4],
    checksum: U32,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawCommitHeader {
    magic: [u8; 8],
    version: U16,
    flags: U16,
    shard: U32,
    journal_id: [u8; 16],
    file_seq: U64,
    commit_seq: U64,
    generation: U64,
    generation_first: U64,
    released: U64,
    synced: U64,
    entries_bytes: U32,
    entry_count: U32,
    entries_checksum: U32,
    checksum: U32,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntryHeader {
    kind: u8,
    zero: [u8; 3],
    payload_bytes: U32,
    topic_id: [u8; 16],
    partition: I32,
    leader_epoch: I32,
    base_offset: I64,
    last_offset: I64,
    payload_checksum: U32,
    checksum: U32,
}

/// Which journal, and which opening of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub journal_id: Uuid,
    pub shard: u32,
    pub generation: u64,
    pub generation_first: CommitSeq,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub identity: Identity,
    pub file_seq: FileSeq,
    pub released: CommitSeq,
    pub file_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CommitHeader {
    pub identity: Identity,
    pub file_seq: FileSeq,
    pub seq: CommitSeq,
    pub released: CommitSeq,
    pub synced: CommitSeq,
    pub is_sync: bool,
    pub entries_bytes: u32,
    pub entry_count: u32,
    pub entries_checksum: u32,
}

/// What a header-sized piece of a file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed<T> {
    Valid(T),
    /// Intact, but of a format that only a newer program knows.
    Newer(u32),
    Invalid,
}

fn checksum_before_last_field(bytes: &[u8]) -> u32 {
    crc32c::crc32c(&bytes[..bytes.len() - 4])
}

impl FileHeader {
    /// Writes the header into a block.
    pub fn encode(&self, block: &mut [u8]) {
        let mut raw = RawFileHeader {
            magic: FILE_MAGIC,
            version: FORMAT_VERSION.into(),
            zero: [0; 2],
            shard: self.identity.shard.into(),
            journal_id: self.identity.journal_id.into_bytes(),
            file_seq: self.file_seq.0.into(),
            generation: self.identity.generation.into(),
            generation_first: self.identity.generation_first.0.into(),
            released: self.released.0.into(),
            file_bytes: self.file_bytes.into(),
            zero2: [0; 4],
            checksum: U32::ZERO,
        };
        raw.checksum = checksum_before_last_field(raw.as_bytes()).into();
        block.fill(0);
        block[..size_of::<RawFileHeader>()].copy_from_slice(raw.as_bytes());
    }

    pub fn parse(block: &[u8]) -> Parsed<Self> {
        let Ok((raw, _)) = RawFileHeader::read_from_prefix(block) else { return Parsed::Invalid };
        if raw.magic != FILE_MAGIC || raw.checksum.get() != checksum_before_last_field(raw.as_bytes()) {
            return Parsed::Invalid;
        }
        if !(OLDEST_VERSION..=FORMAT_VERSION).contains(&raw.version.get()) {
            return Parsed::Newer(raw.version.get().into());
        }
        Parsed::Valid(Self {
            identity: Identity {
                journal_id: Uuid::from_bytes(raw.journal_id),
                shard: raw.shard.get(),
                generation: raw.generation.get(),
                generation_first: CommitSeq(raw.generation_first.get()),
            },
            file_seq: FileSeq(raw.file_seq.get()),
            released: CommitSeq(raw.released.get()),
            file_bytes: raw.file_bytes.get(),
        })
    }
}

impl CommitHeader {
    /// Writes the header at the start of the commit.
    pub fn encode(&self, commit: &mut [u8]) {
        let mut raw = RawCommitHeader {
            magic: COMMIT_MAGIC,
            version: FORMAT_VERSION.into(),
            flags: if self.is_sync { FLAG_SYNC } else { 0 }.into(),
            shard: self.identity.shard.into(),
            journal_id: self.identity.journal_id.into_bytes(),
            file_seq: self.file_seq.0.into(),
            commit_seq: self.seq.0.into(),
            generation: self.identity.generation.into(),
            generation_first: self.identity.generation_first.0.into(),
            released: self.released.0.into(),
            synced: self.synced.0.into(),
            entries_bytes: self.entries_bytes.into(),
            entry_count: self.entry_count.into(),
            entries_checksum: self.entries_checksum.into(),
            checksum: U32::ZERO,
        };
        raw.checksum = checksum_before_last_field(raw.as_bytes()).into();
        commit[..COMMIT_HEADER_BYTES].copy_from_slice(raw.as_bytes());
    }

    pub fn parse(bytes: &[u8]) -> Parsed<Self> {
        let Ok((raw, _)) = RawCommitHeader::read_from_prefix(bytes) else { return Parsed::Invalid };
        if raw.magic != COMMIT_MAGIC || raw.checksum.get() != checksum_before_last_field(raw.as_bytes()) {
            return Parsed::Invalid;
        }
        if !(OLDEST_VERSION..=FORMAT_VERSION).contains(&raw.version.get()) {
            return Parsed::Newer(raw.version.get().into());
        }
        Parsed::Valid(Self {
            identity: Identity {
                journal_id: Uuid::from_bytes(raw.journal_id),
                shard: raw.shard.get(),
                generation: raw.generation.get(),
                generation_first: CommitSeq(raw.generation_first.get()),
            },
            file_seq: FileSeq(raw.file_seq.get()),
            seq: CommitSeq(raw.commit_seq.get()),
            released: CommitSeq(raw.released.get()),
            synced: CommitSeq(raw.synced.get()),
            is_sync: raw.flags.get() & FLAG_SYNC != 0,
            entries_bytes: raw.entries_bytes.get(),
            entry_count: raw.entry_count.get(),
            entries_checksum: raw.entries_checksum.get(),
        })
    }

    /// The commit's size on disk.
    pub fn commit_bytes(&self) -> u64 {
        block_align(COMMIT_HEADER_BYTES + self.entries_bytes as usize) as u64
    }
}

/// Writes an entry's header and answers with it, for the commit's checksum of headers.
pub(super) fn encode_entry_header(
    target: &mut [u8],
    seq: CommitSeq,
    header: &EntryHeader,
    payload_bytes: u32,
    payload_checksum: u32,
) {
    let mut raw = RawEntryHeader {
        kind: header.kind as u8,
        zero: [0; 3],
        payload_bytes: payload_bytes.into(),
        topic_id: header.partition.topic_id.into_bytes(),
        partition: header.partition.partition.0.into(),
        leader_epoch: header.leader_epoch.0.into(),
        base_offset: header.base_offset.0.into(),
        last_offset: header.last_offset.0.into(),
        payload_checksum: payload_checksum.into(),
        checksum: U32::ZERO,
    };
    raw.checksum = entry_checksum(seq, &raw).into();
    target.copy_from_slice(raw.as_bytes());
}

fn entry_checksum(seq: CommitSeq, raw: &RawEntryHeader) -> u32 {
    let seed = crc32c::crc32c(&seq.0.to_le_bytes());
    crc32c::crc32c_append(seed, &raw.as_bytes()[..ENTRY_HEADER_BYTES - 4])
}

/// One entry as it lies in a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryView {
    /// The header, or nothing if its kind is unknown.
    pub header: Option<EntryHeader>,
    pub partition: TopicIdPartition,
    /// Where the payload is in the commit.
    pub payload_start: usize,
    pub payload_bytes: usize,
    /// Whether the payload is what it was.
    pub is_intact: bool,
}

/// The entries at the start of `commit` (which starts with its header) as far as their headers verify, and the checksum over these.
pub(super) fn walk_entries(commit: &[u8], header: &CommitHeader) -> (Vec<EntryView>, u32) {
    let end = commit.len().min(COMMIT_HEADER_BYTES + header.entries_bytes as usize);
    let mut at = COMMIT_HEADER_BYTES;
    let mut entries = Vec::new();
    let mut checksum = 0;
    while let Some(bytes) = commit.get(at..at + ENTRY_HEADER_BYTES).filter(|_| at + ENTRY_HEADER_BYTES <= end)
    {
        let Ok(raw) = RawEntryHeader::read_from_bytes(bytes) else { break };
        let payload_start = at + ENTRY_HEADER_BYTES;
        let payload_bytes = raw.payload_bytes.get() as usize;
        if raw.checksum.get() != entry_checksum(header.seq, &raw) || payload_bytes > end - payload_start {
            break;
        }
        checksum = crc32c::crc32c_append(checksum, bytes);
        let payload = &commit[payload_start..payload_start + payload_bytes];
        let partition =
            TopicIdPartition::new(Uuid::from_bytes(raw.topic_id), PartitionId(raw.partition.get()));
        entries.push(EntryView {
            header: EntryKind::from_u8(raw.kind).map(|kind| EntryHeader {
                kind,
                partition,
                base_offset: Offset(raw.base_offset.get()),
                last_offset: Offset(raw.last_offset.get()),
                leader_epoch: LeaderEpoch(raw.leader_epoch.get()),
            }),
            partition,
            payload_start,
            payload_bytes,
            is_intact: crc32c::crc32c(payload) == raw.payload_checksum.get(),
        });
        at = payload_start + payload_bytes;
    }
    (entries, checksum)
}

/// Whether all of a commit is as it was written: `entries` and `checksum` are the outcome of [`walk_entries`].
pub(super) fn is_whole(header: &CommitHeader, entries: &[EntryView], checksum: u32) -> bool {
    let used: usize = entries.iter().map(|entry| ENTRY_HEADER_BYTES + entry.payload_bytes).sum();
    entries.len() == header.entry_count as usize
        && used == header.entries_bytes as usize
        && checksum == header.entries_checksum
        && entries.iter().all(|entry| entry.is_intact && entry.header.is_some())
}
