//! IncrementalAlterConfigs (key 44): some configs of resources are set, removed, or have elements added and taken away (KIP-339).
//!
//! Rules and messages are those of `coord::metadata::decide`. Source: `ConfigurationControlManager.incrementalAlterConfigs`, `ConfigAdminManager`.

use coord::CoordError;
use coord::metadata::decide::{ConfigChange, ConfigEdit, ConfigOp};
use protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};

use super::configs::{self, Requested};
use super::{Answer, Call};

/// Changes, or only checks.
pub async fn handle(call: Call) -> Answer {
    let request: IncrementalAlterConfigsRequest<'_> = call.decode()?;
    let resources = request.resources.iter().map(|resource| Requested {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.to_string(),
        edit: edit(resource),
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
    call.respond(&IncrementalAlterConfigsResponse { responses: responses.collect(), ..Default::default() })
}

fn edit(resource: &AlterConfigsResource<'_>) -> Result<ConfigEdit, CoordError> {
    let changes = resource.configs.iter().map(|config| {
        let unknown = || {
            let text = format!("Unknown operation {} on config {}", config.config_operation, config.name);
            CoordError::InvalidRequest(text)
        };
        Ok(ConfigChange {
            name: config.name.to_string(),
            op: ConfigOp::from_wire(config.config_operation).ok_or_else(unknown)?,
            value: config.value.as_deref().map(str::to_owned),
        })
    });
    Ok(ConfigEdit::Incremental(changes.collect::<Result<_, _>>()?))
}
