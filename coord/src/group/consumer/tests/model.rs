//! Random groups of honest members, against what must hold at every moment.
//!
//! A client of the new protocol is honest: it gives partitions up before it says that it has, uses nothing that it was not given, drops everything when it is
//! fenced, and sends heartbeats as long as it lives. Answers get lost, appends are refused, members die, leave and come back, topics come,
//! grow and go, the coordinator crashes. Clients of the classic protocol, eager ones, come to the same group.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::ConsumerGroupState;
use super::classic::Joining;
use super::*;
use crate::group::ConsumerGroupMigrationPolicy;

const CLIENTS: usize = 6;
const CLASSIC_CLIENTS: usize = 3;
const TOPICS: [&str; 4] = ["ant", "bee", "cat", "dog"];
/// How often clients send heartbeats, in ms.
const INTERVAL_MS: i64 = 5_000;

/// What a client wants.
#[derive(Debug, Clone, PartialEq)]
enum Wish {
    Names(Vec<usize>),
    Regex(&'static str),
}

#[derive(Debug, Clone)]
enum Step {
    /// A client starts, if it does not run.
    Start(usize, Wish, bool),
    /// A client leaves properly (a static one for a while).
    Leave(usize),
    /// A client dies.
    Kill(usize),
    /// A client sends a heartbeat; the answer may get lost.
    Heartbeat(usize, bool),
    /// A client sends a heartbeat whose records cannot be appended.
    Refused(usize),
    /// A client does what it was told: gives up partitions, takes on others.
    Apply(usize),
    /// A client wants something else.
    Subscribe(usize, Wish),
    /// A classic client starts, if it does not run and the group has members.
    StartClassic(usize),
    /// A classic client sends a heartbeat, and joins again if it is told to.
    HeartbeatClassic(usize),
    /// A classic client leaves properly (true) or dies.
    StopClassic(usize, bool),
    /// A topic gets this many partitions more than before, or is deleted (0).
    Topic(usize, usize),
    /// Time passes: everybody who lives applies and sends heartbeats in time.
    Wait(i64),
    /// The coordinator crashes.
    Crash,
}

#[derive(Debug, Clone)]
struct Client {
    id: String,
    instance: Option<String>,
    wish: Wish,
    /// The wish that the coordinator has been told and has confirmed.
    told: Option<Wish>,
    epoch: i32,
    /// What the client uses.
    owned: Partitions,
    /// What it has been told to use, if it has not got around to it.
    assignment: Option<Partitions>,
    /// Whether the next request says everything: when joining, and after an answer did not come.
    full: bool,
}

/// An eager client of the classic protocol, which wants the first two topics.
#[derive(Debug, Clone, Default)]
struct ClassicClient {
    id: String,
    generation_id: i32,
    owned: Partitions,
    /// Whether it has to join (again) before it may go on.
    has_to_join: bool,
}

struct World {
    shell: Shell,
    clients: Vec<Option<Client>>,
    classic: Vec<Option<ClassicClient>>,
    /// How many lives each client has had; each has its own member id.
    lives: [usize; CLIENTS],
    epochs: (i32, i32),
}

impl World {
    fn new() -> Self {
        // A group of classic members alone stays what it is: what a classic group does is tested elsewhere.
        let config = GroupConfig {
            group_consumer_migration_policy: ConsumerGroupMigrationPolicy::Upgrade,
            ..GroupConfig::default()
        };
        World {
            shell: Shell::new(config, &[("ant", 3), ("bee", 5)]),
            clients: vec![None; CLIENTS],
            classic: vec![None; CLASSIC_CLIENTS],
            lives: [0; CLIENTS],
            epochs: (0, 0),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Start(index, wish, is_static) => self.start(*index, wish, *is_static),
            Step::Leave(index) => self.leave(*index),
            Step::Kill(index) => self.clients[*index] = None,
            Step::Heartbeat(index, lost) => self.heartbeat(*index, *lost, false),
            Step::Refused(index) => self.heartbeat(*index, false, true),
            Step::Apply(index) => self.apply(*index),
            Step::Subscribe(index, wish) => {
                if let Some(client) = &mut self.clients[*index] {
                    client.wish = wish.clone();
                }
            }
            Step::StartClassic(index) => {
                self.classic[*index]
                    .get_or_insert_with(|| ClassicClient { has_to_join: true, ..ClassicClient::default() });
                self.classic_heartbeat(*index);
            }
            Step::HeartbeatClassic(index) => self.classic_heartbeat(*index),
            Step::StopClassic(index, properly) => {
                let stopped =
                    self.classic[*index].take().filter(|client| *properly && self.has_member(&client.id));
                if let Some(client) = stopped {
                    self.shell.classic_leave(&client.id);
                }
            }
            Step::Topic(index, more) => self.topic(TOPICS[*index], *more),
            Step::Wait(ms) => self.wait(*ms),
            Step::Crash => self.shell.crash(),
        }
    }

