//! Starts the real binary on free ports and a temporary folder, and stops it.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod brokerctl;
pub mod cluster;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing that a test waits for takes so long, unless it is broken.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// As many shards as a test needs at most: on a machine with more cores the memory would have to grow with them.
const SHARDS_MAX: usize = 2;

/// The binary with free ports and everything in `dir`, which lies on a disk; on one or two of the cores that this process may use.
pub fn broker_command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--memory", "512M"]);
    command.arg("--data-dir").arg(dir.join("data")).arg("--ready-file").arg(dir.join("ready.json"));
    let mut cores = broker::runtime::cores::allowed().expect("the affinity mask is readable");
    cores.truncate(SHARDS_MAX);
    command.env("BROKER_CORES", cores.iter().map(usize::to_string).collect::<Vec<_>>().join(","));
    command.stdout(Stdio::null());
    command
}

/// A broker that accepts clients; killed when dropped.
pub struct RunningBroker {
    child: Child,
    /// Where Kafka clients connect.
    pub kafka: SocketAddr,
    /// Where HTTP is served.
    pub admin: SocketAddr,
    /// Exists while the broker is ready.
    pub ready_file: PathBuf,
    dir: Option<tempfile::TempDir>,
}

impl RunningBroker {
    /// Starts one with further flags on a fresh folder.
    pub fn start(flags: &[&str]) -> RunningBroker {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder on a disk");
        Self::start_in(dir, flags)
    }

    /// Starts one on a folder that exists, which it takes over.
    pub fn start_in(dir: tempfile::TempDir, flags: &[&str]) -> RunningBroker {
        let mut broker = Self::launch_in(dir, flags);
        broker.wait_until_ready();
        broker
    }

    /// Like [`RunningBroker::start_in`], but does not wait until it is ready.
    pub fn launch_in(dir: tempfile::TempDir, flags: &[&str]) -> RunningBroker {
        let mut broker = Self::launch_at(dir.path(), flags);
        broker.dir = Some(dir);
        broker
    }

    /// Starts one on a folder that somebody else keeps, and does not wait until it is ready.
    pub fn launch_at(dir: &Path, flags: &[&str]) -> RunningBroker {
        let ready_file = dir.join("ready.json");
        let _ = std::fs::remove_file(&ready_file);
        let child = broker_command(dir).args(flags).spawn().expect("it starts");
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        // It is killed also if it does not become ready.
        RunningBroker { child, kafka: unknown, admin: unknown, ready_file, dir: None }
    }

    /// The same, with its log in a file.
    pub fn launch_logging(dir: &Path, flags: &[&str], log: &Path) -> RunningBroker {
        let log = std::fs::File::options().create(true).append(true).open(log).expect("a file for the log");
        let ready_file = dir.join("ready.json");
        let _ = std::fs::remove_file(&ready_file);
        let child = broker_command(dir).args(flags).stderr(log).spawn().expect("it starts");
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        RunningBroker { child, kafka: unknown, admin: unknown, ready_file, dir: None }
    }

    /// Waits until it accepts clients, and learns its addresses.
    pub fn wait_until_ready(&mut self) {
        wait_until(|| {
            if let Some(status) = self.child.try_wait().expect("it can be asked") {
                panic!("the broker has ended: {status}");
            }
            self.ready_file.exists()
        });
        let text = std::fs::read_to_string(&self.ready_file).expect("readable");
        let ready: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let address = |name: &str| ready[name].as_str().expect("text").parse().expect("an address");
        (self.kafka, self.admin) = (address("kafka"), address("admin"));
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it can be asked").is_some()
    }

    /// Sends SIGTERM and waits for the end; the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        self.stop()
    }

    /// Like [`RunningBroker::terminate`], and hands back the folder for another start.
    pub fn terminate_keeping_data(mut self) -> (Option<i32>, tempfile::TempDir) {
        (self.stop(), self.dir.take().expect("handed back once"))
    }

    fn stop(&mut self) -> Option<i32> {
        let killed = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(killed.success());
        let mut code = None;
        wait_until(|| {
            self.child.try_wait().expect("it can be asked").is_some_and(|status| {
                code = status.code();
                true
            })
        });
        code
    }

    /// Kills it without warning and hands back the folder for another start.
    pub fn kill(mut self) -> tempfile::TempDir {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
        self.dir.take().expect("handed back once")
    }

    /// The sum of one of its metrics over all labels.
    pub fn metric(&self, name: &str) -> f64 {
        sum_of(&self.http_get("/metrics").1, name)
    }

    /// One HTTP request; status and body.
    pub fn http_get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).expect("connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("set");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("answered");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    /// The process's resident memory.
    pub fn resident_bytes(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).expect("it runs");
        statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number") * 4096
    }
}

impl Drop for RunningBroker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a condition, and fails after [`DEADLINE`].
pub fn wait_until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "what the test waits for has not happened");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Metrics that only a broker of a cluster has, and some only while it leads something that others follow.
pub const METRICS_OF_A_CLUSTER: [&str; 3] = [
    "broker_replication_follower_max_behind_ms",
    "broker_replication_follower_max_lag",
    "kafka_server_replicafetchermanager_max_lag",
];

/// Whether there is a metric of this name.
pub fn has_metric(metrics: &str, name: &str) -> bool {
    metrics.lines().any(|line| line.starts_with(&format!("# TYPE {name} ")))
}

/// The sum of a metric over all labels.
pub fn sum_of(metrics: &str, name: &str) -> f64 {
    let values = metrics
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
