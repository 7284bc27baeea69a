//! The records of `__consumer_offsets`, in Kafka's own formats.
//!
//! A key begins with a 16-bit number that says which kind of record it is; a value begins with the 16-bit version of its layout. A
//! record without a value is a tombstone. The layouts are in `protocol/schema/coordinator_records.txt`; Kafka has the same in
//! `group-coordinator/src/main/resources/common/message`.

use std::borrow::Cow;

use bytes::Bytes;
use protocol::messages::group_log::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue, ConsumerGroupPartitionMetadataKey, ConsumerGroupPartitionMetadataValue,
    ConsumerGroupRegularExpressionKey, ConsumerGroupRegularExpressionValue,
    ConsumerGroupTargetAssignmentMemberKey, ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataKey, ConsumerGroupTargetAssignmentMetadataValue, GroupMetadataKey,
    GroupMetadataValue, OffsetCommitKey, OffsetCommitValue,
};
use protocol::{DecodeError, Decoder, EncodeError, Encoder, Message};
use thiserror::Error;

/// Why the bytes of a record are not a record.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GroupRecordError {
    /// The record has no key.
    #[error("a record of __consumer_offsets has no key")]
    NoKey,
    /// The key's bytes are not what its kind says.
    #[error("the key of a {name} record is damaged: {error}")]
    Key {
        /// The kind of record.
        name: &'static str,
        /// What is wrong.
        error: DecodeError,
    },
    /// The value's bytes are not what its version says, or the version is unknown.
    #[error("the value (version {version}) of a {name} record is damaged: {error}")]
    Value {
        /// The kind of record.
        name: &'static str,
        /// The version of the value's layout.
        version: i16,
        /// What is wrong.
        error: DecodeError,
    },
}

macro_rules! group_records {
    ($($(#[$doc:meta])* $kinds:pat => $variant:ident($key:ident, $value:ident) writes $key_version:literal, $value_version:expr;)*) => {
        /// One record of `__consumer_offsets`: a key and a value, or a key and no value, which is a tombstone.
        #[derive(Debug, Clone, PartialEq)]
        pub enum GroupRecord<'a> {
            $($(#[$doc])* $variant($key<'a>, Option<$value<'a>>),)*
            /// A kind that this version does not know: share groups, streams groups, what comes later. It changes nothing here.
            Unknown {
                /// The key's bytes.
                key: Cow<'a, [u8]>,
                /// The value's bytes; a tombstone has none.
                value: Option<Cow<'a, [u8]>>,
            },
        }

        impl<'a> GroupRecord<'a> {
            /// Whether the record removes its key.
            pub fn is_tombstone(&self) -> bool {
                match self {
                    $(GroupRecord::$variant(_, value) => value.is_none(),)*
                    GroupRecord::Unknown { value, .. } => value.is_none(),
                }
            }

            /// The bytes of key and value. Fails if a string is longer than 32,767 bytes.
            pub fn encode(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
                match self {
                    $(GroupRecord::$variant(key, value) => {
                        let version = |value: &$value<'_>| -> i16 { let choose: fn(&$value<'_>) -> i16 = $value_version; choose(value) };
                        let key = encode_versioned(key, $key_version)?;
                        let value = value.as_ref().map(|value| encode_versioned(value, version(value))).transpose()?;
                        Ok((key, value))
                    })*
                    GroupRecord::Unknown { key, value } => {
                        let owned = |bytes: &Cow<'_, [u8]>| Bytes::copy_from_slice(bytes);
                        Ok((owned(key), value.as_ref().map(owned)))
                    }
                }
            }

            /// Reads a record. Kinds that are not known become [`GroupRecord::Unknown`].
            pub fn decode(key: &'a [u8], value: Option<&'a [u8]>) -> Result<Self, GroupRecordError> {
                let Some((kind, _)) = key.split_first_chunk::<2>() else {
                    return Err(GroupRecordError::NoKey);
                };
                match i16::from_be_bytes(*kind) {
                    $($kinds => Ok(GroupRecord::$variant(decode_key(key)?, decode_value(value)?)),)*
                    _ => Ok(GroupRecord::Unknown { key: key.into(), value: value.map(Cow::Borrowed) }),
                }
            }
        }
    };
}

group_records! {
    /// A committed offset.
    0 | 1 => OffsetCommit(OffsetCommitKey, OffsetCommitValue) writes 1, |value| if value.expire_timestamp >= 0 { 1 } else { 4 };
    /// A classic group: its generation and members.
    2 => GroupMetadata(GroupMetadataKey, GroupMetadataValue) writes 2, |_| 3;
    /// A consumer group: its epoch.
    3 => ConsumerGroupMetadata(ConsumerGroupMetadataKey, ConsumerGroupMetadataValue) writes 3, |_| 0;
    /// The partitions of the topics a consumer group has subscribed to; since 4.1 only tombstones are written.
    4 => ConsumerGroupPartitionMetadata(ConsumerGroupPartitionMetadataKey, ConsumerGroupPartitionMetadataValue) writes 4, |_| 0;
    /// A member of a consumer group: who it is and what it has subscribed to.
    5 => ConsumerGroupMemberMetadata(ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue) writes 5, |_| 0;
    /// The epoch of a consumer group's target assignment.
    6 => ConsumerGroupTargetAssignmentMetadata(ConsumerGroupTargetAssignmentMetadataKey, ConsumerGroupTargetAssignmentMetadataValue) writes 6, |_| 0;
    /// The target assignment of one member of a consumer group.
    7 => ConsumerGroupTargetAssignmentMember(ConsumerGroupTargetAssignmentMemberKey, ConsumerGroupTargetAssignmentMemberValue) writes 7, |_| 0;
    /// What one member of a consumer group owns now.
    8 => ConsumerGroupCurrentMemberAssignment(ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue) writes 8, |_| 0;
    /// The topics that a regular expression of a consumer group stands for.
    16 => ConsumerGroupRegularExpression(ConsumerGroupRegularExpressionKey, ConsumerGroupRegularExpressionValue) writes 16, |_| 0;
}

fn encode_versioned<'a, M: Message<'a>>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut encoder = Encoder::with_capacity(64);
    encoder.int16(version);
    message.encode(&mut encoder, version)?;
    Ok(encoder.finish_contiguous())
}

fn decode_versioned<'a, M: Message<'a>>(bytes: &'a [u8]) -> (i16, Result<M, DecodeError>) {
    let mut decoder = Decoder::new(bytes);
    let version = match decoder.int16() {
        Ok(version) => version,
        Err(error) => return (-1, Err(error)),
    };
    let message = M::decode(&mut decoder, version);
    (version, message.and_then(|message| decoder.finish().map(|()| message)))
}

fn decode_key<'a, M: Message<'a>>(bytes: &'a [u8]) -> Result<M, GroupRecordError> {
    let (_, key) = decode_versioned(bytes);
    key.map_err(|error| GroupRecordError::Key { name: M::NAME, error })
}

fn decode_value<'a, M: Message<'a>>(bytes: Option<&'a [u8]>) -> Result<Option<M>, GroupRecordError> {
    let Some(bytes) = bytes else { return Ok(None) };
    let (version, value) = decode_versioned(bytes);
    value.map(Some).map_err(|error| GroupRecordError::Value { name: M::NAME, version, error })
}
