//! Messages of the quorum on their way to its other members: one link each, dialed from here, one task each.
//!
//! Raft repeats what is lost, so a queue is bounded by dropping, and is emptied when its link breaks: what is in it is out of date by the time of the next link.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::rc::{Rc, Weak};

use bytes::Bytes;
use coord::quorum::QuorumMessage;
use coord::types::BrokerId;
use futures::future::{Either, select};
use tokio::sync::Notify;
use uuid::Uuid;

use super::quorum::Quorum;
use crate::cluster::{Backoff, Link, LinkError, Purpose, dial};
use crate::runtime::{self, monotonic_ms};
use crate::shard::Shard;

/// What a link begins with: version u8 (= 1) | id of the sender's data directory, 16 bytes.
const OPENING_VERSION: u8 = 1;
const OPENING_BYTES: usize = 17;
/// A link that ends sooner is opened again after a pause.
const LASTING_MS: i64 = 1000;
/// Messages that wait for one member; older ones are dropped.
const QUEUE_MAX: usize = 512;

/// The ways to all other members.
#[derive(Default)]
pub struct Peers {
    queues: RefCell<BTreeMap<BrokerId, Rc<Queue>>>,
}

#[derive(Default)]
struct Queue {
    messages: RefCell<VecDeque<QuorumMessage>>,
    arrived: Notify,
    /// Whether there is a link at the moment.
    is_linked: Cell<bool>,
    /// Since when nobody listens at the member's address; by [`monotonic_ms`].
    gone_since_ms: Cell<Option<i64>>,
}

impl Peers {
    /// Queues a message; it goes out when there is a link, or is lost.
    pub fn send(&self, shard: &Rc<Shard>, quorum: &Rc<Quorum>, message: QuorumMessage) {
        let to = message.to();
        let queue = Rc::clone(self.queues.borrow_mut().entry(to).or_insert_with(|| {
            let queue = Rc::new(Queue::default());
            runtime::spawn(serve(Rc::clone(shard), Rc::downgrade(quorum), to, Rc::clone(&queue)));
            queue
        }));
        let mut messages = queue.messages.borrow_mut();
        if messages.len() >= QUEUE_MAX {
            messages.pop_front();
        }
        messages.push_back(message);
        queue.arrived.notify_one();
    }

    /// The members that there is a link to.
    pub fn linked(&self) -> Vec<BrokerId> {
        let queues = self.queues.borrow();
        queues.iter().filter(|(_, queue)| queue.is_linked.get()).map(|(id, _)| *id).collect()
    }

    /// The members at whose address nobody listens, and since when, by [`monotonic_ms`].
    pub fn gone(&self) -> Vec<(BrokerId, i64)> {
        let queues = self.queues.borrow();
        queues.iter().filter_map(|(id, queue)| queue.gone_since_ms.get().map(|since| (*id, since))).collect()
    }
}

fn encode_opening(directory: Uuid) -> Bytes {
    let mut opening = Vec::with_capacity(OPENING_BYTES);
    opening.push(OPENING_VERSION);
    opening.extend(directory.as_bytes());
    opening.into()
}

/// The data directory of the node at the other end; none if these bytes begin no link.
pub(super) fn decode_opening(bytes: &[u8]) -> Option<Uuid> {
    let (version, directory) = bytes.split_first()?;
    (*version == OPENING_VERSION).then(|| Uuid::from_slice(directory).ok()).flatten()
}

/// Sends to one member for ever: dials when there is something to send, and when a link has ended until there is one again, so that it is known whether the
/// member is gone: a process that is about to end may reset connections before it refuses them, and one that has come back is gone no longer.
async fn serve(shard: Rc<Shard>, quorum: Weak<Quorum>, to: BrokerId, queue: Rc<Queue>) {
    let mut backoff = Backoff::default();
    let mut was_linked = false;
    loop {
        while queue.messages.borrow().is_empty() && !was_linked {
            queue.arrived.notified().await;
        }
        let dialed = dial(&shard, to, Purpose::Quorum).await;
        note_presence(&queue, dialed.as_ref().err());
        was_linked |= dialed.is_ok();
        match dialed {
            Ok(link) => {
                let opened_ms = monotonic_ms();
                queue.is_linked.set(true);
                tracing::info!(node = to.0, "linked to a member of the metadata quorum");
                let opening = encode_opening(shard.metadata.directory_id.get());
                if let Some(quorum) = quorum.upgrade()
                    && link.send(vec![opening]).await.is_ok()
                {
                    send_all(&quorum, &link, &queue).await;
                }
                queue.is_linked.set(false);
                tracing::info!(node = to.0, "the link to a member of the metadata quorum has ended");
                if monotonic_ms() - opened_ms >= LASTING_MS {
                    backoff.reset();
                } else {
                    // Taken, and not wanted.
                    runtime::sleep(backoff.failed()).await;
                }
            }
            Err(error) => {
                let pause = backoff.failed();
                if backoff.is_first() {
                    tracing::info!(node = to.0, %error, "a member of the metadata quorum cannot be reached; trying again");
                }
                runtime::sleep(pause).await;
            }
        }
        let Some(quorum) = quorum.upgrade() else { return };
        let lost = queue.messages.take();
        lost.iter().filter(|message| message.is_snapshot()).for_each(|_| quorum.snapshot_sent(to, false));
        quorum.disconnected(to);
        if queue.gone_since_ms.get().is_some() {
            quorum.gone(to);
        }
    }
}

/// A process that has ended has taken its listener with it. Any other failure says nothing: the member may be slow, or cut off.
fn note_presence(queue: &Queue, failure: Option<&LinkError>) {
    let is_refused =
        matches!(failure, Some(LinkError::Io(error)) if error.kind() == ErrorKind::ConnectionRefused);
    let since_ms = queue.gone_since_ms.get().unwrap_or_else(monotonic_ms);
    queue.gone_since_ms.set(is_refused.then_some(since_ms));
}

/// Sends until the link ends, on whichever side.
async fn send_all(quorum: &Quorum, link: &Link, queue: &Queue) {
    // The other side sends nothing, so this ends with the link.
    let mut ended = std::pin::pin!(link.recv());
    loop {
        let message = queue.messages.borrow_mut().pop_front();
        let Some(message) = message else {
            match select(std::pin::pin!(queue.arrived.notified()), ended.as_mut()).await {
                Either::Left(_) => continue,
                Either::Right(_) => return,
            }
        };
        let is_snapshot = message.is_snapshot();
        let sent = link.send(vec![Bytes::from(message.encode())]).await;
        if is_snapshot {
            quorum.snapshot_sent(link.peer(), sent.is_ok());
        }
        if sent.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_begins_with_the_senders_directory_or_is_none() {
        let directory = Uuid::from_u128(77);
        let opening = encode_opening(directory);
        assert_eq!(decode_opening(&opening), Some(directory));
        assert_eq!(decode_opening(&opening[..16]), None);
        assert_eq!(decode_opening(&[]), None);
        assert_eq!(decode_opening(&[&[2], &opening[1..]].concat()), None);
    }
}
