//! New records reach every shard, in order: the controller waits until all have taken one batch before it sends the next.
//!
//! A shard makes the partition logs of new topics before its image shows them, and removes those of deleted topics after its image has
//! forgotten them: whoever finds a partition in the image finds its log.

use std::rc::Rc;
use std::sync::Arc;

use coord::metadata::MetadataRecord;
use futures::future::join_all;

use super::ControllerError;
use crate::shard::Shard;
use crate::{groups, logs};

/// Has every shard take the records; returns when all have.
pub async fn to_all_shards(shard: &Rc<Shard>, records: Arc<[MetadataRecord]>) -> Result<(), ControllerError> {
    let calls: Vec<_> = shard
        .mesh
        .shards()
        .map(|target| {
            let records = Arc::clone(&records);
            shard.mesh.call(target, move |shard: &Rc<Shard>| {
                let shard = Rc::clone(shard);
                async move { apply(&shard, &records).await }
            })
        })
        .collect();
    join_all(calls).await.into_iter().collect()
}

/// One shard takes the records.
async fn apply(shard: &Rc<Shard>, records: &[MetadataRecord]) -> Result<(), ControllerError> {
    let failed = |error: &dyn std::fmt::Display| ControllerError::Failed(error.to_string());
    let mut image = shard.image();
    Rc::make_mut(&mut image).replay_all(records).map_err(|error| failed(&error))?;
    logs::add(shard, &image, records).await.map_err(|error| failed(&error))?;
    let before = shard.metadata.image.replace(Rc::clone(&image));
    groups::follow::follow(shard, &before, &image, records);
    logs::remove(shard, records).await.map_err(|error| failed(&error))
}
