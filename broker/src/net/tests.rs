//! Connections over real sockets, with a dispatcher that does what the request's first byte pair says.

mod moves;
mod zero_copy;

use std::cell::{OnceCell, RefCell};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use tokio::sync::{oneshot, watch};

use super::connection::REQUEST_BYTES;
use super::listener::{bind, listen};
use super::table::SWEEP_INTERVAL;
use super::{Connection, DispatchOutcome, Limits, MovedConnection, Net, Services};
use crate::budget::Budget;
use crate::config::{Config, HostPort};
use crate::mesh::{HasMesh, Mesh, mesh};
use crate::placement::ShardId;
use crate::runtime::{ExecutorThread, Guard, Pulse, spawn_executor};

/// The answer is the request.
const ECHO: i16 = 8;
/// Answered, like [`ECHO`], only after a [`RELEASE`] has come.
const HELD: i16 = 1;
/// Answered at once; lets all held requests go.
const RELEASE: i16 = 2;
/// Not answered.
const SILENT: i16 = 3;
/// Closes the connection.
const CLOSE: i16 = 4;
/// Answered with 16 MiB in many segments.
const LARGE: i16 = 5;
const LARGE_SEGMENTS: usize = 4096;
const LARGE_SEGMENT_BYTES: usize = 4096;
/// Answered with 16 MiB in few segments.
const COARSE: i16 = 6;
const COARSE_SEGMENTS: usize = 16;
const COARSE_SEGMENT_BYTES: usize = 1 << 20;
/// Needs the shard that the body's first byte names; in the answer the byte names the shard that the connection is on.
const NEEDS: i16 = 7;
/// The same, answered a little later. To the connection it is a produce request, which never waits for long.
const NEEDS_LATER: i16 = 0;
/// Echoes and closes.
const LAST: i16 = 9;
/// Of a server that has several.
const SHARDS: usize = 2;
/// No test depends on this; it turns a hang into a failure.
const DEADLINE: Duration = Duration::from_secs(60);

/// One shard of a [`TestServer`].
struct TestShard {
    mesh: Mesh<TestShard>,
    net: OnceCell<Rc<Net>>,
    held: RefCell<Vec<oneshot::Sender<()>>>,
}

impl HasMesh for TestShard {
    fn mesh(&self) -> &Mesh<Self> {
        &self.mesh
    }
}

struct TestServer {
    address: SocketAddr,
    /// The first shard's.
    budget: Budget,
    budgets: Vec<Budget>,
    open_in_broker: Arc<AtomicUsize>,
    zero_copy_sends: Arc<AtomicU64>,
    moves: Arc<AtomicU64>,
    stops: Vec<oneshot::Sender<()>>,
    executors: Vec<ExecutorThread<()>>,
    _guard: Guard,
}

impl TestServer {
    fn start(budget_bytes: u64, change_limits: impl FnOnce(&mut Limits)) -> TestServer {
        Self::start_shards(1, budget_bytes, change_limits)
    }

