//! Which shards the data directory belongs to: their number may change between two starts.
//!
//! Journals and checkpoints lie in `shards/<generation>/<shard>/`; the file `layout` names the generation that counts and its number of shards. When
//! a store is opened with another number, every shard reads the old generation (and changes nothing in it), brings all that is its own into
//! segments, and sets up its part of the next generation. Once all shards are done the layout file is replaced, which is the moment of change:
//! before it a restart begins anew from the old generation, after it the old one is removed.

use crate::{
    disk::{Disk, DiskFile, OpenMode},
    error::StorageError,
    store::partition_dir::write_file,
};
use std::path::{Path, PathBuf};

const FILE_NAME: &str = "layout";

/// A generation of shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub generation: u64,
    pub shards: u32,
}

impl Layout {
    /// The layout that counts. `None` in a new data directory.
    pub async fn read<D: Disk>(disk: &D, data_dir: &Path) -> Result<Option<Self>, StorageError> {
        let path = data_dir.join(FILE_NAME);
        let file = match disk.open(&path, OpenMode::READ).await {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let bytes = file.read_at(0, 256).await?;
        file.close().await?;
        match Self::parse(&bytes) {
            Some(layout) => Ok(Some(layout)),
            None => Err(StorageError::Corrupt {
                path,
                position: 0,
                what: "not a layout file".to_owned(),
                partitions: Vec::new(),
            }),
        }
    }

    /// Makes this the layout that counts, durably.
    pub async fn write<D: Disk>(&self, disk: &D, data_dir: &Path) -> Result<(), StorageError> {
        let text = format!("version: 1\ngeneration: {}\nshards: {}\n", self.generation, self.shards);
        write_file(disk, &data_dir.join(FILE_NAME), text.as_bytes()).await
    }

    /// Where a shard of this generation keeps journal and checkpoints.
    pub fn shard_dir(&self, data_dir: &Path, shard: u32) -> PathBuf {
        self.generation_dir(data_dir).join(shard.to_string())
    }

    fn generation_dir(&self, data_dir: &Path) -> PathBuf {
        data_dir.join("shards").join(self.generation.to_string())
    }

    /// Removes what another generation than this one has left behind.
    pub async fn remove_others<D: Disk>(&self, disk: &D, data_dir: &Path) -> Result<(), StorageError> {
        let shards = data_dir.join("shards");
        let own = self.generation.to_string();
        for entry in disk.list(&shards).await? {
            if entry.is_dir && entry.name != own {
                remove_tree(disk, &shards.join(entry.name)).await?;
            }
        }
        Ok(())
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(bytes).ok()?.lines();
        if lines.next()? != "version: 1" {
            return None;
        }
        let generation = lines.next()?.strip_prefix("generation: ")?.parse().ok()?;
        let shards = lines.next()?.strip_prefix("shards: ")?.parse().ok()?;
        Some(Self { generation, shards })
    }
}

/// Removes a directory of files and directories.
pub(crate) async fn remove_tree<D: Disk>(disk: &D, dir: &Path) -> Result<(), StorageError> {
    let mut pending = vec![(dir.to_owned(), false)];
    while let Some((path, is_empty)) = pending.pop() {
        if is_empty {
            disk.remove_dir(&path).await?;
            continue;
        }
        pending.push((path.clone(), true));
        for entry in disk.list(&path).await? {
            let child = path.join(&entry.name);
            if entry.is_dir {
                pending.push((child, false));
            } else {
                disk.remove(&child).await?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;
    use futures::executor::block_on;

    #[test]
    fn a_layout_comes_back_and_others_can_be_removed() {
        block_on(async {
            let disk = SimDisk::new(1);
            let data = Path::new("/data");
            disk.create_dir_all(data).await.unwrap();
            assert_eq!(Layout::read(&disk, data).await.unwrap(), None);
            let old = Layout { generation: 3, shards: 2 };
            let new = Layout { generation: 4, shards: 1 };
            for layout in [old, new] {
                disk.create_dir_all(&layout.shard_dir(data, 0)).await.unwrap();
                layout.write(&disk, data).await.unwrap();
                assert_eq!(Layout::read(&disk, data).await.unwrap(), Some(layout));
            }
            disk.open(&old.shard_dir(data, 0).join("x"), OpenMode::CREATE).await.unwrap();
            new.remove_others(&disk, data).await.unwrap();
            let left = disk.list(&data.join("shards")).await.unwrap();
            assert_eq!(left.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["4"]);
        });
    }
}
