//! A member of a consumer group: what it has told about itself, and what it owns.

use std::collections::BTreeSet;
use std::rc::Rc;

use protocol::messages::group_log::{
    ClassicMemberMetadata, ClassicProtocol as ClassicProtocolValue,
    ConsumerGroupCurrentMemberAssignmentValue, ConsumerGroupMemberMetadataValue, TopicPartitions,
};

use super::partitions::Partitions;

/// The epoch with which a member joins.
pub const JOIN_GROUP_MEMBER_EPOCH: i32 = 0;
/// The epoch with which a member leaves for good.
pub const LEAVE_GROUP_MEMBER_EPOCH: i32 = -1;
/// The epoch with which a static member leaves for a while, and which it has until it is back.
pub const LEAVE_GROUP_STATIC_MEMBER_EPOCH: i32 = -2;

/// How far a member is on the way to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemberState {
    /// The member owns its target (of its epoch).
    #[default]
    Stable,
    /// The member has to give up partitions before it can move on to the target's epoch.
    UnrevokedPartitions,
    /// The member is in the target's epoch and waits for partitions that others have not given up.
    UnreleasedPartitions,
    /// A state that a later version has written.
    Unknown,
}

impl MemberState {
    fn from_wire(state: i8) -> Self {
        match state {
            0 => MemberState::Stable,
            1 => MemberState::UnrevokedPartitions,
            2 => MemberState::UnreleasedPartitions,
            _ => MemberState::Unknown,
        }
    }

    fn wire(self) -> i8 {
        match self {
            MemberState::Stable => 0,
            MemberState::UnrevokedPartitions => 1,
            MemberState::UnreleasedPartitions => 2,
            MemberState::Unknown => 127,
        }
    }
}

/// What a member owns, and in which epoch: the content of a ConsumerGroupCurrentMemberAssignment record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CurrentAssignment {
    /// The epoch that the member is in, which its next request has to name.
    pub member_epoch: i32,
    /// The epoch before, which the member names if it has not got the answer with the new one.
    pub previous_member_epoch: i32,
    /// How far the member is.
    pub state: MemberState,
    /// The partitions that the member may use.
    pub assigned: Partitions,
    /// The partitions that the member has been told to give up and has not yet given up.
    pub pending_revocation: Partitions,
}

impl CurrentAssignment {
    /// The record's value.
    pub fn to_value(&self) -> ConsumerGroupCurrentMemberAssignmentValue<'static> {
        let topics = |partitions: &Partitions| {
            let topics = partitions.by_topic().into_iter();
            topics
                .map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions, ..Default::default() })
                .collect()
        };
        ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch: self.member_epoch,
            previous_member_epoch: self.previous_member_epoch,
            state: self.state.wire(),
            assigned_partitions: topics(&self.assigned),
            partitions_pending_revocation: topics(&self.pending_revocation),
            ..Default::default()
        }
    }

    /// What the record's value says.
    pub fn from_value(value: &ConsumerGroupCurrentMemberAssignmentValue<'_>) -> Self {
        let partitions = |topics: &[TopicPartitions<'_>]| {
            Partitions::from_topics(topics.iter().map(|topic| (topic.topic_id, topic.partitions.as_slice())))
        };
        CurrentAssignment {
            member_epoch: value.member_epoch,
            previous_member_epoch: value.previous_member_epoch,
            state: MemberState::from_wire(value.state),
            assigned: partitions(&value.assigned_partitions),
            pending_revocation: partitions(&value.partitions_pending_revocation),
        }
    }

    /// Whether the member has arrived at the target of this epoch.
    pub fn is_reconciled_to(&self, target_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.member_epoch == target_epoch
    }
}

/// A protocol of a classic member: its name and the subscription in the form that the protocol wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicProtocol {
    /// The protocol's name, which is that of a client-side assignor.
    pub name: String,
    /// A version and a ConsumerProtocolSubscription.
    pub metadata: Vec<u8>,
}

/// What is known besides of a member that uses the classic protocol (KIP-848, online migration).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicMember {
    /// The session time-out that the member has asked for, in ms.
    pub session_timeout_ms: i32,
    /// The protocols that the member supports, the preferred one first.
    pub protocols: Vec<ClassicProtocol>,
}

