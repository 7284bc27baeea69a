//! The classic protocol, request by request.

mod join;
mod leave;
mod limits;
mod rebalance;
mod static_members;
mod sync;

use protocol::ErrorCode;

use crate::group::harness::{GROUP, Harness, Join, subscription};

/// The code of an answer.
fn code(error_code: i16) -> ErrorCode {
    ErrorCode(error_code)
}
