//! The members of a classic group: who they are, who leads, what they can agree on.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use protocol::ErrorCode;

use super::member::{ClassicMember, ClassicProtocol, Waiting};
use super::state::ClassicGroupState;
use crate::group::consumer::ConsumerGroup;

/// `protocol_type` of groups of consumers.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// How long a new group goes on waiting for members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InitialDelay {
    /// The delay that runs, in ms.
    pub(super) delay_ms: i32,
    /// What is left of the rebalance time-out after it, in ms.
    pub(super) remaining_ms: i32,
}

/// A group of the classic protocol, or one that only holds offsets (a simple group).
#[derive(Debug)]
pub struct ClassicGroup {
    /// The group's name.
    pub(in crate::group) group_id: Rc<str>,
    pub(super) state: ClassicGroupState,
    pub(super) previous_state: ClassicGroupState,
    /// When the state was entered, in ms since the epoch; `None` if an old record does not say.
    pub(super) state_timestamp_ms: Option<i64>,
    pub(super) generation_id: i32,
    /// Kind of protocol of the members now or the last ones; `None` for a simple group.
    pub(super) protocol_type: Option<Rc<str>>,
    pub(super) protocol_name: Option<Rc<str>>,
    pub(super) leader_id: Option<Rc<str>>,
    pub(super) members: BTreeMap<Rc<str>, ClassicMember>,
    /// Member ids by static membership id.
    pub(super) static_members: BTreeMap<Rc<str>, Rc<str>>,
    /// Ids that were given out (KIP-394) and have not come back.
    pub(super) pending_join_members: BTreeSet<Rc<str>>,
    /// Members that have not synchronized in this generation.
    pub(super) pending_sync_members: BTreeSet<Rc<str>>,
    /// How many members can use a protocol.
    supported_protocols: BTreeMap<Rc<str>, usize>,
    awaiting_join_count: usize,
    /// The delay before the first generation, while it runs.
    pub(super) initial_delay: Option<InitialDelay>,
    /// Whether a member has come since the delay before the first generation began or was extended.
    pub(super) new_member_added: bool,
    /// Topics of all members; `None` if that is not known, or the members are no consumers.
    pub(super) subscribed_topics: Option<BTreeSet<String>>,
    /// A static member that takes over from its former self as soon as that is recorded.
    pub(super) replacement: Option<Box<ClassicMember>>,
    /// The consumer group that this group takes the place of, until the tombstones of that one are recorded.
    pub(in crate::group) replaces: Option<Box<ConsumerGroup>>,
    /// Whether the log holds a record of the group.
    pub(in crate::group) recorded: bool,
}

impl ClassicGroup {
    /// A group without members.
    pub fn new(group_id: Rc<str>) -> Self {
        ClassicGroup {
            group_id,
            state: ClassicGroupState::Empty,
            previous_state: ClassicGroupState::Dead,
            state_timestamp_ms: None,
            generation_id: 0,
            protocol_type: None,
            protocol_name: None,
            leader_id: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_join_members: BTreeSet::new(),
            pending_sync_members: BTreeSet::new(),
            supported_protocols: BTreeMap::new(),
            awaiting_join_count: 0,
            initial_delay: None,
            new_member_added: false,
            subscribed_topics: None,
            replacement: None,
            replaces: None,
            recorded: false,
        }
    }

    /// The group's name.
    pub fn group_id(&self) -> &str {
        &self.group_id
    }

    /// Where the group stands.
    pub fn state(&self) -> ClassicGroupState {
        self.state
    }

    /// The group's generation.
    pub fn generation_id(&self) -> i32 {
        self.generation_id
    }

    /// Kind of protocol, `None` for a simple group.
    pub fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    /// The protocol that the members agreed on.
    pub fn protocol_name(&self) -> Option<&str> {
        self.protocol_name.as_deref()
    }

    /// The leader's member id.
    pub fn leader_id(&self) -> Option<&str> {
        self.leader_id.as_deref()
    }

