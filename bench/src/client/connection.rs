//! One connection to a broker on the glommio executor: whole frames in, whole frames out.
//!
//! Reading and writing may go on at the same time from two futures of one executor.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::ToSocketAddrs;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;

use crate::error::BenchError;
use crate::{executor, sys};

/// The largest answer that we take; a fetch asks for far less.
const MAX_RESPONSE_BYTES: usize = 512 << 20;
/// Size of the receive buffer before a larger answer makes it grow.
const RECEIVE_BYTES: usize = 64 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An open connection.
pub struct Connection {
    /// Where it leads, for messages.
    pub address: String,
    stream: RefCell<TcpStream>,
}

impl Connection {
    /// Connects to `address`, a host name or number with a port.
    pub async fn connect(address: &str) -> Result<Connection, BenchError> {
        let failed = |source| BenchError::Connect { address: address.to_owned(), source };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        // The resolver blocks; nothing else of the run is under way when connections are made.
        for target in address.to_socket_addrs().map_err(failed)? {
            match TcpStream::connect_timeout(target, CONNECT_TIMEOUT).await {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(|error| failed(error.into()))?;
                    return Ok(Connection { address: address.to_owned(), stream: RefCell::new(stream) });
                }
                Err(error) => last = error.into(),
            }
        }
        Err(failed(last))
    }

    /// Says that the connection broke.
    pub fn broken(&self, source: io::Error) -> BenchError {
        BenchError::Connection { address: self.address.clone(), source }
    }

    /// Says that the broker's bytes make no sense.
    pub fn nonsense(&self, reason: impl ToString) -> BenchError {
        BenchError::Protocol { address: self.address.clone(), reason: reason.to_string() }
    }

    /// Waits for an answer of the broker's, but not longer than `limit`: after that the connection counts as broken.
    pub async fn within<T>(
        &self,
        limit: Duration,
        answer: impl Future<Output = Result<T, BenchError>>,
    ) -> Result<T, BenchError> {
        executor::within(limit, answer).await.unwrap_or_else(|| {
            let waited = format!("no answer for {limit:?}");
            Err(self.broken(io::Error::new(io::ErrorKind::TimedOut, waited)))
        })
    }

    /// Writes all of `bytes`.
    pub async fn write_all(&self, bytes: &[u8]) -> Result<(), BenchError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match poll_fn(|cx| self.poll_write(cx, rest)).await {
                Ok(0) => return Err(self.broken(io::ErrorKind::WriteZero.into())),
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(error)),
            }
        }
        Ok(())
    }

    async fn read_some(&self, into: &mut [u8]) -> Result<usize, BenchError> {
        loop {
            match poll_fn(|cx| self.poll_read(cx, into)).await {
                Ok(0) => return Err(self.broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => return Ok(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(error)),
            }
        }
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, bytes)
    }

    fn poll_read(&self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        if executor::spins() {
            return match sys::receive_now(self.stream.borrow().as_raw_fd(), into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                received => Poll::Ready(received),
            };
        }
        Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, into)
    }
}

/// The receiving side of a connection: a buffer from which whole frames are taken.
pub struct FrameReader {
    buffer: Vec<u8>,
    /// The bytes that have been received and not been handed out.
    start: usize,
    end: usize,
}

impl FrameReader {
    /// An empty buffer.
    pub fn new() -> FrameReader {
        FrameReader { buffer: vec![0; RECEIVE_BYTES], start: 0, end: 0 }
    }

    /// Waits for the next whole frame and returns its bytes, without the length prefix. They stay until the next call.
    pub async fn next(&mut self, connection: &Connection) -> Result<&[u8], BenchError> {
        self.fill(connection, 4).await?;
        let prefix = &self.buffer[self.start..self.start + 4];
        let len = i32::from_be_bytes([prefix[0], prefix[1], prefix[2], prefix[3]]);
        let len = usize::try_from(len)
            .ok()
            .filter(|len| *len <= MAX_RESPONSE_BYTES)
            .ok_or_else(|| connection.nonsense(format!("length prefix of {len}")))?;
        self.fill(connection, 4 + len).await?;
        let frame = self.start + 4..self.start + 4 + len;
        self.start = frame.end;
        Ok(&self.buffer[frame])
    }

    /// Receives until `wanted` bytes lie at the start.
    async fn fill(&mut self, connection: &Connection, wanted: usize) -> Result<(), BenchError> {
        while self.end - self.start < wanted {
            if self.start + wanted > self.buffer.len() || self.start == self.end {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            if self.buffer.len() < wanted {
                self.buffer.resize(wanted.next_power_of_two(), 0);
            }
            self.end += connection.read_some(&mut self.buffer[self.end..]).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_broker_that_says_nothing_is_not_waited_for_for_ever() {
        let mute = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = mute.local_addr().expect("bound").to_string();
        for spins in [false, true] {
            let address = address.clone();
            let waiting =
                executor::spawn(executor::choose_cores(None).expect("a core")[0], spins, || async move {
                    let connection = Connection::connect(&address).await?;
                    let mut reader = FrameReader::new();
                    connection
                        .within(Duration::from_millis(50), reader.next(&connection))
                        .await
                        .map(<[u8]>::len)
                });
            let outcome = waiting.expect("an executor").join().expect("no panic");
            let error = outcome.expect_err("no answer").to_string();
            assert!(error.contains("no answer for 50ms"), "{error}");
        }
    }
}
