//! Changing the configs of topics that exist.

use std::collections::{BTreeMap, BTreeSet};

use super::Decision;
use crate::config;
use crate::error::CoordError;
use crate::metadata::image::{MetadataImage, TopicImage};
use crate::metadata::record::MetadataRecord;

/// What an incremental change does to one config (KIP-339).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigOp {
    /// Sets the value.
    Set,
    /// Goes back to the default.
    Delete,
    /// Adds elements to a list.
    Append,
    /// Removes elements from a list.
    Subtract,
}

/// One incremental change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// The config's name.
    pub name: String,
    /// What to do.
    pub op: ConfigOp,
    /// The operand; `None` only for [`ConfigOp::Delete`].
    pub value: Option<String>,
}

/// Changes some configs of a topic and leaves the others (IncrementalAlterConfigs). `default_of` gives the value that a config has when
/// the topic does not set it: the one that elements are appended to.
pub fn alter_topic_configs(
    image: &MetadataImage,
    topic: &str,
    changes: &[ConfigChange],
    default_of: &dyn Fn(&str) -> Option<String>,
) -> Result<Decision<()>, CoordError> {
    let topic = image.topic(topic).ok_or(CoordError::UnknownTopicOrPartition)?;
    let mut seen = BTreeSet::new();
    let mut configs = topic.configs.clone();
    for change in changes {
        if !seen.insert(&change.name) {
            let text = format!("Error due to duplicate config keys: {}", change.name);
            return Err(CoordError::InvalidRequest(text));
        }
        let definition = config::topic_config(&change.name).ok_or_else(|| {
            CoordError::InvalidConfig(format!("Unknown topic config name: {}", change.name))
        })?;
        if change.op == ConfigOp::Delete {
            configs.remove(&change.name);
            continue;
        }
        let Some(value) = &change.value else {
            let text = format!("Null value not supported for : {}", change.name);
            return Err(CoordError::InvalidRequest(text));
        };
        let value = match change.op {
            ConfigOp::Set | ConfigOp::Delete => value.clone(),
            ConfigOp::Append | ConfigOp::Subtract if definition.kind != config::ConfigType::List => {
                let op = if change.op == ConfigOp::Append { "APPEND" } else { "SUBTRACT" };
                let text = format!("Can't {op} to key {} because its type is not LIST.", change.name);
                return Err(CoordError::InvalidConfig(text));
            }
            op => {
                let current = configs.get(&change.name).cloned().or_else(|| default_of(&change.name));
                edit_list(&current.unwrap_or_default(), value, op == ConfigOp::Append)
            }
        };
        configs.insert(change.name.clone(), value);
    }
    decide_change(topic, configs)
}

/// Replaces all configs of a topic by these (AlterConfigs): what is not named goes back to its default.
pub fn replace_topic_configs(
    image: &MetadataImage,
    topic: &str,
    configs: BTreeMap<String, String>,
) -> Result<Decision<()>, CoordError> {
    let topic = image.topic(topic).ok_or(CoordError::UnknownTopicOrPartition)?;
    decide_change(topic, configs)
}

fn decide_change(topic: &TopicImage, configs: BTreeMap<String, String>) -> Result<Decision<()>, CoordError> {
    config::validate_topic_configs(&configs)?;
    let record = |config: &String, value| MetadataRecord::TopicConfig {
        topic_id: topic.id,
        config: config.clone(),
        value,
    };
    let removed =
        topic.configs.keys().filter(|name| !configs.contains_key(*name)).map(|name| record(name, None));
    let set = configs
        .iter()
        .filter(|(name, value)| topic.configs.get(*name) != Some(value))
        .map(|(name, value)| record(name, Some(value.clone())));
    Ok(Decision { records: removed.chain(set).collect(), reply: () })
}

fn edit_list(current: &str, operand: &str, append: bool) -> String {
    let mut elements: Vec<&str> = config::list_elements(current).collect();
    for element in config::list_elements(operand) {
        match (append, elements.iter().position(|e| *e == element)) {
            (true, None) => elements.push(element),
            (false, Some(index)) => {
                elements.remove(index);
            }
            _ => {}
        }
    }
    elements.join(",")
}
