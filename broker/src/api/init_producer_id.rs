//! InitProducerId (key 22): an id for an idempotent producer.
//!
//! Without a transactional id Kafka hands out a fresh id with epoch 0, whatever id the producer had before: an idempotent producer bumps
//! its own epoch (KIP-360). Transactional ids are refused until there is a transaction coordinator.
//! Source: `KafkaApis.handleInitProducerIdRequest`, `TransactionCoordinator.handleInitProducerId`.

use protocol::ErrorCode;
use protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

use super::{Answer, Call};

const NO_PRODUCER_ID: i64 = -1;
const NO_PRODUCER_EPOCH: i16 = -1;

/// Answers with an id of this shard's block.
pub async fn handle(call: Call) -> Answer {
    let request: InitProducerIdRequest<'_> = call.decode()?;
    let response = match refusal(&request) {
        Some(error) => failed(error),
        None => match call.shard.metadata.producer_ids.next(&call.shard).await {
            Ok(id) => InitProducerIdResponse { producer_id: id.0, producer_epoch: 0, ..Default::default() },
            Err(error) => failed(error.code()),
        },
    };
    call.respond(&response)
}

fn refusal(request: &InitProducerIdRequest<'_>) -> Option<ErrorCode> {
    if (request.producer_id == NO_PRODUCER_ID) != (request.producer_epoch == NO_PRODUCER_EPOCH) {
        return Some(ErrorCode::INVALID_REQUEST);
    }
    match request.transactional_id.as_deref() {
        None => None,
        Some("") => Some(ErrorCode::INVALID_REQUEST),
        Some(_) => Some(ErrorCode::UNSUPPORTED_VERSION),
    }
}

fn failed(error: ErrorCode) -> InitProducerIdResponse<'static> {
    InitProducerIdResponse {
        error_code: error.code(),
        producer_id: NO_PRODUCER_ID,
        producer_epoch: NO_PRODUCER_EPOCH,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_idempotent_producers_are_served() {
        let idempotent = InitProducerIdRequest { transactional_id: None, ..Default::default() };
        assert_eq!(refusal(&idempotent), None);
        let again = InitProducerIdRequest { producer_id: 5, producer_epoch: 3, ..idempotent.clone() };
        assert_eq!(refusal(&again), None);
        let half = InitProducerIdRequest { producer_id: 5, producer_epoch: -1, ..idempotent.clone() };
        assert_eq!(refusal(&half), Some(ErrorCode::INVALID_REQUEST));
        let transactional =
            InitProducerIdRequest { transactional_id: Some("t".into()), ..Default::default() };
        assert_eq!(refusal(&transactional), Some(ErrorCode::UNSUPPORTED_VERSION));
    }
}
