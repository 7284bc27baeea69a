//! ElectLeaders (key 43): the preferred replica, or any, shall lead (KIP-183, KIP-460).
//!
//! Source: `ReplicationControlManager.electLeaders`.

use std::borrow::Cow;

use coord::CoordError;
use coord::metadata::MetadataImage;
use coord::metadata::decide::ElectionType;
use coord::types::PartitionId;
use protocol::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};

use super::{Answer, Call};
use crate::controller;

/// Has the controller decide on all of them at once.
pub async fn handle(call: Call) -> Answer {
    let request: ElectLeadersRequest<'_> = call.decode()?;
    let Some(election) = ElectionType::from_wire(request.election_type) else {
        let error = CoordError::InvalidRequest(format!("Unknown election type {}", request.election_type));
        return call.respond(&refused(&request, &error));
    };
    let partitions = asked(&call.shard.image(), &request);
    let outcomes = match controller::elect_leaders(&call.shard, partitions.clone(), election).await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            let error_code = error.code().code();
            return call.respond(&ElectLeadersResponse { error_code, ..Default::default() });
        }
    };
    // Where all partitions are meant, those that need no election are not told of.
    let tells_all = request.topic_partitions.is_some();
    let is_told =
        |outcome: &Result<(), CoordError>| tells_all || *outcome != Err(CoordError::ElectionNotNeeded);
    let mut results: Vec<ReplicaElectionResult<'_>> = Vec::new();
    for ((topic, partition), outcome) in partitions.iter().zip(outcomes) {
        if results.last().is_none_or(|last| last.topic != *topic) {
            results.push(ReplicaElectionResult { topic: Cow::Borrowed(topic), ..Default::default() });
        }
        if is_told(&outcome) {
            let last = results.last_mut().expect("it was there a moment ago");
            last.partition_result.push(row(partition.0, outcome));
        }
    }
    call.respond(&ElectLeadersResponse { replica_election_results: results, ..Default::default() })
}

/// The partitions that the request names; all if it names none.
fn asked(image: &MetadataImage, request: &ElectLeadersRequest<'_>) -> Vec<(String, PartitionId)> {
    match &request.topic_partitions {
        Some(topics) => topics
            .iter()
            .flat_map(|topic| {
                topic.partitions.iter().map(|partition| (topic.topic.to_string(), PartitionId(*partition)))
            })
            .collect(),
        None => image
            .topics()
            .flat_map(|topic| {
                topic.indexed_partitions().map(|(partition, _)| (topic.name.to_string(), partition))
            })
            .collect(),
    }
}

/// All partitions that the request names are refused for the same reason.
fn refused<'a>(request: &'a ElectLeadersRequest<'_>, error: &CoordError) -> ElectLeadersResponse<'a> {
    let results = request.topic_partitions.iter().flatten().map(|topic| ReplicaElectionResult {
        topic: topic.topic.as_ref().into(),
        partition_result: topic
            .partitions
            .iter()
            .map(|partition| row(*partition, Err(error.clone())))
            .collect(),
        ..Default::default()
    });
    let error_code = error.code().code();
    ElectLeadersResponse { error_code, replica_election_results: results.collect(), ..Default::default() }
}

fn row(partition_id: i32, outcome: Result<(), CoordError>) -> PartitionResult<'static> {
    let (error_code, error_message) = match outcome {
        Ok(()) => (0, None),
        Err(error) => (error.code().code(), Some(Cow::Owned(error.to_string()))),
    };
    PartitionResult { partition_id, error_code, error_message, ..Default::default() }
}
