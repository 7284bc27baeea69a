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
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use futures::AsyncRead;
use futures::future::{BoxFuture, LocalBoxFuture};
use glommio::net::TcpStream;

use super::frames::{FrameReader, Garbage, LENGTH_BYTES, Step};
use super::send::Outgoing;
use super::socket;
use super::table::Net;
use crate::budget::{Charge, Permit};
use crate::runtime::{CoalescingWaker, guard::InFlight};

/// Size of the buffer that a shard's connections receive small requests into.
const SCRATCH_BYTES: usize = 64 * 1024;
/// After a frame of at least this size, the next receive into the shared buffer is short, so that little of a large frame is copied.
const LARGE_FRAME_BYTES: usize = 32 * 1024;
const SHORT_RECEIVE_BYTES: usize = 4096;
/// Ready answers are gathered into one send up to this size.
const GATHER_BYTES: usize = 256 * 1024;
/// After so many rounds of receiving and sending, other tasks get their turn.
const ROUNDS_MAX: usize = 16;

/// What became of a request.
#[derive(Debug)]
pub enum DispatchOutcome {
    /// The answer with its length in front, to be sent in the order of requests.
    Respond(Vec<Bytes>),
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
    pub(super) progress_ms: Cell<u64>,
    pub(super) is_waiting_for_client: Cell<bool>,
    pub(super) in_flight: Cell<usize>,
    close: RefCell<Option<CloseReason>>,
    task: Arc<CoalescingWaker>,
}

impl Connection {
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
    requests: VecDeque<Request>,
    /// Bytes of the answers in `requests` that are done.
    done_bytes: usize,
    outgoing: Outgoing,
    outgoing_charge: Charge,
    last_frame_was_large: bool,
    /// Set when no further request is to be read; the connection closes once all answers are sent.
    ending: Option<CloseReason>,
}

