//! Between a classic group and its record, and what replaying a record does.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;
use protocol::messages::group_log::{GroupMetadataKey, GroupMetadataValue, MemberMetadata};

use super::member::{ClassicMember, ClassicProtocol};
use super::members::ClassicGroup;
use super::state::ClassicGroupState;
use crate::group::record::GroupRecord;

/// The record that removes a group.
pub(in crate::group) fn group_metadata_tombstone(group_id: &str) -> GroupRecord<'static> {
    GroupRecord::GroupMetadata(GroupMetadataKey { group: owned(group_id) }, None)
}

impl ClassicGroup {
    /// The record of the group's current generation with these assignments. `substitute` is written in the place of the member of the
    /// same static membership id.
    pub(super) fn metadata_record<'g>(
        &'g self,
        timestamp_ms: i64,
        substitute: Option<&'g ClassicMember>,
        assignment: impl Fn(&'g ClassicMember) -> Cow<'static, [u8]>,
    ) -> GroupRecord<'static> {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let mut leader = self.leader_id.as_deref();
        let mut members = Vec::with_capacity(self.members.len());
        for member in self.members.values() {
            let shown = match substitute {
                Some(substitute) if substitute.group_instance_id == member.group_instance_id => {
                    if self.is_leader(&member.member_id) {
                        leader = Some(&substitute.member_id);
                    }
                    substitute
                }
                _ => member,
            };
            members.push(MemberMetadata {
                member_id: owned(&shown.member_id),
                group_instance_id: shown.group_instance_id.as_deref().map(owned),
                client_id: owned(&shown.client_id),
                client_host: owned(&shown.client_host),
                rebalance_timeout: shown.rebalance_timeout_ms,
                session_timeout: shown.session_timeout_ms,
                subscription: shown.metadata(protocol).to_vec().into(),
                assignment: assignment(shown),
                ..MemberMetadata::default()
            });
        }
        let value = GroupMetadataValue {
            protocol_type: owned(self.protocol_type.as_deref().unwrap_or_default()),
            generation: self.generation_id,
            protocol: self.protocol_name.as_deref().map(owned),
            leader: leader.map(owned),
            current_state_timestamp: timestamp_ms,
            members,
            ..GroupMetadataValue::default()
        };
        GroupRecord::GroupMetadata(GroupMetadataKey { group: owned(&self.group_id) }, Some(value))
    }

    /// Applies a record. What no record holds stays as it is for the members that stay: requests that wait, protocols that were not chosen.
    /// Returns the ids of members that are gone, and of those that are new.
    ///
    /// While the group prepares a rebalance it keeps what it has: the record tells of the generation that this rebalance ends.
    pub(in crate::group) fn replay(&mut self, value: &GroupMetadataValue<'_>) -> ReplayedMembers {
        self.recorded = true;
        self.replacement.take_if(|replacement| {
            !value.members.iter().any(|member| *member.member_id == *replacement.member_id)
        });
        if self.state == ClassicGroupState::PreparingRebalance {
            return ReplayedMembers::default();
        }
        let mut changed = ReplayedMembers::default();
        if let Some(replacement) = self.replacement.take() {
            let instance = replacement.group_instance_id.clone().expect("only static members are replaced");
            if let Some(former_id) = self.static_members.get(&instance).cloned() {
                changed.joined.push(replacement.member_id.clone());
                let former = self.replace_static_member(&former_id, *replacement);
                debug_assert!(former.awaiting_join.is_none() && former.awaiting_sync.is_none());
                changed.left.push(former_id);
            }
        }
        let named: BTreeSet<&str> = value.members.iter().map(|member| &*member.member_id).collect();
        let known = self.members.keys();
        let gone: Vec<Rc<str>> = known.filter(|member_id| !named.contains(&***member_id)).cloned().collect();
        for member_id in gone {
            self.remove(&member_id);
            changed.left.push(member_id);
        }
        self.generation_id = value.generation;
        // Members without a protocol, which no broker should have written, share one without a name.
        let protocol = value.protocol.as_deref().or((!value.members.is_empty()).then_some(""));
        self.protocol_name = protocol.map(Into::into);
        for member in &value.members {
            if self.members.contains_key(&*member.member_id) {
                self.replay_member(member);
            } else {
                let loaded = self.loaded_member(member);
                changed.joined.push(loaded.member_id.clone());
                self.add(loaded, &value.protocol_type);
            }
        }
        self.protocol_type = (!value.protocol_type.is_empty()).then(|| (&*value.protocol_type).into());
        self.leader_id = value.leader.as_deref().map(Into::into);
        self.previous_state = self.state;
        self.state =
            if self.members.is_empty() { ClassicGroupState::Empty } else { ClassicGroupState::Stable };
        self.state_timestamp_ms =
            (value.current_state_timestamp >= 0).then_some(value.current_state_timestamp);
        self.subscribed_topics = self.compute_subscribed_topics();
        changed
    }

    /// Brings a member to what the record says. It keeps the protocols that were not chosen, unless the record is of an earlier life.
    fn replay_member(&mut self, record: &MemberMetadata<'_>) {
        let protocol = self.protocol_name.clone().unwrap_or_else(|| "".into());
        self.update(&record.member_id, |member| {
            member.assignment = Bytes::copy_from_slice(&record.assignment);
            member.rebalance_timeout_ms = rebalance_timeout_ms(record);
            member.session_timeout_ms = record.session_timeout;
            if *member.client_id != *record.client_id || *member.client_host != *record.client_host {
                member.client_id = (&*record.client_id).into();
                member.client_host = (&*record.client_host).into();
            }
            let chosen = member.protocols.iter().find(|candidate| candidate.name == protocol);
            if chosen.is_none_or(|chosen| *chosen.metadata != *record.subscription) {
                let metadata = Bytes::copy_from_slice(&record.subscription);
                member.protocols = vec![ClassicProtocol { name: protocol, metadata }];
            }
        });
    }

    fn loaded_member(&self, member: &MemberMetadata<'_>) -> ClassicMember {
        // An old broker may have written one static membership id twice; the first counts.
        let group_instance_id: Option<Rc<str>> = member.group_instance_id.as_deref().map(Into::into);
        let group_instance_id =
            group_instance_id.filter(|instance| !self.static_members.contains_key(instance));
        ClassicMember {
            member_id: (&*member.member_id).into(),
            group_instance_id,
            client_id: (&*member.client_id).into(),
            client_host: (&*member.client_host).into(),
            rebalance_timeout_ms: rebalance_timeout_ms(member),
            session_timeout_ms: member.session_timeout,
            protocols: self
                .protocol_name
                .iter()
                .map(|name| ClassicProtocol {
                    name: name.clone(),
                    metadata: Bytes::copy_from_slice(&member.subscription),
                })
                .collect(),
            assignment: Bytes::copy_from_slice(&member.assignment),
            is_new: false,
            awaiting_join: None,
            awaiting_sync: None,
        }
    }
}

/// A member's rebalance time-out, in ms; the oldest records have none.
fn rebalance_timeout_ms(member: &MemberMetadata<'_>) -> i32 {
    if member.rebalance_timeout == -1 { member.session_timeout } else { member.rebalance_timeout }
}

/// Whose sessions end and begin because of a record.
#[derive(Debug, Default)]
pub(in crate::group) struct ReplayedMembers {
    /// Members that the record does not name.
    pub(in crate::group) left: Vec<Rc<str>>,
    /// Members that were not known before.
    pub(in crate::group) joined: Vec<Rc<str>>,
}

fn owned(text: &str) -> Cow<'static, str> {
    Cow::Owned(text.to_owned())
}
