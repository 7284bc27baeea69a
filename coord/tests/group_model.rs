//! Random members against the group coordinator: what may never happen does not, and what must survive a crash does.
//!
//! The members are naive: they do what the answers tell them, or something else. A crash throws the coordinator away together with every
//! answer that was not sent, and a new one replays the log. The log is compacted now and then, as the partition's is.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use coord::group::classic::ClassicGroupState;
use coord::group::{
    Group, GroupConfig, GroupCoordinator, GroupRecord, GroupReply, Output, ReplyToken, RequestContext,
};
use proptest::prelude::*;
use protocol::ErrorCode;
use protocol::messages::join_group::JoinGroupRequestProtocol;
use protocol::messages::leave_group::MemberIdentity;
use protocol::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::messages::offset_fetch::OffsetFetchRequestGroup;
use protocol::messages::sync_group::SyncGroupRequestAssignment;
use protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest, SyncGroupRequest,
};

const GROUPS: [&str; 2] = ["g", "h"];
const MEMBERS: usize = 5;

#[derive(Debug, Clone)]
enum Step {
    /// A member does what it should do next, or nothing if it waits.
    Go(usize),
    /// A member joins, whatever it was about.
    Join {
        member: usize,
        forget_id: bool,
        protocols: u8,
    },
    Sync(usize),
    Heartbeat(usize),
    Leave(usize),
    Commit {
        member: usize,
        partition: i32,
        as_member: bool,
    },
    Pass(i64),
    /// Nothing can be appended during the next step.
    Refuse,
    Crash,
    Compact,
    DeleteGroups,
    DeleteTopic,
}

fn step() -> impl Strategy<Value = Step> {
    let member = 0..MEMBERS;
    prop_oneof![
        20 => member.clone().prop_map(Step::Go),
        4 => (member.clone(), any::<bool>(), 1..8u8)
            .prop_map(|(member, forget_id, protocols)| Step::Join { member, forget_id, protocols }),
        2 => member.clone().prop_map(Step::Sync),
        4 => member.clone().prop_map(Step::Heartbeat),
        1 => member.clone().prop_map(Step::Leave),
        6 => (member, 0..3i32, any::<bool>())
            .prop_map(|(member, partition, as_member)| Step::Commit { member, partition, as_member }),
        6 => prop_oneof![4 => 0..3_000i64, 2 => 3_000..20_000i64, 1 => Just(100_000_000)].prop_map(Step::Pass),
        1 => Just(Step::Refuse),
        1 => Just(Step::Crash),
        1 => Just(Step::Compact),
        1 => Just(Step::DeleteGroups),
        1 => Just(Step::DeleteTopic),
    ]
}

/// What a member believes.
#[derive(Debug, Default, Clone)]
struct Member {
    id: String,
    generation: i32,
    is_leader_of: Vec<String>,
    joined: bool,
    assignment: Option<Vec<u8>>,
    waits_for: Option<ReplyToken>,
}

/// A group as its observers know it.
#[derive(Debug, Default)]
struct Seen {
    /// The highest generation that somebody was told of.
    generation: i32,
    /// Who was told to lead a generation.
    leaders: BTreeMap<i32, String>,
    /// What members were assigned, by generation and member id.
    assignments: BTreeMap<(i32, String), Vec<u8>>,
}

struct World {
    coordinator: GroupCoordinator,
    config: Rc<GroupConfig>,
    log: Vec<(Bytes, Option<Bytes>)>,
    now_ms: i64,
    next_token: u64,
    owners: BTreeMap<ReplyToken, usize>,
    members: Vec<Member>,
    seen: BTreeMap<&'static str, Seen>,
    /// Offsets whose commit was acknowledged.
    committed: BTreeMap<(String, i32), i64>,
    next_offset: i64,
    refuses: bool,
    crashes: u64,
}

fn group_of(member: usize) -> &'static str {
    GROUPS[member % GROUPS.len()]
}

/// Member 0 and 1 are static.
fn instance_of(member: usize) -> Option<&'static str> {
    ["zero", "one"].get(member).copied()
}

