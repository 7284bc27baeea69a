//! Connections that move to the shard that most of their traffic is for ([`super::affinity`] decides).
//!
//! A connection moves between two requests: nothing is in progress and every answer has been handed to the kernel, so the order of answers holds by itself.
//! What was received and not looked at yet goes along, half a frame with its memory included. The client notices nothing.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::affinity::Affinity;
use super::connection::{ClientSoftware, serve_moved};
use super::frames::FrameReader;
use super::table::Net;
use super::zero_copy::ZeroCopySends;

/// A connection on its way to another shard: all that is known of it.
pub struct MovedConnection {
    pub(super) socket: OwnedFd,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) software: OnceCell<ClientSoftware>,
    pub(super) fetch_session: i32,
    pub(super) affinity: Affinity,
    pub(super) reader: FrameReader,
    pub(super) last_frame_was_large: bool,
    pub(super) zero_copy: ZeroCopySends,
}

impl MovedConnection {
    /// The fetch session that was last told to the client, which has to come along; 0: none.
    pub fn fetch_session(&self) -> i32 {
        self.fetch_session
    }

    /// Goes on with the connection on this shard, whose sockets are `net`.
    pub fn arrive(self, net: &Rc<Net>) {
        crate::runtime::spawn(serve_moved(net.clone(), self));
    }
}
