//! zstd frames, one after another.
//!
//! Contexts cost more to create than a small batch costs to decompress, so each thread keeps one of each kind. The
//! window that a frame's header declares (up to 128 MiB, which Java's level 22 really writes) is address space that
//! the library asks for; only the part that decompressed bytes fill becomes memory, and the caller's limit bounds that.

use std::cell::RefCell;

use zstd::{
    stream::raw::{Decoder, InBuffer, Operation, OutBuffer},
    zstd_safe::CCtx,
};

use super::{Compression, CompressionError};

/// Decompressed bytes kept at a time: one zstd block at most.
const BLOCK_BYTES: usize = 64 << 10;
/// A decoder that has seen more output than this is not kept: its window may be large.
const KEPT_DECODER_BYTES: usize = 8 << 20;

thread_local! {
    static DECODER: RefCell<Option<Box<KeptDecoder>>> = const { RefCell::new(None) };
    static ENCODER: RefCell<Option<CCtx<'static>>> = const { RefCell::new(None) };
}

struct KeptDecoder {
    decoder: Decoder<'static>,
    block: Vec<u8>,
}

/// Reads frames block by block.
pub(super) struct Reader<'a> {
    kept: Option<Box<KeptDecoder>>,
    rest: &'a [u8],
    ready: usize,
    consumed: usize,
    total: usize,
    /// At the end of a frame (or before the first one): the only place where the input may end.
    between_frames: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(input: &'a [u8]) -> Result<Self, CompressionError> {
        let kept = match DECODER.take() {
            Some(kept) => kept,
            None => Box::new(KeptDecoder {
                decoder: Decoder::new().map_err(damaged)?,
                block: vec![0; BLOCK_BYTES],
            }),
        };
        Ok(Self { kept: Some(kept), rest: input, ready: 0, consumed: 0, total: 0, between_frames: true })
    }

    pub(super) fn fill(&mut self) -> Result<&[u8], CompressionError> {
        let kept = self.kept.as_mut().expect("the decoder stays until the reader is dropped");
        while self.consumed == self.ready {
            if self.between_frames {
                if self.rest.is_empty() {
                    break;
                }
                kept.decoder.reinit().map_err(damaged)?;
            }
            let mut input = InBuffer::around(self.rest);
            let mut output = OutBuffer::around(&mut kept.block[..]);
            let hint = kept.decoder.run(&mut input, &mut output).map_err(damaged)?;
            let (read, written) = (input.pos(), output.pos());
            self.rest = &self.rest[read..];
            (self.ready, self.consumed) = (written, 0);
            self.total += written;
            self.between_frames = hint == 0;
            if read == 0 && written == 0 && !self.between_frames {
                return Err(damaged("the frame is cut"));
            }
        }
        Ok(&kept.block[self.consumed..self.ready])
    }

    pub(super) fn consume(&mut self, len: usize) {
        self.consumed += len;
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if self.total <= KEPT_DECODER_BYTES {
            DECODER.set(self.kept.take());
        }
    }
}

fn damaged(reason: impl std::fmt::Display) -> CompressionError {
    CompressionError::damaged(Compression::Zstd, reason)
}

pub(super) fn compress(level: Option<i32>, input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let level = level.or(Compression::Zstd.default_level()).unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
    let start = out.len();
    out.resize(start + zstd::zstd_safe::compress_bound(input.len()), 0);
    let written = ENCODER.with_borrow_mut(|encoder| {
        encoder.get_or_insert_with(CCtx::create).compress(&mut out[start..], input, level)
    });
    let written = written.map_err(|code| {
        CompressionError::compress(Compression::Zstd, zstd::zstd_safe::get_error_name(code))
    })?;
    out.truncate(start + written);
    Ok(())
}
