//! What this machine could do at best: loopback TCP, durable writes of a journal and of new data, direct reads, CRC-32C.
//!
//! A broker's figure alone says as much about the machine as about the broker. Each limit is the barest program for one thing that
//! every produce or fetch must do; a run that is measured together with them becomes a ratio that carries over to other machines.

mod crc;
mod disk_read;
mod journal;
mod scratch;
mod segments;
mod synced;
mod tcp;

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::{sys, terminal, units};

pub use journal::JournalLimit;

/// Options of `bench limits`, and of the measurement that goes with a run.
#[derive(Debug, Clone, clap::Args)]
pub struct LimitsArgs {
    /// Folder for the files that are written and read, on the disk that the broker uses
    #[arg(long, visible_alias = "dir", value_name = "DIR", default_value = ".")]
    pub limits_dir: PathBuf,
    /// How long to measure each limit
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_seconds)]
    pub limits_seconds: Duration,
    /// The two cores between which TCP is measured [default: the first and the last]
    #[arg(long, value_name = "CORES", value_parser = parse_pair)]
    pub limits_cores: Option<(usize, usize)>,
    /// Records a second for the barest program that receives, syncs and answers them
    #[arg(long, value_name = "RATE", default_value = "1k", value_parser = parse_rate)]
    pub limits_rate: u32,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    match units::parse_duration(text).map_err(|error| error.to_string())? {
        duration if duration >= Duration::from_millis(1) => Ok(duration),
        _ => Err(format!("'{text}' is less than 1ms")),
    }
}

fn parse_pair(text: &str) -> Result<(usize, usize), String> {
    match units::parse_cores(text).map_err(|error| error.to_string())?.as_slice() {
        [one] => Ok((*one, *one)),
        [one, two] => Ok((*one, *two)),
        _ => Err(format!("'{text}' names more than two cores")),
    }
}

fn parse_rate(text: &str) -> Result<u32, String> {
    match units::parse_rate(text).map_err(|error| error.to_string())? {
        units::Rate::PerSecond(rate) if (1.0..=1e6).contains(&rate) => Ok(rate as u32),
        _ => Err(format!("'{text}' is not between 1 and 1M")),
    }
}

fn usual_rate() -> u32 {
    1000
}

/// The limits of this machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Limits {
    /// The cores used.
    pub cores: Vec<usize>,
    /// One TCP stream over loopback in writes of 1 MiB, a core on each side.
    pub tcp_bytes_per_second: f64,
    /// Round trip of 100 bytes over loopback TCP, both sides blocking in the kernel: median.
    pub ping_pong_p50_ns: u64,
    /// Its 99th percentile.
    pub ping_pong_p99_ns: u64,
    /// Direct writes with sync to a file that was filled with zeros before.
    pub journal: Vec<JournalLimit>,
    /// Direct writes of 1 MiB, durable, into space that was only reserved, four files side by side; 0 in results that do not have it.
    #[serde(default)]
    pub segments_bytes_per_second: f64,
    /// Records of 1 KiB that were due each second in the next six figures; 1,000 in results that do not have it.
    #[serde(default = "usual_rate")]
    pub synced_record_rate: u32,
    /// From the moment when a record was due until the barest program had received, written, synced and answered it: median.
    #[serde(default)]
    pub synced_record_p50_ns: u64,
    /// Its 99th percentile.
    #[serde(default)]
    pub synced_record_p99_ns: u64,
    /// Its 99.9th percentile.
    #[serde(default)]
    pub synced_record_p999_ns: u64,
    /// The same beside sequential direct reads of 256 KiB, one at a time: median.
    #[serde(default)]
    pub beside_reads_p50_ns: u64,
    /// Its 99th percentile.
    #[serde(default)]
    pub beside_reads_p99_ns: u64,
    /// Its 99.9th percentile.
    #[serde(default)]
    pub beside_reads_p999_ns: u64,
    /// What these reads reach.
    #[serde(default)]
    pub reads_beside_bytes_per_second: f64,
    /// Sequential direct reads of 1 MiB, several in flight.
    pub disk_read_bytes_per_second: f64,
    /// CRC-32C over 1 MiB in cache, one core.
    pub crc32c_bytes_per_second: f64,
    /// What a reader has to know, such as a file system without direct I/O.
    pub remarks: Vec<String>,
}

