//! An image as records: what the metadata log is replaced by when it has grown.

use super::image::MetadataImage;
use super::record::MetadataRecord;
use crate::types::BrokerId;

impl MetadataImage {
    /// The records from which an empty image becomes equal to this one, ending with [`MetadataRecord::SnapshotEnd`]. Each may be
    /// stored as an entry of its own, as long as they are replaced together.
    pub fn snapshot(&self) -> Vec<MetadataRecord> {
        let mut records = Vec::with_capacity(self.topic_count() + 8);
        if !self.cluster_id().is_nil() {
            records.push(MetadataRecord::Cluster { cluster_id: self.cluster_id() });
        }
        for (feature, level) in self.features() {
            records.push(MetadataRecord::FeatureLevel { feature: feature.clone(), level: *level });
        }
        records.extend(self.brokers().cloned().map(MetadataRecord::RegisterBroker));
        records.extend(self.nodes().cloned().map(MetadataRecord::NodeDirectory));
        if self.next_producer_id() > 0 {
            records.push(MetadataRecord::ProducerIds {
                broker_id: BrokerId(0),
                broker_epoch: 0,
                next_producer_id: self.next_producer_id(),
            });
        }
        for (resource_type, resource_name, configs) in self.configured_resources() {
            records.extend(configs.iter().map(|(config, value)| MetadataRecord::ResourceConfig {
                resource_type,
                resource_name: resource_name.to_owned(),
                config: config.clone(),
                value: Some(value.clone()),
            }));
        }
        for topic in self.topics() {
            records.push(MetadataRecord::Topic {
                topic_id: topic.id,
                name: topic.name.clone(),
                configs: topic.configs.clone().into_iter().collect(),
                partitions: topic.partitions.clone(),
            });
        }
        records.push(MetadataRecord::SnapshotEnd { next_offset: self.next_offset() });
        records
    }
}
