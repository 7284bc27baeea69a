//! Upkeep of the ring's files: creating, recycling and opening them. Runs beside the writer and never in its way.

use super::{
    config::JournalConfig,
    entry::{CommitSeq, FileSeq},
    format::{FILE_HEADER_BYTES, FileHeader, Identity},
    ring::{RetiredFile, RingFile},
};
use crate::disk::{BLOCK, Disk, DiskFile, DiskResult, OpenMode, zero_fill};
use std::{
    path::{Path, PathBuf},
    rc::Rc,
};

pub(super) const FILE_SUFFIX: &str = ".journal";
/// A file under construction; holds nothing.
pub(super) const NEW_SUFFIX: &str = ".journal.new";
/// A file that was found damaged, set aside when its commits were released.
pub(super) const DAMAGED_SUFFIX: &str = ".journal.damaged";

pub(super) fn file_path(dir: &Path, seq: FileSeq) -> PathBuf {
    dir.join(format!("{:020}{FILE_SUFFIX}", seq.0))
}

/// Opens a ring file for both kinds of writing.
pub(super) async fn open_ring_file<D: Disk>(
    disk: &D,
    seq: FileSeq,
    path: PathBuf,
    bytes: u64,
) -> DiskResult<RingFile<D::File>> {
    let write_through = Rc::new(disk.open(&path, OpenMode::WRITE_DSYNC).await?);
    let plain = Rc::new(disk.open(&path, OpenMode::WRITE).await?);
    Ok(RingFile { seq, path, bytes, write_through, plain })
}

/// Makes a new file: zeros all over, header, sync, and only then its name.
pub(super) async fn create<D: Disk>(
    disk: &D,
    dir: &Path,
    config: &JournalConfig,
    identity: Identity,
    seq: FileSeq,
    released: CommitSeq,
) -> DiskResult<RingFile<D::File>> {
    let new_path = dir.join(format!("{:020}{NEW_SUFFIX}", seq.0));
    let path = file_path(dir, seq);
    let outcome = async {
        let file = disk.open(&new_path, OpenMode::CREATE).await?;
        file.preallocate(config.file_bytes).await?;
        // Zeros are written and not just reserved: the first write to reserved space would cost a metadata commit in every sync.
        zero_fill(disk, &file, FILE_HEADER_BYTES as u64, config.file_bytes).await?;
        write_header(disk, &file, identity, seq, released, config.file_bytes).await?;
        file.sync_data().await?;
        file.close().await?;
        disk.rename(&new_path, &path).await?;
        disk.sync_dir(dir).await
    }
    .await;
    if let Err(error) = outcome {
        if error.is_out_of_space() {
            // Gives back what was reserved. If that fails too the next start does it.
            let _ = disk.remove(&new_path).await;
        }
        return Err(error);
    }
    open_ring_file(disk, seq, path, config.file_bytes).await
}

/// Gives a retired file its next life: new name, then the new header, both durable before the first commit goes in. A crash in between
/// leaves a file whose header says less than its name, or does not verify: its old commits are then found and known to be released.
///
/// A file that cannot be used again (found damaged, or of another size) is replaced by a new one, and only then set aside or removed: the new
/// one's header says that the old one's commits are released, so that nobody misses them.
///
/// If this fails for want of space, `retired` says what has been done, and can be recycled again.
pub(super) async fn recycle<D: Disk>(
    disk: &D,
    dir: &Path,
    config: &JournalConfig,
    identity: Identity,
    retired: &mut RetiredFile<D::File>,
    seq: FileSeq,
    released: CommitSeq,
) -> DiskResult<RingFile<D::File>> {
    let old = retired.file.clone();
    if !retired.is_reusable(config) {
        if retired.replacement.is_none() {
            retired.replacement = Some(create(disk, dir, config, identity, seq, released).await?);
        }
        if retired.is_damaged {
            let aside = dir.join(format!("{:020}{DAMAGED_SUFFIX}", old.seq.0));
            disk.rename(&old.path, &aside).await?;
        } else {
            disk.remove(&old.path).await?;
        }
        disk.sync_dir(dir).await?;
        return Ok(retired.replacement.take().expect("made above"));
    }
    let path = file_path(dir, seq);
    disk.rename(&old.path, &path).await?;
    retired.file = Rc::new(RingFile { path: path.clone(), ..(*old).clone() });
    disk.sync_dir(dir).await?;
    write_header(disk, &*old.plain, identity, seq, released, old.bytes).await?;
    old.plain.sync_data().await?;
    Ok(RingFile { seq, path, ..(*old).clone() })
}

async fn write_header<D: Disk>(
    disk: &D,
    file: &D::File,
    identity: Identity,
    file_seq: FileSeq,
    released: CommitSeq,
    file_bytes: u64,
) -> DiskResult<()> {
    let mut block = disk.alloc(BLOCK);
    FileHeader { identity, file_seq, released, file_bytes }.encode(&mut block[..FILE_HEADER_BYTES]);
    file.write_at(0, &block.freeze(), FILE_HEADER_BYTES).await
}