/// Serves the client until one side has had enough. The stream must be bound to this thread's executor.
pub async fn serve(net: Rc<Net>, stream: TcpStream, peer: SocketAddr) {
    let Ok(local) = socket::local_address(&stream) else { return };
    let (task, request_waker) = CoalescingWaker::new();
    let connection = Rc::new(Connection {
        id: net.next_connection_id(),
        peer,
        local,
        software: OnceCell::new(),
        progress_ms: Cell::new(net.now_ms()),
        is_waiting_for_client: Cell::new(false),
        in_flight: Cell::new(0),
        close: RefCell::new(None),
        task,
    });
    if !net.admit(&connection) {
        tracing::debug!(%peer, "connection refused: max.connections is reached, or the broker stops");
        return;
    }
    let mut driver = Box::new(Driver::new(net.clone(), connection.clone(), stream, request_waker));
    let reason = std::future::poll_fn(|cx| driver.poll(cx)).await;
    drop(driver);
    net.forget(&connection);
    log_close(&net, &connection, &reason);
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
    fn new(net: Rc<Net>, connection: Rc<Connection>, stream: TcpStream, request_waker: Waker) -> Self {
        Driver {
            outgoing_charge: net.budget.charge(),
            net,
            connection,
            stream,
            request_waker,
            reader: FrameReader::default(),
            awaited_budget: None,
            requests: VecDeque::new(),
            done_bytes: 0,
            outgoing: Outgoing::default(),
            last_frame_was_large: false,
            ending: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.connection.task.register(cx.waker());
        self.net.pulse.turn();
        self.take_close_request();
        for _ in 0..ROUNDS_MAX {
            let sent = match self.poll_answers(cx) {
                Ok(sent) => sent,
                Err(reason) => return Poll::Ready(reason),
            };
            if self.requests.is_empty()
                && self.outgoing.bytes() == 0
                && let Some(reason) = self.ending.take()
            {
                return Poll::Ready(reason);
            }
            if self.ending == Some(CloseReason::Abandoned) {
                return Poll::Ready(CloseReason::Abandoned);
            }
            let received = match self.poll_requests(cx) {
                Ok(received) => received,
                Err(reason @ (CloseReason::Garbage(_) | CloseReason::Refused(_))) => {
                    // Earlier requests are still answered.
                    self.ending = Some(reason);
                    true
                }
                Err(reason) => return Poll::Ready(reason),
            };
            if !sent && !received {
                self.connection
                    .is_waiting_for_client
                    .set(self.outgoing.bytes() > 0 || self.reader.is_inside_frame());
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn take_close_request(&mut self) {
        let asked = self.connection.close.take();
        match asked {
            Some(CloseReason::Stopping) => self.ending = self.ending.take().or(Some(CloseReason::Stopping)),
            Some(reason) => {
                // Nothing more is worth waiting for.
                self.requests.clear();
                self.connection.in_flight.set(0);
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
            match self.outgoing.poll_send(&mut self.stream, cx) {
                Poll::Ready(Ok(sent)) => {
                    self.net.counters.sent_bytes.add(sent as u64);
                    self.outgoing_charge.shrink_to(self.outgoing.bytes());
                    self.connection.progress_ms.set(self.net.now_ms());
                    moved = true;
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
            self.connection.in_flight.set(self.requests.len());
            (self.net.record_request)(request.api_key, request.received.elapsed());
            let RequestState::Done(outcome) = request.state else { unreachable!("polled above") };
            self.done_bytes -= outcome.bytes();
            moved = true;
            match outcome {
                DispatchOutcome::Respond(segments) => {
                    let before = self.outgoing.bytes();
                    self.outgoing.push(segments);
                    self.outgoing_charge.grow(self.outgoing.bytes() - before);
                }
                DispatchOutcome::NoResponse => {}
                DispatchOutcome::Close(why) => {
                    self.requests.clear();
                    self.connection.in_flight.set(0);
                    self.done_bytes = 0;
                    self.ending = Some(CloseReason::Refused(why));
                }
            }
        }
        if self.requests.is_empty() && self.requests.capacity() > 8 {
            self.requests = VecDeque::new();
        }
        moved
    }

    /// Whether the socket is to be left alone for now. Whatever ends that wakes the task.
    fn must_not_read(&self) -> bool {
        let limits = &self.net.limits;
        self.ending.is_some()
            || self.requests.len() >= limits.in_flight_max
            || self.outgoing.bytes() + self.done_bytes > limits.queued_response_bytes
            || (self.net.congestion)(&mut Context::from_waker(&self.request_waker))
    }

    /// Receives once and begins the requests that are whole; says whether anything moved.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Result<bool, CloseReason> {
        if let Some(permit) = &mut self.awaited_budget {
            let Poll::Ready(permit) = permit.as_mut().poll(cx) else { return Ok(false) };
            self.awaited_budget = None;
            self.reader.grant(permit);
            if !self.reader.has_carry() {
                self.begin_requests(&mut &[][..])?;
                return Ok(true);
            }
        }
        if self.must_not_read() {
            return Ok(false);
        }
        if self.reader.has_carry() {
            let carry = self.reader.take_carry();
            self.begin_requests(&mut &carry[..])?;
            return Ok(true);
        }
        let received = match self.receive_directly()? {
            Some(Received::Something) => {
                self.begin_requests(&mut &[][..])?;
                return Ok(true);
            }
            Some(Received::NothingNow) => self.poll_scratch(cx, true)?,
            None => self.poll_scratch(cx, false)?,
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

    /// Receives into the shared buffer, or waits for input there, which holds no buffer while it waits.
    fn poll_scratch(&mut self, cx: &mut Context<'_>, inside_frame: bool) -> Result<Received, CloseReason> {
        let mut scratch = self.net.scratch.take();
        if scratch.is_empty() {
            scratch = vec![0; SCRATCH_BYTES];
        }
        let result = self.poll_scratch_buffer(cx, inside_frame, &mut scratch);
        self.net.scratch.set(scratch);
        result
    }

    fn poll_scratch_buffer(
        &mut self,
        cx: &mut Context<'_>,
        inside_frame: bool,
        scratch: &mut [u8],
    ) -> Result<Received, CloseReason> {
        let carry = self.reader.take_carry();
        assert!(carry.len() < LENGTH_BYTES, "anything more is looked at before receiving");
        scratch[..carry.len()].copy_from_slice(&carry);
        let limit =
            if inside_frame || self.last_frame_was_large { SHORT_RECEIVE_BYTES } else { scratch.len() };
        self.net.counters.receives.increment();
        match Pin::new(&mut self.stream).poll_read(cx, &mut scratch[carry.len()..limit]) {
            Poll::Ready(Ok(0)) => Err(CloseReason::EndOfStream),
            Poll::Ready(Ok(received)) => {
                self.note_received(received);
                self.begin_requests(&mut &scratch[..carry.len() + received])?;
                Ok(Received::Something)
            }
            Poll::Ready(Err(error)) => Err(CloseReason::Failed(error.kind())),
            Poll::Pending => {
                self.reader.keep(&carry);
                Ok(Received::NothingNow)
            }
        }
    }

    fn note_received(&self, bytes: usize) {
        self.net.counters.received_bytes.add(bytes as u64);
        self.connection.progress_ms.set(self.net.now_ms());
    }

    /// Begins every request that is whole in `input` as long as that is allowed, and keeps the rest.
    fn begin_requests(&mut self, input: &mut &[u8]) -> Result<(), CloseReason> {
        loop {
            let step = self.reader.step(input, self.net.limits.frame_bytes_max, &self.net.budget);
            match step.map_err(CloseReason::Garbage)? {
                Step::Frame(frame) => self.begin(frame),
                Step::NeedInput => return Ok(()),
                Step::NeedBudget(permit) => {
                    self.awaited_budget = Some(permit);
                    self.keep(input);
                    return Ok(());
                }
            }
            if !input.is_empty() && self.must_not_read() {
                self.keep(input);
                return Ok(());
            }
        }
    }

    fn keep(&mut self, input: &mut &[u8]) {
        if !input.is_empty() {
            self.reader.keep(input);
            *input = &[];
        }
    }

    fn begin(&mut self, frame: Bytes) {
        self.last_frame_was_large = frame.len() >= LARGE_FRAME_BYTES;
        let api_key = i16::from_be_bytes([frame[0], frame[1]]);
        let received = Instant::now();
        let in_flight = self.net.pulse.begin();
        let mut future = (self.net.dispatch)(&self.connection, frame);
        let state = match future.as_mut().poll(&mut Context::from_waker(&self.request_waker)) {
            Poll::Ready(outcome) => {
                self.done_bytes += outcome.bytes();
                RequestState::Done(outcome)
            }
            Poll::Pending => RequestState::Running(future),
        };
        self.requests.push_back(Request { state, received, api_key, _in_flight: in_flight });
        self.connection.in_flight.set(self.requests.len());
    }
}

impl DispatchOutcome {
    fn bytes(&self) -> usize {
        match self {
            DispatchOutcome::Respond(segments) => segments.iter().map(Bytes::len).sum(),
            _ => 0,
        }
    }
}
