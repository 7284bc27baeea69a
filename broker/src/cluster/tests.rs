//! Links between two ends on one executor, and strangers at the door.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coord::types::BrokerId;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::frame::header;
use super::handshake::{self, Challenge, Hello, OPENING_BYTES, Transcript, Verdict};
use super::{Cluster, ClusterInfo, Link, LinkError, Purpose, Secret, listen};
use crate::budget::Budget;
use crate::config::HostPort;
use crate::net::bind;
use crate::placement::ShardId;
use crate::runtime::{self, Guard, Pulse, spawn_executor};

const REQUEST_BYTES_MAX: usize = 1 << 20;
const SECRET: &[u8] = b"the secret of this cluster";

/// One end: a node with an internal listener.
struct Node {
    cluster: Rc<Cluster>,
    address: HostPort,
    arrivals: RefCell<mpsc::UnboundedReceiver<Rc<Link>>>,
}

impl Node {
    /// A node that takes links for replication.
    fn new(id: i32, secret: &[u8], pulse: &Arc<Pulse>) -> Node {
        Self::at(id, 0, secret, pulse)
    }

    /// The shard with this number of such a node.
    fn at(id: i32, shard: usize, secret: &[u8], pulse: &Arc<Pulse>) -> Node {
        let listeners = bind(&HostPort { host: "127.0.0.1".into(), port: 0 }, 1).expect("a free port");
        let address = listeners.address;
        let here = HostPort { host: "127.0.0.1".into(), port: address.port() };
        let secret = Secret::new(secret).expect("long enough");
        let info = ClusterInfo { me: BrokerId(id), secret, address, advertised: here.clone() };
        let budget = Budget::new(64 << 20);
        let cluster = Cluster::new(Some(info), ShardId(shard), REQUEST_BYTES_MAX, budget, pulse.clone());
        listen(&cluster, listeners.into_sockets().remove(0)).expect("listening");
        let (arrived, arrivals) = mpsc::unbounded_channel();
        cluster.serve(Purpose::Replication, move |link| drop(arrived.send(link)));
        Node { cluster, address: here, arrivals: RefCell::new(arrivals) }
    }

    async fn arrival(&self) -> Rc<Link> {
        poll_fn(|cx| self.arrivals.borrow_mut().poll_recv(cx)).await.expect("a link")
    }

    async fn dial(&self, to: &Node, id: i32, purpose: Purpose) -> Result<Rc<Link>, LinkError> {
        self.cluster.dial(BrokerId(id), &to.address, purpose).await
    }

    fn socket_address(&self) -> SocketAddr {
        format!("127.0.0.1:{}", self.address.port).parse().expect("an address")
    }
}

/// Runs `test` on an executor, with somebody who wakes it if glommio loses its way.
fn on_executor<F, Fut>(test: F)
where
    F: FnOnce(Arc<Pulse>) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let pulse: Arc<Pulse> = Arc::default();
    let guard = Guard::start(vec![pulse.clone()]).expect("a thread");
    let executor = spawn_executor(Default::default(), move || async move {
        runtime::spawn(pulse.clone().run());
        let working = pulse.begin();
        test(pulse.clone()).await;
        drop(working);
    });
    executor.expect("an executor").join().expect("the test passes");
    drop(guard);
}

/// A link between two new nodes, both ends.
async fn linked(pulse: &Arc<Pulse>) -> (Rc<Link>, Rc<Link>) {
    let (one, two) = (Node::new(1, SECRET, pulse), Node::new(2, SECRET, pulse));
    let dialed = one.dial(&two, 2, Purpose::Replication).await.expect("welcome");
    (dialed, two.arrival().await)
}

/// Bytes that differ from place to place.
fn pattern(length: usize) -> Bytes {
    (0..length).map(|at| (at % 251) as u8).collect::<Vec<u8>>().into()
}

