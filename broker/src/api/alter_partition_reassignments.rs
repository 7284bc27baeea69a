//! AlterPartitionReassignments (key 45): partitions shall move to other brokers (KIP-455, KIP-860). Source:
//! `ReplicationControlManager.alterPartitionReassignments`.

use std::borrow::Cow;

use coord::CoordError;
use coord::metadata::decide::Reassignment;
use coord::types::{BrokerId, PartitionId};
use protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};

use super::{Answer, Call};
use crate::controller;

/// Has the controller decide on all of them at once.
pub async fn handle(call: Call) -> Answer {
    let request: AlterPartitionReassignmentsRequest<'_> = call.decode()?;
    let may_change_factor = request.allow_replication_factor_change;
    let wanted = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| {
            (topic.name.to_string(), PartitionId(partition.partition_index), reassignment(partition))
        })
    });
    let outcomes = controller::reassign_partitions(&call.shard, wanted.collect(), may_change_factor).await;
    let (error, mut outcomes) = match outcomes {
        Ok(outcomes) => (None, outcomes.into_iter()),
        Err(error) => (Some(error), Vec::new().into_iter()),
    };
    let responses = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(&mut outcomes);
        let rows =
            partitions.map(|(partition, outcome)| row(PartitionId(partition.partition_index), outcome));
        ReassignableTopicResponse {
            name: topic.name.as_ref().into(),
            partitions: rows.collect(),
            ..Default::default()
        }
    });
    let responses = if error.is_none() { responses.collect() } else { Vec::new() };
    call.respond(&AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: may_change_factor,
        error_code: error.as_ref().map_or(0, |error| error.code().code()),
        error_message: error.map(|error| Cow::Owned(error.to_string())),
        responses,
        ..Default::default()
    })
}

fn reassignment(partition: &ReassignablePartition<'_>) -> Reassignment {
    match &partition.replicas {
        Some(replicas) => Reassignment::To(replicas.iter().copied().map(BrokerId).collect()),
        None => Reassignment::Cancel,
    }
}

fn row(partition: PartitionId, outcome: Result<(), CoordError>) -> ReassignablePartitionResponse<'static> {
    let (error_code, error_message) = match outcome {
        Ok(()) => (0, None),
        // Kafka gives no text here.
        Err(error @ CoordError::NoReassignmentInProgress) => (error.code().code(), None),
        Err(error) => (error.code().code(), Some(Cow::Owned(error.to_string()))),
    };
    ReassignablePartitionResponse {
        partition_index: partition.0,
        error_code,
        error_message,
        ..Default::default()
    }
}
