//! glommio's hazards shown, and their cures. What a hazard does depends on timing and on the file system, so only cures are asserted; the
//! hazards are printed (`--nocapture`).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::Write;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::AsyncReadExt;
use storage::disk::{BLOCK, DirectDisk, Disk, DiskFile, OpenMode};

use super::guard::{Guard, Pulse};
use super::{CoalescingWaker, ExecutorOptions, RingTurn, spawn_executor, yield_now};

/// No test depends on this; it turns a hang into a failure.
const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `holds`, at most `limit`; says whether it came true.
fn comes_true_within(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    holds()
}

#[test]
fn the_guard_revives_a_shard_that_sleeps_with_work_at_hand() {
    // Hazard: with a short preemption timer glommio parks although a task is ready, often within milliseconds.
    let pulse: Arc<Pulse> = Arc::default();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let options = ExecutorOptions { preempt_timer: Duration::from_micros(50), ..Default::default() };
    let executor = spawn_executor(options, {
        let (pulse, stop) = (pulse.clone(), stop.clone());
        move || async move {
            super::spawn(pulse.clone().run());
            let _work = pulse.begin();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                pulse.turn();
                yield_now().await;
            }
        }
    });
    let executor = executor.expect("an executor");
    let mut last = (pulse.turns(), Instant::now());
    let stands_still = comes_true_within(Duration::from_secs(4), || {
        if pulse.turns() != last.0 {
            last = (pulse.turns(), Instant::now());
        }
        last.0 > 0 && last.1.elapsed() > Duration::from_millis(300)
    });
    println!("without the guard: stands still = {stands_still} after {} turns", pulse.turns());
    // Cure: whatever happened so far, it goes on.
    let _guard = Guard::start(vec![pulse.clone()]).expect("a thread");
    let wanted = pulse.turns() + 1000;
    assert!(comes_true_within(DEADLINE, || pulse.turns() >= wanted));
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    executor.join().expect("an orderly end");
    println!("with it: {} wakes, {} of them rescues", pulse.guard_wakes(), pulse.guard_rescues());
}

#[test]
fn the_guard_revives_a_shard_that_sleeps_during_disk_operations() {
    // Hazard: glommio parks with the completion of a read at hand; a recovery that nobody waited for stood still for ever.
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_owned();
    let pulse: Arc<Pulse> = Arc::default();
    let _guard = Guard::start(vec![pulse.clone()]).expect("a thread");
    let options = ExecutorOptions { preempt_timer: Duration::from_micros(50), ..Default::default() };
    let executor = spawn_executor(options, {
        let pulse = pulse.clone();
        move || async move {
            super::spawn(pulse.clone().run());
            let disk =
                DirectDisk::new(&path, 1 << 20).await.expect("a disk").observed_by(pulse.disk_observer());
            let file = disk.open(&path.join("file"), OpenMode::CREATE_NEW).await.expect("created");
            let block = disk.alloc(BLOCK).freeze();
            for at in 0..200 {
                file.write_at(at * BLOCK as u64, &block, BLOCK).await.expect("written");
                file.read_at(at * BLOCK as u64, BLOCK).await.expect("read");
            }
            file.close().await.expect("closed");
        }
    });
    executor.expect("an executor").join().expect("an orderly end");
    println!("{} wakes, {} of them rescues", pulse.guard_wakes(), pulse.guard_rescues());
    assert_eq!(pulse.in_flight(), 0, "nothing is in progress any more");
    // 400 reads and writes, and the two around them; the probe's operations are not told of.
    assert_eq!(pulse.turns(), 402);
}

#[test]
fn an_idle_executor_is_not_woken_and_a_question_from_outside_wakes_it() {
    let pulse: Arc<Pulse> = Arc::default();
    let guard = Guard::start(vec![pulse.clone()]).expect("a thread");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let executor = spawn_executor(ExecutorOptions::default(), {
        let pulse = pulse.clone();
        move || async move {
            super::spawn(pulse.run());
            let _ = stopped.await;
        }
    });
    assert!(comes_true_within(DEADLINE, || pulse.answers() == 1));
    // One question may get lost, as the guard's wakes may: therefore it asks again and again.
    let answered = comes_true_within(DEADLINE, || {
        pulse.ask();
        pulse.answers() >= 2
    });
    assert!(answered);
    assert_eq!(pulse.guard_wakes(), 0);
    let _work = pulse.begin();
    drop(stop);
    executor.expect("an executor").join().expect("an orderly end");
    drop(guard);
}

