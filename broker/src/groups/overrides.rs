//! The configs of single groups (`kafka-configs --entity-type groups`), from the image to the coordinators.

use std::collections::BTreeMap;
use std::rc::Rc;

use coord::config::ConfigResourceType;
use coord::group::GroupCoordinator;
use coord::group::consumer::GroupOverrides;
use coord::metadata::MetadataImage;

use super::coordinators::PartitionState;
use crate::append_queue::AppendQueue;
use crate::shard::Shard;

/// Tells a coordinator that is about to be used what its groups have of their own.
pub fn apply(shard: &Shard, coordinator: &mut GroupCoordinator) {
    coordinator.set_group_overrides(all(&shard.image()));
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

fn all(image: &MetadataImage) -> BTreeMap<String, GroupOverrides> {
    let groups = image.configured_resources().filter(|(kind, ..)| *kind == ConfigResourceType::Group);
    groups.map(|(_, group, configs)| (group.to_owned(), GroupOverrides::of(configs))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::set_at_run_time;

    #[test]
    fn what_is_set_for_a_group_is_for_the_coordinator() {
        let mut image = MetadataImage::new();
        let mut set = |group: &str, config: &str, value: &str| {
            set_at_run_time(&mut image, ConfigResourceType::Group, group, config, value);
        };
        set("a", "consumer.session.timeout.ms", "50000");
        set("b", "share.session.timeout.ms", "45000");
        let overrides = all(&image);
        assert_eq!(overrides["a"].consumer_session_timeout_ms, Some(50_000));
        assert_eq!(overrides["b"], GroupOverrides::default());
    }
}
