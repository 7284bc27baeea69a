//! Shared parts of the command-line tools.
//!
//! - [`client`]: a small blocking Kafka client;
//! - [`ctl`]: the subcommands of `brokerctl`;
//! - [`log_dump`]: `brokerctl log dump`, segments and indexes shown and checked offline.

pub mod client;
pub mod ctl;
pub mod log_dump;
