//! The headers in front of requests and responses.

pub use crate::messages::header::{RequestHeader, ResponseHeader};
