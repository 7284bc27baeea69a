//! Sockets: from the listener to whole requests, and from answers back to the wire.
//!
//! - [`listener`]: one listening socket per shard on the same port, one accept task each;
//! - [`connection`]: the task of one connection: requests in, answers out in the order of the requests;
//! - [`frames`]: splits what comes in into frames, within the memory budget;
//! - [`receive_buffers`]: what small requests are received into;
//! - [`send`]: answers as vectored sends from where the records lie;
//! - [`zero_copy`]: sends of which the kernel makes no copy either, and [`lingering`]: closed connections that it still reads for;
//! - [`socket`]: the system calls that glommio does not offer;
//! - [`affinity`] decides when another shard had better serve a connection, [`moving`] brings it there;
//! - [`table`]: all connections of a shard, and the sweeper that closes idle and stalled ones.

pub mod affinity;
pub mod connection;
pub mod frames;
mod lingering;
pub mod listener;
pub mod moving;
mod receive_buffers;
pub mod send;
pub mod socket;
pub mod table;
#[cfg(test)]
mod tests;
pub mod zero_copy;

pub use connection::{Connection, DispatchOutcome};
pub use listener::{Listeners, bind};
pub use moving::MovedConnection;
pub use table::{Limits, Net, Services};
