//! Heavy work on idle-priority threads: it runs when no shard wants the core, and its result comes back as a message.
//!
//! A task that computes for long on a shard delays its neighbours until it yields; on a SCHED_IDLE thread of the same core it does not.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, mpsc};

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// A handle on the pool; the threads end when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Background {
    jobs: mpsc::Sender<Job>,
}

impl Background {
    /// Starts `threads` idle-priority threads.
    pub fn start(threads: usize) -> io::Result<Background> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for n in 0..threads.max(1) {
            let queue = queue.clone();
            std::thread::Builder::new().name(format!("background-{n}")).spawn(move || {
                become_idle_priority();
                loop {
                    let job = queue.lock().expect("a job never runs under the lock").recv();
                    let Ok(job) = job else { break };
                    job();
                }
            })?;
        }
        Ok(Background { jobs })
    }

    /// Runs `job` on one of the threads. It runs to its end even if the result is not awaited.
    ///
    /// # Panics
    /// The returned future panics if the job did: a broken invariant is not survived half-way.
    pub fn run<R, F>(&self, job: F) -> impl Future<Output = R> + use<R, F>
    where
        R: Send + 'static,
        F: FnOnce() -> R + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move || {
            let _ = answer.send(job());
        });
        self.jobs.send(job).expect("the threads live as long as a handle does");
        async move { answered.await.expect("the background job panicked") }
    }
}

fn become_idle_priority() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: thread 0 is the calling one, and the pointer is to a valid sched_param.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &parameters) } != 0 {
        tracing::warn!(error = %io::Error::last_os_error(), "background thread keeps its normal priority");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_run_with_idle_priority_and_hand_their_result_back_to_the_shard() {
        let background = Background::start(1).expect("threads");
        let executor = crate::runtime::spawn_executor(Default::default(), move || async move {
            background
                .run(|| {
                    // SAFETY: only reads the scheduling class of the calling thread.
                    unsafe { libc::sched_getscheduler(0) }
                })
                .await
        });
        assert_eq!(executor.expect("an executor").join().expect("joined"), libc::SCHED_IDLE);
    }
}
