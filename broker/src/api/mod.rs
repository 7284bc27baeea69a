//! Request handlers: one request type, one file; [`table`] says which versions of which are served, and is the list that clients see.
//!
//! - [`call`]: one request on its way: decoding it, answering it, refusing it;
//! - [`table`]: the requests served, with their versions and handlers;
//! - [`leader_hints`]: who leads, for clients that asked somebody else;
//! - [`forward`]: requests that the active controller answers, wherever a client sends them;
//! - everything else: the handler of the request that gives the file its name.

pub mod add_raft_voter;
pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod api_versions;
pub mod call;
mod configs;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_quorum;
pub mod describe_topic_partitions;
pub mod elect_leaders;
pub mod fetch;
pub mod find_coordinator;
mod forward;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
mod leader_hints;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
mod loggers;
mod merge;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod remove_raft_voter;
pub mod sync_group;
pub mod table;
pub mod unregister_broker;
pub mod update_features;

use std::rc::Rc;

use bytes::Bytes;
use coord::types::BrokerId;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use protocol::ApiKey;
use protocol::frame::decode_request_header;
use protocol::wire::Few;

pub use call::{Answer, Call, Refusal};

use crate::net::{Connection, DispatchOutcome};
use crate::shard::Shard;

/// Answers one request: `frame` is the request without the length in front. The returned future is polled once before the next request
/// of the connection is looked at, so what must happen in order belongs before its first wait. It may be dropped at any wait, when the client goes
/// away: what must be finished regardless belongs into a task of its own.
pub fn dispatch(
    shard: &Rc<Shard>,
    connection: &Rc<Connection>,
    frame: Bytes,
) -> LocalBoxFuture<'static, DispatchOutcome> {
    route(shard, connection, frame).unwrap_or_else(|refusal| {
        std::future::ready(DispatchOutcome::Close(refusal.to_string())).boxed_local()
    })
}

/// Finds the handler. As in Kafka, whatever has none costs the client its connection, except ApiVersions in a version from the future.
fn route(
    shard: &Rc<Shard>,
    connection: &Rc<Connection>,
    frame: Bytes,
) -> Result<LocalBoxFuture<'static, DispatchOutcome>, Refusal> {
    let (header, body) =
        decode_request_header(&frame).map_err(|error| Refusal::malformed("header", error))?;
    let (key, version) = (header.request_api_key, header.request_api_version);
    let served = table::find(key)
        .ok_or_else(|| Refusal::new(format!("request type {} ({key}) is not supported", name_of(key))))?;
    if !is_served_here(shard, served.key) {
        let name = served.key.name();
        return Err(Refusal::new(format!("this node is a controller only, and does not serve {name}")));
    }
    let is_known_version = (served.min_version..=served.max_version).contains(&version);
    if !is_known_version && served.key != ApiKey::ApiVersions {
        return Err(Refusal::new(format!("version {version} of {} is not supported", served.key.name())));
    }
    let call = Call {
        shard: Rc::clone(shard),
        connection: Some(Rc::clone(connection)),
        received_by: shard.broker_id(),
        key: served.key,
        version,
        correlation_id: header.correlation_id,
        body_at: frame.len() - body.remaining(),
        frame: frame.clone(),
    };
    if shard.broker.cluster.is_some() && forward::is_for_controller(&call) {
        return Ok(forward::handle(call, served.handler).boxed_local());
    }
    Ok((served.handler)(call))
}

/// Whether this node answers requests of this type that are in the table: one that is a controller only has little to say to clients.
fn is_served_here(shard: &Shard, key: ApiKey) -> bool {
    shard.config().process_roles.broker() || forward::is_served_by_controllers(key)
}

/// Answers a request that another broker passes on, or this one to itself, because it is for the active controller: this node. None if it cannot be
/// answered.
pub async fn answer_for(shard: &Rc<Shard>, received_by: BrokerId, frame: Bytes) -> Option<Few<Bytes>> {
    let (header, body) = decode_request_header(&frame).ok()?;
    let (key, version) = (header.request_api_key, header.request_api_version);
    let served =
        table::find(key).filter(|served| (served.min_version..=served.max_version).contains(&version))?;
    let call = Call {
        shard: Rc::clone(shard),
        connection: None,
        received_by,
        key: served.key,
        version,
        correlation_id: header.correlation_id,
        body_at: frame.len() - body.remaining(),
        frame: frame.clone(),
    };
    if !forward::is_for_controller(&call) {
        return None;
    }
    match (served.handler)(call).await {
        DispatchOutcome::Respond(segments) => Some(segments),
        _ => None,
    }
}

/// The name of a request type in metrics, as Kafka's.
pub fn name_of(api_key: i16) -> &'static str {
    ApiKey::from_i16(api_key).map_or("Unknown", ApiKey::name)
}
