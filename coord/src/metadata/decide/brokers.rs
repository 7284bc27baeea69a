//! The life of the cluster and of its brokers.

use uuid::Uuid;

use super::features::FEATURES;
use super::{DecideContext, Decision};
use crate::error::CoordError;
use crate::metadata::image::{BrokerRegistration, Endpoint, MetadataImage};
use crate::metadata::record::MetadataRecord;
use crate::types::BrokerId;

/// A broker introduces itself after its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterBroker {
    /// `node.id`
    pub id: BrokerId,
    /// New for every start of the process.
    pub incarnation_id: Uuid,
    /// `broker.rack`
    pub rack: Option<String>,
    /// Where clients reach it.
    pub endpoints: Vec<Endpoint>,
    /// Whether it starts fenced (until it has caught up with the metadata); the only node of a cluster need not.
    pub fenced: bool,
}

/// Gives a new cluster its id, and every feature its highest level; replies with the id, old or new.
pub fn create_cluster(image: &MetadataImage, context: &mut DecideContext<'_>) -> Decision<Uuid> {
    if !image.cluster_id().is_nil() {
        return Decision::unchanged(image.cluster_id());
    }
    let cluster_id = context.new_id();
    let features = FEATURES.iter().map(|feature| MetadataRecord::FeatureLevel {
        feature: feature.name.to_owned(),
        level: feature.max_level,
    });
    let records = std::iter::once(MetadataRecord::Cluster { cluster_id }).chain(features).collect();
    Decision { records, reply: cluster_id }
}

/// Registers a broker; replies with its new epoch, or with the one that it has if this process asks again because it has not heard the answer. An active registration of another incarnation is in the way: it must be fenced first,
/// unless `takes_over` says that the caller knows the earlier process to be gone (it holds the data directory's lock).
pub fn register_broker(
    image: &MetadataImage,
    command: RegisterBroker,
    takes_over: bool,
) -> Result<Decision<i64>, CoordError> {
    if let Some(earlier) = image.broker(command.id)
        && !takes_over
        && !earlier.fenced
        && earlier.incarnation_id != command.incarnation_id
    {
        return Err(CoordError::DuplicateBrokerRegistration(command.id.0));
    }
    if let Some(known) = image.broker(command.id)
        && known.incarnation_id == command.incarnation_id
        && (&known.rack, &known.endpoints) == (&command.rack, &command.endpoints)
    {
        return Ok(Decision::unchanged(known.broker_epoch));
    }
    let broker_epoch = image.next_offset();
    let registration = BrokerRegistration {
        id: command.id,
        incarnation_id: command.incarnation_id,
        broker_epoch,
        fenced: command.fenced,
        rack: command.rack,
        endpoints: command.endpoints,
    };
    Ok(Decision { records: vec![MetadataRecord::RegisterBroker(registration)], reply: broker_epoch })
}

/// Fences or unfences a broker.
pub fn set_fencing(
    image: &MetadataImage,
    broker_id: BrokerId,
    broker_epoch: i64,
    fenced: bool,
) -> Result<Decision<()>, CoordError> {
    let broker = image.broker(broker_id).ok_or(CoordError::BrokerIdNotRegistered(broker_id.0))?;
    if broker.broker_epoch != broker_epoch {
        return Err(CoordError::StaleBrokerEpoch { expected: broker.broker_epoch, got: broker_epoch });
    }
    if broker.fenced == fenced {
        return Ok(Decision::unchanged(()));
    }
    Ok(Decision {
        records: vec![MetadataRecord::BrokerFencing { broker_id, broker_epoch, fenced }],
        reply: (),
    })
}

/// Removes a broker for good.
pub fn unregister_broker(image: &MetadataImage, broker_id: BrokerId) -> Result<Decision<()>, CoordError> {
    let broker = image.broker(broker_id).ok_or(CoordError::BrokerIdNotRegistered(broker_id.0))?;
    let broker_epoch = broker.broker_epoch;
    Ok(Decision { records: vec![MetadataRecord::UnregisterBroker { broker_id, broker_epoch }], reply: () })
}
