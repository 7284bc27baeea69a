//! All connections of one shard: what they share, and the sweeper that closes those which are idle or stuck.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use ahash::AHashMap;
use bytes::Bytes;
use futures::future::LocalBoxFuture;

use super::connection::{CloseReason, Connection, DispatchOutcome};
use super::moving::MovedConnection;
use super::receive_buffers::ReceiveBuffers;
use super::zero_copy::ZeroCopyCounters;
use crate::budget::Budget;
use crate::config::{Config, ZeroCopy};
use crate::metrics::{Counter, RequestMetrics, Samples};
use crate::placement::ShardId;
use crate::runtime::Pulse;

/// How often the sweeper looks at all connections.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How long abandoned connections may take to go.
const ABANDONING: Duration = Duration::from_secs(2);

/// What one connection may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// `socket.request.max.bytes`
    pub frame_bytes_max: usize,
    /// Connections of the whole broker.
    pub connections_max: usize,
    /// Requests of one connection in progress.
    pub in_flight_max: usize,
    /// Answers waiting for one socket, beyond which the connection is not read.
    pub queued_response_bytes: usize,
    /// Neither sending nor awaiting anything.
    pub idle: Duration,
    /// Stuck inside a request, or not taking answers.
    pub stall: Duration,
    /// Whether connections move to the shard that most of their traffic is for.
    pub moves: bool,
    /// Where answers are sent without copying.
    pub zero_copy: ZeroCopy,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Limits {
            frame_bytes_max: config.socket_request_max_bytes as usize,
            connections_max: config.max_connections as usize,
            in_flight_max: config.connection_in_flight_max as usize,
            queued_response_bytes: config.connection_queued_response_bytes.0 as usize,
            idle: Duration::from_millis(config.connections_max_idle_ms),
            stall: Duration::from_millis(config.connection_stall_timeout_ms),
            moves: config.connection_moves,
            zero_copy: config.socket_zero_copy,
        }
    }
}

/// Answers one request; polled once as soon as the request is there, in the order of receipt.
pub type Dispatch = dyn Fn(&Rc<Connection>, Bytes) -> LocalBoxFuture<'static, DispatchOutcome>;

