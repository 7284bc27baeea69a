//! The replicas of a shard: what happens is given to them, and what follows is carried out.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ahash::AHashMap;
use coord::replica::{AlterRefusal, Effect, PartitionState, Replica, ReplicaConfig, Role};
use coord::types::BrokerId;
use protocol::ErrorCode;
use protocol::records::ValidatedBatch;
use storage::disk::Disk;
use storage::store::CommitEvent;
use storage::{AppendContext, AppendError, AppendOutcome, LeaderEpoch, TopicIdPartition, WakeSignal};

use super::host::{Heard, Host, Route};
use super::hosted::{Hosted, Work};
use super::message::PartitionReply;
use super::metrics::ReplicationCounters;
use super::outbox::Outbox;
use super::pace::Pace;
use super::{storing, vain};

/// Partitions of which leaders may know earlier than this node, at once. For more, leaders find out with their next link.
const EARLY_MAX: usize = 10_000;

/// A shard's replicas, and what is to be said to their followers.
pub struct Replicas<D: Disk> {
    /// Nothing is led or followed before the broker is registered.
    config: Cell<Option<ReplicaConfig>>,
    table: RefCell<AHashMap<TopicIdPartition, Rc<Hosted<D>>>>,
    outboxes: RefCell<BTreeMap<BrokerId, Rc<Outbox>>>,
    /// Replicas to which time matters.
    watched: RefCell<Vec<TopicIdPartition>>,
    /// Fires when there is one.
    watch_wanted: Rc<WakeSignal>,
    replies: RefCell<BTreeMap<Route, Vec<PartitionReply>>>,
    /// How leaders have sent for partitions that are not known here yet.
    early: RefCell<AHashMap<TopicIdPartition, Heard>>,
    /// Brokers that this one does not reach while it hears no active controller either.
    pub(super) unreachable: RefCell<BTreeSet<BrokerId>>,
    pub(super) pace: RefCell<Pace>,
    /// What goes to replicas that are not in sync, of partitions whose leader is throttled.
    pub(super) throttle: RefCell<Pace>,
    pub(super) counters: ReplicationCounters,
}

impl<D: Disk> Replicas<D> {
    /// No replicas yet. `catch_up_bytes_per_second` bounds what followers are sent out of segments; 0 does not.
    pub fn new(catch_up_bytes_per_second: u64) -> Self {
        Replicas {
            config: Cell::new(None),
            table: RefCell::default(),
            outboxes: RefCell::default(),
            watched: RefCell::default(),
            watch_wanted: WakeSignal::new(),
            replies: RefCell::default(),
            early: RefCell::default(),
            unreachable: RefCell::default(),
            pace: RefCell::new(Pace::new(catch_up_bytes_per_second, 0)),
            throttle: RefCell::new(Pace::new(0, 0)),
            counters: ReplicationCounters::default(),
        }
    }

    /// Rates for throttled replicas may have changed.
    pub fn rates_changed(&self) {
        self.outboxes.borrow().values().for_each(|outbox| outbox.rates_changed());
    }

    /// The broker is registered: from now on [`state_changed`] is listened to.
    pub fn begin(&self, config: ReplicaConfig) {
        self.config.set(Some(config));
    }

    /// The epoch of this broker's registration, if it is registered.
    pub fn broker_epoch(&self) -> Option<i64> {
        self.config.get().map(|config| config.broker_epoch)
    }

    /// Whether this broker hears no active controller, and does not reach any of these brokers either.
    pub fn is_cut_off_from(&self, mut others: impl Iterator<Item = BrokerId>) -> bool {
        let unreachable = self.unreachable.borrow();
        !unreachable.is_empty() && others.all(|id| unreachable.contains(&id))
    }

    /// The replica of a partition, if there is one here.
    pub fn get(&self, id: &TopicIdPartition) -> Option<Rc<Hosted<D>>> {
        self.table.borrow().get(id).cloned()
    }

    /// All replicas.
    pub fn all(&self) -> Vec<Rc<Hosted<D>>> {
        self.table.borrow().values().cloned().collect()
    }

    /// What is to be said to a follower.
    pub fn outbox(&self, follower: BrokerId) -> Option<Rc<Outbox>> {
        self.outboxes.borrow().get(&follower).cloned()
    }

    /// The partition is no longer held here.
    pub fn remove(&self, id: &TopicIdPartition) {
        if let Some(hosted) = self.table.borrow_mut().remove(id) {
            hosted.dismiss_waiters();
        }
    }

    /// Waits until time matters to some replica.
    pub async fn watch(&self) {
        while self.watched.borrow().is_empty() {
            self.watch_wanted.wait().await;
        }
    }

    /// A leader has sent for a partition that is not known here yet.
    pub(super) fn note_early(&self, id: TopicIdPartition, heard: Heard) {
        let mut early = self.early.borrow_mut();
        if early.len() >= EARLY_MAX {
            early.clear();
        }
        if heard.supersedes(early.get(&id).copied()) {
            early.insert(id, heard);
        }
    }

