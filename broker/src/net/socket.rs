//! System calls on connected sockets that glommio does not offer. None of them blocks.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use bytes::Bytes;
use glommio::net::TcpStream;
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

/// Sends the segments as far as the socket takes them, at most `limit` bytes. `None`: it takes nothing now.
pub fn send<'a>(
    socket: &impl AsRawFd,
    segments: impl Iterator<Item = &'a Bytes>,
    limit: usize,
) -> io::Result<Option<usize>> {
    send_with_flags(socket, segments, limit, 0)
}

fn send_with_flags<'a>(
    socket: &impl AsRawFd,
    segments: impl Iterator<Item = &'a Bytes>,
    limit: usize,
    flags: libc::c_int,
) -> io::Result<Option<usize>> {
    let mut slices = [IoSlice::new(&[]); SEGMENTS_MAX];
    let (mut count, mut left) = (0, limit);
    for (segment, slice) in segments.zip(slices.iter_mut()) {
        if left == 0 {
            break;
        }
        *slice = IoSlice::new(&segment[..segment.len().min(left)]);
        left -= slice.len();
        count += 1;
    }
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    would_block(SockRef::from(&borrow(socket)).send_vectored_with_flags(&slices[..count], flags))
}

/// Sends like [`send`], but the kernel reads from the segments later: they have to stay as they are until [`next_completion`] has named this send.
/// The sends of a socket that return `Some` are numbered from 0.
pub fn send_zero_copy<'a>(
    socket: &impl AsRawFd,
    segments: impl Iterator<Item = &'a Bytes>,
) -> io::Result<Option<usize>> {
    send_with_flags(socket, segments, usize::MAX, libc::MSG_ZEROCOPY)
}

/// Asks for permission to use [`send_zero_copy`].
pub fn allow_zero_copy(socket: &impl AsRawFd) -> io::Result<()> {
    let yes: libc::c_int = 1;
    // SAFETY: the option's value is an int, and lives for the duration of the call.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ZEROCOPY,
            (&raw const yes).cast(),
            size_of_val(&yes) as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Zero-copy sends that the kernel has done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// Number of the first one.
    pub first: u32,
    /// Number of the last one, included; numbers wrap.
    pub last: u32,
    /// At least one of them was copied after all.
    pub was_copied: bool,
}

/// Takes the next word about zero-copy sends from the socket's error queue; `None` if there is none now.
pub fn next_completion(socket: &impl AsRawFd) -> io::Result<Option<Completion>> {
    /// Room for the kernel's `sock_extended_err` and the address behind it, aligned as control messages are.
    const CONTROL_WORDS: usize = 32;
    let mut control = [0u64; CONTROL_WORDS];
    loop {
        // SAFETY: zeroed is a valid msghdr without buffers.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        // SAFETY: `message` names `control` with its size, and no other buffer.
        let outcome = unsafe {
            libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT)
        };
        if outcome < 0 {
            return would_block(Err(io::Error::last_os_error())).map(|_: Option<usize>| None);
        }
        // SAFETY: the kernel has filled in the control messages that `message` describes.
        let mut header = unsafe { libc::CMSG_FIRSTHDR(&message) };
        while !header.is_null() {
            // SAFETY: the header lies within `control`; an IP_RECVERR message carries a sock_extended_err.
            let error = unsafe {
                let is_error = matches!(
                    ((*header).cmsg_level, (*header).cmsg_type),
                    (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR)
                );
                is_error.then(|| libc::CMSG_DATA(header).cast::<libc::sock_extended_err>().read_unaligned())
            };
            if let Some(error) = error.filter(|error| error.ee_origin == SO_EE_ORIGIN_ZEROCOPY) {
                return Ok(Some(Completion {
                    first: error.ee_info,
                    last: error.ee_data,
                    was_copied: error.ee_code & SO_EE_CODE_ZEROCOPY_COPIED != 0,
                }));
            }
            // SAFETY: as for the first header.
            header = unsafe { libc::CMSG_NXTHDR(&message, header) };
        }
        // Something else, which is of no interest: the next one.
    }
}

/// `linux/errqueue.h`, like the next one.
const SO_EE_ORIGIN_ZEROCOPY: u8 = 5;
const SO_EE_CODE_ZEROCOPY_COPIED: u8 = 1;

/// Ends the connection in both directions; what was sent still goes out, and the descriptor stays.
pub fn end_connection(socket: &impl AsRawFd) {
    let _ = SockRef::from(&borrow(socket)).shutdown(std::net::Shutdown::Both);
}

/// Breaks the connection off: what was sent and not taken is thrown away. The descriptor stays, for the error queue.
pub fn break_connection(socket: &impl AsRawFd) {
    // SAFETY: zeroed is a valid sockaddr of the family AF_UNSPEC.
    let mut nobody: libc::sockaddr = unsafe { std::mem::zeroed() };
    nobody.sa_family = libc::AF_UNSPEC as libc::sa_family_t;
    // SAFETY: the address lives for the duration of the call and has the size given. Connecting to AF_UNSPEC disconnects, see connect(2).
    unsafe {
        libc::connect(socket.as_raw_fd(), &nobody, size_of_val(&nobody) as libc::socklen_t);
    }
}

/// Another descriptor of the same socket.
pub fn duplicate(socket: &impl AsRawFd) -> io::Result<OwnedFd> {
    borrow(socket).try_clone_to_owned()
}

/// The connection behind a descriptor from [`duplicate`], served by this thread's executor from now on.
pub fn adopt(socket: OwnedFd) -> TcpStream {
    // SAFETY: the descriptor is a connected stream socket that nobody else owns.
    unsafe { TcpStream::from_raw_fd(socket.into_raw_fd()) }
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

/// Lets the kernel break the connection when what was sent is not acknowledged for so long.
pub fn give_up_after(socket: &impl AsRawFd, unacknowledged: std::time::Duration) -> io::Result<()> {
    SockRef::from(&borrow(socket)).set_tcp_user_timeout(Some(unacknowledged))
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
