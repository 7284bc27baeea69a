//! A small blocking Kafka client for command-line tools: one connection per broker, one request at a time on each.

mod connection;
mod error;
mod topics;

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::messages::MetadataRequest;

pub use connection::Connection;
pub use error::{ClientError, code_text};
pub use topics::{OffsetSpec, Partition, Topic};

/// Connections to a cluster's brokers, made when they are needed.
pub struct Client {
    bootstrap: Vec<String>,
    timeout: Duration,
    connections: BTreeMap<String, Connection>,
    brokers: BTreeMap<i32, String>,
}

impl Client {
    /// A client that starts from `bootstrap` (`host:port` each) and gives every request `timeout`.
    pub fn new(bootstrap: Vec<String>, timeout: Duration) -> Client {
        Client { bootstrap, timeout, connections: BTreeMap::new(), brokers: BTreeMap::new() }
    }

    /// The time that each request is given.
    pub fn timeout(&self) -> Duration {
        self.timeout
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

    /// Forgets the connections, for example after one broke.
    pub fn reset(&mut self) {
        self.connections.clear();
        self.brokers.clear();
    }

    fn refresh_brokers(&mut self) -> Result<(), ClientError> {
        let response =
            self.any()?.call(&MetadataRequest { topics: Some(Vec::new()), ..Default::default() })?;
        let brokers: BTreeMap<i32, String> = response
            .brokers
            .iter()
            .map(|broker| (broker.node_id, format!("{}:{}", broker.host, broker.port)))
            .collect();
        self.brokers = brokers;
        Ok(())
    }
}
