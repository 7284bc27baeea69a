//! Load generator with latency histograms that count from the intended send time.

mod client;
mod clock;
mod error;
mod executor;
mod limits;
mod load;
mod produce;
mod report;
mod schedule;
mod signal;
mod stats;
mod sys;
mod units;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Puts a broker under load and measures it against what the machine could do at best.
///
/// Any broker that speaks Kafka's protocol will do.
#[derive(Debug, Parser)]
#[command(name = "bench", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
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
        Command::Produce(args) => produce::run(&args),
        Command::Limits { args, json } => limits::run(&args, json),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
