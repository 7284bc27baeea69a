//! ConsumerGroupDescribe.

use protocol::messages::consumer_group_describe::{
    Assignment, DescribedGroup, Member as DescribedMember, TopicPartitions,
};

use super::draft::{Environment, preferred_assignor};
use super::group::ConsumerGroup;
use super::member::Member;
use super::partitions::Partitions;
use super::topics::TopicsView;

/// `member_type` of members of the classic protocol.
const CLASSIC_MEMBER: i8 = 0;
/// `member_type` of members of the consumer protocol.
const CONSUMER_MEMBER: i8 = 1;

impl ConsumerGroup {
    /// The group as ConsumerGroupDescribe shows it. Partitions of topics that are gone are left out: they have no name.
    pub(super) fn describe(&self, env: &Environment<'_>, group_id: &str) -> DescribedGroup<'static> {
        DescribedGroup {
            group_id: group_id.to_owned().into(),
            group_state: self.state().name().into(),
            group_epoch: self.group_epoch,
            assignment_epoch: self.assignment_epoch,
            assignor_name: preferred_assignor(env, self).name().into(),
            members: self
                .members
                .iter()
                .map(|(id, member)| self.describe_member(env.topics, id, member))
                .collect(),
            ..DescribedGroup::default()
        }
    }

    fn describe_member(
        &self,
        topics: &TopicsView,
        member_id: &str,
        member: &Member,
    ) -> DescribedMember<'static> {
        DescribedMember {
            member_id: member_id.to_owned().into(),
            instance_id: member.instance_id.as_ref().map(|id| id.to_string().into()),
            rack_id: member.rack_id.as_ref().map(|rack| rack.to_string().into()),
            member_epoch: member.current.member_epoch,
            client_id: member.client_id.to_string().into(),
            client_host: member.client_host.to_string().into(),
            subscribed_topic_names: member
                .subscribed_topic_names
                .iter()
                .map(|name| name.clone().into())
                .collect(),
            subscribed_topic_regex: Some(
                member.subscribed_topic_regex.as_deref().unwrap_or_default().to_owned().into(),
            ),
            assignment: describe_partitions(topics, &member.current.assigned),
            target_assignment: describe_partitions(topics, &self.target(member_id)),
            member_type: if member.uses_classic_protocol() { CLASSIC_MEMBER } else { CONSUMER_MEMBER },
            ..DescribedMember::default()
        }
    }
}

fn describe_partitions(topics: &TopicsView, partitions: &Partitions) -> Assignment<'static> {
    let named = partitions.by_topic().into_iter().filter_map(|(topic_id, partitions)| {
        let topic_name = topics.name(topic_id)?.to_string().into();
        Some(TopicPartitions { topic_id, topic_name, partitions, ..TopicPartitions::default() })
    });
    Assignment { topic_partitions: named.collect(), ..Assignment::default() }
}
