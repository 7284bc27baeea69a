//! Loopback TCP between two pinned threads with blocking sockets: no executor, nothing to blame but the kernel.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::stats::new_histogram;
use crate::sys::pin_to_core;

const STREAM_WRITE_BYTES: usize = 1 << 20;
const PING_BYTES: usize = 100;

/// Two ends of a loopback connection.
pub(super) fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    Ok((client, server))
}

/// Bytes per second of one stream in writes of 1 MiB, sender and receiver on a core each.
pub fn stream(cores: (usize, usize), duration: Duration) -> io::Result<f64> {
    let (mut sender, mut receiver) = pair()?;
    let sending = thread::spawn(move || -> io::Result<()> {
        pin_to_core(cores.1)?;
        let block = vec![0x5a; STREAM_WRITE_BYTES];
        let start = Instant::now();
        while start.elapsed() < duration {
            sender.write_all(&block)?;
        }
        Ok(())
    });
    let receiving = thread::spawn(move || -> io::Result<f64> {
        pin_to_core(cores.0)?;
        let mut block = vec![0; STREAM_WRITE_BYTES];
        let start = Instant::now();
        let mut bytes = 0;
        loop {
            match receiver.read(&mut block)? {
                0 => return Ok(bytes as f64 / start.elapsed().as_secs_f64()),
                read => bytes += read,
            }
        }
    });
    sending.join().expect("the sender does not panic")?;
    receiving.join().expect("the receiver does not panic")
}

/// Latencies of round trips of 100 bytes, both sides asleep in the kernel while they wait.
pub fn ping_pong(cores: (usize, usize), duration: Duration) -> io::Result<Histogram<u64>> {
    let (mut client, mut server) = pair()?;
    let answering = thread::spawn(move || -> io::Result<()> {
        pin_to_core(cores.0)?;
        let mut message = [0; PING_BYTES];
        loop {
            match server.read_exact(&mut message) {
                Ok(()) => server.write_all(&message)?,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    });
    let asking = thread::spawn(move || -> io::Result<Histogram<u64>> {
        pin_to_core(cores.1)?;
        let mut histogram = new_histogram();
        let mut message = [0; PING_BYTES];
        let start = Instant::now();
        while start.elapsed() < duration {
            let sent = Instant::now();
            client.write_all(&message)?;
            client.read_exact(&mut message)?;
            histogram.saturating_record(sent.elapsed().as_nanos() as u64);
        }
        Ok(histogram)
    });
    let histogram = asking.join().expect("the client does not panic")?;
    answering.join().expect("the server does not panic")?;
    Ok(histogram)
}
