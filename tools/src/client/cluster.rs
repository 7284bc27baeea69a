//! What concerns the cluster as a whole: its brokers, the metadata quorum, replicas that move, elections.

use std::collections::BTreeMap;

use protocol::client::{LATEST_TIMESTAMP, TopicPartition, list_offsets};
use protocol::error::ErrorCode;
use protocol::messages::add_raft_voter;
use protocol::messages::alter_partition_reassignments::{ReassignablePartition, ReassignableTopic};
use protocol::messages::describe_cluster::DescribeClusterBroker;
use protocol::messages::describe_quorum::{PartitionQuery, ReplicaState, TopicQuery};
use protocol::messages::elect_leaders::TopicPartitions;
use protocol::messages::metadata::MetadataResponseBroker;
use protocol::messages::{
    AddRaftVoterRequest, AlterPartitionReassignmentsRequest, DescribeClusterRequest, DescribeQuorumRequest,
    ElectLeadersRequest, ListPartitionReassignmentsRequest, MetadataRequest, RemoveRaftVoterRequest,
    UnregisterBrokerRequest,
};
use uuid::Uuid;

use super::Client;
use super::error::{ClientError, check};

/// The listener that controllers have in most clusters.
const CONTROLLER_LISTENER: &str = "CONTROLLER";
/// The topic that stands for the metadata log.
const METADATA_TOPIC: &str = "__cluster_metadata";
/// Stands in ListOffsets for somebody who wants to know how far a replica is, whoever leads (Kafka's `DEBUGGING_REPLICA_ID`).
const ANY_REPLICA: i32 = -2;
/// Versions of DescribeCluster from here on tell of fenced brokers.
const FIRST_VERSION_WITH_FENCED: i16 = 2;

/// The brokers of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    /// The cluster's id.
    pub id: String,
    /// The broker to which requests for the controller may be sent.
    pub controller: i32,
    /// All that are registered; from older brokers only those that are up.
    pub brokers: Vec<ClusterBroker>,
}

/// One broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterBroker {
    /// Its id.
    pub id: i32,
    /// `host:port`
    pub address: String,
    /// `broker.rack`
    pub rack: Option<String>,
    /// Registered, but silent or stopped.
    pub is_fenced: bool,
}

/// The metadata quorum as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    /// The active controller, or -1.
    pub leader: i32,
    /// Its term.
    pub epoch: i32,
    /// Below it the metadata log is committed.
    pub high_watermark: i64,
    /// Voters, then observers.
    pub members: Vec<QuorumMember>,
}

impl Quorum {
    /// Entries that a member lacks of what its leader has.
    pub fn lag(&self, member: &QuorumMember) -> i64 {
        let leader = self.members.iter().find(|known| known.id == self.leader);
        leader.map_or(0, |leader| (leader.log_end_offset - member.log_end_offset).max(0))
    }
}

/// A member of the quorum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumMember {
    /// Its node id.
    pub id: i32,
    /// The id of its data directory (KIP-853); nil where the broker does not tell.
    pub directory: Uuid,
    /// Whether it votes.
    pub is_voter: bool,
    /// The end of its metadata log.
    pub log_end_offset: i64,
    /// When it last had everything, in ms since 1970, if the leader knows.
    pub caught_up_ms: Option<i64>,
}

/// A partition whose replicas are being moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reassignment {
    /// Which.
    pub partition: TopicPartition,
    /// All that hold it at present.
    pub replicas: Vec<i32>,
    /// Those of them that are new.
    pub adding: Vec<i32>,
    /// Those of them that go in the end.
    pub removing: Vec<i32>,
}

/// What became of an election.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Election {
    /// The partition.
    pub partition: TopicPartition,
    /// NONE if there is a new leader, ELECTION_NOT_NEEDED if there need not be one.
    pub code: ErrorCode,
    /// The broker's own words.
    pub message: Option<String>,
}

