//! The shell of [`QuorumNode`] on shard 0: ticks, the journal, messages, and what is committed.
//!
//! Every input is followed by [`Quorum::settle`], which hands on what the node wants done: records to the journal's task, messages to the
//! [`super::peers`], committed entries to the [`super::apply`] task. None of it waits, so inputs never overlap.
//!
//! A node without other members has no ticks and no messages: it stands for election once, and an entry is committed when the journal has it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use coord::metadata::{MetadataImage, MetadataRecord, decode_entry};
use coord::quorum::{
    LeaderChange, LogPosition, MemberChange, MemberStatus, Members, MessageError, Persist, QuorumConfig,
    QuorumError, QuorumMessage, QuorumNode, Recovered,
};
use coord::types::BrokerId;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use uuid::Uuid;

use super::ControllerError;
use super::journal::{JournalSize, decode_image};
use super::peers::Peers;
use crate::runtime;
use crate::shard::Shard;

/// Ticks of the shortest election time-out.
const ELECTION_TICKS: usize = 10;
/// Ticks between two heartbeats of the leader.
const HEARTBEAT_TICKS: usize = 2;
/// Entries that one message holds, in bytes.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of proposals that may wait for a majority.
const UNCOMMITTED_BYTES_MAX: u64 = 256 << 20;

/// Something that is committed and that this node's shards do not know yet.
pub enum Committed {
    /// The records of one entry; none in the quorum's own entries.
    Entry(u64, Vec<MetadataRecord>),
    /// Everything up to an entry.
    Snapshot(u64, Box<MetadataImage>),
}

impl Committed {
    /// The entry's place in the log.
    pub fn index(&self) -> u64 {
        match self {
            Committed::Entry(index, _) | Committed::Snapshot(index, _) => *index,
        }
    }
}

/// The quorum as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumStatus {
    /// Who leads, or [`BrokerId::NONE`].
    pub leader: BrokerId,
    /// Its term.
    pub term: u64,
    /// The last entry that is known to be committed.
    pub committed: u64,
    /// The last entry of this node's log.
    pub last: u64,
    /// All members; empty if this node does not lead.
    pub members: Vec<MemberStatus>,
}

impl Default for QuorumStatus {
    fn default() -> Self {
        QuorumStatus { leader: BrokerId::NONE, term: 0, committed: 0, last: 0, members: Vec::new() }
    }
}

/// Where a message of the quorum comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// Which node.
    pub node: BrokerId,
    /// The id of its data directory.
    pub directory: Uuid,
}

/// Somebody who waits until an entry is committed, or known to be lost.
struct Waiting {
    position: LogPosition,
    answer: oneshot::Sender<Result<u64, ControllerError>>,
}

/// This node's side of the metadata quorum; lives on shard 0.
pub struct Quorum {
    shard: Rc<Shard>,
    me: BrokerId,
    node: RefCell<QuorumNode>,
    journal: mpsc::UnboundedSender<Persist>,
    journal_size: Rc<JournalSize>,
    peers: Peers,
    committed: RefCell<VecDeque<Committed>>,
    /// Told of everything that the applying task may have to look at.
    pub(super) news: Notify,
    wants_snapshot: Cell<bool>,
    waiting: RefCell<VecDeque<Waiting>>,
    leadership: watch::Sender<LeaderChange>,
    /// Messages of others are taken from now on.
    is_open: Cell<bool>,
    /// Directories whose nodes' messages were refused, to be told of once.
    strangers: RefCell<BTreeSet<Uuid>>,
    /// The leader counts on entries that are not here, which was told.
    has_lost_entries: Cell<bool>,
}

impl Quorum {
    /// The node with what its journal says, and where that wants to have its records.
    pub fn new(
        shard: &Rc<Shard>,
        recovered: &Recovered,
        journal_size: Rc<JournalSize>,
    ) -> Result<(Rc<Quorum>, mpsc::UnboundedReceiver<Persist>), QuorumError> {
        let me = shard.broker_id();
        let config = QuorumConfig {
            me,
            election_ticks: ELECTION_TICKS,
            heartbeat_ticks: HEARTBEAT_TICKS,
            message_bytes_max: MESSAGE_BYTES_MAX,
            uncommitted_bytes_max: UNCOMMITTED_BYTES_MAX,
            seed: runtime::random_bits(),
        };
        let (journal, persists) = mpsc::unbounded_channel();
        let quorum = Quorum {
            shard: Rc::clone(shard),
            me,
            node: RefCell::new(QuorumNode::new(config, recovered)?),
            journal,
            journal_size,
            peers: Peers::default(),
            committed: RefCell::default(),
            news: Notify::new(),
            wants_snapshot: Cell::new(false),
            waiting: RefCell::default(),
            leadership: watch::Sender::new(LeaderChange::default()),
            is_open: Cell::new(false),
            strangers: RefCell::default(),
            has_lost_entries: Cell::new(false),
        };
        Ok((Rc::new(quorum), persists))
    }

