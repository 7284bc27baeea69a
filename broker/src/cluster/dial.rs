//! Opening links, and opening them again.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use coord::types::BrokerId;
use futures::{AsyncReadExt, AsyncWriteExt};
use glommio::net::TcpStream;

use super::handshake::{self, Challenge, Hello, OPENING_BYTES, Transcript, Verdict, WELCOME_BYTES};
use super::{CLUSTER_LISTENER, Cluster, ClusterInfo, Link, LinkError, Purpose, link};
use crate::config::HostPort;
use crate::runtime;
use crate::shard::Shard;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// For the whole exchange of proofs.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// How long to wait before the next attempt: longer with each failure, and never quite the same.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// One more attempt has failed: the pause before the next one.
    pub fn failed(&mut self) -> Duration {
        let longest = BACKOFF_MAX.min(BACKOFF_MIN * 2u32.saturating_pow(self.failures.min(10)));
        self.failures += 1;
        let share = runtime::random_bits() % 1024;
        longest / 2 + longest / 2 * share as u32 / 1024
    }

    /// It has worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Whether the last attempt was the first of a row to fail: worth a line in the log.
    pub fn is_first(&self) -> bool {
        self.failures == 1
    }
}

/// Where a node's internal listener is: in the list of voters, else in its registration, else where it has said that it keeps its data.
pub fn address_of(shard: &Shard, node: BrokerId) -> Option<HostPort> {
    if let Some(address) = shard.config().controller_quorum_voters.address(node.0) {
        return Some(address.clone());
    }
    let image = shard.image();
    let of_broker = image.broker(node).and_then(|broker| broker.endpoint(CLUSTER_LISTENER));
    let of_broker = of_broker.map(|endpoint| (&endpoint.host, endpoint.port));
    let (host, port) = of_broker.or_else(|| image.node(node).map(|node| (&node.host, node.port)))?;
    Some(HostPort { host: host.clone(), port })
}

/// Opens a link to a node, once.
pub async fn dial(shard: &Rc<Shard>, node: BrokerId, purpose: Purpose) -> Result<Rc<Link>, LinkError> {
    let address = address_of(shard, node).ok_or(LinkError::UnknownNode(node))?;
    shard.cluster.dial(node, &address, purpose).await
}

impl Cluster {
    /// Opens a link to a node at an address, once.
    pub async fn dial(
        &self,
        node: BrokerId,
        address: &HostPort,
        purpose: Purpose,
    ) -> Result<Rc<Link>, LinkError> {
        let info = self.info.as_ref().ok_or(LinkError::NoCluster)?;
        let mut last = LinkError::UnknownNode(node);
        for target in runtime::resolve(&address.host, address.port).await? {
            let mut stream = match connect_to(target).await {
                Ok(stream) => stream,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            let (cluster_id, nonce) = (self.cluster_id(), handshake::nonce());
            let shard = (self.home.0 % 256) as u8;
            let hello = Hello { purpose, from: info.me, to: node, shard, cluster_id, nonce };
            let proved = runtime::timeout(HANDSHAKE_TIMEOUT, prove(info, &mut stream, &hello)).await;
            proved.unwrap_or(Err(LinkError::Silent))?;
            self.counters.dialed.increment();
            return Ok(self.open(stream, node, purpose));
        }
        Err(last)
    }
}

async fn connect_to(target: SocketAddr) -> Result<TcpStream, LinkError> {
    let stream = TcpStream::connect_timeout(target, CONNECT_TIMEOUT).await.map_err(std::io::Error::from)?;
    link::set_up(&stream)?;
    Ok(stream)
}

async fn prove(info: &ClusterInfo, stream: &mut TcpStream, hello: &Hello) -> Result<(), LinkError> {
    let said = hello.encode();
    stream.write_all(&said).await?;
    let mut heard = [0; OPENING_BYTES];
    stream.read_exact(&mut heard).await?;
    let challenge = Challenge::decode(&heard)?;
    let transcript = Transcript { hello: said, challenge: heard };
    stream.write_all(&transcript.proof(&info.secret)).await?;
    let mut welcome = [0; WELCOME_BYTES];
    // A side that does not believe the proof ends the connection without a word.
    stream.read_exact(&mut welcome).await.map_err(|_| LinkError::NotProved)?;
    match transcript.check_welcome(&info.secret, &welcome)? {
        Verdict::Welcome if challenge.from != hello.to => Err(LinkError::Unwanted(Verdict::OtherNode)),
        Verdict::Welcome if !handshake::same_cluster(challenge.cluster_id, hello.cluster_id) => {
            Err(LinkError::Unwanted(Verdict::OtherCluster))
        }
        Verdict::Welcome => Ok(()),
        verdict => Err(LinkError::Refused(verdict)),
    }
}

/// Opens a link to a node, however long that takes: tries again with growing pauses. Says in the log when it begins not to work.
pub async fn connect(shard: &Rc<Shard>, node: BrokerId, purpose: Purpose) -> Rc<Link> {
    let mut backoff = Backoff::default();
    loop {
        match dial(shard, node, purpose).await {
            Ok(link) => return link,
            Err(error) => {
                let pause = backoff.failed();
                if backoff.is_first() {
                    tracing::info!(node = node.0, ?purpose, %error, "no link to a node yet; trying again");
                } else {
                    tracing::debug!(node = node.0, ?purpose, %error, "no link to a node");
                }
                runtime::sleep(pause).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_begin_anew_after_success() {
        let mut backoff = Backoff::default();
        let pauses: Vec<Duration> = (0..12).map(|_| backoff.failed()).collect();
        assert!(pauses[0] <= BACKOFF_MIN && pauses[0] >= BACKOFF_MIN / 2);
        assert!(pauses[11] >= BACKOFF_MAX / 2 && pauses.iter().all(|pause| *pause <= BACKOFF_MAX));
        backoff.reset();
        assert!(backoff.failed() <= BACKOFF_MIN);
        assert!(backoff.is_first());
    }
}
