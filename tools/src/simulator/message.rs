//! What goes over the simulated network.

use bytes::Bytes;
use coord::CoordError;
use coord::metadata::decide::{BrokerHeartbeat, NewTopic, RegisterBroker};
use coord::replica::{AlterPartition, AlterRefusal, Append, Reply};
use coord::types::{BrokerId, LeaderEpoch};
use protocol::ErrorCode;
use storage::{Offset, TopicIdPartition};

use super::store::StoredBatch;

/// Who sends and receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// A broker's process.
    Broker(BrokerId),
    /// A client, by its number.
    Client(usize),
}

/// One message.
#[derive(Debug, Clone)]
pub enum Message {
    /// The connection of this number to that broker has been set up.
    Opened(u64),
    /// It is gone.
    Closed(u64),
    /// Nobody listens where that broker was (`true`), or there is no telling.
    Unreachable(bool),
    /// Between controllers.
    Quorum(Bytes),
    /// A controller has received a snapshot of the quorum.
    SnapshotArrived,
    /// Leader to follower.
    Append {
        /// Which partition.
        partition: TopicIdPartition,
        /// What it says.
        append: Append,
        /// Where consumers may begin to read.
        consumers_from: Offset,
        /// The batches in it.
        batches: Vec<StoredBatch>,
    },
    /// Follower to leader.
    Reply {
        /// Which partition.
        partition: TopicIdPartition,
        /// What it says.
        reply: Reply,
    },
    /// To the active controller.
    Command(Command),
    /// From the controller.
    Outcome(Outcome),
    /// From a client; the number comes back with the answer.
    Request(u64, Request),
    /// To a client.
    Response(u64, Response),
}

/// What the active controller is asked to do.
#[derive(Debug, Clone)]
pub enum Command {
    /// A process has started; `is_intact` says whether its disk has what it acknowledged.
    Register {
        /// The process.
        command: RegisterBroker,
        /// Whether its disk has everything that it acknowledged before.
        is_intact: bool,
    },
    /// A process is alive.
    Heartbeat(BrokerHeartbeat),
    /// A leader wants other in-sync replicas.
    Alter {
        /// The leader's broker.
        broker: BrokerId,
        /// Its registration.
        broker_epoch: i64,
        /// Which partition.
        partition: TopicIdPartition,
        /// What it proposes.
        proposal: AlterPartition,
    },
    /// An administrator's wish.
    Admin(AdminCommand),
    /// The controller's own: a broker is silent.
    Fence(BrokerId, i64),
    /// The controller's own, when it begins: what has no leader may get one.
    ElectMissing,
    /// The controller's own, from time to time: preferred leaders lead again.
    Balance,
}

/// What administrators do.
#[derive(Debug, Clone)]
pub enum AdminCommand {
    /// Creates topics.
    CreateTopics(Vec<NewTopic>),
    /// Sets `min.insync.replicas` of a topic.
    SetMinInsync(String, usize),
    /// Moves a partition; `None` calls a reassignment off.
    Reassign(TopicIdPartition, Option<Vec<BrokerId>>),
    /// Lets the first replica lead.
    ElectPreferred(TopicIdPartition),
}

/// What became of a command.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It was done, or there was nothing to do.
    Done,
    /// A broker is not who it thinks it is: another process has registered in its place.
    BrokerStale,
    /// A leader's proposal was refused.
    AlterRefused {
        /// Which partition.
        partition: TopicIdPartition,
        /// The state that it was for.
        leader_epoch: LeaderEpoch,
        /// The state that it was for.
        partition_epoch: i32,
        /// Why.
        refusal: AlterRefusal,
    },
    /// Something else was refused.
    Refused(CoordError),
    /// This node is not the active controller.
    NotController,
}

/// What a client asks.
#[derive(Debug, Clone)]
pub enum Request {
    /// Who leads what.
    Metadata,
    /// A batch for a partition, acks=all.
    Produce(TopicIdPartition, Bytes),
    /// Records of a partition.
    Fetch(TopicIdPartition, Offset),
    /// Everything below the offset may go.
    DeleteRecords(TopicIdPartition, Offset),
    /// A group commits an offset, if it has members in the name of one with its epoch.
    CommitOffset(OffsetOf, i64, Option<(String, i32)>),
    /// A member of a group is there.
    GroupHeartbeat(GroupHeartbeat),
    /// A member of a classic group wants something.
    Classic(ClassicRequest),
    /// The offset that a group has committed.
    FetchOffset(OffsetOf),
    /// An administrator's wish, for the active controller.
    Admin(AdminCommand),
}

/// What a committed offset belongs to: a group, and a partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OffsetOf {
    /// The partition of `__consumer_offsets` in which the group lives.
    pub home: TopicIdPartition,
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition's index.
    pub partition: i32,
}

