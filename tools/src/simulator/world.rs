//! Brokers with their disks, clients, the network between them, and the virtual time in which everything happens: one event after the other, in an order that
//! follows from the seed.

use std::collections::{BTreeMap, VecDeque};

use coord::quorum::bootstrap;
use coord::types::BrokerId;

use super::client::{Admin, ClassicMember, Client, ClientEnv, Consumer, Member, Producer, Sharer};
use super::faults::{Fault, Profile};
use super::journal::QuorumJournal;
use super::message::{Address, Message};
use super::network::{Network, Place, Sent};
use super::oracle::Oracle;
use super::process::{Clock, Env, Input, Out, Process};
use super::random::Random;
use super::settings::{self, Settings, Storage};
use super::store::{Conditions, Logs, RealLogs};
use super::trace::Trace;

/// Something that happens at a moment.
#[derive(Debug)]
pub(super) enum Event {
    /// A message between brokers arrives.
    Between { from: BrokerId, to: BrokerId, place: Place, message: Message },
    /// A message arrives at the life of a process that it was meant for, from a client or from the process itself.
    ToLife { from: Address, to: BrokerId, life: u64, message: Message },
    /// A message arrives at a client.
    ToClient { to: usize, message: Message },
    /// A broker's clock strikes.
    Tick { node: usize, life: u64 },
    /// The journal's sync returns.
    JournalSynced { node: usize, life: u64 },
    /// The logs' sync returns.
    LogSynced { node: usize, life: u64 },
    /// Something happens in the logs by itself.
    LogsDue { node: usize, life: u64 },
    /// A paused process goes on.
    Resume { node: usize },
    /// A connection on which nothing gets through is given up.
    GiveUp { a: BrokerId, b: BrokerId, connection: u64 },
    /// Two brokers try to connect.
    Connect { a: BrokerId, b: BrokerId },
    /// A client's clock strikes.
    ClientTurn { client: usize },
    /// A fault begins, or ends.
    Fault(Fault),
    /// The next fault is drawn.
    NextFault,
}

/// One broker: its disks outlive its processes.
pub(super) struct Node {
    pub(super) id: BrokerId,
    pub(super) process: Option<Process>,
    /// Counts processes: what was meant for an earlier one does not reach the next.
    pub(super) life: u64,
    clock: Clock,
    pub(super) journal: QuorumJournal,
    pub(super) store: Logs,
    /// When something happens there by itself, as far as an event says so. µs.
    logs_due_us: Option<u64>,
    /// The logs' disk has lost everything, and the controller has not been told.
    pub(super) is_wiped: bool,
    pub(super) paused_until_us: u64,
    /// What has come for a paused process, in order.
    postponed: VecDeque<Event>,
    pub(super) slow_until_us: u64,
    pub(super) full_until_us: u64,
}

/// See the module.
pub struct World {
    pub(super) settings: Settings,
    pub(super) random: Random,
    pub(super) now_us: u64,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) clients: Vec<Client>,
    client_arrivals_us: BTreeMap<(Address, Address), u64>,
    pub(super) network: Network,
    pub(super) oracle: Oracle,
    pub(super) trace: Trace,
    pub(super) profile: Profile,
    /// No more faults, and nothing new from clients.
    pub(super) is_ending: bool,
    pub(super) events_done: u64,
}

