//! The value of a field of type records: one or more record batches, not looked into.

use bytes::Bytes;

use super::Few;

/// Record batches as they travel in produce requests and fetch responses.
#[derive(Debug, Clone)]
pub enum Records<'a> {
    /// A part of the frame that was decoded.
    Borrowed(&'a [u8]),
    /// Slices of caches or of read buffers, sent in order without copying them together.
    Shared(Few<Bytes>),
}

impl Records<'_> {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Records::Borrowed(bytes) => bytes.len(),
            Records::Shared(slices) => slices.iter().map(Bytes::len).sum(),
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in one piece, borrowed if they already are.
    pub fn contiguous(&self) -> std::borrow::Cow<'_, [u8]> {
        match self {
            Records::Borrowed(bytes) => (*bytes).into(),
            Records::Shared(slices) => match &slices[..] {
                [] => (&[][..]).into(),
                [only] => (&only[..]).into(),
                slices => slices.concat().into(),
            },
        }
    }
}

impl Default for Records<'_> {
    fn default() -> Self {
        Records::Borrowed(&[])
    }
}

impl From<Bytes> for Records<'_> {
    fn from(bytes: Bytes) -> Self {
        Records::Shared(Few::one(bytes))
    }
}

/// Equal if the bytes are equal, however they are split.
impl PartialEq for Records<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.contiguous() == other.contiguous()
    }
}
