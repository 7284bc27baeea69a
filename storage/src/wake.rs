//! Waiting within one executor: parked fetches, and the store's own loops. No timers, no threads.

use ahash::AHashSet;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
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

/// Bounds the bytes that are under way to the disk, or from it, at once. Who comes first goes first: a large piece is not passed by small ones for ever.
#[derive(Debug)]
pub(crate) struct ByteGate {
    limit: Cell<usize>,
    used: Cell<usize>,
    /// In the order in which they came, which is that of their tickets.
    waiting: RefCell<VecDeque<Waiting>>,
    next_ticket: Cell<u64>,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    waker: Waker,
}

impl ByteGate {
    pub fn new(limit: usize) -> Self {
        Self {
            limit: Cell::new(limit),
            used: Cell::default(),
            waiting: RefCell::default(),
            next_ticket: Cell::default(),
        }
    }

    /// From now on; what is under way already goes on.
    pub fn set_limit(&self, limit: usize) {
        if self.limit.replace(limit) < limit {
            self.call_first();
        }
    }

    /// Waits until all who came before have entered and there is room for `bytes` more; a piece larger than the limit goes alone.
    pub async fn enter(&self, bytes: usize) -> ByteGateGuard<'_> {
        let place = Place { gate: self, ticket: self.next_ticket.get() };
        self.next_ticket.set(place.ticket + 1);
        poll_fn(|cx| place.poll_turn(bytes, cx.waker())).await;
        self.used.set(self.used.get() + bytes);
        // Giving up the place calls the next, for whom there may be room too.
        drop(place);
        ByteGateGuard { gate: self, bytes }
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.used.get() == 0 || self.used.get() + bytes <= self.limit.get()
    }

    /// Tells the one whose turn it is to look whether there is room.
    fn call_first(&self) {
        let first = self.waiting.borrow().front().map(|first| first.waker.clone());
        if let Some(waker) = first {
            waker.wake();
        }
    }
}

/// The place of one who waits at the gate, if it had to; given up when this is dropped.
struct Place<'a> {
    gate: &'a ByteGate,
    ticket: u64,
}

impl Place<'_> {
    fn poll_turn(&self, bytes: usize, waker: &Waker) -> Poll<()> {
        // Dropped when the queue is not borrowed any more: with it a task may go that waits here, too.
        let _old_waker;
        let waiting = &mut *self.gate.waiting.borrow_mut();
        let is_first = waiting.front().is_none_or(|first| first.ticket >= self.ticket);
        if is_first && self.gate.has_room(bytes) {
            return Poll::Ready(());
        }
        match waiting.binary_search_by_key(&self.ticket, |w| w.ticket) {
            Ok(at) if waiting[at].waker.will_wake(waker) => {}
            Ok(at) => _old_waker = std::mem::replace(&mut waiting[at].waker, waker.clone()),
            Err(at) => waiting.insert(at, Waiting { ticket: self.ticket, waker: waker.clone() }),
        }
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let found = self.gate.waiting.borrow().binary_search_by_key(&self.ticket, |w| w.ticket);
        let Ok(at) = found else { return };
        let _left = self.gate.waiting.borrow_mut().remove(at);
        if at == 0 {
            self.gate.call_first();
        }
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
        self.gate.call_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, executor::LocalPool, task::LocalSpawnExt};
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering::Relaxed},
        },
        task::{Context, Wake},
    };

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
    fn a_large_piece_is_not_passed_by_small_ones_for_ever() {
        let mut pool = LocalPool::new();
        let gate = Rc::new(ByteGate::new(256 << 10));
        let is_over = Rc::new(Cell::new(false));
        let small_reads = Rc::new(Cell::new(0));
        for _ in 0..4 {
            let (gate, is_over, small_reads) = (gate.clone(), is_over.clone(), small_reads.clone());
            let reader = async move {
                while !is_over.get() && small_reads.get() < 10_000 {
                    let _pass = gate.enter(124 << 10).await;
                    yield_now().await;
                    yield_now().await;
                    small_reads.set(small_reads.get() + 1);
                }
            };
            pool.spawner().spawn_local(reader).unwrap();
        }
        let large_gate = gate.clone();
        let large = async move {
            yield_now().await;
            let _pass = large_gate.enter(1 << 20).await;
            is_over.set(true);
        };
        pool.spawner().spawn_local(large).unwrap();
        pool.run();
        assert!(small_reads.get() < 20, "{} small reads came first", small_reads.get());
        assert_eq!((gate.used.get(), gate.waiting.borrow().len()), (0, 0));
    }

    #[test]
    fn who_gives_up_waiting_does_not_keep_back_those_behind() {
        let gate = ByteGate::new(100);
        let inside = gate.enter(60).now_or_never().expect("there is room");
        let (mut large, mut small) = (Box::pin(gate.enter(500)), Box::pin(gate.enter(30)));
        assert!(large.as_mut().now_or_never().is_none(), "60 are under way");
        assert!(small.as_mut().now_or_never().is_none(), "it is not its turn");
        assert!(gate.enter(10).now_or_never().is_none(), "that one waits behind both, and gives up at once");
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        assert!(small.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(large);
        assert!(woken.0.load(Relaxed), "it is its turn now");
        assert!(small.now_or_never().is_some());
        drop(inside);
        assert_eq!((gate.used.get(), gate.waiting.borrow().len()), (0, 0));
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Relaxed);
        }
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
