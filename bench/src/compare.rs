//! `bench compare`: two results side by side, with ratios, and what makes them hard to compare.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::{terminal, units};

/// Options of `bench compare`.
#[derive(Debug, Clone, clap::Args)]
pub struct CompareArgs {
    /// The result to compare with, as a run with --json printed it
    a: PathBuf,
    /// The result to compare
    b: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// What a comparison needs of a run's JSON.
#[derive(Debug, Clone, Deserialize)]
struct Past {
    command: String,
    version: String,
    settings: BTreeMap<String, String>,
    target_rate: Option<f64>,
    records_per_second: f64,
    payload_bytes_per_second: f64,
    final_backlog: u64,
    unfinished: u64,
    errors: BTreeMap<String, u64>,
    latency: Option<PastLatency>,
    cpu: Option<PastCosts>,
    verification: Option<PastVerification>,
    end_to_end: Option<Box<Past>>,
    limits: Option<PastLimits>,
}

#[derive(Debug, Clone, Deserialize)]
struct PastLatency {
    p50_ns: f64,
    p99_ns: f64,
    p999_ns: f64,
    max_ns: f64,
}

#[derive(Debug, Clone, Deserialize)]
struct PastCosts {
    generator: PastCost,
    broker: Option<PastCost>,
}

#[derive(Debug, Clone, Deserialize)]
struct PastCost {
    ns_per_record: f64,
}

#[derive(Debug, Clone, Deserialize)]
struct PastVerification {
    lost: u64,
    duplicated: u64,
    reordered: u64,
    damaged: u64,
    wrong_batches: u64,
}

#[derive(Debug, Clone, Deserialize)]
struct PastLimits {
    tcp_bytes_per_second: f64,
    ping_pong_p50_ns: f64,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Better {
    Higher,
    Lower,
}

/// How a figure is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Unit {
    RecordsPerSecond,
    BytesPerSecond,
    Nanoseconds,
}

/// One figure of both results.
#[derive(Debug, Clone, Serialize)]
struct Figure {
    name: String,
    unit: Unit,
    better: Better,
    a: f64,
    b: f64,
    /// `b / a`; none if one of them is 0.
    ratio: Option<f64>,
}

/// A setting that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Difference {
    setting: String,
    a: Option<String>,
    b: Option<String>,
}

/// Both results side by side.
#[derive(Debug, Serialize)]
struct Comparison {
    a: String,
    b: String,
    figures: Vec<Figure>,
    /// Settings of the load that differ: the runs did not do the same.
    differences: Vec<Difference>,
    /// What else makes the ratios say less than they seem to.
    warnings: Vec<String>,
}

/// Which broker and topic a load went to is what a comparison may be about.
const MAY_DIFFER: [&str; 2] = ["bootstrap", "topic"];
/// Machines that differ by more than this are not the same, or not in the same state.
const SAME_MACHINE: std::ops::RangeInclusive<f64> = 0.8..=1.25;

/// Runs `bench compare`.
pub fn run(args: &CompareArgs) -> Result<(), BenchError> {
    let comparison = Comparison::of(&args.a, &read(&args.a)?, &args.b, &read(&args.b)?);
    if args.json {
        let text = serde_json::to_string_pretty(&comparison).expect("a comparison holds only plain values");
        terminal::print(&(text + "\n"))
    } else {
        terminal::print(&comparison.render())
    }
}

fn read(path: &Path) -> Result<Past, BenchError> {
    let unreadable = |reason: String| BenchError::Input { path: path.to_owned(), reason };
    let text = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| {
        unreadable(format!("{error}; it must be what a run of this version with --json printed"))
    })
}

impl Comparison {
    fn of(a_path: &Path, a: &Past, b_path: &Path, b: &Past) -> Comparison {
        let mut figures = figures("", a, b);
        if let (Some(a), Some(b)) = (&a.end_to_end, &b.end_to_end) {
            figures.extend(self::figures("end to end ", a, b));
        }
        Comparison {
            a: a_path.display().to_string(),
            b: b_path.display().to_string(),
            figures,
            differences: differences(a, b),
            warnings: warnings(a, b),
        }
    }

    fn render(&self) -> String {
        let mut out = format!("A  {}\nB  {}\n\n", self.a, self.b);
        let _ = writeln!(out, "  {:<32} {:>12} {:>12} {:>8}", "", "A", "B", "B / A");
        for figure in &self.figures {
            let _ = writeln!(
                out,
                "  {:<32} {:>12} {:>12} {:>8}  {}",
                figure.name,
                figure.unit.text(figure.a),
                figure.unit.text(figure.b),
                figure.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
                figure.judgement()
            );
        }
        for Difference { setting, a, b } in &self.differences {
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "unset".to_owned());
            let _ = writeln!(out, "  WARNING: the loads differ in {setting}: {} and {}", value(a), value(b));
        }
        for warning in &self.warnings {
            let _ = writeln!(out, "  WARNING: {warning}");
        }
        out
    }
}

