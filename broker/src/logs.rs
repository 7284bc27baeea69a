//! A shard's partition logs: opening them at start, following the metadata, their loops, and a clean end.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ahash::AHashMap;
use coord::config::log_config;
use coord::metadata::{MetadataImage, MetadataRecord, PartitionImage, TopicImage};
use storage::disk::DirectDisk;
use storage::journal::{Durability as JournalDurability, JournalConfig};
use storage::store::{HighWatermarkMode, TopicStatus};
use storage::{
    LogConfig, PartitionId, PartitionLog, PartitionSpec, ShardStore, StorageError, StoreConfig,
    TopicIdPartition,
};
use uuid::Uuid;

use crate::Error;
use crate::config::{Config, Durability};
use crate::controller::CONTROLLER_SHARD;
use crate::replication::replicas;
use crate::runtime;
use crate::shard::Shard;

/// The store that a shard has.
pub type Store = ShardStore<DirectDisk>;

/// The log of one partition.
pub type ShardLog = PartitionLog<DirectDisk>;

const TICK: Duration = Duration::from_secs(1);

/// What goes on being wrong is told so often.
const COMPLAINT_INTERVAL_MS: i64 = 60_000;

/// Opens the logs of all partitions that the metadata gives to this shard, and starts the store's loops.
pub async fn open(shard: &Rc<Shard>, disk: DirectDisk) -> Result<Store, Error> {
    let unusable = |error: StorageError| {
        Error::Unsuitable(format!("shard {}: the logs cannot be opened: {error}", shard.id))
    };
    let image = shard.image();
    let config = store_config(shard);
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
    let is_of_this_shard = |id: &TopicIdPartition| shard.owner_of(id.topic_id, id.partition.0) == shard.id;
    let is_held = |name: &str| partition_named(&image, name).is_some_and(|held| is_held(shard, held));
    store.remove_moved(is_held, is_of_this_shard).await.map_err(unusable)?;
    Ok(store)
}

/// The partition whose directory has this name.
fn partition_named<'i>(image: &'i MetadataImage, name: &str) -> Option<&'i PartitionImage> {
    let (topic, number) = name.rsplit_once('-')?;
    let partition: i32 = number.parse().ok()?;
    // One that we would not have written like this is not ours.
    (partition.to_string() == number).then_some(())?;
    image.topic(topic)?.partition(PartitionId(partition))
}

