//! Online migration (KIP-848): a classic group of consumers becomes a consumer group when the first member of the new protocol comes, and
//! a classic group again when the last one goes. Offsets stay where they are; members that stay keep their partitions.

use std::collections::BTreeMap;
use std::rc::Rc;

use protocol::ErrorCode;
use protocol::messages::group_log::{GroupMetadataKey, GroupMetadataValue, MemberMetadata};
use tracing::info;

use super::consumer_protocol;
use super::draft::{Draft, Environment};
use super::group::ConsumerGroup;
use super::member::{ClassicMember, ClassicProtocol, CurrentAssignment, Member, MemberState};
use super::records::Records;
use super::refusal::Refusal;
use crate::group::classic::ClassicGroup;
use crate::group::record::GroupRecord;

/// Whether the group becomes a classic one when the members `leaving` are gone (`replaced`: when a classic member has taken the place of
/// the one that goes).
pub(super) fn may_downgrade(
    env: &Environment<'_>,
    group: &ConsumerGroup,
    leaving: &[Rc<str>],
    replaced: bool,
) -> bool {
    let stay = || group.members.iter().filter(|(id, _)| !leaving.contains(id)).map(|(_, member)| member);
    let somebody_leaves_the_new_protocol =
        leaving.iter().filter_map(|id| group.members.get(id)).any(|member| !member.uses_classic_protocol());
    let size = stay().count() + usize::from(replaced);
    somebody_leaves_the_new_protocol
        && size > 0
        && stay().all(Member::uses_classic_protocol)
        && env.config.group_consumer_migration_policy.allows_downgrade()
        && size <= usize::try_from(env.config.group_max_size).unwrap_or(0)
}

/// Ends the consumer group and makes a classic one of the members that stay, in the group's epoch, with their targets as assignments.
/// It has to rebalance, unless all stay who were there.
pub(super) fn downgrade(draft: &mut Draft<'_>, leaving: &[Rc<str>]) {
    let group = draft.group().clone();
    for record in draft.make.no_group_and_members(&group) {
        draft.push(record);
    }
    let stay: BTreeMap<_, _> = group.members.iter().filter(|(id, _)| !leaving.contains(id)).collect();
    let classic = |member: &'_ Member| member.classic.clone().expect("only classic members stay");
    let protocol = common_protocol(stay.values().map(|member| classic(member)));
    let members = stay.iter().map(|(id, member)| {
        let metadata = classic(member);
        let own = metadata.protocols.iter().find(|own| Some(&own.name) == protocol.as_ref());
        let subscription = own.map(|own| own.metadata.clone()).unwrap_or_default();
        let version = consumer_protocol::subscription(&subscription).map_or(0, |(version, _)| version);
        let assignment = consumer_protocol::encode_assignment(version, &group.target(id), draft.env.topics);
        MemberMetadata {
            member_id: id.to_string().into(),
            group_instance_id: member.instance_id.as_ref().map(|id| id.to_string().into()),
            client_id: member.client_id.to_string().into(),
            client_host: member.client_host.to_string().into(),
            rebalance_timeout: member.rebalance_timeout_ms,
            session_timeout: metadata.session_timeout_ms,
            subscription: subscription.into(),
            assignment: assignment.into(),
            ..MemberMetadata::default()
        }
    });
    let value = GroupMetadataValue {
        protocol_type: consumer_protocol::PROTOCOL_TYPE.into(),
        generation: group.group_epoch,
        leader: stay.keys().next().map(|id| id.to_string().into()),
        current_state_timestamp: draft.env.now_ms,
        members: members.collect(),
        protocol: protocol.clone().map(Into::into),
        ..GroupMetadataValue::default()
    };
    info!(group = draft.group_id, members = stay.len(), "the consumer group becomes a classic group");
    draft.push(GroupRecord::GroupMetadata(
        GroupMetadataKey { group: draft.group_id.to_owned().into() },
        Some(value),
    ));
}

