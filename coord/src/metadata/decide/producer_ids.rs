//! Producer ids, handed to brokers in blocks so that a new producer costs no change of the metadata.

use super::Decision;
use crate::error::CoordError;
use crate::metadata::image::MetadataImage;
use crate::metadata::record::MetadataRecord;
use crate::types::{BrokerId, ProducerId};

/// Ids in a block, as in Kafka.
pub const PRODUCER_ID_BLOCK_SIZE: i64 = 1000;

/// Ids that their owner may hand out, each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdBlock {
    /// The first id.
    pub first: ProducerId,
    /// The number of ids.
    pub count: i64,
}

/// The next block of producer ids for a broker.
pub fn allocate_producer_ids(
    image: &MetadataImage,
    broker_id: BrokerId,
) -> Result<Decision<ProducerIdBlock>, CoordError> {
    let broker = image.broker(broker_id).ok_or(CoordError::BrokerIdNotRegistered(broker_id.0))?;
    let first = image.next_producer_id();
    let next_producer_id =
        first.checked_add(PRODUCER_ID_BLOCK_SIZE).ok_or(CoordError::ProducerIdsExhausted)?;
    let record =
        MetadataRecord::ProducerIds { broker_id, broker_epoch: broker.broker_epoch, next_producer_id };
    let block = ProducerIdBlock { first: ProducerId(first), count: PRODUCER_ID_BLOCK_SIZE };
    Ok(Decision { records: vec![record], reply: block })
}
