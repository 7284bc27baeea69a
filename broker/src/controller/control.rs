//! What nodes ask of the active controller: Kafka's requests, over links between the nodes, or here if this node is it.
//!
//! ```text
//! request := version u8 (= 1) | correlation u64 | Kafka's request without its length
//! answer  := correlation u64 | status u8 | number u64 | Kafka's response with its length
//! ```
//! Integers are big-endian. Status 0: answered; the number is the index of the entry that this node's shards have to have before the asker goes on. Status 1: the
//! node is not the active controller; the number is who is, as far as it knows, plus one. Status 2: the request is none that is answered here.
//!
//! [`ask`] finds the active controller, asks again when that changes, and answers when this node's shards know what the answer is about: whoever has created
//! a topic through a broker finds it there. If a link breaks under way, or another node leads the quorum by then, the request is repeated, so it may be carried out twice.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use coord::types::BrokerId;
use futures::future::{Either, select};
use protocol::Request;
use protocol::frame::{decode_response, encode_request};
use tokio::sync::{Mutex, oneshot};

use super::{CONTROLLER_SHARD, ControllerError, registration};
use crate::cluster::{Link, LinkError, Purpose, dial};
use crate::net::frames::LENGTH_BYTES;
use crate::shard::Shard;
use crate::{api, runtime};

const VERSION: u8 = 1;
const REQUEST_HEAD_BYTES: usize = 9;
const ANSWER_HEAD_BYTES: usize = 17;

const ANSWERED: u8 = 0;
const NOT_ACTIVE: u8 = 1;
const REFUSED: u8 = 2;

/// How long somebody who asks looks for the active controller.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long one node may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks for the active controller, unless one turns up.
const PAUSE: Duration = Duration::from_millis(50);

/// What the active controller has answered.
#[derive(Debug)]
pub struct Answered {
    /// Kafka's response, with its length.
    pub response: Bytes,
    /// The entry of the log that the asker's shards should know before it goes on.
    pub index: u64,
}

/// What one node makes of a request.
#[derive(Debug)]
enum Attempt {
    Answered(Answered),
    /// It knows better, perhaps.
    NotActive(Option<BrokerId>),
    Refused,
}

/// Answers a request if this node is the active controller. Runs on shard 0.
async fn answer(shard: &Rc<Shard>, asker: BrokerId, frame: Bytes) -> Attempt {
    let leader = leader(shard);
    let not_active = || Attempt::NotActive(Some(leader).filter(|leader| leader.is_some()));
    let Some(controller) = shard.metadata.controller.get() else { return not_active() };
    let Some(term) = controller.term() else { return not_active() };
    let answered = match registration::answer(shard, asker, &frame).await {
        Some(Err(ControllerError::NotActive)) => return not_active(),
        Some(Err(error)) => {
            tracing::warn!(node = asker.0, %error, "a request of a node was refused");
            return Attempt::Refused;
        }
        Some(Ok(answered)) => answered,
        None => match api::answer_for(shard, asker, frame).await {
            Some(segments) => {
                let index = shard.metadata.quorum().map_or(0, |quorum| quorum.applied().index);
                Answered { response: Bytes::from(segments.concat()), index }
            }
            None => return Attempt::Refused,
        },
    };
    // What it says may be about decisions that were never committed.
    if controller.term() == Some(term) { Attempt::Answered(answered) } else { not_active() }
}

// ---- the answering side

/// Answers the requests that come over links of this shard.
pub fn serve(shard: &Rc<Shard>) {
    let shard_of_links = Rc::downgrade(shard);
    shard.cluster.serve(Purpose::Control, move |link| {
        if let Some(shard) = shard_of_links.upgrade() {
            runtime::spawn(serve_link(shard, link));
        }
    });
}

