//! The member of a group that commits offset after offset, and looks now and then whether they are kept.

use std::collections::BTreeSet;

use coord::types::LeaderEpoch;
use protocol::ErrorCode;

use super::share::Home;
use super::{Base, ClientEnv};
use crate::simulator::message::{OffsetOf, Request, Response};

#[derive(Debug, Clone, Copy)]
enum Asked {
    Commit(i64),
    /// With the leader epoch of the coordinator at that time: one that has been replaced and does not know it yet may tell old news, as Kafka's do.
    Fetch(LeaderEpoch),
}

/// See the module.
#[derive(Debug)]
pub struct Member {
    number: u64,
    base: Base<Asked>,
    next_offset: i64,
    committed: i64,
    /// Commits of which nobody knows what became of them: a copy may yet arrive.
    unknown: BTreeSet<i64>,
    has_looked_at_end: bool,
}

impl Member {
    /// The only member of the group of that number, which lives in the partition of that index.
    pub fn new(number: u64) -> Self {
        Member {
            number,
            base: Base::default(),
            next_offset: 1,
            committed: -1,
            unknown: BTreeSet::new(),
            has_looked_at_end: false,
        }
    }

    pub(super) fn turn(&mut self, env: &mut ClientEnv<'_>) -> u64 {
        self.base.refresh(env);
        for asked in self.base.timed_out(env.now_us) {
            self.base.wants_metadata = true;
            if let Asked::Commit(offset) = asked {
                self.unknown.insert(offset);
            }
        }
        if self.base.asked.is_empty() {
            self.ask(env);
        }
        env.now_us + env.random.between(10_000, 80_000)
    }

    fn ask(&mut self, env: &mut ClientEnv<'_>) {
        let Some(home) = Home::find(&self.base.metadata, self.number as usize) else {
            self.base.wants_metadata = true;
            return;
        };
        let of = OffsetOf {
            home: home.id,
            group: format!("group-{}", self.number),
            topic: "t0".to_owned(),
            partition: 0,
        };
        if env.is_ending || env.random.one_in(4) {
            let asked = Asked::Fetch(env.leader_epoch(home.id));
            self.base.ask(home.leader, asked, Request::FetchOffset(of), env);
        } else {
            let offset = self.next_offset;
            self.next_offset += 1;
            self.base.ask(home.leader, Asked::Commit(offset), Request::CommitOffset(of, offset, None), env);
        }
    }

    pub(super) fn response(&mut self, number: u64, response: &Response, env: &mut ClientEnv<'_>) {
        let Some(asked) = self.base.answered(number, response) else { return };
        match (asked, response) {
            (Asked::Commit(offset), Response::OffsetCommitted(ErrorCode::NONE)) => {
                env.oracle.count("offsets committed", 1);
                self.committed = offset;
            }
            (Asked::Commit(offset), _) => {
                // It may have been appended, and be committed yet.
                self.unknown.insert(offset);
                self.base.wants_metadata = true;
            }
            (Asked::Fetch(epoch), Response::Offset(found, answered)) if *answered >= epoch => {
                self.check(*found, env);
            }
            (Asked::Fetch(_), _) => self.base.wants_metadata = true,
        }
    }

    fn check(&mut self, found: i64, env: &mut ClientEnv<'_>) {
        env.oracle.count("offsets looked at", 1);
        self.has_looked_at_end |= env.is_ending;
        if found != self.committed && !self.unknown.contains(&found) {
            let text = format!(
                "group-{} finds offset {found}; {} was acknowledged last, {:?} perhaps",
                self.number, self.committed, self.unknown
            );
            env.oracle.fail(None, text);
        }
    }

    pub(super) fn unfinished(&self) -> Option<String> {
        (!self.has_looked_at_end).then(|| format!("group-{} has no answer to OffsetFetch", self.number))
    }
}
