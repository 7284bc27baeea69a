//! ConsumerGroupHeartbeat: a member joins, stays, moves towards its target.

use std::borrow::Cow;
use std::rc::Rc;

use protocol::ErrorCode;
use protocol::messages::consumer_group_heartbeat::{AssignedTopicPartitions, Assignment};
use protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::assignor::Assignor;
use super::draft::{Draft, Environment};
use super::group::ConsumerGroup;
use super::member::{
    CurrentAssignment, JOIN_GROUP_MEMBER_EPOCH, LEAVE_GROUP_MEMBER_EPOCH, LEAVE_GROUP_STATIC_MEMBER_EPOCH,
    Member,
};
use super::partitions::Partitions;
use super::refusal::Refusal;
use crate::group::record::GroupRecord;

/// The longest id of a member or instance, in bytes: what a key in `__consumer_offsets` can hold.
const MAX_ID_BYTES: usize = i16::MAX as usize;

/// Checks what a request says, without a look at the group.
pub(super) fn validate(
    env: &Environment<'_>,
    version: i16,
    request: &ConsumerGroupHeartbeatRequest<'_>,
) -> Result<(), Refusal> {
    let member_id_needed =
        version >= 1 || request.member_epoch > 0 || request.member_epoch == LEAVE_GROUP_MEMBER_EPOCH;
    let is_empty = |text: &Option<Cow<'_, str>>| text.as_ref().is_some_and(|text| text.is_empty());
    let is_long = |text: &str| text.len() > MAX_ID_BYTES;
    if member_id_needed && request.member_id.is_empty() {
        return Err(Refusal::invalid_request("MemberId can't be empty."));
    }
    if request.group_id.is_empty() {
        return Err(Refusal::invalid_request("GroupId can't be empty."));
    }
    if is_empty(&request.instance_id) {
        return Err(Refusal::invalid_request("InstanceId can't be empty."));
    }
    if is_empty(&request.rack_id) {
        return Err(Refusal::invalid_request("RackId can't be empty."));
    }
    if is_long(&request.member_id) || request.instance_id.as_deref().is_some_and(is_long) {
        return Err(Refusal::invalid_request(format!(
            "MemberId and InstanceId can't be longer than {MAX_ID_BYTES} bytes."
        )));
    }
    match request.member_epoch {
        JOIN_GROUP_MEMBER_EPOCH => {
            if request.rebalance_timeout_ms == -1 {
                return Err(Refusal::invalid_request(
                    "RebalanceTimeoutMs must be provided in first request.",
                ));
            }
            if request.topic_partitions.as_ref().is_none_or(|topics| !topics.is_empty()) {
                return Err(Refusal::invalid_request("TopicPartitions must be empty when (re-)joining."));
            }
            if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
                let message =
                    "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.";
                return Err(Refusal::invalid_request(message));
            }
        }
        LEAVE_GROUP_STATIC_MEMBER_EPOCH if request.instance_id.is_none() => {
            return Err(Refusal::invalid_request("InstanceId can't be null."));
        }
        epoch if epoch < LEAVE_GROUP_STATIC_MEMBER_EPOCH => {
            let message = format!("MemberEpoch is {epoch}, but must be greater than or equal to -2.");
            return Err(Refusal::invalid_request(message));
        }
        _ => {}
    }
    if let Some(wish) = &request.server_assignor
        && env.assignors().all(|assignor| assignor.name() != wish.as_ref())
    {
        let supported: Vec<_> = env.assignors().map(Assignor::name).collect();
        let message =
            format!("ServerAssignor {wish} is not supported. Supported assignors: {}.", supported.join(", "));
        return Err(Refusal::new(ErrorCode::UNSUPPORTED_ASSIGNOR, message));
    }
    Ok(())
}

/// Refuses a new member of a group that is full.
pub(super) fn check_room(
    env: &Environment<'_>,
    group: &ConsumerGroup,
    member_id: &str,
) -> Result<(), Refusal> {
    let max_size = env.config.group_consumer_max_size;
    if group.members.len() >= usize::try_from(max_size).unwrap_or(0) && !group.members.contains_key(member_id)
    {
        let message = format!("The consumer group has reached its maximum capacity of {max_size} members.");
        return Err(Refusal::new(ErrorCode::GROUP_MAX_SIZE_REACHED, message));
    }
    Ok(())
}

