//! Members of one group that share the data partitions among themselves (KIP-848), and commit offsets of what they own.
//!
//! A member is honest: it gives partitions up before it says that it has, uses nothing that it was not given, and drops everything when it is fenced, or has not
//! been heard for as long as a session lasts. So a partition has one owner at any time.

use std::collections::BTreeSet;

use coord::types::{BrokerId, LeaderEpoch};
use protocol::ErrorCode;
use storage::TopicIdPartition;

use super::{Base, ClientEnv};
use crate::simulator::message::{GroupHeartbeat, OFFSETS_TOPIC, OffsetOf, Request, Response};
use crate::simulator::oracle::Oracle;
use crate::simulator::settings;

/// The group of all of them.
const GROUP: &str = "sharers";
/// A member drops everything so long before the coordinator may take it for dead: clocks go differently fast. µs.
const CAUTION_US: u64 = 45_000;
/// Between two heartbeats, at least. µs.
const HEARTBEAT_US: u64 = 80_000;

type Owned = BTreeSet<TopicIdPartition>;

#[derive(Debug, Clone, Copy)]
struct Question {
    /// In which life of the member.
    life: u64,
    asked_us: u64,
    /// Of the coordinator at that time. One that has been replaced and does not know it yet tells old news.
    epoch: LeaderEpoch,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Heartbeat,
    Commit(TopicIdPartition, i64),
    Fetch(TopicIdPartition),
}

/// See the module.
#[derive(Debug)]
pub struct Sharer {
    number: usize,
    base: Base<Question>,
    /// Each life has a member id of its own.
    life: u64,
    member_epoch: i32,
    owned: Owned,
    /// What it has been told to own, if it has not got around to it.
    assignment: Option<Owned>,
    /// The next heartbeat says everything: when joining, and after an answer did not come.
    says_all: bool,
    /// When the last heartbeat was sent that was answered. µs.
    heard_us: u64,
    next_heartbeat_us: u64,
    /// It does nothing before: between two lives. µs.
    rests_until_us: u64,
}

impl Sharer {
    /// The member of that number.
    pub fn new(number: usize) -> Self {
        Sharer {
            number,
            base: Base::default(),
            life: 1,
            member_epoch: 0,
            owned: Owned::new(),
            assignment: None,
            says_all: true,
            heard_us: 0,
            next_heartbeat_us: 0,
            rests_until_us: 0,
        }
    }

    fn member_id(&self) -> String {
        format!("member-{}-{}", self.number, self.life)
    }

    pub(super) fn turn(&mut self, env: &mut ClientEnv<'_>) -> u64 {
        self.base.refresh(env);
        if !self.base.timed_out(env.now_us).is_empty() {
            self.base.wants_metadata = true;
            self.says_all = true;
            self.assignment = None;
        }
        let session_us = settings::GROUP_SESSION_MS as u64 * 1_000;
        if self.member_epoch > 0 && env.now_us + CAUTION_US > self.heard_us + session_us {
            self.begin_life(env);
        }
        if env.now_us >= self.rests_until_us {
            self.act(env);
        }
        // Often enough to notice in time that nobody hears it.
        env.now_us + env.random.between(10_000, 30_000)
    }

    fn act(&mut self, env: &mut ClientEnv<'_>) {
        if !env.is_ending && self.member_epoch > 0 && env.random.one_in(300) {
            return self.end_life(env);
        }
        if env.random.one_in(3)
            && let Some(assignment) = self.assignment.take()
        {
            self.owned = assignment;
            env.oracle.owns(self.number, &self.owned);
        }
        if !self.base.asked.is_empty() {
            return;
        }
        let Some((home, leader)) = self.home() else {
            self.base.wants_metadata = true;
            return;
        };
        if env.now_us >= self.next_heartbeat_us {
            self.next_heartbeat_us = env.now_us + env.random.between(HEARTBEAT_US, 2 * HEARTBEAT_US);
            return self.send_heartbeat(self.member_epoch, home, leader, env);
        }
        let owned: Vec<TopicIdPartition> = self.owned.iter().copied().collect();
        if let Some(id) = env.random.pick(&owned).copied()
            && self.assignment.is_none()
        {
            self.work(id, home, leader, env);
        }
    }

    /// The partition in which the group lives, and who leads it.
    fn home(&self) -> Option<(TopicIdPartition, BrokerId)> {
        let mut partitions = self.base.metadata.partitions.iter();
        let home = partitions.rfind(|partition| partition.topic == OFFSETS_TOPIC)?;
        home.leader.is_some().then_some((home.id, home.leader))
    }

    fn ask(
        &mut self,
        what: What,
        (home, leader): (TopicIdPartition, BrokerId),
        request: Request,
        env: &mut ClientEnv<'_>,
    ) {
        let topic = env.oracle.truth.topic_by_id(home.topic_id);
        let epoch = topic.and_then(|topic| topic.partition(home.partition)).map(|state| state.leader_epoch);
        let question = Question {
            life: self.life,
            asked_us: env.now_us,
            epoch: epoch.unwrap_or(LeaderEpoch::UNKNOWN),
            what,
        };
        self.base.ask(leader, question, request, env);
    }

