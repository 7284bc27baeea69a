//! From a codec's framing to plain bytes, in blocks or whole, never more than the caller allows.

use super::{Compression, CompressionError, gzip, lz4, snappy, zstd};

/// How much may come out of compressed bytes.
///
/// The bound for a given input is `max_bytes`, and no more than `max_ratio` times the input's size once the output is
/// larger than [`DecompressionLimit::FREE_BYTES`]: constant data compresses very well in honest hands too, so a ratio
/// alone proves nothing while the output is small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecompressionLimit {
    /// Bytes that may come out, whatever went in.
    pub max_bytes: usize,
    /// Bytes that may come out for each byte that went in.
    pub max_ratio: usize,
}

impl DecompressionLimit {
    /// Below this many bytes of output the ratio is not looked at.
    pub const FREE_BYTES: usize = 16 << 20;

    /// Only a bound in bytes.
    pub fn bytes(max_bytes: usize) -> Self {
        Self { max_bytes, max_ratio: usize::MAX }
    }

    /// The bytes that may come out of `compressed_len` bytes.
    pub fn for_input(self, compressed_len: usize) -> usize {
        self.max_bytes.min(compressed_len.saturating_mul(self.max_ratio).max(Self::FREE_BYTES))
    }
}

impl Default for DecompressionLimit {
    /// 128 MiB and 2000 times the input: above gzip's possible 1032:1, and a tenth of a second of work at most.
    fn default() -> Self {
        Self { max_bytes: 128 << 20, max_ratio: 2000 }
    }
}

/// Reads compressed bytes block by block: [`fill`](Self::fill) shows what has been decompressed and not yet consumed.
///
/// Memory is one block of the codec (32-64 KiB as Kafka's clients write them, at most a small multiple of the input)
/// plus the codec's own window.
pub struct Decompressor<'a> {
    source: Source<'a>,
    codec: Compression,
    /// Bytes that may still be consumed.
    allowance: usize,
    limit: usize,
}

enum Source<'a> {
    Plain(&'a [u8]),
    Gzip(Box<gzip::Reader<'a>>),
    Snappy(snappy::Reader<'a>),
    Lz4(lz4::Reader<'a>),
    Zstd(zstd::Reader<'a>),
}

impl<'a> Decompressor<'a> {
    /// Starts to read `input`; at most `limit` bytes will come out.
    ///
    /// # Errors
    /// [`CompressionError::Damaged`] if the framing's header is wrong.
    pub fn new(codec: Compression, input: &'a [u8], limit: usize) -> Result<Self, CompressionError> {
        let source = match codec {
            Compression::None => Source::Plain(input),
            Compression::Gzip => Source::Gzip(Box::new(gzip::Reader::new(input))),
            Compression::Snappy => Source::Snappy(snappy::Reader::new(input)),
            Compression::Lz4 => Source::Lz4(lz4::Reader::new(input)?),
            Compression::Zstd => Source::Zstd(zstd::Reader::new(input)?),
        };
        Ok(Self { source, codec, allowance: limit, limit })
    }

    /// The bytes that are ready; empty only at the end.
    ///
    /// # Errors
    /// [`CompressionError`] if the input is damaged, cut, or expands beyond the limit.
    pub fn fill(&mut self) -> Result<&[u8], CompressionError> {
        let ready = match &mut self.source {
            Source::Plain(rest) => rest,
            Source::Gzip(reader) => reader.fill()?,
            Source::Snappy(reader) => reader.fill()?,
            Source::Lz4(reader) => reader.fill()?,
            Source::Zstd(reader) => reader.fill()?,
        };
        if ready.len() > self.allowance {
            return Err(CompressionError::TooLarge { codec: self.codec, limit: self.limit });
        }
        Ok(ready)
    }

    /// Marks the first `len` of the bytes that [`fill`](Self::fill) showed as read.
    pub fn consume(&mut self, len: usize) {
        self.allowance -= len;
        match &mut self.source {
            Source::Plain(rest) => *rest = &rest[len..],
            Source::Gzip(reader) => reader.consume(len),
            Source::Snappy(reader) => reader.consume(len),
            Source::Lz4(reader) => reader.consume(len),
            Source::Zstd(reader) => reader.consume(len),
        }
    }
}

/// Decompresses all of `input` into one buffer of at most `limit` bytes.
///
/// # Errors
/// [`CompressionError::Damaged`] or [`CompressionError::TooLarge`].
pub fn decompress_bounded(
    codec: Compression,
    input: &[u8],
    limit: usize,
) -> Result<Vec<u8>, CompressionError> {
    let mut reader = Decompressor::new(codec, input, limit)?;
    let mut out = Vec::with_capacity(input.len().saturating_mul(3).min(limit).min(4 << 20));
    loop {
        let ready = reader.fill()?;
        if ready.is_empty() {
            return Ok(out);
        }
        out.extend_from_slice(ready);
        let len = ready.len();
        reader.consume(len);
    }
}
