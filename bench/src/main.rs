//! Load generator with latency histograms that count from the intended send time.

mod client;
mod clock;
mod commits;
mod compare;
mod consume;
mod cpu;
mod crew;
mod discard;
mod error;
mod executor;
#[cfg(test)]
#[path = "../../tools/src/ctl/fake_broker.rs"]
mod fake_broker;
mod interrupt;
#[path = "../../broker/src/runtime/launch.rs"]
mod launch;
mod limits;
mod load;
mod member;
#[path = "../../broker/src/runtime/nudge.rs"]
mod nudge;
mod payload;
mod produce;
mod report;
mod schedule;
mod signal;
mod stats;
mod sys;
mod terminal;
mod units;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Puts a broker under load and measures it against what the machine could do at best.
///
/// Any broker that speaks Kafka's protocol will do.
///
/// Ctrl-C ends a run early, with a report of what was measured until then; once more after a second, and it ends at once.
///
/// The exit status is 1 if the run could not be done, if records or commits failed for good, if nothing was measured, or if what was read is not
/// what was written. A rate that was offered and not sustained is a result: 0, as long as every record was written in the end.
#[derive(Debug, Parser)]
#[command(name = "bench", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Commit offsets from the members of a group, one by one, and measure how long each commit takes
    Commits(Box<commits::CommitsArgs>),
    /// Compare two results, each printed by a run with --json
    Compare(compare::CompareArgs),
    /// Read a topic and measure how long after their intended send time records arrive
    Consume(Box<consume::ConsumeArgs>),
    /// Be a server that acknowledges everything and keeps nothing, to measure the load generator itself
    Discard(discard::DiscardArgs),
    /// Offer records at a rate and measure latency from the moment each was meant to be sent
    Produce(Box<produce::ProduceArgs>),
    /// Measure this machine: loopback TCP, journal write + sync, CRC-32C
    Limits {
        #[command(flatten)]
        args: limits::LimitsArgs,
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Commits(args) => commits::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Discard(args) => discard::run(&args),
        Command::Consume(args) => consume::run(&args),
        Command::Produce(args) => produce::run(&args),
        Command::Limits { args, json } => limits::run(&args, json),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::tell(format_args!("bench: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_examples_of_the_documentation_are_accepted() {
        for line in [
            "bench limits --dir /tmp --json",
            "bench produce --rate 1M",
            "bench produce --rate 1k --size 1KiB --linger-ms 0 --partitions 1 --spin",
            "bench produce --rate max --size 1KiB --batch-bytes 1MiB --partitions 4 --with-limits --limits-dir /tmp",
            "bench produce --rate 50k --keys 1000 --compression zstd --idempotent --acks all --hgrm a.hgrm --html a.html",
            "bench commits --members 50 --cores 1",
            "bench produce --rate 50k --producers 4 --consumers 2 --size lognormal:1KiB:0.5 --payload random --limits l.json",
            "bench consume --from beginning --no-verify --consumers 2 --connections 2 --json",
            "bench consume --group readers --consumers 4 --from beginning",
            "bench compare a.json b.json --json",
            "bench discard --listen 127.0.0.1:0 --partitions 4",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
}
