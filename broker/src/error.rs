//! Why the broker does not start, or stops.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::{ConfigError, HostPort};

/// Each message is the paragraph that the operator reads: what happened, to what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system cannot run the broker as configured.
    #[error("{0}")]
    Unsuitable(String),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({setting}): {source}{}", hint_for_listen(.source))]
    Listen {
        /// `listen` or `admin`.
        setting: &'static str,
        /// The address as configured.
        address: HostPort,
        /// What the system said.
        source: io::Error,
    },
    /// The data directory cannot be used.
    #[error(
        "cannot use the data directory {path}: {source}. Check that it exists, is writable for this user and lies on a file system with direct I/O (not tmpfs); --data-dir names another"
    )]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A thread cannot be started, or another basic call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A shard ended without being asked to.
    #[error("shard {shard} has stopped: {reason}")]
    ShardStopped {
        /// Which.
        shard: usize,
        /// Why.
        reason: String,
    },
}

fn hint_for_listen(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            ". Another process uses the port (ss -ltnp shows which); stop it or choose another address".into()
        }
        io::ErrorKind::AddrNotAvailable => {
            ". This machine does not have that address; 0.0.0.0 listens on all".into()
        }
        io::ErrorKind::PermissionDenied => {
            ". Ports below 1024 need the capability CAP_NET_BIND_SERVICE".into()
        }
        _ => String::new(),
    }
}

impl Error {
    /// An operating system call that failed while doing `what`.
    pub fn system(what: impl Into<String>, source: io::Error) -> Self {
        Error::System { what: what.into(), source }
    }

    /// Listening on `address` failed.
    pub fn listen(setting: &'static str, address: &HostPort, source: io::Error) -> Self {
        Error::Listen { setting, address: address.clone(), source }
    }
}

/// An address as `host:port`.
impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> Self {
        HostPort { host: address.ip().to_string(), port: address.port() }
    }
}
