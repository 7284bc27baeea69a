//! What a shard's replicas hear of the metadata.

use std::rc::Rc;

use coord::config::replication_config;
use coord::metadata::{MetadataImage, MetadataRecord, PartitionImage, TopicImage};
use coord::planted::Planted;
use coord::replica::{PartitionState, ReplicaConfig};
use storage::{PartitionId, TopicIdPartition};
use uuid::Uuid;

use super::shard_host::keep_time;
use super::{links, replicas};
use crate::cluster::Purpose;
use crate::logs::high_watermark_mode;
use crate::runtime;
use crate::shard::Shard;

/// From now on the shard takes part in replication: its logs are open, and its image has this process's registration.
pub fn open(shard: &Rc<Shard>) {
    let shard_of_commits = Rc::downgrade(shard);
    shard.store().observe_commits(move |event| {
        if let Some(shard) = shard_of_commits.upgrade() {
            shard.metrics.commits.note(event);
            replicas::on_commit(&shard, event);
        }
    });
    let image = shard.image();
    let Some(registration) = image.broker(shard.broker_id()) else { return };
    let config = shard.config();
    let ms = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    shard.replication.replicas.begin(ReplicaConfig {
        me: shard.broker_id(),
        broker_epoch: registration.broker_epoch,
        replica_lag_time_max_ms: ms(config.replica_lag_time_max_ms),
        slow_replica_time_max_ms: ms(config.replica_slow_time_max_ms.min(config.replica_lag_time_max_ms)),
        rejoin_after_ms: ms(config.replica_slow_time_max_ms.saturating_mul(2)),
        alter_partition_retry_ms: 1_000,
        planted: Planted::default(),
    });
    for topic in image.topics() {
        tell_topic(shard, &image, topic);
    }
    runtime::spawn(keep_time(Rc::clone(shard)));
    let shard_of_moves = Rc::downgrade(shard);
    shard.cluster.share(shard.count(), move |target, moved| {
        if let Some(shard) = shard_of_moves.upgrade() {
            shard.mesh.tell(target, move |there| there.cluster.adopt(moved));
        }
    });
    let shard_of_links = Rc::downgrade(shard);
    shard.cluster.serve(Purpose::Replication, move |link| {
        if let Some(shard) = shard_of_links.upgrade() {
            runtime::spawn(links::take_in(shard, link));
        }
    });
}

/// The shard's image has taken the record; logs that it adds are there, logs that it takes away are still there.
pub fn record_replayed(shard: &Rc<Shard>, record: &MetadataRecord) {
    let image = shard.image();
    match record {
        MetadataRecord::Topic { topic_id, .. }
        | MetadataRecord::Partitions { topic_id, .. }
        | MetadataRecord::TopicConfig { topic_id, .. } => {
            if let Some(topic) = image.topic_by_id(*topic_id) {
                tell_topic(shard, &image, topic);
            }
        }
        MetadataRecord::PartitionChange { topic_id, partition, .. } => {
            if let Some(topic) = image.topic_by_id(*topic_id) {
                tell_partition(shard, &image, topic, *partition);
            }
        }
        MetadataRecord::RemoveTopic { topic_id } => forget_topic(shard, *topic_id),
        MetadataRecord::RegisterBroker(_)
        | MetadataRecord::UnregisterBroker { .. }
        | MetadataRecord::BrokerFencing { .. } => brokers_changed(shard, &image),
        _ => {}
    }
}

/// The shard has another image.
pub fn image_replaced(shard: &Rc<Shard>) {
    let image = shard.image();
    for hosted in shard.replication.replicas.all() {
        if image.topic_by_id(hosted.id.topic_id).is_none() {
            shard.replication.replicas.remove(&hosted.id);
        }
    }
    brokers_changed(shard, &image);
    for topic in image.topics() {
        tell_topic(shard, &image, topic);
    }
}

fn brokers_changed(shard: &Rc<Shard>, image: &MetadataImage) {
    let replicas = &shard.replication.replicas;
    let registered = image.broker(shard.broker_id()).map(|broker| broker.broker_epoch);
    if let (Some(mine), Some(registered)) = (replicas.broker_epoch(), registered)
        && mine != registered
        && !replicas.all().is_empty()
    {
        // What its replicas have said in the name of this process does not count any more, and nothing tells them so.
        return shard.fail(
            "another process has registered under this broker's id, or this one again: it has to start anew",
        );
    }
    for hosted in replicas.all() {
        if let Some(topic) = image.topic_by_id(hosted.id.topic_id) {
            tell_partition(shard, image, topic, hosted.id.partition);
        }
    }
}

fn tell_topic(shard: &Rc<Shard>, image: &MetadataImage, topic: &TopicImage) {
    for (partition, _) in topic.indexed_partitions() {
        tell_partition(shard, image, topic, partition);
    }
}

fn tell_partition(shard: &Rc<Shard>, image: &MetadataImage, topic: &TopicImage, partition: PartitionId) {
    if shard.owner_of(topic.id, partition.0) != shard.id {
        return;
    }
    let (id, replicas) = (TopicIdPartition::new(topic.id, partition), &shard.replication.replicas);
    let Some(found) = topic.partition(partition) else { return };
    if !found.replicas.contains(&shard.broker_id()) {
        return replicas.remove(&id);
    }
    let Some(log) = shard.log(&id) else { return };
    let mode = high_watermark_mode(found);
    if !is_replicated(found) {
        replicas.remove(&id);
        return log.set_high_watermark_mode(mode);
    }
    if !log.is_replicated() {
        log.set_high_watermark_mode(mode);
    }
    let defaults = &shard.live().topic_defaults;
    let min_insync_replicas = replication_config(&topic.configs, defaults).min_insync_replicas;
    let state = PartitionState::new(found, min_insync_replicas, |id| {
        image.broker(id).map(|broker| (broker.broker_epoch, image.is_active(id)))
    });
    replicas::state_changed(shard, &id, state);
}

/// Whether others hold the partition, too.
fn is_replicated(partition: &PartitionImage) -> bool {
    partition.replicas.len() > 1
}

fn forget_topic(shard: &Rc<Shard>, topic_id: Uuid) {
    for hosted in shard.replication.replicas.all() {
        if hosted.id.topic_id == topic_id {
            shard.replication.replicas.remove(&hosted.id);
        }
    }
}