async fn serve_link(shard: Rc<Shard>, link: Rc<Link>) {
    let asker = link.peer();
    while let Ok(mut frame) = link.recv().await {
        if frame.len() < REQUEST_HEAD_BYTES || frame.get_u8() != VERSION {
            tracing::warn!(node = asker.0, "a request of a node cannot be read");
            link.close();
            return;
        }
        let correlation = frame.get_u64();
        let attempt = shard.mesh.call(CONTROLLER_SHARD, move |controller: &Rc<Shard>| {
            let controller = Rc::clone(controller);
            async move { answer(&controller, asker, frame).await }
        });
        // Requests are carried out at the same time; what a decision depends on is in the order of their arrival.
        let link = Rc::clone(&link);
        runtime::spawn(async move {
            let (status, number, response) = match attempt.await {
                Attempt::Answered(Answered { response, index }) => (ANSWERED, index, response),
                Attempt::NotActive(leader) => {
                    (NOT_ACTIVE, leader.map_or(0, |leader| leader.0 as u64 + 1), Bytes::new())
                }
                Attempt::Refused => (REFUSED, 0, Bytes::new()),
            };
            let mut head = BytesMut::with_capacity(ANSWER_HEAD_BYTES);
            head.put_u64(correlation);
            head.put_u8(status);
            head.put_u64(number);
            // Who asked finds out by the end of the link if this fails.
            let _ = link.send(vec![head.freeze(), response]).await;
        });
    }
}

// ---- the asking side

/// Links to nodes that are asked; lives on shard 0.
#[derive(Default)]
pub struct ControlLinks {
    links: RefCell<HashMap<BrokerId, Rc<ControlLink>>>,
    /// Held by whoever opens one.
    dialing: Mutex<()>,
    /// Which voter is asked next by who knows nobody.
    next_voter: Cell<usize>,
}

struct ControlLink {
    link: Rc<Link>,
    waiting: RefCell<HashMap<u64, oneshot::Sender<Attempt>>>,
    next: Cell<u64>,
}

impl ControlLinks {
    async fn to(&self, shard: &Rc<Shard>, node: BrokerId) -> Result<Rc<ControlLink>, LinkError> {
        let _only_one = self.dialing.lock().await;
        if let Some(open) = self.links.borrow().get(&node).filter(|open| !open.link.is_closed()) {
            return Ok(Rc::clone(open));
        }
        let link = dial(shard, node, Purpose::Control).await?;
        let open = Rc::new(ControlLink { link, waiting: RefCell::default(), next: Cell::new(0) });
        self.links.borrow_mut().insert(node, Rc::clone(&open));
        runtime::spawn(take_answers(Rc::clone(&open)));
        Ok(open)
    }
}

async fn take_answers(open: Rc<ControlLink>) {
    while let Ok(mut frame) = open.link.recv().await {
        if frame.len() < ANSWER_HEAD_BYTES {
            break;
        }
        let (correlation, status, number) = (frame.get_u64(), frame.get_u8(), frame.get_u64());
        let attempt = match status {
            ANSWERED => Attempt::Answered(Answered { response: frame, index: number }),
            NOT_ACTIVE => Attempt::NotActive(number.checked_sub(1).map(|id| BrokerId(id as i32))),
            _ => Attempt::Refused,
        };
        if let Some(waiting) = open.waiting.borrow_mut().remove(&correlation) {
            // Whoever asked may have given up.
            let _ = waiting.send(attempt);
        }
    }
    open.link.close();
    // Whoever waits hears that nothing comes.
    open.waiting.take();
}

impl ControlLink {
    async fn ask(&self, frame: Bytes) -> Result<Attempt, LinkError> {
        let correlation = self.next.replace(self.next.get() + 1);
        let (answer, answered) = oneshot::channel();
        self.waiting.borrow_mut().insert(correlation, answer);
        let mut head = BytesMut::with_capacity(REQUEST_HEAD_BYTES);
        head.put_u8(VERSION);
        head.put_u64(correlation);
        self.link.send(vec![head.freeze(), frame]).await?;
        match runtime::timeout(ANSWER_TIMEOUT, answered).await {
            Some(Ok(attempt)) => Ok(attempt),
            Some(Err(_)) => Err(LinkError::Closed),
            None => {
                self.link.close();
                Err(LinkError::Silent)
            }
        }
    }
}

