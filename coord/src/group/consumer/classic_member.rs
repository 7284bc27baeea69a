//! Members of a consumer group that use the classic protocol (KIP-848, online migration): their JoinGroup is a heartbeat that acknowledges
//! revocations by listing what the member owns, SyncGroup hands out the assignment, Heartbeat tells them to join again.

use std::rc::Rc;

use protocol::ErrorCode;
use protocol::messages::{HeartbeatRequest, JoinGroupRequest, SyncGroupRequest};

use super::consumer_protocol;
use super::draft::Draft;
use super::group::ConsumerGroup;
use super::heartbeat::{check_room, new_member, take_over};
use super::member::{ClassicMember, ClassicProtocol, Member, MemberState};
use super::migration;
use super::refusal::Refusal;
use super::topics::TopicsView;
use crate::group::record::GroupRecord;

/// First version of JoinGroup whose clients join again with the id they are given (KIP-394).
const MEMBER_ID_REQUIRED_FROM: i16 = 4;

/// Whether a JoinGroup is only told its member id.
pub(super) fn needs_member_id(api_version: i16, request: &JoinGroupRequest<'_>) -> bool {
    api_version >= MEMBER_ID_REQUIRED_FROM
        && request.member_id.is_empty()
        && request.group_instance_id.is_none()
}

/// Refuses a member that has no place in the group.
pub(super) fn check_join(
    draft: &Draft<'_>,
    member_id: &str,
    request: &JoinGroupRequest<'_>,
) -> Result<(), Refusal> {
    check_room(draft.env, draft.group(), member_id)?;
    if request.protocol_type != consumer_protocol::PROTOCOL_TYPE
        || !draft.group().supports_one_of(request.protocols.iter().map(|protocol| protocol.name.as_ref()))
    {
        let message = format!("Member {member_id}'s protocols are not supported.");
        return Err(Refusal::new(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, message));
    }
    Ok(())
}

/// What a JoinGroup leads to.
pub(super) struct Joined {
    /// The records to append.
    pub records: Vec<GroupRecord<'static>>,
    /// The member's epoch, which it is told as the generation.
    pub member_epoch: i32,
    /// The first of the member's protocols, which it is told as the group's.
    pub protocol_name: String,
    /// Set if the group becomes a classic one, and then whether it has to rebalance.
    pub downgraded: Option<bool>,
}

/// Decides on the JoinGroup of the member `member_id` (the request's, or a new one if the request has none).
pub(super) fn join(
    mut draft: Draft<'_>,
    member_id: &str,
    client: (&str, &str),
    rebalance_timeout_ms: i32,
    request: &JoinGroupRequest<'_>,
    check_topics: bool,
) -> Result<Joined, Refusal> {
    let inconsistent = |what: &str| {
        let message = format!("Member {member_id}'s protocols are not supported: {what}.");
        Refusal::new(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, message)
    };
    let first = request.protocols.first().ok_or_else(|| inconsistent("there is none"))?;
    // All protocols of a consumer carry the same subscription.
    let (_, subscription) =
        consumer_protocol::subscription(&first.metadata).map_err(|error| inconsistent(&error.to_string()))?;
    let owned = consumer_protocol::owned(&subscription, draft.env.topics);
    let replaces =
        request.group_instance_id.as_deref().and_then(|instance_id| draft.group().static_member(instance_id));
    let downgrades = replaces.is_some_and(|(replaced, _)| {
        migration::may_downgrade(draft.env, draft.group(), std::slice::from_ref(replaced), true)
    });
    let before = joining_member(&mut draft, member_id, request)?;
    let after = Member {
        instance_id: request
            .group_instance_id
            .as_deref()
            .map(Rc::from)
            .or_else(|| before.instance_id.clone()),
        rack_id: subscription.rack_id.as_deref().map(Rc::from).or_else(|| before.rack_id.clone()),
        client_id: client.0.into(),
        client_host: client.1.into(),
        rebalance_timeout_ms,
        subscribed_topic_names: Rc::new(subscription.topics.iter().map(|topic| topic.to_string()).collect()),
        subscribed_topic_regex: None,
        classic: Some(Rc::new(classic_metadata(request))),
        ..before.clone()
    };
    let names_changed = draft.update_member(member_id, &before, &after);
    let regexes_changed = draft.update_regexes(&before, &after)?;
    let subscriptions_changed = names_changed || regexes_changed;
    if subscriptions_changed || check_topics {
        draft.update_epoch(subscriptions_changed);
    }
    if !downgrades {
        draft.update_targets();
    }
    let rebalances = draft.group().group_epoch > draft.group().assignment_epoch;
    let member_epoch = if rebalances {
        after.current.member_epoch
    } else {
        draft.reconcile(member_id, Some(&owned))?.member_epoch
    };
    let downgraded = downgrades.then_some(rebalances);
    if downgrades {
        migration::downgrade(&mut draft, &[]);
    }
    let protocol_name = first.name.to_string();
    Ok(Joined { records: draft.into_records(), member_epoch, protocol_name, downgraded })
}

