//! Pinned glommio executors, and the one place that knows their options.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement};

use crate::error::BenchError;
use crate::launch::{self, ExecutorThread};
use crate::sys;

/// How often the executor looks for I/O while tasks run. With a short one glommio 0.9 can park although work is ready, which the heartbeats
/// below make an outlier.
const PREEMPT_TIMER: Duration = Duration::from_millis(1);
/// glommio can park although a task is ready, also with this timer; what is ready then runs at the next beat. So a lost wake shows as
/// an outlier and not as a run that never ends.
const HEARTBEATS: [Duration; 4] = [
    Duration::from_millis(5),
    Duration::from_millis(70),
    Duration::from_millis(900),
    Duration::from_secs(11),
];
/// Memory that is registered with the kernel; sockets do not use it.
const IO_MEMORY_BYTES: usize = 64 << 10;

thread_local! {
    static SPINS: Cell<bool> = const { Cell::new(false) };
}

/// Whether tasks of this executor look again and again instead of waiting to be woken: what they wait for most (an answer, the moment of the
/// next record) then costs no trip through the executor's ring, which takes longer than the wake-up that spinning is to save.
pub fn spins() -> bool {
    SPINS.get()
}

/// The cores that this process may use, ascending.
pub fn allowed_cores() -> Result<Vec<usize>, BenchError> {
    sys::allowed_cores()
        .map_err(|source| BenchError::Limit { what: "the cores of this machine".to_owned(), source })
}

/// Chooses the cores of a run: those that were asked for, or the last that this process may use.
pub fn choose_cores(asked: Option<&[usize]>) -> Result<Vec<usize>, BenchError> {
    let allowed = allowed_cores()?;
    match asked {
        None => Ok(allowed.last().into_iter().copied().collect()),
        Some(cores) => match cores.iter().find(|core| !allowed.contains(core)) {
            None => Ok(cores.to_vec()),
            Some(core) => Err(BenchError::Option(format!(
                "--cores: core {core} is none of this process's: {allowed:?}"
            ))),
        },
    }
}

/// Starts a thread that is pinned to `core` and runs `task` on an executor of its own. With `spin` it never sleeps while it waits:
/// that takes the wake-up out of the latencies, and the whole core.
pub fn spawn<F, T>(
    core: usize,
    spin: bool,
    task: impl FnOnce() -> F + Send + 'static,
) -> Result<ExecutorThread<T>, BenchError>
where
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let with_heartbeat = move || {
        SPINS.set(spin);
        launch::beat(HEARTBEATS);
        task()
    };
    launch::spawn("bench", builder(Placement::Fixed(core)), with_heartbeat).map_err(refused)
}

/// What comes of `work`, unless that takes longer than `limit`.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let until = Instant::now() + limit;
    let (mut work, mut timer) = (pin!(work), pin!(Timer::new(limit)));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        // Whoever spins is polled without end, and would set the timer anew each time.
        Poll::Pending if spins() && Instant::now() < until => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        Poll::Pending if spins() => Poll::Ready(None),
        Poll::Pending => timer.as_mut().poll(cx).map(|_| None),
    })
    .await
}

/// Runs `task` on an executor of this thread, for what precedes a run.
pub fn run<T>(task: impl Future<Output = T>) -> Result<T, BenchError> {
    let with_heartbeat = async move {
        launch::beat(HEARTBEATS);
        task.await
    };
    launch::run(builder(Placement::Unbound), with_heartbeat).map_err(refused)
}

fn builder(placement: Placement) -> LocalExecutorBuilder {
    LocalExecutorBuilder::new(placement).preempt_timer(PREEMPT_TIMER).io_memory(IO_MEMORY_BYTES)
}

fn refused(error: std::io::Error) -> BenchError {
    BenchError::Option(format!(
        "cannot start an executor: {error}. It needs io_uring (see the sysctl kernel.io_uring_disabled, and the seccomp profile \
         in a container) and 512 KiB of locked memory (ulimit -l)"
    ))
}
