//! What goes wrong, and when: how rough a run is differs from seed to seed, because with constant faults little is ever committed.

use coord::types::BrokerId;
use storage::disk::sim::SimOp;

use super::random::Random;
use super::world::{Event, World};

/// The character of a run.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    /// Between two faults, on the average. µs.
    pub(super) fault_pace_us: u64,
    /// See [`super::network::Network`].
    pub(super) jitter_us: u64,
    /// The longest sync of a disk that is not slow. µs.
    pub(super) sync_us: u64,
    /// Between two batches of a producer. µs.
    pub(super) produce_pace_us: u64,
    /// Between two wishes of the administrator. µs.
    pub(super) admin_pace_us: Option<u64>,
    /// Whether min.insync.replicas may become 1. Then a single replica commits, and no disk may get lost.
    pub(super) lowers_min_insync: bool,
    /// Whether records are deleted.
    pub(super) deletes_records: bool,
    /// Which kinds of fault there are, by [`Profile::allows`].
    kinds: u64,
}

impl Profile {
    /// One of many.
    pub(super) fn draw(random: &mut Random) -> Self {
        Profile {
            fault_pace_us: 60_000 << random.below(5),
            jitter_us: [300, 1_000, 4_000, 20_000][random.below(4) as usize],
            sync_us: [800, 3_000, 12_000][random.below(3) as usize],
            produce_pace_us: [15_000, 40_000, 120_000][random.below(3) as usize],
            admin_pace_us: (!random.one_in(4)).then(|| 250_000 << random.below(4)),
            lowers_min_insync: random.one_in(3),
            deletes_records: random.one_in(2),
            // Each kind is absent from a quarter of the runs.
            kinds: random.bits() | random.bits(),
        }
    }

    fn allows(&self, kind: u64) -> bool {
        self.kinds >> (kind & 31) & 1 == 1
    }
}

/// Something that goes wrong, or is well again.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// A process dies.
    Crash(usize),
    /// A process dies and is back at once, before anybody has missed it.
    CrashBriefly(usize),
    /// A process is started, with the disk as it is.
    Restart(usize),
    /// A process dies, and its logs' disk is exchanged for an empty one.
    Wipe(usize),
    /// A process does nothing until then. µs.
    Pause(usize, u64),
    /// Syncs take long until then. µs.
    SlowDisk(usize, u64),
    /// The logs' disk has no room until then. µs.
    FullDisk(usize, u64),
    /// After so many more of these operations the logs' disk fails, until the process has ended.
    FailDisk(usize, SimOp, u64),
    /// A connection breaks.
    Break(BrokerId, BrokerId),
    /// Nothing gets through in one direction.
    Block(BrokerId, BrokerId),
    /// It does again.
    Unblock(BrokerId, BrokerId),
}

impl World {
    /// Draws the next fault, and when the one after it is drawn.
    pub(super) fn next_fault(&mut self) {
        if self.is_ending {
            return;
        }
        let pace_us = self.profile.fault_pace_us;
        let next_us = self.now_us + self.random.between(pace_us / 8, pace_us * 2);
        self.at(next_us, Event::NextFault);
        let kind = self.random.below(17);
        if !self.profile.allows(kind) {
            return;
        }
        let count = self.nodes.len() as u64;
        let node = self.random.below(count) as usize;
        let other = (node + 1 + self.random.below(count - 1) as usize) % self.nodes.len();
        let (a, b) = (BrokerId(node as i32), BrokerId(other as i32));
        let now_us = self.now_us;
        let for_a_while = |random: &mut Random| now_us + (10_000 << random.below(9));
        match kind {
            0..=2 => self.fault(Fault::Crash(node)),
            3 => self.fault(Fault::Wipe(node)),
            4..=5 => {
                let until_us = for_a_while(&mut self.random);
                self.fault(Fault::Pause(node, until_us));
            }
            6 => {
                let until_us = for_a_while(&mut self.random);
                self.fault(Fault::SlowDisk(node, until_us));
            }
            7 => {
                let until_us = for_a_while(&mut self.random);
                self.fault(Fault::FullDisk(node, until_us));
            }
            8..=11 => self.fault(Fault::Break(a, b)),
            16 => {
                let ops = [SimOp::Write, SimOp::Sync, SimOp::Meta];
                let op = ops[self.random.below(3) as usize];
                let after = self.random.below(30);
                self.fault(Fault::FailDisk(node, op, after));
            }
            12..=14 => {
                // One direction, both, or everything to or from one broker.
                let until_us = for_a_while(&mut self.random);
                let shape = self.random.below(4);
                for peer in (0..count).map(|peer| BrokerId(peer as i32)).filter(|peer| *peer != a) {
                    if shape < 2 && peer != b {
                        continue;
                    }
                    if shape != 3 {
                        self.block(a, peer, until_us);
                    }
                    if shape == 1 || shape == 3 || shape == 2 && self.random.one_in(2) {
                        self.block(peer, a, until_us);
                    }
                }
            }
            _ => {
                if self.random.one_in(4) {
                    // The power of all fails.
                    (0..self.nodes.len()).for_each(|node| self.fault(Fault::Crash(node)));
                } else {
                    self.topple_a_leader();
                }
            }
        }
    }