impl Unit {
    fn text(self, value: f64) -> String {
        match self {
            Unit::RecordsPerSecond => format!("{} /s", units::count(value)),
            Unit::BytesPerSecond => units::bytes_per_second(value),
            Unit::Nanoseconds => units::nanos(value as u64),
        }
    }
}

impl Figure {
    /// What the ratio means; nothing within three percent, which is noise at best.
    fn judgement(&self) -> &'static str {
        let Some(ratio) = self.ratio else { return "" };
        match (ratio, self.better) {
            (ratio, _) if (0.97..=1.03).contains(&ratio) => "",
            (ratio, Better::Higher) if ratio > 1.0 => "B better",
            (ratio, Better::Lower) if ratio < 1.0 => "B better",
            _ => "A better",
        }
    }
}

fn figures(prefix: &str, a: &Past, b: &Past) -> Vec<Figure> {
    use Better::{Higher, Lower};
    use Unit::{BytesPerSecond, Nanoseconds, RecordsPerSecond};
    let latency = |of: fn(&PastLatency) -> f64| (a.latency.as_ref().map(of), b.latency.as_ref().map(of));
    let generator = |past: &Past| past.cpu.as_ref().map(|cpu| cpu.generator.ns_per_record);
    let broker = |past: &Past| past.cpu.as_ref()?.broker.as_ref().map(|cost| cost.ns_per_record);
    let rows = [
        ("rate", RecordsPerSecond, Higher, (Some(a.records_per_second), Some(b.records_per_second))),
        (
            "throughput",
            BytesPerSecond,
            Higher,
            (Some(a.payload_bytes_per_second), Some(b.payload_bytes_per_second)),
        ),
        ("latency p50", Nanoseconds, Lower, latency(|latency| latency.p50_ns)),
        ("latency p99", Nanoseconds, Lower, latency(|latency| latency.p99_ns)),
        ("latency p99.9", Nanoseconds, Lower, latency(|latency| latency.p999_ns)),
        ("latency max", Nanoseconds, Lower, latency(|latency| latency.max_ns)),
        ("generator's time per record", Nanoseconds, Lower, (generator(a), generator(b))),
        ("broker's time per record", Nanoseconds, Lower, (broker(a), broker(b))),
    ];
    let figure = |(name, unit, better, pair): (&str, Unit, Better, (Option<f64>, Option<f64>))| match pair {
        // A run that reached nothing must not look as if nobody had asked.
        (Some(a), Some(b)) if a > 0.0 || b > 0.0 => {
            let ratio = (a > 0.0 && b > 0.0).then(|| b / a);
            Some(Figure { name: format!("{prefix}{name}"), unit, better, a, b, ratio })
        }
        _ => None,
    };
    rows.into_iter().filter_map(figure).collect()
}

fn differences(a: &Past, b: &Past) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut compare = |setting: &str, a: Option<String>, b: Option<String>| {
        if a != b {
            found.push(Difference { setting: setting.to_owned(), a, b });
        }
    };
    compare("command", Some(a.command.clone()), Some(b.command.clone()));
    let names: BTreeSet<&String> = a.settings.keys().chain(b.settings.keys()).collect();
    for name in names.into_iter().filter(|name| !MAY_DIFFER.contains(&name.as_str())) {
        compare(name, a.settings.get(name).cloned(), b.settings.get(name).cloned());
    }
    found
}

fn warnings(a: &Past, b: &Past) -> Vec<String> {
    let mut warnings = Vec::new();
    if a.version != b.version {
        warnings.push(format!("the results are of versions {} and {} of this program", a.version, b.version));
    }
    for (name, past) in [("A", a), ("B", b)] {
        if past.target_rate.is_some_and(|rate| past.final_backlog as f64 > rate * 0.1) {
            warnings.push(format!(
                "{name} did not sustain its rate: its latencies grow with the length of the run"
            ));
        }
        if past.unfinished > 0 {
            warnings.push(format!("{} records of {name} never completed", past.unfinished));
        }
        if !past.errors.is_empty() {
            let errors: Vec<&str> = past.errors.keys().map(String::as_str).collect();
            warnings.push(format!("{name} had errors: {}", errors.join(", ")));
        }
        let read = [Some(past), past.end_to_end.as_deref()];
        if read
            .into_iter()
            .flatten()
            .filter_map(|past| past.verification.as_ref())
            .any(PastVerification::is_wrong)
        {
            warnings.push(format!("{name} read what was not written: see its verification"));
        }
    }
    if let (Some(a), Some(b)) = (&a.limits, &b.limits) {
        for (what, a, b) in [
            ("loopback throughput", a.tcp_bytes_per_second, b.tcp_bytes_per_second),
            ("loopback round trip", a.ping_pong_p50_ns, b.ping_pong_p50_ns),
        ] {
            if !SAME_MACHINE.contains(&(b / a)) {
                warnings.push(format!("the machine itself differed: {what} by a factor of {:.2}", b / a));
            }
        }
    }
    warnings
}

