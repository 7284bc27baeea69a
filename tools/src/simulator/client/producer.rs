//! An idempotent producer with acks=all, up to five batches in flight, and retries without end.

use std::collections::VecDeque;

use bytes::Bytes;
use protocol::ErrorCode;
use protocol::records::{BatchBuilder, BatchOptions};
use storage::{Offset, TopicIdPartition};

use super::{Base, ClientEnv};
use crate::simulator::message::{Request, Response};

/// Kafka's limit for idempotent producers.
const IN_FLIGHT: usize = 5;

#[derive(Debug)]
struct Batch {
    base_sequence: i32,
    bytes: Bytes,
    invoked_us: u64,
    /// The request that carries it at present.
    number: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub struct Producer {
    producer_id: i64,
    /// Which of the data partitions, counted through all topics.
    index: u64,
    partition: Option<TopicIdPartition>,
    base: Base<()>,
    next_sequence: i32,
    batches: VecDeque<Batch>,
    /// Everything is sent anew then.
    resend_us: Option<u64>,
    pace_us: u64,
    /// Whether the leader has taken a batch since something went wrong last. Before that one batch goes at a time: a leader that does not know a producer takes whatever
    /// it sees first, as Kafka's do.
    is_confirmed: bool,
}

impl Producer {
    /// A producer for the partition of that index.
    pub fn new(producer_id: i64, index: u64, pace_us: u64) -> Self {
        Producer {
            producer_id,
            index,
            partition: None,
            base: Base::default(),
            next_sequence: 0,
            batches: VecDeque::new(),
            resend_us: None,
            pace_us,
            is_confirmed: false,
        }
    }

    pub(super) fn turn(&mut self, env: &mut ClientEnv<'_>) -> u64 {
        self.base.refresh(env);
        if self.partition.is_none() {
            let partitions: Vec<TopicIdPartition> =
                self.base.metadata.data_partitions().map(|partition| partition.id).collect();
            let count = partitions.len() as u64;
            self.partition = partitions.get((self.index % count.max(1)) as usize).copied();
            self.base.wants_metadata |= count == 0;
        }
        if !self.base.timed_out(env.now_us).is_empty() {
            self.start_over(env);
        }
        if !env.is_ending && self.partition.is_some() && self.batches.len() < IN_FLIGHT {
            let batch = self.make_batch(env);
            self.batches.push_back(batch);
        }
        self.send(env);
        env.now_us + env.random.between(self.pace_us / 4, self.pace_us * 2)
    }

    fn make_batch(&mut self, env: &mut ClientEnv<'_>) -> Batch {
        let base_sequence = self.next_sequence;
        let records = env.random.between(1, 3) as i32;
        self.next_sequence += records;
        let mut builder = BatchBuilder::new(BatchOptions {
            producer_id: self.producer_id,
            producer_epoch: 0,
            base_sequence,
            ..BatchOptions::default()
        });
        for sequence in base_sequence..base_sequence + records {
            let value = [self.producer_id.to_be_bytes(), i64::from(sequence).to_be_bytes()].concat();
            builder.append(env.now_us as i64 / 1_000, None, Some(&value), &[]);
        }
        let bytes = builder.build().expect("no codec is involved");
        Batch { base_sequence, bytes, invoked_us: env.now_us, number: None }
    }

    /// Something went wrong: all batches that are not acknowledged go again, in order, after a rest and with fresh metadata.
    fn start_over(&mut self, env: &mut ClientEnv<'_>) {
        self.base.asked.clear();
        self.batches.iter_mut().for_each(|batch| batch.number = None);
        self.is_confirmed = false;
        self.base.wants_metadata = true;
        self.resend_us = Some(env.now_us + env.random.between(5_000, 60_000));
    }

    fn send(&mut self, env: &mut ClientEnv<'_>) {
        if self.resend_us.is_some_and(|at_us| env.now_us < at_us) {
            return;
        }
        self.resend_us = None;
        let Some(id) = self.partition else { return };
        let leader = self.base.metadata.partition(id).map(|partition| partition.leader);
        let Some(leader) = leader.filter(|leader| leader.is_some()) else {
            self.base.wants_metadata = true;
            return;
        };
        let at_most = if self.is_confirmed { IN_FLIGHT } else { 1 };
        for batch in self.batches.iter_mut().take(at_most).filter(|batch| batch.number.is_none()) {
            let request = Request::Produce(id, batch.bytes.clone());
            batch.number = Some(self.base.ask(leader, (), request, env));
        }
    }

    pub(super) fn response(&mut self, number: u64, response: &Response, env: &mut ClientEnv<'_>) {
        if self.base.answered(number, response).is_none() {
            return self.send(env);
        }
        let Some(at) = self.batches.iter().position(|batch| batch.number == Some(number)) else { return };
        let Response::Produced(outcome) = response else { return };
        match outcome {
            Ok(base_offset) => self.acknowledged(at, *base_offset, env),
            Err(code) if at == 0 && *code == ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER => {
                // Everything before it was acknowledged, so any leader must have it.
                let text = format!(
                    "producer {} is told that {} is out of order",
                    self.producer_id, self.batches[0].base_sequence
                );
                env.oracle.fail(self.partition, text);
            }
            Err(_) => self.start_over(env),
        }
    }

    fn acknowledged(&mut self, at: usize, base_offset: Offset, env: &mut ClientEnv<'_>) {
        let batch = self.batches.remove(at).expect("it was found");
        self.is_confirmed = true;
        let id = self.partition.expect("it was sent somewhere");
        let sequence = (self.producer_id, batch.base_sequence);
        env.oracle.acknowledged(id, base_offset, sequence, (batch.invoked_us, env.now_us));
    }

    pub(super) fn unfinished(&self) -> Option<String> {
        let batch = self.batches.front()?;
        Some(format!("producer {} waits for sequence {}", self.producer_id, batch.base_sequence))
    }
}
