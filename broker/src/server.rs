//! From a configuration to a running broker and back: checks, sockets, executors, the order of starting and of stopping.
//!
//! The main thread runs no requests. It starts one executor per core, waits for signals and for shards that end, feeds systemd's watchdog,
//! and leads all shards through the [`Phase`]s together.

use std::cell::{Cell, OnceCell, RefCell};
use std::io::{self, Write};
use std::net::TcpListener;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use coord::config::TopicDefaults;
use coord::metadata::MetadataImage;
use tokio::sync::watch;

use crate::append_queue::AppendQueue;
use crate::budget::Budget;
use crate::cluster::{self, Cluster};
use crate::config::{Config, Cores, Durability, HostPort};
use crate::controller::{self, CONTROLLER_SHARD, ShardMetadata};
use crate::fetch_session::{FetchSessions, SessionLimits};
use crate::groups::{self, Groups};
use crate::live::LiveConfig;
use crate::mesh::{MeshSeed, mesh};
use crate::metrics::ShardMetrics;
use crate::net::listener::{self, bind};
use crate::net::table::recorder;
use crate::net::{Limits, Listeners, Net, Services};
use crate::placement::ShardId;
use crate::replication::{self, Replication};
use crate::runtime::{self, Background, ExecutorOptions, Guard, Pulse, cores, limits, memory, uring};
use crate::shard::{BrokerInfo, Shard};
use crate::systemd::Notifier;
use crate::{Error, admin, api, signals};

/// What happens to the process.
#[derive(Debug)]
pub enum Event {
    /// SIGTERM or SIGINT.
    Signal(i32),
    /// The shard has reached the phase.
    Reached(ShardId, Phase),
    /// The shard cannot go on.
    Failed(ShardId, String),
}

/// All shards enter a phase together, after the last one has done with the former.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Open logs, recover.
    Starting,
    /// Let a change of the number of shards count. Nothing may be acknowledged before shard 0 has written that down.
    Settling,
    /// Let clients in.
    Serving,
    /// Clients are still served; other brokers take over what this one leads.
    Leaving,
    /// Let nobody in, finish requests.
    Draining,
    /// Flush, mark clean.
    Closing,
    /// End the executors.
    Stopped,
}

/// With fewer open files a handful of topics and clients exhaust them.
const OPEN_FILES_MIN: u64 = 16_384;

/// Share of the machine's memory that is used if the configuration does not say.
const MEMORY_SHARE: u64 = 2;
/// With less the cache of a shard cannot hold what is on its way to the disk.
pub(crate) const SHARD_CACHE_BYTES_MIN: u64 = 16 << 20;

/// What a configuration comes to on this machine.
struct Plan {
    cores: Vec<usize>,
    shard_memory_bytes: u64,
}

/// Checks the configuration against this machine.
pub fn check(config: &Config) -> Result<(), Error> {
    plan(config).map(|_| ())
}

fn plan(config: &Config) -> Result<Plan, Error> {
    uring::check().map_err(Error::Unsuitable)?;
    let allowed = cores::allowed().map_err(|error| Error::system("cannot read the affinity mask", error))?;
    let cores = cores::chosen(&config.cores, &allowed, cores::on_machine()).map_err(Error::Unsuitable)?;
    let total =
        config.memory.map_or_else(|| memory::available_to_process() / MEMORY_SHARE, |memory| memory.0);
    let shard_memory_bytes = total / cores.len() as u64;
    let needed = u64::from(config.socket_request_max_bytes) + SHARD_CACHE_BYTES_MIN;
    if shard_memory_bytes < needed {
        return Err(Error::Unsuitable(format!(
            "memory = {total} bytes leaves {shard_memory_bytes} for each of {} shards, but each needs {needed} (socket_request_max_bytes, \
             and {SHARD_CACHE_BYTES_MIN} for its cache). Give more memory, use fewer cores, or lower socket_request_max_bytes",
            cores.len()
        )));
    }
    TopicDefaults::from_properties(&config.topic_defaults).map_err(Error::Unsuitable)?;
    Ok(Plan { cores, shard_memory_bytes })
}

