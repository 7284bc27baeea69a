//! Kafka's error codes.

/// An error code as it stands in responses. Any number can arrive; [`name`](ErrorCode::name) tells the known ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorCode(pub i16);

impl ErrorCode {
    /// The number.
    pub const fn code(self) -> i16 {
        self.0
    }

    /// Whether this is [`ErrorCode::NONE`].
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether this is an error.
    pub const fn is_err(self) -> bool {
        self.0 != 0
    }
}

impl From<ErrorCode> for i16 {
    fn from(code: ErrorCode) -> i16 {
        code.0
    }
}

impl From<i16> for ErrorCode {
    fn from(code: i16) -> ErrorCode {
        ErrorCode(code)
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

macro_rules! error_codes {
    ($($name:ident = $code:literal, $retry:ident, $message:literal;)*) => {
        impl ErrorCode {
            $(#[doc = $message] pub const $name: ErrorCode = ErrorCode($code);)*

            /// All known codes, ascending.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name),*];

            /// Kafka's name of the code; `UNKNOWN` if there is none.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($code => stringify!($name),)*
                    _ => "UNKNOWN",
                }
            }

            /// What the code means, for people.
            pub const fn message(self) -> &'static str {
                match self.0 {
                    $($code => $message,)*
                    _ => "An error that this version does not know.",
                }
            }

            /// Whether clients may repeat the request and hope for a better answer.
            pub const fn is_retriable(self) -> bool {
                match self.0 {
                    $($code => error_codes!(@$retry),)*
                    _ => false,
                }
            }
        }
    };
    (@retriable) => { true };
    (@final) => { false };
}

