//! Answers as a client reads them, in every version.

use coord::config::ConfigType;
use coord::metadata::{MetadataRecord, PartitionImage};
use coord::types::BrokerId;
use protocol::{Decoder, Encoder, Message};
use uuid::Uuid;

use super::*;
use crate::api::table;
use crate::live::set_at_run_time;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;

fn image() -> MetadataImage {
    let mut image = MetadataImage::default();
    let partition = PartitionImage::new(BrokerId(1), [BrokerId(1)].into(), [BrokerId(1)].into());
    let record = MetadataRecord::Topic {
        topic_id: Uuid::from_u128(5),
        name: "t".into(),
        configs: vec![("retention.ms".to_owned(), "77".to_owned())],
        partitions: vec![partition],
    };
    image.replay(&record).expect("a new topic");
    set_at_run_time(&mut image, ConfigResourceType::Group, "g", "consumer.session.timeout.ms", "50000");
    image
}

fn resource<'a>(resource_type: i8, name: &'a str, keys: Option<&[&'a str]>) -> DescribeConfigsResource<'a> {
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
    let row = |name, kind, values| BrokerSetting {
        name,
        kind,
        values,
        is_dynamic: name == "max.connections",
        documentation: "What it does.".to_owned(),
    };
    let text = str::to_owned;
    let settings = vec![
        row("broker.rack", ConfigType::String, vec![]),
        row("max.connections", ConfigType::Int, vec![(ConfigSource::DynamicBroker, text("9"))]),
        row(
            "num.partitions",
            ConfigType::Int,
            vec![(ConfigSource::StaticBroker, text("3")), (ConfigSource::Default, text("1"))],
        ),
    ];
    let cluster =
        row("log.segment.bytes", ConfigType::Int, vec![(ConfigSource::DynamicDefaultBroker, text("4"))]);
    let known = Known {
        image: &image,
        node_id: 1,
        settings,
        cluster_settings: vec![cluster],
        topic_defaults: &topic_defaults,
        group: GroupConfig::default(),
    };
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

fn config<'r>(result: &'r DescribeConfigsResult<'r>, name: &str) -> &'r DescribeConfigsResourceResult<'r> {
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
            assert_eq!(shown("retention.ms"), ("77".to_owned(), 1, named(&[("retention.ms", 1)])));
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
fn this_broker_has_its_settings_and_the_cluster_what_was_set_for_all() {
    let asked = request(vec![resource(BROKER, "1", None), resource(BROKER, "", None)]);
    for version in versions() {
        ask(&asked, version, |response| {
            let [own, cluster] = &response.results[..] else { panic!("two results") };
            let changeable: Vec<_> = own.configs.iter().filter(|c| !c.read_only).map(|c| &*c.name).collect();
            assert_eq!(changeable, ["max.connections"]);
            let partitions = config(own, "num.partitions");
            assert_eq!((partitions.value.as_deref(), partitions.config_source), (Some("3"), 4));
            let values: Vec<_> = partitions.synonyms.iter().map(|s| s.value.as_deref()).collect();
            assert_eq!(values, [Some("3"), Some("1")]);
            let rack = config(own, "broker.rack");
            assert_eq!((rack.value.as_deref(), rack.config_source, rack.synonyms.len()), (None, 5, 0));
            assert_eq!((cluster.error_code, cluster.configs.len()), (0, 1));
            let segment = config(cluster, "log.segment.bytes");
            assert_eq!((segment.value.as_deref(), segment.config_source), (Some("4"), 3));
        });
    }
}

#[test]
fn any_group_has_its_own_values_and_else_the_brokers() {
    for version in versions() {
        ask(
            &request(vec![resource(GROUP, "g", None), resource(GROUP, "other", None)]),
            version,
            |response| {
                let shown = |group: usize| {
                    let session = config(&response.results[group], "consumer.session.timeout.ms");
                    let synonyms = session.synonyms.iter().map(|synonym| synonym.source).collect::<Vec<_>>();
                    (session.value.clone().unwrap().into_owned(), session.config_source, synonyms)
                };
                assert_eq!(shown(0), ("50000".to_owned(), 8, vec![8]));
                assert_eq!(shown(1), ("45000".to_owned(), 5, vec![5]));
            },
        );
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
        resource(GROUP, "", None),
        resource(8, "7", None),
        resource(8, "", None),
        resource(16, "subscription", None),
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
                (ErrorCode::INVALID_REQUEST, "Group name must not be empty"),
                (ErrorCode::INVALID_REQUEST, "Unexpected broker id, expected 1 but received 7"),
                (ErrorCode::INVALID_REQUEST, "Broker id must not be empty"),
                (ErrorCode::INVALID_REQUEST, "Unsupported resource type: CLIENT_METRICS"),
                (ErrorCode::NONE, ""),
            ]
        );
        let spoilt = request(vec![resource(TOPIC, "t", None), resource(3, "t", None)]);
        let errors = outcomes(&spoilt, version);
        assert!(errors.iter().all(|(error, text)| *error == ErrorCode::INVALID_REQUEST && !text.is_empty()));
    }
}