    /// `budget_bytes` for each shard.
    fn start_shards(shards: usize, budget_bytes: u64, change_limits: impl FnOnce(&mut Limits)) -> TestServer {
        let mut limits = Limits { moves: true, ..Limits::from(&Config::default()) };
        change_limits(&mut limits);
        let listeners = bind(&HostPort { host: "127.0.0.1".into(), port: 0 }, shards).expect("a free port");
        let pulses: Vec<Arc<Pulse>> = (0..shards).map(|_| Arc::default()).collect();
        let mut server = TestServer {
            address: listeners.address,
            budget: Budget::new(budget_bytes),
            budgets: Vec::new(),
            open_in_broker: Arc::default(),
            zero_copy_sends: Arc::default(),
            moves: Arc::default(),
            stops: Vec::new(),
            executors: Vec::new(),
            _guard: Guard::start(pulses.clone()).expect("a thread"),
        };
        let (done, is_done) = std::sync::mpsc::channel();
        let (listen_now, may_listen) = watch::channel(false);
        for (seed, socket) in mesh(&pulses).into_iter().zip(listeners.into_sockets()) {
            let pulse = pulses[seed.id().0].clone();
            let budget = if seed.id().0 == 0 { server.budget.clone() } else { Budget::new(budget_bytes) };
            server.budgets.push(budget.clone());
            let (stop, stopped) = oneshot::channel();
            server.stops.push(stop);
            let (limits, open_in_broker) = (limits.clone(), server.open_in_broker.clone());
            let (zero_copy_sends, moves) = (server.zero_copy_sends.clone(), server.moves.clone());
            let (done, mut may_listen) = (done.clone(), may_listen.clone());
            let executor = spawn_executor(Default::default(), move || async move {
                crate::runtime::spawn(pulse.clone().run());
                // As in the broker, the guard does not let it sleep over its work, or over the stop.
                let _running = pulse.begin();
                let mesh = seed.plant();
                let shard = Rc::new(TestShard { mesh, net: OnceCell::new(), held: RefCell::default() });
                shard.mesh.attach(&shard);
                crate::runtime::spawn(shard.mesh.run());
                let net = Net::new(
                    shard.mesh.id(),
                    limits,
                    budget,
                    pulse.clone(),
                    open_in_broker,
                    services(&shard, moves),
                );
                assert!(shard.net.set(net.clone()).is_ok());
                done.send(()).expect("the test waits");
                may_listen.wait_for(|now| *now).await.expect("the test goes on");
                let accepting = listen(net.clone(), socket, 1024).expect("listening");
                crate::runtime::spawn(net.clone().sweep());
                crate::runtime::spawn(publish_zero_copy_sends(net.clone(), zero_copy_sends));
                done.send(()).expect("the test waits");
                let _ = stopped.await;
                accepting.stop();
                net.drain(Duration::from_millis(200)).await;
            });
            server.executors.push(executor.expect("an executor"));
        }
        // Connections may move as soon as one shard listens.
        (0..shards).for_each(|_| is_done.recv().expect("sockets are set up"));
        listen_now.send_replace(true);
        (0..shards).for_each(|_| is_done.recv().expect("listening"));
        server
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("set");
        stream
    }

    /// Connections that have left for another shard.
    fn moves(&self) -> u64 {
        self.moves.load(Ordering::Relaxed)
    }

    /// Sends without a copy, up to the last request.
    fn zero_copy_sends(&self) -> u64 {
        self.zero_copy_sends.load(Ordering::Relaxed)
    }

    fn stop_with_nothing_charged(self) {
        let budget = self.budget.clone();
        self.stop();
        assert_eq!(budget.used_bytes(), 0);
    }

    fn stop(mut self) {
        self.stops.clear();
        for executor in self.executors.drain(..) {
            executor.join().expect("an orderly end");
        }
    }
}

/// Sends requests with these bodies, as fast as the server takes them, and expects them back.
fn assert_echoed(stream: &mut TcpStream, key: i16, bodies: &[Vec<u8>]) {
    let wire: Vec<u8> = bodies.iter().flat_map(|body| request(key, body)).collect();
    let mut sender = stream.try_clone().expect("cloned");
    let sending = std::thread::spawn(move || sender.write_all(&wire));
    for (number, body) in bodies.iter().enumerate() {
        assert!(read_answer(stream) == (key, body.clone()), "the {number}th, {} bytes", body.len());
    }
    sending.join().expect("joined").expect("all is taken");
}

async fn publish_zero_copy_sends(net: Rc<Net>, to: Arc<AtomicU64>) {
    loop {
        to.store(net.zero_copy_counters.sends.get(), Ordering::Relaxed);
        crate::runtime::sleep(Duration::from_millis(1)).await;
    }
}

fn services(shard: &Rc<TestShard>, moves: Arc<AtomicU64>) -> Services {
    let [for_dispatch, for_moves] = std::array::from_fn(|_| shard.clone());
    Services {
        dispatch: Box::new(move |connection, frame| answer(&for_dispatch, connection, frame)),
        congestion: Box::new(|_| false),
        record_request: Box::new(|_, _| {}),
        hand_over: Box::new(move |target, moved: MovedConnection| {
            moves.fetch_add(1, Ordering::Relaxed);
            for_moves.mesh.tell(target, move |there| {
                moved.arrive(there.net.get().expect("set up before anybody listens"));
            });
        }),
    }
}

