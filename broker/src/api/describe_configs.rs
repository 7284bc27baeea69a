//! DescribeConfigs (key 32): the configs of topics and of this broker, with where each value comes from.
//!
//! A topic's come from `coord::config::TOPIC_CONFIGS`. The broker's are those of its settings that Kafka has too, under Kafka's names,
//! and the defaults of topic configs; none can be changed while the broker runs, so all are read-only. The empty broker name stands for
//! defaults of the whole cluster that can be changed at run time: there are none. Source: `ConfigHelper.describeConfigs`.

use std::borrow::Cow;
use std::collections::HashSet;

use coord::config::{
    ConfigDefinition, ConfigSource, EffectiveConfig, TOPIC_CONFIGS, TopicDefaults, effective_config,
};
use coord::metadata::{MetadataImage, names};
use protocol::ErrorCode;
use protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};

use super::{Answer, Call};
use crate::config::kafka_names::{self, BrokerSetting};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Answers from this shard's image and from the settings.
pub async fn handle(call: Call) -> Answer {
    let request: DescribeConfigsRequest<'_> = call.decode()?;
    let image = call.shard.image();
    let broker = &call.shard.broker;
    let asks_of_brokers = request.resources.iter().any(|resource| resource.resource_type == BROKER);
    let known = Known {
        image: &image,
        node_id: broker.config.node_id,
        settings: if asks_of_brokers { kafka_names::broker_settings(broker) } else { Vec::new() },
        topic_defaults: &broker.topic_defaults,
    };
    call.respond(&known.response(&request))
}

/// What the answer is made from.
struct Known<'a> {
    image: &'a MetadataImage,
    node_id: i32,
    /// May be empty when no broker is asked for.
    settings: Vec<BrokerSetting>,
    topic_defaults: &'a TopicDefaults,
}

impl Known<'_> {
    /// One result per resource. One that is named twice is answered once: an answer must not grow out of proportion to its request.
    fn response<'a>(&'a self, request: &'a DescribeConfigsRequest<'_>) -> DescribeConfigsResponse<'a> {
        // As in Kafka, one resource of an unknown type spoils the request.
        if request.resources.iter().any(|resource| type_name(resource.resource_type).is_none()) {
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
        let outcome = match resource.resource_type {
            TOPIC => self.topic(name, &Wanted::new(resource, request)),
            BROKER => self.broker(name, &Wanted::new(resource, request)),
            other => {
                let message = format!("Unsupported resource type: {}", type_name(other).unwrap_or("UNKNOWN"));
                Err((ErrorCode::INVALID_REQUEST, Some(message)))
            }
        };
        let (error, message, configs) = match outcome {
            Ok(configs) => (ErrorCode::NONE, None, configs),
            Err((error, message)) => (error, message, Vec::new()),
        };
        DescribeConfigsResult {
            error_code: error.code(),
            error_message: message.map(Cow::Owned),
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
        if name.is_empty() {
            return Ok(Vec::new());
        }
        if name != id {
            let message = match name.parse::<i32>() {
                Ok(_) => {
                    format!("Unexpected broker id, expected {id} or empty string, but received {name}")
                }
                Err(_) => format!("Broker id must be an integer, but it is: {name}"),
            };
            return Err((ErrorCode::INVALID_REQUEST, Some(message)));
        }
        let settings = self.settings.iter().filter(|setting| wanted.includes(setting.name));
        Ok(settings.map(|setting| broker_config(setting, wanted)).collect())
    }
}

type Configs<'a> = Result<Vec<DescribeConfigsResourceResult<'a>>, (ErrorCode, Option<String>)>;

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
    configs: &std::collections::BTreeMap<String, String>,
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
            .map(|synonym| synonym_result(synonym.name, Some(synonym.value), synonym.source))
            .collect(),
        config_type: definition.kind.wire(),
        documentation: wanted.documentation.then_some(Cow::Borrowed(definition.documentation)),
        ..Default::default()
    }
}

fn broker_config<'a>(setting: &'a BrokerSetting, wanted: &Wanted<'_>) -> DescribeConfigsResourceResult<'a> {
    let mut synonyms = Vec::new();
    if wanted.synonyms {
        if setting.source != ConfigSource::Default {
            synonyms.push(synonym_result(setting.name, setting.value.clone(), setting.source));
        }
        if setting.default.is_some() {
            synonyms.push(synonym_result(setting.name, setting.default.clone(), ConfigSource::Default));
        }
    }
    DescribeConfigsResourceResult {
        name: Cow::Borrowed(setting.name),
        value: setting.value.as_deref().map(Cow::Borrowed),
        read_only: true,
        config_source: setting.source.wire(),
        synonyms,
        config_type: setting.kind.wire(),
        documentation: wanted.documentation.then_some(Cow::Borrowed(&setting.documentation)),
        ..Default::default()
    }
}

