//! The memory budget of one shard: requests are charged before they are read and released when their last slice is dropped,
//! on whatever thread that happens; what lies in the shard's receive buffers is not. When the budget is short, the shard stops reading sockets and TCP carries the back-pressure.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::future::{Either, select};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A cheap handle on a shard's memory budget.
#[derive(Debug, Clone)]
pub struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// One permit per byte; waiters are served in order.
    free: Arc<Semaphore>,
    total_bytes: u64,
    /// For one request at a time.
    overdraft: Arc<Semaphore>,
    waits: AtomicU64,
}

/// Bytes taken from a budget; dropping it, on any thread, gives them back.
#[derive(Debug)]
pub struct Permit {
    permit: OwnedSemaphorePermit,
    /// Bytes of other budgets that it was merged with.
    others: Vec<OwnedSemaphorePermit>,
    /// For the one that goes on when the budget is used up: see [`Budget::acquire_more`].
    overdraft: Option<OwnedSemaphorePermit>,
}

/// Bytes that were already in use when they were noted; dropping it gives them back.
#[derive(Debug)]
pub struct Charge {
    free: Arc<Semaphore>,
    bytes: usize,
}

impl Permit {
    /// Makes one permit of two. They may be of different budgets: half a request may have moved to another shard with its connection.
    pub fn merge(&mut self, other: Permit) {
        if Arc::ptr_eq(self.permit.semaphore(), other.permit.semaphore()) {
            self.permit.merge(other.permit);
        } else {
            self.others.push(other.permit);
        }
        self.others.extend(other.others);
        self.overdraft = self.overdraft.take().or(other.overdraft);
    }

    /// Whether its holder takes what it still needs without asking.
    pub fn is_overdrawn(&self) -> bool {
        self.overdraft.is_some()
    }
}

impl From<OwnedSemaphorePermit> for Permit {
    fn from(permit: OwnedSemaphorePermit) -> Self {
        Permit { permit, others: Vec::new(), overdraft: None }
    }
}

/// `memory` as bytes that keep `permit` until their last slice is dropped.
pub fn charged<M, P>(memory: M, permit: P) -> Bytes
where
    M: AsRef<[u8]> + Send + 'static,
    P: Send + 'static,
{
    struct Charged<M, P> {
        memory: M,
        _permit: P,
    }
    impl<M: AsRef<[u8]>, P> AsRef<[u8]> for Charged<M, P> {
        fn as_ref(&self) -> &[u8] {
            self.memory.as_ref()
        }
    }
    Bytes::from_owner(Charged { memory, _permit: permit })
}

impl Charge {
    /// Notes that `bytes` more are in use: never waits, and takes at most what is free.
    pub fn grow(&mut self, bytes: usize) {
        self.bytes += self.free.forget_permits(bytes);
    }

    /// Notes that `bytes` are in use by now; see [`Charge::grow`].
    pub fn grow_to(&mut self, bytes: usize) {
        self.grow(bytes.saturating_sub(self.bytes));
    }

    /// Notes that `bytes` are in use from now on, be it more or less than before.
    pub fn set(&mut self, bytes: usize) {
        self.grow_to(bytes);
        self.shrink_to(bytes);
    }

    /// Gives back what is charged beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.bytes.saturating_sub(bytes);
        if surplus > 0 {
            self.free.add_permits(surplus);
            self.bytes -= surplus;
        }
    }
}

impl Budget {
    /// A budget of `total_bytes`.
    pub fn new(total_bytes: u64) -> Self {
        let total_bytes = total_bytes.clamp(1, Semaphore::MAX_PERMITS as u64);
        let free = Arc::new(Semaphore::new(total_bytes as usize));
        let overdraft = Arc::new(Semaphore::new(1));
        Budget { inner: Arc::new(Inner { free, total_bytes, overdraft, waits: AtomicU64::new(0) }) }
    }

    /// Takes `bytes` if they are free and nobody waits.
    pub fn try_acquire(&self, bytes: usize) -> Option<Permit> {
        self.inner.free.clone().try_acquire_many_owned(self.clamped(bytes)).ok().map(Permit::from)
    }

    /// Waits for `bytes`, first come, first served. More than the whole budget counts as the whole budget.
    pub async fn acquire(&self, bytes: usize) -> Permit {
        if let Some(permit) = self.try_acquire(bytes) {
            return permit;
        }
        self.inner.waits.fetch_add(1, Ordering::Relaxed);
        let permit = self.inner.free.clone().acquire_many_owned(self.clamped(bytes)).await;
        Permit::from(permit.expect("a budget is never closed"))
    }