impl World {
    fn new() -> Self {
        let config = Rc::new(GroupConfig {
            group_max_size: 3,
            offsets_retention_minutes: 600,
            ..GroupConfig::default()
        });
        let mut world = World {
            coordinator: GroupCoordinator::new(config.clone(), 1),
            config,
            log: Vec::new(),
            now_ms: 1_000,
            next_token: 0,
            owners: BTreeMap::new(),
            members: vec![Member::default(); MEMBERS],
            seen: GROUPS.iter().map(|group| (*group, Seen::default())).collect(),
            committed: BTreeMap::new(),
            next_offset: 0,
            refuses: false,
            crashes: 0,
        };
        let output = world.coordinator.loaded(world.now_ms);
        world.carry_out(output);
        world
    }

    fn carry_out(&mut self, mut output: Output) -> Vec<(ReplyToken, GroupReply)> {
        let mut replies = Vec::new();
        if self.refuses && !output.records.is_empty() {
            self.refuses = false;
            output =
                self.coordinator.append_refused(output, ErrorCode::COORDINATOR_NOT_AVAILABLE, self.now_ms);
        }
        for record in &output.records {
            let (key, value) = record.encode().unwrap();
            self.coordinator.replay(record);
            if let GroupRecord::OffsetCommit(key, None) = record {
                self.committed.remove(&(key.group.to_string(), key.partition));
            }
            self.log.push((key, value));
        }
        replies.extend(output.replies);
        for (token, reply) in &replies {
            self.receive(*token, reply);
        }
        self.check();
        replies
    }

