//! `bench consume`: reads a topic as fast as it can, and measures how long after their intended send time records arrive.
//!
//! | file | owns |
//! |---|---|
//! | `session` | a fetch session: which partitions a request names (KIP-227) |
//! | `tally` | what a batch counts for |
//! | `sequence` | whether records come once and in order |
//! | `verification` | what was found wrong |
//! | `run` | one consumer: connections, leaders, the end |

mod run;
mod sequence;
mod session;
mod tally;
mod verification;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::client::{Topic, connect_any, describe_topic};
use crate::clock::{Clock, unix_ms};
use crate::crew::{Crew, Seconds, Worker};
use crate::error::BenchError;
use crate::executor;
use crate::load::{TargetArgs, WithLimitsArgs, check_outputs};
use crate::report::{LiveLine, OutputArgs, Report};
use crate::stats::{Collector, INTERVAL_NS};
use crate::units;

pub use run::{ConsumerEnd, ConsumerSetup, GroupPlan, ReadyConsumer, Until};
pub use verification::Verification;

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
    /// How many consumers share the partitions [default: one on each core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    consumers: Option<u16>,
    /// Read as the members of this group, which nobody else may join meanwhile: from its committed offsets on, or where it has none, as --from
    /// says; offsets are committed every five seconds and at the end
    #[arg(long)]
    group: Option<String>,
    /// Reading to the end fails when no broker has answered for so long; with --duration that ends with its time
    #[arg(long, default_value = "60s", value_parser = units::parse_duration)]
    give_up_after: Duration,
    #[command(flatten)]
    fetch: FetchArgs,
    #[command(flatten)]
    limits: WithLimitsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// How records are fetched and checked.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Reading")]
pub struct FetchArgs {
    /// Do not check what is read. Otherwise each record's checksum and its number among its producer's are compared, each batch's CRC and offsets too,
    /// and the exit code is 1 if anything is lost, repeated, out of order or damaged
    #[arg(long)]
    pub no_verify: bool,
    /// Largest answer to a fetch
    #[arg(long, default_value = "16MiB", value_parser = units::parse_size)]
    pub fetch_max_bytes: usize,
    /// Largest part of one partition in it
    #[arg(long, default_value = "1MiB", value_parser = units::parse_size)]
    pub partition_max_bytes: usize,
    /// Bytes that the broker gathers before it answers
    #[arg(long, default_value = "1", value_parser = units::parse_size)]
    pub min_bytes: usize,
    /// How long the broker may gather
    #[arg(long, default_value_t = 500)]
    pub max_wait_ms: u32,
}

