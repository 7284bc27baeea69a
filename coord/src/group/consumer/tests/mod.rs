//! Consumer groups as a shell and clients see them, with a clock that tests move.

mod classic;
mod members;
mod migration;
mod model;
mod regexes;

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use protocol::ErrorCode;
use protocol::messages::consumer_group_heartbeat::TopicPartitions;
use protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use storage::types::{PartitionId, TopicIdPartition};
use uuid::Uuid;

use super::partitions::Partitions;
use super::{ConsumerGroup, TopicView, TopicsView};
use crate::group::{
    Group, GroupConfig, GroupCoordinator, GroupRecord, GroupReply, Output, ReplyToken, RequestContext,
};

/// The group that tests are about.
const GROUP: &str = "group";
/// A rebalance time-out that members ask for, in ms.
const REBALANCE_TIMEOUT_MS: i32 = 60_000;

/// A coordinator, its log, and the topics there are.
struct Shell {
    config: Rc<GroupConfig>,
    coordinator: GroupCoordinator,
    now_ms: i64,
    next_token: u64,
    /// Every record appended so far, as bytes.
    log: Vec<(Bytes, Option<Bytes>)>,
    topics: BTreeMap<String, (Uuid, usize)>,
    next_topic_id: u128,
    version: i64,
    /// Answers that nobody has looked at.
    replies: BTreeMap<u64, GroupReply>,
}

impl Shell {
    fn new(config: GroupConfig, topics: &[(&str, usize)]) -> Self {
        let config = Rc::new(config);
        let mut shell = Shell {
            coordinator: GroupCoordinator::new(config.clone(), 1),
            config,
            now_ms: 1_000_000,
            next_token: 0,
            log: Vec::new(),
            topics: BTreeMap::new(),
            next_topic_id: 1,
            version: 0,
            replies: BTreeMap::new(),
        };
        let _ = shell.coordinator.loaded(shell.now_ms);
        for (name, partitions) in topics {
            shell.set_topic(name, *partitions);
        }
        shell
    }

    /// Creates the topic, or changes the number of its partitions.
    fn set_topic(&mut self, name: &str, partitions: usize) {
        let id = self.topics.get(name).map_or(Uuid::from_u128(self.next_topic_id), |(id, _)| *id);
        self.next_topic_id += 1;
        self.topics.insert(name.to_owned(), (id, partitions));
        self.publish_topics();
    }

    fn delete_topic(&mut self, name: &str) {
        self.topics.remove(name);
        self.publish_topics();
    }

    fn publish_topics(&mut self) {
        self.version += 1;
        let topics = Rc::new(self.topics_view());
        let output = self.coordinator.metadata_changed(&topics, self.now_ms);
        self.carry_out(output);
    }

    /// Partitions of a topic.
    fn partitions(&self, name: &str, partitions: impl IntoIterator<Item = i32>) -> Partitions {
        let id = self.topics[name].0;
        partitions.into_iter().map(|partition| TopicIdPartition::new(id, PartitionId(partition))).collect()
    }