    fn start(&mut self, index: usize, wish: &Wish, is_static: bool) {
        if self.clients[index].is_some() {
            return;
        }
        self.lives[index] += 1;
        self.clients[index] = Some(Client {
            id: format!("member-{index}-{}", self.lives[index]),
            instance: is_static.then(|| format!("instance-{index}")),
            wish: wish.clone(),
            told: None,
            epoch: 0,
            owned: Partitions::default(),
            assignment: None,
            full: true,
        });
        self.heartbeat(index, false, false);
    }

    fn leave(&mut self, index: usize) {
        let Some(client) = self.clients[index].take() else { return };
        if client.epoch > 0 {
            let epoch = if client.instance.is_some() { -2 } else { -1 };
            let instance_id = client.instance.map(Into::into);
            self.shell
                .send(1, &ConsumerGroupHeartbeatRequest { instance_id, ..heartbeat(&client.id, epoch) });
        }
    }

    fn heartbeat(&mut self, index: usize, lost: bool, refused: bool) {
        let Some(client) = &mut self.clients[index] else { return };
        if client.full {
            // The answer will say everything again.
            client.assignment = None;
        }
        let mut request = ConsumerGroupHeartbeatRequest {
            instance_id: client.instance.clone().map(Into::into),
            // Who is about to take on partitions does not say that it owns none: that would give them up.
            topic_partitions: client.assignment.is_none().then(|| by_topic(&client.owned)),
            ..heartbeat(&client.id, client.epoch)
        };
        if client.full || client.told.as_ref() != Some(&client.wish) {
            request.rebalance_timeout_ms = REBALANCE_TIMEOUT_MS;
            let (names, regex) = match &client.wish {
                Wish::Names(names) => (names.iter().map(|name| TOPICS[*name].into()).collect(), ""),
                Wish::Regex(regex) => (Vec::new(), *regex),
            };
            request.subscribed_topic_names = Some(names);
            request.subscribed_topic_regex = Some(regex.into());
        }
        let response = if refused { self.shell.send_in_vain(&request) } else { self.shell.send(1, &request) };
        let client = self.clients[index].as_mut().expect("it lives");
        if lost {
            client.full = true;
            return;
        }
        match ErrorCode(response.error_code) {
            ErrorCode::NONE => {
                assert!(response.member_epoch >= client.epoch, "the epoch of {} went back", client.id);
                client.epoch = response.member_epoch;
                client.told = Some(client.wish.clone());
                client.full = false;
                if let Some(assignment) = assigned(&response) {
                    client.assignment = Some(assignment);
                }
            }
            ErrorCode::FENCED_MEMBER_EPOCH | ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::GROUP_ID_NOT_FOUND => {
                client.owned = Partitions::default();
                client.assignment = None;
                client.epoch = 0;
                client.full = true;
            }
            // The instance's former life has to end first; or the coordinator has trouble.
            ErrorCode::UNRELEASED_INSTANCE_ID | ErrorCode::NOT_COORDINATOR => client.full = true,
            code => panic!("{code} for {request:?}: {:?}", response.error_message),
        }
    }

    /// Gives up what is to be given up, and takes on the rest. (Real clients take on what is new only when they have given up the rest,
    /// as this does in one step.)
    fn apply(&mut self, index: usize) {
        if let Some(client) = &mut self.clients[index]
            && let Some(assignment) = client.assignment.take()
        {
            client.owned = assignment;
        }
    }

    fn has_member(&self, member_id: &str) -> bool {
        match self.shell.coordinator.group(GROUP) {
            Some(Group::Consumer(group)) => group.members().contains_key(member_id),
            _ => false,
        }
    }

