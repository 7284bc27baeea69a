//! A follower's side: what a leader's message, and the controller's word, do to the log. One thing at a time for each partition.

use std::rc::Rc;
use std::time::Duration;

use coord::replica::{AppendOutcome, BatchSpan};
use futures::channel::oneshot;
use protocol::records::{self, CheckedBatch};
use protocol::wire::Few;
use storage::log::error::ReadError;
use storage::{AppendError, LeaderEpoch, Offset};

use super::host::{Heard, Host, Route};
use super::hosted::{Arrived, Hosted, Work};
use super::message::PartitionAppends;
use super::replicas::{carry_out, input, send_replies};

/// After a refusal that passes an append is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Takes what one frame has for partitions of this shard; the answer comes when all of it is in the journal's hands, or refused.
pub fn receive<H: Host>(
    host: &Rc<H>,
    route: Route,
    appends: Few<PartitionAppends>,
) -> impl Future<Output = ()> + use<H> {
    let (done, all_done) = oneshot::channel();
    let frame = Rc::new(done);
    for PartitionAppends { id, append, consumers_from, batches } in appends {
        let Some(hosted) = host.replicas().get(&id) else {
            // The metadata is on its way; then the replica introduces itself to its leader.
            host.replicas().note_early(id, Heard { epoch: append.leader_epoch, route });
            continue;
        };
        let arrived = Arrived { route, append, consumers_from, batches, _frame: Rc::clone(&frame) };
        enqueue(host, &hosted, Work::Append(arrived));
    }
    drop(frame);
    send_replies(host);
    // Nobody sends anything: the last part of the frame is dropped.
    async move { all_done.await.unwrap_or(()) }
}

/// Does it now, or in its turn.
pub(super) fn enqueue<H: Host>(host: &Rc<H>, hosted: &Rc<Hosted<H::Disk>>, work: Work) {
    hosted.work.borrow_mut().push_back(work);
    if !hosted.is_busy.replace(true) {
        let (host_of_task, hosted) = (Rc::clone(host), Rc::clone(hosted));
        host.spawn(Box::pin(async move { work_off(&host_of_task, &hosted).await }));
    }
}

async fn work_off<H: Host>(host: &Rc<H>, hosted: &Rc<Hosted<H::Disk>>) {
    loop {
        let work = hosted.work.borrow_mut().pop_front();
        match work {
            None => break,
            Some(Work::State(state)) => {
                input(host, hosted, |replica, now_ms, effects| {
                    replica.state_changed(&state, now_ms, effects)
                });
            }
            Some(Work::Append(arrived)) => store(host, hosted, arrived).await,
        }
    }
    hosted.is_busy.set(false);
    send_replies(host);
}

/// The batches, and where they lie in the log; `None` if they are none.
fn whole_batches(bytes: &[u8]) -> Option<(Vec<BatchSpan>, Vec<CheckedBatch<'_>>)> {
    let mut at = 0;
    let (mut spans, mut batches) = (Vec::new(), Vec::new());
    for batch in records::iter_batches(bytes) {
        let batch = batch.ok()?.checked().ok()?;
        let span = BatchSpan {
            leader_epoch: LeaderEpoch(batch.leader_epoch()),
            base_offset: Offset(batch.base_offset()),
            end_offset: Offset(batch.next_offset()),
        };
        at += batch.size();
        spans.push(span);
        batches.push(batch);
    }
    (at == bytes.len()).then_some((spans, batches))
}

