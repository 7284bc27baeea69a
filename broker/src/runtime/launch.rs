//! Executors that are sure to start.
//!
//! A thread that is descheduled for longer than the preemption timer between an executor's first look at its ring and its first task makes glommio park
//! before anything has run (see `run_task_queues`): no task is there yet that a timer or a message could wake, so only a signal helps.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use glommio::{GlommioError, LocalExecutorBuilder};

use super::nudge::{self, NudgedThread};

/// How often an executor that has not begun is nudged.
const NUDGE_PERIOD: Duration = Duration::from_millis(5);

/// A thread that runs an executor.
#[derive(Debug)]
pub struct ExecutorThread<T>(JoinHandle<io::Result<T>>);

impl<T> ExecutorThread<T> {
    /// Waits for its end: what its future came to, or why there is nothing of the kind.
    pub fn join(self) -> io::Result<T> {
        self.0.join().unwrap_or_else(|_| Err(io::Error::other("the executor's thread panicked")))
    }
}

/// Starts a thread with an executor, and runs there what `start` makes.
pub fn spawn<G, F, T>(name: &str, builder: LocalExecutorBuilder, start: G) -> io::Result<ExecutorThread<T>>
where
    G: FnOnce() -> F + Send + 'static,
    F: Future<Output = T>,
    T: Send + 'static,
{
    let thread = Builder::new().name(name.to_owned());
    thread.spawn(move || run(builder, async { start().await })).map(ExecutorThread)
}

/// Runs `future` on an executor of this thread.
pub fn run<T>(builder: LocalExecutorBuilder, future: impl Future<Output = T>) -> io::Result<T> {
    let refused = |error: GlommioError<()>| io::Error::other(error.to_string());
    let executor = builder.make().map_err(refused)?;
    let starter = Starter::of_this_thread()?;
    Ok(executor.run(async {
        drop(starter);
        future.await
    }))
}

/// Wakes this thread's executor in each of the periods for as long as it runs. What sleeps although it is ready goes on at the next beat, unless that beat's
/// own task is what sleeps, whose timer is then no more; so there should be slower beats, whose timers are still to come.
pub fn beat(periods: impl IntoIterator<Item = Duration>) {
    for period in periods {
        glommio::spawn_local(async move {
            loop {
                glommio::timer::sleep(period).await;
            }
        })
        .detach();
    }
}

/// Nudges the thread that made it until it is dropped.
struct Starter {
    has_begun: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Starter {
    fn of_this_thread() -> io::Result<Starter> {
        nudge::install()?;
        let nudged = NudgedThread::default();
        nudged.is_this();
        let has_begun = Arc::new(AtomicBool::new(false));
        let thread = Builder::new().name("starter".to_owned()).spawn({
            let has_begun = has_begun.clone();
            move || {
                while !has_begun.load(Ordering::Relaxed) {
                    std::thread::park_timeout(NUDGE_PERIOD);
                    nudged.nudge();
                }
            }
        })?;
        Ok(Starter { has_begun, thread: Some(thread) })
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        self.has_begun.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glommio::Placement;

    #[test]
    fn an_executor_that_is_preempted_before_its_first_task_starts_all_the_same() {
        // A timer that has often expired by then: without the nudge some of these never begin.
        for _ in 0..50 {
            let builder = LocalExecutorBuilder::new(Placement::Unbound)
                .preempt_timer(Duration::from_micros(20))
                .io_memory(64 * 1024);
            let thread = spawn("starts", builder, || async { 7 }).expect("a thread");
            assert_eq!(thread.join().expect("it ran"), 7);
        }
    }
}