    fn call(
        &mut self,
        member: usize,
        request: impl FnOnce(&mut GroupCoordinator, &RequestContext<'_>) -> Output,
    ) -> (ReplyToken, Option<GroupReply>) {
        self.next_token += 1;
        let token = ReplyToken(self.next_token);
        self.owners.insert(token, member);
        let client_id = format!("client-{member}");
        let context = RequestContext {
            api_version: if member == 4 { 3 } else { 5 },
            client_id: &client_id,
            client_host: "/10.0.0.1",
            now_ms: self.now_ms,
            token,
        };
        let output = request(&mut self.coordinator, &context);
        let replies = self.carry_out(output);
        (token, replies.into_iter().find(|(answered, _)| *answered == token).map(|(_, reply)| reply))
    }

    /// A member hears an answer; what it hears must fit to what others have heard.
    fn receive(&mut self, token: ReplyToken, reply: &GroupReply) {
        let owner = self.owners.remove(&token).expect("every request is answered once");
        let seen = self.seen.get_mut(group_of(owner)).unwrap();
        let member = &mut self.members[owner];
        let is_current = member.waits_for == Some(token);
        if is_current {
            member.waits_for = None;
        }
        match reply {
            GroupReply::JoinGroup(reply) => match ErrorCode(reply.error_code) {
                ErrorCode::NONE => {
                    assert!(reply.generation_id >= seen.generation, "generations never go back");
                    seen.generation = reply.generation_id;
                    let is_leader = reply.leader == reply.member_id;
                    if is_leader && instance_of(owner).is_none() {
                        let leader = seen
                            .leaders
                            .entry(reply.generation_id)
                            .or_insert_with(|| reply.leader.to_string());
                        assert_eq!(*leader, reply.leader, "a generation has one leader");
                        assert!(
                            reply.members.iter().any(|member| member.member_id == reply.member_id)
                                || reply.members.is_empty()
                        );
                    }
                    if is_current {
                        member.id = reply.member_id.to_string();
                        member.generation = reply.generation_id;
                        member.is_leader_of =
                            reply.members.iter().map(|member| member.member_id.to_string()).collect();
                        (member.joined, member.assignment) = (true, None);
                    }
                }
                ErrorCode::MEMBER_ID_REQUIRED if is_current => member.id = reply.member_id.to_string(),
                ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_INSTANCE_ID if is_current => {
                    *member = Member::default()
                }
                _ => {}
            },
            GroupReply::SyncGroup(reply) => match ErrorCode(reply.error_code) {
                ErrorCode::NONE if is_current => {
                    let key = (member.generation, member.id.clone());
                    let told = reply.assignment.to_vec();
                    let former = seen.assignments.entry(key).or_insert_with(|| told.clone());
                    assert_eq!(*former, told, "an assignment does not change within a generation");
                    member.assignment = Some(told);
                }
                ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_INSTANCE_ID if is_current => {
                    *member = Member::default()
                }
                ErrorCode::NONE => {}
                _ if is_current => member.joined = false,
                _ => {}
            },
            GroupReply::Heartbeat(reply) => match ErrorCode(reply.error_code) {
                ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_INSTANCE_ID
                    if member.waits_for.is_none() =>
                {
                    *member = Member::default();
                }
                ErrorCode::ILLEGAL_GENERATION | ErrorCode::REBALANCE_IN_PROGRESS => member.joined = false,
                _ => {}
            },
            _ => {}
        }
    }

    fn join(&mut self, index: usize, forget_id: bool, protocols: u8) {
        let id = if forget_id { String::new() } else { self.members[index].id.clone() };
        let names = ["a", "b", "c"].into_iter().enumerate().filter(|(bit, _)| protocols & (1 << bit) != 0);
        let protocols = names.map(|(_, name)| JoinGroupRequestProtocol {
            name: name.into(),
            metadata: subscription(name).into(),
            ..JoinGroupRequestProtocol::default()
        });
        let request = JoinGroupRequest {
            group_id: group_of(index).into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 15_000,
            member_id: id.into(),
            group_instance_id: instance_of(index).map(Into::into),
            protocol_type: "consumer".into(),
            protocols: protocols.collect(),
            ..JoinGroupRequest::default()
        };
        if forget_id {
            self.members[index] = Member::default();
        }
        self.expect_answer(index);
        self.call(index, |coordinator, context| coordinator.join_group(context, &request));
    }

    /// The member's next request is the one whose answer counts.
    fn expect_answer(&mut self, index: usize) {
        self.members[index].waits_for = Some(ReplyToken(self.next_token + 1));
    }

    fn sync(&mut self, index: usize) {
        let member = &self.members[index];
        let generation = member.generation;
        let assignments = member.is_leader_of.iter().map(|id| SyncGroupRequestAssignment {
            member_id: id.clone().into(),
            assignment: format!("{generation} {id}").into_bytes().into(),
            ..SyncGroupRequestAssignment::default()
        });
        let request = SyncGroupRequest {
            group_id: group_of(index).into(),
            generation_id: generation,
            member_id: member.id.clone().into(),
            group_instance_id: instance_of(index).map(Into::into),
            assignments: assignments.collect(),
            ..SyncGroupRequest::default()
        };
        self.expect_answer(index);
        self.call(index, |coordinator, context| coordinator.sync_group(context, &request));
    }

    fn go(&mut self, index: usize) {
        let member = &self.members[index];
        if member.waits_for.is_some() {
            return;
        }
        match (member.joined, &member.assignment) {
            (false, _) => self.join(index, false, 7),
            (true, None) => self.sync(index),
            (true, Some(_)) => self.heartbeat(index),
        }
    }

    fn heartbeat(&mut self, index: usize) {
        let member = &self.members[index];
        let request = HeartbeatRequest {
            group_id: group_of(index).into(),
            generation_id: member.generation,
            member_id: member.id.clone().into(),
            group_instance_id: instance_of(index).map(Into::into),
            ..HeartbeatRequest::default()
        };
        self.call(index, |coordinator, context| coordinator.heartbeat(context, &request));
    }

    fn leave(&mut self, index: usize) {
        let identity = MemberIdentity {
            member_id: self.members[index].id.clone().into(),
            group_instance_id: instance_of(index).map(Into::into),
            ..MemberIdentity::default()
        };
        let request = LeaveGroupRequest {
            group_id: group_of(index).into(),
            members: vec![identity],
            ..LeaveGroupRequest::default()
        };
        self.call(index, |coordinator, context| coordinator.leave_group(context, &request));
        if self.members[index].waits_for.is_none() {
            self.members[index] = Member::default();
        }
    }

    fn commit(&mut self, index: usize, partition: i32, as_member: bool) {
        self.next_offset += 1;
        let offset = self.next_offset;
        let member = &self.members[index];
        let request = OffsetCommitRequest {
            group_id: group_of(index).into(),
            generation_id_or_member_epoch: if as_member { member.generation } else { -1 },
            member_id: if as_member { member.id.clone().into() } else { "".into() },
            topics: vec![OffsetCommitRequestTopic {
                name: "topic".into(),
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: partition,
                    committed_offset: offset,
                    committed_metadata: Some("".into()),
                    ..OffsetCommitRequestPartition::default()
                }],
                ..OffsetCommitRequestTopic::default()
            }],
            ..OffsetCommitRequest::default()
        };
        let (_, reply) =
            self.call(index, |coordinator, context| coordinator.offset_commit(context, &request));
        let Some(GroupReply::OffsetCommit(reply)) = reply else { panic!("commits do not wait") };
        if reply.topics[0].partitions[0].error_code == 0 {
            self.committed.insert((group_of(index).to_owned(), partition), offset);
        }
        self.check();
    }

    fn pass(&mut self, ms: i64) {
        let end_ms = self.now_ms + ms;
        let mut rounds = 0;
        while let Some(due_ms) = self.coordinator.next_deadline_ms().filter(|due_ms| *due_ms <= end_ms) {
            self.now_ms = self.now_ms.max(due_ms);
            let output = self.coordinator.tick(self.now_ms);
            self.carry_out(output);
            rounds += 1;
            assert!(rounds < 10_000, "time passes, and the coordinator is never done");
        }
        self.now_ms = end_ms;
        // Waiting ends: no request outlives the longest rebalance and session there can be.
        if ms >= 100_000_000 {
            assert!(self.members.iter().all(|member| member.waits_for.is_none()), "a request waits for ever");
        }
    }

    fn replayed(&self) -> GroupCoordinator {
        let mut coordinator = GroupCoordinator::new(self.config.clone(), 1_000 + self.crashes);
        for (key, value) in &self.log {
            coordinator.replay(&GroupRecord::decode(key, value.as_deref()).unwrap());
        }
        coordinator
    }

    fn crash(&mut self) {
        self.crashes += 1;
        self.coordinator = self.replayed();
        let output = self.coordinator.loaded(self.now_ms);
        self.owners.clear();
        for member in &mut self.members {
            if member.waits_for.take().is_some() {
                member.joined = false;
            }
        }
        // A generation that nobody was assigned in may come once more after a crash.
        for (group_id, seen) in &mut self.seen {
            let generation = match self.coordinator.group(group_id) {
                Some(Group::Classic(group)) => group.generation_id(),
                _ => 0,
            };
            seen.generation = generation;
            seen.leaders.retain(|former, _| *former <= generation);
        }
        self.carry_out(output);
    }

    /// Keeps the last record of each key; tombstones vanish.
    fn compact(&mut self) {
        let last: BTreeMap<Bytes, usize> =
            self.log.iter().enumerate().map(|(at, (key, _))| (key.clone(), at)).collect();
        let log = std::mem::take(&mut self.log);
        let kept =
            log.into_iter().enumerate().filter(|(at, (key, value))| last[key] == *at && value.is_some());
        self.log = kept.map(|(_, record)| record).collect();
    }

    fn delete_groups(&mut self) {
        let groups = GROUPS.map(Into::into);
        let (_, reply) = self.call(0, |coordinator, context| coordinator.delete_groups(context, &groups));
        let Some(GroupReply::DeleteGroups(reply)) = reply else { panic!("deletions do not wait") };
        for result in reply.results.iter().filter(|result| result.error_code == 0) {
            assert!(
                self.committed.keys().all(|(group, _)| *group != result.group_id),
                "its offsets are gone too"
            );
            let seen = self.seen.get_mut(&*result.group_id).unwrap();
            *seen = Seen::default();
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Go(member) => self.go(*member),
            Step::Join { member, forget_id, protocols } => self.join(*member, *forget_id, *protocols),
            Step::Sync(member) if self.members[*member].waits_for.is_none() => self.sync(*member),
            Step::Sync(_) => {}
            Step::Heartbeat(member) => self.heartbeat(*member),
            Step::Leave(member) => self.leave(*member),
            Step::Commit { member, partition, as_member } => self.commit(*member, *partition, *as_member),
            Step::Pass(ms) => self.pass(*ms),
            Step::Refuse => self.refuses = true,
            Step::Crash => self.crash(),
            Step::Compact => self.compact(),
            Step::DeleteGroups => self.delete_groups(),
            Step::DeleteTopic => {
                let output = self.coordinator.topics_deleted(&["topic"]);
                self.carry_out(output);
            }
        }
        // Groups that have gone by themselves begin to count anew.
        for (group_id, seen) in &mut self.seen {
            if self.coordinator.group(group_id).is_none() {
                *seen = Seen::default();
            }
        }
    }

    /// What holds at any time.
    fn check(&self) {
        for (group_id, group) in self.coordinator.groups() {
            let Group::Classic(group) = group else { panic!("nobody speaks the other protocol") };
            assert!(group.members().len() <= MEMBERS);
            let instances: BTreeSet<_> =
                group.members().filter_map(|member| member.group_instance_id.clone()).collect();
            let static_members = group.members().filter(|member| member.group_instance_id.is_some()).count();
            assert_eq!(instances.len(), static_members, "a static member is there once");
            match group.state() {
                ClassicGroupState::Empty => assert_eq!(group.members().len(), 0),
                ClassicGroupState::Stable => {
                    assert!(group.members().len() > 0 && group.protocol_name().is_some());
                    assert!(group.leader_id().is_some_and(|leader| group.member(leader).is_some()));
                    for member in group.members() {
                        // All have an assignment: what the leader sent, or nothing if it left them out.
                        let told = self.seen[group_id]
                            .assignments
                            .get(&(group.generation_id(), member.member_id.to_string()));
                        assert!(told.is_none_or(|told| *told == *member.assignment));
                    }
                }
                _ => {}
            }
        }
        for ((group_id, partition), offset) in &self.committed {
            let committed = self.coordinator.offsets().get(group_id, "topic", *partition);
            assert!(
                committed.is_some_and(|committed| committed.offset >= *offset),
                "no committed offset is lost, and none goes back"
            );
        }
    }

    /// A coordinator that replays the log is what this one is, apart from what need not survive.
    fn check_replay(&self) {
        let replayed = self.replayed();
        assert_eq!(replayed.offsets(), self.coordinator.offsets());
        for (group_id, group) in self.coordinator.groups() {
            let Group::Classic(group) = group else { panic!("nobody speaks the other protocol") };
            if group.state() == ClassicGroupState::Stable {
                let Some(Group::Classic(copy)) = replayed.group(group_id) else {
                    panic!("{group_id} is lost")
                };
                let shown = [group, copy].map(|group| {
                    let protocol = group.protocol_name().unwrap_or_default();
                    let members: Vec<_> = group
                        .members()
                        .map(|member| {
                            let timeouts = (member.session_timeout_ms, member.rebalance_timeout_ms);
                            let client = (member.client_id.clone(), member.client_host.clone());
                            let data = (member.metadata(protocol), member.assignment.clone());
                            (
                                member.member_id.clone(),
                                member.group_instance_id.clone(),
                                client,
                                timeouts,
                                data,
                            )
                        })
                        .collect();
                    let chosen = (group.protocol_type(), group.protocol_name(), group.leader_id());
                    (group.generation_id(), chosen.0, chosen.1, chosen.2, group.state_timestamp_ms(), members)
                });
                assert_eq!(shown[0], shown[1]);
            }
        }
        for (group_id, group) in replayed.groups() {
            let Group::Classic(group) = group else { panic!("nobody speaks the other protocol") };
            let is_anything = !group.is_simple() || replayed.offsets().group(group_id).is_some();
            assert!(
                !is_anything || self.coordinator.group(group_id).is_some(),
                "{group_id} is gone but would come back"
            );
        }
        let request = OffsetFetchRequestGroup {
            group_id: "g".into(),
            topics: None,
            ..OffsetFetchRequestGroup::default()
        };
        assert_eq!(replayed.offset_fetch(&request, true), self.coordinator.offset_fetch(&request, true));
    }
}

fn subscription(topic: &str) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, u8::try_from(topic.len()).unwrap()];
    bytes.extend(topic.as_bytes());
    bytes.extend([0xff; 4]);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn members_agree_offsets_stay_and_a_replay_brings_back_what_there_was(
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
            world.check_replay();
        }
        world.pass(100_000_000);
        world.check_replay();
    }

    #[test]
    fn members_that_do_as_they_are_told_become_a_stable_group(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
        }
        world.refuses = false;
        // Everybody goes on, one second after the other. Only three fit into a group.
        for second in 0..200 {
            for member in [0, 2, 4] {
                world.go(member);
            }
            world.pass(1_000);
            let _ = second;
        }
        let Some(Group::Classic(group)) = world.coordinator.group("g") else { panic!("no group") };
        prop_assert_eq!(group.state(), ClassicGroupState::Stable);
        prop_assert_eq!(group.members().len(), 3);
        for member in [0, 2, 4] {
            let expected = format!("{} {}", group.generation_id(), world.members[member].id);
            prop_assert_eq!(world.members[member].assignment.as_deref(), Some(expected.as_bytes()));
        }
    }
}