    fn keep_watching(&self, hosted: &Hosted<D>) {
        if !hosted.is_watched.replace(true) {
            self.watched.borrow_mut().push(hosted.id);
            self.watch_wanted.wake();
        }
    }

    fn outbox_for<H: Host<Disk = D>>(&self, host: &Rc<H>, follower: BrokerId) -> Rc<Outbox> {
        if let Some(outbox) = self.outbox(follower) {
            return outbox;
        }
        let outbox = Rc::new(Outbox::new(follower));
        self.outboxes.borrow_mut().insert(follower, Rc::clone(&outbox));
        host.follower_appeared(follower);
        outbox
    }
}

/// Gives an input to a replica and carries out what follows.
pub(super) fn input<H: Host>(
    host: &Rc<H>,
    hosted: &Rc<Hosted<H::Disk>>,
    input: impl FnOnce(&mut Replica, i64, &mut Vec<Effect>),
) {
    let mut effects = Vec::new();
    input(&mut hosted.replica.borrow_mut(), host.now_ms(), &mut effects);
    carry_out(host, hosted, effects);
}

/// Carries out what a replica has decided. Replies gather until [`send_replies`].
pub(super) fn carry_out<H: Host>(host: &Rc<H>, hosted: &Rc<Hosted<H::Disk>>, effects: Vec<Effect>) {
    let replicas = host.replicas();
    for effect in effects {
        match effect {
            Effect::Replicate { to } => {
                replicas.outbox_for(host, to).note(hosted.id);
                replicas.keep_watching(hosted);
            }
            Effect::Reply(addressed) => {
                // Without a way it is lost, as with a broken link: the leader asks when there is a new one.
                let route = hosted.heard.get().map(|heard| heard.route);
                if let Some(route) = route.filter(|route| route.leader == addressed.to) {
                    let reply = PartitionReply { id: hosted.id, reply: addressed.reply };
                    replicas.replies.borrow_mut().entry(route).or_default().push(reply);
                }
            }
            Effect::HighWatermark(high_watermark) => {
                hosted.log.advance_high_watermark(high_watermark);
                hosted.answer_committed();
                // Followers hear of it with the next batches, or alone.
                for status in hosted.replica.borrow().followers(host.now_ms()) {
                    if let Some(outbox) = replicas.outbox(status.id) {
                        outbox.note(hosted.id);
                    }
                }
            }
            Effect::AlterPartition(proposal) => {
                replicas.keep_watching(hosted);
                host.propose(hosted.id, proposal);
            }
            Effect::RoleChanged(_) => {
                hosted.is_in_vain.set(vain::is_in_vain(replicas, hosted));
                replicas.keep_watching(hosted);
                tell_role(host, hosted);
            }
            Effect::MetadataBehind(epoch) => vain::heard_of_later_epoch(host, hosted, epoch),
        }
    }
}

/// Tells everybody here whom the replica's role to clients concerns that it is another one.
pub(super) fn tell_role<H: Host>(host: &Rc<H>, hosted: &Hosted<H::Disk>) {
    let role = hosted.role();
    if !matches!(role, Role::Leader { .. }) {
        hosted.dismiss_waiters();
    }
    host.role_changed(hosted.id, role);
    // Consumers that wait for more hear that somebody else leads.
    hosted.log.wake_readers();
}

/// Brings the replies that have gathered on their way: one frame's worth for each link.
pub(super) fn send_replies<H: Host>(host: &Rc<H>) {
    for (route, replies) in host.replicas().replies.take() {
        host.reply(route, replies);
    }
}

/// The controller's word about a partition of which this broker is to have a replica; its log is here.
pub fn state_changed<H: Host>(host: &Rc<H>, id: &TopicIdPartition, state: PartitionState) {
    let replicas = host.replicas();
    let Some(config) = replicas.config.get() else { return };
    let hosted = match replicas.get(id) {
        Some(hosted) => hosted,
        None => {
            let Some(log) = host.store().partition(id) else { return };
            let offsets = log.offsets();
            if offsets.durable_end_offset < offsets.log_end_offset {
                // It was the only replica until now: what it has appended is on its way to the disk.
                return state_changed_later(host, *id, state);
            }
            let hosted = Hosted::new(config, log);
            hosted.heard.set(replicas.early.borrow_mut().remove(id));
            replicas.table.borrow_mut().insert(*id, Rc::clone(&hosted));
            hosted
        }
    };
    storing::enqueue(host, &hosted, Work::State(state));
    send_replies(host);
}

fn state_changed_later<H: Host>(host: &Rc<H>, id: TopicIdPartition, state: PartitionState) {
    let durable = host.store().all_durable();
    let later = Rc::clone(host);
    host.spawn(Box::pin(async move {
        if durable.await.is_ok() {
            state_changed(&later, &id, state);
        }
    }));
}

