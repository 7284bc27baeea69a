//! One member of a group of this run: a connection that joins, commits and leaves.
//!
//! The group is one of the classic protocol and of fixed size: all members are there before the run starts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use glommio::timer::sleep;
use protocol::error::ErrorCode;
use protocol::frame::{decode_versioned, encode_versioned};
use protocol::messages::consumer_protocol::AssignedTopicPartition;
use protocol::messages::join_group::JoinGroupRequestProtocol;
use protocol::messages::leave_group::MemberIdentity;
use protocol::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::messages::offset_fetch::OffsetFetchRequestTopic;
use protocol::messages::sync_group::SyncGroupRequestAssignment;
use protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, DescribeGroupsRequest, FindCoordinatorRequest,
    HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest, OffsetFetchRequest,
    SyncGroupRequest,
};

use crate::client::{Client, connect_any, error_name};
use crate::error::BenchError;

/// Kafka's default (`session.timeout.ms`). No member has to send heartbeats: commits count as such. If a run is interrupted the next one waits that long for its
/// members.
const SESSION_TIMEOUT: Duration = Duration::from_secs(45);
/// Kafka's default (`max.poll.interval.ms`): how long the group waits for those who have not come back to it.
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(300);
/// The name of the assignment that the leading member makes.
const PROTOCOL: &str = "bench";
/// The version in which subscriptions and assignments are written.
const CONSUMER_PROTOCOL: i16 = 0;
/// Later versions of OffsetFetch ask for several groups.
const LAST_VERSION_WITH_ONE_GROUP: i16 = 7;
/// Later versions of FindCoordinator ask for several keys.
const LAST_VERSION_WITH_ONE_KEY: i16 = 3;
const PAUSE: Duration = Duration::from_millis(100);
/// A coordinator may need a while until it has loaded its groups.
const COORDINATOR_TRIES: u32 = 300;

/// What a group reads.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// The topic.
    pub topic: String,
    /// All its partitions; the leading member deals them out.
    pub partitions: Vec<i32>,
}

/// A member that has joined.
pub struct Member {
    client: Client,
    bootstrap: Vec<String>,
    group: String,
    id: String,
    generation: i32,
    subscription: Subscription,
    assigned: Vec<i32>,
}

impl Subscription {
    fn metadata(&self) -> Bytes {
        let subscription =
            ConsumerProtocolSubscription { topics: vec![self.topic.as_str().into()], ..Default::default() };
        encode_versioned(&subscription, CONSUMER_PROTOCOL).expect("a topic's name fits")
    }

    /// What member `number` of `members` gets.
    fn assignment(&self, number: usize, members: usize) -> Bytes {
        let partitions = self.partitions.iter().skip(number).step_by(members).copied().collect();
        let assignment = ConsumerProtocolAssignment {
            assigned_partitions: vec![AssignedTopicPartition {
                topic: self.topic.as_str().into(),
                partitions,
            }],
            ..Default::default()
        };
        encode_versioned(&assignment, CONSUMER_PROTOCOL).expect("a topic's name and numbers fit")
    }
}

/// The partitions in an assignment; none in one that is empty.
fn assigned(bytes: &[u8]) -> Vec<i32> {
    let assignment = decode_versioned::<ConsumerProtocolAssignment<'_>>(bytes);
    let topics = assignment.map(|(_, assignment)| assignment.assigned_partitions).unwrap_or_default();
    topics.into_iter().flat_map(|topic| topic.partitions).collect()
}

fn refused(what: &str, code: ErrorCode) -> BenchError {
    BenchError::Refused { what: what.to_owned(), code: error_name(code.0), message: String::new() }
}

async fn connect_to_coordinator(bootstrap: &[String], group: &str) -> Result<Client, BenchError> {
    let mut any = connect_any(bootstrap).await?;
    let mut last = ErrorCode::NONE;
    for _ in 0..COORDINATOR_TRIES {
        let request = FindCoordinatorRequest { key: group.into(), ..Default::default() };
        let version = any.version::<FindCoordinatorRequest<'_>>()?.min(LAST_VERSION_WITH_ONE_KEY);
        let response = any.call_version(&request, version).await?;
        if response.error_code == 0 {
            return Client::connect(&format!("{}:{}", response.host, response.port)).await;
        }
        last = ErrorCode(response.error_code);
        sleep(PAUSE).await;
    }
    Err(refused("finding the group's coordinator", last))
}

