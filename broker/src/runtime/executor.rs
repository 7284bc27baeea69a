//! One pinned executor per shard. The options here are the cures for glommio's traps; see each comment.

use std::future::Future;
use std::io;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement, PoolPlacement};

use super::launch::{self, ExecutorThread};

/// What differs between executors; everything else is decided here.
#[derive(Debug, Clone)]
pub struct ExecutorOptions {
    /// The core to pin to; `None` leaves the thread to the scheduler (tests).
    pub core: Option<usize>,
    /// Name of the thread.
    pub name: String,
    /// How long to spin before sleeping; zero sleeps at once.
    pub spin_before_park: Duration,
    /// How long a task may run before `yield_if_needed` yields; see [`PREEMPT_TIMER`].
    pub preempt_timer: Duration,
}

/// The executor-wide preemption timer. glommio takes "preempted before anything ran" for "nothing to run" and parks although work is
/// ready. With a timer of 5 µs that happens within seconds; with 1 ms it happens several times a minute where other processes compete for
/// the core, because whoever is descheduled for longer than the timer finds it expired. A shard's tasks are short and yield by themselves,
/// so they need no shorter one than what makes this rare.
pub const PREEMPT_TIMER: Duration = Duration::from_millis(10);

/// The guard knows of a shard's work only what it is told. Whatever else sleeps with work at hand goes on at one of these beats.
const HEARTBEATS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(7)];

/// Pinned three times per executor, and ours are pools of their own: the smallest that glommio takes is enough.
const IO_MEMORY_BYTES: usize = 64 * 1024;

impl Default for ExecutorOptions {
    fn default() -> Self {
        ExecutorOptions {
            core: None,
            name: "shard".into(),
            spin_before_park: Duration::ZERO,
            preempt_timer: PREEMPT_TIMER,
        }
    }
}

/// Starts a thread with an executor and runs the future that `start` makes on it. Task queues with `Latency` requirements must not be created
/// on it: they preempt so often that glommio parks with work at hand.
pub fn spawn_executor<G, F, T>(options: ExecutorOptions, start: G) -> io::Result<ExecutorThread<T>>
where
    G: FnOnce() -> F + Send + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let placement = options.core.map_or(Placement::Unbound, Placement::Fixed);
    let builder = LocalExecutorBuilder::new(placement)
        .preempt_timer(options.preempt_timer)
        .io_memory(IO_MEMORY_BYTES)
        .spin_before_park(options.spin_before_park)
        // The thread for rename, truncate and unlink must not compete with the pinned shard.
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1));
    launch::spawn(&options.name, builder, move || {
        launch::beat(HEARTBEATS);
        start()
    })
}
