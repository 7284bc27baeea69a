//! Members of one group of the classic protocol that share the data partitions among themselves, eagerly: each gives everything up before it joins again, and the
//! leader of the generation assigns.
//!
//! A member is as honest as a [`super::Sharer`]. It owns nothing before it was heard in its generation: how long a session lasts from then on it knows. And it
//! waits for what it has asked, also for long, unless the connection breaks; once faults have ended it waits for ever, so that a request that is forgotten is noticed.

use protocol::ErrorCode;

use super::assignment::{Assignment, assign};
use super::share::{Home, Owned, Question, Share, Work, is_silent, next_heartbeat_us, next_turn_us};
use super::{Base, ClientEnv};
use crate::simulator::message::{ClassicAnswer, ClassicRequest, ClassicWish, Generation, Request, Response};
use crate::simulator::oracle::Oracle;
use crate::simulator::settings;

/// The group of all of them.
const GROUP: &str = "classics";
/// The partition of `__consumer_offsets` in which it lives.
const HOME: usize = 0;
/// How long it waits for others to join, or for their leader. µs.
const WAIT_TIMEOUT_US: u64 = settings::REBALANCE_TIMEOUT_MS as u64 * 1_000 + settings::REQUEST_TIMEOUT_US;

#[derive(Debug, Clone, Copy)]
enum What {
    Join,
    Sync,
    Heartbeat,
    Leave,
    Work(Work),
}

impl What {
    /// Whether the answer may depend on other members.
    fn waits_for_others(self) -> bool {
        matches!(self, What::Join | What::Sync)
    }
}

/// See the module.
#[derive(Debug)]
pub struct ClassicMember {
    share: Share,
    base: Base<Question<What>>,
    /// Empty if it has none.
    member_id: String,
    /// That it belongs to; `None` if it has to join.
    generation: Option<Generation>,
    has_synced: bool,
    /// What it has been told to own, if it has not got around to it.
    assignment: Option<Owned>,
    /// Whether it was heard in its generation.
    is_heard: bool,
    /// When the last heartbeat was sent that was answered, or it joined. µs.
    heard_us: u64,
    next_heartbeat_us: u64,
    /// The last generation in which it was given something.
    last_generation: i32,
    /// It does nothing before: between two lives. µs.
    rests_until_us: u64,
}

impl ClassicMember {
    /// The member of that number.
    pub fn new(number: usize) -> Self {
        ClassicMember {
            share: Share::new(GROUP, number),
            base: Base::default(),
            member_id: String::new(),
            generation: None,
            has_synced: false,
            assignment: None,
            is_heard: false,
            heard_us: 0,
            next_heartbeat_us: 0,
            last_generation: 0,
            rests_until_us: 0,
        }
    }

    pub(super) fn turn(&mut self, env: &mut ClientEnv<'_>) -> u64 {
        self.base.refresh(env);
        self.give_up_requests(env);
        if self.generation.is_some() && is_silent(self.heard_us, env.now_us) {
            self.drop_all(env);
        }
        if env.now_us >= self.rests_until_us {
            self.act(env);
        }
        next_turn_us(env)
    }

    /// What was asked over a connection that has broken is not answered any more. Other requests have their time, in which members grow impatient now and then.
    fn give_up_requests(&mut self, env: &mut ClientEnv<'_>) {
        let (now_us, is_ending) = (env.now_us, env.is_ending);
        let is_impatient = !is_ending && env.random.one_in(200);
        let lost = self.base.give_up(|asked_us, question| {
            let (broker, connection) = question.to;
            let is_late = match question.what.waits_for_others() {
                true => !is_ending && (is_impatient || now_us > asked_us + WAIT_TIMEOUT_US),
                false => now_us > asked_us + settings::REQUEST_TIMEOUT_US,
            };
            is_late || connection.is_none() || env.connection(broker) != connection
        });
        for question in lost {
            self.is_lost(question.what, env);
        }
    }

    /// Of a request nobody knows what has become of it, or somebody else has to be asked.
    fn is_lost(&mut self, what: What, env: &mut ClientEnv<'_>) {
        self.base.wants_metadata = true;
        // A member that has not heard what it gets may ask again, or join again.
        if matches!(what, What::Sync) && env.random.one_in(2) {
            self.drop_all(env);
        }
    }

    fn act(&mut self, env: &mut ClientEnv<'_>) {
        if !env.is_ending && env.random.one_in(300) {
            return self.end_life(env);
        }
        if self.is_heard
            && env.random.one_in(3)
            && let Some(assignment) = self.assignment.take()
        {
            self.share.owns(assignment, env);
        }
        let Some(home) = self.home() else {
            self.base.wants_metadata = true;
            return;
        };
        let is_asked = |is_it: fn(What) -> bool| self.base.asked.values().any(|(_, asked)| is_it(asked.what));
        let (waits, is_busy) = (is_asked(What::waits_for_others), is_asked(|what| !what.waits_for_others()));
        let Some(generation) = &self.generation else {
            if self.base.asked.is_empty() {
                self.ask(What::Join, ClassicWish::Join, home, env);
            }
            return;
        };
        if !self.has_synced && !waits {
            let assignments = assign(generation, &self.base.metadata);
            self.ask(What::Sync, ClassicWish::Sync(assignments), home, env);
        }
        if is_busy {
            return;
        }
        if env.now_us >= self.next_heartbeat_us {
            self.next_heartbeat_us = next_heartbeat_us(env);
            return self.ask(What::Heartbeat, ClassicWish::Heartbeat, home, env);
        }
        let member = (&*self.member_id, self.generation_id());
        if let Some((work, request)) = self.share.work(&self.base.metadata, home.id, member, env) {
            self.base.ask_coordinator(What::Work(work), home, request, env);
        }
    }

