//! A broker's heartbeats when what the active controller answers does not arrive.

mod harness;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use harness::brokerctl::brokerctl;
use harness::cluster::{SECRET, free_ports, node_flags};
use harness::{RunningBroker, wait_until};

/// Half of it is how long an answer is waited for.
const SESSION: &str = "broker_session_timeout_ms=2000";
/// Length of a link's first message, and where it says what the link is for (broker/src/cluster/handshake.rs).
const HELLO_BYTES: usize = 64;
const PURPOSE_AT: usize = 6;
const CONTROL: u8 = 2;

/// Stands between a controller and everybody who dials it; can hold back what is answered on links for requests to the active controller.
struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    holds_answers: AtomicBool,
    /// How often something has come from a broker on a link for requests.
    requests: AtomicU64,
}

impl Proxy {
    fn new(listener: TcpListener, target: SocketAddr) -> Proxy {
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared::default());
        let for_links = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(broker), Ok(controller)) = (stream, TcpStream::connect(target)) else { continue };
                let shared = Arc::clone(&for_links);
                thread::spawn(move || relay(broker, controller, &shared));
            }
        });
        Proxy { address, shared }
    }

    fn hold_answers(&self, hold: bool) {
        self.shared.holds_answers.store(hold, Ordering::SeqCst);
    }

    fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

/// Passes on what the two ends of a link say, until one of them ends it.
fn relay(mut broker: TcpStream, mut controller: TcpStream, shared: &Arc<Shared>) {
    let mut hello = [0; HELLO_BYTES];
    if broker.read_exact(&mut hello).and_then(|()| controller.write_all(&hello)).is_err() {
        return;
    }
    let is_control = hello[PURPOSE_AT] == CONTROL;
    let (from_controller, to_broker) =
        (controller.try_clone().expect("cloned"), broker.try_clone().expect("cloned"));
    let for_answers = Arc::clone(shared);
    let answers = thread::spawn(move || {
        pass(from_controller, to_broker, || {
            while is_control && for_answers.holds_answers.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(5));
            }
        });
    });
    pass(broker, controller, || {
        if is_control {
            shared.requests.fetch_add(1, Ordering::SeqCst);
        }
    });
    answers.join().expect("it ends with the link");
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut before_each: impl FnMut()) {
    let mut buffer = [0; 64 << 10];
    while let Ok(length) = from.read(&mut buffer)
        && length > 0
    {
        before_each();
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// A node of a cluster whose only voter is node 1, a controller at `voter`; with further settings.
fn start(id: i32, voter: SocketAddr, settings: &[&str]) -> RunningBroker {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder on a disk");
    let secret = dir.path().join("secret");
    std::fs::write(&secret, SECRET).expect("written");
    let mut flags = node_flags(id, &format!("1@{voter}"), &secret);
    flags.extend([&[SESSION], settings].concat().iter().map(|setting| format!("--set={setting}")));
    RunningBroker::start_in(dir, &flags.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_heartbeat_whose_answer_does_not_come_is_sent_again() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let behind = SocketAddr::from((Ipv4Addr::LOCALHOST, free_ports(1)[0]));
    let proxy = Proxy::new(listener, behind);
    let listen = format!("cluster_listen={behind}");
    let controller = start(1, proxy.address, &["process_roles=controller", &listen]);
    let broker = start(2, proxy.address, &["process_roles=broker", "cluster_listen=127.0.0.1:0"]);
    brokerctl(&broker, "topic create before", "");

    proxy.hold_answers(true);
    // The first may have been answered before. A third comes only if the second was given up: answers may take a minute otherwise.
    let sent = proxy.requests();
    wait_until(|| proxy.requests() >= sent + 4);
    proxy.hold_answers(false);
    // All that were sent have kept the broker's registration alive, and late answers confuse nobody.
    brokerctl(&broker, "topic create after", "");
    assert_eq!(controller.metric("kafka_controller_fenced_broker_count"), 0.0);
}
