//! What AlterConfigs and IncrementalAlterConfigs have in common: each resource is changed, or refused, by itself.

use coord::CoordError;
use coord::config::ConfigResourceType;
use coord::metadata::decide::{AlterConfigs, ConfigEdit};
use protocol::ErrorCode;

use super::{Call, loggers};
use crate::controller;

/// Why a resource was not changed; the text is for people.
pub(super) type Refused = (ErrorCode, String);

/// A resource as the request names it, and how its configs are to change, or why the request makes no sense.
pub(super) struct Requested {
    pub resource_type: i8,
    pub resource_name: String,
    pub edit: Result<ConfigEdit, CoordError>,
}

/// Changes the configs; an outcome for each resource, in their order.
pub(super) async fn alter(
    call: &Call,
    resources: Vec<Requested>,
    validate_only: bool,
) -> Vec<Result<(), Refused>> {
    let mut outcomes = Vec::with_capacity(resources.len());
    let mut commands = Vec::with_capacity(resources.len());
    for resource in resources {
        if resource.resource_type == ConfigResourceType::BrokerLogger.wire() {
            let node_id = call.received_by.0;
            let outcome = loggers::alter(&resource.resource_name, node_id, resource.edit, validate_only);
            outcomes.push(Some(outcome));
            continue;
        }
        match command(call, resource) {
            Ok(command) => {
                // Its outcome comes below.
                outcomes.push(None);
                commands.push(command);
            }
            Err(error) => outcomes.push(Some(Err((error.code(), error.to_string())))),
        }
    }
    let count = commands.len();
    let decided = match controller::alter_configs(&call.shard, commands, validate_only).await {
        Ok(reply) => reply
            .into_iter()
            .map(|outcome| outcome.map_err(|error| (error.code(), error.to_string())))
            .collect::<Vec<_>>(),
        Err(error) => vec![Err((error.code(), error.to_string())); count],
    };
    let mut decided = decided.into_iter();
    outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_or_else(|| decided.next().expect("an outcome for each command")))
        .collect()
}

fn command(call: &Call, resource: Requested) -> Result<AlterConfigs, CoordError> {
    let unknown = || CoordError::InvalidRequest(format!("Unknown resource type {}", resource.resource_type));
    let resource_type = ConfigResourceType::from_wire(resource.resource_type).ok_or_else(unknown)?;
    if resource_type == ConfigResourceType::Broker {
        check_broker_id(&resource.resource_name, call.received_by.0)?;
    }
    let edit = resource.edit?;
    Ok(AlterConfigs { resource_type, resource_name: resource.resource_name, edit })
}

/// The configs of a broker are changed by that broker; the empty name stands for all.
fn check_broker_id(name: &str, node_id: i32) -> Result<(), CoordError> {
    match name.parse::<i32>() {
        Ok(id) if id != node_id => Err(CoordError::InvalidRequest(format!(
            "Unexpected broker id, expected {node_id}, but received {name}"
        ))),
        _ => Ok(()),
    }
}
