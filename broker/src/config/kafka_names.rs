//! This broker's settings as Kafka's broker configs: the ones whose documentation gives Kafka's name for them, the listeners, the folder
//! for data, and the defaults of topic configs; each with what was set at run time.

use std::collections::{BTreeMap, BTreeSet};

use coord::config::broker::{self, DYNAMIC_CONFIGS};
use coord::config::{
    ConfigDefinition, ConfigResourceType, ConfigSource, ConfigType, ServerSynonym, TOPIC_CONFIGS,
};
use coord::metadata::MetadataImage;

use super::settings::{Config, SETTINGS, Setting};
use crate::live::ALL_BROKERS;
use crate::shard::BrokerInfo;

/// One broker config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerSetting {
    /// Kafka's name.
    pub name: &'static str,
    /// The value's type.
    pub kind: ConfigType,
    /// All values that were given, the one in force first, the built-in default last.
    pub values: Vec<(ConfigSource, String)>,
    /// Whether it can be changed at run time.
    pub is_dynamic: bool,
    /// What it does.
    pub documentation: String,
}

impl BrokerSetting {
    /// `written` is what the operator gave; the value counts as given only if it differs from the default.
    fn new(
        name: &'static str,
        kind: ConfigType,
        written: Option<String>,
        default: Option<String>,
        documentation: impl Into<String>,
    ) -> Self {
        let given = written.map(|value| (ConfigSource::StaticBroker, value));
        let built_in = default.map(|value| (ConfigSource::Default, value));
        let values = given.into_iter().chain(built_in).collect();
        BrokerSetting { name, kind, values, is_dynamic: false, documentation: documentation.into() }
    }

    /// The value in force, none if there is none.
    pub fn value(&self) -> Option<&str> {
        self.values.first().map(|(_, value)| value.as_str())
    }

    /// Where the value in force comes from.
    pub fn source(&self) -> ConfigSource {
        self.values.first().map_or(ConfigSource::Default, |(source, _)| *source)
    }
}

/// All of them, sorted by name.
pub fn broker_settings(broker: &BrokerInfo, image: &MetadataImage) -> Vec<BrokerSetting> {
    let listener = |address: String| Some(format!("PLAINTEXT://{address}"));
    let mut all = of_config(&broker.config, image);
    let fixed = |name, value, documentation: &str| {
        BrokerSetting::new(name, ConfigType::String, value, None, documentation)
    };
    let data_dir = Some(broker.config.data_dir.display().to_string());
    all.push(fixed("log.dirs", data_dir, "Where data lives: journals, topics, metadata."));
    let bound = listener(broker.kafka_address.to_string());
    all.push(fixed("listeners", bound, "Where Kafka clients connect."));
    let advertised = listener(broker.advertised.to_string());
    all.push(fixed("advertised.listeners", advertised, "The address that clients are told to use."));
    all.sort_by_key(|setting| setting.name);
    all
}

/// What was set at run time for all brokers, sorted by name.
pub fn cluster_settings(image: &MetadataImage) -> Vec<BrokerSetting> {
    let set = image.resource_configs(ConfigResourceType::Broker, ALL_BROKERS);
    let row = |(name, value): (&String, &String)| {
        let definition = broker::dynamic_config(name)?;
        let name = dynamic_name(definition, name);
        Some(BrokerSetting {
            name,
            kind: definition.kind,
            values: vec![(ConfigSource::DynamicDefaultBroker, value.clone())],
            is_dynamic: true,
            documentation: documentation_of(definition, name),
        })
    };
    set.iter().filter_map(row).collect()
}

/// Names of broker configs that only the file can set.
pub fn read_only_names() -> BTreeSet<&'static str> {
    let of_settings = SETTINGS.iter().filter_map(kafka_name);
    let of_topics = TOPIC_CONFIGS.iter().flat_map(|definition| definition.synonyms).map(|s| s.name);
    let others = ["log.dirs", "listeners", "advertised.listeners"];
    of_settings.chain(of_topics).chain(others).filter(|name| broker::dynamic_config(name).is_none()).collect()
}

