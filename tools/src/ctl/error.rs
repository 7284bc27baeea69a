//! Why a command failed, and with which exit code.

use std::io;

use protocol::error::ErrorCode;

use crate::client::ClientError;
use crate::log_dump::LogDumpError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// Talking to the broker failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Looking into files failed, or something in them is damaged.
    #[error(transparent)]
    LogDump(#[from] LogDumpError),
    /// An option does not fit.
    #[error("{0}")]
    Usage(String),
    /// What was read is not as it should be.
    #[error("{0}")]
    Data(String),
    /// A file or stream failed.
    #[error("{what}: {source}")]
    Io {
        /// Which.
        what: String,
        /// How.
        source: io::Error,
    },
}

impl CtlError {
    /// Standard output could not be written.
    pub fn stdout(source: io::Error) -> CtlError {
        CtlError::Io { what: "standard output".to_owned(), source }
    }

    /// The exit code, as `--help` documents it.
    pub fn exit_code(&self) -> u8 {
        match self {
            CtlError::Data(_) | CtlError::LogDump(LogDumpError::Damaged(_)) => 1,
            CtlError::LogDump(_) => 5,
            CtlError::Usage(_) => 2,
            CtlError::Io { .. } => 5,
            CtlError::Client(error) => match error {
                ClientError::Connect { .. }
                | ClientError::Connection { .. }
                | ClientError::NoBootstrap
                | ClientError::UnknownBroker { .. } => 3,
                ClientError::NoSuchTopic { .. } => 4,
                ClientError::Refused { code, .. } if *code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => 4,
                ClientError::Refused { .. }
                | ClientError::Protocol { .. }
                | ClientError::Unsupported { .. } => 1,
            },
        }
    }
}
