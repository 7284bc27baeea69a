//! Sockets: from the listener to whole requests, and from answers back to the wire.
//!
//! - [`listener`]: one listening socket per shard on the same port, one accept task each;
//! - [`connection`]: the task of one connection: requests in, answers out in the order of the requests;
//! - [`frames`]: splits what comes in into frames, within the memory budget;
//! - [`send`]: answers as vectored sends without copying;
//! - [`socket`]: the system calls that glommio does not offer;
//! - [`table`]: all connections of a shard, and the sweeper that closes idle and stalled ones.

pub mod connection;
pub mod frames;
pub mod listener;
pub mod send;
pub mod socket;
pub mod table;
#[cfg(test)]
mod tests;

pub use connection::{Connection, DispatchOutcome};
pub use listener::{Listeners, bind};
pub use table::{Limits, Net};
