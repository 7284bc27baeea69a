//! The table at the end of a run.

use std::fmt::Write;

use super::Report;
use crate::units;

/// The whole result as text for a terminal.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(out, "  {name:<22} {value}");
    };
    let offered = match report.target_rate {
        Some(rate) => {
            format!(
                " of {} offered ({})",
                units::count(rate),
                units::percent(report.records_per_second / rate)
            )
        }
        None => String::new(),
    };
    let unit = report.unit;
    row(unit, format!("{} in {:.0} s", report.records, report.seconds));
    let short = if unit == "records" { "rec" } else { unit };
    row("rate", format!("{} {short}/s{offered}", units::count(report.records_per_second)));
    if unit == "records" {
        row(
            "throughput",
            format!(
                "{} of keys and values, {} of batches",
                units::bytes_per_second(report.payload_bytes_per_second),
                units::bytes_per_second(report.wire_bytes_per_second)
            ),
        );
        row(
            "requests",
            format!(
                "{} /s, {} records per batch",
                units::count(report.requests_per_second),
                units::count(report.records_per_batch)
            ),
        );
    }
    if let Some(latency) = &report.latency {
        row(
            "latency",
            format!(
                "p50 {}   p90 {}   p99 {}   p99.9 {}   p99.99 {}   max {}",
                units::nanos(latency.p50_ns),
                units::nanos(latency.p90_ns),
                units::nanos(latency.p99_ns),
                units::nanos(latency.p999_ns),
                units::nanos(latency.p9999_ns),
                units::nanos(latency.max_ns)
            ),
        );
        row(
            "",
            format!(
                "mean {}   deviation {}",
                units::nanos(latency.mean_ns as u64),
                units::nanos(latency.stddev_ns as u64)
            ),
        );
    }
    if report.target_rate.is_some() {
        row(
            "backlog",
            format!(
                "{} at the end, {} at most",
                units::count(report.final_backlog as f64),
                units::count(report.largest_backlog as f64)
            ),
        );
    }
    if report.unfinished > 0 {
        row("never completed", format!("{} {unit}", report.unfinished));
    }
    if report.retried > 0 {
        row("sent again", format!("{} {unit}", report.retried));
    }
    if report.reconnects > 0 {
        row("reconnects", report.reconnects.to_string());
    }
    if report.errors.is_empty() {
        row("errors", "none".to_owned());
    }
    for (name, count) in &report.errors {
        row("errors", format!("{name}: {count} {unit}"));
    }
    for share in &report.shares {
        row(
            "share of the limit",
            format!(
                "{} of {} ({})",
                units::percent(share.share),
                share.limit_name,
                units::bytes_per_second(share.limit)
            ),
        );
    }
    for remark in &report.remarks {
        row("note", remark.clone());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_rate_latency_backlog_and_errors() {
        let text = render(&super::super::tests::sample());
        for part in
            ["records", "1.00k rec/s of 1.00k offered", "p99.99", "28 at most", "NOT_LEADER_OR_FOLLOWER: 10"]
        {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }
}
