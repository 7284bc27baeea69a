//! A cable that takes its time: joins two network interfaces, and passes every frame on after a delay, in both directions.
//!
//! For kernels without netem. Connections that exist go on, and TCP sees the round trips that it would see on a long way. It ends with standard input.
//! usage: slow-cable INTERFACE INTERFACE --ms 100

mod socket;

use clap::Parser;
use socket::FrameSocket;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The largest frame that the kernel hands out before it is cut into packets, with the header that says how to cut it.
const FRAME_BYTES_MAX: usize = 80 << 10;
/// More than can be under way in the delay is lost, as on any cable.
const QUEUED_BYTES_MAX: usize = 256 << 20;
/// How long a look at nothing takes at most.
const IDLE: Duration = Duration::from_millis(100);

/// Joins two network interfaces, and passes every frame on after a delay, in both directions.
#[derive(Parser)]
struct Arguments {
    /// One end.
    one: String,
    /// The other end.
    other: String,
    /// The delay in each direction, in milliseconds.
    #[arg(long, default_value_t = 100)]
    ms: u64,
}

/// Frames on their way in one direction, the oldest first.
#[derive(Default)]
struct Direction {
    under_way: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
}

impl Direction {
    /// Takes what has come in; it is due at `due`.
    fn fill(&mut self, from: &FrameSocket, buffer: &mut [u8], due: Instant) -> io::Result<()> {
        while let Some(len) = from.receive(buffer)? {
            if self.bytes + len <= QUEUED_BYTES_MAX {
                self.under_way.push_back((due, buffer[..len].to_vec()));
                self.bytes += len;
            }
        }
        Ok(())
    }

    /// Sends what is due at `now`.
    fn drain(&mut self, to: &FrameSocket, now: Instant) {
        while self.under_way.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, frame)) = self.under_way.pop_front() {
                self.bytes -= frame.len();
                // What the other end does not take, because it is down or full, is lost.
                let _ = to.send(&frame);
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.under_way.front().map(|(due, _)| *due)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    std::thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    match run(&arguments) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("between {} and {}: {error}", arguments.one, arguments.other);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<std::convert::Infallible> {
    let (one, other) = (FrameSocket::open(&arguments.one)?, FrameSocket::open(&arguments.other)?);
    let delay = Duration::from_millis(arguments.ms);
    let (mut there, mut back) = (Direction::default(), Direction::default());
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    loop {
        let now = Instant::now();
        there.fill(&one, &mut buffer, now + delay)?;
        back.fill(&other, &mut buffer, now + delay)?;
        there.drain(&other, now);
        back.drain(&one, now);
        let next = [there.next_due(), back.next_due()].into_iter().flatten().min();
        let patience = next.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()).min(IDLE));
        socket::wait([&one, &other], patience)?;
    }
}