/// Removes what deletions have left behind that a crash interrupted. To be called before any shard opens its logs.
pub async fn remove_deleted(
    shard: &Shard,
    disk: &DirectDisk,
    image: &MetadataImage,
) -> Result<(), StorageError> {
    let data_dir = shard.broker.data_dir();
    let is_wanted = |name: &str| partition_named(image, name).is_some();
    let status = |topic_id| topic_status(image, topic_id);
    let found = storage::store::remove_gone_partitions(disk, data_dir, is_wanted, status).await?;
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

/// Something that goes on being wrong: worth a line when it begins or changes, and now and then while it lasts.
#[derive(Debug, Default)]
struct Complaint {
    last: Option<(String, i64)>,
}

impl Complaint {
    fn is_due(&mut self, what: &str, now_ms: i64) -> bool {
        let is_known = self.last.as_ref().is_some_and(|(last, since_ms)| {
            last == what && now_ms.saturating_sub(*since_ms) < COMPLAINT_INTERVAL_MS
        });
        if !is_known {
            self.last = Some((what.to_owned(), now_ms));
        }
        !is_known
    }

    fn is_over(&mut self) {
        self.last = None;
    }
}

/// Tells the store the time, and looks after retention; ends when the store is shut down.
pub async fn maintain(shard: Rc<Shard>) {
    let interval_ms = i64::try_from(shard.config().log_retention_check_interval_ms).unwrap_or(i64::MAX);
    let mut next_retention_ms = now_ms().saturating_add(interval_ms);
    let (mut unwell, mut was_full) = (Complaint::default(), false);
    while !shard.is_closing.get() {
        runtime::sleep(TICK).await;
        let now_ms = now_ms();
        match shard.store().tick(now_ms).await {
            Ok(()) => unwell.is_over(),
            Err(error) => {
                if unwell.is_due(&error.to_string(), now_ms) {
                    tracing::warn!(shard = shard.id.0, %error, "the store's state cannot be looked at");
                }
            }
        }
        let is_full = matches!(shard.store().writable(), Err(StorageError::LowSpace { .. }));
        if std::mem::replace(&mut was_full, is_full) != is_full {
            let of_shard = shard.id;
            let told = shard.mesh.call(CONTROLLER_SHARD, move |controller: &Rc<Shard>| {
                controller.metadata.membership.note_disk(of_shard, is_full);
                std::future::ready(())
            });
            told.await;
        }
        if now_ms >= next_retention_ms {
            next_retention_ms = now_ms.saturating_add(interval_ms);
            if let Err(error) = shard.store().enforce_retention(now_ms).await {
                tracing::warn!(shard = shard.id.0, %error, "old segments cannot be removed");
            }
            replicas::log_starts_moved(&shard);
        }
    }
}

fn store_config(shard: &Rc<Shard>) -> StoreConfig {
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
    store.index_cache_bytes = shard.broker.shard_index_cache_bytes();
    store.read_ahead_bytes = shard.broker.shard_read_ahead_bytes();
    store.low_space_bytes = config.low_space_bytes.0;
    store.producer_expiration_ms = producer_expiration_ms(&shard.live().config);
    // The shard holds the store.
    let shard = Rc::downgrade(shard);
    store.topic_status = Rc::new(move |topic_id| match shard.upgrade() {
        Some(shard) => topic_status(&shard.image(), topic_id),
        None => TopicStatus::Unknown,
    });
    store
}

fn wanted_partitions(shard: &Shard, image: &MetadataImage) -> Vec<PartitionSpec> {
    image.topics().flat_map(|topic| NewLogs::of(topic).specs(shard, 0, &topic.partitions)).collect()
}

/// A topic whose logs are to be made.
struct NewLogs<'a> {
    id: Uuid,
    name: &'a str,
    configs: &'a BTreeMap<String, String>,
}

impl<'a> NewLogs<'a> {
    fn of(topic: &'a TopicImage) -> Self {
        NewLogs { id: topic.id, name: &topic.name, configs: &topic.configs }
    }

    /// The partitions that this broker holds and that belong to this shard; `partitions` are those from `first` on.
    fn specs(&self, shard: &Shard, first: usize, partitions: &[PartitionImage]) -> Vec<PartitionSpec> {
        let name: Rc<str> = Rc::from(self.name);
        let config = topic_log_config(shard, self.configs);
        let indexed = (first..).map(|index| PartitionId(index as i32)).zip(partitions);
        let is_mine = |(partition, image): &(PartitionId, &PartitionImage)| {
            is_held(shard, image) && shard.owner_of(self.id, partition.0) == shard.id
        };
        let spec = |(partition, image): (PartitionId, &PartitionImage)| PartitionSpec {
            topic_id: self.id,
            topic: name.clone(),
            partition,
            leader_epoch: image.leader_epoch,
            config: config.clone(),
            high_watermark: high_watermark_mode(image),
        };
        indexed.filter(is_mine).map(spec).collect()
    }
}

/// Who says what is committed: the log itself where it is the only one.
pub fn high_watermark_mode(partition: &PartitionImage) -> HighWatermarkMode {
    match partition.replicas.len() {
        0 | 1 => HighWatermarkMode::FollowsDurableEnd,
        _ => HighWatermarkMode::Replicated,
    }
}

/// Whether this broker has a replica of the partition.
fn is_held(shard: &Shard, partition: &PartitionImage) -> bool {
    partition.replicas.contains(&shard.broker_id())
}

fn topic_log_config(shard: &Shard, configs: &BTreeMap<String, String>) -> Rc<LogConfig> {
    Rc::new(log_config(configs, &shard.live().topic_defaults))
}

