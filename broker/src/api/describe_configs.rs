//! DescribeConfigs (key 32): the configs of topics, brokers, groups and loggers, with where each value comes from.
//!
//! A topic's come from `coord::config::TOPIC_CONFIGS`, a group's from `GROUP_CONFIGS`. A broker's are those of its settings that Kafka has too,
//! under Kafka's names, and the defaults of topic configs. The empty broker name stands for all brokers: what was set for them at run
//! time. Source: `ConfigHelper.describeConfigs`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use coord::config::group::{self, GROUP_CONFIGS};
use coord::config::{
    ConfigDefinition, ConfigResourceType, ConfigSource, EffectiveConfig, TOPIC_CONFIGS, TopicDefaults,
    effective_config,
};
use coord::group::GroupConfig;
use coord::metadata::{MetadataImage, names};
use protocol::ErrorCode;
use protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};

use super::{Answer, Call, loggers};
use crate::config::kafka_names::{self, BrokerSetting};
use crate::groups::config::group_config as broker_group_config;
use crate::live::ALL_BROKERS;
use crate::logging;

/// Answers from this shard's image and from the settings.
pub async fn handle(call: Call) -> Answer {
    let request: DescribeConfigsRequest<'_> = call.decode()?;
    let image = call.shard.image();
    let broker = &call.shard.broker;
    let asks_of_brokers =
        request.resources.iter().any(|resource| resource.resource_type == ConfigResourceType::Broker.wire());
    let live = call.shard.live();
    let known = Known {
        image: &image,
        node_id: broker.config.node_id,
        settings: if asks_of_brokers { kafka_names::broker_settings(broker, &image) } else { Vec::new() },
        cluster_settings: kafka_names::cluster_settings(&image),
        topic_defaults: &live.topic_defaults,
        group: broker_group_config(&live.config),
    };
    call.respond(&known.response(&request))
}

/// What the answer is made from.
struct Known<'a> {
    image: &'a MetadataImage,
    node_id: i32,
    /// May be empty when no broker is asked for.
    settings: Vec<BrokerSetting>,
    /// Set for all brokers at run time.
    cluster_settings: Vec<BrokerSetting>,
    topic_defaults: &'a TopicDefaults,
    group: GroupConfig,
}

type Configs<'a> = Result<Vec<DescribeConfigsResourceResult<'a>>, (ErrorCode, Option<String>)>;

