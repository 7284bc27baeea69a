//! Where settings come from: defaults, then `broker.toml`, then `BROKER_*` variables, then flags; each overrides the former.

use std::path::{Path, PathBuf};

use super::settings::{Config, SETTINGS, Setting, TOPIC_DEFAULTS};

/// Why a configuration was refused, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not valid TOML: {message}")]
    NotToml {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        message: String,
    },
    /// No setting has this name.
    #[error("{origin}: there is no setting {key}{hint}")]
    UnknownKey {
        /// File, variable or flag.
        origin: String,
        /// The name as written.
        key: String,
        /// `; did you mean …?`, or nothing.
        hint: String,
    },
    /// The value does not fit the setting.
    #[error("{origin}: {key} = {value:?} is not allowed; allowed: {allowed}")]
    BadValue {
        /// File, variable or flag.
        origin: String,
        /// The setting.
        key: String,
        /// The value as written.
        value: String,
        /// What the setting takes.
        allowed: String,
    },
    /// Settings that contradict each other.
    #[error("the configuration is not usable: {0}")]
    Contradiction(String),
}

/// Merges the defaults, the file (if any), the variables that start with `BROKER_` and the overrides (name and value, from flags).
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    overrides: &[(String, String)],
) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        apply_file(&mut config, path, &text)?;
    }
    for (name, value) in environment {
        if let Some(key) = name.strip_prefix("BROKER_") {
            apply(&mut config, &format!("environment variable {name}"), key, &value)?;
        }
    }
    for (name, value) in overrides {
        apply(&mut config, "command line", name, value)?;
    }
    config.check().map_err(ConfigError::Contradiction)?;
    Ok(config)
}

fn apply_file(config: &mut Config, path: &Path, text: &str) -> Result<(), ConfigError> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::NotToml {
        path: path.to_owned(),
        message: error.to_string(),
    })?;
    let mut entries = Vec::new();
    flatten("", &table, &mut entries);
    let origin = path.display().to_string();
    entries.iter().try_for_each(|(key, value)| apply(config, &origin, key, value))
}

/// `num.partitions = 3` is a table in TOML; joining the names again lets people write Kafka's names as they are.
fn flatten(prefix: &str, table: &toml::Table, entries: &mut Vec<(String, String)>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(inner) => flatten(&key, inner, entries),
            toml::Value::String(text) => entries.push((key, text.clone())),
            other => entries.push((key, other.to_string())),
        }
    }
}

fn apply(config: &mut Config, origin: &str, key: &str, value: &str) -> Result<(), ConfigError> {
    let name = normalised(key);
    let bad_value = |allowed| ConfigError::BadValue {
        origin: origin.to_owned(),
        key: key.to_owned(),
        value: value.to_owned(),
        allowed,
    };
    if let Some(setting) = find(&name) {
        return (setting.set)(config, value).map_err(bad_value);
    }
    if let Some(known) = TOPIC_DEFAULTS.iter().find(|known| normalised(known) == name) {
        config.topic_defaults.insert((*known).to_owned(), value.trim().to_owned());
        return Ok(());
    }
    let hint = nearest(&name).map(|known| format!("; did you mean {known}?")).unwrap_or_default();
    Err(ConfigError::UnknownKey { origin: origin.to_owned(), key: key.to_owned(), hint })
}

/// `Num.Partitions`, `num-partitions` and `NUM_PARTITIONS` are the same name.
fn normalised(key: &str) -> String {
    key.to_ascii_lowercase().replace(['.', '-'], "_")
}

/// Names that Kafka or the command line use for a setting of ours.
const SYNONYMS: [(&str, &str); 8] = [
    ("log", "log_filter"),
    ("log_dir", "data_dir"),
    ("log_dirs", "data_dir"),
    ("broker_id", "node_id"),
    ("rack", "broker_rack"),
    ("listeners", "listen"),
    ("advertised_listeners", "advertise"),
    ("queued_max_requests", "connection_in_flight_max"),
];

fn find(name: &str) -> Option<&'static Setting> {
    let name = SYNONYMS.iter().find(|(synonym, _)| *synonym == name).map_or(name, |(_, ours)| ours);
    SETTINGS.iter().find(|setting| setting.name == name)
}

fn nearest(name: &str) -> Option<&'static str> {
    let known = SETTINGS.iter().map(|setting| setting.name).chain(TOPIC_DEFAULTS.iter().copied());
    let (distance, best) = known.map(|known| (strsim::levenshtein(name, &normalised(known)), known)).min()?;
    (distance <= 2 + name.len() / 4).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Cores, HostPort};

    fn from_text(text: &str) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        apply_file(&mut config, Path::new("broker.toml"), text)?;
        Ok(config)
    }

    #[test]
    fn kafkas_names_work_quoted_unquoted_and_with_underscores() {
        for text in [
            "num.partitions = 3",
            "\"num.partitions\" = 3",
            "num_partitions = \"3\"",
            "[num]\npartitions = 3",
        ] {
            assert_eq!(from_text(text).expect("accepted").num_partitions, 3, "{text}");
        }
        let config = from_text("log.retention.ms = 1000\nlog_segment_bytes = 1048576").expect("accepted");
        assert_eq!(config.topic_defaults["log.retention.ms"], "1000");
        assert_eq!(config.topic_defaults["log.segment.bytes"], "1048576");
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        let error = from_text("num_partition = 3").expect_err("refused").to_string();
        assert_eq!(error, "broker.toml: there is no setting num_partition; did you mean num_partitions?");
        let error = from_text("zzzzzzzzzz = 1").expect_err("refused").to_string();
        assert_eq!(error, "broker.toml: there is no setting zzzzzzzzzz");
    }

    #[test]
    fn a_bad_value_names_key_value_and_what_is_allowed() {
        let error = from_text("durability = \"maybe\"").expect_err("refused").to_string();
        assert_eq!(error, "broker.toml: durability = \"maybe\" is not allowed; allowed: one of: sync, write");
    }

    #[test]
    fn flags_win_over_variables_and_variables_over_the_file() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("broker.toml");
        std::fs::write(&path, "node_id = 7\ncores = \"0\"\nlisten = \"127.0.0.1:1\"").expect("written");
        let variables =
            [("BROKER_NODE_ID".to_owned(), "8".to_owned()), ("BROKER_CORES".to_owned(), "1".to_owned())];
        let config =
            load(Some(&path), variables.into_iter(), &[("node_id".into(), "9".into())]).expect("accepted");
        assert_eq!(config.node_id, 9);
        assert_eq!(config.cores, Cores::List(vec![1]));
        assert_eq!(config.listen, HostPort { host: "127.0.0.1".into(), port: 1 });
    }

    #[test]
    fn a_mistyped_variable_is_refused() {
        let variables = [("BROKER_CORSE".to_owned(), "1".to_owned())];
        let error = load(None, variables.into_iter(), &[]).expect_err("refused").to_string();
        assert_eq!(
            error,
            "environment variable BROKER_CORSE: there is no setting CORSE; did you mean cores?"
        );
    }
}