impl World {
    /// A cluster that has yet to begin.
    pub fn new(seed: u64, settings: Settings) -> Self {
        let mut random = Random::new(seed);
        let profile = Profile::draw(&mut random);
        let voters: Vec<BrokerId> = (0..settings.brokers.min(settings::CONTROLLERS)).map(BrokerId).collect();
        let node = |id: BrokerId, random: &mut Random| {
            let is_controller = voters.contains(&id);
            let first = if is_controller { bootstrap(&voters, Default::default()) } else { Vec::new() };
            Node {
                id,
                process: None,
                life: 0,
                clock: Clock::new(random),
                journal: QuorumJournal::new(random.bits(), &first),
                store: match settings.storage {
                    Storage::Model => Logs::Model(Box::default()),
                    Storage::Real => Logs::Real(Box::new(RealLogs::new(profile.sync_us, random))),
                },
                logs_due_us: None,
                is_wiped: false,
                paused_until_us: 0,
                postponed: VecDeque::new(),
                slow_until_us: 0,
                full_until_us: 0,
            }
        };
        let nodes = (0..settings.brokers).map(|id| node(BrokerId(id), &mut random)).collect();
        let mut world = World {
            settings,
            now_us: 0,
            events: BTreeMap::new(),
            next_event: 0,
            nodes,
            clients: Vec::new(),
            client_arrivals_us: BTreeMap::new(),
            network: Network::new(profile.jitter_us),
            oracle: Oracle::new(),
            trace: Trace::new(settings.traces),
            profile,
            is_ending: false,
            events_done: 0,
            random,
        };
        world.add_clients();
        for node in 0..world.nodes.len() {
            world.start(node);
        }
        let first_fault_us = 2_000_000;
        world.at(first_fault_us, Event::NextFault);
        world
    }

    fn add_clients(&mut self) {
        let profile = self.profile;
        let unclean = self.settings.allows_unclean_election;
        self.clients.push(Client::Admin(Admin::new(
            unclean,
            profile.admin_pace_us,
            profile.lowers_min_insync,
            profile.deletes_records,
        )));
        for number in 0..4 {
            self.clients.push(Client::Producer(Producer::new(
                1_000 + number as i64,
                number,
                profile.produce_pace_us,
            )));
        }
        self.clients.push(Client::Consumer(Consumer::new(40_000)));
        self.clients.push(Client::Consumer(Consumer::new(150_000)));
        self.clients.push(Client::Member(Member::new(0)));
        self.clients.push(Client::Member(Member::new(1)));
        self.clients.extend((0..3).map(|number| Client::Sharer(Sharer::new(number))));
        self.clients.extend((0..3).map(|number| Client::Classic(ClassicMember::new(number))));
        for client in 0..self.clients.len() {
            let at_us = self.random.between(100_000, 400_000);
            self.at(at_us, Event::ClientTurn { client });
        }
    }

    /// Something is to happen then.
    pub(super) fn at(&mut self, at_us: u64, event: Event) {
        self.next_event += 1;
        self.events.insert((at_us.max(self.now_us), self.next_event), event);
    }

    /// Lets the next event happen.
    pub fn step(&mut self) {
        let Some(((at_us, _), event)) = self.events.pop_first() else { return };
        self.now_us = at_us;
        self.trace.now_us = at_us;
        self.events_done += 1;
        match self.paused(&event) {
            Some(node) => self.nodes[node].postponed.push_back(event),
            None => self.take_place(event),
        }
    }

    fn take_place(&mut self, event: Event) {
        self.trace.mix(self.now_us ^ event.code() << 56);
        self.happen(event);
        self.check_candidates();
    }

    /// A process does nothing until then. µs.
    pub(super) fn pause(&mut self, node: usize, until_us: u64) {
        let paused_until_us = &mut self.nodes[node].paused_until_us;
        *paused_until_us = until_us.max(*paused_until_us);
        self.at(until_us, Event::Resume { node });
    }

    /// What has come for a process meanwhile takes place, in the order in which it came.
    fn resume(&mut self, node: usize) {
        while self.nodes[node].paused_until_us <= self.now_us
            && let Some(event) = self.nodes[node].postponed.pop_front()
        {
            self.take_place(event);
        }
    }

