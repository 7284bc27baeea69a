//! What a run leaves behind: a live line, a table, JSON, HdrHistogram's text format and a page with plots.

mod hgrm;
mod html;
mod plot;
mod table;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::consume::Verification;
use crate::cpu::CpuCosts;
use crate::error::BenchError;
use crate::limits::Limits;
use crate::stats::{Collector, Point};
use crate::{terminal, units};

pub use hgrm::write_hgrm;

/// Where a run's results go besides the terminal.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Print the result as JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Write the latency distribution in HdrHistogram's text format (values in milliseconds); for FILE a.hgrm, that of the run's own consumers
    /// goes to a.end-to-end.hgrm
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Write a page with plots: one self-contained file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Print no line per second
    #[arg(long)]
    pub quiet: bool,
}

impl OutputArgs {
    /// The files that a run writes; `has_consumers` tells whether it has consumers of its own beside its producers.
    pub fn files(&self, has_consumers: bool) -> Vec<PathBuf> {
        let end_to_end = self.hgrm.as_deref().filter(|_| has_consumers).map(end_to_end_path);
        self.hgrm.iter().chain(&self.html).cloned().chain(end_to_end).collect()
    }
}

/// A latency distribution in a few numbers, nanoseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// How many latencies.
    pub count: u64,
    /// Smallest.
    pub min_ns: u64,
    /// Mean.
    pub mean_ns: f64,
    /// Standard deviation.
    pub stddev_ns: f64,
    /// Median.
    pub p50_ns: u64,
    /// 90th percentile.
    pub p90_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// 99.9th percentile.
    pub p999_ns: u64,
    /// 99.99th percentile.
    pub p9999_ns: u64,
    /// Largest.
    pub max_ns: u64,
}

impl From<&Histogram<u64>> for Latency {
    fn from(histogram: &Histogram<u64>) -> Latency {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Latency {
            count: histogram.len(),
            min_ns: histogram.min(),
            mean_ns: histogram.mean(),
            stddev_ns: histogram.stdev(),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            p9999_ns: at(0.9999),
            max_ns: histogram.max(),
        }
    }
}

/// What a share is a share of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ShareKind {
    /// Bytes per second: the more the better, at most all of it.
    BytesPerSecond,
    /// A time in ns: the less the better, at least once.
    Nanoseconds,
}

/// A result beside what the machine could do at best.
#[derive(Debug, Clone, Serialize)]
pub struct Share {
    /// What was measured.
    pub what: &'static str,
    /// In what unit, and which way is better.
    pub kind: ShareKind,
    /// The run's figure.
    pub measured: f64,
    /// The name of the limit.
    pub limit_name: &'static str,
    /// The limit.
    pub limit: f64,
    /// `measured / limit`.
    pub share: f64,
}

