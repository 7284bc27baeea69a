//! The liveness guard: a plain thread that wakes a shard which sleeps although it has work.
//!
//! glommio can park with ready tasks at hand (see [`super::executor::PREEMPT_TIMER`]); a wake from outside makes it look again. The guard wakes a
//! shard that has requests in flight or messages in its inbox and has made no turn for a while, less and less often if that changes nothing, because a request may
//! rightly wait (a parked fetch). Starting and stopping are work, too, and so are disk operations, whoever waits for them: recovery, the journal,
//! the flusher. A shard without work is left alone, so an idle broker stays idle.
//!
//! A wake is a message to a task, and counts for nothing if glommio parks before it runs that task; then the shard has no task left that could be
//! woken. So the guard interrupts the shard's wait with a signal, too (see [`super::nudge`]).

use std::cell::Cell;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use futures::task::AtomicWaker;
use storage::disk::DiskObserver;

use super::inbox::InboxSignal;
use super::nudge::{self, NudgedThread};

/// How often the guard looks while some shard makes turns or has work in flight.
const TICK: Duration = Duration::from_millis(5);
/// How often it looks while all shards are idle.
const IDLE_TICK: Duration = Duration::from_millis(50);
/// A shard that waking does not move is woken again after at most so many ticks.
const BACK_OFF_TICKS_MAX: u32 = 40;

/// One shard's signs of life, written by the shard and read by the guard.
#[derive(Debug)]
pub struct Pulse {
    turns: AtomicU64,
    in_flight: AtomicU64,
    waker: AtomicWaker,
    wakes: AtomicU64,
    rescues: AtomicU64,
    answers: AtomicU64,
    inbox: InboxSignal,
    thread: NudgedThread,
}

/// Work in flight on this shard; dropping it ends it.
#[derive(Debug)]
pub struct InFlight {
    pulse: Arc<Pulse>,
    /// Only the shard's own thread counts.
    _home: PhantomData<Cell<()>>,
}

impl Default for Pulse {
    fn default() -> Self {
        Pulse {
            turns: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            waker: AtomicWaker::new(),
            wakes: AtomicU64::new(0),
            rescues: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            inbox: InboxSignal::new().expect("a pair of sockets at the start of the process"),
            thread: NudgedThread::default(),
        }
    }
}

impl Pulse {
    /// Notes that a task of the shard has been run.
    pub fn turn(&self) {
        // Only the shard's thread writes.
        self.turns.store(self.turns.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Notes that the shard owes somebody a result until the returned value is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { pulse: self.clone(), _home: PhantomData }
    }

    /// What a disk tells its operations to, so that they count as work in flight. For the shard's own disk.
    pub fn disk_observer(self: &Arc<Self>) -> Rc<dyn DiskObserver> {
        Rc::new(DiskPulse(self.clone()))
    }

    /// The task that the guard wakes. Spawn it once on the shard.
    pub async fn run(self: Arc<Self>) {
        self.thread.is_this();
        poll_fn::<(), _>(|cx| {
            self.waker.register(cx.waker());
            self.answers.fetch_add(1, Ordering::Relaxed);
            Poll::Pending
        })
        .await;
    }

    /// Asks the shard for a sign of life; [`Pulse::answers`] grows once it has given it.
    pub fn ask(&self) {
        self.waker.wake();
    }

    /// Wakes the shard by every means there is: one of them may get lost.
    pub fn wake(&self) {
        self.waker.wake();
        self.inbox.knock();
        self.thread.nudge();
    }

    /// How other shards make this one look into its inbox.
    pub fn inbox(&self) -> &InboxSignal {
        &self.inbox
    }

    fn has_work(&self) -> bool {
        self.in_flight() > 0 || self.inbox.is_raised()
    }

    /// Signs of life given.
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Tasks run.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Requests, calls and disk operations in flight.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How often the guard woke the shard.
    pub fn guard_wakes(&self) -> u64 {
        self.wakes.load(Ordering::Relaxed)
    }

    /// How often work went on right after the guard had woken the shard: an upper bound of glommio's lost wakes.
    pub fn guard_rescues(&self) -> u64 {
        self.rescues.load(Ordering::Relaxed)
    }
}

/// A disk operation is work in flight, and its end is a turn.
#[derive(Debug)]
struct DiskPulse(Arc<Pulse>);

impl DiskObserver for DiskPulse {
    fn begun(&self) {
        self.0.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    fn ended(&self) {
        self.0.turn();
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.pulse.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The guard thread; dropping it stops the thread.
#[derive(Debug)]
pub struct Guard {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Guard {
    /// Starts to watch over the shards.
    pub fn start(pulses: Vec<Arc<Pulse>>) -> std::io::Result<Guard> {
        nudge::install()?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("liveness-guard".into()).spawn({
            let stop = stop.clone();
            move || watch(&pulses, &stop)
        })?;
        Ok(Guard { stop, thread: Some(thread) })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// What the guard remembers of one shard.
#[derive(Default)]
struct Watched {
    turns: u64,
    still_for_ticks: u32,
    back_off_ticks: u32,
    woken: bool,
}

impl Watched {
    /// One look at the shard; says whether to wake it.
    fn tick(&mut self, pulse: &Pulse) -> bool {
        let turns = pulse.turns();
        let moved = std::mem::replace(&mut self.turns, turns) != turns;
        if moved || !pulse.has_work() {
            if moved && std::mem::take(&mut self.woken) {
                pulse.rescues.fetch_add(1, Ordering::Relaxed);
            }
            *self = Watched { turns, ..Watched::default() };
            return false;
        }
        self.woken = false;
        self.still_for_ticks += 1;
        if self.still_for_ticks <= self.back_off_ticks {
            return false;
        }
        self.back_off_ticks = (self.back_off_ticks * 2).clamp(1, BACK_OFF_TICKS_MAX);
        self.still_for_ticks = 0;
        self.woken = true;
        true
    }
}

fn watch(pulses: &[Arc<Pulse>], stop: &AtomicBool) {
    let mut watched: Vec<Watched> = pulses.iter().map(|_| Watched::default()).collect();
    while !stop.load(Ordering::Relaxed) {
        let before: u64 = watched.iter().map(|watched| watched.turns).sum();
        for (pulse, watched) in pulses.iter().zip(&mut watched) {
            if watched.tick(pulse) {
                pulse.wakes.fetch_add(1, Ordering::Relaxed);
                pulse.wake();
            }
        }
        let after: u64 = watched.iter().map(|watched| watched.turns).sum();
        let busy = before != after || pulses.iter().any(|pulse| pulse.has_work());
        std::thread::park_timeout(if busy { TICK } else { IDLE_TICK });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_stands_still_with_work_is_woken_and_ever_less_often_if_that_changes_nothing() {
        let pulse = Arc::new(Pulse::default());
        let mut watched = Watched::default();
        pulse.turn();
        let work = pulse.begin();
        assert!(!watched.tick(&pulse), "it has just made a turn");
        let woken: Vec<u32> = (0..30).filter(|_| watched.tick(&pulse)).collect();
        assert_eq!(woken, [0, 2, 5, 10, 19]);
        pulse.turn();
        assert!(!watched.tick(&pulse));
        assert!(watched.tick(&pulse), "after a turn the guard is quick again");
        drop(work);
        pulse.inbox().raise();
        assert!(!watched.tick(&pulse) || watched.woken);
        assert!((0..50).any(|_| watched.tick(&pulse)), "a message that nobody looks at is work");
        let pulse = Pulse::default();
        assert!((0..100).all(|_| !watched.tick(&pulse)), "an idle shard is left alone");
    }
}
