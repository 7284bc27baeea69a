//! System calls on connected sockets that glommio does not offer. None of them blocks.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};

use bytes::Bytes;
use socket2::SockRef;

/// Buffers of one `sendmsg`; Linux takes at most 1,024.
const SEGMENTS_MAX: usize = 256;

fn borrow(socket: &impl AsRawFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor belongs to `socket`, which is borrowed for as long as the result lives.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}

/// Receives at most `limit` bytes at the end of `buffer`, into capacity that it already has. `None`: nothing is there now; `Some(0)`: the peer has closed.
pub fn receive_at_end(
    socket: &impl AsRawFd,
    buffer: &mut Vec<u8>,
    limit: usize,
) -> io::Result<Option<usize>> {
    let spare = buffer.spare_capacity_mut();
    let limit = limit.min(spare.len());
    assert!(limit > 0, "a receive into no space would look like the end of the stream");
    let received =
        would_block(SockRef::from(&borrow(socket)).recv_with_flags(&mut spare[..limit], libc::MSG_DONTWAIT))?;
    if let Some(received) = received {
        let length = buffer.len() + received;
        // SAFETY: the kernel has filled `received` bytes of the spare capacity.
        unsafe { buffer.set_len(length) };
    }
    Ok(received)
}

/// Sends the segments as far as the socket takes them. `None`: it takes nothing now.
pub fn send<'a>(
    socket: &impl AsRawFd,
    segments: impl Iterator<Item = &'a Bytes>,
) -> io::Result<Option<usize>> {
    let mut slices = [IoSlice::new(&[]); SEGMENTS_MAX];
    let mut count = 0;
    for (segment, slice) in segments.zip(slices.iter_mut()) {
        *slice = IoSlice::new(segment);
        count += 1;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    would_block(SockRef::from(&borrow(socket)).send_vectored_with_flags(&slices[..count], flags))
}

/// Makes a listening socket refuse new connections and its accept return.
pub fn stop_listening(listener: &impl AsRawFd) {
    let _ = SockRef::from(&borrow(listener)).shutdown(std::net::Shutdown::Read);
}

/// What every client connection gets: no delay that waits for more to send, and probes that find out when the client's machine is gone.
pub fn set_up(socket: &impl AsRawFd) -> io::Result<()> {
    let borrowed = borrow(socket);
    let socket = SockRef::from(&borrowed);
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)
}

/// The own address of a connected socket.
pub fn local_address(socket: &impl AsRawFd) -> io::Result<std::net::SocketAddr> {
    let address = SockRef::from(&borrow(socket)).local_addr()?;
    address.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
}

fn would_block(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
