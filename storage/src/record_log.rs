//! A small durable log of opaque records, for state that is replayed as a whole at each start (the metadata log): records are appended in groups
//! that are there entirely or not at all, and the log is now and then rewritten from a snapshot.
//!
//! The file is zero-filled ahead in steps, so that an append is one written-through direct write in place. The last block is written again by the
//! next append with the same bytes at its front: however a write is torn, what was there before stays as it was.
//!
//! ```text
//! block 0 (4096 bytes): magic "RECDLOG\0" (8), format version 1 (u32), CRC-32C of the 12 bytes before (u32), zeros
//! then groups, one after the other, and zeros up to the end of the file:
//!    0   4  magic "RGRP"
//!    4   4  length of the records with their lengths
//!    8   8  sequence: 1 for the first group of the file, then without holes
//!   16   4  number of records
//!   20   4  CRC-32C of bytes 0..20 and of the records
//!   24      records: length (u32), bytes
//! ```
//! All integers are little-endian. A group that does not verify is the end of the log, unless a later group does: then it is damage.

use crate::{
    disk::{BLOCK, Disk, DiskFile, FrozenBuf, OpenMode, block_align, zero_fill},
    error::StorageError,
};
use bytes::Bytes;
use std::{
    io,
    path::{Path, PathBuf},
};

const FILE_MAGIC: [u8; 8] = *b"RECDLOG\0";
const GROUP_MAGIC: [u8; 4] = *b"RGRP";
const FORMAT_VERSION: u32 = 1;
const GROUP_HEADER_BYTES: usize = 24;
/// The file grows by at least this, so that few appends pay for it.
const GROWTH_BYTES: u64 = if cfg!(test) { 16 * 1024 } else { 256 * 1024 };
/// A rewritten log is divided into groups of about this size.
const REWRITE_GROUP_BYTES: usize = 1 << 20;
/// A larger group is refused: its length field would not hold it.
const MAX_GROUP_BYTES: usize = 1 << 30;

/// A small durable log of opaque records. One writer at a time, which `&mut self` sees to.
pub struct RecordLog<D: Disk> {
    disk: D,
    path: PathBuf,
    file: D::File,
    /// The end of the zero-filled space.
    allocated: u64,
    /// Where the next group goes.
    end: u64,
    /// What the last, partly filled block holds already.
    tail: Vec<u8>,
    next_sequence: u64,
    /// An operation is under way or was not completed: what is on disk is not known.
    is_unsettled: bool,
}