    // ---- inputs

    /// Lets time pass until the node ends. A node by itself needs one tick only: it elects itself.
    pub async fn run_clock(self: Rc<Self>) {
        let election_timeout = self.shard.config().controller_quorum_election_timeout_ms;
        let tick = Duration::from_millis(u64::from(election_timeout)) / ELECTION_TICKS as u32;
        self.input(QuorumNode::tick);
        if self.shard.broker.cluster.is_none() {
            return;
        }
        while !self.shard.is_closing.get() {
            runtime::sleep(tick).await;
            self.input(QuorumNode::tick);
        }
    }

    /// From now on messages of others count.
    pub fn open(&self) {
        self.is_open.set(true);
    }

    /// A message has come; false if it was none. Votes and acknowledgements of a node whose data directory is not the one that it is known by do not count: it has forgotten
    /// what it has voted for and acknowledged before (KIP-853). Whatever else it says is judged by its log and its term, as always.
    pub fn receive(self: &Rc<Self>, sender: Sender, frame: &[u8]) -> bool {
        if !self.is_open.get() {
            return true;
        }
        let from = sender.node;
        let message = match QuorumMessage::decode(frame) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!(node = from.0, %error, "a message of the metadata quorum was refused");
                return false;
            }
        };
        if message.is_answer() && !self.is_known(sender) {
            return true;
        }
        let taken = self.input(|node| node.receive(from, message));
        if let Err(error @ MessageError::LostEntries { .. }) = &taken {
            if !self.has_lost_entries.replace(true) {
                tracing::error!(node = from.0, %error, "the metadata quorum counts on what this node does not have");
            }
            return true;
        }
        if let Err(error) = &taken {
            tracing::warn!(node = from.0, %error, "a message of the metadata quorum was refused");
        }
        taken.is_ok()
    }

    fn is_known(&self, sender: Sender) -> bool {
        let image = self.shard.image();
        let is_other = image.node(sender.node).is_some_and(|known| known.directory != sender.directory);
        if is_other && self.strangers.borrow_mut().insert(sender.directory) {
            tracing::warn!(
                node = sender.node.0,
                "a node has another data directory than the one that it is known by: its vote in the metadata quorum does not count"
            );
        }
        !is_other
    }

    /// The journal has everything up to this number.
    pub fn persisted(self: &Rc<Self>, number: u64) {
        self.input(|node| node.persisted(number));
    }

    /// The link to a member is gone, or cannot be made.
    pub(super) fn disconnected(self: &Rc<Self>, from: BrokerId) {
        self.input(|node| node.disconnected(from));
    }

    /// Nobody listens at a member's address.
    pub(super) fn gone(self: &Rc<Self>, member: BrokerId) {
        self.input(|node| node.gone(member));
    }

    /// A snapshot was handed to the network, or was lost.
    pub(super) fn snapshot_sent(&self, to: BrokerId, has_arrived: bool) {
        // What follows from it comes out with the next tick.
        self.node.borrow_mut().snapshot_sent(to, has_arrived);
    }

    /// Proposes an entry.
    pub fn propose(self: &Rc<Self>, data: Vec<u8>) -> Result<LogPosition, ControllerError> {
        self.input(|node| node.propose(data)).map_err(ControllerError::from)
    }

    /// Proposes a change of members; answers when it is committed.
    pub async fn change_members(self: &Rc<Self>, change: MemberChange) -> Result<u64, ControllerError> {
        let position = self.input(|node| node.change_members(change))?;
        self.committed(position).await
    }

    /// Hands leadership to another voter that is alive, if this node leads and there is one.
    pub fn hand_over(self: &Rc<Self>) -> Option<BrokerId> {
        let members = self.node.borrow().member_status();
        let others =
            members.iter().filter(|member| member.is_voter && member.is_active && member.id != self.me);
        let heir = others.max_by_key(|member| member.matched)?.id;
        self.input(|node| node.hand_over(heir)).ok().map(|()| heir)
    }

    fn input<R>(self: &Rc<Self>, input: impl FnOnce(&mut QuorumNode) -> R) -> R {
        let result = input(&mut self.node.borrow_mut());
        if let Err(error) = self.settle() {
            self.shard.fail(error.to_string());
        }
        result
    }

    // ---- what follows

    /// Hands on what the node wants done.
    fn settle(self: &Rc<Self>) -> Result<(), ControllerError> {
        let output = self.node.borrow_mut().output();
        for persist in output.persist {
            // The receiver ends with the broker.
            let _ = self.journal.send(persist);
        }
        for message in output.messages {
            self.peers.send(&self.shard, self, message);
        }
        if let Some(snapshot) = output.snapshot {
            let image = Box::new(decode_image(&snapshot.data)?);
            self.committed.borrow_mut().push_back(Committed::Snapshot(snapshot.position.index, image));
        }
        for entry in &output.committed {
            let index = entry.position.index;
            let records = match entry.data.is_empty() {
                true => Vec::new(),
                false => decode_entry(&entry.data).map_err(|error| {
                    ControllerError::Failed(format!(
                        "entry {index} of the metadata log cannot be used: {error}"
                    ))
                })?,
            };
            self.committed.borrow_mut().push_back(Committed::Entry(index, records));
            self.answer(entry.position);
        }
        if output.wants_snapshot {
            self.wants_snapshot.set(true);
        }
        self.note_leader();
        self.news.notify_one();
        Ok(())
    }

    /// Everybody who waits for an entry up to this one hears whether it was committed.
    fn answer(&self, committed: LogPosition) {
        let mut waiting = self.waiting.borrow_mut();
        while waiting.front().is_some_and(|waiting| waiting.position.index <= committed.index) {
            let Waiting { position, answer } = waiting.pop_front().expect("it was there a moment ago");
            let is_lost = position.index == committed.index && position.term != committed.term;
            // Who asked may be gone.
            let _ = answer.send(if is_lost { Err(ControllerError::NotActive) } else { Ok(position.index) });
        }
    }

    fn note_leader(&self) {
        let node = self.node.borrow();
        let now = LeaderChange { leader: node.leader(), term: node.term() };
        let changed = self.leadership.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
        if changed {
            tracing::info!(leader = now.leader.0, term = now.term, "metadata quorum");
        }
        if now.leader != self.me {
            // Whether their entries survive is known to nobody here.
            self.waiting
                .take()
                .into_iter()
                .for_each(|waiting| drop(waiting.answer.send(Err(ControllerError::NotActive))));
        }
    }

    // ---- questions

    /// Answers with the index when the entry is committed; an error says that it is lost, or that nobody knows.
    pub fn committed(
        &self,
        position: LogPosition,
    ) -> impl Future<Output = Result<u64, ControllerError>> + use<> {
        let (answer, answered) = oneshot::channel();
        if self.applied().index >= position.index {
            let _ = answer.send(Ok(position.index));
        } else {
            self.waiting.borrow_mut().push_back(Waiting { position, answer });
        }
        async move { answered.await.unwrap_or(Err(ControllerError::Stopped)) }
    }

    /// Whether this node leads and knows everything that was decided before: its term.
    pub fn office(&self) -> Option<u64> {
        let node = self.node.borrow();
        node.may_decide().then(|| node.term())
    }

    /// The last entry that is known to be committed.
    pub fn applied(&self) -> LogPosition {
        self.node.borrow().applied()
    }

    /// Who leads, to be watched.
    pub fn leadership(&self) -> watch::Receiver<LeaderChange> {
        self.leadership.subscribe()
    }

    /// The members of the quorum.
    pub fn members(&self) -> Members {
        self.node.borrow().members().clone()
    }

    /// What operators are told.
    pub fn status(&self) -> QuorumStatus {
        let node = self.node.borrow();
        QuorumStatus {
            leader: node.leader(),
            term: node.term(),
            committed: node.applied().index,
            last: node.last_index(),
            members: node.member_status(),
        }
    }

    /// The members that there is a link to from here.
    pub fn linked(&self) -> Vec<BrokerId> {
        self.peers.linked()
    }

    /// The members at whose address nobody listens, and since when, by [`runtime::monotonic_ms`].
    pub(super) fn gone_members(&self) -> Vec<(BrokerId, i64)> {
        self.peers.gone()
    }

    /// What is committed and not taken yet.
    pub(super) fn backlog(&self) -> std::cell::Ref<'_, VecDeque<Committed>> {
        self.committed.borrow()
    }

    /// Takes from the front of the backlog.
    pub(super) fn take_committed(&self) -> Option<Committed> {
        self.committed.borrow_mut().pop_front()
    }

    /// Whether a snapshot should be taken as soon as this node's image is that of the last committed entry.
    pub(super) fn wants_snapshot(&self) -> bool {
        self.wants_snapshot.get()
            || self.journal_size.has_grown() && self.node.borrow().entries_since_snapshot() > 0
    }

    /// The image after everything that is committed.
    pub(super) fn snapshot_taken(self: &Rc<Self>, image: Bytes) {
        self.wants_snapshot.set(false);
        self.input(|node| node.snapshot_taken(image));
    }
}