/// The setting that Kafka has under this name.
pub fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| kafka_name(setting) == Some(name))
}

fn of_config(config: &Config, image: &MetadataImage) -> Vec<BrokerSetting> {
    let built_in = Config::default();
    let mut all: Vec<BrokerSetting> = SETTINGS
        .iter()
        .filter_map(|setting| {
            let (value, default) = ((setting.text)(config), (setting.text)(&built_in));
            let written = value.filter(|value| default.as_ref() != Some(value));
            let documentation = setting.doc.join(" ").replace("  ", " ").trim().to_owned();
            Some(BrokerSetting::new(kafka_name(setting)?, setting.kind, written, default, documentation))
        })
        .collect();
    for definition in TOPIC_CONFIGS {
        for (index, synonym) in definition.synonyms.iter().enumerate() {
            let is_last = index + 1 == definition.synonyms.len();
            all.push(topic_default(config, definition, synonym, is_last));
        }
    }
    let broker = image.resource_configs(ConfigResourceType::Broker, &config.node_id.to_string());
    let cluster = image.resource_configs(ConfigResourceType::Broker, ALL_BROKERS);
    for ConfigDefinition { name, kind, documentation, .. } in DYNAMIC_CONFIGS {
        // What is no setting of ours has no value of its own: it is shown when it is set.
        if setting(name).is_none() && (broker.contains_key(*name) || cluster.contains_key(*name)) {
            all.push(BrokerSetting::new(name, *kind, None, None, *documentation));
        }
    }
    for row in &mut all {
        add_dynamic(row, broker, cluster);
    }
    all
}

fn add_dynamic(
    row: &mut BrokerSetting,
    broker: &BTreeMap<String, String>,
    cluster: &BTreeMap<String, String>,
) {
    row.is_dynamic = broker::dynamic_config(row.name).is_some();
    let set = [(ConfigSource::DynamicBroker, broker), (ConfigSource::DynamicDefaultBroker, cluster)];
    let set = set.into_iter().filter_map(|(source, configs)| Some((source, configs.get(row.name)?.clone())));
    row.values.splice(0..0, set.collect::<Vec<_>>());
}

/// Of several properties for one topic config, such as `log.retention.ms`, `.minutes` and `.hours`, Kafka gives only the coarsest, which
/// is the last, a default of its own.
fn topic_default(
    config: &Config,
    definition: &'static ConfigDefinition,
    synonym: &'static ServerSynonym,
    is_last: bool,
) -> BrokerSetting {
    let default = is_last.then(|| definition.default_in_unit_of(synonym));
    let written = config.topic_defaults.get(synonym.name).cloned();
    // Hours and minutes are 32 bits in Kafka, though the milliseconds that they come to are 64.
    let kind = if synonym.factor > 1 { ConfigType::Int } else { definition.kind };
    BrokerSetting::new(synonym.name, kind, written, default, documentation_of(definition, synonym.name))
}

fn documentation_of(definition: &ConfigDefinition, name: &str) -> String {
    if definition.name == name && definition.synonyms.is_empty() {
        return definition.documentation.to_owned();
    }
    format!("The default of {}. {}", definition.name, definition.documentation)
}

