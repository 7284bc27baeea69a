//! The producers and consumers of one run, as its crew knows them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::run::{ProducerEnd, ProducerSetup, ReadyProducer};
use crate::clock::Clock;
use crate::consume::{ConsumerEnd, ConsumerSetup, ReadyConsumer};
use crate::crew::{Seconds, Worker};
use crate::error::BenchError;

/// The crew's side of producers, and that of consumers.
pub const WRITING: usize = 0;
/// See [`WRITING`].
pub const READING: usize = 1;

/// One of a run's producers or consumers.
pub enum Part {
    /// Writes; the guard tells consumers when it has ended.
    Producer(Box<ProducerSetup>, Left),
    /// Reads what the producers write.
    Consumer(Box<ConsumerSetup>),
}

/// Counts a producer as one that has not ended, until it is dropped.
pub struct Left(Arc<AtomicUsize>);

impl Left {
    /// One more.
    pub fn new(count: &Arc<AtomicUsize>) -> Left {
        count.fetch_add(1, Ordering::AcqRel);
        Left(Arc::clone(count))
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A part that waits for the start.
pub enum ReadyPart {
    /// See [`Part`].
    Producer(Box<ReadyProducer>, Left),
    /// See [`Part`].
    Consumer(Box<ReadyConsumer>),
}

/// How a part ended.
pub enum PartEnd {
    /// See [`Part`].
    Producer(ProducerEnd),
    /// See [`Part`].
    Consumer(ConsumerEnd),
}

impl Worker for Part {
    type Ready = ReadyPart;
    type End = PartEnd;

    fn side(&self) -> usize {
        match self {
            Part::Producer(..) => WRITING,
            Part::Consumer(_) => READING,
        }
    }

    async fn prepare(self) -> Result<ReadyPart, BenchError> {
        Ok(match self {
            Part::Producer(setup, left) => ReadyPart::Producer(Box::new(setup.prepare().await?), left),
            Part::Consumer(setup) => ReadyPart::Consumer(Box::new(setup.prepare().await?)),
        })
    }

    async fn run(ready: ReadyPart, clock: Clock, seconds: Seconds) -> Result<PartEnd, BenchError> {
        match ready {
            ReadyPart::Producer(producer, left) => {
                let end = producer.run(clock, seconds).await;
                drop(left);
                end.map(PartEnd::Producer)
            }
            ReadyPart::Consumer(consumer) => consumer.run(clock, seconds).await.map(PartEnd::Consumer),
        }
    }
}
