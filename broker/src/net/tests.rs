//! Connections over real sockets, with a dispatcher that does what the request's first byte pair says.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use tokio::sync::oneshot;

use super::listener::{bind, listen};
use super::{DispatchOutcome, Limits, Net};
use crate::budget::Budget;
use crate::config::{Config, HostPort};
use crate::runtime::{ExecutorThread, Guard, Pulse, spawn_executor};

/// The answer is the request.
const ECHO: i16 = 0;
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
/// No test depends on this; it turns a hang into a failure.
const DEADLINE: Duration = Duration::from_secs(60);

struct TestServer {
    address: SocketAddr,
    budget: Budget,
    stop: Option<oneshot::Sender<()>>,
    executor: Option<ExecutorThread<()>>,
    _guard: Guard,
}

impl TestServer {
    fn start(budget_bytes: u64, change_limits: impl FnOnce(&mut Limits)) -> TestServer {
        let mut limits = Limits::from(&Config::default());
        change_limits(&mut limits);
        let listeners = bind(&HostPort { host: "127.0.0.1".into(), port: 0 }, 1).expect("a free port");
        let address = listeners.address;
        let socket = listeners.into_sockets().remove(0);
        let budget = Budget::new(budget_bytes);
        let (stop, stopped) = oneshot::channel();
        let (listening, is_listening) = std::sync::mpsc::channel();
        let budget_of_shard = budget.clone();
        let pulse: Arc<Pulse> = Arc::default();
        let guard = Guard::start(vec![pulse.clone()]).expect("a thread");
        let executor = spawn_executor(Default::default(), move || async move {
            crate::runtime::spawn(pulse.clone().run());
            // As in the broker, the guard does not let it sleep over its work, or over the stop.
            let _running = pulse.begin();
            let held = Rc::new(RefCell::new(Vec::new()));
            let net = Net::new(
                limits,
                budget_of_shard,
                pulse.clone(),
                Arc::new(AtomicUsize::new(0)),
                Box::new(move |_, frame| answer(&held, frame)),
                Box::new(|_| false),
                Box::new(|_, _| {}),
            );
            let accepting = listen(net.clone(), socket, 16).expect("listening");
            crate::runtime::spawn(net.clone().sweep());
            listening.send(()).expect("the test waits");
            let _ = stopped.await;
            accepting.stop();
            net.drain(Duration::from_millis(200)).await;
        });
        is_listening.recv().expect("listening");
        let executor = Some(executor.expect("an executor"));
        TestServer { address, budget, stop: Some(stop), executor, _guard: guard }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("set");
        stream
    }

    fn stop(mut self) {
        drop(self.stop.take());
        self.executor.take().expect("stopped once").join().expect("an orderly end");
    }
}

fn answer(
    held: &Rc<RefCell<Vec<oneshot::Sender<()>>>>,
    frame: Bytes,
) -> LocalBoxFuture<'static, DispatchOutcome> {
    let ready = |outcome| std::future::ready(outcome).boxed_local();
    match i16::from_be_bytes([frame[0], frame[1]]) {
        ECHO => ready(echo(frame)),
        HELD => {
            let (release, released) = oneshot::channel();
            held.borrow_mut().push(release);
            released.map(|_| echo(frame)).boxed_local()
        }
        RELEASE => {
            held.borrow_mut().clear();
            ready(echo(frame))
        }
        SILENT => ready(DispatchOutcome::NoResponse),
        LARGE => {
            let length = (LARGE_SEGMENTS * LARGE_SEGMENT_BYTES) as i32;
            let head = Bytes::copy_from_slice(&length.to_be_bytes());
            let segments = (0..LARGE_SEGMENTS).map(|n| Bytes::from(vec![n as u8; LARGE_SEGMENT_BYTES]));
            ready(DispatchOutcome::Respond(std::iter::once(head).chain(segments).collect()))
        }
        _ => ready(DispatchOutcome::Close("asked to".into())),
    }
}

fn echo(frame: Bytes) -> DispatchOutcome {
    let head = Bytes::copy_from_slice(&(frame.len() as i32).to_be_bytes());
    DispatchOutcome::Respond(vec![head, frame])
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
fn frames_of_every_size_come_back_whole_and_the_budget_is_given_back() {
    let server = TestServer::start(64 << 20, |limits| limits.in_flight_max = 2);
    let mut client = server.connect();
    let sizes = [0, 1, 100, 4_000, 65_536, 300_000, 10, 1_000_000, 5_000_000, 65_530, 3];
    let bodies: Vec<Vec<u8>> =
        sizes.iter().map(|size| (0..*size).map(|n| (n * 7 + size) as u8).collect()).collect();
    let mut sender = client.try_clone().expect("cloned");
    let wire: Vec<u8> = bodies.iter().flat_map(|body| request(ECHO, body)).collect();
    let sending = std::thread::spawn(move || sender.write_all(&wire));
    for body in &bodies {
        assert!(read_answer(&mut client) == (ECHO, body.clone()), "{} bytes", body.len());
    }
    sending.join().expect("joined").expect("all is taken");
    let budget = server.budget.clone();
    server.stop();
    assert_eq!(budget.used_bytes(), 0);
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
fn a_client_that_never_reads_is_closed_and_its_memory_given_back() {
    let server = TestServer::start(64 << 20, |limits| limits.stall = Duration::from_millis(100));
    let mut client = server.connect();
    client.write_all(&request(LARGE, b"").repeat(100)).expect("sent");
    // 1.6 GB are owed; at most one answer and the limit on queued bytes are made before the rest of the requests waits.
    let mut honest = server.connect();
    honest.write_all(&request(ECHO, b"served meanwhile")).expect("sent");
    assert_eq!(read_answer(&mut honest).1, b"served meanwhile");
    assert!(server.budget.used_bytes() < 48 << 20, "{}", server.budget.used_bytes());
    let deadline = std::time::Instant::now() + DEADLINE;
    while server.budget.used_bytes() > 0 {
        assert!(std::time::Instant::now() < deadline, "the connection was not closed");
        std::thread::yield_now();
    }
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
