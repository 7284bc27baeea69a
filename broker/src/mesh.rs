//! Calls between shards: a closure crosses to the other shard, its answer crosses back. Everything that crosses is visible here.
//!
//! Each ordered pair of shards has one queue, so calls from one shard to another are begun in the order in which they were made.
//! A queue never blocks its sender. It is bounded from the outside: requests in flight are charged to the memory budget, and while more
//! than [`IN_FLIGHT_MAX`] calls to one shard await their answers [`Mesh::is_congested`] holds and connections are not read.
//!
//! Answers travel the same way back and are delivered by the home shard's own receiver, so that a burst of answers
//! costs one wake from outside and not one for each.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures::future::{Either, join_all};
use tokio::sync::oneshot;

use crate::placement::ShardId;
use crate::runtime::Pulse;
use crate::runtime::inbox::InboxReceiver;

/// While so many calls to one shard are unanswered, no further requests are read from sockets.
pub const IN_FLIGHT_MAX: usize = 4096;

/// So many messages are handled before other tasks of the shard get their turn.
const BATCH_MAX: usize = 256;

type Message<S> = Box<dyn FnOnce(&Rc<S>) + Send>;

/// Where one shard receives, one queue for each sender.
struct Inbox<S> {
    queues: Vec<Mutex<VecDeque<Message<S>>>>,
    /// Raised by a sender after it has queued; lowered by the receiver before it looks.
    pulse: Arc<Pulse>,
}

impl<S> Inbox<S> {
    fn push(&self, sender: ShardId, message: Message<S>) {
        self.queues[sender.0].lock().expect("no panic while locked").push_back(message);
        self.pulse.inbox().raise();
    }
}

/// One shard's end of the mesh. `S` is the state that calls run on: the broker's `Shard`.
pub struct Mesh<S: 'static> {
    id: ShardId,
    inboxes: Arc<[Inbox<S>]>,
    state: RefCell<Weak<S>>,
    in_flight: Vec<Cell<usize>>,
    uncongested: RefCell<Vec<Waker>>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    calls: Cell<u64>,
    local_calls: Cell<u64>,
    received: Cell<u64>,
    wakes: Cell<u64>,
}

/// What went over one shard's end of the mesh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MeshStats {
    /// Calls made to other shards.
    pub calls: u64,
    /// Calls made to the own shard, which do not cross.
    pub local_calls: u64,
    /// Messages received: calls of others, and answers.
    pub received: u64,
    /// How often the receiver found something after it had run dry.
    pub wakes: u64,
    /// Calls to other shards that await their answers now.
    pub in_flight: u64,
}

/// The two ends of every pair: element `n` belongs to shard `n`, whose signs of life are `pulses[n]`.
pub fn mesh<S>(pulses: &[Arc<Pulse>]) -> Vec<MeshSeed<S>> {
    let shards = pulses.len();
    let inbox = |pulse: &Arc<Pulse>| Inbox {
        queues: (0..shards).map(|_| Mutex::new(VecDeque::new())).collect(),
        pulse: pulse.clone(),
    };
    let inboxes: Arc<[Inbox<S>]> = pulses.iter().map(inbox).collect();
    (0..shards).map(|id| MeshSeed { id: ShardId(id), inboxes: inboxes.clone() }).collect()
}

/// A [`Mesh`] on its way to its shard's thread.
pub struct MeshSeed<S> {
    id: ShardId,
    inboxes: Arc<[Inbox<S>]>,
}

impl<S> MeshSeed<S> {
    /// The shard that it is meant for.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The shard's end of the mesh; give it its state with [`Mesh::attach`] and run [`Mesh::run`].
    pub fn plant(self) -> Mesh<S> {
        let shards = self.inboxes.len();
        Mesh {
            id: self.id,
            inboxes: self.inboxes,
            state: RefCell::new(Weak::new()),
            in_flight: vec![Cell::new(0); shards],
            uncongested: RefCell::default(),
            counters: Counters::default(),
        }
    }
}

/// Access to the mesh from the state that calls run on; answers find their way home through it.
pub trait HasMesh: Sized {
    /// This shard's end of the mesh.
    fn mesh(&self) -> &Mesh<Self>;
}

