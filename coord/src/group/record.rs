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

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::messages::group_log::MemberMetadata;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// What is read from `key` and `value`, after making sure that it is written exactly so.
    fn decoded(key: &str, value: Option<&str>) -> GroupRecord<'static> {
        let key: &'static [u8] = bytes(key).leak();
        let value: Option<&'static [u8]> = value.map(|value| &*bytes(value).leak());
        let record = GroupRecord::decode(key, value).unwrap();
        let (written_key, written_value) = record.encode().unwrap();
        assert_eq!((&*written_key, written_value.as_deref()), (key, value));
        record
    }

    // Keys and values of these tests were taken from the log of an Apache Kafka 4.1.1.

    #[test]
    fn a_committed_offset_has_kafkas_bytes() {
        let record = decoded(
            "0001000c676f6c64656e2d67726f75700006676f6c64656e00000001",
            Some("000400000000000000050000000713676f6c64656e206d6574616461746120c3a9000001a1fdc9052e00"),
        );
        let key = OffsetCommitKey { group: "golden-group".into(), topic: "golden".into(), partition: 1 };
        let value = OffsetCommitValue {
            offset: 5,
            leader_epoch: 7,
            metadata: "golden metadata é".into(),
            commit_timestamp: 0x1a1_fdc9_052e,
            ..OffsetCommitValue::default()
        };
        assert_eq!(record, GroupRecord::OffsetCommit(key, Some(value)));
    }

    #[test]
    fn the_tombstones_of_offsets_and_groups_have_kafkas_bytes() {
        let offset = decoded("0001000c676f6c64656e2d67726f75700006676f6c64656e00000000", None);
        let group = decoded("0002000c676f6c64656e2d67726f7570", None);
        assert!(matches!(offset, GroupRecord::OffsetCommit(_, None)) && offset.is_tombstone());
        assert!(matches!(group, GroupRecord::GroupMetadata(_, None)) && group.is_tombstone());
    }

    #[test]
    fn a_group_without_members_has_kafkas_bytes() {
        let record = decoded(
            "0002000c676f6c64656e2d67726f7570",
            Some("0003000000000000ffffffff000001a1fdc8d7a800000000"),
        );
        let value = GroupMetadataValue {
            protocol: None,
            leader: None,
            current_state_timestamp: 0x1a1_fdc8_d7a8,
            ..GroupMetadataValue::default()
        };
        assert_eq!(
            record,
            GroupRecord::GroupMetadata(GroupMetadataKey { group: "golden-group".into() }, Some(value))
        );
    }

    #[test]
    fn a_stable_group_with_a_static_and_a_dynamic_member_has_kafkas_bytes() {
        let static_id = "instance-2-7e933268-1391-4a02-8d01-fe93bafcce53";
        let record = decoded("0002000c676f6c64656e2d67726f7570", Some(STABLE_GROUP));
        let GroupRecord::GroupMetadata(_, Some(value)) = record else { panic!("{record:?}") };
        assert_eq!((&*value.protocol_type, value.generation), ("consumer", 1));
        assert_eq!((value.protocol.as_deref(), value.leader.as_deref()), (Some("range"), Some(static_id)));
        let member = MemberMetadata {
            member_id: static_id.into(),
            group_instance_id: Some("instance-2".into()),
            client_id: "second".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout: 300_000,
            session_timeout: 10_000,
            subscription: bytes("0000000000010006676f6c64656e00000000").into(),
            assignment: bytes("0000000000010006676f6c64656e000000010000000000000000").into(),
            ..MemberMetadata::default()
        };
        assert_eq!(value.members[0], member);
        assert_eq!(value.members[1].group_instance_id, None);
    }

    const STABLE_GROUP: &str = "\
        00030008636f6e73756d657200000001000572616e6765002f696e7374616e63652d322d37653933333236382d31\
        3339312d346130322d386430312d666539336261666363653533000001a1fdc8df8e00000002002f696e7374616e\
        63652d322d37653933333236382d313339312d346130322d386430312d666539336261666363653533000a696e73\
        74616e63652d3200067365636f6e64000a2f3132372e302e302e31000493e0000027100000001200000000000100\
        06676f6c64656e000000000000001a0000000000010006676f6c64656e000000010000000000000000002a666972\
        73742d31643238636135312d623734302d343534652d386639642d646665383134646234633939ffff0005666972\
        7374000a2f3132372e302e302e31000493e000002710000000120000000000010006676f6c64656e000000000000\
        001a0000000000010006676f6c64656e000000010000000100000000";

    #[test]
    fn an_offset_that_says_when_it_expires_is_written_so_that_this_is_kept() {
        let key = OffsetCommitKey { group: "g".into(), topic: "t".into(), partition: 0 };
        let value = OffsetCommitValue {
            offset: 1,
            metadata: "m".into(),
            commit_timestamp: 2,
            expire_timestamp: 3,
            ..OffsetCommitValue::default()
        };
        let record = GroupRecord::OffsetCommit(key, Some(value));
        let (key, value) = record.encode().unwrap();
        let value = value.unwrap();
        assert_eq!(&*value, bytes("0001000000000000000100016d00000000000000020000000000000003"));
        assert_eq!(GroupRecord::decode(&key, Some(&value)).unwrap(), record);
    }

    #[test]
    fn records_of_older_brokers_are_read() {
        let v0 = bytes("0000000000000000000900016d0000000000000002");
        let key = [0, 0, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 5];
        let GroupRecord::OffsetCommit(key, Some(value)) = GroupRecord::decode(&key, Some(&v0)).unwrap()
        else {
            panic!("an offset")
        };
        assert_eq!((key.partition, value.offset, value.leader_epoch, value.commit_timestamp), (5, 9, -1, 2));
        let group_v0 = bytes("00000008636f6e73756d6572000000070000ffff00000000");
        let GroupRecord::GroupMetadata(_, Some(value)) =
            GroupRecord::decode(&[0, 2, 0, 1, b'g'], Some(&group_v0)).unwrap()
        else {
            panic!("a group")
        };
        assert_eq!((value.generation, value.current_state_timestamp), (7, -1));
    }

    #[test]
    fn kinds_that_are_not_known_are_kept_as_they_are() {
        let record = GroupRecord::decode(&[0, 99, 1, 2, 3], Some(&[4, 5])).unwrap();
        assert!(matches!(record, GroupRecord::Unknown { .. }));
        let (key, value) = record.encode().unwrap();
        assert_eq!((&*key, value.as_deref()), (&[0, 99, 1, 2, 3][..], Some(&[4, 5][..])));
    }

    #[test]
    fn damaged_records_are_errors_that_say_which() {
        assert_eq!(GroupRecord::decode(&[], None), Err(GroupRecordError::NoKey));
        let key = GroupRecord::decode(&[0, 2, 0, 9, b'g'], None).unwrap_err();
        assert!(key.to_string().contains("GroupMetadataKey"), "{key}");
        let value = GroupRecord::decode(&[0, 2, 0, 1, b'g'], Some(&[0, 77, 0])).unwrap_err();
        assert!(value.to_string().contains("version 77"), "{value}");
    }
}
