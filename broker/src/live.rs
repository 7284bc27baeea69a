//! The settings that are in force: the file's, overridden by what was set at run time for the cluster and on this broker (KIP-226).
//!
//! Every shard works them out from its own image, at start and whenever a record of a broker's configs is replayed ([`refresh`]); code that
//! honours a dynamic setting reads it from [`Shard::live`], or is told here. Which settings are dynamic stands in `coord::config::broker`.

use std::rc::Rc;

use coord::config::broker::DYNAMIC_CONFIGS;
use coord::config::{ConfigResourceType, TopicDefaults};
use coord::metadata::MetadataImage;

use crate::config::{Config, kafka_names};
use crate::logs;
use crate::shard::Shard;

/// The name of the resource that stands for all brokers.
pub const ALL_BROKERS: &str = "";

/// The settings in force on this broker.
#[derive(Debug, Clone)]
pub struct LiveConfig {
    /// All settings; those that are not dynamic are the file's.
    pub config: Config,
    /// The operator's defaults for topics.
    pub topic_defaults: TopicDefaults,
}

impl LiveConfig {
    /// What `image` makes of the settings in `file`, which were checked before. A value that cannot be used, because a newer version has set
    /// it, is passed over with a line in the log.
    pub fn resolve(file: &Config, image: &MetadataImage) -> LiveConfig {
        let cluster = image.resource_configs(ConfigResourceType::Broker, ALL_BROKERS);
        let broker = image.resource_configs(ConfigResourceType::Broker, &file.node_id.to_string());
        let set = |name: &str| broker.get(name).or_else(|| cluster.get(name));
        let mut config = file.clone();
        for definition in DYNAMIC_CONFIGS {
            if let (Some(value), Some(setting)) =
                (set(definition.name), kafka_names::setting(definition.name))
                && let Err(allowed) = (setting.set)(&mut config, value)
            {
                tracing::warn!(setting = definition.name, value, allowed, "a dynamic setting cannot be used");
            }
        }
        let topic_defaults = TopicDefaults::layered(&file.topic_defaults, cluster, broker);
        let topic_defaults = topic_defaults.unwrap_or_else(|problem| {
            tracing::warn!(problem, "dynamic defaults of topics cannot be used");
            TopicDefaults::from_properties(&file.topic_defaults).unwrap_or_default()
        });
        LiveConfig { config, topic_defaults }
    }
}

/// Brings the settings into force that the shard's image says.
pub fn refresh(shard: &Shard) {
    let live = Rc::new(LiveConfig::resolve(shard.config(), &shard.image()));
    shard.live.replace(Rc::clone(&live));
    shard.replication.replicas.rates_changed();
    shard.background.set_threads(live.config.log_cleaner_threads as usize);
    if let Some(store) = shard.store.get() {
        store.set_producer_expiration(logs::producer_expiration_ms(&live.config));
        logs::update_configs(shard);
    }
    if let Some(net) = shard.net.get() {
        net.set_connections_max(live.config.max_connections as usize);
    }
}

/// Changes a config in `image`, as a record of the metadata log does.
#[cfg(test)]
pub fn set_at_run_time(
    image: &mut MetadataImage,
    resource_type: ConfigResourceType,
    resource: &str,
    config: &str,
    value: &str,
) {
    let record = coord::metadata::MetadataRecord::ResourceConfig {
        resource_type,
        resource_name: resource.to_owned(),
        config: config.to_owned(),
        value: Some(value.to_owned()),
    };
    image.replay(&record).expect("a config of a resource");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use coord::config::{effective_config, topic_config};

    use super::*;

    fn set(image: &mut MetadataImage, broker: &str, config: &str, value: &str) {
        set_at_run_time(image, ConfigResourceType::Broker, broker, config, value);
    }

    #[test]
    fn what_is_set_on_the_broker_beats_the_cluster_which_beats_the_file() {
        let mut file = Config { node_id: 3, max_connections: 10, ..Config::default() };
        file.topic_defaults.insert("log.retention.hours".into(), "1".into());
        let mut image = MetadataImage::new();
        let retention = |image: &MetadataImage| {
            let live = LiveConfig::resolve(&file, image);
            let definition = topic_config("retention.ms").unwrap();
            let value = effective_config(definition, &BTreeMap::new(), &live.topic_defaults).value;
            (live.config.max_connections, value)
        };
        assert_eq!(retention(&image), (10, "3600000".to_owned()));
        set(&mut image, "", "max.connections", "20");
        set(&mut image, "", "log.retention.ms", "5");
        set(&mut image, "4", "max.connections", "99");
        assert_eq!(retention(&image), (20, "5".to_owned()));
        set(&mut image, "3", "max.connections", "30");
        set(&mut image, "3", "log.retention.ms", "6");
        assert_eq!(retention(&image), (30, "6".to_owned()));
    }

    #[test]
    fn dynamic_settings_have_the_defaults_that_their_table_says() {
        let config = Config::default();
        for definition in DYNAMIC_CONFIGS {
            let Some(setting) = kafka_names::setting(definition.name) else { continue };
            assert_eq!((setting.text)(&config).as_deref(), Some(definition.default), "{}", definition.name);
        }
    }
}
