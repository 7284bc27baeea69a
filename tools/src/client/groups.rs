//! Groups, as their coordinators describe them.

use std::collections::BTreeMap;

use protocol::error::ErrorCode;
use protocol::messages::consumer_group_describe::Assignment;
use protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, ListGroupsRequest,
};
use protocol::wire::{Decoder, Message};

use super::error::{ClientError, check, nearest};
use super::{Client, Connection};

/// FindCoordinator's kind of key for groups.
const GROUP_KEY: i8 = 0;
/// The first version of FindCoordinator that takes several keys.
const FIND_MANY: i16 = 4;
/// What old brokers call a group that they do not know.
const DEAD: &str = "Dead";

/// A group as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub id: String,
    /// The protocol that its members speak with each other: `consumer`, `connect` or nothing.
    pub protocol_type: String,
    /// Its state: `Stable`, `Empty` …
    pub state: String,
    /// The protocol that the members speak with the broker: `classic`, `consumer` …
    pub kind: String,
    /// Broker id of its coordinator.
    pub coordinator: i32,
}

/// A group with its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub id: String,
    /// `classic` or `consumer`.
    pub kind: &'static str,
    /// Its state: `Stable`, `Empty` …
    pub state: String,
    /// Who assigns: the chosen protocol of a classic group, the broker's assignor of a consumer group.
    pub assignor: String,
    /// Epochs of the group and of its assignment; only of a consumer group.
    pub epochs: Option<(i32, i32)>,
    /// Broker id of its coordinator.
    pub coordinator: i32,
    /// Its members.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id.
    pub id: String,
    /// Its name as a static member.
    pub instance_id: Option<String>,
    /// The name that its client has given.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// Its epoch, in a consumer group.
    pub epoch: Option<i32>,
    /// Topics it wants, or the pattern of their names.
    pub subscription: Vec<String>,
    /// What it has.
    pub assignment: BTreeMap<String, Vec<i32>>,
    /// What it is to have, in a consumer group.
    pub target: Option<BTreeMap<String, Vec<i32>>>,
}

impl Client {
    /// The broker that coordinates a group.
    pub fn coordinator(&mut self, group: &str) -> Result<i32, ClientError> {
        if let Some(broker) = self.coordinators.get(group) {
            return Ok(*broker);
        }
        let request = FindCoordinatorRequest {
            key_type: GROUP_KEY,
            coordinator_keys: vec![group.into()],
            ..Default::default()
        };
        let found = self.persist(
            |client| {
                let versions = FIND_MANY..=*FindCoordinatorRequest::VERSIONS.end();
                let response = client.any()?.call_in(&request, versions)?;
                let what = || format!("finding the coordinator of group '{group}'");
                let Some(answer) = response.coordinators.first() else {
                    return check(what, ErrorCode::COORDINATOR_NOT_AVAILABLE.code(), None).map(|()| None);
                };
                check(what, answer.error_code, answer.error_message.as_deref())?;
                Ok(Some((answer.node_id, format!("{}:{}", answer.host, answer.port))))
            },
            is_coordinator_moving,
        )?;
        let (id, address) = found.ok_or(ClientError::UnknownBroker { id: -1 })?;
        self.brokers.insert(id, address);
        self.coordinators.insert(group.to_owned(), id);
        Ok(id)
    }

    /// Asks the coordinator of a group, again while it is being found or loads.
    pub(super) fn at_coordinator<T>(
        &mut self,
        group: &str,
        ask: impl Fn(&mut Connection) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        self.persist(
            |client| {
                let broker = client.coordinator(group)?;
                let outcome = ask(client.broker(broker)?);
                if outcome.as_ref().is_err_and(is_coordinator_moving) {
                    client.coordinators.remove(group);
                }
                outcome
            },
            is_coordinator_moving,
        )
    }

    /// All groups of the cluster in one of `states` and of one of `kinds`, by id; empty lists mean any.
    pub fn list_groups(
        &mut self,
        states: &[String],
        kinds: &[String],
    ) -> Result<Vec<GroupListing>, ClientError> {
        let mut groups = BTreeMap::new();
        for broker in self.brokers()?.into_keys() {
            let listed = self.persist(
                |client| list_at(client.broker(broker)?, broker, states, kinds),
                is_coordinator_moving,
            )?;
            groups.extend(listed.into_iter().map(|group| (group.id.clone(), group)));
        }
        Ok(groups.into_values().collect())
    }

