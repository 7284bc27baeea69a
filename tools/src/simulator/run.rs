//! One run from its seed to its verdict.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use storage::TopicIdPartition;

use super::oracle::Violation;
use super::settings::{self, Settings};
use super::trace::Trace;
use super::world::World;

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The first thing that was wrong, if anything was.
    pub violation: Option<Violation>,
    /// Everything that happened, in one number.
    pub hash: u64,
    /// How long it took in virtual time. µs.
    pub simulated_us: u64,
    /// Events that happened.
    pub events: u64,
    /// What happened, how often.
    pub counts: BTreeMap<&'static str, u64>,
    /// What is told of it, if that was wanted.
    pub trace: Trace,
    /// Names of partitions, for those who read.
    pub names: BTreeMap<TopicIdPartition, String>,
}

/// Runs a seed: a time with faults, a time without, and a look at what is left.
pub fn run(seed: u64, settings: Settings) -> Report {
    let mut world = World::new(seed, settings);
    // A broken assertion is a finding as any other, and wants the same report.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.drive())) {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        world.oracle.fail(None, format!("panicked: {text}"));
    }
    let topics = world.oracle.truth.topics();
    let names = topics.flat_map(|topic| {
        topic.indexed_partitions().map(move |(index, _)| {
            (TopicIdPartition::new(topic.id, index), format!("{}-{index}", topic.name))
        })
    });
    Report {
        seed,
        names: names.collect(),
        violation: world.oracle.violation.take(),
        hash: world.trace.hash(),
        simulated_us: world.now_us,
        events: world.events_done,
        counts: std::mem::take(&mut world.oracle.counts),
        trace: world.trace,
    }
}

impl World {
    fn drive(&mut self) {
        while self.events_done < self.settings.steps && self.oracle.violation.is_none() {
            self.step();
        }
        if self.oracle.violation.is_none() {
            self.settle();
        }
    }

    /// Lets everything come to rest, and checks what must hold then.
    fn settle(&mut self) {
        self.mend();
        let deadline_us = self.now_us + settings::HEALING_US;
        let mut next_look_us = self.now_us + 1_000_000;
        loop {
            self.step();
            if self.oracle.violation.is_some() {
                return;
            }
            if self.now_us < next_look_us {
                continue;
            }
            next_look_us = self.now_us + 200_000;
            match self.unsettled() {
                None => break,
                Some((partition, text)) if self.now_us > deadline_us => {
                    return self.oracle.fail(partition, format!("after all faults have ended: {text}"));
                }
                Some(_) => {}
            }
        }
        self.oracle.check_linearizable();
    }
}
