//! This broker's settings as Kafka's broker configs: the ones whose documentation gives Kafka's name for them, the listeners, the folder
//! for data, and the defaults of topic configs.

use coord::config::{ConfigDefinition, ConfigSource, ConfigType, ServerSynonym, TOPIC_CONFIGS};

use super::settings::{Config, SETTINGS, Setting};
use crate::shard::BrokerInfo;

/// One broker config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerSetting {
    /// Kafka's name.
    pub name: &'static str,
    /// The value in force, none if there is none.
    pub value: Option<String>,
    /// The built-in default.
    pub default: Option<String>,
    /// The value's type.
    pub kind: ConfigType,
    /// Whether the operator gave the value. One that equals the default counts as not given.
    pub source: ConfigSource,
    /// What it does.
    pub documentation: String,
}

impl BrokerSetting {
    fn new(name: &'static str, kind: ConfigType, value: Option<String>, default: Option<String>) -> Self {
        let source = if value == default { ConfigSource::Default } else { ConfigSource::StaticBroker };
        BrokerSetting { name, value, default, kind, source, documentation: String::new() }
    }

    fn documented(self, documentation: impl Into<String>) -> Self {
        BrokerSetting { documentation: documentation.into(), ..self }
    }
}

/// All of them, sorted by name.
pub fn broker_settings(broker: &BrokerInfo) -> Vec<BrokerSetting> {
    let listener = |address: String| Some(format!("PLAINTEXT://{address}"));
    let mut all = of_config(&broker.config);
    all.push(
        BrokerSetting::new(
            "log.dirs",
            ConfigType::String,
            Some(broker.config.data_dir.display().to_string()),
            None,
        )
        .documented("Where data lives: journals, topics, metadata."),
    );
    all.push(
        BrokerSetting::new("listeners", ConfigType::String, listener(broker.kafka_address.to_string()), None)
            .documented("Where Kafka clients connect."),
    );
    all.push(
        BrokerSetting::new(
            "advertised.listeners",
            ConfigType::String,
            listener(broker.advertised.to_string()),
            None,
        )
        .documented("The address that clients are told to use."),
    );
    all.sort_by_key(|setting| setting.name);
    all
}

fn of_config(config: &Config) -> Vec<BrokerSetting> {
    let built_in = Config::default();
    let mut all: Vec<BrokerSetting> = SETTINGS
        .iter()
        .filter_map(|setting| {
            let (value, default) = ((setting.text)(config), (setting.text)(&built_in));
            let row = BrokerSetting::new(kafka_name(setting)?, setting.kind, value, default);
            Some(row.documented(setting.doc.join(" ").replace("  ", " ").trim()))
        })
        .collect();
    for definition in TOPIC_CONFIGS {
        for (index, synonym) in definition.synonyms.iter().enumerate() {
            let is_last = index + 1 == definition.synonyms.len();
            all.push(topic_default(config, definition, synonym, is_last));
        }
    }
    all
}

/// Of several properties for one topic config, such as `log.retention.ms`, `.minutes` and `.hours`, Kafka gives only the coarsest, which
/// is the last, a default of its own.
fn topic_default(
    config: &Config,
    definition: &ConfigDefinition,
    synonym: &'static ServerSynonym,
    is_last: bool,
) -> BrokerSetting {
    let default = is_last.then(|| match definition.default.parse::<i64>() {
        Ok(number) if synonym.factor > 1 && number > 0 => (number / synonym.factor).to_string(),
        _ => definition.default.to_owned(),
    });
    let written = config.topic_defaults.get(synonym.name).cloned();
    let is_written = written.is_some();
    // Hours and minutes are 32 bits in Kafka, though the milliseconds that they come to are 64.
    let kind = if synonym.factor > 1 { ConfigType::Int } else { definition.kind };
    let mut row = BrokerSetting::new(synonym.name, kind, written.or_else(|| default.clone()), default);
    if is_written {
        row.source = ConfigSource::StaticBroker;
    }
    row.documented(format!("The default of {}. {}", definition.name, definition.documentation))
}

/// What the documentation of a setting says in "(Kafka: `some.name`)".
fn kafka_name(setting: &Setting) -> Option<&'static str> {
    setting.doc.iter().find_map(|line| line.split_once("(Kafka: `")?.1.split_once("`)").map(|(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(all: &[BrokerSetting], name: &str) -> BrokerSetting {
        all.iter().find(|setting| setting.name == name).unwrap_or_else(|| panic!("{name}")).clone()
    }

    #[test]
    fn settings_have_kafkas_names_types_and_values() {
        let mut config = Config { node_id: 7, broker_rack: Some("west".into()), ..Config::default() };
        config.topic_defaults.insert("log.retention.minutes".into(), "5".into());
        let all = of_config(&config);
        let node = find(&all, "node.id");
        assert_eq!((node.value.as_deref(), node.kind), (Some("7"), ConfigType::Int));
        assert_eq!((node.source, node.default.as_deref()), (ConfigSource::StaticBroker, Some("1")));
        assert_eq!(find(&all, "broker.rack").value.as_deref(), Some("west"));
        assert_eq!(find(&of_config(&Config::default()), "broker.rack").value, None);
        let create = find(&all, "auto.create.topics.enable");
        assert_eq!((create.value.as_deref(), create.kind), (Some("true"), ConfigType::Boolean));
        assert_eq!(create.source, ConfigSource::Default);
        let retention = |unit: &str| {
            let row = find(&all, &format!("log.retention.{unit}"));
            (row.value, row.default, row.source, row.kind)
        };
        let week = || Some("168".to_owned());
        assert_eq!(retention("ms"), (None, None, ConfigSource::Default, ConfigType::Long));
        assert_eq!(
            retention("minutes"),
            (Some("5".into()), None, ConfigSource::StaticBroker, ConfigType::Int)
        );
        assert_eq!(retention("hours"), (week(), week(), ConfigSource::Default, ConfigType::Int));
    }

    #[test]
    fn no_name_appears_twice_and_every_name_that_a_documentation_gives_is_found() {
        let all = of_config(&Config::default());
        let names: std::collections::HashSet<_> = all.iter().map(|setting| setting.name).collect();
        assert_eq!(names.len(), all.len());
        let named = SETTINGS.iter().filter(|setting| setting.doc.concat().contains("Kafka:")).count();
        assert_eq!(SETTINGS.iter().filter_map(kafka_name).count(), named);
        assert!(all.iter().all(|setting| !setting.documentation.is_empty()));
    }
}
