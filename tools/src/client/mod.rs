//! A small blocking Kafka client for command-line tools: one connection per broker, one request at a time on each.
//!
//! | file | owns |
//! |---|---|
//! | `connection` | one socket: versions, requests, answers |
//! | `topics` | metadata and offsets of topics |
//! | `cluster` | brokers, the metadata quorum, replicas that move, elections |
//! | `groups`, `group_offsets` | groups at their coordinators; what they have committed |
//! | `member` | membership in a group (KIP-848) |
//! | `configs` | configuration of topics, brokers and groups |
//! | `storage` | log folders, deletion of records |
//! | `error` | why a request failed |

mod cluster;
mod configs;
mod connection;
mod error;
mod group_offsets;
mod groups;
mod member;
mod storage;
mod topics;

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use protocol::client::broker_addresses;
use protocol::messages::MetadataRequest;

pub use protocol::client::{Partition, Topic, TopicPartition};

pub use cluster::{ClusterBroker, ClusterDescription, Election, Quorum, QuorumMember, Reassignment};
pub use configs::{ConfigChange, ConfigEntry, ConfigOperation, ConfigResource, ResourceKind};
pub use connection::Connection;
pub use error::{ClientError, check, code_text, nearest};
pub use group_offsets::Committed;
pub use groups::{GroupDescription, GroupListing, GroupMember};
pub use member::{Heartbeat, Member};
pub use storage::{LogDir, ReplicaSize};
pub use topics::{OffsetSpec, choose};

/// Between two tries of a request whose error passes.
pub const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Connections to a cluster's brokers, made when they are needed.
pub struct Client {
    bootstrap: Vec<String>,
    timeout: Duration,
    connections: BTreeMap<String, Connection>,
    brokers: BTreeMap<i32, String>,
    /// The coordinators of groups, as far as they have been asked for.
    coordinators: BTreeMap<String, i32>,
}

impl Client {
    /// A client that starts from `bootstrap` (`host:port` each) and gives every request `timeout`.
    pub fn new(bootstrap: Vec<String>, timeout: Duration) -> Client {
        Client {
            bootstrap,
            timeout,
            connections: BTreeMap::new(),
            brokers: BTreeMap::new(),
            coordinators: BTreeMap::new(),
        }
    }

    /// The time that each request is given.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The same for a request's own field, in ms.
    pub fn timeout_ms(&self) -> i32 {
        i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX)
    }

    /// A connection to any broker: one that is open, or the first bootstrap address that answers.
    pub fn any(&mut self) -> Result<&mut Connection, ClientError> {
        let address = match self.connections.keys().next() {
            Some(address) => address.clone(),
            None => {
                let mut last = ClientError::NoBootstrap;
                let mut found = None;
                for address in &self.bootstrap {
                    match Connection::open(address, self.timeout) {
                        Ok(connection) => {
                            found = Some((address.clone(), connection));
                            break;
                        }
                        Err(error) => last = error,
                    }
                }
                let (address, connection) = found.ok_or(last)?;
                self.connections.insert(address.clone(), connection);
                address
            }
        };
        Ok(self.connections.get_mut(&address).expect("just found or made"))
    }

    /// A connection to the broker with this id, which metadata has named before.
    pub fn broker(&mut self, id: i32) -> Result<&mut Connection, ClientError> {
        if !self.brokers.contains_key(&id) {
            self.refresh_brokers()?;
        }
        let address = self.brokers.get(&id).ok_or(ClientError::UnknownBroker { id })?.clone();
        if !self.connections.contains_key(&address) {
            let connection = Connection::open(&address, self.timeout)?;
            self.connections.insert(address.clone(), connection);
        }
        Ok(self.connections.get_mut(&address).expect("just found or made"))
    }

    /// The brokers of the cluster: their ids, and where they listen.
    pub fn brokers(&mut self) -> Result<BTreeMap<i32, String>, ClientError> {
        self.refresh_brokers()?;
        Ok(self.brokers.clone())
    }

    /// Forgets the connections, for example after one broke.
    pub fn reset(&mut self) {
        self.connections.clear();
        self.brokers.clear();
        self.coordinators.clear();
    }

    fn refresh_brokers(&mut self) -> Result<(), ClientError> {
        let response =
            self.any()?.call(&MetadataRequest { topics: Some(Vec::new()), ..Default::default() })?;
        self.brokers = broker_addresses(&response);
        Ok(())
    }

    /// Repeats `attempt` until it succeeds, fails for good, or the time of a request is over.
    pub fn persist<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Client) -> Result<T, ClientError>,
        is_passing: impl Fn(&ClientError) -> bool,
    ) -> Result<T, ClientError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            match attempt(self) {
                Err(error) if is_passing(&error) && Instant::now() < deadline => sleep(RETRY_PAUSE),
                outcome => return outcome,
            }
        }
    }
}
