//! Group coordinators: one on the leader of each partition of `__consumer_offsets`. What it appends is replicated as anything else, and its answers leave when
//! everything that it has appended is committed.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use coord::group::consumer::TopicsView;
use coord::group::{
    GroupConfig, GroupCoordinator, GroupRecord, GroupReply, Output, ReplyToken, RequestContext,
};
use coord::types::LeaderEpoch;
use protocol::ErrorCode;
use protocol::messages::consumer_group_heartbeat::TopicPartitions;
use protocol::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, OffsetCommitRequest,
};
use protocol::records::{BatchBuilder, BatchOptions, RecordIter};
use storage::{Offset, PartitionId, TopicIdPartition};

use super::classic::classic_answer;
use super::storing::Awaited;
use super::{Env, Message, Out, Process};
use crate::simulator::message::{Address, GroupHeartbeat, OffsetOf, Response};
use crate::simulator::settings;
use crate::simulator::store::StoredBatch;

/// Version of OffsetCommit that these clients send.
const COMMIT_VERSION: i16 = 9;
/// Version of ConsumerGroupHeartbeat that these clients send.
const HEARTBEAT_VERSION: i16 = 1;
/// Longer than a session: who is heard gives up what it is told to in time.
const REBALANCE_TIMEOUT_MS: i32 = 6_000;

/// How often a coordinator goes on without what could not be appended, at once: that in turn may have something to append.
const REFUSALS_MAX: usize = 3;

/// The coordinator of one partition, as long as this broker leads it.
pub(super) struct Coordinator {
    core: GroupCoordinator,
    /// The end of everything that it has replayed.
    end: Offset,
    /// Requests in the core's hands.
    asked: Vec<(ReplyToken, Address, u64)>,
    /// Answers, and up to where the log must be committed first.
    answers: VecDeque<(Offset, Address, u64, Response)>,
}

impl Coordinator {
    /// Replays the whole log.
    fn load(batches: &[StoredBatch], end: Offset, seed: u64) -> Self {
        let config = GroupConfig {
            group_consumer_session_timeout_ms: settings::GROUP_SESSION_MS,
            group_min_session_timeout_ms: settings::GROUP_SESSION_MS,
            group_initial_rebalance_delay_ms: settings::INITIAL_REBALANCE_DELAY_MS,
            ..GroupConfig::default()
        };
        let mut core = GroupCoordinator::new(Rc::new(config), seed);
        for batch in batches {
            let view = batch.view();
            for record in RecordIter::new(&view, view.payload()) {
                let record = record.expect("records are built here");
                let decoded = GroupRecord::decode(record.key.unwrap_or_default(), record.value);
                core.replay(&decoded.expect("records are encoded here"));
            }
        }
        Coordinator { core, end, asked: Vec::new(), answers: VecDeque::new() }
    }

    /// Sends the answers that wait for nothing more.
    pub(super) fn answer(&mut self, high_watermark: Offset, out: &mut Vec<Out>) {
        while let Some((end, ..)) = self.answers.front()
            && *end <= high_watermark
        {
            let (_, client, number, response) = self.answers.pop_front().expect("it was there a moment ago");
            out.push(Out::Send(client, Message::Response(number, response)));
        }
    }

    /// Another broker coordinates from now on, or this one anew: all who wait are told, also those whose requests wait for other members.
    pub(super) fn resign(&mut self, out: &mut Vec<Out>) {
        let waiting = self.answers.drain(..).map(|(_, client, number, _)| (client, number));
        let asked = self.asked.drain(..).map(|(_, client, number)| (client, number));
        for (client, number) in waiting.chain(asked) {
            out.push(Out::Send(client, Message::Response(number, Response::NotCoordinator)));
        }
    }
}

impl Process {
    /// This broker leads a partition of groups from now on.
    pub(super) fn read_groups(&mut self, id: TopicIdPartition, epoch: LeaderEpoch, env: &mut Env<'_>) {
        let ticket = env.store.read_all(id);
        self.awaited.insert(ticket, Awaited::Groups { id, epoch });
    }

