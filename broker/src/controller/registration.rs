//! What the active controller answers to nodes about themselves: BrokerRegistration, BrokerHeartbeat, AllocateProducerIds, AlterPartition, UpdateRaftVoter.
//!
//! A broker that is no voter of the quorum becomes a learner before it is registered, so that it receives the log. Answers are given when what was decided is
//! committed; they do not wait for this node's own shards, which may still be opening their logs.

use std::rc::Rc;

use coord::CoordError;
use coord::metadata::decide::{
    BrokerHeartbeat, RegisterBroker, allocate_producer_ids, alter_partitions, broker_heartbeat,
    note_directory, register_replica_broker, relieve_full_brokers,
};
use coord::metadata::{Endpoint, InSyncProposal, NodeDirectory, PartitionImage};
use coord::quorum::MemberChange;
use coord::replica::AlterPartition;
use coord::types::{BrokerId, LeaderEpoch, PartitionId};
use protocol::frame::{decode_request_header, encode_response};
use protocol::messages::allocate_producer_ids::{AllocateProducerIdsRequest, AllocateProducerIdsResponse};
use protocol::messages::alter_partition::{
    AlterPartitionRequest, AlterPartitionResponse, PartitionResult, TopicResult,
};
use protocol::messages::broker_heartbeat::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};
use protocol::messages::broker_registration::{BrokerRegistrationRequest, BrokerRegistrationResponse};
use protocol::messages::update_raft_voter::{UpdateRaftVoterRequest, UpdateRaftVoterResponse};
use protocol::{ApiKey, Decoder, ErrorCode, Message};
use storage::TopicIdPartition;

use super::control::Answered;
use super::{Controller, ControllerError};
use crate::cluster::CLUSTER_LISTENER;
use crate::shard::Shard;

/// Answers a request that only brokers send; none if it is another one.
pub(super) async fn answer(
    shard: &Rc<Shard>,
    asker: BrokerId,
    frame: &[u8],
) -> Option<Result<Answered, ControllerError>> {
    let (header, body) = decode_request_header(frame).ok()?;
    let (version, correlation_id) = (header.request_api_version, header.correlation_id);
    let controller = shard.metadata.controller.get()?;
    let call = BrokerCall { shard, controller, asker, body, version, correlation_id };
    match ApiKey::from_i16(header.request_api_key)? {
        ApiKey::BrokerRegistration => Some(call.register().await),
        ApiKey::BrokerHeartbeat => Some(call.heartbeat().await),
        ApiKey::AllocateProducerIds => Some(call.producer_ids().await),
        ApiKey::AlterPartition => Some(call.alter_partitions().await),
        ApiKey::UpdateRaftVoter => Some(call.update_voter().await),
        _ => None,
    }
}

struct BrokerCall<'a> {
    shard: &'a Rc<Shard>,
    controller: &'a Controller,
    asker: BrokerId,
    body: Decoder<'a>,
    version: i16,
    correlation_id: i32,
}

/// The outcome of a command, or the code that the broker is told; an error where nobody knows the outcome.
type Outcome<R> = Result<(Result<R, ErrorCode>, u64), ControllerError>;

fn told<R>(outcome: Result<(R, u64), ControllerError>) -> Outcome<R> {
    match outcome {
        Ok((reply, index)) => Ok((Ok(reply), index)),
        Err(ControllerError::Refused(refusal)) => {
            tracing::info!(%refusal, "a broker's request was refused");
            Ok((Err(refusal.code()), 0))
        }
        Err(error) => Err(error),
    }
}

fn unreadable(error: protocol::DecodeError) -> ControllerError {
    ControllerError::Refused(CoordError::InvalidRequest(error.to_string()))
}

