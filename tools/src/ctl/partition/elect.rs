//! `brokerctl partition elect`.

use std::io::Write;

use clap::Args;
use protocol::error::ErrorCode;
use serde_json::json;

use super::chosen;
use crate::client::{Client, ClientError, Election};
use crate::ctl::CtlError;
use crate::ctl::group::TopicChoice;

/// Options of `partition elect`.
#[derive(Debug, Args)]
pub struct ElectArgs {
    /// A topic, or some partitions of it: orders:0,3; without any, all partitions
    #[arg(value_name = "TOPIC[:PARTITIONS]")]
    topics: Vec<TopicChoice>,
    /// For partitions without a leader: let any replica lead, and lose what it does not have
    #[arg(long, requires = "topics")]
    unclean: bool,
}

/// Runs `partition elect`.
pub fn run(client: &mut Client, args: &ElectArgs, json: bool, out: &mut dyn Write) -> Result<(), CtlError> {
    let meant = chosen(client, &args.topics)?.concat();
    let partitions = (!args.topics.is_empty()).then_some(meant.as_slice());
    let elections = client.elect(partitions, args.unclean)?;
    let (failed, done): (Vec<Election>, Vec<Election>) =
        elections.into_iter().partition(|election| !is_fine(election));
    if json {
        let rows: Vec<_> = done
            .iter()
            .map(|election| {
                json!({
                    "topic": election.partition.topic, "partition": election.partition.partition,
                    "elected": election.code.is_none(),
                })
            })
            .collect();
        writeln!(out, "{}", json!(rows)).map_err(CtlError::stdout)?;
    } else {
        write(&done, out).map_err(CtlError::stdout)?;
    }
    match failed.into_iter().next() {
        Some(Election { partition, code, message }) => {
            let what = format!("electing a leader of {partition}");
            Err(ClientError::Refused { what, code, message }.into())
        }
        None => Ok(()),
    }
}

fn is_fine(election: &Election) -> bool {
    election.code.is_none() || election.code == ErrorCode::ELECTION_NOT_NEEDED
}

fn write(done: &[Election], out: &mut dyn Write) -> std::io::Result<()> {
    let elected: Vec<&Election> = done.iter().filter(|election| election.code.is_none()).collect();
    for election in &elected {
        writeln!(out, "{}: has another leader", election.partition)?;
    }
    if elected.is_empty() {
        return writeln!(out, "No election was needed.");
    }
    Ok(())
}