fn joining_member(
    draft: &mut Draft<'_>,
    member_id: &str,
    request: &JoinGroupRequest<'_>,
) -> Result<Member, Refusal> {
    let Some(instance_id) = request.group_instance_id.as_deref() else {
        return Ok(draft.group().members.get(member_id).cloned().unwrap_or_else(new_member));
    };
    let existing = draft.group().static_member(instance_id).map(|(id, member)| (id.clone(), member.clone()));
    match existing {
        None if request.member_id.is_empty() => Ok(new_member()),
        None => Err(Refusal::unknown_instance(instance_id)),
        Some((existing_id, member)) if request.member_id.is_empty() => {
            Ok(take_over(draft, &existing_id, member_id, member))
        }
        Some((existing_id, _)) if existing_id.as_ref() != member_id => {
            Err(Refusal::fenced_instance(member_id, instance_id, &existing_id))
        }
        Some((_, member)) => Ok(member),
    }
}

fn classic_metadata(request: &JoinGroupRequest<'_>) -> ClassicMember {
    let protocols = request.protocols.iter();
    let copy = |protocol: &protocol::messages::join_group::JoinGroupRequestProtocol<'_>| ClassicProtocol {
        name: protocol.name.to_string(),
        metadata: protocol.metadata.to_vec(),
    };
    ClassicMember { session_timeout_ms: request.session_timeout_ms, protocols: protocols.map(copy).collect() }
}

impl ConsumerGroup {
    /// Whether one of the protocols is known to all members that use the classic protocol.
    fn supports_one_of<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> bool {
        names.any(|name| {
            let mut classic = self.members.values().filter_map(|member| member.classic.as_ref());
            classic.all(|member| member.protocols.iter().any(|protocol| protocol.name == name))
        })
    }

