//! The value of a config that is in force for one topic, and where it comes from.

use std::collections::BTreeMap;

use super::defaults::TopicDefaults;
use super::definition::ConfigDefinition;

/// Where a value comes from, with Kafka's numbers (`DescribeConfigsResponse.ConfigSource`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set at run time on one broker.
    DynamicBroker,
    /// Set at run time for all brokers.
    DynamicDefaultBroker,
    /// Set in the broker's configuration file, environment or flags.
    StaticBroker,
    /// Nobody set it.
    Default,
    /// The level of a logger.
    BrokerLogger,
    /// Set on the group.
    Group,
}

impl ConfigSource {
    /// The source's number in DescribeConfigs and CreateTopics.
    pub fn wire(self) -> i8 {
        match self {
            ConfigSource::Topic => 1,
            ConfigSource::DynamicBroker => 2,
            ConfigSource::DynamicDefaultBroker => 3,
            ConfigSource::StaticBroker => 4,
            ConfigSource::Default => 5,
            ConfigSource::BrokerLogger => 6,
            ConfigSource::Group => 8,
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
    /// All values that were set, the one in force first, the built-in default last. As in Kafka the built-in default is left out where it belongs to
    /// a property in another unit than the config (`log.retention.hours`) and the one in the finest unit is not set.
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
            source: set.source,
        });
    }
    let is_finest_set = defaults
        .of(definition.name)
        .first()
        .is_some_and(|set| definition.synonyms.first().is_some_and(|finest| finest.name == set.property));
    if let Some(synonym) = definition.synonyms.last()
        && (is_finest_set || definition.synonyms.len() == 1)
    {
        synonyms.push(Synonym {
            name: synonym.name.to_owned(),
            value: definition.default_in_unit_of(synonym),
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
        Some(set) => (set.value.clone(), set.source),
        None => (definition.default.to_owned(), ConfigSource::Default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::topic_config;

    fn map(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn the_topics_value_beats_the_operators_which_beats_the_built_in_one() {
        let definition = topic_config("retention.ms").unwrap();
        let file = map("log.retention.hours", "1");
        let operator =
            TopicDefaults::layered(&file, &map("log.retention.ms", "9"), &BTreeMap::new()).unwrap();
        let topic = map("retention.ms", " 77");

        let all = effective_config(definition, &topic, &operator);
        assert_eq!((all.value.as_str(), all.source), ("77", ConfigSource::Topic));
        let sources: Vec<_> = all.synonyms.iter().map(|s| (s.name.as_str(), s.source)).collect();
        assert_eq!(
            sources,
            [
                ("retention.ms", ConfigSource::Topic),
                ("log.retention.ms", ConfigSource::DynamicDefaultBroker),
                ("log.retention.hours", ConfigSource::StaticBroker),
                ("log.retention.hours", ConfigSource::Default),
            ]
        );
        let none = BTreeMap::new();
        assert_eq!(effective_config(definition, &none, &operator).value, "9");
        let built_in = effective_config(definition, &none, &TopicDefaults::default());
        assert_eq!((built_in.value.as_str(), built_in.source), ("604800000", ConfigSource::Default));
        assert_eq!(built_in.synonyms, []);
    }

    #[test]
    fn a_default_with_one_property_is_named_as_its_last_synonym() {
        let definition = topic_config("segment.bytes").unwrap();
        let all = effective_config(definition, &BTreeMap::new(), &TopicDefaults::default());
        let expected = Synonym {
            name: "log.segment.bytes".to_owned(),
            value: "1073741824".to_owned(),
            source: ConfigSource::Default,
        };
        assert_eq!(all.synonyms, [expected]);
    }
}
