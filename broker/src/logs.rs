//! A shard's partition logs: opening them at start, following the metadata, their loops, and a clean end.

use std::collections::HashSet;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use coord::config::log_config;
use coord::metadata::{MetadataImage, MetadataRecord, PartitionImage, TopicImage};
use storage::disk::DirectDisk;
use storage::journal::{Durability as JournalDurability, JournalConfig};
use storage::store::TopicStatus;
use storage::{
    LogConfig, PartitionId, PartitionLog, PartitionSpec, ShardStore, StorageError, StoreConfig,
    TopicIdPartition,
};
use uuid::Uuid;

use crate::Error;
use crate::config::Durability;
use crate::runtime;
use crate::shard::Shard;

/// The store that a shard has.
pub type Store = ShardStore<DirectDisk>;

/// The log of one partition.
pub type ShardLog = PartitionLog<DirectDisk>;

const TICK: Duration = Duration::from_secs(1);

/// Opens the logs of all partitions that the metadata gives to this shard, and starts the store's loops.
pub async fn open(shard: &Rc<Shard>, disk: DirectDisk) -> Result<Store, Error> {
    let unusable = |error: StorageError| {
        Error::Unsuitable(format!("shard {}: the logs cannot be opened: {error}", shard.id))
    };
    let image = shard.image();
    let config = store_config(shard, &image);
    let wanted = wanted_partitions(shard, &image);
    let began = std::time::Instant::now();
    let (store, report) = Store::open(disk, config, wanted, now_ms()).await.map_err(unusable)?;
    for (partition, why) in &report.offline {
        tracing::error!(%partition, why, "a partition is damaged and stays offline");
    }
    tracing::info!(
        shard = shard.id.0,
        partitions = report.partitions,
        clean = report.was_clean,
        replayed_batches = report.replayed_batches,
        replayed_bytes = report.replayed_bytes,
        scanned_bytes = report.scanned_bytes,
        offline = report.offline.len(),
        duration_ms = began.elapsed().as_millis() as u64,
        "logs opened"
    );
    for work in store.run() {
        let shard = Rc::clone(shard);
        runtime::spawn(async move {
            if let Err(error) = work.await {
                shard.fail(format!("data cannot be made durable: {error}"));
            }
        });
    }
    Ok(store)
}

/// Removes what deletions have left behind that a crash interrupted. To be called before any shard opens its logs.
pub async fn remove_deleted(
    disk: &DirectDisk,
    data_dir: &Path,
    image: &MetadataImage,
) -> Result<(), StorageError> {
    let names = |topic: &TopicImage| {
        let name = topic.name.to_string();
        (0..topic.indexed_partitions().count()).map(move |partition| format!("{name}-{partition}"))
    };
    let wanted: HashSet<String> = image.topics().flat_map(|topic| names(topic)).collect();
    let status = |topic_id| topic_status(image, topic_id);
    let found =
        storage::store::remove_gone_partitions(disk, data_dir, |name| wanted.contains(name), status).await?;
    for directory in found.removed {
        tracing::info!(directory, "removed what a deletion had left");
    }
    for directory in found.unknown {
        tracing::warn!(directory, "left alone: it names no topic that it belongs to");
    }
    Ok(())
}

/// The metadata log is complete, so a topic that it does not have is gone.
fn topic_status(image: &MetadataImage, topic_id: Uuid) -> TopicStatus {
    match image.topic_by_id(topic_id) {
        Some(_) => TopicStatus::Live,
        None => TopicStatus::Gone,
    }
}

/// Tells the store the time, and looks after retention; ends when the store is shut down.
pub async fn maintain(shard: Rc<Shard>) {
    let interval_ms = i64::try_from(shard.config().log_retention_check_interval_ms).unwrap_or(i64::MAX);
    let mut next_retention_ms = now_ms().saturating_add(interval_ms);
    while !shard.is_closing.get() {
        runtime::sleep(TICK).await;
        let now_ms = now_ms();
        if let Err(error) = shard.store().tick(now_ms).await {
            tracing::warn!(shard = shard.id.0, %error, "the store's state cannot be looked at");
        }
        if now_ms >= next_retention_ms {
            next_retention_ms = now_ms.saturating_add(interval_ms);
            if let Err(error) = shard.store().enforce_retention(now_ms).await {
                tracing::warn!(shard = shard.id.0, %error, "old segments cannot be removed");
            }
        }
    }
}

