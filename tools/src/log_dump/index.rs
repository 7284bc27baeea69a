//! Index files, in Kafka's formats (`OffsetIndex`, `TimeIndex`), all big-endian, offsets relative to the file name's:
//!
//! ```text
//! .index      8 bytes each: relative offset i32, position in the segment i32
//! .timeindex 12 bytes each: timestamp i64, relative offset i32
//! ```
//! Zeros behind the last entry are room that Kafka preallocates. Where the segment lies beside the index, entries are
//! compared with its batches.

use std::{fs, io::Write, path::Path};

use protocol::records::BatchView;

use super::{
    LogDumpError, Output, base_offset_of,
    line::Line,
    segment::{Found, SegmentReader},
};

/// A batch of the segment beside an index.
struct Batch {
    position: u64,
    base_offset: i64,
    last_offset: i64,
}

/// Prints an offset index; false if it is damaged.
pub(super) fn dump_offsets(path: &Path, output: &mut Output<'_, impl Write>) -> Result<bool, LogDumpError> {
    let batches = batches_beside(path);
    let mut previous: Option<(i64, u32)> = None;
    dump(path, output, |base_offset, entry: &[u8; 8], report| {
        let (relative, position) = entry.split_at(4);
        let offset = base_offset + i64::from(be_u32(relative));
        let position = be_u32(position);
        report.entry(&Line::OffsetIndex { offset, position })?;
        if previous.is_some_and(|(last_offset, last)| offset <= last_offset || position <= last) {
            report.damage(format!("offset {offset} at position {position} does not increase"))?;
        }
        previous = Some((offset, position));
        if let Some(batches) = &batches {
            let found = batches.binary_search_by_key(&u64::from(position), |batch| batch.position);
            let points_at = found.ok().map(|index| &batches[index]);
            if !points_at.is_some_and(|batch| (batch.base_offset..=batch.last_offset).contains(&offset)) {
                report.damage(format!("no batch with offset {offset} starts at position {position}"))?;
            }
        }
        Ok(())
    })
}

/// Prints a time index; false if it is damaged.
pub(super) fn dump_times(path: &Path, output: &mut Output<'_, impl Write>) -> Result<bool, LogDumpError> {
    let batches = batches_beside(path);
    let mut previous: Option<(i64, i64)> = None;
    dump(path, output, |base_offset, entry: &[u8; 12], report| {
        let (timestamp, relative) = entry.split_first_chunk::<8>().expect("twelve bytes hold eight");
        let timestamp = i64::from_be_bytes(*timestamp);
        let offset = base_offset + i64::from(be_u32(relative));
        report.entry(&Line::TimeIndex { timestamp, offset })?;
        if previous.is_some_and(|(time, last_offset)| timestamp <= time || offset < last_offset) {
            report.damage(format!("timestamp {timestamp} at offset {offset} does not increase"))?;
        }
        previous = Some((timestamp, offset));
        let end =
            batches.as_ref().map(|batches| batches.last().map_or(base_offset, |batch| batch.last_offset + 1));
        if end.is_some_and(|end| offset >= end) {
            report.damage(format!("offset {offset} is beyond the segment's end"))?;
        }
        Ok(())
    })
}

/// Where the lines about one index go.
struct Report<'a, 'b, W> {
    name: &'a str,
    position: u64,
    sound: bool,
    output: &'a mut Output<'b, W>,
}

impl<W: Write> Report<'_, '_, W> {
    fn entry(&mut self, line: &Line<'_>) -> Result<(), LogDumpError> {
        Ok(self.output.detail(line)?)
    }

    fn damage(&mut self, reason: String) -> Result<(), LogDumpError> {
        self.sound = false;
        Ok(self.output.print(&Line::Damage { path: self.name, position: self.position, reason })?)
    }
}

fn dump<const N: usize, W: Write>(
    path: &Path,
    output: &mut Output<'_, W>,
    mut entry: impl FnMut(i64, &[u8; N], &mut Report<'_, '_, W>) -> Result<(), LogDumpError>,
) -> Result<bool, LogDumpError> {
    let name = path.display().to_string();
    let bytes = fs::read(path).map_err(|source| LogDumpError::Read { path: path.to_owned(), source })?;
    output.detail(&Line::File { path: name.clone() })?;
    let base_offset = base_offset_of(path).unwrap_or(0);
    let (entries, cut) = bytes.as_chunks::<N>();
    // The first entry may be all zeros in a sound time index; later ones cannot.
    let preallocated = entries.iter().rev().take_while(|entry| entry.iter().all(|byte| *byte == 0)).count();
    let used = entries.len() - preallocated;
    let mut report = Report { name: &name, position: 0, sound: true, output };
    for bytes in &entries[..used] {
        entry(base_offset, bytes, &mut report)?;
        report.position += N as u64;
    }
    if !cut.is_empty() && preallocated == 0 {
        report.damage(format!("{} bytes are no whole entry", cut.len()))?;
    }
    let sound = report.sound;
    output.print(&Line::IndexSummary { path: &name, entries: used as u64, sound })?;
    Ok(sound)
}

/// The batches of the segment that the index belongs to, if it is there; as far as it can be read.
fn batches_beside(path: &Path) -> Option<Vec<Batch>> {
    let mut reader = SegmentReader::open(&path.with_extension("log")).ok()?;
    let mut batches = Vec::new();
    loop {
        let position = reader.position;
        let Ok(Found::Batch(bytes)) = reader.next() else { return Some(batches) };
        let batch = BatchView::parse(&bytes).expect("the reader has parsed it");
        batches.push(Batch { position, base_offset: batch.base_offset(), last_offset: batch.last_offset() });
    }
}

fn be_u32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("callers pass four bytes"))
}