/// Refuses an epoch that is not the member's. The epoch before is taken once more from a member that owns nothing but what it is
/// assigned: the answer with the new epoch may have been lost.
fn check_epoch(member: &Member, epoch: i32, owned: Option<&Partitions>) -> Result<(), Refusal> {
    let current = &member.current;
    let lost_answer = || {
        epoch == current.previous_member_epoch
            && owned.is_some_and(|owned| owned.is_subset(&current.assigned))
    };
    let relation = match epoch.cmp(&current.member_epoch) {
        _ if epoch == JOIN_GROUP_MEMBER_EPOCH => return Ok(()),
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Greater => "greater",
        std::cmp::Ordering::Less if lost_answer() => return Ok(()),
        std::cmp::Ordering::Less => "smaller",
    };
    let message = format!(
        "The consumer group member has a {relation} member epoch ({epoch}) than the one known by the group coordinator ({}). \
         The member must abandon all its partitions and rejoin.",
        current.member_epoch
    );
    Err(Refusal::new(ErrorCode::FENCED_MEMBER_EPOCH, message))
}

/// What a heartbeat leads to.
pub(super) struct Heartbeat {
    /// The records to append.
    pub records: Vec<GroupRecord<'static>>,
    /// What the member owns then.
    pub current: CurrentAssignment,
    /// What it owned before.
    pub assigned_before: Partitions,
    /// Whether the member has made a step.
    pub moved: bool,
    /// The member's rebalance time-out, in ms.
    pub rebalance_timeout_ms: i32,
}

/// Decides on the heartbeat of the member `member_id` (which is the request's, or a new one if the request has none).
/// `check_topics` says that topics may have changed since the group has last looked.
pub(super) fn decide(
    mut draft: Draft<'_>,
    member_id: &str,
    client: (&str, &str),
    request: &ConsumerGroupHeartbeatRequest<'_>,
    check_topics: bool,
) -> Result<Heartbeat, Refusal> {
    let owned = owned_partitions(request);
    let joins = request.member_epoch == JOIN_GROUP_MEMBER_EPOCH;
    check_room(draft.env, draft.group(), member_id)?;
    let before = match &request.instance_id {
        None => dynamic_member(&draft, member_id, request.member_epoch, owned.as_ref(), joins)?,
        Some(instance_id) => {
            static_member(&mut draft, member_id, instance_id, request.member_epoch, owned.as_ref(), joins)?
        }
    };
    let after = with_request(&before, client, request);
    let names_changed = draft.update_member(member_id, &before, &after);
    let regexes_changed = draft.update_regexes(&before, &after)?;
    let subscriptions_changed = names_changed || regexes_changed || draft.group().group_epoch == 0;
    if subscriptions_changed || check_topics {
        draft.update_epoch(subscriptions_changed);
    }
    draft.update_targets();
    let current = draft.reconcile(member_id, owned.as_ref())?;
    Ok(Heartbeat {
        records: draft.into_records(),
        moved: current != after.current,
        current,
        assigned_before: before.current.assigned,
        rebalance_timeout_ms: after.rebalance_timeout_ms,
    })
}

/// What the member says it owns, if it says so.
fn owned_partitions(request: &ConsumerGroupHeartbeatRequest<'_>) -> Option<Partitions> {
    let topics = request.topic_partitions.as_ref()?;
    Some(Partitions::from_topics(topics.iter().map(|topic| (topic.topic_id, topic.partitions.as_slice()))))
}

fn dynamic_member(
    draft: &Draft<'_>,
    member_id: &str,
    epoch: i32,
    owned: Option<&Partitions>,
    joins: bool,
) -> Result<Member, Refusal> {
    match draft.group().members.get(member_id) {
        Some(member) => check_epoch(member, epoch, owned).map(|()| member.clone()),
        None if joins => Ok(new_member()),
        None => Err(Refusal::unknown_member(draft.group_id, member_id)),
    }
}

/// A member that has just come.
pub(super) fn new_member() -> Member {
    Member { rebalance_timeout_ms: -1, ..Member::default() }
}

