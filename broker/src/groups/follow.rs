//! What the coordinators of a shard hear of the metadata: `__consumer_offsets` comes and goes, topics are deleted.

use std::rc::Rc;

use coord::metadata::names::GROUP_METADATA_TOPIC;
use coord::metadata::{MetadataImage, MetadataRecord, TopicImage};
use storage::TopicIdPartition;

use super::coordinators::{Partition, PartitionState};
use super::routing::OffsetsTopic;
use super::{load, timers};
use crate::append_queue::AppendQueue;
use crate::runtime;
use crate::shard::Shard;

/// Takes the partitions of `__consumer_offsets` that this shard has; their coordinators are loading until [`serve`] has loaded them. To be
/// called when the logs are open, before clients are let in.
pub fn open(shard: &Rc<Shard>) {
    if let Some(topic) = shard.image().topic(GROUP_METADATA_TOPIC) {
        adopt(shard, topic);
    }
}

/// Loads what [`open`] has taken, and looks after what is due. Appends must be possible.
pub fn serve(shard: &Rc<Shard>) {
    runtime::spawn(load::load_all(Rc::clone(shard), shard.groups.partitions()));
    runtime::spawn(timers::run(Rc::clone(shard)));
}

fn adopt(shard: &Rc<Shard>, topic: &TopicImage) -> Vec<Rc<Partition>> {
    let partitions = i32::try_from(topic.partitions.len()).expect("partitions are numbered by int32");
    shard.groups.set_topic(Some(OffsetsTopic { id: topic.id, partitions }));
    let mut adopted = Vec::new();
    for (index, image) in topic.indexed_partitions() {
        if shard.owner_of(topic.id, index.0) == shard.id
            && let Some(log) = shard.log(&TopicIdPartition { topic_id: topic.id, partition: index })
        {
            adopted.push(shard.groups.add(index.0, log, image.leader_epoch));
        }
    }
    adopted
}

/// The shard's image has changed from `before` to `after` by `records`.
pub fn follow(shard: &Rc<Shard>, before: &MetadataImage, after: &MetadataImage, records: &[MetadataRecord]) {
    let mut deleted: Vec<Rc<str>> = Vec::new();
    for record in records {
        match record {
            MetadataRecord::Topic { topic_id, name, .. } if name.as_ref() == GROUP_METADATA_TOPIC => {
                // One that was deleted at once is not in the image any more.
                if let Some(topic) = after.topic_by_id(*topic_id) {
                    let adopted = adopt(shard, topic);
                    runtime::spawn(load::load_all(Rc::clone(shard), adopted));
                }
            }
            MetadataRecord::RemoveTopic { topic_id } => match before.topic_by_id(*topic_id) {
                Some(topic) if topic.name.as_ref() == GROUP_METADATA_TOPIC => shard.groups.set_topic(None),
                Some(topic) => deleted.push(Rc::from(&*topic.name)),
                None => {}
            },
            _ => {}
        }
    }
    if !deleted.is_empty() {
        for partition in shard.groups.partitions() {
            forget_topics(shard, partition, deleted.clone());
        }
    }
}

/// The groups forget their offsets of deleted topics.
fn forget_topics(shard: &Rc<Shard>, partition: Rc<Partition>, topics: Vec<Rc<str>>) {
    AppendQueue::run(shard, move |shard| {
        let mut state = partition.state.borrow_mut();
        match &mut *state {
            PartitionState::Active(coordinator) => {
                let names: Vec<&str> = topics.iter().map(AsRef::as_ref).collect();
                let now_ms = shard.groups.now_ms();
                let output = coordinator.topics_deleted(&names);
                shard.groups.carry_out(&partition, coordinator, output, None, now_ms);
            }
            PartitionState::Loading => partition.note_deleted_topics(topics),
            PartitionState::Failed => {}
        }
    });
}
