//! The barest broker: receives records of 1 KiB that come at a steady rate, writes what has come into a file that was filled before, with sync, and answers.
//!
//! No protocol, no executor, a blocking thread on each end: a broker that acknowledges what is durable cannot be quicker on this machine in this minute.
//! As in a broker what comes during a write is written together with the next one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::scratch::FILE_BYTES;
use super::tcp::pair;
use crate::stats::new_histogram;
use crate::sys::{AlignedBuffer, pin_to_core};

/// Size of each record.
pub const RECORD_BYTES: usize = 1024;
const ANSWER_BYTES: usize = 16;
/// Most records that one write takes.
const RECORDS_MAX: usize = 64;
/// What is written is a multiple of this.
const BLOCK_BYTES: usize = 4096;

/// Latencies from the moment when a record was to be sent, `rate` each second, until its answer has come. `file` is written through.
pub fn measure(
    file: &File,
    cores: (usize, usize),
    rate: u32,
    duration: Duration,
) -> io::Result<Histogram<u64>> {
    let (client, server) = pair()?;
    let sender = client.try_clone()?;
    let records = (duration.as_secs_f64() * f64::from(rate)).ceil().max(1.0) as u32;
    let start = Instant::now();
    let due = |record: u32| start + Duration::from_secs(1) / rate * record;
    thread::scope(|scope| {
        let serving = scope.spawn(move || serve(server, file, cores.0));
        let sending = scope.spawn(move || send(sender, (0..records).map(due), cores.1));
        let receiving = scope.spawn(move || receive(client, (0..records).map(due), cores.1));
        let latencies = receiving.join().expect("the receiver does not panic")?;
        sending.join().expect("the sender does not panic")?;
        serving.join().expect("the server does not panic")?;
        Ok(latencies)
    })
}

fn send(mut socket: TcpStream, due: impl Iterator<Item = Instant>, core: usize) -> io::Result<()> {
    pin_to_core(core)?;
    let record = [0x5a; RECORD_BYTES];
    for due in due {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        socket.write_all(&record)?;
    }
    Ok(())
}

fn receive(
    mut socket: TcpStream,
    due: impl Iterator<Item = Instant>,
    core: usize,
) -> io::Result<Histogram<u64>> {
    pin_to_core(core)?;
    let mut latencies = new_histogram();
    let mut answer = [0; ANSWER_BYTES];
    for due in due {
        socket.read_exact(&mut answer)?;
        latencies.saturating_record(due.elapsed().as_nanos() as u64);
    }
    socket.shutdown(std::net::Shutdown::Both)?;
    Ok(latencies)
}

fn serve(mut socket: TcpStream, file: &File, core: usize) -> io::Result<()> {
    pin_to_core(core)?;
    let mut buffer = AlignedBuffer::new(RECORDS_MAX * RECORD_BYTES);
    let (mut filled, mut position) = (0, 0);
    loop {
        filled += match socket.read(&mut buffer.as_mut()[filled..])? {
            0 => return Ok(()),
            received => received,
        };
        let records = filled / RECORD_BYTES;
        if records == 0 {
            continue;
        }
        let bytes = records * RECORD_BYTES;
        let checksum = crc32c::crc32c(&buffer.as_ref()[..bytes]);
        let written = bytes.next_multiple_of(BLOCK_BYTES);
        if position + written as u64 > FILE_BYTES {
            position = 0;
        }
        file.write_all_at(&buffer.as_ref()[..written], position)?;
        position += written as u64;
        let mut answers = [0; RECORDS_MAX * ANSWER_BYTES];
        answers[..4].copy_from_slice(&checksum.to_le_bytes());
        socket.write_all(&answers[..records * ANSWER_BYTES])?;
        buffer.as_mut().copy_within(bytes..filled, 0);
        filled -= bytes;
    }
}
