//! The configs of single groups (`kafka-configs --entity-type groups`), from the image to the coordinators.

use std::collections::BTreeMap;
use std::rc::Rc;

use coord::config::ConfigResourceType;
use coord::group::consumer::GroupOverrides;
use coord::group::{GroupConfig, GroupCoordinator};
use coord::metadata::MetadataImage;

use super::coordinators::PartitionState;
use crate::append_queue::AppendQueue;
use crate::shard::Shard;

/// The configs of consumer groups start with this; those of other kinds of groups are not for the coordinators.
const OF_CONSUMER_GROUPS: &str = "consumer.";

/// Tells a coordinator that is about to be used what its groups have of their own.
pub fn apply(shard: &Shard, coordinator: &mut GroupCoordinator) {
    coordinator.set_group_overrides(all(&shard.image(), shard.groups.config()));
}

/// Tells all coordinators of the shard: the image has changed.
pub fn refresh(shard: &Rc<Shard>) {
    for partition in shard.groups.partitions() {
        AppendQueue::run(shard, move |shard| {
            if let PartitionState::Active(coordinator) = &mut *partition.state.borrow_mut() {
                apply(shard, coordinator);
            }
        });
    }
}

fn all(image: &MetadataImage, broker: &GroupConfig) -> BTreeMap<String, GroupOverrides> {
    let groups = image.configured_resources().filter(|(kind, ..)| *kind == ConfigResourceType::Group);
    let overrides = groups.filter_map(|(_, group, configs)| {
        let own = configs.iter().filter(|(name, _)| name.starts_with(OF_CONSUMER_GROUPS));
        let own = own.map(|(name, value)| (name.clone(), value.clone())).collect();
        match GroupOverrides::parse(&own, broker) {
            Ok(overrides) => Some((group.to_owned(), overrides)),
            Err(error) => {
                // They were valid when they were set; the broker's limits have changed since.
                tracing::warn!(group, %error, "the group's own configs cannot be used");
                None
            }
        }
    });
    overrides.collect()
}

#[cfg(test)]
mod tests {
    use coord::metadata::MetadataRecord;

    use super::*;

    #[test]
    fn what_is_set_for_a_group_and_still_within_the_limits_is_for_the_coordinator() {
        let mut image = MetadataImage::new();
        let mut set = |group: &str, config: &str, value: &str| {
            let record = MetadataRecord::ResourceConfig {
                resource_type: ConfigResourceType::Group,
                resource_name: group.to_owned(),
                config: config.to_owned(),
                value: Some(value.to_owned()),
            };
            image.replay(&record).unwrap();
        };
        set("a", "consumer.session.timeout.ms", "50000");
        set("a", "share.session.timeout.ms", "45000");
        set("b", "consumer.session.timeout.ms", "5");
        let overrides = all(&image, &GroupConfig::default());
        assert_eq!(overrides.len(), 1);
        assert_eq!(overrides["a"].consumer_session_timeout_ms, Some(50_000));
    }
}
