//! `brokerctl topic create|list|describe|delete`.

use std::collections::BTreeMap;
use std::io::Write;

use clap::{Args, Subcommand};
use protocol::error::ErrorCode;
use protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig};
use protocol::messages::delete_topics::DeleteTopicState;
use protocol::messages::describe_configs::DescribeConfigsResource;
use protocol::messages::{CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest};
use protocol::uuid_text;
use serde_json::json;

use super::table::write_table;
use super::{CtlError, GlobalArgs};
use crate::client::{Client, ClientError, OffsetSpec, Topic};

/// Kinds of resources and sources in DescribeConfigs.
const TOPIC_RESOURCE: i8 = 2;
const TOPIC_CONFIG_SOURCE: i8 = 1;

/// What to do with topics.
#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Create a topic
    Create(CreateArgs),
    /// List topics
    List {
        /// Show the broker's own topics too
        #[arg(long)]
        internal: bool,
    },
    /// Show a topic's partitions with leaders and offsets, and its configuration
    Describe {
        /// The topic
        name: String,
    },
    /// Delete topics and all that is in them
    Delete {
        /// The topics
        #[arg(required = true)]
        names: Vec<String>,
        /// A topic that is not there is no failure
        #[arg(long)]
        if_exists: bool,
    },
}

/// Options of `topic create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Its name
    name: String,
    /// How many partitions [default: the broker's num.partitions]
    #[arg(long, short, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// How many replicas of each [default: the broker's default.replication.factor]
    #[arg(long, value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A configuration entry, such as retention.ms=3600000 (may be repeated)
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = parse_entry)]
    config: Vec<(String, String)>,
    /// A topic that is there already is no failure
    #[arg(long)]
    if_not_exists: bool,
    /// Only check whether it could be created
    #[arg(long)]
    check: bool,
}

/// Splits `name=value`.
pub fn parse_entry(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("'{text}' is not NAME=VALUE")),
    }
}

/// Runs a topic command.
pub fn run(command: &TopicCommand, global: &GlobalArgs, out: &mut dyn Write) -> Result<(), CtlError> {
    let mut client = global.client();
    match command {
        TopicCommand::Create(args) => create(&mut client, args, global.json, out),
        TopicCommand::List { internal } => list(&mut client, *internal, global.json, out),
        TopicCommand::Describe { name } => describe(&mut client, name, global.json, out),
        TopicCommand::Delete { names, if_exists } => delete(&mut client, names, *if_exists, global.json, out),
    }
}

fn create(client: &mut Client, args: &CreateArgs, json: bool, out: &mut dyn Write) -> Result<(), CtlError> {
    let configs = args
        .config
        .iter()
        .map(|(name, value)| CreatableTopicConfig {
            name: name.as_str().into(),
            value: Some(value.as_str().into()),
            ..Default::default()
        })
        .collect();
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: args.name.as_str().into(),
            num_partitions: args.partitions.unwrap_or(-1),
            replication_factor: args.replication_factor.unwrap_or(-1),
            configs,
            ..Default::default()
        }],
        timeout_ms: client.timeout().as_millis() as i32,
        validate_only: args.check,
        ..Default::default()
    };
    let response = client.any()?.call(&request)?;
    let Some(result) = response.topics.first() else {
        return Err(CtlError::Data("the broker's answer names no topic".to_owned()));
    };
    let code = ErrorCode(result.error_code);
    let existed = code == ErrorCode::TOPIC_ALREADY_EXISTS;
    if code.is_err() && !(existed && args.if_not_exists) {
        let message = result.error_message.as_deref().map(str::to_owned);
        return Err(
            ClientError::Refused { what: format!("creating topic '{}'", args.name), code, message }.into()
        );
    }
    if json {
        let value = json!({
            "name": args.name, "id": result.topic_id.to_string(), "created": !existed && !args.check,
            "partitions": result.num_partitions, "replication_factor": result.replication_factor,
        });
        writeln!(out, "{value}").map_err(CtlError::stdout)
    } else {
        let done = match (existed, args.check) {
            (true, _) => "exists already",
            (false, true) => "could be created",
            (false, false) => "created",
        };
        writeln!(out, "{}: {done}", args.name).map_err(CtlError::stdout)
    }
}

fn list(client: &mut Client, internal: bool, json: bool, out: &mut dyn Write) -> Result<(), CtlError> {
    let topics: Vec<Topic> =
        client.topics()?.into_iter().filter(|topic| internal || !topic.is_internal).collect();
    let replication = |topic: &Topic| topic.partitions.iter().map(|p| p.replicas.len()).max().unwrap_or(0);
    if json {
        let value: Vec<_> = topics
            .iter()
            .map(|topic| {
                json!({
                    "name": topic.name, "id": uuid_text(topic.id), "internal": topic.is_internal,
                    "partitions": topic.partitions.len(), "replication_factor": replication(topic),
                })
            })
            .collect();
        return writeln!(out, "{}", json!(value)).map_err(CtlError::stdout);
    }
    let rows: Vec<Vec<String>> = topics
        .iter()
        .map(|topic| {
            let partitions = topic.partitions.len().to_string();
            vec![topic.name.clone(), partitions, replication(topic).to_string(), uuid_text(topic.id)]
        })
        .collect();
    write_table(out, &["TOPIC", "PARTITIONS", "REPLICAS", "ID"], &rows).map_err(CtlError::stdout)
}

