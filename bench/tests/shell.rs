//! The program as a shell runs it: what becomes of it when its output cannot be written, and when it is interrupted or killed.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, pipe};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

fn bench(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(line.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A pipe whose reader has gone away.
fn closed_pipe() -> Stdio {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

/// A disk that is full.
fn full_disk() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").expect("/dev/full").into()
}

fn status(command: &mut Command) -> ExitStatus {
    command.status().expect("bench starts")
}

/// `bench discard`, which ends with the test.
struct Discard {
    process: Child,
    address: String,
}

impl Discard {
    fn start() -> Discard {
        let mut process = bench("discard --listen 127.0.0.1:0 --partitions 2")
            .stdout(Stdio::piped())
            .spawn()
            .expect("bench starts");
        let mut address = String::new();
        let stdout = process.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut address).expect("its address");
        Discard { process, address: address.trim().to_owned() }
    }

    fn produce(&self, options: &str) -> Command {
        let address = &self.address;
        bench(&format!(
            "produce --bootstrap {address} --partitions 2 --rate 1k --warmup 0 --duration 1s {options}"
        ))
    }

    /// A run's result, in a file.
    fn result_in(&self, dir: &Path) -> PathBuf {
        let result = dir.join("a.json");
        let mut run = self.produce("--json");
        assert!(status(run.stdout(File::create(&result).expect("writable"))).success());
        result
    }
}

impl Drop for Discard {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_reader_that_goes_away_ends_nothing() {
    let discard = Discard::start();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let result = discard.result_in(dir.path());
    let result = result.display();
    for line in [
        format!("compare {result} {result}"),
        format!("compare {result} {result} --json"),
        format!("limits --limits-dir {} --limits-seconds 5ms", dir.path().display()),
        format!("limits --limits-dir {} --limits-seconds 5ms --json", dir.path().display()),
    ] {
        assert!(status(bench(&line).stdout(closed_pipe())).success(), "{line}");
    }
    for options in ["", "--json"] {
        let mut run = discard.produce(options);
        assert!(status(run.stdout(closed_pipe()).stderr(closed_pipe())).success(), "produce {options}");
    }
}

#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    let discard = Discard::start();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let result = discard.result_in(dir.path());
    let line = format!("compare {0} {0}", result.display());
    let output = bench(&line).stdout(full_disk()).stderr(Stdio::piped()).output().expect("bench starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && errors.contains("cannot write stdout"), "{errors}");
    // The live line has nowhere to go, and the result neither.
    let code = status(discard.produce("").stdout(full_disk()).stderr(full_disk())).code();
    assert_eq!(code, Some(1));
}

#[test]
fn an_error_that_cannot_be_told_is_no_panic() {
    assert!(!Path::new("/nowhere").exists());
    let code = status(bench("compare /nowhere/a /nowhere/b").stderr(full_disk())).code();
    assert_eq!(code, Some(1));
}

fn interrupt(process: &Child) {
    assert!(status(Command::new("kill").args(["-INT", &process.id().to_string()])).success());
}

#[test]
fn a_run_that_is_interrupted_reports_what_it_has_measured() {
    let discard = Discard::start();
    for command in [
        "produce --warmup 0 --rate 1k",
        "produce --rate max --linger-ms 60000",
        "consume --from beginning --warmup 0",
    ] {
        let line = format!("{command} --bootstrap {} --duration 600s --json", discard.address);
        let mut run =
            bench(&line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("bench starts");
        let live = BufReader::new(run.stderr.take().expect("piped")).lines();
        // The warm-up is over with the third second.
        let seconds = if line.contains("--warmup 0") { 1 } else { 3 };
        assert_eq!(live.take(seconds).filter_map(Result::ok).count(), seconds, "{line}");
        interrupt(&run);
        let output = run.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{line}: {:?}", output.status);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
        assert!(report["records"].as_u64().expect("a number") > 0, "{line}");
        assert!(report["seconds"].as_f64().expect("a number") < 600.0, "{line}");
        let remarks = report["remarks"].to_string();
        assert!(remarks.contains("interrupted after"), "{line}: {remarks}");
    }
}

#[test]
fn limits_that_are_killed_leave_nothing_behind() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut run = bench(&format!("limits --limits-dir {} --limits-seconds 500ms", dir.path().display()))
        .spawn()
        .expect("bench starts");
    let descriptors = format!("/proc/{}/fd", run.id());
    let has_nameless_file = || {
        let links = std::fs::read_dir(&descriptors).expect("it runs").flatten();
        let mut targets = links.filter_map(|link| std::fs::read_link(link.path()).ok());
        targets
            .any(|target| target.starts_with(dir.path()) && target.to_string_lossy().ends_with(" (deleted)"))
    };
    while !has_nameless_file() {
        assert_eq!(run.try_wait().expect("a child"), None, "it ends and has had no such file");
        std::thread::yield_now();
    }
    run.kill().expect("a child");
    run.wait().expect("a child");
    assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0);
}
