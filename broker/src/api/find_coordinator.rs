//! FindCoordinator (key 10): which broker coordinates a group or a transactional id.
//!
//! This broker does not coordinate anything yet. Groups get COORDINATOR_NOT_AVAILABLE, which clients retry quietly: consumers with a group
//! id and assigned partitions work meanwhile. Transactional ids get an error that ends the wait, because a producer that hangs in
//! initTransactions helps nobody. The request is served all the same, because librdkafka takes its presence for a sign of other features.

use std::borrow::Cow;

use protocol::ErrorCode;
use protocol::messages::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};

use super::{Answer, Call};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

/// Answers that there is none.
pub async fn handle(call: Call) -> Answer {
    let request: FindCoordinatorRequest<'_> = call.decode()?;
    call.respond(&response(&request, call.version))
}

fn response<'a>(request: &'a FindCoordinatorRequest<'_>, version: i16) -> FindCoordinatorResponse<'a> {
    let (error, message) = outcome(request.key_type, version);
    if version < 4 {
        return FindCoordinatorResponse {
            error_code: error.code(),
            error_message: Some(Cow::Borrowed(message)),
            node_id: -1,
            port: -1,
            ..Default::default()
        };
    }
    let coordinators = request
        .coordinator_keys
        .iter()
        .map(|key| Coordinator {
            key: Cow::Borrowed(key),
            node_id: -1,
            port: -1,
            error_code: error.code(),
            error_message: Some(Cow::Borrowed(message)),
            ..Default::default()
        })
        .collect();
    FindCoordinatorResponse { coordinators, ..Default::default() }
}

fn outcome(key_type: i8, version: i16) -> (ErrorCode, &'static str) {
    match key_type {
        GROUP => (
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
            "Consumer groups are not available in this version of the broker.",
        ),
        TRANSACTION => {
            (ErrorCode::UNSUPPORTED_VERSION, "Transactions are not available in this version of the broker.")
        }
        SHARE if version >= 6 => (
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
            "Share groups are not available in this version of the broker.",
        ),
        _ => (ErrorCode::INVALID_REQUEST, "Unknown key type."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_gets_its_answer_and_old_versions_get_one_for_all() {
        let request = FindCoordinatorRequest {
            key_type: GROUP,
            coordinator_keys: vec!["a".into(), "b".into()],
            ..Default::default()
        };
        let new = response(&request, 4);
        assert_eq!(new.coordinators.iter().map(|c| c.key.as_ref()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(new.coordinators.iter().all(|c| c.error_code == ErrorCode::COORDINATOR_NOT_AVAILABLE.code()));
        assert_eq!(response(&request, 0).error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE.code());
    }

    #[test]
    fn transactions_are_refused_for_good_and_unknown_types_are_invalid() {
        assert!(!outcome(TRANSACTION, 4).0.is_retriable());
        assert_eq!(outcome(SHARE, 5).0, ErrorCode::INVALID_REQUEST);
        assert_eq!(outcome(7, 6).0, ErrorCode::INVALID_REQUEST);
    }
}
