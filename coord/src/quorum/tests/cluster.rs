//! Controllers, their disks and their network.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::super::journal::{JournalRecord, bootstrap, recover};
use super::super::output::{CommittedEntry, LogPosition, Persist};
use super::super::{MemberChange, MessageError, QuorumConfig, QuorumError, QuorumMessage, QuorumNode};
use crate::types::BrokerId;

struct Controller {
    node: Option<QuorumNode>,
    durable: Vec<Vec<u8>>,
    unsynced: VecDeque<Persist>,
    /// What the committed entries say, in order: the image.
    image: Vec<u64>,
}

/// See the module. What breaks an invariant panics.
pub(super) struct Cluster {
    controllers: BTreeMap<BrokerId, Controller>,
    pub(super) network: Vec<(BrokerId, BrokerId, Vec<u8>)>,
    seed: u64,
    /// Nothing gets to it or away from it.
    pub(super) cut_off: Option<BrokerId>,
    pub(super) committed: BTreeMap<u64, CommittedEntry>,
    pub(super) leaders: BTreeMap<u64, BrokerId>,
    pub(super) messages_sent: u64,
    /// Messages that were sent at the beginning.
    pub(super) sample: Vec<Vec<u8>>,
}

fn encode_image(image: &[u64]) -> Bytes {
    image.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>().into()
}

fn decode_image(data: &[u8]) -> Vec<u64> {
    data.chunks_exact(8).map(|chunk| u64::from_be_bytes(chunk.try_into().expect("8 bytes"))).collect()
}

impl Cluster {
    pub(super) fn new(voters: i32, seed: u64) -> Self {
        let ids: Vec<BrokerId> = (0..voters).map(BrokerId).collect();
        let mut cluster = Cluster {
            controllers: BTreeMap::new(),
            network: Vec::new(),
            seed,
            cut_off: None,
            committed: BTreeMap::new(),
            leaders: BTreeMap::new(),
            messages_sent: 0,
            sample: Vec::new(),
        };
        for id in &ids {
            let journal = bootstrap(&ids, Bytes::new());
            cluster.add(*id, journal);
        }
        cluster
    }

    fn add(&mut self, id: BrokerId, journal: Vec<JournalRecord>) {
        let durable = journal.iter().map(JournalRecord::encode).collect();
        let controller = Controller { node: None, durable, unsynced: VecDeque::new(), image: Vec::new() };
        self.controllers.insert(id, controller);
        self.restart(id);
    }

    /// A controller with an empty disk, which nobody knows yet.
    pub(super) fn join(&mut self, id: BrokerId) {
        self.add(id, Vec::new());
    }

    pub(super) fn ids(&self) -> Vec<BrokerId> {
        self.controllers.keys().copied().collect()
    }

    pub(super) fn is_up(&self, id: BrokerId) -> bool {
        self.controllers[&id].node.is_some()
    }

    pub(super) fn node(&self, id: BrokerId) -> &QuorumNode {
        self.controllers[&id].node.as_ref().expect("it is up")
    }

    pub(super) fn image(&self, id: BrokerId) -> &[u64] {
        &self.controllers[&id].image
    }

    pub(super) fn applied(&self, id: BrokerId) -> u64 {
        self.node(id).applied().index
    }

    pub(super) fn restart(&mut self, id: BrokerId) {
        let controller = self.controllers.get_mut(&id).expect("a controller");
        let records =
            controller.durable.iter().map(|bytes| JournalRecord::decode(bytes).expect("what was written"));
        let recovered = recover(records).expect("a journal without gaps");
        controller.image =
            recovered.snapshot.as_ref().map_or(Vec::new(), |snapshot| decode_image(&snapshot.data));
        let config = QuorumConfig {
            me: id,
            election_ticks: 10,
            heartbeat_ticks: 2,
            message_bytes_max: 200,
            uncommitted_bytes_max: 1 << 20,
            seed: self.seed,
        };
        controller.node = Some(QuorumNode::new(config, &recovered).expect("a sound journal"));
        self.carry_out(id);
    }

    /// Of the records that were not synced the first `kept` appends are on disk.
    pub(super) fn crash(&mut self, id: BrokerId, kept: usize) {
        let controller = self.controllers.get_mut(&id).expect("a controller");
        controller.node = None;
        let kept = kept.min(controller.unsynced.len());
        let kept: Vec<Persist> = controller.unsynced.drain(..kept).collect();
        kept.into_iter().for_each(|persist| write(controller, persist));
        controller.unsynced.clear();
    }

    fn input<R>(&mut self, id: BrokerId, input: impl FnOnce(&mut QuorumNode) -> R) -> Option<R> {
        let result = self.controllers.get_mut(&id)?.node.as_mut().map(input);
        self.carry_out(id);
        result
    }

