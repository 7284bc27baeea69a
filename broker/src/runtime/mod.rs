//! glommio, and everything one has to know about it: nothing else in the broker names an executor option.
//!
//! - [`executor`]: one pinned executor per shard, with the options that avoid glommio's traps;
//! - [`launch`]: executors that are sure to start;
//! - [`cores`]: which cores exist and may be used;
//! - [`uring`]: whether this system allows io_uring, and what to do if not;
//! - [`probe`]: makes glommio see that disks are not pollable, before it gets it wrong;
//! - [`guard`]: the thread that wakes a shard which sleeps although it has work;
//! - [`background`]: heavy work on idle-priority threads;
//! - [`waker`]: many waits of one task behind one reference to it;
//! - [`ring_turn`]: how a busy task lets the executor look at its rings;
//! - [`inbox`]: wakes between shards that do not get lost;
//! - [`limits`]: what the system allows the process;
//! - [`allocator`]: where memory comes from;
//! - [`memory`]: how malloc is set up, how much memory there is.

pub mod allocator;
pub mod background;
pub mod cores;
pub mod executor;
pub mod guard;
pub mod inbox;
pub mod launch;
pub mod limits;
pub mod memory;
mod nudge;
pub mod probe;
pub mod ring_turn;
#[cfg(test)]
mod tests;
pub mod uring;
pub mod waker;

use std::future::Future;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::OnceLock;
use std::task::Poll;
use std::time::{Duration, Instant};

use uuid::Uuid;

pub use background::Background;
pub use executor::{ExecutorOptions, spawn_executor};
pub use guard::{Guard, Pulse};
pub use launch::ExecutorThread;
pub use ring_turn::RingTurn;
pub use waker::CoalescingWaker;

/// Makes every panic end the process: a broken invariant on one shard is not survived by the others. Call it first thing in `main`.
pub fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// Starts a task on this thread's executor; it runs until its first wait at once, and to its end without anybody awaiting it.
pub fn spawn<F: Future<Output = ()> + 'static>(future: F) {
    glommio::spawn_local(future).detach();
}

/// Waits until the task is polled once more, which it asks for: a request that is not at the front of its connection's queue is not polled
/// again before it gets there.
pub async fn wait_for_next_poll() {
    storage::wake::yield_now().await;
}

/// Lets the other tasks of this shard run.
pub async fn yield_now() {
    glommio::executor().yield_task_queue_now().await;
}

/// Waits on this thread's executor.
pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

/// Milliseconds on a clock that nobody sets, the same on all shards.
pub fn monotonic_ms() -> i64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    i64::try_from(BEGAN.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(i64::MAX)
}

/// Uniform bits from the system's generator.
pub fn random_bits() -> u64 {
    // The six fixed bits of a version 4 UUID meet random ones.
    let (high, low) = Uuid::new_v4().as_u64_pair();
    high.rotate_left(20) ^ low
}

/// The addresses of a host. Names are looked up on a helper thread, because the system's resolver blocks.
pub async fn resolve(host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let host = host.to_owned();
    let look_up = move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
    glommio::executor().spawn_blocking(look_up).await
}

/// The future's output, or `None` if it took longer than `limit`. Dropping the future must be harmless.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    // A timer costs allocations, and most futures need none.
    if let Poll::Ready(output) = futures::poll!(future.as_mut()) {
        return Some(output);
    }
    let timer = std::pin::pin!(sleep(limit));
    match futures::future::select(future, timer).await {
        futures::future::Either::Left((output, _)) => Some(output),
        futures::future::Either::Right(_) => None,
    }
}
