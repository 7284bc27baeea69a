//! Configuration of topics, brokers and groups.

use protocol::messages::describe_configs::{DescribeConfigsResource, DescribeConfigsResourceResult};
use protocol::messages::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};

use super::error::{ClientError, check};
use super::{Client, Connection};

/// Kinds of things that have a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ResourceKind {
    /// A topic
    Topic,
    /// A broker, or all brokers
    Broker,
    /// A group
    Group,
}

impl ResourceKind {
    /// The number in requests (`ConfigResource.Type`).
    fn wire(self) -> i8 {
        match self {
            ResourceKind::Topic => 2,
            ResourceKind::Broker => 4,
            ResourceKind::Group => 32,
        }
    }

    /// Its name on the command line.
    pub fn text(self) -> &'static str {
        match self {
            ResourceKind::Topic => "topic",
            ResourceKind::Broker => "broker",
            ResourceKind::Group => "group",
        }
    }
}

/// One thing with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigResource {
    /// Its kind.
    pub kind: ResourceKind,
    /// Its name or id; empty for the defaults of all brokers.
    pub name: String,
}

impl ConfigResource {
    /// The broker that has to be asked; `None`: any.
    fn broker(&self) -> Option<i32> {
        (self.kind == ResourceKind::Broker).then(|| self.name.parse().ok())?
    }

    fn connection<'c>(&self, client: &'c mut Client) -> Result<&'c mut Connection, ClientError> {
        match self.broker() {
            Some(id) => client.broker(id),
            None => client.any(),
        }
    }
}

impl std::fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name.as_str() {
            "" => write!(f, "all {}s", self.kind.text()),
            name => write!(f, "{} '{name}'", self.kind.text()),
        }
    }
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Its value; `None` if it is secret or has none.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: &'static str,
    /// Whether the value is the resource's own.
    pub is_own: bool,
    /// Whether it cannot be changed at run time.
    pub is_read_only: bool,
    /// Whether it is secret.
    pub is_sensitive: bool,
    /// Its type.
    pub kind: &'static str,
    /// What would hold without the resource's own value, most specific first: name, value, source.
    pub synonyms: Vec<(String, Option<String>, &'static str)>,
    /// Its explanation.
    pub documentation: Option<String>,
}

impl ConfigEntry {
    /// The value that holds when nobody has set one; `None` if the broker does not tell.
    pub fn default_value(&self) -> Option<&str> {
        if self.source == DEFAULT {
            return self.value.as_deref();
        }
        self.synonyms.iter().find(|(_, _, source)| *source == DEFAULT)?.1.as_deref()
    }

    /// Whether somebody has set it, here or for all brokers.
    pub fn is_set(&self) -> bool {
        self.source != DEFAULT
    }
}

const DEFAULT: &str = "default";

/// `DescribeConfigsResponse.ConfigSource`.
fn source_text(source: i8) -> &'static str {
    match source {
        1 => "topic",
        2 => "broker",
        3 => "all brokers",
        4 => "broker file",
        5 => DEFAULT,
        6 => "broker logger",
        7 => "client metrics",
        8 => "group",
        _ => "unknown",
    }
}

/// `DescribeConfigsResponse.ConfigType`.
fn type_text(kind: i8) -> &'static str {
    match kind {
        1 => "boolean",
        2 => "string",
        3 => "int",
        4 => "short",
        5 => "long",
        6 => "double",
        7 => "list",
        8 => "class",
        9 => "password",
        _ => "unknown",
    }
}

/// What to do with a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigOperation {
    /// Give it a value.
    Set,
    /// Take its own value away.
    Unset,
    /// Add to a list.
    Append,
    /// Take from a list.
    Subtract,
}

impl ConfigOperation {
    fn wire(self) -> i8 {
        match self {
            ConfigOperation::Set => 0,
            ConfigOperation::Unset => 1,
            ConfigOperation::Append => 2,
            ConfigOperation::Subtract => 3,
        }
    }
}

/// A change of one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// The setting.
    pub name: String,
    /// What to do.
    pub operation: ConfigOperation,
    /// With what; empty for [`ConfigOperation::Unset`].
    pub value: String,
}

impl Client {
    /// The configuration of a topic, broker or group; with `documentation` if the broker has some.
    pub fn describe_configs(
        &mut self,
        resource: &ConfigResource,
        documentation: bool,
    ) -> Result<Vec<ConfigEntry>, ClientError> {
        let connection = resource.connection(self)?;
        let version = connection.version::<DescribeConfigsRequest<'_>>().unwrap_or_default();
        let asked = DescribeConfigsResource {
            resource_type: resource.kind.wire(),
            resource_name: resource.name.as_str().into(),
            configuration_keys: None,
            ..Default::default()
        };
        let request = DescribeConfigsRequest {
            resources: vec![asked],
            include_synonyms: true,
            include_documentation: documentation && version >= 3,
            ..Default::default()
        };
        let response = connection.call(&request)?;
        let mut entries = Vec::new();
        for result in &response.results {
            check(
                || format!("configuration of {resource}"),
                result.error_code,
                result.error_message.as_deref(),
            )?;
            entries.extend(result.configs.iter().map(|config| entry(config, resource)));
        }
        entries.sort_by(|a: &ConfigEntry, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Changes the configuration of a topic, broker or group; with `validate_only` it only looks whether that would be possible.
    pub fn alter_configs(
        &mut self,
        resource: &ConfigResource,
        changes: &[ConfigChange],
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let change = |change: &ConfigChange| AlterableConfig {
            name: change.name.clone().into(),
            config_operation: change.operation.wire(),
            value: (change.operation != ConfigOperation::Unset).then(|| change.value.clone().into()),
            ..Default::default()
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: resource.kind.wire(),
                resource_name: resource.name.as_str().into(),
                configs: changes.iter().map(change).collect(),
                ..Default::default()
            }],
            validate_only,
            ..Default::default()
        };
        let response = resource.connection(self)?.call(&request)?;
        for result in &response.responses {
            let what = || format!("changing the configuration of {resource}");
            check(what, result.error_code, result.error_message.as_deref())?;
        }
        Ok(())
    }
}

fn entry(config: &DescribeConfigsResourceResult<'_>, resource: &ConfigResource) -> ConfigEntry {
    let own = match (resource.kind, resource.name.as_str()) {
        (ResourceKind::Topic, _) => 1,
        (ResourceKind::Broker, "") => 3,
        (ResourceKind::Broker, _) => 2,
        (ResourceKind::Group, _) => 8,
    };
    let text = |value: &Option<std::borrow::Cow<'_, str>>| value.as_deref().map(str::to_owned);
    ConfigEntry {
        name: config.name.to_string(),
        value: text(&config.value),
        source: source_text(config.config_source),
        is_own: config.config_source == own,
        is_read_only: config.read_only,
        is_sensitive: config.is_sensitive,
        kind: type_text(config.config_type),
        synonyms: config
            .synonyms
            .iter()
            .map(|synonym| (synonym.name.to_string(), text(&synonym.value), source_text(synonym.source)))
            .collect(),
        documentation: text(&config.documentation),
    }
}
