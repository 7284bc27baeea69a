//! AlterPartitionReassignments (key 45): partitions shall move to other brokers (KIP-455, KIP-860).
//!
//! There is one broker, so what is asked for is checked and otherwise changes nothing. Source:
//! `ReplicationControlManager.alterPartitionReassignments`.

use std::borrow::Cow;

use coord::CoordError;
use coord::metadata::decide::{Reassignment, check_reassignment};
use coord::types::{BrokerId, PartitionId};
use protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};

use super::{Answer, Call};

/// Answers from this shard's image.
pub async fn handle(call: Call) -> Answer {
    let request: AlterPartitionReassignmentsRequest<'_> = call.decode()?;
    let image = call.shard.image();
    let may_change_factor = request.allow_replication_factor_change;
    let responses = request.topics.iter().map(|topic| {
        let check = |partition: &ReassignablePartition<'_>| {
            let wanted = reassignment(partition);
            let index = PartitionId(partition.partition_index);
            row(index, check_reassignment(&image, &topic.name, index, &wanted, may_change_factor))
        };
        ReassignableTopicResponse {
            name: topic.name.as_ref().into(),
            partitions: topic.partitions.iter().map(check).collect(),
            ..Default::default()
        }
    });
    call.respond(&AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: may_change_factor,
        error_message: None,
        responses: responses.collect(),
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
