//! Requests of clients.

use bytes::Bytes;
use coord::replica::{AppendRefusal, Role};
use protocol::ErrorCode;
use storage::{Offset, TopicIdPartition};

use super::control::Asker;
use super::replication::WaitingProducer;
use super::storing::Awaited;
use super::{Env, Message, Out, Process};
use crate::simulator::message::{Address, ClusterMetadata, Command, PartitionMetadata, Request, Response};
use crate::simulator::store::{Appended, Reader, StoredBatch};

impl Process {
    pub(super) fn serve(&mut self, from: Address, number: u64, request: Request, env: &mut Env<'_>) {
        let response = match request {
            Request::Metadata => Some(Response::Metadata(self.metadata())),
            Request::Produce(id, batch) => {
                self.produce(from, number, id, &batch, env).err().map(|code| Response::Produced(Err(code)))
            }
            Request::Fetch(id, position) => self.fetch(from, number, id, position, env),
            Request::DeleteRecords(id, before) => self.delete_records(from, number, id, before, env),
            Request::CommitOffset(of, offset, member) => {
                self.commit_offset(from, number, &of, offset, member, env)
            }
            Request::GroupHeartbeat(heartbeat) => self.group_heartbeat(from, number, &heartbeat, env),
            Request::Classic(request) => self.classic_request(from, number, &request, env),
            Request::FetchOffset(of) => self.fetch_offset(from, number, &of, env),
            Request::Admin(command) => {
                if let Address::Client(client) = from {
                    self.command_received(Asker::Client(client, number), Command::Admin(command));
                }
                None
            }
        };
        if let Some(response) = response {
            env.out.push(Out::Send(from, Message::Response(number, response)));
        }
    }

    fn metadata(&self) -> ClusterMetadata {
        let mut partitions = Vec::new();
        for topic in self.image.topics() {
            for (index, partition) in topic.indexed_partitions() {
                partitions.push(PartitionMetadata {
                    topic: topic.name.to_string(),
                    id: TopicIdPartition::new(topic.id, index),
                    leader: partition.leader,
                    leader_epoch: partition.leader_epoch,
                    replicas: partition.replicas.to_vec(),
                });
            }
        }
        ClusterMetadata { controller: self.quorum.leader(), partitions }
    }

    /// An idempotent producer's batch with acks=all. The answer comes when it is committed; a repetition waits for the same.
    fn produce(
        &mut self,
        client: Address,
        number: u64,
        id: TopicIdPartition,
        batch: &Bytes,
        env: &mut Env<'_>,
    ) -> Result<(), ErrorCode> {
        let Appended { base_offset, end_offset, is_repeated } = self.append_as_leader(id, batch, env)?;
        env.oracle.count("repetitions recognised", u64::from(is_repeated));
        let partition = self.partitions.get_mut(&id).expect("it was there a moment ago");
        if end_offset <= env.store.high_watermark(id) {
            let response = Response::Produced(Ok(base_offset));
            env.out.push(Out::Send(client, Message::Response(number, response)));
        } else {
            partition.producers.push(WaitingProducer { client, number, base_offset, end_offset });
        }
        Ok(())
    }

    /// Appends a batch to a log that this broker leads, unless it does not lead it or there is no room.
    pub(super) fn append_as_leader(
        &mut self,
        id: TopicIdPartition,
        batch: &Bytes,
        env: &mut Env<'_>,
    ) -> Result<Appended, ErrorCode> {
        let now_ms = self.now_ms(env);
        let partition = self.partitions.get(&id).ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
        if partition.storing.is_some() {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        partition.replica.may_append(true).map_err(refusal_code)?;
        let epoch = partition.replica.leader_epoch();
        let appended = env.store.append(id, epoch, batch, now_ms)?;
        let Appended { base_offset, end_offset, is_repeated } = appended;
        if !is_repeated {
            env.trace.note_partition(id, || {
                format!("broker {} {id}: appends [{base_offset}, {end_offset}) in epoch {epoch}", self.id)
            });
            self.input(id, env, |replica, now_ms, effects| {
                replica.appended(base_offset, end_offset, now_ms, effects);
            });
        }
        Ok(appended)
    }

    /// What is committed from `position` on, as far as this broker knows, leader or not (KIP-392).
    fn fetch(
        &mut self,
        client: Address,
        number: u64,
        id: TopicIdPartition,
        position: Offset,
        env: &mut Env<'_>,
    ) -> Option<Response> {
        let partition = self.partitions.get(&id).filter(|p| p.replica.role() != Role::Leaderless);
        if partition.is_none() {
            return Some(Response::Fetched(Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)));
        }
        let high_watermark = env.store.high_watermark(id);
        if position > high_watermark {
            // Somebody else has shown it.
            return Some(Response::Fetched(Ok(Vec::new())));
        }
        match env.store.read(id, position, high_watermark, Reader::Consumer) {
            Ok(result) => Some(fetched(id, result, env)),
            Err(ticket) => {
                self.awaited.insert(ticket, Awaited::Fetch { id, client, number });
                None
            }
        }
    }

    /// Records below an offset go, if this broker leads.
    fn delete_records(
        &mut self,
        client: Address,
        number: u64,
        id: TopicIdPartition,
        before: Offset,
        env: &mut Env<'_>,
    ) -> Option<Response> {
        let leads = self.partitions.get(&id).is_some_and(|p| matches!(p.replica.role(), Role::Leader { .. }));
        if !leads || before > env.store.high_watermark(id) {
            return Some(Response::Failed);
        }
        let ticket = env.store.delete_records(id, before);
        self.awaited.insert(ticket, Awaited::Deletion { id, client, number });
        None
    }
}

/// What a reader is told.
pub(super) fn fetched(
    id: TopicIdPartition,
    result: Result<Vec<StoredBatch>, ErrorCode>,
    env: &mut Env<'_>,
) -> Response {
    match result {
        Err(ErrorCode::OFFSET_OUT_OF_RANGE) => Response::OutOfRange(env.store.log_start(id)),
        result => Response::Fetched(result),
    }
}

/// What a client is told.
pub(super) fn refusal_code(refusal: AppendRefusal) -> ErrorCode {
    match refusal {
        AppendRefusal::NotLeader => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        AppendRefusal::NotEnoughReplicas => ErrorCode::NOT_ENOUGH_REPLICAS,
    }
}
