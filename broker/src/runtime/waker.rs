//! Many waits of one task behind a single reference to it.
//!
//! glommio counts references to a task in 16 bits: a task that hands out more than 32,767 wakers panics, and with it the process. A connection
//! with many requests in flight, each waiting on many partitions, could get there. So its requests are polled with a waker of our own that
//! holds the task's waker once.

use std::sync::Arc;
use std::task::{Wake, Waker};

use futures::task::AtomicWaker;

/// Stands for a task; clones of it do not count as references to the task.
#[derive(Debug, Default)]
pub struct CoalescingWaker {
    task: AtomicWaker,
}

impl CoalescingWaker {
    /// The inner part, to be kept by the task, and the waker to be handed out.
    pub fn new() -> (Arc<CoalescingWaker>, Waker) {
        let shared = Arc::new(CoalescingWaker::default());
        (shared.clone(), Waker::from(shared))
    }

    /// Names the task to be woken; to be called whenever the task is polled. The next wake, from any thread, uses up the registration.
    pub fn register(&self, task: &Waker) {
        self.task.register(task);
    }

    /// Wakes the task.
    pub fn wake_task(&self) {
        self.task.wake();
    }
}

impl Wake for CoalescingWaker {
    fn wake(self: Arc<Self>) {
        self.task.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.task.wake();
    }
}
