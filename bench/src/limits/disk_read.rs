//! Sequential direct reads, several in flight: what reading old data can reach at most.
//!
//! The file is larger than what any other limit has written, and is written past the page cache, so that the reads go to the device.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::scratch::Scratch;
use crate::sys::AlignedBuffer;

/// Bytes of each read.
pub const READ_BYTES: usize = 1 << 20;
/// Reads in flight at any time.
pub const READS_IN_FLIGHT: usize = 4;
/// Bytes of each read beside something else.
pub const READ_BESIDE_BYTES: usize = 256 << 10;
const FILE_BYTES_MIN: u64 = 256 << 20;
const FILE_BYTES_PER_SECOND: u64 = 1 << 30;

/// A file to read from, which is gone when the measurement ends.
pub struct Readable {
    file: File,
    bytes: u64,
}

impl Readable {
    /// Writes the file. A file system without direct I/O is measured without, and a remark says so.
    pub fn filled(dir: &Path, duration: Duration, remarks: &mut Vec<String>) -> io::Result<Readable> {
        let scratch = Scratch::create(dir)?;
        let path = scratch.path();
        let wanted = (FILE_BYTES_PER_SECOND as f64 * duration.as_secs_f64()) as u64;
        let bytes = wanted.max(FILE_BYTES_MIN).next_multiple_of(READ_BYTES as u64);
        let is_direct = fill(&path, bytes)?;
        if !is_direct {
            remarks.push(
                "this file system has no direct I/O: the disk's read figure is of cached reads".to_owned(),
            );
        }
        let file = open(&path, OpenOptions::new().read(true), is_direct)?;
        Ok(Readable { file, bytes })
    }

    /// Bytes per second of several large reads in flight.
    pub fn measure(&self, duration: Duration) -> io::Result<f64> {
        let next = AtomicU64::new(0);
        let start = Instant::now();
        let goes_on = || start.elapsed() < duration;
        thread::scope(|scope| {
            let readers: Vec<_> =
                (0..READS_IN_FLIGHT).map(|_| scope.spawn(|| self.read(&next, READ_BYTES, goes_on))).collect();
            readers.into_iter().try_for_each(|reader| reader.join().expect("a reader does not panic"))
        })?;
        let bytes = next.load(Ordering::Relaxed) * READ_BYTES as u64;
        Ok(bytes as f64 / start.elapsed().as_secs_f64())
    }

    /// Does `work` while small reads are made, one at a time; also bytes per second of those.
    pub fn beside<R>(&self, work: impl FnOnce() -> io::Result<R>) -> io::Result<(R, f64)> {
        let next = AtomicU64::new(0);
        let is_over = AtomicBool::new(false);
        let start = Instant::now();
        let goes_on = || !is_over.load(Ordering::Relaxed);
        thread::scope(|scope| {
            let reader = scope.spawn(|| self.read(&next, READ_BESIDE_BYTES, goes_on));
            let done = work();
            is_over.store(true, Ordering::Relaxed);
            reader.join().expect("the reader does not panic")?;
            let bytes = next.load(Ordering::Relaxed) * READ_BESIDE_BYTES as u64;
            Ok((done?, bytes as f64 / start.elapsed().as_secs_f64()))
        })
    }

    /// One of the readers: takes the next piece of the file, from the beginning again after its end.
    fn read(&self, next: &AtomicU64, read_bytes: usize, goes_on: impl Fn() -> bool) -> io::Result<()> {
        let mut buffer = AlignedBuffer::new(read_bytes);
        while goes_on() || next.load(Ordering::Relaxed) == 0 {
            let position = next.fetch_add(1, Ordering::Relaxed) * read_bytes as u64 % self.bytes;
            self.file.read_exact_at(buffer.as_mut(), position)?;
        }
        Ok(())
    }
}

/// Writes the file; answers whether that was done with direct I/O.
fn fill(path: &Path, file_bytes: u64) -> io::Result<bool> {
    let mut write = OpenOptions::new();
    write.write(true);
    let (file, is_direct) = match open(path, &write, true) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => (open(path, &write, false)?, false),
        other => (other?, true),
    };
    let mut buffer = AlignedBuffer::new(READ_BYTES);
    // Bytes that nothing below can compress or find that they are there already.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for position in (0..file_bytes).step_by(READ_BYTES) {
        for word in buffer.as_mut().chunks_exact_mut(8) {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            word.copy_from_slice(&seed.to_le_bytes());
        }
        file.write_all_at(buffer.as_ref(), position)?;
    }
    file.sync_all()?;
    Ok(is_direct)
}

fn open(path: &Path, options: &OpenOptions, is_direct: bool) -> io::Result<File> {
    options.clone().custom_flags(if is_direct { libc::O_DIRECT } else { 0 }).open(path)
}