/// Runs the broker until it is told to stop. Signals are blocked already; logging is set up.
pub fn run(config: Config) -> Result<(), Error> {
    let started = Instant::now();
    let plan = plan(&config)?;
    memory::keep_within(plan.shard_memory_bytes * plan.cores.len() as u64)
        .map_err(|error| Error::system("cannot start threads", error))?;
    if let Ok(files) = limits::raise(libc::RLIMIT_NOFILE)
        && files < OPEN_FILES_MIN
    {
        tracing::warn!(
            files,
            "few open files are allowed: connections and segments need one each; raise LimitNOFILE"
        );
    }
    let _data_dir =
        storage::data_dir::open(&config.data_dir).map_err(|error| Error::Unsuitable(error.to_string()))?;
    let kafka =
        bind(&config.listen, plan.cores.len()).map_err(|e| Error::listen("listen", &config.listen, e))?;
    let admin_socket = bind(&config.admin, 1).map_err(|e| Error::listen("admin", &config.admin, e))?;
    let internal = cluster::listen_address(&config);
    let internal = internal.map(|address| {
        bind(address, plan.cores.len()).map_err(|e| Error::listen("cluster_listen", address, e))
    });
    let internal = internal.transpose()?;
    let cluster = internal.as_ref().map(|sockets| cluster::info(&config, sockets.address));
    let cluster = cluster.transpose().map_err(Error::Unsuitable)?;
    let pulses: Vec<Arc<Pulse>> = plan.cores.iter().map(|_| Arc::default()).collect();
    let broker = Arc::new(BrokerInfo {
        advertised: advertised(&config, kafka.address.port()),
        kafka_address: kafka.address,
        admin_address: admin_socket.address,
        cluster,
        cores: plan.cores,
        shard_memory_bytes: plan.shard_memory_bytes,
        started,
        pulses: pulses.clone(),
        config,
    });
    let _guard =
        Guard::start(pulses).map_err(|error| Error::system("cannot start the liveness guard", error))?;
    let sockets = Sockets {
        kafka: kafka.into_sockets(),
        admin: admin_socket.into_sockets(),
        internal: internal.map(Listeners::into_sockets).unwrap_or_default(),
    };
    let mut broker = Broker::start(broker, sockets)?;
    broker.wait_for(Phase::Starting)?;
    for phase in [Phase::Settling, Phase::Serving] {
        broker.enter(phase)?;
    }
    broker.announce()?;
    broker.serve()?;
    broker.stop()
}

fn data_dir_error(config: &Config, source: io::Error) -> Error {
    Error::DataDir { path: config.data_dir.clone(), source }
}

/// What clients are told: as configured, else the host that is listened on, else this machine's name.
fn advertised(config: &Config, actual_port: u16) -> HostPort {
    if let Some(address) = &config.advertise {
        return address.clone();
    }
    let wildcard = matches!(config.listen.host.as_str(), "0.0.0.0" | "::" | "");
    let host = if wildcard { host_name() } else { config.listen.host.clone() };
    HostPort { host, port: actual_port }
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty() && name != "(none)")
        .unwrap_or_else(|| "localhost".into())
}

/// Everything that is listened on.
struct Sockets {
    /// One for each shard.
    kafka: Vec<TcpListener>,
    /// One.
    admin: Vec<TcpListener>,
    /// One for each shard, or none at all.
    internal: Vec<TcpListener>,
}

/// The main thread's view of the running shards.
struct Broker {
    info: Arc<BrokerInfo>,
    phase: watch::Sender<Phase>,
    events: mpsc::Receiver<Event>,
    executors: Vec<runtime::ExecutorThread<()>>,
    systemd: Notifier,
    stop_requested: Option<i32>,
}

impl Broker {
    fn start(info: Arc<BrokerInfo>, sockets: Sockets) -> Result<Broker, Error> {
        let (events_in, events) = mpsc::channel();
        signals::forward(events_in.clone())
            .map_err(|error| Error::system("cannot wait for signals", error))?;
        let (phase, phases) = watch::channel(Phase::Starting);
        let background = Background::start(info.config.log_cleaner_threads as usize)
            .map_err(|error| Error::system("cannot start threads", error))?;
        let open_in_broker = Arc::new(AtomicUsize::new(0));
        let mut admin = sockets.admin.into_iter();
        let mut internal = sockets.internal.into_iter();
        let mut executors = Vec::new();
        for (seed, kafka) in mesh(&info.pulses).into_iter().zip(sockets.kafka) {
            let id = seed.id();
            let task = ShardTask {
                seed,
                info: info.clone(),
                kafka,
                admin: admin.next(),
                internal: internal.next(),
                background: background.clone(),
                open_in_broker: open_in_broker.clone(),
                phases: phases.clone(),
                events: events_in.clone(),
            };
            let options = ExecutorOptions {
                core: Some(info.cores[id.0]),
                name: format!("shard-{id}"),
                spin_before_park: Duration::from_micros(info.config.spin_before_park_us),
                ..ExecutorOptions::default()
            };
            let executor = runtime::spawn_executor(options, move || task.run());
            executors
                .push(executor.map_err(|error| Error::system(format!("cannot start shard {id}"), error))?);
        }
        Ok(Broker {
            info,
            phase,
            events,
            executors,
            systemd: Notifier::from_environment(),
            stop_requested: None,
        })
    }

