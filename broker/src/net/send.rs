//! Answers on their way to one socket: segments of several answers go out together, in one vectored send where the socket takes it.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures::AsyncWrite;
use glommio::net::TcpStream;

use super::socket;
use super::zero_copy::{ZeroCopyCounters, ZeroCopySends};

/// The write that waits on a full socket hands over at most so much by copying.
const WAITING_WRITE_BYTES: usize = 4096;

/// Room for so many segments is kept by a connection that has nothing to send.
const KEPT_SEGMENTS: usize = 4;

/// Segments to be sent, in order.
#[derive(Debug, Default)]
pub struct Outgoing {
    segments: VecDeque<Bytes>,
    bytes: usize,
}

impl Outgoing {
    /// Appends an answer.
    pub fn push(&mut self, segments: impl IntoIterator<Item = Bytes>) {
        let segments = segments.into_iter();
        self.segments.reserve(segments.size_hint().0);
        for segment in segments {
            if !segment.is_empty() {
                self.bytes += segment.len();
                self.segments.push_back(segment);
            }
        }
    }

    /// Bytes that are not yet handed to the kernel.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Hands over as much as the socket takes, if it is copied at most `limit` bytes; `Ready` when at least one byte went, `Pending` (and a wake later) when the socket is full.
    pub fn poll_send(
        &mut self,
        stream: &mut TcpStream,
        limit: usize,
        zero_copy: &mut ZeroCopySends,
        counters: &ZeroCopyCounters,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if !zero_copy.suits(stream, self.segments.len(), self.bytes) {
            return self.poll_send_copied(stream, limit, cx);
        }
        let sent = zero_copy.send(stream, self.segments.iter(), limit, counters)?;
        self.poll_sent(sent, stream, cx)
    }

    /// As [`Outgoing::poll_send`]; the kernel copies.
    pub fn poll_send_copied(
        &mut self,
        stream: &mut TcpStream,
        limit: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.segments.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let sent = socket::send(stream, self.segments.iter(), limit)?;
        self.poll_sent(sent, stream, cx)
    }

    fn poll_sent(
        &mut self,
        sent: Option<usize>,
        stream: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let sent = match (sent, self.segments.front()) {
            (Some(sent), _) => sent,
            // glommio's own write waits for the socket without spinning. It may also succeed at once.
            (None, Some(first)) => {
                let piece = &first[..first.len().min(WAITING_WRITE_BYTES)];
                ready!(Pin::new(stream).poll_write(cx, piece))?
            }
            (None, None) => 0,
        };
        self.advance(sent);
        Poll::Ready(Ok(sent))
    }

    fn advance(&mut self, mut sent: usize) {
        self.bytes -= sent;
        while sent > 0 {
            let first = self.segments.front_mut().expect("no more was sent than there is");
            let part = sent.min(first.len());
            first.advance(part);
            sent -= part;
            if first.is_empty() {
                self.segments.pop_front();
            }
        }
        if self.segments.is_empty() && self.segments.capacity() > KEPT_SEGMENTS {
            self.segments = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_send_leaves_exactly_the_rest() {
        let mut outgoing = Outgoing::default();
        outgoing.push(vec![Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"defg")]);
        outgoing.advance(5);
        assert_eq!(outgoing.bytes(), 2);
        assert_eq!(outgoing.segments, [Bytes::from_static(b"fg")]);
        outgoing.advance(2);
        assert_eq!(outgoing.bytes(), 0);
    }
}
