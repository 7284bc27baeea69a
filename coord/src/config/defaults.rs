//! The defaults of topics that the operator has set, in a broker's file or at run time, under the broker's own names for them.

use std::collections::BTreeMap;

use super::broker::topic_default;
use super::definition::{ConfigDefinition, ConfigType, ServerSynonym};
use super::resolve::ConfigSource;
use super::topic::TOPIC_CONFIGS;

/// One property that the operator has set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerValue {
    /// The property's name.
    pub(super) property: &'static str,
    /// Where it was set.
    pub(super) source: ConfigSource,
    /// Its value as written.
    pub(super) written: String,
    /// Its value in the topic config's unit.
    pub(super) value: String,
}

/// Defaults that the operator has set, by topic config; for each the properties that speak of it, the one that wins first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicDefaults {
    by_config: BTreeMap<&'static str, Vec<ServerValue>>,
}

/// Properties by name, and where they were set.
type Layer<'a> = (ConfigSource, &'a BTreeMap<String, String>);

impl TopicDefaults {
    /// Reads broker-side properties such as `log.retention.hours`; the finer unit wins, as in Kafka.
    ///
    /// # Errors
    /// Says which property has which value and what is allowed. An unknown property is an error too.
    pub fn from_properties(properties: &BTreeMap<String, String>) -> Result<Self, String> {
        if let Some(name) = properties.keys().find(|name| topic_default(name).is_none()) {
            return Err(format!("{name} is not a default of any topic config"));
        }
        Self::read(&[(ConfigSource::StaticBroker, properties)])
    }

    /// The defaults that are in force on a broker: what was set at run time on the broker itself beats what was set for the cluster, which beats the
    /// broker's file. Names that are no defaults of topics are passed over. All values were checked when they were set.
    ///
    /// # Errors
    /// As [`TopicDefaults::from_properties`], for a value that a newer version has accepted.
    pub fn layered(
        file: &BTreeMap<String, String>,
        cluster: &BTreeMap<String, String>,
        broker: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        Self::read(&[
            (ConfigSource::DynamicBroker, broker),
            (ConfigSource::DynamicDefaultBroker, cluster),
            (ConfigSource::StaticBroker, file),
        ])
    }

    /// `layers` with the one that wins first; a finer unit in any layer beats a coarser one in another.
    fn read(layers: &[Layer<'_>]) -> Result<Self, String> {
        let mut by_config: BTreeMap<&'static str, Vec<ServerValue>> = BTreeMap::new();
        for definition in TOPIC_CONFIGS {
            for synonym in definition.synonyms {
                for (source, properties) in layers {
                    let Some(written) = properties.get(synonym.name) else { continue };
                    let value = server_value(definition, synonym, *source, written)
                        .map_err(|problem| format!("{} = {written}: {problem}", synonym.name))?;
                    by_config.entry(definition.name).or_default().push(value);
                }
            }
        }
        Ok(TopicDefaults { by_config })
    }

    /// What the operator has set for a topic config, the winning property first.
    pub(super) fn of(&self, config: &str) -> &[ServerValue] {
        self.by_config.get(config).map_or(&[], Vec::as_slice)
    }
}

fn server_value(
    definition: &ConfigDefinition,
    synonym: &ServerSynonym,
    source: ConfigSource,
    written: &str,
) -> Result<ServerValue, String> {
    let value = converted(definition, synonym, written)?;
    definition.check(&value)?;
    definition.check_supported(&value)?;
    let value = definition.normalize(&value);
    Ok(ServerValue { property: synonym.name, source, written: written.to_owned(), value })
}

fn converted(
    definition: &ConfigDefinition,
    synonym: &ServerSynonym,
    written: &str,
) -> Result<String, String> {
    if synonym.factor == 1 || definition.kind != ConfigType::Long {
        return Ok(written.to_owned());
    }
    let number: i64 = written.trim().parse().map_err(|_| "not a whole number".to_owned())?;
    // A negative number means "no limit" in every unit.
    let value = if number < 0 { Some(-1) } else { number.checked_mul(synonym.factor) };
    value.map(|value| value.to_string()).ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(properties: &[(&str, &str)]) -> BTreeMap<String, String> {
        properties.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn read(properties: &[(&str, &str)]) -> Result<TopicDefaults, String> {
        TopicDefaults::from_properties(&map(properties))
    }

    fn values(defaults: &TopicDefaults, config: &str) -> Vec<(String, ConfigSource)> {
        defaults.of(config).iter().map(|value| (value.value.clone(), value.source)).collect()
    }

    #[test]
    fn the_finest_unit_wins_and_coarser_ones_are_converted() {
        let defaults = read(&[("log.retention.hours", "2"), ("log.retention.ms", "5000")]).unwrap();
        let values: Vec<&str> = defaults.of("retention.ms").iter().map(|v| v.value.as_str()).collect();
        assert_eq!(values, ["5000", "7200000"]);
        assert_eq!(read(&[("log.retention.minutes", "-1")]).unwrap().of("retention.ms")[0].value, "-1");
    }

    #[test]
    fn the_broker_beats_the_cluster_which_beats_the_file() {
        use ConfigSource::{DynamicBroker, DynamicDefaultBroker, StaticBroker};
        let file = map(&[("log.retention.hours", "1"), ("log.segment.bytes", "2000000")]);
        let cluster = map(&[("log.retention.ms", "2"), ("max.connections", "9")]);
        let broker = map(&[("log.retention.ms", "3")]);
        let all = TopicDefaults::layered(&file, &cluster, &broker).unwrap();
        assert_eq!(
            values(&all, "retention.ms"),
            [
                ("3".to_owned(), DynamicBroker),
                ("2".to_owned(), DynamicDefaultBroker),
                ("3600000".to_owned(), StaticBroker)
            ]
        );
        assert_eq!(values(&all, "segment.bytes"), [("2000000".to_owned(), StaticBroker)]);
        let finer_in_file = map(&[("log.roll.ms", "7")]);
        let none = map(&[]);
        let defaults = TopicDefaults::layered(&finer_in_file, &none, &none).unwrap();
        assert_eq!(values(&defaults, "segment.ms"), [("7".to_owned(), StaticBroker)]);
    }

    #[test]
    fn bad_defaults_are_refused_with_the_propertys_name() {
        for (name, value) in [
            ("log.retention.hours", "soon"),
            ("log.retention.hours", "9223372036854775807"),
            ("log.segment.bytes", "10"),
            ("log.cleanup.policy", "shred"),
            ("log.nonsense", "1"),
        ] {
            assert!(read(&[(name, value)]).unwrap_err().starts_with(name));
        }
    }
}
