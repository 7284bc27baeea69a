//! Waking one task of the same executor, and thousands of them.

use super::entry::CommitSeq;
use crate::error::JournalError;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
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

/// Lists of waiters that are kept for the next commits, and how long they may be.
const SPARE_LISTS: usize = 4;
const SPARE_WAITERS: usize = 256;

/// Who waits for one commit; a place is emptied when its waiter goes.
type Waiters = Vec<Option<Waker>>;

/// How far the journal is durable, and who waits for more. Every waiter has a waker of its own in a list per commit, so their
/// number has no limit but memory.
#[derive(Default)]
pub(super) struct Progress {
    durable: Cell<CommitSeq>,
    end: RefCell<Option<JournalError>>,
    /// In the order of commits.
    waiters: RefCell<VecDeque<(CommitSeq, Waiters)>>,
    /// Empty lists: a commit in steady state allocates none.
    spare: RefCell<Vec<Waiters>>,
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
        self.wake_through(seq);
    }

    /// Nothing more will become durable. The first reason stays.
    pub fn end(&self, reason: JournalError) {
        self.end.borrow_mut().get_or_insert(reason);
        self.wake_through(CommitSeq(u64::MAX));
    }

    fn wake_through(&self, seq: CommitSeq) {
        loop {
            let next = self.waiters.borrow_mut().pop_front_if(|(commit, _)| *commit <= seq);
            let Some((_, mut list)) = next else { return };
            list.drain(..).flatten().for_each(Waker::wake);
            let mut spare = self.spare.borrow_mut();
            if spare.len() < SPARE_LISTS && list.capacity() <= SPARE_WAITERS {
                spare.push(list);
            }
        }
    }

    pub fn ended(&self) -> Option<JournalError> {
        self.end.borrow().clone()
    }

    pub fn wait_for(self: &Rc<Self>, seq: CommitSeq) -> Durable {
        Durable { progress: self.clone(), seq, slot: None }
    }

    /// Puts `waker` into the commit's list, in the place that the waiter has already, if it has one; answers the place.
    fn register(&self, seq: CommitSeq, slot: Option<usize>, waker: Waker) -> usize {
        let mut waiters = self.waiters.borrow_mut();
        let at = waiters.partition_point(|(commit, _)| *commit < seq);
        if waiters.get(at).is_none_or(|(commit, _)| *commit != seq) {
            waiters.insert(at, (seq, self.spare.borrow_mut().pop().unwrap_or_default()));
        }
        let list = &mut waiters[at].1;
        let slot = slot.unwrap_or(list.len());
        if slot == list.len() {
            list.push(Some(waker));
        } else {
            list[slot] = Some(waker);
        }
        slot
    }

    fn forget(&self, seq: CommitSeq, slot: usize) {
        let mut waiters = self.waiters.borrow_mut();
        if let Ok(at) = waiters.binary_search_by_key(&seq, |(commit, _)| *commit) {
            waiters[at].1[slot] = None;
        }
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
        let slot = self.progress.register(self.seq, self.slot, cx.waker().clone());
        self.slot = Some(slot);
        Poll::Pending
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.progress.forget(self.seq, slot);
        }
    }
}
