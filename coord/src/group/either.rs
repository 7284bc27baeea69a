//! A group of either protocol.

use protocol::ErrorCode;

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
            GroupType::Classic => "classic",
            GroupType::Consumer => "consumer",
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

    /// Kafka's name of the group's state.
    pub fn state_name(&self) -> &'static str {
        match self {
            Group::Classic(group) => group.state().name(),
            Group::Consumer(group) => group.state().name(),
        }
    }

    /// Kind of protocol of the members; empty if the group only holds offsets.
    pub fn protocol_type(&self) -> &str {
        match self {
            Group::Classic(group) => group.protocol_type().unwrap_or_default(),
            Group::Consumer(_) => "consumer",
        }
    }

    /// Whether the group has no members.
    pub fn is_empty(&self) -> bool {
        match self {
            Group::Classic(group) => group.is_empty(),
            Group::Consumer(group) => group.is_empty(),
        }
    }

    /// Whether a member has subscribed to the topic, as far as that is known.
    pub(super) fn is_subscribed_to_topic(&self, topic: &str) -> bool {
        match self {
            Group::Classic(group) => group.is_subscribed_to_topic(topic),
            Group::Consumer(group) => group.is_subscribed_to(topic),
        }
    }

    /// Whether offsets may be deleted, topic by topic.
    pub(super) fn validate_offset_delete(&self) -> Result<(), ErrorCode> {
        match self {
            Group::Classic(group) => group.validate_offset_delete(),
            Group::Consumer(_) => Ok(()),
        }
    }
}
