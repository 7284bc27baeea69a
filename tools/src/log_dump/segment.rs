//! Segment files: one batch after another, from the file's start to its end or to the first bytes that are no batch.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, Write},
    path::Path,
};

use protocol::records::{
    BATCH_HEADER_BYTES, BatchError, BatchView, Origin, RecordIter, ValidationLimits, decompress, validate,
};

use super::{
    LogDumpError, Output, base_offset_of,
    line::{BatchLine, Line, RecordLine},
};

/// Plain bytes of one batch that a dump will hold.
const MAX_PLAIN_BYTES: usize = 1 << 30;

/// Prints a segment; false if it is damaged.
pub(super) fn dump(path: &Path, output: &mut Output<'_, impl Write>) -> Result<bool, LogDumpError> {
    let read_error = |source| LogDumpError::Read { path: path.to_owned(), source };
    let name = path.display().to_string();
    output.detail(&Line::File { path: name.clone() })?;
    let mut reader = SegmentReader::open(path).map_err(read_error)?;
    let (mut batches, mut records, mut sound) = (0, 0, true);
    let mut next_offset = base_offset_of(path).unwrap_or(0);
    loop {
        let position = reader.position;
        let mut damage = |output: &mut Output<'_, _>, reason: String| {
            sound = false;
            output.print(&Line::Damage { path: &name, position, reason })
        };
        let bytes = match reader.next().map_err(read_error)? {
            Found::End => break,
            Found::Zeros(bytes) => {
                output.detail(&Line::Padding { position, bytes })?;
                break;
            }
            Found::NoBatch { reason, rest } => {
                damage(output, format!("{reason}; {rest} bytes from here on cannot be read"))?;
                break;
            }
            Found::Batch(bytes) => bytes,
        };
        let batch = BatchView::parse(&bytes).expect("the reader has parsed it");
        let checked = check(&bytes);
        let printed = output.args.from.is_none_or(|from| batch.last_offset() >= from)
            && output.args.to.is_none_or(|to| batch.base_offset() <= to);
        if printed {
            output.detail(&Line::Batch(BatchLine::new(&batch, position, checked.is_ok())))?;
        }
        if batch.base_offset() < next_offset {
            let reason =
                format!("base offset {} where {next_offset} or more should follow", batch.base_offset());
            damage(output, reason)?;
        }
        match &checked {
            Err(error) => damage(output, error.to_string())?,
            Ok(()) if printed && output.args.records && !output.args.quiet => print_records(&batch, output)?,
            Ok(()) => {}
        }
        next_offset = next_offset.max(batch.next_offset());
        batches += 1;
        records += u64::try_from(batch.record_count()).unwrap_or(0);
    }
    output.print(&Line::SegmentSummary { path: &name, batches, records, bytes: reader.position, sound })?;
    Ok(sound)
}

fn check(bytes: &[u8]) -> Result<(), BatchError> {
    let mut limits = ValidationLimits {
        origin: Origin::Replication,
        max_message_bytes: usize::MAX,
        ..ValidationLimits::default()
    };
    limits.decompression.max_bytes = MAX_PLAIN_BYTES;
    validate(bytes, &limits, 0).map(drop)
}

fn print_records(batch: &BatchView<'_>, output: &mut Output<'_, impl Write>) -> Result<(), LogDumpError> {
    let payload = decompress(batch, MAX_PLAIN_BYTES).expect("validation has decompressed it");
    for record in RecordIter::new(batch, &payload).flatten() {
        output.detail(&Line::Record(RecordLine::new(batch, &record)))?;
    }
    Ok(())
}

/// What stands at a reader's position.
pub(super) enum Found {
    /// A whole batch; its contents have not been checked.
    Batch(Vec<u8>),
    /// Bytes that are no batch; without a length there is no way to the next one.
    NoBatch { reason: BatchError, rest: u64 },
    /// Zeros up to the end of the file: segments are written in whole blocks.
    Zeros(u64),
    /// The end of the file.
    End,
}

/// Reads a segment batch by batch.
pub(super) struct SegmentReader {
    file: BufReader<File>,
    len: u64,
    /// Where the next batch starts, in bytes.
    pub(super) position: u64,
}

impl SegmentReader {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self { file: BufReader::with_capacity(1 << 20, file), len, position: 0 })
    }

    pub(super) fn next(&mut self) -> io::Result<Found> {
        let rest = self.len - self.position;
        if rest == 0 {
            return Ok(Found::End);
        }
        let mut bytes = Vec::new();
        self.file.by_ref().take(BATCH_HEADER_BYTES as u64).read_to_end(&mut bytes)?;
        let needed = match BatchView::parse(&bytes) {
            Ok(batch) => batch.size(),
            Err(BatchError::Truncated { needed, .. }) if needed as u64 <= rest => needed,
            Err(BatchError::Truncated { needed, .. }) => {
                let reason =
                    BatchError::Truncated { needed, available: usize::try_from(rest).unwrap_or(usize::MAX) };
                return self.no_batch(reason, rest, &bytes);
            }
            Err(reason) => return self.no_batch(reason, rest, &bytes),
        };
        self.file.by_ref().take((needed - bytes.len()) as u64).read_to_end(&mut bytes)?;
        if bytes.len() < needed {
            // The file has shrunk while it was read.
            let reason = BatchError::Truncated { needed, available: bytes.len() };
            return Ok(Found::NoBatch { reason, rest: bytes.len() as u64 });
        }
        self.position += needed as u64;
        Ok(Found::Batch(bytes))
    }

    fn no_batch(&mut self, reason: BatchError, rest: u64, seen: &[u8]) -> io::Result<Found> {
        if seen.iter().all(|byte| *byte == 0) && self.only_zeros_follow()? {
            return Ok(Found::Zeros(rest));
        }
        self.file.seek(io::SeekFrom::Start(self.position))?;
        Ok(Found::NoBatch { reason, rest })
    }

    fn only_zeros_follow(&mut self) -> io::Result<bool> {
        let mut block = vec![0; 64 << 10];
        loop {
            match self.file.read(&mut block)? {
                0 => return Ok(true),
                length if block[..length].iter().any(|byte| *byte != 0) => return Ok(false),
                _ => {}
            }
        }
    }
}
