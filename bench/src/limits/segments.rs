//! Durable writes into space that is only reserved, several side by side: what new data costs, as that of a broker's segments.
//!
//! Of such space a file system keeps that nothing was written to it yet, and with each sync it has to note that something is there now. A journal, which
//! overwrites what was filled before, does not have that.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::scratch::Scratch;
use crate::sys::{self, AlignedBuffer};

/// Files that are written at the same time, each by one write after the other.
pub const WRITERS: usize = 4;
/// Bytes of each write.
pub const WRITE_BYTES: usize = 1 << 20;
const RESERVED_AT_ONCE_BYTES: u64 = 64 << 20;
/// A file that is full is not overwritten, so the measurement may end before its time.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Bytes per second with the faster of the two ways to sync.
pub fn measure(dir: &Path, duration: Duration, remarks: &mut Vec<String>) -> io::Result<f64> {
    let mut fastest: f64 = 0.0;
    for flags in [0, libc::O_DSYNC] {
        let files: Vec<File> =
            (0..WRITERS).map(|_| Scratch::create(dir)?.open(flags, remarks)).collect::<io::Result<_>>()?;
        let start = Instant::now();
        let goes_on = || start.elapsed() < duration / 2;
        let bytes: u64 = thread::scope(|scope| {
            let writers: Vec<_> =
                files.iter().map(|file| scope.spawn(move || write(file, flags == 0, goes_on))).collect();
            writers
                .into_iter()
                .map(|writer| writer.join().expect("a writer does not panic"))
                .sum::<io::Result<_>>()
        })?;
        fastest = fastest.max(bytes as f64 / start.elapsed().as_secs_f64());
    }
    Ok(fastest)
}

/// How much has been written when the time is over, or the file full.
fn write(file: &File, syncs: bool, goes_on: impl Fn() -> bool) -> io::Result<u64> {
    let mut buffer = AlignedBuffer::new(WRITE_BYTES);
    let mut position = 0;
    while position == 0 || position < FILE_BYTES_MAX && goes_on() {
        if position % RESERVED_AT_ONCE_BYTES == 0 {
            sys::reserve(file, position, RESERVED_AT_ONCE_BYTES)?;
        }
        buffer.as_mut()[..8].copy_from_slice(&position.to_le_bytes());
        file.write_all_at(buffer.as_ref(), position)?;
        if syncs {
            file.sync_data()?;
        }
        position += WRITE_BYTES as u64;
    }
    Ok(position)
}