    fn context(&mut self, api_version: i16) -> RequestContext<'static> {
        self.next_token += 1;
        let token = ReplyToken(self.next_token);
        RequestContext {
            api_version,
            client_id: "client",
            client_host: "/127.0.0.1",
            now_ms: self.now_ms,
            token,
        }
    }

    /// Appends and replays, as the shell does.
    fn carry_out(&mut self, output: Output) {
        for record in &output.records {
            self.log.push(record.encode().expect("records can be encoded"));
            self.coordinator.replay(record);
        }
        self.replies.extend(output.replies.into_iter().map(|(token, reply)| (token.0, reply)));
    }

    /// What the log alone tells.
    fn recovered(&self) -> GroupCoordinator {
        let mut coordinator = GroupCoordinator::new(self.config.clone(), self.next_token + 2);
        for (key, value) in &self.log {
            coordinator.replay(&GroupRecord::decode(key, value.as_deref()).expect("records can be decoded"));
        }
        coordinator
    }

    /// The coordinator crashes and comes back with what the log tells.
    fn crash(&mut self) {
        self.coordinator = self.recovered();
        self.publish_topics();
        let output = self.coordinator.loaded(self.now_ms);
        self.carry_out(output);
    }

    /// Moves the clock and does what is due on the way.
    fn advance(&mut self, ms: i64) {
        let until_ms = self.now_ms + ms;
        while let Some(next_ms) = self.coordinator.next_deadline_ms().filter(|next_ms| *next_ms <= until_ms) {
            self.now_ms = self.now_ms.max(next_ms);
            let output = self.coordinator.tick(self.now_ms);
            self.carry_out(output);
        }
        self.now_ms = until_ms;
    }

    fn send(
        &mut self,
        api_version: i16,
        request: &ConsumerGroupHeartbeatRequest<'_>,
    ) -> ConsumerGroupHeartbeatResponse<'static> {
        let context = self.context(api_version);
        let output = self.coordinator.consumer_group_heartbeat(&context, request);
        self.carry_out(output);
        self.heartbeat_reply(context.token)
    }

    /// The same, but the records cannot be appended.
    fn send_in_vain(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest<'_>,
    ) -> ConsumerGroupHeartbeatResponse<'static> {
        let context = self.context(1);
        let output = self.coordinator.consumer_group_heartbeat(&context, request);
        let output = match output.records.is_empty() {
            true => output,
            false => self.coordinator.append_refused(output, ErrorCode::NOT_COORDINATOR, self.now_ms),
        };
        self.carry_out(output);
        self.heartbeat_reply(context.token)
    }

    fn heartbeat_reply(&mut self, token: ReplyToken) -> ConsumerGroupHeartbeatResponse<'static> {
        match self.replies.remove(&token.0) {
            Some(GroupReply::ConsumerGroupHeartbeat(reply)) => reply,
            other => panic!("no answer to a heartbeat: {other:?}"),
        }
    }

    fn group(&self) -> &ConsumerGroup {
        match self.coordinator.group(GROUP) {
            Some(Group::Consumer(group)) => group,
            other => panic!("no consumer group: {other:?}"),
        }
    }

    /// Joins a member that wants these topics; the answer has to be good.
    fn join(&mut self, member_id: &str, topics: &[&str]) -> ConsumerGroupHeartbeatResponse<'static> {
        let response = self.send(1, &joining(member_id, topics));
        assert_eq!((response.error_code, response.error_message.clone()), (0, None));
        response
    }

    /// A heartbeat that says nothing but what the member owns, if that.
    fn beat(
        &mut self,
        member_id: &str,
        epoch: i32,
        owned: Option<&Partitions>,
    ) -> ConsumerGroupHeartbeatResponse<'static> {
        let request = ConsumerGroupHeartbeatRequest {
            topic_partitions: owned.map(by_topic),
            ..heartbeat(member_id, epoch)
        };
        self.send(1, &request)
    }
}

fn heartbeat(member_id: &str, member_epoch: i32) -> ConsumerGroupHeartbeatRequest<'static> {
    ConsumerGroupHeartbeatRequest {
        group_id: GROUP.into(),
        member_id: member_id.to_owned().into(),
        member_epoch,
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

fn joining(member_id: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest<'static> {
    ConsumerGroupHeartbeatRequest {
        rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
        subscribed_topic_names: Some(topics.iter().map(|topic| topic.to_string().into()).collect()),
        topic_partitions: Some(Vec::new()),
        ..heartbeat(member_id, 0)
    }
}

fn by_topic(partitions: &Partitions) -> Vec<TopicPartitions<'static>> {
    let topics = partitions.by_topic().into_iter();
    topics
        .map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions, ..TopicPartitions::default() })
        .collect()
}

/// The partitions of an answer's assignment, if it has one.
fn assigned(response: &ConsumerGroupHeartbeatResponse<'_>) -> Option<Partitions> {
    let topics = &response.assignment.as_ref()?.topic_partitions;
    Some(Partitions::from_topics(topics.iter().map(|topic| (topic.topic_id, topic.partitions.as_slice()))))
}
