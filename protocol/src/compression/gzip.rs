//! gzip members, one after another, as Java's `GZIPInputStream` reads them.

use std::io::{BufRead, BufReader, Write};

use flate2::{Compression as Level, bufread::MultiGzDecoder, write::GzEncoder};

use super::{Compression, CompressionError};

/// Decompressed bytes kept at a time.
const BLOCK_BYTES: usize = 32 << 10;

/// Reads gzip members block by block.
pub(super) struct Reader<'a> {
    decoder: BufReader<MultiGzDecoder<&'a [u8]>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { decoder: BufReader::with_capacity(BLOCK_BYTES, MultiGzDecoder::new(input)) }
    }

    pub(super) fn fill(&mut self) -> Result<&[u8], CompressionError> {
        self.decoder.fill_buf().map_err(|error| CompressionError::damaged(Compression::Gzip, error))
    }

    pub(super) fn consume(&mut self, len: usize) {
        self.decoder.consume(len);
    }
}

pub(super) fn compress(level: Option<i32>, input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let level = match level {
        None | Some(-1) => Level::default(),
        Some(level) => u32::try_from(level)
            .ok()
            .filter(|level| (1..=9).contains(level))
            .map(Level::new)
            .ok_or_else(|| CompressionError::compress(Compression::Gzip, format!("level {level}")))?,
    };
    let mut encoder = GzEncoder::new(out, level);
    encoder
        .write_all(input)
        .and_then(|()| encoder.finish())
        .map_err(|error| CompressionError::compress(Compression::Gzip, error))?;
    Ok(())
}