fn store_config(shard: &Shard, image: &Rc<MetadataImage>) -> StoreConfig {
    let config = shard.config();
    let number = |n: usize| u32::try_from(n).expect("a machine has fewer than 2^32 cores");
    let mut store =
        StoreConfig::new(shard.broker.data_dir(), number(shard.id.0), number(shard.count()), Uuid::new_v4());
    store.journal = JournalConfig {
        file_bytes: config.journal_file_bytes.0,
        max_files: config.journal_files_max as usize,
        ..store.journal
    };
    store.durability = match config.durability {
        Durability::Sync => JournalDurability::Sync,
        Durability::Write => JournalDurability::Write,
    };
    store.cache_bytes = usize::try_from(shard.broker.shard_cache_bytes()).unwrap_or(usize::MAX);
    store.low_space_bytes = config.low_space_bytes.0;
    store.producer_expiration_ms = i64::try_from(config.producer_id_expiration_ms).unwrap_or(i64::MAX);
    let image = Rc::clone(image);
    store.topic_status = Rc::new(move |topic_id| topic_status(&image, topic_id));
    store
}

fn wanted_partitions(shard: &Shard, image: &MetadataImage) -> Vec<PartitionSpec> {
    image.topics().flat_map(|topic| owned_by(shard, topic, 0)).collect()
}

/// The partitions of a topic, from `first` on, that belong to this shard.
fn owned_by(shard: &Shard, topic: &TopicImage, first: usize) -> Vec<PartitionSpec> {
    let name: Rc<str> = Rc::from(&*topic.name);
    let config = Rc::new(topic_log_config(shard, topic));
    let spec = |(partition, image): (PartitionId, &PartitionImage)| PartitionSpec {
        topic_id: topic.id,
        topic: name.clone(),
        partition,
        leader_epoch: image.leader_epoch,
        config: config.clone(),
    };
    let is_mine =
        |(partition, _): &(PartitionId, &PartitionImage)| shard.owner_of(topic.id, partition.0) == shard.id;
    topic.indexed_partitions().skip(first).filter(is_mine).map(spec).collect()
}

fn topic_log_config(shard: &Shard, topic: &TopicImage) -> LogConfig {
    log_config(&topic.configs, shard.topic_defaults())
}

/// Makes the logs of what `records` add. `image` has replayed them; the shard's own image has not.
pub async fn add(
    shard: &Shard,
    image: &MetadataImage,
    records: &[MetadataRecord],
) -> Result<(), StorageError> {
    for record in records {
        let (topic_id, first) = match record {
            MetadataRecord::Topic { topic_id, .. } => (*topic_id, 0),
            MetadataRecord::Partitions { topic_id, first_partition, .. } => {
                (*topic_id, first_partition.0.max(0) as usize)
            }
            MetadataRecord::TopicConfig { topic_id, .. } => {
                if let Some(topic) = image.topic_by_id(*topic_id) {
                    shard.store().update_config(topic.id, &Rc::new(topic_log_config(shard, topic)));
                }
                continue;
            }
            _ => continue,
        };
        // A topic that a later record of the same batch deletes is not in the image any more.
        let Some(topic) = image.topic_by_id(topic_id) else { continue };
        for spec in owned_by(shard, topic, first) {
            shard.store().create_partition(spec).await?;
        }
    }
    Ok(())
}

/// Removes the logs of topics that `records` delete.
pub async fn remove(shard: &Shard, records: &[MetadataRecord]) -> Result<(), StorageError> {
    for record in records {
        let MetadataRecord::RemoveTopic { topic_id } = record else { continue };
        let of_topic = |id: &TopicIdPartition| id.topic_id == *topic_id;
        for id in shard.store().partitions().into_iter().filter(of_topic) {
            shard.store().delete_partition(&id).await?;
        }
    }
    Ok(())
}

/// The wall clock in ms since the epoch.
pub fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
