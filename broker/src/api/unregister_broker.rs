//! UnregisterBroker (key 64): a broker that is gone for good is forgotten.
//!
//! Source: `ControllerApis.unregisterBroker`. Unlike Kafka's this broker does not forget one that is running: it would register again at once.

use coord::types::BrokerId;
use protocol::ErrorCode;
use protocol::messages::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};

use super::{Answer, Call};
use crate::controller;

/// Forgets the broker.
pub async fn handle(call: Call) -> Answer {
    let request: UnregisterBrokerRequest<'_> = call.decode()?;
    let broker = BrokerId(request.broker_id);
    let outcome = if call.shard.image().is_active(broker) {
        let text = format!("Broker {broker} is running and cannot be unregistered.");
        Err((ErrorCode::INVALID_REQUEST, text))
    } else {
        let outcome = controller::unregister_broker(&call.shard, broker).await;
        outcome.map_err(|error| (error.code(), error.to_string()))
    };
    let response = match outcome {
        Ok(()) => UnregisterBrokerResponse { error_message: None, ..Default::default() },
        Err((error, message)) => UnregisterBrokerResponse {
            error_code: error.code(),
            error_message: Some(message.into()),
            ..Default::default()
        },
    };
    call.respond(&response)
}
