//! The table at the end of a run.

use std::fmt::Write;

use super::{Report, ShareKind};
use crate::cpu::CpuCost;
use crate::units;

/// The whole result as text for a terminal.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    rows(report, &mut out);
    if let Some(reading) = &report.end_to_end {
        out.push_str("end to end, as the run's consumers saw it\n");
        rows(reading, &mut out);
    }
    out
}

fn rows(report: &Report, out: &mut String) {
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
    row(unit, format!("{} in {:.1} s", report.records, report.seconds));
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
    if let Some(verification) = &report.verification {
        row("verified", verification.text());
    }
    if let Some(cpu) = &report.cpu {
        row("processor time", cpu_text(&cpu.generator, unit));
        if let Some(broker) = &cpu.broker {
            row("of the broker", cpu_text(broker, unit));
        }
    }
    for share in &report.shares {
        let text = match share.kind {
            ShareKind::BytesPerSecond => format!(
                "{}: {} of {} ({})",
                share.what,
                units::percent(share.share),
                share.limit_name,
                units::bytes_per_second(share.limit)
            ),
            ShareKind::Nanoseconds => format!(
                "{}: {:.2} times {} ({})",
                share.what,
                share.share,
                share.limit_name,
                units::nanos(share.limit as u64)
            ),
        };
        row("beside the limit", text);
    }
    for remark in &report.remarks {
        row("note", remark.clone());
    }
}

fn cpu_text(cost: &CpuCost, unit: &str) -> String {
    let mut text = format!(
        "{} of a core, {} for each of the {unit}",
        units::percent(cost.cores),
        units::nanos(cost.ns_per_record as u64)
    );
    if unit == "records" {
        text += &format!(", {:.2} s for each GB", cost.seconds_per_gb);
    }
    text
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
