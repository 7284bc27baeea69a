//! Changing configs of topics, brokers and groups (Kafka's `ConfigurationControlManager`, KIP-339, KIP-226).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Decision;
use crate::config::definition::{ConfigDefinition, ConfigType, list_elements};
use crate::config::{ConfigResourceType, broker, group, topic_config, validate_topic_configs};
use crate::error::CoordError;
use crate::group::GroupConfig;
use crate::metadata::image::MetadataImage;
use crate::metadata::names;
use crate::metadata::record::MetadataRecord;
use crate::types::BrokerId;

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

impl ConfigOp {
    /// The operation of this number in requests.
    pub fn from_wire(number: i8) -> Option<Self> {
        match number {
            0 => Some(ConfigOp::Set),
            1 => Some(ConfigOp::Delete),
            2 => Some(ConfigOp::Append),
            3 => Some(ConfigOp::Subtract),
            _ => None,
        }
    }
}

/// One incremental change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// The config's name.
    pub name: String,
    /// What to do.
    pub op: ConfigOp,
    /// The operand; of no consequence for [`ConfigOp::Delete`], an error elsewhere if it is `None`.
    pub value: Option<String>,
}

/// How the configs of a resource change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigEdit {
    /// Some change, the others stay (IncrementalAlterConfigs).
    Incremental(Vec<ConfigChange>),
    /// These are all; what is not named goes back to its default (AlterConfigs). No value may be `None`.
    Replace(Vec<(String, Option<String>)>),
}

/// A change of one resource's configs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterConfigs {
    /// What kind of resource: a topic, a broker or a group.
    pub resource_type: ConfigResourceType,
    /// Which.
    pub resource_name: String,
    /// The change.
    pub edit: ConfigEdit,
}

/// What a decision has to know of the broker's own settings.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigRules {
    /// Configs of brokers that only their files can set.
    pub read_only: BTreeSet<&'static str>,
    /// The broker's settings for groups, which are the limits of a group's own.
    pub group: GroupConfig,
}

/// Changes the configs of resources, each by itself; replies with an outcome for each, in their order.
pub fn alter_configs(
    image: &MetadataImage,
    resources: &[AlterConfigs],
    rules: &ConfigRules,
    validate_only: bool,
) -> Decision<Vec<Result<(), CoordError>>> {
    let mut appearances: HashMap<(ConfigResourceType, &str), usize> = HashMap::new();
    for resource in resources {
        *appearances.entry((resource.resource_type, &resource.resource_name)).or_default() += 1;
    }
    let mut records = Vec::new();
    let mut reply = Vec::with_capacity(resources.len());
    for resource in resources {
        let outcome = match appearances[&(resource.resource_type, resource.resource_name.as_str())] {
            1 => alter_one(image, resource, rules),
            _ => Err(CoordError::InvalidRequest("Each resource must appear at most once.".to_owned())),
        };
        reply.push(outcome.map(|changes| {
            if !validate_only {
                records.extend(changes);
            }
        }));
    }
    Decision { records, reply }
}

fn alter_one(
    image: &MetadataImage,
    resource: &AlterConfigs,
    rules: &ConfigRules,
) -> Result<Vec<MetadataRecord>, CoordError> {
    let name = resource.resource_name.as_str();
    let kind = resource.resource_type;
    match kind {
        ConfigResourceType::Topic => {
            let topic = existing_topic(image, name)?;
            let configs = edited(kind, &topic.configs, &resource.edit)?;
            validate_topic_configs(&configs)?;
            let id = topic.id;
            Ok(changes(&topic.configs, &configs, |config, value| MetadataRecord::TopicConfig {
                topic_id: id,
                config,
                value,
            }))
        }
        ConfigResourceType::Broker => {
            check_broker(image, name)?;
            let configs = edited(kind, image.resource_configs(kind, name), &resource.edit)?;
            broker::validate(&configs, &|config| rules.read_only.contains(config))?;
            Ok(resource_changes(image, kind, name, &configs))
        }
        ConfigResourceType::Group => {
            if name.is_empty() {
                let text = "Default group resources are not allowed.";
                return Err(CoordError::InvalidRequest(text.to_owned()));
            }
            let configs = edited(kind, image.resource_configs(kind, name), &resource.edit)?;
            group::validate(&configs, &rules.group)?;
            Ok(resource_changes(image, kind, name, &configs))
        }
        ConfigResourceType::BrokerLogger | ConfigResourceType::ClientMetrics => {
            Err(CoordError::InvalidRequest(format!("Unknown resource type {}", kind.wire())))
        }
    }
}

