//! The value of a config that is in force for one topic, and where it comes from.

use std::collections::BTreeMap;

use super::defaults::TopicDefaults;
use super::definition::ConfigDefinition;

/// Where a value comes from, with Kafka's numbers (`DescribeConfigsResponse.ConfigSource`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set in the broker's configuration file, environment or flags.
    StaticBroker,
    /// Nobody set it.
    Default,
}

impl ConfigSource {
    /// The source's number in DescribeConfigs and CreateTopics.
    pub fn wire(self) -> i8 {
        match self {
            ConfigSource::Topic => 1,
            ConfigSource::StaticBroker => 4,
            ConfigSource::Default => 5,
        }
    }
}

/// One of the values that compete for a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synonym {
    /// The name under which it was set.
    pub name: String,
    /// The value as it was set.
    pub value: String,
    /// Where.
    pub source: ConfigSource,
}

/// The value in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveConfig {
    /// The value in the config's own unit.
    pub value: String,
    /// Where it comes from.
    pub source: ConfigSource,
    /// All values that were set, the one in force first, the built-in default last.
    pub synonyms: Vec<Synonym>,
}

/// Finds the value of a topic config: the topic's own, else the operator's default, else the built-in one.
pub fn effective_config(
    definition: &ConfigDefinition,
    topic_configs: &BTreeMap<String, String>,
    defaults: &TopicDefaults,
) -> EffectiveConfig {
    let mut synonyms = Vec::new();
    if let Some(value) = topic_configs.get(definition.name) {
        synonyms.push(Synonym {
            name: definition.name.to_owned(),
            value: value.clone(),
            source: ConfigSource::Topic,
        });
    }
    for set in defaults.of(definition.name) {
        synonyms.push(Synonym {
            name: set.property.to_owned(),
            value: set.written.clone(),
            source: ConfigSource::StaticBroker,
        });
    }
    if let Some(synonym) = definition.synonyms.first() {
        synonyms.push(Synonym {
            name: synonym.name.to_owned(),
            value: definition.default.to_owned(),
            source: ConfigSource::Default,
        });
    }
    let (value, source) = value_in_force(definition, topic_configs, defaults);
    EffectiveConfig { value, source, synonyms }
}

/// The value in force and its source, without the competition.
pub fn value_in_force(
    definition: &ConfigDefinition,
    topic_configs: &BTreeMap<String, String>,
    defaults: &TopicDefaults,
) -> (String, ConfigSource) {
    if let Some(value) = topic_configs.get(definition.name) {
        return (definition.normalize(value), ConfigSource::Topic);
    }
    match defaults.of(definition.name).first() {
        Some(set) => (set.value.clone(), ConfigSource::StaticBroker),
        None => (definition.default.to_owned(), ConfigSource::Default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::topic_config;

    #[test]
    fn the_topics_value_beats_the_operators_which_beats_the_built_in_one() {
        let definition = topic_config("retention.ms").unwrap();
        let properties = BTreeMap::from([("log.retention.hours".to_owned(), "1".to_owned())]);
        let operator = TopicDefaults::from_properties(&properties).unwrap();
        let topic = BTreeMap::from([("retention.ms".to_owned(), " 77".to_owned())]);

        let all = effective_config(definition, &topic, &operator);
        assert_eq!((all.value.as_str(), all.source), ("77", ConfigSource::Topic));
        let sources: Vec<_> = all.synonyms.iter().map(|s| (s.name.as_str(), s.source)).collect();
        assert_eq!(
            sources,
            [
                ("retention.ms", ConfigSource::Topic),
                ("log.retention.hours", ConfigSource::StaticBroker),
                ("log.retention.ms", ConfigSource::Default),
            ]
        );
        let none = BTreeMap::new();
        assert_eq!(effective_config(definition, &none, &operator).value, "3600000");
        let built_in = effective_config(definition, &none, &TopicDefaults::default());
        assert_eq!((built_in.value.as_str(), built_in.source), ("604800000", ConfigSource::Default));
    }
}
