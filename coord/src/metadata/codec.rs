//! Primitives of the metadata log's encoding: big-endian integers, lengths that are checked against the bytes left.
//!
//! | type | bytes |
//! |---|---|
//! | u8, u16, i16, u32, i32, i64 | big-endian, fixed width |
//! | bool | one byte, 0 or 1 |
//! | uuid | 16 bytes |
//! | string | u32 length in bytes, then UTF-8 |
//! | optional string | one byte 0 (absent) or 1, then the string |
//! | list | u32 number of elements, then the elements |

use thiserror::Error;
use uuid::Uuid;

/// Why an entry of the metadata log could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The entry ends in the middle of a field, or a length points beyond its end.
    #[error("metadata entry is cut short: {needed} bytes needed for {what}, {left} left")]
    Truncated {
        /// The field being read.
        what: &'static str,
        /// Bytes that the field needs.
        needed: u64,
        /// Bytes that are left.
        left: usize,
    },
    /// Bytes were left over after the last field.
    #[error("metadata {what} has {extra} bytes too many")]
    TrailingBytes {
        /// The entry, or the record's kind.
        what: &'static str,
        /// The number of extra bytes.
        extra: usize,
    },
    /// The entry's framing is of a newer version.
    #[error(
        "metadata entry has format version {0}, this broker knows up to {max}: it was written by a newer broker",
        max = crate::metadata::record::ENTRY_VERSION
    )]
    UnknownEntryVersion(u8),
    /// The record's kind is not known here.
    #[error("metadata record of unknown kind {0}: it was written by a newer broker")]
    UnknownKind(u8),
    /// The record's kind is known, but this version of it is not.
    #[error(
        "metadata record {kind} has version {version}, this broker knows version {known}: it was written by a newer broker"
    )]
    UnknownRecordVersion {
        /// The record's kind.
        kind: &'static str,
        /// The version found.
        version: u8,
        /// The newest version known.
        known: u8,
    },
    /// A field has a value that it cannot have.
    #[error("metadata record has an invalid {0}")]
    Invalid(&'static str),
}

/// Appends fields to a buffer.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.bytes.push(u8::from(value));
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn len(&mut self, value: usize) {
        let value = u32::try_from(value).expect("no list or string of a metadata record has 2^32 elements");
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn uuid(&mut self, value: Uuid) {
        self.bytes.extend_from_slice(value.as_bytes());
    }

    pub(crate) fn string(&mut self, value: &str) {
        self.len(value.len());
        self.bytes.extend_from_slice(value.as_bytes());
    }

    pub(crate) fn optional_string(&mut self, value: Option<&str>) {
        self.bool(value.is_some());
        if let Some(value) = value {
            self.string(value);
        }
    }

    /// Reserves room for a u32 length that [`Writer::close_length`] fills in.
    pub(crate) fn open_length(&mut self) -> usize {
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.len()
    }

    pub(crate) fn close_length(&mut self, start: usize) {
        let length = u32::try_from(self.bytes.len() - start).expect("a metadata record is far below 4 GiB");
        self.bytes[start - 4..start].copy_from_slice(&length.to_be_bytes());
    }
}

/// Takes fields from a slice; never reads beyond it, never allocates more than it has bytes.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn take(&mut self, needed: usize, what: &'static str) -> Result<&'a [u8], RecordError> {
        match self.bytes.split_at_checked(needed) {
            Some((head, tail)) => {
                self.bytes = tail;
                Ok(head)
            }
            None => Err(RecordError::Truncated { what, needed: needed as u64, left: self.bytes.len() }),
        }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], RecordError> {
        Ok(self.take(N, what)?.try_into().expect("take returned N bytes"))
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, RecordError> {
        Ok(self.array::<1>(what)?[0])
    }

    pub(crate) fn bool(&mut self, what: &'static str) -> Result<bool, RecordError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RecordError::Invalid(what)),
        }
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, RecordError> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn i16(&mut self, what: &'static str) -> Result<i16, RecordError> {
        Ok(i16::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, RecordError> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn i32(&mut self, what: &'static str) -> Result<i32, RecordError> {
        Ok(i32::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn i64(&mut self, what: &'static str) -> Result<i64, RecordError> {
        Ok(i64::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn uuid(&mut self, what: &'static str) -> Result<Uuid, RecordError> {
        Ok(Uuid::from_bytes(self.array(what)?))
    }

    /// The number of elements of a list each of which takes at least `element_size` bytes.
    pub(crate) fn len(&mut self, element_size: usize, what: &'static str) -> Result<usize, RecordError> {
        let count = self.u32(what)?;
        let needed = u64::from(count) * element_size as u64;
        if needed > self.bytes.len() as u64 {
            return Err(RecordError::Truncated { what, needed, left: self.bytes.len() });
        }
        Ok(count as usize)
    }

    pub(crate) fn string(&mut self, what: &'static str) -> Result<&'a str, RecordError> {
        let length = self.len(1, what)?;
        std::str::from_utf8(self.take(length, what)?).map_err(|_| RecordError::Invalid(what))
    }

    pub(crate) fn optional_string(&mut self, what: &'static str) -> Result<Option<&'a str>, RecordError> {
        if self.bool(what)? { self.string(what).map(Some) } else { Ok(None) }
    }
}
