//! Why a command failed, with which exit code, and what to do about it.

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
    /// It would do harm, or cannot be done now.
    #[error("{0}")]
    Refused(String),
    /// What was asked for does not exist.
    #[error("{0}")]
    NotFound(String),
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
            CtlError::Data(_) | CtlError::Refused(_) | CtlError::LogDump(LogDumpError::Damaged(_)) => 1,
            CtlError::Usage(_) => 2,
            CtlError::NotFound(_) => 4,
            CtlError::Io { .. } | CtlError::LogDump(_) => 5,
            CtlError::Client(error) => match error {
                ClientError::Connect { .. }
                | ClientError::Connection { .. }
                | ClientError::NoBootstrap
                | ClientError::UnknownBroker { .. } => 3,
                ClientError::NoSuchTopic { .. }
                | ClientError::NoSuchPartition { .. }
                | ClientError::NoSuchGroup { .. } => 4,
                ClientError::Refused { code, .. } => match *code {
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::GROUP_ID_NOT_FOUND => 4,
                    _ => 1,
                },
                ClientError::Protocol { .. } | ClientError::Unsupported { .. } => 1,
            },
        }
    }

    /// What may help, if there is something that the message does not say.
    pub fn advice(&self) -> Option<&'static str> {
        let CtlError::Client(error) = self else {
            return None;
        };
        match error {
            ClientError::Protocol { .. } => {
                Some("is this the port for Kafka clients, and without TLS? The broker's log says which it is")
            }
            ClientError::NoSuchTopic { .. } => {
                Some("'brokerctl topic list' shows all topics, 'brokerctl topic create NAME' makes one")
            }
            ClientError::NoSuchGroup { .. } => Some("'brokerctl group list' shows all groups"),
            ClientError::Refused { code, .. } => code_advice(*code),
            _ => None,
        }
    }
}

fn code_advice(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::TOPIC_ALREADY_EXISTS => {
            "'brokerctl topic alter' changes it; --if-not-exists makes this no failure"
        }
        ErrorCode::INVALID_REPLICATION_FACTOR => {
            "there are not more replicas than brokers: 'brokerctl cluster' shows those"
        }
        ErrorCode::INVALID_PARTITIONS => {
            "partitions can be added, never taken away: 'brokerctl topic describe' shows how many there are"
        }
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => {
            "'brokerctl config set topic NAME max.message.bytes=…' allows larger ones; --compression may make them smaller"
        }
        ErrorCode::OFFSET_OUT_OF_RANGE => {
            "'brokerctl topic describe NAME' shows which offsets are there; --from earliest begins at the first"
        }
        ErrorCode::NON_EMPTY_GROUP | ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::REBALANCE_IN_PROGRESS => {
            "the group has members: stop them first; 'brokerctl group describe NAME' shows them"
        }
        ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC => {
            "stop the members that read this topic first; 'brokerctl group describe NAME' shows them"
        }
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL => {
            "the group's members speak a protocol of their own, such as Connect's: read with another group, or without one"
        }
        ErrorCode::GROUP_MAX_SIZE_REACHED => {
            "the broker's setting group.max.size (consumer.group.max.size) limits it"
        }
        ErrorCode::INVALID_CONFIG => {
            "'brokerctl config get KIND NAME --all --verbose' shows all settings with their types and meaning"
        }
        ErrorCode::NOT_ENOUGH_REPLICAS | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND => {
            "fewer replicas are in sync than min.insync.replicas: 'brokerctl topic describe NAME' shows them"
        }
        ErrorCode::POLICY_VIOLATION => "a policy of the broker forbids it: the broker's log says more",
        ErrorCode::REQUEST_TIMED_OUT => "the broker is busy: --timeout gives it longer",
        _ => return None,
    })
}
