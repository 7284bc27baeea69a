//! Shared parts of the command-line tools.
//!
//! - [`client`]: a small blocking Kafka client;
//! - [`ctl`]: the subcommands of `brokerctl`.

pub mod client;
pub mod ctl;
pub mod log_dump;
