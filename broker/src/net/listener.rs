//! One listening socket per shard, all on the same address (SO_REUSEPORT): the kernel spreads connections over the shards.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, ToSocketAddrs};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use glommio::net::{AcceptedTcpStream, TcpListener};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::connection::serve;
use super::socket;
use super::table::Net;
use crate::config::HostPort;

/// How long to wait when the process has no file descriptor left for a new connection.
const OUT_OF_DESCRIPTORS_PAUSE: Duration = Duration::from_millis(100);

/// The kernel closes the sockets of a killed process's io_uring some time after the process is gone: mostly within 10 ms, on a busy machine
/// once after more than 2 s. Who restarts a broker at once finds its port in use for that long.
const PORT_PATIENCE: Duration = Duration::from_secs(10);
const PORT_NOTICE: Duration = Duration::from_millis(500);
const PORT_PAUSE: Duration = Duration::from_millis(5);

/// Sockets bound to one address, one per shard, that do not listen yet.
#[derive(Debug)]
pub struct Listeners {
    /// The address, with the port that the kernel chose if 0 was asked for.
    pub address: SocketAddr,
    sockets: Vec<Socket>,
}

/// Binds one socket per shard. A port that another process uses is refused, also if that process would share it.
pub fn bind(address: &HostPort, shards: usize) -> io::Result<Listeners> {
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in (address.host.as_str(), address.port).to_socket_addrs()? {
        let refused = || tracing::info!(address = %candidate, "in use; waiting for it to become free");
        match patiently(PORT_PATIENCE, refused, || bind_all(candidate, shards)) {
            Ok(listeners) => return Ok(listeners),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

/// Repeats what finds its address in use, for a while; tells once if that takes noticeably long.
fn patiently<T>(
    patience: Duration,
    tell: impl FnOnce(),
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let began = Instant::now();
    let mut tell = Some(tell);
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && began.elapsed() < patience => {
                if let Some(tell) = tell.take_if(|_| began.elapsed() > PORT_NOTICE) {
                    tell();
                }
                std::thread::sleep(PORT_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

fn bind_all(address: SocketAddr, shards: usize) -> io::Result<Listeners> {
    // SO_REUSEPORT would let us share the port with another broker of the same user; a socket without it cannot be bound then.
    let exclusive = new_socket(address)?;
    exclusive.bind(&SockAddr::from(address))?;
    let address = actual_address(&exclusive)?;
    drop(exclusive);
    let sockets = (0..shards).map(|_| {
        let socket = new_socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&SockAddr::from(address))?;
        Ok(socket)
    });
    Ok(Listeners { address, sockets: sockets.collect::<io::Result<_>>()? })
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a former process in TIME_WAIT do not keep the port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // [::] takes IPv4 clients too.
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

fn actual_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
}

impl Listeners {
    /// The sockets, to be handed to the shards.
    pub fn into_sockets(self) -> Vec<StdListener> {
        self.sockets.into_iter().map(StdListener::from).collect()
    }
}

/// Listens on the socket and serves every connection until `stop` is called on the result. Call it on the shard's executor.
pub fn listen(net: Rc<Net>, socket: StdListener, backlog: u32) -> io::Result<Accepting> {
    let socket = Socket::from(socket);
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    // SAFETY: the descriptor is a listening socket that nobody else owns.
    let listener = Rc::new(unsafe { TcpListener::from_raw_fd(socket.try_clone()?.into_raw_fd()) });
    // One task accepts for ever: an accept that is dropped half-way loses a connection.
    crate::runtime::spawn(accept_all(net, listener));
    Ok(Accepting { socket })
}

/// A socket that is listened on.
#[derive(Debug)]
pub struct Accepting {
    socket: Socket,
}

impl Accepting {
    /// Refuses further connections.
    pub fn stop(&self) {
        socket::stop_listening(&self.socket);
    }
}

async fn accept_all(net: Rc<Net>, listener: Rc<TcpListener>) {
    while let Some(accepted) = accept(&listener).await {
        net.pulse.turn();
        let peer = accepted.peer_addr();
        let stream = accepted.bind_to_executor();
        let (Ok(peer), Ok(())) = (peer, socket::set_up(&stream)) else { continue };
        crate::runtime::spawn(serve(net.clone(), stream, peer));
    }
}

/// The next connection, whatever fails before it comes; none if the socket no longer listens.
pub async fn accept(listener: &TcpListener) -> Option<AcceptedTcpStream> {
    loop {
        let error = match listener.shared_accept().await {
            Ok(accepted) => return Some(accepted),
            Err(error) => io::Error::from(error),
        };
        match error.raw_os_error() {
            // The socket no longer listens.
            Some(libc::EINVAL) => return None,
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                tracing::warn!(%error, "cannot accept connections for now; raise LimitNOFILE if this stays");
                crate::runtime::sleep(OUT_OF_DESCRIPTORS_PAUSE).await;
            }
            // Such as a client that has gone already.
            _ => tracing::debug!(%error, "accept failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_use() -> io::Error {
        io::Error::from(io::ErrorKind::AddrInUse)
    }

    #[test]
    fn a_port_that_the_kernel_has_not_let_go_of_yet_is_waited_for() {
        let mut refusals = 3;
        let outcome = patiently(
            Duration::from_secs(3600),
            || (),
            || match refusals {
                0 => Ok("bound"),
                _ => {
                    refusals -= 1;
                    Err(in_use())
                }
            },
        );
        assert_eq!(outcome.ok(), Some("bound"));
    }

    #[test]
    fn a_port_that_stays_in_use_and_any_other_problem_are_reported() {
        let stays = patiently(Duration::ZERO, || (), || Err::<(), _>(in_use()));
        assert_eq!(stays.map_err(|e| e.kind()), Err(io::ErrorKind::AddrInUse));
        let mut attempts = 0;
        let other = patiently(
            Duration::from_secs(3600),
            || (),
            || {
                attempts += 1;
                Err::<(), _>(io::Error::from(io::ErrorKind::PermissionDenied))
            },
        );
        assert_eq!((other.map_err(|e| e.kind()), attempts), (Err(io::ErrorKind::PermissionDenied), 1));
    }
}