    /// The member of this id and instance id, whoever asks for it.
    fn classic_member(
        &self,
        group_id: &str,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(&Member, &ClassicMember), Refusal> {
        let member = match instance_id {
            None => {
                self.members.get(member_id).ok_or_else(|| Refusal::unknown_member(group_id, member_id))?
            }
            Some(instance_id) => {
                let (id, member) =
                    self.static_member(instance_id).ok_or_else(|| Refusal::unknown_instance(instance_id))?;
                if id.as_ref() != member_id {
                    return Err(Refusal::fenced_instance(member_id, instance_id, id));
                }
                member
            }
        };
        let unknown = || {
            let message = format!("Member {member_id} does not use the classic protocol.");
            Refusal::new(ErrorCode::UNKNOWN_MEMBER_ID, message)
        };
        Ok((member, member.classic.as_deref().ok_or_else(unknown)?))
    }

    /// The id of a member that a LeaveGroup names, by its id or, for administrators, by its instance id alone.
    pub(super) fn leaving_member(
        &self,
        group_id: &str,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<Rc<str>, Refusal> {
        let Some(instance_id) = instance_id else {
            let member = self.members.get_key_value(member_id);
            return member
                .map(|(id, _)| id.clone())
                .ok_or_else(|| Refusal::unknown_member(group_id, member_id));
        };
        match self.static_member(instance_id) {
            None => Err(Refusal::unknown_instance(instance_id)),
            Some((id, _)) if !member_id.is_empty() && id.as_ref() != member_id => {
                Err(Refusal::fenced_instance(member_id, instance_id, id))
            }
            Some((id, _)) => Ok(id.clone()),
        }
    }

    /// Whether the member waits for a partition that another has not given up yet.
    fn waits_for_others(&self, member_id: &str, member: &Member) -> bool {
        let missing = self.target(member_id).difference(&member.current.assigned);
        missing.iter().any(|partition| self.owner(partition).is_some_and(|owner| owner.as_ref() != member_id))
    }
}

fn check_generation(member_id: &str, member: &Member, generation_id: i32) -> Result<(), Refusal> {
    let epoch = member.current.member_epoch;
    if epoch == generation_id {
        return Ok(());
    }
    let message = format!(
        "The request generation id {generation_id} is not equal to the member epoch {epoch} of member {member_id}."
    );
    Err(Refusal::new(ErrorCode::ILLEGAL_GENERATION, message))
}

/// What became of a SyncGroup: the member's assignment and its session time-out, in ms; or, with REBALANCE_IN_PROGRESS, that it has to
/// join again within its rebalance time-out.
pub(super) fn sync(
    group: &ConsumerGroup,
    topics: &TopicsView,
    request: &SyncGroupRequest<'_>,
) -> Result<(Vec<u8>, i32), Refusal> {
    let member_id = request.member_id.as_ref();
    let (member, classic) =
        group.classic_member(&request.group_id, member_id, request.group_instance_id.as_deref())?;
    check_generation(member_id, member, request.generation_id)?;
    let protocol = classic.protocols.first();
    let name = protocol.map_or("", |protocol| protocol.name.as_str());
    let inconsistent = |message: String| Err(Refusal::new(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, message));
    if let Some(protocol_type) = &request.protocol_type
        && protocol_type != consumer_protocol::PROTOCOL_TYPE
    {
        return inconsistent(format!(
            "The protocol type {protocol_type} from member {member_id} request is not equal to the group protocol type {}.",
            consumer_protocol::PROTOCOL_TYPE
        ));
    }
    if let Some(requested) = &request.protocol_name
        && requested != name
    {
        return inconsistent(format!(
            "The protocol name {requested} from member {member_id} request is not equal to the protocol name {name} returned in \
             the join response."
        ));
    }
    if group.group_epoch > member.current.member_epoch
        && member.current.state != MemberState::UnrevokedPartitions
    {
        let message = format!(
            "A new rebalance is triggered in group {} and member {member_id} should rejoin to catch up.",
            request.group_id
        );
        return Err(Refusal::new(ErrorCode::REBALANCE_IN_PROGRESS, message));
    }
    let version = protocol.and_then(|protocol| consumer_protocol::subscription(&protocol.metadata).ok());
    let version = version.map_or(0, |(version, _)| version);
    let assignment = consumer_protocol::encode_assignment(version, &member.current.assigned, topics);
    Ok((assignment, classic.session_timeout_ms))
}

/// What became of a Heartbeat: whether the member has to join again, and its session time-out, in ms.
pub(super) fn heartbeat(
    group: &ConsumerGroup,
    request: &HeartbeatRequest<'_>,
) -> Result<(bool, i32), Refusal> {
    let member_id = request.member_id.as_ref();
    let (member, classic) =
        group.classic_member(&request.group_id, member_id, request.group_instance_id.as_deref())?;
    check_generation(member_id, member, request.generation_id)?;
    let has_to_join = member.current.member_epoch < group.group_epoch
        || match member.current.state {
            MemberState::UnrevokedPartitions => true,
            MemberState::UnreleasedPartitions => !group.waits_for_others(member_id, member),
            MemberState::Stable | MemberState::Unknown => false,
        };
    Ok((has_to_join, classic.session_timeout_ms))
}
