//! Why a command was refused.

use protocol::ErrorCode;
use thiserror::Error;

/// A refusal that a client is told about: the variant says which Kafka error code it has ([`CoordError::code`]), the text is Kafka's
/// own wording where users know it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CoordError {
    /// The topic's name breaks the rules or collides with another (INVALID_TOPIC_EXCEPTION).
    #[error("{0}")]
    InvalidTopic(String),
    /// A topic of this name exists (TOPIC_ALREADY_EXISTS).
    #[error("Topic '{0}' already exists.")]
    TopicAlreadyExists(String),
    /// No such topic, looked for by name, or no such partition (UNKNOWN_TOPIC_OR_PARTITION).
    #[error("This server does not host this topic-partition.")]
    UnknownTopicOrPartition,
    /// No such topic or partition; the text says what was looked for (UNKNOWN_TOPIC_OR_PARTITION).
    #[error("{0}")]
    NoSuchTopicOrPartition(String),
    /// No such topic, looked for by id (UNKNOWN_TOPIC_ID).
    #[error("This server does not host this topic ID.")]
    UnknownTopicId,
    /// The number of partitions makes no sense (INVALID_PARTITIONS).
    #[error("{0}")]
    InvalidPartitions(String),
    /// The replication factor makes no sense or cannot be reached (INVALID_REPLICATION_FACTOR).
    #[error("{0}")]
    InvalidReplicationFactor(String),
    /// A manual assignment is inconsistent (INVALID_REPLICA_ASSIGNMENT).
    #[error("{0}")]
    InvalidReplicaAssignment(String),
    /// A config has an unknown name, a value out of range, or one that this broker refuses (INVALID_CONFIG).
    #[error("{0}")]
    InvalidConfig(String),
    /// The request contradicts itself (INVALID_REQUEST).
    #[error("{0}")]
    InvalidRequest(String),
    /// The request is larger than a cluster should be asked for at once (POLICY_VIOLATION).
    #[error("{0}")]
    PolicyViolation(String),
    /// `delete.topic.enable` is off (TOPIC_DELETION_DISABLED).
    #[error("Topic deletion is disabled.")]
    TopicDeletionDisabled,
    /// Another living process has registered this node id (DUPLICATE_BROKER_REGISTRATION).
    #[error("Another broker is registered with broker id {0}.")]
    DuplicateBrokerRegistration(i32),
    /// No broker of this id is registered (BROKER_ID_NOT_REGISTERED).
    #[error("Broker ID {0} is not currently registered")]
    BrokerIdNotRegistered(i32),
    /// The broker's epoch is not that of its current registration (STALE_BROKER_EPOCH).
    #[error("Expected broker epoch {expected}, but got broker epoch {got}.")]
    StaleBrokerEpoch {
        /// The epoch of the current registration.
        expected: i64,
        /// The epoch in the command.
        got: i64,
    },
    /// The partition has the leader that it should have (ELECTION_NOT_NEEDED).
    #[error("Leader election not needed for topic partition.")]
    ElectionNotNeeded,
    /// The preferred leader cannot lead (PREFERRED_LEADER_NOT_AVAILABLE).
    #[error("The preferred leader was not available.")]
    PreferredLeaderNotAvailable,
    /// No replica can lead (ELIGIBLE_LEADERS_NOT_AVAILABLE).
    #[error("Eligible topic partition leaders are not available.")]
    EligibleLeadersNotAvailable,
    /// There is no reassignment that could be cancelled (NO_REASSIGNMENT_IN_PROGRESS).
    #[error("No partition reassignment is in progress.")]
    NoReassignmentInProgress,
    /// A change that was decided by a leader of an earlier epoch, or by somebody who is not the leader (FENCED_LEADER_EPOCH).
    #[error("The leader epoch in the request is older than the epoch on the broker.")]
    FencedLeaderEpoch,
    /// A change of a state that has changed since (INVALID_UPDATE_VERSION).
    #[error("The given update version was invalid.")]
    InvalidPartitionEpoch,
    /// A replica that is to be in sync is fenced, stopping, or not the process that it was (INELIGIBLE_REPLICA).
    #[error("The new ISR contains at least one ineligible replica.")]
    IneligibleReplica,
    /// A request that only a newer controller can answer (NOT_CONTROLLER).
    #[error("This is not the correct controller for this cluster.")]
    NotController,
    /// A feature cannot have the level (INVALID_UPDATE_VERSION).
    #[error("{0}")]
    InvalidUpdateVersion(String),
    /// All producer ids have been handed out (UNKNOWN_SERVER_ERROR).
    #[error("Exhausted all producerIds as the next block's end producerId has exceeded the int64 type limit")]
    ProducerIdsExhausted,
    /// A voter of the metadata quorum with another data directory than it had (INVALID_VOTER_KEY).
    #[error("{0}")]
    InvalidVoterKey(String),
    /// The voter is in the quorum already (DUPLICATE_VOTER).
    #[error("{0}")]
    DuplicateVoter(String),
    /// The voter is not in the quorum (VOTER_NOT_FOUND).
    #[error("{0}")]
    VoterNotFound(String),
}

