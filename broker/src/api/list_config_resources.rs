//! ListConfigResources (key 74): what has configs (KIP-1142); version 0 asks for subscriptions to client metrics alone (KIP-714), of which there are
//! none.

use std::borrow::Cow;

use coord::config::ConfigResourceType;
use coord::metadata::MetadataImage;
use protocol::ErrorCode;
use protocol::messages::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};

use super::{Answer, Call};

/// Answers from this shard's image.
pub async fn handle(call: Call) -> Answer {
    let request: ListConfigResourcesRequest<'_> = call.decode()?;
    let wanted = match (call.version, request.resource_types.is_empty()) {
        (0, _) => Some(vec![ConfigResourceType::ClientMetrics]),
        (_, true) => Some(ConfigResourceType::ALL.to_vec()),
        _ => request.resource_types.iter().map(|number| ConfigResourceType::from_wire(*number)).collect(),
    };
    let Some(wanted) = wanted else {
        let error_code = ErrorCode::UNSUPPORTED_VERSION.code();
        return call.respond(&ListConfigResourcesResponse { error_code, ..Default::default() });
    };
    let image = call.shard.image();
    let config_resources = wanted.into_iter().flat_map(|kind| {
        names(&image, kind).into_iter().map(move |resource_name| ConfigResource {
            resource_name,
            resource_type: kind.wire(),
            ..Default::default()
        })
    });
    call.respond(&ListConfigResourcesResponse {
        config_resources: config_resources.collect(),
        ..Default::default()
    })
}

/// All topics and brokers, and the groups for which something was set.
fn names(image: &MetadataImage, kind: ConfigResourceType) -> Vec<Cow<'_, str>> {
    match kind {
        ConfigResourceType::Topic => image.topics().map(|topic| Cow::Borrowed(&*topic.name)).collect(),
        ConfigResourceType::Broker | ConfigResourceType::BrokerLogger => {
            image.brokers().map(|broker| Cow::Owned(broker.id.to_string())).collect()
        }
        ConfigResourceType::Group => {
            let groups = image.configured_resources().filter(|(of, ..)| *of == kind);
            groups.map(|(_, name, _)| Cow::Borrowed(name)).collect()
        }
        ConfigResourceType::ClientMetrics => Vec::new(),
    }
}
