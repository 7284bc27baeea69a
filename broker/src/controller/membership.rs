//! This broker's place in its cluster: it registers at its start, says at regular intervals that it is alive, and asks for leave before it stops. Runs on
//! shard 0.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use coord::metadata::decide::FEATURES;
use coord::types::BrokerId;
use futures::future::select;
use protocol::ErrorCode;
use protocol::messages::broker_heartbeat::BrokerHeartbeatRequest;
use protocol::messages::broker_registration::{BrokerRegistrationRequest, Feature, Listener};
use protocol::messages::update_raft_voter::{self, UpdateRaftVoterRequest};
use tokio::sync::Notify;
use uuid::Uuid;

use super::control::ask_own;
use super::{CLIENT_LISTENER, ControllerError, PLAINTEXT};
use crate::cluster::CLUSTER_LISTENER;
use crate::config::HostPort;
use crate::placement::ShardId;
use crate::runtime;
use crate::shard::Shard;

const REGISTRATION_VERSION: i16 = 4;
const HEARTBEAT_VERSION: i16 = 1;
const UPDATE_VOTER_VERSION: i16 = 0;
/// Between two attempts to register, and between heartbeats while the broker is about to take part.
const PAUSE: Duration = Duration::from_millis(100);
/// How long one attempt looks for the active controller.
const ATTEMPT: Duration = Duration::from_secs(2);

/// What this broker knows of its own registration; lives on shard 0.
#[derive(Default)]
pub struct Membership {
    incarnation_id: Cell<Uuid>,
    broker_epoch: Cell<i64>,
    /// When the last heartbeat was sent that the active controller has answered ([`runtime::monotonic_ms`]).
    heard_ms: Cell<i64>,
    /// The broker wants to stop.
    is_leaving: Cell<bool>,
    /// Nothing keeps it from stopping.
    may_stop: Cell<bool>,
    /// Shards whose stores take nothing because the disk is full.
    full_shards: RefCell<BTreeSet<ShardId>>,
    hurry: Notify,
}

impl Membership {
    /// A shard's store takes nothing because the disk is full, or does again: the active controller hears of it at once.
    pub fn note_disk(&self, shard: ShardId, is_full: bool) {
        match is_full {
            true => self.full_shards.borrow_mut().insert(shard),
            false => self.full_shards.borrow_mut().remove(&shard),
        };
        self.hurry.notify_one();
    }

    /// How long ago the last heartbeat was sent that the active controller has answered.
    pub(super) fn unheard_for(&self) -> Duration {
        Duration::from_millis(runtime::monotonic_ms().abs_diff(self.heard_ms.get()))
    }
}

/// Registers this broker, however long it takes until somebody can answer; `is_new` says that its disk has nothing of former times. Returns the entry with
/// which that is committed.
pub(super) async fn register(shard: &Rc<Shard>, is_new: bool) -> u64 {
    let membership = &shard.metadata.membership;
    membership.incarnation_id.set(Uuid::new_v4());
    let began = Instant::now();
    let mut is_told = false;
    loop {
        match try_to_register(shard, is_new).await {
            Ok((Ok(broker_epoch), index)) => {
                membership.broker_epoch.set(broker_epoch);
                tracing::info!(broker_epoch, "registered with the active controller");
                return index;
            }
            Ok((Err(ErrorCode::INVALID_VOTER_KEY), _)) => {
                tracing::error!(
                    "this node votes in the metadata quorum with another data directory: it has lost that, and with it what it has promised. Remove it from \
                     the quorum ('brokerctl quorum remove'), then it joins anew, and can be added again"
                );
                runtime::sleep(ATTEMPT).await;
            }
            Ok((Err(error), _)) => tracing::warn!(
                error = error.name(),
                "the active controller refuses this broker; trying again"
            ),
            Err(error) => {
                if !is_told && began.elapsed() > ATTEMPT {
                    is_told = true;
                    tracing::warn!(%error, "waiting for a majority of controller_quorum_voters");
                }
            }
        }
        runtime::sleep(PAUSE).await;
    }
}

