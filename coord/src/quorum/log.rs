//! The log in memory, as the crate reads it: one snapshot and the entries after it.
//!
//! A metadata log is small: its snapshot is the cluster's metadata, and entries are cut off when the shell takes a new one.

use std::cell::Cell;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, EntryType, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::journal::{EntryKind, JournalRecord, JournalSnapshot, LogEntry, Recovered, Vote};
use super::membership::Members;
use super::output::LogPosition;
use crate::types::BrokerId;

/// The crate's ids begin with 1.
pub(super) fn raft_id(id: BrokerId) -> u64 {
    u64::try_from(id.0).expect("a node's id is not negative") + 1
}

/// See [`raft_id`]; 0 is nobody.
pub(super) fn broker_id(raft_id: u64) -> BrokerId {
    match raft_id.checked_sub(1).map(i32::try_from) {
        Some(Ok(id)) => BrokerId(id),
        _ => BrokerId::NONE,
    }
}

pub(super) fn conf_state(members: &Members) -> ConfState {
    let ids = |list: &[BrokerId]| list.iter().map(|id| raft_id(*id)).collect::<Vec<_>>();
    ConfState::from((ids(&members.voters), ids(&members.learners)))
}

pub(super) fn members(conf_state: &ConfState) -> Members {
    let ids = |list: &[u64]| list.iter().map(|id| broker_id(*id)).collect();
    Members { voters: ids(conf_state.get_voters()), learners: ids(conf_state.get_learners()) }
}

pub(super) fn vote_of(state: &HardState) -> Vote {
    Vote { term: state.term, vote: broker_id(state.vote), commit: state.commit }
}

pub(super) fn to_raft_entry(entry: &LogEntry) -> Entry {
    let LogPosition { term, index } = entry.position;
    let mut raft_entry = Entry { term, index, ..Entry::default() };
    match entry.kind {
        EntryKind::Data => raft_entry.data = entry.data.clone(),
        // What the crate makes of a change of members is never looked at: ours is in the context.
        EntryKind::MemberChange => {
            raft_entry.set_entry_type(EntryType::EntryConfChangeV2);
            raft_entry.context = entry.data.clone();
        }
    }
    raft_entry
}

pub(super) fn from_raft_entry(entry: &Entry) -> LogEntry {
    let position = LogPosition { term: entry.term, index: entry.index };
    match entry.get_entry_type() {
        EntryType::EntryNormal => LogEntry { position, kind: EntryKind::Data, data: entry.data.clone() },
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
            LogEntry { position, kind: EntryKind::MemberChange, data: entry.context.clone() }
        }
    }
}

pub(super) fn to_raft_snapshot(snapshot: &JournalSnapshot) -> Snapshot {
    let mut raft_snapshot = Snapshot { data: snapshot.data.clone(), ..Snapshot::default() };
    let metadata = raft_snapshot.mut_metadata();
    metadata.index = snapshot.position.index;
    metadata.term = snapshot.position.term;
    metadata.set_conf_state(conf_state(&snapshot.members));
    raft_snapshot
}

pub(super) fn from_raft_snapshot(snapshot: &Snapshot) -> JournalSnapshot {
    let metadata = snapshot.get_metadata();
    JournalSnapshot {
        position: LogPosition { term: metadata.term, index: metadata.index },
        members: members(metadata.get_conf_state()),
        data: snapshot.data.clone(),
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Log {
    state: HardState,
    snapshot: JournalSnapshot,
    entries: Vec<Entry>,
    /// The crate has asked for a snapshot that there is not.
    wants_snapshot: Cell<bool>,
}

impl Log {
    pub(super) fn new(recovered: &Recovered) -> Self {
        let nothing = JournalSnapshot {
            position: LogPosition { term: 0, index: 0 },
            members: Members::default(),
            data: Bytes::new(),
        };
        let snapshot = recovered.snapshot.clone().unwrap_or(nothing);
        let entries: Vec<Entry> = recovered.entries.iter().map(to_raft_entry).collect();
        let vote = recovered.vote;
        let state = HardState {
            term: vote.term,
            vote: if vote.vote.is_some() { raft_id(vote.vote) } else { 0 },
            commit: vote.commit.min(snapshot.position.index + entries.len() as u64),
            ..HardState::default()
        };
        Log { state, snapshot, entries, wants_snapshot: Cell::new(false) }
    }

    pub(super) fn set_state(&mut self, state: HardState) {
        self.state = state;
    }

    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        let kept =
            usize::try_from(first.index - self.snapshot.position.index - 1).expect("entries fit in memory");
        assert!(kept <= self.entries.len(), "an entry at {} leaves a gap", first.index);
        self.entries.truncate(kept);
        self.entries.extend_from_slice(entries);
    }

    /// The snapshot of another node takes the place of everything.
    pub(super) fn restore(&mut self, snapshot: JournalSnapshot) {
        self.state.commit = self.state.commit.max(snapshot.position.index);
        self.entries.clear();
        self.snapshot = snapshot;
    }

    /// A snapshot of this node takes the place of the entries that it covers.
    pub(super) fn compact(&mut self, snapshot: JournalSnapshot) {
        let covered = snapshot.position.index - self.snapshot.position.index;
        self.entries.drain(..usize::try_from(covered).expect("entries fit in memory"));
        self.snapshot = snapshot;
    }

    /// Whether a newer snapshot has been asked for since the last time.
    pub(super) fn take_wish(&self) -> bool {
        self.wants_snapshot.take()
    }

    pub(super) fn snapshot_index(&self) -> u64 {
        self.snapshot.position.index
    }

    /// Everything, as records of a journal that starts anew.
    pub(super) fn records(&self) -> Vec<JournalRecord> {
        let entries = self.entries.iter().map(|entry| JournalRecord::Entry(from_raft_entry(entry)));
        std::iter::once(JournalRecord::Snapshot(self.snapshot.clone()))
            .chain(entries)
            .chain([JournalRecord::Vote(vote_of(&self.state))])
            .collect()
    }

    fn last(&self) -> u64 {
        self.snapshot.position.index + self.entries.len() as u64
    }

    fn at(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.snapshot.position.index + 1)?).ok()
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.state.clone(), conf_state(&self.snapshot.members)))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let (Some(low), Some(high)) = (self.at(low), self.at(high)) else {
            return Err(StorageError::Compacted.into());
        };
        let wanted = self.entries.get(low..high).ok_or(StorageError::Unavailable)?;
        let mut entries = wanted.to_vec();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.snapshot.position.index {
            return Ok(self.snapshot.position.term);
        }
        let at = self.at(index).ok_or(StorageError::Compacted)?;
        Ok(self.entries.get(at).ok_or(StorageError::Unavailable)?.term)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.snapshot.position.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let Members { voters, learners } = &self.snapshot.members;
        // A node does not take a snapshot in which it is not a member.
        let names_receiver = voters.iter().chain(learners).any(|id| raft_id(*id) == to);
        if self.snapshot.position.index < request_index || !names_receiver {
            self.wants_snapshot.set(true);
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        Ok(to_raft_snapshot(&self.snapshot))
    }
}