    /// Waits for `bytes` for a request that has some already. Such requests could use up the budget together and wait for each other for ever; so one of them
    /// at a time, from when there is nothing for it until its permit is dropped, goes on beyond the budget: [`Permit::is_overdrawn`].
    pub async fn acquire_more(&self, bytes: usize) -> Permit {
        let within = pin!(self.acquire(bytes));
        let beyond = pin!(self.inner.overdraft.clone().acquire_owned());
        match select(within, beyond).await {
            Either::Left((permit, _)) => permit,
            Either::Right((overdraft, _)) => {
                let nothing = self.inner.free.clone().try_acquire_many_owned(0);
                let overdraft = Some(overdraft.expect("it is never closed"));
                Permit { overdraft, ..Permit::from(nothing.expect("nothing is always free")) }
            }
        }
    }

    /// Whether `bytes` are free, and nobody waits for them.
    pub fn has(&self, bytes: usize) -> bool {
        self.inner.free.available_permits() >= bytes
    }

    /// Nothing yet, to be grown by memory that is in use already, such as answers to be sent.
    pub fn charge(&self) -> Charge {
        Charge { free: self.inner.free.clone(), bytes: 0 }
    }

    fn clamped(&self, bytes: usize) -> u32 {
        (bytes as u64).min(self.inner.total_bytes).min(u32::MAX.into()) as u32
    }

    /// The size of the budget.
    pub fn total_bytes(&self) -> u64 {
        self.inner.total_bytes
    }

    /// Bytes that are taken now.
    pub fn used_bytes(&self) -> u64 {
        self.inner.total_bytes - self.inner.free.available_permits() as u64
    }

    /// How often somebody had to wait.
    pub fn waits(&self) -> u64 {
        self.inner.waits.load(Ordering::Relaxed)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.free.add_permits(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn a_permit_dropped_on_another_thread_lets_the_next_waiter_in() {
        let budget = Budget::new(100);
        let first = budget.try_acquire(80).expect("free");
        assert!(budget.try_acquire(21).is_none());
        let mut waiting = Box::pin(budget.acquire(50));
        assert!(waiting.as_mut().now_or_never().is_none());
        std::thread::spawn(move || drop(first)).join().expect("joined");
        drop(waiting.now_or_never().expect("let in"));
        assert_eq!((budget.used_bytes(), budget.waits()), (0, 1));
    }

    #[test]
    fn a_permit_of_two_budgets_gives_each_its_own_back() {
        let budgets = [Budget::new(100), Budget::new(100)];
        let mut permit = budgets[0].try_acquire(10).expect("free");
        permit.merge(budgets[1].try_acquire(20).expect("free"));
        permit.merge(budgets[0].try_acquire(30).expect("free"));
        assert_eq!(budgets.each_ref().map(Budget::used_bytes), [40, 20]);
        drop(permit);
        assert_eq!(budgets.each_ref().map(Budget::used_bytes), [0, 0]);
    }

    #[test]
    fn more_than_the_whole_budget_counts_as_the_whole() {
        let budget = Budget::new(100);
        let all = budget.try_acquire(1 << 30).expect("free");
        assert_eq!(budget.used_bytes(), 100);
        drop(all);
    }

    #[test]
    fn of_those_who_need_more_one_at_a_time_goes_beyond_the_budget() {
        let budget = Budget::new(100);
        let mut held: Vec<Permit> = (0..2).map(|_| budget.try_acquire(50).expect("free")).collect();
        let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(budget.acquire_more(20))).collect();
        let more = waiting[0].as_mut().now_or_never().expect("nobody else is beyond it");
        assert!(more.is_overdrawn() && waiting[1].as_mut().now_or_never().is_none());
        held[0].merge(more);
        assert!(held[0].is_overdrawn() && budget.used_bytes() == 100);
        held.remove(0);
        let more = waiting[1].as_mut().now_or_never().expect("there is room now");
        assert!(!more.is_overdrawn());
        drop((held, more));
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn charges_never_wait_and_give_back_what_they_took() {
        let budget = Budget::new(100);
        let mut charge = budget.charge();
        charge.grow(30);
        charge.grow(1000);
        assert_eq!(budget.used_bytes(), 100);
        assert!(budget.try_acquire(1).is_none());
        charge.shrink_to(40);
        assert_eq!(budget.used_bytes(), 40);
        drop(charge);
        assert_eq!(budget.used_bytes(), 0);
    }
}
