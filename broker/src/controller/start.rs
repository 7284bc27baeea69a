//! Loading the metadata, before clients are let in: shard 0 joins the quorum, introduces this broker, and all shards take the image.
//!
//! The image that logs are opened by has to be at least as new as what this node had applied before it was stopped: an older one would not know topics whose
//! data is there. A broker of a cluster gets such an image by its registration: that entry comes after everything that was ever committed before.

use std::rc::Rc;

use coord::metadata::decide::{RegisterBroker, create_cluster, register_broker};
use coord::metadata::{DecideContext, Endpoint, MetadataImage};
use coord::types::BrokerId;
use storage::disk::DirectDisk;
use uuid::Uuid;

use super::apply::{self, Stage};
use super::identity::{self, Identity};
use super::journal::{self, Found, Journal, decode_image};
use super::quorum::{Quorum, Sender};
use super::{
    CLIENT_LISTENER, CONTROLLER_SHARD, Controller, ControllerError, PLAINTEXT, contact, control, membership,
    peers,
};
use crate::cluster::Purpose;
use crate::shard::Shard;
use crate::{Error, runtime};

/// Fills the shard's image; on shard 0 joins the quorum first. If something fails there later on, it stops the broker.
pub async fn load(shard: &Rc<Shard>, disk: DirectDisk) -> Result<(), Error> {
    let known = read_identity(shard)?;
    if let Some(cluster_id) = known.as_ref().and_then(Identity::cluster_uuid) {
        shard.cluster.know(cluster_id);
    }
    if shard.broker.cluster.is_some() {
        take_messages(shard);
        control::serve(shard);
    }
    if shard.id == CONTROLLER_SHARD {
        join(shard, disk.clone(), known).await?;
        // What is committed from here on waits until all shards can take it.
        if let Some(quorum) = shard.metadata.quorum() {
            shard.metadata.applied.enter(Stage::Opening, &quorum);
        }
        let image = shard.image();
        let cleared = crate::logs::remove_deleted(shard, &disk, &image).await;
        cleared
            .map_err(|error| Error::Unsuitable(format!("deleted partitions cannot be removed: {error}")))?;
        shard.metadata.is_loaded.send_replace(true);
        return Ok(());
    }
    // If shard 0 fails instead, the broker stops, and this wait with it.
    let image = shard.mesh.call(CONTROLLER_SHARD, |controller: &Rc<Shard>| {
        let controller = Rc::clone(controller);
        async move {
            let mut is_loaded = controller.metadata.is_loaded.subscribe();
            let _ = is_loaded.wait_for(|is_loaded| *is_loaded).await;
            (MetadataImage::clone(&controller.image()), controller.metadata.leadership())
        }
    });
    let (image, leadership) = image.await;
    shard.cluster.know(image.cluster_id());
    shard.metadata.image.replace(Rc::new(image));
    shard.metadata.leadership.set(leadership);
    Ok(())
}

/// This shard takes what is published from now on; when all do, publishing begins.
pub async fn follow(shard: &Rc<Shard>) {
    let follows = shard.mesh.call(CONTROLLER_SHARD, |controller: &Rc<Shard>| {
        let open = controller.metadata.open_shards.get() + 1;
        controller.metadata.open_shards.set(open);
        if open == controller.count()
            && let Some(quorum) = controller.metadata.quorum()
        {
            controller.metadata.applied.enter(Stage::Open, &quorum);
            if controller.broker.cluster.is_some() && controller.config().process_roles.broker() {
                runtime::spawn(membership::keep_alive(Rc::clone(controller)));
                runtime::spawn(contact::watch(Rc::clone(controller)));
            }
        }
        std::future::ready(())
    });
    follows.await;
}

/// Messages of the quorum cross to shard 0.
fn take_messages(shard: &Rc<Shard>) {
    let shard_of_links = Rc::downgrade(shard);
    shard.cluster.serve(Purpose::Quorum, move |link| {
        let Some(shard) = shard_of_links.upgrade() else { return };
        runtime::spawn(async move {
            let Ok(opening) = link.recv().await else { return };
            let Some(directory) = peers::decode_opening(&opening) else { return link.close() };
            let from = Sender { node: link.peer(), directory };
            while let Ok(frame) = link.recv().await {
                let taken = shard.mesh.call(CONTROLLER_SHARD, move |controller: &Rc<Shard>| {
                    let quorum = controller.metadata.quorum();
                    std::future::ready(quorum.is_none_or(|quorum| quorum.receive(from, &frame)))
                });
                if !taken.await {
                    link.close();
                }
            }
        });
    });
}

