//! One life of a broker: the real cores, and a shell around them that does what the broker's shell does.
//!
//! - [`metadata`]: the quorum's node, its journal, and the image that follows from its log;
//! - [`control`]: the active controller: commands one by one, broker sessions;
//! - [`replication`]: the partitions' replicas and what they want done;
//! - [`storing`]: what their logs do and tell;
//! - [`serve`]: requests of producers, consumers and administrators;
//! - [`groups`]: group coordinators on the partitions of `__consumer_offsets`;
//! - [`classic`]: what members of classic groups ask them.
//!
//! A process knows its own disks and nothing else of the world: everything comes in through [`Process::handle`] and leaves as [`Out`].

mod classic;
mod control;
mod groups;
mod metadata;
mod replication;
mod serve;
mod storing;

use std::collections::{BTreeMap, BTreeSet};

use coord::config::TopicDefaults;
use coord::metadata::MetadataImage;
use coord::metadata::decide::BrokerHeartbeat;
use coord::metadata::decide::RegisterBroker;
use coord::quorum::{MemberChange, QuorumConfig, QuorumNode};
use coord::types::BrokerId;
use storage::TopicIdPartition;
use uuid::Uuid;

use super::journal::QuorumJournal;
use super::message::{Address, Command, Message, Outcome};
use super::oracle::Oracle;
use super::random::Random;
use super::settings::{self, Settings};
use super::store::Logs;
use super::trace::Trace;
use control::{Asker, Controller};
use replication::Partition;
use storing::{Arrived, Awaited, Work};

/// A clock that is wrong: it began at another time, and goes too fast or too slow.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    offset_ms: i64,
    drift_ppm: i64,
}

impl Clock {
    /// One of many.
    pub fn new(random: &mut Random) -> Self {
        Clock {
            offset_ms: random.between(1_000_000, 1_060_000) as i64,
            drift_ppm: random.between(0, 2_000) as i64 - 1_000,
        }
    }

    /// What the clock shows, in ms.
    pub fn now_ms(&self, now_us: u64) -> i64 {
        let now_us = now_us as i64;
        self.offset_ms + (now_us + now_us * self.drift_ppm / 1_000_000) / 1_000
    }
}

/// What a process wants from the world.
#[derive(Debug)]
pub enum Out {
    /// A message is to be sent.
    Send(Address, Message),
    /// The journal of the quorum has something to sync.
    JournalSync,
    /// The logs have something to sync.
    LogSync,
    /// The process cannot go on, and has to be started again.
    Exit(&'static str),
}

/// What happens to a process.
#[derive(Debug)]
pub enum Input {
    /// The clock strikes.
    Tick,
    /// A message has come.
    Message(Address, Message),
    /// The journal's sync has returned.
    JournalSynced,
    /// The logs' sync has returned.
    LogSynced,
    /// Time has passed for the logs.
    LogsDue,
}

/// What a process works with while it handles an input.
pub struct Env<'a> {
    /// The true virtual time.
    pub now_us: u64,
    /// Chance.
    pub random: &'a mut Random,
    /// The journal of the quorum.
    pub journal: &'a mut QuorumJournal,
    /// The partitions' logs.
    pub store: &'a mut Logs,
    /// Who knows what is right.
    pub oracle: &'a mut Oracle,
    /// What is told of the run.
    pub trace: &'a mut Trace,
    /// What is to be done afterwards.
    pub out: &'a mut Vec<Out>,
}

/// How far a process is with being a broker of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Registration {
    /// Not yet in the metadata.
    Unknown,
    /// With this broker epoch.
    Registered(i64),
}

/// See the module.
pub struct Process {
    /// Which broker.
    pub id: BrokerId,
    /// New for every life.
    pub incarnation_id: Uuid,
    settings: Settings,
    clock: Clock,
    defaults: TopicDefaults,
    is_intact: bool,
    quorum: QuorumNode,
    image: MetadataImage,
    registration: Registration,
    next_heartbeat_ms: i64,
    controller: Controller,
    /// With whom, and by which connection.
    connected: BTreeMap<BrokerId, u64>,
    /// At whose address nobody listens, and since when. ms.
    gone: BTreeMap<BrokerId, i64>,
    /// To whom a snapshot of the quorum is under way.
    snapshots_sent: BTreeSet<BrokerId>,
    partitions: BTreeMap<TopicIdPartition, Partition>,
    /// The logs that there were at the start can be worked with.
    has_logs: bool,
    /// Logs that are being made.
    creating: BTreeSet<TopicIdPartition>,
    /// What has to be waited for, by the ticket that the logs gave.
    awaited: BTreeMap<u64, Awaited>,
    next_maintenance_ms: i64,
    group_token: u64,
}