/// What a member says to its group's coordinator.
#[derive(Debug, Clone)]
pub struct GroupHeartbeat {
    /// The partition of `__consumer_offsets` in which the group lives.
    pub home: TopicIdPartition,
    /// The group.
    pub group: String,
    /// The member.
    pub member_id: String,
    /// 0 to join, -1 to leave.
    pub member_epoch: i32,
    /// What it owns, if it says so.
    pub owned: Option<Vec<TopicIdPartition>>,
    /// Whether it says what it wants.
    pub says_all: bool,
}

/// What a member of a classic group says to its coordinator.
#[derive(Debug, Clone)]
pub struct ClassicRequest {
    /// The partition of `__consumer_offsets` in which the group lives.
    pub home: TopicIdPartition,
    /// The group.
    pub group: String,
    /// The member; empty if it has no id yet.
    pub member_id: String,
    /// The generation that it belongs to, as far as it knows.
    pub generation: i32,
    /// What it wants.
    pub wish: ClassicWish,
}

/// What a member of a classic group wants.
#[derive(Debug, Clone)]
pub enum ClassicWish {
    /// To belong to the next generation.
    Join,
    /// Its assignment; the leader says what each member gets.
    Sync(Vec<(String, Bytes)>),
    /// To be known to live.
    Heartbeat,
    /// To be let go.
    Leave,
}

/// What a member of a classic group hears if nothing is wrong.
#[derive(Debug, Clone)]
pub enum ClassicAnswer {
    /// It is to come back with this id.
    MemberId(String),
    /// It belongs to a generation.
    Joined(Generation),
    /// What it gets.
    Assignment(Bytes),
    /// Nothing has changed, or it may go.
    Fine,
}

/// A generation of a classic group as a member sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Its number.
    pub id: i32,
    /// The member itself.
    pub member_id: String,
    /// Who assigns.
    pub leader: String,
    /// All members, if this one leads.
    pub members: Vec<String>,
}

/// What a client hears.
#[derive(Debug, Clone)]
pub enum Response {
    /// Who leads what.
    Metadata(ClusterMetadata),
    /// Where the batch lies, once it is committed.
    Produced(Result<Offset, ErrorCode>),
    /// Committed batches.
    Fetched(Result<Vec<StoredBatch>, ErrorCode>),
    /// The position is not in the log, which begins here.
    OutOfRange(Offset),
    /// An offset was committed, or not.
    OffsetCommitted(ErrorCode),
    /// The member's epoch and what it is to own, if that is news, and the leader epoch of the coordinator that says so.
    GroupHeartbeat(Result<(i32, Option<Vec<TopicIdPartition>>), ErrorCode>, LeaderEpoch),
    /// What a member of a classic group is told, and the leader epoch of the coordinator that says so.
    Classic(Result<ClassicAnswer, ErrorCode>, LeaderEpoch),
    /// Whoever was asked does not coordinate the group, or does so no more.
    NotCoordinator,
    /// The committed offset, -1 for none, and the leader epoch of the coordinator that says so.
    Offset(i64, LeaderEpoch),
    /// The controller has done it, or there was nothing to do.
    Done,
    /// The controller did not do it.
    Failed,
}

/// What clients know of the cluster.
#[derive(Debug, Clone, Default)]
pub struct ClusterMetadata {
    /// The active controller.
    pub controller: BrokerId,
    /// All partitions in the order of topics.
    pub partitions: Vec<PartitionMetadata>,
}

/// What clients know of a partition.
#[derive(Debug, Clone)]
pub struct PartitionMetadata {
    /// The topic's name.
    pub topic: String,
    /// The topic's id, and the index.
    pub id: TopicIdPartition,
    /// Who leads.
    pub leader: BrokerId,
    /// In which epoch.
    pub leader_epoch: LeaderEpoch,
    /// Who has it.
    pub replicas: Vec<BrokerId>,
}

/// The topic of groups.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

impl ClusterMetadata {
    /// What is known of a partition.
    pub fn partition(&self, id: TopicIdPartition) -> Option<&PartitionMetadata> {
        self.partitions.iter().find(|partition| partition.id == id)
    }

    /// Takes newer metadata, but of no partition what is of an earlier epoch than what is known (KIP-320).
    pub fn update(&mut self, newer: &ClusterMetadata) {
        let mut partitions = newer.partitions.clone();
        for partition in &mut partitions {
            if let Some(known) = self.partition(partition.id)
                && known.leader_epoch > partition.leader_epoch
            {
                *partition = known.clone();
            }
        }
        *self = ClusterMetadata { controller: newer.controller, partitions };
    }

    /// Partitions of topics that are not the cluster's own.
    pub fn data_partitions(&self) -> impl Iterator<Item = &PartitionMetadata> {
        self.partitions.iter().filter(|partition| partition.topic != OFFSETS_TOPIC)
    }
}
