//! How other shards make this one look into its inbox, without glommio's own wakes from outside.
//!
//! glommio announces a foreign wake through an eventfd whose completion lands in the ring that also says "preempt now". If it lands just before
//! the tasks are run, none is run, the completion counts for nothing, and glommio parks with ready tasks at hand: two shards that call each
//! other come to a standstill within a second. A socket pair is polled through the ordinary ring, where a completion wakes its reader and
//! never preempts. A sender writes to it only when the receiver has said that it is about to wait.

use std::future::poll_fn;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures::AsyncRead;
use glommio::net::UnixStream;

/// The senders' side, and what both sides know.
#[derive(Debug)]
pub struct InboxSignal {
    /// Something has been put in since the receiver last looked.
    waiting: AtomicBool,
    /// The receiver waits, or is about to.
    armed: AtomicBool,
    /// How often a waiting receiver was woken.
    wakes: AtomicU64,
    sender: StdUnixStream,
    /// Until the shard takes it.
    receiver: Mutex<Option<StdUnixStream>>,
}

impl InboxSignal {
    /// Opens the pair.
    pub fn new() -> io::Result<Self> {
        let (sender, receiver) = StdUnixStream::pair()?;
        sender.set_nonblocking(true)?;
        Ok(InboxSignal {
            waiting: AtomicBool::new(false),
            armed: AtomicBool::new(false),
            wakes: AtomicU64::new(0),
            sender,
            receiver: Mutex::new(Some(receiver)),
        })
    }

    /// Says that something has been put into the inbox.
    pub fn raise(&self) {
        self.waiting.store(true, Ordering::SeqCst);
        if self.armed.swap(false, Ordering::SeqCst) {
            self.wakes.fetch_add(1, Ordering::Relaxed);
            self.knock();
        }
    }

    /// How often a message found the receiver waiting: each time costs its sender a system call and the receiver a wake-up.
    pub fn wakes(&self) -> u64 {
        self.wakes.load(Ordering::Relaxed)
    }

    /// Wakes the receiver whether or not it waits; the guard's last resort.
    pub fn knock(&self) {
        // A full buffer means that it has been woken already.
        let _ = io::Write::write(&mut &self.sender, &[1]);
    }

    /// Whether something waits that the receiver has not looked at.
    pub fn is_raised(&self) -> bool {
        self.waiting.load(Ordering::SeqCst)
    }

    /// The receiver's side, once, on the shard's own executor.
    pub fn receiver(&self) -> InboxReceiver {
        let receiver = self.receiver.lock().expect("no panic while locked").take().expect("taken once");
        // SAFETY: the descriptor is a connected stream socket that nobody else owns any more.
        InboxReceiver { stream: unsafe { UnixStream::from_raw_fd(receiver.into_raw_fd()) } }
    }
}

/// Waits for the signal.
#[derive(Debug)]
pub struct InboxReceiver {
    stream: UnixStream,
}

impl InboxReceiver {
    /// Ends once something may have been put into the inbox since the last time.
    pub async fn raised(&mut self, signal: &InboxSignal) {
        poll_fn(|cx| self.poll_raised(signal, cx)).await;
    }

    fn poll_raised(&mut self, signal: &InboxSignal, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if signal.waiting.swap(false, Ordering::SeqCst) {
                signal.armed.store(false, Ordering::SeqCst);
                return Poll::Ready(());
            }
            // First armed, then looked again: a sender either sees the one or is seen by the other.
            signal.armed.store(true, Ordering::SeqCst);
            if signal.waiting.load(Ordering::SeqCst) {
                continue;
            }
            let mut knocks = [0; 64];
            match Pin::new(&mut self.stream).poll_read(cx, &mut knocks) {
                Poll::Ready(Ok(count)) if count > 0 => {}
                // The sender's end lives as long as the signal, so there is no end of the stream.
                Poll::Ready(_) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}