impl Process {
    /// Starts a broker from what is on its disks; `is_intact` says whether the logs have everything that was acknowledged.
    pub fn start(
        id: BrokerId,
        settings: Settings,
        clock: Clock,
        is_intact: bool,
        seed: u64,
        env: &mut Env<'_>,
    ) -> Self {
        let recovered = env.journal.recover();
        let config = QuorumConfig {
            me: id,
            election_ticks: settings::ELECTION_TICKS,
            heartbeat_ticks: settings::QUORUM_HEARTBEAT_TICKS,
            message_bytes_max: 4_096,
            uncommitted_bytes_max: 1 << 20,
            seed,
        };
        let quorum = QuorumNode::new(config, &recovered).expect("a crash leaves a sound journal");
        let data = recovered.snapshot.map(|snapshot| snapshot.data).unwrap_or_default();
        let mut process = Process {
            id,
            incarnation_id: Uuid::from_u64_pair(env.random.bits(), env.random.bits()),
            settings,
            clock,
            defaults: TopicDefaults::default(),
            is_intact,
            quorum,
            image: metadata::decode_image(&data),
            registration: Registration::Unknown,
            next_heartbeat_ms: 0,
            controller: Controller::default(),
            connected: BTreeMap::new(),
            gone: BTreeMap::new(),
            snapshots_sent: BTreeSet::new(),
            partitions: BTreeMap::new(),
            has_logs: false,
            creating: BTreeSet::new(),
            awaited: BTreeMap::new(),
            next_maintenance_ms: 0,
            group_token: 0,
        };
        process.after_input(env);
        process
    }

    /// Takes an input, and does what follows from it.
    pub fn handle(&mut self, input: Input, env: &mut Env<'_>) {
        match input {
            Input::Tick => self.tick(env),
            Input::JournalSynced => {
                if let Some(number) = env.journal.end_sync() {
                    self.quorum.persisted(number);
                }
            }
            Input::LogSynced => env.store.end_sync(),
            // What follows is told when the logs are run.
            Input::LogsDue => {}
            Input::Message(from, message) => self.receive(from, message, env),
        }
        self.after_input(env);
    }

    fn after_input(&mut self, env: &mut Env<'_>) {
        loop {
            self.carry_out_quorum(env);
            self.control(env);
            self.carry_out_quorum(env);
            self.pump(env);
            let events = env.store.run();
            if events.is_empty() {
                break;
            }
            events.into_iter().for_each(|event| self.logs_tell(event, env));
        }
        if env.journal.begin_sync() {
            env.out.push(Out::JournalSync);
        }
        let generation = |id| self.partitions.get(&id).map(|partition| partition.replica.log().generation());
        if env.store.begin_sync(generation) {
            env.out.push(Out::LogSync);
        }
    }

    fn tick(&mut self, env: &mut Env<'_>) {
        self.quorum.tick();
        if self.quorum.entries_since_snapshot() > settings::SNAPSHOT_ENTRIES {
            self.quorum.snapshot_taken(metadata::encode_image(&self.image));
        }
        let now_ms = self.now_ms(env);
        if now_ms >= self.next_heartbeat_ms {
            self.next_heartbeat_ms = now_ms + settings::HEARTBEAT_MS;
            self.tell_controller(env);
        }
        if now_ms >= self.next_maintenance_ms && self.has_logs {
            self.next_maintenance_ms = now_ms + settings::MAINTENANCE_MS;
            env.store.maintain(now_ms);
        }
        self.expire_sessions(now_ms);
        self.admit_learners();
        self.tick_replicas(env);
        self.tick_groups(env);
    }

    /// Brokers that are no controllers receive the metadata as learners of the quorum.
    fn admit_learners(&mut self) {
        let brokers = (settings::CONTROLLERS..self.settings.brokers).map(BrokerId);
        let learners = &self.quorum.members().learners;
        let missing: Vec<BrokerId> = brokers.filter(|id| !learners.contains(id)).collect();
        if let Some(id) = missing.first().filter(|_| self.quorum.may_decide()) {
            // Another change may be under way: the next tick tries again.
            let _ = self.quorum.change_members(MemberChange::AddLearner(*id));
        }
    }

