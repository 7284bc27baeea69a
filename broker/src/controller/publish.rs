//! New records reach every shard, in order: the controller waits until all have taken one batch before it sends the next.
//!
//! A shard makes the partition logs of new topics before its image shows them, and removes those of deleted topics after its image has
//! forgotten them: whoever finds a partition in the image finds its log. Records take effect one by one, so that a topic which is deleted and
//! created again in one batch has its old data removed first; between two records of one decision others may see the image.

use std::rc::Rc;
use std::sync::Arc;

use coord::config::ConfigResourceType;
use coord::metadata::names::GROUP_METADATA_TOPIC;
use coord::metadata::{MetadataImage, MetadataRecord};
use coord::quorum::LeaderChange;
use tokio::sync::watch;

use super::ControllerError;
use crate::groups::{follow, overrides};
use crate::shard::Shard;
use crate::{live, logs, replication};

/// Has every shard take the records; returns when all have.
pub async fn to_all_shards(shard: &Rc<Shard>, records: Arc<[MetadataRecord]>) -> Result<(), ControllerError> {
    let take = move |shard: &Rc<Shard>| {
        let shard = Rc::clone(shard);
        async move { apply(&shard, &records).await }
    };
    shard.mesh.call_all(take).await.into_iter().collect()
}

/// One shard takes the records, one after the other: the image changes in place, because nobody holds it while this waits.
async fn apply(shard: &Rc<Shard>, records: &[MetadataRecord]) -> Result<(), ControllerError> {
    let failed = |error: &dyn std::fmt::Display| ControllerError::Failed(error.to_string());
    let mut deleted: Vec<Rc<str>> = Vec::new();
    for record in records {
        match record {
            // A topic that is created again under a name must not lose what is committed for it from now on.
            MetadataRecord::Topic { .. } => follow::topics_deleted(shard, std::mem::take(&mut deleted)),
            MetadataRecord::RemoveTopic { topic_id } => {
                deleted.extend(shard.image().topic_by_id(*topic_id).map(|topic| Rc::from(&*topic.name)));
            }
            _ => {}
        }
        logs::before(shard, record).await.map_err(|error| failed(&error))?;
        shard.metadata.replay(record).map_err(|error| failed(&error))?;
        follow::record_replayed(shard, record);
        replication::follow::record_replayed(shard, record);
        if let MetadataRecord::Topic { topic_id, .. } = record {
            follow::topic_created(shard, *topic_id);
        }
        if deleted.last().is_some_and(|name| **name == *GROUP_METADATA_TOPIC) {
            // Coordinators must not append to logs that go.
            follow::topics_deleted(shard, std::mem::take(&mut deleted));
        }
        logs::after(shard, record).await.map_err(|error| failed(&error))?;
    }
    follow::topics_deleted(shard, deleted);
    let concern = |kind: ConfigResourceType| {
        records.iter().any(|record| {
            matches!(record, MetadataRecord::ResourceConfig { resource_type, .. } if *resource_type == kind)
        })
    };
    if concern(ConfigResourceType::Broker) {
        live::refresh(shard);
    }
    if concern(ConfigResourceType::Group) {
        overrides::refresh(shard);
    }
    Ok(())
}

/// Puts an image in the place of every shard's: this node had fallen behind what the quorum's log reaches back to.
pub async fn image_to_all_shards(shard: &Rc<Shard>, image: MetadataImage) -> Result<(), ControllerError> {
    let take = move |shard: &Rc<Shard>| {
        let shard = Rc::clone(shard);
        async move { replace(&shard, image).await }
    };
    shard.mesh.call_all(take).await.into_iter().collect()
}

/// One shard takes an image: logs of new partitions are made before it shows them, those of deleted ones go afterwards.
async fn replace(shard: &Rc<Shard>, image: MetadataImage) -> Result<(), ControllerError> {
    let failed = |error: &dyn std::fmt::Display| ControllerError::Failed(error.to_string());
    let before = shard.image();
    let deleted: Vec<Rc<str>> = before
        .topics()
        .filter(|topic| image.topic_by_id(topic.id).is_none())
        .map(|topic| Rc::from(&*topic.name))
        .collect();
    let created: Vec<_> =
        image.topics().map(|topic| topic.id).filter(|id| before.topic_by_id(*id).is_none()).collect();
    follow::topics_deleted(shard, deleted);
    logs::create_missing(shard, &image).await.map_err(|error| failed(&error))?;
    shard.metadata.replace(Rc::new(image));
    shard.groups.topics_have_changed();
    replication::follow::image_replaced(shard);
    created.into_iter().for_each(|topic_id| follow::topic_created(shard, topic_id));
    logs::remove_others(shard).await.map_err(|error| failed(&error))?;
    live::refresh(shard);
    overrides::refresh(shard);
    Ok(())
}

/// Tells all shards who the active controller is, whenever that changes.
pub async fn tell_leadership(shard: Rc<Shard>, mut leadership: watch::Receiver<LeaderChange>) {
    loop {
        let now = *leadership.borrow_and_update();
        let tell = move |shard: &Rc<Shard>| {
            shard.metadata.leadership.set(now);
            std::future::ready(())
        };
        shard.mesh.call_all(tell).await;
        if leadership.changed().await.is_err() {
            return;
        }
    }
}
