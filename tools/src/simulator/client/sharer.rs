//! Members of one group that share the data partitions among themselves (KIP-848), and commit offsets of what they own.
//!
//! A member is honest: it gives partitions up before it says that it has, uses nothing that it was not given, and drops everything when it is fenced, or has not
//! been heard for as long as a session lasts. So a partition has one owner at any time.

use protocol::ErrorCode;
use storage::TopicIdPartition;

use super::share::{Home, Owned, Question, Share, Work, is_silent, next_heartbeat_us, next_turn_us};
use super::{Base, ClientEnv};
use crate::simulator::message::{GroupHeartbeat, Request, Response};
use crate::simulator::oracle::Oracle;

/// The group of all of them.
const GROUP: &str = "sharers";
/// The partition of `__consumer_offsets` in which it lives.
const HOME: usize = 1;

#[derive(Debug, Clone, Copy)]
enum What {
    Heartbeat,
    Work(Work),
}

/// See the module.
#[derive(Debug)]
pub struct Sharer {
    share: Share,
    base: Base<Question<What>>,
    /// Each life has a member id of its own.
    life: u64,
    member_epoch: i32,
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
            share: Share::new(GROUP, number),
            base: Base::default(),
            life: 1,
            member_epoch: 0,
            assignment: None,
            says_all: true,
            heard_us: 0,
            next_heartbeat_us: 0,
            rests_until_us: 0,
        }
    }

    fn member_id(&self) -> String {
        format!("member-{}-{}", self.share.number, self.life)
    }

    pub(super) fn turn(&mut self, env: &mut ClientEnv<'_>) -> u64 {
        self.base.refresh(env);
        if !self.base.timed_out(env.now_us).is_empty() {
            self.base.wants_metadata = true;
            self.says_all = true;
            self.assignment = None;
        }
        if self.member_epoch > 0 && is_silent(self.heard_us, env.now_us) {
            self.begin_life(env);
        }
        if env.now_us >= self.rests_until_us {
            self.act(env);
        }
        next_turn_us(env)
    }

    fn act(&mut self, env: &mut ClientEnv<'_>) {
        if !env.is_ending && self.member_epoch > 0 && env.random.one_in(300) {
            return self.end_life(env);
        }
        if env.random.one_in(3)
            && let Some(assignment) = self.assignment.take()
        {
            self.share.owns(assignment, env);
        }
        if !self.base.asked.is_empty() {
            return;
        }
        let Some(home) = self.home() else {
            self.base.wants_metadata = true;
            return;
        };
        if env.now_us >= self.next_heartbeat_us {
            self.next_heartbeat_us = next_heartbeat_us(env);
            return self.send_heartbeat(self.member_epoch, home, env);
        }
        if self.assignment.is_some() {
            return;
        }
        let member_id = self.member_id();
        let member = (&*member_id, self.member_epoch);
        if let Some((work, request)) = self.share.work(&self.base.metadata, home.id, member, env) {
            self.base.ask_coordinator(What::Work(work), home, request, env);
        }
    }

    fn home(&self) -> Option<Home> {
        Home::find(&self.base.metadata, HOME)
    }

    fn send_heartbeat(&mut self, member_epoch: i32, home: Home, env: &mut ClientEnv<'_>) {
        if self.says_all {
            // The answer will say everything again.
            self.assignment = None;
        }
        let heartbeat = GroupHeartbeat {
            home: home.id,
            group: GROUP.to_owned(),
            member_id: self.member_id(),
            member_epoch,
            // Who is about to take on partitions does not say that it owns none: that would give them up.
            owned: self.assignment.is_none().then(|| self.share.owned().iter().copied().collect()),
            says_all: self.says_all,
        };
        self.base.ask_coordinator(What::Heartbeat, home, Request::GroupHeartbeat(heartbeat), env);
    }

    /// It leaves, or dies without a word, and comes back as somebody else.
    fn end_life(&mut self, env: &mut ClientEnv<'_>) {
        if env.random.one_in(2)
            && let Some(home) = self.home()
        {
            self.share.drop_all(env);
            self.send_heartbeat(-1, home, env);
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
        self.share.drop_all(env);
        self.assignment = None;
        self.says_all = true;
    }

    pub(super) fn response(&mut self, number: u64, response: &Response, env: &mut ClientEnv<'_>) {
        let Some(question) = self.base.answered(number, response) else { return };
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
            (What::Heartbeat, _) => {
                self.says_all = true;
                self.base.wants_metadata = true;
            }
            (What::Work(work), response) => {
                let is_answered = self.share.worked(&question.with(work), response, env);
                self.base.wants_metadata |= !is_answered;
            }
        }
    }

    fn accepted(
        &mut self,
        question: &Question<What>,
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
        self.share.unfinished(&self.base.metadata, oracle)
    }
}
