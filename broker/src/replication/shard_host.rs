//! A shard of the broker as the host of its replicas.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use coord::config::throttle::{is_follower_throttled, is_leader_throttled};
use coord::metadata::names::GROUP_METADATA_TOPIC;
use coord::replica::{AlterPartition, AlterRefusal, Role};
use coord::types::BrokerId;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use protocol::ErrorCode;
use storage::TopicIdPartition;
use storage::disk::DirectDisk;

use super::host::{Host, Route};
use super::links::{self, Inbound};
use super::message::PartitionReply;
use super::metrics::IsrChange;
use super::throttle::{self, Ends};
use super::{Replicas, replicas};
use crate::controller;
use crate::groups;
use crate::logs::{self, Store};
use crate::placement::ShardId;
use crate::runtime;
use crate::shard::Shard;

/// Proposals that go to the controller in one request.
const PROPOSALS_MAX: usize = 1000;
/// How often replicas are looked at to which time matters.
const TICK: Duration = Duration::from_millis(100);

/// A shard's part in replication.
pub struct Replication {
    /// Its replicas.
    pub replicas: Replicas<DirectDisk>,
    /// Links of leaders that this shard has taken.
    pub(super) inbound: RefCell<BTreeMap<u64, Rc<Inbound>>>,
    /// What waits for a request to the controller.
    proposals: RefCell<Vec<(TopicIdPartition, AlterPartition)>>,
    is_proposing: Cell<bool>,
}

impl Replication {
    /// Without replicas. `catch_up_bytes_per_second` bounds what followers are sent out of segments; 0 does not.
    pub fn new(catch_up_bytes_per_second: u64) -> Self {
        Replication {
            replicas: Replicas::new(catch_up_bytes_per_second),
            inbound: RefCell::default(),
            proposals: RefCell::default(),
            is_proposing: Cell::new(false),
        }
    }
}

impl Host for Shard {
    type Disk = DirectDisk;

    fn store(&self) -> &Store {
        Shard::store(self)
    }

    fn replicas(&self) -> &Replicas<DirectDisk> {
        &self.replication.replicas
    }

    fn now_ms(&self) -> i64 {
        runtime::monotonic_ms()
    }

    fn wall_clock_ms(&self) -> i64 {
        logs::now_ms()
    }

    fn spawn(&self, task: LocalBoxFuture<'static, ()>) {
        runtime::spawn(task);
    }

    fn throttled(&self, id: &TopicIdPartition, follower: BrokerId) -> Ends<bool> {
        let image = self.image();
        let Some(topic) = image.topic_by_id(id.topic_id) else { return Ends::default() };
        Ends {
            leader: is_leader_throttled(&topic.configs, id.partition, self.broker_id()),
            follower: is_follower_throttled(&topic.configs, id.partition, follower),
        }
    }

    fn throttled_rates(&self, follower: BrokerId) -> Ends<u64> {
        throttle::rates(&self.image(), self.broker_id(), follower, self.count())
    }

    fn sleep(&self, duration: Duration) -> LocalBoxFuture<'static, ()> {
        runtime::sleep(duration).boxed_local()
    }

    fn reply(&self, route: Route, replies: Vec<PartitionReply>) {
        at_home(self, route, move |inbound| inbound.reply(replies));
    }

    fn break_link(&self, route: Route) {
        at_home(self, route, |inbound| inbound.close());
    }

    fn propose(self: &Rc<Self>, id: TopicIdPartition, proposal: AlterPartition) {
        self.replication.proposals.borrow_mut().push((id, proposal));
        if !self.replication.is_proposing.replace(true) {
            runtime::spawn(propose_all(Rc::clone(self)));
        }
    }

    fn follower_appeared(self: &Rc<Self>, follower: BrokerId) {
        runtime::spawn(links::serve_follower(Rc::clone(self), follower));
    }

    fn role_changed(self: &Rc<Self>, id: TopicIdPartition, role: Role) {
        let image = self.image();
        let Some(topic) = image.topic_by_id(id.topic_id) else { return };
        tracing::debug!(shard = self.id.0, topic = %topic.name, partition = id.partition.0, ?role, "a replica's role");
        if *topic.name == *GROUP_METADATA_TOPIC {
            groups::follow::role_changed(self, id, matches!(role, Role::Leader { .. }));
        }
    }

    fn fail(&self, reason: String) {
        Shard::fail(self, reason);
    }
}

/// Does something with a link on the shard that has taken it, if it is still there.
fn at_home(shard: &Shard, route: Route, act: impl FnOnce(&Inbound) + Send + 'static) {
    shard.mesh.tell(ShardId(route.home), move |home| {
        let inbound = home.replication.inbound.borrow().get(&route.link).cloned();
        if let Some(inbound) = inbound {
            act(&inbound);
        }
    });
}

/// Brings proposals to the controller, as many as there are in each request, until there are none. One whose outcome nobody knows is made again by its
/// replica.
async fn propose_all(shard: Rc<Shard>) {
    loop {
        let mut proposals = shard.replication.proposals.take();
        if proposals.is_empty() {
            shard.replication.is_proposing.set(false);
            return;
        }
        let rest = proposals.split_off(proposals.len().min(PROPOSALS_MAX));
        shard.replication.proposals.borrow_mut().extend(rest);
        let effects: Vec<IsrChange> =
            proposals.iter().map(|(id, proposal)| isr_change(&shard, id, proposal)).collect();
        let counters = &shard.replication.replicas.counters;
        let outcomes = match controller::alter_partition(&shard, &proposals).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                counters.failed_isr_updates.add(proposals.len() as u64);
                tracing::debug!(shard = shard.id.0, %error, "in-sync replicas could not be proposed");
                runtime::sleep(TICK).await;
                continue;
            }
        };
        for (((id, proposal), outcome), change) in proposals.iter().zip(outcomes).zip(effects) {
            counters.note_proposal(outcome.is_ok(), change);
            let refusal = match outcome {
                Err(ErrorCode::INELIGIBLE_REPLICA) => AlterRefusal::Ineligible,
                // What was accepted, or has been overtaken, the metadata says; what fails otherwise is asked again.
                _ => AlterRefusal::Outdated,
            };
            if outcome.is_err() {
                let epochs = (proposal.leader_epoch, proposal.partition_epoch);
                replicas::refused(&shard, id, epochs, refusal);
            }
        }
    }
}

/// What a proposal would change in the metadata as it is now.
fn isr_change(shard: &Shard, id: &TopicIdPartition, proposal: &AlterPartition) -> IsrChange {
    let image = shard.image();
    let state = image.topic_by_id(id.topic_id).and_then(|topic| topic.partition(id.partition));
    let now = state.map_or(&[][..], |state| &state.in_sync_replicas);
    let proposed = |id: &BrokerId| proposal.in_sync_replicas.iter().any(|(member, _)| member == id);
    IsrChange {
        shrinks: now.iter().any(|id| !proposed(id)),
        expands: proposal.in_sync_replicas.iter().any(|(id, _)| !now.contains(id)),
    }
}

/// Looks after replicas to which time matters, until the shard is closed.
pub(super) async fn keep_time(shard: Rc<Shard>) {
    while !shard.is_closing.get() {
        shard.replication.replicas.watch().await;
        runtime::sleep(TICK).await;
        replicas::tick(&shard);
    }
}
