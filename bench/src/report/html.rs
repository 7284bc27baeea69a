//! The page with plots: one file of HTML with inline SVG and CSS, no script, no request to anywhere.

use std::fmt::Write;

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
        let _ = write!(
            out,
            "<h2>Limits of this machine, measured in the same run</h2>\n<pre>{}</pre>\n",
            escape(&limits.render())
        );
    }
    out.push_str("</body></html>\n");
    out
}

fn charts(report: &Report) -> Vec<Chart<'static>> {
    let line = |name: &str, value: fn(&Point) -> f64| Series {
        name: name.to_owned(),
        points: report.points.iter().map(|point| ((point.second + 1) as f64, value(point))).collect(),
    };
    let over_time = |title, series, y_scale, y_text| Chart {
        title,
        x_label: "seconds",
        series,
        y_scale,
        x_scale: Scale::Linear,
        x_text: |v| format!("{v}"),
        y_text,
    };
    let nanos: fn(f64) -> String = |v| units::nanos(v as u64);
    let mut charts = vec![over_time(
        "Records per second",
        vec![line("completed", |p| p.records as f64)],
        Scale::Linear,
        units::count as fn(f64) -> String,
    )];
    charts.push(over_time(
        "Bytes of keys and values per second",
        vec![line("completed", |p| p.payload_bytes as f64)],
        Scale::Linear,
        units::bytes_per_second,
    ));
    if let Some(histogram) = &report.histogram {
        charts.push(over_time(
            "Latency from the intended time, by second",
            vec![
                line("p50", |p| p.p50_ns as f64),
                line("p99", |p| p.p99_ns as f64),
                line("p99.9", |p| p.p999_ns as f64),
                line("max", |p| p.max_ns as f64),
            ],
            Scale::Log,
            nanos,
        ));
        let points = histogram
            .iter_quantiles(10)
            .filter(|value| value.quantile_iterated_to() < 1.0)
            .map(|value| (1.0 / (1.0 - value.quantile_iterated_to()), value.value_iterated_to() as f64))
            .collect();
        charts.push(Chart {
            title: "Latency by percentile",
            x_label: "percentile",
            series: vec![Series { name: "latency".to_owned(), points }],
            y_scale: Scale::Log,
            x_scale: Scale::Log,
            x_text: |v| format!("{} %", (100.0 - 100.0 / v).max(0.0)),
            y_text: nanos,
        });
    }
    if report.target_rate.is_some() {
        charts.push(over_time(
            "Backlog: records due and not sent",
            vec![line("backlog", |p| p.backlog as f64)],
            Scale::Linear,
            units::count,
        ));
    }
    charts
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
    fn settings_cannot_break_out_of_the_page() {
        let page = page(&super::super::tests::sample());
        assert!(page.contains("a &lt;topic&gt; &amp; more"));
    }
}
