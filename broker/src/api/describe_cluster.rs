//! DescribeCluster (key 60): cluster id, controller, brokers (KIP-700, KIP-919, KIP-1073).

use std::borrow::Cow;

use coord::metadata::MetadataImage;
use protocol::ErrorCode;
use protocol::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};

use super::metadata::{CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED};
use super::{Answer, Call};
use crate::controller::CLIENT_LISTENER;
use crate::shard::Shard;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Answers from this shard's image; a node that is a controller only speaks for itself.
pub async fn handle(call: Call) -> Answer {
    let request: DescribeClusterRequest<'_> = call.decode()?;
    let image = call.shard.image();
    let is_broker = call.shard.config().process_roles.broker();
    let own = if is_broker { BROKERS } else { CONTROLLERS };
    if let Some(refusal) = mismatch(own, request.endpoint_type) {
        return call.respond(&refusal);
    }
    let (brokers, controller_id) = match is_broker {
        true => (brokers(&image, request.include_fenced_brokers), call.shard.metadata.controller_id(&image)),
        false => (vec![this_controller(&call.shard)], call.shard.broker_id().0),
    };
    call.respond(&DescribeClusterResponse {
        endpoint_type: own,
        cluster_id: Cow::Owned(protocol::uuid_text(image.cluster_id())),
        controller_id,
        brokers,
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => CLUSTER_OPERATIONS,
            false => OPERATIONS_NOT_ASKED,
        },
        ..Default::default()
    })
}

/// The refusal, if a node that has endpoints of one type is asked for another.
fn mismatch(own: i8, wanted: i8) -> Option<DescribeClusterResponse<'static>> {
    let (error, text) = match wanted {
        _ if wanted == own => return None,
        BROKERS | CONTROLLERS => {
            let name = |endpoint_type| if endpoint_type == BROKERS { "BROKER" } else { "CONTROLLER" };
            let (own, wanted) = (name(own), name(wanted));
            let text = format!(
                "The request was sent to an endpoint of type {own}, but we wanted an endpoint of type {wanted}"
            );
            (ErrorCode::MISMATCHED_ENDPOINT_TYPE, text)
        }
        other => (ErrorCode::UNSUPPORTED_ENDPOINT_TYPE, format!("Unsupported endpoint type {other}")),
    };
    Some(DescribeClusterResponse {
        error_code: error.code(),
        error_message: Some(Cow::Owned(text)),
        endpoint_type: wanted,
        ..Default::default()
    })
}

fn brokers(image: &MetadataImage, include_fenced: bool) -> Vec<DescribeClusterBroker<'_>> {
    let shown = image.brokers().filter(|broker| !broker.fenced || include_fenced);
    shown
        .filter_map(|broker| {
            let endpoint = broker.endpoint(CLIENT_LISTENER)?;
            Some(DescribeClusterBroker {
                broker_id: broker.id.0,
                host: Cow::Borrowed(&endpoint.host),
                port: i32::from(endpoint.port),
                rack: broker.rack.as_deref().map(Cow::Borrowed),
                is_fenced: broker.fenced,
                ..Default::default()
            })
        })
        .collect()
}

/// The one controller that a client needs: it passes on what is for the active one. Where the others take clients is not in the metadata.
fn this_controller(shard: &Shard) -> DescribeClusterBroker<'_> {
    let advertised = &shard.broker.advertised;
    DescribeClusterBroker {
        broker_id: shard.broker_id().0,
        host: Cow::Borrowed(&advertised.host),
        port: i32::from(advertised.port),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_for_endpoints_of_another_kind_is_told_so() {
        let error = |own, wanted| mismatch(own, wanted).map(|refusal| ErrorCode(refusal.error_code));
        assert_eq!(error(BROKERS, BROKERS), None);
        assert_eq!(error(CONTROLLERS, CONTROLLERS), None);
        assert_eq!(error(BROKERS, CONTROLLERS), Some(ErrorCode::MISMATCHED_ENDPOINT_TYPE));
        assert_eq!(error(CONTROLLERS, BROKERS), Some(ErrorCode::MISMATCHED_ENDPOINT_TYPE));
        assert_eq!(error(CONTROLLERS, 3), Some(ErrorCode::UNSUPPORTED_ENDPOINT_TYPE));
        let text = mismatch(CONTROLLERS, BROKERS).and_then(|refusal| refusal.error_message);
        let expected = "The request was sent to an endpoint of type CONTROLLER, but we wanted an endpoint of type BROKER";
        assert_eq!(text.as_deref(), Some(expected));
    }
}