/// Makes the logs of what `record` adds, before the shard's image has it.
pub async fn before(shard: &Shard, record: &MetadataRecord) -> Result<(), StorageError> {
    let specs = match record {
        MetadataRecord::Topic { topic_id, name, configs, partitions } => {
            let configs = configs.iter().cloned().collect();
            let topic = NewLogs { id: *topic_id, name, configs: &configs };
            topic.specs(shard, 0, partitions)
        }
        MetadataRecord::Partitions { topic_id, first_partition, partitions } => {
            let image = shard.image();
            // An image without the topic refuses the record itself.
            let Some(topic) = image.topic_by_id(*topic_id) else { return Ok(()) };
            NewLogs::of(topic).specs(shard, first_partition.0.max(0) as usize, partitions)
        }
        // This broker may have become one of its replicas.
        MetadataRecord::PartitionChange { topic_id, partition, state } => {
            let image = shard.image();
            let Some(topic) = image.topic_by_id(*topic_id) else { return Ok(()) };
            NewLogs::of(topic).specs(shard, partition.0.max(0) as usize, std::slice::from_ref(state))
        }
        _ => return Ok(()),
    };
    create(shard, specs).await
}

/// Makes the logs that are not there yet.
async fn create(shard: &Shard, specs: Vec<PartitionSpec>) -> Result<(), StorageError> {
    for spec in specs {
        if shard.log(&spec.id()).is_none() {
            shard.store().create_partition(spec).await?;
        }
    }
    Ok(())
}

/// Makes the logs of everything that `image` gives to this shard and that is not there yet, before the shard has the image.
pub async fn create_missing(shard: &Shard, image: &MetadataImage) -> Result<(), StorageError> {
    create(shard, wanted_partitions(shard, image)).await
}

/// Removes the logs of everything that the shard's image does not give to it.
pub async fn remove_others(shard: &Shard) -> Result<(), StorageError> {
    for id in shard.store().partitions() {
        let image = shard.image();
        let state = image.topic_by_id(id.topic_id).and_then(|topic| topic.partition(id.partition));
        if !state.is_some_and(|state| is_held(shard, state)) {
            shard.store().delete_partition(&id).await?;
        }
    }
    Ok(())
}

/// Removes the logs of what `record` has deleted or given to others, and gives logs their topic's new config, after the shard's image has it.
pub async fn after(shard: &Shard, record: &MetadataRecord) -> Result<(), StorageError> {
    match record {
        MetadataRecord::RemoveTopic { topic_id } => {
            let of_topic = |id: &TopicIdPartition| id.topic_id == *topic_id;
            for id in shard.store().partitions().into_iter().filter(of_topic) {
                shard.store().delete_partition(&id).await?;
            }
        }
        MetadataRecord::PartitionChange { topic_id, partition, state } if !is_held(shard, state) => {
            let id = TopicIdPartition { topic_id: *topic_id, partition: *partition };
            if shard.log(&id).is_some() {
                shard.store().delete_partition(&id).await?;
            }
        }
        MetadataRecord::TopicConfig { topic_id, .. } => {
            if let Some(topic) = shard.image().topic_by_id(*topic_id) {
                shard.store().update_config(topic.id, &topic_log_config(shard, &topic.configs));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Gives all logs the config that their topics have by now: the operator's defaults have changed.
pub fn update_configs(shard: &Shard) {
    let image = shard.image();
    let mut by_topic: AHashMap<Uuid, Option<Rc<LogConfig>>> = AHashMap::new();
    shard.store().update_configs(|id| {
        let config = || image.topic_by_id(id).map(|topic| topic_log_config(shard, &topic.configs));
        by_topic.entry(id).or_insert_with(config).clone()
    });
}

/// `producer.id.expiration.ms` as storage takes it.
pub fn producer_expiration_ms(config: &Config) -> i64 {
    i64::try_from(config.producer_id_expiration_ms).unwrap_or(i64::MAX)
}

/// The wall clock in ms since the epoch.
pub fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_problem_is_told_when_it_begins_when_it_changes_and_once_a_minute() {
        let mut complaint = Complaint::default();
        assert!(complaint.is_due("gone", 0));
        assert!(!complaint.is_due("gone", 59_999));
        assert!(complaint.is_due("gone", 60_000));
        assert!(complaint.is_due("denied", 60_001));
        assert!(!complaint.is_due("denied", 60_002));
        complaint.is_over();
        assert!(complaint.is_due("denied", 60_003));
    }
}