fn answer(
    shard: &Rc<TestShard>,
    connection: &Connection,
    frame: Bytes,
) -> LocalBoxFuture<'static, DispatchOutcome> {
    let ready = |outcome| std::future::ready(outcome).boxed_local();
    match i16::from_be_bytes([frame[0], frame[1]]) {
        ECHO => ready(echo(frame)),
        HELD => {
            let (release, released) = oneshot::channel();
            shard.held.borrow_mut().push(release);
            released.map(|_| echo(frame)).boxed_local()
        }
        RELEASE => {
            shard.held.borrow_mut().clear();
            ready(echo(frame))
        }
        LAST => ready(match echo(frame) {
            DispatchOutcome::Respond(segments) => {
                DispatchOutcome::RespondAndClose(segments, "asked to".into())
            }
            other => other,
        }),
        SILENT => ready(DispatchOutcome::NoResponse),
        LARGE => ready(large(LARGE_SEGMENTS, LARGE_SEGMENT_BYTES)),
        COARSE => ready(large(COARSE_SEGMENTS, COARSE_SEGMENT_BYTES)),
        NEEDS => {
            connection.note_call(ShardId(frame[8].into()), SHARDS);
            ready(served_by(shard, &frame))
        }
        NEEDS_LATER => {
            connection.note_call(ShardId(frame[8].into()), SHARDS);
            let shard = shard.clone();
            async move {
                crate::runtime::yield_now().await;
                served_by(&shard, &frame)
            }
            .boxed_local()
        }
        _ => ready(DispatchOutcome::Close("asked to".into())),
    }
}

fn large(segments: usize, segment_bytes: usize) -> DispatchOutcome {
    let head = Bytes::copy_from_slice(&((segments * segment_bytes) as i32).to_be_bytes());
    let segments = (0..segments).map(|n| Bytes::from(vec![n as u8; segment_bytes]));
    DispatchOutcome::Respond(std::iter::once(head).chain(segments).collect())
}

fn served_by(shard: &TestShard, frame: &[u8]) -> DispatchOutcome {
    let mut frame = frame.to_vec();
    frame[8] = shard.mesh.id().0 as u8;
    echo(frame.into())
}

fn echo(frame: Bytes) -> DispatchOutcome {
    let head = Bytes::copy_from_slice(&(frame.len() as i32).to_be_bytes());
    DispatchOutcome::Respond(vec![head, frame].into())
}

fn request(key: i16, body: &[u8]) -> Vec<u8> {
    let length = (2 + 6 + body.len()) as i32;
    [&length.to_be_bytes()[..], &key.to_be_bytes(), &[0; 6], body].concat()
}

/// Reads one answer: key and body.
fn read_answer(stream: &mut TcpStream) -> (i16, Vec<u8>) {
    let mut head = [0; 4];
    stream.read_exact(&mut head).expect("an answer");
    let mut frame = vec![0; i32::from_be_bytes(head) as usize];
    stream.read_exact(&mut frame).expect("the whole answer");
    (i16::from_be_bytes([frame[0], frame[1]]), frame.split_off(8))
}

fn is_closed_by_server(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 1]) {
        Ok(length) => length == 0,
        Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
    }
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + DEADLINE;
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "what the test waits for has not happened");
        std::thread::yield_now();
    }
}

#[test]
fn answers_leave_in_the_order_of_requests_whatever_is_ready_first() {
    let server = TestServer::start(64 << 20, |_| {});
    let mut client = server.connect();
    let pipelined = [request(ECHO, b"1"), request(HELD, b"2"), request(ECHO, b"3"), request(SILENT, b"4")];
    client.write_all(&pipelined.concat()).expect("sent");
    client.write_all(&[request(HELD, b"5"), request(RELEASE, b"6")].concat()).expect("sent");
    let answers: Vec<_> = (0..5).map(|_| read_answer(&mut client)).collect();
    let bodies: Vec<&[u8]> = answers.iter().map(|(_, body)| &body[..]).collect();
    assert_eq!(bodies, [b"1", b"2", b"3", b"5", b"6"]);
    server.stop();
}