/// A member. Its parts are shared between copies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// The id of static membership.
    pub instance_id: Option<Rc<str>>,
    /// The rack of the client.
    pub rack_id: Option<Rc<str>>,
    /// Name the client gives itself.
    pub client_id: Rc<str>,
    /// Address the member connects from.
    pub client_host: Rc<str>,
    /// How long the member may take to give up partitions (or, with the classic protocol, to rejoin), in ms; -1 if it has not said.
    pub rebalance_timeout_ms: i32,
    /// The topics the member has subscribed to by name.
    pub subscribed_topic_names: Rc<BTreeSet<String>>,
    /// The regular expression of topics the member has subscribed to; never empty.
    pub subscribed_topic_regex: Option<Rc<str>>,
    /// The assignor that the member would like.
    pub server_assignor: Option<Rc<str>>,
    /// Set while the member uses the classic protocol.
    pub classic: Option<Rc<ClassicMember>>,
    /// What the member owns.
    pub current: CurrentAssignment,
}

impl Member {
    /// Whether the member uses the classic protocol.
    pub fn uses_classic_protocol(&self) -> bool {
        self.classic.is_some()
    }

    /// Whether what the member has told about itself is the same in `other`.
    pub fn has_same_metadata(&self, other: &Member) -> bool {
        let aligned = Member { current: other.current.clone(), ..self.clone() };
        aligned == *other
    }

    /// The value of the member's ConsumerGroupMemberMetadata record.
    pub fn to_value(&self) -> ConsumerGroupMemberMetadataValue<'static> {
        let text = |text: &Rc<str>| text.to_string().into();
        let protocol = |protocol: &ClassicProtocol| ClassicProtocolValue {
            name: protocol.name.clone().into(),
            metadata: protocol.metadata.clone().into(),
            ..Default::default()
        };
        ConsumerGroupMemberMetadataValue {
            instance_id: self.instance_id.as_ref().map(text),
            rack_id: self.rack_id.as_ref().map(text),
            client_id: text(&self.client_id),
            client_host: text(&self.client_host),
            subscribed_topic_names: self
                .subscribed_topic_names
                .iter()
                .map(|name| name.clone().into())
                .collect(),
            subscribed_topic_regex: Some(
                self.subscribed_topic_regex.as_deref().unwrap_or_default().to_owned().into(),
            ),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            server_assignor: self.server_assignor.as_ref().map(text),
            classic_member_metadata: self.classic.as_ref().map(|classic| ClassicMemberMetadata {
                session_timeout_ms: classic.session_timeout_ms,
                supported_protocols: classic.protocols.iter().map(protocol).collect(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// The member of which the record's value tells, owning what `current` says.
    pub fn from_value(value: &ConsumerGroupMemberMetadataValue<'_>, current: CurrentAssignment) -> Self {
        let text = |text: &std::borrow::Cow<'_, str>| Rc::from(text.as_ref());
        let protocol = |protocol: &ClassicProtocolValue<'_>| ClassicProtocol {
            name: protocol.name.to_string(),
            metadata: protocol.metadata.to_vec(),
        };
        let classic = |classic: &ClassicMemberMetadata<'_>| ClassicMember {
            session_timeout_ms: classic.session_timeout_ms,
            protocols: classic.supported_protocols.iter().map(protocol).collect(),
        };
        Member {
            instance_id: value.instance_id.as_ref().map(text),
            rack_id: value.rack_id.as_ref().map(text),
            client_id: text(&value.client_id),
            client_host: text(&value.client_host),
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            subscribed_topic_names: Rc::new(
                value.subscribed_topic_names.iter().map(|name| name.to_string()).collect(),
            ),
            subscribed_topic_regex: value
                .subscribed_topic_regex
                .as_ref()
                .filter(|regex| !regex.is_empty())
                .map(text),
            server_assignor: value.server_assignor.as_ref().map(text),
            classic: value.classic_member_metadata.as_ref().map(|metadata| Rc::new(classic(metadata))),
            current,
        }
    }
}
