//! What the coordinators of a shard hear of the metadata: `__consumer_offsets` comes and goes, topics are deleted.

use std::rc::Rc;

use coord::metadata::names::GROUP_METADATA_TOPIC;
use coord::metadata::{MetadataRecord, TopicImage};
use storage::TopicIdPartition;
use uuid::Uuid;

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
            && image.leader == shard.broker_id()
            && let Some(log) = shard.log(&TopicIdPartition { topic_id: topic.id, partition: index })
            // Of the others replication says when this broker leads them.
            && !log.is_replicated()
        {
            adopted.push(shard.groups.add(index.0, log, image.leader_epoch, None));
        }
    }
    adopted
}

/// This broker has begun, or ceased, to lead a partition of `__consumer_offsets` that others hold, too.
pub fn role_changed(shard: &Rc<Shard>, id: TopicIdPartition, leads: bool) {
    let index = id.partition.0;
    if !leads {
        return shard.groups.remove(index);
    }
    let (Some(log), Some(hosted)) = (shard.log(&id), shard.replication.replicas.get(&id)) else { return };
    let leader_epoch = hosted.leader_epoch();
    if shard.groups.partition(index).is_ok_and(|known| known.leader_epoch == leader_epoch) {
        return;
    }
    // Of an earlier epoch: others may have led in between.
    shard.groups.remove(index);
    if let Some(topic) = shard.image().topic_by_id(id.topic_id) {
        let partitions = i32::try_from(topic.partitions.len()).expect("partitions are numbered by int32");
        shard.groups.set_topic(Some(OffsetsTopic { id: topic.id, partitions }));
    }
    let replica = Some((Rc::downgrade(shard), hosted.clone()));
    let partition = shard.groups.add(index, log, leader_epoch, replica);
    runtime::spawn(load::load_all(Rc::clone(shard), vec![partition]));
}

/// The shard's image has a new topic.
pub fn topic_created(shard: &Rc<Shard>, topic_id: Uuid) {
    let image = shard.image();
    let topic = image.topic_by_id(topic_id).filter(|topic| *topic.name == *GROUP_METADATA_TOPIC);
    if let Some(topic) = topic {
        let adopted = adopt(shard, topic);
        runtime::spawn(load::load_all(Rc::clone(shard), adopted));
    }
}

/// The shard's image has lost these topics.
pub fn topics_deleted(shard: &Rc<Shard>, mut topics: Vec<Rc<str>>) {
    let count = topics.len();
    topics.retain(|name| **name != *GROUP_METADATA_TOPIC);
    if topics.len() < count {
        shard.groups.set_topic(None);
    }
    if !topics.is_empty() {
        for partition in shard.groups.partitions() {
            forget_topics(shard, partition, topics.clone());
        }
    }
}

/// The shard's image has taken the record.
pub fn record_replayed(shard: &Shard, record: &MetadataRecord) {
    let concerns_topics = matches!(
        record,
        MetadataRecord::Topic { .. }
            | MetadataRecord::RemoveTopic { .. }
            | MetadataRecord::Partitions { .. }
            | MetadataRecord::PartitionChange { .. }
            | MetadataRecord::RegisterBroker(_)
            | MetadataRecord::UnregisterBroker { .. }
    );
    if concerns_topics {
        shard.groups.topics_have_changed();
    }
}

/// The groups forget their offsets of deleted topics.
fn forget_topics(shard: &Rc<Shard>, partition: Rc<Partition>, topics: Vec<Rc<str>>) {
    AppendQueue::run(shard, move |shard| {
        if !shard.groups.has(&partition) {
            return;
        }
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