/// The result of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The command, `produce`, `consume` or `commits`.
    pub command: &'static str,
    /// What is counted where it says records.
    pub unit: &'static str,
    /// This program's version.
    pub version: &'static str,
    /// When the run began, milliseconds since 1970.
    pub started_unix_ms: u64,
    /// The settings of the run by option name.
    pub settings: BTreeMap<&'static str, String>,
    /// Seconds counted, without the warm-up.
    pub seconds: f64,
    /// Records per second that were asked for, if the run was an open loop.
    pub target_rate: Option<f64>,
    /// Records completed.
    pub records: u64,
    /// Records completed per second.
    pub records_per_second: f64,
    /// Bytes of keys and values.
    pub payload_bytes: u64,
    /// Bytes of keys and values per second.
    pub payload_bytes_per_second: f64,
    /// Bytes of record batches per second.
    pub wire_bytes_per_second: f64,
    /// Requests answered per second.
    pub requests_per_second: f64,
    /// Mean records in a batch.
    pub records_per_batch: f64,
    /// Latency, if it was measured.
    pub latency: Option<Latency>,
    /// How many of the latencies are lower bounds: the records were never answered, or refused for good.
    pub latency_lower_bounds: u64,
    /// The largest backlog (records due and not sent) at the end of a second.
    pub largest_backlog: u64,
    /// The backlog when the schedule ended.
    pub final_backlog: u64,
    /// Records that never completed.
    pub unfinished: u64,
    /// Errors by name, in records.
    pub errors: BTreeMap<String, u64>,
    /// Records sent again.
    pub retried: u64,
    /// Connections made again.
    pub reconnects: u64,
    /// Anything a reader has to know to judge the figures.
    pub remarks: Vec<String>,
    /// Processor time between warm-up and end.
    pub cpu: Option<CpuCosts>,
    /// What was found wrong with what was read, if that was looked at.
    pub verification: Option<Verification>,
    /// What the run's own consumers saw; latency there is from the intended time to the arrival at a consumer.
    pub end_to_end: Option<Box<Report>>,
    /// The machine's limits, if they are known.
    pub limits: Option<Limits>,
    /// The result against those limits.
    pub shares: Vec<Share>,
    /// Second by second.
    pub points: Vec<Point>,
    /// The whole distribution.
    #[serde(skip)]
    pub histogram: Option<Histogram<u64>>,
}

impl Report {
    /// Forms the report of what `collector` gathered in `seconds` after the warm-up. Shares, remarks and limits are the caller's
    /// to add.
    pub fn new(
        command: &'static str,
        started_unix_ms: u64,
        collector: &Collector,
        seconds: f64,
        with_latency: bool,
    ) -> Report {
        let total = collector.total();
        let per_second = |value: u64| if seconds > 0.0 { value as f64 / seconds } else { 0.0 };
        Report {
            command,
            unit: "records",
            version: env!("CARGO_PKG_VERSION"),
            started_unix_ms,
            settings: BTreeMap::new(),
            seconds,
            target_rate: None,
            records: total.records,
            records_per_second: per_second(total.records),
            payload_bytes: total.payload_bytes,
            payload_bytes_per_second: per_second(total.payload_bytes),
            wire_bytes_per_second: per_second(total.wire_bytes),
            requests_per_second: per_second(total.requests),
            records_per_batch: total.records as f64 / total.batches.max(1) as f64,
            latency: with_latency.then(|| Latency::from(&total.latency)),
            latency_lower_bounds: total.lower_bounds,
            largest_backlog: collector.largest_backlog(),
            final_backlog: total.backlog,
            unfinished: 0,
            errors: total.errors.clone(),
            retried: total.retried,
            reconnects: total.reconnects,
            remarks: Vec::new(),
            cpu: None,
            verification: None,
            end_to_end: None,
            limits: None,
            shares: Vec::new(),
            points: collector.points().to_vec(),
            histogram: with_latency.then(|| total.latency.clone()),
        }
    }

