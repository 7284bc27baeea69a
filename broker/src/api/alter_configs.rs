//! AlterConfigs (key 33): all configs of a resource are replaced by those of the request.
//!
//! Old clients use it; the newer ones have IncrementalAlterConfigs. Source: `ConfigurationControlManager.legacyAlterConfigs`.

use coord::metadata::decide::ConfigEdit;
use protocol::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse,
};

use super::configs::{self, Requested};
use super::{Answer, Call};

/// Replaces, or only checks.
pub async fn handle(call: Call) -> Answer {
    let request: AlterConfigsRequest<'_> = call.decode()?;
    let resources = request.resources.iter().map(|resource| {
        let configs = resource.configs.iter();
        let all = configs.map(|c| (c.name.to_string(), c.value.as_deref().map(str::to_owned))).collect();
        Requested {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.to_string(),
            edit: Ok(ConfigEdit::Replace(all)),
        }
    });
    let outcomes = configs::alter(&call, resources.collect(), request.validate_only).await;
    let responses = request.resources.iter().zip(outcomes).map(|(resource, outcome)| {
        let (error_code, error_message) = match outcome {
            Ok(()) => (0, None),
            Err((code, message)) => (code.code(), Some(message.into())),
        };
        AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.as_ref().into(),
            ..Default::default()
        }
    });
    call.respond(&AlterConfigsResponse { responses: responses.collect(), ..Default::default() })
}
