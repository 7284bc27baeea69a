//! Writing: small fields into one buffer, large records beside it without a copy.

use super::{EncodeError, Few, Records, TaggedFields};
use bytes::Bytes;
use std::cell::Cell;
use uuid::Uuid;

/// Shared records of at least this many bytes become segments of their own; smaller ones are copied.
pub const SHARE_FROM_BYTES: usize = 1024;
/// What is no larger is copied out of the encoder's buffer, and the buffer kept for the next message.
const COPY_OUT_BYTES: usize = 4096;

thread_local! {
    /// The buffer of the last encoder of this thread that was small.
    static KEPT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Collects the bytes of a message.
#[derive(Debug, Default)]
pub struct Encoder {
    /// Everything but the shared slices.
    buf: Vec<u8>,
    /// Shared slices and the places in `buf` before which they belong, ascending.
    shared: Few<(usize, Bytes)>,
    /// Sum of the lengths of the shared slices.
    shared_bytes: usize,
}

impl Encoder {
    /// An empty encoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty encoder with room for `capacity` bytes of small fields.
    pub fn with_capacity(capacity: usize) -> Self {
        let mut buf = KEPT.take();
        buf.reserve(capacity);
        Encoder { buf, ..Self::default() }
    }

    /// How many bytes have been written, shared ones included.
    pub fn len(&self) -> usize {
        self.buf.len() + self.shared_bytes
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes as the segments they consist of, in order, none of them empty.
    pub fn finish(self) -> Few<Bytes> {
        let buf = into_bytes(self.buf);
        if self.shared.is_empty() {
            return if buf.is_empty() { Few::new() } else { Few::one(buf) };
        }
        let mut segments = Vec::with_capacity(2 * self.shared.len() + 1);
        let mut start = 0;
        for (position, slice) in self.shared {
            if position > start {
                segments.push(buf.slice(start..position));
                start = position;
            }
            segments.push(slice);
        }
        if start < buf.len() {
            segments.push(buf.slice(start..));
        }
        segments.into()
    }

    /// The bytes in one piece; copies if there are shared slices.
    pub fn finish_contiguous(self) -> Bytes {
        if self.shared.is_empty() {
            return into_bytes(self.buf);
        }
        let mut all = Vec::with_capacity(self.len());
        for segment in self.finish() {
            all.extend_from_slice(&segment);
        }
        Bytes::from(all)
    }

    /// Writes the number of bytes after the first four into the first four.
    pub(crate) fn patch_frame_length(&mut self) -> Result<(), EncodeError> {
        let len = self.len() - 4;
        let prefix = i32::try_from(len).map_err(|_| EncodeError::TooLong(len))?;
        self.buf[..4].copy_from_slice(&prefix.to_be_bytes());
        Ok(())
    }

    /// Raw bytes, without a length.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// A boolean.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.buf.push(u8::from(value));
    }

    /// A signed byte.
    #[inline]
    pub fn int8(&mut self, value: i8) {
        self.raw(&value.to_be_bytes());
    }

    /// A signed 16-bit integer.
    #[inline]
    pub fn int16(&mut self, value: i16) {
        self.raw(&value.to_be_bytes());
    }

    /// An unsigned 16-bit integer.
    #[inline]
    pub fn uint16(&mut self, value: u16) {
        self.raw(&value.to_be_bytes());
    }

    /// A signed 32-bit integer.
    #[inline]
    pub fn int32(&mut self, value: i32) {
        self.raw(&value.to_be_bytes());
    }

    /// A signed 64-bit integer.
    #[inline]
    pub fn int64(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    /// A double-precision number.
    #[inline]
    pub fn float64(&mut self, value: f64) {
        self.raw(&value.to_be_bytes());
    }

    /// A UUID.
    #[inline]
    pub fn uuid(&mut self, value: Uuid) {
        self.raw(value.as_bytes());
    }

    /// An unsigned variable-length integer: seven bits per byte, lowest first.
    #[inline]
    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buf.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.buf.push(value as u8);
    }

    /// A signed variable-length integer of at most 32 bits (zigzag).
    #[inline]
    pub fn varint(&mut self, value: i32) {
        self.uvarint(((value << 1) ^ (value >> 31)) as u32);
    }

    /// A signed variable-length integer of at most 64 bits (zigzag).
    #[inline]
    pub fn varlong(&mut self, value: i64) {
        let mut value = ((value << 1) ^ (value >> 63)) as u64;
        while value >= 0x80 {
            self.buf.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.buf.push(value as u8);
    }

    /// A string.
    #[inline]
    pub fn string(&mut self, flexible: bool, value: &str) -> Result<(), EncodeError> {
        let len = i16::try_from(value.len()).map_err(|_| EncodeError::TooLong(value.len()))?;
        if flexible {
            self.uvarint(len as u32 + 1)
        } else {
            self.int16(len)
        }
        self.raw(value.as_bytes());
        Ok(())
    }

    /// Null in the place of a string.
    #[inline]
    pub fn null_string(&mut self, flexible: bool) {
        if flexible { self.uvarint(0) } else { self.int16(-1) }
    }

    /// Bytes.
    #[inline]
    pub fn bytes(&mut self, flexible: bool, value: &[u8]) -> Result<(), EncodeError> {
        self.array_len(flexible, value.len())?;
        self.raw(value);
        Ok(())
    }

    /// Null in the place of bytes or records.
    #[inline]
    pub fn null_bytes(&mut self, flexible: bool) {
        self.null_array(flexible);
    }

    /// The length of an array.
    #[inline]
    pub fn array_len(&mut self, flexible: bool, len: usize) -> Result<(), EncodeError> {
        let len = i32::try_from(len).map_err(|_| EncodeError::TooLong(len))?;
        if flexible {
            self.uvarint(len as u32 + 1)
        } else {
            self.int32(len)
        }
        Ok(())
    }

    /// Null in the place of an array.
    #[inline]
    pub fn null_array(&mut self, flexible: bool) {
        if flexible { self.uvarint(0) } else { self.int32(-1) }
    }

    /// Records: shared slices are not copied unless they are small.
    pub fn records(&mut self, flexible: bool, value: &Records<'_>) -> Result<(), EncodeError> {
        self.array_len(flexible, value.len())?;
        match value {
            Records::Borrowed(bytes) => self.raw(bytes),
            Records::Shared(slices) => {
                self.shared.reserve(slices.len());
                slices.iter().for_each(|slice| self.shared_bytes(slice));
            }
        }
        Ok(())
    }

    /// Bytes that may be shared instead of copied, without a length.
    pub fn shared_bytes(&mut self, slice: &Bytes) {
        if slice.len() < SHARE_FROM_BYTES {
            self.raw(slice);
        } else {
            self.shared.push((self.buf.len(), slice.clone()));
            self.shared_bytes += slice.len();
        }
    }

    /// Opens the tagged fields of a struct: `present` known ones will follow, then the unknown ones.
    /// `known` is how many tags the schema knows; they count from zero.
    #[inline]
    pub(crate) fn tag_section(
        &mut self,
        present: usize,
        known: u32,
        unknown: &TaggedFields<'_>,
    ) -> Result<(), EncodeError> {
        if unknown.is_empty() {
            self.uvarint(present as u32);
            return Ok(());
        }
        unknown.check(known)?;
        let count = present + unknown.len();
        self.uvarint(u32::try_from(count).map_err(|_| EncodeError::TooLong(count))?);
        Ok(())
    }

    /// Begins the value of a tagged field; returns where it starts, for [`Self::end_tag`].
    pub(crate) fn begin_tag(&mut self, tag: u32) -> usize {
        self.uvarint(tag);
        self.buf.len()
    }

    /// Ends the value that began at `start` by writing its size in front of it.
    pub(crate) fn end_tag(&mut self, start: usize) -> Result<(), EncodeError> {
        debug_assert!(
            self.shared.last().is_none_or(|(position, _)| *position < start),
            "records inside a tag"
        );
        let size = self.buf.len() - start;
        self.uvarint(u32::try_from(size).map_err(|_| EncodeError::TooLong(size))?);
        let prefix = self.buf.len() - start - size;
        self.buf[start..].rotate_right(prefix);
        Ok(())
    }
}

/// What was written, in memory of its own.
fn into_bytes(mut buf: Vec<u8>) -> Bytes {
    if buf.len() > COPY_OUT_BYTES || buf.capacity() > 2 * COPY_OUT_BYTES {
        return Bytes::from(buf);
    }
    let bytes = Bytes::copy_from_slice(&buf);
    buf.clear();
    KEPT.set(buf);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_shared_records_become_segments_of_their_own() {
        let large = Bytes::from(vec![7; SHARE_FROM_BYTES]);
        let small = Bytes::from_static(b"small");
        let mut e = Encoder::new();
        e.int8(1);
        e.records(false, &Records::Shared(vec![large.clone(), small, large.clone()].into())).unwrap();
        e.int8(2);
        let len = e.len();
        let segments = e.finish();
        assert_eq!(segments.len(), 5);
        assert_eq!(segments[1].as_ptr(), large.as_ptr());
        assert_eq!(segments[2].as_ref(), b"small");
        assert_eq!(segments.iter().map(Bytes::len).sum::<usize>(), len);
    }

    #[test]
    fn a_tagged_field_has_its_size_in_front_however_long_it_is() {
        for size in [0, 1, 127, 128, 20_000] {
            let mut e = Encoder::new();
            let start = e.begin_tag(3);
            e.raw(&vec![9; size]);
            e.end_tag(start).unwrap();
            let mut expected = Encoder::new();
            expected.uvarint(3);
            expected.uvarint(size as u32);
            expected.raw(&vec![9; size]);
            assert_eq!(e.finish_contiguous(), expected.finish_contiguous());
        }
    }
}
