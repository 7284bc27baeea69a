//! Why a request to a consumer group was refused.

use protocol::ErrorCode;
use thiserror::Error;

/// A refusal: Kafka's error code and, for people, what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// The code that the client gets.
    pub code: ErrorCode,
    /// What is wrong.
    pub message: String,
}

impl Refusal {
    /// A refusal with this code.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Refusal { code, message: message.into() }
    }

    /// The request contradicts itself or leaves out what it needs.
    pub(super) fn invalid_request(message: impl Into<String>) -> Self {
        Refusal::new(ErrorCode::INVALID_REQUEST, message)
    }

    /// The group has no such member.
    pub(super) fn unknown_member(group_id: &str, member_id: &str) -> Self {
        Refusal::new(
            ErrorCode::UNKNOWN_MEMBER_ID,
            format!("Member {member_id} is not a member of group {group_id}."),
        )
    }

    /// The group has no static member with this instance id.
    pub(super) fn unknown_instance(instance_id: &str) -> Self {
        Refusal::new(ErrorCode::UNKNOWN_MEMBER_ID, format!("Instance id {instance_id} is unknown."))
    }

    /// Another member has the instance id now.
    pub(super) fn fenced_instance(member_id: &str, instance_id: &str, by: &str) -> Self {
        let message =
            format!("Static member {member_id} with instance id {instance_id} was fenced by member {by}.");
        Refusal::new(ErrorCode::FENCED_INSTANCE_ID, message)
    }
}
