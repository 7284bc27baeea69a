//! Shared parts of the command-line tools.
//!
//! - [`client`]: a small blocking Kafka client;
//! - [`ctl`]: the subcommands of `brokerctl`;
//! - [`log_dump`]: `brokerctl log dump`, segments and indexes shown and checked offline;
//! - [`simulator`]: a cluster in one thread and virtual time, with faults and checks: `simulate`.

#[allow(clippy::disallowed_methods, reason = "it talks to real brokers")]
pub mod client;
#[allow(clippy::disallowed_methods, reason = "it talks to real brokers and to people")]
pub mod ctl;
#[allow(clippy::disallowed_methods, reason = "nothing of it is simulated")]
pub mod log_dump;
pub mod simulator;
