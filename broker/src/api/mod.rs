//! One request type, one file: this module knows which is which and hands requests to their handlers.

use std::rc::Rc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::LocalBoxFuture;

use crate::net::{Connection, DispatchOutcome};
use crate::shard::Shard;

/// Answers one request: `frame` is the request without the length in front. The returned future is polled once before the next request
/// of the connection is looked at, so what must happen in order belongs before its first wait. It may be dropped at any wait, when the client goes
/// away: what must be finished regardless belongs into a task of its own.
pub fn dispatch(
    _shard: &Rc<Shard>,
    _connection: &Rc<Connection>,
    frame: Bytes,
) -> LocalBoxFuture<'static, DispatchOutcome> {
    let api_key = i16::from_be_bytes([frame[0], frame[1]]);
    let refusal = DispatchOutcome::Close(format!("request type {api_key} is not supported"));
    std::future::ready(refusal).boxed_local()
}

/// The name of a request type in metrics, as Kafka's.
pub fn name_of(_api_key: i16) -> &'static str {
    "Unknown"
}