    /// A group with its members, whichever protocol they speak.
    ///
    /// # Errors
    /// [`ClientError::NoSuchGroup`].
    pub fn describe_group(&mut self, group: &str) -> Result<GroupDescription, ClientError> {
        let coordinator = self.coordinator(group)?;
        let serves_consumer_groups =
            self.broker(coordinator)?.version::<ConsumerGroupDescribeRequest<'_>>().is_some();
        let mut found = None;
        if serves_consumer_groups {
            found = self.at_coordinator(group, |connection| describe_consumer_group(connection, group))?;
        }
        if found.is_none() {
            found = self.at_coordinator(group, |connection| describe_classic_group(connection, group))?;
        }
        match found {
            Some(description) => Ok(GroupDescription { coordinator, ..description }),
            None => Err(self.no_such_group(group)),
        }
    }

    /// Says that there is no such group, with the one that was probably meant.
    pub fn no_such_group(&mut self, name: &str) -> ClientError {
        let groups = self.list_groups(&[], &[]).unwrap_or_default();
        let nearest = nearest(name, groups.iter().map(|group| group.id.as_str()));
        ClientError::NoSuchGroup { name: name.to_owned(), nearest }
    }

    /// Deletes a group and its offsets.
    pub fn delete_group(&mut self, group: &str) -> Result<(), ClientError> {
        let outcome = self.at_coordinator(group, |connection| {
            let request = DeleteGroupsRequest { groups_names: vec![group.into()], ..Default::default() };
            let response = connection.call(&request)?;
            let code = response.results.first().map_or(0, |result| result.error_code);
            check(|| format!("deleting group '{group}'"), code, None)
        });
        match outcome {
            Err(error) if error.code() == Some(ErrorCode::GROUP_ID_NOT_FOUND) => {
                Err(self.no_such_group(group))
            }
            outcome => outcome,
        }
    }
}

/// Whether the group's coordinator is only not there yet.
fn is_coordinator_moving(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Some(
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
                | ErrorCode::COORDINATOR_NOT_AVAILABLE
                | ErrorCode::NOT_COORDINATOR
        )
    )
}

fn list_at(
    connection: &mut Connection,
    broker: i32,
    states: &[String],
    kinds: &[String],
) -> Result<Vec<GroupListing>, ClientError> {
    let version = connection.version::<ListGroupsRequest<'_>>().unwrap_or_default();
    // The filters came one after the other (KIP-518, KIP-848); what the broker does not filter is filtered here.
    let request = ListGroupsRequest {
        states_filter: if version >= 4 { cow(states) } else { Vec::new() },
        types_filter: if version >= 5 { cow(kinds) } else { Vec::new() },
        ..Default::default()
    };
    let response = connection.call(&request)?;
    check(|| format!("listing the groups of broker {broker}"), response.error_code, None)?;
    let fits = |wanted: &[String], value: &str| {
        wanted.is_empty() || wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    let groups = response.groups.iter().map(|group| GroupListing {
        id: group.group_id.to_string(),
        protocol_type: group.protocol_type.to_string(),
        state: group.group_state.to_string(),
        kind: if version >= 5 { group.group_type.to_ascii_lowercase() } else { "classic".to_owned() },
        coordinator: broker,
    });
    Ok(groups.filter(|group| fits(states, &group.state) && fits(kinds, &group.kind)).collect())
}

fn cow(texts: &[String]) -> Vec<std::borrow::Cow<'_, str>> {
    texts.iter().map(|text| text.as_str().into()).collect()
}

fn describe_consumer_group(
    connection: &mut Connection,
    group: &str,
) -> Result<Option<GroupDescription>, ClientError> {
    let request = ConsumerGroupDescribeRequest { group_ids: vec![group.into()], ..Default::default() };
    let response = connection.call(&request)?;
    let Some(found) = response.groups.first() else {
        return Ok(None);
    };
    // The group is of the other kind, or there is none.
    if [ErrorCode::GROUP_ID_NOT_FOUND, ErrorCode::UNSUPPORTED_VERSION].contains(&ErrorCode(found.error_code))
    {
        return Ok(None);
    }
    check(|| format!("describing group '{group}'"), found.error_code, found.error_message.as_deref())?;
    let member = |member: &protocol::messages::consumer_group_describe::Member<'_>| GroupMember {
        id: member.member_id.to_string(),
        instance_id: member.instance_id.as_deref().map(str::to_owned),
        client_id: member.client_id.to_string(),
        host: host_text(&member.client_host),
        epoch: Some(member.member_epoch),
        subscription: member
            .subscribed_topic_names
            .iter()
            .map(|topic| topic.to_string())
            .chain(member.subscribed_topic_regex.iter().filter(|r| !r.is_empty()).map(|r| format!("/{r}/")))
            .collect(),
        assignment: assigned(&member.assignment),
        target: Some(assigned(&member.target_assignment)),
    };
    Ok(Some(GroupDescription {
        id: group.to_owned(),
        kind: "consumer",
        state: found.group_state.to_string(),
        assignor: found.assignor_name.to_string(),
        epochs: Some((found.group_epoch, found.assignment_epoch)),
        coordinator: -1,
        members: found.members.iter().map(member).collect(),
    }))
}

