//! `brokerctl topic create`.

use std::io::Write;

use clap::Args;
use protocol::error::ErrorCode;
use protocol::messages::CreateTopicsRequest;
use protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig};
use protocol::uuid_text;
use serde_json::json;

use super::parse_entry;
use crate::client::{Client, ClientError};
use crate::ctl::CtlError;

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

/// Runs `topic create`.
pub fn run(client: &mut Client, args: &CreateArgs, json: bool, out: &mut dyn Write) -> Result<(), CtlError> {
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
        timeout_ms: client.timeout_ms(),
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
            "name": args.name, "id": uuid_text(result.topic_id), "created": !existed && !args.check,
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
