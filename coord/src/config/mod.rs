//! Configs as tables: names, types, defaults, ranges, documentation, and whether this broker honours them.
//!
//! - [`definition`]: what a table's row says ([`ConfigDefinition`]);
//! - [`topic`]: the rows of all topic configs of Kafka 4.1, and validation of what a client sets on a topic;
//! - [`defaults`]: the operator's defaults for topics, by the broker-side names (`log.retention.hours`);
//! - [`broker`]: the configs of brokers that can be changed at run time;
//! - [`group`]: the configs of groups;
//! - [`resource`]: what configs belong to;
//! - [`throttle`]: which replicas are throttled;
//! - [`resolve`]: the values in force for one topic, with their sources;
//! - [`log_config`]: the same as storage's typed `LogConfig`.
//!
//! A config of a topic either works or is refused when it is set: nothing is accepted and ignored.

pub mod broker;
pub mod defaults;
pub mod definition;
pub mod group;
pub mod log_config;
pub mod resolve;
pub mod resource;
pub mod throttle;
pub mod topic;

pub use defaults::TopicDefaults;
pub use definition::{
    ConfigDefinition, ConfigType, Importance, ServerSynonym, Support, Valid, list_elements,
};
pub use log_config::{ReplicationConfig, log_config, replication_config};
pub use resolve::{ConfigSource, EffectiveConfig, Synonym, effective_config};
pub use resource::ConfigResourceType;
pub use topic::{TOPIC_CONFIGS, topic_config, validate_topic_configs};
