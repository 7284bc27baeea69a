//! Decisions: pure functions from an image and a command to records and a reply.
//!
//! A decision changes nothing. The controller appends its records to the metadata log, replays them once they are durable, and only
//! then gives the reply. The records of one decision are one entry of the log: all or nothing.

mod brokers;
mod configs;
mod elections;
mod features;
mod nodes;
mod partitions;
mod producer_ids;
mod reassignments;
mod replication;
mod topics;

pub use brokers::{RegisterBroker, create_cluster, register_broker, set_fencing, unregister_broker};
pub use configs::{AlterConfigs, ConfigChange, ConfigEdit, ConfigOp, ConfigRules, alter_configs};
pub use elections::{ElectionType, elect_leaders};
pub use features::{FEATURES, FeatureUpdate, SupportedFeature, UpgradeType, update_features};
pub use nodes::note_directory;
pub use partitions::{CreatePartitions, CreatePartitionsReply, create_partitions};
pub use producer_ids::{PRODUCER_ID_BLOCK_SIZE, ProducerIdBlock, allocate_producer_ids};
pub use reassignments::{Reassignment, check_reassignment, reassign_partitions};
pub use replication::{
    BrokerHeartbeat, BrokerHeartbeatReply, ClusterView, alter_partitions, alter_replica_configs,
    balance_leaders, broker_heartbeat, elect_missing_leaders, elect_replica_leader, fence_broker,
    reassign_partition, reassignments, register_replica_broker, relieve_full_brokers, unfence_broker,
};
pub use topics::{
    CreateTopicsOptions, CreateTopicsReply, CreatedTopic, DeleteTopicsReply, DeletedTopic,
    MAX_PARTITIONS_PER_REQUEST, NewTopic, TopicSelector, create_topics, delete_topics,
};

use uuid::Uuid;

use super::record::MetadataRecord;

/// What a decision may use besides the image and the command.
pub struct DecideContext<'a> {
    /// Uniformly distributed bits: the operating system's in a broker, a seeded generator's in a simulation.
    pub random: &'a mut dyn FnMut() -> u64,
}

impl DecideContext<'_> {
    /// A new random id whose text form is never nil and never starts with a dash (command lines take that for an option), as Kafka's.
    pub fn new_id(&mut self) -> Uuid {
        loop {
            let bits = u128::from((self.random)()) << 64 | u128::from((self.random)());
            let id = uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid();
            // The first 6 bits are the first character of base64; 62 is '-'.
            if id.as_bytes()[0] >> 2 != 62 && !id.is_nil() {
                return id;
            }
        }
    }
}

/// Records to make durable, and the reply to give after that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<R> {
    /// The change; empty if nothing changes.
    pub records: Vec<MetadataRecord>,
    /// What the caller hears once the records are durable and replayed.
    pub reply: R,
}

impl<R> Decision<R> {
    /// A reply without any change.
    pub fn unchanged(reply: R) -> Self {
        Decision { records: Vec::new(), reply }
    }
}
