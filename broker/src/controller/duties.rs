//! What the active controller does of itself: it names a new cluster, elects leaders for what has none, fences who is silent, and balances.

use std::rc::Rc;
use std::time::Duration;

use coord::metadata::decide::{balance_leaders, create_cluster, elect_missing_leaders, fence_broker};
use coord::types::BrokerId;

use super::{Controller, ControllerError};
use crate::runtime::{self, monotonic_ms};
use crate::shard::Shard;

/// How often brokers that have gone or fallen silent are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// A controller whose rest between two looks has lasted for this part of a session stood still (its process was stopped, its machine overloaded).
const STANDSTILL_SHARE: i64 = 3;
/// Leaders that move at once when they are balanced.
const MOVES_MAX: usize = 1000;

/// The duties of a term, which end with it.
pub(super) fn begin(shard: &Rc<Shard>, term: u64) {
    let (shard_of_first, shard_of_watch) = (Rc::clone(shard), Rc::clone(shard));
    runtime::spawn(async move {
        if let Err(error) = take_stock(&shard_of_first).await {
            tracing::info!(term, %error, "a new controller could not finish its first duties");
        }
    });
    if shard.broker.cluster.is_some() {
        runtime::spawn(watch_sessions(shard_of_watch, term));
        if shard.config().auto_leader_rebalance_enable {
            runtime::spawn(balance(Rc::clone(shard), term));
        }
    }
}

/// What has to be decided once in the beginning.
async fn take_stock(shard: &Rc<Shard>) -> Result<(), ControllerError> {
    let Some(controller) = shard.metadata.controller.get() else { return Ok(()) };
    let named = controller.commit(|image, context| Ok(create_cluster(image, context)));
    let elected = controller.commit_view(|view| Ok(elect_missing_leaders(view)));
    named.await?;
    elected.await.map(|_| ())
}

/// Whether this node is still the active controller of the term.
fn is_in_office(shard: &Shard, term: u64) -> bool {
    !shard.is_closing.get()
        && shard.metadata.controller.get().and_then(|controller| controller.term()) == Some(term)
}

async fn watch_sessions(shard: Rc<Shard>, term: u64) {
    let session_ms = i64::from(shard.config().broker_session_timeout_ms);
    while is_in_office(&shard, term) {
        let rests_from_ms = monotonic_ms();
        runtime::sleep(LOOK_INTERVAL).await;
        let Some(controller) = shard.metadata.controller.get() else { return };
        let gone = shard.metadata.quorum().map(|quorum| quorum.gone_members()).unwrap_or_default();
        let (left, silent) = controller
            .look(|image, sessions| {
                let now_ms = monotonic_ms();
                if now_ms - rests_from_ms > session_ms / STANDSTILL_SHARE {
                    sessions.begin_anew(now_ms);
                }
                let left = sessions.left(image, &gone, now_ms);
                let mut silent = sessions.expired(image, session_ms, now_ms);
                silent.retain(|broker| !left.contains(broker));
                (left, silent)
            })
            .unwrap_or_default();
        for (broker, broker_epoch) in left {
            fence(controller, broker, broker_epoch, "nobody listens at its address any more").await;
        }
        for (broker, broker_epoch) in silent {
            fence(controller, broker, broker_epoch, "it has been silent for broker_session_timeout_ms").await;
        }
    }
}

async fn fence(controller: &Controller, broker: BrokerId, broker_epoch: i64, reason: &'static str) {
    tracing::warn!(broker = broker.0, reason, "a broker is fenced");
    let fenced = controller.commit_view(move |view| fence_broker(view, broker, broker_epoch));
    if let Err(error) = fenced.await {
        tracing::warn!(broker = broker.0, %error, "a broker could not be fenced");
    }
}

async fn balance(shard: Rc<Shard>, term: u64) {
    let pause = Duration::from_secs(u64::from(shard.config().leader_imbalance_check_interval_seconds));
    loop {
        runtime::sleep(pause).await;
        if !is_in_office(&shard, term) {
            return;
        }
        let Some(controller) = shard.metadata.controller.get() else { return };
        let full = controller.look(|_, sessions| sessions.full().clone()).unwrap_or_default();
        let balanced = controller.commit_view(|view| Ok(balance_leaders(view, &full, MOVES_MAX)));
        match balanced.await {
            Ok((0, _)) => {}
            Ok((moved, _)) => tracing::info!(moved, "partitions went back to their preferred leaders"),
            Err(error) => tracing::info!(%error, "leaders could not be balanced"),
        }
    }
}
