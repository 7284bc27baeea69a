//! What a run is made of.

use coord::planted::Planted;

/// What the brokers' logs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Storage {
    /// A model: much faster.
    #[default]
    Model,
    /// Storage's own store on a simulated disk.
    Real,
}

impl Storage {
    /// What a seed has that nobody has chosen for: one of four has real stores, whatever the number of its brokers.
    pub fn of(seed: u64) -> Self {
        if seed % 16 >= 12 { Storage::Real } else { Storage::Model }
    }
}

/// What a run is made of, besides its seed.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Brokers; the first three of them are controllers, the others learn.
    pub brokers: i32,
    /// Events before the faults end.
    pub steps: u64,
    /// What the brokers' logs are.
    pub storage: Storage,
    /// The rule that is left out, for tests of the test.
    pub planted: Planted,
    /// Whether every topic allows unclean elections: data must get lost, and the checks must say so.
    pub allows_unclean_election: bool,
    /// Whether the trace has lines.
    pub traces: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            brokers: 3,
            steps: 20_000,
            storage: Storage::Model,
            planted: Planted::default(),
            allows_unclean_election: false,
            traces: false,
        }
    }
}

impl Settings {
    /// With a rule left out.
    #[cfg(feature = "planted-bugs")]
    pub fn with_planted(self, bug: coord::planted::PlantedBug) -> Self {
        let planted = Planted::bug(bug);
        // What the controller does then is what a topic can ask for.
        let allows_unclean_election = bug == coord::planted::PlantedBug::UncleanElection;
        Settings { planted, allows_unclean_election, ..self }
    }
}

/// Controllers among the brokers, at most.
pub const CONTROLLERS: i32 = 3;
/// A broker's clock strikes. Virtual microseconds, as all that ends with `_us`.
pub const TICK_US: u64 = 20_000;
/// Ticks without a leader until a controller stands for election, at least.
pub const ELECTION_TICKS: usize = 12;
/// Ticks between heartbeats of the quorum's leader.
pub const QUORUM_HEARTBEAT_TICKS: usize = 2;
/// `broker.heartbeat.interval.ms`
pub const HEARTBEAT_MS: i64 = 150;
/// `broker.session.timeout.ms`
pub const SESSION_MS: i64 = 900;
/// `replica.lag.time.max.ms`
pub const REPLICA_LAG_MAX_MS: i64 = 1_000;
/// See [`coord::replica::ReplicaConfig`].
pub const SLOW_REPLICA_MS: i64 = 200;
/// See [`coord::replica::ReplicaConfig`].
pub const REJOIN_AFTER_MS: i64 = 300;
/// See [`coord::replica::ReplicaConfig`].
pub const ALTER_RETRY_MS: i64 = 150;
/// Between two looks of a broker after its logs.
pub const MAINTENANCE_MS: i64 = 500;
/// Entries of the quorum's log after which a controller takes a snapshot.
pub const SNAPSHOT_ENTRIES: u64 = 60;
/// After so much virtual time without faults everything must be well.
pub const HEALING_US: u64 = 60_000_000;
/// `group.consumer.session.timeout.ms`, and the session time-out of classic members.
pub const GROUP_SESSION_MS: i32 = 1_500;
/// `group.initial.rebalance.delay.ms`
pub const INITIAL_REBALANCE_DELAY_MS: i32 = 200;
/// Within this time classic members have to join again. Longer than a session, so that nobody is passed over who may still be an owner.
pub const REBALANCE_TIMEOUT_MS: i32 = 3_000;
/// How long a client waits for an answer.
pub const REQUEST_TIMEOUT_US: u64 = 600_000;
