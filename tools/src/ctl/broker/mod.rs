//! `brokerctl broker`.
//!
//! | file | owns |
//! |---|---|
//! | `decommission` | `broker decommission` |
//! | `plan` | where the replicas of a broker that leaves go |

mod decommission;
mod plan;

use std::io::Write;

use clap::Subcommand;
use serde_json::json;

use super::{CtlError, GlobalArgs};

/// What to do with brokers.
#[derive(Debug, Subcommand)]
pub enum BrokerCommand {
    /// Move everything off a broker, so that it can be stopped for good
    Decommission(decommission::DecommissionArgs),
    /// Have the cluster forget a broker that has been stopped for good
    Unregister {
        /// The broker's id
        id: i32,
    },
}

/// Runs a broker command.
pub fn run(command: &BrokerCommand, global: &GlobalArgs, out: &mut dyn Write) -> Result<(), CtlError> {
    let mut client = global.client();
    match command {
        BrokerCommand::Decommission(args) => decommission::run(&mut client, args, global.json, out),
        BrokerCommand::Unregister { id } => {
            client.unregister_broker(*id)?;
            match global.json {
                true => writeln!(out, "{}", json!({ "broker": id, "unregistered": true })),
                false => writeln!(out, "broker {id}: forgotten"),
            }
            .map_err(CtlError::stdout)
        }
    }
}
