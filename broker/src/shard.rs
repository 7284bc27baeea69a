//! One core's share of the broker: everything that its tasks use. Nothing in it is shared with another shard.

use std::cell::{Cell, OnceCell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use coord::metadata::MetadataImage;

use coord::types::BrokerId;
use storage::TopicIdPartition;
use storage::disk::DirectDisk;
use tokio::sync::watch;

use crate::append_queue::AppendQueue;
use crate::budget::Budget;
use crate::cleaning;
use crate::cluster::{Cluster, ClusterInfo};
use crate::config::{Config, HostPort};
use crate::controller::{self, ShardMetadata};
use crate::fetch_session::FetchSessions;
use crate::groups::{self, Groups};
use crate::live::{self, LiveConfig};
use crate::logs::{self, ShardLog, Store};
use crate::mesh::{HasMesh, Mesh};
use crate::metrics::{RequestMetrics, Samples, ShardMetrics};
use crate::net::{MovedConnection, Net};
use crate::placement::{ShardId, shard_of};
use crate::replication::Replication;
use crate::runtime::{self, Background, Pulse};
use crate::server::{Event, SHARD_CACHE_BYTES_MIN};

/// What the process and its allocator take on top of data is an eighth of a shard's memory, at most so much.
const OVERHEAD_BYTES_MAX: u64 = 32 << 20;
/// What a shard keeps besides is a sixth of its memory, between these bounds.
const SPARE_BYTES_MIN: u64 = 5 << 20;
const SPARE_BYTES_MAX: u64 = 80 << 20;

/// What is the same on all shards and does not change while the broker runs.
#[derive(Debug)]
pub struct BrokerInfo {
    /// All settings.
    pub config: Config,
    /// The cores that the shards run on, by shard.
    pub cores: Vec<usize>,
    /// Memory of one shard.
    pub shard_memory_bytes: u64,
    /// The address that clients are told to use.
    pub advertised: HostPort,
    /// Where clients connect, with the actual port.
    pub kafka_address: std::net::SocketAddr,
    /// Where HTTP is served, with the actual port.
    pub admin_address: std::net::SocketAddr,
    /// What makes this node one of several; none on a node by itself.
    pub cluster: Option<ClusterInfo>,
    /// When the process began to start.
    pub started: Instant,
    /// The signs of life of all shards, by shard.
    pub pulses: Vec<Arc<Pulse>>,
}

impl BrokerInfo {
    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.cores.len()
    }

    /// The part of a shard's memory for data: all but what the process and its allocator take.
    fn shard_data_bytes(&self) -> u64 {
        let needed = u64::from(self.config.socket_request_max_bytes) + SHARD_CACHE_BYTES_MIN;
        data_bytes(self.shard_memory_bytes, needed)
    }

    /// The part of a shard's memory for requests and answers in flight: half of that for data, but enough for the largest request.
    pub fn shard_request_bytes(&self) -> u64 {
        (self.shard_data_bytes() / 2).max(self.config.socket_request_max_bytes.into())
    }

    /// The part of a shard's memory for the tail cache: what is left.
    pub fn shard_cache_bytes(&self) -> u64 {
        let others = self.shard_request_bytes() + self.shard_spare_bytes();
        self.shard_data_bytes().saturating_sub(others).max(SHARD_CACHE_BYTES_MIN)
    }

    /// The part of a shard's memory for what makes it quick and could be done without: unused disk buffers, indexes, what is read ahead.
    fn shard_spare_bytes(&self) -> u64 {
        spare_bytes(self.shard_data_bytes(), self.shard_request_bytes())
    }

    /// Most bytes of disk buffers that a shard keeps for reuse.
    pub fn shard_free_buffer_bytes(&self) -> usize {
        (self.shard_spare_bytes() / 5 * 2) as usize
    }

    /// Most bytes of indexes that a shard keeps.
    pub fn shard_index_cache_bytes(&self) -> usize {
        (self.shard_spare_bytes() / 5 * 2) as usize
    }

    /// Most bytes that a shard reads before they are asked for.
    pub fn shard_read_ahead_bytes(&self) -> usize {
        (self.shard_spare_bytes() / 5) as usize
    }

    /// Where data lives.
    pub fn data_dir(&self) -> &PathBuf {
        &self.config.data_dir
    }
}

fn data_bytes(memory_bytes: u64, needed_bytes: u64) -> u64 {
    let overhead = (memory_bytes / 8).min(OVERHEAD_BYTES_MAX);
    (memory_bytes - overhead).max(needed_bytes.min(memory_bytes))
}

fn spare_bytes(memory_bytes: u64, request_bytes: u64) -> u64 {
    let left = memory_bytes.saturating_sub(request_bytes + SHARD_CACHE_BYTES_MIN);
    (memory_bytes / 6).min(left).clamp(SPARE_BYTES_MIN, SPARE_BYTES_MAX)
}