async fn join(shard: &Rc<Shard>, disk: DirectDisk, known: Option<Identity>) -> Result<(), Error> {
    let broken =
        |error: ControllerError| Error::Unsuitable(format!("the metadata log cannot be used: {error}"));
    let first_voters = first_voters(shard);
    let data_dir = shard.broker.data_dir();
    let mut found = Journal::open(disk, data_dir, shard.broker_id()).await.map_err(broken)?;
    let of_cluster = known.as_ref().filter(|known| known.cluster_id.is_some());
    if let Some(known) = of_cluster.filter(|_| found.is_new) {
        return Err(Error::Unsuitable(format!(
            "the data directory {} belongs to cluster {} (meta.properties), but its metadata log ({}) is missing or empty: without it \
             the topics' data would be taken for garbage, and this node would forget what it has voted for. Restore the file, or start \
             with an empty data directory",
            data_dir.display(),
            known.cluster_id.as_deref().unwrap_or_default(),
            journal::FILE
        )));
    }
    let known = with_directory(shard, known)?;
    shard.metadata.directory_id.set(known.directory_id);
    found.begin(&first_voters).await.map_err(broken)?;
    let Found { journal, recovered, is_new } = found;
    if let Some(snapshot) = &recovered.snapshot {
        shard.metadata.replace(Rc::new(decode_image(&snapshot.data).map_err(broken)?));
    }
    let (quorum, persists) =
        Quorum::new(shard, &recovered, journal.size()).map_err(|error| broken(error.into()))?;
    check_members(shard, &quorum)?;
    assert!(shard.metadata.quorum.set(Rc::clone(&quorum)).is_ok(), "the quorum is joined once");
    let controller = Controller::new(shard, &quorum);
    assert!(shard.metadata.controller.set(controller).is_ok(), "the controller is started once");
    let quorum_of_journal = Rc::clone(&quorum);
    let writing = journal.run(persists, move |number| quorum_of_journal.persisted(number));
    run_or_fail(shard, writing);
    run_or_fail(shard, apply::run(Rc::clone(shard), Rc::clone(&quorum)));
    runtime::spawn(super::publish::tell_leadership(Rc::clone(shard), quorum.leadership()));
    // A node that is new and does not vote has nothing that messages could be about until it is a member.
    let is_stranger = is_new && first_voters.is_empty();
    if !is_stranger {
        quorum.open();
    }
    runtime::spawn(Rc::clone(&quorum).run_clock());
    introduce(shard, &quorum, is_new).await.map_err(broken)?;
    settle_identity(shard, known)
}

fn run_or_fail(shard: &Rc<Shard>, work: impl Future<Output = Result<(), ControllerError>> + 'static) {
    let shard = Rc::clone(shard);
    runtime::spawn(async move {
        if let Err(error) = work.await {
            shard.fail(error.to_string());
        }
    });
}

/// Who begins a new quorum: the voters, all in the same way; nobody else.
fn first_voters(shard: &Shard) -> Vec<BrokerId> {
    let config = shard.config();
    let voters = &config.controller_quorum_voters;
    if voters.is_empty() {
        return vec![shard.broker_id()];
    }
    if config.voter_address().is_none() {
        return Vec::new();
    }
    let mut ids: Vec<BrokerId> = voters.0.iter().map(|voter| BrokerId(voter.id)).collect();
    ids.sort_unstable();
    ids
}

/// The journal knows who belongs to the quorum; the configuration only says where they are.
fn check_members(shard: &Shard, quorum: &Quorum) -> Result<(), Error> {
    let me = shard.broker_id();
    let mut voters = quorum.members().voters;
    voters.sort_unstable();
    let configured = first_voters(shard);
    let names = |ids: &[BrokerId]| ids.iter().map(BrokerId::to_string).collect::<Vec<_>>().join(", ");
    if voters.is_empty() || configured.is_empty() || voters == configured {
        return Ok(());
    }
    let is_by_itself = |ids: &[BrokerId]| ids == [me];
    if is_by_itself(&configured) || is_by_itself(&voters) {
        return Err(Error::Unsuitable(format!(
            "the data directory {} belongs to a metadata quorum of node {}, but controller_quorum_voters says {}: nodes that begin a quorum \
             without this one's metadata would be another cluster. Start with the voters of the data directory",
            shard.broker.data_dir().display(),
            names(&voters),
            names(&configured)
        )));
    }
    tracing::warn!(
        voters = names(&voters),
        configured = names(&configured),
        "controller_quorum_voters differs from the voters of the metadata quorum, which count"
    );
    Ok(())
}

