//! What members have in common that share the data partitions: where their coordinator is, what each of them owns, and what it does as the owner.

use std::collections::BTreeSet;

use coord::types::{BrokerId, LeaderEpoch};
use protocol::ErrorCode;
use storage::TopicIdPartition;

use super::{Base, ClientEnv};
use crate::simulator::message::{ClusterMetadata, OFFSETS_TOPIC, OffsetOf, Request, Response};
use crate::simulator::oracle::Oracle;
use crate::simulator::settings;

/// A member drops everything so long before the coordinator may take it for dead: clocks go differently fast. µs.
const CAUTION_US: u64 = 45_000;
/// Between two heartbeats, at least. µs.
const HEARTBEAT_US: u64 = 80_000;

/// Partitions of one owner.
pub(super) type Owned = BTreeSet<TopicIdPartition>;

/// The partition in which a group lives, and who leads it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Home {
    pub id: TopicIdPartition,
    pub leader: BrokerId,
}

impl Home {
    /// In the partition of that index of `__consumer_offsets`, as far as it is known.
    pub fn find(metadata: &ClusterMetadata, index: usize) -> Option<Home> {
        let mut partitions = metadata.partitions.iter().filter(|partition| partition.topic == OFFSETS_TOPIC);
        let home = partitions.nth(index)?;
        home.leader.is_some().then_some(Home { id: home.id, leader: home.leader })
    }
}

/// A question to a coordinator.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<W> {
    pub asked_us: u64,
    /// Of the coordinator at that time. One that has been replaced and does not know it yet tells old news.
    pub epoch: LeaderEpoch,
    /// Which broker was asked, and over which connection.
    pub to: (BrokerId, Option<u64>),
    pub what: W,
}

impl<W> Base<Question<W>> {
    pub(super) fn ask_coordinator(&mut self, what: W, home: Home, request: Request, env: &mut ClientEnv<'_>) {
        let question = Question {
            asked_us: env.now_us,
            epoch: env.leader_epoch(home.id),
            to: (home.leader, env.connection(home.leader)),
            what,
        };
        self.ask(home.leader, question, request, env);
    }
}

impl<W> Question<W> {
    /// The same question, told otherwise.
    pub fn with<V>(&self, what: V) -> Question<V> {
        Question { asked_us: self.asked_us, epoch: self.epoch, to: self.to, what }
    }
}

/// What an owner asks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    Commit(TopicIdPartition, i64),
    Fetch(TopicIdPartition),
}

/// What one member owns.
#[derive(Debug)]
pub(super) struct Share {
    pub group: &'static str,
    /// Which member of the group.
    pub number: usize,
    owned: Owned,
}

impl Share {
    pub fn new(group: &'static str, number: usize) -> Self {
        Share { group, number, owned: Owned::new() }
    }

    pub fn owned(&self) -> &Owned {
        &self.owned
    }

    /// Owns these from now on, and nothing else.
    pub fn owns(&mut self, owned: Owned, env: &mut ClientEnv<'_>) {
        self.owned = owned;
        env.oracle.owns(self.group, self.number, &self.owned);
    }

    pub fn drop_all(&mut self, env: &mut ClientEnv<'_>) {
        self.owns(Owned::new(), env);
    }

    /// Commits an offset of a partition that it owns, in the name of that member and its epoch, or looks for the one that is committed.
    pub fn work(
        &self,
        metadata: &ClusterMetadata,
        home: TopicIdPartition,
        member: (&str, i32),
        env: &mut ClientEnv<'_>,
    ) -> Option<(Work, Request)> {
        let owned: Vec<TopicIdPartition> = self.owned.iter().copied().collect();
        let id = env.random.pick(&owned).copied()?;
        let topic = metadata.partition(id)?.topic.clone();
        let of = OffsetOf { home, group: self.group.to_owned(), topic, partition: id.partition.0 };
        if env.is_ending || env.random.one_in(3) {
            return Some((Work::Fetch(id), Request::FetchOffset(of)));
        }
        let offset = env.oracle.offset_to_commit(self.group, id);
        let member = Some((member.0.to_owned(), member.1));
        Some((Work::Commit(id, offset), Request::CommitOffset(of, offset, member)))
    }

    /// What is missing while not every partition has an owner in the group.
    pub fn unfinished(&self, metadata: &ClusterMetadata, oracle: &Oracle) -> Option<String> {
        let (owned, all) = (oracle.owned_partitions(self.group), metadata.data_partitions().count());
        (owned != all)
            .then(|| format!("of {all} partitions {owned} have an owner in the group {}", self.group))
    }

    /// What has come of it. Answers whether that is known.
    pub fn worked(&self, question: &Question<Work>, response: &Response, env: &mut ClientEnv<'_>) -> bool {
        match (question.what, response) {
            (Work::Commit(id, offset), Response::OffsetCommitted(ErrorCode::NONE)) => {
                if self.owned.contains(&id) {
                    env.oracle.offset_committed(self.group, id, offset);
                }
                true
            }
            (Work::Fetch(id), Response::Offset(found, epoch)) if *epoch >= question.epoch => {
                if self.owned.contains(&id) {
                    env.oracle.offset_found(self.group, id, *found);
                }
                true
            }
            _ => false,
        }
    }
}

/// Whether the coordinator may soon take a member for dead that it heard then, or may have. µs.
pub(super) fn is_silent(heard_us: u64, now_us: u64) -> bool {
    now_us + CAUTION_US > heard_us + settings::GROUP_SESSION_MS as u64 * 1_000
}

/// When the next heartbeat is due after one that is sent now. µs.
pub(super) fn next_heartbeat_us(env: &mut ClientEnv<'_>) -> u64 {
    env.now_us + env.random.between(HEARTBEAT_US, 2 * HEARTBEAT_US)
}

/// When a member's clock strikes next: often enough to notice in time that nobody hears it. µs.
pub(super) fn next_turn_us(env: &mut ClientEnv<'_>) -> u64 {
    env.now_us + env.random.between(10_000, 30_000)
}
