//! Decisions without I/O: what a cluster knows, and who may change it.
//!
//! | module | owns |
//! |---|---|
//! | [`config`] | tables of topic and broker configs: names, types, defaults, ranges, documentation; parsing and resolution |
//! | [`metadata`] | the metadata image (brokers, topics, partitions, configs), its records, and the functions that decide on changes |
//! | [`quorum`] | the metadata quorum: one node's side of the Raft group that agrees on the metadata log |
//! | [`replica`] | the replication of one partition: leader and follower, without the log and without the network |
//! | [`group`] | the group coordinator: consumer groups, classic and KIP-848, and committed offsets |
//! | [`planted`] | rules that tests of the tests can leave out |
//! | [`types`] | identifiers that must not be swapped |
//! | [`error`] | why a command was refused, with Kafka's error code for each reason |
//!
//! Nothing here opens a socket or a file, reads a clock or draws a random number by itself: time and randomness are arguments, and
//! every change has the same three steps. A function *decides* (reads the image, returns records and the reply to give once they are
//! durable), the shell *records* them in the metadata log, and the image *replays* them. Loading after a restart is the last step alone.

pub mod config;
pub mod error;
pub mod group;
pub mod metadata;
pub mod planted;
pub mod quorum;
pub mod replica;
pub mod types;

pub use error::CoordError;