impl Limits {
    /// Measures all of them; takes about eleven times `--limits-seconds`.
    pub fn measure(args: &LimitsArgs) -> Result<Limits, BenchError> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |source| BenchError::Limit { what, source }
        };
        let allowed = sys::allowed_cores().map_err(failed("the cores"))?;
        let cores = match (args.limits_cores, allowed.first(), allowed.last()) {
            (Some(pair), ..) => pair,
            (None, Some(first), Some(last)) => (*first, *last),
            (None, ..) => (0, 0),
        };
        let mut limits = Limits { cores: vec![cores.0, cores.1], ..Limits::default() };
        limits.tcp_bytes_per_second =
            tcp::stream(cores, args.limits_seconds).map_err(failed("loopback TCP"))?;
        let round_trips = tcp::ping_pong(cores, args.limits_seconds).map_err(failed("a TCP round trip"))?;
        limits.ping_pong_p50_ns = round_trips.value_at_quantile(0.5);
        limits.ping_pong_p99_ns = round_trips.value_at_quantile(0.99);
        limits
            .measure_disk(args, cores)
            .map_err(failed(&format!("the disk of {}", args.limits_dir.display())))?;
        limits.crc32c_bytes_per_second = crc::measure(args.limits_seconds);
        Ok(limits)
    }

    fn measure_disk(&mut self, args: &LimitsArgs, cores: (usize, usize)) -> io::Result<()> {
        let scratch = scratch::Scratch::filled(&args.limits_dir)?;
        self.journal = journal::measure(&scratch, args.limits_seconds, &mut self.remarks)?;
        self.segments_bytes_per_second =
            segments::measure(&args.limits_dir, args.limits_seconds, &mut self.remarks)?;
        let file = scratch.open(libc::O_DSYNC, &mut self.remarks)?;
        let synced = || synced::measure(&file, cores, args.limits_rate, args.limits_seconds);
        self.synced_record_rate = args.limits_rate;
        let latencies = synced()?;
        self.synced_record_p50_ns = latencies.value_at_quantile(0.5);
        self.synced_record_p99_ns = latencies.value_at_quantile(0.99);
        self.synced_record_p999_ns = latencies.value_at_quantile(0.999);
        let readable = disk_read::Readable::filled(&args.limits_dir, args.limits_seconds, &mut self.remarks)?;
        self.disk_read_bytes_per_second = readable.measure(args.limits_seconds)?;
        let (latencies, reads) = readable.beside(synced)?;
        self.beside_reads_p50_ns = latencies.value_at_quantile(0.5);
        self.beside_reads_p99_ns = latencies.value_at_quantile(0.99);
        self.beside_reads_p999_ns = latencies.value_at_quantile(0.999);
        self.reads_beside_bytes_per_second = reads;
        Ok(())
    }

    /// Reads what `bench limits --json` printed.
    pub fn read(path: &Path) -> Result<Limits, BenchError> {
        let text = std::fs::read(path)
            .map_err(|source| BenchError::Input { path: path.to_owned(), reason: source.to_string() })?;
        serde_json::from_slice(&text).map_err(|error| BenchError::Input {
            path: path.to_owned(),
            reason: format!("it is not what 'bench limits --json' prints: {error}"),
        })
    }

    /// Bytes per second of the fastest way to make large writes durable.
    pub fn journal_bytes_per_second(&self) -> f64 {
        self.journal.iter().map(|journal| journal.bytes_per_second).fold(0.0, f64::max)
    }

    /// The median of the quickest way to make a small write durable, ns; `None` if it was not measured.
    pub fn journal_p50_ns(&self) -> Option<u64> {
        self.journal.iter().map(|journal| journal.p50_ns).min()
    }

    /// The limits as a table.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let mut row = |name: &str, value: String| {
            let _ = writeln!(out, "  {name:<34} {value}");
        };
        row("loopback TCP, one stream", units::bytes_per_second(self.tcp_bytes_per_second));
        row(
            "loopback TCP, 100 B round trip",
            format!(
                "p50 {}   p99 {}",
                units::nanos(self.ping_pong_p50_ns),
                units::nanos(self.ping_pong_p99_ns)
            ),
        );
        for limit in &self.journal {
            row(
                &format!("write {} + {}", units::bytes(limit.write_bytes as f64), limit.sync),
                format!(
                    "{}   p50 {}   p99 {}",
                    units::bytes_per_second(limit.bytes_per_second),
                    units::nanos(limit.p50_ns),
                    units::nanos(limit.p99_ns)
                ),
            );
        }
        if self.segments_bytes_per_second > 0.0 {
            let write = units::bytes(segments::WRITE_BYTES as f64);
            row(
                &format!("write {write} + sync, {} new files", segments::WRITERS),
                units::bytes_per_second(self.segments_bytes_per_second),
            );
        }
        if self.synced_record_p50_ns > 0 {
            row(
                &format!("{} received, synced, answered", units::bytes(synced::RECORD_BYTES as f64)),
                format!(
                    "{}/s   p50 {}   p99 {}   p99.9 {}",
                    self.synced_record_rate,
                    units::nanos(self.synced_record_p50_ns),
                    units::nanos(self.synced_record_p99_ns),
                    units::nanos(self.synced_record_p999_ns)
                ),
            );
        }
        row(
            &format!(
                "read {}, {} in flight",
                units::bytes(disk_read::READ_BYTES as f64),
                disk_read::READS_IN_FLIGHT
            ),
            units::bytes_per_second(self.disk_read_bytes_per_second),
        );
        if self.beside_reads_p50_ns > 0 {
            row(
                &format!(
                    "{} synced beside reads of {}",
                    units::bytes(synced::RECORD_BYTES as f64),
                    units::bytes(disk_read::READ_BESIDE_BYTES as f64)
                ),
                format!(
                    "{}/s   p50 {}   p99 {}   p99.9 {}   reads {}",
                    self.synced_record_rate,
                    units::nanos(self.beside_reads_p50_ns),
                    units::nanos(self.beside_reads_p99_ns),
                    units::nanos(self.beside_reads_p999_ns),
                    units::bytes_per_second(self.reads_beside_bytes_per_second)
                ),
            );
        }
        row("CRC-32C, one core", units::bytes_per_second(self.crc32c_bytes_per_second));
        for remark in &self.remarks {
            row("note", remark.clone());
        }
        out
    }
}