    pub(super) fn tick(&mut self, id: BrokerId) {
        self.input(id, QuorumNode::tick);
    }

    pub(super) fn propose(&mut self, id: BrokerId, number: u64) -> Result<LogPosition, QuorumError> {
        self.input(id, |node| node.propose(number.to_be_bytes().to_vec())).expect("it is up")
    }

    pub(super) fn change(&mut self, id: BrokerId, change: MemberChange) -> Result<LogPosition, QuorumError> {
        self.input(id, |node| node.change_members(change)).expect("it is up")
    }

    pub(super) fn hand_over(&mut self, id: BrokerId, to: BrokerId) {
        self.input(id, |node| node.hand_over(to)).expect("it is up").expect("it leads");
    }

    /// `id` hears that nobody listens where `of` was.
    pub(super) fn gone(&mut self, id: BrokerId, of: BrokerId) {
        self.input(id, |node| node.gone(of));
    }

    pub(super) fn snapshot(&mut self, id: BrokerId) {
        let image = encode_image(&self.controllers[&id].image);
        self.input(id, |node| node.snapshot_taken(image));
    }

    pub(super) fn receive(
        &mut self,
        id: BrokerId,
        from: BrokerId,
        message: QuorumMessage,
    ) -> Result<(), MessageError> {
        self.input(id, |node| node.receive(from, message)).unwrap_or(Ok(()))
    }

    /// Everything that was written is on disk now.
    pub(super) fn sync(&mut self, id: BrokerId) {
        while let Some(controller) = self.controllers.get_mut(&id)
            && let Some(persist) = controller.unsynced.pop_front()
        {
            let number = persist.number;
            write(controller, persist);
            self.input(id, |node| node.persisted(number));
        }
    }

    pub(super) fn deliver(&mut self, at: usize, keeps_copy: bool) {
        let (from, to, bytes) = match keeps_copy {
            true => self.network[at].clone(),
            false => self.network.remove(at),
        };
        if self.cut_off.is_some_and(|id| id == from || id == to) {
            return;
        }
        let message = QuorumMessage::decode(&bytes).expect("it was encoded here");
        let is_snapshot = message.is_snapshot();
        self.receive(to, from, message).expect("it is for this node and from that one");
        if is_snapshot {
            self.input(from, |node| node.snapshot_sent(to, true));
        }
    }

    /// Time passes for all, and nothing is lost.
    pub(super) fn settle(&mut self, ticks: usize) {
        for _ in 0..ticks {
            for id in self.ids() {
                self.tick(id);
            }
            loop {
                self.ids().into_iter().for_each(|id| self.sync(id));
                if self.network.is_empty() {
                    break;
                }
                self.deliver(0, false);
            }
        }
    }

    /// Lets time pass until somebody may decide.
    pub(super) fn elect(&mut self) -> BrokerId {
        for _ in 0..100 {
            self.settle(1);
            if let Some(id) = self.ids().into_iter().find(|id| self.is_up(*id) && self.node(*id).may_decide())
            {
                return id;
            }
        }
        panic!("nobody is elected");
    }

    fn carry_out(&mut self, id: BrokerId) {
        let controller = self.controllers.get_mut(&id).expect("a controller");
        let Some(node) = &mut controller.node else { return };
        let output = node.output();
        controller.unsynced.extend(output.persist);
        if let Some(snapshot) = output.snapshot {
            controller.image = decode_image(&snapshot.data);
        }
        for entry in output.committed {
            if !entry.data.is_empty() {
                controller.image.extend(decode_image(&entry.data));
            }
            let known = self.committed.entry(entry.position.index).or_insert_with(|| entry.clone());
            assert_eq!(*known, entry, "all agree about every entry");
        }
        if let Some(change) = output.leader
            && change.leader.is_some()
        {
            let known = *self.leaders.entry(change.term).or_insert(change.leader);
            assert_eq!(known, change.leader, "a term has one leader");
        }
        let expected: Vec<u64> = self
            .committed
            .range(..=controller.node.as_ref().expect("it is up").applied().index)
            .flat_map(|(_, entry)| decode_image(&entry.data))
            .collect();
        assert_eq!(controller.image, expected, "the image is a function of the log");
        for message in output.messages {
            let bytes = message.encode();
            self.messages_sent += 1;
            if self.sample.len() < 60 || message.is_snapshot() {
                self.sample.push(bytes.clone());
            }
            self.network.push((id, message.to(), bytes));
        }
        if output.wants_snapshot {
            self.snapshot(id);
        }
    }
}

fn write(controller: &mut Controller, persist: Persist) {
    if persist.rewrites {
        controller.durable.clear();
    }
    controller.durable.extend(persist.records.iter().map(JournalRecord::encode));
}