/// Asks the active controller, whoever that is or becomes. `frame` is Kafka's request without its length. Runs on shard 0.
async fn ask_here(shard: &Rc<Shard>, frame: Bytes, patience: Duration) -> Result<Answered, ControllerError> {
    let deadline = Instant::now() + patience;
    let me = shard.broker_id();
    let mut hint = None;
    loop {
        let known = Some(leader(shard)).filter(|leader| leader.is_some());
        let hinted = hint.take();
        let node = hinted.or(known).unwrap_or_else(|| some_voter(shard));
        let attempt = if node == me {
            Ok(answer(shard, me, frame.clone()).await)
        } else {
            let asked =
                pin!(async { shard.metadata.control.to(shard, node).await?.ask(frame.clone()).await });
            match select(asked, pin!(replaced(shard, node))).await {
                Either::Left((attempt, _)) => attempt,
                // It may have been cut off, and then its link would be silent for long.
                Either::Right(_) => continue,
            }
        };
        match attempt {
            Ok(Attempt::Answered(answered)) => return Ok(answered),
            Ok(Attempt::Refused) => return Err(ControllerError::Stopped),
            // Two that name each other are not asked in turn without a pause.
            Ok(Attempt::NotActive(better)) => {
                hint = better.filter(|better| *better != node && hinted.is_none())
            }
            Err(error) => tracing::debug!(node = node.0, %error, "the active controller could not be asked"),
        }
        if Instant::now() >= deadline || shard.is_closing.get() {
            return Err(ControllerError::NotActive);
        }
        if hint.is_none() {
            wait_for_news(shard).await;
        }
    }
}

/// Who leads the quorum, as shard 0 knows.
fn leader(shard: &Shard) -> BrokerId {
    shard.metadata.quorum().map_or(BrokerId::NONE, |quorum| quorum.leadership().borrow().leader)
}

/// Returns when another node than this one leads the quorum.
async fn replaced(shard: &Shard, node: BrokerId) {
    let Some(quorum) = shard.metadata.quorum() else { return std::future::pending().await };
    let mut leadership = quorum.leadership();
    let replaced = leadership.wait_for(|now| now.leader.is_some() && now.leader != node).await.is_ok();
    if !replaced {
        std::future::pending().await
    }
}

async fn wait_for_news(shard: &Shard) {
    let Some(quorum) = shard.metadata.quorum() else { return runtime::sleep(PAUSE).await };
    let mut leadership = quorum.leadership();
    let changed = pin!(leadership.changed());
    select(changed, pin!(runtime::sleep(PAUSE))).await;
}

/// Who knows nobody asks the voters in turn.
fn some_voter(shard: &Shard) -> BrokerId {
    let voters = &shard.config().controller_quorum_voters.0;
    let next = &shard.metadata.control.next_voter;
    let at = next.replace(next.get().wrapping_add(1));
    voters.get(at % voters.len().max(1)).map_or(shard.broker_id(), |voter| BrokerId(voter.id))
}

/// Asks the active controller from any shard, and answers when all shards of this node know what the answer is about.
pub fn ask(
    shard: &Rc<Shard>,
    frame: Bytes,
    patience: Duration,
) -> impl Future<Output = Result<Answered, ControllerError>> + use<> {
    shard.mesh.call(CONTROLLER_SHARD, move |shard: &Rc<Shard>| {
        let shard = Rc::clone(shard);
        async move {
            let answered = ask_here(&shard, frame, patience).await?;
            shard.metadata.applied.reach(answered.index).await;
            Ok(answered)
        }
    })
}

/// Asks a request of this node's own, without waiting until the shards know what the answer is about; with the entry that they should know.
pub(super) async fn ask_own<'a, Q, R>(
    shard: &Rc<Shard>,
    request: &Q,
    version: i16,
    patience: Duration,
    read: impl for<'r> FnOnce(Q::Response<'r>) -> R,
) -> Result<(R, u64), ControllerError>
where
    Q: Request<'a>,
{
    let frame = own_request(request, version)?;
    let answered = shard.mesh.call(CONTROLLER_SHARD, move |shard: &Rc<Shard>| {
        let shard = Rc::clone(shard);
        async move { ask_here(&shard, frame, patience).await }
    });
    let Answered { response, index } = answered.await?;
    let body = response.get(LENGTH_BYTES..).unwrap_or_default();
    let (_, message) = decode_response::<Q::Response<'_>>(body, version).map_err(|error| {
        tracing::warn!(%error, "the active controller's answer cannot be read");
        ControllerError::NotActive
    })?;
    Ok((read(message), index))
}

fn own_request<'a, Q: Request<'a>>(request: &Q, version: i16) -> Result<Bytes, ControllerError> {
    let segments = encode_request(0, None, request, version)
        .map_err(|error| ControllerError::Failed(format!("a request could not be encoded: {error}")))?;
    Ok(Bytes::from(segments.concat()).slice(LENGTH_BYTES..))
}