/// Runs `bench limits`.
pub fn run(args: &LimitsArgs, json: bool) -> Result<(), BenchError> {
    let limits = Limits::measure(args)?;
    if json {
        let text = serde_json::to_string_pretty(&limits).expect("limits hold only plain values");
        terminal::print(&(text + "\n"))
    } else {
        terminal::print(&limits.render())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_measured_and_shown() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let args = LimitsArgs {
            limits_dir: dir.path().to_owned(),
            limits_seconds: Duration::from_millis(20),
            limits_cores: None,
            limits_rate: 2000,
        };
        let limits = Limits::measure(&args).expect("this machine can be measured");
        assert!(limits.tcp_bytes_per_second > 1e6);
        assert!(limits.ping_pong_p50_ns > 0 && limits.ping_pong_p50_ns <= limits.ping_pong_p99_ns);
        assert!(limits.disk_read_bytes_per_second > 1e6);
        assert!(limits.beside_reads_p50_ns > 0 && limits.beside_reads_p50_ns <= limits.beside_reads_p99_ns);
        assert!(limits.reads_beside_bytes_per_second > 1e6);
        assert!(limits.crc32c_bytes_per_second > 1e6);
        assert_eq!(limits.journal.len(), 4);
        assert!(limits.segments_bytes_per_second > 1e6);
        assert!(
            limits.synced_record_p50_ns > 0 && limits.synced_record_p50_ns <= limits.synced_record_p99_ns
        );
        assert!(limits.journal.iter().all(|limit| limit.bytes_per_second > 0.0));
        let text = limits.render();
        assert!(text.contains("1.00 KiB received, synced, answered"), "{text}");
        assert_eq!(text.matches(" 2000/s ").count(), 2, "{text}");
        assert!(text.contains("1.00 KiB synced beside reads of 256 KiB"), "{text}");
        assert!(text.contains("1.00 MiB + sync, 4 new files"), "{text}");
        assert!(text.contains("4.00 KiB + fdatasync") && text.contains("1.00 MiB + O_DSYNC"), "{text}");
        let left = std::fs::read_dir(dir.path()).expect("readable").count();
        assert_eq!(left, 0, "a file was left behind");

        let path = dir.path().join("limits.json");
        std::fs::write(&path, serde_json::to_vec(&limits).expect("plain values")).expect("writable");
        let read = Limits::read(&path).expect("what was written");
        assert_eq!(read.render(), text);
        std::fs::write(&path, b"{").expect("writable");
        assert!(Limits::read(&path).expect_err("cut").to_string().contains("limits.json"));
    }

    #[test]
    fn limits_that_are_measured_for_no_time_are_refused() {
        assert_eq!(parse_seconds("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_seconds("0").expect_err("no time"), "'0' is less than 1ms");
    }
}
