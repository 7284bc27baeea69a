//! Options that produce and consume share, and the collecting of what their workers report.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use crate::clock::Clock;
use crate::error::BenchError;
use crate::executor;
use crate::limits::{Limits, LimitsArgs};
use crate::report::{OutputArgs, live_line};
use crate::stats::{Collector, Interval, Point};
use crate::units;

/// Which broker, which topic, which cores.
#[derive(Debug, Clone, clap::Args)]
pub struct TargetArgs {
    /// Brokers to start from, host:port separated by commas
    #[arg(long, env = "BOOTSTRAP_SERVERS", default_value = "127.0.0.1:9092", value_delimiter = ',')]
    pub bootstrap: Vec<String>,
    /// Topic
    #[arg(long, default_value = "bench")]
    pub topic: String,
    /// Connections to each broker (per core)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: u16,
    /// Cores that make the load, as 1, 0-3 or 0,2 [default: the last]
    #[arg(long, value_name = "CORES")]
    pub cores: Option<String>,
    /// Never let a core sleep while it waits: takes the client's own wake-up (some 50 µs) out of the latencies, and the whole core
    #[arg(long)]
    pub spin: bool,
}

impl TargetArgs {
    /// The cores to run on.
    pub fn cores(&self) -> Result<Vec<usize>, BenchError> {
        let asked = match &self.cores {
            None => None,
            Some(text) => Some(
                units::parse_cores(text).map_err(|error| BenchError::Option(format!("--cores: {error}")))?,
            ),
        };
        crate::executor::choose_cores(asked.as_deref())
    }

    /// The options as a report shows them.
    pub fn settings(&self) -> BTreeMap<&'static str, String> {
        let cores = self.cores.clone().unwrap_or_else(|| "last".to_owned());
        BTreeMap::from([
            ("bootstrap", self.bootstrap.join(",")),
            ("topic", self.topic.clone()),
            ("connections", self.connections.to_string()),
            ("cores", cores),
            ("spin", self.spin.to_string()),
        ])
    }
}

/// Whether to measure the machine's limits in the same run.
#[derive(Debug, Clone, clap::Args)]
pub struct WithLimitsArgs {
    /// Measure the machine's limits before the run, and print the result as a share of them
    #[arg(long)]
    pub with_limits: bool,
    #[command(flatten)]
    limits: LimitsArgs,
}

impl WithLimitsArgs {
    /// The limits, if they are wanted.
    pub fn measure(&self) -> Result<Option<Limits>, BenchError> {
        self.with_limits.then(|| Limits::measure(&self.limits)).transpose()
    }
}

/// Refuses to start a run whose results could not be written.
pub fn check_outputs(output: &OutputArgs) -> Result<(), BenchError> {
    let probe = |path: &PathBuf| {
        std::fs::File::create(path)
            .map(drop)
            .map_err(|source| BenchError::Output { path: path.clone(), source })
    };
    output.hgrm.iter().chain(&output.html).try_for_each(probe)
}

/// What a worker reports while it runs.
pub enum Event {
    /// It is connected and waits for the start.
    Ready,
    /// A second is past.
    Second(Box<Interval>),
    /// It has ended, well or not; joining its thread tells which.
    Ended,
}

/// The workers of a run, one on each core, and how they are listened to.
pub struct Crew<'a> {
    /// On which cores, and whether they sleep.
    pub target: &'a TargetArgs,
    /// There are no more workers than partitions.
    pub partitions: usize,
    /// Seconds that do not count.
    pub warmup_seconds: u64,
    /// Whether to show no live line.
    pub quiet: bool,
    /// Whether records have a latency.
    pub latency: bool,
}

impl Crew<'_> {
    /// Runs `work` on each core, with what `setup` makes for it from its number, the number of workers, and its ends of both channels. Returns
    /// what was gathered while they ran, and what each left at its end.
    pub fn run<S, F, E>(
        &self,
        mut setup: impl FnMut(usize, usize, Sender<Event>, Receiver<Clock>) -> S,
        work: fn(S) -> F,
    ) -> Result<(Collector, Vec<E>), BenchError>
    where
        S: Send + 'static,
        F: Future<Output = Result<E, BenchError>> + 'static,
        E: Send + 'static,
    {
        let mut cores = self.target.cores()?;
        cores.truncate(self.partitions);
        let (events_in, events) = mpsc::channel();
        let mut starters = Vec::new();
        let mut threads = Vec::new();
        for (number, core) in cores.iter().enumerate() {
            let (starter, start) = mpsc::channel();
            let setup = setup(number, cores.len(), events_in.clone(), start);
            let ended = events_in.clone();
            threads.push(executor::spawn(*core, self.target.spin, move || async move {
                let outcome = work(setup).await;
                // A send fails only when the run was given up.
                let _ = ended.send(Event::Ended);
                outcome
            })?);
            starters.push(starter);
        }
        drop(events_in);
        let collector = conduct(cores.len(), self.warmup_seconds, events, starters, self.quiet, self.latency);
        let died = |error| BenchError::Option(format!("a worker died: {error}"));
        let ends: Result<Vec<E>, BenchError> =
            threads.into_iter().map(|thread| thread.join().map_err(died)?).collect();
        Ok((collector, ends?))
    }
}

/// Waits until all workers are ready, starts them at one moment, and gathers their seconds until the last has ended.
///
/// A worker that fails before the start ends without `Ready`; then nobody is started.
fn conduct(
    workers: usize,
    warmup_seconds: u64,
    events: Receiver<Event>,
    starters: Vec<Sender<Clock>>,
    quiet: bool,
    latency: bool,
) -> Collector {
    let mut collector = Collector::new(workers, warmup_seconds);
    for _ in 0..workers {
        match events.recv() {
            Ok(Event::Ready) => {}
            Ok(Event::Second(_) | Event::Ended) | Err(_) => return collector,
        }
    }
    let clock = Clock::starting_in(START_DELAY);
    for starter in &starters {
        // A worker that is gone by now shows its error when it is joined.
        let _ = starter.send(clock);
    }
    let show = |(point, joined): (Point, Interval)| {
        if !quiet {
            eprintln!("{}", live_line(&point, &joined.errors, latency));
        }
    };
    let mut running = workers;
    while running > 0 {
        match events.recv() {
            Ok(Event::Second(interval)) => collector.deliver(*interval).into_iter().for_each(show),
            Ok(Event::Ready) => {}
            Ok(Event::Ended) => running -= 1,
            Err(_) => break,
        }
    }
    collector.close().into_iter().for_each(show);
    collector
}

/// Time between the word to start and the first record, so that every worker has heard it.
const START_DELAY: Duration = Duration::from_millis(20);
