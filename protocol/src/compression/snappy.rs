//! Snappy in the framing of Java's xerial `SnappyOutputStream`, which is what Kafka means by snappy.
//!
//! ```text
//! stream = header chunk*            header = 82 'SNAPPY' 00, version i32, lowest compatible version i32
//! chunk  = length i32, one raw snappy block of that length
//! ```
//! All integers are big-endian. A header may come again where a chunk could start (streams that were joined). Input
//! that does not start with the header is one raw snappy block: some clients write that, and Java's reader takes it.

use super::{Compression, CompressionError};

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const HEADER_BYTES: usize = 16;
const HEADER: [u8; HEADER_BYTES] = *b"\x82SNAPPY\0\x00\x00\x00\x01\x00\x00\x00\x01";
/// Plain bytes per chunk, as Java writes them.
const CHUNK_BYTES: usize = 32 << 10;
/// No snappy element yields more: a copy of 64 bytes costs 3.
const MAX_EXPANSION: usize = 22;

/// Reads chunk by chunk.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    consumed: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { rest: input, framed: input.starts_with(&MAGIC), block: Vec::new(), consumed: 0 }
    }

    pub(super) fn fill(&mut self) -> Result<&[u8], CompressionError> {
        while self.consumed == self.block.len() && !self.rest.is_empty() {
            let chunk = if self.framed { self.next_chunk()? } else { Some(std::mem::take(&mut self.rest)) };
            if let Some(chunk) = chunk {
                self.decode(chunk)?;
            }
        }
        Ok(&self.block[self.consumed..])
    }

    pub(super) fn consume(&mut self, len: usize) {
        self.consumed += len;
    }

    /// The next chunk, or nothing where a header stood instead.
    fn next_chunk(&mut self) -> Result<Option<&'a [u8]>, CompressionError> {
        if self.rest.starts_with(&MAGIC) {
            self.rest = self.rest.get(HEADER_BYTES..).ok_or_else(|| damaged("the header is cut"))?;
            return Ok(None);
        }
        let (length, rest) =
            self.rest.split_first_chunk::<4>().ok_or_else(|| damaged("a chunk's length is cut"))?;
        let length = u32::from_be_bytes(*length) as usize;
        if length == 0 {
            return Err(damaged("a chunk has no bytes"));
        }
        let (chunk, rest) = rest.split_at_checked(length).ok_or_else(|| damaged("a chunk is cut"))?;
        self.rest = rest;
        Ok(Some(chunk))
    }

    fn decode(&mut self, chunk: &[u8]) -> Result<(), CompressionError> {
        let length = snap::raw::decompress_len(chunk).map_err(damaged)?;
        if length > chunk.len().saturating_mul(MAX_EXPANSION) {
            return Err(damaged(format_args!("{} bytes claim to hold {length}", chunk.len())));
        }
        self.consumed = 0;
        self.block.resize(length, 0);
        snap::raw::Decoder::new().decompress(chunk, &mut self.block).map_err(|error| {
            self.block.clear();
            damaged(error)
        })?;
        Ok(())
    }
}

fn damaged(reason: impl std::fmt::Display) -> CompressionError {
    CompressionError::damaged(Compression::Snappy, reason)
}

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let mut encoder = snap::raw::Encoder::new();
    out.extend_from_slice(&HEADER);
    for chunk in input.chunks(CHUNK_BYTES) {
        let length_at = out.len();
        let block_at = length_at + 4;
        out.resize(block_at + snap::raw::max_compress_len(chunk.len()), 0);
        let written = encoder
            .compress(chunk, &mut out[block_at..])
            .map_err(|error| CompressionError::compress(Compression::Snappy, error))?;
        out.truncate(block_at + written);
        let length = u32::try_from(written).expect("a 32 KiB chunk stays small");
        out[length_at..block_at].copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}