impl<S: HasMesh> Mesh<S> {
    /// Names the state that calls run on.
    pub fn attach(&self, state: &Rc<S>) {
        *self.state.borrow_mut() = Rc::downgrade(state);
    }

    /// The shard that this end belongs to.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// All shards, the own one included.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + use<S> {
        (0..self.inboxes.len()).map(ShardId)
    }

    /// Runs `f` on `target` and answers with its future's output.
    ///
    /// The call is on its way when this function returns, whether or not the answer is awaited. There `f` is called and its future polled
    /// once, at once and in the order of sending; only then the next call is looked at. On the own shard this happens before the function returns.
    /// The answer never comes if the target has stopped, which happens only when the whole broker stops.
    pub fn call<F, Fut, R>(&self, target: ShardId, f: F) -> impl Future<Output = R> + use<S, F, Fut, R>
    where
        F: FnOnce(&Rc<S>) -> Fut + Send + 'static,
        Fut: Future<Output = R> + 'static,
        R: Send + 'static,
    {
        if target == self.id {
            self.note_local_call();
            return Either::Left(self.call_here(f));
        }
        bump(&self.counters.calls);
        bump_by(&self.in_flight[target.0], 1);
        let (answer, answered) = oneshot::channel();
        let home = self.id;
        self.inboxes[target.0].push(
            home,
            Box::new(move |state: &Rc<S>| {
                let state_for_answer = state.clone();
                // For the guard: work on this shard until the answer is on its way.
                let working = state.mesh().pulse().begin();
                begin(f(state), move |result: R| {
                    let mesh = state_for_answer.mesh();
                    let here = mesh.id;
                    let deliver = move |state: &Rc<S>| {
                        state.mesh().answered(here);
                        // The caller may have given up; nobody misses the answer then.
                        let _ = answer.send(result);
                    };
                    mesh.inboxes[home.0].push(here, Box::new(deliver));
                    drop(working);
                });
            }),
        );
        // For the guard: somebody here waits, or is ready to go on, until the answer is taken.
        let waiting = self.pulse().begin();
        Either::Right(async move {
            let _waiting = waiting;
            match answered.await {
                Ok(result) => result,
                Err(_) => std::future::pending().await,
            }
        })
    }

    /// Has `f` run on `target`, in the order of sending; nobody waits for it.
    pub fn tell<F>(&self, target: ShardId, f: F)
    where
        F: FnOnce(&Rc<S>) + Send + 'static,
    {
        // It is on its way when `call` returns.
        drop(self.call(target, move |state| {
            f(state);
            std::future::ready(())
        }));
    }

    fn call_here<F, Fut, R>(&self, f: F) -> impl Future<Output = R> + use<S, F, Fut, R>
    where
        F: FnOnce(&Rc<S>) -> Fut,
        Fut: Future<Output = R> + 'static,
    {
        let state = self.state.borrow().upgrade().expect("attached before the first call");
        let mut future = Box::pin(f(&state));
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Either::Left(std::future::ready(result)),
            Poll::Pending => Either::Right(future),
        }
    }

    /// Counts a call to the own shard that its caller makes without the mesh, because nothing of it has to be polled ahead.
    pub fn note_local_call(&self) {
        bump(&self.counters.local_calls);
    }

    /// Runs `f` on every shard, the own one included, and answers with all outputs in the order of shards.
    pub async fn call_all<F, Fut, R>(&self, f: F) -> Vec<R>
    where
        F: FnOnce(&Rc<S>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = R> + 'static,
        R: Send + 'static,
    {
        let calls: Vec<_> = self.shards().map(|target| self.call(target, f.clone())).collect();
        join_all(calls).await
    }

    fn pulse(&self) -> &Arc<Pulse> {
        &self.inboxes[self.id.0].pulse
    }

    fn answered(&self, by: ShardId) {
        let in_flight = self.in_flight[by.0].get() - 1;
        self.in_flight[by.0].set(in_flight);
        if in_flight < IN_FLIGHT_MAX && !self.uncongested.borrow().is_empty() {
            self.uncongested.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Whether some shard owes too many answers. If so, the task is woken when that may have changed.
    pub fn is_congested(&self, cx: &mut Context<'_>) -> bool {
        let congested = self.in_flight.iter().any(|in_flight| in_flight.get() >= IN_FLIGHT_MAX);
        if congested {
            let mut waiting = self.uncongested.borrow_mut();
            if !waiting.last().is_some_and(|last| last.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
        }
        congested
    }

    /// Receives and begins calls, for ever. Spawn it once on the shard, before anybody calls.
    pub fn run(&self) -> impl Future<Output = ()> + use<S> {
        let state = self.state.borrow().upgrade().expect("attached");
        async move {
            let mut receiver = state.mesh().inboxes[state.mesh().id.0].pulse.inbox().receiver();
            loop {
                state.mesh().received(&state, &mut receiver).await;
            }
        }
    }

    /// Begins up to [`BATCH_MAX`] messages as soon as there is one.
    async fn received(&self, state: &Rc<S>, receiver: &mut InboxReceiver) {
        let inbox = &self.inboxes[self.id.0];
        receiver.raised(inbox.pulse.inbox()).await;
        inbox.pulse.turn();
        bump(&self.counters.wakes);
        let mut handled = 0;
        for queue in &inbox.queues {
            // What comes in meanwhile raises the signal again, and waits until the other senders have had their turn.
            let waiting = queue.lock().expect("no panic while locked").len();
            for _ in 0..waiting {
                let message = queue.lock().expect("no panic while locked").pop_front();
                let Some(message) = message else { break };
                bump(&self.counters.received);
                message(state);
                handled += 1;
                if handled % BATCH_MAX == 0 {
                    // There may be more, which the guard must see.
                    inbox.pulse.inbox().raise();
                    crate::runtime::yield_now().await;
                }
            }
        }
    }

    /// What has gone over this end.
    pub fn stats(&self) -> MeshStats {
        MeshStats {
            calls: self.counters.calls.get(),
            local_calls: self.counters.local_calls.get(),
            received: self.counters.received.get(),
            wakes: self.counters.wakes.get(),
            in_flight: self.in_flight.iter().map(|in_flight| in_flight.get() as u64).sum(),
        }
    }
}

/// Polls once, here and now; finishes in a task of its own if that was not enough.
fn begin<Fut: Future + 'static>(future: Fut, done: impl FnOnce(Fut::Output) + 'static) {
    let mut future = Box::pin(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => done(output),
        Poll::Pending => crate::runtime::spawn(async move {
            let output = pin!(future).await;
            done(output);
        }),
    }
}

fn bump(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

fn bump_by(counter: &Cell<usize>, by: usize) {
    counter.set(counter.get() + by);
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::runtime::{Guard, spawn_executor};

    struct State {
        mesh: Mesh<State>,
        seen: RefCell<Vec<u32>>,
    }

    impl HasMesh for State {
        fn mesh(&self) -> &Mesh<Self> {
            &self.mesh
        }
    }

    /// Runs `test` on shard 0 of a mesh whose other shards only answer.
    fn on_mesh<F, Fut>(shards: usize, test: F)
    where
        F: FnOnce(Rc<State>) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let pulses: Vec<Arc<Pulse>> = (0..shards).map(|_| Arc::default()).collect();
        // On a loaded machine glommio does lose its way now and then.
        let guard = Guard::start(pulses.clone()).expect("a thread");
        let mut seeds = mesh::<State>(&pulses).into_iter();
        let first = seeds.next().expect("at least one shard");
        let start = |seed: MeshSeed<State>| {
            let state = Rc::new(State { mesh: seed.plant(), seen: RefCell::default() });
            state.mesh.attach(&state);
            crate::runtime::spawn(state.mesh.pulse().clone().run());
            crate::runtime::spawn(state.mesh.run());
            state
        };
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let others: Vec<_> = seeds
            .map(|seed| {
                let mut stopped = stopped.clone();
                let run = move || async move {
                    let _state = start(seed);
                    let _ = stopped.wait_for(|stopped| *stopped).await;
                };
                spawn_executor(Default::default(), run).expect("an executor")
            })
            .collect();
        let tested = spawn_executor(Default::default(), move || async move { test(start(first)).await });
        tested.expect("an executor").join().expect("the test passes");
        stop.send_replace(true);
        println!("guard: {} wakes", pulses.iter().map(|pulse| pulse.guard_wakes()).sum::<u64>());
        drop(guard);
        others.into_iter().for_each(|other| other.join().expect("an orderly end"));
    }

    #[test]
    fn calls_begin_in_the_order_in_which_they_were_made_and_answers_find_their_caller() {
        on_mesh(3, |state| async move {
            let calls: Vec<_> = (0..1000u32)
                .map(|n| {
                    let call = move |there: &Rc<State>| {
                        there.seen.borrow_mut().push(n);
                        let there = there.clone();
                        async move {
                            if n % 3 == 0 {
                                crate::runtime::yield_now().await;
                            }
                            (there.mesh.id(), n)
                        }
                    };
                    state.mesh.call(ShardId(1), call)
                })
                .collect();
            let answers = join_all(calls).await;
            assert!(answers.into_iter().eq((0..1000).map(|n| (ShardId(1), n))));
            let seen = state.mesh.call(ShardId(1), |there| std::future::ready(there.seen.take())).await;
            assert!(seen.into_iter().eq(0..1000));
            assert_eq!(state.mesh.stats().in_flight, 0);
            assert_eq!(state.mesh.stats().calls, 1001);
        });
    }

    #[test]
    fn a_sleeping_peer_is_woken_by_each_call() {
        on_mesh(2, |state| async move {
            // One at a time: the peer has gone to sleep before the next call comes.
            for n in 0..200 {
                assert_eq!(state.mesh.call(ShardId(1), move |_| std::future::ready(n)).await, n);
            }
        });
    }

    #[test]
    fn a_call_to_the_own_shard_has_begun_when_it_returns() {
        on_mesh(1, |state| async move {
            let call = state.mesh.call(ShardId(0), |here| {
                here.seen.borrow_mut().push(7);
                std::future::ready(8)
            });
            assert_eq!(*state.seen.borrow(), [7]);
            assert_eq!(call.await, 8);
            assert_eq!((state.mesh.stats().calls, state.mesh.stats().local_calls), (0, 1));
        });
    }

    #[test]
    fn all_shards_are_asked_and_answer_in_order() {
        on_mesh(3, |state| async move {
            let ids = state.mesh.call_all(|there| std::future::ready(there.mesh.id())).await;
            assert_eq!(ids, [ShardId(0), ShardId(1), ShardId(2)]);
        });
    }

    #[test]
    fn too_many_unanswered_calls_congest_until_answers_come() {
        on_mesh(2, |state| async move {
            let calls: Vec<_> = (0..IN_FLIGHT_MAX)
                .map(|_| state.mesh.call(ShardId(1), |_| crate::runtime::yield_now()))
                .collect();
            let congested = |cx: &mut Context<'_>| state.mesh.is_congested(cx);
            assert!(poll_fn(|cx| Poll::Ready(congested(cx))).await);
            // Woken by the answers, or this never ends.
            poll_fn(|cx| if congested(cx) { Poll::Pending } else { Poll::Ready(()) }).await;
            join_all(calls).await;
        });
    }

    /// Not a test: `cargo test --release -p broker -- --ignored --nocapture round_trip`.
    #[test]
    #[ignore = "a measurement"]
    fn measure_the_round_trip_to_a_sleeping_and_to_a_busy_peer() {
        on_mesh(2, |state| async move {
            let mut times: Vec<u128> = Vec::new();
            for _ in 0..20_000 {
                let start = std::time::Instant::now();
                state.mesh.call(ShardId(1), |_| std::future::ready(())).await;
                times.push(start.elapsed().as_nanos());
            }
            times.sort_unstable();
            println!("one at a time: p50 {} µs, p99 {} µs", times[10_000] / 1000, times[19_800] / 1000);
            let start = std::time::Instant::now();
            for _ in 0..20_000 {
                join_all((0..64).map(|_| state.mesh.call(ShardId(1), |_| std::future::ready(())))).await;
            }
            println!("64 in flight: {:.0} round trips/s", 1_280_000.0 / start.elapsed().as_secs_f64());
        });
    }
}