async fn store<H: Host>(host: &Rc<H>, hosted: &Rc<Hosted<H::Disk>>, arrived: Arrived) {
    let Arrived { route, append, consumers_from, batches, .. } = &arrived;
    let Some((spans, batches)) = whole_batches(batches) else {
        tracing::error!(partition = %hosted.id, leader = route.leader.0, "a leader sends what are no record batches");
        return host.break_link(*route);
    };
    if !batches.is_empty() {
        host.store().wait_for_room().await;
    }
    if let Err(error) = host.store().writable() {
        // Nothing is stored that could not be: the leader says it again with the next link.
        tracing::debug!(partition = %hosted.id, %error, "a leader's message is not stored");
        return host.break_link(*route);
    }
    let mut effects = Vec::new();
    hosted.note_heard(Heard { epoch: append.leader_epoch, route: *route });
    let outcome = hosted.replica.borrow_mut().append_received(route.leader, append, &spans, &mut effects);
    match outcome {
        AppendOutcome::Refused => {}
        AppendOutcome::Corrupt(problem) => {
            hosted.log.take_offline(problem);
            return host.replicas().remove(&hosted.id);
        }
        AppendOutcome::Store { restart_at, truncate_to, skip, log_start_offset } => {
            if let Err(error) = cut(host, hosted, restart_at, truncate_to).await {
                return give_up(host, hosted, error);
            }
            let generation = hosted.replica.borrow().log().generation();
            hosted.generation.set(generation);
            if restart_at.is_some() || truncate_to.is_some() {
                // A cut is durable when it returns, and no commit says so.
                let end = hosted.log.offsets().log_end_offset;
                hosted.replica.borrow_mut().synced(generation, end, &mut effects);
            }
            for batch in &batches[skip..] {
                if let Err(error) = append_one(host, hosted, batch).await {
                    return give_up(host, hosted, error);
                }
                host.replicas().counters.bytes_in.add(batch.size() as u64);
            }
            let start = log_start_offset.unwrap_or(Offset::ZERO).max(*consumers_from);
            if let Err(error) = hosted.log.advance_log_start(start) {
                tracing::debug!(partition = %hosted.id, %error, "the log start stays where it is");
            }
        }
    }
    carry_out(host, hosted, effects);
}

/// Cuts the log, however long it takes until there is room: what stays of it has to be in segments first.
async fn cut<H: Host>(
    host: &Rc<H>,
    hosted: &Hosted<H::Disk>,
    restart_at: Option<Offset>,
    truncate_to: Option<Offset>,
) -> Result<(), ReadError> {
    let store = host.store();
    loop {
        let done = async {
            if let Some(at) = restart_at {
                store.restart_at(&hosted.id, at).await?;
            }
            if let Some(to) = truncate_to {
                store.truncate_to(&hosted.id, to).await?;
            }
            Ok(())
        };
        match done.await {
            Err(ReadError::Storage(error)) if error.is_out_of_space() => {
                if let Err(closing @ storage::StorageError::Closing) = store.writable() {
                    return Err(closing.into());
                }
                host.sleep(RETRY_PAUSE).await;
            }
            other => return other,
        }
    }
}

/// Appends one batch, however long it takes until there is room.
async fn append_one<H: Host>(
    host: &Rc<H>,
    hosted: &Hosted<H::Disk>,
    batch: &CheckedBatch<'_>,
) -> Result<(), ReadError> {
    loop {
        let error = match hosted.log.append_replica(batch, host.wall_clock_ms()) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        match error {
            AppendError::NotWritable(storage::StorageError::Journal(storage::JournalError::Failed(_)))
            | AppendError::NotWritable(storage::StorageError::Closing) => return Err(ReadError::Deleted),
            AppendError::NotWritable(_) => {
                host.sleep(RETRY_PAUSE).await;
                host.store().wait_for_room().await;
            }
            AppendError::Deleted => return Err(ReadError::Deleted),
            AppendError::Offline(why) => return Err(ReadError::Offline(why)),
            other => {
                hosted.log.take_offline(&other.to_string());
                return Err(ReadError::Offline(other.to_string().into()));
            }
        }
    }
}

/// The log is not what the replica believes it to be: with a log that is gone nobody asks, one that is offline says so, and all else ends the process.
fn give_up<H: Host>(host: &Rc<H>, hosted: &Hosted<H::Disk>, error: ReadError) {
    match error {
        ReadError::Deleted | ReadError::Storage(storage::StorageError::Closing) => {}
        ReadError::Offline(_) => {
            tracing::error!(partition = %hosted.id, %error, "a replica is out of service");
        }
        error => host.fail(format!("{}: a leader's message cannot be stored: {error}", hosted.id)),
    }
    host.replicas().remove(&hosted.id);
}
