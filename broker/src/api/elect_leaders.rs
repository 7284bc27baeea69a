//! ElectLeaders (key 43): the preferred replica, or any, shall lead (KIP-183, KIP-460).
//!
//! Source: `ReplicationControlManager.electLeaders`.

use std::borrow::Cow;

use coord::CoordError;
use coord::metadata::MetadataImage;
use coord::metadata::decide::{ElectionType, elect_leader};
use coord::types::PartitionId;
use protocol::ErrorCode;
use protocol::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};

use super::{Answer, Call};

/// Answers from this shard's image: with one replica for each partition nothing changes.
pub async fn handle(call: Call) -> Answer {
    let request: ElectLeadersRequest<'_> = call.decode()?;
    call.respond(&response(&call.shard.image(), &request))
}

fn response<'a>(image: &'a MetadataImage, request: &'a ElectLeadersRequest<'_>) -> ElectLeadersResponse<'a> {
    let election = ElectionType::from_wire(request.election_type).ok_or_else(|| {
        CoordError::InvalidRequest(format!("Unknown election type {}", request.election_type))
    });
    let elect = |topic: &str, partition: i32| -> Result<(), CoordError> {
        elect_leader(image, topic, PartitionId(partition), election.clone()?)
    };
    let replica_election_results = match &request.topic_partitions {
        Some(topics) => topics
            .iter()
            .map(|topic| ReplicaElectionResult {
                topic: topic.topic.as_ref().into(),
                partition_result: topic
                    .partitions
                    .iter()
                    .map(|partition| row(*partition, elect(&topic.topic, *partition)))
                    .collect(),
                ..Default::default()
            })
            .collect(),
        // All partitions; of those that need no election nothing is told.
        None => image
            .topics()
            .map(|topic| ReplicaElectionResult {
                topic: Cow::Borrowed(&topic.name),
                partition_result: topic
                    .indexed_partitions()
                    .map(|(partition, _)| (partition.0, elect(&topic.name, partition.0)))
                    .filter(|(_, outcome)| *outcome != Err(CoordError::ElectionNotNeeded))
                    .map(|(partition, outcome)| row(partition, outcome))
                    .collect(),
                ..Default::default()
            })
            .collect(),
    };
    let error_code = election.err().map_or(ErrorCode::NONE, |error| error.code()).code();
    ElectLeadersResponse { error_code, replica_election_results, ..Default::default() }
}

fn row(partition_id: i32, outcome: Result<(), CoordError>) -> PartitionResult<'static> {
    let (error_code, error_message) = match outcome {
        Ok(()) => (0, None),
        Err(error) => (error.code().code(), Some(Cow::Owned(error.to_string()))),
    };
    PartitionResult { partition_id, error_code, error_message, ..Default::default() }
}