impl<D: Disk> RecordLog<D> {
    /// Opens the log at `path`, or makes an empty one (its directory has to exist), and gives back all its records in order.
    pub async fn open(disk: D, path: &Path) -> Result<(Self, Vec<Bytes>), StorageError> {
        match disk.remove(&new_path(path)).await {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
        let file = match disk.open(path, OpenMode::WRITE_DSYNC).await {
            Err(error) if error.is_not_found() => {
                let (file, layout) =
                    write_new(&disk, path, &Layout::of_new_file::<&[u8]>(&[], path)?).await?;
                return Ok((Self::with(disk, path, file, layout), Vec::new()));
            }
            opened => opened?,
        };
        let bytes = file.len().await?;
        let content = file.read_at(0, usize::try_from(bytes).map_err(|_| too_large(path))?).await?;
        let (records, layout) = parse(path, &content)?;
        let log = Self::with(disk, path, file, layout);
        log.clear_remains(&content).await?;
        Ok((log, records))
    }

    fn with(disk: D, path: &Path, file: D::File, layout: Layout) -> Self {
        let Layout { allocated, end, tail, next_sequence, .. } = layout;
        Self { disk, path: path.to_owned(), file, allocated, end, tail, next_sequence, is_unsettled: false }
    }

    /// Overwrites what an interrupted append has left behind the end, and makes durable what was found before it.
    async fn clear_remains(&self, content: &[u8]) -> Result<(), StorageError> {
        let remains = content.get(self.end as usize..).unwrap_or_default();
        if let Some(last) = remains.iter().rposition(|byte| *byte != 0) {
            tracing::warn!(path = %self.path.display(), position = self.end, bytes = last + 1,
                "the end of an append that was not completed is cleared");
            let from = self.end - self.tail.len() as u64;
            let mut block = self.disk.alloc(BLOCK);
            block[..BLOCK].fill(0);
            block[..self.tail.len()].copy_from_slice(&self.tail);
            self.file.write_at(from, &block.freeze(), BLOCK).await?;
            let to = block_align(self.end as usize + last + 1) as u64;
            zero_fill(&self.disk, &self.file, from + BLOCK as u64, to).await?;
        }
        Ok(self.file.sync_data().await?)
    }

    /// Appends `records` as one group. When it returns `Ok` they are durable; after a crash there are all of them or none. After an error, or
    /// if the future is dropped, the log takes no more appends: it has to be opened again.
    pub async fn append<R: AsRef<[u8]>>(&mut self, records: &[R]) -> Result<(), StorageError> {
        self.settled()?;
        if records.is_empty() {
            return Ok(());
        }
        let start = self.end - self.tail.len() as u64;
        let mut bytes = self.tail.clone();
        encode_group(&mut bytes, self.next_sequence, records, &self.path)?;
        let padded = block_align(bytes.len());
        self.is_unsettled = true;
        let grown = self.grow(start + padded as u64).await;
        self.settle_if_only_space_lacks(&grown);
        grown?;
        self.file.write_at(start, &padded_buffer(&self.disk, &bytes), padded).await?;

        self.end = start + bytes.len() as u64;
        self.tail = bytes.split_off(bytes.len() - bytes.len() % BLOCK);
        self.next_sequence += 1;
        self.is_unsettled = false;
        Ok(())
    }

    /// Replaces the whole log by `records`, durably and at once: a crash leaves the old log or the new one.
    pub async fn rewrite<R: AsRef<[u8]>>(&mut self, records: &[R]) -> Result<(), StorageError> {
        self.settled()?;
        let new = Layout::of_new_file(records, &self.path)?;
        self.is_unsettled = true;
        let written = write_beside(&self.disk, &self.path, &new).await;
        self.settle_if_only_space_lacks(&written);
        written?;
        let (file, layout) = put_in_place(&self.disk, &self.path, &new).await?;
        *self = Self::with(self.disk.clone(), &self.path, file, layout);
        Ok(())
    }

    /// The size of the log's content in bytes: what a rewrite would save.
    pub fn size_bytes(&self) -> u64 {
        self.end - BLOCK as u64
    }

    fn settled(&self) -> Result<(), StorageError> {
        if self.is_unsettled {
            let what = io::Error::other("an earlier append or rewrite did not complete");
            return Err(crate::DiskError::new("append to", &self.path, what).into());
        }
        Ok(())
    }

    /// A preparation that has found no space has changed nothing that counts: it can be tried again.
    fn settle_if_only_space_lacks(&mut self, prepared: &Result<(), StorageError>) {
        if prepared.as_ref().is_err_and(StorageError::is_out_of_space) {
            self.is_unsettled = false;
        }
    }

    /// Sees to it that the file is zero-filled up to `needed` at least.
    async fn grow(&mut self, needed: u64) -> Result<(), StorageError> {
        if needed > self.allocated {
            let target = needed.next_multiple_of(GROWTH_BYTES);
            self.file.preallocate(target).await?;
            zero_fill(&self.disk, &self.file, self.allocated, target).await?;
            self.file.sync_data().await?;
            self.allocated = target;
        }
        Ok(())
    }
}

/// Where things are in a file, and, of a new one, the bytes themselves.
struct Layout {
    content: Vec<u8>,
    allocated: u64,
    end: u64,
    tail: Vec<u8>,
    next_sequence: u64,
}

impl Layout {
    fn of_new_file<R: AsRef<[u8]>>(records: &[R], path: &Path) -> Result<Self, StorageError> {
        let mut content = vec![0; BLOCK];
        content[..8].copy_from_slice(&FILE_MAGIC);
        content[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        let checksum = crc32c::crc32c(&content[..12]);
        content[12..16].copy_from_slice(&checksum.to_le_bytes());

        let mut next_sequence = 1;
        let mut rest = records;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |record: &&R| {
                bytes += record.as_ref().len();
                bytes <= REWRITE_GROUP_BYTES
            };
            let group = rest.iter().take_while(fits).count().max(1);
            encode_group(&mut content, next_sequence, &rest[..group], path)?;
            next_sequence += 1;
            rest = &rest[group..];
        }
        let end = content.len() as u64;
        let tail = content[content.len() - content.len() % BLOCK..].to_vec();
        Ok(Self { allocated: (end + 1).next_multiple_of(GROWTH_BYTES), end, tail, next_sequence, content })
    }
}

/// Writes a file beside the log, makes it durable and puts it in the log's place.
async fn write_new<D: Disk>(
    disk: &D,
    path: &Path,
    layout: &Layout,
) -> Result<(D::File, Layout), StorageError> {
    write_beside(disk, path, layout).await?;
    put_in_place(disk, path, layout).await
}

/// Writes the new file under another name.
async fn write_beside<D: Disk>(disk: &D, path: &Path, layout: &Layout) -> Result<(), StorageError> {
    let new = new_path(path);
    match disk.remove(&new).await {
        Err(error) if !error.is_not_found() => return Err(error.into()),
        _ => {}
    }
    let file = disk.open(&new, OpenMode::CREATE_NEW).await?;
    file.preallocate(layout.allocated).await?;
    let padded = block_align(layout.content.len());
    file.write_at(0, &padded_buffer(disk, &layout.content), padded).await?;
    zero_fill(disk, &file, padded as u64, layout.allocated).await?;
    file.sync_data().await?;
    Ok(file.close().await?)
}

/// Gives the new file the log's name.
async fn put_in_place<D: Disk>(
    disk: &D,
    path: &Path,
    layout: &Layout,
) -> Result<(D::File, Layout), StorageError> {
    let dir = path.parent().ok_or_else(|| StorageError::InvalidConfig("a log needs a directory".into()))?;
    disk.rename(&new_path(path), path).await?;
    disk.sync_dir(dir).await?;
    let file = disk.open(path, OpenMode::WRITE_DSYNC).await?;
    Ok((file, Layout { content: Vec::new(), tail: layout.tail.clone(), ..*layout }))
}

fn new_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn padded_buffer<D: Disk>(disk: &D, bytes: &[u8]) -> FrozenBuf {
    let mut buffer = disk.alloc(bytes.len());
    buffer[..bytes.len()].copy_from_slice(bytes);
    buffer[bytes.len()..].fill(0);
    buffer.freeze()
}

fn too_large(path: &Path) -> StorageError {
    StorageError::InvalidConfig(format!("{}: a record log cannot be that large", path.display()))
}

fn encode_group<R: AsRef<[u8]>>(
    target: &mut Vec<u8>,
    sequence: u64,
    records: &[R],
    path: &Path,
) -> Result<(), StorageError> {
    let body_bytes: usize = records.iter().map(|record| 4 + record.as_ref().len()).sum();
    if body_bytes > MAX_GROUP_BYTES {
        return Err(too_large(path));
    }
    let start = target.len();
    target.extend_from_slice(&GROUP_MAGIC);
    target.extend_from_slice(&(body_bytes as u32).to_le_bytes());
    target.extend_from_slice(&sequence.to_le_bytes());
    target.extend_from_slice(&(records.len() as u32).to_le_bytes());
    target.extend_from_slice(&[0; 4]);
    for record in records {
        target.extend_from_slice(&(record.as_ref().len() as u32).to_le_bytes());
        target.extend_from_slice(record.as_ref());
    }
    let checksum = group_checksum(&target[start..]);
    target[start + 20..start + 24].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}

fn group_checksum(group: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&group[..20]), &group[GROUP_HEADER_BYTES..])
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The group at the front of `bytes`: its sequence and its length, if it verifies.
fn group_at(bytes: &[u8]) -> Option<(u64, usize)> {
    let header = bytes.get(..GROUP_HEADER_BYTES)?;
    if header[..4] != GROUP_MAGIC {
        return None;
    }
    let len = GROUP_HEADER_BYTES + u32_at(header, 4)? as usize;
    let group = bytes.get(..len)?;
    let sequence = u64::from_le_bytes(header[8..16].try_into().ok()?);
    (u32_at(header, 20)? == group_checksum(group)).then_some((sequence, len))
}