/// One shard; lives on its executor's thread in an `Rc`.
pub struct Shard {
    /// Which one.
    pub id: ShardId,
    /// What is the same on all.
    pub broker: Arc<BrokerInfo>,
    /// Calls to other shards.
    pub mesh: Mesh<Shard>,
    /// Memory for requests in flight.
    pub budget: Budget,
    /// Counters.
    pub metrics: ShardMetrics,
    /// Signs of life for the guard.
    pub pulse: Arc<Pulse>,
    /// Idle-priority threads, common to all shards.
    pub background: Background,
    /// Links to the cluster's other nodes.
    pub cluster: Rc<Cluster>,
    /// Sockets, from the moment when clients are let in.
    pub net: OnceCell<Rc<Net>>,
    /// What it knows of the cluster.
    pub metadata: ShardMetadata,
    /// The settings in force.
    pub live: RefCell<Rc<LiveConfig>>,
    /// Tells the main thread what happens here.
    pub events: mpsc::Sender<Event>,
    /// The partition logs, from the moment when they are recovered.
    pub store: OnceCell<Store>,
    /// Appends that wait for room.
    pub append_queue: AppendQueue,
    /// Fetch sessions of this shard's connections.
    pub fetch_sessions: RefCell<FetchSessions>,
    /// Replicas that share partitions with other brokers.
    pub replication: Replication,
    /// Coordinators of groups.
    pub groups: Groups,
    /// Set when the shard is being shut down.
    pub is_closing: Cell<bool>,
    /// Becomes true when no more requests are taken: whoever waits for data answers with what there is.
    pub is_draining: watch::Sender<bool>,
}

impl HasMesh for Shard {
    fn mesh(&self) -> &Mesh<Self> {
        &self.mesh
    }
}

impl AsRef<RequestMetrics> for Shard {
    fn as_ref(&self) -> &RequestMetrics {
        &self.metrics.requests
    }
}

impl Shard {
    /// All settings as they were when the broker started; for those that can change while it runs see [`Shard::live`].
    pub fn config(&self) -> &Config {
        &self.broker.config
    }

    /// Number of shards.
    pub fn count(&self) -> usize {
        self.broker.shards()
    }

    /// The shard that owns the partition.
    pub fn owner_of(&self, topic_id: uuid::Uuid, partition: i32) -> ShardId {
        shard_of(topic_id, partition, self.count())
    }

    /// The cluster's metadata as far as this shard has heard. Do not hold it across a wait.
    pub fn image(&self) -> Rc<MetadataImage> {
        self.metadata.image()
    }

    /// The settings in force, with what was set at run time.
    pub fn live(&self) -> Rc<LiveConfig> {
        Rc::clone(&self.live.borrow())
    }

    /// Stops the broker with an error, because this shard cannot keep its promises any more (a sync failed, say). Nothing is flushed: what is
    /// not durable yet was not acknowledged.
    pub fn fail(&self, reason: impl std::fmt::Display) {
        tracing::error!(shard = self.id.0, %reason, "the broker must stop");
        // If the main thread is gone the process is ending already.
        let _ = self.events.send(Event::Failed(self.id, reason.to_string()));
    }

    /// Brings the shard to the point where clients can be let in: opens its logs, and on shard 0 the metadata. The mesh is running.
    pub async fn start(self: &Rc<Self>) -> Result<(), crate::Error> {
        let disk = DirectDisk::new(self.broker.data_dir(), self.broker.shard_free_buffer_bytes())
            .await
            .map_err(|error| crate::Error::Unsuitable(error.to_string()))?
            .observed_by(self.pulse.disk_observer());
        controller::start::load(self, disk.clone()).await?;
        live::refresh(self);
        let store = logs::open(self, disk).await?;
        assert!(self.store.set(store).is_ok(), "the logs are opened once");
        groups::follow::open(self);
        runtime::spawn(logs::maintain(Rc::clone(self)));
        runtime::spawn(cleaning::run(Rc::clone(self)));
        Ok(())
    }

    /// All shards have started: lets a change of their number count. Shard 0 does so before the others.
    pub async fn finish_start(self: &Rc<Self>) -> Result<(), crate::Error> {
        let finished = self.store().finish_migration().await;
        finished.map_err(|error| {
            crate::Error::Unsuitable(format!("the data cannot be moved to {} shards: {error}", self.count()))
        })
    }

    /// Makes everything durable and marks the data clean; no client is connected any more, but other shards may still call.
    pub async fn shutdown(self: &Rc<Self>) -> Result<(), crate::Error> {
        self.is_closing.set(true);
        self.groups.timer.wake();
        let closed = self.store().shutdown().await;
        closed.map_err(|error| {
            crate::Error::Unsuitable(format!(
                "shard {}: the logs cannot be closed cleanly, the next start recovers them: {error}",
                self.id
            ))
        })
    }

