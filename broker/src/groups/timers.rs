//! What is due in the coordinators of one shard: sessions, rebalances, expiry. One task sleeps until the earliest deadline; without deadlines it sleeps
//! for good.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use storage::WakeSignal;

use super::coordinators::{Partition, PartitionState};
use crate::append_queue::AppendQueue;
use crate::runtime;
use crate::shard::Shard;

/// A clock that is set back must not let the task sleep for ever.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// What the task sleeps for. A deadline that moves back costs nothing: the task finds out when it wakes.
pub struct TimerArm {
    /// When the task wakes, in ms since the epoch.
    armed_ms: Cell<i64>,
    earlier: Rc<WakeSignal>,
}

impl Default for TimerArm {
    fn default() -> Self {
        TimerArm { armed_ms: Cell::new(i64::MAX), earlier: WakeSignal::new() }
    }
}

impl TimerArm {
    /// Something is due at `deadline_ms`; the task is woken if it would sleep longer.
    pub fn note_deadline(&self, deadline_ms: i64) {
        if deadline_ms < self.armed_ms.get() {
            self.armed_ms.set(deadline_ms);
            self.earlier.wake();
        }
    }

    /// Wakes the task.
    pub fn wake(&self) {
        self.earlier.wake();
    }
}

/// Does what is due, until the shard is closed.
pub async fn run(shard: Rc<Shard>) {
    let timer = &shard.groups.timer;
    while !shard.is_closing.get() {
        // Whatever becomes due while this goes on is noted, and looked at in the next round.
        timer.armed_ms.set(i64::MAX);
        let now_ms = shard.groups.now_ms();
        let mut next_ms = i64::MAX;
        for partition in shard.groups.partitions() {
            if deadline_of(&partition).is_some_and(|deadline_ms| deadline_ms <= now_ms) {
                tick(&shard, &partition).await;
            }
            next_ms = next_ms.min(deadline_of(&partition).unwrap_or(i64::MAX));
        }
        timer.armed_ms.set(next_ms.min(timer.armed_ms.get()));
        match u64::try_from(next_ms.saturating_sub(shard.groups.now_ms())) {
            _ if next_ms == i64::MAX => timer.earlier.wait().await,
            // More is due already; it waits until others have had their turn.
            Err(_) | Ok(0) => runtime::yield_now().await,
            Ok(ms) => {
                runtime::timeout(Duration::from_millis(ms).min(SLEEP_MAX), timer.earlier.wait()).await;
            }
        }
    }
}

fn deadline_of(partition: &Partition) -> Option<i64> {
    match &*partition.state.borrow() {
        PartitionState::Active(coordinator) => coordinator.next_deadline_ms(),
        _ => None,
    }
}

/// One round of what is due in a partition, when there is room to append.
async fn tick(shard: &Rc<Shard>, partition: &Rc<Partition>) {
    let partition = Rc::clone(partition);
    let ticked = AppendQueue::call(shard, move |shard| {
        let mut state = partition.state.borrow_mut();
        if shard.groups.has(&partition)
            && let Ok(coordinator) = state.active()
        {
            let now_ms = shard.groups.now_ms();
            shard.groups.tell_topics(&shard.image(), &partition, coordinator, now_ms);
            let output = coordinator.tick(now_ms);
            shard.groups.carry_out(&partition, coordinator, output, None, now_ms);
        }
    });
    ticked.await;
}
