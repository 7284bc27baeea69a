//! The directory of a partition: whose it is (`partition.metadata`, Kafka's text format), and how it goes away.

use crate::{
    disk::{Disk, DiskFile, DiskResult, NameStep, OpenMode, block_align, remove_slowly},
    error::{DiskError, StorageError},
    log::segment::file_name,
    store::config::TopicStatus,
    types::Offset,
};
use protocol::{parse_uuid_text, uuid_text};
use std::{
    io,
    path::{Path, PathBuf},
};
use uuid::Uuid;

/// Size of one write. Bytes.
const WRITE_BYTES: usize = 256 << 10;
pub(crate) const METADATA_FILE: &str = "partition.metadata";
/// Ending of a directory whose partition was deleted and whose files are being removed.
pub(crate) const DELETED_SUFFIX: &str = "-delete";

/// Writes the metadata file. Its name is durable after the next sync of the directory, which the caller needs for the first segment anyway.
pub(crate) async fn write_metadata<D: Disk>(
    disk: &D,
    directory: &Path,
    topic_id: Uuid,
) -> Result<(), StorageError> {
    replace_file(disk, &directory.join(METADATA_FILE), metadata_text(topic_id).as_bytes()).await
}

/// Creates the directory, and the metadata file beside its name; [`naming`] gives it that when it has become durable.
pub(crate) fn preparation(directory: &Path, topic_id: Uuid) -> [NameStep; 2] {
    let beside = temporary_name(&directory.join(METADATA_FILE));
    [
        NameStep::CreateDir(directory.to_owned()),
        NameStep::WriteFile(beside, metadata_text(topic_id).into_bytes()),
    ]
}

/// Gives the metadata file its name.
pub(crate) fn naming(directory: &Path) -> NameStep {
    let to = directory.join(METADATA_FILE);
    NameStep::Rename { from: temporary_name(&to), to }
}

/// Writes a whole file durably: beside, synced, then renamed.
pub(crate) async fn write_file<D: Disk>(disk: &D, path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    replace_file(disk, path, bytes).await?;
    disk.sync_dir(path.parent().expect("a file has a directory")).await?;
    Ok(())
}

/// As [`write_file`], but the name is not durable yet.
async fn replace_file<D: Disk>(disk: &D, path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let temporary = temporary_name(path);
    let file = disk.open(&temporary, OpenMode::CREATE).await?;
    let mut position = 0;
    for piece in bytes.chunks(WRITE_BYTES) {
        let aligned = block_align(piece.len());
        let mut buffer = disk.alloc(aligned);
        buffer[..piece.len()].copy_from_slice(piece);
        buffer[piece.len()..aligned].fill(0);
        file.write_at(position, &buffer.freeze(), aligned).await?;
        position += aligned as u64;
    }
    file.truncate(bytes.len() as u64).await?;
    file.sync_data().await?;
    file.close().await?;
    disk.rename(&temporary, path).await?;
    Ok(())
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

/// The topic id that a directory belongs to. `None` without a readable metadata file: a crash came before anything was in it.
pub(crate) async fn read_metadata<D: Disk>(disk: &D, directory: &Path) -> DiskResult<Option<Uuid>> {
    let path = directory.join(METADATA_FILE);
    let file = match disk.open(&path, OpenMode::READ).await {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let bytes = file.read_at(0, 256).await?;
    file.close().await?;
    metadata_in(directory, &bytes).map(Some)
}

/// The topic id in the metadata file of a directory.
pub(crate) fn metadata_in(directory: &Path, bytes: &[u8]) -> DiskResult<Uuid> {
    parse_metadata(bytes).ok_or_else(|| {
        let what =
            io::Error::new(io::ErrorKind::InvalidData, "not a partition.metadata file with a topic id");
        DiskError::new("read", &directory.join(METADATA_FILE), what)
    })
}

fn metadata_text(topic_id: Uuid) -> String {
    format!("version: 0\ntopic_id: {}\n", uuid_text(topic_id))
}

fn parse_metadata(bytes: &[u8]) -> Option<Uuid> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.lines();
    if lines.next()? != "version: 0" {
        return None;
    }
    parse_uuid_text(lines.next()?.strip_prefix("topic_id: ")?)
}

/// Removes the files of a segment, those that there are.
pub(crate) async fn remove_segment<D: Disk>(
    disk: &D,
    directory: &Path,
    base_offset: Offset,
) -> Result<(), StorageError> {
    let index = remove_index(disk, directory, base_offset).await;
    let log = remove_slowly(disk, &directory.join(file_name(base_offset, "log"))).await;
    index.and(or_gone(log).map_err(StorageError::from))
}

/// Removes the index files of a segment, those that there are.
pub(crate) async fn remove_index<D: Disk>(
    disk: &D,
    directory: &Path,
    base_offset: Offset,
) -> Result<(), StorageError> {
    let path = |suffix: &str| directory.join(file_name(base_offset, suffix));
    let outcomes = [disk.remove(&path("index")).await, disk.remove(&path("timeindex")).await];
    outcomes.into_iter().try_for_each(or_gone).map_err(StorageError::from)
}

/// What is not there need not be removed.
fn or_gone(removed: DiskResult<()>) -> DiskResult<()> {
    match removed {
        Err(error) if error.is_not_found() => Ok(()),
        removed => removed,
    }
}

/// Moves a partition's directory out of the way of a new partition of the same name, durably, and removes it.
pub(crate) async fn remove_directory<D: Disk>(
    disk: &D,
    directory: &Path,
    topic_id: Uuid,
) -> Result<(), StorageError> {
    let parent = directory.parent().expect("a partition's directory has a parent").to_owned();
    let name = directory.file_name().and_then(|n| n.to_str()).unwrap_or("partition");
    let doomed = parent.join(format!("{name}.{}{DELETED_SUFFIX}", topic_id.simple()));
    let moved = match disk.rename(directory, &doomed).await {
        // An earlier life of the partition is still being given back.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            remove_now(disk, &doomed).await?;
            disk.rename(directory, &doomed).await
        }
        moved => moved,
    };
    match moved {
        Ok(()) => {}
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    disk.sync_dir(&parent).await?;
    disk.give_back(&doomed).await?;
    Ok(())
}

/// Removes a directory with its files, although somebody else may be at it too.
async fn remove_now<D: Disk>(disk: &D, doomed: &Path) -> Result<(), StorageError> {
    let found = |outcome: DiskResult<()>| match outcome {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    };
    for entry in disk.list(doomed).await? {
        found(disk.remove(&doomed.join(&entry.name)).await)?;
    }
    found(disk.remove_dir(doomed).await)?;
    Ok(())
}

/// What a look through the partition directories found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StrayReport {
    /// Directories of deleted topics, removed.
    pub removed: Vec<String>,
    /// Directories of topics that the metadata does not know; left alone.
    pub unknown: Vec<String>,
}

