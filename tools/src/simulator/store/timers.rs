//! Virtual time for tasks: whoever sleeps is woken by the world's events, and what a disk does takes its time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{LocalBoxFuture, ready};
use storage::disk::sim::SimOp;

use crate::simulator::random::Random;

/// What a disk is like at present.
#[derive(Debug, Clone, Copy, Default)]
pub struct Conditions {
    /// Virtual time, µs.
    pub now_us: u64,
    /// Whether the disk takes very long.
    pub is_slow: bool,
    /// Whether it has no room.
    pub is_full: bool,
}

/// See the module.
pub struct Timers {
    conditions: Cell<Conditions>,
    sleepers: RefCell<BTreeMap<(u64, u64), oneshot::Sender<()>>>,
    next_sleeper: Cell<u64>,
    random: RefCell<Random>,
    /// The longest sync of a disk that is not slow. µs.
    sync_us: u64,
}

impl Timers {
    /// Nobody sleeps.
    pub fn new(seed: u64, sync_us: u64, conditions: Conditions) -> Rc<Self> {
        Rc::new(Timers {
            conditions: Cell::new(conditions),
            sleepers: RefCell::default(),
            next_sleeper: Cell::new(0),
            random: RefCell::new(Random::new(seed)),
            sync_us,
        })
    }

    /// Time has passed; whoever has slept long enough wakes up.
    pub fn update(&self, conditions: Conditions) {
        self.conditions.set(conditions);
        let mut sleepers = self.sleepers.borrow_mut();
        while let Some(first) = sleepers.first_entry().filter(|first| first.key().0 <= conditions.now_us) {
            let _ = first.remove().send(());
        }
    }

    /// When somebody wakes up next.
    pub fn next_due_us(&self) -> Option<u64> {
        self.sleepers.borrow().keys().next().map(|(due_us, _)| *due_us)
    }

    /// Waits.
    pub fn sleep(&self, us: u64) -> LocalBoxFuture<'static, ()> {
        let (wake, woken) = oneshot::channel();
        let number = self.next_sleeper.replace(self.next_sleeper.get() + 1);
        self.sleepers.borrow_mut().insert((self.conditions.get().now_us + us, number), wake);
        woken.map(|_| ()).boxed_local()
    }

    /// Takes as long as one operation of the disk.
    pub fn disk_operation(&self, op: SimOp) -> LocalBoxFuture<'static, ()> {
        let is_slow = self.conditions.get().is_slow;
        let random = &mut *self.random.borrow_mut();
        let us = match op {
            SimOp::Sync if is_slow => random.between(40_000, 900_000),
            SimOp::Sync => random.between(300, self.sync_us),
            SimOp::Write if is_slow => random.between(1_000, 100_000),
            SimOp::Write => random.between(20, 300),
            // Most of what is read, and the names, are in memory.
            SimOp::Read | SimOp::Meta if random.one_in(6) => random.between(50, 2_000),
            SimOp::Read | SimOp::Meta => return ready(()).boxed_local(),
        };
        self.sleep(us)
    }
}