    /// What a leader appends last reaches one follower, whose disk is slow, and not the other; then somebody else leads. So logs part, and a sync may return after what
    /// it was for has been cut off.
    fn topple_a_leader(&mut self) {
        let partitions: Vec<(BrokerId, Vec<BrokerId>)> = self
            .oracle
            .truth
            .topics()
            .flat_map(|topic| topic.partitions.iter())
            .map(|partition| {
                let others = partition.replicas.iter().copied().filter(|id| *id != partition.leader);
                (partition.leader, others.collect())
            })
            .collect();
        let Some((leader, others)) = self.random.pick(&partitions).cloned() else { return };
        let (Some(slow), Some(cut_off)) = (others.first(), others.last()) else { return };
        let (slow, cut_off) = if self.random.one_in(2) { (slow, cut_off) } else { (cut_off, slow) };
        if !leader.is_some() || slow == cut_off {
            return;
        }
        let now_us = self.now_us;
        self.fault(Fault::SlowDisk(slow.0 as usize, now_us + 1_000_000));
        self.block(leader, *cut_off, now_us + 150_000);
        let after_us = self.random.between(20_000, 150_000);
        self.at(now_us + after_us, Event::Fault(Fault::CrashBriefly(leader.0 as usize)));
    }

    fn block(&mut self, from: BrokerId, to: BrokerId, until_us: u64) {
        self.fault(Fault::Block(from, to));
        self.at(until_us, Event::Fault(Fault::Unblock(from, to)));
    }

    /// Carries out a fault, or its end.
    pub(super) fn fault(&mut self, fault: Fault) {
        self.trace.note(|| format!("fault: {fault:?}"));
        match fault {
            Fault::Crash(node) => {
                let down_us = 20_000 << self.random.below(9);
                self.crash_for(node, down_us);
            }
            Fault::CrashBriefly(node) => {
                let down_us = self.random.between(5_000, 60_000);
                self.crash_for(node, down_us);
            }
            Fault::Restart(node) => self.start(node),
            Fault::Wipe(node) => {
                if self.may_wipe(node) {
                    self.fault(Fault::Crash(node));
                    let seed = self.random.bits();
                    self.nodes[node].store.wipe(seed);
                    self.nodes[node].is_wiped = true;
                    self.oracle.count("wipes", 1);
                }
            }
            Fault::Pause(node, until_us) => {
                if self.nodes[node].process.is_some() {
                    self.oracle.count("pauses", 1);
                    self.pause(node, until_us);
                }
            }
            Fault::SlowDisk(node, until_us) => self.nodes[node].slow_until_us = until_us,
            Fault::FullDisk(node, until_us) => self.nodes[node].full_until_us = until_us,
            Fault::FailDisk(node, op, after) => {
                if self.nodes[node].process.is_some() {
                    self.nodes[node].store.fail_disk(op, after);
                }
            }
            Fault::Break(a, b) => self.break_connection(a, b, None),
            Fault::Block(from, to) => self.network.block(from, to),
            Fault::Unblock(from, to) => self.network.unblock(from, to),
        }
    }

    fn crash_for(&mut self, node: usize, down_us: u64) {
        if self.nodes[node].process.is_some() {
            self.crash(node);
            self.at(self.now_us + down_us, Event::Fault(Fault::Restart(node)));
        }
    }

    /// A disk may get lost only as long as nothing committed has but one copy, one at a time, and not during a reassignment.
    fn may_wipe(&self, node: usize) -> bool {
        let id = self.nodes[node].id;
        if self.profile.lowers_min_insync || self.nodes.iter().any(|node| node.is_wiped) {
            return false;
        }
        let mut partitions = self.oracle.truth.topics().flat_map(|topic| topic.partitions.iter());
        partitions.all(|partition| {
            let complete = partition.in_sync_replicas.iter().chain(&partition.eligible_leader_replicas);
            // A reassignment that is called off may drop those whom it has added, complete or not, and leave the lost disk as the only one that counts.
            complete.filter(|other| **other != id).count() > 0 && !partition.is_reassigning()
        })
    }

    /// All faults end: whatever was broken is mended.
    pub(super) fn mend(&mut self) {
        self.is_ending = true;
        self.network.unblock_all();
        self.trace.note(|| "all faults end".to_owned());
        for node in 0..self.nodes.len() {
            self.nodes[node].slow_until_us = 0;
            self.nodes[node].full_until_us = 0;
            self.start(node);
        }
    }
}
