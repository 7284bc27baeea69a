//! One controller's side of the quorum.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, EntryType, HardState, MessageType};
use raft::{Config, INVALID_ID, RawNode, SnapshotStatus, StateRole};
use thiserror::Error;

use super::journal::{JournalRecord, JournalSnapshot, Recovered};
use super::log::{Log, broker_id, from_raft_entry, from_raft_snapshot, members, raft_id, vote_of};
use super::membership::{MemberChange, MemberStatus, Members};
use super::message::{MessageError, QuorumMessage};
use super::output::{CommittedEntry, LeaderChange, LogPosition, Output, Persist, QuorumSnapshot};
use crate::metadata::RecordError;
use crate::metadata::codec::{Reader, Writer};
use crate::types::BrokerId;

/// Over so many ticks those who hear that the leader is gone spread their candidacies.
const GONE_SPREAD_TICKS: u64 = 3;

/// How a controller takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuorumConfig {
    /// This node.
    pub me: BrokerId,
    /// Ticks without a word from the leader after which a voter stands for election at the earliest; twice as many at the latest.
    pub election_ticks: usize,
    /// Ticks between two heartbeats of the leader.
    pub heartbeat_ticks: usize,
    /// Entries that one message may hold, in bytes; a larger entry travels alone.
    pub message_bytes_max: u64,
    /// Bytes of proposals that may wait for a majority before further ones are refused.
    pub uncommitted_bytes_max: u64,
    /// Election time-outs are drawn from it.
    pub seed: u64,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QuorumError {
    /// Somebody else leads, or nobody.
    #[error("node {leader} leads the metadata quorum, not this one")]
    NotLeader {
        /// Who leads, or [`BrokerId::NONE`].
        leader: BrokerId,
    },
    /// Too much waits for a majority, or leadership is being handed over.
    #[error("the metadata quorum does not take proposals at the moment")]
    Busy,
    /// The change of members before this one is not committed yet.
    #[error("another change of the quorum's members is under way")]
    ChangeInProgress,
    /// A learner lacks too much to vote.
    #[error("node {0} has not caught up with the quorum's log")]
    NotCaughtUp(BrokerId),
    /// The change makes no sense.
    #[error("node {0}: {1}")]
    InvalidChange(BrokerId, &'static str),
    /// What is on disk contradicts itself.
    #[error("the quorum's journal is damaged: {0}")]
    Damaged(String),
}

/// Messages that wait for records to be durable.
struct Waiting {
    /// The crate's number for what they belong to.
    ready: u64,
    /// The last [`Persist`] that has to be durable first.
    after: u64,
    messages: Vec<QuorumMessage>,
}

/// See the module. After every input, carry out [`QuorumNode::output`].
pub struct QuorumNode {
    config: QuorumConfig,
    raft: RawNode<Log>,
    members: Members,
    waiting: VecDeque<Waiting>,
    /// The last [`Persist`] handed out, and the last that is durable.
    persist_given: u64,
    persist_done: u64,
    applied: LogPosition,
    known_leader: LeaderChange,
    /// A change of members has been committed, and the disk does not know it yet.
    must_note_commit: bool,
    rewrite: Option<Persist>,
}

impl QuorumNode {
    /// A controller with what its journal says. The image is that of the snapshot; everything after it comes again as committed.
    pub fn new(config: QuorumConfig, recovered: &Recovered) -> Result<Self, QuorumError> {
        let log = Log::new(recovered);
        let applied = recovered
            .snapshot
            .as_ref()
            .map_or(LogPosition { term: 0, index: 0 }, |snapshot| snapshot.position);
        let raft_config = Config {
            id: raft_id(config.me),
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied: applied.index,
            max_size_per_msg: config.message_bytes_max,
            max_uncommitted_size: config.uncommitted_bytes_max,
            check_quorum: true,
            pre_vote: true,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raft = RawNode::new(&raft_config, log, &logger)
            .map_err(|error| QuorumError::Damaged(error.to_string()))?;
        let members = members(&raft.raft.prs().conf().to_conf_state());
        let known_leader = LeaderChange { leader: BrokerId::NONE, term: raft.raft.term };
        let mut node = QuorumNode {
            config,
            raft,
            members,
            waiting: VecDeque::new(),
            persist_given: 0,
            persist_done: 0,
            applied,
            known_leader,
            must_note_commit: false,
            rewrite: None,
        };
        node.draw_election_timeout();
        Ok(node)
    }

    /// The crate has drawn a time-out whenever role or term changed; this puts ours in its place.
    fn draw_election_timeout(&mut self) {
        let raft = &mut self.raft.raft;
        let role = match raft.state {
            StateRole::Follower => 0u64,
            StateRole::PreCandidate => 1,
            StateRole::Candidate => 2,
            StateRole::Leader => 3,
        };
        let mut bits = self.config.seed;
        for part in [raft.id, raft.term, role] {
            bits = mix(bits ^ part);
        }
        let spread = self.config.election_ticks as u64;
        raft.set_randomized_election_timeout(self.config.election_ticks + (bits % spread) as usize);
    }

    // ---- inputs

    /// A tick has passed.
    pub fn tick(&mut self) {
        if !self.is_restoring() {
            self.raft.tick();
            self.stand_alone();
        }
        self.draw_election_timeout();
    }

    /// Whether a snapshot of another node is not on disk yet. Until it is, this node does not stand for election: the crate would look for the entries between what
    /// it takes for applied and what is committed, and they are nowhere.
    fn is_restoring(&self) -> bool {
        self.applied.index > self.raft.raft.raft_log.applied
    }

    /// The only voter need not wait for others to fall silent.
    fn stand_alone(&mut self) {
        let is_alone = self.members.voters == [self.config.me];
        if is_alone && self.raft.raft.state == StateRole::Follower {
            // It fails only where there is nothing to stand for.
            let _ = self.raft.campaign();
        }
    }

    /// A message has come from `from`.
    pub fn receive(&mut self, from: BrokerId, message: QuorumMessage) -> Result<(), MessageError> {
        if message.to() != self.config.me {
            return Err(MessageError::NotForMe(message.to()));
        }
        if message.from() != from {
            return Err(MessageError::NotFromThere(message.from()));
        }
        if self.is_restoring() && message.raft.get_msg_type() == MessageType::MsgTimeoutNow {
            return Ok(());
        }
        let last = self.raft.raft.raft_log.last_index();
        if message.raft.get_msg_type() == MessageType::MsgHeartbeat && message.raft.commit > last {
            return Err(MessageError::LostEntries { acknowledged: message.raft.commit, last });
        }
        // An answer from somebody who has left the quorum is of no use, and no harm.
        let _ = self.raft.step(message.raft);
        self.draw_election_timeout();
        Ok(())
    }

    /// Proposes an entry. It is committed when it comes out with the position that this returns; if another one does at its index, it is lost. Between the two nobody
    /// knows.
    pub fn propose(&mut self, data: Vec<u8>) -> Result<LogPosition, QuorumError> {
        self.must_lead()?;
        self.raft.propose(Vec::new(), data).map_err(|_| QuorumError::Busy)?;
        Ok(self.last_position())
    }

    /// Proposes a change of members.
    pub fn change_members(&mut self, change: MemberChange) -> Result<LogPosition, QuorumError> {
        self.must_lead()?;
        self.check_change(change)?;
        let mut w = Writer::default();
        encode_change(&mut w, change);
        self.raft.propose_conf_change(w.bytes, raft_change(change)).map_err(|_| QuorumError::Busy)?;
        Ok(self.last_position())
    }

    fn check_change(&self, change: MemberChange) -> Result<(), QuorumError> {
        if self.raft.raft.has_pending_conf() {
            return Err(QuorumError::ChangeInProgress);
        }
        let invalid = |id, problem| Err(QuorumError::InvalidChange(id, problem));
        let is_voter = |id| self.members.voters.contains(&id);
        let is_learner = |id| self.members.learners.contains(&id);
        match change {
            MemberChange::AddLearner(id) if is_voter(id) || is_learner(id) => {
                invalid(id, "is a member already")
            }
            MemberChange::Promote(id) if !is_learner(id) => invalid(id, "is not a learner"),
            MemberChange::Promote(id) if !self.has_caught_up(id) => Err(QuorumError::NotCaughtUp(id)),
            MemberChange::Demote(id) if !is_voter(id) => invalid(id, "is not a voter"),
            MemberChange::Remove(id) | MemberChange::Demote(id) if id == self.config.me => {
                invalid(id, "leads, and has to hand over first")
            }
            MemberChange::Remove(id) if !is_voter(id) && !is_learner(id) => invalid(id, "is not a member"),
            _ => Ok(()),
        }
    }

    /// A learner may vote when it has everything that is committed: otherwise the quorum could have to wait for it.
    fn has_caught_up(&self, id: BrokerId) -> bool {
        let committed = self.raft.raft.raft_log.committed;
        self.raft.raft.prs().get(raft_id(id)).is_some_and(|progress| progress.matched >= committed)
    }

    /// Hands leadership to another voter, before this node stops or leaves.
    pub fn hand_over(&mut self, to: BrokerId) -> Result<(), QuorumError> {
        self.must_lead()?;
        self.raft.transfer_leader(raft_id(to));
        self.draw_election_timeout();
        Ok(())
    }

    /// A [`Persist`] is durable, and all before it.
    pub fn persisted(&mut self, number: u64) {
        assert!(number <= self.persist_given, "record {number} was never given out");
        self.persist_done = self.persist_done.max(number);
    }

    /// A message with a snapshot has arrived, or has been given up.
    pub fn snapshot_sent(&mut self, to: BrokerId, has_arrived: bool) {
        let status = if has_arrived { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raft.report_snapshot(raft_id(to), status);
    }

    /// The connection to a node has been lost.
    pub fn disconnected(&mut self, from: BrokerId) {
        self.raft.report_unreachable(raft_id(from));
    }

    /// Nobody listens any more where a node was. If it led, its silence need not last for the election time-out before this one stands for election. Who is taken
    /// for gone by mistake loses nothing by it: others that hear of it do not vote.
    pub fn gone(&mut self, node: BrokerId) {
        let raft = &mut self.raft.raft;
        if raft.state != StateRole::Follower || raft.leader_id != raft_id(node) {
            return;
        }
        let term = raft.term;
        raft.become_follower(term, INVALID_ID);
        self.draw_election_timeout();
        let raft = &mut self.raft.raft;
        // Not all at once: two that stand at the same time share the votes.
        let wait = 1 + (mix(self.config.seed ^ raft.id ^ term) % GONE_SPREAD_TICKS) as usize;
        raft.election_elapsed = raft.randomized_election_timeout().saturating_sub(wait);
    }

    /// The image after all that has come out as committed so far; entries that it covers are dropped.
    pub fn snapshot_taken(&mut self, data: Bytes) {
        if self.applied.index == self.raft.store().snapshot_index() {
            return;
        }
        let snapshot = JournalSnapshot { position: self.applied, members: self.members.clone(), data };
        self.raft.mut_store().compact(snapshot);
        self.persist_given += 1;
        let records = self.raft.store().records();
        self.rewrite = Some(Persist { number: self.persist_given, rewrites: true, records });
    }

    // ---- what follows

    /// Everything that has to be done now. Empty when there is nothing.
    pub fn output(&mut self) -> Output {
        let mut output = Output::default();
        output.persist.extend(self.rewrite.take());
        loop {
            self.release(&mut output);
            if !self.raft.has_ready() {
                break;
            }
            self.take_ready(&mut output);
        }
        self.draw_election_timeout();
        self.note_leader(&mut output);
        output.wants_snapshot = self.raft.store().take_wish();
        output
    }

    /// What was waiting for records that are durable now.
    fn release(&mut self, output: &mut Output) {
        while self.waiting.front().is_some_and(|waiting| waiting.after <= self.persist_done) {
            let waiting = self.waiting.pop_front().expect("it was there a moment ago");
            self.raft.on_persist_ready(waiting.ready);
            self.note_restored();
            output.messages.extend(waiting.messages);
        }
    }

    /// A snapshot of another node counts as applied once it is on disk.
    fn note_restored(&mut self) {
        let log = &self.raft.raft.raft_log;
        let applied = self.applied.index.min(log.persisted);
        if applied > log.applied {
            self.raft.advance_apply_to(applied);
        }
    }

    fn take_ready(&mut self, output: &mut Output) {
        let mut ready = self.raft.ready();
        let mut records = Vec::new();
        let snapshot = ready.snapshot();
        if !snapshot.is_empty() {
            let snapshot = from_raft_snapshot(snapshot);
            self.raft.mut_store().restore(snapshot.clone());
            self.applied = snapshot.position;
            self.members = snapshot.members.clone();
            output.committed.clear();
            output.snapshot =
                Some(QuorumSnapshot { position: snapshot.position, data: snapshot.data.clone() });
            records.push(JournalRecord::Snapshot(snapshot));
        }
        records.extend(ready.entries().iter().map(|entry| JournalRecord::Entry(from_raft_entry(entry))));
        self.raft.mut_store().append(ready.entries());
        if let Some(state) = ready.hs() {
            self.raft.mut_store().set_state(state.clone());
        }
        let committed = ready.take_committed_entries();
        self.apply(&committed, output);
        // A commit index alone is found again after a restart, and not worth a sync; unless it is what makes this node know its quorum.
        if ready.must_sync() || std::mem::take(&mut self.must_note_commit) {
            let state = self.hard_state();
            records.push(JournalRecord::Vote(vote_of(&state)));
        }
        if !records.is_empty() {
            self.persist_given += 1;
            output.persist.push(Persist { number: self.persist_given, rewrites: false, records });
        }
        output.messages.extend(travelling(ready.take_messages()));
        let messages = travelling(ready.take_persisted_messages());
        self.waiting.push_back(Waiting { ready: ready.number(), after: self.persist_given, messages });
        self.raft.advance_append_async(ready);
    }

    fn hard_state(&self) -> HardState {
        self.raft.raft.hard_state()
    }

    fn apply(&mut self, committed: &[raft::eraftpb::Entry], output: &mut Output) {
        for entry in committed {
            self.applied = LogPosition { term: entry.term, index: entry.index };
            let mut data = Bytes::new();
            if entry.get_entry_type() == EntryType::EntryNormal {
                data = entry.data.clone();
            } else {
                let change = decode_change(&entry.context).expect("only well-formed changes are proposed");
                let conf_state = self.raft.apply_conf_change(&raft_change(change));
                self.members = members(&conf_state.expect("changes are checked before they are proposed"));
                self.must_note_commit = true;
            }
            output.committed.push(CommittedEntry { position: self.applied, data });
        }
        if !committed.is_empty() {
            self.raft.advance_apply_to(self.applied.index);
        }
    }

    fn note_leader(&mut self, output: &mut Output) {
        let leader = LeaderChange { leader: self.leader(), term: self.term() };
        if leader != self.known_leader {
            self.known_leader = leader;
            output.leader = Some(leader);
        }
    }

    // ---- questions

    /// Who leads the quorum, as far as this node knows.
    pub fn leader(&self) -> BrokerId {
        broker_id(self.raft.raft.leader_id)
    }

    /// The newest term that this node knows.
    pub fn term(&self) -> u64 {
        self.raft.raft.term
    }

    /// Whether this node leads and has replayed everything that was decided before: it may decide.
    pub fn may_decide(&self) -> bool {
        self.leads() && self.applied.term == self.term()
    }

    /// The last entry that has come out as committed.
    pub fn applied(&self) -> LogPosition {
        self.applied
    }

    /// The last entry in this node's log, committed or not.
    pub fn last_index(&self) -> u64 {
        self.raft.raft.raft_log.last_index()
    }

    /// The members, after all changes that have come out as committed.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Entries since the last snapshot: when it pays to take the next one.
    pub fn entries_since_snapshot(&self) -> u64 {
        self.applied.index - self.raft.store().snapshot_index()
    }

    /// The members as the leader sees them; empty elsewhere.
    pub fn member_status(&self) -> Vec<MemberStatus> {
        if !self.leads() {
            return Vec::new();
        }
        let status = |(id, progress): (&u64, &raft::Progress)| MemberStatus {
            id: broker_id(*id),
            is_voter: self.members.voters.contains(&broker_id(*id)),
            matched: progress.matched,
            is_active: progress.recent_active,
        };
        let mut members: Vec<MemberStatus> = self.raft.raft.prs().iter().map(status).collect();
        members.sort_by_key(|member| member.id);
        members
    }

    fn leads(&self) -> bool {
        self.raft.raft.state == StateRole::Leader
    }

    fn must_lead(&self) -> Result<(), QuorumError> {
        if self.leads() { Ok(()) } else { Err(QuorumError::NotLeader { leader: self.leader() }) }
    }

    fn last_position(&self) -> LogPosition {
        LogPosition { term: self.term(), index: self.last_index() }
    }
}

fn travelling(messages: Vec<raft::eraftpb::Message>) -> Vec<QuorumMessage> {
    messages.into_iter().filter(QuorumMessage::travels).map(|raft| QuorumMessage { raft }).collect()
}

/// SplitMix64's last step.
pub(super) fn mix(bits: u64) -> u64 {
    let mut mixed = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn raft_change(change: MemberChange) -> ConfChangeV2 {
    let (kind, id) = match change {
        MemberChange::AddLearner(id) | MemberChange::Demote(id) => (ConfChangeType::AddLearnerNode, id),
        MemberChange::Promote(id) => (ConfChangeType::AddNode, id),
        MemberChange::Remove(id) => (ConfChangeType::RemoveNode, id),
    };
    let mut single = ConfChangeSingle::default();
    single.set_change_type(kind);
    single.node_id = raft_id(id);
    let mut raft_change = ConfChangeV2::default();
    raft_change.mut_changes().push(single);
    raft_change
}

/// kind u8 (0 = add learner, 1 = promote, 2 = remove, 3 = demote) | node id i32
fn encode_change(w: &mut Writer, change: MemberChange) {
    let (kind, id) = match change {
        MemberChange::AddLearner(id) => (0, id),
        MemberChange::Promote(id) => (1, id),
        MemberChange::Remove(id) => (2, id),
        MemberChange::Demote(id) => (3, id),
    };
    w.u8(kind);
    w.i32(id.0);
}

fn decode_change(bytes: &[u8]) -> Result<MemberChange, RecordError> {
    let mut r = Reader::new(bytes);
    let kind = r.u8("kind of change")?;
    let id = super::journal::decode_id(&mut r)?;
    match kind {
        0 => Ok(MemberChange::AddLearner(id)),
        1 => Ok(MemberChange::Promote(id)),
        2 => Ok(MemberChange::Remove(id)),
        3 => Ok(MemberChange::Demote(id)),
        _ => Err(RecordError::Invalid("kind of change")),
    }
}