fn assigned(assignment: &Assignment<'_>) -> BTreeMap<String, Vec<i32>> {
    let topic = |topic: &protocol::messages::consumer_group_describe::TopicPartitions<'_>| {
        let mut partitions = topic.partitions.clone();
        partitions.sort_unstable();
        (topic.topic_name.to_string(), partitions)
    };
    assignment.topic_partitions.iter().map(topic).collect()
}

fn describe_classic_group(
    connection: &mut Connection,
    group: &str,
) -> Result<Option<GroupDescription>, ClientError> {
    let request = DescribeGroupsRequest { groups: vec![group.into()], ..Default::default() };
    let response = connection.call(&request)?;
    let Some(found) = response.groups.first() else {
        return Ok(None);
    };
    if ErrorCode(found.error_code) == ErrorCode::GROUP_ID_NOT_FOUND || found.group_state == DEAD {
        return Ok(None);
    }
    check(|| format!("describing group '{group}'"), found.error_code, found.error_message.as_deref())?;
    let speaks_consumer = found.protocol_type == "consumer";
    let member = |member: &protocol::messages::describe_groups::DescribedGroupMember<'_>| GroupMember {
        id: member.member_id.to_string(),
        instance_id: member.group_instance_id.as_deref().map(str::to_owned),
        client_id: member.client_id.to_string(),
        host: host_text(&member.client_host),
        epoch: None,
        subscription: if speaks_consumer {
            classic_subscription(&member.member_metadata)
        } else {
            Vec::new()
        },
        assignment: if speaks_consumer {
            classic_assignment(&member.member_assignment)
        } else {
            BTreeMap::new()
        },
        target: None,
    };
    Ok(Some(GroupDescription {
        id: group.to_owned(),
        kind: "classic",
        state: found.group_state.to_string(),
        assignor: found.protocol_data.to_string(),
        epochs: None,
        coordinator: -1,
        members: found.members.iter().map(member).collect(),
    }))
}

/// Java puts a slash in front of an address without name.
fn host_text(host: &str) -> String {
    host.trim_start_matches('/').to_owned()
}

/// Reads data of the consumer protocol, which begins with its version; nothing if it is not what we know.
fn consumer_protocol<'a, M: Message<'a>>(bytes: &'a [u8]) -> Option<M> {
    let mut decoder = Decoder::new(bytes);
    let version = decoder.int16().ok()?;
    // Later versions only add to the end.
    M::decode(&mut decoder, version.min(*M::VERSIONS.end())).ok()
}

fn classic_subscription(bytes: &[u8]) -> Vec<String> {
    let subscription = consumer_protocol::<ConsumerProtocolSubscription<'_>>(bytes);
    subscription.map(|known| known.topics.iter().map(|topic| topic.to_string()).collect()).unwrap_or_default()
}

fn classic_assignment(bytes: &[u8]) -> BTreeMap<String, Vec<i32>> {
    let mut assignment: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for topic in consumer_protocol::<ConsumerProtocolAssignment<'_>>(bytes)
        .iter()
        .flat_map(|known| &known.assigned_partitions)
    {
        assignment.entry(topic.topic.to_string()).or_default().extend(&topic.partitions);
    }
    assignment.values_mut().for_each(|partitions| partitions.sort_unstable());
    assignment
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::messages::consumer_protocol::AssignedTopicPartition;
    use protocol::wire::Encoder;

    #[test]
    fn assignments_of_known_and_of_later_versions_are_read_and_garbage_is_nothing() {
        let assignment = ConsumerProtocolAssignment {
            assigned_partitions: vec![AssignedTopicPartition { topic: "t".into(), partitions: vec![2, 0] }],
            ..Default::default()
        };
        for version in [0i16, 3, 9] {
            let mut encoder = Encoder::new();
            encoder.int16(version);
            assignment.encode(&mut encoder, version.min(3)).expect("encodable");
            let read = classic_assignment(&encoder.finish_contiguous());
            assert_eq!(read, BTreeMap::from([("t".to_owned(), vec![0, 2])]), "version {version}");
        }
        assert!(classic_assignment(&[]).is_empty());
        assert!(classic_assignment(&[0, 0, 0xff, 0xff, 1]).is_empty());
    }
}