#[test]
fn no_more_requests_are_begun_than_may_be_in_flight_though_they_came_together() {
    let server = TestServer::start(64 << 20, |limits| limits.in_flight_max = 2);
    let mut client = server.connect();
    let pipelined = [request(HELD, b"1"), request(HELD, b"2"), request(RELEASE, b"3"), request(ECHO, b"4")];
    client.write_all(&pipelined.concat()).expect("sent");
    client.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
    let mut byte = [0];
    assert!(client.read(&mut byte).is_err(), "the third request would let the first two go");
    client.set_read_timeout(Some(DEADLINE)).expect("set");
    let mut other = server.connect();
    other.write_all(&request(RELEASE, b"5")).expect("sent");
    let bodies: Vec<_> = (0..4).map(|_| read_answer(&mut client).1).collect();
    assert_eq!(bodies, [b"1", b"2", b"3", b"4"]);
    server.stop_with_nothing_charged();
}

#[test]
fn frames_of_every_size_come_back_whole_and_the_budget_is_given_back() {
    let server = TestServer::start(64 << 20, |limits| limits.in_flight_max = 2);
    let mut client = server.connect();
    let sizes = [0, 1, 100, 4_000, 65_536, 300_000, 10, 1_000_000, 5_000_000, 65_530, 3];
    let bodies: Vec<Vec<u8>> =
        sizes.iter().map(|size| (0..*size).map(|n| (n * 7 + size) as u8).collect()).collect();
    assert_echoed(&mut client, ECHO, &bodies);
    server.stop_with_nothing_charged();
}

#[test]
fn requests_that_are_read_where_they_were_received_keep_their_bytes_until_they_are_answered() {
    let server = TestServer::start(64 << 20, |_| {});
    std::thread::scope(|scope| {
        for client in 1..=8_usize {
            let mut stream = server.connect();
            scope.spawn(move || {
                let body = |number: usize| {
                    let mut body: Vec<u8> = (0..number * 37).map(|at| (at * client + number) as u8).collect();
                    body.insert(0, 0);
                    body
                };
                for numbers in [1..200, 200..300, 300..500] {
                    assert_echoed(&mut stream, NEEDS_LATER, &numbers.map(body).collect::<Vec<_>>());
                }
            });
        }
    });
    server.stop_with_nothing_charged();
}

#[test]
fn requests_in_progress_are_charged() {
    let server = TestServer::start(64 << 20, |_| {});
    let mut client = server.connect();
    client.write_all(&request(HELD, b"1").repeat(20)).expect("sent");
    wait_until(|| server.budget.used_bytes() >= 20 * REQUEST_BYTES as u64);
    client.write_all(&request(RELEASE, b"2")).expect("sent");
    (0..21).for_each(|_| drop(read_answer(&mut client)));
    wait_until(|| server.budget.used_bytes() == 0);
    server.stop();
}

#[test]
fn garbage_costs_the_client_its_connection_and_nobody_else_anything() {
    let server = TestServer::start(64 << 20, |_| {});
    let mut honest = server.connect();
    let tls_hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let inputs: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &tls_hello,
        &[0x7f, 0xff, 0xff, 0xff, 0],
        &[0xff; 64],
        &[0, 0, 0, 2, 9, 9],
    ];
    for input in inputs {
        let mut client = server.connect();
        client.write_all(input).expect("sent");
        assert!(is_closed_by_server(&mut client), "{input:?}");
    }
    honest.write_all(&request(ECHO, b"still served")).expect("sent");
    assert_eq!(read_answer(&mut honest).1, b"still served");
    server.stop();
}

#[test]
fn requests_before_garbage_are_still_answered() {
    let server = TestServer::start(64 << 20, |_| {});
    let mut client = server.connect();
    client.write_all(&[request(ECHO, b"good"), vec![0xff; 8]].concat()).expect("sent");
    assert_eq!(read_answer(&mut client).1, b"good");
    assert!(is_closed_by_server(&mut client));
    server.stop();
}

#[test]
fn a_handler_that_closes_lets_earlier_answers_out_first() {
    let server = TestServer::start(64 << 20, |_| {});
    let mut client = server.connect();
    client
        .write_all(&[request(ECHO, b"a"), request(CLOSE, b""), request(ECHO, b"b")].concat())
        .expect("sent");
    assert_eq!(read_answer(&mut client).1, b"a");
    assert!(is_closed_by_server(&mut client));
    server.stop();
}

#[test]
fn a_last_answer_leaves_before_the_connection_is_closed() {
    let server = TestServer::start(64 << 20, |_| {});
    let mut client = server.connect();
    client.write_all(&[request(LAST, b"a"), request(ECHO, b"b")].concat()).expect("sent");
    assert_eq!(read_answer(&mut client).1, b"a");
    assert!(is_closed_by_server(&mut client));
    server.stop();
}

