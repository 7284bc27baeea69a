//! Partitions that the metadata has given to other brokers while this one was down: what journal and directories still hold of them goes when the store is open.
//!
//! Should the partition come back one day, it begins anew: nothing of its former life may turn up in it. So the journal says first that it was deleted, and only
//! then its directory goes. A crash in between leaves the whole of it, and the next start begins here again.

use crate::{
    disk::Disk,
    error::StorageError,
    store::{
        ShardStore, TopicStatus,
        partition_dir::{is_doomed_name, read_metadata, remove_directory},
    },
    types::{LeaderEpoch, Offset, PartitionId, TopicIdPartition},
};
use std::{collections::BTreeMap, path::PathBuf};

impl<D: Disk> ShardStore<D> {
    /// Removes what is left of partitions that this broker does not hold any more although their topics exist. To be called once, when the loops of
    /// [`run`](Self::run) are running and before anything is created. `is_held` says whether a directory's name is that of a partition of this broker, and
    /// `is_of_this_shard` whose task another one is. Answers with the partitions.
    ///
    /// # Errors
    /// [`StorageError::Disk`], [`StorageError::Journal`]: nothing may be created then.
    pub async fn remove_moved(
        &self,
        is_held: impl Fn(&str) -> bool,
        is_of_this_shard: impl Fn(&TopicIdPartition) -> bool,
    ) -> Result<Vec<TopicIdPartition>, StorageError> {
        let of_journal = self.shared.moved.take();
        let mut moved: BTreeMap<TopicIdPartition, Option<PathBuf>> =
            of_journal.into_iter().map(|id| (id, None)).collect();
        for entry in self.shared.disk.list(&self.shared.topics_dir()).await? {
            if !entry.is_dir || is_held(&entry.name) || is_doomed_name(&entry.name) {
                continue;
            }
            let directory = self.shared.topics_dir().join(&entry.name);
            let Some(topic_id) = read_metadata(&self.shared.disk, &directory).await? else { continue };
            let partition = entry.name.rsplit_once('-').and_then(|(_, number)| number.parse().ok());
            let Some(partition) = partition.map(PartitionId) else { continue };
            let id = TopicIdPartition::new(topic_id, partition);
            let is_live = (self.shared.config.topic_status)(topic_id) == TopicStatus::Live;
            if is_live && self.partition(&id).is_none() && (moved.contains_key(&id) || is_of_this_shard(&id))
            {
                moved.insert(id, Some(directory));
            }
        }
        let mut last = None;
        for id in moved.keys() {
            last = Some(self.tell_deleted(id, Offset::ZERO, LeaderEpoch::default()).await?);
        }
        if let Some(commit) = last {
            self.durable(commit).await?;
        }
        for (id, directory) in &moved {
            tracing::info!(partition = %id, "removed: the partition has moved to other brokers");
            if let Some(directory) = directory {
                remove_directory(&self.shared.disk, directory, id.topic_id).await?;
            }
        }
        Ok(moved.into_keys().collect())
    }
}