    /// Leads all shards into the phase, and waits until they have done what it asks for.
    fn enter(&mut self, phase: Phase) -> Result<(), Error> {
        self.tell(phase);
        self.wait_for(phase)
    }

    fn tell(&self, phase: Phase) {
        self.phase.send_replace(phase);
        // A shard that sleeps may miss the wake that comes with it.
        self.info.pulses.iter().for_each(|pulse| pulse.wake());
    }

    /// Waits until every shard has reported the phase. A signal that comes meanwhile is remembered.
    fn wait_for(&mut self, phase: Phase) -> Result<(), Error> {
        let mut waiting_for = self.info.shards();
        while waiting_for > 0 {
            match self.events.recv().expect("the signal thread holds the other end") {
                Event::Reached(_, reached) => waiting_for -= usize::from(reached == phase),
                Event::Failed(shard, reason) => return Err(Error::ShardStopped { shard: shard.0, reason }),
                Event::Signal(signal) if phase <= Phase::Settling => {
                    // No client was let in: there is nothing to finish, and recovery can be repeated.
                    tracing::info!(signal, "stopped while starting");
                    std::process::exit(0);
                }
                Event::Signal(signal) => self.stop_requested = Some(signal),
            }
        }
        Ok(())
    }

    /// Tells people, the ready file and systemd that clients are let in.
    fn announce(&self) -> Result<(), Error> {
        // Nobody may be reading; that is no reason to stop.
        let _ = io::stdout().write_all(summary(&self.info).as_bytes());
        if let Some(path) = &self.info.config.ready_file {
            write_ready_file(path, &self.info).map_err(|error| {
                Error::system(format!("cannot write the ready file {}", path.display()), error)
            })?;
        }
        self.systemd.ready(&format!("serving Kafka clients on {}", self.info.kafka_address));
        tracing::info!(
            node_id = self.info.config.node_id,
            kafka = %self.info.kafka_address,
            advertised = %self.info.advertised,
            admin = %self.info.admin_address,
            shards = self.info.shards(),
            start_ms = self.info.started.elapsed().as_millis() as u64,
            "ready"
        );
        Ok(())
    }

