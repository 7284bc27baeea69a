//! Options that the commands share.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::BenchError;
use crate::limits::{Limits, LimitsArgs};
use crate::report::OutputArgs;
use crate::units;

/// Which broker, which topic, which cores.
#[derive(Debug, Clone, clap::Args)]
pub struct TargetArgs {
    /// Brokers to start from, host:port separated by commas
    #[arg(long, env = "BOOTSTRAP_SERVERS", default_value = "127.0.0.1:9092", value_delimiter = ',')]
    pub bootstrap: Vec<String>,
    /// Topic
    #[arg(long, default_value = "bench")]
    pub topic: String,
    /// Connections to each broker, of each producer or consumer
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: u16,
    /// Cores that make the load, as 1, 0-3 or 0,2 [default: the last]
    #[arg(long, value_name = "CORES")]
    pub cores: Option<String>,
    /// Never let a core sleep while it waits: takes the client's own wake-up (some 50 µs) out of the latencies, and the whole core
    #[arg(long)]
    pub spin: bool,
    /// Count the processor time of these processes as the broker's (on the same machine)
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub broker_pid: Vec<u32>,
}

impl TargetArgs {
    /// The cores to run on.
    pub fn cores(&self) -> Result<Vec<usize>, BenchError> {
        let asked = match &self.cores {
            None => None,
            Some(text) => Some(
                units::parse_cores(text).map_err(|error| BenchError::Option(format!("--cores: {error}")))?,
            ),
        };
        crate::executor::choose_cores(asked.as_deref())
    }

    /// The options as a report shows them.
    pub fn settings(&self) -> BTreeMap<&'static str, String> {
        let cores = self.cores.clone().unwrap_or_else(|| "last".to_owned());
        BTreeMap::from([
            ("bootstrap", self.bootstrap.join(",")),
            ("topic", self.topic.clone()),
            ("connections", self.connections.to_string()),
            ("cores", cores),
            ("spin", self.spin.to_string()),
        ])
    }
}

/// The machine's limits, measured in the same run or before.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Limits of the machine")]
pub struct WithLimitsArgs {
    /// Measure the machine's limits before the run, and print the result as a share of them
    #[arg(long)]
    pub with_limits: bool,
    /// Print the result as a share of the limits in this file, as 'bench limits --json' wrote it
    #[arg(long, value_name = "FILE", conflicts_with = "with_limits")]
    pub limits: Option<PathBuf>,
    #[command(flatten)]
    how: LimitsArgs,
}

impl WithLimitsArgs {
    /// The limits, if they are wanted.
    pub fn find(&self) -> Result<Option<Limits>, BenchError> {
        match &self.limits {
            Some(path) => Limits::read(path).map(Some),
            None => self.with_limits.then(|| Limits::measure(&self.how)).transpose(),
        }
    }
}

/// Refuses to start a run whose results could not be written. Results of an earlier run stay until there are new ones to take their place.
pub fn check_outputs(output: &OutputArgs, has_consumers: bool) -> Result<(), BenchError> {
    for path in output.files(has_consumers) {
        probe(&path).map_err(|source| BenchError::Output { path, source })?;
    }
    Ok(())
}

/// Opens `path` for writing and leaves everything as it was.
fn probe(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.append(true);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            options.create(true).open(path)?;
            // A link to a file that was not there stays.
            std::fs::remove_file(path.canonicalize()?)
        }
        outcome => outcome.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn output(hgrm: &Path, html: Option<&Path>) -> OutputArgs {
        OutputArgs { json: false, hgrm: Some(hgrm.to_owned()), html: html.map(Path::to_owned), quiet: true }
    }

    #[test]
    fn looking_whether_results_can_be_written_leaves_no_trace() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (old, new, link) = (dir.path().join("old.hgrm"), dir.path().join("new"), dir.path().join("link"));
        fs::write(&old, "an earlier result").expect("writable");
        std::os::unix::fs::symlink(&new, &link).expect("a link");
        check_outputs(&output(&old, Some(&link)), true).expect("all can be written");
        assert_eq!(fs::read(&old).expect("still there"), b"an earlier result");
        assert!(link.is_symlink() && !new.exists());
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 2, "the old file and the link");
    }

    #[test]
    fn every_file_that_will_be_written_is_looked_at() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("a.hgrm");
        // Nobody can write to a folder, not even root.
        fs::create_dir(dir.path().join("a.end-to-end.hgrm")).expect("writable");
        check_outputs(&output(&path, None), false).expect("no consumers, no such file");
        let error = check_outputs(&output(&path, None), true).expect_err("a folder").to_string();
        assert!(error.contains("a.end-to-end.hgrm"), "{error}");
        let nowhere = dir.path().join("missing/a.html");
        let error = check_outputs(&output(&path, Some(&nowhere)), false).expect_err("no folder").to_string();
        assert!(error.contains("missing/a.html"), "{error}");
    }
}
