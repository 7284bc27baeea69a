//! `brokerctl group`.
//!
//! | file | owns |
//! |---|---|
//! | `show` | `group list`, `group describe`: states, members, lag |
//! | `delete` | `group delete` |
//! | `reset` | `group reset`: what to do, to which partitions, and doing it |
//! | `plan` | where a reset leads, and the file format of offsets |

mod delete;
mod plan;
mod reset;
mod show;

use std::io::Write;
use std::str::FromStr;

use clap::Subcommand;

use super::{CtlError, GlobalArgs};

/// What to do with groups.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List groups with their types and states
    List(show::ListArgs),
    /// Show a group's members with what they read, and its lag in each partition
    Describe(show::DescribeArgs),
    /// Move what a group has committed: backwards to read again, forwards to leave out
    Reset(reset::ResetArgs),
    /// Delete groups, or what they have committed for some topics
    Delete(delete::DeleteArgs),
}

/// Runs a group command.
pub fn run(command: &GroupCommand, global: &GlobalArgs, out: &mut dyn Write) -> Result<(), CtlError> {
    let mut client = global.client();
    match command {
        GroupCommand::List(args) => show::list(&mut client, args, global.json, out),
        GroupCommand::Describe(args) => show::describe(&mut client, args, global.json, out),
        GroupCommand::Reset(args) => reset::run(&mut client, args, global.json, out),
        GroupCommand::Delete(args) => delete::run(&mut client, args, global.json, out),
    }
}

/// `orders` or `orders:0,3`: a topic, and which of its partitions if not all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicChoice {
    /// The topic's name.
    pub topic: String,
    /// Its partitions; none: all.
    pub partitions: Vec<i32>,
}

impl FromStr for TopicChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<TopicChoice, String> {
        // A topic's name has no colon.
        let (topic, partitions) = match text.split_once(':') {
            Some((topic, partitions)) => (topic, partitions.split(',').map(str::parse).collect()),
            None => (text, Ok(Vec::new())),
        };
        match partitions {
            Ok(partitions) if !topic.is_empty() => Ok(TopicChoice { topic: topic.to_owned(), partitions }),
            _ => Err(format!("'{text}': write a topic, or a topic with some partitions as orders:0,3")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_stands_alone_or_with_partitions() {
        let choice = |topic: &str, partitions: &[i32]| {
            Ok(TopicChoice { topic: topic.to_owned(), partitions: partitions.to_vec() })
        };
        assert_eq!("orders".parse(), choice("orders", &[]));
        assert_eq!("orders:0,3".parse(), choice("orders", &[0, 3]));
        for bad in ["", ":1", "orders:", "orders:x"] {
            assert!(bad.parse::<TopicChoice>().is_err(), "{bad} was accepted");
        }
    }
}
