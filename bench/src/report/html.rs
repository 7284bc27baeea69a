//! The page with plots: one file of HTML with inline SVG and CSS, no script, no request to anywhere.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::plot::{Chart, Scale, Series, escape};
use super::{Report, table};
use crate::stats::Point;
use crate::units;

const STYLE: &str = include_str!("report.css");

/// The whole page.
pub fn page(report: &Report) -> String {
    let mut out = String::new();
    let title = format!("bench {}", report.command);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n<pre>{}</pre>\n",
        escape(&table::render(report))
    );
    for chart in charts(report) {
        out.push_str(&chart.svg());
    }
    out.push_str("<h2>Settings</h2>\n<table>");
    for (name, value) in &report.settings {
        let _ = writeln!(out, "<tr><th>{}</th><td>{}</td></tr>", escape(name), escape(value));
    }
    out.push_str("</table>\n");
    if let Some(limits) = &report.limits {
        let _ = write!(out, "<h2>Limits of this machine</h2>\n<pre>{}</pre>\n", escape(&limits.render()));
    }
    out.push_str("</body></html>\n");
    out
}

fn charts(report: &Report) -> Vec<Chart<'static>> {
    let reading = report.end_to_end.as_deref();
    // With the run's own consumers, each chart of throughput has a line for either side.
    let both = |value: fn(&Point) -> f64| match reading {
        None => vec![line("completed", report, value)],
        Some(reading) => vec![line("written", report, value), line("read", reading, value)],
    };
    let mut charts = vec![
        over_time("Records per second", both(|p| p.records as f64), Scale::Linear, units::count),
        over_time(
            "Bytes of keys and values per second",
            both(|p| p.payload_bytes as f64),
            Scale::Linear,
            units::bytes_per_second,
        ),
    ];
    let title = if report.target_rate.is_some() {
        "Latency from the intended time to the acknowledgement, by second"
    } else {
        "Latency by second"
    };
    charts.extend(report.histogram.as_ref().map(|_| latency_over_time(title, report)));
    charts.extend(reading.map(|reading| {
        latency_over_time("Latency from the intended time to the arrival at a consumer, by second", reading)
    }));
    if let Some(histogram) = &report.histogram {
        let mut series =
            vec![percentiles(if reading.is_some() { "acknowledgement" } else { "latency" }, histogram)];
        let end_to_end = reading.and_then(|reading| reading.histogram.as_ref());
        series.extend(end_to_end.map(|histogram| percentiles("end to end", histogram)));
        charts.push(Chart {
            title: "Latency by percentile",
            x_label: "percentile",
            series,
            y_scale: Scale::Log,
            x_scale: Scale::Log,
            x_text: |v| format!("{} %", (100.0 - 100.0 / v).max(0.0)),
            y_text: nanos,
        });
    }
    if report.target_rate.is_some() {
        let backlog = vec![line("backlog", report, |p| p.backlog as f64)];
        charts.push(over_time("Backlog: records due and not sent", backlog, Scale::Linear, units::count));
    }
    charts
}

fn nanos(value: f64) -> String {
    units::nanos(value as u64)
}

fn line(name: &str, report: &Report, value: fn(&Point) -> f64) -> Series {
    let points = report.points.iter().map(|point| ((point.second + 1) as f64, value(point))).collect();
    Series { name: name.to_owned(), points }
}

fn over_time(
    title: &'static str,
    series: Vec<Series>,
    y_scale: Scale,
    y_text: fn(f64) -> String,
) -> Chart<'static> {
    let x_text = |v| format!("{v}");
    Chart { title, x_label: "seconds", series, y_scale, x_scale: Scale::Linear, x_text, y_text }
}

fn latency_over_time(title: &'static str, report: &Report) -> Chart<'static> {
    let mut series = vec![
        line("p50", report, |p| p.p50_ns as f64),
        line("p99", report, |p| p.p99_ns as f64),
        line("p99.9", report, |p| p.p999_ns as f64),
        line("max", report, |p| p.max_ns as f64),
    ];
    // Seconds in which no latency was measured, as those of the warm-up at consumers.
    series.iter_mut().for_each(|series| series.points.retain(|(_, nanos)| *nanos > 0.0));
    over_time(title, series, Scale::Log, nanos)
}

/// The whole distribution over 1/(1 - quantile), which shows the rare next to the common.
fn percentiles(name: &str, histogram: &Histogram<u64>) -> Series {
    let points = histogram
        .iter_quantiles(10)
        .filter(|value| value.quantile_iterated_to() < 1.0)
        .map(|value| (1.0 / (1.0 - value.quantile_iterated_to()), value.value_iterated_to() as f64))
        .collect();
    Series { name: name.to_owned(), points }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_complete_without_any_other_file() {
        let page = page(&super::super::tests::sample());
        for forbidden in ["http:", "https:", "src=", "href=", "@import", "url(", "<script"] {
            assert!(!page.contains(forbidden), "the page refers to something outside: {forbidden}");
        }
        assert_eq!(page.matches("<svg").count(), 5);
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }

    #[test]
    fn the_runs_own_consumers_have_their_lines_and_a_chart_of_their_own() {
        let mut report = super::super::tests::sample();
        report.end_to_end = Some(Box::new(super::super::tests::sample()));
        let page = page(&report);
        assert_eq!(page.matches("<svg").count(), 6);
        for part in [">written<", ">read<", ">acknowledgement<", ">end to end<", "arrival at a consumer"] {
            assert!(page.contains(part), "{part} is missing");
        }
    }

    #[test]
    fn settings_cannot_break_out_of_the_page() {
        let page = page(&super::super::tests::sample());
        assert!(page.contains("a &lt;topic&gt; &amp; more"));
    }
}
