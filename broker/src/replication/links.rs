//! Both ends of replication's links.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coord::types::BrokerId;
use futures::future::{join_all, select};
use storage::WakeSignal;

use super::host::Route;
use super::message::{self, PartitionReply, Replies};
use super::outbox::IN_FLIGHT_BYTES_MAX;
use super::{Outbox, replicas, storing};
use crate::cluster::{self, Backoff, Link, LinkError, Purpose};
use crate::partitions::by_owner;
use crate::runtime;
use crate::shard::Shard;

/// A link that lasted so long worked; what has ended it is another matter than what ended the one before.
const LASTING: Duration = Duration::from_secs(5);

/// So many bytes that are stored a leader hears of by themselves; fewer go along with what is told of the next commit. A small part of what may be under way.
const STORED_BYTES_ALONE: u64 = IN_FLIGHT_BYTES_MAX as u64 / 16;

/// Of all shards: links of one leader may come to this and that one.
static NEXT_LINK: AtomicU64 = AtomicU64::new(0);

/// A leader's side: brings a follower what its outbox has, over one link after the other, until the shard is closed.
pub(super) async fn serve_follower(shard: Rc<Shard>, follower: BrokerId) {
    let Some(outbox) = shard.replication.replicas.outbox(follower) else { return };
    // A follower that cannot store what it is sent ends the link, and so it does with the next one.
    let mut backoff = Backoff::default();
    while !shard.is_closing.get() {
        let link = cluster::connect(&shard, follower, Purpose::Replication).await;
        let opened = Instant::now();
        replicas::link_opened(&shard, follower);
        let error = first(send(&shard, &outbox, &link), hear(&shard, &outbox, &link)).await;
        link.close();
        if opened.elapsed() >= LASTING {
            backoff.reset();
        }
        let pause = backoff.failed();
        if backoff.is_first() {
            tracing::info!(shard = shard.id.0, follower = follower.0, %error, "the link to a follower has ended");
        } else {
            tracing::debug!(shard = shard.id.0, follower = follower.0, %error, "the link to a follower has ended again");
        }
        runtime::sleep(pause).await;
    }
}

/// How the first of both ends.
async fn first(one: impl Future<Output = LinkError>, other: impl Future<Output = LinkError>) -> LinkError {
    select(pin!(one), pin!(other)).await.factor_first().0
}

async fn send(shard: &Rc<Shard>, outbox: &Outbox, link: &Link) -> LinkError {
    loop {
        let frame = outbox.next_frame(shard).await;
        if let Err(error) = link.send(frame).await {
            return error;
        }
    }
}

async fn hear(shard: &Rc<Shard>, outbox: &Outbox, link: &Link) -> LinkError {
    loop {
        let frame = match link.recv().await {
            Ok(frame) => frame,
            Err(error) => return error,
        };
        match message::decode_replies(frame) {
            Ok(Replies { stored_bytes, replies }) => {
                outbox.stored(stored_bytes);
                replicas::replied(shard, link.peer(), &replies);
            }
            Err(error) => return LinkError::Garbage(error.to_string()),
        }
    }
}

/// A follower's side of one link.
pub(super) struct Inbound {
    link: Rc<Link>,
    replies: RefCell<Vec<PartitionReply>>,
    stored_bytes: Cell<u64>,
    signal: Rc<WakeSignal>,
}

impl Inbound {
    /// Has the leader told, with whatever else there is to tell by then.
    pub fn reply(&self, replies: Vec<PartitionReply>) {
        self.replies.borrow_mut().extend(replies);
        self.wake_for_news();
    }

    fn stored(&self, bytes: u64) {
        self.stored_bytes.set(self.stored_bytes.get() + bytes);
        self.wake_for_news();
    }

    fn has_news(&self) -> bool {
        self.stored_bytes.get() >= STORED_BYTES_ALONE || !self.replies.borrow().is_empty()
    }

    fn wake_for_news(&self) {
        if self.has_news() {
            self.signal.wake();
        }
    }

    /// Ends the link.
    pub fn close(&self) {
        self.link.close();
    }

    async fn answer(&self) -> LinkError {
        loop {
            while !self.has_news() {
                self.signal.wait().await;
            }
            let replies = Replies { stored_bytes: self.stored_bytes.take(), replies: self.replies.take() };
            if let Err(error) = self.link.send(vec![message::encode_replies(&replies)]).await {
                return error;
            }
        }
    }
}

/// Takes a leader's link: what it brings goes to the shards that own the partitions.
pub(super) async fn take_in(shard: Rc<Shard>, link: Rc<Link>) {
    let number = NEXT_LINK.fetch_add(1, Ordering::Relaxed);
    let inbound = Rc::new(Inbound {
        link: Rc::clone(&link),
        replies: RefCell::default(),
        stored_bytes: Cell::new(0),
        signal: WakeSignal::new(),
    });
    shard.replication.inbound.borrow_mut().insert(number, Rc::clone(&inbound));
    let route = Route { leader: link.peer(), home: shard.id.0, link: number };
    let error = first(inbound.answer(), listen(&shard, &inbound, route)).await;
    link.close();
    shard.replication.inbound.borrow_mut().remove(&number);
    tracing::info!(shard = shard.id.0, leader = route.leader.0, %error, "the link of a leader has ended");
}

async fn listen(shard: &Rc<Shard>, inbound: &Rc<Inbound>, route: Route) -> LinkError {
    loop {
        let frame = match inbound.link.recv().await {
            Ok(frame) => frame,
            Err(error) => return error,
        };
        let bytes = frame.len() as u64;
        let appends = match message::decode_appends(frame) {
            Ok(appends) => appends,
            Err(error) => return LinkError::Garbage(error.to_string()),
        };
        let with_owners = appends
            .into_iter()
            .map(|append| (shard.owner_of(append.id.topic_id, append.id.partition.0), append));
        // On their way, in order, when this returns; the next frame does not wait for the disk.
        let calls: Vec<_> = by_owner(with_owners)
            .into_iter()
            .map(|(owner, appends)| {
                shard.mesh.call(owner, move |shard: &Rc<Shard>| storing::receive(shard, route, appends))
            })
            .collect();
        let inbound = Rc::clone(inbound);
        runtime::spawn(async move {
            join_all(calls).await;
            inbound.stored(bytes);
        });
    }
}
