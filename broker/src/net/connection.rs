//! The task of one connection: requests are begun in the order of receipt and answered in the same order.
//!
//! Each request is polled once as soon as it is there, so whatever must happen in order (an append) happens in its first poll; then it queues
//! up. Only the front of the queue is awaited; ready answers leave together. When too much is in progress, too much waits for the
//! client, or the memory budget is short, the socket is not read. A request whose client goes away is dropped where it waits: what must be
//! finished regardless belongs into a task of its own.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::Bytes;
use futures::AsyncRead;
use futures::future::{BoxFuture, LocalBoxFuture};
use glommio::net::TcpStream;
use protocol::ApiKey;
use protocol::wire::Few;

use super::affinity::{Affinity, Judgement};
use super::frames::{FrameReader, Garbage, Input, LENGTH_BYTES, Step};
use super::lingering::linger;
use super::moving::MovedConnection;
use super::receive_buffers::{RECEIVE_BUFFER_BYTES, ReceiveBuffer};
use super::send::Outgoing;
use super::socket;
use super::table::Net;
use super::zero_copy::ZeroCopySends;
use crate::budget::{Charge, Permit};
use crate::placement::ShardId;
use crate::runtime::{CoalescingWaker, RingTurn, guard::InFlight};

/// After a frame of at least this size, the next receive into the shared buffer is short, so that little of a large frame is copied.
const LARGE_FRAME_BYTES: usize = 32 * 1024;
const SHORT_RECEIVE_BYTES: usize = 4096;
/// What a request in progress costs beyond its bytes: its handler's future, with the answer that it prepares.
pub(super) const REQUEST_BYTES: usize = 2048;
/// Ready answers are gathered into one send up to this size.
const GATHER_BYTES: usize = 256 * 1024;
/// After so many rounds of receiving and sending, other tasks get their turn.
const ROUNDS_MAX: usize = 16;
/// After so many bytes received or sent, too, if the shard owes others anything. A socket may have room for megabytes; to copy so much takes 0.1 ms.
const TURN_BYTES: usize = 256 * 1024;

/// What became of a request.
#[derive(Debug)]
pub enum DispatchOutcome {
    /// The answer with its length in front, to be sent in the order of requests.
    Respond(Few<Bytes>),
    /// As [`DispatchOutcome::Respond`], and the connection is closed when it is sent; the text goes to the log.
    RespondAndClose(Few<Bytes>, String),
    /// No answer is sent (produce with acks=0).
    NoResponse,
    /// The connection is closed once earlier answers are sent; the text goes to the log.
    Close(String),
}

/// Why a connection is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// The client has closed.
    EndOfStream,
    /// The socket failed.
    Failed(std::io::ErrorKind),
    /// What came in is no request.
    Garbage(Garbage),
    /// A handler asked for it.
    Refused(String),
    /// Idle for longer than `connections.max.idle.ms`.
    Idle,
    /// Stuck inside a request, or not taking answers.
    Stalled,
    /// The broker stops; requests in progress are finished first.
    Stopping,
    /// The broker stops and has waited long enough.
    Abandoned,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::EndOfStream => f.write_str("closed by the client"),
            CloseReason::Failed(kind) => write!(f, "the socket failed: {kind}"),
            CloseReason::Garbage(garbage) => garbage.fmt(f),
            CloseReason::Refused(why) => f.write_str(why),
            CloseReason::Idle => f.write_str("idle for longer than connections.max.idle.ms"),
            CloseReason::Stalled => {
                f.write_str("no progress inside a request or an answer for connection_stall_timeout_ms")
            }
            CloseReason::Stopping => f.write_str("the broker stops"),
            CloseReason::Abandoned => f.write_str("the broker stops and did not wait any longer"),
        }
    }
}

/// What a client says about itself in ApiVersions (KIP-511).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSoftware {
    /// Such as `apache-kafka-java`.
    pub name: String,
    /// Such as `4.1.0`.
    pub version: String,
}

/// What the rest of the broker may know of a connection.
#[derive(Debug)]
pub struct Connection {
    /// Unique on this shard.
    pub id: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// Set by ApiVersions.
    pub software: OnceCell<ClientSoftware>,
    /// The fetch session that was last told to the client; 0: none.
    pub fetch_session: Cell<i32>,
    pub(super) affinity: RefCell<Affinity>,
    pub(super) progress_ms: Cell<u64>,
    pub(super) is_waiting_for_client: Cell<bool>,
    pub(super) in_flight: Cell<usize>,
    close: RefCell<Option<CloseReason>>,
    task: Arc<CoalescingWaker>,
}

