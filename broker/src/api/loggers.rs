//! The levels of this broker's loggers, as DescribeConfigs and IncrementalAlterConfigs see them (KIP-412). They belong to the process, not to the
//! metadata: nothing is recorded.

use coord::CoordError;
use coord::config::ConfigResourceType;
use coord::metadata::decide::{ConfigEdit, ConfigOp};
use protocol::ErrorCode;

use super::configs::Refused;
use crate::logging::{self, LevelChange, LevelError};

/// The type that Kafka tells for a level: `UNKNOWN`.
pub(super) const KIND: i8 = 0;

/// Changes levels, or only checks.
pub(super) fn alter(
    name: &str,
    node_id: i32,
    edit: Result<ConfigEdit, CoordError>,
    validate_only: bool,
) -> Result<(), Refused> {
    let refused = |error: CoordError| (error.code(), error.to_string());
    check_node(name, node_id).map_err(|text| (ErrorCode::INVALID_REQUEST, text))?;
    let changes = match edit.map_err(refused)? {
        ConfigEdit::Incremental(changes) => changes,
        ConfigEdit::Replace(_) => {
            // The old request cannot say what is to become of the other loggers.
            let text = format!("Unknown resource type {}", ConfigResourceType::BrokerLogger.wire());
            return Err((ErrorCode::INVALID_REQUEST, text));
        }
    };
    let mut levels = Vec::with_capacity(changes.len());
    for change in changes {
        let level = match change.op {
            ConfigOp::Set => Some(change.value.unwrap_or_default()),
            ConfigOp::Delete => None,
            ConfigOp::Append | ConfigOp::Subtract => {
                let op = if change.op == ConfigOp::Append { "APPEND" } else { "SUBTRACT" };
                let text = format!("{op} operation is not allowed for the BROKER_LOGGER resource");
                return Err((ErrorCode::INVALID_REQUEST, text));
            }
        };
        levels.push(LevelChange { logger: change.name, level });
    }
    logging::change(&levels, validate_only).map_err(|error| {
        let code = match error {
            LevelError::UnknownLogger(_) | LevelError::UnknownLevel { .. } => ErrorCode::INVALID_CONFIG,
            LevelError::RootRemoved | LevelError::Fixed(_) => ErrorCode::INVALID_REQUEST,
        };
        (code, error.to_string())
    })
}

fn check_node(name: &str, node_id: i32) -> Result<(), String> {
    match name.parse::<i32>() {
        Ok(id) if id == node_id => Ok(()),
        Ok(_) => Err(format!("Unexpected node id. Expected {node_id}, but received {name}")),
        Err(_) => Err(format!("Node id must be an integer, but it is: {name}")),
    }
}

/// Why loggers of `name` cannot be described, in Kafka's words; they are different from those above.
pub(super) fn check_described(name: &str, node_id: i32) -> Result<(), String> {
    match name.parse::<i32>() {
        Ok(id) if id == node_id => Ok(()),
        Ok(_) => Err(format!("Unexpected broker id, expected {node_id} but received {name}")),
        Err(_) if name.is_empty() => Err("Broker id must not be empty".to_owned()),
        Err(_) => Err(format!("Broker id must be an integer, but it is: {name}")),
    }
}

#[cfg(test)]
mod tests {
    use coord::metadata::decide::ConfigChange;

    use super::*;

    fn refusal(name: &str, logger: &str, op: ConfigOp, level: Option<&str>) -> (ErrorCode, String) {
        let change = ConfigChange { name: logger.to_owned(), op, value: level.map(str::to_owned) };
        alter(name, 1, Ok(ConfigEdit::Incremental(vec![change])), true).unwrap_err()
    }

    #[test]
    fn what_cannot_be_changed_is_refused_in_kafkas_words() {
        let request = |text: &str| (ErrorCode::INVALID_REQUEST, text.to_owned());
        assert_eq!(
            refusal("7", "root", ConfigOp::Set, Some("INFO")),
            request("Unexpected node id. Expected 1, but received 7")
        );
        assert_eq!(
            refusal("", "root", ConfigOp::Set, Some("INFO")),
            request("Node id must be an integer, but it is: ")
        );
        assert_eq!(
            refusal("1", "root", ConfigOp::Append, Some("INFO")),
            request("APPEND operation is not allowed for the BROKER_LOGGER resource")
        );
        assert_eq!(refusal("1", "root", ConfigOp::Delete, None).0, ErrorCode::INVALID_REQUEST);
        assert_eq!(refusal("1", "no.such", ConfigOp::Set, Some("INFO")).0, ErrorCode::INVALID_CONFIG);
        assert_eq!(
            alter("1", 1, Ok(ConfigEdit::Replace(vec![])), true).unwrap_err(),
            request("Unknown resource type 8")
        );
    }
}