    /// What the log of such a partition holds.
    pub(super) fn load_coordinator(
        &mut self,
        id: TopicIdPartition,
        batches: &[StoredBatch],
        env: &mut Env<'_>,
    ) {
        let now_ms = self.now_ms(env);
        let Some(partition) = self.partitions.get(&id) else { return };
        let end = partition.replica.log().end();
        let mut coordinator = Coordinator::load(batches, end, env.random.bits());
        let topics = Rc::new(TopicsView::from_image(&self.image));
        let _ = coordinator.core.metadata_changed(&topics, now_ms);
        let output = coordinator.core.loaded(now_ms);
        if let Some(partition) = self.partitions.get_mut(&id) {
            if let Some(mut former) = partition.coordinator.replace(Box::new(coordinator)) {
                former.resign(env.out);
            }
            env.oracle.count("coordinators loaded", 1);
            self.carry_out_groups(id, output, env);
        }
    }

    pub(super) fn tick_groups(&mut self, env: &mut Env<'_>) {
        let now_ms = self.now_ms(env);
        let is_due = |coordinator: &Coordinator| {
            coordinator.core.next_deadline_ms().is_some_and(|deadline_ms| deadline_ms <= now_ms)
        };
        let coordinators = self.partitions.iter().filter_map(|(id, p)| Some((*id, p.coordinator.as_ref()?)));
        let due: Vec<TopicIdPartition> =
            coordinators.filter(|(_, coordinator)| is_due(coordinator)).map(|(id, _)| id).collect();
        for id in due {
            if let Some(output) = self.coordinator_mut(id).map(|coordinator| coordinator.core.tick(now_ms)) {
                self.carry_out_groups(id, output, env);
            }
        }
    }

    fn coordinator_mut(&mut self, id: TopicIdPartition) -> Option<&mut Coordinator> {
        self.partitions.get_mut(&id)?.coordinator.as_deref_mut()
    }