/// Brings this node to where its image has everything that it had before, and itself.
async fn introduce(shard: &Rc<Shard>, quorum: &Rc<Quorum>, is_new: bool) -> Result<(), ControllerError> {
    if shard.broker.cluster.is_none() {
        return introduce_alone(shard).await;
    }
    if shard.config().process_roles.broker() {
        let index = membership::register(shard, is_new).await;
        quorum.open();
        shard.metadata.applied.reach(index).await;
        return Ok(());
    }
    runtime::spawn(membership::tell_directory(Rc::clone(shard)));
    // Without partitions there is nothing that an old image could do harm to; but it has to be that of a cluster.
    while shard.image().cluster_id().is_nil() {
        let next = shard.metadata.applied.index() + 1;
        shard.metadata.applied.reach(next).await;
    }
    Ok(())
}

/// Gives a new cluster its id, and registers this process: it holds the directory, so an earlier process of the same node is gone.
async fn introduce_alone(shard: &Rc<Shard>) -> Result<(), ControllerError> {
    let controller = shard.metadata.controller.get().expect("started above");
    controller.active().await;
    let named = controller.commit(|image, context| Ok(create_cluster(image, context)));
    let advertised = &shard.broker.advertised;
    let endpoint = Endpoint {
        listener: CLIENT_LISTENER.to_owned(),
        host: advertised.host.clone(),
        port: advertised.port,
        security_protocol: PLAINTEXT,
    };
    let (id, rack) = (shard.broker_id(), shard.config().broker_rack.clone());
    let registered = controller.commit(move |image: &MetadataImage, context: &mut DecideContext<'_>| {
        let incarnation_id = context.new_id();
        let command = RegisterBroker { id, incarnation_id, rack, endpoints: vec![endpoint], fenced: false };
        register_broker(image, command, true)
    });
    named.await?;
    let (_, index) = registered.await?;
    shard.metadata.applied.reach(index).await;
    Ok(())
}

fn read_identity(shard: &Shard) -> Result<Option<Identity>, Error> {
    let config = shard.config();
    let data_dir = shard.broker.data_dir();
    let known =
        identity::read(data_dir).map_err(|source| Error::DataDir { path: data_dir.clone(), source })?;
    match known {
        Some(known) if known.node_id != config.node_id => Err(Error::Unsuitable(format!(
            "the data directory {} belongs to node {} (meta.properties), but node_id is {}. Start with node_id = {}, or give this node \
             a data directory of its own",
            data_dir.display(),
            known.node_id,
            config.node_id,
            known.node_id
        ))),
        known => Ok(known),
    }
}

/// The identity with an id for the directory, drawn now if it has none: it is on the disk before this node promises anything to others.
fn with_directory(shard: &Shard, known: Option<Identity>) -> Result<Identity, Error> {
    let node_id = shard.config().node_id;
    let known = known.unwrap_or(Identity { cluster_id: None, node_id, directory_id: Uuid::nil() });
    if !known.directory_id.is_nil() {
        return Ok(known);
    }
    let directory_id = DecideContext { random: &mut runtime::random_bits }.new_id();
    let known = Identity { directory_id, ..known };
    write_identity(shard, &known)?;
    Ok(known)
}

fn write_identity(shard: &Shard, identity: &Identity) -> Result<(), Error> {
    let data_dir = shard.broker.data_dir();
    identity::write(data_dir, identity).map_err(|source| Error::DataDir { path: data_dir.clone(), source })
}

/// From now on the data directory belongs to the image's cluster, if it did not yet.
fn settle_identity(shard: &Shard, known: Identity) -> Result<(), Error> {
    let (data_dir, image) = (shard.broker.data_dir(), shard.image());
    let cluster_id = protocol::uuid_text(image.cluster_id());
    match &known.cluster_id {
        Some(known) if *known == cluster_id => {}
        Some(known) => {
            return Err(Error::Unsuitable(format!(
                "the data directory {} belongs to cluster {known} (meta.properties), but its metadata log to {cluster_id}: one of them was put \
                 there from elsewhere",
                data_dir.display(),
            )));
        }
        None => {
            let cluster_id = Some(cluster_id.clone());
            write_identity(shard, &Identity { cluster_id, ..known })?;
        }
    }
    shard.cluster.know(image.cluster_id());
    tracing::info!(
        cluster_id,
        topics = image.topic_count(),
        partitions = image.partition_count(),
        "metadata loaded"
    );
    Ok(())
}
