//! `bench commits`: the members of a group commit offsets, each one after the other, as fast as the broker answers.
//!
//! | file | owns |
//! |---|---|
//! | `run` | a worker's life: its members join, wait for the start, commit, end |

mod run;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::client::{Topic, connect_any, ensure_topic};
use crate::clock::unix_ms;
use crate::crew::Crew;
use crate::error::BenchError;
use crate::executor;
use crate::load::{TargetArgs, WithLimitsArgs, check_outputs};
use crate::report::{LiveLine, OutputArgs, Report};
use crate::stats::INTERVAL_NS;
use crate::units;

use run::WorkerSetup;

/// Options of `bench commits`.
#[derive(Debug, Clone, clap::Args)]
pub struct CommitsArgs {
    /// Brokers to start from, host:port separated by commas
    #[arg(long, env = "BOOTSTRAP_SERVERS", default_value = "127.0.0.1:9092", value_delimiter = ',')]
    bootstrap: Vec<String>,
    /// Topic whose offsets are committed; it gets a partition for each member if it has to be created
    #[arg(long, default_value = "bench-commits")]
    topic: String,
    /// Group
    #[arg(long, default_value = "bench")]
    group: String,
    /// Members of the group, each with a connection of its own and one commit in flight
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    members: u16,
    /// Partitions in each commit
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    partitions_per_commit: u16,
    /// Cores that make the load, as 1, 0-3 or 0,2 [default: the last]
    #[arg(long, value_name = "CORES")]
    cores: Option<String>,
    /// Never let a core sleep while it waits: takes the client's own wake-up out of the latencies, and the whole core
    #[arg(long)]
    spin: bool,
    /// How long to measure, after the warm-up
    #[arg(long, default_value = "10s", value_parser = units::parse_duration)]
    duration: Duration,
    /// How long to run before anything counts (whole seconds)
    #[arg(long, default_value = "2s", value_parser = units::parse_duration)]
    warmup: Duration,
    /// Count the processor time of these processes as the broker's (on the same machine)
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    broker_pid: Vec<u32>,
    #[command(flatten)]
    limits: WithLimitsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl CommitsArgs {
    fn target(&self) -> TargetArgs {
        TargetArgs {
            bootstrap: self.bootstrap.clone(),
            topic: self.topic.clone(),
            connections: 1,
            cores: self.cores.clone(),
            spin: self.spin,
            broker_pid: self.broker_pid.clone(),
        }
    }

    fn warmup_seconds(&self) -> u64 {
        units::whole_seconds(self.warmup)
    }

    /// Warm-up and measured time.
    fn end_ns(&self) -> u64 {
        self.warmup_seconds() * INTERVAL_NS + self.duration.as_nanos() as u64
    }

    fn settings(&self) -> BTreeMap<&'static str, String> {
        let mut settings = self.target().settings();
        settings.remove("connections");
        settings.extend([
            ("group", self.group.clone()),
            ("members", self.members.to_string()),
            ("partitions-per-commit", self.partitions_per_commit.to_string()),
            ("duration", format!("{:?}", self.duration)),
            ("warmup", format!("{:?}", self.warmup)),
        ]);
        settings
    }
}

/// Runs `bench commits`.
pub fn run(args: &CommitsArgs) -> Result<(), BenchError> {
    units::check_measured(args.duration)?;
    check_outputs(&args.output, false)?;
    let limits = args.limits.find()?;
    let mut report = measure(args)?;
    if let Some(limits) = limits {
        report.compare_with(limits);
    }
    report.emit(&args.output, &mut std::io::stdout().lock())?;
    report.verdict()
}

fn measure(args: &CommitsArgs) -> Result<Report, BenchError> {
    let topic: Topic = executor::run(prepare(args))??;
    let started_unix_ms = unix_ms();
    let target = args.target();
    let crew = Crew {
        cores: target.cores()?,
        spin: target.spin,
        warmup_seconds: args.warmup_seconds(),
        end_ns: args.end_ns(),
        quiet: args.output.quiet,
        sides: &[LiveLine { name: "", unit: "commits", latency: true }],
        broker_pids: &target.broker_pid,
    };
    let partitions = topic.partitions.len() as i32;
    let workers = crew.cores.len().min(usize::from(args.members));
    let setups = (0..workers).map(|number| WorkerSetup::new(args, partitions, number, workers)).collect();
    let outcome = crew.run::<WorkerSetup>(setups)?;
    let collector = &outcome.collectors[0];
    let measured_ns = outcome.end_ns.saturating_sub(args.warmup_seconds() * INTERVAL_NS).max(1);
    let seconds = measured_ns as f64 / INTERVAL_NS as f64;
    let mut report = Report::new("commits", started_unix_ms, collector, seconds, true);
    report.unit = "commits";
    report.cpu = Some(outcome.cpu.divided(report.records, 0));
    report.settings = args.settings();
    report.remarks.extend(outcome.interruption);
    report.remarks.push(format!(
        "closed loop: each of {} members sends its next commit when the last one is answered; latencies count from sending",
        args.members
    ));
    Ok(report)
}

async fn prepare(args: &CommitsArgs) -> Result<Topic, BenchError> {
    let mut client = connect_any(&args.bootstrap).await?;
    ensure_topic(&mut client, &args.topic, u32::from(args.members)).await
}
