//! Requests of clients.

use bytes::Bytes;
use coord::replica::{AppendRefusal, Role};
use coord::types::LeaderEpoch;
use protocol::ErrorCode;
use protocol::records::{BatchView, assign};
use storage::log::producer_state::SequenceCheck;
use storage::{Offset, ProducerId, TopicIdPartition};

use super::control::Asker;
use super::replication::WaitingProducer;
use super::{Env, Message, Out, Process};
use crate::simulator::log::StoredBatch;
use crate::simulator::message::{Address, ClusterMetadata, Command, PartitionMetadata, Request, Response};

/// Batches of one answer.
const FETCHED_AT_ONCE: usize = 20;

impl Process {
    pub(super) fn serve(&mut self, from: Address, number: u64, request: Request, env: &mut Env<'_>) {
        let response = match request {
            Request::Metadata => Some(Response::Metadata(self.metadata())),
            Request::Produce(id, batch) => {
                self.produce(from, number, id, &batch, env).err().map(|code| Response::Produced(Err(code)))
            }
            Request::Fetch(id, position) => Some(Response::Fetched(self.fetch(id, position, env))),
            Request::CommitOffset(of, offset) => self.commit_offset(from, number, &of, offset, env),
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
        let partition = self.partitions.get(&id).ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
        partition.replica.may_append(true).map_err(refusal_code)?;
        let view = BatchView::parse(batch).expect("batches are built here");
        let producer = ProducerId(view.producer_id());
        let check = env.store.producers(id).check(
            producer,
            view.producer_epoch(),
            view.base_sequence(),
            view.record_count(),
        );
        let (base_offset, end_offset) = match check {
            SequenceCheck::Append if env.is_disk_full => return Err(ErrorCode::KAFKA_STORAGE_ERROR),
            SequenceCheck::Append => self.append_as_leader(id, batch, env),
            SequenceCheck::Duplicate(known) => {
                env.oracle.count("repetitions recognised", 1);
                (known.first_offset(), known.last_offset.next())
            }
            SequenceCheck::StaleEpoch { .. } => return Err(ErrorCode::INVALID_PRODUCER_EPOCH),
            SequenceCheck::OutOfOrder { .. } => return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
        };
        let partition = self.partitions.get_mut(&id).expect("it was there a moment ago");
        if end_offset <= partition.replica.high_watermark() {
            let response = Response::Produced(Ok(base_offset));
            env.out.push(Out::Send(client, Message::Response(number, response)));
        } else {
            partition.producers.push(WaitingProducer { client, number, base_offset, end_offset });
        }
        Ok(())
    }

    /// Appends a batch to a log that this broker leads: the offsets of its first record and after its last.
    pub(super) fn append_as_leader(
        &mut self,
        id: TopicIdPartition,
        batch: &Bytes,
        env: &mut Env<'_>,
    ) -> (Offset, Offset) {
        let replica = &self.partitions[&id].replica;
        let (base_offset, LeaderEpoch(epoch)) = (replica.log().end(), replica.leader_epoch());
        let mut copy = batch.to_vec();
        assign(&mut copy, base_offset.0, epoch, None);
        let stored = StoredBatch::new(copy.into());
        let end_offset = stored.span.end_offset;
        env.store.append(id, stored);
        env.trace.note_partition(id, || {
            format!("broker {} {id}: appends [{base_offset}, {end_offset}) in epoch {epoch}", self.id)
        });
        self.input(id, env, |replica, now_ms, effects| {
            replica.appended(base_offset, end_offset, now_ms, effects);
        });
        (base_offset, end_offset)
    }

    /// What is committed from `position` on, as far as this broker knows, leader or not (KIP-392).
    fn fetch(
        &self,
        id: TopicIdPartition,
        position: Offset,
        env: &Env<'_>,
    ) -> Result<(Vec<StoredBatch>, Offset), ErrorCode> {
        let partition = self.partitions.get(&id).ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
        if partition.replica.role() == Role::Leaderless {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        let content = env.store.content(id).expect("a replica has a log");
        if position < content.start() {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        let high_watermark = partition.replica.high_watermark();
        let committed =
            content.from(position).iter().take_while(|batch| batch.span.end_offset <= high_watermark);
        Ok((committed.take(FETCHED_AT_ONCE).cloned().collect(), content.start()))
    }
}

/// What a client is told.
pub(super) fn refusal_code(refusal: AppendRefusal) -> ErrorCode {
    match refusal {
        AppendRefusal::NotLeader => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        AppendRefusal::NotEnoughReplicas => ErrorCode::NOT_ENOUGH_REPLICAS,
    }
}
