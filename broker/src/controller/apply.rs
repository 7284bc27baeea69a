//! What is committed reaches this node's shards, in order, by one task on shard 0.
//!
//! It goes through three stages. While the node loads, entries change the image of shard 0 alone, which the other shards take a copy of. Then the shards open
//! their logs, and nothing is published until all have. From then on every entry goes to all shards before the next one does.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use coord::metadata::MetadataImage;
use tokio::sync::watch;

use super::journal::encode_image;
use super::quorum::{Committed, Quorum};
use super::{ControllerError, publish};
use crate::shard::Shard;

/// Entries that are published in one go.
const BATCH_MAX: usize = 1000;

/// How far the node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Only shard 0 follows.
    Loading,
    /// The shards have their image, and open their logs by it.
    Opening,
    /// All shards follow.
    Open,
    /// The shards are being shut down.
    Closing,
}

/// How far this node's shards have come; lives on shard 0.
pub struct Applied {
    stage: Cell<Stage>,
    /// The last entry that all shards have; while loading, that shard 0 has.
    index: watch::Sender<u64>,
    is_busy: watch::Sender<bool>,
}

impl Default for Applied {
    fn default() -> Self {
        Applied {
            stage: Cell::new(Stage::Loading),
            index: watch::Sender::new(0),
            is_busy: watch::Sender::new(false),
        }
    }
}

impl Applied {
    /// How far the node is.
    pub fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// The next stage has begun.
    pub fn enter(&self, stage: Stage, quorum: &Quorum) {
        self.stage.set(stage);
        quorum.news.notify_one();
    }

    /// The last entry that all shards have.
    pub fn index(&self) -> u64 {
        *self.index.borrow()
    }

    /// Waits until all shards have the entry.
    pub fn reach(&self, index: u64) -> impl Future<Output = ()> + use<> {
        let mut reached = self.index.subscribe();
        async move {
            // The sender lives as long as the broker.
            let _ = reached.wait_for(|reached| *reached >= index).await;
        }
    }

    /// Publishes nothing any more; returns when what is under way is done.
    pub async fn close(&self, quorum: &Quorum) {
        self.enter(Stage::Closing, quorum);
        let _ = self.is_busy.subscribe().wait_for(|is_busy| !is_busy).await;
    }
}

/// Follows the quorum for ever, or until something fails.
pub async fn run(shard: Rc<Shard>, quorum: Rc<Quorum>) -> Result<(), ControllerError> {
    let applied = &shard.metadata.applied;
    loop {
        if let Some(term) = quorum.office() {
            take_office(&shard, &quorum, term)?;
        } else {
            shard.metadata.leave_office();
        }
        let progressed = match applied.stage() {
            Stage::Loading => take_alone(&shard, &quorum)?,
            Stage::Open => {
                applied.is_busy.send_replace(true);
                let published = publish_some(&shard, &quorum).await;
                applied.is_busy.send_replace(false);
                published?
            }
            Stage::Opening | Stage::Closing => None,
        };
        if let Some(index) = progressed {
            applied.index.send_replace(index);
        }
        snapshot_if_due(&shard, &quorum);
        if progressed.is_none() {
            quorum.news.notified().await;
        }
    }
}

/// The active controller begins with everything that is committed, whether or not the shards have it.
fn take_office(shard: &Rc<Shard>, quorum: &Rc<Quorum>, term: u64) -> Result<(), ControllerError> {
    let Some(controller) = shard.metadata.controller.get() else { return Ok(()) };
    if controller.term() == Some(term) {
        return Ok(());
    }
    let mut image = MetadataImage::clone(&shard.image());
    for committed in quorum.backlog().iter() {
        match committed {
            Committed::Entry(_, records) => image.replay_all(records).map_err(not_replayed)?,
            Committed::Snapshot(_, snapshot) => image = MetadataImage::clone(snapshot),
        }
    }
    controller.take_office(term, image);
    Ok(())
}

/// Shard 0 follows by itself.
fn take_alone(shard: &Shard, quorum: &Quorum) -> Result<Option<u64>, ControllerError> {
    let mut last = None;
    while let Some(committed) = quorum.take_committed() {
        last = Some(committed.index());
        match committed {
            Committed::Entry(_, records) => {
                records.iter().try_for_each(|record| shard.metadata.replay(record)).map_err(not_replayed)?;
            }
            Committed::Snapshot(_, image) => shard.metadata.replace(Rc::from(image)),
        }
    }
    Ok(last)
}

/// All shards take what is there, up to a limit; the index of the last entry.
async fn publish_some(shard: &Rc<Shard>, quorum: &Quorum) -> Result<Option<u64>, ControllerError> {
    let mut last = None;
    let mut records = Vec::new();
    for _ in 0..BATCH_MAX {
        if !records.is_empty() && matches!(quorum.backlog().front(), Some(Committed::Snapshot(..))) {
            break;
        }
        let Some(committed) = quorum.take_committed() else { break };
        last = Some(committed.index());
        match committed {
            Committed::Entry(_, of_entry) => records.extend(of_entry),
            Committed::Snapshot(_, image) => {
                publish::image_to_all_shards(shard, *image).await?;
                return Ok(last);
            }
        }
    }
    if !records.is_empty() {
        publish::to_all_shards(shard, Arc::from(records)).await?;
    }
    Ok(last)
}

/// A snapshot has to be the state after the last committed entry, neither more nor less.
fn snapshot_if_due(shard: &Shard, quorum: &Rc<Quorum>) {
    let is_exact = quorum.backlog().is_empty() && shard.metadata.applied.index() == quorum.applied().index;
    if is_exact && quorum.wants_snapshot() {
        quorum.snapshot_taken(encode_image(&shard.image()));
    }
}

fn not_replayed(error: coord::metadata::ReplayError) -> ControllerError {
    ControllerError::Failed(error.to_string())
}