    /// A classic client does what its background thread and its next poll do, in one step.
    fn classic_heartbeat(&mut self, index: usize) {
        let Some(client) = &mut self.classic[index] else { return };
        if !client.has_to_join {
            match self.shell.classic_heartbeat(&client.id, client.generation_id) {
                ErrorCode::NONE => {}
                ErrorCode::REBALANCE_IN_PROGRESS => client.has_to_join = true,
                ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION => {
                    *client = ClassicClient { has_to_join: true, ..ClassicClient::default() };
                }
                code => panic!("{code} for the heartbeat of {client:?}"),
            }
        }
        if client.has_to_join {
            client.owned = Partitions::default();
            let has_members = match self.shell.coordinator.group(GROUP) {
                Some(Group::Consumer(group)) => !group.is_empty(),
                _ => false,
            };
            // Alone it would make a classic group.
            if has_members {
                self.classic_join(index);
            }
        }
    }

    fn classic_join(&mut self, index: usize) {
        let Some(client) = &mut self.classic[index] else { return };
        let joining = Joining { member_id: &client.id, topics: &TOPICS[..2], ..Joining::default() };
        let token = self.shell.classic_join(&joining);
        let joined = self.shell.joined(token).expect("a consumer group answers at once");
        assert_eq!(joined.error_code, 0);
        assert!(joined.generation_id >= client.generation_id, "the generation of {client:?} went back");
        client.id = joined.member_id.to_string();
        client.generation_id = joined.generation_id;
        let synchronized = self.shell.classic_sync(&joined, &[]);
        match ErrorCode(synchronized.error_code) {
            ErrorCode::NONE => {
                client.owned = self.shell.partitions_in(&synchronized);
                client.has_to_join = false;
            }
            ErrorCode::REBALANCE_IN_PROGRESS => {}
            code => panic!("{code} for the SyncGroup of {client:?}"),
        }
    }

    fn topic(&mut self, name: &str, more: usize) {
        match (self.shell.topics.get(name), more) {
            (Some(_), 0) => self.shell.delete_topic(name),
            (Some((_, partitions)), more) => self.shell.set_topic(name, (partitions + more).min(12)),
            (None, 0) => {}
            (None, more) => self.shell.set_topic(name, more),
        }
    }

    fn wait(&mut self, ms: i64) {
        let until_ms = self.shell.now_ms + ms;
        while self.shell.now_ms < until_ms {
            self.shell.advance(INTERVAL_MS.min(until_ms - self.shell.now_ms));
            for index in 0..CLIENTS {
                self.apply(index);
                self.heartbeat(index, false, false);
                self.check();
            }
            for index in 0..CLASSIC_CLIENTS {
                self.classic_heartbeat(index);
                self.check();
            }
        }
    }

    /// What must hold at every moment.
    fn check(&mut self) {
        let mut seen = BTreeSet::new();
        let consumers = self.clients.iter().flatten().map(|client| &client.owned);
        let classic = self.classic.iter().flatten().map(|client| &client.owned);
        for partition in consumers.chain(classic).flat_map(Partitions::iter) {
            assert!(seen.insert(partition), "two members use {partition}");
        }
        let Some(Group::Consumer(group)) = self.shell.coordinator.group(GROUP) else { return };
        let mut owned = BTreeSet::new();
        for (member_id, member) in group.members() {
            for partition in member.current.assigned.iter().chain(member.current.pending_revocation.iter()) {
                assert!(owned.insert(partition), "{partition} has two owners");
                assert_eq!(group.owner(partition), Some(member_id));
            }
            assert!(
                member.current.member_epoch <= group.assignment_epoch,
                "{member_id} is ahead of the targets"
            );
        }
        assert!(group.assignment_epoch <= group.group_epoch);
        let epochs = (group.group_epoch, group.assignment_epoch);
        assert!(epochs.0 >= self.epochs.0 && epochs.1 >= self.epochs.1, "epochs went back");
        self.epochs = epochs;
    }

    /// The log alone tells the same as what is in memory.
    fn check_recovery(&self) {
        let recovered = self.shell.recovered();
        match (self.shell.coordinator.group(GROUP), recovered.group(GROUP)) {
            (Some(Group::Consumer(live)), Some(Group::Consumer(recovered))) => assert_eq!(live, recovered),
            (None, None) => {}
            (live, recovered) => panic!("in memory {live:?}, in the log {recovered:?}"),
        }
    }