/// What glommio thinks of a data file; it tells only in its debug output.
async fn is_polled(path: &std::path::Path) -> bool {
    let file = glommio::io::OpenOptions::new().read(true).write(true).create(true).dma_open(path).await;
    let file = file.expect("direct I/O on the target folder's file system");
    let text = format!("{file:?}");
    assert!(text.contains("ollable"), "glommio no longer tells: {text}");
    file.close().await.expect("closed");
    !text.contains("NonPollable")
}

#[test]
fn after_the_probe_no_disk_is_taken_for_pollable() {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a folder on a disk");
    let (unprobed, probed) = (dir.path().join("unprobed"), dir.path().join("probed"));
    let hazard =
        spawn_executor(ExecutorOptions::default(), move || async move { is_polled(&unprobed).await });
    println!("without the probe: polled = {}", hazard.expect("an executor").join().expect("an orderly end"));
    let folder = dir.path().to_owned();
    let cure = spawn_executor(ExecutorOptions::default(), move || async move {
        super::probe::settle_on_no_polling(&folder, 0).await.expect("probed");
        is_polled(&probed).await
    });
    assert!(!cure.expect("an executor").join().expect("an orderly end"));
}

/// As many wakers of one task as a glommio task can have, and a few more.
const WAKERS: usize = 33_000;

#[test]
fn a_task_may_have_any_number_of_wakers_behind_a_coalescing_one() {
    let executor = spawn_executor(ExecutorOptions::default(), || async {
        let (shared, for_waits) = CoalescingWaker::new();
        let wakers = Rc::new(RefCell::new(Vec::new()));
        let woken_by = wakers.clone();
        let polled = Cell::new(0);
        poll_fn(|cx| {
            shared.register(cx.waker());
            polled.set(polled.get() + 1);
            if polled.get() == 1 {
                // With `cx.waker()` instead glommio panics: "Waker invariant broken".
                wakers.borrow_mut().extend((0..WAKERS).map(|_| for_waits.clone()));
                let woken_by = woken_by.clone();
                super::spawn(async move {
                    yield_now().await;
                    woken_by.take().into_iter().for_each(std::task::Waker::wake);
                });
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        polled.get()
    });
    assert_eq!(executor.expect("an executor").join().expect("an orderly end"), 2, "many wakes, one poll");
}

#[test]
fn a_computing_task_that_asks_whether_to_yield_lets_its_neighbours_run() {
    let executor = spawn_executor(ExecutorOptions::default(), || async {
        let neighbour_ran = Rc::new(Cell::new(false));
        let seen = neighbour_ran.clone();
        super::spawn(async move {
            super::sleep(Duration::from_millis(1)).await;
            seen.set(true);
        });
        // Never ends if the neighbour never runs.
        while !neighbour_ran.get() {
            glommio::yield_if_needed().await;
        }
    });
    executor.expect("an executor").join().expect("an orderly end");
}

/// How many times a task that always has more to do lets others run, until one that waits for a packet has got it; at most 10,000 times.
fn turns_until_a_packet_is_seen(with_ring_turns: bool) -> u32 {
    let (turns_sender, turns) = std::sync::mpsc::channel();
    // Nothing else makes the executor look.
    let options = ExecutorOptions { preempt_timer: DEADLINE, ..Default::default() };
    let executor = spawn_executor(options, move || async move {
        let (here, there) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
        // SAFETY: the descriptor is a connected stream socket that nobody else owns.
        let mut here = unsafe { glommio::net::UnixStream::from_raw_fd(here.into_raw_fd()) };
        let is_here = Rc::new(Cell::new(false));
        super::spawn({
            let is_here = is_here.clone();
            async move {
                here.read_exact(&mut [0]).await.expect("one byte");
                is_here.set(true);
            }
        });
        // Until it waits at the ring.
        super::sleep(Duration::from_millis(1)).await;
        (&there).write_all(&[1]).expect("room for one byte");
        let mut turn = RingTurn::default();
        let mut turns = 0;
        while !is_here.get() && turns < 10_000 {
            turns += 1;
            if with_ring_turns {
                turn.begin();
                poll_fn(|cx| turn.poll(cx)).await;
            } else {
                storage::wake::yield_now().await;
            }
        }
        turns_sender.send(turns).expect("somebody waits");
    });
    executor.expect("an executor").join().expect("an orderly end");
    turns.recv().expect("a count")
}

#[test]
fn a_busy_task_lets_the_executor_see_what_has_come() {
    // Hazard: while a task is ready, glommio does not look.
    println!("without ring turns: seen after {} turns", turns_until_a_packet_is_seen(false));
    let turns = turns_until_a_packet_is_seen(true);
    println!("with them: after {turns}");
    assert!(turns < 10_000);
}
