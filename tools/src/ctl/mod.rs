//! `brokerctl`: topics, groups, configuration and the cluster, and records in and out, from a shell.
//!
//! | file | owns |
//! |---|---|
//! | `topic/`, `group/`, `partition/`, `broker/`, `cluster/`, `quorum`, `config`, `records` | the subcommands of these names |
//! | `produce/` | lines to records |
//! | `consume/` | records to lines, alone or in a group |
//! | `format`, `encoding` | the verbs of `consume --format`; bytes as text |
//! | `time` | points in time as people write them |
//! | `table`, `progress` | tables and progress for people |
//! | `man` | manual pages |
//! | `error` | exit codes, and what to do about a failure |
//!
//! `log dump` is [`crate::log_dump`].

mod broker;
mod cluster;
mod config;
mod consume;
mod encoding;
mod error;
mod format;
mod group;
mod man;
mod partition;
mod produce;
mod progress;
mod quorum;
mod records;
mod table;
mod time;
mod topic;

#[cfg(test)]
mod fake_broker;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::client::Client;
use crate::log_dump::{self, LogDumpArgs};

pub use error::CtlError;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the broker refused, or the data is not as it should be
  2  the command line is wrong
  3  no broker could be reached, or the connection broke
  4  the topic, partition, group or setting does not exist
  5  a file or the terminal could not be read or written";

/// Operates a broker from a shell: topics, groups, configuration, and records in and out.
#[derive(Debug, Parser)]
#[command(name = "brokerctl", version, max_term_width = 110, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

/// Options of every subcommand.
#[derive(Debug, Clone, Args)]
pub struct GlobalArgs {
    /// Brokers to start from, host:port separated by commas
    #[arg(
        long,
        short,
        global = true,
        env = "BOOTSTRAP_SERVERS",
        default_value = "127.0.0.1:9092",
        value_delimiter = ','
    )]
    bootstrap: Vec<String>,
    /// Print JSON for programs instead of tables for people
    #[arg(long, global = true)]
    json: bool,
    /// Seconds that a request may take
    #[arg(long, global = true, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

impl GlobalArgs {
    fn client(&self) -> Client {
        Client::new(self.bootstrap.clone(), Duration::from_secs(self.timeout))
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create, list, describe, alter and delete topics
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// List and describe groups with their lag, move and delete what they have committed
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Show and change the configuration of topics, brokers and groups
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Delete old records before their time
    #[command(subcommand)]
    Records(records::RecordsCommand),
    /// Show brokers, the metadata quorum, partitions that lack replicas, and log folders
    Cluster(cluster::ClusterArgs),
    /// Move partitions between brokers, and have leaders elected
    #[command(subcommand)]
    Partition(partition::PartitionCommand),
    /// Take brokers out of the cluster
    #[command(subcommand)]
    Broker(broker::BrokerCommand),
    /// Add and remove voters of the metadata quorum
    #[command(subcommand)]
    Quorum(quorum::QuorumCommand),
    /// Write lines as records
    Produce(produce::ProduceArgs),
    /// Read records, by default from the oldest to what is there now
    Consume(consume::ConsumeArgs),
    /// Look into a broker's files, without a broker
    #[command(subcommand)]
    Log(LogCommand),
    /// Print manual pages, or write them to a folder: 'brokerctl man | man -l -'
    Man(man::ManArgs),
    /// Print a completion script: 'brokerctl completions bash > /etc/bash_completion.d/brokerctl'
    Completions {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Show what segment and index files hold, and check it
    Dump(LogDumpArgs),
}

/// Runs the command line of this process and returns its exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let stdout = io::stdout();
    let mut out = io::BufWriter::with_capacity(256 << 10, stdout.lock());
    let outcome =
        run(&cli, &mut io::stdin().lock(), &mut out).and_then(|()| out.flush().map_err(CtlError::stdout));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has enough: 'brokerctl consume … | head' is no failure.
        Err(CtlError::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // What was read before the failure is shown all the same.
            let _ = out.flush();
            eprintln!("brokerctl: {error}");
            if let Some(advice) = error.advice() {
                eprintln!("  hint: {advice}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs one command; `input` stands for standard input and `out` for standard output.
pub fn run(cli: &Cli, input: &mut dyn io::BufRead, out: &mut dyn Write) -> Result<(), CtlError> {
    match &cli.command {
        Command::Topic(command) => topic::run(command, &cli.global, out),
        Command::Produce(args) => produce::run(args, &cli.global, input, out),
        Command::Consume(args) => consume::run(args, &cli.global, out),
        Command::Group(command) => group::run(command, &cli.global, out),
        Command::Config(command) => config::run(command, &cli.global, out),
        Command::Records(command) => records::run(command, &cli.global, out),
        Command::Cluster(args) => cluster::run(args, &cli.global, out),
        Command::Partition(command) => partition::run(command, &cli.global, out),
        Command::Broker(command) => broker::run(command, &cli.global, out),
        Command::Quorum(command) => quorum::run(command, &cli.global, out),
        Command::Man(args) => man::run(args, Cli::command(), out),
        Command::Log(LogCommand::Dump(args)) => {
            // The dump writes to standard output itself.
            let json = args.json || cli.global.json;
            Ok(log_dump::run(LogDumpArgs { json, ..args.clone() })?)
        }
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "brokerctl", &mut &mut *out);
            Ok(())
        }
    }
}