    /// When nothing happens any more, everybody comes to rest, and every partition that somebody wants is used.
    fn check_settles(&mut self) {
        // Former lives are over after a session, and so is everything that hung on them; regular expressions are looked at every ten seconds.
        self.wait(60_000 + 4 * INTERVAL_MS);
        if self.clients.iter().flatten().next().is_none() {
            // The classic ones would not start without somebody else.
            self.classic = vec![None; CLASSIC_CLIENTS];
            self.wait(i64::from(REBALANCE_TIMEOUT_MS));
        }
        let living = self.clients.iter().flatten().count() + self.classic.iter().flatten().count();
        let Some(Group::Consumer(group)) = self.shell.coordinator.group(GROUP) else {
            assert_eq!(living, 0);
            return;
        };
        assert_eq!(group.members().len(), living);
        let expected = if living == 0 { ConsumerGroupState::Empty } else { ConsumerGroupState::Stable };
        assert_eq!(group.state(), expected);
        let mut wanted = BTreeSet::new();
        for client in self.clients.iter().flatten() {
            let names: Vec<&str> = match &client.wish {
                Wish::Names(names) => names.iter().map(|name| TOPICS[*name]).collect(),
                Wish::Regex("[ab].*") => vec!["ant", "bee"],
                Wish::Regex(_) => vec!["cat", "dog"],
            };
            for name in names.into_iter().filter(|name| self.shell.topics.contains_key(*name)) {
                wanted.extend(self.shell.partitions(name, 0..self.shell.topics[name].1 as i32).iter());
            }
        }
        if self.classic.iter().flatten().next().is_some() {
            for name in TOPICS[..2].iter().filter(|name| self.shell.topics.contains_key(**name)) {
                wanted.extend(self.shell.partitions(name, 0..self.shell.topics[*name].1 as i32).iter());
            }
        }
        let consumers = self.clients.iter().flatten().map(|client| &client.owned);
        let classic = self.classic.iter().flatten().map(|client| &client.owned);
        let used: BTreeSet<_> = consumers.chain(classic).flat_map(Partitions::iter).collect();
        assert_eq!(used, wanted, "every partition that is wanted is used, and no other");
        let before = self.shell.log.len();
        self.wait(4 * INTERVAL_MS);
        assert_eq!(self.shell.log.len(), before, "what is at rest stays at rest");
    }
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        4 => Just(Wish::Names(vec![0, 1])),
        2 => prop::collection::btree_set(0..TOPICS.len(), 0..=TOPICS.len())
            .prop_map(|names| Wish::Names(names.into_iter().collect())),
        1 => prop_oneof![Just(Wish::Regex("[ab].*")), Just(Wish::Regex("cat|dog"))],
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let client = || 0..CLIENTS;
    prop_oneof![
        6 => (client(), wish(), prop::bool::weighted(0.3)).prop_map(|(index, wish, is_static)| Step::Start(index, wish, is_static)),
        2 => client().prop_map(Step::Leave),
        1 => client().prop_map(Step::Kill),
        8 => (client(), prop::bool::weighted(0.2)).prop_map(|(index, lost)| Step::Heartbeat(index, lost)),
        1 => client().prop_map(Step::Refused),
        6 => client().prop_map(Step::Apply),
        1 => (client(), wish()).prop_map(|(index, wish)| Step::Subscribe(index, wish)),
        1 => (0..CLASSIC_CLIENTS).prop_map(Step::StartClassic),
        2 => (0..CLASSIC_CLIENTS).prop_map(Step::HeartbeatClassic),
        1 => (0..CLASSIC_CLIENTS, any::<bool>()).prop_map(|(index, properly)| Step::StopClassic(index, properly)),
        1 => (0..TOPICS.len(), 0usize..4).prop_map(|(topic, more)| Step::Topic(topic, more)),
        2 => prop_oneof![Just(1_000), Just(11_000), Just(50_000)].prop_map(Step::Wait),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #[test]
    fn no_partition_has_two_users_and_in_the_end_each_has_one(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
        world.check_recovery();
        world.check_settles();
        world.check_recovery();
    }
}
