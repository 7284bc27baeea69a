//! The integers of a partition's life as types of their own, so that two that must not be swapped cannot be.

use std::fmt;
use uuid::Uuid;

macro_rules! integer_newtype {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $int);

        impl $name {
            /// The plain integer, as it is on the wire.
            pub const fn get(self) -> $int {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$int> for $name {
            fn from(value: $int) -> Self {
                Self(value)
            }
        }

        impl From<$name> for $int {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    };
}

integer_newtype! {
    /// The position of a record in a partition, counted from 0.
    Offset(i64)
}
integer_newtype! {
    /// The term of a partition's leader; grows with every change of leader. -1 is "unknown", as in Kafka.
    LeaderEpoch(i32)
}
integer_newtype! {
    /// The index of a partition in its topic.
    PartitionId(i32)
}
integer_newtype! {
    /// The identity of an idempotent or transactional producer. -1 is "none", as in Kafka.
    ProducerId(i64)
}

impl Offset {
    /// The first offset of a partition.
    pub const ZERO: Offset = Offset(0);

    /// The offset that follows this one.
    pub const fn next(self) -> Offset {
        Offset(self.0 + 1)
    }
}

impl std::ops::Add<i64> for Offset {
    type Output = Offset;

    fn add(self, records: i64) -> Offset {
        Offset(self.0 + records)
    }
}

impl std::ops::Sub<Offset> for Offset {
    type Output = i64;

    fn sub(self, other: Offset) -> i64 {
        self.0 - other.0
    }
}

impl LeaderEpoch {
    /// "No epoch known", -1 on the wire.
    pub const UNKNOWN: LeaderEpoch = LeaderEpoch(-1);
}

impl ProducerId {
    /// "No producer", -1 on the wire.
    pub const NONE: ProducerId = ProducerId(-1);
}

/// A partition by its topic's id, which, unlike the name, is never used again after a deletion (KIP-516).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicIdPartition {
    /// The topic's id.
    pub topic_id: Uuid,
    /// The partition's index in the topic.
    pub partition: PartitionId,
}

impl TopicIdPartition {
    /// The partition `partition` of the topic `topic_id`.
    pub const fn new(topic_id: Uuid, partition: PartitionId) -> Self {
        Self { topic_id, partition }
    }
}

impl fmt::Display for TopicIdPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id, self.partition)
    }
}