    /// The partition logs.
    ///
    /// # Panics
    /// Before they are opened: nobody is let in before.
    pub fn store(&self) -> &Store {
        self.store.get().expect("the logs are open before clients are let in")
    }

    /// Gives a connection to another shard, with its fetch session.
    pub fn hand_over(&self, target: ShardId, moved: MovedConnection) {
        let session = self.fetch_sessions.borrow_mut().release(moved.fetch_session());
        self.mesh.tell(target, move |there| {
            if let Some(session) = session {
                there.fetch_sessions.borrow_mut().adopt(session, logs::now_ms());
            }
            moved.arrive(there.net.get().expect("opened before any shard lets clients in"));
        });
    }

    /// The log of a partition that this shard owns.
    pub fn log(&self, id: &TopicIdPartition) -> Option<ShardLog> {
        self.store().partition(id)
    }

    /// This broker's id.
    pub fn broker_id(&self) -> BrokerId {
        BrokerId(self.config().node_id)
    }

    /// Adds this shard's metrics.
    pub fn collect(self: &Rc<Self>, samples: &mut Samples) {
        let shard = self.id.to_string();
        let labels = [("shard", shard.as_str())];
        self.metrics.collect(&shard, samples);
        if let Some(net) = self.net.get() {
            net.collect(&shard, samples);
        }
        if let Some(store) = self.store.get() {
            crate::metrics::storage::collect(&shard, &store.stats(), self.append_queue.len(), samples);
        }
        self.groups.collect(&shard, samples);
        crate::controller::metrics::collect(self, samples);
        crate::replication::metrics::collect(self, samples);
        if self.broker.cluster.is_some() {
            self.cluster.collect(&shard, samples);
        }
        let mesh = self.mesh.stats();
        samples.counter("broker_mesh_calls_total", "Calls made to other shards.", &labels, mesh.calls);
        samples.counter(
            "broker_mesh_local_calls_total",
            "Calls made to the own shard.",
            &labels,
            mesh.local_calls,
        );
        samples.counter(
            "broker_mesh_messages_received_total",
            "Calls and answers received.",
            &labels,
            mesh.received,
        );
        samples.counter("broker_mesh_wakes_total", "Times the receiver woke up.", &labels, mesh.wakes);
        samples.counter(
            "broker_mesh_wakes_sent_total",
            "Calls and answers for which a sleeping shard had to be woken; by the shard that was woken.",
            &labels,
            self.pulse.inbox().wakes(),
        );
        samples.gauge("broker_mesh_calls_in_flight", "Unanswered calls.", &labels, mesh.in_flight as f64);
        samples.gauge(
            "broker_memory_budget_bytes",
            "Memory budget.",
            &labels,
            self.budget.total_bytes() as f64,
        );
        samples.gauge("broker_memory_used_bytes", "Budget in use.", &labels, self.budget.used_bytes() as f64);
        samples.counter(
            "broker_memory_waits_total",
            "Reads that waited for memory.",
            &labels,
            self.budget.waits(),
        );
        samples.gauge(
            "broker_requests_in_flight",
            "Requests, calls between shards and disk operations in progress.",
            &labels,
            self.pulse.in_flight() as f64,
        );
        samples.counter("broker_turns_total", "Times a connection's task ran.", &labels, self.pulse.turns());
        samples.counter(
            "broker_guard_wakes_total",
            "Wakes by the liveness guard.",
            &labels,
            self.pulse.guard_wakes(),
        );
        samples.counter(
            "broker_guard_rescues_total",
            "Wakes by the liveness guard after which work went on.",
            &labels,
            self.pulse.guard_rescues(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_its_part_of_the_memory_as_far_as_the_least_for_data_is_left() {
        const MIB: u64 = 1 << 20;
        assert_eq!(data_bytes(256 * MIB, 116 * MIB), 224 * MIB);
        assert_eq!(data_bytes(120 * MIB, 116 * MIB), 116 * MIB);
        assert_eq!(data_bytes(64 << 30, 116 * MIB), (64 << 30) - OVERHEAD_BYTES_MAX);
    }

    #[test]
    fn what_could_be_done_without_leaves_the_cache_its_least_and_is_bounded() {
        const MIB: u64 = 1 << 20;
        assert_eq!(spare_bytes(240 * MIB, 120 * MIB), 40 * MIB);
        assert_eq!(
            spare_bytes(130 * MIB, 100 * MIB),
            14 * MIB,
            "the largest request and the cache come first"
        );
        assert_eq!(spare_bytes(116 * MIB, 100 * MIB), SPARE_BYTES_MIN);
        assert_eq!(spare_bytes(64 << 30, 32 << 30), SPARE_BYTES_MAX);
    }
}
