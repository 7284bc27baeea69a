//! How fast appends may go on: that follows from how full journal and cache are. Pure.
//!
//! From [`SLOW_FROM`] on appends live on credit that the flusher earns with each piece that it writes, twice the piece's size at first and less and
//! less towards the end of the room. So the two rates meet somewhere in between, piece by piece and without a timer, and nobody stands still
//! until a whole round is over.

use std::cell::Cell;

/// Appends are slowed down from this share of the room on.
pub(crate) const SLOW_FROM: f64 = 0.6;
/// Somewhat before that the flusher writes as fast as the disk allows, whatever that does to the latency of commits.
pub(crate) const PRESSED_FROM: f64 = 0.55;
/// What a flushed byte lets in at [`SLOW_FROM`]. Falls to nothing where the room ends.
const GAIN_AT_FIRST: f64 = 2.0;

/// Lets appends through at a rate that follows the flusher's.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// Bytes that may be appended although there is little room. Negative: the last append took more than there was.
    credit: Cell<i64>,
    most_credit: i64,
}

impl Throttle {
    /// With room for bursts of `most_credit` bytes.
    pub fn new(most_credit: usize) -> Self {
        Self { credit: Cell::new(most_credit as i64), most_credit: most_credit as i64 }
    }

    /// Whether an append may go on now that this share of the room is used.
    pub fn admits(&self, used: f64) -> bool {
        used < SLOW_FROM || self.credit.get() > 0
    }

    /// An append was let through.
    pub fn note_appended(&self, bytes: usize, used: f64) {
        if used >= SLOW_FROM {
            self.credit.set(self.credit.get() - bytes as i64);
        }
    }

    /// The flusher has written a piece.
    pub fn note_flushed(&self, bytes: usize, used: f64) {
        let left = ((1.0 - used) / (1.0 - SLOW_FROM)).clamp(0.0, 1.0);
        let earned = (bytes as f64 * GAIN_AT_FIRST * left) as i64;
        self.credit.set((self.credit.get() + earned).min(self.most_credit));
    }

    /// The flusher has nothing more to do: what it cannot earn is granted.
    pub fn refill(&self) {
        self.credit.set(self.most_credit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_much_room_nothing_is_held_back() {
        let throttle = Throttle::new(100);
        for _ in 0..1000 {
            assert!(throttle.admits(SLOW_FROM - 0.01));
            throttle.note_appended(1000, SLOW_FROM - 0.01);
        }
    }

    /// A producer that wants 4 times what the flusher writes, in steps in which the flusher writes one piece.
    #[test]
    fn a_producer_that_is_too_fast_is_slowed_down_to_the_flushers_pace_and_never_stopped() {
        const ROOM: usize = 1000 << 10;
        const PIECE: usize = 4 << 10;
        let throttle = Throttle::new(8 << 10);
        let (mut waiting, mut admitted, mut longest_pause, mut pause) = (0usize, Vec::new(), 0, 0);
        for _ in 0..5000 {
            let used = |waiting: usize| waiting as f64 / ROOM as f64;
            let mut in_step = 0;
            while in_step < 4 * PIECE && throttle.admits(used(waiting)) {
                throttle.note_appended(1 << 10, used(waiting));
                waiting += 1 << 10;
                in_step += 1 << 10;
            }
            pause = if in_step == 0 { pause + 1 } else { 0 };
            longest_pause = longest_pause.max(pause);
            admitted.push(in_step);
            assert!(waiting < ROOM, "the room is never used up");
            let written = PIECE.min(waiting);
            waiting -= written;
            throttle.note_flushed(written, used(waiting));
        }
        assert_eq!(admitted[0], 4 * PIECE);
        let mean: usize = admitted[4000..].iter().sum::<usize>() / 1000;
        assert!((PIECE - 64..=PIECE + 64).contains(&mean), "{mean}");
        assert!(longest_pause <= 1, "{longest_pause} steps without an append");
    }
}