impl<'a> BrokerCall<'a> {
    fn decode<M: Message<'a>>(&self) -> Result<M, ControllerError> {
        M::decode(&mut self.body.clone(), self.version).map_err(unreadable)
    }

    fn answered<'m, M: Message<'m>>(&self, response: &M, index: u64) -> Result<Answered, ControllerError> {
        let segments = encode_response(self.correlation_id, response, self.version)
            .map_err(|error| ControllerError::Failed(format!("an answer could not be encoded: {error}")))?;
        Ok(Answered { response: segments.concat().into(), index })
    }

    /// A node speaks for itself only.
    fn check_sender(&self, broker_id: i32) -> Result<(), ControllerError> {
        if self.asker.0 == broker_id {
            return Ok(());
        }
        let text = format!("node {} speaks for broker {broker_id}", self.asker);
        Err(ControllerError::Refused(CoordError::InvalidRequest(text)))
    }

    async fn register(&self) -> Result<Answered, ControllerError> {
        let request: BrokerRegistrationRequest<'_> = self.decode()?;
        self.check_sender(request.broker_id)?;
        let cluster_id = self.controller.look(|image, _| image.cluster_id()).unwrap_or_default();
        let directory = node_directory(&request);
        let is_other = directory.as_ref().is_some_and(|node| self.is_other_directory(node));
        let is_new = request.previous_broker_epoch < 0 || is_other;
        let is_of_another = !request.cluster_id.is_empty()
            && protocol::parse_uuid_text(&request.cluster_id).is_some_and(|theirs| theirs != cluster_id);
        let outcome = match is_of_another {
            true => (Err(ErrorCode::INCONSISTENT_CLUSTER_ID), 0),
            false => {
                self.make_member(is_new).await?;
                let command = registration(&request);
                // A process that has the directory with the broker's data holds its lock: the one before it is gone.
                let is_voter = self.is_voter()?;
                let registered = self.controller.commit_view(move |view| {
                    let mut decision = register_replica_broker(view, command, !is_new, !is_new)?;
                    // Its epoch is the offset of the first of these records.
                    if let Some(node) = directory {
                        decision.records.extend(note_directory(view.image, node, is_voter)?.records);
                    }
                    Ok(decision)
                });
                told(registered.await)?
            }
        };
        if outcome.0.is_ok() {
            tracing::info!(
                broker = request.broker_id,
                epoch = outcome.0.unwrap_or(-1),
                "a broker has registered"
            );
        }
        let (error_code, broker_epoch) = match outcome.0 {
            Ok(epoch) => (0, epoch),
            Err(error) => (error.code(), -1),
        };
        self.answered(
            &BrokerRegistrationResponse { error_code, broker_epoch, ..Default::default() },
            outcome.1,
        )
    }

    /// Whether the node is known to keep its data elsewhere: then what it had is gone.
    fn is_other_directory(&self, node: &NodeDirectory) -> bool {
        let known = self.controller.look(|image, _| image.node(node.id).map(|known| known.directory));
        known.flatten().is_some_and(|known| known != node.directory)
    }

    fn is_voter(&self) -> Result<bool, ControllerError> {
        let quorum = self.shard.metadata.quorum().ok_or(ControllerError::NotActive)?;
        Ok(quorum.members().voters.contains(&self.asker))
    }

    /// A controller that is no broker says where it keeps its data, and learns if it does not vote.
    async fn update_voter(&self) -> Result<Answered, ControllerError> {
        let request: UpdateRaftVoterRequest<'_> = self.decode()?;
        self.check_sender(request.voter_id)?;
        let listener = request.listeners.first();
        let listener = listener.ok_or_else(|| {
            ControllerError::Refused(CoordError::InvalidRequest("a voter without a listener".to_owned()))
        })?;
        let node = NodeDirectory {
            id: self.asker,
            directory: request.voter_directory_id,
            host: listener.host.to_string(),
            port: listener.port,
        };
        let (is_other, is_voter) = (self.is_other_directory(&node), self.is_voter()?);
        self.make_member(is_other).await?;
        let noted = self.controller.commit(move |image, _| note_directory(image, node, is_voter));
        let (outcome, index) = told(noted.await)?;
        let error_code = outcome.err().map_or(0, |error| error.code());
        self.answered(&UpdateRaftVoterResponse { error_code, ..Default::default() }, index)
    }

    /// Who does not vote learns. A learner whose disk is new begins from the beginning: what it has acknowledged is gone.
    async fn make_member(&self, is_new: bool) -> Result<(), ControllerError> {
        let Some(quorum) = self.shard.metadata.quorum() else { return Err(ControllerError::NotActive) };
        let node = self.asker;
        let members = quorum.members();
        if members.voters.contains(&node) {
            return Ok(());
        }
        let is_learner = members.learners.contains(&node);
        if is_learner && is_new {
            quorum.change_members(MemberChange::Remove(node)).await?;
        }
        if !is_learner || is_new {
            quorum.change_members(MemberChange::AddLearner(node)).await?;
        }
        Ok(())
    }

    async fn heartbeat(&self) -> Result<Answered, ControllerError> {
        let request: BrokerHeartbeatRequest<'_> = self.decode()?;
        self.check_sender(request.broker_id)?;
        let heartbeat = BrokerHeartbeat {
            broker: self.asker,
            broker_epoch: request.broker_epoch,
            metadata_offset: request.current_metadata_offset,
            wants_fence: request.want_fence,
            wants_shutdown: request.want_shut_down,
        };
        self.controller.heard(self.asker, request.broker_epoch);
        self.relieve_if_full(!request.offline_log_dirs.is_empty()).await?;
        let decided = self.controller.commit_view(move |view| broker_heartbeat(view, &heartbeat));
        let (outcome, index) = told(decided.await)?;
        let response = match outcome {
            Ok(reply) => BrokerHeartbeatResponse {
                is_caught_up: reply.is_caught_up,
                is_fenced: reply.is_fenced,
                should_shut_down: reply.may_stop,
                ..Default::default()
            },
            Err(error) => BrokerHeartbeatResponse { error_code: error.code(), ..Default::default() },
        };
        self.answered(&response, index)
    }

    /// A broker whose disk is full leads nothing any more that others can lead.
    async fn relieve_if_full(&self, is_full: bool) -> Result<(), ControllerError> {
        let full = self.controller.look(|_, sessions| {
            sessions.note_disk(self.asker, is_full);
            is_full.then(|| sessions.full().clone())
        });
        let Some(full) = full.flatten() else { return Ok(()) };
        let relieved = self.controller.commit_view(move |view| Ok(relieve_full_brokers(view, &full)));
        let (moved, _) = relieved.await?;
        if moved > 0 {
            tracing::warn!(
                broker = self.asker.0,
                moved,
                "a broker's disk is full: others lead what they can"
            );
        }
        Ok(())
    }

    async fn producer_ids(&self) -> Result<Answered, ControllerError> {
        let request: AllocateProducerIdsRequest<'_> = self.decode()?;
        self.check_sender(request.broker_id)?;
        let broker = self.asker;
        let (outcome, index) =
            told(self.controller.commit(move |image, _| allocate_producer_ids(image, broker)).await)?;
        let response = match outcome {
            Ok(block) => AllocateProducerIdsResponse {
                producer_id_start: block.first.0,
                producer_id_len: i32::try_from(block.count).unwrap_or(i32::MAX),
                ..Default::default()
            },
            Err(error) => AllocateProducerIdsResponse { error_code: error.code(), ..Default::default() },
        };
        self.answered(&response, index)
    }

    async fn alter_partitions(&self) -> Result<Answered, ControllerError> {
        let request: AlterPartitionRequest<'_> = self.decode()?;
        self.check_sender(request.broker_id)?;
        let proposals = proposals(&request);
        let (sender, broker_epoch) = (self.asker, request.broker_epoch);
        let decided = self.controller.commit_view(move |view| {
            let borrowed: Vec<(TopicIdPartition, InSyncProposal<'_>)> =
                proposals.iter().map(|(id, proposal)| (*id, proposed_by(sender, proposal))).collect();
            alter_partitions(view, broker_epoch, &borrowed)
        });
        let (outcome, index) = told(decided.await)?;
        let response = match outcome {
            Ok(outcomes) => {
                AlterPartitionResponse { topics: results(&request, outcomes), ..Default::default() }
            }
            Err(error) => AlterPartitionResponse { error_code: error.code(), ..Default::default() },
        };
        self.answered(&response, index)
    }
}

