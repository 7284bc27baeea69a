//! Waiting within one executor: parked fetches, and the store's own loops. No timers, no threads.

use ahash::AHashSet;
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::{Rc, Weak},
    task::{Poll, Waker},
};

/// Waits until the task is polled once more, which it asks for: other tasks of the executor run in between.
pub async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// Something that one task waits for and that many logs can trigger: a parked fetch registers one signal with all its partitions.
#[derive(Debug, Default)]
pub struct WakeSignal {
    fired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl WakeSignal {
    /// A signal that has not fired.
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Fires. What happens before the next [`wait`](Self::wait) is not lost.
    pub fn wake(&self) {
        self.fired.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Whether it has fired since the last wait.
    pub fn has_fired(&self) -> bool {
        self.fired.get()
    }

    /// Waits until it fires, and arms it again. One waiter at a time.
    pub async fn wait(&self) {
        poll_fn(|cx| {
            if self.fired.replace(false) {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// So many entries of a list are looked through for a signal that is there already.
const LOOKED_THROUGH: usize = 16;

/// The signals that wait for one thing, in the order in which they came. Those that nobody holds any more are swept out as the list grows, and so are
/// repetitions: a fetch that others wake comes again and again to a list that nothing happens to.
#[derive(Debug, Default)]
pub struct WakeList {
    signals: Vec<Weak<WakeSignal>>,
    sweep_at: u32,
}

impl WakeList {
    /// Registers a signal for the next [`wake_all`](Self::wake_all).
    pub fn subscribe(&mut self, signal: &Rc<WakeSignal>) {
        if self.signals.iter().rev().take(LOOKED_THROUGH).any(|s| s.as_ptr() == Rc::as_ptr(signal)) {
            return;
        }
        if self.signals.len() >= self.sweep_at as usize {
            self.sweep();
            self.sweep_at = (self.signals.len() * 2).max(4) as u32;
        }
        self.signals.push(Rc::downgrade(signal));
    }

    fn sweep(&mut self) {
        let mut seen = AHashSet::new();
        // In a list that is looked through as a whole nothing is there twice.
        let has_repetitions = self.signals.len() > LOOKED_THROUGH;
        self.signals.retain(|s| s.strong_count() > 0 && (!has_repetitions || seen.insert(s.as_ptr())));
    }

    /// Wakes and forgets all signals.
    pub fn wake_all(&mut self) {
        for signal in self.signals.drain(..) {
            if let Some(signal) = signal.upgrade() {
                signal.wake();
            }
        }
        if self.signals.capacity() > 16 {
            self.signals = Vec::new();
        }
        self.sweep_at = 0;
    }

    /// Whether nobody is registered.
    pub fn is_empty(&self) -> bool {
        self.signals.is_empty()
    }

    /// Bytes of memory held.
    pub fn heap_bytes(&self) -> usize {
        self.signals.capacity() * size_of::<Weak<WakeSignal>>()
    }
}

/// Lets any number of tasks wait for the next notification.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    generation: Cell<u64>,
    wakers: RefCell<Vec<Waker>>,
}

impl Notify {
    pub fn notify_all(&self) {
        self.generation.set(self.generation.get() + 1);
        for waker in self.wakers.take() {
            waker.wake();
        }
    }

    /// Waits until `ready` holds; it is looked at again after every notification.
    pub async fn wait_until(&self, mut ready: impl FnMut() -> bool) {
        let mut registered_at = None;
        poll_fn(|cx| {
            if ready() {
                return Poll::Ready(());
            }
            if registered_at != Some(self.generation.get()) {
                registered_at = Some(self.generation.get());
                self.wakers.borrow_mut().push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

/// Bounds the bytes that are under way to the disk, or from it, at once.
#[derive(Debug)]
pub(crate) struct ByteGate {
    limit: Cell<usize>,
    used: Cell<usize>,
    freed: Notify,
}

impl ByteGate {
    pub fn new(limit: usize) -> Self {
        Self { limit: Cell::new(limit), used: Cell::default(), freed: Notify::default() }
    }

    /// From now on; what is under way already goes on.
    pub fn set_limit(&self, limit: usize) {
        if self.limit.replace(limit) < limit {
            self.freed.notify_all();
        }
    }

    /// Waits until there is room for `bytes` more; a piece larger than the limit goes alone.
    pub async fn enter(&self, bytes: usize) -> ByteGateGuard<'_> {
        let has_room = || self.used.get() == 0 || self.used.get() + bytes <= self.limit.get();
        self.freed.wait_until(has_room).await;
        self.used.set(self.used.get() + bytes);
        ByteGateGuard { gate: self, bytes }
    }
}

#[derive(Debug)]
pub(crate) struct ByteGateGuard<'a> {
    gate: &'a ByteGate,
    bytes: usize,
}

impl Drop for ByteGateGuard<'_> {
    fn drop(&mut self) {
        self.gate.used.set(self.gate.used.get() - self.bytes);
        self.gate.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, executor::LocalPool, task::LocalSpawnExt};

    #[test]
    fn a_signal_that_fires_before_the_wait_is_not_lost() {
        let signal = WakeSignal::new();
        let mut list = WakeList::default();
        list.subscribe(&signal);
        list.wake_all();
        assert_eq!(signal.wait().now_or_never(), Some(()));
        assert_eq!(signal.wait().now_or_never(), None);
    }

    #[test]
    fn signals_of_fetches_that_gave_up_do_not_pile_up() {
        let mut list = WakeList::default();
        for _ in 0..10_000 {
            list.subscribe(&WakeSignal::new());
        }
        assert!(list.signals.len() <= 8, "{}", list.signals.len());
    }

    #[test]
    fn the_gate_lets_in_no_more_than_its_limit_but_always_one() {
        let mut pool = LocalPool::new();
        let gate = Rc::new(ByteGate::new(100));
        let peak = Rc::new(Cell::new(0));
        for bytes in [60, 60, 30, 500, 10] {
            let (gate, peak) = (gate.clone(), peak.clone());
            let task = async move {
                let guard = gate.enter(bytes).await;
                if bytes < 500 {
                    peak.set(peak.get().max(gate.used.get()));
                }
                yield_now().await;
                drop(guard);
            };
            pool.spawner().spawn_local(task).unwrap();
        }
        pool.run();
        assert_eq!(gate.used.get(), 0);
        assert!(peak.get() <= 100);
    }

    #[test]
    fn a_limit_that_is_lowered_counts_for_those_who_come_and_one_that_is_raised_for_those_who_wait() {
        let gate = ByteGate::new(100);
        let first = gate.enter(60).now_or_never().expect("there is room");
        gate.set_limit(80);
        let mut second = std::pin::pin!(gate.enter(30));
        assert!(second.as_mut().now_or_never().is_none(), "60 are under way");
        gate.set_limit(100);
        assert!(second.now_or_never().is_some());
        drop(first);
    }

    #[test]
    fn fetches_that_share_a_busy_log_do_not_pile_up_at_a_quiet_one() {
        for fetches in [5, 17, 1000] {
            let (mut busy, mut quiet) = (WakeList::default(), WakeList::default());
            let fetches: Vec<_> = (0..fetches).map(|_| WakeSignal::new()).collect();
            for _ in 0..100 {
                for signal in &fetches {
                    busy.subscribe(signal);
                    quiet.subscribe(signal);
                }
                busy.wake_all();
            }
            let entries = quiet.signals.len();
            assert!(entries <= 2 * fetches.len(), "{entries} entries of {} fetches", fetches.len());
            fetches.iter().for_each(|signal| assert_eq!(signal.wait().now_or_never(), Some(())));
            quiet.wake_all();
            assert!(fetches.iter().all(|signal| signal.has_fired()), "all are still there");
        }
    }
}
