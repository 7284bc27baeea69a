//! Deadlines in order. Setting one, moving one and taking the next due one cost O(log n) at most.
//!
//! Sessions are moved with every heartbeat and every commit, and end hardly ever. So a deadline that moves to a later time stays where it
//! is in the order, and is put in its right place when its old time comes.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What a deadline is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Expired offsets are looked for.
    OffsetExpiry,
    /// Offsets of deleted topics remain to be removed.
    DeletedTopics,
    /// A classic group's session with a member (or with one that was given an id and has not come back with it).
    ClassicSession(Rc<str>, Rc<str>),
    /// A classic group waits for its members to rejoin.
    ClassicJoin(Rc<str>),
    /// A classic group waits for its members to synchronize.
    ClassicSync(Rc<str>),
    /// A consumer group's session with a member.
    ConsumerSession(Rc<str>, Rc<str>),
    /// A consumer group waits for a member to give up partitions.
    ConsumerRebalance(Rc<str>, Rc<str>),
    /// A consumer group waits for a member of the classic protocol to join again.
    ConsumerJoin(Rc<str>, Rc<str>),
    /// A consumer group waits for a member of the classic protocol to synchronize.
    ConsumerSync(Rc<str>, Rc<str>),
    /// A consumer group has become a classic one, which is to rebalance.
    ConsumerDowngraded(Rc<str>),
}

/// When a timer is to fire, and where it stands in the order.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// When it is to fire.
    deadline_ms: i64,
    /// Its place in the order, never later than the deadline.
    queued_ms: i64,
}

/// All deadlines of one coordinator.
#[derive(Debug, Default)]
pub struct Timers {
    entries: BTreeMap<Timer, Entry>,
    queue: BTreeSet<(i64, Timer)>,
}

impl Timers {
    /// Sets the timer, or moves it.
    pub fn schedule(&mut self, timer: Timer, deadline_ms: i64) {
        if let Some(entry) = self.entries.get_mut(&timer) {
            entry.deadline_ms = deadline_ms;
            if entry.queued_ms <= deadline_ms {
                return;
            }
            let queued_ms = std::mem::replace(&mut entry.queued_ms, deadline_ms);
            self.queue.remove(&(queued_ms, timer.clone()));
        } else {
            self.entries.insert(timer.clone(), Entry { deadline_ms, queued_ms: deadline_ms });
        }
        self.queue.insert((deadline_ms, timer));
    }

    /// Forgets the timer.
    pub fn cancel(&mut self, timer: &Timer) {
        if let Some(entry) = self.entries.remove(timer) {
            self.queue.remove(&(entry.queued_ms, timer.clone()));
        }
    }

    /// When the timer is to fire, if it is set.
    pub fn deadline_ms(&self, timer: &Timer) -> Option<i64> {
        self.entries.get(timer).map(|entry| entry.deadline_ms)
    }

    /// When to look again: not after the next deadline, perhaps before it.
    pub fn next_ms(&self) -> Option<i64> {
        self.queue.first().map(|(queued_ms, _)| *queued_ms)
    }

    /// Takes the next timer whose time has come, in the order of deadlines.
    pub fn pop_due(&mut self, now_ms: i64) -> Option<Timer> {
        while self.next_ms().is_some_and(|next_ms| next_ms <= now_ms) {
            let (_, timer) = self.queue.pop_first().expect("the queue has a first entry");
            let entry = self.entries.get_mut(&timer).expect("every queued timer has an entry");
            if entry.deadline_ms > now_ms {
                entry.queued_ms = entry.deadline_ms;
                self.queue.insert((entry.queued_ms, timer));
                continue;
            }
            self.entries.remove(&timer);
            return Some(timer);
        }
        None
    }

    /// How many timers are set.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(member: &str) -> Timer {
        Timer::ClassicSession("group".into(), member.into())
    }

    #[test]
    fn a_timer_fires_once_and_not_before_its_time() {
        let mut timers = Timers::default();
        timers.schedule(session("a"), 10);
        assert_eq!(timers.pop_due(9), None);
        assert_eq!(timers.pop_due(10), Some(session("a")));
        assert_eq!(timers.pop_due(1000), None);
        assert!(timers.is_empty());
    }

    #[test]
    fn a_timer_that_is_moved_fires_at_its_new_time_only() {
        let mut timers = Timers::default();
        timers.schedule(session("later"), 10);
        timers.schedule(session("later"), 30);
        timers.schedule(session("earlier"), 40);
        timers.schedule(session("earlier"), 20);
        assert_eq!(timers.pop_due(15), None);
        assert_eq!(timers.next_ms(), Some(20));
        assert_eq!(timers.pop_due(29), Some(session("earlier")));
        assert_eq!(timers.pop_due(29), None);
        assert_eq!(timers.pop_due(30), Some(session("later")));
        assert_eq!(timers.next_ms(), None);
    }

    #[test]
    fn a_cancelled_timer_never_fires() {
        let mut timers = Timers::default();
        timers.schedule(session("a"), 10);
        timers.schedule(session("a"), 20);
        timers.cancel(&session("a"));
        assert_eq!(timers.pop_due(100), None);
        assert_eq!(timers.next_ms(), None);
    }
}