/// Where the broker keeps its data, and its internal listener; none from a node that does not tell.
fn node_directory(request: &BrokerRegistrationRequest<'_>) -> Option<NodeDirectory> {
    let directory = *request.log_dirs.first()?;
    let listener = request.listeners.iter().find(|listener| listener.name == CLUSTER_LISTENER)?;
    let (host, port) = (listener.host.to_string(), listener.port);
    (!directory.is_nil()).then_some(NodeDirectory { id: BrokerId(request.broker_id), directory, host, port })
}

fn registration(request: &BrokerRegistrationRequest<'_>) -> RegisterBroker {
    let endpoints = request.listeners.iter().map(|listener| Endpoint {
        listener: listener.name.to_string(),
        host: listener.host.to_string(),
        port: listener.port,
        security_protocol: listener.security_protocol,
    });
    RegisterBroker {
        id: BrokerId(request.broker_id),
        incarnation_id: request.incarnation_id,
        rack: request.rack.as_deref().map(str::to_owned),
        endpoints: endpoints.collect(),
        fenced: true,
    }
}

fn proposed_by(sender: BrokerId, proposal: &AlterPartition) -> InSyncProposal<'_> {
    InSyncProposal {
        sender,
        leader_epoch: proposal.leader_epoch,
        partition_epoch: proposal.partition_epoch,
        in_sync_replicas: &proposal.in_sync_replicas,
    }
}