impl FetchArgs {
    /// Refuses what no broker could serve.
    pub fn check(&self) -> Result<(), BenchError> {
        match self.fetch_max_bytes.max(self.partition_max_bytes) {
            bytes if bytes > 256 << 20 => Err(BenchError::Option(
                "--fetch-max-bytes and --partition-max-bytes: at most 256MiB".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// The options as a report shows them.
    pub fn settings(&self) -> [(&'static str, String); 5] {
        [
            ("verify", (!self.no_verify).to_string()),
            ("fetch-max-bytes", self.fetch_max_bytes.to_string()),
            ("partition-max-bytes", self.partition_max_bytes.to_string()),
            ("min-bytes", self.min_bytes.to_string()),
            ("max-wait-ms", self.max_wait_ms.to_string()),
        ]
    }
}

/// Reading from the tail without `--duration` lasts this long.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);
/// Reading to the end has no time limit but this.
const NO_LIMIT: Duration = Duration::from_secs(7 * 86_400);

impl ConsumeArgs {
    fn check(&self) -> Result<(), BenchError> {
        self.duration.map_or(Ok(()), units::check_measured)?;
        self.fetch.check()
    }

    fn warmup_seconds(&self) -> u64 {
        units::whole_seconds(self.warmup)
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
        settings.insert("from", format!("{:?}", self.from).to_lowercase());
        settings.extend(self.fetch.settings());
        settings
    }
}

impl Worker for ConsumerSetup {
    type Ready = ReadyConsumer;
    type End = ConsumerEnd;

    async fn prepare(self) -> Result<ReadyConsumer, BenchError> {
        ConsumerSetup::prepare(self).await
    }

    async fn run(ready: ReadyConsumer, clock: Clock, seconds: Seconds) -> Result<ConsumerEnd, BenchError> {
        ready.run(clock, seconds).await
    }
}

/// Runs `bench consume`.
pub fn run(args: &ConsumeArgs) -> Result<(), BenchError> {
    args.check()?;
    check_outputs(&args.output, false)?;
    let limits = args.limits.find()?;
    let mut report = measure(args)?;
    if let Some(limits) = limits {
        report.compare_with(limits);
    }
    report.emit(&args.output, &mut std::io::stdout().lock())?;
    report.verdict()
}

fn measure(args: &ConsumeArgs) -> Result<Report, BenchError> {
    let topic = executor::run(find(args))??;
    let started_unix_ms = unix_ms();
    let latency = args.from == Start::Tail;
    let cores = args.target.cores()?;
    let consumers = args.consumers.map_or(cores.len(), usize::from).min(topic.partitions.len());
    let crew = Crew {
        cores,
        spin: args.target.spin,
        warmup_seconds: args.warmup_seconds(),
        end_ns: args.end_ns(),
        quiet: args.output.quiet,
        sides: &[LiveLine { name: "", unit: "rec", latency }],
        broker_pids: &args.target.broker_pid,
    };
    let setup = |number| ConsumerSetup {
        target: args.target.clone(),
        fetch: args.fetch.clone(),
        partitions: topic.partitions.iter().skip(number).step_by(consumers).map(|info| info.index).collect(),
        start: args.from,
        group: args.group.as_ref().map(|group| GroupPlan { group: group.clone(), members: consumers }),
        until: if args.from == Start::Beginning && args.duration.is_none() {
            Until::End { give_up_after: args.give_up_after }
        } else {
            Until::Time
        },
        warmup_ns: args.warmup_seconds() * INTERVAL_NS,
        latency,
    };
    let outcome = crew.run::<ConsumerSetup>((0..consumers).map(setup).collect())?;
    let mut end = ConsumerEnd::default();
    outcome.ends.into_iter().for_each(|ended| end.add(ended));
    // Reading to the end ends with its last record, not with the second in which it lay.
    let end_ns = match (args.from, args.duration) {
        (Start::Beginning, None) => end.last_arrival_ns,
        _ => outcome.end_ns,
    };
    let warmup_ns = args.warmup_seconds() * INTERVAL_NS;
    let mut report = reading_report(&outcome.collectors[0], end, started_unix_ms, end_ns, warmup_ns, latency);
    report.cpu = Some(outcome.cpu.divided(report.records, report.payload_bytes));
    report.settings = args.settings();
    report.remarks.extend(outcome.interruption);
    report.settings.insert("consumers", consumers.to_string());
    report.settings.extend(args.group.clone().map(|group| ("group", group)));
    report.settings.insert("partitions", topic.partitions.len().to_string());
    if args.fetch.no_verify {
        report.verification = None;
    }
    Ok(report)
}

/// The report of what consumers gathered between the warm-up and `end_ns`.
pub fn reading_report(
    collector: &Collector,
    end: ConsumerEnd,
    started_unix_ms: u64,
    end_ns: u64,
    warmup_ns: u64,
    latency: bool,
) -> Report {
    let measured_ns = end_ns.saturating_sub(warmup_ns).max(1);
    let mut report =
        Report::new("consume", started_unix_ms, collector, measured_ns as f64 / INTERVAL_NS as f64, latency);
    if end.unstamped > 0 {
        report.remarks.push(format!(
            "{} records are not of 'bench produce': they are not verified and have no latency",
            end.unstamped
        ));
    }
    report.verification = Some(end.verification);
    report
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
pub(crate) mod tests {
    use clap::Parser;

    use super::*;
    use crate::fake_broker::FakeBroker;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ConsumeArgs,
    }

    fn consume(broker: &FakeBroker, options: &str) -> Report {
        consume_from(&broker.address, &format!("--from beginning {options}"))
    }

    pub(crate) fn consume_from(address: &str, options: &str) -> Report {
        try_consume(address, options).expect("the run succeeds")
    }

    fn try_consume(address: &str, options: &str) -> Result<Report, BenchError> {
        let common = ["bench", "--bootstrap", address, "--quiet"];
        let line = Line::try_parse_from(common.into_iter().chain(options.split_whitespace()))
            .expect("valid options");
        measure(&line.args)
    }

    #[test]
    fn what_was_produced_is_read_to_its_end_and_verified() {
        let broker = FakeBroker::start();
        crate::produce::tests::produce(
            &broker,
            "--rate 1k --partitions 3 --compression snappy --linger-ms 50 --producers 2",
        );
        for options in ["", "--consumers 2 --connections 2"] {
            let report = consume(&broker, options);
            assert_eq!((report.records, report.payload_bytes), (1000, 100_000), "{options}");
            let verification = report.verification.as_ref().expect("verified");
            assert_eq!((verification.checked, verification.is_sound()), (1000, true), "{verification:?}");
            report.verdict().expect("nothing is wrong");
        }
        assert!(consume(&broker, "--no-verify").verification.is_none());
    }

    #[test]
    fn reading_to_the_end_fails_when_there_is_nobody_left_to_read_from() {
        let broker = FakeBroker::start();
        crate::produce::tests::produce(&broker, "--rate 1k --partitions 1");
        broker.hang_up_on_fetch();
        let error = try_consume(&broker.address, "--from beginning --give-up-after 300ms")
            .expect_err("nothing can be read");
        assert!(matches!(&error, BenchError::Connection { .. }), "{error}");
    }

    #[test]
    fn a_broker_that_loses_a_batch_or_tells_it_twice_is_found_out() {
        let broker = FakeBroker::start();
        crate::produce::tests::produce(&broker, "--rate 1k --partitions 1 --linger-ms 20");
        let whole = broker.log("bench", 0).expect("the topic");
        for (number, expected) in [(3, (true, false)), (4, (false, true))] {
            let mut log = whole.clone();
            if number == 3 {
                log.batches.remove(number);
            } else {
                let again = log.batches[number].clone();
                log.batches.push(again);
            }
            broker.replace_log("bench", 0, renumbered(log));
            let report = consume(&broker, "");
            let found = report.verification.clone().expect("verified");
            assert_eq!((found.lost > 0, found.duplicated > 0), expected, "{found:?}");
            let verdict = report.verdict().expect_err("something is wrong").to_string();
            assert!(verdict.contains("verification failed"), "{verdict}");
        }
    }

    /// The log as a broker would have it that does not know of its mistake: offsets follow each other.
    fn renumbered(mut log: crate::fake_broker::Log) -> crate::fake_broker::Log {
        log.end = 0;
        for bytes in &mut log.batches {
            protocol::records::assign(bytes, log.end, 0, None);
            log.end = protocol::records::BatchView::parse(bytes).expect("a batch").next_offset();
        }
        log
    }
}