impl Connection {
    /// A connection that has just come to this shard, and the waker for its requests.
    fn new(net: &Net, local: SocketAddr, peer: SocketAddr) -> (Rc<Connection>, Waker) {
        let (task, request_waker) = CoalescingWaker::new();
        let connection = Connection {
            id: net.next_connection_id(),
            peer,
            local,
            software: OnceCell::new(),
            fetch_session: Cell::new(0),
            affinity: RefCell::default(),
            progress_ms: Cell::new(net.now_ms()),
            is_waiting_for_client: Cell::new(false),
            in_flight: Cell::new(0),
            close: RefCell::new(None),
            task,
        };
        (Rc::new(connection), request_waker)
    }

    /// Notes that a request needs `shard`, of `shards`: a connection that mostly needs another shard than its own is moved there.
    pub fn note_call(&self, shard: ShardId, shards: usize) {
        if shards > 1 {
            self.affinity.borrow_mut().note(shard, shards);
        }
    }

    /// Asks the connection's task to close.
    pub(super) fn request_close(&self, reason: CloseReason) {
        self.close.replace(Some(reason));
        self.task.wake_task();
    }
}

/// One request in progress.
struct Request {
    state: RequestState,
    received: Instant,
    api_key: i16,
    _in_flight: InFlight,
}

enum RequestState {
    Running(LocalBoxFuture<'static, DispatchOutcome>),
    Done(DispatchOutcome),
}

/// The state of a connection's task.
struct Driver {
    net: Rc<Net>,
    connection: Rc<Connection>,
    stream: TcpStream,
    /// Given to requests instead of the task's own waker; see [`CoalescingWaker`].
    request_waker: Waker,
    reader: FrameReader,
    awaited_budget: Option<BoxFuture<'static, Permit>>,
    /// Whether a client in the middle of a request was left alone when this was last polled.
    was_held_back: bool,
    requests: VecDeque<Request>,
    requests_charge: Charge,
    /// Bytes of the answers in `requests` that are done.
    done_bytes: usize,
    outgoing: Outgoing,
    zero_copy: ZeroCopySends,
    /// For what is outgoing, and what the kernel still reads from.
    outgoing_charge: Charge,
    last_frame_was_large: bool,
    /// Lets the shard look at its ring while this connection always has more.
    turn: RingTurn,
    /// Bytes received and sent since then.
    bytes_since_turn: usize,
    /// Where the connection is to go as soon as nothing is in progress.
    moving_to: Option<ShardId>,
    /// Set when no further request is to be read; the connection closes once all answers are sent.
    ending: Option<CloseReason>,
}

/// How a connection's task ends.
enum End {
    Closed(CloseReason),
    /// Nothing is in progress and all answers are with the kernel: another shard goes on.
    Moves(ShardId),
}

/// Serves a new client until one side has had enough. The stream must be bound to this thread's executor.
pub async fn serve(net: Rc<Net>, stream: TcpStream, peer: SocketAddr) {
    let Ok(local) = socket::local_address(&stream) else { return };
    let (connection, waker) = Connection::new(&net, local, peer);
    if !net.admit(&connection) {
        tracing::debug!(%peer, "connection refused: max.connections is reached, or the broker stops");
        return;
    }
    let zero_copy = ZeroCopySends::new(net.limits.zero_copy, local, peer);
    drive(Driver::new(net, connection, waker, stream, zero_copy)).await;
}

/// Goes on with a connection that was served by another shard. Call it on the executor that is to serve it.
pub(super) async fn serve_moved(net: Rc<Net>, moved: MovedConnection) {
    let (mut connection, waker) = Connection::new(&net, moved.local, moved.peer);
    let state = Rc::get_mut(&mut connection).expect("nobody else knows it yet");
    state.software = moved.software;
    state.fetch_session = Cell::new(moved.fetch_session);
    state.affinity = RefCell::new(moved.affinity);
    state.affinity.get_mut().moved(net.now_ms());
    if !net.take_over(&connection) {
        return;
    }
    let mut driver = Driver::new(net, connection, waker, socket::adopt(moved.socket), moved.zero_copy);
    driver.reader = moved.reader;
    driver.last_frame_was_large = moved.last_frame_was_large;
    drive(driver).await;
}

async fn drive(driver: Driver) {
    let mut driver = Box::new(driver);
    let net = driver.net.clone();
    loop {
        match std::future::poll_fn(|cx| driver.poll(cx)).await {
            End::Closed(reason) => {
                let connection = driver.connection.clone();
                driver.close(&reason);
                net.forget(&connection);
                log_close(&net, &connection, &reason);
                return;
            }
            End::Moves(target) => match socket::duplicate(&driver.stream) {
                Ok(socket) => {
                    let connection = driver.connection.clone();
                    let moved = driver.pack(socket);
                    net.hand_over(&connection, target, moved);
                    return;
                }
                // Out of descriptors: it goes on where it is.
                Err(_) => driver.moving_to = None,
            },
        }
    }
}

fn log_close(net: &Net, connection: &Connection, reason: &CloseReason) {
    let peer = connection.peer;
    match reason {
        CloseReason::Garbage(_) => net.counters.closed_for_garbage.increment(),
        CloseReason::Idle => net.counters.closed_idle.increment(),
        CloseReason::Stalled => net.counters.closed_stalled.increment(),
        _ => {}
    }
    match reason {
        CloseReason::Garbage(_) | CloseReason::Refused(_) | CloseReason::Stalled => {
            tracing::warn!(%peer, %reason, "connection closed");
        }
        _ => tracing::debug!(%peer, %reason, "connection closed"),
    }
}

/// What one attempt to receive came to.
enum Received {
    Something,
    NothingNow,
}

impl Driver {
    fn new(
        net: Rc<Net>,
        connection: Rc<Connection>,
        request_waker: Waker,
        stream: TcpStream,
        zero_copy: ZeroCopySends,
    ) -> Self {
        Driver {
            requests_charge: net.budget.charge(),
            outgoing_charge: net.budget.charge(),
            net,
            connection,
            stream,
            request_waker,
            reader: FrameReader::default(),
            awaited_budget: None,
            was_held_back: false,
            requests: VecDeque::new(),
            done_bytes: 0,
            outgoing: Outgoing::default(),
            zero_copy,
            last_frame_was_large: false,
            turn: RingTurn::default(),
            bytes_since_turn: 0,
            moving_to: None,
            ending: None,
        }
    }

