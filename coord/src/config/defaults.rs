//! The operator's defaults for topics, given to the broker under its own names for them.

use std::collections::BTreeMap;

use super::definition::{ConfigDefinition, ConfigType, ServerSynonym};
use super::topic::TOPIC_CONFIGS;

/// One property that the operator has set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerValue {
    /// The property's name.
    pub(super) property: &'static str,
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

impl TopicDefaults {
    /// Reads broker-side properties such as `log.retention.hours`; the finer unit wins, as in Kafka.
    ///
    /// # Errors
    /// Says which property has which value and what is allowed. An unknown property is an error too.
    pub fn from_properties(properties: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut unknown: BTreeMap<&str, ()> = properties.keys().map(|name| (name.as_str(), ())).collect();
        let mut by_config: BTreeMap<&'static str, Vec<ServerValue>> = BTreeMap::new();
        for definition in TOPIC_CONFIGS {
            for synonym in definition.synonyms {
                let Some(written) = properties.get(synonym.name) else { continue };
                unknown.remove(synonym.name);
                let value = converted(definition, synonym, written)
                    .and_then(|value| {
                        definition.check(&value)?;
                        definition.check_supported(&value)?;
                        Ok(definition.normalize(&value))
                    })
                    .map_err(|problem| format!("{} = {written}: {problem}", synonym.name))?;
                by_config.entry(definition.name).or_default().push(ServerValue {
                    property: synonym.name,
                    written: written.clone(),
                    value,
                });
            }
        }
        match unknown.into_keys().next() {
            Some(name) => Err(format!("{name} is not a default of any topic config")),
            None => Ok(TopicDefaults { by_config }),
        }
    }

    /// What the operator has set for a topic config, the winning property first.
    pub(super) fn of(&self, config: &str) -> &[ServerValue] {
        self.by_config.get(config).map_or(&[], Vec::as_slice)
    }
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

    fn read(properties: &[(&str, &str)]) -> Result<TopicDefaults, String> {
        let map = properties.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        TopicDefaults::from_properties(&map)
    }

    #[test]
    fn the_finest_unit_wins_and_coarser_ones_are_converted() {
        let defaults = read(&[("log.retention.hours", "2"), ("log.retention.ms", "5000")]).unwrap();
        let values: Vec<&str> = defaults.of("retention.ms").iter().map(|v| v.value.as_str()).collect();
        assert_eq!(values, ["5000", "7200000"]);
        assert_eq!(read(&[("log.retention.minutes", "-1")]).unwrap().of("retention.ms")[0].value, "-1");
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