/// Removes the directories of partitions whose topic the metadata says is gone, and what earlier deletions left behind. Directories of topics
/// that it does not know are reported and left alone, and those with the name of a partition that is wanted are not looked at: its store does
/// that. For the whole data directory: call it once at start, before the shards' stores open.
///
/// # Errors
/// [`StorageError::Disk`].
pub async fn remove_gone_partitions<D: Disk>(
    disk: &D,
    data_dir: &Path,
    is_wanted: impl Fn(&str) -> bool,
    topic_status: impl Fn(Uuid) -> TopicStatus,
) -> Result<StrayReport, StorageError> {
    let mut report = StrayReport::default();
    let topics = data_dir.join("topics");
    let entries = match disk.list(&topics).await {
        Err(error) if error.is_not_found() => return Ok(report),
        other => other?,
    };
    for entry in entries.into_iter().filter(|e| e.is_dir) {
        let directory = topics.join(&entry.name);
        if entry.name.ends_with(DELETED_SUFFIX) && entry.name.contains('.') && is_doomed_name(&entry.name) {
            disk.give_back(&directory).await?;
            continue;
        }
        if is_wanted(&entry.name) {
            continue;
        }
        match read_metadata(disk, &directory).await? {
            Some(id) if topic_status(id) == TopicStatus::Gone => {
                remove_directory(disk, &directory, id).await?;
                report.removed.push(entry.name);
            }
            Some(id) if topic_status(id) == TopicStatus::Live => {}
            _ => report.unknown.push(entry.name),
        }
    }
    Ok(report)
}

/// `<name>.<32 hex digits>-delete`.
pub(crate) fn is_doomed_name(name: &str) -> bool {
    let Some((_, id)) = name.strip_suffix(DELETED_SUFFIX).and_then(|n| n.rsplit_once('.')) else {
        return false;
    };
    id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_ids_are_written_as_kafka_writes_them() {
        assert_eq!(metadata_text(Uuid::from_u128(1)), "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ\n");
        for id in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_0011_2233_4455_6677] {
            let id = Uuid::from_u128(id);
            assert_eq!(parse_metadata(metadata_text(id).as_bytes()), Some(id));
        }
        assert_eq!(parse_metadata(b"version: 1\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ\n"), None);
        assert_eq!(parse_metadata(b"version: 0\ntopic_id: short\n"), None);
    }

    #[test]
    fn only_our_own_endings_mean_a_doomed_directory() {
        assert!(is_doomed_name("a.b-0.0123456789abcdef0123456789abcdef-delete"));
        assert!(!is_doomed_name("topic-delete"));
        assert!(!is_doomed_name("my.topic-delete"));
    }
}