fn describe(client: &mut Client, name: &str, json: bool, out: &mut dyn Write) -> Result<(), CtlError> {
    let topic = client.topic(name, false)?;
    let led: Vec<i32> = topic.partitions.iter().filter(|p| p.leader >= 0).map(|p| p.index).collect();
    let start = client.offsets(&topic, &led, OffsetSpec::Earliest)?;
    let end = client.offsets(&topic, &led, OffsetSpec::Latest)?;
    let configs = topic_configs(client, name)?;
    if json {
        let partitions: Vec<_> = topic
            .partitions
            .iter()
            .map(|p| {
                json!({
                    "partition": p.index, "leader": p.leader, "leader_epoch": p.leader_epoch,
                    "replicas": p.replicas, "in_sync_replicas": p.in_sync_replicas,
                    "log_start_offset": start.get(&p.index), "log_end_offset": end.get(&p.index),
                })
            })
            .collect();
        let value = json!({
            "name": topic.name, "id": uuid_text(topic.id), "internal": topic.is_internal,
            "configs": configs, "partitions": partitions,
        });
        return writeln!(out, "{value}").map_err(CtlError::stdout);
    }
    let offset =
        |offsets: &BTreeMap<i32, i64>, index| offsets.get(&index).map_or("-".to_owned(), i64::to_string);
    let ids = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    let rows: Vec<Vec<String>> = topic
        .partitions
        .iter()
        .map(|p| {
            vec![
                p.index.to_string(),
                p.leader.to_string(),
                p.leader_epoch.to_string(),
                ids(&p.replicas),
                ids(&p.in_sync_replicas),
                offset(&start, p.index),
                offset(&end, p.index),
            ]
        })
        .collect();
    let write = |out: &mut dyn Write| -> std::io::Result<()> {
        writeln!(
            out,
            "topic {}   id {}   {} partitions",
            topic.name,
            uuid_text(topic.id),
            topic.partitions.len()
        )?;
        for (name, value) in &configs {
            writeln!(out, "  {name} = {value}")?;
        }
        write_table(out, &["PARTITION", "LEADER", "EPOCH", "REPLICAS", "IN SYNC", "START", "END"], &rows)
    };
    write(out).map_err(CtlError::stdout)
}

/// What the topic itself has configured; nothing if the broker does not serve the request.
fn topic_configs(client: &mut Client, name: &str) -> Result<BTreeMap<String, String>, CtlError> {
    let connection = client.any()?;
    if connection.version::<DescribeConfigsRequest<'_>>().is_none() {
        return Ok(BTreeMap::new());
    }
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: name.into(),
            configuration_keys: None,
            ..Default::default()
        }],
        ..Default::default()
    };
    let response = connection.call(&request)?;
    let mut configs = BTreeMap::new();
    for result in &response.results {
        let code = ErrorCode(result.error_code);
        if code.is_err() {
            let message = result.error_message.as_deref().map(str::to_owned);
            return Err(
                ClientError::Refused { what: format!("configuration of '{name}'"), code, message }.into()
            );
        }
        for entry in result.configs.iter().filter(|entry| entry.config_source == TOPIC_CONFIG_SOURCE) {
            let value = entry.value.as_deref().unwrap_or("(hidden)");
            configs.insert(entry.name.to_string(), value.to_owned());
        }
    }
    Ok(configs)
}

fn delete(
    client: &mut Client,
    names: &[String],
    if_exists: bool,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    let timeout_ms = client.timeout().as_millis() as i32;
    let connection = client.any()?;
    // Topics are named in another field since topics can be deleted by id (KIP-516).
    let by_state = connection.version::<DeleteTopicsRequest<'_>>().is_some_and(|version| version >= 6);
    let mut request = DeleteTopicsRequest { timeout_ms, ..Default::default() };
    for name in names {
        match by_state {
            true => {
                let name = Some(name.as_str().into());
                request.topics.push(DeleteTopicState { name, ..Default::default() });
            }
            false => request.topic_names.push(name.as_str().into()),
        }
    }
    let response = connection.call(&request)?;
    let mut failure = None;
    for result in &response.responses {
        let name = result.name.as_deref().unwrap_or_default();
        let code = ErrorCode(result.error_code);
        let missing = code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        if code.is_err() && !(missing && if_exists) {
            let message = result.error_message.as_deref().map(str::to_owned);
            failure = Some(ClientError::Refused { what: format!("deleting topic '{name}'"), code, message });
            continue;
        }
        let line = match json {
            true => json!({ "name": name, "deleted": !missing }).to_string(),
            false => format!("{name}: {}", if missing { "was not there" } else { "deleted" }),
        };
        writeln!(out, "{line}").map_err(CtlError::stdout)?;
    }
    failure.map_or(Ok(()), |failure| Err(failure.into()))
}
