//! `bench produce`: offers records on a schedule and counts latency from the moment at which each was meant to be sent.
//!
//! | file | owns |
//! |---|---|
//! | `feed` | what a partition has to send next, retries included |
//! | `frame` | the bytes of requests |
//! | `worker` | a producer's partitions, answers and counts |
//! | `lane` | one connection |
//! | `run` | a producer's life: connections, metadata, the end |
//! | `parts` | the producers and consumers of one run |

mod feed;
mod frame;
mod lane;
mod parts;
mod run;
mod worker;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use protocol::client::parse_acks;
use protocol::compression::Compression;
use uuid::Uuid;

use crate::client::{Topic, connect_any, ensure_topic};
use crate::clock::unix_ms;
use crate::consume::{ConsumerEnd, ConsumerSetup, FetchArgs, Start, Until, reading_report};
use crate::crew::{Crew, Outcome};
use crate::error::BenchError;
use crate::executor;
use crate::load::{TargetArgs, WithLimitsArgs, check_outputs};
use crate::payload::{Filling, Sizes};
use crate::report::{LiveLine, OutputArgs, Report};
use crate::stats::INTERVAL_NS;
use crate::units::{self, Rate};

use parts::{Left, Part, PartEnd, READING, WRITING};
use run::{ProducerEnd, ProducerSetup};

/// Options of `bench produce`.
#[derive(Debug, Clone, clap::Args)]
pub struct ProduceArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Records per second as 1000, 50k or 1M; 'max' sends full batches as fast as the requests in flight allow
    #[arg(long, default_value = "100k", value_parser = units::parse_rate)]
    rate: Rate,
    /// Producers that share the rate, each with connections and, if idempotent, a producer id of its own [default: one on each core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    producers: Option<u16>,
    /// Consumers that share the partitions in the same run: end-to-end latency beside the acknowledgements', and everything that was acknowledged
    /// must arrive, once, in order, undamaged
    #[arg(long, default_value_t = 0)]
    consumers: u16,
    /// Bytes of a record's value, at least 24: 1KiB, or 100..2KiB (evenly), lognormal:1KiB:0.5 (median, sigma), mix:100=9,10KiB=1 (with
    /// weights)
    #[arg(long, default_value = "100")]
    size: Sizes,
    /// What values are filled with
    #[arg(long, value_enum, default_value = "text")]
    payload: Filling,
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
    fetch: FetchArgs,
    #[command(flatten)]
    limits: WithLimitsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl ProduceArgs {
    fn check(&self) -> Result<(), BenchError> {
        let refuse = |text: String| Err(BenchError::Option(text));
        if self.batch_bytes > 512 << 20 {
            return refuse("--batch-bytes: at most 512MiB".to_owned());
        }
        units::check_measured(self.duration)?;
        if !(0.0..=60_000.0).contains(&self.linger_ms) {
            return refuse(format!("--linger-ms {}: between 0 and 60000", self.linger_ms));
        }
        if self.idempotent && (self.acks != -1 || self.max_in_flight > 5) {
            return refuse("--idempotent needs --acks all and --max-in-flight of at most 5".to_owned());
        }
        self.fetch.check()
    }

    /// How many producers share the rate.
    fn producers(&self) -> usize {
        // A run sets the number before it starts.
        self.producers.map_or(1, usize::from)
    }

    fn warmup_seconds(&self) -> u64 {
        units::whole_seconds(self.warmup)
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
            ("producers", self.producers().to_string()),
            ("consumers", self.consumers.to_string()),
            ("size", self.size.to_string()),
            ("payload", self.payload.name().to_owned()),
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
        if self.consumers > 0 {
            settings.extend(self.fetch.settings());
        }
        settings
    }
}

/// Runs `bench produce`.
pub fn run(args: &ProduceArgs) -> Result<(), BenchError> {
    args.check()?;
    check_outputs(&args.output, args.consumers > 0)?;
    let limits = args.limits.find()?;
    let mut report = measure(args)?;
    if let Some(limits) = limits {
        report.compare_with(limits);
    }
    report.emit(&args.output, &mut std::io::stdout().lock())?;
    report.verdict()
}