#[test]
fn a_client_that_never_reads_is_closed_and_its_memory_given_back() {
    let server = TestServer::start(64 << 20, |limits| limits.stall = Duration::from_millis(100));
    let mut client = server.connect();
    client.write_all(&request(LARGE, b"").repeat(100)).expect("sent");
    // 1.6 GB are owed; at most one answer and the limit on queued bytes are made before the rest of the requests waits.
    let mut honest = server.connect();
    honest.write_all(&request(ECHO, b"served meanwhile")).expect("sent");
    assert_eq!(read_answer(&mut honest).1, b"served meanwhile");
    assert!(server.budget.used_bytes() < 48 << 20, "{}", server.budget.used_bytes());
    wait_until(|| server.budget.used_bytes() == 0);
    server.stop();
}

#[test]
fn a_slow_reader_gets_a_large_answer_whole() {
    let server = TestServer::start(64 << 20, |_| {});
    let mut client = server.connect();
    client.write_all(&request(LARGE, b"")).expect("sent");
    let mut head = [0; 4];
    client.read_exact(&mut head).expect("an answer");
    let mut piece = vec![0; 10_007];
    let mut position = 0;
    while position < LARGE_SEGMENTS * LARGE_SEGMENT_BYTES {
        let length = client.read(&mut piece).expect("more");
        assert!(length > 0, "cut at {position}");
        for (n, byte) in piece[..length].iter().enumerate() {
            assert_eq!(*byte, ((position + n) / LARGE_SEGMENT_BYTES) as u8);
        }
        position += length;
    }
    server.stop();
}

#[test]
fn an_idle_connection_is_closed_and_one_that_awaits_an_answer_is_not() {
    let server = TestServer::start(64 << 20, |limits| limits.idle = Duration::from_secs(2));
    let mut idle = server.connect();
    let mut waiting = server.connect();
    waiting.write_all(&request(HELD, b"patience")).expect("sent");
    assert!(is_closed_by_server(&mut idle));
    waiting.write_all(&request(RELEASE, b"")).expect("sent");
    assert_eq!(read_answer(&mut waiting).1, b"patience");
    server.stop();
}

#[test]
fn connections_beyond_the_limit_are_closed_at_once() {
    let server = TestServer::start(64 << 20, |limits| limits.connections_max = 2);
    let mut first = server.connect();
    let mut second = server.connect();
    for client in [&mut first, &mut second] {
        client.write_all(&request(ECHO, b"in")).expect("sent");
        assert_eq!(read_answer(client).1, b"in");
    }
    assert!(is_closed_by_server(&mut server.connect()));
    server.stop();
}