/// The records of a file, and where it ends.
fn parse(path: &Path, content: &Bytes) -> Result<(Vec<Bytes>, Layout), StorageError> {
    let corrupt = |position: usize, what: &str| StorageError::Corrupt {
        path: path.to_owned(),
        position: position as u64,
        what: what.to_owned(),
        partitions: Vec::new(),
    };
    let is_sound = content.len() >= BLOCK
        && content[..8] == FILE_MAGIC
        && u32_at(content, 12) == Some(crc32c::crc32c(&content[..12]));
    if !is_sound {
        return Err(corrupt(0, "the file header does not verify"));
    }
    match u32_at(content, 8) {
        Some(FORMAT_VERSION) => {}
        found => {
            return Err(StorageError::UnsupportedFormat {
                path: path.to_owned(),
                found: found.unwrap_or(0),
                supported: FORMAT_VERSION,
            });
        }
    }
    let mut records = Vec::new();
    let mut at = BLOCK;
    let mut next_sequence = 1;
    while let Some((_, len)) = group_at(&content[at..]).filter(|(sequence, _)| *sequence == next_sequence) {
        let count = u32_at(content, at + 16).unwrap_or(0);
        let mut record_at = at + GROUP_HEADER_BYTES;
        for _ in 0..count {
            let bytes = u32_at(content, record_at).map(|bytes| bytes as usize);
            let end = bytes.map(|bytes| record_at + 4 + bytes).filter(|end| *end <= at + len);
            let end = end.ok_or_else(|| corrupt(record_at, "a record is longer than its group"))?;
            records.push(content.slice(record_at + 4..end));
            record_at = end;
        }
        at += len;
        next_sequence += 1;
    }
    let later = (at..content.len()).find(|later| {
        content[*later] == GROUP_MAGIC[0]
            && group_at(&content[*later..]).is_some_and(|(sequence, _)| sequence >= next_sequence)
    });
    if later.is_some() {
        return Err(corrupt(at, &format!("group {next_sequence} does not verify, and later ones do")));
    }
    let tail = content[at - at % BLOCK..at].to_vec();
    let allocated = (content.len() - content.len() % BLOCK) as u64;
    Ok((records, Layout { content: Vec::new(), allocated, end: at as u64, tail, next_sequence }))
}

#[cfg(test)]
mod tests;
