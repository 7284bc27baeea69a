//! A socket that sends and receives whole frames of a network interface, each behind the header that says what of checksums and segmentation is still to be done.

use std::ffi::{CString, c_int};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Room for a burst while this process waits for a core.
const RECEIVE_BUFFER_BYTES: c_int = 16 << 20;

/// All frames that come out of an interface, and a way to put some in.
pub struct FrameSocket(OwnedFd);

impl FrameSocket {
    /// Opens the interface of this name; needs the right to (root has it).
    pub fn open(interface: &str) -> io::Result<Self> {
        let name = CString::new(interface)?;
        // SAFETY: the name is a string that ends with NUL.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers are passed; the descriptor is checked before it is owned.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_PACKET, kind, c_int::from(protocol));
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Self(OwnedFd::from_raw_fd(fd))
        };
        socket.set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)?;
        // SAFETY: all zeros is a valid address of this type, which is filled in below.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = index as c_int;
        let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: `address` is a sockaddr_ll of this length and lives through the call.
        let bound = unsafe { libc::bind(socket.0.as_raw_fd(), (&raw const address).cast(), len) };
        if bound != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(socket)
    }

    fn set(&self, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
        let len = size_of::<c_int>() as libc::socklen_t;
        // SAFETY: `value` is an int of this length and lives through the call.
        let set =
            unsafe { libc::setsockopt(self.0.as_raw_fd(), level, option, (&raw const value).cast(), len) };
        if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The next frame with its header, if there is one.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        // SAFETY: the buffer has room for so many bytes and lives through the call.
        let len = unsafe { libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        if let Ok(len) = usize::try_from(len) {
            return Ok(Some(len));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // An interface that goes down says so once; it may come up again.
            Some(libc::EAGAIN | libc::EINTR | libc::ENETDOWN) => Ok(None),
            _ => Err(error),
        }
    }

    /// Sends a frame with its header.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the buffer holds so many bytes and lives through the call.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Waits until there is something to receive, at most so long.
pub fn wait(sockets: [&FrameSocket; 2], at_most: Duration) -> io::Result<()> {
    let mut polled = sockets.map(|s| libc::pollfd { fd: s.0.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    let patience = libc::timespec {
        tv_sec: at_most.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(at_most.subsec_nanos()),
    };
    // SAFETY: both pointers are to values that live through the call, and the count is that of the array.
    let ready = unsafe {
        libc::ppoll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, &patience, std::ptr::null())
    };
    match ready {
        0.. => Ok(()),
        _ => match io::Error::last_os_error() {
            interrupted if interrupted.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error),
        },
    }
}
