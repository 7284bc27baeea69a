//! The active controller: commands in, records out, one batch after the other.
//!
//! It decides on an image of its own that is ahead of everybody else's: a batch of commands that waited while the log was being written is
//! decided in one go, each command on top of the ones before, and written with one sync. Answers (refusals too, because they may follow
//! from a change that is not durable yet) are given when the batch is durable and every shard has replayed it.

use std::rc::Rc;
use std::sync::Arc;

use coord::CoordError;
use coord::metadata::{DecideContext, Decision, MetadataImage, MetadataRecord, encode_entry};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::log::MetadataLog;
use super::{ControllerError, publish};
use crate::shard::Shard;

/// Commands that are decided in one go.
const BATCH_MAX: usize = 1000;

/// A command, with its answer's way back inside.
type Job = Box<dyn FnOnce(&MetadataImage, &mut DecideContext<'_>) -> Decided>;

struct Decided {
    records: Vec<MetadataRecord>,
    finish: Box<dyn FnOnce(Result<(), ControllerError>)>,
}

/// The way to the controller from its own shard.
pub struct Controller {
    /// Not bounded by itself: every command belongs to a request, and those are.
    jobs: mpsc::UnboundedSender<Job>,
}

impl Controller {
    /// A controller that continues from `image`, and the task that does its work until something fails.
    pub fn new(
        image: MetadataImage,
        log: MetadataLog,
        shard: &Rc<Shard>,
    ) -> (Controller, impl Future<Output = Result<(), ControllerError>> + 'static) {
        let (sender, jobs) = mpsc::unbounded_channel();
        let worker = Worker { image, log, jobs, shard: Rc::clone(shard) };
        (Controller { jobs: sender }, worker.run())
    }

    /// Decides, makes durable, replays everywhere, answers. The command is carried out whether or not the answer is awaited.
    pub fn commit<R, F>(&self, decide: F) -> impl Future<Output = Result<R, ControllerError>> + use<R, F>
    where
        R: 'static,
        F: FnOnce(&MetadataImage, &mut DecideContext<'_>) -> Result<Decision<R>, CoordError> + 'static,
    {
        let (answer, answered) = oneshot::channel();
        // Whoever asked may be gone by the time of the answer.
        let job: Job = Box::new(move |image, context| match decide(image, context) {
            Ok(Decision { records, reply }) => Decided {
                records,
                finish: Box::new(move |outcome| drop(answer.send(outcome.map(|()| reply)))),
            },
            Err(refusal) => Decided {
                records: Vec::new(),
                finish: Box::new(move |outcome| {
                    let _ = answer.send(outcome.and(Err(ControllerError::Refused(refusal))));
                }),
            },
        });
        let _ = self.jobs.send(job);
        async move { answered.await.unwrap_or(Err(ControllerError::Stopped)) }
    }
}

struct Worker {
    image: MetadataImage,
    log: MetadataLog,
    jobs: mpsc::UnboundedReceiver<Job>,
    shard: Rc<Shard>,
}

impl Worker {
    async fn run(mut self) -> Result<(), ControllerError> {
        let mut batch = Vec::new();
        while self.jobs.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let (entries, records, finishes) = self.decide(batch.drain(..))?;
            let outcome = if entries.is_empty() { Ok(()) } else { self.carry_out(&entries, records).await };
            for finish in finishes {
                finish(outcome.clone());
            }
            outcome?;
            self.log.compact_if_grown(&self.image).await?;
        }
        Ok(())
    }

    #[expect(clippy::type_complexity, reason = "three lists that belong to one loop")]
    fn decide(
        &mut self,
        batch: impl Iterator<Item = Job>,
    ) -> Result<
        (Vec<Vec<u8>>, Vec<MetadataRecord>, Vec<Box<dyn FnOnce(Result<(), ControllerError>)>>),
        ControllerError,
    > {
        let (mut entries, mut records, mut finishes) = (Vec::new(), Vec::new(), Vec::new());
        let mut random = random_bits;
        for job in batch {
            let decided = job(&self.image, &mut DecideContext { random: &mut random });
            if !decided.records.is_empty() {
                self.image
                    .replay_all(&decided.records)
                    .map_err(|error| ControllerError::Failed(error.to_string()))?;
                entries.push(encode_entry(&decided.records));
                records.extend(decided.records);
            }
            finishes.push(decided.finish);
        }
        Ok((entries, records, finishes))
    }

    async fn carry_out(
        &mut self,
        entries: &[Vec<u8>],
        records: Vec<MetadataRecord>,
    ) -> Result<(), ControllerError> {
        self.log.append(entries).await?;
        publish::to_all_shards(&self.shard, Arc::from(records)).await
    }
}

/// Uniform bits from the system's generator.
pub(crate) fn random_bits() -> u64 {
    // The six fixed bits of a version 4 UUID meet random ones.
    let (high, low) = Uuid::new_v4().as_u64_pair();
    high.rotate_left(20) ^ low
}
