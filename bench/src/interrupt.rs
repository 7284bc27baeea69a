//! Ctrl-C and SIGTERM during a run: the first ends it early, with a report of what was measured; one that comes later ends the process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// What a shell says of a process that Ctrl-C has ended.
const EXIT_CODE: i32 = 128 + SIGINT;
/// Signals that come within this time are one: `timeout` and its like send each twice.
const ONE_SIGNAL: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Flags {
    /// A signal has come.
    is_asked: Arc<AtomicBool>,
    /// The next signal ends the process.
    is_armed: Arc<AtomicBool>,
}

static FLAGS: OnceLock<Flags> = OnceLock::new();

/// What one run knows of signals.
pub struct Watch<'a> {
    flags: &'a Flags,
    asked_at: Option<Instant>,
}

/// Takes the signals from now on. Until then they end the process.
pub fn listen() -> Watch<'static> {
    let flags = FLAGS.get_or_init(|| {
        let flags = Flags::default();
        for signal in [SIGINT, SIGTERM] {
            // An error means that the signal does what it did before.
            let _ = flag::register_conditional_shutdown(signal, EXIT_CODE, Arc::clone(&flags.is_armed));
            let _ = flag::register(signal, Arc::clone(&flags.is_asked));
        }
        flags
    });
    Watch::new(flags)
}

impl<'a> Watch<'a> {
    fn new(flags: &'a Flags) -> Watch<'a> {
        flags.is_asked.store(false, Ordering::Relaxed);
        flags.is_armed.store(false, Ordering::Relaxed);
        Watch { flags, asked_at: None }
    }

    /// Whether the run is to end. To be asked again and again: that is how time passes between two signals.
    pub fn is_asked(&mut self, now: Instant) -> bool {
        if !self.flags.is_asked.load(Ordering::Relaxed) {
            return false;
        }
        let asked_at = *self.asked_at.get_or_insert(now);
        if now.duration_since(asked_at) >= ONE_SIGNAL {
            self.flags.is_armed.store(true, Ordering::Relaxed);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_is_sent_twice_is_one_and_a_later_one_ends_the_process() {
        let flags = Flags::default();
        let mut watch = Watch::new(&flags);
        let start = Instant::now();
        let mut look = |after| {
            let is_asked = watch.is_asked(start + after);
            (is_asked, flags.is_armed.load(Ordering::Relaxed))
        };
        assert_eq!(look(Duration::ZERO), (false, false));
        flags.is_asked.store(true, Ordering::Relaxed);
        assert_eq!(look(ONE_SIGNAL * 5), (true, false));
        assert_eq!(look(ONE_SIGNAL * 5 + ONE_SIGNAL / 2), (true, false));
        assert_eq!(look(ONE_SIGNAL * 6), (true, true));
        Watch::new(&flags);
        assert!(!flags.is_armed.load(Ordering::Relaxed), "the next run begins anew");
    }
}
