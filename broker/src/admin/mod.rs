//! HTTP for operators, on shard 0: metrics, health, a little JSON.
//!
//! - [`http`]: just enough of HTTP/1.1, with a limit on everything;
//! - [`pages`]: what is served where.

pub mod http;
pub mod pages;

use std::cell::Cell;
use std::io;
use std::net::TcpListener as StdListener;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::rc::Rc;

use glommio::net::TcpListener;
use socket2::Socket;

use crate::shard::Shard;

/// More connections than this are closed at once: a console and a scraper need a few.
const CONNECTIONS_MAX: usize = 64;
const BACKLOG: i32 = 64;

/// The running HTTP server.
pub struct Admin {
    shard: Rc<Shard>,
    ready: Cell<bool>,
    open: Cell<usize>,
}

impl Admin {
    /// Whether clients are being served: what `/health/ready` answers.
    pub fn set_ready(&self, ready: bool) {
        self.ready.set(ready);
    }
}

/// Serves HTTP on the socket from now on: an operator can watch a long recovery.
pub fn start(shard: Rc<Shard>, socket: StdListener) -> io::Result<Rc<Admin>> {
    let socket = Socket::from(socket);
    socket.listen(BACKLOG)?;
    // SAFETY: the descriptor is a listening socket that nobody else owns.
    let listener = unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) };
    let admin = Rc::new(Admin { shard, ready: Cell::new(false), open: Cell::new(0) });
    crate::runtime::spawn(accept_all(admin.clone(), listener));
    Ok(admin)
}

async fn accept_all(admin: Rc<Admin>, listener: TcpListener) {
    loop {
        let Ok(accepted) = listener.shared_accept().await else {
            crate::runtime::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let stream = accepted.bind_to_executor();
        if admin.open.get() >= CONNECTIONS_MAX {
            continue;
        }
        admin.open.set(admin.open.get() + 1);
        let admin = admin.clone();
        crate::runtime::spawn(async move {
            http::serve(stream, |request| pages::answer(&admin, request)).await;
            admin.open.set(admin.open.get() - 1);
        });
    }
}