    /// Until a signal comes or a shard ends; meanwhile tells systemd that all shards are alive, as long as they are.
    fn serve(&mut self) -> Result<(), Error> {
        let mut asked: Vec<Option<u64>> = vec![None; self.info.shards()];
        while self.stop_requested.is_none() {
            let event = match self.systemd.watchdog_interval {
                None => self.events.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
                Some(interval) => self.events.recv_timeout(interval),
            };
            match event {
                Ok(Event::Signal(signal)) => self.stop_requested = Some(signal),
                Ok(Event::Failed(shard, reason)) => {
                    return Err(Error::ShardStopped { shard: shard.0, reason });
                }
                Ok(Event::Reached(..)) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let alive = |(pulse, asked): (&Arc<Pulse>, &Option<u64>)| {
                        asked.is_none_or(|answers| pulse.answers() > answers)
                    };
                    if self.info.pulses.iter().zip(&asked).all(alive) {
                        self.systemd.watchdog();
                        for (pulse, asked) in self.info.pulses.iter().zip(&mut asked) {
                            *asked = Some(pulse.answers());
                            pulse.ask();
                        }
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    unreachable!("the signal thread holds the other end")
                }
            }
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Error> {
        tracing::info!(signal = self.stop_requested, "stopping");
        self.systemd.stopping();
        for phase in [Phase::Leaving, Phase::Draining, Phase::Closing] {
            self.enter(phase)?;
        }
        self.tell(Phase::Stopped);
        for executor in self.executors.drain(..) {
            executor
                .join()
                .map_err(|error| Error::system("a shard ended badly", io::Error::other(error.to_string())))?;
        }
        if let Some(path) = &self.info.config.ready_file {
            let _ = std::fs::remove_file(path);
        }
        tracing::info!(uptime_s = self.info.started.elapsed().as_secs(), "stopped cleanly");
        Ok(())
    }
}

/// Everything that one shard is started with, on its way to its thread.
struct ShardTask {
    seed: MeshSeed<Shard>,
    info: Arc<BrokerInfo>,
    kafka: TcpListener,
    /// Only shard 0 has it.
    admin: Option<TcpListener>,
    /// A node by itself has none.
    internal: Option<TcpListener>,
    background: Background,
    open_in_broker: Arc<AtomicUsize>,
    phases: watch::Receiver<Phase>,
    events: mpsc::Sender<Event>,
}

impl ShardTask {
    async fn run(self) {
        let (id, events) = (self.seed.id(), self.events.clone());
        if let Err(error) = self.live().await {
            let _ = events.send(Event::Failed(id, error.to_string()));
        }
    }

    async fn live(mut self) -> Result<(), Error> {
        let info = self.info.clone();
        let id = self.seed.id();
        let pulse = info.pulses[id.0].clone();
        runtime::spawn(pulse.clone().run());
        // Starting and stopping are work as requests are: the guard must not let the shard sleep over them.
        let starting = pulse.begin();
        runtime::probe::settle_on_no_polling(&info.config.data_dir, id.0)
            .await
            .map_err(|source| data_dir_error(&info.config, source))?;
        let budget = Budget::new(info.shard_request_bytes());
        let request_bytes_max = info.config.socket_request_max_bytes as usize;
        let shard = Rc::new(Shard {
            id,
            broker: info.clone(),
            mesh: self.seed.plant(),
            cluster: Cluster::new(info.cluster.clone(), id, request_bytes_max, budget.clone(), pulse.clone()),
            budget,
            metrics: ShardMetrics::default(),
            pulse: pulse.clone(),
            background: self.background,
            net: OnceCell::new(),
            metadata: ShardMetadata::default(),
            live: RefCell::new(Rc::new(LiveConfig::resolve(&info.config, &MetadataImage::new()))),
            events: self.events.clone(),
            store: OnceCell::new(),
            append_queue: AppendQueue::default(),
            fetch_sessions: RefCell::new(FetchSessions::new(session_limits(&info), id.0, info.shards())),
            replication: Replication::new(
                info.config.replica_catch_up_bytes_per_second.0 / info.shards() as u64,
            ),
            groups: Groups::new(groups::config::group_config(&info.config)),
            is_closing: Cell::new(false),
            is_draining: watch::Sender::new(false),
        });
        shard.mesh.attach(&shard);
        runtime::spawn(shard.mesh.run());
        let admin_server = self.admin.take().map(|socket| admin::start(shard.clone(), socket)).transpose();
        let admin_server = admin_server.map_err(|error| Error::system("cannot serve HTTP", error))?;
        if let Some(internal) = self.internal.take() {
            let listening = cluster::listen(&shard.cluster, internal);
            listening.map_err(|error| Error::system("cannot listen for the cluster's nodes", error))?;
        }
        shard.start().await?;
        let reached = |phase| {
            let _ = self.events.send(Event::Reached(id, phase));
        };
        reached(Phase::Starting);

        enter(&mut self.phases, Phase::Settling).await;
        if id == CONTROLLER_SHARD {
            shard.finish_start().await?;
        }
        // Before any shard lets clients in: their connections may move here.
        let net = open_net(&shard, self.open_in_broker);
        reached(Phase::Settling);

        enter(&mut self.phases, Phase::Serving).await;
        if id != CONTROLLER_SHARD {
            shard.finish_start().await?;
        }
        groups::follow::serve(&shard);
        replication::follow::open(&shard);
        controller::start::follow(&shard).await;
        let accepting = listener::listen(net.clone(), self.kafka, info.config.socket_listen_backlog_size)
            .map_err(|error| Error::listen("listen", &info.config.listen, error))?;
        runtime::spawn(net.clone().sweep());
        if let Some(admin) = &admin_server {
            admin.set_ready(true);
        }
        reached(Phase::Serving);
        drop(starting);

        enter(&mut self.phases, Phase::Leaving).await;
        if id == CONTROLLER_SHARD {
            let patience = Duration::from_millis(info.config.shutdown_timeout_ms);
            controller::membership::leave(&shard, patience).await;
        }
        reached(Phase::Leaving);

        enter(&mut self.phases, Phase::Draining).await;
        let _stopping = pulse.begin();
        if let Some(admin) = &admin_server {
            admin.set_ready(false);
        }
        accepting.stop();
        shard.is_draining.send_replace(true);
        shard.groups.waiting.close();
        net.drain(Duration::from_millis(info.config.shutdown_timeout_ms)).await;
        reached(Phase::Draining);

        enter(&mut self.phases, Phase::Closing).await;
        shard.shutdown().await?;
        reached(Phase::Closing);

        enter(&mut self.phases, Phase::Stopped).await;
        Ok(())
    }
}

/// Partitions that the fetch sessions of one shard may remember: some tens of MB at most.
const SESSION_PARTITIONS_MAX: usize = 200_000;
/// Kafka's `min.incremental.fetch.session.eviction.ms`.
const SESSION_EVICTION_MS: i64 = 120_000;

fn session_limits(info: &BrokerInfo) -> SessionLimits {
    SessionLimits {
        slots: (info.config.max_incremental_fetch_session_cache_slots as usize).div_ceil(info.shards()),
        partitions: SESSION_PARTITIONS_MAX,
        evict_idle_ms: SESSION_EVICTION_MS,
    }
}

async fn enter(phases: &mut watch::Receiver<Phase>, phase: Phase) {
    // An error means that the main thread is gone, and with it the process.
    let _ = phases.wait_for(|current| *current >= phase).await;
}

fn open_net(shard: &Rc<Shard>, open_in_broker: Arc<AtomicUsize>) -> Rc<Net> {
    let [for_dispatch, for_congestion, for_moves] = std::array::from_fn(|_| shard.clone());
    let services = Services {
        dispatch: Box::new(move |connection, frame| api::dispatch(&for_dispatch, connection, frame)),
        congestion: Box::new(move |cx| for_congestion.mesh.is_congested(cx)),
        record_request: recorder(shard.clone()),
        hand_over: Box::new(move |target, moved| for_moves.hand_over(target, moved)),
    };
    let net = Net::new(
        shard.id,
        Limits::from(&shard.live().config),
        shard.budget.clone(),
        shard.pulse.clone(),
        open_in_broker,
        services,
    );
    assert!(shard.net.set(net.clone()).is_ok(), "sockets are opened once");
    net
}

/// What a person sees first.
fn summary(info: &BrokerInfo) -> String {
    let config = &info.config;
    let data_dir = std::fs::canonicalize(&config.data_dir).unwrap_or_else(|_| config.data_dir.clone());
    let cluster = info.cluster.as_ref().map_or_else(String::new, |cluster| {
        format!("\x20 cluster     {} (advertised as {})\n", cluster.address, cluster.advertised)
    });
    let durability = match config.durability {
        Durability::Sync => "sync (an acknowledged record survives loss of power)",
        Durability::Write => "write (an acknowledged record may be lost when power is lost)",
    };
    format!(
        "broker {version} is ready (node {node})\n\
         \x20 clients     {kafka} (advertised as {advertised})\n\
         \x20 admin       http://{admin}/ (metrics, health)\n\
         {cluster}\
         \x20 data        {data}\n\
         \x20 cores       {cores}, one shard each\n\
         \x20 memory      {memory} MiB\n\
         \x20 durability  {durability}\n\
         Ctrl-C stops it.\n",
        version = env!("CARGO_PKG_VERSION"),
        cluster = cluster,
        node = config.node_id,
        kafka = info.kafka_address,
        advertised = info.advertised,
        admin = info.admin_address,
        data = data_dir.display(),
        cores = Cores::List(info.cores.clone()),
        memory = (info.shard_memory_bytes * info.shards() as u64) >> 20,
    )
}

/// Appears whole or not at all, so that a reader never sees half of it.
fn write_ready_file(path: &Path, info: &BrokerInfo) -> io::Result<()> {
    let content = serde_json::json!({
        "pid": std::process::id(),
        "kafka": info.kafka_address.to_string(),
        "advertised": info.advertised.to_string(),
        "admin": info.admin_address.to_string(),
        "cluster": info.cluster.as_ref().map(|cluster| cluster.address.to_string()),
    });
    let unfinished = path.with_extension("tmp");
    std::fs::write(&unfinished, format!("{content}\n"))?;
    std::fs::rename(&unfinished, path)
}