    /// Adds the limits and what part of them the run reached.
    pub fn compare_with(&mut self, limits: Limits) {
        use ShareKind::{BytesPerSecond, Nanoseconds};
        let mut share = |what, kind, measured, limit_name, limit: f64| {
            if limit > 0.0 && measured > 0.0 {
                self.shares.push(Share { what, kind, measured, limit_name, limit, share: measured / limit });
            }
        };
        // Batches as they are sent: neither a socket nor a disk sees what was compressed.
        let throughput = self.wire_bytes_per_second;
        share(
            "throughput",
            BytesPerSecond,
            throughput,
            "loopback TCP, one stream",
            limits.tcp_bytes_per_second,
        );
        if self.command == "produce" {
            let journal = limits.journal_bytes_per_second();
            share("throughput", BytesPerSecond, throughput, "journal write + sync", journal);
            let segments = limits.segments_bytes_per_second;
            share("throughput", BytesPerSecond, throughput, "new files, write + sync", segments);
        }
        if self.settings.get("from").is_some_and(|from| from == "beginning") {
            let disk = limits.disk_read_bytes_per_second;
            share("throughput", BytesPerSecond, throughput, "direct reads from the disk", disk);
        }
        // Latencies of a closed loop at full throughput say nothing about the way of a single record.
        let is_paced = self.target_rate.is_some() || self.command == "commits";
        if let (Some(latency), Some(write_ns), true) = (&self.latency, limits.journal_p50_ns(), is_paced) {
            let limit = (limits.ping_pong_p50_ns + write_ns) as f64;
            share("p50", Nanoseconds, latency.p50_ns as f64, "round trip + small write + sync", limit);
            share("p99", Nanoseconds, latency.p99_ns as f64, "round trip + small write + sync", limit);
        }
        if let (Some(latency), true) = (&self.latency, is_paced) {
            let [p50, p99] = [limits.synced_record_p50_ns, limits.synced_record_p99_ns].map(|ns| ns as f64);
            share("p50", Nanoseconds, latency.p50_ns as f64, "the barest program's p50", p50);
            share("p99", Nanoseconds, latency.p99_ns as f64, "the barest program's p99", p99);
        }
        self.limits = Some(limits);
    }

    /// An error if what was read is not what was written, if part of the load failed for good, or if nothing was measured.
    ///
    /// A rate that was not sustained is a result, not a failure, as long as every record was written in the end.
    pub fn verdict(&self) -> Result<(), BenchError> {
        let reports = [Some(self), self.end_to_end.as_deref()];
        let mut found = reports.into_iter().flatten().filter_map(|report| report.verification.as_ref());
        match found.find(|verification| !verification.is_sound()) {
            Some(verification) => Err(BenchError::Verification(verification.text())),
            None => self.failure().map_or(Ok(()), |why| Err(BenchError::Failed(why))),
        }
    }

    /// What of the load failed for good, if anything did.
    fn failure(&self) -> Option<String> {
        let names = || match self.errors.keys().map(String::as_str).collect::<Vec<_>>().join(", ") {
            names if names.is_empty() => String::new(),
            names => format!(" ({names})"),
        };
        // A commit that is refused is not tried again; records are, and those that fail for good are unfinished.
        let refused: u64 = if self.command == "commits" { self.errors.values().sum() } else { 0 };
        let reading = self.end_to_end.as_deref();
        if self.unfinished > 0 {
            Some(format!("{} of the records were refused or never answered{}", self.unfinished, names()))
        } else if refused > 0 {
            Some(format!("{refused} commits were refused or not answered{}", names()))
        } else if self.records == 0 {
            Some(format!("no {} were measured{}", self.unit, names()))
        } else if reading.is_some_and(|reading| reading.records == 0) {
            Some("the run's consumers read nothing".to_owned())
        } else {
            None
        }
    }

    /// Writes every output that was asked for.
    pub fn emit(&self, output: &OutputArgs, stdout: &mut impl Write) -> Result<(), BenchError> {
        if let (Some(path), Some(histogram)) = (&output.hgrm, &self.histogram) {
            write_file(path, |file| write_hgrm(histogram, file))?;
        }
        let end_to_end = self.end_to_end.as_ref().and_then(|report| report.histogram.as_ref());
        if let (Some(path), Some(histogram)) = (&output.hgrm, end_to_end) {
            write_file(&end_to_end_path(path), |file| write_hgrm(histogram, file))?;
        }
        if let Some(path) = &output.html {
            write_file(path, |file| file.write_all(html::page(self).as_bytes()))?;
        }
        if output.json {
            let text = serde_json::to_string_pretty(self).expect("a report holds only plain values");
            terminal::print_to(stdout, &(text + "\n"))
        } else {
            terminal::print_to(stdout, &table::render(self))
        }
    }
}

