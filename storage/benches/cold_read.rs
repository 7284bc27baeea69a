//! Two ways to send what is only on disk to a socket, compared: direct reads of our own into our own memory, several ahead of the sender,
//! and the kernel's read-ahead into the page cache with `sendfile`.
//!
//! Both have one sender that never waits for the disk: helper threads bring the pieces in and tell it. All of that runs on one core, the
//! receiver on another. Printed are the throughput and the processor time of the sending side for each GB.
//!
//! `cargo bench -p storage --bench cold_read -- --file FILE`, with a segment of some 100 MiB at least; without `--file` a small one is made and read
//! for a moment, which shows that the program works and nothing else.

#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    os::{fd::AsRawFd, unix::fs::FileExt, unix::fs::OpenOptionsExt},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// Boundary of memory and position in direct I/O.
const ALIGN: usize = 4096;
const RUN: Duration = Duration::from_secs(3);
const RUN_WITHOUT_FILE: Duration = Duration::from_millis(50);

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut given = None;
    while let Some(argument) = arguments.next() {
        if argument == "--file" {
            given = arguments.next().map(PathBuf::from);
        }
    }
    let scratch = tempfile::tempdir()?;
    let (path, run) = match given {
        Some(path) => (path, RUN),
        None => {
            let path = scratch.path().join("segment");
            std::fs::write(&path, vec![7; 64 << 20])?;
            (path, RUN_WITHOUT_FILE)
        }
    };
    let file_bytes = std::fs::metadata(&path)?.len();
    println!("{} of {} MiB", path.display(), file_bytes >> 20);
    for piece_bytes in [256 << 10, 512 << 10, 1 << 20] {
        for ahead in [2, 4, 8] {
            let source = Source { path: path.clone(), file_bytes, piece_bytes, ahead, run };
            report("direct reads", &source, measure(&source, send_direct)?);
            report("sendfile", &source, measure(&source, send_from_page_cache)?);
        }
    }
    Ok(())
}

struct Source {
    path: PathBuf,
    file_bytes: u64,
    piece_bytes: usize,
    /// Pieces in flight or waiting for the sender.
    ahead: usize,
    run: Duration,
}

struct Measured {
    bytes: u64,
    wall: Duration,
    processor: Duration,
}

fn report(name: &str, source: &Source, measured: Measured) {
    let gb = measured.bytes as f64 / 1e9;
    println!(
        "{name:<13} {:>5} KiB x {}   {:.2} GB/s   {:.0} ms of processor time per GB",
        source.piece_bytes >> 10,
        source.ahead,
        gb / measured.wall.as_secs_f64(),
        measured.processor.as_secs_f64() * 1e3 / gb
    );
}

/// Sends for a while; the sender's threads inherit its core.
fn measure(
    source: &Source,
    send: fn(&Source, &mut TcpStream, &AtomicU64) -> io::Result<u64>,
) -> io::Result<Measured> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiver, _) = listener.accept()?;
    let receiving = thread::spawn(move || {
        pin_to_core(1);
        let mut buffer = vec![0; 1 << 20];
        while receiver.read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    let helpers_ns = AtomicU64::new(0);
    let measured = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            pin_to_core(0);
            let begun = Instant::now();
            let bytes = send(source, &mut sender, &helpers_ns)?;
            let own = thread_processor_time();
            let processor = own + Duration::from_nanos(helpers_ns.load(Ordering::Relaxed));
            io::Result::Ok(Measured { bytes, wall: begun.elapsed(), processor })
        });
        sending.join().expect("the sender does not panic")
    });
    drop(sender);
    receiving.join().expect("the receiver does not panic");
    measured
}

