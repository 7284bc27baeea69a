//! Bytes of records as a walk reads them: from a slice, or out of a decompressor without ever holding all of them.

use super::{
    error::{BatchError, RecordFault},
    varint::{unzigzag32, unzigzag64},
    walk::{Outline, walk_record},
};
use crate::compression::{CompressionError, Decompressor};

/// Why reading stopped.
#[derive(Debug)]
pub(super) enum Stop {
    Fault(RecordFault),
    Compression(CompressionError),
}

impl From<RecordFault> for Stop {
    fn from(fault: RecordFault) -> Self {
        Self::Fault(fault)
    }
}

impl Stop {
    /// As the error of the record at `index`.
    #[cold]
    pub(super) fn at(self, index: i32) -> BatchError {
        match self {
            Self::Fault(fault) => BatchError::MalformedRecord { index, fault },
            Self::Compression(error) => BatchError::Compression(error),
        }
    }
}

/// Bytes that are read from front to back.
pub(super) trait Input {
    /// Passes over one record.
    fn record(&mut self) -> Result<Outline, Stop>;
    /// Bytes read so far.
    fn position(&self) -> u64;
    /// The next byte.
    fn byte(&mut self) -> Result<u8, Stop>;
    /// Passes over bytes.
    fn skip(&mut self, len: usize) -> Result<(), Stop>;
    /// Whether nothing is left.
    fn at_end(&mut self) -> Result<bool, Stop>;

    /// A zigzag number of at most 5 bytes.
    #[inline]
    fn varint(&mut self) -> Result<i32, Stop> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(unzigzag32(u32::from(first)));
        }
        let mut value = u32::from(first & 0x7f);
        for shift in [7, 14, 21, 28] {
            let byte = self.byte()?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(unzigzag32(value));
            }
        }
        Err(RecordFault::Varint.into())
    }

    /// A zigzag number of at most 10 bytes.
    #[inline]
    fn varlong(&mut self) -> Result<i64, Stop> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(unzigzag64(u64::from(first)));
        }
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(unzigzag64(value));
            }
        }
        Err(RecordFault::Varint.into())
    }
}

/// Records in memory.
#[derive(Debug, Clone)]
pub(super) struct SliceInput<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> SliceInput<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The next `len` bytes.
    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Stop> {
        let start = self.position;
        self.skip(len)?;
        Ok(&self.bytes[start..self.position])
    }

    /// What is left.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.position..]
    }
}

impl Input for SliceInput<'_> {
    #[inline]
    fn record(&mut self) -> Result<Outline, Stop> {
        walk_record(self)
    }

    #[inline]
    fn position(&self) -> u64 {
        self.position as u64
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Stop> {
        let byte = *self.bytes.get(self.position).ok_or(RecordFault::Truncated)?;
        self.position += 1;
        Ok(byte)
    }

    #[inline]
    fn skip(&mut self, len: usize) -> Result<(), Stop> {
        if len > self.bytes.len() - self.position {
            return Err(RecordFault::Truncated.into());
        }
        self.position += len;
        Ok(())
    }

    #[inline]
    fn at_end(&mut self) -> Result<bool, Stop> {
        Ok(self.position == self.bytes.len())
    }
}

/// Records that are decompressed while they are read.
pub(super) struct StreamInput<'a> {
    source: Decompressor<'a>,
    position: u64,
}

impl<'a> StreamInput<'a> {
    pub(super) fn new(source: Decompressor<'a>) -> Self {
        Self { source, position: 0 }
    }

    /// Bytes that are there without more work; empty only at the end.
    fn fill(&mut self) -> Result<&[u8], Stop> {
        self.source.fill().map_err(Stop::Compression)
    }

    fn consume(&mut self, len: usize) {
        self.source.consume(len);
        self.position += len as u64;
    }
}

impl Input for StreamInput<'_> {
    /// Nearly all records lie whole in what has been decompressed already, where they are as cheap as in memory; only
    /// one that crosses the end of a block is read byte by byte.
    fn record(&mut self) -> Result<Outline, Stop> {
        let mut ready = SliceInput::new(self.fill()?);
        match walk_record(&mut ready) {
            Err(Stop::Fault(RecordFault::Truncated)) => walk_record(self),
            record => {
                let length = ready.position;
                self.consume(length);
                record
            }
        }
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        let byte = *self.fill()?.first().ok_or(RecordFault::Truncated)?;
        self.consume(1);
        Ok(byte)
    }

    fn skip(&mut self, mut len: usize) -> Result<(), Stop> {
        while len > 0 {
            let there = self.fill()?.len().min(len);
            if there == 0 {
                return Err(RecordFault::Truncated.into());
            }
            self.consume(there);
            len -= there;
        }
        Ok(())
    }

    fn at_end(&mut self) -> Result<bool, Stop> {
        Ok(self.fill()?.is_empty())
    }
}
