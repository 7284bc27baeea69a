//! A group of either protocol.

use super::classic::ClassicGroup;
use super::consumer::ConsumerGroup;

/// The protocol of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupType {
    /// The classic protocol, and groups that only commit offsets.
    Classic,
    /// The consumer protocol of KIP-848.
    Consumer,
}

impl GroupType {
    /// Kafka's name of the type in ListGroups.
    pub fn name(self) -> &'static str {
        match self {
            GroupType::Classic => "Classic",
            GroupType::Consumer => "Consumer",
        }
    }
}

/// A group. A name belongs to one group, whichever protocol it speaks.
#[derive(Debug)]
pub enum Group {
    /// A group of the classic protocol, or one that only commits offsets.
    Classic(Box<ClassicGroup>),
    /// A group of the consumer protocol.
    Consumer(Box<ConsumerGroup>),
}

impl Group {
    /// The group's protocol.
    pub fn group_type(&self) -> GroupType {
        match self {
            Group::Classic(_) => GroupType::Classic,
            Group::Consumer(_) => GroupType::Consumer,
        }
    }
}
