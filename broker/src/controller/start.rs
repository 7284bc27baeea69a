//! Loading the metadata, before clients are let in: shard 0 reads the log, introduces this broker, and all shards take the image.

use std::rc::Rc;

use coord::metadata::decide::{RegisterBroker, create_cluster, register_broker};
use coord::metadata::{DecideContext, Endpoint, MetadataImage, encode_entry};
use coord::types::BrokerId;
use storage::disk::DirectDisk;

use super::active::{Controller, random_bits};
use super::identity::{self, Identity};
use super::log::MetadataLog;
use super::{CLIENT_LISTENER, CONTROLLER_SHARD, ControllerError};
use crate::Error;
use crate::shard::Shard;

/// Kafka's number of the protocol without encryption or authentication.
const PLAINTEXT: i16 = 0;

/// Fills the shard's image; on shard 0 starts the controller first. If that fails later on, it stops the broker.
pub async fn load(shard: &Rc<Shard>, disk: DirectDisk) -> Result<(), Error> {
    if shard.id == CONTROLLER_SHARD {
        let (log, image) = open(shard, disk.clone()).await?;
        let cleared = crate::logs::remove_deleted(&disk, shard.broker.data_dir(), &image).await;
        cleared
            .map_err(|error| Error::Unsuitable(format!("deleted partitions cannot be removed: {error}")))?;
        shard.metadata.image.replace(Rc::new(image.clone()));
        let (controller, work) = Controller::new(image, log, shard);
        assert!(shard.metadata.controller.set(controller).is_ok(), "the controller is started once");
        let shard_of_controller = Rc::clone(shard);
        crate::runtime::spawn(async move {
            if let Err(error) = work.await {
                shard_of_controller.fail(error.to_string());
            }
        });
        shard.metadata.is_loaded.send_replace(true);
        return Ok(());
    }
    // If shard 0 fails instead, the broker stops, and this wait with it.
    let image = shard.mesh.call(CONTROLLER_SHARD, |controller: &Rc<Shard>| {
        let controller = Rc::clone(controller);
        async move {
            let mut is_loaded = controller.metadata.is_loaded.subscribe();
            let _ = is_loaded.wait_for(|is_loaded| *is_loaded).await;
            MetadataImage::clone(&controller.image())
        }
    });
    shard.metadata.image.replace(Rc::new(image.await));
    Ok(())
}

async fn open(shard: &Rc<Shard>, disk: DirectDisk) -> Result<(MetadataLog, MetadataImage), Error> {
    let config = shard.config();
    let data_dir = shard.broker.data_dir();
    let unreadable = |source| Error::DataDir { path: data_dir.clone(), source };
    let known = identity::read(data_dir).map_err(unreadable)?;
    if let Some(known) = known.as_ref().filter(|known| known.node_id != config.node_id) {
        return Err(Error::Unsuitable(format!(
            "the data directory {} belongs to node {} (meta.properties), but node_id is {}. Start with node_id = {}, or give this node \
             a data directory of its own",
            data_dir.display(),
            known.node_id,
            config.node_id,
            known.node_id
        )));
    }
    let broken =
        |error: ControllerError| Error::Unsuitable(format!("the metadata log cannot be used: {error}"));
    let (mut log, mut image) = MetadataLog::open(disk, data_dir).await.map_err(broken)?;
    if let Some(known) = known.as_ref().filter(|_| image.cluster_id().is_nil()) {
        return Err(Error::Unsuitable(format!(
            "the data directory {} belongs to cluster {} (meta.properties), but its metadata log ({}) is missing or empty: without it \
             the topics' data would be taken for garbage. Restore the file, or start with an empty data directory",
            data_dir.display(),
            known.cluster_id,
            super::log::FILE
        )));
    }
    introduce(shard, &mut log, &mut image).await.map_err(broken)?;
    let identity = Identity { cluster_id: protocol::uuid_text(image.cluster_id()), node_id: config.node_id };
    match known {
        Some(known) if known == identity => {}
        Some(known) => {
            return Err(Error::Unsuitable(format!(
                "the data directory {} belongs to cluster {} (meta.properties), but its metadata log to {}: one of them was put \
                 there from elsewhere",
                data_dir.display(),
                known.cluster_id,
                identity.cluster_id
            )));
        }
        None => identity::write(data_dir, &identity).map_err(unreadable)?,
    }
    tracing::info!(
        cluster_id = identity.cluster_id,
        topics = image.topic_count(),
        partitions = image.partition_count(),
        "metadata loaded"
    );
    Ok((log, image))
}

/// Gives a new cluster its id, and registers this process: it holds the directory, so an earlier process of the same node is gone.
async fn introduce(
    shard: &Rc<Shard>,
    log: &mut MetadataLog,
    image: &mut MetadataImage,
) -> Result<(), ControllerError> {
    let mut random = random_bits;
    let mut context = DecideContext { random: &mut random };
    let cluster = create_cluster(image, &mut context).records;
    let incarnation_id = context.new_id();
    commit(log, image, cluster).await?;
    let advertised = &shard.broker.advertised;
    let endpoint = Endpoint {
        listener: CLIENT_LISTENER.to_owned(),
        host: advertised.host.clone(),
        port: advertised.port,
        security_protocol: PLAINTEXT,
    };
    let registration = RegisterBroker {
        id: BrokerId(shard.config().node_id),
        incarnation_id,
        rack: shard.config().broker_rack.clone(),
        endpoints: vec![endpoint],
        fenced: false,
    };
    let registered = register_broker(image, registration, true)?;
    commit(log, image, registered.records).await
}

async fn commit(
    log: &mut MetadataLog,
    image: &mut MetadataImage,
    records: Vec<coord::metadata::MetadataRecord>,
) -> Result<(), ControllerError> {
    if records.is_empty() {
        return Ok(());
    }
    log.append(&[encode_entry(&records)]).await?;
    image.replay_all(&records).map_err(|error| ControllerError::Failed(error.to_string()))
}
