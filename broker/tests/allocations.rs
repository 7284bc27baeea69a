//! Allocations of a request in steady state, counted: a broker runs in this process, on an allocator that counts.
//!
//! The bounds are what was measured, with a little room: whoever passes one has added an allocation for each request. With
//! `ALLOCATION_SITES=1` in the environment the places that allocate are printed, the most frequent first.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use broker::config::load;
use broker::runtime::cores;
use broker::{server, signals};
use protocol::Request;
use protocol::frame::{decode_response, encode_request};
use protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use protocol::records::{BatchBuilder, BatchOptions};
use protocol::wire::Few;
use protocol::wire::Records;

const TOPIC: &str = "t";
const CREATE_TOPICS_VERSION: i16 = 7;
const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 12;
const DEADLINE: Duration = Duration::from_secs(60);
const RECORD_BYTES: usize = 1024;
/// Requests before counting begins: buffers, pools and maps have their size then.
const WARM_UP: usize = 500;
/// Requests of a round. The best of some rounds counts: on a busy machine glommio makes more turns for the same requests.
const COUNTED: usize = 100;
const ROUNDS: usize = 5;
/// With the places, each of which takes a look at the stack.
const COUNTED_WITH_SITES: usize = 20;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static COLLECTS_SITES: AtomicBool = AtomicBool::new(false);
static SITES: Mutex<Option<HashMap<String, u64>>> = Mutex::new(None);