/// The name of a dynamic config, for ever.
fn dynamic_name(definition: &'static ConfigDefinition, name: &str) -> &'static str {
    let synonym = definition.synonyms.iter().find(|synonym| synonym.name == name);
    synonym.map_or(definition.name, |synonym| synonym.name)
}

/// What the documentation of a setting says in "(Kafka: `some.name`)".
fn kafka_name(setting: &Setting) -> Option<&'static str> {
    setting.doc.iter().find_map(|line| line.split_once("(Kafka: `")?.1.split_once("`)").map(|(name, _)| name))
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::live::set_at_run_time;

    fn find(all: &[BrokerSetting], name: &str) -> BrokerSetting {
        all.iter().find(|setting| setting.name == name).unwrap_or_else(|| panic!("{name}")).clone()
    }

    fn unchanged(config: &Config) -> Vec<BrokerSetting> {
        of_config(config, &MetadataImage::new())
    }

    #[test]
    fn settings_have_kafkas_names_types_and_values() {
        let mut config = Config { node_id: 7, broker_rack: Some("west".into()), ..Config::default() };
        config.topic_defaults.insert("log.retention.minutes".into(), "5".into());
        let all = unchanged(&config);
        let node = find(&all, "node.id");
        assert_eq!(
            (node.value(), node.kind, node.source()),
            (Some("7"), ConfigType::Int, ConfigSource::StaticBroker)
        );
        assert_eq!(node.values[1], (ConfigSource::Default, "1".to_owned()));
        assert_eq!(find(&all, "broker.rack").value(), Some("west"));
        assert_eq!(find(&unchanged(&Config::default()), "broker.rack").value(), None);
        let create = find(&all, "auto.create.topics.enable");
        assert_eq!((create.value(), create.kind), (Some("true"), ConfigType::Boolean));
        assert_eq!(create.source(), ConfigSource::Default);
        let retention = |unit: &str| {
            let row = find(&all, &format!("log.retention.{unit}"));
            (row.values, row.kind, row.is_dynamic)
        };
        assert_eq!(retention("ms"), (vec![], ConfigType::Long, true));
        let minutes = vec![(ConfigSource::StaticBroker, "5".to_owned())];
        assert_eq!(retention("minutes"), (minutes, ConfigType::Int, false));
        let hours = vec![(ConfigSource::Default, "168".to_owned())];
        assert_eq!(retention("hours"), (hours, ConfigType::Int, false));
    }

    #[test]
    fn what_was_set_at_run_time_comes_first() {
        let mut image = MetadataImage::new();
        let mut set = |broker: &str, config: &str, value: &str| {
            set_at_run_time(&mut image, ConfigResourceType::Broker, broker, config, value);
        };
        set("", "log.segment.bytes", "3000000");
        set("1", "log.segment.bytes", "2000000");
        set("", "max.connections", "5");
        set("1", "leader.replication.throttled.rate", "8");
        let all = of_config(&Config::default(), &image);
        let sources = |name: &str| {
            let values = find(&all, name).values.into_iter();
            values.map(|(source, value)| (source.wire(), value)).collect::<Vec<_>>()
        };
        let text = |source: i8, value: &str| (source, value.to_owned());
        assert_eq!(
            sources("log.segment.bytes"),
            [text(2, "2000000"), text(3, "3000000"), text(5, "1073741824")]
        );
        assert_eq!(sources("max.connections"), [text(3, "5"), text(5, "100000")]);
        assert_eq!(sources("leader.replication.throttled.rate"), [text(2, "8")]);
        assert!(all.iter().all(|row| row.name != "follower.replication.throttled.rate"));
        let cluster = cluster_settings(&image);
        let names: Vec<_> = cluster.iter().map(|row| (row.name, row.value().unwrap())).collect();
        assert_eq!(names, [("log.segment.bytes", "3000000"), ("max.connections", "5")]);
    }

    #[test]
    fn no_name_appears_twice_and_every_name_that_a_documentation_gives_is_found() {
        let all = unchanged(&Config::default());
        let names: std::collections::HashSet<_> = all.iter().map(|setting| setting.name).collect();
        assert_eq!(names.len(), all.len());
        let named = SETTINGS.iter().filter(|setting| setting.doc.concat().contains("Kafka:")).count();
        assert_eq!(SETTINGS.iter().filter_map(kafka_name).count(), named);
        assert!(all.iter().all(|setting| !setting.documentation.is_empty()));
    }

    #[test]
    fn a_setting_is_read_only_or_dynamic_and_never_both() {
        let read_only = read_only_names();
        for row in unchanged(&Config::default()) {
            assert_eq!(read_only.contains(row.name), !row.is_dynamic, "{}", row.name);
        }
        assert!(read_only.contains("log.retention.hours") && read_only.contains("num.partitions"));
    }
}
