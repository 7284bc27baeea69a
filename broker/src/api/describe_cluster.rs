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

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Answers from this shard's image.
pub async fn handle(call: Call) -> Answer {
    let request: DescribeClusterRequest<'_> = call.decode()?;
    let image = call.shard.image();
    let controller_id = call.shard.metadata.controller_id(&image);
    call.respond(&response(&image, controller_id, &request))
}

fn response<'a>(
    image: &'a MetadataImage,
    controller_id: i32,
    request: &DescribeClusterRequest<'_>,
) -> DescribeClusterResponse<'a> {
    let refused = |error: ErrorCode, message: String| DescribeClusterResponse {
        error_code: error.code(),
        error_message: Some(Cow::Owned(message)),
        endpoint_type: request.endpoint_type,
        ..Default::default()
    };
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => {
            let text = "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER";
            return refused(ErrorCode::MISMATCHED_ENDPOINT_TYPE, text.to_owned());
        }
        other => {
            return refused(
                ErrorCode::UNSUPPORTED_ENDPOINT_TYPE,
                format!("Unsupported endpoint type {other}"),
            );
        }
    }
    let shown = image.brokers().filter(|broker| !broker.fenced || request.include_fenced_brokers);
    let brokers: Vec<_> = shown
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
        .collect();
    DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: Cow::Owned(protocol::uuid_text(image.cluster_id())),
        controller_id,
        brokers,
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => CLUSTER_OPERATIONS,
            false => OPERATIONS_NOT_ASKED,
        },
        ..Default::default()
    }
}
