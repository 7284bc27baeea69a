//! `brokerctl topic`.
//!
//! | file | owns |
//! |---|---|
//! | `create` | `topic create` |
//! | `show` | `topic list`, `topic describe` |
//! | `change` | `topic alter`, `topic delete` |

mod change;
mod create;
mod show;

use std::io::Write;

use clap::Subcommand;

use super::{CtlError, GlobalArgs};

/// What to do with topics.
#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Create a topic
    Create(create::CreateArgs),
    /// List topics
    List {
        /// Show the broker's own topics too
        #[arg(long)]
        internal: bool,
    },
    /// Show a topic's partitions with leaders, offsets and sizes, and its configuration
    Describe {
        /// The topics
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Add partitions to a topic, change its configuration
    Alter(change::AlterArgs),
    /// Delete topics and all that is in them
    Delete {
        /// The topics
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// A topic that is not there is no failure
        #[arg(long)]
        if_exists: bool,
    },
}

/// Runs a topic command.
pub fn run(command: &TopicCommand, global: &GlobalArgs, out: &mut dyn Write) -> Result<(), CtlError> {
    let mut client = global.client();
    match command {
        TopicCommand::Create(args) => create::run(&mut client, args, global.json, out),
        TopicCommand::List { internal } => show::list(&mut client, *internal, global.json, out),
        TopicCommand::Describe { names } => {
            names.iter().try_for_each(|name| show::describe(&mut client, name, global.json, out))
        }
        TopicCommand::Alter(args) => change::alter(&mut client, args, global.json, out),
        TopicCommand::Delete { names, if_exists } => {
            change::delete(&mut client, names, *if_exists, global.json, out)
        }
    }
}

/// Splits `name=value`.
pub fn parse_entry(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("'{text}' is not NAME=VALUE")),
    }
}