impl Known<'_> {
    /// One result per resource. One that is named twice is answered once: an answer must not grow out of proportion to its request.
    fn response<'a>(&'a self, request: &'a DescribeConfigsRequest<'_>) -> DescribeConfigsResponse<'a> {
        // As in Kafka, one resource of an unknown type spoils the request.
        let is_unknown = |resource: &DescribeConfigsResource<'_>| {
            ConfigResourceType::from_wire(resource.resource_type).is_none()
        };
        if request.resources.iter().any(is_unknown) {
            return invalid(request);
        }
        let mut seen = HashSet::new();
        let resources = request.resources.iter();
        let results = resources
            .filter(|resource| seen.insert((resource.resource_type, resource.resource_name.as_ref())))
            .map(|resource| self.result(resource, request))
            .collect();
        DescribeConfigsResponse { results, ..Default::default() }
    }

    fn result<'a>(
        &'a self,
        resource: &'a DescribeConfigsResource<'_>,
        request: &DescribeConfigsRequest<'_>,
    ) -> DescribeConfigsResult<'a> {
        let name = resource.resource_name.as_ref();
        let wanted = Wanted::new(resource, request);
        let outcome = match ConfigResourceType::from_wire(resource.resource_type) {
            Some(ConfigResourceType::Topic) => self.topic(name, &wanted),
            Some(ConfigResourceType::Broker) => self.broker(name, &wanted),
            Some(ConfigResourceType::Group) => self.group(name, &wanted),
            Some(ConfigResourceType::BrokerLogger) => self.loggers(name, &wanted),
            other => {
                let message = format!(
                    "Unsupported resource type: {}",
                    other.map_or("UNKNOWN", ConfigResourceType::name)
                );
                Err((ErrorCode::INVALID_REQUEST, Some(message)))
            }
        };
        let (error, message, configs) = match outcome {
            Ok(configs) => (ErrorCode::NONE, None, configs),
            Err((error, message)) => (error, message, Vec::new()),
        };
        DescribeConfigsResult {
            error_code: error.code(),
            // Kafka has a text here in any case.
            error_message: Some(Cow::Owned(message.unwrap_or_default())),
            resource_type: resource.resource_type,
            resource_name: Cow::Borrowed(name),
            configs,
            ..Default::default()
        }
    }

    fn topic<'a>(&'a self, name: &str, wanted: &Wanted<'_>) -> Configs<'a> {
        names::validate(name).map_err(|error| (error.code(), Some(error.to_string())))?;
        let topic = self.image.topic(name).ok_or((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None))?;
        let definitions = TOPIC_CONFIGS.iter().filter(|definition| wanted.includes(definition.name));
        Ok(definitions
            .map(|definition| topic_config(definition, &topic.configs, self.topic_defaults, wanted))
            .collect())
    }

    fn broker<'a>(&'a self, name: &str, wanted: &Wanted<'_>) -> Configs<'a> {
        let id = self.node_id.to_string();
        let settings = match name {
            ALL_BROKERS => &self.cluster_settings,
            name if name == id => &self.settings,
            name => {
                let message = match name.parse::<i32>() {
                    Ok(_) => {
                        format!("Unexpected broker id, expected {id} or empty string, but received {name}")
                    }
                    Err(_) => format!("Broker id must be an integer, but it is: {name}"),
                };
                return Err((ErrorCode::INVALID_REQUEST, Some(message)));
            }
        };
        let settings = settings.iter().filter(|setting| wanted.includes(setting.name));
        Ok(settings.map(|setting| broker_config(setting, wanted)).collect())
    }

    fn loggers<'a>(&'a self, name: &str, wanted: &Wanted<'_>) -> Configs<'a> {
        loggers::check_described(name, self.node_id)
            .map_err(|text| (ErrorCode::INVALID_REQUEST, Some(text)))?;
        let levels = logging::levels().into_iter().filter(|(logger, _)| wanted.includes(logger));
        let config = |(logger, level): (String, &'static str)| DescribeConfigsResourceResult {
            name: Cow::Owned(logger),
            value: Some(Cow::Borrowed(level)),
            config_source: ConfigSource::BrokerLogger.wire(),
            config_type: loggers::KIND,
            documentation: Some(Cow::Borrowed("")),
            ..Default::default()
        };
        Ok(levels.map(config).collect())
    }

    /// Any group has configs, whether or not it exists.
    fn group<'a>(&'a self, name: &str, wanted: &Wanted<'_>) -> Configs<'a> {
        if name.is_empty() {
            let message = "Group name must not be empty".to_owned();
            return Err((ErrorCode::INVALID_REQUEST, Some(message)));
        }
        let set = self.image.group_configs(name);
        let definitions = GROUP_CONFIGS.iter().filter(|definition| wanted.includes(definition.name));
        Ok(definitions.map(|definition| group_config(definition, set, &self.group, wanted)).collect())
    }
}

/// What the client wants to know of one resource.
struct Wanted<'a> {
    /// None: all.
    names: Option<HashSet<&'a str>>,
    synonyms: bool,
    documentation: bool,
}

impl<'a> Wanted<'a> {
    fn new(resource: &'a DescribeConfigsResource<'_>, request: &DescribeConfigsRequest<'_>) -> Self {
        // An empty list asks for all, too.
        let names = resource.configuration_keys.as_ref().filter(|names| !names.is_empty());
        Wanted {
            names: names.map(|names| names.iter().map(AsRef::as_ref).collect()),
            synonyms: request.include_synonyms,
            documentation: request.include_documentation,
        }
    }

