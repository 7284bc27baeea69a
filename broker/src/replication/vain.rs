//! Leaders that lead in vain: what they take can no longer be committed, and somebody else may lead by now.
//!
//! One is a leader whose follower knows of a later epoch. The other is a leader whose broker hears no active controller, so that it may have been fenced without
//! knowing, and does not reach a replica that is in sync as far as it knows, so that nothing would be committed even if nobody had been elected. Clients are told
//! NOT_LEADER_OR_FOLLOWER then and look elsewhere; what is committed can still be read. While only the controllers are away, leaders that reach their followers go on.
//!
//! Apache Kafka's brokers go on either way, and their clients wait until their requests have taken too long.

use std::collections::BTreeSet;
use std::rc::Rc;

use coord::replica::Role;
use coord::types::BrokerId;
use storage::LeaderEpoch;
use storage::disk::Disk;

use super::Replicas;
use super::host::Host;
use super::hosted::Hosted;
use super::replicas::tell_role;

/// This broker hears no active controller, and does not reach these brokers; or it hears one, then there are none.
pub fn set_unreachable<H: Host>(host: &Rc<H>, brokers: BTreeSet<BrokerId>) {
    let replicas = host.replicas();
    if *replicas.unreachable.borrow() == brokers {
        return;
    }
    replicas.unreachable.replace(brokers);
    for hosted in replicas.all() {
        review(host, &hosted);
    }
}

/// Somebody knows of a later leader epoch, of which the metadata will tell in time.
pub(super) fn heard_of_later_epoch<H: Host>(host: &Rc<H>, hosted: &Rc<Hosted<H::Disk>>, epoch: LeaderEpoch) {
    hosted.later_epoch.set(hosted.later_epoch.get().max(epoch));
    review(host, hosted);
}

/// Whether the replica leads in vain.
pub(super) fn is_in_vain<D: Disk>(replicas: &Replicas<D>, hosted: &Hosted<D>) -> bool {
    let replica = hosted.replica.borrow();
    if !matches!(replica.role(), Role::Leader { .. }) {
        return false;
    }
    let unreachable = replicas.unreachable.borrow();
    let mut in_sync = replica.followers(0).filter(|status| status.is_in_sync);
    hosted.later_epoch.get() > replica.leader_epoch()
        || in_sync.any(|status| unreachable.contains(&status.id))
}

fn review<H: Host>(host: &Rc<H>, hosted: &Rc<Hosted<H::Disk>>) {
    let is_in_vain = is_in_vain(host.replicas(), hosted);
    if hosted.is_in_vain.replace(is_in_vain) != is_in_vain {
        tell_role(host, hosted);
    }
}