/// Whether requests must stay in the sockets for now; if so, the task is woken later.
pub type Congestion = dyn Fn(&mut Context<'_>) -> bool;

/// Gives a connection to another shard, which calls [`MovedConnection::arrive`].
pub type HandOver = dyn Fn(ShardId, MovedConnection);

/// What connections need from the rest of the broker.
pub struct Services {
    /// Answers requests.
    pub dispatch: Box<Dispatch>,
    /// Says when to stop reading.
    pub congestion: Box<Congestion>,
    /// Is told every request's key and how long it took.
    pub record_request: Box<dyn Fn(i16, Duration)>,
    /// Takes connections to other shards.
    pub hand_over: Box<HandOver>,
}

/// What all connections of a shard share.
pub struct Net {
    pub(super) shard: ShardId,
    pub(super) limits: Limits,
    pub(super) services: Services,
    pub(super) budget: Budget,
    pub(super) pulse: Arc<Pulse>,
    pub(super) receive_buffers: ReceiveBuffers,
    pub(super) counters: NetCounters,
    pub(super) zero_copy_counters: ZeroCopyCounters,
    /// Closed connections whose memory the kernel still reads from.
    pub(super) lingering: Cell<usize>,
    /// `max.connections`, which can change while clients are connected.
    connections_max: Cell<usize>,
    connections: RefCell<AHashMap<u64, Rc<Connection>>>,
    open_in_broker: Arc<AtomicUsize>,
    next_id: Cell<u64>,
    started: Instant,
    drained: RefCell<Vec<Waker>>,
    stopping: Cell<bool>,
    abandoning: Cell<bool>,
}

/// One shard's socket counters.
#[derive(Debug, Default)]
pub(super) struct NetCounters {
    pub accepted: Counter,
    pub refused: Counter,
    pub moved_away: Counter,
    pub moved_here: Counter,
    pub closed_for_garbage: Counter,
    pub closed_idle: Counter,
    pub closed_stalled: Counter,
    pub received_bytes: Counter,
    pub sent_bytes: Counter,
    pub receives: Counter,
    pub copied_bytes: Counter,
    pub sends: Counter,
}

impl Net {
    /// `open_in_broker` counts the connections of all shards together.
    pub fn new(
        shard: ShardId,
        limits: Limits,
        budget: Budget,
        pulse: Arc<Pulse>,
        open_in_broker: Arc<AtomicUsize>,
        services: Services,
    ) -> Rc<Net> {
        Rc::new(Net {
            shard,
            connections_max: Cell::new(limits.connections_max),
            limits,
            services,
            budget,
            pulse,
            receive_buffers: ReceiveBuffers::default(),
            counters: NetCounters::default(),
            zero_copy_counters: ZeroCopyCounters::default(),
            lingering: Cell::new(0),
            connections: RefCell::default(),
            open_in_broker,
            next_id: Cell::new(0),
            started: Instant::now(),
            drained: RefCell::default(),
            stopping: Cell::new(false),
            abandoning: Cell::new(false),
        })
    }

    /// `max.connections` has changed; connections that are open stay.
    pub fn set_connections_max(&self, connections_max: usize) {
        self.connections_max.set(connections_max);
    }

    /// Milliseconds since this shard's sockets were opened.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn next_connection_id(&self) -> u64 {
        self.next_id.replace(self.next_id.get() + 1)
    }

    /// Takes the connection in, unless there are too many or the broker is stopping.
    pub(super) fn admit(&self, connection: &Rc<Connection>) -> bool {
        if self.stopping.get()
            || self.open_in_broker.fetch_add(1, Ordering::Relaxed) >= self.connections_max.get()
        {
            if !self.stopping.get() {
                self.open_in_broker.fetch_sub(1, Ordering::Relaxed);
            }
            self.counters.refused.increment();
            return false;
        }
        self.counters.accepted.increment();
        self.connections.borrow_mut().insert(connection.id, connection.clone());
        true
    }

    /// Takes in a connection that another shard has let go of; it counts in the broker already. False: the broker is stopping, and it is closed.
    pub(super) fn take_over(&self, connection: &Rc<Connection>) -> bool {
        if self.stopping.get() {
            self.open_in_broker.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.counters.moved_here.increment();
        self.connections.borrow_mut().insert(connection.id, connection.clone());
        true
    }

    /// Lets another shard go on with the connection.
    pub(super) fn hand_over(&self, connection: &Connection, target: ShardId, moved: MovedConnection) {
        tracing::debug!(peer = %connection.peer, from = %self.shard, to = %target, "connection moves to another shard");
        self.counters.moved_away.increment();
        self.remove(connection);
        (self.services.hand_over)(target, moved);
    }

    pub(super) fn forget(&self, connection: &Connection) {
        self.open_in_broker.fetch_sub(1, Ordering::Relaxed);
        self.remove(connection);
    }

    fn remove(&self, connection: &Connection) {
        self.connections.borrow_mut().remove(&connection.id);
        self.tell_if_drained();
    }

    pub(super) fn tell_if_drained(&self) {
        if self.is_drained() {
            self.drained.take().into_iter().for_each(Waker::wake);
        }
    }

    fn is_drained(&self) -> bool {
        self.connections.borrow().is_empty() && self.lingering.get() == 0
    }

    /// Whether the broker stops and does not wait for clients any more.
    pub(super) fn is_abandoning(&self) -> bool {
        self.abandoning.get()
    }

    /// Open connections of this shard.
    pub fn open(&self) -> usize {
        self.connections.borrow().len()
    }

    /// Closes idle and stuck connections, for ever. Spawn it once.
    pub async fn sweep(self: Rc<Self>) {
        loop {
            crate::runtime::sleep(SWEEP_INTERVAL).await;
            self.sweep_once(self.now_ms());
        }
    }

    pub(super) fn sweep_once(&self, now_ms: u64) {
        let (idle_ms, stall_ms) = (self.limits.idle.as_millis() as u64, self.limits.stall.as_millis() as u64);
        for connection in self.connections.borrow().values() {
            let quiet_ms = now_ms.saturating_sub(connection.progress_ms.get());
            if connection.is_waiting_for_client.get() && quiet_ms > stall_ms {
                connection.request_close(CloseReason::Stalled);
            } else if connection.in_flight.get() == 0 && quiet_ms > idle_ms {
                connection.request_close(CloseReason::Idle);
            }
        }
    }

    /// Reads no further requests, finishes those in progress, closes; connections that take longer than `limit` are closed anyhow.
    pub async fn drain(&self, limit: Duration) {
        self.stopping.set(true);
        let close_all = |reason: fn() -> CloseReason| {
            self.connections.borrow().values().for_each(|connection| connection.request_close(reason()));
        };
        close_all(|| CloseReason::Stopping);
        if crate::runtime::timeout(limit, self.empty()).await.is_none() {
            tracing::warn!(connections = self.open(), "requests in progress at shutdown were abandoned");
            self.abandoning.set(true);
            close_all(|| CloseReason::Abandoned);
            // What the kernel does not let go of even then is left to it.
            crate::runtime::timeout(ABANDONING, self.empty()).await;
        }
    }

    async fn empty(&self) {
        std::future::poll_fn(|cx| {
            if self.is_drained() {
                return std::task::Poll::Ready(());
            }
            self.drained.borrow_mut().push(cx.waker().clone());
            std::task::Poll::Pending
        })
        .await;
    }

    /// Adds this shard's socket counters.
    pub fn collect(&self, shard: &str, samples: &mut Samples) {
        let labels = [("shard", shard)];
        samples.gauge(
            "kafka_server_socket_server_metrics_connection_count",
            "Open client connections.",
            &labels,
            self.open() as f64,
        );
        let counters = [
            ("connection_creation", "Connections accepted.", &self.counters.accepted),
            (
                "connection_refused",
                "Connections closed because of max.connections or shutdown.",
                &self.counters.refused,
            ),
            (
                "connection_garbage",
                "Connections closed because of what they sent.",
                &self.counters.closed_for_garbage,
            ),
            ("expired_connections_killed", "Connections closed for being idle.", &self.counters.closed_idle),
            (
                "connection_stalled",
                "Connections closed because they were stuck.",
                &self.counters.closed_stalled,
            ),
            ("incoming_byte", "Bytes received.", &self.counters.received_bytes),
            ("outgoing_byte", "Bytes sent.", &self.counters.sent_bytes),
            (
                "connection_moved_away",
                "Connections given to the shard that most of their traffic was for.",
                &self.counters.moved_away,
            ),
            ("connection_moved_here", "Connections taken over from other shards.", &self.counters.moved_here),
            (
                "zero_copy_send_calls",
                "Sends from memory that the kernel reads later.",
                &self.zero_copy_counters.sends,
            ),
            ("zero_copy_byte", "Bytes of those sends.", &self.zero_copy_counters.sent_bytes),
            (
                "zero_copy_completed",
                "Such sends that the kernel has done with.",
                &self.zero_copy_counters.completed,
            ),
            (
                "zero_copy_copied",
                "Such sends that the kernel has copied after all.",
                &self.zero_copy_counters.copied,
            ),
            (
                "zero_copy_switched_off",
                "Connections that went back to ordinary sends for that reason.",
                &self.zero_copy_counters.switched_off,
            ),
            ("receive_calls", "System calls for receiving.", &self.counters.receives),
            (
                "copied_byte",
                "Bytes of requests that were copied after they had been received.",
                &self.counters.copied_bytes,
            ),
            ("send_calls", "System calls for sending.", &self.counters.sends),
        ];
        for (name, help, counter) in counters {
            samples.counter(
                &format!("kafka_server_socket_server_metrics_{name}_total"),
                help,
                &labels,
                counter.get(),
            );
        }
    }
}

/// Counts requests in the given metrics.
pub fn recorder(metrics: Rc<impl AsRef<RequestMetrics> + 'static>) -> Box<dyn Fn(i16, Duration)> {
    Box::new(move |key, took| (*metrics).as_ref().record(key, took))
}
