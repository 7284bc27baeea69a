//! `brokerctl quorum`: who votes on the metadata.

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{CtlError, GlobalArgs};
use crate::client::{Client, QuorumMember};

const NOTES: &str = "\
'brokerctl cluster --verbose' shows the members. A node has to run and to follow the metadata log (an observer) before it can vote. With
Apache Kafka a voter is better added by kafka-metadata-quorum, which reads the listener of the new controller from its configuration.";

/// What to do with the metadata quorum.
#[derive(Debug, Subcommand)]
pub enum QuorumCommand {
    /// Let a node vote that follows the metadata log
    Add(AddArgs),
    /// Take a node's vote: before it is stopped for good, or when it has lost its disk
    Remove(RemoveArgs),
}

/// Options of `quorum add`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub struct AddArgs {
    /// The node's id
    id: i32,
}

/// Options of `quorum remove`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub struct RemoveArgs {
    /// The node's id
    id: i32,
}

/// Runs a quorum command.
pub fn run(command: &QuorumCommand, global: &GlobalArgs, out: &mut dyn Write) -> Result<(), CtlError> {
    let mut client = global.client();
    let (id, votes) = match command {
        QuorumCommand::Add(AddArgs { id }) => {
            let member = member(&mut client, *id)?;
            let brokers = client.describe_cluster()?.brokers;
            let address = brokers.into_iter().find(|broker| broker.id == *id).map(|broker| broker.address);
            client.add_voter(*id, member.directory, &address.unwrap_or_default())?;
            (*id, true)
        }
        QuorumCommand::Remove(RemoveArgs { id }) => {
            let member = member(&mut client, *id)?;
            client.remove_voter(*id, member.directory)?;
            (*id, false)
        }
    };
    match (global.json, votes) {
        (true, _) => writeln!(out, "{}", json!({ "node": id, "votes": votes })),
        (false, true) => writeln!(out, "node {id} votes in the metadata quorum"),
        (false, false) => writeln!(out, "node {id} votes no more in the metadata quorum"),
    }
    .map_err(CtlError::stdout)
}

fn member(client: &mut Client, id: i32) -> Result<QuorumMember, CtlError> {
    let members = client.quorum()?.map(|quorum| quorum.members).unwrap_or_default();
    members.into_iter().find(|member| member.id == id).ok_or_else(|| {
        CtlError::NotFound(format!(
            "node {id} does not follow the metadata log: start it first, and let it join"
        ))
    })
}