/// `a.hgrm` as `a.end-to-end.hgrm`.
fn end_to_end_path(path: &Path) -> PathBuf {
    match path.extension() {
        Some(extension) => path.with_extension(format!("end-to-end.{}", extension.to_string_lossy())),
        None => path.with_extension("end-to-end"),
    }
}

fn write_file(
    path: &Path,
    write: impl FnOnce(&mut std::io::BufWriter<std::fs::File>) -> std::io::Result<()>,
) -> Result<(), BenchError> {
    let attempt = || {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        write(&mut file)?;
        file.flush()
    };
    attempt().map_err(|source| BenchError::Output { path: path.to_owned(), source })
}

/// The line that is printed every second while a run goes on.
#[derive(Debug, Clone, Copy)]
pub struct LiveLine {
    /// Whose line it is, if there are several.
    pub name: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// Whether there are latencies to show.
    pub latency: bool,
}

impl LiveLine {
    /// The line for one second.
    pub fn text(&self, point: &Point, errors: &BTreeMap<String, u64>) -> String {
        let mut line = format!(
            "{:>4} s{}  {}{:>8} {}/s",
            point.second + 1,
            if point.warmup { " warm-up" } else { "" },
            self.name,
            units::count(point.records as f64),
            self.unit
        );
        if point.payload_bytes > 0 {
            line += &format!("  {:>10}", units::bytes_per_second(point.payload_bytes as f64));
        }
        // The largest is 0 when nothing was measured, as consumers do during the warm-up.
        if self.latency && point.max_ns > 0 {
            line += &format!(
                "  p50 {:>8}  p99 {:>8}  p99.9 {:>8}  max {:>8}",
                units::nanos(point.p50_ns),
                units::nanos(point.p99_ns),
                units::nanos(point.p999_ns),
                units::nanos(point.max_ns)
            );
        }
        if point.backlog > 0 {
            line += &format!("  backlog {}", units::count(point.backlog as f64));
        }
        for (name, count) in errors {
            line += &format!("  {name} {}", units::count(*count as f64));
        }
        line
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::limits::JournalLimit;
    use crate::stats::Interval;

    pub(crate) fn sample() -> Report {
        let mut collector = Collector::new(1, 1);
        for second in 0..5 {
            let mut interval = Interval::new(second);
            interval.records = 1000 + second;
            interval.payload_bytes = 90_000;
            interval.wire_bytes = 100_000;
            interval.batches = 10;
            interval.backlog = second * 7;
            for step in 0..1000 {
                interval.latency.saturating_record(100_000 + step * 1000 * (second + 1));
            }
            interval.count_error("NOT_LEADER_OR_FOLLOWER", second);
            collector.deliver(interval);
        }
        let mut report = Report::new("produce", 1_700_000_000_000, &collector, 4.0, true);
        report.target_rate = Some(1000.0);
        report.settings.insert("topic", "a <topic> & more".to_owned());
        report
    }

    #[test]
    fn json_holds_the_summary_and_the_time_line() {
        let mut out = Vec::new();
        let output = OutputArgs { json: true, hgrm: None, html: None, quiet: true };
        sample().emit(&output, &mut out).expect("a vector takes everything");
        let json: serde_json::Value = serde_json::from_slice(&out).expect("valid JSON");
        assert_eq!(json["records"], 1001 + 1002 + 1003 + 1004);
        assert_eq!(json["seconds"], 4.0);
        assert_eq!(json["points"].as_array().map(Vec::len), Some(5));
        assert_eq!(json["points"][0]["warmup"], true);
        assert!(json["latency"]["p99_ns"].as_u64().expect("a number") > 100_000);
        assert_eq!(json["errors"]["NOT_LEADER_OR_FOLLOWER"], 10);
    }

    #[test]
    fn the_live_line_shows_throughput_percentiles_backlog_and_errors() {
        let report = sample();
        let errors = BTreeMap::from([("CORRUPT_MESSAGE".to_owned(), 12)]);
        let live = LiveLine { name: "written ", unit: "rec", latency: true };
        let line = live.text(&report.points[4], &errors);
        for part in
            ["5 s", "written", "1.00k rec/s", "90.0 kB/s", "p50", "p99.9", "backlog 28", "CORRUPT_MESSAGE 12"]
        {
            assert!(line.contains(part), "{part} is missing in: {line}");
        }
        assert!(live.text(&report.points[0], &BTreeMap::new()).contains("warm-up"));
    }

    #[test]
    fn results_are_compared_with_the_limits_of_the_same_machine() {
        let mut report = sample();
        let journal = JournalLimit {
            write_bytes: 4096,
            sync: "fdatasync".to_owned(),
            bytes_per_second: 2e5,
            p50_ns: 200_000,
            p99_ns: 300_000,
        };
        let limits = Limits {
            tcp_bytes_per_second: 1e6,
            ping_pong_p50_ns: 100_000,
            journal: vec![journal],
            ..Limits::default()
        };
        report.compare_with(limits);
        let shares: Vec<f64> = report.shares.iter().map(|share| share.share).collect();
        assert!((shares[0] - 0.1).abs() < 1e-9 && (shares[1] - 0.5).abs() < 1e-9, "{shares:?}");
        let p50 = report.latency.as_ref().expect("latencies").p50_ns as f64;
        assert!((shares[2] - p50 / 300_000.0).abs() < 1e-9);
        let text = table::render(&report);
        assert!(
            text.contains("10.0 %") && text.contains("times round trip + small write + sync (300 µs)"),
            "{text}"
        );

        // In a closed loop the median is that of a full pipe.
        let mut report = sample();
        report.target_rate = None;
        report.compare_with(Limits { ping_pong_p50_ns: 100_000, ..Limits::default() });
        assert!(report.shares.is_empty());
    }

    #[test]
    fn the_verdict_is_that_of_the_runs_own_consumers_too() {
        let mut report = sample();
        report.verdict().expect("nothing was looked at");
        let mut reading = sample();
        reading.verification = Some(Verification { lost: 3, ..Verification::default() });
        report.end_to_end = Some(Box::new(reading));
        assert!(report.verdict().expect_err("lost").to_string().contains("3 LOST"));
        let text = table::render(&report);
        assert!(text.contains("3 LOST") && text.contains("end to end"), "{text}");
    }

    #[test]
    fn a_load_that_failed_for_good_or_measured_nothing_is_no_success() {
        let verdict = |report: &Report| report.verdict().map_err(|error| error.to_string());
        let mut report = sample();
        report.final_backlog = 1_000_000;
        assert_eq!(verdict(&report), Ok(()), "not sustained, and errors that passed");

        report.unfinished = 3;
        let error = verdict(&report).expect_err("unfinished");
        assert!(error.contains("3 of the records") && error.contains("NOT_LEADER_OR_FOLLOWER"), "{error}");

        let mut report = sample();
        report.errors.clear();
        report.records = 0;
        assert_eq!(verdict(&report), Err("the run failed: no records were measured".to_owned()));

        let mut report = sample();
        report.end_to_end = Some(Box::new(Report { records: 0, ..sample() }));
        assert!(verdict(&report).expect_err("unread").contains("consumers read nothing"));

        let mut report = Report { command: "commits", unit: "commits", ..sample() };
        assert!(
            verdict(&report)
                .expect_err("refused")
                .contains("10 commits were refused or not answered (NOT_LEADER")
        );
        report.errors.clear();
        assert_eq!(verdict(&report), Ok(()));
    }

    #[test]
    fn the_distribution_of_the_consumers_goes_beside_that_of_the_producers() {
        assert_eq!(end_to_end_path(Path::new("/x/a.hgrm")), Path::new("/x/a.end-to-end.hgrm"));
        assert_eq!(end_to_end_path(Path::new("a")), Path::new("a.end-to-end"));
    }
}