    fn send_heartbeat(
        &mut self,
        member_epoch: i32,
        home: TopicIdPartition,
        leader: BrokerId,
        env: &mut ClientEnv<'_>,
    ) {
        if self.says_all {
            // The answer will say everything again.
            self.assignment = None;
        }
        let heartbeat = GroupHeartbeat {
            home,
            group: GROUP.to_owned(),
            member_id: self.member_id(),
            member_epoch,
            // Who is about to take on partitions does not say that it owns none: that would give them up.
            owned: self.assignment.is_none().then(|| self.owned.iter().copied().collect()),
            says_all: self.says_all,
        };
        self.ask(What::Heartbeat, (home, leader), Request::GroupHeartbeat(heartbeat), env);
    }

    /// Commits an offset of a partition that it owns, or looks for the one that is committed.
    fn work(
        &mut self,
        id: TopicIdPartition,
        home: TopicIdPartition,
        leader: BrokerId,
        env: &mut ClientEnv<'_>,
    ) {
        let Some(topic) = self.base.metadata.partition(id).map(|partition| partition.topic.clone()) else {
            return;
        };
        let of = OffsetOf { home, group: GROUP.to_owned(), topic, partition: id.partition.0 };
        if env.random.one_in(3) {
            return self.ask(What::Fetch(id), (home, leader), Request::FetchOffset(of), env);
        }
        let offset = env.oracle.offset_to_commit(id);
        let member = Some((self.member_id(), self.member_epoch));
        self.ask(What::Commit(id, offset), (home, leader), Request::CommitOffset(of, offset, member), env);
    }

    /// It leaves, or dies without a word, and comes back as somebody else.
    fn end_life(&mut self, env: &mut ClientEnv<'_>) {
        if env.random.one_in(2)
            && let Some((home, leader)) = self.home()
        {
            self.owned.clear();
            env.oracle.owns(self.number, &self.owned);
            self.send_heartbeat(-1, home, leader, env);
        }
        self.begin_life(env);
        self.rests_until_us = env.now_us + env.random.between(10_000, 2_000_000);
    }

    fn begin_life(&mut self, env: &mut ClientEnv<'_>) {
        env.oracle.count("lives of members", 1);
        self.life += 1;
        self.base.asked.clear();
        self.drop_all(env);
    }

    fn drop_all(&mut self, env: &mut ClientEnv<'_>) {
        self.member_epoch = 0;
        self.owned.clear();
        env.oracle.owns(self.number, &self.owned);
        self.assignment = None;
        self.says_all = true;
    }

    pub(super) fn response(&mut self, number: u64, response: &Response, env: &mut ClientEnv<'_>) {
        let Some(question) = self.base.answered(number, response) else { return };
        if question.life != self.life {
            return;
        }
        match (question.what, response) {
            (What::Heartbeat, Response::GroupHeartbeat(answer, epoch)) if *epoch >= question.epoch => {
                match answer {
                    Ok((member_epoch, assignment)) => {
                        self.accepted(&question, *member_epoch, assignment, env)
                    }
                    Err(
                        ErrorCode::FENCED_MEMBER_EPOCH
                        | ErrorCode::UNKNOWN_MEMBER_ID
                        | ErrorCode::GROUP_ID_NOT_FOUND,
                    ) => {
                        env.oracle.count("members fenced", 1);
                        self.drop_all(env);
                    }
                    Err(_) => self.says_all = true,
                }
            }
            (What::Commit(id, offset), Response::OffsetCommitted(ErrorCode::NONE)) => {
                if self.owned.contains(&id) {
                    env.oracle.offset_committed(id, offset);
                }
            }
            (What::Fetch(id), Response::Offset(Ok((found, epoch)))) if *epoch >= question.epoch => {
                if self.owned.contains(&id) {
                    env.oracle.offset_found(id, *found);
                }
            }
            (What::Heartbeat, _) => {
                self.says_all = true;
                self.base.wants_metadata = true;
            }
            _ => self.base.wants_metadata = true,
        }
    }

    fn accepted(
        &mut self,
        question: &Question,
        member_epoch: i32,
        assignment: &Option<Vec<TopicIdPartition>>,
        env: &mut ClientEnv<'_>,
    ) {
        if member_epoch < self.member_epoch {
            let text = format!("the epoch of {} goes back to {member_epoch}", self.member_id());
            env.oracle.fail(None, text);
        }
        self.member_epoch = member_epoch;
        self.heard_us = question.asked_us;
        self.says_all = false;
        if let Some(assignment) = assignment {
            env.oracle.count("assignments", 1);
            self.assignment = Some(assignment.iter().copied().collect());
        }
    }

    pub(super) fn unfinished(&self, oracle: &Oracle) -> Option<String> {
        let owned = oracle.owned_partitions();
        let all = self.base.metadata.data_partitions().count();
        (owned != all).then(|| format!("of {all} partitions {owned} have an owner in the group"))
    }
}