thread_local! {
    /// Set on the client's thread, and while a site is noted.
    static IS_EXEMPT: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and the memory came from `System`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`, and the memory came from `System`.
        unsafe { System.realloc(memory, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    if IS_EXEMPT.get() {
        return;
    }
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    if COLLECTS_SITES.load(Ordering::Relaxed) {
        IS_EXEMPT.set(true);
        let site = site(&Backtrace::force_capture().to_string());
        if let Some(sites) = &mut *SITES.lock().expect("no panic while locked") {
            *sites.entry(site).or_default() += 1;
        }
        IS_EXEMPT.set(false);
    }
}

/// The frames of a backtrace that are ours, the innermost first.
fn site(backtrace: &str) -> String {
    let lines: Vec<&str> = backtrace.lines().map(str::trim).collect();
    let ours = lines.windows(2).filter_map(|pair| {
        let at = pair[1].strip_prefix("at ")?;
        let is_ours = ["./", "broker/", "storage/", "protocol/", "coord/"].iter().any(|dir| at.contains(dir));
        (is_ours && at.contains("/src/") && !at.contains("/.cargo/") && !at.contains("/rustc/")).then(|| {
            let name = pair[0].split_once(": ").map_or(pair[0], |(_, name)| name);
            let file = at.rsplit('/').take(2).collect::<Vec<_>>();
            format!("    {name} ({}/{})", file[1], file[0])
        })
    });
    let frames: Vec<String> = ours.take(4).collect();
    let outer = lines.iter().find(|line| line.contains("glommio::") || line.contains("alloc::")).copied();
    if frames.is_empty() { format!("    {}", outer.unwrap_or("elsewhere")) } else { frames.join("\n") }
}

/// A client that needs no memory while it works: frames are made before, answers are read into one buffer.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Sends `frames` at once and reads as many answers; the last one stays in the buffer.
    fn exchange(&mut self, frames: &[u8], answers: usize) -> &[u8] {
        self.stream.write_all(frames).expect("the broker takes requests");
        let mut length = 0;
        for _ in 0..answers {
            let mut head = [0; 4];
            self.stream.read_exact(&mut head).expect("an answer");
            length = u32::from_be_bytes(head) as usize;
            self.stream.read_exact(&mut self.buffer[..length]).expect("the rest of it");
        }
        &self.buffer[..length]
    }
}

fn frame<'a, M: Request<'a>>(request: &M, version: i16) -> Vec<u8> {
    encode_request(7, Some("test"), request, version).expect("encodable").concat()
}

fn create_topic() -> Vec<u8> {
    let topic =
        CreatableTopic { name: TOPIC.into(), num_partitions: 1, replication_factor: 1, ..Default::default() };
    frame(&CreateTopicsRequest { topics: vec![topic], ..Default::default() }, CREATE_TOPICS_VERSION)
}

fn produce() -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(1_000, None, Some(&[7; RECORD_BYTES]), &[]);
    let batch = builder.build().expect("small").to_vec();
    let data = PartitionProduceData { records: Some(Records::Borrowed(&batch)), ..Default::default() };
    let topic = TopicProduceData { name: TOPIC.into(), partition_data: Few::one(data), ..Default::default() };
    let request =
        ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: Few::one(topic), ..Default::default() };
    frame(&request, PRODUCE_VERSION)
}

/// A fetch of a session: the first has the epoch 0 and gets the session's id.
fn fetch(session_id: i32, session_epoch: i32, fetch_offset: i64, max_bytes: i32) -> Vec<u8> {
    let partition = FetchPartition { fetch_offset, partition_max_bytes: max_bytes, ..Default::default() };
    let topic = FetchTopic { topic: TOPIC.into(), partitions: Few::one(partition), ..Default::default() };
    let request = FetchRequest {
        max_wait_ms: 30_000,
        min_bytes: 1,
        max_bytes,
        session_id,
        session_epoch,
        topics: Few::one(topic),
        ..Default::default()
    };
    frame(&request, FETCH_VERSION)
}

/// Allocations of the broker for each call of `work`, after some to warm up.
fn allocations_per_call(what: &str, mut work: impl FnMut()) -> f64 {
    (0..WARM_UP).for_each(|_| work());
    let wants_sites = std::env::var_os("ALLOCATION_SITES").is_some();
    let (counted, rounds) = if wants_sites { (COUNTED_WITH_SITES, 1) } else { (COUNTED, ROUNDS) };
    if wants_sites {
        *SITES.lock().expect("no panic while locked") = Some(HashMap::new());
        COLLECTS_SITES.store(true, Ordering::Relaxed);
    }
    let least = (0..rounds).map(|_| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        (0..counted).for_each(|_| work());
        ALLOCATIONS.load(Ordering::Relaxed) - before
    });
    let per_call = least.min().unwrap_or(0) as f64 / counted as f64;
    COLLECTS_SITES.store(false, Ordering::Relaxed);
    println!("{what}: {per_call:.2} allocations");
    let sites = SITES.lock().expect("no panic while locked").take().unwrap_or_default();
    let mut sites: Vec<_> = sites.into_iter().filter(|(_, times)| *times > 1).collect();
    sites.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    for (site, times) in sites {
        println!("  {:.2} times at\n{site}", times as f64 / counted as f64);
    }
    per_call
}

/// Starts the broker on a thread of its own, with one shard; where clients connect.
fn start(dir: &Path) -> (std::thread::JoinHandle<()>, std::net::SocketAddr) {
    let ready_file = dir.join("ready.json");
    let core = cores::allowed().expect("the affinity mask is readable")[0];
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let settings = [
        ("listen", "127.0.0.1:0".to_owned()),
        ("admin", "127.0.0.1:0".to_owned()),
        ("memory", "512M".to_owned()),
        ("cores", core.to_string()),
        ("data_dir", text(&dir.join("data"))),
        ("ready_file", text(&ready_file)),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value));
    let config = load(None, std::iter::empty(), &settings).expect("a valid configuration");
    let broker = std::thread::spawn(move || server::run(config).expect("the broker runs and stops"));
    let deadline = Instant::now() + DEADLINE;
    while !ready_file.exists() {
        assert!(!broker.is_finished() && Instant::now() < deadline, "the broker does not become ready");
        std::thread::sleep(Duration::from_millis(5));
    }
    let text = std::fs::read_to_string(&ready_file).expect("readable");
    let ready: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    (broker, ready["kafka"].as_str().expect("text").parse().expect("an address"))
}

/// Whether the arguments that a test harness would take leave this test out.
fn is_left_out() -> bool {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut filters = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
    let is_filtered =
        filters.peek().is_some() && !filters.any(|filter| "allocations".contains(filter.as_str()));
    is_filtered || arguments.iter().any(|argument| argument == "--list")
}

fn main() {
    if is_left_out() {
        return;
    }
    signals::block().expect("blocked");
    IS_EXEMPT.set(true);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder on a disk");
    let (broker, address) = start(dir.path());
    let stream = TcpStream::connect(address).expect("the broker listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a valid time-out");
    stream.set_nodelay(true).expect("set");
    let mut client = Client { stream, buffer: vec![0; 4 << 20] };
    client.exchange(&create_topic(), 1);
    requests_allocate_no_more_than_they_did(&mut client);
    drop(client);
    // SAFETY: a signal that the broker's own thread waits for.
    assert_eq!(unsafe { libc::kill(libc::getpid(), libc::SIGTERM) }, 0);
    broker.join().expect("an orderly stop");
}

fn requests_allocate_no_more_than_they_did(client: &mut Client) {
    let one = produce();
    let produce_alone = allocations_per_call("a produce of 1 KiB", || {
        client.exchange(&one, 1);
    });
    const PIPELINED: usize = 20;
    let many = one.repeat(PIPELINED);
    let pipelined = allocations_per_call("20 pipelined produces of 1 KiB", || {
        client.exchange(&many, PIPELINED);
    }) / PIPELINED as f64;

    let answer = client.exchange(&fetch(0, 0, 0, 1), 1).to_vec();
    let (_, first) = decode_response::<FetchResponse<'_>>(&answer, FETCH_VERSION).expect("decodable");
    let session_id = first.session_id;
    assert!(session_id > 0, "a session is made");
    let cached = fetch(0, -1, 0, 1 << 20);
    let fetch_cached = allocations_per_call("a fetch of 1 MiB from the cache, without a session", || {
        client.exchange(&cached, 1);
    });
    // The fetch waits for the record that comes behind it, and both are answered.
    let partition = &first.responses[0].partitions[0];
    let mut end = partition.high_watermark;
    let mut epoch = 0;
    let mut tail = Vec::new();
    let fetch_tail =
        allocations_per_call("a waiting fetch of one record in a session, and its produce", || {
            epoch += 1;
            tail.clear();
            tail.extend(fetch(session_id, epoch, end, 1 << 20));
            tail.extend(&one);
            client.exchange(&tail, 2);
            end += 1;
        });
    assert!(produce_alone <= 32.0, "a produce allocates {produce_alone:.2} times");
    assert!(pipelined <= 5.0, "a pipelined produce allocates {pipelined:.2} times");
    assert!(fetch_cached <= 20.0, "a fetch from the cache allocates {fetch_cached:.2} times");
    assert!(fetch_tail <= 42.0, "a fetch that waits, and its produce, allocate {fetch_tail:.2} times");
}