    /// Closes the socket, as soon as the kernel does not read from our memory any more.
    fn close(self, reason: &CloseReason) {
        if self.zero_copy.is_idle() {
            return;
        }
        let gives_up =
            matches!(reason, CloseReason::Stalled | CloseReason::Abandoned | CloseReason::Failed(_));
        linger(self.net, self.stream, self.zero_copy, self.outgoing_charge, gives_up);
    }

    /// What goes to another shard. `socket` is another descriptor of the stream.
    fn pack(self, socket: OwnedFd) -> MovedConnection {
        assert!(self.requests.is_empty() && self.outgoing.bytes() == 0 && self.zero_copy.is_idle());
        let connection = &self.connection;
        MovedConnection {
            socket,
            local: connection.local,
            peer: connection.peer,
            software: connection.software.clone(),
            fetch_session: connection.fetch_session.get(),
            affinity: connection.affinity.take(),
            reader: self.reader,
            last_frame_was_large: self.last_frame_was_large,
            zero_copy: self.zero_copy,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.connection.task.register(cx.waker());
        self.net.pulse.turn();
        self.take_close_request();
        self.reap_zero_copy();
        ready!(self.turn.poll(cx));
        for _ in 0..ROUNDS_MAX {
            let sent = match self.poll_answers(cx) {
                Ok(sent) => sent,
                Err(reason) => return Poll::Ready(End::Closed(reason)),
            };
            if self.requests.is_empty()
                && self.outgoing.bytes() == 0
                && let Some(reason) = self.ending.take()
            {
                return Poll::Ready(End::Closed(reason));
            }
            if self.ending == Some(CloseReason::Abandoned) {
                return Poll::Ready(End::Closed(CloseReason::Abandoned));
            }
            if let Some(target) = self.move_now() {
                return Poll::Ready(End::Moves(target));
            }
            let received = match self.poll_requests(cx) {
                Ok(received) => received,
                Err(reason @ (CloseReason::Garbage(_) | CloseReason::Refused(_))) => {
                    // Earlier requests are still answered.
                    self.ending = Some(reason);
                    true
                }
                Err(reason) => return Poll::Ready(End::Closed(reason)),
            };
            if !sent && !received {
                self.note_waiting();
                return Poll::Pending;
            }
            if self.turn_is_due() {
                break;
            }
        }
        self.bytes_since_turn = 0;
        self.turn.begin();
        if self.turn.poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Notes whether it is the client that nothing goes on without.
    fn note_waiting(&mut self) {
        let is_inside = self.reader.is_inside_frame();
        let is_held_back = is_inside && (self.awaited_budget.is_some() || self.must_not_read());
        if std::mem::replace(&mut self.was_held_back, is_held_back) && !is_held_back {
            // The client's time begins when it is read again.
            self.connection.progress_ms.set(self.net.now_ms());
        }
        let owed = self.outgoing.bytes() > 0 || !self.zero_copy.is_idle();
        self.connection.is_waiting_for_client.set(owed || (is_inside && !is_held_back));
    }

    /// Whether the shard has requests of others in progress, or disk operations.
    fn others_wait(&self) -> bool {
        self.net.pulse.in_flight() > self.requests.len() as u64
    }

    fn turn_is_due(&self) -> bool {
        self.bytes_since_turn >= TURN_BYTES && self.others_wait()
    }

    /// Lets go of what the kernel has sent.
    fn reap_zero_copy(&mut self) {
        if !self.zero_copy.is_idle() && self.zero_copy.reap(&self.stream, &self.net.zero_copy_counters) {
            self.note_sent();
        }
    }

    fn note_sent(&mut self) {
        self.outgoing_charge.shrink_to(self.outgoing.bytes() + self.zero_copy.pending_bytes());
        self.connection.progress_ms.set(self.net.now_ms());
    }

    /// The shard to go to, if there is a better one and nothing is in progress now.
    fn move_now(&mut self) -> Option<ShardId> {
        let judgement = self.connection.affinity.borrow_mut().judge(self.net.shard, || self.net.now_ms());
        match judgement {
            Judgement::Open => {}
            Judgement::Stay => self.moving_to = None,
            Judgement::Move(shard) => self.moving_to = Some(shard).filter(|_| self.net.limits.moves),
        }
        let is_quiet = self.requests.is_empty()
            && self.outgoing.bytes() == 0
            && self.zero_copy.is_idle()
            && self.awaited_budget.is_none()
            && self.ending.is_none();
        self.moving_to.filter(|_| is_quiet)
    }

    /// A client that always has requests in flight has no quiet moment by itself: it is made by not reading on. Not behind requests that may wait for long.
    fn makes_room_to_move(&self) -> bool {
        self.moving_to.is_some()
            && !self.requests.is_empty()
            && self.requests.iter().all(|request| request.api_key == ApiKey::Produce as i16)
    }

    fn take_close_request(&mut self) {
        let asked = self.connection.close.take();
        match asked {
            Some(CloseReason::Stopping) => self.ending = self.ending.take().or(Some(CloseReason::Stopping)),
            Some(reason) => {
                // Nothing more is worth waiting for.
                self.requests.clear();
                self.note_requests();
                self.outgoing = Outgoing::default();
                self.ending = Some(reason);
            }
            None => {}
        }
    }

    /// Gathers answers whose turn has come and sends them; says whether anything moved.
    fn poll_answers(&mut self, cx: &mut Context<'_>) -> Result<bool, CloseReason> {
        let mut moved = false;
        loop {
            moved |= self.gather();
            if self.outgoing.bytes() == 0 {
                return Ok(moved);
            }
            self.net.counters.sends.increment();
            // In one send it takes the least time; in several others are seen between them.
            let limit = if self.others_wait() { TURN_BYTES } else { usize::MAX };
            let counters = &self.net.zero_copy_counters;
            match self.outgoing.poll_send(&mut self.stream, limit, &mut self.zero_copy, counters, cx) {
                Poll::Ready(Ok(sent)) => {
                    self.net.counters.sent_bytes.add(sent as u64);
                    self.bytes_since_turn += sent;
                    self.note_sent();
                    moved = true;
                    if self.turn_is_due() {
                        return Ok(moved);
                    }
                }
                Poll::Ready(Err(error)) => return Err(CloseReason::Failed(error.kind())),
                Poll::Pending => return Ok(moved),
            }
        }
    }

    /// Moves ready answers from the front of the queue to the outgoing segments.
    fn gather(&mut self) -> bool {
        let mut moved = false;
        while self.outgoing.bytes() < GATHER_BYTES {
            let Some(request) = self.requests.front_mut() else { break };
            if let RequestState::Running(future) = &mut request.state {
                match future.as_mut().poll(&mut Context::from_waker(&self.request_waker)) {
                    Poll::Ready(outcome) => {
                        self.done_bytes += outcome.bytes();
                        request.state = RequestState::Done(outcome);
                    }
                    Poll::Pending => break,
                }
            }
            let request = self.requests.pop_front().expect("looked at above");
            (self.net.services.record_request)(request.api_key, request.received.elapsed());
            let RequestState::Done(outcome) = request.state else { unreachable!("polled above") };
            self.done_bytes -= outcome.bytes();
            moved = true;
            match outcome {
                DispatchOutcome::Respond(segments) => self.push(segments),
                DispatchOutcome::RespondAndClose(segments, why) => {
                    self.push(segments);
                    self.end(why);
                }
                DispatchOutcome::NoResponse => {}
                DispatchOutcome::Close(why) => self.end(why),
            }
        }
        if moved {
            self.note_requests();
        }
        if self.requests.is_empty() && self.requests.capacity() > 8 {
            self.requests = VecDeque::new();
        }
        moved
    }

    /// Notes how many requests are in progress.
    fn note_requests(&mut self) {
        let requests = self.requests.len();
        self.connection.in_flight.set(requests);
        self.requests_charge.set(requests * REQUEST_BYTES);
    }

    fn push(&mut self, segments: Few<Bytes>) {
        let before = self.outgoing.bytes();
        self.outgoing.push(segments);
        self.outgoing_charge.grow(self.outgoing.bytes() - before);
    }

    /// Closes the connection when all that is outgoing is sent.
    fn end(&mut self, why: String) {
        self.requests.clear();
        self.note_requests();
        self.done_bytes = 0;
        self.ending = Some(CloseReason::Refused(why));
    }

    /// Whether the socket is to be left alone for now. Whatever ends that wakes the task.
    fn must_not_read(&self) -> bool {
        let limits = &self.net.limits;
        self.ending.is_some()
            || self.makes_room_to_move()
            || self.requests.len() >= limits.in_flight_max
            || self.outgoing.bytes() + self.done_bytes > limits.queued_response_bytes
            || (self.net.services.congestion)(&mut Context::from_waker(&self.request_waker))
    }

    /// Receives once and begins the requests that are whole; says whether anything moved.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Result<bool, CloseReason> {
        if let Some(permit) = &mut self.awaited_budget {
            let Poll::Ready(permit) = permit.as_mut().poll(cx) else { return Ok(false) };
            self.awaited_budget = None;
            self.reader.grant(permit);
            if !self.reader.has_carry() {
                self.begin_requests(Input::default())?;
                return Ok(true);
            }
        }
        if self.must_not_read() {
            return Ok(false);
        }
        if self.reader.has_carry() {
            let carry = self.reader.take_carry();
            self.begin_requests(Input::new(&carry))?;
            return Ok(true);
        }
        let received = match self.receive_directly()? {
            Some(Received::Something) => {
                self.begin_requests(Input::default())?;
                return Ok(true);
            }
            Some(Received::NothingNow) => self.poll_shared(cx, true)?,
            None => self.poll_shared(cx, false)?,
        };
        Ok(matches!(received, Received::Something))
    }

    /// Receives the rest of a partly received frame into its own buffer.
    fn receive_directly(&mut self) -> Result<Option<Received>, CloseReason> {
        let Some((buffer, allowed)) = self.reader.direct() else { return Ok(None) };
        self.net.counters.receives.increment();
        match socket::receive_at_end(&self.stream, buffer, allowed) {
            Ok(Some(0)) => Err(CloseReason::EndOfStream),
            Ok(Some(received)) => {
                self.note_received(received);
                Ok(Some(Received::Something))
            }
            Ok(None) => Ok(Some(Received::NothingNow)),
            Err(error) => Err(CloseReason::Failed(error.kind())),
        }
    }

    /// Receives into a buffer of the shard's, or waits for input there, which holds no buffer while it waits.
    fn poll_shared(&mut self, cx: &mut Context<'_>, inside_frame: bool) -> Result<Received, CloseReason> {
        let mut buffer = self.net.receive_buffers.take();
        let result = self.poll_buffer(cx, inside_frame, &mut buffer);
        self.net.receive_buffers.put_back(buffer);
        result
    }

    fn poll_buffer(
        &mut self,
        cx: &mut Context<'_>,
        inside_frame: bool,
        buffer: &mut ReceiveBuffer,
    ) -> Result<Received, CloseReason> {
        let carry = self.reader.take_carry();
        assert!(carry.len() < LENGTH_BYTES, "anything more is looked at before receiving");
        let memory = buffer.writable().expect("nobody reads from one that is taken");
        memory[..carry.len()].copy_from_slice(&carry);
        let is_short = inside_frame || self.last_frame_was_large;
        let limit = if is_short { SHORT_RECEIVE_BYTES } else { RECEIVE_BUFFER_BYTES };
        self.net.counters.receives.increment();
        match Pin::new(&mut self.stream).poll_read(cx, &mut memory[carry.len()..limit]) {
            Poll::Ready(Ok(0)) => Err(CloseReason::EndOfStream),
            Poll::Ready(Ok(received)) => {
                self.note_received(received);
                let filled = carry.len() + received;
                // What is copied waits if there is no memory.
                let may_stay =
                    self.net.receive_buffers.may_lend() && self.net.budget.has(RECEIVE_BUFFER_BYTES);
                self.begin_requests(match may_stay {
                    true => Input::lent(buffer, filled),
                    false => Input::new(&buffer.as_ref()[..filled]),
                })?;
                Ok(Received::Something)
            }
            Poll::Ready(Err(error)) => Err(CloseReason::Failed(error.kind())),
            Poll::Pending => {
                self.reader.keep(&mut Input::new(&carry));
                Ok(Received::NothingNow)
            }
        }
    }

    fn note_received(&mut self, bytes: usize) {
        self.net.counters.received_bytes.add(bytes as u64);
        self.bytes_since_turn += bytes;
        self.connection.progress_ms.set(self.net.now_ms());
    }

    /// Begins every request that is whole in `input` as long as that is allowed, and keeps the rest.
    fn begin_requests(&mut self, mut input: Input<'_>) -> Result<(), CloseReason> {
        let begun = self.begin_whole_requests(&mut input);
        if begun.is_ok() && !input.is_empty() {
            self.reader.keep(&mut input);
        }
        self.net.counters.copied_bytes.add(self.reader.take_copied_bytes());
        begun
    }

    fn begin_whole_requests(&mut self, input: &mut Input<'_>) -> Result<(), CloseReason> {
        loop {
            let step = self.reader.step(input, self.net.limits.frame_bytes_max, &self.net.budget);
            match step.map_err(CloseReason::Garbage)? {
                Step::Frame(frame) => self.begin(frame),
                Step::NeedInput => return Ok(()),
                Step::NeedBudget(permit) => {
                    self.awaited_budget = Some(permit);
                    return Ok(());
                }
            }
            if (!input.is_empty() || self.reader.has_frame()) && self.must_not_read() {
                return Ok(());
            }
        }
    }

    fn begin(&mut self, frame: Bytes) {
        self.last_frame_was_large = frame.len() >= LARGE_FRAME_BYTES;
        let api_key = i16::from_be_bytes([frame[0], frame[1]]);
        let received = Instant::now();
        let in_flight = self.net.pulse.begin();
        let mut future = (self.net.services.dispatch)(&self.connection, frame);
        let state = match future.as_mut().poll(&mut Context::from_waker(&self.request_waker)) {
            Poll::Ready(outcome) => {
                self.done_bytes += outcome.bytes();
                RequestState::Done(outcome)
            }
            Poll::Pending => RequestState::Running(future),
        };
        self.requests.push_back(Request { state, received, api_key, _in_flight: in_flight });
        self.note_requests();
    }
}

impl DispatchOutcome {
    fn bytes(&self) -> usize {
        match self {
            DispatchOutcome::Respond(segments) | DispatchOutcome::RespondAndClose(segments, _) => {
                segments.iter().map(Bytes::len).sum()
            }
            _ => 0,
        }
    }
}
