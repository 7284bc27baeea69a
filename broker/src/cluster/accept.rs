//! Taking links in.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::rc::Rc;

use futures::{AsyncReadExt, AsyncWriteExt};
use glommio::net::TcpListener;
use glommio::net::TcpStream;
use socket2::Socket;

use super::dial::HANDSHAKE_TIMEOUT;
use super::handshake::{self, Challenge, Hello, OPENING_BYTES, Transcript, Verdict};
use super::secret::PROOF_BYTES;
use super::{Cluster, ClusterInfo, Handler, LinkError, MovedLink, Purpose, link};
use crate::net::listener::accept;
use crate::net::socket;
use crate::placement::ShardId;
use crate::runtime;

/// Attempts that one shard has under way at once; more are closed. The nodes of a cluster need a few each.
const ATTEMPTS_MAX: usize = 256;
const BACKLOG: i32 = 128;

/// Takes links in on this socket from now on. Call it on each shard's executor with its own socket.
pub fn listen(cluster: &Rc<Cluster>, socket: StdListener) -> io::Result<()> {
    let socket = Socket::from(socket);
    socket.listen(BACKLOG)?;
    // SAFETY: the descriptor is a listening socket that nobody else owns.
    let listener = unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) };
    // One task accepts for ever: an accept that is dropped half-way loses a connection.
    runtime::spawn(accept_all(Rc::clone(cluster), listener));
    Ok(())
}

async fn accept_all(cluster: Rc<Cluster>, listener: TcpListener) {
    while let Some(accepted) = accept(&listener).await {
        cluster.pulse.turn();
        let stream = accepted.bind_to_executor();
        let peer = stream.peer_addr().map_err(io::Error::from);
        let attempts = cluster.attempts.get();
        if attempts >= ATTEMPTS_MAX {
            cluster.counters.refused.increment();
            continue;
        }
        cluster.attempts.set(attempts + 1);
        let cluster = Rc::clone(&cluster);
        runtime::spawn(async move {
            cluster.take_in(stream, peer).await;
            cluster.attempts.set(cluster.attempts.get() - 1);
        });
    }
}

impl Cluster {
    async fn take_in(&self, mut stream: TcpStream, peer: io::Result<SocketAddr>) {
        let info = self.info.as_ref().expect("there is an internal listener only in a cluster");
        let opened = match link::set_up(&stream) {
            Ok(()) => runtime::timeout(HANDSHAKE_TIMEOUT, self.receive(info, &mut stream)).await,
            Err(error) => Some(Err(error)),
        };
        match opened.unwrap_or(Err(LinkError::Silent)) {
            Ok((hello, handler)) => {
                self.counters.accepted.increment();
                self.place(stream, &hello, &*handler);
            }
            Err(error) => {
                self.counters.refused.increment();
                let peer = peer.map_or_else(|error| error.to_string(), |peer| peer.to_string());
                tracing::warn!(peer, %error, "a link was refused");
            }
        }
    }

    /// Serves the link, or gives it to the shard that is its better home. Without a descriptor to spare it is served where it is.
    fn place(&self, stream: TcpStream, hello: &Hello, handler: &Handler) {
        let neighbours = self.neighbours.borrow();
        if let Some(neighbours) = neighbours.as_ref().filter(|_| hello.purpose == Purpose::Replication) {
            let shard = ShardId(usize::from(hello.shard) % neighbours.shards);
            if shard != self.home
                && let Ok(socket) = socket::duplicate(&stream)
            {
                let moved = MovedLink { socket, peer: hello.from, purpose: hello.purpose };
                return (neighbours.hand_over)(shard, moved);
            }
        }
        handler(self.open(stream, hello.from, hello.purpose));
    }

    async fn receive(
        &self,
        info: &ClusterInfo,
        stream: &mut TcpStream,
    ) -> Result<(Hello, Rc<Handler>), LinkError> {
        let mut heard = [0; OPENING_BYTES];
        stream.read_exact(&mut heard).await?;
        let hello = Hello::decode(&heard)?;
        let cluster_id = self.cluster_id();
        let said = Challenge { from: info.me, cluster_id, nonce: handshake::nonce() }.encode();
        stream.write_all(&said).await?;
        let mut proof = [0; PROOF_BYTES];
        stream.read_exact(&mut proof).await?;
        let transcript = Transcript { hello: heard, challenge: said };
        transcript.check_proof(&info.secret, &proof)?;
        let handler = self.handler(hello.purpose);
        let verdict = match &handler {
            _ if !handshake::same_cluster(hello.cluster_id, cluster_id) => Verdict::OtherCluster,
            _ if hello.to != info.me || hello.from == info.me => Verdict::OtherNode,
            None => Verdict::NotServed,
            Some(_) => Verdict::Welcome,
        };
        stream.write_all(&transcript.welcome(&info.secret, verdict)).await?;
        match (verdict, handler) {
            (Verdict::Welcome, Some(handler)) => Ok((hello, handler)),
            (verdict, _) => Err(LinkError::Unwanted(verdict)),
        }
    }
}