async fn try_to_register(
    shard: &Rc<Shard>,
    is_new: bool,
) -> Result<(Result<i64, ErrorCode>, u64), ControllerError> {
    let cluster = shard.broker.cluster.as_ref().expect("only a node of a cluster registers");
    let cluster_id = shard.cluster.cluster_id();
    let listener = |name: &'static str, address: &HostPort| Listener {
        name: Cow::Borrowed(name),
        host: Cow::Owned(address.host.clone()),
        port: address.port,
        security_protocol: PLAINTEXT,
        ..Default::default()
    };
    let features = FEATURES.iter().map(|feature| Feature {
        name: Cow::Borrowed(feature.name),
        min_supported_version: feature.min_level,
        max_supported_version: feature.max_level,
        ..Default::default()
    });
    let known = shard.image().broker(shard.broker_id()).map_or(0, |broker| broker.broker_epoch);
    let request = BrokerRegistrationRequest {
        broker_id: shard.broker_id().0,
        cluster_id: match cluster_id.is_nil() {
            true => Cow::Borrowed(""),
            false => Cow::Owned(protocol::uuid_text(cluster_id)),
        },
        incarnation_id: shard.metadata.membership.incarnation_id.get(),
        listeners: vec![
            listener(CLIENT_LISTENER, &shard.broker.advertised),
            listener(CLUSTER_LISTENER, &cluster.advertised),
        ],
        features: features.collect(),
        rack: shard.config().broker_rack.as_deref().map(Cow::Borrowed),
        log_dirs: vec![shard.metadata.directory_id.get()],
        previous_broker_epoch: if is_new { -1 } else { known },
        ..Default::default()
    };
    ask_own(shard, &request, REGISTRATION_VERSION, ATTEMPT, |response| match ErrorCode(response.error_code) {
        ErrorCode::NONE => Ok(response.broker_epoch),
        error => Err(error),
    })
    .await
}

/// Tells the active controller where this node, which is no broker, keeps its data, until that is known.
pub(super) async fn tell_directory(shard: Rc<Shard>) {
    let Some(cluster) = shard.broker.cluster.as_ref() else { return };
    let directory = shard.metadata.directory_id.get();
    while !shard.is_closing.get() {
        let is_known =
            shard.image().node(shard.broker_id()).is_some_and(|known| known.directory == directory);
        if is_known {
            return;
        }
        let request = UpdateRaftVoterRequest {
            cluster_id: None,
            current_leader_epoch: -1,
            voter_id: shard.broker_id().0,
            voter_directory_id: directory,
            listeners: vec![update_raft_voter::Listener {
                name: Cow::Borrowed(CLUSTER_LISTENER),
                host: Cow::Owned(cluster.advertised.host.clone()),
                port: cluster.advertised.port,
                ..Default::default()
            }],
            ..Default::default()
        };
        let asked = ask_own(&shard, &request, UPDATE_VOTER_VERSION, ATTEMPT, |response| {
            ErrorCode(response.error_code)
        });
        match asked.await {
            Ok((ErrorCode::NONE, index)) => shard.metadata.applied.reach(index).await,
            Ok((error, _)) => {
                tracing::error!(
                    error = error.name(),
                    "the active controller refuses this voter's data directory"
                );
                runtime::sleep(ATTEMPT).await;
            }
            Err(error) => {
                tracing::debug!(%error, "no active controller to tell where this node keeps its data")
            }
        }
        runtime::sleep(ATTEMPT).await;
    }
}