    fn includes(&self, name: &str) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(name))
    }
}

fn topic_config<'a>(
    definition: &'static ConfigDefinition,
    configs: &BTreeMap<String, String>,
    defaults: &TopicDefaults,
    wanted: &Wanted<'_>,
) -> DescribeConfigsResourceResult<'a> {
    let EffectiveConfig { value, source, synonyms } = effective_config(definition, configs, defaults);
    let synonyms = if wanted.synonyms { synonyms } else { Vec::new() };
    DescribeConfigsResourceResult {
        name: Cow::Borrowed(definition.name),
        value: Some(Cow::Owned(value)),
        config_source: source.wire(),
        synonyms: synonyms
            .into_iter()
            .map(|synonym| synonym_result(synonym.name, synonym.value, synonym.source))
            .collect(),
        config_type: definition.kind.wire(),
        documentation: wanted.documentation.then_some(Cow::Borrowed(definition.documentation)),
        ..Default::default()
    }
}

fn broker_config<'a>(setting: &'a BrokerSetting, wanted: &Wanted<'_>) -> DescribeConfigsResourceResult<'a> {
    let synonym =
        |(source, value): &'a (ConfigSource, String)| synonym_result(setting.name, value.as_str(), *source);
    let synonyms = if wanted.synonyms { setting.values.iter().map(synonym).collect() } else { Vec::new() };
    DescribeConfigsResourceResult {
        name: Cow::Borrowed(setting.name),
        value: setting.value().map(Cow::Borrowed),
        read_only: !setting.is_dynamic,
        config_source: setting.source().wire(),
        synonyms,
        config_type: setting.kind.wire(),
        documentation: wanted.documentation.then_some(Cow::Borrowed(&setting.documentation)),
        ..Default::default()
    }
}

fn group_config<'a>(
    definition: &'static ConfigDefinition,
    set: &BTreeMap<String, String>,
    broker: &GroupConfig,
    wanted: &Wanted<'_>,
) -> DescribeConfigsResourceResult<'a> {
    let (value, source) = match set.get(definition.name) {
        Some(value) => (definition.normalize(value), ConfigSource::Group),
        None => (group::default_of(definition, broker), ConfigSource::Default),
    };
    // As in Kafka, the value in force is the only one that is named.
    let synonym = wanted.synonyms.then(|| synonym_result(definition.name, value.clone(), source));
    DescribeConfigsResourceResult {
        name: Cow::Borrowed(definition.name),
        value: Some(Cow::Owned(value)),
        config_source: source.wire(),
        synonyms: synonym.into_iter().collect(),
        config_type: definition.kind.wire(),
        documentation: wanted.documentation.then_some(Cow::Borrowed(definition.documentation)),
        ..Default::default()
    }
}

fn synonym_result<'a>(
    name: impl Into<Cow<'a, str>>,
    value: impl Into<Cow<'a, str>>,
    source: ConfigSource,
) -> DescribeConfigsSynonym<'a> {
    DescribeConfigsSynonym {
        name: name.into(),
        value: Some(value.into()),
        source: source.wire(),
        ..Default::default()
    }
}

fn invalid<'a>(request: &'a DescribeConfigsRequest<'_>) -> DescribeConfigsResponse<'a> {
    let resources = request.resources.iter();
    let results = resources
        .map(|resource| DescribeConfigsResult {
            error_code: ErrorCode::INVALID_REQUEST.code(),
            error_message: Some(Cow::Borrowed(ErrorCode::INVALID_REQUEST.message())),
            resource_type: resource.resource_type,
            resource_name: Cow::Borrowed(&resource.resource_name),
            ..Default::default()
        })
        .collect();
    DescribeConfigsResponse { results, ..Default::default() }
}

#[cfg(test)]
mod tests;
