//! CRC-32C over memory in cache.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Bytes per second of CRC-32C over blocks of 1 MiB.
pub fn measure(duration: Duration) -> f64 {
    let block: Vec<u8> = (0..1usize << 20).map(|i| (i * 31) as u8).collect();
    let start = Instant::now();
    let mut bytes = 0usize;
    while bytes == 0 || start.elapsed() < duration {
        black_box(crc32c::crc32c(black_box(&block)));
        bytes += block.len();
    }
    bytes as f64 / start.elapsed().as_secs_f64()
}
