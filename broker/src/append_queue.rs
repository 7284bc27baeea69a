//! Appends wait here, in order, while the store has no room: its cache of unflushed data is full, or its journal nearly so.
//!
//! A producer's batches must not overtake each other, so as long as one append waits all later ones of the shard wait behind it. What waits
//! is charged to the memory budget of the connections that it came from, or lies in one of their few receive buffers, so the queue needs no bound of its own.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use futures::future::Either;
use tokio::sync::oneshot;

use crate::runtime;
use crate::shard::Shard;

type Job = Box<dyn FnOnce(&Rc<Shard>)>;

/// The appends of one shard that wait for room.
#[derive(Default)]
pub struct AppendQueue {
    waiting: RefCell<VecDeque<Job>>,
}

impl AppendQueue {
    /// Runs `job` now if nothing waits and the store has room; else in its turn.
    pub fn run(shard: &Rc<Shard>, job: impl FnOnce(&Rc<Shard>) + 'static) {
        let mut waiting = shard.append_queue.waiting.borrow_mut();
        if waiting.is_empty() && shard.store().has_room() {
            drop(waiting);
            return job(shard);
        }
        waiting.push_back(Box::new(job));
        if waiting.len() == 1 {
            runtime::spawn(drain(Rc::clone(shard)));
        }
    }

    /// As [`AppendQueue::run`], and answers with what the job returns. The job runs whether or not the answer is awaited.
    pub fn call<R: 'static, F>(shard: &Rc<Shard>, job: F) -> impl Future<Output = R> + use<R, F>
    where
        F: FnOnce(&Rc<Shard>) -> R + 'static,
    {
        if shard.append_queue.is_empty() && shard.store().has_room() {
            return Either::Left(std::future::ready(job(shard)));
        }
        let (answer, answered) = oneshot::channel();
        AppendQueue::run(shard, move |shard| drop(answer.send(job(shard))));
        Either::Right(async move { answered.await.expect("every job runs") })
    }

    /// Appends that wait.
    pub fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }
}

/// Runs what waits, one after the other, until nothing does.
async fn drain(shard: Rc<Shard>) {
    loop {
        shard.store().wait_for_room().await;
        // The front leaves the queue only after it has run: until then nobody may overtake it.
        let job = shard
            .append_queue
            .waiting
            .borrow_mut()
            .front_mut()
            .map(|job| std::mem::replace(job, Box::new(|_| ())));
        let Some(job) = job else { return };
        job(&shard);
        let mut waiting = shard.append_queue.waiting.borrow_mut();
        waiting.pop_front();
        if waiting.is_empty() {
            return;
        }
    }
}
