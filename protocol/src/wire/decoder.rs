//! Reading: a cursor over a frame that never trusts a length.

use super::{DecodeError, Few, Records, tagged::Entry};
use std::borrow::Cow;
use uuid::Uuid;

/// Decoding a frame of `N` bytes allocates at most `MEMORY_FACTOR * N` bytes in total, whatever the frame says.
///
/// Strings, bytes and records are borrowed, so only arrays and unknown tagged fields allocate. Before an array of `n`
/// elements is allocated, once and exactly, two things must hold: the frame has at least `n` times the fewest bytes of
/// an element left, and the array fits the decoder's remaining budget, which starts at `MEMORY_FACTOR * N`. No honest
/// message can hit the budget, because no type takes more than `MEMORY_FACTOR` times its fewest bytes on the wire (the
/// generated code asserts that when it is compiled; it counts one element in arrays that mostly have one, such as the partitions of a topic).
pub const MEMORY_FACTOR: usize = 40;

/// The greatest length of a string in bytes.
const MAX_STRING_BYTES: usize = i16::MAX as usize;

/// A cursor over the bytes of a frame.
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    /// What has not been read yet.
    buf: &'a [u8],
    /// How many bytes may still be allocated.
    memory: usize,
}

impl<'a> Decoder<'a> {
    /// Reads from the front of `buf`.
    pub fn new(buf: &'a [u8]) -> Self {
        Decoder { buf, memory: buf.len().saturating_mul(MEMORY_FACTOR) }
    }

    /// How many bytes have not been read yet.
    pub fn remaining(&self) -> usize {
        self.buf.len()
    }

