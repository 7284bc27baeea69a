//! The 61 bytes in front of a batch's records.

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    network_endian::{I16, I32, I64, U32},
};

use crate::compression::Compression;

/// Size of [`BatchHeader`].
pub const BATCH_HEADER_BYTES: usize = size_of::<BatchHeader>();
/// Bytes in front of those that the length field counts: base offset and the length itself.
pub const LOG_OVERHEAD_BYTES: usize = 12;
/// Where the bytes begin that the CRC covers; they end with the batch.
pub const CRC_START: usize = 21;
/// The format's number; 0 and 1 were the message sets before Kafka 0.11.
pub const MAGIC_V2: i8 = 2;
/// Producer id of a batch that is neither idempotent nor transactional.
pub const NO_PRODUCER_ID: i64 = -1;
/// Producer epoch of a batch without a producer id.
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// Base sequence of a batch without a producer id, and of control batches.
pub const NO_SEQUENCE: i32 = -1;
/// A record without a timestamp.
pub const NO_TIMESTAMP: i64 = -1;

const _: () = assert!(BATCH_HEADER_BYTES == 61);

/// A batch's header, read and written in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct BatchHeader {
    /// Offset of the first record that the batch was created with (it may be gone after compaction).
    pub base_offset: I64,
    /// Bytes that follow this field.
    pub length: I32,
    /// Epoch of the leader that took the batch; -1 in a produce request.
    pub partition_leader_epoch: I32,
    /// [`MAGIC_V2`].
    pub magic: i8,
    /// CRC-32C of everything from the attributes to the end.
    pub crc: U32,
    /// See [`Attributes`].
    pub attributes: I16,
    /// Last offset minus base offset.
    pub last_offset_delta: I32,
    /// What the records' timestamp deltas refer to: the first record's timestamp, or the delete horizon in ms.
    pub base_timestamp: I64,
    /// Largest timestamp of the records in ms, or the time of the append.
    pub max_timestamp: I64,
    /// Or [`NO_PRODUCER_ID`].
    pub producer_id: I64,
    /// Or [`NO_PRODUCER_EPOCH`].
    pub producer_epoch: I16,
    /// Sequence number of the record at the base offset, or [`NO_SEQUENCE`].
    pub base_sequence: I32,
    /// Records that follow; fewer than the offsets suggest after compaction, down to 0.
    pub record_count: I32,
}

impl BatchHeader {
    /// The decoded attribute bits.
    pub fn attributes(&self) -> Attributes {
        Attributes(self.attributes.get())
    }
}

/// What a batch's timestamps mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    /// Each record has the time that its producer gave it.
    #[default]
    CreateTime,
    /// All records have the time when the broker appended the batch: the batch's max timestamp.
    LogAppendTime,
}

/// The attribute bits of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC_MASK: i16 = 0b111;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    /// Id of the codec, also if it is undefined.
    pub fn codec_id(self) -> u8 {
        (self.0 & Self::CODEC_MASK) as u8
    }

    /// The codec; `None` if the id is undefined.
    pub fn compression(self) -> Option<Compression> {
        Compression::from_id(self.codec_id())
    }

    /// What the timestamps mean.
    pub fn timestamp_type(self) -> TimestampType {
        if self.has(Self::LOG_APPEND_TIME) { TimestampType::LogAppendTime } else { TimestampType::CreateTime }
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(self) -> bool {
        self.has(Self::TRANSACTIONAL)
    }

    /// Whether the records are for Kafka itself (transaction markers, quorum control records) and hidden from clients.
    pub fn is_control(self) -> bool {
        self.has(Self::CONTROL)
    }

    /// Whether the base timestamp is a delete horizon (KIP-534).
    pub fn has_delete_horizon(self) -> bool {
        self.has(Self::DELETE_HORIZON)
    }

    /// The same with this codec.
    pub fn with_compression(self, codec: Compression) -> Self {
        Self(self.0 & !Self::CODEC_MASK | i16::from(codec.id()))
    }

    /// The same with this timestamp type.
    pub fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        self.with(Self::LOG_APPEND_TIME, timestamp_type == TimestampType::LogAppendTime)
    }

    /// The same, transactional or not.
    pub fn with_transactional(self, yes: bool) -> Self {
        self.with(Self::TRANSACTIONAL, yes)
    }

    /// The same, for control records or not.
    pub fn with_control(self, yes: bool) -> Self {
        self.with(Self::CONTROL, yes)
    }

    /// The same, with or without a delete horizon.
    pub fn with_delete_horizon(self, yes: bool) -> Self {
        self.with(Self::DELETE_HORIZON, yes)
    }

    fn has(self, bit: i16) -> bool {
        self.0 & bit != 0
    }

    fn with(self, bit: i16, yes: bool) -> Self {
        Self(if yes { self.0 | bit } else { self.0 & !bit })
    }
}

/// The sequence number `delta` records after `sequence`; after `i32::MAX` comes 0.
pub fn sequence_after(sequence: i32, delta: i32) -> i32 {
    sequence.wrapping_add(delta) & i32::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(sequence_after(0, 4), 4);
        assert_eq!(sequence_after(i32::MAX, 0), i32::MAX);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 5), 3);
    }

    #[test]
    fn each_attribute_has_its_own_bit() {
        let all = Attributes::default()
            .with_compression(Compression::Zstd)
            .with_timestamp_type(TimestampType::LogAppendTime)
            .with_transactional(true)
            .with_control(true)
            .with_delete_horizon(true);
        assert_eq!(all.0, 0b111_1100);
        assert_eq!(all.compression(), Some(Compression::Zstd));
        assert_eq!(all.with_timestamp_type(TimestampType::CreateTime).0, 0b111_0100);
        assert_eq!(all.with_compression(Compression::None).0, 0b111_1000);
    }
}
