//! Kafka's primitive types on the wire, and the traits that all messages share.
//!
//! Integers are big-endian. Strings, bytes and arrays have a length in front: two or four bytes, or in *flexible*
//! versions (KIP-482) an unsigned varint that counts from one, so that zero means null. Every struct of a flexible
//! version ends with its tagged fields.

mod decoder;
mod encoder;
mod error;
mod few;
mod records_field;
mod tagged;

use std::ops::RangeInclusive;

pub use decoder::{Decoder, MEMORY_FACTOR};
pub use encoder::{Encoder, SHARE_FROM_BYTES};
pub use error::{DecodeError, EncodeError};
pub use few::Few;
pub use records_field::Records;
pub use tagged::TaggedFields;

/// A message of the protocol: a request, a response, a header, or a record that a coordinator stores.
///
/// `'a` is the lifetime of the frame that decoded strings, bytes and records point into.
pub trait Message<'a>: Sized {
    /// Kafka's name of the message.
    const NAME: &'static str;
    /// The API key of a request or response; -1 for other messages.
    const KEY: i16;
    /// The versions that can be encoded and decoded.
    const VERSIONS: RangeInclusive<i16>;
    /// The first version with compact lengths and tagged fields; `i16::MAX` if there is none.
    const FLEXIBLE_FROM: i16;

    /// Reads the message from the front of what `d` has left. Bytes after it are left to the caller
    /// ([`Decoder::finish`] refuses them).
    fn decode(d: &mut Decoder<'a>, version: i16) -> Result<Self, DecodeError>;

    /// Appends the message to `e`. Fails if a field that Kafka does not call ignorable is set although the version has
    /// no room for it.
    fn encode(&self, e: &mut Encoder, version: i16) -> Result<(), EncodeError>;

    /// Whether the version has compact lengths and tagged fields.
    fn flexible(version: i16) -> bool {
        version >= Self::FLEXIBLE_FROM
    }
}

/// A request and the type of its answer.
pub trait Request<'a>: Message<'a> {
    /// The answer, which has the same versions.
    type Response<'r>: Message<'r>;
}

/// What the generated code imports.
pub(crate) mod generated {
    pub(crate) use super::{
        DecodeError, Decoder, EncodeError, Encoder, Few, MEMORY_FACTOR, Message, Records, Request,
        TaggedFields, check_decode_version, check_encode_version,
    };
    pub(crate) use std::{borrow::Cow, ops::RangeInclusive};
    pub(crate) use uuid::Uuid;
}

pub(crate) fn check_decode_version<'a, M: Message<'a>>(version: i16) -> Result<(), DecodeError> {
    if M::VERSIONS.contains(&version) {
        Ok(())
    } else {
        Err(DecodeError::UnsupportedVersion { message: M::NAME, version })
    }
}

pub(crate) fn check_encode_version<'a, M: Message<'a>>(version: i16) -> Result<(), EncodeError> {
    if M::VERSIONS.contains(&version) {
        Ok(())
    } else {
        Err(EncodeError::UnsupportedVersion { message: M::NAME, version })
    }
}
