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
    #[error("{address} does not serve {api} in a version that brokerctl speaks")]
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
    #[error("there is no topic '{name}'{}", did_you_mean(.nearest.as_deref()))]
    NoSuchTopic {
        /// Its name.
        name: String,
        /// A topic with almost this name.
        nearest: Option<String>,
    },
    /// The topic has no such partition.
    #[error("topic '{topic}' has no partition {partition}: it has {count}, numbered from 0")]
    NoSuchPartition {
        /// The topic.
        topic: String,
        /// The number asked for.
        partition: i32,
        /// How many there are.
        count: usize,
    },
    /// The group does not exist.
    #[error("there is no group '{name}'{}", did_you_mean(.nearest.as_deref()))]
    NoSuchGroup {
        /// Its id.
        name: String,
        /// A group with almost this name.
        nearest: Option<String>,
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

impl ClientError {
    /// The error code, if a broker has given one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether trying again may help.
    pub fn is_passing(&self) -> bool {
        match self {
            ClientError::Connect { .. }
            | ClientError::Connection { .. }
            | ClientError::UnknownBroker { .. } => true,
            ClientError::Refused { code, .. } => code.is_retriable(),
            _ => false,
        }
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!("; did you mean '{nearest}'?")).unwrap_or_default()
}

/// The one of `known` that looks most like `name`, if any looks like it.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let distance = |known: &'a str| (strsim::damerau_levenshtein(name, known), known);
    let (distance, best) = known.into_iter().map(distance).min()?;
    (distance <= 1 + name.len() / 4).then(|| best.to_owned())
}

/// An error code with the broker's words, or with Kafka's own if it had none.
pub fn code_text(code: ErrorCode, message: Option<&str>) -> String {
    match message {
        Some(message) if !message.is_empty() => {
            format!("{} ({})", message.trim_end_matches('.'), code.name())
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_one_that_looks_alike() {
        let known = ["orders", "payments", "orders-eu"];
        assert_eq!(nearest("ordres", known).as_deref(), Some("orders"));
        assert_eq!(nearest("order", known).as_deref(), Some("orders"));
        assert_eq!(nearest("greetings", known), None);
        assert_eq!(nearest("x", []), None);
    }
}
