//! The workers of a run, dealt to its cores: made ready together, started at one moment, listened to until the last has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};

use crate::clock::Clock;
use crate::cpu::{CpuCosts, CpuMark, check_processes};
use crate::error::BenchError;
use crate::executor;
use crate::interrupt;
use crate::report::LiveLine;
use crate::stats::{Collector, INTERVAL_NS, Interval};
use crate::terminal;

/// Time between the word to start and the first record, so that every worker has heard it.
const START_DELAY: Duration = Duration::from_millis(20);
/// How often it is looked whether the run was interrupted.
const LOOK: Duration = Duration::from_millis(100);
/// Time between that and its end, so that every worker knows it before it comes.
const END_DELAY_NS: u64 = 300_000_000;

/// A producer, a consumer, or whatever else makes a part of the load.
pub trait Worker: Send + 'static {
    /// It, connected.
    type Ready: 'static;
    /// What it leaves at its end.
    type End: Send + 'static;

    /// The side that its seconds belong to: its place among the crew's sides.
    fn side(&self) -> usize {
        0
    }

    /// Makes everything ready that shall not be part of the run.
    fn prepare(self) -> impl Future<Output = Result<Self::Ready, BenchError>>;

    /// Works until the end of the run; `clock` begins with it.
    fn run(
        ready: Self::Ready,
        clock: Clock,
        seconds: Seconds,
    ) -> impl Future<Output = Result<Self::End, BenchError>>;
}

/// Where a worker hands over its seconds, and learns when the run ends.
#[derive(Debug, Clone)]
pub struct Seconds {
    side: usize,
    events: Sender<Event>,
    /// See [`Seconds::end_ns`].
    end_ns: Arc<AtomicU64>,
}

impl Seconds {
    /// Hands over a second that is past.
    pub fn hand_over(&self, interval: Interval) {
        // A send fails only when the run was given up, and then nobody wants the interval.
        let _ = self.events.send(Event::Second(self.side, Box::new(interval)));
    }

    /// When the run ends, since its start: earlier than planned if it was interrupted.
    pub fn end_ns(&self) -> u64 {
        self.end_ns.load(Ordering::Relaxed)
    }

    /// The last second of the run: what completes later counts there.
    pub fn last(&self) -> u64 {
        self.end_ns().div_ceil(INTERVAL_NS) - 1
    }
}

/// What a core's thread reports while it runs.
#[derive(Debug)]
enum Event {
    /// Its workers are connected and wait for the start.
    Ready,
    /// A worker's second is past.
    Second(usize, Box<Interval>),
    /// Its workers have ended, well or not; joining the thread tells which.
    Ended,
}

/// How a run is made and listened to.
pub struct Crew<'a> {
    /// The cores that its workers are dealt to.
    pub cores: Vec<usize>,
    /// Whether they never sleep.
    pub spin: bool,
    /// Seconds that do not count.
    pub warmup_seconds: u64,
    /// When the run ends, since its start, unless it is interrupted.
    pub end_ns: u64,
    /// Whether to show no live line.
    pub quiet: bool,
    /// The live line of each side.
    pub sides: &'a [LiveLine],
    /// Processes whose processor time is counted as the broker's.
    pub broker_pids: &'a [u32],
}

/// What came of a run.
pub struct Outcome<E> {
    /// What each side counted.
    pub collectors: Vec<Collector>,
    /// What each worker left at its end.
    pub ends: Vec<E>,
    /// Processor time from the end of the warm-up to the end of the run.
    pub cpu: CpuCosts,
    /// When the run ended, since its start; what completed later counts too.
    pub end_ns: u64,
    /// What a report has to say if that was earlier than planned.
    pub interruption: Option<String>,
}