error_codes! {
    UNKNOWN_SERVER_ERROR = -1, final, "The server ran into a problem it did not expect.";
    NONE = 0, final, "No error.";
    OFFSET_OUT_OF_RANGE = 1, final, "The offset is outside the range that the partition holds.";
    CORRUPT_MESSAGE = 2, retriable, "A record batch fails its checksum, has a wrong size or is otherwise damaged.";
    UNKNOWN_TOPIC_OR_PARTITION = 3, retriable, "This broker does not host the topic or partition.";
    INVALID_FETCH_SIZE = 4, final, "The fetch size is invalid.";
    LEADER_NOT_AVAILABLE = 5, retriable, "The partition has no leader at the moment, for example during an election.";
    NOT_LEADER_OR_FOLLOWER = 6, retriable, "This broker is not the leader, or for reads not a replica, of the partition.";
    REQUEST_TIMED_OUT = 7, retriable, "The request took longer than it was allowed to.";
    BROKER_NOT_AVAILABLE = 8, final, "The broker is not available.";
    REPLICA_NOT_AVAILABLE = 9, retriable, "The replica is not available on this broker.";
    MESSAGE_TOO_LARGE = 10, final, "The record batch is larger than the broker accepts.";
    STALE_CONTROLLER_EPOCH = 11, final, "The controller has moved to another broker.";
    OFFSET_METADATA_TOO_LARGE = 12, final, "The metadata of the offset commit is too large.";
    NETWORK_EXCEPTION = 13, retriable, "The connection was lost before an answer arrived.";
    COORDINATOR_LOAD_IN_PROGRESS = 14, retriable, "The coordinator is still loading its state.";
    COORDINATOR_NOT_AVAILABLE = 15, retriable, "The coordinator is not available.";
    NOT_COORDINATOR = 16, retriable, "This broker is not the coordinator of the group or transactional id.";
    INVALID_TOPIC_EXCEPTION = 17, final, "The topic name is invalid, or the operation is not allowed on this topic.";
    RECORD_LIST_TOO_LARGE = 18, final, "The record batch is larger than a log segment.";
    NOT_ENOUGH_REPLICAS = 19, retriable, "Fewer replicas are in sync than required; nothing was written.";
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20, retriable, "The records were written, but to fewer replicas than required.";
    INVALID_REQUIRED_ACKS = 21, final, "The required acks are neither 0, 1 nor -1.";
    ILLEGAL_GENERATION = 22, final, "The generation is not the group's current one.";
    INCONSISTENT_GROUP_PROTOCOL = 23, final, "The member's protocol type or protocols do not fit those of the group.";
    INVALID_GROUP_ID = 24, final, "The group id is invalid.";
    UNKNOWN_MEMBER_ID = 25, final, "The group does not know this member.";
    INVALID_SESSION_TIMEOUT = 26, final, "The session timeout is outside the limits the broker allows.";
    REBALANCE_IN_PROGRESS = 27, final, "The group is rebalancing; the member has to rejoin.";
    INVALID_COMMIT_OFFSET_SIZE = 28, final, "The offset commit is too large to store.";
    TOPIC_AUTHORIZATION_FAILED = 29, final, "Access to the topic is denied.";
    GROUP_AUTHORIZATION_FAILED = 30, final, "Access to the group is denied.";
    CLUSTER_AUTHORIZATION_FAILED = 31, final, "The cluster operation is denied.";
    INVALID_TIMESTAMP = 32, final, "A record's timestamp is outside the range the topic accepts.";
    UNSUPPORTED_SASL_MECHANISM = 33, final, "The broker does not offer this SASL mechanism.";
    ILLEGAL_SASL_STATE = 34, final, "The request does not fit the state of the SASL handshake.";
    UNSUPPORTED_VERSION = 35, final, "The broker does not support this version of the API.";
    TOPIC_ALREADY_EXISTS = 36, final, "A topic with this name exists already.";
    INVALID_PARTITIONS = 37, final, "The number of partitions is invalid.";
    INVALID_REPLICATION_FACTOR = 38, final, "The replication factor is below 1 or above the number of brokers.";
    INVALID_REPLICA_ASSIGNMENT = 39, final, "The replica assignment is invalid.";
    INVALID_CONFIG = 40, final, "The configuration is invalid.";
    NOT_CONTROLLER = 41, retriable, "This is not the active controller.";
    INVALID_REQUEST = 42, final, "The request contradicts itself or the protocol.";
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43, final, "The record format does not support the request.";
    POLICY_VIOLATION = 44, final, "A policy of the broker forbids the request.";
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45, final, "The producer's sequence number does not follow the last one.";
    DUPLICATE_SEQUENCE_NUMBER = 46, final, "The producer's sequence number was used before.";
    INVALID_PRODUCER_EPOCH = 47, final, "The producer's epoch is older than the current one.";
    INVALID_TXN_STATE = 48, final, "The transaction's state does not allow the operation.";
    INVALID_PRODUCER_ID_MAPPING = 49, final, "The producer id does not belong to the transactional id.";
    INVALID_TRANSACTION_TIMEOUT = 50, final, "The transaction timeout is longer than the broker allows.";
    CONCURRENT_TRANSACTIONS = 51, retriable, "Another operation on the same transaction is still running.";
    TRANSACTION_COORDINATOR_FENCED = 52, final, "A newer transaction coordinator has taken over.";
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53, final, "Access to the transactional id is denied.";
    SECURITY_DISABLED = 54, final, "Security features are disabled.";
    OPERATION_NOT_ATTEMPTED = 55, final, "The operation was not tried, because an earlier one of the batch failed.";
    KAFKA_STORAGE_ERROR = 56, retriable, "The disk that holds the partition failed.";
    LOG_DIR_NOT_FOUND = 57, final, "The broker has no such log folder.";
    SASL_AUTHENTICATION_FAILED = 58, final, "Authentication failed.";
    UNKNOWN_PRODUCER_ID = 59, final, "The broker has no state of this producer.";
    REASSIGNMENT_IN_PROGRESS = 60, final, "A reassignment of the partition is running.";
    DELEGATION_TOKEN_AUTH_DISABLED = 61, final, "Delegation tokens are disabled.";
    DELEGATION_TOKEN_NOT_FOUND = 62, final, "There is no such delegation token.";
    DELEGATION_TOKEN_OWNER_MISMATCH = 63, final, "The principal is neither owner nor renewer of the token.";
    DELEGATION_TOKEN_REQUEST_NOT_ALLOWED = 64, final, "Delegation tokens cannot be requested over this connection.";
    DELEGATION_TOKEN_AUTHORIZATION_FAILED = 65, final, "Access to the delegation token is denied.";
    DELEGATION_TOKEN_EXPIRED = 66, final, "The delegation token has expired.";
    INVALID_PRINCIPAL_TYPE = 67, final, "The type of the principal is not supported.";
    NON_EMPTY_GROUP = 68, final, "The group still has members.";
    GROUP_ID_NOT_FOUND = 69, final, "There is no such group.";
    FETCH_SESSION_ID_NOT_FOUND = 70, retriable, "There is no such fetch session.";
    INVALID_FETCH_SESSION_EPOCH = 71, retriable, "The epoch of the fetch session is not the expected one.";
    LISTENER_NOT_FOUND = 72, retriable, "The leader has no listener like the one the client came through.";
    TOPIC_DELETION_DISABLED = 73, final, "Deleting topics is disabled.";
    FENCED_LEADER_EPOCH = 74, retriable, "The leader epoch in the request is older than the broker's.";
    UNKNOWN_LEADER_EPOCH = 75, retriable, "The leader epoch in the request is newer than the broker's.";
    UNSUPPORTED_COMPRESSION_TYPE = 76, final, "The client does not support the compression of the records.";
    STALE_BROKER_EPOCH = 77, final, "The broker's epoch is not the current one.";
    OFFSET_NOT_AVAILABLE = 78, retriable, "The new leader does not know the high watermark yet.";
    MEMBER_ID_REQUIRED = 79, final, "The member has to join again with the id it was given.";
    PREFERRED_LEADER_NOT_AVAILABLE = 80, retriable, "The preferred leader is not available.";
    GROUP_MAX_SIZE_REACHED = 81, final, "The group has as many members as allowed.";
    FENCED_INSTANCE_ID = 82, final, "Another member has taken over this static membership id.";
    ELIGIBLE_LEADERS_NOT_AVAILABLE = 83, retriable, "No replica that may become leader is available.";
    ELECTION_NOT_NEEDED = 84, retriable, "The partition has the wanted leader already.";
    NO_REASSIGNMENT_IN_PROGRESS = 85, final, "No reassignment of the partition is running.";
    GROUP_SUBSCRIBED_TO_TOPIC = 86, final, "Members of the group are subscribed to the topic.";
    INVALID_RECORD = 87, final, "A record breaks a rule of the topic or of the format.";
    UNSTABLE_OFFSET_COMMIT = 88, retriable, "Offsets of an open transaction are not decided yet.";
    THROTTLING_QUOTA_EXCEEDED = 89, retriable, "A quota is used up.";
    PRODUCER_FENCED = 90, final, "A newer producer has the same transactional id.";
    RESOURCE_NOT_FOUND = 91, final, "There is no such resource.";
    DUPLICATE_RESOURCE = 92, final, "The request names a resource twice.";
    UNACCEPTABLE_CREDENTIAL = 93, final, "The credential does not meet the rules.";
    INCONSISTENT_VOTER_SET = 94, final, "Either the sender or the receiver is not a voter of the quorum.";
    INVALID_UPDATE_VERSION = 95, final, "The update has an outdated version.";
    FEATURE_UPDATE_FAILED = 96, final, "The features could not be updated.";
    PRINCIPAL_DESERIALIZATION_FAILURE = 97, final, "The forwarded principal cannot be read.";
    SNAPSHOT_NOT_FOUND = 98, final, "There is no such snapshot.";
    POSITION_OUT_OF_RANGE = 99, final, "The position is outside the snapshot.";
    UNKNOWN_TOPIC_ID = 100, retriable, "This broker does not know the topic id.";
    DUPLICATE_BROKER_REGISTRATION = 101, final, "Another broker with this id is registered.";
    BROKER_ID_NOT_REGISTERED = 102, final, "No broker with this id is registered.";
    INCONSISTENT_TOPIC_ID = 103, retriable, "The topic id does not belong to the topic name.";
    INCONSISTENT_CLUSTER_ID = 104, final, "The cluster id is another one.";
    TRANSACTIONAL_ID_NOT_FOUND = 105, final, "There is no such transactional id.";
    FETCH_SESSION_TOPIC_ID_ERROR = 106, retriable, "The fetch session mixes topic ids and topic names.";
    INELIGIBLE_REPLICA = 107, final, "The replica may not join the in-sync set.";
    NEW_LEADER_ELECTED = 108, final, "The change of the in-sync set led to the election of another leader.";
    OFFSET_MOVED_TO_TIERED_STORAGE = 109, final, "The offset is in remote storage only.";
    FENCED_MEMBER_EPOCH = 110, final, "The coordinator fenced the member's epoch; the member must rejoin.";
    UNRELEASED_INSTANCE_ID = 111, final, "Another live member uses this static membership id.";
    UNSUPPORTED_ASSIGNOR = 112, final, "The group does not support the assignor.";
    STALE_MEMBER_EPOCH = 113, final, "The member's epoch is not its current one.";
    MISMATCHED_ENDPOINT_TYPE = 114, final, "The request went to the wrong kind of endpoint.";
    UNSUPPORTED_ENDPOINT_TYPE = 115, final, "This kind of endpoint is not supported.";
    UNKNOWN_CONTROLLER_ID = 116, final, "There is no such controller.";
    UNKNOWN_SUBSCRIPTION_ID = 117, final, "The telemetry subscription is outdated.";
    TELEMETRY_TOO_LARGE = 118, final, "The pushed metrics are too large.";
    INVALID_REGISTRATION = 119, final, "The registration is invalid.";
    TRANSACTION_ABORTABLE = 120, final, "The transaction failed and can only be aborted.";
    INVALID_RECORD_STATE = 121, final, "The record's state does not allow the acknowledgement.";
    SHARE_SESSION_NOT_FOUND = 122, retriable, "There is no such share session.";
    INVALID_SHARE_SESSION_EPOCH = 123, retriable, "The epoch of the share session is not the expected one.";
    FENCED_STATE_EPOCH = 124, final, "The share group's state epoch is outdated.";
    INVALID_VOTER_KEY = 125, final, "The voter's id and directory id do not belong together.";
    DUPLICATE_VOTER = 126, final, "The voter is in the quorum already.";
    VOTER_NOT_FOUND = 127, final, "The voter is not in the quorum.";
    INVALID_REGULAR_EXPRESSION = 128, final, "The regular expression is invalid.";
    REBOOTSTRAP_REQUIRED = 129, final, "The client has to start over from its bootstrap servers.";
    STREAMS_INVALID_TOPOLOGY = 130, final, "The streams topology is invalid.";
    STREAMS_INVALID_TOPOLOGY_EPOCH = 131, final, "The epoch of the streams topology is invalid.";
    STREAMS_TOPOLOGY_FENCED = 132, final, "The streams topology is outdated.";
    SHARE_SESSION_LIMIT_REACHED = 133, retriable, "There are as many share sessions as allowed.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_run_from_minus_one_to_133_without_a_gap() {
        let codes: Vec<i16> = ErrorCode::ALL.iter().map(|code| code.code()).collect();
        assert_eq!(codes, (-1..=133).collect::<Vec<_>>());
    }

    #[test]
    fn a_code_has_the_name_and_retriability_that_kafka_gives_it() {
        assert_eq!(ErrorCode(6).name(), "NOT_LEADER_OR_FOLLOWER");
        assert!(ErrorCode::NOT_LEADER_OR_FOLLOWER.is_retriable());
        assert!(!ErrorCode::OFFSET_OUT_OF_RANGE.is_retriable());
        assert_eq!(ErrorCode::REBOOTSTRAP_REQUIRED.code(), 129);
        assert_eq!(ErrorCode(999).name(), "UNKNOWN");
        assert_eq!(ErrorCode(3).to_string(), "UNKNOWN_TOPIC_OR_PARTITION (3)");
    }
}
