//! HdrHistogram's percentile output, which plotters of HdrHistogram files read (`.hgrm`). Values are milliseconds.

use std::io::{self, Write};

use hdrhistogram::Histogram;

/// Percentile steps between each halving of the distance to 100 %, as other HdrHistogram tools use.
const TICKS_PER_HALF_DISTANCE: u32 = 5;
const NANOS_PER_MS: f64 = 1e6;

/// Writes `histogram` (nanoseconds) in HdrHistogram's percentile text format, in milliseconds.
pub fn write_hgrm(histogram: &Histogram<u64>, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut total = 0;
    for value in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        total += value.count_since_last_iteration();
        let quantile = value.quantile_iterated_to();
        let at = value.value_iterated_to() as f64 / NANOS_PER_MS;
        if quantile < 1.0 {
            writeln!(out, "{at:12.3} {quantile:1.12} {total:10} {:14.2}", 1.0 / (1.0 - quantile))?;
        } else {
            writeln!(out, "{at:12.3} {quantile:1.12} {total:10}")?;
        }
    }
    writeln!(
        out,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]",
        histogram.mean() / NANOS_PER_MS,
        histogram.stdev() / NANOS_PER_MS
    )?;
    writeln!(
        out,
        "#[Max     = {:12.3}, Total count    = {:12}]",
        histogram.max() as f64 / NANOS_PER_MS,
        histogram.len()
    )?;
    // 2,048 sub-buckets are what three significant digits take; the buckets double from there to the highest value.
    let buckets = (histogram.high() / histogram.low().max(1)).max(1).ilog2().saturating_sub(10) + 1;
    writeln!(out, "#[Buckets = {buckets:12}, SubBuckets     = {:12}]", 2048)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::new_histogram;

    #[test]
    fn percentiles_ascend_to_the_total_count() {
        let mut histogram = new_histogram();
        for ms in 1..=1000u64 {
            histogram.record(ms * 1_000_000).expect("in range");
        }
        let mut out = Vec::new();
        write_hgrm(&histogram, &mut out).expect("a vector takes everything");
        let text = String::from_utf8(out).expect("plain text");
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|field| field.parse().expect("a number")).collect())
            .collect();
        assert!(rows.len() > 20);
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2]));
        assert_eq!(rows.last().map(|row| (row[1], row[2])), Some((1.0, 1000.0)));
        let median = rows.iter().find(|row| row[1] >= 0.5).expect("has a median");
        assert!((median[0] - 500.0).abs() < 5.0, "{median:?}");
        assert!(
            text.contains("#[Mean    =      500.") && text.contains("Total count    =         1000]"),
            "{text}"
        );
    }
}
