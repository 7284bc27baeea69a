//! What a shard is to its replicas.

use std::rc::Rc;
use std::time::Duration;

use coord::replica::{AlterPartition, Role};
use coord::types::{BrokerId, LeaderEpoch};
use futures::future::LocalBoxFuture;
use storage::disk::Disk;
use storage::{ShardStore, TopicIdPartition};

use super::Replicas;
use super::message::PartitionReply;
use super::throttle::Ends;

/// A link on which a leader's messages have come: replies go back the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The leader's node.
    pub leader: BrokerId,
    /// The shard of this node that has taken the link.
    pub home: usize,
    /// The number of the link: a later one has a higher number, whichever shard has taken it.
    pub link: u64,
}

/// Where a leader was heard.
#[derive(Debug, Clone, Copy)]
pub struct Heard {
    /// In which epoch it led.
    pub epoch: LeaderEpoch,
    /// On which link.
    pub route: Route,
}

impl Heard {
    /// Whether replies go this way, and not the way that was known. What a leader of before still says, or what comes late from a link that is gone, does not change
    /// the way: the leader of now would wait for ever for the replies that went with it.
    pub fn supersedes(&self, known: Option<Heard>) -> bool {
        known.is_none_or(|known| (self.epoch, self.route.link) >= (known.epoch, known.route.link))
    }
}

/// A shard, or a test's idea of one.
pub trait Host: Sized + 'static {
    /// The disk of its store.
    type Disk: Disk;

    /// Its logs.
    fn store(&self) -> &ShardStore<Self::Disk>;

    /// Its replicas.
    fn replicas(&self) -> &Replicas<Self::Disk>;

    /// A clock that never goes back. Milliseconds.
    fn now_ms(&self) -> i64;

    /// The time of day. Milliseconds since the epoch.
    fn wall_clock_ms(&self) -> i64;

    /// Runs a task; it is begun at once.
    fn spawn(&self, task: LocalBoxFuture<'static, ()>);

    /// Whether an operator has throttled what this broker, as the partition's leader, sends to a follower that is not in sync: at whose end.
    fn throttled(&self, id: &TopicIdPartition, follower: BrokerId) -> Ends<bool>;

    /// The rates for that, of this shard and the follower. Bytes per second; 0 is no limit. It is asked now and then, so that it may take a while.
    fn throttled_rates(&self, follower: BrokerId) -> Ends<u64>;

    /// Waits.
    fn sleep(&self, duration: Duration) -> LocalBoxFuture<'static, ()>;

    /// Brings replies on their way to a leader. They may get lost with the link.
    fn reply(&self, route: Route, replies: Vec<PartitionReply>);

    /// Ends a link: what was sent on it has to be said again.
    fn break_link(&self, route: Route);

    /// Asks the controller; its refusal is told by [`Replicas::refused`](super::replicas::refused), its consent by the metadata.
    fn propose(self: &Rc<Self>, id: TopicIdPartition, proposal: AlterPartition);

    /// Something is to be said to a follower that nothing was ever said to: from now on its outbox has to be emptied.
    fn follower_appeared(self: &Rc<Self>, follower: BrokerId);

    /// A replica has another role.
    fn role_changed(self: &Rc<Self>, id: TopicIdPartition, role: Role);

    /// A disk does not keep its promises: the broker has to stop.
    fn fail(&self, reason: String);
}
