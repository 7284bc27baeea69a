//! An open link: frames out, frames in, both at the same time.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use coord::types::BrokerId;
use futures::AsyncRead;
use glommio::net::TcpStream;
use tokio::sync::Mutex;

use super::frame::{self, Announced, HEADER_BYTES};
use super::{LinkError, Purpose};
use crate::budget::{Budget, Charge, charged};
use crate::net::send::Outgoing;
use crate::net::socket;

/// Frames up to this size are received into a buffer that they share: a batch of 64 KiB, which is what busy producers send, and its head fit.
const RECEIVE_BYTES: usize = 96 << 10;
/// A frame from this size on that has come alone gets the buffer. Smaller ones are copied out, so that they do not keep it.
const KEEPS_BUFFER_FROM: usize = RECEIVE_BYTES / 3;
/// A larger frame's buffer begins with this and doubles. Replication's frames take no further partition from 1 MiB on.
const FIRST_STEP_BYTES: usize = 1 << 20;

/// A link to another node that has proved itself.
///
/// Any number of tasks may send; one at a time may receive. Futures of both may be dropped: what has begun goes on with the next call.
pub struct Link {
    /// Who is at the other end.
    peer: BrokerId,
    purpose: Purpose,
    payload_bytes_max: usize,
    stream: RefCell<TcpStream>,
    is_closed: Cell<bool>,
    /// Held by whoever hands bytes to the socket.
    sending: Mutex<()>,
    outgoing: RefCell<Outgoing>,
    /// Bytes that were ever queued.
    queued: Cell<u64>,
    incoming: RefCell<Incoming>,
    budget: Budget,
}

/// What has been received and not been handed out.
#[derive(Default)]
struct Incoming {
    /// Bytes from the start of a header on.
    received: Vec<u8>,
    large: Option<Large>,
}

/// A frame with a buffer of its own.
struct Large {
    announced: Announced,
    payload: Vec<u8>,
    /// The peer decides how much it is, so it counts as memory in use. It is noted and not waited for: requests hold their memory until followers have
    /// answered, and the answers come this way.
    charge: Charge,
}

impl Link {
    pub(super) fn new(
        stream: TcpStream,
        peer: BrokerId,
        purpose: Purpose,
        payload_bytes_max: usize,
        budget: Budget,
    ) -> Link {
        Link {
            peer,
            purpose,
            payload_bytes_max,
            stream: RefCell::new(stream),
            is_closed: Cell::new(false),
            sending: Mutex::new(()),
            outgoing: RefCell::default(),
            queued: Cell::new(0),
            incoming: RefCell::default(),
            budget,
        }
    }

    /// The node at the other end.
    pub fn peer(&self) -> BrokerId {
        self.peer
    }

    /// What the link is for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Bytes that were given to [`Link::send`] and not to the kernel yet.
    pub fn queued_bytes(&self) -> u64 {
        self.outgoing.borrow().bytes() as u64
    }

    /// Ends the link: whatever waits on it fails, on both sides.
    pub fn close(&self) {
        if !self.is_closed.replace(true) {
            socket::end_connection(&*self.stream.borrow());
        }
    }

    /// Whether it is over on this side.
    pub fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    /// Sends one frame that consists of these segments, without copying them. Frames leave in the order in which this was first polled; it returns when the
    /// kernel has taken the frame, so who awaits it has never more than one frame queued.
    pub async fn send(&self, payload: Vec<Bytes>) -> Result<(), LinkError> {
        let length: usize = payload.iter().map(Bytes::len).sum();
        if length > self.payload_bytes_max {
            let text =
                format!("a frame of {length} bytes cannot be sent; allowed are {}", self.payload_bytes_max);
            return Err(LinkError::Garbage(text));
        }
        let end = self.queue(payload);
        let _turn = self.sending.lock().await;
        while self.queued.get() - self.queued_bytes() < end {
            if self.is_closed.get() {
                return Err(LinkError::Closed);
            }
            if let Err(error) = poll_fn(|cx| self.poll_send(cx)).await {
                self.close();
                return Err(error.into());
            }
        }
        Ok(())
    }