fn proposals(request: &AlterPartitionRequest<'_>) -> Vec<(TopicIdPartition, AlterPartition)> {
    let of_topic = |topic: &protocol::messages::alter_partition::TopicData<'_>| {
        let topic_id = topic.topic_id;
        topic
            .partitions
            .iter()
            .map(move |partition| {
                let members = partition.new_isr_with_epochs.iter();
                let proposal = AlterPartition {
                    leader_epoch: LeaderEpoch(partition.leader_epoch),
                    partition_epoch: partition.partition_epoch,
                    in_sync_replicas: members
                        .map(|member| (BrokerId(member.broker_id), member.broker_epoch))
                        .collect(),
                };
                (TopicIdPartition { topic_id, partition: PartitionId(partition.partition_index) }, proposal)
            })
            .collect::<Vec<_>>()
    };
    request.topics.iter().flat_map(of_topic).collect()
}

fn results(
    request: &AlterPartitionRequest<'_>,
    outcomes: Vec<Result<PartitionImage, CoordError>>,
) -> Vec<TopicResult<'static>> {
    let mut outcomes = outcomes.into_iter();
    let of_topic = |topic: &protocol::messages::alter_partition::TopicData<'_>| TopicResult {
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| {
                let partition_index = partition.partition_index;
                match outcomes.next().expect("an outcome for each proposal") {
                    Ok(state) => PartitionResult {
                        partition_index,
                        leader_id: state.leader.0,
                        leader_epoch: state.leader_epoch.0,
                        isr: state.in_sync_replicas.iter().map(|id| id.0).collect(),
                        partition_epoch: state.partition_epoch,
                        ..Default::default()
                    },
                    Err(error) => PartitionResult {
                        partition_index,
                        error_code: error.code().code(),
                        ..Default::default()
                    },
                }
            })
            .collect(),
        ..Default::default()
    };
    request.topics.iter().map(of_topic).collect()
}
