//! Who votes in the metadata quorum: voters are added and removed one at a time, by their ids and the ids of their data directories (KIP-853). Runs on shard 0 of the active
//! controller.
//!
//! A node follows the log before it votes, so that the quorum never has to wait until it has caught up. A voter that runs and is removed goes on following; one that
//! is gone is forgotten.

use std::rc::Rc;
use std::time::{Duration, Instant};

use coord::CoordError;
use coord::quorum::{MemberChange, MemberStatus};
use coord::types::BrokerId;
use uuid::Uuid;

use super::{ControllerError, Quorum};
use crate::runtime;
use crate::shard::Shard;

/// Between two attempts while another change is under way, or the node catches up.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a leader waits to hear from a majority before it says that there is none.
const ROLL_CALL: Duration = Duration::from_secs(3);
/// How long a leader that is to be removed waits until another one leads.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(5);

/// Lets a node vote that follows the log and keeps its data in `directory`.
pub async fn add(
    shard: &Rc<Shard>,
    node: BrokerId,
    directory: Uuid,
    patience: Duration,
) -> Result<(), ControllerError> {
    let quorum = office(shard)?;
    let members = quorum.members();
    if members.voters.contains(&node) {
        let text = format!("Node {node} is a voter already.");
        return Err(CoordError::DuplicateVoter(text).into());
    }
    let known = shard.image().node(node).map(|known| known.directory);
    if known != Some(directory) || !members.learners.contains(&node) {
        let text = match known {
            Some(known) if known != directory => format!(
                "Node {node} keeps its data in directory {}, not in {}.",
                protocol::uuid_text(known),
                protocol::uuid_text(directory)
            ),
            _ => format!("Node {node} does not follow the metadata log: start it first."),
        };
        return Err(CoordError::InvalidVoterKey(text).into());
    }
    let deadline = Instant::now() + patience;
    // One that has everything and is gone would be counted on, and missing.
    while !status(&quorum, node).is_some_and(|status| status.is_active) {
        wait(deadline).await?;
    }
    change(&quorum, MemberChange::Promote(node), deadline).await?;
    tracing::info!(node = node.0, "a node votes in the metadata quorum");
    Ok(())
}

/// Takes a voter's vote. The leader's own goes with its leadership: then the answer is that this is not the active controller any more, and whoever asks asks the next one.
pub async fn remove(
    shard: &Rc<Shard>,
    node: BrokerId,
    directory: Uuid,
    patience: Duration,
) -> Result<(), ControllerError> {
    let quorum = office(shard)?;
    let members = quorum.members();
    let known = shard.image().node(node).map(|known| known.directory);
    if !members.voters.contains(&node) || known.is_some_and(|known| known != directory) {
        let text = format!("There is no voter {node} with directory {}.", protocol::uuid_text(directory));
        return Err(CoordError::VoterNotFound(text).into());
    }
    let left: Vec<BrokerId> = members.voters.iter().copied().filter(|voter| *voter != node).collect();
    let me = shard.broker_id();
    let count_alive = || left.iter().filter(|voter| **voter == me || is_alive(&quorum, **voter)).count();
    // Who has just begun to lead has yet to hear from the others.
    let deadline = Instant::now() + ROLL_CALL;
    while count_alive() * 2 <= left.len() {
        if wait(deadline).await.is_err() {
            let alive = count_alive();
            let text =
                format!("Without node {node}, {alive} of {} voters would be there: no majority.", left.len());
            return Err(CoordError::InvalidRequest(text).into());
        }
    }
    if node == me {
        return Err(hand_over(&quorum, node).await);
    }
    let follows_on = is_alive(&quorum, node) || shard.image().is_active(node);
    let removal = if follows_on { MemberChange::Demote(node) } else { MemberChange::Remove(node) };
    change(&quorum, removal, Instant::now() + patience).await?;
    tracing::info!(node = node.0, follows_on, "a node votes no more in the metadata quorum");
    Ok(())
}

fn office(shard: &Shard) -> Result<Rc<Quorum>, ControllerError> {
    let quorum = shard.metadata.quorum().filter(|quorum| quorum.office().is_some());
    quorum.ok_or(ControllerError::NotActive)
}

fn status(quorum: &Quorum, node: BrokerId) -> Option<MemberStatus> {
    quorum.status().members.into_iter().find(|member| member.id == node)
}

fn is_alive(quorum: &Quorum, node: BrokerId) -> bool {
    status(quorum, node).is_some_and(|status| status.is_active)
}

async fn wait(deadline: Instant) -> Result<(), ControllerError> {
    if Instant::now() >= deadline {
        return Err(ControllerError::Busy);
    }
    runtime::sleep(PAUSE).await;
    Ok(())
}

/// Makes the change as soon as no other is under way and the node has caught up.
async fn change(quorum: &Rc<Quorum>, change: MemberChange, deadline: Instant) -> Result<(), ControllerError> {
    loop {
        match quorum.change_members(change).await {
            Err(ControllerError::Busy) => wait(deadline).await?,
            outcome => return outcome.map(|_| ()),
        }
    }
}

async fn hand_over(quorum: &Rc<Quorum>, me: BrokerId) -> ControllerError {
    let Some(heir) = quorum.hand_over() else { return ControllerError::Busy };
    tracing::info!(
        heir = heir.0,
        "the leader of the metadata quorum is to be removed: another one leads first"
    );
    let mut leadership = quorum.leadership();
    let handed = leadership.wait_for(|now| now.leader != me);
    let _ = runtime::timeout(HAND_OVER_PATIENCE, handed).await;
    ControllerError::NotActive
}