#[test]
fn frames_of_all_sizes_arrive_whole_and_in_order_in_both_directions_at_the_same_time() {
    on_executor(|pulse| async move {
        let (one, two) = linked(&pulse).await;
        assert_eq!((one.peer(), two.peer()), (BrokerId(2), BrokerId(1)));
        let sizes = [0, 1, 100, (64 << 10) - 8, (64 << 10) - 7, 300 << 10, 3, 2 * REQUEST_BYTES_MAX, 7];
        let send_all = |link: Rc<Link>| async move {
            for size in sizes {
                let whole = pattern(size);
                let (head, tail) = (whole.slice(..size / 3), whole.slice(size / 3..));
                link.send(vec![head, tail]).await.expect("sent");
            }
        };
        runtime::spawn(send_all(one.clone()));
        runtime::spawn(send_all(two.clone()));
        for size in sizes {
            assert_eq!(one.recv().await.expect("a frame"), pattern(size));
            assert_eq!(two.recv().await.expect("a frame"), pattern(size));
        }
    });
}

#[test]
fn a_link_for_replication_goes_on_to_the_shard_that_has_the_dialing_ones_number() {
    on_executor(|pulse| async move {
        let (one, two) = (Node::at(1, 1, SECRET, &pulse), Node::at(2, 0, SECRET, &pulse));
        // The other shard of the second node, which no link reaches by itself.
        let second = Node::at(2, 1, SECRET, &pulse);
        let (handed, there) = (Rc::new(Cell::new(None)), Rc::clone(&second.cluster));
        let seen = Rc::clone(&handed);
        two.cluster.share(2, move |shard, moved| {
            seen.set(Some(shard));
            there.adopt(moved);
        });
        let dialed = one.dial(&two, 2, Purpose::Replication).await.expect("welcome");
        let accepted = second.arrival().await;
        assert_eq!((handed.get(), accepted.peer()), (Some(ShardId(1)), BrokerId(1)));
        dialed.send(vec![Bytes::from_static(b"there")]).await.expect("sent");
        accepted.send(vec![Bytes::from_static(b"and back")]).await.expect("sent");
        assert_eq!(accepted.recv().await.expect("a frame"), &b"there"[..]);
        assert_eq!(dialed.recv().await.expect("a frame"), &b"and back"[..]);

        // One that has arrived where it belongs stays there.
        let near = Node::at(3, 2, SECRET, &pulse);
        near.dial(&two, 2, Purpose::Replication).await.expect("welcome");
        assert_eq!(two.arrival().await.peer(), BrokerId(3));
    });
}

#[test]
fn a_receive_that_is_given_up_loses_nothing() {
    on_executor(|pulse| async move {
        let (one, two) = linked(&pulse).await;
        for _ in 0..3 {
            assert!(runtime::timeout(Duration::from_millis(1), two.recv()).await.is_none());
        }
        let large = pattern(REQUEST_BYTES_MAX);
        let sent = one.clone();
        let frame = large.clone();
        runtime::spawn(async move { sent.send(vec![frame]).await.expect("sent") });
        let received = loop {
            if let Some(received) = runtime::timeout(Duration::from_micros(50), two.recv()).await {
                break received;
            }
        };
        assert_eq!(received.expect("a frame"), large);
    });
}

#[test]
fn who_does_not_know_the_secret_gets_no_link_whichever_side_it_is() {
    on_executor(|pulse| async move {
        let (honest, stranger) =
            (Node::new(1, SECRET, &pulse), Node::new(2, b"the secret of somebody else", &pulse));
        for (from, to, id) in [(&stranger, &honest, 1), (&honest, &stranger, 2)] {
            let refused = from.dial(to, id, Purpose::Replication).await;
            assert!(matches!(refused, Err(LinkError::NotProved)), "{:?}", refused.err());
            assert!(to.arrivals.borrow_mut().try_recv().is_err());
        }
    });
}

