//! Tagged fields that the schema does not know (KIP-482).

use super::{DecodeError, Decoder, EncodeError, Encoder};
use std::borrow::Cow;

/// Tag and raw value.
pub(super) type Entry<'a> = (u32, Cow<'a, [u8]>);

/// Unknown tagged fields of one struct, by ascending tag. They are kept so that a message can be passed on unharmed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaggedFields<'a>(Vec<Entry<'a>>);

impl<'a> TaggedFields<'a> {
    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tags and raw values, by ascending tag.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.0.iter().map(|(tag, value)| (*tag, value.as_ref()))
    }

    /// The raw value of a tag.
    pub fn get(&self, tag: u32) -> Option<&[u8]> {
        let index = self.0.binary_search_by_key(&tag, |(tag, _)| *tag).ok()?;
        Some(&self.0[index].1)
    }

    /// Sets the raw value of a tag.
    pub fn insert(&mut self, tag: u32, value: impl Into<Cow<'a, [u8]>>) {
        match self.0.binary_search_by_key(&tag, |(tag, _)| *tag) {
            Ok(index) => self.0[index].1 = value.into(),
            Err(index) => self.0.insert(index, (tag, value.into())),
        }
    }

    /// Reads the tagged fields of a struct that has no known ones.
    #[inline]
    pub(crate) fn decode(d: &mut Decoder<'a>) -> Result<Self, DecodeError> {
        let count = d.tag_count()?;
        let mut fields = TaggedFields::default();
        if count > 0 {
            for index in 0..count {
                let (tag, size) = d.tag_header()?;
                fields.read(d, tag, size, count - index)?;
            }
            fields.sort();
        }
        Ok(fields)
    }

    /// Reads the value of an unknown field after its header. `left` fields remain, this one included: a number that
    /// [`Decoder::tag_count`] has checked.
    pub(crate) fn read(
        &mut self,
        d: &mut Decoder<'a>,
        tag: u32,
        size: usize,
        left: u32,
    ) -> Result<(), DecodeError> {
        let value = d.take(size)?;
        if self.0.capacity() == 0 {
            self.0.reserve_exact(left as usize);
        }
        self.0.push((tag, Cow::Borrowed(value)));
        Ok(())
    }

    /// Restores the order of tags after reading. Kafka writes them in order; of duplicates the last one counts.
    #[inline]
    pub(crate) fn sort(&mut self) {
        if self.0.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            self.0.reverse();
            self.0.sort_by_key(|(tag, _)| *tag);
            self.0.dedup_by_key(|(tag, _)| *tag);
        }
    }

    /// Checks that no tag is below `known`, the number of tags that the schema knows.
    pub(crate) fn check(&self, known: u32) -> Result<(), EncodeError> {
        match self.0.first() {
            Some((tag, _)) if *tag < known => Err(EncodeError::BadTag(*tag)),
            _ => Ok(()),
        }
    }

    /// Writes the fields, after the known ones.
    #[inline]
    pub(crate) fn encode_entries(&self, e: &mut Encoder) -> Result<(), EncodeError> {
        for (tag, value) in &self.0 {
            let size = u32::try_from(value.len()).map_err(|_| EncodeError::TooLong(value.len()))?;
            e.uvarint(*tag);
            e.uvarint(size);
            e.raw(value);
        }
        Ok(())
    }

    /// Refuses to drop the fields in a version without tagged fields.
    #[inline]
    pub(crate) fn refuse(&self, version: i16) -> Result<(), EncodeError> {
        if self.is_empty() { Ok(()) } else { Err(EncodeError::TagsNotInVersion(version)) }
    }
}
