//! Waking one task of the same executor, and thousands of them.

use super::entry::CommitSeq;
use crate::error::JournalError;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// A flag that one task waits for. Setting it twice before it is seen counts once.
#[derive(Default)]
pub(super) struct Signal {
    is_set: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    pub fn set(&self) {
        if !self.is_set.replace(true)
            && let Some(waker) = self.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// Returns once the flag is set, and clears it.
    pub fn wait(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|cx| {
            if self.is_set.replace(false) {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
    }
}

/// How far the journal is durable, and who waits for more. Every waiter has a waker of its own in a list per commit, so their
/// number has no limit but memory.
#[derive(Default)]
pub(super) struct Progress {
    durable: Cell<CommitSeq>,
    end: RefCell<Option<JournalError>>,
    waiters: RefCell<BTreeMap<CommitSeq, Vec<Option<Waker>>>>,
}

impl Progress {
    pub fn starting_at(durable: CommitSeq) -> Self {
        let progress = Self::default();
        progress.durable.set(durable);
        progress
    }

    pub fn durable(&self) -> CommitSeq {
        self.durable.get()
    }

    /// Everything up to `seq` is durable.
    pub fn advance(&self, seq: CommitSeq) {
        assert!(seq > self.durable.get(), "commit {seq} is confirmed after {}", self.durable.get());
        assert!(self.end.borrow().is_none(), "commit {seq} is confirmed after the journal has ended");
        self.durable.set(seq);
        let waiting = {
            let mut waiters = self.waiters.borrow_mut();
            let later = waiters.split_off(&seq.next());
            std::mem::replace(&mut *waiters, later)
        };
        waiting.into_values().flatten().flatten().for_each(Waker::wake);
    }

    /// Nothing more will become durable. The first reason stays.
    pub fn end(&self, reason: JournalError) {
        self.end.borrow_mut().get_or_insert(reason);
        let waiting = std::mem::take(&mut *self.waiters.borrow_mut());
        waiting.into_values().flatten().flatten().for_each(Waker::wake);
    }

    pub fn ended(&self) -> Option<JournalError> {
        self.end.borrow().clone()
    }

    pub fn wait_for(self: &Rc<Self>, seq: CommitSeq) -> Durable {
        Durable { progress: self.clone(), seq, slot: None }
    }
}

/// Waits until a commit is durable; see [`super::Journal::durable`].
#[must_use = "futures do nothing unless polled"]
pub struct Durable {
    progress: Rc<Progress>,
    seq: CommitSeq,
    /// This waiter's place in the list of its commit.
    slot: Option<usize>,
}

impl Future for Durable {
    type Output = Result<(), JournalError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.progress.durable() >= self.seq {
            self.slot = None;
            return Poll::Ready(Ok(()));
        }
        if let Some(reason) = self.progress.ended() {
            self.slot = None;
            return Poll::Ready(Err(reason));
        }
        let slot = {
            let mut waiters = self.progress.waiters.borrow_mut();
            let list = waiters.entry(self.seq).or_default();
            match self.slot {
                Some(slot) => {
                    list[slot] = Some(cx.waker().clone());
                    slot
                }
                None => {
                    list.push(Some(cx.waker().clone()));
                    list.len() - 1
                }
            }
        };
        self.slot = Some(slot);
        Poll::Pending
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        if let Some(slot) = self.slot
            && let Some(list) = self.progress.waiters.borrow_mut().get_mut(&self.seq)
        {
            list[slot] = None;
        }
    }
}