    fn home(&self) -> Option<Home> {
        Home::find(&self.base.metadata, HOME)
    }

    fn generation_id(&self) -> i32 {
        self.generation.as_ref().map_or(-1, |generation| generation.id)
    }

    fn ask(&mut self, what: What, wish: ClassicWish, home: Home, env: &mut ClientEnv<'_>) {
        let request = ClassicRequest {
            home: home.id,
            group: GROUP.to_owned(),
            member_id: self.member_id.clone(),
            generation: self.generation_id(),
            wish,
        };
        self.base.ask_coordinator(what, home, Request::Classic(request), env);
    }

    /// It leaves, or dies without a word, and comes back as somebody else. Whatever it waits for it waits for no more.
    fn end_life(&mut self, env: &mut ClientEnv<'_>) {
        self.drop_all(env);
        if env.random.one_in(2)
            && !self.member_id.is_empty()
            && let Some(home) = self.home()
        {
            self.ask(What::Leave, ClassicWish::Leave, home, env);
        }
        self.begin_life(env);
        self.rests_until_us = env.now_us + env.random.between(10_000, 2_000_000);
    }

    fn begin_life(&mut self, env: &mut ClientEnv<'_>) {
        env.oracle.count("lives of members", 1);
        self.member_id.clear();
        self.drop_all(env);
    }

    /// It has to join again, and owns nothing until it has. Answers to what it has asked before do not concern it any more.
    fn drop_all(&mut self, env: &mut ClientEnv<'_>) {
        self.share.drop_all(env);
        self.base.asked.clear();
        self.generation = None;
        self.has_synced = false;
        self.assignment = None;
        self.is_heard = false;
    }

    pub(super) fn response(&mut self, number: u64, response: &Response, env: &mut ClientEnv<'_>) {
        let Some(question) = self.base.answered(number, response) else { return };
        if let What::Work(work) = question.what {
            let is_answered = self.share.worked(&question.with(work), response, env);
            self.base.wants_metadata |= !is_answered;
            return;
        }
        match response {
            Response::Classic(answer, epoch) if *epoch >= question.epoch => match answer {
                Ok(answer) => self.accepted(&question, answer, env),
                Err(code) => self.refused(question.what, *code, env),
            },
            _ => self.is_lost(question.what, env),
        }
    }

    fn refused(&mut self, what: What, code: ErrorCode, env: &mut ClientEnv<'_>) {
        match code {
            ErrorCode::UNKNOWN_MEMBER_ID => {
                env.oracle.count("members fenced", 1);
                self.begin_life(env);
            }
            // It keeps its id, as the client library does.
            ErrorCode::ILLEGAL_GENERATION | ErrorCode::REBALANCE_IN_PROGRESS => self.drop_all(env),
            _ => self.is_lost(what, env),
        }
    }

    fn accepted(&mut self, question: &Question<What>, answer: &ClassicAnswer, env: &mut ClientEnv<'_>) {
        match (question.what, answer) {
            (What::Join, ClassicAnswer::MemberId(member_id)) => self.member_id = member_id.clone(),
            (What::Join, ClassicAnswer::Joined(generation)) => self.joined(generation, env),
            (What::Sync, ClassicAnswer::Assignment(bytes)) => self.synced(bytes, env),
            (What::Heartbeat, ClassicAnswer::Fine) => {
                self.is_heard = true;
                self.heard_us = question.asked_us.max(self.heard_us);
            }
            (what, answer) => self.fail(format!("hears {answer:?} when it asks for {what:?}"), env),
        }
    }

    fn joined(&mut self, generation: &Generation, env: &mut ClientEnv<'_>) {
        env.oracle.count("classic members joined", 1);
        let leads = generation.leader == self.member_id;
        if generation.member_id != self.member_id || leads != generation.members.contains(&self.member_id) {
            self.fail(format!("is told of somebody else's generation: {generation:?}"), env);
        }
        if generation.id < self.last_generation {
            self.fail(format!("is back in generation {generation:?} after {}", self.last_generation), env);
        }
        self.generation = Some(generation.clone());
        self.heard_us = env.now_us;
        self.next_heartbeat_us = env.now_us;
    }

    fn synced(&mut self, bytes: &[u8], env: &mut ClientEnv<'_>) {
        env.oracle.count("classic assignments", 1);
        let (Some(generation), given) = (&self.generation, Assignment::decode(bytes)) else { return };
        match given {
            Some(given) if (given.generation, &given.leader) == (generation.id, &generation.leader) => {
                self.last_generation = generation.id;
                self.has_synced = true;
                self.assignment = Some(given.partitions);
            }
            given => self.fail(format!("gets {given:?} in generation {generation:?}"), env),
        }
    }

    fn fail(&self, text: String, env: &mut ClientEnv<'_>) {
        let ClassicMember { member_id, share, .. } = self;
        env.oracle.fail(None, format!("member {} ({member_id}) of {GROUP} {text}", share.number));
    }

    pub(super) fn unfinished(&self, oracle: &Oracle) -> Option<String> {
        let number = self.share.number;
        if !self.has_synced || self.assignment.is_some() {
            let asked: Vec<What> = self.base.asked.values().map(|(_, question)| question.what).collect();
            return Some(format!("member {number} of {GROUP} is not back, and waits for {asked:?}"));
        }
        self.share.unfinished(&self.base.metadata, oracle)
    }
}
