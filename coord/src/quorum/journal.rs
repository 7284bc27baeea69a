//! What a controller keeps on disk: records of one journal, in order.
//!
//! Primitive types are those of [`crate::metadata::codec`]; `members` is two lists of i32: voters and learners.
//!
//! ```text
//! record   := version u8 (= 1) | kind u8 | body
//! kind 0 Vote      := term i64 | vote i32 (-1 = nobody) | commit i64
//! kind 1 Entry     := term i64 | index i64 | entry kind u8 (0 = data, 1 = change of members) | list of bytes
//! kind 2 Snapshot  := term i64 | index i64 | members | list of bytes
//! ```
//!
//! An entry replaces all with its index and above; a snapshot replaces everything before it but the vote.

use bytes::Bytes;

use super::membership::Members;
use super::output::LogPosition;
use crate::metadata::RecordError;
use crate::metadata::codec::{Reader, Writer};
use crate::types::BrokerId;

const VERSION: u8 = 1;

/// What an entry of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// What somebody proposed; empty at the start of a term.
    Data,
    /// A change of members.
    MemberChange,
}

/// An entry of the quorum's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Where it is.
    pub position: LogPosition,
    /// What it is.
    pub kind: EntryKind,
    /// What it says.
    pub data: Bytes,
}

/// The promise that a voter must not forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    /// The newest term that it has taken part in.
    pub term: u64,
    /// For whom it has voted in it, or [`BrokerId::NONE`].
    pub vote: BrokerId,
    /// An index up to which everything is known to be committed.
    pub commit: u64,
}

impl Default for Vote {
    fn default() -> Self {
        Vote { term: 0, vote: BrokerId::NONE, commit: 0 }
    }
}

/// The state up to an entry, in the place of that entry and all before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalSnapshot {
    /// The last entry in it.
    pub position: LogPosition,
    /// The members at that point.
    pub members: Members,
    /// The image, as the shell encoded it.
    pub data: Bytes,
}

/// One record of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalRecord {
    /// See [`Vote`].
    Vote(Vote),
    /// See [`LogEntry`].
    Entry(LogEntry),
    /// See [`JournalSnapshot`].
    Snapshot(JournalSnapshot),
}

impl JournalRecord {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.u8(VERSION);
        match self {
            JournalRecord::Vote(vote) => {
                w.u8(0);
                w.i64(vote.term as i64);
                w.i32(vote.vote.0);
                w.i64(vote.commit as i64);
            }
            JournalRecord::Entry(entry) => {
                w.u8(1);
                encode_entry(&mut w, entry);
            }
            JournalRecord::Snapshot(snapshot) => {
                w.u8(2);
                encode_snapshot(&mut w, snapshot);
            }
        }
        w.bytes
    }

    /// The record of these bytes.
    pub fn decode(bytes: &[u8]) -> Result<JournalRecord, RecordError> {
        let mut r = Reader::new(bytes);
        match r.u8("journal version")? {
            VERSION => {}
            other => return Err(RecordError::UnknownEntryVersion(other)),
        }
        let record = match r.u8("journal record kind")? {
            0 => JournalRecord::Vote(Vote {
                term: unsigned(&mut r, "term")?,
                vote: BrokerId(r.i32("vote")?),
                commit: unsigned(&mut r, "commit")?,
            }),
            1 => JournalRecord::Entry(decode_entry(&mut r)?),
            2 => JournalRecord::Snapshot(decode_snapshot(&mut r)?),
            other => return Err(RecordError::UnknownKind(other)),
        };
        match r.remaining() {
            0 => Ok(record),
            extra => Err(RecordError::TrailingBytes { what: "journal record", extra }),
        }
    }
}

pub(super) fn encode_entry(w: &mut Writer, entry: &LogEntry) {
    encode_position(w, entry.position);
    w.u8(match entry.kind {
        EntryKind::Data => 0,
        EntryKind::MemberChange => 1,
    });
    encode_bytes(w, &entry.data);
}

pub(super) fn decode_entry(r: &mut Reader<'_>) -> Result<LogEntry, RecordError> {
    let position = decode_position(r)?;
    let kind = match r.u8("entry kind")? {
        0 => EntryKind::Data,
        1 => EntryKind::MemberChange,
        _ => return Err(RecordError::Invalid("entry kind")),
    };
    Ok(LogEntry { position, kind, data: decode_bytes(r)? })
}

pub(super) fn encode_snapshot(w: &mut Writer, snapshot: &JournalSnapshot) {
    encode_position(w, snapshot.position);
    for ids in [&snapshot.members.voters, &snapshot.members.learners] {
        w.len(ids.len());
        ids.iter().for_each(|id| w.i32(id.0));
    }
    encode_bytes(w, &snapshot.data);
}

pub(super) fn decode_snapshot(r: &mut Reader<'_>) -> Result<JournalSnapshot, RecordError> {
    let position = decode_position(r)?;
    let members = Members { voters: decode_ids(r)?, learners: decode_ids(r)? };
    Ok(JournalSnapshot { position, members, data: decode_bytes(r)? })
}

