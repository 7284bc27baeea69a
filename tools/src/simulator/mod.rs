//! A whole cluster in one thread and in virtual time: the real cores of quorum, metadata, replication and groups on simulated disks and a simulated network, with
//! faults drawn from a seed and invariants checked after every event. A seed replays exactly.
//!
//! | module | owns |
//! |---|---|
//! | [`run`] | one run, from its seed to its [`Report`] |
//! | [`settings`] | what a run is made of; time-outs |
//! | [`world`] | events in the order of virtual time; brokers, clients and network put together |
//! | [`process`] | one life of a broker: the real cores and the shell around them |
//! | [`journal`], [`store`] | its disks: the quorum's journal, and the partitions' logs, modelled or real |
//! | [`network`], [`message`] | connections between brokers, and what goes over them |
//! | [`client`] | producers, consumers, members of groups, an administrator |
//! | [`faults`] | what goes wrong, and when |
//! | [`oracle`], [`sharing`], [`checks`] | what must hold |
//! | [`trace`], [`random`] | what is told of a run; chance |
//! | [`cli`] | the command line |

mod checks;
#[allow(clippy::disallowed_methods, reason = "it tells how long the runs took")]
pub mod cli;
mod client;
mod faults;
mod journal;
mod message;
mod network;
mod oracle;
mod process;
mod random;
mod run;
mod settings;
mod sharing;
mod store;
mod trace;
mod world;

#[cfg(test)]
mod tests;

pub use oracle::Violation;
pub use run::{Report, run};
pub use settings::{Settings, Storage};
pub use trace::Trace;
