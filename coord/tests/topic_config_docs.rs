//! `docs/topic-configs.md` says exactly what the table of topic configs says. After a change of the table:
//! `UPDATE_DOCS=1 cargo test -p coord --test topic_config_docs`.

use std::fmt::Write as _;

use coord::config::{Support, TOPIC_CONFIGS};

const HEAD: &str = "\
# Topic configs

All topic configs of Kafka 4.1, and what this broker does with each. A config either works or is refused with `INVALID_CONFIG` and the
reason when it is set; its default is always accepted. Written from the table in `coord/src/config/topic.rs`, and tested against it.

- **works**: every valid value does what it says.
- **satisfied**: every valid value is accepted, because what the broker does anyway is enough; the note says why.
- **default only**: other values are refused; the note says why.

The broker's own property (in `broker.toml`) sets the default of all topics that do not set the config themselves; where several are
given, the first wins.

| config | type | default | valid | broker property | here |
|---|---|---|---|---|---|
";

fn document() -> String {
    let mut text = HEAD.to_owned();
    for definition in TOPIC_CONFIGS {
        let properties: Vec<String> = definition.synonyms.iter().map(|s| format!("`{}`", s.name)).collect();
        let default = match definition.default {
            "" => "(empty)".to_owned(),
            "9223372036854775807" => "2^63-1".to_owned(),
            default => format!("`{default}`"),
        };
        let support = match definition.support {
            Support::Works => "works".to_owned(),
            Support::Satisfied(why) => format!("satisfied: {why}"),
            Support::Only(&[], why) => format!("default only: {why}"),
            Support::Only(values, why) => format!("default and {} only: {why}", values.join(", ")),
        };
        writeln!(
            text,
            "| `{}` | {} | {default} | {} | {} | {support} |",
            definition.name,
            definition.kind.name().to_lowercase(),
            definition.valid.describe(),
            properties.join(", "),
        )
        .expect("writing to a string");
    }
    text.push_str("\n## What they mean\n\n");
    for definition in TOPIC_CONFIGS {
        writeln!(text, "- **{}**: {}", definition.name, definition.documentation)
            .expect("writing to a string");
    }
    text
}

#[test]
fn the_documentation_of_topic_configs_is_that_of_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/topic-configs.md");
    let wanted = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &wanted).expect("docs is writable");
    }
    let found = std::fs::read_to_string(path).expect("docs/topic-configs.md exists");
    assert!(
        found == wanted,
        "docs/topic-configs.md is out of date: UPDATE_DOCS=1 cargo test -p coord --test topic_config_docs"
    );
}
