//! When what a coordinator has appended cannot be lost any more.

use std::rc::Rc;
use std::time::Duration;

use protocol::ErrorCode;
use storage::disk::DirectDisk;
use storage::journal::CommitSeq;
use storage::{AppendOutcome, Offset};

use super::coordinators::Partition;
use crate::replication::{CommitOutcome, Hosted};
use crate::runtime;
use crate::shard::Shard;

/// How long the other replicas may take (Kafka: `offsets.commit.timeout.ms`).
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// An append of a coordinator: it is kept when it is durable here or, where there are other replicas, when all that are in sync have it.
#[derive(Clone)]
pub struct Kept {
    commit: CommitSeq,
    elsewhere: Option<(Rc<Hosted<DirectDisk>>, Offset)>,
}

impl Kept {
    /// The append that came to this.
    pub fn of(partition: &Partition, appended: &AppendOutcome) -> Self {
        let end = appended.last_offset.next();
        let elsewhere = partition.replica.as_ref().map(|(_, hosted)| (Rc::clone(hosted), end));
        Kept { commit: appended.commit, elsewhere }
    }

    /// Waits for that. The error is what clients are told: they find out later, maybe from another coordinator, what has become of their request.
    pub async fn wait(&self, shard: &Shard) -> Result<(), ErrorCode> {
        let Some((hosted, end)) = &self.elsewhere else {
            // If it fails the broker is about to stop.
            return shard
                .store()
                .durable(self.commit)
                .await
                .map_err(|_| ErrorCode::COORDINATOR_NOT_AVAILABLE);
        };
        match runtime::timeout(COMMIT_TIMEOUT, hosted.committed(*end)).await {
            Some(CommitOutcome::Committed) => Ok(()),
            Some(CommitOutcome::NotLeader) => Err(ErrorCode::NOT_COORDINATOR),
            None => Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        }
    }
}