    /// The bytes that have not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.buf
    }

    /// Refuses bytes that follow the message.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.buf.len() {
            0 => Ok(()),
            trailing => Err(DecodeError::TrailingBytes(trailing)),
        }
    }

    /// Takes the next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.buf.split_at_checked(len).ok_or(self.truncated(len))?;
        self.buf = rest;
        Ok(head)
    }

    #[inline]
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.buf.split_first_chunk::<N>().ok_or(self.truncated(N))?;
        self.buf = rest;
        Ok(*head)
    }

    fn truncated(&self, needed: usize) -> DecodeError {
        DecodeError::Truncated { needed, remaining: self.buf.len() }
    }

    /// A boolean; anything but zero is true, as in Kafka.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.chunk::<1>()? != [0])
    }

    /// A signed byte.
    #[inline]
    pub fn int8(&mut self) -> Result<i8, DecodeError> {
        self.chunk().map(i8::from_be_bytes)
    }

    /// A signed 16-bit integer.
    #[inline]
    pub fn int16(&mut self) -> Result<i16, DecodeError> {
        self.chunk().map(i16::from_be_bytes)
    }

    /// An unsigned 16-bit integer.
    #[inline]
    pub fn uint16(&mut self) -> Result<u16, DecodeError> {
        self.chunk().map(u16::from_be_bytes)
    }

    /// A signed 32-bit integer.
    #[inline]
    pub fn int32(&mut self) -> Result<i32, DecodeError> {
        self.chunk().map(i32::from_be_bytes)
    }

    /// A signed 64-bit integer.
    #[inline]
    pub fn int64(&mut self) -> Result<i64, DecodeError> {
        self.chunk().map(i64::from_be_bytes)
    }

    /// A double-precision number.
    #[inline]
    pub fn float64(&mut self) -> Result<f64, DecodeError> {
        self.chunk().map(f64::from_be_bytes)
    }

    /// A UUID.
    #[inline]
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.chunk().map(Uuid::from_bytes)
    }

    /// An unsigned variable-length integer of at most 32 bits: seven bits per byte, lowest first.
    #[inline]
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        if let [byte @ 0..=0x7f, rest @ ..] = self.buf {
            self.buf = rest;
            return Ok(u32::from(*byte));
        }
        u32::try_from(self.long_varint(5)?).map_err(|_| DecodeError::VarintTooLong)
    }

    /// A signed variable-length integer of at most 32 bits (zigzag).
    #[inline]
    pub fn varint(&mut self) -> Result<i32, DecodeError> {
        let raw = self.uvarint()?;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    /// A signed variable-length integer of at most 64 bits (zigzag).
    #[inline]
    pub fn varlong(&mut self) -> Result<i64, DecodeError> {
        let raw = self.long_varint(10)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    fn long_varint(&mut self, max_bytes: usize) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for (index, &byte) in self.buf.iter().take(max_bytes).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                return Err(DecodeError::VarintTooLong);
            }
            value |= bits << (7 * index);
            if byte < 0x80 {
                self.buf = &self.buf[index + 1..];
                return Ok(value);
            }
        }
        if self.buf.len() < max_bytes {
            Err(self.truncated(self.buf.len() + 1))
        } else {
            Err(DecodeError::VarintTooLong)
        }
    }

    /// A length of two bytes, or a compact one.
    #[inline]
    fn short_len(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible { self.compact_len() } else { classic_len(i32::from(self.int16()?)) }
    }

    /// A length of four bytes, or a compact one.
    #[inline]
    fn len(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible { self.compact_len() } else { classic_len(self.int32()?) }
    }

    #[inline]
    fn compact_len(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok((self.uvarint()? as usize).checked_sub(1))
    }

    /// A string that is not null.
    #[inline]
    pub fn string(&mut self, flexible: bool) -> Result<Cow<'a, str>, DecodeError> {
        self.nullable_string(flexible)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// A string or null.
    #[inline]
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<Cow<'a, str>>, DecodeError> {
        let Some(len) = self.short_len(flexible)? else { return Ok(None) };
        if len > MAX_STRING_BYTES {
            return Err(DecodeError::StringTooLong(len));
        }
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| DecodeError::InvalidUtf8)?;
        Ok(Some(Cow::Borrowed(text)))
    }

    /// Bytes that are not null.
    #[inline]
    pub fn bytes(&mut self, flexible: bool) -> Result<Cow<'a, [u8]>, DecodeError> {
        self.nullable_bytes(flexible)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// Bytes or null.
    #[inline]
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<Cow<'a, [u8]>>, DecodeError> {
        let Some(len) = self.len(flexible)? else { return Ok(None) };
        Ok(Some(Cow::Borrowed(self.take(len)?)))
    }

    /// Records that are not null.
    #[inline]
    pub fn records(&mut self, flexible: bool) -> Result<Records<'a>, DecodeError> {
        self.nullable_records(flexible)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// Records or null.
    #[inline]
    pub fn nullable_records(&mut self, flexible: bool) -> Result<Option<Records<'a>>, DecodeError> {
        let Some(len) = self.len(flexible)? else { return Ok(None) };
        Ok(Some(Records::Borrowed(self.take(len)?)))
    }

    /// The byte before a nullable struct: whether the struct follows.
    #[inline]
    pub fn struct_present(&mut self) -> Result<bool, DecodeError> {
        Ok(self.int8()? >= 0)
    }

    /// An array that is not null, of elements that take at least `min_size` bytes each and are read by `element`.
    #[inline]
    pub fn array<T>(
        &mut self,
        flexible: bool,
        min_size: usize,
        element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let len = self.len(flexible)?.ok_or(DecodeError::UnexpectedNull)?;
        self.elements(len, min_size, element)
    }

    /// As [`Decoder::array`], of an array that mostly has one element.
    #[inline]
    pub fn few<T>(
        &mut self,
        flexible: bool,
        min_size: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Few<T>, DecodeError> {
        let len = self.len(flexible)?.ok_or(DecodeError::UnexpectedNull)?;
        if len == 1 {
            self.reserve(1, min_size, 0)?;
            return element(self).map(Few::one);
        }
        self.elements(len, min_size, element).map(Few::Many)
    }

    /// An array or null, of elements that take at least `min_size` bytes each and are read by `element`.
    #[inline]
    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        min_size: usize,
        element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(len) = self.len(flexible)? else { return Ok(None) };
        self.elements(len, min_size, element).map(Some)
    }

    #[inline]
    fn elements<T>(
        &mut self,
        len: usize,
        min_size: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let mut elements = self.vec(len, min_size)?;
        for _ in 0..len {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    /// Room for exactly `len` elements of at least `min_size` bytes each, if the frame can hold them and the budget
    /// allows it.
    #[inline]
    fn vec<T>(&mut self, len: usize, min_size: usize) -> Result<Vec<T>, DecodeError> {
        self.reserve(len, min_size, size_of::<T>())?;
        Ok(Vec::with_capacity(len))
    }

    /// Takes memory for `len` elements out of the budget, if the rest of the frame can hold them.
    #[inline]
    fn reserve(&mut self, len: usize, min_size: usize, memory_size: usize) -> Result<(), DecodeError> {
        assert!(min_size > 0, "elements without bytes would have no bound");
        if len > self.buf.len() / min_size {
            return Err(self.truncated(len.saturating_mul(min_size)));
        }
        let memory = len.saturating_mul(memory_size);
        self.memory = self.memory.checked_sub(memory).ok_or(DecodeError::TooMuchMemory)?;
        Ok(())
    }

    /// How many tagged fields follow: a number that the frame has room for.
    #[inline]
    pub(crate) fn tag_count(&mut self) -> Result<u32, DecodeError> {
        let count = self.uvarint()?;
        if count > 0 {
            // Twice the size of an entry, because sorting them needs room as well.
            self.reserve(count as usize, 2, 2 * size_of::<Entry<'a>>())?;
        }
        Ok(count)
    }

    /// The tag of the next tagged field and the size of its value.
    #[inline]
    pub(crate) fn tag_header(&mut self) -> Result<(u32, usize), DecodeError> {
        Ok((self.uvarint()?, self.uvarint()? as usize))
    }

    /// Confines the decoder to the next `size` bytes; returns what follows them, for [`Self::leave`].
    pub(crate) fn enter(&mut self, size: usize) -> Result<&'a [u8], DecodeError> {
        let inner = self.take(size)?;
        Ok(std::mem::replace(&mut self.buf, inner))
    }

    /// Ends the confinement; the confined bytes must all have been read.
    pub(crate) fn leave(&mut self, outer: &'a [u8]) -> Result<(), DecodeError> {
        let inner = std::mem::replace(&mut self.buf, outer);
        if inner.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes(inner.len())) }
    }
}