    /// The node that an event is for, if its process does nothing at present.
    fn paused(&self, event: &Event) -> Option<usize> {
        let node = match event {
            Event::Between { to, .. } | Event::ToLife { to, .. } => to.0 as usize,
            Event::Tick { node, .. }
            | Event::JournalSynced { node, .. }
            | Event::LogSynced { node, .. }
            | Event::LogsDue { node, .. } => *node,
            _ => return None,
        };
        let Node { paused_until_us, postponed, .. } = &self.nodes[node];
        (*paused_until_us > self.now_us || !postponed.is_empty()).then_some(node)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Between { from, to, place, message } => {
                if self.network.arrives(from, to, place) {
                    self.input(to.0 as usize, Input::Message(Address::Broker(from), message));
                }
            }
            Event::ToLife { from, to, life, message } => {
                if self.nodes[to.0 as usize].life == life {
                    self.input(to.0 as usize, Input::Message(from, message));
                }
            }
            Event::ToClient { to, message } => {
                if let Message::Response(number, response) = message {
                    self.with_client(to, |client, env| client.response(number, response, env));
                }
            }
            Event::Tick { node, life } => {
                if self.nodes[node].life == life && self.nodes[node].process.is_some() {
                    self.at(self.now_us + settings::TICK_US, Event::Tick { node, life });
                    self.input(node, Input::Tick);
                }
            }
            Event::JournalSynced { node, life } if self.nodes[node].life == life => {
                self.input(node, Input::JournalSynced);
            }
            Event::LogSynced { node, life } if self.nodes[node].life == life => {
                self.input(node, Input::LogSynced);
            }
            Event::LogsDue { node, life } if self.nodes[node].life == life => {
                self.nodes[node].logs_due_us = None;
                self.input(node, Input::LogsDue);
            }
            Event::JournalSynced { .. } | Event::LogSynced { .. } | Event::LogsDue { .. } => {}
            Event::GiveUp { a, b, connection } => {
                if self.network.connection(a, b) == Some(connection) {
                    self.break_connection(a, b, None);
                }
            }
            Event::Resume { node } => self.resume(node),
            Event::Connect { a, b } => self.connect(a, b),
            Event::ClientTurn { client } => {
                let next_us = self.with_client(client, |client, env| client.turn(env));
                self.at(next_us, Event::ClientTurn { client });
            }
            Event::Fault(fault) => self.fault(fault),
            Event::NextFault => self.next_fault(),
        }
    }

    // ---- processes

    /// Gives an input to a node's process, and does what it wants done.
    fn input(&mut self, at: usize, input: Input) {
        self.with_process(at, |process, env| {
            if let Some(process) = process {
                process.handle(input, env);
            }
        });
    }

    /// Does something with a node's process, and then what that wants done.
    fn with_process(&mut self, at: usize, act: impl FnOnce(&mut Option<Process>, &mut Env<'_>)) {
        let mut out = Vec::new();
        let conditions = self.conditions(at);
        let node = &mut self.nodes[at];
        node.store.update(conditions);
        let mut env = Env {
            now_us: self.now_us,
            random: &mut self.random,
            journal: &mut node.journal,
            store: &mut node.store,
            oracle: &mut self.oracle,
            trace: &mut self.trace,
            out: &mut out,
        };
        act(&mut node.process, &mut env);
        self.carry_out(at, out);
        self.watch_logs(at);
    }

    fn conditions(&self, at: usize) -> Conditions {
        let Node { slow_until_us, full_until_us, .. } = self.nodes[at];
        Conditions {
            now_us: self.now_us,
            is_slow: slow_until_us > self.now_us,
            is_full: full_until_us > self.now_us,
        }
    }

    /// Something will happen in a node's logs by itself.
    fn watch_logs(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(due_us) = node.store.next_due_us() else { return };
        if node.logs_due_us.is_none_or(|known_us| due_us < known_us || known_us < self.now_us) {
            node.logs_due_us = Some(due_us);
            let life = node.life;
            self.at(due_us, Event::LogsDue { node: at, life });
        }
    }

    fn carry_out(&mut self, at: usize, out: Vec<Out>) {
        let (from, life) = (self.nodes[at].id, self.nodes[at].life);
        for wish in out {
            match wish {
                Out::Send(Address::Broker(to), message) if to == from => {
                    self.at(
                        self.now_us + 20,
                        Event::ToLife { from: Address::Broker(from), to, life, message },
                    );
                }
                Out::Send(Address::Broker(to), message) => self.send_between(from, to, message),
                Out::Send(Address::Client(to), message) => {
                    let at_us = self.client_arrival_us(Address::Broker(from), Address::Client(to));
                    self.at(at_us, Event::ToClient { to, message });
                }
                Out::JournalSync => {
                    let at_us = self.now_us + self.sync_us(at);
                    self.at(at_us, Event::JournalSynced { node: at, life });
                }
                Out::LogSync => {
                    let at_us = self.now_us + self.sync_us(at);
                    self.at(at_us, Event::LogSynced { node: at, life });
                }
                Out::Exit(why) => {
                    self.trace.note(|| format!("broker {from} ends: {why}"));
                    self.crash(at);
                    self.at(self.now_us + 100_000, Event::Fault(Fault::Restart(at)));
                    return;
                }
            }
        }
    }

    fn sync_us(&mut self, node: usize) -> u64 {
        let is_slow = self.nodes[node].slow_until_us > self.now_us;
        match is_slow {
            true => self.random.between(40_000, 900_000),
            false => self.random.between(300, self.profile.sync_us),
        }
    }

    /// A new process on a node, from what is on its disks.
    pub(super) fn start(&mut self, at: usize) {
        if self.nodes[at].process.is_some() {
            return;
        }
        let (seed, seed_of_logs) = (self.random.bits(), self.random.bits());
        let (conditions, settings) = (self.conditions(at), self.settings);
        let node = &mut self.nodes[at];
        node.life += 1;
        node.logs_due_us = None;
        node.store.begin_life(seed_of_logs, conditions);
        let (id, life, clock, is_intact) = (node.id, node.life, node.clock, !node.is_wiped);
        self.with_process(at, |process, env| {
            *process = Some(Process::start(id, settings, clock, is_intact, seed, env));
        });
        self.trace.note(|| format!("broker {id} starts, life {life}"));
        let first_us = self.random.below(settings::TICK_US);
        self.at(self.now_us + first_us, Event::Tick { node: at, life });
        for peer in (0..self.nodes.len()).filter(|peer| *peer != at) {
            let b = BrokerId(peer as i32);
            let delay_us = self.random.between(500, 30_000);
            self.at(self.now_us + delay_us, Event::Connect { a: id, b });
        }
    }

    /// A process ends without warning, and loses what it had not synced.
    pub(super) fn crash(&mut self, at: usize) {
        if self.nodes[at].process.take().is_none() {
            return;
        }
        // What has come meanwhile finds nobody.
        self.at(self.now_us, Event::Resume { node: at });
        let node = &mut self.nodes[at];
        let id = node.id;
        node.life += 1;
        node.paused_until_us = 0;
        node.journal.crash(&mut self.random);
        node.store.crash(self.random.bits());
        self.oracle.count("crashes", 1);
        self.trace.note(|| format!("broker {id} crashes"));
        for peer in (0..self.nodes.len()).filter(|peer| *peer != at) {
            self.break_connection(id, BrokerId(peer as i32), Some(id));
        }
    }

    // ---- messages

    fn send_between(&mut self, from: BrokerId, to: BrokerId, message: Message) {
        match self.network.send(from, to, self.now_us, &mut self.random) {
            Sent::Arrives(at_us, place) => self.at(at_us, Event::Between { from, to, place, message }),
            Sent::Lost => {}
            Sent::Stuck => {
                if let Some(connection) = self.network.connection(from, to) {
                    let patience_us = self.random.between(200_000, 1_500_000);
                    self.at(self.now_us + patience_us, Event::GiveUp { a: from, b: to, connection });
                }
            }
        }
    }

    /// Requests and answers between a client and a broker stay in their order.
    fn client_arrival_us(&mut self, from: Address, to: Address) -> u64 {
        let at_us = self.now_us + self.network.delay_us(&mut self.random);
        let last_us = self.client_arrivals_us.entry((from, to)).or_default();
        *last_us = (*last_us + 1).max(at_us);
        *last_us
    }

    /// A connection breaks: both sides hear of it soon, and try again.
    pub(super) fn break_connection(&mut self, a: BrokerId, b: BrokerId, dead: Option<BrokerId>) {
        let Some(connection) = self.network.disconnect(a, b, dead, &mut self.random) else { return };
        self.trace.note(|| format!("the connection between {a} and {b} breaks"));
        for (from, to) in [(a, b), (b, a)] {
            let life = self.nodes[to.0 as usize].life;
            let message = Message::Closed(connection);
            self.at(self.now_us, Event::ToLife { from: Address::Broker(from), to, life, message });
        }
        let delay_us = self.random.between(1_000, 60_000);
        self.at(self.now_us + delay_us, Event::Connect { a, b });
    }

    fn connect(&mut self, a: BrokerId, b: BrokerId) {
        if self.network.connection(a, b).is_some() {
            return;
        }
        let is_up = |world: &World, id: BrokerId| world.nodes[id.0 as usize].process.is_some();
        match (is_up(self, a), is_up(self, b)) {
            (false, false) => return,
            (true, false) => return self.is_refused(a, b),
            (false, true) => return self.is_refused(b, a),
            (true, true) => {}
        }
        let Some(connection) = self.network.connect(a, b) else {
            let delay_us = self.random.between(20_000, 100_000);
            return self.at(self.now_us + delay_us, Event::Connect { a, b });
        };
        self.send_between(a, b, Message::Opened(connection));
        self.send_between(b, a, Message::Opened(connection));
    }

    /// A broker tries to connect to one that is down: if it gets there, it hears that nobody listens. It tries again.
    fn is_refused(&mut self, from: BrokerId, to: BrokerId) {
        let is_refused = self.network.gets_through(from, to);
        let life = self.nodes[from.0 as usize].life;
        let at_us = self.now_us + self.network.delay_us(&mut self.random);
        let message = Message::Unreachable(is_refused);
        self.at(at_us, Event::ToLife { from: Address::Broker(to), to: from, life, message });
        let delay_us = self.random.between(30_000, 150_000);
        self.at(self.now_us + delay_us, Event::Connect { a: from, b: to });
    }

    fn with_client<R>(&mut self, at: usize, act: impl FnOnce(&mut Client, &mut ClientEnv<'_>) -> R) -> R {
        let mut requests = Vec::new();
        let connection = |node: &Node| node.process.is_some().then_some(node.life);
        let connections: Vec<Option<u64>> = self.nodes.iter().map(connection).collect();
        let mut env = ClientEnv {
            now_us: self.now_us,
            random: &mut self.random,
            oracle: &mut self.oracle,
            requests: &mut requests,
            connections: &connections,
            brokers: self.settings.brokers,
            is_ending: self.is_ending,
        };
        let result = act(&mut self.clients[at], &mut env);
        for (to, number, request) in requests {
            let from = Address::Client(at);
            let at_us = self.client_arrival_us(from, Address::Broker(to));
            let life = self.nodes[to.0 as usize].life;
            self.at(at_us, Event::ToLife { from, to, life, message: Message::Request(number, request) });
        }
        result
    }
}

impl Event {
    /// For the hash of a run.
    fn code(&self) -> u64 {
        match self {
            Event::Between { from, to, .. } => 1 | (from.0 as u64) << 4 | (to.0 as u64) << 6,
            Event::ToLife { to, .. } => 2 | (to.0 as u64) << 4,
            Event::ToClient { to, .. } => 3 | (*to as u64) << 4,
            Event::Tick { node, .. } => 4 | (*node as u64) << 4,
            Event::JournalSynced { node, .. } => 5 | (*node as u64) << 4,
            Event::LogSynced { node, .. } => 6 | (*node as u64) << 4,
            Event::GiveUp { .. } => 7,
            Event::Connect { .. } => 8,
            Event::ClientTurn { client } => 9 | (*client as u64) << 4,
            Event::Fault(_) => 10,
            Event::NextFault => 11,
            Event::Resume { node } => 13 | (*node as u64) << 4,
            Event::LogsDue { node, .. } => 12 | (*node as u64) << 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_that_grows_keeps_what_has_come_in_order() {
        let mut world = World::new(3, Settings::default());
        while world.now_us < 1_000_000 {
            world.step();
        }
        world.pause(0, 1_100_000);
        while world.now_us < 1_050_000 {
            world.step();
        }
        world.pause(0, 1_300_000);
        while world.now_us < 1_290_000 {
            world.step();
        }
        let mut last = BTreeMap::new();
        for event in &world.nodes[0].postponed {
            if let Event::Between { from, place, .. } = event {
                let now = (place.connection, place.number);
                assert!(last.insert(*from, now).is_none_or(|last| last < now), "{event:?}");
            }
        }
        assert!(last.len() > 1, "others went on talking");
        while world.now_us < 1_400_000 {
            world.step();
        }
        assert!(world.nodes[0].postponed.is_empty());
    }
}
