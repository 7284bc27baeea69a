//! Heavy work on idle-priority threads: it runs when no shard wants the core, and its result comes back as a message.
//!
//! A task that computes for long on a shard delays its neighbours until it yields; on a SCHED_IDLE thread of the same core it does not.
//!
//! Where the cores are never idle such a thread stands still, and what it does would never end. So a job that got next to no processor time makes
//! the following ones run, for a while, on a thread of low but not idle priority (nice 10), which gets a tenth of a core or so.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

struct Job {
    sent: Instant,
    work: Work,
}

enum Work {
    Run(Box<dyn FnOnce() + Send>),
    /// The thread that finds this ends.
    Retire,
}

/// A job that takes at least this long and has had less than a quarter of a core meanwhile was starved.
const STARVED_FROM: Duration = Duration::from_millis(50);
/// How long the thread of low priority takes over.
const RELIEF: Duration = Duration::from_secs(3);
const RELIEF_NICE: i32 = 10;

/// A handle on the pool; the threads end when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Background {
    jobs: mpsc::Sender<Job>,
    relief: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    pool: Arc<Pool>,
}

/// What the idle-priority threads share.
#[derive(Debug)]
struct Pool {
    queue: Mutex<mpsc::Receiver<Job>>,
    threads: Mutex<usize>,
    starved: Starved,
}

/// Until when jobs go to the thread of low priority.
#[derive(Debug)]
struct Starved {
    started: Instant,
    until_ms: AtomicU64,
}

impl Starved {
    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn is_now(&self) -> bool {
        self.now_ms() < self.until_ms.load(Ordering::Relaxed)
    }

    fn note(&self, wall: Duration, cpu: Duration) {
        if was_starved(wall, cpu) {
            self.until_ms.store(self.now_ms() + RELIEF.as_millis() as u64, Ordering::Relaxed);
        }
    }
}

fn was_starved(wall: Duration, cpu: Duration) -> bool {
    wall >= STARVED_FROM && cpu * 4 < wall
}

impl Background {
    /// Starts `threads` idle-priority threads, and one of low priority for when these are starved.
    pub fn start(threads: usize) -> io::Result<Background> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let starved = Starved { started: Instant::now(), until_ms: AtomicU64::new(0) };
        let pool = Arc::new(Pool { queue: Mutex::new(queue), threads: Mutex::new(0), starved });
        let (relief, relieving) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        std::thread::Builder::new().name("background-relief".into()).spawn(move || {
            become_low_priority();
            for work in relieving {
                work();
            }
        })?;
        let background = Background { jobs, relief, pool };
        background.try_set_threads(threads)?;
        Ok(background)
    }

    /// Changes the number of idle-priority threads; one that is too many ends behind the jobs that wait now.
    pub fn set_threads(&self, threads: usize) {
        if let Err(error) = self.try_set_threads(threads) {
            tracing::warn!(%error, threads, "a background thread could not be started");
        }
    }

    fn try_set_threads(&self, threads: usize) -> io::Result<()> {
        let mut running = self.pool.threads.lock().expect("nothing panics under the lock");
        while *running < threads.max(1) {
            let pool = self.pool.clone();
            let name = format!("background-{}", *running);
            std::thread::Builder::new().name(name).spawn(move || pool.work())?;
            *running += 1;
        }
        while *running > threads.max(1) {
            self.send(Work::Retire);
            *running -= 1;
        }
        Ok(())
    }

    fn send(&self, work: Work) {
        let job = Job { sent: Instant::now(), work };
        self.jobs.send(job).expect("the queue lives as long as a handle does");
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
        let work = Box::new(move || {
            let _ = answer.send(job());
        });
        match self.pool.starved.is_now() {
            true => self.relief.send(work).expect("the thread lives as long as a handle does"),
            false => self.send(Work::Run(work)),
        }
        async move { answered.await.expect("the background job panicked") }
    }
}

impl Pool {
    /// The life of one idle-priority thread.
    fn work(&self) {
        become_idle_priority();
        let mut free_since = Instant::now();
        loop {
            let job = self.queue.lock().expect("a job never runs under the lock").recv();
            let Ok(Job { sent, work: Work::Run(work) }) = job else { break };
            // Waiting for the processor begins when there is a job and the thread has no other.
            let (ready, cpu) = (sent.max(free_since), thread_cpu_time());
            work();
            free_since = Instant::now();
            self.starved.note(free_since - ready, thread_cpu_time().saturating_sub(cpu));
        }
    }
}

fn become_idle_priority() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: thread 0 is the calling one, and the pointer is to a valid sched_param.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &parameters) } != 0 {
        tracing::warn!(error = %io::Error::last_os_error(), "background thread keeps its normal priority");
    }
}

fn become_low_priority() {
    // SAFETY: a plain call; process 0 is the calling thread on Linux.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, RELIEF_NICE) } != 0 {
        tracing::warn!(error = %io::Error::last_os_error(), "background thread keeps its normal priority");
    }
}

/// Processor time that the calling thread has had.
fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a valid timespec.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) } != 0 {
        return Duration::ZERO;
    }
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_got_next_to_no_processor_time_was_starved() {
        let ms = Duration::from_millis;
        assert!(was_starved(ms(1000), ms(5)));
        assert!(!was_starved(ms(1000), ms(900)), "it was at work");
        assert!(!was_starved(ms(40), ms(1)), "a short delay is what idle priority means");
        let starved = Starved { started: Instant::now(), until_ms: AtomicU64::new(0) };
        assert!(!starved.is_now());
        starved.note(ms(1000), ms(5));
        assert!(starved.is_now());
    }

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

    #[test]
    fn threads_come_and_go_and_every_job_is_done() {
        let background = Background::start(1).expect("threads");
        let of_pool = || Arc::strong_count(&background.pool) - 1;
        background.set_threads(3);
        assert_eq!(of_pool(), 3);
        let done = Arc::new(AtomicU64::new(0));
        for _ in 0..100 {
            let done = done.clone();
            drop(background.run(move || done.fetch_add(1, Ordering::Relaxed)));
        }
        background.set_threads(0);
        while of_pool() > 1 {
            std::thread::yield_now();
        }
        let (answer, answered) = mpsc::channel();
        drop(background.run(move || answer.send(())));
        answered.recv().expect("one thread always stays");
        assert_eq!(done.load(Ordering::Relaxed), 100);
    }
}
