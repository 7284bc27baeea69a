//! The run's clock: nanoseconds since its start, with a fixed place in wall-clock time.
//!
//! The wall clock is read once; afterwards only the monotonic clock counts, so that a step of the wall clock in the middle of a run
//! cannot bend latencies.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A monotonic clock that knows which moment of wall-clock time its zero is.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    zero: Instant,
    zero_unix_ns: u64,
}

impl Clock {
    /// A clock whose zero is `delay` from now (so that all workers can be ready when the schedule starts).
    pub fn starting_in(delay: Duration) -> Clock {
        let unix = since_epoch();
        Clock { zero: Instant::now() + delay, zero_unix_ns: (unix + delay).as_nanos() as u64 }
    }

    /// Nanoseconds since the clock's zero, or 0 before it.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        Instant::now().saturating_duration_since(self.zero).as_nanos() as u64
    }

    /// How long until `at_ns`; zero if it has passed.
    #[inline]
    pub fn until(&self, at_ns: u64) -> Duration {
        (self.zero + Duration::from_nanos(at_ns)).saturating_duration_since(Instant::now())
    }

    /// The moment `at_ns` as nanoseconds since 1970.
    #[inline]
    pub fn unix_ns(&self, at_ns: u64) -> u64 {
        self.zero_unix_ns + at_ns
    }
}

/// The wall clock in ms since 1970.
pub fn unix_ms() -> u64 {
    since_epoch().as_millis() as u64
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_stands_at_zero_until_it_starts() {
        let clock = Clock::starting_in(Duration::from_secs(3600));
        assert_eq!(clock.now_ns(), 0);
        assert!(clock.until(0) > Duration::from_secs(3000));
    }

    #[test]
    fn wall_clock_and_run_clock_differ_by_a_constant() {
        let clock = Clock::starting_in(Duration::ZERO);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
        assert!(clock.unix_ns(clock.now_ns()).abs_diff(wall) < 1_000_000_000);
    }
}
