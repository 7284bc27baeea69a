//! Whether this broker still hears an active controller; and if it does not, which other brokers it reaches. Runs on shard 0.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use coord::metadata::MetadataImage;
use coord::types::BrokerId;
use futures::future::join_all;

use crate::cluster::{self, Purpose};
use crate::replication::vain;
use crate::runtime;
use crate::shard::Shard;

/// How often it is looked whether the active controller is heard.
const INTERVAL: Duration = Duration::from_millis(250);
/// Who does not answer for so long is not reached.
const PROBE: Duration = Duration::from_millis(500);

/// Tells all shards which brokers are not reached while no active controller has answered for a whole session, by the end of which it has fenced this broker if it
/// is there; until the broker stops.
pub(super) async fn watch(shard: Rc<Shard>) {
    let session = Duration::from_millis(shard.config().broker_session_timeout_ms.into());
    let mut told = BTreeSet::new();
    while !shard.is_closing.get() {
        let is_heard = shard.metadata.membership.unheard_for() < session;
        let unreachable = if is_heard { BTreeSet::new() } else { unreachable(&shard).await };
        if unreachable != told {
            tell(&shard, &unreachable).await;
            told = unreachable;
        }
        runtime::sleep(INTERVAL).await;
    }
}

async fn tell(shard: &Rc<Shard>, unreachable: &BTreeSet<BrokerId>) {
    match unreachable.is_empty() {
        true => tracing::info!("an active controller, or every other broker, is reached again"),
        false => tracing::warn!(
            brokers = ?unreachable.iter().map(|id| id.0).collect::<Vec<_>>(),
            "neither an active controller nor these brokers are reached: what this broker leads with one of them in sync it leads in vain, and clients are sent away"
        ),
    }
    let told = unreachable.clone();
    let tell = move |shard: &Rc<Shard>| {
        vain::set_unreachable(shard, told.clone());
        std::future::ready(())
    };
    shard.mesh.call_all(tell).await;
}

/// The other brokers that are not fenced, as far as is known.
pub fn others<'i>(shard: &Shard, image: &'i MetadataImage) -> impl Iterator<Item = BrokerId> + use<'i> {
    let me = shard.broker_id();
    image.brokers().filter(move |broker| !broker.fenced && broker.id != me).map(|broker| broker.id)
}

/// Those of them that do not answer.
async fn unreachable(shard: &Rc<Shard>) -> BTreeSet<BrokerId> {
    let image = shard.image();
    let probes = others(shard, &image).map(|id| async move {
        match runtime::timeout(PROBE, cluster::dial(shard, id, Purpose::Control)).await {
            Some(Ok(link)) => {
                link.close();
                None
            }
            _ => Some(id),
        }
    });
    let probes: Vec<_> = probes.collect();
    drop(image);
    join_all(probes).await.into_iter().flatten().collect()
}