    fn queue(&self, payload: Vec<Bytes>) -> u64 {
        let header = Bytes::copy_from_slice(&frame::header(&payload));
        let length = header.len() + payload.iter().map(Bytes::len).sum::<usize>();
        self.outgoing.borrow_mut().push(std::iter::once(header).chain(payload));
        self.queued.set(self.queued.get() + length as u64);
        self.queued.get()
    }

    fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.outgoing.borrow_mut().poll_send_copied(&mut self.stream.borrow_mut(), usize::MAX, cx)
    }

    /// The payload of the next frame. After an error the link is closed.
    pub async fn recv(&self) -> Result<Bytes, LinkError> {
        let received = self.receive().await;
        if received.is_err() {
            self.close();
        }
        received
    }

    async fn receive(&self) -> Result<Bytes, LinkError> {
        loop {
            if let Some(payload) = self.incoming.borrow_mut().take(self.payload_bytes_max, &self.budget)? {
                return Ok(payload);
            }
            if self.is_closed.get() {
                return Err(LinkError::Closed);
            }
            if poll_fn(|cx| self.poll_receive(cx)).await? == 0 {
                return Err(LinkError::Closed);
            }
        }
    }

    fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut incoming = self.incoming.borrow_mut();
        let mut stream = self.stream.borrow_mut();
        let (buffer, wanted) = incoming.room();
        if let Some(received) = socket::receive_at_end(&*stream, buffer, wanted)? {
            incoming.note_memory();
            return Poll::Ready(Ok(received));
        }
        let mut few = [0; 1024];
        let few = &mut few[..wanted.min(1024)];
        let received = ready!(Pin::new(&mut *stream).poll_read(cx, few))?;
        buffer.extend_from_slice(&few[..received]);
        incoming.note_memory();
        Poll::Ready(Ok(received))
    }
}

impl Incoming {
    /// The next whole payload, if it is there.
    fn take(&mut self, limit: usize, budget: &Budget) -> Result<Option<Bytes>, LinkError> {
        if self.large.is_none() {
            let Some(header) = self.received.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
            let announced = Announced::read(header, limit)?;
            let whole = HEADER_BYTES + announced.length;
            if let Some(payload) = self.received.get(HEADER_BYTES..whole) {
                announced.check(payload)?;
                if whole == self.received.len() && whole >= KEEPS_BUFFER_FROM {
                    let frame = Bytes::from(std::mem::take(&mut self.received));
                    return Ok(Some(frame.slice(HEADER_BYTES..)));
                }
                let payload = Bytes::copy_from_slice(payload);
                self.received.drain(..whole);
                return Ok(Some(payload));
            }
            if whole <= RECEIVE_BYTES {
                return Ok(None);
            }
            // Most are whole with the first step.
            let mut payload = Vec::with_capacity(announced.length.min(FIRST_STEP_BYTES));
            payload.extend_from_slice(&self.received[HEADER_BYTES..]);
            self.received.clear();
            self.large = Some(Large { announced, payload, charge: budget.charge() });
        }
        let is_whole = |large: &mut Large| large.payload.len() == large.announced.length;
        let Some(Large { announced, payload, charge }) = self.large.take_if(is_whole) else {
            return Ok(None);
        };
        announced.check(&payload)?;
        Ok(Some(charged(payload, charge)))
    }

    /// Where the next bytes go, with spare capacity, and how many they may be.
    fn room(&mut self) -> (&mut Vec<u8>, usize) {
        let Some(Large { announced, payload, .. }) = &mut self.large else {
            let wanted = RECEIVE_BYTES - self.received.len();
            self.received.reserve_exact(wanted);
            return (&mut self.received, wanted);
        };
        let missing = announced.length - payload.len();
        if payload.capacity() == payload.len() {
            payload.reserve_exact(missing.min(payload.len()));
        }
        let room = payload.capacity() - payload.len();
        (payload, room.min(missing))
    }

    fn note_memory(&mut self) {
        if let Some(Large { payload, charge, .. }) = &mut self.large {
            charge.grow_to(payload.capacity());
        }
    }
}

/// So long the other machine may leave what was sent unacknowledged.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// What every link's socket gets: no waiting for more to send, and an end when nothing that was sent is acknowledged any more.
pub(super) fn set_up(stream: &TcpStream) -> Result<(), LinkError> {
    socket::set_up(stream)?;
    socket::give_up_after(stream, UNACKNOWLEDGED)?;
    Ok(())
}
