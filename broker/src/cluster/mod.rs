//! Links between the nodes of a cluster: TCP between two processes that have proved to each other that they know the cluster's secret.
//!
//! - [`secret`]: the secret, and what is proved with it;
//! - [`handshake`]: the messages with which a link begins, byte by byte;
//! - [`frame`]: what goes over it afterwards, and its limits;
//! - [`link`]: an open link: frames out, frames in;
//! - [`dial`]: opens links, and opens them again;
//! - [`accept`]: takes links in, and hands them to whoever serves their [`Purpose`].
//!
//! Whoever wants to talk dials: [`connect`] gives a [`Link`] to a node as soon as there is one. Whoever wants to listen registers with
//! [`Cluster::serve`]; a link arrives on the shard that the kernel has given it to, so the same handler has to be registered on every shard that
//! shall take links. Links for replication go on from there to the shard that most likely owns what they bring ([`Cluster::share`]). A link is one
//! ordered stream in both directions; it says when it is broken, and is never repaired: what was under way on it is for its user to repeat.
//!
//! The secret keeps strangers and mistakes out. It does not hide what is sent, nor protect it from somebody who can alter packets on their way: the
//! internal listener belongs in a private network.

pub mod accept;
pub mod dial;
pub mod frame;
pub mod handshake;
pub mod link;
pub mod secret;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use coord::types::BrokerId;
use glommio::net::TcpStream;
use uuid::Uuid;

pub use accept::listen;
pub use dial::{Backoff, connect, dial};
pub use link::Link;
pub use secret::Secret;

use crate::budget::Budget;
use crate::config::{Config, HostPort};
use crate::metrics::Counter;
use crate::net::socket;
use crate::placement::ShardId;
use crate::runtime::Pulse;

/// The name under which a broker's registration has the address of its internal listener.
pub const CLUSTER_LISTENER: &str = "CLUSTER";

/// What a link is for. Its two ends agree on it in the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Messages of the metadata quorum, from the dialer to the acceptor; each frame is one.
    Quorum,
    /// Requests of the dialer to the active controller, and its answers.
    Control,
    /// Batches from a leader's shard to a follower's node, and acknowledgements.
    Replication,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Purpose; 3] = [Purpose::Quorum, Purpose::Control, Purpose::Replication];

    fn wire(self) -> u8 {
        match self {
            Purpose::Quorum => 1,
            Purpose::Control => 2,
            Purpose::Replication => 3,
        }
    }

    fn from_wire(number: u8) -> Option<Purpose> {
        Purpose::ALL.into_iter().find(|purpose| purpose.wire() == number)
    }
}

/// Why there is no link, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The node's address is not known.
    #[error("the address of node {0} is not known")]
    UnknownNode(BrokerId),
    /// This node is by itself.
    #[error("this node belongs to no cluster")]
    NoCluster,
    /// The connection could not be made, or broke.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The other side did not say what it has to in time.
    #[error("the other side is silent")]
    Silent,
    /// The other side does not know the secret, or is no node at all.
    #[error("the other side does not prove that it knows the cluster's secret")]
    NotProved,
    /// The other side said something that it should not.
    #[error("the other side breaks the rules: {0}")]
    Garbage(String),
    /// The other side has proved itself and does not want the link.
    #[error("refused by the other side: {0}")]
    Refused(handshake::Verdict),
    /// This side does not want the link.
    #[error("refused: {0}")]
    Unwanted(handshake::Verdict),
    /// The link was closed.
    #[error("the link is closed")]
    Closed,
}

/// What is the same on all shards of a node that belongs to a cluster.
#[derive(Debug, Clone)]
pub struct ClusterInfo {
    /// This node.
    pub me: BrokerId,
    /// By it the nodes know each other.
    pub secret: Secret,
    /// Where the internal listener is, with the actual port.
    pub address: SocketAddr,
    /// Where others reach it.
    pub advertised: HostPort,
}

/// Where the internal listener has to be; none on a node by itself.
pub fn listen_address(config: &Config) -> Option<&HostPort> {
    if config.controller_quorum_voters.is_empty() {
        return None;
    }
    config.cluster_listen.as_ref().or_else(|| config.voter_address())
}

/// Reads the secret, and works out what others are told.
pub fn info(config: &Config, address: SocketAddr) -> Result<ClusterInfo, String> {
    let file: &PathBuf = config.cluster_secret_file.as_ref().expect("checked with the configuration");
    let listened = config.cluster_listen.as_ref();
    let advertised = match (config.voter_address(), &config.cluster_advertise, listened) {
        (Some(voter), ..) => voter.clone(),
        (None, Some(advertised), _) => advertised.clone(),
        (None, None, listened) => {
            let host = listened.map_or_else(|| address.ip().to_string(), |listened| listened.host.clone());
            HostPort { host, port: address.port() }
        }
    };
    Ok(ClusterInfo { me: BrokerId(config.node_id), secret: Secret::read(file)?, address, advertised })
}

