//! The commented configuration file: made from the settings' documentation, so that it is never out of date.

use std::fmt::Write;

use super::settings::{Config, SETTINGS, TOPIC_DEFAULTS};

/// A configuration file with every setting at its default, commented out.
pub fn example_file() -> String {
    let defaults = Config::default();
    let mut text = String::from(
        "# Configuration of the broker: every setting with its default.\n\
         #\n\
         # A setting can also be given as a variable (BROKER_NUM_PARTITIONS=3) or as a flag (--set num_partitions=3);\n\
         # flags win over variables, variables over this file. Kafka's dotted names work too (num.partitions = 3).\n",
    );
    for setting in SETTINGS {
        text.push('\n');
        for line in setting.doc {
            let _ = writeln!(text, "#{line}");
        }
        let _ = writeln!(text, "#{} = {}", setting.name, (setting.get)(&defaults));
    }
    text.push_str(
        "\n# Defaults of topic configurations, by Kafka's names, for topics that do not set their own:\n",
    );
    for name in TOPIC_DEFAULTS {
        let _ = writeln!(text, "#   {name}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_file_in_tools_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tools/broker.example.toml");
        let kept = std::fs::read_to_string(path).expect("tools/broker.example.toml exists");
        assert!(
            kept == example_file(),
            "run: cargo run --bin broker -- --print-config > tools/broker.example.toml"
        );
    }

    #[test]
    fn the_example_file_uncommented_is_the_default_configuration() {
        let uncommented: String = example_file()
            .lines()
            .filter_map(|line| {
                line.strip_prefix('#').filter(|rest| !rest.starts_with(' ') && !rest.is_empty())
            })
            .map(|line| format!("{line}\n"))
            .collect();
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("broker.toml");
        std::fs::write(&path, uncommented).expect("written");
        let config = crate::config::load(Some(&path), std::iter::empty(), &[]).expect("accepted");
        assert_eq!(config, Config::default());
    }
}