fn existing_topic<'i>(
    image: &'i MetadataImage,
    name: &str,
) -> Result<&'i crate::metadata::image::TopicImage, CoordError> {
    if name.is_empty() {
        return Err(CoordError::InvalidRequest("Default topic resources are not allowed.".to_owned()));
    }
    names::validate(name)?;
    let missing = || CoordError::NoSuchTopicOrPartition(format!("The topic '{name}' does not exist."));
    image.topic(name).map(AsRef::as_ref).ok_or_else(missing)
}

/// The empty name stands for all brokers.
fn check_broker(image: &MetadataImage, name: &str) -> Result<(), CoordError> {
    if name.is_empty() {
        return Ok(());
    }
    let id = name
        .parse::<i32>()
        .map_err(|_| CoordError::InvalidRequest(format!("Node id must be an integer, but it is: {name}")))?;
    match image.broker(BrokerId(id)) {
        Some(_) => Ok(()),
        None => Err(CoordError::InvalidRequest(format!("No broker with id {id} is registered."))),
    }
}

fn definition_of(kind: ConfigResourceType, name: &str) -> Option<&'static ConfigDefinition> {
    match kind {
        ConfigResourceType::Topic => topic_config(name),
        ConfigResourceType::Broker => broker::dynamic_config(name),
        ConfigResourceType::Group => group::group_config(name),
        ConfigResourceType::BrokerLogger | ConfigResourceType::ClientMetrics => None,
    }
}

/// The configs after the change, not checked yet.
fn edited(
    kind: ConfigResourceType,
    current: &BTreeMap<String, String>,
    edit: &ConfigEdit,
) -> Result<BTreeMap<String, String>, CoordError> {
    let mut seen = BTreeSet::new();
    let mut once = |name: &String| {
        let text = || CoordError::InvalidRequest("Error due to duplicate config keys".to_owned());
        seen.insert(name.clone()).then_some(()).ok_or_else(text)
    };
    match edit {
        ConfigEdit::Replace(all) => {
            let mut configs = BTreeMap::new();
            for (name, value) in all {
                once(name)?;
                configs.insert(name.clone(), given(name, value.as_deref())?.to_owned());
            }
            Ok(configs)
        }
        ConfigEdit::Incremental(changes) => {
            let mut configs = current.clone();
            for change in changes {
                once(&change.name)?;
                match change.op {
                    ConfigOp::Delete => drop(configs.remove(&change.name)),
                    ConfigOp::Set => {
                        let value = given(&change.name, change.value.as_deref())?;
                        configs.insert(change.name.clone(), value.to_owned());
                    }
                    ConfigOp::Append | ConfigOp::Subtract => edit_list_config(kind, &mut configs, change)?,
                }
            }
            Ok(configs)
        }
    }
}

fn given<'v>(name: &str, value: Option<&'v str>) -> Result<&'v str, CoordError> {
    value.ok_or_else(|| CoordError::InvalidRequest(format!("Null value not supported for : {name}")))
}

/// Elements are added to, or taken from, the value that was set, else the built-in default, as in Kafka.
fn edit_list_config(
    kind: ConfigResourceType,
    configs: &mut BTreeMap<String, String>,
    change: &ConfigChange,
) -> Result<(), CoordError> {
    let name = &change.name;
    let value = given(name, change.value.as_deref())?;
    let append = change.op == ConfigOp::Append;
    let definition = definition_of(kind, name).filter(|definition| definition.kind == ConfigType::List);
    let Some(definition) = definition else {
        let op = if append { "APPEND" } else { "SUBTRACT" };
        let text = format!("Can't {op} to key {name} because its type is not LIST.");
        return Err(CoordError::InvalidConfig(text));
    };
    let current = configs.get(name).map_or(definition.default, String::as_str);
    let edited = edit_list(current, value, append);
    if edited != current {
        configs.insert(name.clone(), edited);
    }
    Ok(())
}

fn edit_list(current: &str, operand: &str, append: bool) -> String {
    let mut elements: Vec<&str> = list_elements(current).collect();
    for element in list_elements(operand) {
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

fn resource_changes(
    image: &MetadataImage,
    resource_type: ConfigResourceType,
    name: &str,
    configs: &BTreeMap<String, String>,
) -> Vec<MetadataRecord> {
    let current = image.resource_configs(resource_type, name);
    changes(current, configs, |config, value| MetadataRecord::ResourceConfig {
        resource_type,
        resource_name: name.to_owned(),
        config,
        value,
    })
}

/// The records that lead from `current` to `wanted`.
fn changes(
    current: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
    record: impl Fn(String, Option<String>) -> MetadataRecord,
) -> Vec<MetadataRecord> {
    let removed =
        current.keys().filter(|name| !wanted.contains_key(*name)).map(|name| record(name.clone(), None));
    let set = wanted
        .iter()
        .filter(|(name, value)| current.get(*name) != Some(value))
        .map(|(name, value)| record(name.clone(), Some(value.clone())));
    removed.chain(set).collect()
}