/// Runs helpers that bring in piece after piece, and hands the pieces to `send` in their order.
fn in_order<T: Send>(
    source: &Source,
    helpers_ns: &AtomicU64,
    bring_in: impl Fn(u64) -> io::Result<T> + Sync,
    mut send: impl FnMut(u64, T) -> io::Result<()>,
) -> io::Result<u64> {
    let pieces = source.file_bytes / source.piece_bytes as u64;
    let (brought, arrivals) = mpsc::channel();
    let (ask, asked) = mpsc::channel::<u64>();
    let asked = Arc::new(std::sync::Mutex::new(asked));
    thread::scope(|scope| {
        for _ in 0..source.ahead {
            let (asked, brought, bring_in) = (asked.clone(), brought.clone(), &bring_in);
            scope.spawn(move || {
                loop {
                    let Ok(n) = asked.lock().expect("nobody panics under it").recv() else { break };
                    let _ = brought.send((n, bring_in(n % pieces * source.piece_bytes as u64)));
                }
                helpers_ns.fetch_add(thread_processor_time().as_nanos() as u64, Ordering::Relaxed);
            });
        }
        let begun = Instant::now();
        let mut waiting: VecDeque<Option<T>> = VecDeque::new();
        let (mut next, mut asked_for) = (0, 0);
        while begun.elapsed() < source.run {
            while asked_for < next + source.ahead as u64 {
                ask.send(asked_for).expect("the helpers listen");
                waiting.push_back(None);
                asked_for += 1;
            }
            while !matches!(waiting.front(), Some(Some(_))) {
                let (n, piece) = arrivals.recv().expect("the helpers live");
                waiting[(n - next) as usize] = Some(piece?);
            }
            let piece = waiting.pop_front().flatten().expect("it has arrived");
            send(next % pieces * source.piece_bytes as u64, piece)?;
            next += 1;
        }
        drop(ask);
        Ok(next * source.piece_bytes as u64)
    })
}

fn send_direct(source: &Source, socket: &mut TcpStream, helpers_ns: &AtomicU64) -> io::Result<u64> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&source.path)?;
    let free = std::sync::Mutex::new(Vec::new());
    let bring_in = |position: u64| {
        let reused = free.lock().expect("nobody panics under it").pop();
        let mut memory: Vec<u8> = reused.unwrap_or_else(|| vec![0; source.piece_bytes + ALIGN]);
        let start = memory.as_ptr().align_offset(ALIGN);
        file.read_exact_at(&mut memory[start..start + source.piece_bytes], position)?;
        Ok((start, memory))
    };
    in_order(source, helpers_ns, bring_in, |_, (start, memory)| {
        socket.write_all(&memory[start..start + source.piece_bytes])?;
        free.lock().expect("nobody panics under it").push(memory);
        Ok(())
    })
}

fn send_from_page_cache(source: &Source, socket: &mut TcpStream, helpers_ns: &AtomicU64) -> io::Result<u64> {
    let file = File::open(&source.path)?;
    advise(&file, 0, 0, libc::POSIX_FADV_DONTNEED)?;
    let bring_in = |position: u64| {
        advise(&file, position, source.piece_bytes, libc::POSIX_FADV_WILLNEED)?;
        // A read waits for its page: of the last one, and of those before it in case it came first.
        for at in (0..source.piece_bytes).step_by(64 << 10).map(|at| at + (64 << 10) - 1) {
            file.read_exact_at(&mut [0], position + at as u64)?;
        }
        Ok(())
    };
    in_order(source, helpers_ns, bring_in, |position, ()| {
        let mut at = position as libc::off_t;
        let end = at + source.piece_bytes as libc::off_t;
        while at < end {
            // SAFETY: both descriptors are open for the call, and `at` outlives it.
            let sent =
                unsafe { libc::sendfile(socket.as_raw_fd(), file.as_raw_fd(), &mut at, (end - at) as usize) };
            if sent <= 0 {
                return Err(io::Error::last_os_error());
            }
        }
        // Read once: the page cache is not to fill with it.
        advise(&file, position, source.piece_bytes, libc::POSIX_FADV_DONTNEED)
    })
}

fn advise(file: &File, position: u64, len: usize, advice: i32) -> io::Result<()> {
    // SAFETY: a call with an open descriptor and plain numbers.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), position as i64, len as i64, advice) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn thread_processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure lives through the call, which fills it.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Best effort: on a machine with one core there is nothing to choose.
fn pin_to_core(core: usize) {
    // SAFETY: a `cpu_set_t` of zeros is the empty set, and the kernel only reads it during the call.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}
