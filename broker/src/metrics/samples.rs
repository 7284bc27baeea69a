//! Values on their way to Prometheus: collected on each shard, merged on shard 0, written as text.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Histogram;

/// Values by name and labels. Merging adds values of the same name and labels, so a value per shard carries the label `shard`.
#[derive(Debug, Default)]
pub struct Samples {
    families: BTreeMap<String, Family>,
}

#[derive(Debug)]
struct Family {
    kind: &'static str,
    help: &'static str,
    values: BTreeMap<String, Value>,
}

#[derive(Debug)]
enum Value {
    Number(f64),
    Summary { histogram: Histogram, unit: f64 },
}

impl Samples {
    /// Adds to a counter; its name ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &'static str, labels: &[(&str, &str)], value: u64) {
        self.add(name, "counter", help, labels, Value::Number(value as f64));
    }

    /// Adds to a gauge.
    pub fn gauge(&mut self, name: &str, help: &'static str, labels: &[(&str, &str)], value: f64) {
        self.add(name, "gauge", help, labels, Value::Number(value));
    }

    /// Adds a histogram's count, sum and quantiles; its values times `unit` are in the unit that the name states.
    pub fn summary(
        &mut self,
        name: &str,
        help: &'static str,
        labels: &[(&str, &str)],
        histogram: &Histogram,
        unit: f64,
    ) {
        self.add(name, "summary", help, labels, Value::Summary { histogram: histogram.clone(), unit });
    }

    fn add(
        &mut self,
        name: &str,
        kind: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: Value,
    ) {
        let mut text = String::new();
        for (label, value) in labels {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(text, "{}{label}=\"{value}\"", if text.is_empty() { "" } else { "," });
        }
        let family = self.families.entry(name.to_owned()).or_insert_with(|| Family {
            kind,
            help,
            values: BTreeMap::new(),
        });
        family.merge(text, value);
    }

    /// Adds all values of another shard.
    pub fn merge(&mut self, other: Samples) {
        for (name, family) in other.families {
            let Family { kind, help, values } = family;
            let mine =
                self.families.entry(name).or_insert_with(|| Family { kind, help, values: BTreeMap::new() });
            values.into_iter().for_each(|(labels, value)| mine.merge(labels, value));
        }
    }

    /// Prometheus' text exposition format, version 0.0.4.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (name, family) in &self.families {
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {}", family.help, family.kind);
            for (labels, value) in &family.values {
                match value {
                    Value::Number(number) if labels.is_empty() => writeln!(text, "{name} {number}"),
                    Value::Number(number) => writeln!(text, "{name}{{{labels}}} {number}"),
                    Value::Summary { histogram, unit } => {
                        write_summary(&mut text, name, labels, histogram, *unit)
                    }
                }
                .expect("writing to a string never fails");
            }
        }
        text
    }
}

fn write_summary(
    text: &mut String,
    name: &str,
    labels: &str,
    histogram: &Histogram,
    unit: f64,
) -> std::fmt::Result {
    let separator = if labels.is_empty() { "" } else { "," };
    for quantile in [0.5, 0.95, 0.99, 0.999] {
        let value = histogram.quantile(quantile) as f64 * unit;
        writeln!(text, "{name}{{{labels}{separator}quantile=\"{quantile}\"}} {value}")?;
    }
    writeln!(text, "{name}_sum{{{labels}}} {}", histogram.sum() as f64 * unit)?;
    writeln!(text, "{name}_count{{{labels}}} {}", histogram.count())
}

impl Family {
    fn merge(&mut self, labels: String, value: Value) {
        use std::collections::btree_map::Entry;
        match (self.values.entry(labels), value) {
            (Entry::Vacant(slot), value) => {
                slot.insert(value);
            }
            (Entry::Occupied(mut slot), Value::Number(theirs)) => {
                if let Value::Number(mine) = slot.get_mut() {
                    *mine += theirs;
                }
            }
            (Entry::Occupied(mut slot), Value::Summary { histogram: theirs, .. }) => {
                if let Value::Summary { histogram, .. } = slot.get_mut() {
                    histogram.merge(&theirs);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_all_shards_are_added_up_and_those_with_a_shard_label_stay_apart() {
        let shard = |n: &str| {
            let mut samples = Samples::default();
            let mut histogram = Histogram::default();
            histogram.record(2000);
            samples.counter("requests_total", "Requests.", &[("request", "Produce")], 2);
            samples.gauge("memory_bytes", "Memory.", &[("shard", n)], 1.5);
            samples.summary("time_ms", "Time.", &[], &histogram, 1e-3);
            samples
        };
        let mut all = shard("0");
        all.merge(shard("1"));
        let text = all.to_text();
        assert!(text.contains(
            "# HELP memory_bytes Memory.\n# TYPE memory_bytes gauge\nmemory_bytes{shard=\"0\"} 1.5\n"
        ));
        assert!(text.contains("memory_bytes{shard=\"1\"} 1.5\n"));
        assert!(text.contains("requests_total{request=\"Produce\"} 4\n"));
        assert!(text.contains("time_ms_sum{} 4\ntime_ms_count{} 2\n"));
    }
}