#[inline]
fn classic_len(len: i32) -> Result<Option<usize>, DecodeError> {
    match len {
        -1 => Ok(None),
        len => usize::try_from(len).map(Some).map_err(|_| DecodeError::NegativeLength(len)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_read_up_to_their_limits_and_no_further() {
        let uvarint = |bytes: &[u8]| Decoder::new(bytes).uvarint();
        assert_eq!(uvarint(&[0]), Ok(0));
        assert_eq!(uvarint(&[0x7f]), Ok(127));
        assert_eq!(uvarint(&[0x80, 0x01]), Ok(128));
        assert_eq!(uvarint(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(u32::MAX));
        assert_eq!(uvarint(&[0xff, 0xff, 0xff, 0xff, 0x1f]), Err(DecodeError::VarintTooLong));
        assert_eq!(uvarint(&[0x80; 6]), Err(DecodeError::VarintTooLong));
        assert_eq!(uvarint(&[0x80]), Err(DecodeError::Truncated { needed: 2, remaining: 1 }));
        assert_eq!(Decoder::new(&[0x03]).varint(), Ok(-2));
        assert_eq!(Decoder::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).varint(), Ok(i32::MIN));
        let longest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Decoder::new(&longest).varlong(), Ok(i64::MIN));
        assert_eq!(Decoder::new(&[0xff; 10]).varlong(), Err(DecodeError::VarintTooLong));
    }

    #[test]
    fn an_array_longer_than_the_frame_is_refused_before_it_is_allocated() {
        let frame = [0x7f, 0xff, 0xff, 0xff, 0, 0];
        let array = Decoder::new(&frame).array(false, 4, Decoder::int32);
        assert!(matches!(array, Err(DecodeError::Truncated { .. })));
    }

    #[test]
    fn strings_are_null_empty_or_text_and_nothing_else() {
        assert_eq!(Decoder::new(&[0xff, 0xff]).nullable_string(false), Ok(None));
        assert_eq!(Decoder::new(&[0xff, 0xff]).string(false), Err(DecodeError::UnexpectedNull));
        assert_eq!(Decoder::new(&[0xff, 0xfe]).string(false), Err(DecodeError::NegativeLength(-2)));
        assert_eq!(Decoder::new(&[0]).nullable_string(true), Ok(None));
        assert_eq!(Decoder::new(&[1]).string(true), Ok(Cow::Borrowed("")));
        assert_eq!(Decoder::new(&[3, b'h', b'i']).string(true), Ok(Cow::Borrowed("hi")));
        assert_eq!(Decoder::new(&[2, 0xff]).string(true), Err(DecodeError::InvalidUtf8));
        assert_eq!(Decoder::new(&[0x81, 0x80, 0x02]).string(true), Err(DecodeError::StringTooLong(32768)));
    }
}