    pub(super) fn commit_offset(
        &mut self,
        client: Address,
        number: u64,
        of: &OffsetOf,
        offset: i64,
        member: Option<(String, i32)>,
        env: &mut Env<'_>,
    ) -> Option<Response> {
        let (member_id, epoch) = member.unwrap_or((String::new(), -1));
        let request = OffsetCommitRequest {
            group_id: of.group.as_str().into(),
            generation_id_or_member_epoch: epoch,
            member_id: member_id.into(),
            retention_time_ms: -1,
            topics: vec![OffsetCommitRequestTopic {
                name: of.topic.as_str().into(),
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: of.partition,
                    committed_offset: offset,
                    committed_metadata: Some("".into()),
                    ..OffsetCommitRequestPartition::default()
                }],
                ..OffsetCommitRequestTopic::default()
            }],
            ..OffsetCommitRequest::default()
        };
        self.ask_coordinator(of.home, (client, number), COMMIT_VERSION, env, |core, context| {
            core.offset_commit(context, &request)
        })
    }

    pub(super) fn group_heartbeat(
        &mut self,
        client: Address,
        number: u64,
        heartbeat: &GroupHeartbeat,
        env: &mut Env<'_>,
    ) -> Option<Response> {
        let owned = heartbeat.owned.as_ref().map(|owned| {
            let of_one = |id: &TopicIdPartition| TopicPartitions {
                topic_id: id.topic_id,
                partitions: vec![id.partition.0],
                ..TopicPartitions::default()
            };
            owned.iter().map(of_one).collect()
        });
        let topics = || ["t0", "t1"].into_iter().map(Into::into).collect();
        let request = ConsumerGroupHeartbeatRequest {
            group_id: heartbeat.group.as_str().into(),
            member_id: heartbeat.member_id.as_str().into(),
            member_epoch: heartbeat.member_epoch,
            rebalance_timeout_ms: if heartbeat.says_all { REBALANCE_TIMEOUT_MS } else { -1 },
            subscribed_topic_names: heartbeat.says_all.then(topics),
            topic_partitions: owned,
            ..ConsumerGroupHeartbeatRequest::default()
        };
        self.ask_coordinator(heartbeat.home, (client, number), HEARTBEAT_VERSION, env, |core, context| {
            core.consumer_group_heartbeat(context, &request)
        })
    }

    /// Gives a request to a coordinator; the answer comes when all that was appended before it is committed.
    pub(super) fn ask_coordinator(
        &mut self,
        home: TopicIdPartition,
        (client, number): (Address, u64),
        api_version: i16,
        env: &mut Env<'_>,
        ask: impl FnOnce(&mut GroupCoordinator, &RequestContext<'_>) -> Output,
    ) -> Option<Response> {
        let now_ms = self.now_ms(env);
        self.group_token += 1;
        let token = ReplyToken(self.group_token);
        let Some(coordinator) = self.coordinator_mut(home) else {
            return Some(Response::NotCoordinator);
        };
        let context =
            RequestContext { api_version, client_id: "simulated", client_host: "/127.0.0.1", now_ms, token };
        coordinator.asked.push((token, client, number));
        let output = ask(&mut coordinator.core, &context);
        self.carry_out_groups(home, output, env);
        None
    }

    /// Tells the coordinators what topics there are.
    pub(super) fn tell_topics(&mut self, env: &Env<'_>) {
        let now_ms = self.now_ms(env);
        let topics = Rc::new(TopicsView::from_image(&self.image));
        let coordinators = self.partitions.values_mut().filter_map(|p| p.coordinator.as_deref_mut());
        for coordinator in coordinators {
            // This yields nothing: groups look at it with their next heartbeats.
            let _ = coordinator.core.metadata_changed(&topics, now_ms);
        }
    }

    pub(super) fn fetch_offset(
        &mut self,
        client: Address,
        number: u64,
        of: &OffsetOf,
        env: &mut Env<'_>,
    ) -> Option<Response> {
        let Some(partition) = self.partitions.get_mut(&of.home) else {
            return Some(Response::NotCoordinator);
        };
        let Some(coordinator) = partition.coordinator.as_deref_mut() else {
            return Some(Response::NotCoordinator);
        };
        let request = OffsetFetchRequestGroup {
            group_id: of.group.as_str().into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: of.topic.as_str().into(),
                partition_indexes: vec![of.partition],
                ..OffsetFetchRequestTopics::default()
            }]),
            ..OffsetFetchRequestGroup::default()
        };
        let response = coordinator.core.offset_fetch(&request, false);
        let offset = response.topics[0].partitions[0].committed_offset;
        let answer = Response::Offset(offset, partition.replica.leader_epoch());
        coordinator.answers.push_back((coordinator.end, client, number, answer));
        coordinator.answer(partition.replica.high_watermark(), env.out);
        None
    }

    /// Appends what an output has to keep, replays it, and lets its answers wait until that is committed.
    fn carry_out_groups(&mut self, id: TopicIdPartition, mut output: Output, env: &mut Env<'_>) {
        let now_ms = self.now_ms(env);
        for _ in 0..REFUSALS_MAX {
            if output.records.is_empty() {
                break;
            }
            let appended = self.append_as_leader(id, &group_batch(&output, now_ms), env);
            let Some(coordinator) = self.coordinator_mut(id) else { return };
            match appended {
                Ok(appended) => {
                    output.records.drain(..).for_each(|record| coordinator.core.replay(&record));
                    coordinator.end = appended.end_offset;
                }
                Err(code) => output = coordinator.core.append_refused(output, code, now_ms),
            }
        }
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let Some(coordinator) = partition.coordinator.as_deref_mut() else { return };
        let epoch = partition.replica.leader_epoch();
        for (token, reply) in output.replies {
            let Some(at) = coordinator.asked.iter().position(|(asked, ..)| *asked == token) else { continue };
            let (_, client, number) = coordinator.asked.swap_remove(at);
            let response = match reply {
                GroupReply::OffsetCommit(reply) => {
                    Response::OffsetCommitted(ErrorCode(reply.topics[0].partitions[0].error_code))
                }
                GroupReply::ConsumerGroupHeartbeat(reply) => {
                    Response::GroupHeartbeat(heartbeat_answer(&reply), epoch)
                }
                reply => Response::Classic(classic_answer(reply), epoch),
            };
            coordinator.answers.push_back((coordinator.end, client, number, response));
        }
        coordinator.answer(partition.replica.high_watermark(), env.out);
    }
}

/// What an output has to keep.
fn group_batch(output: &Output, now_ms: i64) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for record in &output.records {
        let (key, value) = record.encode().expect("short strings");
        builder.append(now_ms, Some(&key), value.as_deref(), &[]);
    }
    builder.build().expect("no codec is involved")
}

/// What a member hears.
fn heartbeat_answer(
    reply: &ConsumerGroupHeartbeatResponse<'_>,
) -> Result<(i32, Option<Vec<TopicIdPartition>>), ErrorCode> {
    if reply.error_code != 0 {
        return Err(ErrorCode(reply.error_code));
    }
    let assignment = reply.assignment.as_ref().map(|assignment| {
        let topics = assignment.topic_partitions.iter();
        let of_one = |topic_id, partition: &i32| TopicIdPartition::new(topic_id, PartitionId(*partition));
        topics
            .flat_map(|topic| topic.partitions.iter().map(|partition| of_one(topic.topic_id, partition)))
            .collect()
    });
    Ok((reply.member_epoch, assignment))
}