impl Member {
    /// Connects to the group's coordinator.
    pub async fn connect(
        bootstrap: &[String],
        group: &str,
        subscription: Subscription,
    ) -> Result<Member, BenchError> {
        Ok(Member {
            client: connect_to_coordinator(bootstrap, group).await?,
            bootstrap: bootstrap.to_vec(),
            group: group.to_owned(),
            id: String::new(),
            generation: -1,
            subscription,
            assigned: Vec::new(),
        })
    }

    /// Connects to the group's coordinator again, which may be another broker by now; the member stays who it was.
    pub async fn reconnect(&mut self) -> Result<(), BenchError> {
        self.client = connect_to_coordinator(&self.bootstrap, &self.group).await?;
        Ok(())
    }

    /// Enters the group, as often as it takes until it has an assignment.
    pub async fn join(&mut self) -> Result<(), BenchError> {
        let metadata = self.subscription.metadata();
        loop {
            let request = JoinGroupRequest {
                group_id: Cow::Owned(self.group.clone()),
                session_timeout_ms: SESSION_TIMEOUT.as_millis() as i32,
                rebalance_timeout_ms: REBALANCE_TIMEOUT.as_millis() as i32,
                member_id: Cow::Owned(self.id.clone()),
                protocol_type: "consumer".into(),
                protocols: vec![JoinGroupRequestProtocol {
                    name: PROTOCOL.into(),
                    metadata: Cow::Borrowed(&metadata),
                    ..Default::default()
                }],
                ..Default::default()
            };
            let joined = self.client.call_long(&request, REBALANCE_TIMEOUT).await?;
            let code = ErrorCode(joined.error_code);
            self.id = joined.member_id.to_string();
            self.generation = joined.generation_id;
            match code {
                ErrorCode::NONE => {}
                ErrorCode::MEMBER_ID_REQUIRED => continue,
                ErrorCode::UNKNOWN_MEMBER_ID => {
                    self.id.clear();
                    continue;
                }
                ErrorCode::COORDINATOR_LOAD_IN_PROGRESS | ErrorCode::REBALANCE_IN_PROGRESS => {
                    sleep(PAUSE).await;
                    continue;
                }
                code => return Err(refused("joining the group", code)),
            }
            let members: Vec<String> =
                joined.members.iter().map(|member| member.member_id.to_string()).collect();
            if self.sync(&members).await? {
                return Ok(());
            }
        }
    }

