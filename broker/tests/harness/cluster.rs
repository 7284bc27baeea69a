//! Several brokers on one machine that are one cluster.

use std::fmt::Display;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use super::{RunningBroker, wait_until};

/// Where a node's log goes, beside its data.
const LOG: &str = "log";

/// A secret that all nodes of a test's cluster have.
pub const SECRET: &str = "the secret of a cluster in a test";

/// Nodes 1 to n, each a voter and, unless it is said, a broker; killed when dropped.
pub struct RunningCluster {
    dir: tempfile::TempDir,
    voters: String,
    nodes: Vec<Option<RunningBroker>>,
    /// Flags of all nodes.
    extra: Vec<String>,
    /// Flags of each node.
    own: Vec<Vec<String>>,
}

/// Ports that were free a moment ago.
pub fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("bound").port()).collect()
}

/// What a node of a cluster has to be told.
pub fn node_flags(id: impl Display, voters: &str, secret_file: &Path) -> Vec<String> {
    vec![
        format!("--node-id={id}"),
        format!("--set=controller_quorum_voters={voters}"),
        format!("--set=cluster_secret_file={}", secret_file.display()),
    ]
}

impl RunningCluster {
    /// Starts `count` nodes with further settings, and waits until all are ready.
    pub fn start(count: usize, settings: &[&str]) -> RunningCluster {
        Self::start_each(settings, vec![Vec::new(); count])
    }

    /// Starts a node in each rack with further settings, and waits until all are ready.
    pub fn start_in_racks(racks: &[&str], settings: &[&str]) -> RunningCluster {
        Self::start_each(
            settings,
            racks.iter().map(|rack| vec![format!("--set=broker_rack={rack}")]).collect(),
        )
    }

    /// Starts `count` nodes that vote and are no brokers, with further settings of all nodes, and waits until they are ready.
    pub fn start_controllers(count: usize, settings: &[&str]) -> RunningCluster {
        Self::start_each(settings, vec![vec!["--set=process_roles=controller".to_owned()]; count])
    }

    fn start_each(settings: &[&str], own: Vec<Vec<String>>) -> RunningCluster {
        let count = own.len();
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder on a disk");
        std::fs::write(dir.path().join("secret"), SECRET).expect("written");
        let addresses = free_ports(count).into_iter().enumerate();
        let voters: Vec<String> =
            addresses.map(|(at, port)| format!("{}@127.0.0.1:{port}", at + 1)).collect();
        let extra = settings.iter().map(|setting| format!("--set={setting}")).collect();
        let mut cluster = RunningCluster {
            dir,
            voters: voters.join(","),
            nodes: (0..count).map(|_| None).collect(),
            extra,
            own,
        };
        for id in 1..=count {
            cluster.launch(id);
        }
        (1..=count).for_each(|id| cluster.node_mut(id).wait_until_ready());
        cluster
    }

    /// Starts a node that takes part as a broker and does not vote, and waits until it is ready. It ends when it is dropped.
    pub fn join(&self, id: i32, settings: &[&str]) -> RunningBroker {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder on a disk");
        self.join_in(dir, id, settings)
    }

    /// The same with a folder that such a node has left.
    pub fn join_in(&self, dir: tempfile::TempDir, id: i32, settings: &[&str]) -> RunningBroker {
        let settings = [&["process_roles=broker", "cluster_listen=127.0.0.1:0"], settings].concat();
        self.join_with(dir, id, &self.voters, &settings)
    }

    /// Starts a node that is to be a controller only, and names itself among the voters although it does not vote yet; waits until it is ready.
    pub fn join_as_controller(&self, id: i32) -> RunningBroker {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder on a disk");
        let voters = format!("{},{id}@127.0.0.1:{}", self.voters, free_ports(1)[0]);
        self.join_with(dir, id, &voters, &["process_roles=controller"])
    }

    fn join_with(&self, dir: tempfile::TempDir, id: i32, voters: &str, settings: &[&str]) -> RunningBroker {
        let mut flags = node_flags(id, voters, &self.secret_file());
        flags.extend(self.extra.iter().cloned());
        flags.extend(settings.iter().map(|setting| format!("--set={setting}")));
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        RunningBroker::start_in(dir, &flags)
    }

    /// The voters, as the configuration names them.
    pub fn voters(&self) -> &str {
        &self.voters
    }

    /// Where the secret is.
    pub fn secret_file(&self) -> PathBuf {
        self.dir.path().join("secret")
    }

    fn home(&self, id: usize) -> PathBuf {
        self.dir.path().join(id.to_string())
    }

    /// Starts a node that does not run, and does not wait for it.
    pub fn launch(&mut self, id: usize) {
        let home = self.home(id);
        std::fs::create_dir_all(&home).expect("made");
        let mut flags = node_flags(id, &self.voters, &self.secret_file());
        flags.extend(self.extra.iter().chain(&self.own[id - 1]).cloned());
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        self.nodes[id - 1] = Some(RunningBroker::launch_logging(&home, &flags, &home.join(LOG)));
    }

    /// Starts a node that does not run, and waits until it is ready.
    pub fn restart(&mut self, id: usize) {
        self.launch(id);
        self.node_mut(id).wait_until_ready();
    }

    /// Waits until a node is ready that was launched.
    pub fn wait_until_ready(&mut self, id: usize) {
        self.node_mut(id).wait_until_ready();
    }

    /// Whether a node that runs serves clients.
    pub fn is_ready(&self, id: usize) -> bool {
        self.node(id).ready_file.exists()
    }

    /// A node that does not run loses everything that it has on its disk.
    pub fn wipe(&self, id: usize) {
        std::fs::remove_dir_all(self.home(id).join("data")).expect("it was there");
    }

    /// What a node that runs has logged.
    pub fn log(&self, id: usize) -> String {
        std::fs::read_to_string(self.home(id).join(LOG)).unwrap_or_default()
    }

    /// Kills a node without warning.
    pub fn kill(&mut self, id: usize) {
        drop(self.nodes[id - 1].take().expect("it runs"));
    }

    /// Stops a node in good order; its exit code.
    pub fn terminate(&mut self, id: usize) -> Option<i32> {
        self.nodes[id - 1].take().expect("it runs").terminate()
    }

    /// A node that runs.
    pub fn node(&self, id: usize) -> &RunningBroker {
        self.nodes[id - 1].as_ref().expect("it runs")
    }

    fn node_mut(&mut self, id: usize) -> &mut RunningBroker {
        self.nodes[id - 1].as_mut().expect("it runs")
    }

    /// The nodes that run.
    pub fn running(&self) -> Vec<usize> {
        (1..=self.nodes.len()).filter(|id| self.nodes[id - 1].is_some()).collect()
    }

    /// Waits until a condition holds on every node that runs.
    pub fn wait_everywhere(&self, mut holds: impl FnMut(&RunningBroker) -> bool) {
        for id in self.running() {
            wait_until(|| holds(self.node(id)));
        }
    }
}