    /// The members by id.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &ClassicMember> {
        self.members.values()
    }

    /// A member.
    pub fn member(&self, member_id: &str) -> Option<&ClassicMember> {
        self.members.get(member_id)
    }

    /// The member id behind a static membership id.
    pub fn static_member_id(&self, group_instance_id: &str) -> Option<&Rc<str>> {
        self.static_members.get(group_instance_id)
    }

    /// Whether the group has no members. It may have given out ids.
    pub fn is_empty(&self) -> bool {
        self.state == ClassicGroupState::Empty
    }

    /// Whether the group exists only because offsets were committed under its name.
    pub fn is_simple(&self) -> bool {
        self.is_empty()
            && self.protocol_type.is_none()
            && !self.recorded
            && self.pending_join_members.is_empty()
    }

    /// When the group entered its state, in ms since the epoch, if that is known.
    pub fn state_timestamp_ms(&self) -> Option<i64> {
        self.state_timestamp_ms
    }

    /// Whether ids have been given out that nobody has come back with yet.
    pub fn has_pending_members(&self) -> bool {
        !self.pending_join_members.is_empty()
    }

    /// Whether the topics of all members are known.
    pub fn knows_subscribed_topics(&self) -> bool {
        self.subscribed_topics.is_some()
    }

    /// Whether the members are consumers.
    pub fn uses_consumer_group_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    /// Whether a member id leads the group.
    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader_id.as_deref() == Some(member_id)
    }

    /// How many members wait for the answer to JoinGroup.
    pub(super) fn awaiting_join_count(&self) -> usize {
        self.awaiting_join_count
    }

    /// Whether every member that is known, or was promised an id, has joined.
    pub(super) fn has_all_members_joined(&self) -> bool {
        self.members.len() == self.awaiting_join_count && self.pending_join_members.is_empty()
    }

    /// The longest rebalance time-out of a member, in ms.
    pub(super) fn rebalance_timeout_ms(&self) -> i32 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0).max(0)
    }

    /// Goes over to another state.
    pub(super) fn transition_to(&mut self, state: ClassicGroupState, now_ms: i64) {
        assert!(
            self.state.may_become(state),
            "group {} cannot go from {} to {}",
            self.group_id,
            self.state.name(),
            state.name()
        );
        self.previous_state = self.state;
        self.state = state;
        self.state_timestamp_ms = Some(now_ms);
    }

    /// Adds a member that joins, or one that a record tells of.
    pub(super) fn add(&mut self, member: ClassicMember, protocol_type: &str) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.into());
        }
        if self.leader_id.is_none() {
            self.leader_id = Some(member.member_id.clone());
        }
        if let Some(instance) = &member.group_instance_id {
            let former = self.static_members.insert(instance.clone(), member.member_id.clone());
            assert!(former.is_none(), "a static membership id of group {} is used twice", self.group_id);
        }
        self.pending_join_members.remove(&member.member_id);
        self.count(&member, true);
        let former = self.members.insert(member.member_id.clone(), member);
        assert!(former.is_none(), "a member id of group {} is used twice", self.group_id);
    }

    /// Removes a member, or an id that was given out. The member's requests must not be waiting unless the caller answers them.
    pub(super) fn remove(&mut self, member_id: &str) -> Option<ClassicMember> {
        self.pending_join_members.remove(member_id);
        self.pending_sync_members.remove(member_id);
        let member = self.members.remove(member_id)?;
        self.count(&member, false);
        if let Some(instance) = &member.group_instance_id {
            self.static_members.remove(instance);
        }
        if self.is_leader(member_id) {
            self.leader_id = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Gives the static member `former_id` the id of `member` and all that `member` brings along; leadership stays with it. Returns the
    /// member as it was.
    pub(super) fn replace_static_member(
        &mut self,
        former_id: &str,
        mut member: ClassicMember,
    ) -> ClassicMember {
        let former = self.members.remove(former_id).expect("the caller has looked the member up");
        self.count(&former, false);
        self.pending_sync_members.remove(former_id);
        if self.is_leader(former_id) {
            self.leader_id = Some(member.member_id.clone());
        }
        let instance = former.group_instance_id.clone().expect("only static members are replaced");
        self.static_members.insert(instance.clone(), member.member_id.clone());
        member.group_instance_id = Some(instance);
        self.count(&member, true);
        self.members.insert(member.member_id.clone(), member);
        former
    }

    /// Changes a member through `change`, keeping the counts right.
    pub(super) fn update(&mut self, member_id: &str, change: impl FnOnce(&mut ClassicMember)) {
        let mut member = self.members.remove(member_id).expect("the caller has looked the member up");
        self.count(&member, false);
        change(&mut member);
        self.count(&member, true);
        self.members.insert(member.member_id.clone(), member);
    }

    /// Forgets the static member that was to take over: that could not be recorded.
    pub(in crate::group) fn withdraw_replacement(&mut self) {
        self.replacement = None;
    }

    /// Takes the JoinGroup that waits of a member.
    pub(super) fn take_awaiting_join(&mut self, member_id: &str) -> Option<Waiting> {
        let waiting = self.members.get_mut(member_id)?.awaiting_join.take();
        self.awaiting_join_count -= usize::from(waiting.is_some());
        waiting
    }

    fn count(&mut self, member: &ClassicMember, add: bool) {
        for protocol in &member.protocols {
            let count = self.supported_protocols.entry(protocol.name.clone()).or_default();
            *count = if add { *count + 1 } else { *count - 1 };
            if *count == 0 {
                self.supported_protocols.remove(&protocol.name);
            }
        }
        if member.awaiting_join.is_some() {
            self.awaiting_join_count =
                if add { self.awaiting_join_count + 1 } else { self.awaiting_join_count - 1 };
        }
    }

    /// Whether a member that has these protocols can be in the group beside those that are.
    pub(super) fn supports_protocols(&self, protocol_type: &str, protocols: &[ClassicProtocol]) -> bool {
        if self.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|protocol| self.is_candidate(&protocol.name))
    }

    /// Whether every member can use the protocol.
    fn is_candidate(&self, protocol: &str) -> bool {
        self.supported_protocols.get(protocol).copied().unwrap_or(0) == self.members.len()
    }

    /// The protocol that most members like best among those that all can use; of several, the first in the order of names.
    pub(super) fn select_protocol(&self) -> Option<Rc<str>> {
        Self::elect_protocol(self.members.values())
    }

    /// The same if the replacement had taken over already.
    pub(super) fn select_protocol_with(
        &self,
        replacement: &ClassicMember,
        former_id: &str,
    ) -> Option<Rc<str>> {
        let others = self.members.values().filter(|member| &*member.member_id != former_id);
        Self::elect_protocol(others.chain(std::iter::once(replacement)))
    }

    fn elect_protocol<'m>(members: impl Iterator<Item = &'m ClassicMember> + Clone) -> Option<Rc<str>> {
        let mut support: BTreeMap<&str, usize> = BTreeMap::new();
        let mut member_count = 0;
        for member in members.clone() {
            member_count += 1;
            for protocol in &member.protocols {
                *support.entry(&protocol.name).or_default() += 1;
            }
        }
        let mut votes: BTreeMap<&Rc<str>, usize> = BTreeMap::new();
        for member in members {
            let favourite =
                member.protocols.iter().find(|protocol| support[&*protocol.name] == member_count)?;
            *votes.entry(&favourite.name).or_default() += 1;
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    /// Makes sure that the leader is among those who have joined. Returns whether there is such a leader.
    pub(super) fn elect_joined_leader(&mut self) -> bool {
        let leader = self.leader_id.as_ref().and_then(|leader| self.members.get(leader));
        if leader.is_some_and(|leader| leader.awaiting_join.is_some()) {
            return true;
        }
        let joined = self.members.values().find(|member| member.awaiting_join.is_some());
        let Some(joined) = joined else { return false };
        self.leader_id = Some(joined.member_id.clone());
        true
    }

    /// That the member exists, and is the one its static membership id stands for.
    pub(super) fn validate_member(
        &self,
        member_id: &str,
        group_instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = group_instance_id {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(current) if **current != *member_id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UNKNOWN_MEMBER_ID) }
    }

    /// Whether offsets may be committed by this member in this generation; -1 and no member is somebody outside, who may while there
    /// are no members.
    pub(in crate::group) fn validate_offset_commit(
        &self,
        member_id: &str,
        group_instance_id: Option<&str>,
        generation_id: i32,
    ) -> Result<(), ErrorCode> {
        if generation_id < 0 && self.is_empty() {
            return Ok(());
        }
        if generation_id < 0 && member_id.is_empty() && group_instance_id.is_none() {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        self.validate_member(member_id, group_instance_id)?;
        if generation_id != self.generation_id {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        if self.state == ClassicGroupState::CompletingRebalance {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        Ok(())
    }

    /// Whether offsets may be deleted: always without members; with them only if they are consumers, topic by topic.
    pub(in crate::group) fn validate_offset_delete(&self) -> Result<(), ErrorCode> {
        if self.is_empty() || self.uses_consumer_group_protocol() {
            Ok(())
        } else {
            Err(ErrorCode::NON_EMPTY_GROUP)
        }
    }

    /// Whether a member has subscribed to the topic; if that is not known, whether it may have.
    pub(in crate::group) fn is_subscribed_to_topic(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.uses_consumer_group_protocol(),
        }
    }
}
