//! Leader hints (KIP-951): whoever asks a broker that does not lead is told at once who does, and need not ask for metadata first.
//!
//! Source: `KafkaApis.getCurrentLeader`.

use std::collections::BTreeSet;

use coord::metadata::MetadataImage;
use coord::types::BrokerId;
use protocol::ErrorCode;
use storage::{LeaderEpoch, PartitionId};

use crate::controller::CLIENT_LISTENER;
use crate::partitions::{self, TopicName};

/// The hints of one answer: leaders of partitions, and the addresses of those that were named.
pub struct LeaderHints<'i> {
    image: &'i MetadataImage,
    me: BrokerId,
    named: BTreeSet<BrokerId>,
}

/// Where clients reach a leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderEndpoint {
    /// Which broker.
    pub id: BrokerId,
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: i32,
    /// Its rack.
    pub rack: Option<String>,
}

impl<'i> LeaderHints<'i> {
    /// No hints yet; leaders are those of `image`, which is that of broker `me`.
    pub fn new(image: &'i MetadataImage, me: BrokerId) -> Self {
        LeaderHints { image, me, named: BTreeSet::new() }
    }

    /// The leader of a partition and its epoch, for who was answered that it does not know who leads; the leader may be [`BrokerId::NONE`]. None with other
    /// answers, and if this broker does not know either: it leads by its metadata, and refuses to ([`crate::replication::vain`]).
    pub fn leader_of(
        &mut self,
        topic: TopicName<'_>,
        partition: i32,
        error: ErrorCode,
    ) -> Option<(BrokerId, LeaderEpoch)> {
        if ![ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::FENCED_LEADER_EPOCH].contains(&error) {
            return None;
        }
        let topic = partitions::find_topic(self.image, topic).ok()?;
        let found = topic.partition(PartitionId(partition))?;
        if error == ErrorCode::NOT_LEADER_OR_FOLLOWER && found.leader == self.me {
            return None;
        }
        self.named.insert(found.leader);
        Some((found.leader, found.leader_epoch))
    }

    /// The addresses of the leaders that were named and are there, by id.
    pub fn endpoints(&self) -> Vec<LeaderEndpoint> {
        let alive = self.named.iter().filter_map(|id| self.image.broker(*id)).filter(|broker| !broker.fenced);
        alive
            .filter_map(|broker| {
                let endpoint = broker.endpoint(CLIENT_LISTENER)?;
                Some(LeaderEndpoint {
                    id: broker.id,
                    host: endpoint.host.clone(),
                    port: i32::from(endpoint.port),
                    rack: broker.rack.clone(),
                })
            })
            .collect()
    }
}
