//! `bench consume`: reads a topic as fast as it can, and measures how long after their intended send time records arrive.
//!
//! | file | owns |
//! |---|---|
//! | `session` | a fetch session: which partitions a request names (KIP-227) |
//! | `tally` | what a batch counts for, and its verification |
//! | `run` | connections, leaders, the end |

mod run;
mod session;
mod tally;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::client::{Topic, connect_any, describe_topic};
use crate::clock::unix_ms;
use crate::error::BenchError;
use crate::executor;
use crate::load::{Crew, TargetArgs, WithLimitsArgs, check_outputs};
use crate::report::{OutputArgs, Report};
use crate::stats::INTERVAL_NS;
use crate::units;

use run::{WorkerEnd, WorkerSetup};

/// Where reading starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Start {
    /// With what is written from now on; end-to-end latency is measured
    Tail,
    /// With the oldest record, until what is there now has been read
    Beginning,
}

/// Options of `bench consume`.
#[derive(Debug, Clone, clap::Args)]
pub struct ConsumeArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Where to start
    #[arg(long, value_enum, default_value = "tail")]
    from: Start,
    /// How long to read, after the warm-up [default: 10s from the tail; until the end from the beginning]
    #[arg(long, value_parser = units::parse_duration)]
    duration: Option<Duration>,
    /// How long to read before anything counts (whole seconds)
    #[arg(long, default_value = "0s", value_parser = units::parse_duration)]
    warmup: Duration,
    /// Check that offsets follow each other without gap and that every batch's CRC is right
    #[arg(long)]
    verify: bool,
    /// Largest answer to a fetch
    #[arg(long, default_value = "16MiB", value_parser = units::parse_size)]
    fetch_max_bytes: usize,
    /// Largest part of one partition in it
    #[arg(long, default_value = "1MiB", value_parser = units::parse_size)]
    partition_max_bytes: usize,
    /// Bytes that the broker gathers before it answers
    #[arg(long, default_value = "1", value_parser = units::parse_size)]
    min_bytes: usize,
    /// How long the broker may gather
    #[arg(long, default_value_t = 500)]
    max_wait_ms: u32,
    #[command(flatten)]
    limits: WithLimitsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Reading from the tail without `--duration` lasts this long.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);
/// Reading to the end has no time limit but this.
const NO_LIMIT: Duration = Duration::from_secs(7 * 86_400);

impl ConsumeArgs {
    fn check(&self) -> Result<(), BenchError> {
        let refuse = |text: &str| Err(BenchError::Option(text.to_owned()));
        if self.duration.is_some_and(|duration| duration < Duration::from_secs(1)) {
            return refuse("--duration: at least 1s");
        }
        if self.fetch_max_bytes.max(self.partition_max_bytes) > 256 << 20 {
            return refuse("--fetch-max-bytes and --partition-max-bytes: at most 256MiB");
        }
        Ok(())
    }

    fn warmup_seconds(&self) -> u64 {
        self.warmup.as_secs_f64().ceil() as u64
    }

    /// Warm-up and measured time, at most.
    fn end_ns(&self) -> u64 {
        let duration = self.duration.unwrap_or(match self.from {
            Start::Tail => DEFAULT_DURATION,
            Start::Beginning => NO_LIMIT,
        });
        self.warmup_seconds() * INTERVAL_NS + duration.as_nanos() as u64
    }

    fn settings(&self) -> BTreeMap<&'static str, String> {
        let mut settings = self.target.settings();
        settings.extend([
            ("from", format!("{:?}", self.from).to_lowercase()),
            ("verify", self.verify.to_string()),
            ("fetch-max-bytes", self.fetch_max_bytes.to_string()),
            ("partition-max-bytes", self.partition_max_bytes.to_string()),
            ("min-bytes", self.min_bytes.to_string()),
            ("max-wait-ms", self.max_wait_ms.to_string()),
        ]);
        settings
    }
}

/// Runs `bench consume`.
pub fn run(args: &ConsumeArgs) -> Result<(), BenchError> {
    args.check()?;
    check_outputs(&args.output)?;
    let limits = args.limits.measure()?;
    let (mut report, end) = measure(args)?;
    if let Some(limits) = limits {
        report.compare_with(limits);
    }
    report.emit(&args.output, &mut std::io::stdout().lock())?;
    match end.wrong {
        Some(wrong) => Err(BenchError::Verification(wrong)),
        None => Ok(()),
    }
}

fn measure(args: &ConsumeArgs) -> Result<(Report, WorkerEnd), BenchError> {
    let topic = executor::run(find(args))??;
    let started_unix_ms = unix_ms();
    let latency = args.from == Start::Tail;
    let crew = Crew {
        target: &args.target,
        partitions: topic.partitions.len(),
        warmup_seconds: args.warmup_seconds(),
        quiet: args.output.quiet,
        latency,
    };
    let setup = |number, workers, events, start| {
        let mine = topic.partitions.iter().skip(number).step_by(workers).map(|info| info.index).collect();
        WorkerSetup { args: args.clone(), partitions: mine, events, start }
    };
    let (collector, ends) = crew.run(setup, run::work)?;
    let mut end = WorkerEnd::default();
    ends.into_iter().for_each(|ended| end.add(ended));
    let warmup_ns = args.warmup_seconds() * INTERVAL_NS;
    // Reading to the end ends with its last record, not with the second in which it lay.
    let measured_ns = match (args.from, args.duration) {
        (Start::Beginning, None) => end.last_arrival_ns,
        _ => args.end_ns(),
    }
    .saturating_sub(warmup_ns)
    .max(1);
    let mut report =
        Report::new("consume", started_unix_ms, &collector, measured_ns as f64 / INTERVAL_NS as f64, latency);
    report.settings = args.settings();
    report.settings.insert("partitions", topic.partitions.len().to_string());
    if args.verify && end.wrong.is_none() {
        report.remarks.push("verified: offsets without gap, every CRC right".to_owned());
    }
    if latency && end.unstamped > 0 {
        report.remarks.push(format!("{} records carry no send time and have no latency", end.unstamped));
    }
    Ok((report, end))
}

async fn find(args: &ConsumeArgs) -> Result<Topic, BenchError> {
    let mut client = connect_any(&args.target.bootstrap).await?;
    match describe_topic(&mut client, &args.target.topic).await? {
        Some(topic) if !topic.partitions.is_empty() => Ok(topic),
        _ => Err(BenchError::Refused {
            what: format!("topic {}", args.target.topic),
            code: "UNKNOWN_TOPIC_OR_PARTITION".to_owned(),
            message: ": write to it first, for example with 'bench produce'".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::fake_broker::FakeBroker;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ConsumeArgs,
    }

    #[test]
    fn what_was_produced_is_read_to_its_end_and_verified() {
        let broker = FakeBroker::start();
        crate::produce::tests::produce(
            &broker,
            "--rate 1k --partitions 3 --compression snappy --linger-ms 50",
        );
        let options = ["bench", "--bootstrap", &broker.address, "--quiet", "--from", "beginning", "--verify"];
        let line = Line::try_parse_from(options).expect("valid options");
        let (report, end) = measure(&line.args).expect("the run succeeds");
        assert_eq!((report.records, end.wrong), (1000, None));
        assert_eq!(report.payload_bytes, 100_000);
        assert!(report.remarks.iter().any(|remark| remark.starts_with("verified")));
    }
}
