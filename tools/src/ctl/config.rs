//! `brokerctl config get|set|unset`: configuration of topics, brokers and groups.

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::json;

use super::table::{wrapped, write_table};
use super::{CtlError, GlobalArgs};
use crate::client::{ConfigChange, ConfigEntry, ConfigOperation, ConfigResource, ResourceKind, nearest};

const EXAMPLES: &str = "\
Examples:
  brokerctl config get topic orders                      what has been set, here or for the broker
  brokerctl config get topic orders --all                all settings
  brokerctl config get broker 1 log.retention.ms -v      one setting, with default, type and explanation
  brokerctl config set topic orders retention.ms=3600000 cleanup.policy+=compact
  brokerctl config set broker all log.retention.ms=86400000
  brokerctl config unset topic orders retention.ms";

/// Characters in a line of a setting's explanation.
const DOCUMENTATION_WIDTH: usize = 100;

/// How the defaults of all brokers are named on the command line.
const ALL_BROKERS: &str = "all";

/// What to do with configuration.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum ConfigCommand {
    /// Show settings
    #[command(after_help = EXAMPLES)]
    Get(GetArgs),
    /// Give settings values
    #[command(after_help = EXAMPLES)]
    Set(SetArgs),
    /// Take settings away, so that the next level's value holds again
    #[command(after_help = EXAMPLES)]
    Unset(UnsetArgs),
}

/// Whose configuration.
#[derive(Debug, Args)]
struct Whose {
    /// What has the configuration
    #[arg(value_enum)]
    kind: ResourceKind,
    /// The topic's name, the broker's id ('all': for all brokers), or the group's id
    name: String,
}

impl Whose {
    fn resource(&self) -> Result<ConfigResource, CtlError> {
        let name = match (self.kind, self.name.as_str()) {
            (ResourceKind::Broker, ALL_BROKERS) => String::new(),
            (ResourceKind::Broker, id) if id.parse::<i32>().is_err() => {
                return Err(CtlError::Usage(format!(
                    "'{id}' is no broker: write its id ('brokerctl cluster' shows them), or 'all'"
                )));
            }
            (_, name) => name.to_owned(),
        };
        Ok(ConfigResource { kind: self.kind, name })
    }
}

/// Options of `config get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    #[command(flatten)]
    whose: Whose,
    /// Only these settings [default: those that somebody has set]
    #[arg(value_name = "SETTING")]
    settings: Vec<String>,
    /// All settings, also those that have their defaults
    #[arg(long, short, conflicts_with = "settings")]
    all: bool,
    /// Show default, type and explanation too
    #[arg(long, short)]
    verbose: bool,
}

/// Options of `config set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    #[command(flatten)]
    whose: Whose,
    /// NAME=VALUE; NAME+=ITEM and NAME-=ITEM change a list
    #[arg(required = true, value_name = "NAME=VALUE", value_parser = parse_change)]
    changes: Vec<ConfigChange>,
    /// Only check whether it could be done
    #[arg(long)]
    check: bool,
}

/// Options of `config unset`.
#[derive(Debug, Args)]
pub struct UnsetArgs {
    #[command(flatten)]
    whose: Whose,
    /// The settings
    #[arg(required = true, value_name = "SETTING")]
    settings: Vec<String>,
    /// Only check whether it could be done
    #[arg(long)]
    check: bool,
}

fn parse_change(text: &str) -> Result<ConfigChange, String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("'{text}' is not NAME=VALUE"))?;
    let (name, operation) = match (name.strip_suffix('+'), name.strip_suffix('-')) {
        (Some(name), _) => (name, ConfigOperation::Append),
        (_, Some(name)) => (name, ConfigOperation::Subtract),
        (None, None) => (name, ConfigOperation::Set),
    };
    if name.is_empty() {
        return Err(format!("'{text}' is not NAME=VALUE"));
    }
    Ok(ConfigChange { name: name.to_owned(), operation, value: value.to_owned() })
}

/// Runs a configuration command.
pub fn run(command: &ConfigCommand, global: &GlobalArgs, out: &mut dyn Write) -> Result<(), CtlError> {
    match command {
        ConfigCommand::Get(args) => get(args, global, out),
        ConfigCommand::Set(args) => alter(&args.whose, args.changes.clone(), args.check, global, out),
        ConfigCommand::Unset(args) => {
            let unset = |name: &String| ConfigChange {
                name: name.clone(),
                operation: ConfigOperation::Unset,
                value: String::new(),
            };
            alter(&args.whose, args.settings.iter().map(unset).collect(), args.check, global, out)
        }
    }
}