/// Makes the load and returns what came of it.
fn measure(args: &ProduceArgs) -> Result<Report, BenchError> {
    let topic = executor::run(prepare(args))??;
    let cores = args.target.cores()?;
    let producers = args.producers.unwrap_or(cores.len().min(usize::from(u16::MAX)) as u16);
    let args = &ProduceArgs { producers: Some(producers), ..args.clone() };
    let started_unix_ms = unix_ms();
    let writing =
        LiveLine { name: if args.consumers > 0 { "written " } else { "" }, unit: "rec", latency: true };
    let reading = LiveLine { name: "read    ", unit: "rec", latency: true };
    let sides = if args.consumers > 0 { vec![writing, reading] } else { vec![writing] };
    let crew = Crew {
        cores,
        spin: args.target.spin,
        warmup_seconds: args.warmup_seconds(),
        end_ns: args.end_ns(),
        quiet: args.output.quiet,
        sides: &sides,
        broker_pids: &args.target.broker_pid,
    };
    let Outcome { collectors, ends, cpu, end_ns, interruption } = crew.run(parts(args, &topic))?;
    let mut producers = Vec::new();
    let mut reading = ConsumerEnd::default();
    for end in ends {
        match end {
            PartEnd::Producer(end) => producers.push(end),
            PartEnd::Consumer(end) => reading.add(end),
        }
    }
    let last_completion_ns = producers.iter().map(|end| end.last_completion_ns).max().unwrap_or_default();
    let warmup_ns = args.warmup_seconds() * INTERVAL_NS;
    let measured_ns = last_completion_ns.max(end_ns).saturating_sub(warmup_ns).max(1);
    let collector = &collectors[WRITING];
    let mut report =
        Report::new("produce", started_unix_ms, collector, measured_ns as f64 / INTERVAL_NS as f64, true);
    report.cpu = Some(cpu.divided(report.records, report.payload_bytes));
    report.settings = args.settings();
    report.remarks.extend(interruption);
    report.settings.insert("partitions", topic.partitions.len().to_string());
    report.unfinished = producers.iter().map(|end| end.unfinished + end.gave_up).sum();
    if report.latency_lower_bounds > 0 {
        report.remarks.push(format!(
            "{} of the latencies are lower bounds: the time from when a record that was never written should have been sent to the end of the run",
            units::count(report.latency_lower_bounds as f64)
        ));
    }
    if args.consumers > 0 {
        let lost = acknowledged_and_not_read(&producers, &reading.distinct);
        let end_ns = reading.last_arrival_ns.max(end_ns);
        let mut end_to_end =
            reading_report(&collectors[READING], reading, started_unix_ms, end_ns, warmup_ns, true);
        end_to_end.verification = end_to_end.verification.filter(|_| !args.fetch.no_verify);
        if let Some(verification) = &mut end_to_end.verification {
            verification.settle_lost(lost);
            if verification.duplicated > 0 && report.retried > 0 && !args.idempotent {
                end_to_end.remarks.push(
                    "the producers are not idempotent and sent records again: repetitions may be their own"
                        .to_owned(),
                );
            }
        }
        report.end_to_end = Some(Box::new(end_to_end));
    }
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
    if usize::from(args.consumers) > topic.partitions.len() {
        report.remarks.push(format!("only {} consumers: one for each partition", topic.partitions.len()));
    }
    if topic.partitions.len() != args.partitions as usize {
        report.remarks.push(format!("the topic existed with {} partitions", topic.partitions.len()));
    }
    Ok(report)
}

/// The run's producers and consumers; they are dealt to the cores in this order.
fn parts(args: &ProduceArgs, topic: &Topic) -> Vec<Part> {
    let left = Arc::new(AtomicUsize::new(0));
    let producer = |number| {
        // The low half of a random UUID: no two producers of a topic have the same.
        let source = Uuid::new_v4().as_u128() as u32;
        Part::Producer(Box::new(ProducerSetup::new(args, topic, number, source)), Left::new(&left))
    };
    let consumers = usize::from(args.consumers).min(topic.partitions.len());
    let consumer = |number| {
        Part::Consumer(Box::new(ConsumerSetup {
            target: args.target.clone(),
            fetch: args.fetch.clone(),
            partitions: topic
                .partitions
                .iter()
                .skip(number)
                .step_by(consumers)
                .map(|info| info.index)
                .collect(),
            start: Start::Tail,
            group: None,
            until: Until::Producers { left: Arc::clone(&left), drain: args.drain },
            warmup_ns: args.warmup_seconds() * INTERVAL_NS,
            latency: true,
        }))
    };
    (0..args.producers()).map(producer).chain((0..consumers).map(consumer)).collect()
}

/// Records that a producer was told were written, and no consumer has seen.
fn acknowledged_and_not_read(producers: &[ProducerEnd], distinct: &BTreeMap<(i32, u32), u64>) -> u64 {
    let of_producer = |end: &ProducerEnd| -> u64 {
        let unread = |(partition, written): &(i32, u64)| {
            written.saturating_sub(distinct.get(&(*partition, end.source)).copied().unwrap_or_default())
        };
        end.written.iter().map(unread).sum()
    };
    producers.iter().map(of_producer).sum()
}

async fn prepare(args: &ProduceArgs) -> Result<Topic, BenchError> {
    let mut client = connect_any(&args.target.bootstrap).await?;
    ensure_topic(&mut client, &args.target.topic, args.partitions).await
}