fn static_member(
    draft: &mut Draft<'_>,
    member_id: &str,
    instance_id: &str,
    epoch: i32,
    owned: Option<&Partitions>,
    joins: bool,
) -> Result<Member, Refusal> {
    let existing = draft.group().static_member(instance_id).map(|(id, member)| (id.clone(), member.clone()));
    match existing {
        None if joins => Ok(draft.group().members.get(member_id).cloned().unwrap_or_else(new_member)),
        None => Err(Refusal::unknown_instance(instance_id)),
        // A member that has been fenced joins again under its old id.
        Some((existing_id, member))
            if joins
                && *existing_id == *member_id
                && member.current.member_epoch != LEAVE_GROUP_STATIC_MEMBER_EPOCH =>
        {
            Ok(member)
        }
        Some((existing_id, member)) if joins => {
            let released = member.current.member_epoch == LEAVE_GROUP_STATIC_MEMBER_EPOCH;
            if !member.uses_classic_protocol() && !released {
                let message = format!(
                    "Static member {member_id} with instance id {instance_id} cannot join the group because the instance id is \
                     owned by {existing_id} member."
                );
                return Err(Refusal::new(ErrorCode::UNRELEASED_INSTANCE_ID, message));
            }
            Ok(take_over(draft, &existing_id, member_id, member))
        }
        Some((existing_id, _)) if existing_id.as_ref() != member_id => {
            Err(Refusal::fenced_instance(member_id, instance_id, &existing_id))
        }
        Some((_, member)) => check_epoch(&member, epoch, owned).map(|()| member),
    }
}

/// Gives the place of a static member to the one that takes over its instance id.
pub(super) fn take_over(
    draft: &mut Draft<'_>,
    existing_id: &Rc<str>,
    member_id: &str,
    mut member: Member,
) -> Member {
    member.current.member_epoch = 0;
    member.current.previous_member_epoch = 0;
    draft.replace_member(existing_id, member_id, &member);
    member
}

/// The member with what the request says; what it leaves out stays.
fn with_request(
    before: &Member,
    (client_id, client_host): (&str, &str),
    request: &ConsumerGroupHeartbeatRequest<'_>,
) -> Member {
    let mut member = before.clone();
    let text = |text: &Cow<'_, str>| Rc::<str>::from(text.as_ref());
    if let Some(instance_id) = &request.instance_id {
        member.instance_id = Some(text(instance_id));
    }
    if let Some(rack_id) = &request.rack_id {
        member.rack_id = Some(text(rack_id));
    }
    if request.rebalance_timeout_ms != -1 {
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
    }
    if let Some(assignor) = &request.server_assignor {
        member.server_assignor = Some(text(assignor));
    }
    if let Some(names) = &request.subscribed_topic_names {
        member.subscribed_topic_names = Rc::new(names.iter().map(|name| name.to_string()).collect());
    }
    if let Some(regex) = &request.subscribed_topic_regex {
        member.subscribed_topic_regex = Some(text(regex)).filter(|regex| !regex.is_empty());
    }
    if &*member.client_id != client_id {
        member.client_id = client_id.into();
    }
    if &*member.client_host != client_host {
        member.client_host = client_host.into();
    }
    member.classic = None;
    member
}

/// The answer to a heartbeat. It carries the assignment if that has changed or the member has told everything about itself, which it does
/// when it joins and after errors.
pub(super) fn response(
    member_id: &str,
    request: &ConsumerGroupHeartbeatRequest<'_>,
    heartbeat: &Heartbeat,
    heartbeat_interval_ms: i32,
) -> ConsumerGroupHeartbeatResponse<'static> {
    let subscribes = request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some();
    let is_full = request.rebalance_timeout_ms != -1 && subscribes && request.topic_partitions.is_some();
    let joins = request.member_epoch == JOIN_GROUP_MEMBER_EPOCH;
    let assigned = &heartbeat.current.assigned;
    let assignment = (joins || is_full || *assigned != heartbeat.assigned_before).then(|| {
        let topics = assigned.by_topic().into_iter();
        let topic = |(topic_id, partitions)| AssignedTopicPartitions {
            topic_id,
            partitions,
            ..AssignedTopicPartitions::default()
        };
        Assignment { topic_partitions: topics.map(topic).collect(), ..Assignment::default() }
    });
    ConsumerGroupHeartbeatResponse {
        member_id: Some(member_id.to_owned().into()),
        member_epoch: heartbeat.current.member_epoch,
        heartbeat_interval_ms,
        assignment,
        ..ConsumerGroupHeartbeatResponse::default()
    }
}
