//! Direct writes with sync, one at a time, to a file that was filled with zeros before: what a journal's commit costs at least.
//!
//! The file is filled first because a write that extends a file, or fills a hole, makes each sync commit the file system's own
//! journal too: that would measure something that a good journal avoids.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::scratch::{FILE_BYTES, Scratch};
use crate::stats::new_histogram;
use crate::sys::AlignedBuffer;

const WRITE_BYTES: [usize; 2] = [4 << 10, 1 << 20];

/// One kind of write.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JournalLimit {
    /// Bytes of each write.
    pub write_bytes: usize,
    /// How it was made durable: `fdatasync` after the write, or `O_DSYNC` on the file.
    pub sync: String,
    /// Durable bytes per second, one write at a time.
    pub bytes_per_second: f64,
    /// Median of write and sync together.
    pub p50_ns: u64,
    /// Its 99th percentile.
    pub p99_ns: u64,
}

/// Measures each size with each way to sync. A file system without direct I/O is measured without, and a remark says so.
pub fn measure(
    scratch: &Scratch,
    duration: Duration,
    remarks: &mut Vec<String>,
) -> io::Result<Vec<JournalLimit>> {
    let mut limits = Vec::new();
    for (sync, flags) in [("fdatasync", 0), ("O_DSYNC", libc::O_DSYNC)] {
        let file = scratch.open(flags, remarks)?;
        for write_bytes in WRITE_BYTES {
            limits.push(measure_one(&file, write_bytes, sync, duration / WRITE_BYTES.len() as u32)?);
        }
    }
    Ok(limits)
}

fn measure_one(file: &File, write_bytes: usize, sync: &str, duration: Duration) -> io::Result<JournalLimit> {
    let mut buffer = AlignedBuffer::new(write_bytes);
    let mut histogram = new_histogram();
    let mut position = 0;
    let start = Instant::now();
    while histogram.is_empty() || start.elapsed() < duration {
        // Different bytes each time, so that nothing below can find that they are there already.
        buffer.as_mut()[..8].copy_from_slice(&histogram.len().to_le_bytes());
        let began = Instant::now();
        file.write_all_at(buffer.as_ref(), position)?;
        if sync == "fdatasync" {
            file.sync_data()?;
        }
        histogram.saturating_record(began.elapsed().as_nanos() as u64);
        position = (position + write_bytes as u64) % FILE_BYTES;
    }
    let bytes = histogram.len() as f64 * write_bytes as f64;
    Ok(JournalLimit {
        write_bytes,
        sync: sync.to_owned(),
        bytes_per_second: bytes / start.elapsed().as_secs_f64(),
        p50_ns: histogram.value_at_quantile(0.5),
        p99_ns: histogram.value_at_quantile(0.99),
    })
}
