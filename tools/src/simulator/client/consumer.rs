//! A consumer that reads every partition from the beginning, from leaders and from followers, and sees everything once and in order.

use std::collections::BTreeMap;

use storage::{Offset, TopicIdPartition};

use super::{Base, ClientEnv};
use crate::simulator::message::{Request, Response};
use crate::simulator::oracle::Oracle;

/// See the module.
#[derive(Debug)]
pub struct Consumer {
    base: Base<TopicIdPartition>,
    positions: BTreeMap<TopicIdPartition, Offset>,
    pace_us: u64,
}

impl Consumer {
    /// A consumer that asks about so often.
    pub fn new(pace_us: u64) -> Self {
        Consumer { base: Base::default(), positions: BTreeMap::new(), pace_us }
    }

    pub(super) fn turn(&mut self, env: &mut ClientEnv<'_>) -> u64 {
        self.base.refresh(env);
        if !self.base.timed_out(env.now_us).is_empty() {
            self.base.wants_metadata = true;
        }
        let partitions: Vec<_> = self.base.metadata.data_partitions().cloned().collect();
        for partition in &partitions {
            if self.base.asked.values().any(|(_, asked)| *asked == partition.id) {
                continue;
            }
            let nearest = env.random.pick(&partition.replicas).copied();
            let from = if env.random.one_in(4) { nearest } else { Some(partition.leader) };
            match from.filter(|broker| broker.is_some()) {
                Some(broker) => {
                    let position = *self.positions.entry(partition.id).or_default();
                    self.base.ask(broker, partition.id, Request::Fetch(partition.id, position), env);
                }
                None => self.base.wants_metadata = true,
            }
        }
        env.now_us + env.random.between(self.pace_us / 2, self.pace_us * 2)
    }

    pub(super) fn response(&mut self, number: u64, response: &Response, env: &mut ClientEnv<'_>) {
        let Some(id) = self.base.answered(number, response) else { return };
        let position = self.positions.entry(id).or_default();
        match response {
            Response::Fetched(Ok(batches)) => {
                env.oracle.read(id, *position, batches);
                if let Some(last) = batches.last() {
                    *position = last.span.end_offset;
                }
            }
            Response::OutOfRange(log_start) => {
                env.oracle.out_of_range(id, *position, *log_start);
                *position = (*log_start).max(*position);
            }
            _ => self.base.wants_metadata = true,
        }
    }

    pub(super) fn unfinished(&self, oracle: &Oracle) -> Option<String> {
        let is_behind = |(id, position): &(&TopicIdPartition, &Offset)| {
            oracle.history(**id).is_some_and(|history| history.end() > **position)
        };
        let (id, position) = self.positions.iter().find(is_behind)?;
        Some(format!("a consumer has read {id} up to {position} only"))
    }
}