impl Client {
    /// The brokers of the cluster.
    pub fn describe_cluster(&mut self) -> Result<ClusterDescription, ClientError> {
        let connection = self.any()?;
        let Some(version) = connection.version::<DescribeClusterRequest>() else {
            return self.describe_cluster_by_metadata();
        };
        let include_fenced_brokers = version >= FIRST_VERSION_WITH_FENCED;
        let request = DescribeClusterRequest { include_fenced_brokers, ..Default::default() };
        let response = connection.call(&request)?;
        check(
            || "describing the cluster".to_owned(),
            response.error_code,
            response.error_message.as_deref(),
        )?;
        let broker = |broker: &DescribeClusterBroker<'_>| ClusterBroker {
            id: broker.broker_id,
            address: format!("{}:{}", broker.host, broker.port),
            rack: broker.rack.as_deref().map(str::to_owned),
            is_fenced: broker.is_fenced,
        };
        Ok(ClusterDescription {
            id: response.cluster_id.to_string(),
            controller: response.controller_id,
            brokers: response.brokers.iter().map(broker).collect(),
        })
    }

    fn describe_cluster_by_metadata(&mut self) -> Result<ClusterDescription, ClientError> {
        let request = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
        let response = self.any()?.call(&request)?;
        let broker = |broker: &MetadataResponseBroker<'_>| ClusterBroker {
            id: broker.node_id,
            address: format!("{}:{}", broker.host, broker.port),
            rack: broker.rack.as_deref().map(str::to_owned),
            is_fenced: false,
        };
        Ok(ClusterDescription {
            id: response.cluster_id.as_deref().unwrap_or("-").to_owned(),
            controller: response.controller_id,
            brokers: response.brokers.iter().map(broker).collect(),
        })
    }

    /// The metadata quorum; `None` if the broker has none, or does not tell.
    pub fn quorum(&mut self) -> Result<Option<Quorum>, ClientError> {
        let connection = self.any()?;
        if connection.version::<DescribeQuorumRequest<'_>>().is_none() {
            return Ok(None);
        }
        let topic = TopicQuery {
            topic_name: METADATA_TOPIC.into(),
            partitions: vec![PartitionQuery::default()],
            ..Default::default()
        };
        let response =
            connection.call(&DescribeQuorumRequest { topics: vec![topic], ..Default::default() })?;
        let what = || "describing the metadata quorum".to_owned();
        check(what, response.error_code, response.error_message.as_deref())?;
        let Some(found) = response.topics.iter().flat_map(|topic| &topic.partitions).next() else {
            return Ok(None);
        };
        check(what, found.error_code, found.error_message.as_deref())?;
        let member = |is_voter: bool| {
            move |state: &ReplicaState| QuorumMember {
                id: state.replica_id,
                directory: state.replica_directory_id,
                is_voter,
                log_end_offset: state.log_end_offset,
                caught_up_ms: Some(state.last_caught_up_timestamp).filter(|ms| *ms >= 0),
            }
        };
        let mut members: Vec<QuorumMember> = found.current_voters.iter().map(member(true)).collect();
        members.sort_by_key(|member| member.id);
        let voters = members.len();
        members.extend(found.observers.iter().map(member(false)));
        members[voters..].sort_by_key(|member| member.id);
        Ok(Some(Quorum {
            leader: found.leader_id,
            epoch: found.leader_epoch,
            high_watermark: found.high_watermark,
            members,
        }))
    }

    /// The partitions whose replicas are being moved.
    pub fn reassignments(&mut self) -> Result<Vec<Reassignment>, ClientError> {
        let timeout_ms = self.timeout_ms();
        let request = ListPartitionReassignmentsRequest { timeout_ms, ..Default::default() };
        let response = self.any()?.call(&request)?;
        let what = || "listing reassignments".to_owned();
        check(what, response.error_code, response.error_message.as_deref())?;
        let mut found = Vec::new();
        for topic in &response.topics {
            for partition in &topic.partitions {
                found.push(Reassignment {
                    partition: TopicPartition::new(topic.name.as_ref(), partition.partition_index),
                    replicas: partition.replicas.clone(),
                    adding: partition.adding_replicas.clone(),
                    removing: partition.removing_replicas.clone(),
                });
            }
        }
        found.sort_by(|a, b| a.partition.cmp(&b.partition));
        Ok(found)
    }

    /// The partitions whose replicas are being moved; none from a broker that does not serve the request.
    pub fn reassignments_if_served(&mut self) -> Result<Vec<Reassignment>, ClientError> {
        match self.any()?.version::<ListPartitionReassignmentsRequest<'_>>() {
            Some(_) => self.reassignments(),
            None => Ok(Vec::new()),
        }
    }

    /// Begins to move replicas, the preferred leader first in each list; `None` calls off what is under way. An outcome for each partition.
    pub fn reassign(
        &mut self,
        moves: &BTreeMap<TopicPartition, Option<Vec<i32>>>,
    ) -> Result<BTreeMap<TopicPartition, Result<(), ClientError>>, ClientError> {
        let mut topics: BTreeMap<&str, Vec<ReassignablePartition>> = BTreeMap::new();
        for (partition, replicas) in moves {
            topics.entry(&partition.topic).or_default().push(ReassignablePartition {
                partition_index: partition.partition,
                replicas: replicas.clone(),
                ..Default::default()
            });
        }
        let topics = topics.into_iter().map(|(name, partitions)| ReassignableTopic {
            name: name.into(),
            partitions,
            ..Default::default()
        });
        let request = AlterPartitionReassignmentsRequest {
            timeout_ms: self.timeout_ms(),
            topics: topics.collect(),
            ..Default::default()
        };
        let response = self.any()?.call(&request)?;
        check(|| "moving replicas".to_owned(), response.error_code, response.error_message.as_deref())?;
        let mut outcomes = BTreeMap::new();
        for topic in &response.responses {
            for row in &topic.partitions {
                let partition = TopicPartition::new(topic.name.as_ref(), row.partition_index);
                let what = || format!("replicas of {partition}");
                let outcome = check(what, row.error_code, row.error_message.as_deref());
                outcomes.insert(partition, outcome);
            }
        }
        Ok(outcomes)
    }

    /// Has leaders elected: preferred ones, or, `unclean`, any replica for partitions that have no other. All partitions if none are given.
    pub fn elect(
        &mut self,
        partitions: Option<&[TopicPartition]>,
        unclean: bool,
    ) -> Result<Vec<Election>, ClientError> {
        let topic_partitions = partitions.map(|partitions| {
            let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
            for partition in partitions {
                topics.entry(&partition.topic).or_default().push(partition.partition);
            }
            let topic = |(topic, partitions): (&'_ str, Vec<i32>)| TopicPartitions {
                topic: topic.to_owned().into(),
                partitions,
                ..Default::default()
            };
            topics.into_iter().map(topic).collect()
        });
        let request = ElectLeadersRequest {
            election_type: i8::from(unclean),
            topic_partitions,
            timeout_ms: self.timeout_ms(),
            ..Default::default()
        };
        let response = self.any()?.call(&request)?;
        check(|| "electing leaders".to_owned(), response.error_code, None)?;
        let mut elections = Vec::new();
        for topic in &response.replica_election_results {
            for row in &topic.partition_result {
                elections.push(Election {
                    partition: TopicPartition::new(topic.topic.as_ref(), row.partition_id),
                    code: ErrorCode(row.error_code),
                    message: row.error_message.as_deref().map(str::to_owned),
                });
            }
        }
        elections.sort_by(|a, b| a.partition.cmp(&b.partition));
        Ok(elections)
    }

    /// Has the cluster forget a broker that is gone.
    pub fn unregister_broker(&mut self, id: i32) -> Result<(), ClientError> {
        let request = UnregisterBrokerRequest { broker_id: id, ..Default::default() };
        let response = self.any()?.call(&request)?;
        check(|| format!("unregistering broker {id}"), response.error_code, response.error_message.as_deref())
    }

    /// Lets a node vote in the metadata quorum that follows its log and keeps its data in `directory`; it is reached at `address` (`host:port`).
    pub fn add_voter(&mut self, id: i32, directory: Uuid, address: &str) -> Result<(), ClientError> {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        let listener = add_raft_voter::Listener {
            name: CONTROLLER_LISTENER.into(),
            host: host.to_owned().into(),
            port: port.parse().unwrap_or_default(),
            ..Default::default()
        };
        let request = AddRaftVoterRequest {
            cluster_id: None,
            timeout_ms: self.timeout_ms(),
            voter_id: id,
            voter_directory_id: directory,
            listeners: vec![listener],
            ..Default::default()
        };
        let response = self.any()?.call(&request)?;
        check(|| format!("adding voter {id}"), response.error_code, response.error_message.as_deref())
    }

    /// Takes the vote of a voter that keeps its data in `directory`.
    pub fn remove_voter(&mut self, id: i32, directory: Uuid) -> Result<(), ClientError> {
        let request = RemoveRaftVoterRequest {
            cluster_id: None,
            voter_id: id,
            voter_directory_id: directory,
            ..Default::default()
        };
        let response = self.any()?.call(&request)?;
        check(|| format!("removing voter {id}"), response.error_code, response.error_message.as_deref())
    }

    /// Where the logs of these partitions end on a broker that has replicas of them, leader or not. A partition that it does not answer for is left out.
    pub fn replica_ends(
        &mut self,
        broker: i32,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for partition in partitions {
            topics.entry(&partition.topic).or_default().push(partition.partition);
        }
        let mut request = list_offsets(topics, LATEST_TIMESTAMP);
        request.replica_id = ANY_REPLICA;
        let response = self.broker(broker)?.call(&request)?;
        let mut ends = BTreeMap::new();
        for topic in &response.topics {
            for row in topic.partitions.iter().filter(|row| row.error_code == 0) {
                ends.insert(TopicPartition::new(topic.name.as_ref(), row.partition_index), row.offset);
            }
        }
        Ok(ends)
    }
}
