//! The broker: executors, sockets, request handlers, configuration, metrics. Decisions are made in `coord`, data is kept by `storage`.
//!
//! - [`server`]: from a configuration to a running broker, and back to a clean stop;
//! - [`shard`]: one core's share of it, the state that all handlers use;
//! - [`api`]: the handlers, one file per request type;
//! - [`cluster`]: links to the other nodes of a cluster;
//! - [`controller`]: who changes the metadata, and how every shard hears of it;
//! - [`groups`]: the coordinators of consumer groups;
//! - [`net`]: listeners, connections, frames;
//! - [`mesh`]: calls between shards; [`placement`]: which shard owns a partition;
//! - [`logs`]: a shard's partition logs; [`cleaning`]: their compaction;
//! - [`budget`]: memory of requests in flight;
//! - [`runtime`]: glommio and its traps, background threads, the liveness guard;
//! - [`config`]: settings; [`logging`], [`metrics`], [`admin`]: what operators see;
//! - [`systemd`], [`signals`]: the process's surroundings.

pub mod admin;
pub mod api;
pub mod append;
pub mod append_queue;
pub mod budget;
pub mod cleaning;
pub mod cluster;
pub mod config;
pub mod controller;
mod error;
pub mod fetch_session;
pub mod fetching;
pub mod groups;
pub mod live;
pub mod logging;
pub mod logs;
pub mod mesh;
pub mod metrics;
pub mod net;
pub mod partitions;
pub mod placement;
pub mod replication;
pub mod runtime;
pub mod server;
pub mod shard;
pub mod signals;
pub mod systemd;

pub use error::Error;
