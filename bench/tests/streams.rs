//! The program as a shell runs it: what becomes of it when its output cannot be written.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, pipe};
use std::path::Path;
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
    let result = dir.path().join("a.json");
    let mut run = discard.produce("--json");
    assert!(status(run.stdout(File::create(&result).expect("writable"))).success());
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
    let result = dir.path().join("a.json");
    let mut run = discard.produce("--json");
    assert!(status(run.stdout(File::create(&result).expect("writable"))).success());
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