/// The protocol that all members know and most like best.
fn common_protocol(members: impl Iterator<Item = Rc<ClassicMember>>) -> Option<String> {
    let members: Vec<_> = members.collect();
    let common =
        |name: &str| members.iter().all(|member| member.protocols.iter().any(|own| own.name == name));
    let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
    for member in &members {
        if let Some(favourite) = member.protocols.iter().find(|own| common(&own.name)) {
            *votes.entry(&favourite.name).or_default() += 1;
        }
    }
    votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(name, _)| name.to_owned())
}

/// The records that make a consumer group of a classic one, and the group that they make. Refused if the policy, the size or the members'
/// protocols do not allow it.
pub(super) fn upgrade(
    env: &Environment<'_>,
    group_id: &str,
    classic: &ClassicGroup,
) -> Result<(Vec<GroupRecord<'static>>, ConsumerGroup), Refusal> {
    let refused = |reason: &str| {
        let message = format!("Cannot upgrade classic group {group_id} to consumer group because {reason}.");
        Err(Refusal::new(ErrorCode::GROUP_ID_NOT_FOUND, message))
    };
    if !env.config.group_consumer_migration_policy.allows_upgrade() {
        return refused("online upgrade is disabled");
    }
    if classic.protocol_type() != Some(consumer_protocol::PROTOCOL_TYPE) {
        return refused("the group does not use the consumer embedded protocol");
    }
    if classic.members().len() > usize::try_from(env.config.group_consumer_max_size).unwrap_or(0) {
        return refused("the group size exceeds the consumer group maximum size");
    }
    let generation = classic.generation_id();
    let mut draft = ConsumerGroup::at_epoch(generation);
    for member in classic.members() {
        let chosen =
            classic.protocol_name().map(|name| member.metadata(name)).filter(|metadata| !metadata.is_empty());
        let metadata = chosen.or_else(|| member.protocols.first().map(|protocol| protocol.metadata.clone()));
        let metadata = metadata.unwrap_or_default();
        let parsed = consumer_protocol::subscription(&metadata).and_then(|(_, subscription)| {
            Ok((subscription, consumer_protocol::assignment(&member.assignment, env.topics)?))
        });
        let Ok((subscription, (assigned, has_user_data))) = parsed else {
            return refused("the embedded consumer protocol is malformed");
        };
        if has_user_data {
            return refused(
                "an unsupported custom assignor is in use. Please refer to the documentation or switch to a default assignor \
                 before re-attempting the upgrade",
            );
        }
        draft.targets.insert(member.member_id.clone(), assigned.clone());
        let protocol = |protocol: &crate::group::classic::ClassicProtocol| ClassicProtocol {
            name: protocol.name.to_string(),
            metadata: protocol.metadata.to_vec(),
        };
        draft.members.insert(
            member.member_id.clone(),
            Member {
                instance_id: member.group_instance_id.clone(),
                rack_id: subscription.rack_id.as_deref().map(Rc::from),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                subscribed_topic_names: Rc::new(
                    subscription.topics.iter().map(|topic| topic.to_string()).collect(),
                ),
                classic: Some(Rc::new(ClassicMember {
                    session_timeout_ms: member.session_timeout_ms,
                    protocols: member.protocols.iter().map(protocol).collect(),
                })),
                current: CurrentAssignment {
                    member_epoch: generation,
                    previous_member_epoch: generation,
                    state: MemberState::Stable,
                    assigned,
                    ..CurrentAssignment::default()
                },
                ..Member::default()
            },
        );
    }
    let mut records = vec![crate::group::classic::record::group_metadata_tombstone(group_id)];
    records.extend(Records { group_id }.whole_group(&draft));
    let mut group = ConsumerGroup::default();
    records.iter().for_each(|record| {
        group.replay(record);
    });
    info!(group = group_id, members = group.members.len(), "the classic group becomes a consumer group");
    Ok((records, group))
}