fn get(args: &GetArgs, global: &GlobalArgs, out: &mut dyn Write) -> Result<(), CtlError> {
    let resource = args.whose.resource()?;
    let mut client = global.client();
    if resource.kind == ResourceKind::Topic {
        // Says which topic was probably meant.
        client.topic(&resource.name, false)?;
    }
    let mut entries = client.describe_configs(&resource, args.verbose || global.json)?;
    let unknown = |setting: &&String| !entries.iter().any(|entry| entry.name == **setting);
    if let Some(setting) = args.settings.iter().find(unknown) {
        let hint = nearest(setting, entries.iter().map(|entry| entry.name.as_str()));
        let hint = hint.map(|known| format!("; did you mean '{known}'?")).unwrap_or_default();
        return Err(CtlError::NotFound(format!("{resource} has no setting '{setting}'{hint}")));
    }
    match args.settings.is_empty() {
        true => entries.retain(|entry| args.all || entry.is_set()),
        false => entries.retain(|entry| args.settings.contains(&entry.name)),
    }
    match (global.json, args.verbose) {
        (true, _) => writeln!(out, "{}", json!(entries.iter().map(json_entry).collect::<Vec<_>>())),
        (false, true) => entries.iter().try_for_each(|entry| write_verbose(entry, out)),
        (false, false) => {
            let row =
                |entry: &ConfigEntry| vec![entry.name.clone(), value_text(entry), entry.source.to_owned()];
            let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
            write_table(out, &["SETTING", "VALUE", "FROM"], &rows)
        }
    }
    .map_err(CtlError::stdout)
}

fn value_text(entry: &ConfigEntry) -> String {
    match &entry.value {
        Some(value) => value.clone(),
        None if entry.is_sensitive => "(secret)".to_owned(),
        None => "(none)".to_owned(),
    }
}

fn json_entry(entry: &ConfigEntry) -> serde_json::Value {
    let synonym = |(name, value, source): &(String, Option<String>, &str)| json!({ "name": name, "value": value, "source": source });
    json!({
        "name": entry.name, "value": entry.value, "source": entry.source, "type": entry.kind,
        "default": entry.default_value(), "read_only": entry.is_read_only, "sensitive": entry.is_sensitive,
        "synonyms": entry.synonyms.iter().map(synonym).collect::<Vec<_>>(),
        "documentation": entry.documentation,
    })
}

fn write_verbose(entry: &ConfigEntry, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "{} = {}", entry.name, value_text(entry))?;
    let fixed = if entry.is_read_only { ", fixed while the broker runs" } else { "" };
    writeln!(out, "  {}, from {}{fixed}", entry.kind, entry.source)?;
    // Below the resource's own value: what would hold without it, down to the default.
    for (name, value, source) in entry.synonyms.iter().skip(usize::from(entry.is_set())) {
        writeln!(out, "  else {name} = {} ({source})", value.as_deref().unwrap_or("(none)"))?;
    }
    for line in wrapped(entry.documentation.as_deref().unwrap_or_default(), DOCUMENTATION_WIDTH) {
        writeln!(out, "  {line}")?;
    }
    writeln!(out)
}

fn alter(
    whose: &Whose,
    changes: Vec<ConfigChange>,
    check: bool,
    global: &GlobalArgs,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    let resource = whose.resource()?;
    let mut client = global.client();
    if resource.kind == ResourceKind::Topic {
        client.topic(&resource.name, false)?;
    }
    client.alter_configs(&resource, &changes, check)?;
    if global.json {
        let names: Vec<&str> = changes.iter().map(|change| change.name.as_str()).collect();
        let value = json!({ "kind": resource.kind.text(), "name": resource.name, "altered": !check, "settings": names });
        return writeln!(out, "{value}").map_err(CtlError::stdout);
    }
    let text = |change: &ConfigChange| match change.operation {
        ConfigOperation::Set => format!("{}={}", change.name, change.value),
        ConfigOperation::Append => format!("{}+={}", change.name, change.value),
        ConfigOperation::Subtract => format!("{}-={}", change.name, change.value),
        ConfigOperation::Unset => format!("{} no more", change.name),
    };
    let done: Vec<String> = changes.iter().map(text).collect();
    let verb = if check { "could have" } else { "has now" };
    writeln!(out, "{resource}: {verb} {}", done.join(", ")).map_err(CtlError::stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_set_append_and_subtract() {
        let parsed = |text| parse_change(text).map(|change| (change.name, change.operation, change.value));
        let change = |name: &str, operation, value: &str| Ok((name.to_owned(), operation, value.to_owned()));
        assert_eq!(parsed("a.b=1=2"), change("a.b", ConfigOperation::Set, "1=2"));
        assert_eq!(
            parsed("cleanup.policy+=compact"),
            change("cleanup.policy", ConfigOperation::Append, "compact")
        );
        assert_eq!(
            parsed("cleanup.policy-=delete"),
            change("cleanup.policy", ConfigOperation::Subtract, "delete")
        );
        assert_eq!(parsed("a="), change("a", ConfigOperation::Set, ""));
        for bad in ["a", "=1", "+=1"] {
            assert!(parse_change(bad).is_err(), "{bad} was accepted");
        }
    }
}
