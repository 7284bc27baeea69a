//! A worker's life on its core: its members join, wait for the start, commit one by one, and leave.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use glommio::timer::sleep;
use protocol::error::ErrorCode;

use super::CommitsArgs;
use crate::clock::Clock;
use crate::crew::{Seconds, Worker};
use crate::error::BenchError;
use crate::member::{Member, Subscription};
use crate::stats::{INTERVAL_NS, Interval};

const TICK: Duration = Duration::from_millis(20);
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// All that a worker needs, to be taken to its thread.
pub struct WorkerSetup {
    args: CommitsArgs,
    /// The partitions that each of its members commits.
    members: Vec<Vec<i32>>,
}

impl WorkerSetup {
    /// The setup of worker `number` of `workers`: it has each `workers`-th member.
    pub fn new(args: &CommitsArgs, partitions: i32, number: usize, workers: usize) -> WorkerSetup {
        let of_member = |member: usize| {
            let count = i32::from(args.partitions_per_commit).min(partitions);
            (0..count).map(|n| (member as i32 + n) % partitions).collect()
        };
        let members = (number..usize::from(args.members)).step_by(workers).map(of_member).collect();
        WorkerSetup { args: args.clone(), members }
    }
}

/// What the members of a worker count together.
struct Tally {
    clock: Clock,
    interval: RefCell<Interval>,
    seconds: Seconds,
    has_failed: Cell<bool>,
}

impl Tally {
    fn count_commit(&self, took_ns: u64) {
        let mut interval = self.interval.borrow_mut();
        interval.latency.saturating_record(took_ns);
        interval.records += 1;
        interval.batches += 1;
        interval.requests += 1;
    }

    fn count_lost_connection(&self) {
        let mut interval = self.interval.borrow_mut();
        interval.count_error("CONNECTION_LOST", 1);
        interval.reconnects += 1;
    }

    /// The run cannot go on.
    fn fail(&self, error: BenchError) -> Result<(), BenchError> {
        self.has_failed.set(true);
        Err(error)
    }
}

impl Worker for WorkerSetup {
    /// The members, each with its partitions, settled in the group.
    type Ready = Vec<(Member, Vec<i32>)>;
    type End = ();

    async fn prepare(self) -> Result<Self::Ready, BenchError> {
        let WorkerSetup { args, members } = self;
        // Members commit what they are told to, whatever the group assigns them.
        let nothing = || Subscription { topic: args.topic.clone(), partitions: Vec::new() };
        let connected = members.iter().map(|_| Member::connect(&args.bootstrap, &args.group, nothing()));
        let mut connected = try_join_all(connected).await?;
        try_join_all(connected.iter_mut().map(Member::join)).await?;
        try_join_all(connected.iter_mut().map(|member| member.settle(usize::from(args.members)))).await?;
        Ok(connected.into_iter().zip(members).collect())
    }

    async fn run(members: Self::Ready, clock: Clock, seconds: Seconds) -> Result<(), BenchError> {
        let tally = Rc::new(Tally {
            clock,
            interval: RefCell::new(Interval::new(0)),
            seconds,
            has_failed: Cell::new(false),
        });
        sleep(clock.until(0)).await;
        let work = members.into_iter().map(|(member, partitions)| {
            let tally = Rc::clone(&tally);
            glommio::spawn_local(async move { commit_until_end(member, &tally, &partitions).await })
        });
        let work: Vec<_> = work.collect();
        hand_over_seconds(&tally).await;
        let members: Result<Vec<Member>, BenchError> = join_all(work).await.into_iter().collect();
        join_all(members?.into_iter().map(Member::leave)).await;
        Ok(())
    }
}

async fn commit_until_end(
    mut member: Member,
    tally: &Tally,
    partitions: &[i32],
) -> Result<Member, BenchError> {
    let mut offset = 0;
    loop {
        let began_ns = tally.clock.now_ns();
        if began_ns >= tally.seconds.end_ns() || tally.has_failed.get() {
            return Ok(member);
        }
        let offsets: Vec<(i32, i64)> = partitions.iter().map(|partition| (*partition, offset)).collect();
        let outcome = member.commit(&offsets).await;
        offset += 1;
        let took_ns = tally.clock.now_ns() - began_ns;
        match outcome {
            Ok(code) if code.is_none() => tally.count_commit(took_ns),
            Ok(code) => {
                tally.interval.borrow_mut().count_error(code.name(), 1);
                sleep(RETRY_PAUSE).await;
                let again = match code {
                    ErrorCode::UNKNOWN_MEMBER_ID
                    | ErrorCode::ILLEGAL_GENERATION
                    | ErrorCode::REBALANCE_IN_PROGRESS => member.join().await,
                    ErrorCode::NOT_COORDINATOR => member.reconnect().await,
                    _ => Ok(()),
                };
                // A connection that is broken shows at the next commit.
                again.or_else(|error| if error.may_pass() { Ok(()) } else { tally.fail(error) })?;
            }
            Err(error) if error.may_pass() => {
                tally.count_lost_connection();
                reconnect(&mut member, tally).await?;
            }
            Err(error) => tally.fail(error)?,
        }
    }
}

/// Connects until that works or the run ends.
async fn reconnect(member: &mut Member, tally: &Tally) -> Result<(), BenchError> {
    while tally.clock.now_ns() < tally.seconds.end_ns() && !tally.has_failed.get() {
        match member.reconnect().await {
            Ok(()) => return Ok(()),
            Err(error) if error.may_pass() => sleep(RETRY_PAUSE).await,
            Err(error) => return tally.fail(error),
        }
    }
    Ok(())
}

/// Hands each second over when it is past, until the end.
async fn hand_over_seconds(tally: &Tally) {
    loop {
        let second = tally.interval.borrow().second;
        let ends_ns = || ((second + 1) * INTERVAL_NS).min(tally.seconds.end_ns());
        while tally.clock.now_ns() < ends_ns() {
            sleep(tally.clock.until(ends_ns()).min(TICK)).await;
            if tally.has_failed.get() {
                return;
            }
        }
        let full = tally.interval.replace(Interval::new(second + 1));
        let is_last = ends_ns() == tally.seconds.end_ns();
        tally.seconds.hand_over(full);
        if is_last {
            return;
        }
    }
}
