//! What can go wrong between a tool and a broker.

use std::io;

use protocol::error::ErrorCode;

/// Why a request failed; texts say what happened, to what, and where possible what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No address was given.
    #[error("no broker to start from: give --bootstrap host:port")]
    NoBootstrap,
    /// No connection could be made.
    #[error(
        "cannot reach {address}: {source}. Is a broker listening there? (--bootstrap, BOOTSTRAP_SERVERS)"
    )]
    Connect {
        /// Where to.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// A connection broke, or an answer did not come in time.
    #[error("the connection to {address} failed: {source}")]
    Connection {
        /// Whose.
        address: String,
        /// How.
        source: io::Error,
    },
    /// The peer's bytes are no answer of a Kafka broker.
    #[error("{address} does not answer like a Kafka broker: {reason}")]
    Protocol {
        /// Who.
        address: String,
        /// What was wrong.
        reason: String,
    },
    /// The broker serves no version of a request that we know.
    #[error("{address} does not serve {api}")]
    Unsupported {
        /// Who.
        address: String,
        /// Kafka's name of the request.
        api: &'static str,
    },
    /// Metadata does not know this broker.
    #[error("broker {id} is not known to the cluster (it may be down)")]
    UnknownBroker {
        /// The broker's id.
        id: i32,
    },
    /// The topic does not exist.
    #[error("there is no topic '{name}'")]
    NoSuchTopic {
        /// Its name.
        name: String,
    },
    /// The broker refused.
    #[error("{what}: {}", code_text(*.code, .message.as_deref()))]
    Refused {
        /// What was asked.
        what: String,
        /// Kafka's error code.
        code: ErrorCode,
        /// The broker's own words, if it had any.
        message: Option<String>,
    },
}

/// An error code with the broker's words, or with Kafka's own if it had none.
pub fn code_text(code: ErrorCode, message: Option<&str>) -> String {
    match message {
        Some(message) if !message.is_empty() => format!("{message} ({})", code.name()),
        _ => format!("{} ({})", code.message().trim_end_matches('.'), code.name()),
    }
}

/// Fails with what the broker said, unless the code says that all went well.
pub fn check(what: impl FnOnce() -> String, code: i16, message: Option<&str>) -> Result<(), ClientError> {
    let code = ErrorCode(code);
    if code.is_none() {
        return Ok(());
    }
    Err(ClientError::Refused { what: what(), code, message: message.map(str::to_owned) })
}