    /// Registers, or says that this broker is alive.
    fn tell_controller(&mut self, env: &mut Env<'_>) {
        let command = match self.registration {
            Registration::Unknown => Command::Register {
                command: RegisterBroker {
                    id: self.id,
                    incarnation_id: self.incarnation_id,
                    rack: None,
                    endpoints: Vec::new(),
                    fenced: true,
                },
                is_intact: self.is_intact,
            },
            // Who has no logs yet takes part in nothing.
            Registration::Registered(_) if !self.has_logs => return,
            Registration::Registered(broker_epoch) => Command::Heartbeat(BrokerHeartbeat {
                broker: self.id,
                broker_epoch,
                metadata_offset: self.image.next_offset() - 1,
                wants_fence: false,
                wants_shutdown: false,
            }),
        };
        self.command(command, env);
    }

    /// Sends a command to whom this node takes for the active controller.
    fn command(&mut self, command: Command, env: &mut Env<'_>) {
        let leader = self.quorum.leader();
        if leader.is_some() {
            self.send(leader, Message::Command(command), env);
        }
    }

    fn send(&mut self, to: BrokerId, message: Message, env: &mut Env<'_>) {
        if to == self.id || self.connected.contains_key(&to) {
            env.out.push(Out::Send(Address::Broker(to), message));
        }
    }

    fn receive(&mut self, from: Address, message: Message, env: &mut Env<'_>) {
        match (from, message) {
            (Address::Broker(peer), Message::Opened(connection)) => {
                self.connected.insert(peer, connection);
                self.gone.remove(&peer);
                self.channels_opened(peer, env);
            }
            (Address::Broker(peer), Message::Closed(connection)) => {
                // The next connection may have been set up before this process heard of the end of the last one.
                if self.connected.get(&peer).is_none_or(|newest| *newest <= connection) {
                    self.connected.remove(&peer);
                }
                if self.snapshots_sent.remove(&peer) {
                    self.quorum.snapshot_sent(peer, false);
                }
                self.quorum.disconnected(peer);
            }
            (Address::Broker(peer), Message::Unreachable(is_refused)) => {
                let now_ms = self.now_ms(env);
                if is_refused && !self.connected.contains_key(&peer) {
                    self.gone.entry(peer).or_insert(now_ms);
                    self.quorum.gone(peer);
                } else {
                    self.gone.remove(&peer);
                }
            }
            (Address::Broker(peer), Message::Quorum(bytes)) => self.quorum_received(peer, &bytes, env),
            (Address::Broker(peer), Message::SnapshotArrived) => {
                self.snapshots_sent.remove(&peer);
                self.quorum.snapshot_sent(peer, true);
            }
            (Address::Broker(peer), Message::Append { partition, append, consumers_from, batches }) => {
                let arrived = Arrived { from: peer, append, consumers_from, batches };
                self.enqueue(partition, Work::Append(arrived), env);
            }
            (Address::Broker(peer), Message::Reply { partition, reply }) => {
                self.replied(partition, peer, &reply, env);
            }
            (Address::Broker(peer), Message::Command(command)) => {
                self.command_received(Asker::Broker(peer), command);
            }
            (_, Message::Outcome(outcome)) => self.outcome_received(outcome, env),
            (from, Message::Request(number, request)) => self.serve(from, number, request, env),
            (_, message) => unreachable!("nobody sends {message:?} here"),
        }
    }

    fn outcome_received(&mut self, outcome: Outcome, env: &mut Env<'_>) {
        match outcome {
            Outcome::BrokerStale => env.out.push(Out::Exit("another process has registered")),
            Outcome::AlterRefused { partition, leader_epoch, partition_epoch, refusal } => {
                self.input(partition, env, |replica, now_ms, effects| {
                    replica.alter_refused(leader_epoch, partition_epoch, refusal, now_ms, effects);
                });
            }
            Outcome::Refused(error) => {
                env.trace.note(|| format!("broker {} is refused something: {error}", self.id));
            }
            Outcome::Done | Outcome::NotController => {}
        }
    }

    fn now_ms(&self, env: &Env<'_>) -> i64 {
        self.clock.now_ms(env.now_us)
    }

    /// The last entry of the quorum's log that it has replayed.
    pub fn applied_index(&self) -> u64 {
        self.quorum.applied().index
    }
}
