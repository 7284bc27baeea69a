//! A wake-up between tasks of one executor, with a time limit.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::executor;

/// Remembers that something happened until the one task that waits for it has seen it.
#[derive(Debug, Default)]
pub struct Signal {
    raised: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Signal {
    /// Wakes the waiter now, or makes its next wait return at once.
    pub fn raise(&self) {
        self.raised.set(true);
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    /// Waits until [`Signal::raise`] or for `limit`.
    pub async fn wait(&self, limit: Option<Duration>) {
        match limit {
            None => self.raised().await,
            Some(limit) => {
                executor::within(limit, self.raised()).await;
            }
        }
    }

    async fn raised(&self) {
        poll_fn(|cx| {
            if self.raised.take() {
                Poll::Ready(())
            } else {
                *self.waiter.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}