impl PastVerification {
    fn is_wrong(&self) -> bool {
        self.lost + self.duplicated + self.reordered + self.damaged + self.wrong_batches > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::report::Report;
    use crate::report::tests::sample;

    /// A result as a run writes it, read back.
    fn past(report: &Report) -> Past {
        serde_json::from_str(&serde_json::to_string(report).expect("plain values"))
            .expect("what a run writes")
    }

    fn compare(a: &Report, b: &Report) -> Comparison {
        Comparison::of(Path::new("a.json"), &past(a), Path::new("b.json"), &past(b))
    }

    fn figure<'c>(comparison: &'c Comparison, name: &str) -> &'c Figure {
        comparison.figures.iter().find(|figure| figure.name == name).expect(name)
    }

    #[test]
    fn a_result_compared_with_itself_has_ratios_of_one_and_no_difference() {
        let mut report = sample();
        report.errors.clear();
        let comparison = compare(&report, &report);
        assert!(comparison.figures.len() >= 6);
        assert!(
            comparison
                .figures
                .iter()
                .all(|figure| figure.ratio == Some(1.0) && figure.judgement().is_empty())
        );
        assert!(
            comparison.differences.is_empty() && comparison.warnings.is_empty(),
            "{:?}",
            comparison.warnings
        );
    }

    #[test]
    fn ratios_say_which_result_is_better() {
        let (a, mut b) = (sample(), sample());
        b.records_per_second *= 2.0;
        b.latency.as_mut().expect("latencies").p99_ns *= 3;
        b.end_to_end = Some(Box::new(sample()));
        let comparison = compare(&a, &b);
        let rate = figure(&comparison, "rate");
        assert_eq!((rate.ratio, rate.judgement()), (Some(2.0), "B better"));
        let p99 = figure(&comparison, "latency p99");
        assert_eq!((p99.ratio, p99.judgement()), (Some(3.0), "A better"));
        let text = comparison.render();
        assert!(text.contains("latency p99.9") && text.contains("3.00  A better"), "{text}");
        assert!(!text.contains("end to end"), "only one of them has it");
        let both = compare(&b, &b);
        assert_eq!(figure(&both, "end to end latency p99").ratio, Some(1.0));
    }

    #[test]
    fn a_figure_that_only_one_result_reached_is_shown_without_a_ratio() {
        let (a, mut b) = (sample(), sample());
        b.records_per_second = 0.0;
        for (comparison, zero_first) in [(compare(&a, &b), false), (compare(&b, &a), true)] {
            let rate = figure(&comparison, "rate");
            assert_eq!((rate.a == 0.0, rate.b == 0.0), (zero_first, !zero_first));
            assert_eq!((rate.ratio, rate.judgement()), (None, ""));
            let text = comparison.render();
            let line = text.lines().find(|line| line.starts_with("  rate ")).expect("the rate");
            assert!(line.trim_end().ends_with(" -"), "{line}");
        }
        assert!(!compare(&b, &b).render().contains("  rate "), "neither has it");
    }

    #[test]
    fn loads_that_differ_are_called_so() {
        let (mut a, mut b) = (sample(), sample());
        a.settings.insert("acks", "all".to_owned());
        b.settings.insert("acks", "1".to_owned());
        b.settings.insert("spin", "true".to_owned());
        b.settings.insert("bootstrap", "elsewhere:9092".to_owned());
        let comparison = compare(&a, &b);
        let names: Vec<&str> =
            comparison.differences.iter().map(|difference| difference.setting.as_str()).collect();
        assert_eq!(names, ["acks", "spin"]);
        let text = comparison.render();
        assert!(text.contains("WARNING: the loads differ in acks: all and 1"), "{text}");
        assert!(text.contains("spin: unset and true"), "{text}");
    }

    #[test]
    fn results_that_say_little_are_called_so() {
        let (mut a, mut b) = (sample(), sample());
        a.unfinished = 5;
        b.final_backlog = 1_000_000;
        a.limits = Some(Limits { tcp_bytes_per_second: 2e9, ping_pong_p50_ns: 100, ..Limits::default() });
        b.limits = Some(Limits { tcp_bytes_per_second: 1e9, ping_pong_p50_ns: 100, ..Limits::default() });
        let text = compare(&a, &b).render();
        for part in [
            "5 records of A never",
            "B did not sustain",
            "loopback throughput by a factor of 0.50",
            "A had errors",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }

    #[test]
    fn a_file_that_is_no_result_is_named() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("x.json");
        std::fs::write(&path, "{}").expect("writable");
        let error = read(&path).expect_err("not a result").to_string();
        assert!(error.contains("x.json") && error.contains("--json"), "{error}");
    }
}
