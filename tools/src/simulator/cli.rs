//! The command line: which seeds, how many at a time, and what is told of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;

use super::{Report, Settings, Storage, run};

/// Lines of a failing run that are shown without --trace.
const SHOWN_LINES: usize = 80;

/// Runs a whole cluster in virtual time, with faults drawn from a seed, and checks that nothing acknowledged is lost, doubled or reordered.
#[derive(Debug, Parser)]
#[command(name = "simulate", version, max_term_width = 110)]
pub struct Arguments {
    /// Run one seed.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run a range of seeds, the last one excluded.
    #[arg(long, value_name = "FROM..TO", value_parser = parse_range, default_value = "0..100")]
    seeds: Range<u64>,
    /// Events before the faults end.
    #[arg(long, default_value_t = Settings::default().steps)]
    steps: u64,
    /// What the brokers' logs are: a model, which is fast, or storage's own code on simulated disks. Without this option one seed of four has real ones.
    #[arg(long)]
    storage: Option<Storage>,
    /// Brokers; the first three are controllers. Without this option three, four or five, by the seed.
    #[arg(long, value_parser = clap::value_parser!(i32).range(3..=5))]
    brokers: Option<i32>,
    /// Seeds that run at the same time, each on a core of its own.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Show everything that happened, not only what concerns the partition in question at the end.
    #[arg(long)]
    trace: bool,
    /// Leave out a rule of the protocol, to see whether the checks notice.
    #[cfg(feature = "planted-bugs")]
    #[arg(long, value_name = "BUG", value_parser = parse_bug)]
    plant: Option<coord::planted::PlantedBug>,
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let wanted = || format!("'{text}' is not a range such as 0..500");
    let (from, to) = text.split_once("..").ok_or_else(wanted)?;
    let (from, to) = (from.parse().map_err(|_| wanted())?, to.parse().map_err(|_| wanted())?);
    if from < to { Ok(from..to) } else { Err(wanted()) }
}

#[cfg(feature = "planted-bugs")]
fn parse_bug(text: &str) -> Result<coord::planted::PlantedBug, String> {
    let all = coord::planted::PlantedBug::ALL;
    let names: Vec<String> = all.iter().map(|bug| format!("{bug:?}")).collect();
    let found = all.into_iter().zip(&names).find(|(_, name)| name.eq_ignore_ascii_case(text));
    found.map(|(bug, _)| bug).ok_or_else(|| format!("there are {}", names.join(", ")))
}

impl Arguments {
    fn settings(&self, seed: u64, traces: bool) -> Settings {
        let brokers = self.brokers.unwrap_or([3, 3, 4, 5][(seed % 4) as usize]);
        let storage = self.storage.unwrap_or(Storage::of(seed));
        let settings = Settings { brokers, steps: self.steps, storage, traces, ..Settings::default() };
        #[cfg(feature = "planted-bugs")]
        let settings = match self.plant {
            Some(bug) => settings.with_planted(bug),
            None => settings,
        };
        settings
    }
}

/// What many runs came to.
#[derive(Debug, Default)]
struct Totals {
    seeds: u64,
    simulated_us: u64,
    events: u64,
    counts: BTreeMap<&'static str, u64>,
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.simulated_us += report.simulated_us;
        self.events += report.events;
        for (what, count) in &report.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }
}

/// Runs what the arguments ask for. Fails if an invariant does not hold.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = arguments.seed.map_or(arguments.seeds.clone(), |seed| seed..seed + 1);
    let began = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let has_failed = AtomicBool::new(false);
    let results = Mutex::new((Totals::default(), Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || has_failed.load(Ordering::Relaxed) {
                        return;
                    }
                    let report =
                        run(seed, arguments.settings(seed, arguments.trace && arguments.seed.is_some()));
                    let mut results = results.lock().expect("nobody panics with it");
                    results.0.add(&report);
                    if report.violation.is_some() || arguments.seed.is_some() {
                        has_failed.fetch_or(report.violation.is_some(), Ordering::Relaxed);
                        results.1.push(report);
                    }
                }
            });
        }
    });
    let (totals, reports) = results.into_inner().expect("nobody panics with it");
    let seconds = began.elapsed().as_secs_f64();
    let hours = totals.simulated_us as f64 / 3_600e6;
    println!(
        "{} seeds, {} events, {hours:.2} simulated hours in {seconds:.1} s: {:.2} simulated hours per minute",
        totals.seeds,
        totals.events,
        hours / seconds * 60.0
    );
    let counts: Vec<String> = totals.counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
    println!("{}", counts.join(", "));
    for report in &reports {
        show(&arguments, report);
    }
    if reports.iter().any(|report| report.violation.is_some()) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Tells of one run; of one that failed also how it came to that, for which it is run again.
fn show(arguments: &Arguments, report: &Report) {
    println!("seed {}: hash {:016x}, {:.1} s", report.seed, report.hash, report.simulated_us as f64 / 1e6);
    if arguments.trace && arguments.seed.is_some() {
        report.trace.lines().iter().for_each(|line| println!("{}", named(&line.to_string(), report)));
    }
    let Some(violation) = &report.violation else { return };
    if !arguments.trace {
        let again = run(report.seed, arguments.settings(report.seed, true));
        for line in again.trace.last_of(violation.partition, SHOWN_LINES) {
            println!("{}", named(&line.to_string(), report));
        }
    }
    println!("seed {} FAILED: {}", report.seed, named(&violation.text, report));
    if let Some(name) = violation.partition.and_then(|id| report.names.get(&id)) {
        println!("the partition is {name}");
    }
}

/// With partitions by their topics' names instead of ids.
fn named(text: &str, report: &Report) -> String {
    report.names.iter().fold(text.to_owned(), |text, (id, name)| text.replace(&id.to_string(), name))
}