#[test]
fn a_stop_finishes_requests_in_progress_and_refuses_new_connections() {
    let server = TestServer::start(64 << 20, |_| {});
    let address = server.address;
    let mut client = server.connect();
    client.write_all(&[request(ECHO, b"begun"), request(HELD, b"never released")].concat()).expect("sent");
    assert_eq!(read_answer(&mut client).1, b"begun");
    // The held request outlasts the grace period, and is then abandoned.
    server.stop();
    assert!(is_closed_by_server(&mut client));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn many_requests_waiting_on_many_events_do_not_overflow_the_tasks_reference_count() {
    // 40,000 wakers of one connection: glommio's 16-bit count alone would panic (see runtime::waker).
    const IN_FLIGHT: usize = 40_000;
    let server = TestServer::start(256 << 20, |limits| limits.in_flight_max = 2 * IN_FLIGHT);
    let mut client = server.connect();
    let mut sender = client.try_clone().expect("cloned");
    let wire = [request(HELD, b"").repeat(IN_FLIGHT), request(RELEASE, b"")].concat();
    let sending = std::thread::spawn(move || sender.write_all(&wire));
    for _ in 0..IN_FLIGHT {
        assert_eq!(read_answer(&mut client).0, HELD);
    }
    assert_eq!(read_answer(&mut client).0, RELEASE);
    sending.join().expect("joined").expect("sent");
    server.stop();
}

/// CPU time of the thread whose name starts with `name`, in seconds: user, system.
fn thread_cpu_seconds(name: &str) -> (f64, f64) {
    let tasks = std::fs::read_dir("/proc/self/task").expect("readable");
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let fields = stats.filter_map(|stat| {
        let (head, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<f64> = rest.split(' ').map(|field| field.parse().unwrap_or(0.0)).collect();
        head.contains(name).then(|| (fields[11] / 100.0, fields[12] / 100.0))
    });
    fields.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// Not a test: `cargo test --release -p broker --lib -- --ignored --nocapture measure_receiving`.
#[test]
#[ignore = "a measurement"]
fn measure_receiving_and_answering() {
    crate::runtime::memory::tune_allocator();
    let server = TestServer::start(1 << 30, |_| {});
    for frame_bytes in [1_000, 16_000, 64_000, 1 << 20] {
        let mut client = server.connect();
        let wire = request(SILENT, &vec![7; frame_bytes]).repeat((1 << 20) / frame_bytes);
        let rounds = (2 << 30) / wire.len();
        let (cpu, start) = (thread_cpu_seconds("shard"), std::time::Instant::now());
        (0..rounds).for_each(|_| client.write_all(&wire).expect("sent"));
        client.write_all(&request(ECHO, b"")).expect("sent");
        read_answer(&mut client);
        let (gigabytes, cpu_after) = ((rounds * wire.len()) as f64 / 1e9, thread_cpu_seconds("shard"));
        println!(
            "{frame_bytes} byte frames: {:.2} GB/s; shard's CPU per GB: {:.0} ms user, {:.0} ms system",
            gigabytes / start.elapsed().as_secs_f64(),
            (cpu_after.0 - cpu.0) / gigabytes * 1e3,
            (cpu_after.1 - cpu.1) / gigabytes * 1e3,
        );
    }
    let mut client = server.connect();
    let one = request(ECHO, &[7; 92]);
    for in_flight in [1, 64] {
        let wire = one.repeat(in_flight);
        let mut answers = vec![0; wire.len()];
        let rounds = 200_000 / in_flight;
        let (cpu, start) = (thread_cpu_seconds("shard"), std::time::Instant::now());
        for _ in 0..rounds {
            client.write_all(&wire).expect("sent");
            client.read_exact(&mut answers).expect("answered");
        }
        let (requests, cpu_after) = ((rounds * in_flight) as f64, thread_cpu_seconds("shard"));
        println!(
            "100 byte echo, {in_flight} in flight: {:.1} µs per round, {:.0} requests/s, shard's CPU {:.1} µs per request",
            start.elapsed().as_secs_f64() / rounds as f64 * 1e6,
            requests / start.elapsed().as_secs_f64(),
            (cpu_after.0 + cpu_after.1 - cpu.0 - cpu.1) / requests * 1e6,
        );
    }
    server.stop();
}

#[test]
fn requests_that_have_come_in_part_and_use_up_the_memory_together_are_all_answered() {
    let server = TestServer::start(4 << 20, |_| ());
    let wire = request(ECHO, &vec![7; 2 << 20]);
    let (first, rest) = wire.split_at(300 << 10);
    let mut clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| client.write_all(first).expect("sent"));
    // All but one are charged for the second step.
    wait_until(|| server.budget.used_bytes() >= 8 * (512 << 10) - (256 << 10));
    std::thread::scope(|scope| {
        for client in &mut clients {
            let mut reader = client.try_clone().expect("cloned");
            scope.spawn(move || client.write_all(rest).expect("the broker reads on"));
            scope.spawn(move || assert_eq!(read_answer(&mut reader).1.len(), 2 << 20));
        }
    });
    server.stop();
}

#[test]
fn a_client_that_is_not_read_for_want_of_memory_does_not_count_as_stalled() {
    let server = TestServer::start(1 << 20, |limits| limits.stall = Duration::from_millis(100));
    let all = server.budget.try_acquire(1 << 20).expect("free");
    let wire = request(ECHO, &vec![7; 200 << 10]);
    let (first, rest) = wire.split_at(10 << 10);
    let mut client = server.connect();
    client.write_all(first).expect("sent");
    // Time for it to be closed.
    std::thread::sleep(2 * SWEEP_INTERVAL);
    drop(all);
    client.write_all(rest).expect("the broker reads on");
    assert_eq!(read_answer(&mut client).1.len(), 200 << 10);
    server.stop();
}