/// Why a leader does not append.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LeadError {
    /// Replication does not allow it: NOT_LEADER_OR_FOLLOWER or NOT_ENOUGH_REPLICAS.
    #[error("{0}")]
    Refused(ErrorCode),
    /// The log refuses.
    #[error(transparent)]
    Log(#[from] AppendError),
}

impl LeadError {
    /// Kafka's error code for it.
    pub fn code(&self) -> ErrorCode {
        match self {
            LeadError::Refused(code) => *code,
            LeadError::Log(error) => error.code(),
        }
    }
}

/// Appends a batch to a partition that this broker leads, and lets its followers have it. `acks_all` says that the producer wants to hear when all in-sync
/// replicas have it: then there must be enough of them.
/// The epoch is the one in which it leads, not that of `context`.
pub fn append<H: Host>(
    host: &Rc<H>,
    hosted: &Rc<Hosted<H::Disk>>,
    batch: &[u8],
    validated: &ValidatedBatch,
    context: AppendContext,
    acks_all: bool,
) -> Result<AppendOutcome, LeadError> {
    hosted.check_append(acks_all).map_err(LeadError::Refused)?;
    let context = AppendContext { leader_epoch: hosted.leader_epoch(), ..context };
    let outcome = hosted.log.append(batch, validated, context)?;
    if !outcome.duplicate {
        let end_offset = outcome.last_offset.next();
        input(host, hosted, |replica, now_ms, effects| {
            replica.appended(outcome.base_offset, end_offset, now_ms, effects);
        });
    }
    Ok(outcome)
}

/// The journal has done something: see [`CommitEvent`].
pub fn on_commit<H: Host>(host: &Rc<H>, event: CommitEvent<'_>) {
    let replicas = host.replicas();
    match event {
        CommitEvent::Readable => {
            for outbox in replicas.outboxes.borrow().values() {
                outbox.readable();
            }
        }
        CommitEvent::Done => {}
        CommitEvent::Durable(logs) => {
            for (id, end) in logs {
                let Some(hosted) = replicas.get(id) else { continue };
                let generation = hosted.generation.get();
                input(host, &hosted, |replica, _, effects| replica.synced(generation, *end, effects));
                // The log may have learned earlier what is committed now that it is durable.
                hosted.answer_committed();
            }
            send_replies(host);
        }
    }
}

/// A follower has answered.
pub fn replied<H: Host>(host: &Rc<H>, from: BrokerId, replies: &[PartitionReply]) {
    for PartitionReply { id, reply } in replies {
        if let Some(hosted) = host.replicas().get(id) {
            input(host, &hosted, |replica, now_ms, effects| replica.replied(from, reply, now_ms, effects));
        }
    }
    send_replies(host);
}

/// A link to `follower` has been opened: what was under way on an earlier one is lost.
pub fn link_opened<H: Host>(host: &Rc<H>, follower: BrokerId) {
    if let Some(outbox) = host.replicas().outbox(follower) {
        outbox.forget();
    }
    for hosted in host.replicas().all() {
        input(host, &hosted, |replica, _, effects| {
            if matches!(replica.role(), Role::Leader { .. }) {
                replica.channel_opened(follower, effects);
            }
        });
    }
}

/// The controller has refused what the partition's leader here has proposed.
pub fn refused<H: Host>(
    host: &Rc<H>,
    id: &TopicIdPartition,
    (leader_epoch, partition_epoch): (LeaderEpoch, i32),
    refusal: AlterRefusal,
) {
    if let Some(hosted) = host.replicas().get(id) {
        input(host, &hosted, |replica, now_ms, effects| {
            replica.alter_refused(leader_epoch, partition_epoch, refusal, now_ms, effects);
        });
    }
}

/// Time has passed: for the replicas to which it matters. The others are forgotten until something happens to them.
pub fn tick<H: Host>(host: &Rc<H>) {
    let replicas = host.replicas();
    for id in replicas.watched.take() {
        let Some(hosted) = replicas.get(&id) else { continue };
        hosted.is_watched.set(false);
        input(host, &hosted, |replica, now_ms, effects| replica.tick(now_ms, effects));
        let is_settled = {
            let replica = hosted.replica.borrow();
            let mut followers = replica.followers(host.now_ms());
            !replica.awaits_controller() && followers.all(|status| status.is_in_sync && status.behind_ms == 0)
        };
        if !is_settled {
            replicas.keep_watching(&hosted);
        }
    }
}

/// Retention may have moved where logs begin.
pub fn log_starts_moved<H: Host>(host: &Rc<H>) {
    for hosted in host.replicas().all() {
        follow_log_start(&hosted);
    }
}

/// Tells the replica where its log begins.
pub(super) fn follow_log_start<D: Disk>(hosted: &Hosted<D>) {
    if hosted.is_busy.get() {
        return;
    }
    let mut replica = hosted.replica.borrow_mut();
    let start = hosted.log.first_batch_offset();
    if start > replica.log().start() {
        replica.log_start_advanced(start);
    }
}