#[test]
fn nodes_of_other_clusters_wrong_nodes_and_purposes_that_nobody_serves_are_refused_by_name() {
    on_executor(|pulse| async move {
        let (one, two) = (Node::new(1, SECRET, &pulse), Node::new(2, SECRET, &pulse));
        let verdict = |outcome: Result<Rc<Link>, LinkError>| match outcome {
            Err(LinkError::Refused(verdict)) => verdict,
            other => panic!("{:?}", other.err()),
        };
        assert_eq!(verdict(one.dial(&two, 3, Purpose::Replication).await), Verdict::OtherNode);
        assert_eq!(verdict(one.dial(&two, 2, Purpose::Quorum).await), Verdict::NotServed);
        assert_eq!(verdict(one.dial(&one, 1, Purpose::Replication).await), Verdict::OtherNode);
        one.cluster.know(Uuid::from_u128(1));
        assert!(one.dial(&two, 2, Purpose::Replication).await.is_ok(), "who is new belongs to any cluster");
        two.cluster.know(Uuid::from_u128(2));
        assert_eq!(verdict(one.dial(&two, 2, Purpose::Replication).await), Verdict::OtherCluster);
    });
}

#[test]
fn the_end_of_one_side_ends_what_the_other_waits_for_and_a_new_link_can_be_opened() {
    on_executor(|pulse| async move {
        let (one, two) = (Node::new(1, SECRET, &pulse), Node::new(2, SECRET, &pulse));
        for _ in 0..3 {
            let dialed = one.dial(&two, 2, Purpose::Replication).await.expect("welcome");
            let accepted = two.arrival().await;
            dialed.send(vec![Bytes::from_static(b"last words")]).await.expect("sent");
            dialed.close();
            assert_eq!(accepted.recv().await.expect("a frame"), &b"last words"[..]);
            assert!(matches!(accepted.recv().await, Err(LinkError::Closed)));
            assert!(accepted.is_closed());
            assert!(dialed.send(vec![Bytes::from_static(b"x")]).await.is_err());
        }
    });
}

/// What a peer that has proved itself may still do wrong.
fn after_handshake(address: SocketAddr, bytes: &[u8]) {
    let mut stream = StdStream::connect(address).expect("connected");
    let hello = Hello {
        purpose: Purpose::Replication,
        from: BrokerId(9),
        to: BrokerId(1),
        shard: 0,
        cluster_id: Uuid::nil(),
        nonce: handshake::nonce(),
    }
    .encode();
    stream.write_all(&hello).expect("sent");
    let mut challenge = [0; OPENING_BYTES];
    stream.read_exact(&mut challenge).expect("a challenge");
    Challenge::decode(&challenge).expect("well-formed");
    let transcript = Transcript { hello, challenge };
    stream.write_all(&transcript.proof(&Secret::new(SECRET).expect("long enough"))).expect("sent");
    stream.write_all(bytes).expect("sent");
    // The other side ends it.
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
}

#[test]
fn an_oversized_length_and_a_wrong_checksum_end_the_link_before_anything_is_allocated_for_them() {
    on_executor(|pulse| async move {
        let node = Node::new(1, SECRET, &pulse);
        let oversized = [0xff; 8].to_vec();
        let mut damaged = header(&[Bytes::from_static(b"abc")]).to_vec();
        damaged.extend(b"abd");
        for (bytes, problem) in [(oversized, "allowed are"), (damaged, "checksum")] {
            let address = node.socket_address();
            let peer = std::thread::spawn(move || after_handshake(address, &bytes));
            let link = node.arrival().await;
            let error = link.recv().await.expect_err("garbage").to_string();
            assert!(error.contains(problem), "{error}");
            assert!(link.is_closed());
            drop(link);
            peer.join().expect("the connection has ended");
        }
    });
}

#[test]
fn whoever_speaks_something_else_is_sent_away_without_an_answer() {
    on_executor(|pulse| async move {
        let node = Node::new(1, SECRET, &pulse);
        let address = node.socket_address();
        let strangers = std::thread::spawn(move || {
            let mut request = b"GET / HTTP/1.1\r\n\r\n".to_vec();
            request.resize(OPENING_BYTES, b' ');
            let mut stream = StdStream::connect(address).expect("connected");
            stream.write_all(&request).expect("sent");
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            answer
        });
        while node.cluster.counters.refused.get() == 0 {
            runtime::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(strangers.join().expect("ended"), b"");
        let link = Node::new(2, SECRET, &pulse).dial(&node, 1, Purpose::Replication).await;
        assert!(link.is_ok(), "others are not affected");
    });
}
