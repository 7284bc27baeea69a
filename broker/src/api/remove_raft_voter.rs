//! RemoveRaftVoter (key 81): a voter of the metadata quorum shall vote no more (KIP-853).
//!
//! Source: `KafkaRaftClient.handleRemoveVoterRequest`.

use std::rc::Rc;
use std::time::Duration;

use coord::types::BrokerId;
use protocol::messages::remove_raft_voter::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};

use super::add_raft_voter::{check_cluster, told};
use super::{Answer, Call};
use crate::controller::{CONTROLLER_SHARD, voters};
use crate::shard::Shard;

/// The request has no time limit of its own.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers when the voter is none any more.
pub async fn handle(call: Call) -> Answer {
    let request: RemoveRaftVoterRequest<'_> = call.decode()?;
    let (error, error_message) = match check_cluster(&call.shard, request.cluster_id.as_deref()) {
        Ok(()) => {
            let (node, directory) = (BrokerId(request.voter_id), request.voter_directory_id);
            let removed = call.shard.mesh.call(CONTROLLER_SHARD, move |shard: &Rc<Shard>| {
                let shard = Rc::clone(shard);
                async move { voters::remove(&shard, node, directory, PATIENCE).await }
            });
            told(removed.await)
        }
        Err(refusal) => refusal,
    };
    call.respond(&RemoveRaftVoterResponse {
        error_code: error.code(),
        error_message: error_message.map(Into::into),
        ..Default::default()
    })
}