fn synonym_result<'a>(
    name: impl Into<Cow<'a, str>>,
    value: Option<String>,
    source: ConfigSource,
) -> DescribeConfigsSynonym<'a> {
    DescribeConfigsSynonym {
        name: name.into(),
        value: value.map(Cow::Owned),
        source: source.wire(),
        ..Default::default()
    }
}

/// Kafka's name of a resource type (`ConfigResource.Type`).
fn type_name(resource_type: i8) -> Option<&'static str> {
    match resource_type {
        TOPIC => Some("TOPIC"),
        BROKER => Some("BROKER"),
        8 => Some("BROKER_LOGGER"),
        16 => Some("CLIENT_METRICS"),
        32 => Some("GROUP"),
        _ => None,
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
mod tests {
    use std::collections::BTreeMap;

    use coord::metadata::{MetadataRecord, PartitionImage};
    use coord::types::{BrokerId, LeaderEpoch};
    use protocol::{Decoder, Encoder, Message};
    use uuid::Uuid;

    use super::*;
    use crate::api::table;

    fn image() -> MetadataImage {
        let mut image = MetadataImage::default();
        let partition = PartitionImage {
            replicas: [BrokerId(1)].into(),
            in_sync_replicas: [BrokerId(1)].into(),
            leader: BrokerId(1),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
        };
        let record = MetadataRecord::Topic {
            topic_id: Uuid::from_u128(5),
            name: "t".into(),
            configs: vec![("retention.ms".to_owned(), "77".to_owned())],
            partitions: vec![partition],
        };
        image.replay(&record).expect("a new topic");
        image
    }

    fn resource<'a>(
        resource_type: i8,
        name: &'a str,
        keys: Option<&[&'a str]>,
    ) -> DescribeConfigsResource<'a> {
        DescribeConfigsResource {
            resource_type,
            resource_name: name.into(),
            configuration_keys: keys.map(|keys| keys.iter().map(|key| Cow::Borrowed(*key)).collect()),
            ..Default::default()
        }
    }

    fn request<'a>(resources: Vec<DescribeConfigsResource<'a>>) -> DescribeConfigsRequest<'a> {
        DescribeConfigsRequest {
            resources,
            include_synonyms: true,
            include_documentation: true,
            ..Default::default()
        }
    }

    /// Hands the answer over as a client reads it in `version`.
    fn ask<R>(
        request: &DescribeConfigsRequest<'_>,
        version: i16,
        read: impl FnOnce(&DescribeConfigsResponse<'_>) -> R,
    ) -> R {
        let image = image();
        let properties = BTreeMap::from([("log.segment.bytes".to_owned(), "2000000".to_owned())]);
        let topic_defaults = TopicDefaults::from_properties(&properties).expect("valid");
        let settings = vec![
            BrokerSetting {
                name: "broker.rack",
                value: None,
                default: None,
                kind: coord::config::ConfigType::String,
                source: ConfigSource::Default,
                documentation: "Where it stands.".to_owned(),
            },
            BrokerSetting {
                name: "num.partitions",
                value: Some("3".to_owned()),
                default: Some("1".to_owned()),
                kind: coord::config::ConfigType::Int,
                source: ConfigSource::StaticBroker,
                documentation: "How many.".to_owned(),
            },
        ];
        let known = Known { image: &image, node_id: 1, settings, topic_defaults: &topic_defaults };
        let mut encoder = Encoder::new();
        known.response(request).encode(&mut encoder, version).expect("encodable");
        let bytes = encoder.finish_contiguous();
        let mut decoder = Decoder::new(&bytes);
        let response = DescribeConfigsResponse::decode(&mut decoder, version).expect("decodable");
        assert_eq!(decoder.remaining(), 0);
        read(&response)
    }

    fn versions() -> std::ops::RangeInclusive<i16> {
        let served = table::find(32).expect("served");
        served.min_version..=served.max_version
    }

    fn config<'r>(
        result: &'r DescribeConfigsResult<'r>,
        name: &str,
    ) -> &'r DescribeConfigsResourceResult<'r> {
        result.configs.iter().find(|config| config.name == name).unwrap_or_else(|| panic!("{name}"))
    }

    #[test]
    fn a_topic_has_all_configs_with_their_sources_in_every_version() {
        for version in versions() {
            ask(&request(vec![resource(TOPIC, "t", None)]), version, |response| {
                let result = &response.results[0];
                assert_eq!((result.error_code, result.resource_type), (0, TOPIC));
                assert_eq!(result.configs.len(), TOPIC_CONFIGS.len());
                let shown = |name: &str| {
                    let config = config(result, name);
                    let synonyms = config.synonyms.iter();
                    let synonyms = synonyms.map(|s| (s.name.to_string(), s.source)).collect::<Vec<_>>();
                    (config.value.clone().unwrap().into_owned(), config.config_source, synonyms)
                };
                let named = |names: &[(&str, i8)]| {
                    names.iter().map(|(name, source)| (name.to_string(), *source)).collect::<Vec<_>>()
                };
                assert_eq!(
                    shown("retention.ms"),
                    ("77".to_owned(), 1, named(&[("retention.ms", 1), ("log.retention.ms", 5)]))
                );
                assert_eq!(
                    shown("segment.bytes"),
                    ("2000000".to_owned(), 4, named(&[("log.segment.bytes", 4), ("log.segment.bytes", 5)]))
                );
                assert_eq!(
                    shown("cleanup.policy"),
                    ("delete".to_owned(), 5, named(&[("log.cleanup.policy", 5)]))
                );
                let retention = config(result, "retention.ms");
                assert!(!retention.read_only && !retention.is_sensitive);
                assert_eq!(retention.config_type, if version >= 3 { 5 } else { 0 });
                let documentation = retention.documentation.as_deref().unwrap_or_default();
                assert_eq!(!documentation.is_empty(), version >= 3);
            });
        }
    }

    #[test]
    fn this_broker_has_its_settings_and_the_cluster_has_no_changed_defaults() {
        let asked = request(vec![resource(BROKER, "1", None), resource(BROKER, "", None)]);
        for version in versions() {
            ask(&asked, version, |response| {
                let [own, cluster] = &response.results[..] else { panic!("two results") };
                assert!(own.configs.iter().all(|config| config.read_only));
                let partitions = config(own, "num.partitions");
                assert_eq!((partitions.value.as_deref(), partitions.config_source), (Some("3"), 4));
                let values: Vec<_> = partitions.synonyms.iter().map(|s| s.value.as_deref()).collect();
                assert_eq!(values, [Some("3"), Some("1")]);
                let rack = config(own, "broker.rack");
                assert_eq!((rack.value.as_deref(), rack.config_source, rack.synonyms.len()), (None, 5, 0));
                assert_eq!((cluster.error_code, cluster.configs.len()), (0, 0));
            });
        }
    }

    #[test]
    fn names_choose_and_what_is_not_asked_for_is_left_out() {
        let only = DescribeConfigsRequest {
            resources: vec![
                resource(TOPIC, "t", Some(&["segment.ms", "no.such", "retention.ms"])),
                resource(BROKER, "1", Some(&["broker.rack"])),
                resource(TOPIC, "t", Some(&[])),
            ],
            ..Default::default()
        };
        ask(&only, 4, |response| {
            let names = |n: usize| {
                let configs = response.results[n].configs.iter();
                configs.map(|config| config.name.to_string()).collect::<Vec<_>>()
            };
            assert_eq!(names(0), ["retention.ms", "segment.ms"]);
            assert_eq!(names(1), ["broker.rack"]);
            assert_eq!(response.results.len(), 2, "a topic that is named twice is answered once");
            let mut configs = response.results.iter().flat_map(|result| &result.configs);
            assert!(configs.all(|config| config.synonyms.is_empty() && config.documentation.is_none()));
        });
        ask(&request(vec![resource(TOPIC, "t", Some(&[]))]), 4, |response| {
            assert_eq!(response.results[0].configs.len(), TOPIC_CONFIGS.len(), "no names mean all");
        });
    }

    #[test]
    fn what_cannot_be_described_is_refused_as_in_kafka() {
        let asked = request(vec![
            resource(TOPIC, "missing", None),
            resource(TOPIC, "bad name", None),
            resource(TOPIC, "", None),
            resource(BROKER, "7", None),
            resource(BROKER, "x", None),
            resource(32, "group", None),
            resource(TOPIC, "t", None),
        ]);
        let outcomes = |request: &DescribeConfigsRequest<'_>, version| {
            ask(request, version, |response| {
                let results = response.results.iter();
                results
                    .map(|r| (ErrorCode(r.error_code), r.error_message.as_deref().unwrap_or("").to_owned()))
                    .collect::<Vec<_>>()
            })
        };
        for version in versions() {
            let texts = outcomes(&asked, version);
            let texts: Vec<_> = texts.iter().map(|(error, text)| (*error, text.as_str())).collect();
            assert_eq!(
                texts,
                [
                    (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ""),
                    (
                        ErrorCode::INVALID_TOPIC_EXCEPTION,
                        "Topic name is invalid: 'bad name' contains one or more characters other than \
                         ASCII alphanumerics, '.', '_' and '-'"
                    ),
                    (
                        ErrorCode::INVALID_TOPIC_EXCEPTION,
                        "Topic name is invalid: the empty string is not allowed"
                    ),
                    (
                        ErrorCode::INVALID_REQUEST,
                        "Unexpected broker id, expected 1 or empty string, but received 7"
                    ),
                    (ErrorCode::INVALID_REQUEST, "Broker id must be an integer, but it is: x"),
                    (ErrorCode::INVALID_REQUEST, "Unsupported resource type: GROUP"),
                    (ErrorCode::NONE, ""),
                ]
            );
            let spoilt = request(vec![resource(TOPIC, "t", None), resource(3, "t", None)]);
            let errors = outcomes(&spoilt, version);
            assert!(
                errors.iter().all(|(error, text)| *error == ErrorCode::INVALID_REQUEST && !text.is_empty())
            );
        }
    }
}
