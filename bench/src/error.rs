//! Everything that can end a run early; each text says what happened, to what, and where possible what to do.

use std::io;
use std::path::PathBuf;

/// Why a run could not be done.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// An option does not fit the others or the machine.
    #[error("{0}")]
    Option(String),
    /// No connection could be made.
    #[error("cannot reach {address}: {source}")]
    Connect {
        /// Where to.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// A connection broke.
    #[error("the connection to {address} broke: {source}")]
    Connection {
        /// Whose.
        address: String,
        /// How.
        source: io::Error,
    },
    /// The broker's bytes make no sense.
    #[error("{address} sent an answer that cannot be read: {reason}")]
    Protocol {
        /// Who.
        address: String,
        /// What was wrong.
        reason: String,
    },
    /// The broker refused something that the run cannot do without.
    #[error("{what}: {code}{message}")]
    Refused {
        /// What was asked.
        what: String,
        /// Kafka's name of the error.
        code: String,
        /// The broker's own words, with a leading separator, or nothing.
        message: String,
    },
    /// A file that was named cannot be used.
    #[error("cannot read {path}: {reason}")]
    Input {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A result file could not be written.
    #[error("cannot write {path}: {source}")]
    Output {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A limit could not be measured.
    #[error("cannot measure {what}: {source}")]
    Limit {
        /// Which one.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// What was read is not what was written.
    #[error("verification failed: {0}")]
    Verification(String),
    /// The run came to its end, and its figures are not those of the load that was asked for.
    #[error("the run failed: {0}")]
    Failed(String),
}

impl BenchError {
    /// Whether it may do better to try once more.
    pub fn may_pass(&self) -> bool {
        match self {
            BenchError::Connect { .. } | BenchError::Connection { .. } => true,
            BenchError::Refused { code, .. } => code == "LEADER_NOT_AVAILABLE",
            _ => false,
        }
    }
}
