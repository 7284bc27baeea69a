//! Why a message could not be read or written.

use thiserror::Error;

/// Why bytes are not the message they should be. The sender is at fault in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The frame ends before the message does.
    #[error("message needs {needed} more bytes but the frame has {remaining} left")]
    Truncated {
        /// Bytes that the next field needs at least.
        needed: usize,
        /// Bytes left.
        remaining: usize,
    },
    /// Bytes follow the end of the message.
    #[error("{0} bytes follow the end of the message")]
    TrailingBytes(usize),
    /// A length is negative and does not mean null.
    #[error("length {0} is negative")]
    NegativeLength(i32),
    /// A field that cannot be null in this version is null.
    #[error("a field that cannot be null is null")]
    UnexpectedNull,
    /// A string is longer than Kafka allows (32767 bytes).
    #[error("a string of {0} bytes is longer than 32767")]
    StringTooLong(usize),
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    InvalidUtf8,
    /// A variable-length integer does not end where it must.
    #[error("a variable-length integer is too long")]
    VarintTooLong,
    /// A tagged field that the schema knows appears in a version that does not have it.
    #[error("tagged field {tag} does not exist in version {version}")]
    TagNotInVersion {
        /// The tag.
        tag: u32,
        /// The version of the message.
        version: i16,
    },
    /// Decoding would take more memory than the frame entitles to ([`MEMORY_FACTOR`](super::MEMORY_FACTOR)).
    #[error("the message would take more memory than its size entitles to")]
    TooMuchMemory,
    /// The API key is unknown.
    #[error("unknown API key {0}")]
    UnknownApiKey(i16),
    /// The message does not exist in this version.
    #[error("{message} has no version {version}")]
    UnsupportedVersion {
        /// Kafka's name of the message.
        message: &'static str,
        /// The version that was asked for.
        version: i16,
    },
}

/// Why a message cannot be written in a version. Our side is at fault in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The message does not exist in this version.
    #[error("{message} has no version {version}")]
    UnsupportedVersion {
        /// Kafka's name of the message.
        message: &'static str,
        /// The version that was asked for.
        version: i16,
    },
    /// A field is set that the version has no room for and that must not be dropped silently.
    #[error("{structure}.{field} is set but does not exist in version {version}")]
    FieldNotInVersion {
        /// Name of the struct.
        structure: &'static str,
        /// Name of the field.
        field: &'static str,
        /// The version that was asked for.
        version: i16,
    },
    /// A field is null that cannot be null in this version.
    #[error("{structure}.{field} cannot be null in version {version}")]
    UnexpectedNull {
        /// Name of the struct.
        structure: &'static str,
        /// Name of the field.
        field: &'static str,
        /// The version that was asked for.
        version: i16,
    },
    /// Unknown tagged fields are set, but the version has no tagged fields.
    #[error("version {0} has no tagged fields")]
    TagsNotInVersion(i16),
    /// An unknown tagged field has the tag of a known one, or the tags do not ascend.
    #[error("unknown tagged field {0} is known, or out of order")]
    BadTag(u32),
    /// A string, byte sequence, array or frame is longer than its length field can say.
    #[error("{0} bytes or elements are more than the length field can say")]
    TooLong(usize),
}
