//! A producer that is faster than the flusher: it is slowed down as the room fills up, and never stopped. Time is the turns of the simulated disk.

use crate::harness::*;
use futures::FutureExt;
use protocol::records::BatchOptions;
use std::{future::poll_fn, rc::Rc, task::Poll};
use storage::{StoreConfig, disk::SimDisk};

/// Appends that the producer tries in one turn of the executor.
const TRIES_PER_TURN: usize = 2;
const APPENDS: usize = 4000;

fn config() -> StoreConfig {
    let mut config = small_store_config(0, 1);
    config.journal.file_bytes = 256 << 10;
    config.journal.max_files = 8;
    config.cache_bytes = 2 << 20;
    config
}

/// Lets each of the store's tasks that can go on do so once.
async fn turn() {
    let mut is_over = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_over, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Whether the producer could append, try by try.
fn tries_of_a_hasty_producer() -> (Vec<bool>, f64) {
    let disk = SimDisk::new(3);
    // Small segments: to close one takes many operations.
    let log_config = Rc::new(small_log_config());
    let specs: Vec<_> = (0..2).map(|p| spec(p, &log_config)).collect();
    let mut run = Run::open(&disk, config(), specs.clone()).unwrap();
    let bytes = batch(BatchOptions::default(), 0, 4, 1000, NOW);
    let (mut tries, mut most_used) = (Vec::new(), 0f64);
    for i in 0..APPENDS {
        let has_room = run.store.has_room();
        if has_room {
            append(&run.log(&specs[i % specs.len()]), &bytes).unwrap();
        }
        tries.push(has_room);
        let stats = run.store.stats();
        most_used = most_used.max(stats.pinned_bytes as f64 / (config().cache_bytes / 4 * 3) as f64);
        if i % TRIES_PER_TURN == 0 {
            run.pool.run_until(turn());
        }
        assert!(run.ended.borrow().is_empty());
    }
    // Nothing that waits is forgotten.
    run.settle();
    assert!(run.store.wait_for_room().now_or_never().is_some());
    (tries, most_used)
}

#[test]
fn a_producer_that_is_faster_than_the_flusher_is_slowed_down_smoothly_and_never_stalls() {
    let (tries, most_used) = tries_of_a_hasty_producer();
    let first_pause = tries.iter().position(|admitted| !admitted).expect("the flusher is slower");
    let pauses: Vec<usize> =
        tries[first_pause..].split(|admitted| *admitted).map(<[bool]>::len).filter(|len| *len > 0).collect();
    let longest = pauses.iter().max().copied().unwrap_or(0);
    let slowed = &tries[first_pause..];
    let share = slowed.iter().filter(|admitted| **admitted).count() as f64 / slowed.len() as f64;
    assert!(share < 0.95, "the flusher keeps up: {share}");
    assert!(longest <= 40, "{longest} tries without success, {share} on average");
    assert!(most_used < 1.0, "{most_used}");
}
