//! Where a connection's traffic goes, and whether another shard had better serve it. A pure core: time is an argument.
//!
//! What counts is a request's calls to shards, because each call to another shard costs two wake-ups whatever it carries. A connection is worth moving
//! when in two windows of [`WINDOW_CALLS`] one after the other at least three quarters went to the same other shard. Once there it would
//! have to send three quarters elsewhere to leave again, and not before it has stayed for a while, which grows with each move:
//! traffic that keeps changing sides soon stays where it is.

use crate::placement::ShardId;

/// Calls after which the traffic is judged.
const WINDOW_CALLS: u32 = 64;
/// A connection that has moved stays for so long …
const STAY_MS: u64 = 10_000;
/// … and twice as long after each further move, up to so many times.
const STAY_DOUBLINGS_MAX: u32 = 8;

/// The traffic of one connection by shard.
#[derive(Debug, Default)]
pub struct Affinity {
    /// Calls to each shard in this window; empty before the first.
    calls: Vec<u32>,
    total: u32,
    /// Where most of the last window went, if that was another shard.
    favourite: Option<ShardId>,
    moves: u32,
    stay_until_ms: u64,
}

/// What a look at the traffic came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// The window is not full yet.
    Open,
    /// The connection is where it belongs, or has to stay.
    Stay,
    /// The other shard had better serve it.
    Move(ShardId),
}

impl Affinity {
    /// Notes that a request needs `shard`, of `shards`.
    pub fn note(&mut self, shard: ShardId, shards: usize) {
        if self.calls.is_empty() {
            self.calls = vec![0; shards];
        }
        self.calls[shard.0] += 1;
        self.total += 1;
    }

    /// Judges the window if it is full. `home` is the shard that serves the connection; `now_ms` is that shard's time.
    pub fn judge(&mut self, home: ShardId, now_ms: impl FnOnce() -> u64) -> Judgement {
        if self.total < WINDOW_CALLS {
            return Judgement::Open;
        }
        let (most, calls) =
            self.calls.iter().enumerate().max_by_key(|(_, calls)| **calls).expect("there are calls");
        let favourite = (most != home.0 && calls * 4 >= self.total * 3).then_some(ShardId(most));
        self.calls.fill(0);
        self.total = 0;
        let before = std::mem::replace(&mut self.favourite, favourite);
        match favourite {
            Some(shard) if before == favourite && now_ms() >= self.stay_until_ms => Judgement::Move(shard),
            _ => Judgement::Stay,
        }
    }

    /// The connection has come to another shard, whose time is `now_ms`.
    pub fn moved(&mut self, now_ms: u64) {
        self.calls.fill(0);
        self.total = 0;
        self.favourite = None;
        self.stay_until_ms = now_ms + (STAY_MS << self.moves.min(STAY_DOUBLINGS_MAX));
        self.moves += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: ShardId = ShardId(0);
    const OTHER: ShardId = ShardId(1);

    /// One window, of which `of_hundred` percent go to the other shard.
    fn window(affinity: &mut Affinity, home: ShardId, of_hundred: u32, now_ms: u64) -> Judgement {
        let other = ShardId(1 - home.0);
        for n in 0..WINDOW_CALLS {
            assert_eq!(affinity.judge(home, || now_ms), Judgement::Open);
            affinity.note(if n * 100 < of_hundred * WINDOW_CALLS { other } else { home }, 2);
        }
        affinity.judge(home, || now_ms)
    }

    #[test]
    fn two_windows_for_the_same_other_shard_move_a_connection() {
        let mut affinity = Affinity::default();
        assert_eq!(window(&mut affinity, HOME, 100, 0), Judgement::Stay, "one may be chance");
        assert_eq!(window(&mut affinity, HOME, 80, 0), Judgement::Move(OTHER));
    }

    #[test]
    fn mixed_traffic_stays_on_either_side() {
        for home in [HOME, OTHER] {
            let mut affinity = Affinity::default();
            for _ in 0..10 {
                assert_eq!(window(&mut affinity, home, 70, u64::MAX), Judgement::Stay);
            }
        }
    }

    #[test]
    fn a_favourite_that_changes_between_windows_moves_nothing() {
        let mut affinity = Affinity::default();
        for _ in 0..10 {
            assert_eq!(window(&mut affinity, HOME, 100, 0), Judgement::Stay);
            assert_eq!(window(&mut affinity, HOME, 20, 0), Judgement::Stay);
        }
    }

    #[test]
    fn who_has_moved_stays_longer_each_time() {
        let mut affinity = Affinity::default();
        let (mut home, mut now_ms, mut stays) = (HOME, 0, Vec::new());
        for _ in 0..5 {
            affinity.moved(now_ms);
            let arrived_ms = now_ms;
            while !matches!(window(&mut affinity, home, 100, now_ms), Judgement::Move(_)) {
                now_ms += 1000;
            }
            stays.push(now_ms - arrived_ms);
            home = ShardId(1 - home.0);
        }
        assert_eq!(stays, [10_000, 20_000, 40_000, 80_000, 160_000]);
    }
}
