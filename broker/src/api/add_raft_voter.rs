//! AddRaftVoter (key 80): a node that follows the metadata log shall vote (KIP-853).
//!
//! Source: `KafkaRaftClient.handleAddVoterRequest`. The node is reached where it has said itself: the listeners of the request do not matter.

use std::rc::Rc;
use std::time::Duration;

use coord::types::BrokerId;
use protocol::ErrorCode;
use protocol::messages::add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse};

use super::{Answer, Call};
use crate::controller::{CONTROLLER_SHARD, ControllerError, voters};
use crate::shard::Shard;

/// Answers when the node votes, or cannot.
pub async fn handle(call: Call) -> Answer {
    let request: AddRaftVoterRequest<'_> = call.decode()?;
    let outcome = match check_cluster(&call.shard, request.cluster_id.as_deref()) {
        Ok(()) => {
            let (node, directory) = (BrokerId(request.voter_id), request.voter_directory_id);
            let patience = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
            let added = call.shard.mesh.call(CONTROLLER_SHARD, move |shard: &Rc<Shard>| {
                let shard = Rc::clone(shard);
                async move { voters::add(&shard, node, directory, patience).await }
            });
            told(added.await)
        }
        Err(refusal) => refusal,
    };
    let (error, error_message) = outcome;
    call.respond(&AddRaftVoterResponse {
        error_code: error.code(),
        error_message: error_message.map(Into::into),
        ..Default::default()
    })
}

/// An error code with words for people.
pub(super) type Told = (ErrorCode, Option<String>);

/// What a client hears of a change of voters.
pub(super) fn told(outcome: Result<(), ControllerError>) -> Told {
    match outcome {
        Ok(()) => (ErrorCode::NONE, None),
        // It may still come about: the client has to look.
        Err(error @ ControllerError::Busy) => (ErrorCode::REQUEST_TIMED_OUT, Some(error.to_string())),
        Err(error) => (error.code(), Some(error.to_string())),
    }
}

/// A request may name the cluster that it means.
pub(super) fn check_cluster(shard: &Shard, named: Option<&str>) -> Result<(), Told> {
    let own = protocol::uuid_text(shard.image().cluster_id());
    match named {
        Some(named) if named != own => {
            Err((ErrorCode::INCONSISTENT_CLUSTER_ID, Some(format!("This is cluster {own}."))))
        }
        _ => Ok(()),
    }
}
