//! Who belongs to a cluster, as it stands in the configuration.

use std::fmt;

use coord::config::ConfigType;

use super::values::{HostPort, Value};

/// The controllers of a cluster and where other nodes reach them: `1@host:port,2@host:port`. Empty: this node by itself is the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuorumVoters(pub Vec<QuorumVoter>);

/// One controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumVoter {
    /// Its `node.id`.
    pub id: i32,
    /// Its internal listener, as others reach it.
    pub address: HostPort,
}

impl QuorumVoters {
    /// The address of a voter.
    pub fn address(&self, id: i32) -> Option<&HostPort> {
        self.0.iter().find(|voter| voter.id == id).map(|voter| &voter.address)
    }

    /// Whether there is none: a node by itself.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Value for QuorumVoters {
    fn read(text: &str) -> Result<Self, String> {
        const ALLOWED: &str =
            "a list of ID@HOST:PORT without repetition, such as 1@10.0.0.1:9093,2@10.0.0.2:9093";
        let mut voters: Vec<QuorumVoter> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (id, address) = part.split_once('@').ok_or(ALLOWED)?;
            let id = id.parse().ok().filter(|id: &i32| *id >= 0).ok_or(ALLOWED)?;
            let address = HostPort::read(address).map_err(|_| ALLOWED)?;
            if address.port == 0 || voters.iter().any(|voter| voter.id == id || voter.address == address) {
                return Err(ALLOWED.into());
            }
            voters.push(QuorumVoter { id, address });
        }
        Ok(QuorumVoters(voters))
    }
    fn to_toml(&self) -> String {
        toml::Value::String(self.to_string()).to_string()
    }
    fn to_text(&self) -> Option<String> {
        Some(self.to_string())
    }
    const KIND: ConfigType = ConfigType::List;
}

impl fmt::Display for QuorumVoters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> =
            self.0.iter().map(|voter| format!("{}@{}", voter.id, voter.address)).collect();
        f.write_str(&texts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voters_are_read_as_kafka_writes_them_and_nonsense_is_refused() {
        let voters = QuorumVoters::read("1@a.example:9093, 2@[::1]:9094").unwrap();
        assert_eq!(voters.to_string(), "1@a.example:9093,2@[::1]:9094");
        assert_eq!(voters.address(2).map(|address| address.port), Some(9094));
        assert_eq!(voters.address(3), None);
        assert!(QuorumVoters::read("").unwrap().is_empty());
        for wrong in ["a:1", "1@a", "x@a:1", "-1@a:1", "1@a:0", "1@a:1,1@b:1", "1@a:1,2@a:1"] {
            assert!(QuorumVoters::read(wrong).is_err(), "{wrong}");
        }
    }
}