/// Says at regular intervals that this broker is alive, until it stops.
pub(super) async fn keep_alive(shard: Rc<Shard>) {
    let interval = Duration::from_millis(u64::from(shard.config().broker_heartbeat_interval_ms));
    let patience = Duration::from_millis(u64::from(shard.config().broker_session_timeout_ms) / 2);
    shard.metadata.membership.heard_ms.set(runtime::monotonic_ms());
    let mut is_fenced = true;
    while !shard.is_closing.get() {
        // An answer that was lost on its way does not come any more, and nothing else may be said on that link that would show it to be dead.
        let answered = runtime::timeout(patience, heartbeat(&shard)).await;
        match answered.unwrap_or(Err(ControllerError::NotActive)) {
            Ok(Ok(now_fenced)) => {
                if is_fenced && !now_fenced {
                    tracing::info!("this broker takes part in the cluster");
                }
                is_fenced = now_fenced;
            }
            Ok(Err(ErrorCode::STALE_BROKER_EPOCH | ErrorCode::BROKER_ID_NOT_REGISTERED)) => {
                tracing::warn!("this broker's registration does not count any more: it registers again");
                register(&shard, false).await;
            }
            Ok(Err(error)) => {
                tracing::warn!(error = error.name(), "the active controller refuses a heartbeat")
            }
            Err(error) => tracing::warn!(%error, "no active controller takes this broker's heartbeat"),
        }
        let pause = if is_fenced { interval.min(PAUSE) } else { interval };
        let membership = &shard.metadata.membership;
        let hurried = std::pin::pin!(membership.hurry.notified());
        select(hurried, std::pin::pin!(runtime::sleep(pause))).await;
    }
}

/// One heartbeat; whether the broker is fenced.
async fn heartbeat(shard: &Rc<Shard>) -> Result<Result<bool, ErrorCode>, ControllerError> {
    let membership = &shard.metadata.membership;
    let request = BrokerHeartbeatRequest {
        broker_id: shard.broker_id().0,
        broker_epoch: membership.broker_epoch.get(),
        current_metadata_offset: shard.image().next_offset() - 1,
        want_shut_down: membership.is_leaving.get(),
        // KIP-858 has this for disks that have failed.
        offline_log_dirs: match membership.full_shards.borrow().is_empty() {
            true => Vec::new(),
            false => vec![shard.metadata.directory_id.get()],
        },
        ..Default::default()
    };
    let sent_ms = runtime::monotonic_ms();
    let answered = ask_own(shard, &request, HEARTBEAT_VERSION, ATTEMPT, |response| {
        match ErrorCode(response.error_code) {
            ErrorCode::NONE => Ok((response.is_fenced, response.should_shut_down)),
            error => Err(error),
        }
    });
    let (outcome, index) = answered.await?;
    membership.heard_ms.set(sent_ms);
    Ok(match outcome {
        Ok((is_fenced, may_stop)) => {
            if may_stop {
                // What others lead from now on they should lead before this broker refuses clients.
                shard.metadata.applied.reach(index).await;
                membership.may_stop.set(true);
            }
            Ok(is_fenced)
        }
        Err(error) => Err(error),
    })
}

/// Asks for leave: returns when everything that others can lead is led by others, or `patience` is over. A controller that leads the quorum hands that over.
pub async fn leave(shard: &Rc<Shard>, patience: Duration) {
    if shard.broker.cluster.is_none() {
        return;
    }
    let Some(quorum) = shard.metadata.quorum() else { return };
    let deadline = Instant::now() + patience;
    let membership = &shard.metadata.membership;
    if shard.config().process_roles.broker() {
        membership.is_leaving.set(true);
        membership.hurry.notify_one();
        let mut last_led = Instant::now();
        let election = Duration::from_millis(shard.config().controller_quorum_election_timeout_ms.into());
        while !membership.may_stop.get() && Instant::now() < deadline {
            runtime::sleep(PAUSE / 10).await;
            if quorum.leadership().borrow().leader.is_some() {
                last_led = Instant::now();
            } else if last_led.elapsed() > 3 * election {
                // The others are gone: there is nobody to take over.
                break;
            }
        }
        if !membership.may_stop.get() {
            tracing::warn!("the active controller does not give leave; stopping all the same");
        }
    }
    if let Some(heir) = quorum.hand_over() {
        let me: BrokerId = shard.broker_id();
        let mut leadership = quorum.leadership();
        let handed = leadership.wait_for(|now| now.leader != me);
        let _ =
            runtime::timeout(deadline.saturating_duration_since(Instant::now()).min(ATTEMPT), handed).await;
        tracing::info!(heir = heir.0, "the metadata quorum is led by another node");
    }
    shard.metadata.applied.close(&quorum).await;
}