/// Takes a link that another node has opened.
pub type Handler = dyn Fn(Rc<Link>);

/// A link that has been taken in, on its way to the shard that serves it.
pub struct MovedLink {
    socket: OwnedFd,
    peer: BrokerId,
    purpose: Purpose,
}

/// Gives a link to another shard, which calls [`Cluster::adopt`].
pub type HandOver = dyn Fn(ShardId, MovedLink);

/// The shards of this node.
struct Neighbours {
    shards: usize,
    hand_over: Box<HandOver>,
}

/// One shard's side of the cluster's links.
pub struct Cluster {
    /// None on a node by itself.
    info: Option<ClusterInfo>,
    /// The shard.
    home: ShardId,
    /// `socket.request.max.bytes`
    request_bytes_max: usize,
    budget: Budget,
    pulse: Arc<Pulse>,
    handlers: RefCell<[Option<Rc<Handler>>; 3]>,
    neighbours: RefCell<Option<Neighbours>>,
    cluster_id: Cell<Uuid>,
    /// Attempts of others to open a link that are under way.
    attempts: Cell<usize>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    dialed: Counter,
    accepted: Counter,
    refused: Counter,
}

impl Cluster {
    /// Without links, and without a cluster that it knows.
    pub fn new(
        info: Option<ClusterInfo>,
        home: ShardId,
        request_bytes_max: usize,
        budget: Budget,
        pulse: Arc<Pulse>,
    ) -> Rc<Cluster> {
        Rc::new(Cluster {
            info,
            home,
            request_bytes_max,
            budget,
            pulse,
            handlers: RefCell::default(),
            neighbours: RefCell::default(),
            cluster_id: Cell::new(Uuid::nil()),
            attempts: Cell::new(0),
            counters: Counters::default(),
        })
    }

    /// A link on a stream whose other side has proved itself.
    fn open(&self, stream: TcpStream, peer: BrokerId, purpose: Purpose) -> Rc<Link> {
        let payload_bytes_max = frame::payload_bytes_max(purpose, self.request_bytes_max);
        Rc::new(Link::new(stream, peer, purpose, payload_bytes_max, self.budget.clone()))
    }

    /// From now on links of this purpose that arrive on this shard are given to `handler`, which spawns what serves them.
    pub fn serve(&self, purpose: Purpose, handler: impl Fn(Rc<Link>) + 'static) {
        self.handlers.borrow_mut()[usize::from(purpose.wire()) - 1] = Some(Rc::new(handler));
    }

    /// From now on links for replication that arrive on this shard go to the one that has the dialing shard's number, modulo `shards`: between nodes with as
    /// many shards a partition has the same owner on both, so nothing of it crosses from core to core.
    pub fn share(&self, shards: usize, hand_over: impl Fn(ShardId, MovedLink) + 'static) {
        *self.neighbours.borrow_mut() = Some(Neighbours { shards, hand_over: Box::new(hand_over) });
    }

    /// Serves a link that another shard of this node has taken in.
    pub fn adopt(&self, moved: MovedLink) {
        // Not open yet: the dialer tries again.
        let Some(handler) = self.handler(moved.purpose) else { return };
        handler(self.open(socket::adopt(moved.socket), moved.peer, moved.purpose));
    }

    fn handler(&self, purpose: Purpose) -> Option<Rc<Handler>> {
        self.handlers.borrow()[usize::from(purpose.wire()) - 1].clone()
    }

    /// The cluster is known from now on: nodes of another one are refused.
    pub fn know(&self, cluster_id: Uuid) {
        self.cluster_id.set(cluster_id);
    }

    /// The cluster; nil as long as it is not known.
    pub fn cluster_id(&self) -> Uuid {
        self.cluster_id.get()
    }

    /// Adds this shard's metrics.
    pub fn collect(&self, shard: &str, samples: &mut crate::metrics::Samples) {
        let labels = [("shard", shard)];
        let Counters { dialed, accepted, refused } = &self.counters;
        samples.counter("broker_links_dialed_total", "Links opened to other nodes.", &labels, dialed.get());
        samples.counter(
            "broker_links_accepted_total",
            "Links opened by other nodes.",
            &labels,
            accepted.get(),
        );
        samples.counter(
            "broker_links_refused_total",
            "Attempts to open a link that were refused: wrong secret, wrong cluster, garbage.",
            &labels,
            refused.get(),
        );
    }
}
