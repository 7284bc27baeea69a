//! How fast followers that are behind are served from segments, so that live traffic keeps its latency, and throttled ones at all. Pure.

/// A read takes as much at least: it should hold a batch or two.
const READ_BYTES_MIN: usize = 4 << 10;

/// Lets so many bytes a second through, in bursts of at most a tenth of a second's worth or one read.
#[derive(Debug, Clone)]
pub struct Pace {
    bytes_per_second: u64,
    /// Bytes that may be read now; negative: the last read took more than there was.
    credit: i64,
    earned_to_ms: i64,
}

impl Pace {
    /// `bytes_per_second` of 0 is no limit.
    pub fn new(bytes_per_second: u64, now_ms: i64) -> Self {
        Pace { bytes_per_second, credit: 0, earned_to_ms: now_ms }
    }

    /// Whether there is a limit.
    pub fn is_limited(&self) -> bool {
        self.bytes_per_second > 0
    }

    /// Lets another number of bytes through from now on.
    pub fn set_rate(&mut self, bytes_per_second: u64) {
        self.bytes_per_second = bytes_per_second;
    }

    /// The most that one read should take, so that it is not followed by a long silence.
    pub fn read_bytes_max(&self) -> usize {
        usize::try_from(self.bytes_per_second).unwrap_or(usize::MAX).max(READ_BYTES_MIN)
    }

    /// How long to wait before the next read; 0: it may begin. Milliseconds.
    pub fn wait_ms(&mut self, now_ms: i64) -> u64 {
        if self.bytes_per_second == 0 {
            return 0;
        }
        let rate = self.bytes_per_second.min(i64::MAX as u64 / 1_000_000) as i64;
        let elapsed_ms = (now_ms - self.earned_to_ms).clamp(0, 100_000);
        self.earned_to_ms = now_ms;
        self.credit = (self.credit + rate * elapsed_ms / 1000).min(rate / 10);
        if self.credit >= 0 { 0 } else { (-self.credit * 1000 / rate) as u64 + 1 }
    }

    /// So much was read.
    pub fn took(&mut self, bytes: usize) {
        if self.bytes_per_second > 0 {
            self.credit -= bytes as i64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_come_to_the_rate_and_without_one_nothing_waits() {
        let mut pace = Pace::new(1_000_000, 0);
        let (mut now_ms, mut read) = (0, 0u64);
        while now_ms < 10_000 {
            match pace.wait_ms(now_ms) {
                0 => {
                    pace.took(64 << 10);
                    read += 64 << 10;
                }
                wait => now_ms += wait as i64,
            }
        }
        assert!((9_800_000..10_300_000).contains(&read), "{read}");
        let mut free = Pace::new(0, 0);
        free.took(1 << 40);
        assert_eq!(free.wait_ms(0), 0);
    }
}