fn decode_ids(r: &mut Reader<'_>) -> Result<Vec<BrokerId>, RecordError> {
    let count = r.len(4, "members")?;
    (0..count).map(|_| decode_id(r)).collect()
}

/// A node's id, never negative.
pub(super) fn decode_id(r: &mut Reader<'_>) -> Result<BrokerId, RecordError> {
    match r.i32("node id")? {
        id if id >= 0 => Ok(BrokerId(id)),
        _ => Err(RecordError::Invalid("node id")),
    }
}

fn encode_position(w: &mut Writer, position: LogPosition) {
    w.i64(position.term as i64);
    w.i64(position.index as i64);
}

fn decode_position(r: &mut Reader<'_>) -> Result<LogPosition, RecordError> {
    Ok(LogPosition { term: unsigned(r, "term")?, index: unsigned(r, "index")? })
}

pub(super) fn unsigned(r: &mut Reader<'_>, what: &'static str) -> Result<u64, RecordError> {
    u64::try_from(r.i64(what)?).map_err(|_| RecordError::Invalid(what))
}

pub(super) fn encode_bytes(w: &mut Writer, bytes: &[u8]) {
    w.len(bytes.len());
    w.bytes.extend_from_slice(bytes);
}

pub(super) fn decode_bytes(r: &mut Reader<'_>) -> Result<Bytes, RecordError> {
    let length = r.len(1, "bytes")?;
    Ok(Bytes::copy_from_slice(r.take(length, "bytes")?))
}

/// The first records of a new quorum of `voters`, the same on each of them; `data` is the image before the first entry.
pub fn bootstrap(voters: &[BrokerId], data: Bytes) -> Vec<JournalRecord> {
    let members = Members { voters: voters.to_vec(), learners: Vec::new() };
    // The crate takes a log without any entry for one that has yet to be sent a snapshot.
    let position = LogPosition { term: 1, index: 1 };
    vec![JournalRecord::Snapshot(JournalSnapshot { position, members, data })]
}

/// What a journal says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The promise.
    pub vote: Vote,
    /// The state before the entries; `None` on a controller that has yet to hear from the quorum that it joins.
    pub snapshot: Option<JournalSnapshot>,
    /// What follows it, without gaps.
    pub entries: Vec<LogEntry>,
}

/// Replays a journal.
pub fn recover(records: impl IntoIterator<Item = JournalRecord>) -> Result<Recovered, RecordError> {
    let mut recovered = Recovered::default();
    for record in records {
        match record {
            JournalRecord::Vote(vote) => recovered.vote = vote,
            JournalRecord::Snapshot(snapshot) => {
                recovered.entries.clear();
                recovered.snapshot = Some(snapshot);
            }
            JournalRecord::Entry(entry) => {
                let before = recovered.snapshot.as_ref().map_or(0, |snapshot| snapshot.position.index);
                let kept =
                    entry.position.index.checked_sub(before + 1).and_then(|at| usize::try_from(at).ok());
                match kept {
                    Some(kept) if kept <= recovered.entries.len() => recovered.entries.truncate(kept),
                    _ => return Err(RecordError::Invalid("entry index")),
                }
                recovered.entries.push(entry);
            }
        }
    }
    if let Some(snapshot) = &recovered.snapshot {
        recovered.vote.term = recovered.vote.term.max(snapshot.position.term);
        recovered.vote.commit = recovered.vote.commit.max(snapshot.position.index);
    }
    Ok(recovered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(term: u64, index: u64) -> JournalRecord {
        let position = LogPosition { term, index };
        JournalRecord::Entry(LogEntry { position, kind: EntryKind::Data, data: Bytes::from_static(b"x") })
    }

    #[test]
    fn records_survive_encoding_and_every_cut_of_them_is_an_error() {
        let vote = Vote { term: 3, vote: BrokerId(2), commit: 7 };
        let mut records = bootstrap(&[BrokerId(1), BrokerId(2)], Bytes::from_static(b"image"));
        records.extend([JournalRecord::Vote(vote), JournalRecord::Vote(Vote::default()), entry(3, 4)]);
        for record in records {
            let bytes = record.encode();
            assert_eq!(JournalRecord::decode(&bytes), Ok(record));
            assert!((0..bytes.len()).all(|end| JournalRecord::decode(&bytes[..end]).is_err()));
        }
    }

    #[test]
    fn a_later_entry_replaces_what_it_contradicts_and_gaps_are_refused() {
        let start = bootstrap(&[BrokerId(1)], Bytes::new());
        let records = |entries: &[(u64, u64)]| {
            start
                .iter()
                .cloned()
                .chain(entries.iter().map(|(term, index)| entry(*term, *index)))
                .collect::<Vec<_>>()
        };
        let recovered = recover(records(&[(1, 2), (1, 3), (1, 4), (2, 3)])).unwrap();
        let terms: Vec<u64> = recovered.entries.iter().map(|entry| entry.position.term).collect();
        assert_eq!(terms, [1, 2]);
        assert_eq!((recovered.vote.commit, recovered.vote.term), (1, 1));
        assert!(recover(records(&[(1, 3)])).is_err());
        assert!(recover(records(&[(1, 1)])).is_err());
    }
}