impl CoordError {
    /// The error code that a client gets.
    pub fn code(&self) -> ErrorCode {
        match self {
            CoordError::InvalidVoterKey(_) => ErrorCode::INVALID_VOTER_KEY,
            CoordError::DuplicateVoter(_) => ErrorCode::DUPLICATE_VOTER,
            CoordError::VoterNotFound(_) => ErrorCode::VOTER_NOT_FOUND,
            CoordError::InvalidTopic(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
            CoordError::TopicAlreadyExists(_) => ErrorCode::TOPIC_ALREADY_EXISTS,
            CoordError::UnknownTopicOrPartition | CoordError::NoSuchTopicOrPartition(_) => {
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            }
            CoordError::UnknownTopicId => ErrorCode::UNKNOWN_TOPIC_ID,
            CoordError::InvalidPartitions(_) => ErrorCode::INVALID_PARTITIONS,
            CoordError::InvalidReplicationFactor(_) => ErrorCode::INVALID_REPLICATION_FACTOR,
            CoordError::InvalidReplicaAssignment(_) => ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            CoordError::InvalidConfig(_) => ErrorCode::INVALID_CONFIG,
            CoordError::InvalidRequest(_) => ErrorCode::INVALID_REQUEST,
            CoordError::PolicyViolation(_) => ErrorCode::POLICY_VIOLATION,
            CoordError::TopicDeletionDisabled => ErrorCode::TOPIC_DELETION_DISABLED,
            CoordError::DuplicateBrokerRegistration(_) => ErrorCode::DUPLICATE_BROKER_REGISTRATION,
            CoordError::BrokerIdNotRegistered(_) => ErrorCode::BROKER_ID_NOT_REGISTERED,
            CoordError::StaleBrokerEpoch { .. } => ErrorCode::STALE_BROKER_EPOCH,
            CoordError::ElectionNotNeeded => ErrorCode::ELECTION_NOT_NEEDED,
            CoordError::PreferredLeaderNotAvailable => ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE,
            CoordError::EligibleLeadersNotAvailable => ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE,
            CoordError::NoReassignmentInProgress => ErrorCode::NO_REASSIGNMENT_IN_PROGRESS,
            CoordError::FencedLeaderEpoch => ErrorCode::FENCED_LEADER_EPOCH,
            CoordError::InvalidPartitionEpoch => ErrorCode::INVALID_UPDATE_VERSION,
            CoordError::IneligibleReplica => ErrorCode::INELIGIBLE_REPLICA,
            CoordError::NotController => ErrorCode::NOT_CONTROLLER,
            CoordError::InvalidUpdateVersion(_) => ErrorCode::INVALID_UPDATE_VERSION,
            CoordError::ProducerIdsExhausted => ErrorCode::UNKNOWN_SERVER_ERROR,
        }
    }
}