    /// Fetches the assignment, and brings all of them if this is the leader; whether the group is settled.
    async fn sync(&mut self, members: &[String]) -> Result<bool, BenchError> {
        let request = SyncGroupRequest {
            group_id: Cow::Owned(self.group.clone()),
            generation_id: self.generation,
            member_id: Cow::Owned(self.id.clone()),
            protocol_type: Some("consumer".into()),
            protocol_name: Some(PROTOCOL.into()),
            assignments: members
                .iter()
                .enumerate()
                .map(|(number, member)| SyncGroupRequestAssignment {
                    member_id: Cow::Borrowed(member),
                    assignment: Cow::Owned(self.subscription.assignment(number, members.len()).to_vec()),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        let response = self.client.call_long(&request, REBALANCE_TIMEOUT).await?;
        let code = ErrorCode(response.error_code);
        self.assigned = assigned(&response.assignment);
        match code {
            ErrorCode::NONE => Ok(true),
            ErrorCode::REBALANCE_IN_PROGRESS
            | ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::UNKNOWN_MEMBER_ID => Ok(false),
            code => Err(refused("syncing the group", code)),
        }
    }

    /// Waits until the group is stable with `members` members, and joins again while it rebalances.
    pub async fn settle(&mut self, members: usize) -> Result<(), BenchError> {
        loop {
            let heartbeat = HeartbeatRequest {
                group_id: Cow::Owned(self.group.clone()),
                generation_id: self.generation,
                member_id: Cow::Owned(self.id.clone()),
                ..Default::default()
            };
            match ErrorCode(self.client.call(&heartbeat).await?.error_code) {
                ErrorCode::NONE => {}
                ErrorCode::REBALANCE_IN_PROGRESS
                | ErrorCode::ILLEGAL_GENERATION
                | ErrorCode::UNKNOWN_MEMBER_ID => {
                    self.join().await?;
                    continue;
                }
                code => return Err(refused("a heartbeat", code)),
            }
            let describe =
                DescribeGroupsRequest { groups: vec![Cow::Owned(self.group.clone())], ..Default::default() };
            let described = self.client.call(&describe).await?;
            let group = described.groups.first();
            if group.is_some_and(|group| group.group_state == "Stable" && group.members.len() == members) {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
    }

    /// The partitions that this member got.
    pub fn assigned(&self) -> &[i32] {
        &self.assigned
    }

    /// The offsets that the group has committed for this member's partitions, as far as there are any.
    pub async fn committed(&mut self) -> Result<BTreeMap<i32, i64>, BenchError> {
        let request = OffsetFetchRequest {
            group_id: Cow::Borrowed(&self.group),
            topics: Some(vec![OffsetFetchRequestTopic {
                name: Cow::Borrowed(&self.subscription.topic),
                partition_indexes: self.assigned.clone(),
                ..Default::default()
            }]),
            ..Default::default()
        };
        let version = self.client.version::<OffsetFetchRequest<'_>>()?.min(LAST_VERSION_WITH_ONE_GROUP);
        let response = self.client.call_version(&request, version).await?;
        let rows = || response.topics.iter().flat_map(|topic| &topic.partitions);
        let codes = rows().map(|row| row.error_code).chain([response.error_code]);
        match codes.map(ErrorCode).find(|code| code.is_err()) {
            Some(code) => Err(refused("the group's committed offsets", code)),
            None => Ok(rows()
                .filter(|row| row.committed_offset >= 0)
                .map(|row| (row.partition_index, row.committed_offset))
                .collect()),
        }
    }

    /// Commits offsets by partition; the broker's error, if it has one.
    pub async fn commit(&mut self, offsets: &[(i32, i64)]) -> Result<ErrorCode, BenchError> {
        let row = |&(partition_index, committed_offset): &(i32, i64)| OffsetCommitRequestPartition {
            partition_index,
            committed_offset,
            committed_metadata: Some("".into()),
            ..Default::default()
        };
        let request = OffsetCommitRequest {
            group_id: Cow::Borrowed(&self.group),
            generation_id_or_member_epoch: self.generation,
            member_id: Cow::Borrowed(&self.id),
            topics: vec![OffsetCommitRequestTopic {
                name: Cow::Borrowed(&self.subscription.topic),
                partitions: offsets.iter().map(row).collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        // Topic ids, which version 10 has instead of names, are of no use here.
        let version = self.client.version::<OffsetCommitRequest<'_>>()?.min(9);
        let response = self.client.call_version(&request, version).await?;
        let rows = response.topics.iter().flat_map(|topic| &topic.partitions);
        Ok(rows.map(|row| ErrorCode(row.error_code)).find(|code| code.is_err()).unwrap_or(ErrorCode::NONE))
    }

    /// Leaves the group; that it worked is of no interest any more.
    pub async fn leave(mut self) {
        let request = LeaveGroupRequest {
            group_id: Cow::Owned(self.group.clone()),
            members: vec![MemberIdentity { member_id: Cow::Owned(self.id.clone()), ..Default::default() }],
            ..Default::default()
        };
        let _ = self.client.call(&request).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_is_assigned_to_one_member() {
        let subscription = Subscription { topic: "t".to_owned(), partitions: (0..7).collect() };
        let mut all: Vec<i32> =
            (0..3).flat_map(|number| assigned(&subscription.assignment(number, 3))).collect();
        assert_eq!(assigned(&subscription.assignment(1, 3)), [1, 4]);
        all.sort_unstable();
        assert_eq!(all, subscription.partitions);
        assert!(assigned(&subscription.assignment(9, 10)).is_empty(), "more members than partitions");
        assert!(assigned(&[]).is_empty());
    }
}
