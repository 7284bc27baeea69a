//! Requests whose answer comes with a later output: JoinGroup until all members are there, SyncGroup until the leader has decided.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use ahash::AHashMap;
use coord::group::ReplyToken;
use protocol::ErrorCode;
use tokio::sync::oneshot;

use super::coordinators::PendingReply;
use crate::shard::Shard;

/// The requests of one shard that wait for a later output.
#[derive(Default)]
pub struct WaitingRoom {
    seats: RefCell<AHashMap<ReplyToken, Seat>>,
    is_closed: Cell<bool>,
}

/// One of them: the partition of its coordinator, and the way to it.
type Seat = (i32, oneshot::Sender<PendingReply>);

/// A request that waits. Dropping it gives the wait up.
pub struct Waiting {
    shard: Rc<Shard>,
    token: ReplyToken,
    reply: oneshot::Receiver<PendingReply>,
}

impl WaitingRoom {
    /// Waits for the answer to `token`; `NOT_COORDINATOR` if the broker stops, or the coordinator ends, before it comes.
    pub fn enter(shard: &Rc<Shard>, partition: i32, token: ReplyToken) -> Waiting {
        let (seat, reply) = oneshot::channel();
        let room = &shard.groups.waiting;
        if !room.is_closed.get() {
            room.seats.borrow_mut().insert(token, (partition, seat));
        }
        Waiting { shard: Rc::clone(shard), token, reply }
    }

    /// Answers a request that waits. One that has given up is not missed.
    pub fn answer(&self, token: ReplyToken, reply: PendingReply) {
        if let Some((_, seat)) = self.seats.borrow_mut().remove(&token) {
            let _ = seat.send(reply);
        }
    }

    /// Ends all waits.
    pub fn release(&self) {
        self.seats.borrow_mut().clear();
    }

    /// Ends the waits for one partition's coordinator.
    pub fn release_partition(&self, partition: i32) {
        self.seats.borrow_mut().retain(|_, (waits_for, _)| *waits_for != partition);
    }

    /// Ends all waits, and lets nobody wait any more: the broker stops.
    pub fn close(&self) {
        self.is_closed.set(true);
        self.release();
    }

    /// Requests that wait.
    pub fn len(&self) -> usize {
        self.seats.borrow().len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.seats.borrow().is_empty()
    }
}

impl Future for Waiting {
    type Output = Result<PendingReply, ErrorCode>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.reply).poll(cx).map_err(|_| ErrorCode::NOT_COORDINATOR)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shard.groups.waiting.seats.borrow_mut().remove(&self.token);
    }
}
