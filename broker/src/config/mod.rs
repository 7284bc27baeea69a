//! What the broker can be told: one struct, every setting with its documentation, its default and its checks.
//!
//! - [`settings`]: the struct [`Config`] itself and the table made from it;
//! - [`values`]: the types of settings, how they are written and what is allowed;
//! - [`voters`]: the controllers of a cluster;
//! - [`sources`]: `broker.toml`, `BROKER_*` variables and flags, merged in that order (flags win);
//! - [`flags`]: the command line;
//! - [`kafka_names`]: the settings that Kafka has too, under its names;
//! - [`example`]: the commented file that `--print-config` writes.

pub mod example;
pub mod flags;
pub mod kafka_names;
pub mod settings;
pub mod sources;
pub mod values;
pub mod voters;

pub use flags::Flags;
pub use settings::Config;
pub use sources::{ConfigError, load};
pub use values::{
    Assignors, ByteSize, Cores, Durability, GroupMigration, HostPort, LogFormat, ProcessRoles,
    RebalanceProtocols, ReplicaSelector, ZeroCopy,
};
pub use voters::{QuorumVoter, QuorumVoters};