impl Crew<'_> {
    /// Deals `workers` to the cores in turn and runs them.
    pub fn run<W: Worker>(&self, workers: Vec<W>) -> Result<Outcome<W::End>, BenchError> {
        check_processes(self.broker_pids)?;
        let mut of_side = vec![0; self.sides.len()];
        workers.iter().for_each(|worker| of_side[worker.side()] += 1);
        let mut hands: Vec<Vec<W>> = self.cores.iter().map(|_| Vec::new()).collect();
        for (number, worker) in workers.into_iter().enumerate() {
            hands[number % self.cores.len()].push(worker);
        }
        let (events_in, events) = mpsc::channel();
        let end_ns = Arc::new(AtomicU64::new(self.end_ns));
        let mut starters = Vec::new();
        let mut threads = Vec::new();
        for (core, hand) in self.cores.iter().zip(hands).filter(|(_, hand)| !hand.is_empty()) {
            let (starter, start) = mpsc::channel();
            let (events, end_ns) = (events_in.clone(), Arc::clone(&end_ns));
            threads.push(executor::spawn(*core, self.spin, move || async move {
                let outcome = work(hand, &events, &end_ns, start).await;
                // A send fails only when the run was given up.
                let _ = events.send(Event::Ended);
                outcome
            })?);
            starters.push(starter);
        }
        drop(events_in);
        let (collectors, cpu) = self.conduct(&of_side, events, starters, &end_ns);
        let died = |error| BenchError::Option(format!("a worker died: {error}"));
        let ends: Result<Vec<Vec<W::End>>, BenchError> =
            threads.into_iter().map(|thread| thread.join().map_err(died)?).collect();
        let end_ns = end_ns.load(Ordering::Relaxed);
        let interruption = (end_ns < self.end_ns)
            .then(|| format!("interrupted after {:.1} s, warm-up included", end_ns as f64 / 1e9));
        Ok(Outcome { collectors, ends: ends?.into_iter().flatten().collect(), cpu, end_ns, interruption })
    }

    /// Waits until all threads are ready, starts them at one moment, and gathers their seconds until the last has ended.
    ///
    /// A thread that fails before the start ends without `Ready`; then nobody is started.
    fn conduct(
        &self,
        of_side: &[usize],
        events: Receiver<Event>,
        starters: Vec<Sender<Clock>>,
        end_ns: &AtomicU64,
    ) -> (Vec<Collector>, CpuCosts) {
        let mut collectors: Vec<Collector> =
            of_side.iter().map(|workers| Collector::new(*workers, self.warmup_seconds)).collect();
        for _ in &starters {
            match events.recv() {
                Ok(Event::Ready) => {}
                Ok(Event::Second(..) | Event::Ended) | Err(_) => return (collectors, CpuCosts::default()),
            }
        }
        let mut signals = interrupt::listen();
        let clock = Clock::starting_in(START_DELAY);
        for starter in &starters {
            // A thread that is gone by now shows its error when it is joined.
            let _ = starter.send(clock);
        }
        let mut from = CpuMark::now(self.broker_pids);
        let mut until = from;
        let mut running = starters.len();
        while running > 0 {
            if signals.is_asked(Instant::now()) {
                end_ns.fetch_min(clock.now_ns() + END_DELAY_NS, Ordering::Relaxed);
            }
            match events.recv_timeout(LOOK) {
                Ok(Event::Second(side, interval)) => {
                    if interval.second + 1 == self.warmup_seconds {
                        from = CpuMark::now(self.broker_pids);
                    }
                    if let Some((point, joined)) = collectors[side].deliver(*interval) {
                        self.show(side, &point, &joined);
                    }
                }
                Ok(Event::Ready) => {}
                Ok(Event::Ended) => {
                    until = CpuMark::now(self.broker_pids);
                    running -= 1;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        for (side, collector) in collectors.iter_mut().enumerate() {
            collector.close().iter().for_each(|(point, joined)| self.show(side, point, joined));
        }
        (collectors, until.since(&from))
    }

    fn show(&self, side: usize, point: &crate::stats::Point, joined: &Interval) {
        if !self.quiet {
            terminal::tell(self.sides[side].text(point, &joined.errors));
        }
    }
}

/// A core's workers, from their connections to their ends.
async fn work<W: Worker>(
    workers: Vec<W>,
    events: &Sender<Event>,
    end_ns: &Arc<AtomicU64>,
    start: Receiver<Clock>,
) -> Result<Vec<W::End>, BenchError> {
    let sides: Vec<usize> = workers.iter().map(Worker::side).collect();
    let ready = try_join_all(workers.into_iter().map(W::prepare)).await?;
    // From here on the thread waits for the others; nothing else runs on it.
    let started = events.send(Event::Ready).is_ok().then(|| start.recv().ok()).flatten();
    let Some(clock) = started else {
        return Ok(Vec::new());
    };
    let seconds =
        sides.into_iter().map(|side| Seconds { side, events: events.clone(), end_ns: Arc::clone(end_ns) });
    let runs = ready.into_iter().zip(seconds).map(|(ready, seconds)| {
        // A task of its own, so that one worker's wake-up does not poll all others.
        glommio::spawn_local(W::run(ready, clock, seconds))
    });
    join_all(runs.collect::<Vec<_>>()).await.into_iter().collect()
}
