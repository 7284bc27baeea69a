//! LZ4 frames as Kafka's `KafkaLZ4BlockInputStream` accepts them: version 1, independent blocks, no dictionary.
//!
//! ```text
//! frame  = magic u32, FLG, BD, [content size u64], header checksum u8, block*, end mark u32 = 0, [content checksum u32]
//! block  = length u32 (top bit: stored as it is), bytes, [block checksum u32]
//! ```
//! All integers are little-endian; checksums are xxHash32. Frames with dependent blocks are refused as Kafka refuses
//! them: no Java consumer could read them. The reader is ours because a general one allocates whole blocks of up to
//! 4 MiB on the word of a header; this one never more than a small multiple of the bytes that are there.

use std::{hash::Hasher, io::Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use twox_hash::XxHash32;

use super::{Compression, CompressionError};

const MAGIC: u32 = 0x184D_2204;
const VERSION_MASK: u8 = 0b1100_0000;
const VERSION_1: u8 = 0b0100_0000;
const INDEPENDENT_BLOCKS: u8 = 0b0010_0000;
const BLOCK_CHECKSUM: u8 = 0b0001_0000;
const CONTENT_SIZE: u8 = 0b0000_1000;
const CONTENT_CHECKSUM: u8 = 0b0000_0100;
const RESERVED_OR_DICTIONARY: u8 = 0b0000_0011;
const STORED: u32 = 1 << 31;
/// One byte of an LZ4 block stands for at most 255 bytes of output.
const MAX_EXPANSION: usize = 255;

/// Reads block by block.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    flags: u8,
    max_block_bytes: usize,
    content_hash: XxHash32,
    block: Block<'a>,
    consumed: usize,
    buffer: Vec<u8>,
    finished: bool,
}

/// Where the current block's plain bytes are.
enum Block<'a> {
    Stored(&'a [u8]),
    /// So many at the front of the buffer.
    Decompressed(usize),
}

impl<'a> Reader<'a> {
    pub(super) fn new(input: &'a [u8]) -> Result<Self, CompressionError> {
        let mut reader = Self {
            rest: input,
            flags: 0,
            max_block_bytes: 0,
            content_hash: XxHash32::with_seed(0),
            block: Block::Stored(&[]),
            consumed: 0,
            buffer: Vec::new(),
            finished: false,
        };
        reader.read_header()?;
        Ok(reader)
    }

    pub(super) fn fill(&mut self) -> Result<&[u8], CompressionError> {
        while self.consumed == self.ready().len() && !self.finished {
            self.read_block()?;
        }
        Ok(&self.ready()[self.consumed..])
    }

    pub(super) fn consume(&mut self, len: usize) {
        self.consumed += len;
    }

    fn ready(&self) -> &[u8] {
        match self.block {
            Block::Stored(bytes) => bytes,
            Block::Decompressed(length) => &self.buffer[..length],
        }
    }

    fn read_header(&mut self) -> Result<(), CompressionError> {
        if self.take_u32()? != MAGIC {
            return Err(damaged("no LZ4 frame"));
        }
        let descriptor = self.rest;
        let [flags, block_descriptor] = *self.take::<2>()?;
        if flags & VERSION_MASK != VERSION_1 || flags & RESERVED_OR_DICTIONARY != 0 {
            return Err(damaged(format_args!("unsupported frame flags {flags:#04x}")));
        }
        if flags & INDEPENDENT_BLOCKS == 0 {
            return Err(damaged("the blocks depend on each other, which Kafka does not allow"));
        }
        self.flags = flags;
        self.max_block_bytes = match block_descriptor {
            0x40 => 64 << 10,
            0x50 => 256 << 10,
            0x60 => 1 << 20,
            0x70 => 4 << 20,
            _ => return Err(damaged(format_args!("unsupported block descriptor {block_descriptor:#04x}"))),
        };
        if flags & CONTENT_SIZE != 0 {
            self.take::<8>()?;
        }
        let hashed = &descriptor[..descriptor.len() - self.rest.len()];
        let [checksum] = *self.take::<1>()?;
        if checksum != (xxhash32(hashed) >> 8) as u8 {
            return Err(damaged("the frame header's checksum does not match"));
        }
        Ok(())
    }

    fn read_block(&mut self) -> Result<(), CompressionError> {
        let length = self.take_u32()?;
        self.consumed = 0;
        if length == 0 {
            return self.finish();
        }
        let (stored, length) = (length & STORED != 0, (length & !STORED) as usize);
        if length > self.max_block_bytes {
            return Err(damaged("a block is larger than the frame's block size"));
        }
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(|| damaged("a block is cut"))?;
        self.rest = rest;
        if self.flags & BLOCK_CHECKSUM != 0 && self.take_u32()? != xxhash32(bytes) {
            return Err(damaged("a block's checksum does not match"));
        }
        self.block = if stored {
            Block::Stored(bytes)
        } else {
            let room = self.max_block_bytes.min(length * MAX_EXPANSION);
            if self.buffer.len() < room {
                self.buffer.resize(room, 0);
            }
            Block::Decompressed(
                lz4_flex::block::decompress_into(bytes, &mut self.buffer[..room]).map_err(damaged)?,
            )
        };
        if self.flags & CONTENT_CHECKSUM != 0 {
            let mut hash = std::mem::replace(&mut self.content_hash, XxHash32::with_seed(0));
            hash.write(self.ready());
            self.content_hash = hash;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), CompressionError> {
        self.block = Block::Stored(&[]);
        if self.flags & CONTENT_CHECKSUM != 0 && self.take_u32()? != self.content_hash.finish() as u32 {
            return Err(damaged("the content's checksum does not match"));
        }
        if !self.rest.is_empty() {
            return Err(damaged("bytes follow the frame"));
        }
        self.finished = true;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], CompressionError> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| damaged("the frame is cut"))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn take_u32(&mut self) -> Result<u32, CompressionError> {
        self.take::<4>().map(|bytes| u32::from_le_bytes(*bytes))
    }
}

fn xxhash32(bytes: &[u8]) -> u32 {
    XxHash32::oneshot(0, bytes)
}

fn damaged(reason: impl std::fmt::Display) -> CompressionError {
    CompressionError::damaged(Compression::Lz4, reason)
}

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(input).map_err(|error| CompressionError::compress(Compression::Lz4, error)).and_then(
        |()| encoder.finish().map_err(|error| CompressionError::compress(Compression::Lz4, error)),
    )?;
    Ok(())
}
