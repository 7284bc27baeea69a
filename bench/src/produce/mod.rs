//! `bench produce`: offers records on a schedule and counts latency from the moment at which each was meant to be sent.
//!
//! | file | owns |
//! |---|---|
//! | `feed` | what a partition has to send next, retries included |
//! | `template`, `key` | the bytes of batches |
//! | `frame` | the bytes of requests |
//! | `worker` | one core's partitions, answers and counts |
//! | `lane` | one connection |
//! | `run` | a worker's life: connections, metadata, the end |

mod feed;
mod frame;
mod key;
mod lane;
mod run;
mod template;
mod worker;

#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

use protocol::client::parse_acks;
use protocol::compression::Compression;

use crate::client::{Topic, connect_any, ensure_topic};
use crate::clock::unix_ms;
use crate::error::BenchError;
use crate::executor;
use crate::load::{Crew, TargetArgs, WithLimitsArgs, check_outputs};
use crate::report::{OutputArgs, Report};
use crate::stats::INTERVAL_NS;
use crate::units::{self, Rate};

use run::{WorkerEnd, WorkerSetup};
pub use template::STAMP_BYTES;

/// Options of `bench produce`.
#[derive(Debug, Clone, clap::Args)]
pub struct ProduceArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Records per second as 1000, 50k or 1M; 'max' sends full batches as fast as the requests in flight allow
    #[arg(long, default_value = "100k", value_parser = units::parse_rate)]
    rate: Rate,
    /// Bytes of each record's value, at least 8
    #[arg(long, default_value = "100", value_parser = units::parse_size)]
    size: usize,
    /// How many different keys; 0 means none, and partitions in turn
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=100_000_000))]
    keys: u64,
    /// Partitions of the topic if it has to be created
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    partitions: u32,
    /// Largest record batch, before compression
    #[arg(long, default_value = "64KiB", value_parser = units::parse_size)]
    batch_bytes: usize,
    /// How long a record may wait for others to fill a batch
    #[arg(long, default_value_t = 1.0)]
    linger_ms: f64,
    /// Who must have a record before it counts as written: 0, 1 or all
    #[arg(long, default_value = "all", value_parser = parse_acks)]
    acks: i16,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, default_value_t = Compression::None)]
    compression: Compression,
    /// Use an idempotent producer
    #[arg(long)]
    idempotent: bool,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    max_in_flight: u16,
    /// How long to measure, after the warm-up
    #[arg(long, default_value = "10s", value_parser = units::parse_duration)]
    duration: Duration,
    /// How long to run before anything counts (whole seconds)
    #[arg(long, default_value = "2s", value_parser = units::parse_duration)]
    warmup: Duration,
    /// How long to wait at the end for what has not completed
    #[arg(long, default_value = "10s", value_parser = units::parse_duration)]
    drain: Duration,
    /// How long the broker may take for a request
    #[arg(long, default_value = "30s", value_parser = units::parse_duration)]
    request_timeout: Duration,
    #[command(flatten)]
    limits: WithLimitsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl ProduceArgs {
    fn check(&self) -> Result<(), BenchError> {
        let refuse = |text: String| Err(BenchError::Option(text));
        if self.size < STAMP_BYTES {
            return refuse(format!(
                "--size {}: at least {STAMP_BYTES}, the intended time is in the record",
                self.size
            ));
        }
        if self.size.max(self.batch_bytes) > 512 << 20 {
            return refuse("--size and --batch-bytes: at most 512 MiB".to_owned());
        }
        if self.duration < Duration::from_secs(1) {
            return refuse("--duration: at least 1s".to_owned());
        }
        if !(0.0..=60_000.0).contains(&self.linger_ms) {
            return refuse(format!("--linger-ms {}: between 0 and 60000", self.linger_ms));
        }
        if self.idempotent && (self.acks != -1 || self.max_in_flight > 5) {
            return refuse("--idempotent needs --acks all and --max-in-flight of at most 5".to_owned());
        }
        Ok(())
    }

    fn warmup_seconds(&self) -> u64 {
        self.warmup.as_secs_f64().ceil() as u64
    }

    /// Warm-up and measured time.
    fn end_ns(&self) -> u64 {
        self.warmup_seconds() * INTERVAL_NS + self.duration.as_nanos() as u64
    }

    fn settings(&self) -> std::collections::BTreeMap<&'static str, String> {
        let mut settings = self.target.settings();
        settings.extend([
            (
                "rate",
                match self.rate {
                    Rate::Max => "max".to_owned(),
                    Rate::PerSecond(rate) => rate.to_string(),
                },
            ),
            ("size", self.size.to_string()),
            ("keys", self.keys.to_string()),
            ("batch-bytes", self.batch_bytes.to_string()),
            ("linger-ms", self.linger_ms.to_string()),
            ("acks", if self.acks == -1 { "all".to_owned() } else { self.acks.to_string() }),
            ("compression", self.compression.to_string()),
            ("idempotent", self.idempotent.to_string()),
            ("max-in-flight", self.max_in_flight.to_string()),
            ("duration", format!("{:?}", self.duration)),
            ("warmup", format!("{:?}", self.warmup)),
        ]);
        settings
    }
}

/// Runs `bench produce`.
pub fn run(args: &ProduceArgs) -> Result<(), BenchError> {
    args.check()?;
    check_outputs(&args.output)?;
    let limits = args.limits.measure()?;
    let mut report = measure(args)?;
    if let Some(limits) = limits {
        report.compare_with(limits);
    }
    report.emit(&args.output, &mut std::io::stdout().lock())
}

/// Makes the load and returns what came of it.
fn measure(args: &ProduceArgs) -> Result<Report, BenchError> {
    let topic = executor::run(prepare(args))??;
    let started_unix_ms = unix_ms();
    let crew = Crew {
        target: &args.target,
        partitions: topic.partitions.len(),
        warmup_seconds: args.warmup_seconds(),
        quiet: args.output.quiet,
        latency: true,
    };
    let setup =
        |number, workers, events, start| WorkerSetup::new(args, &topic, number, workers, events, start);
    let (collector, ends) = crew.run(setup, run::work)?;
    let mut end = WorkerEnd::default();
    ends.iter().for_each(|ended| end.add(ended));
    let measured_ns = end.last_completion_ns.max(args.end_ns()) - args.warmup_seconds() * INTERVAL_NS;
    let mut report =
        Report::new("produce", started_unix_ms, &collector, measured_ns as f64 / INTERVAL_NS as f64, true);
    report.settings = args.settings();
    report.settings.insert("partitions", topic.partitions.len().to_string());
    report.unfinished = end.unfinished + end.gave_up;
    match args.rate {
        Rate::Max => report.remarks.push(format!(
            "closed loop: latencies count from the moment a batch was built, with {} requests in flight per connection",
            args.max_in_flight
        )),
        Rate::PerSecond(rate) => {
            report.target_rate = Some(rate);
            if report.final_backlog as f64 > rate * 0.1 {
                report.remarks.push(format!(
                    "NOT SUSTAINED: {} records were still waiting when the schedule ended; latencies grow with the length of the run",
                    units::count(report.final_backlog as f64)
                ));
            }
        }
    }
    if topic.partitions.len() != args.partitions as usize {
        report.remarks.push(format!("the topic existed with {} partitions", topic.partitions.len()));
    }
    Ok(report)
}

async fn prepare(args: &ProduceArgs) -> Result<Topic, BenchError> {
    let mut client = connect_any(&args.target.bootstrap).await?;
    ensure_topic(&mut client, &args.target.topic, args.partitions).await
}
