//! What the replicas' logs do and tell: a leader's messages are stored one at a time, what has to be read from the disk is waited for.

use coord::replica::{Append, AppendOutcome, BatchSpan, Effect, PartitionState, Role};
use coord::types::{BrokerId, LeaderEpoch};
use protocol::ErrorCode;
use storage::{Offset, TopicIdPartition};

use super::serve::fetched;
use super::{Env, Message, Out, Process};
use crate::simulator::message::{Address, Response};
use crate::simulator::store::{Job, LogEvent, Reader, StoredBatch};

/// Messages to one follower of one partition in one go; the rest goes with the next.
const MESSAGES_AT_ONCE: usize = 4;

/// Something that is done to a replica in its turn.
pub(in crate::simulator) enum Work {
    /// The controller's word.
    State(PartitionState),
    /// A leader's message.
    Append(Arrived),
}

/// A leader's message.
pub(in crate::simulator) struct Arrived {
    pub from: BrokerId,
    pub append: Append,
    pub consumers_from: Offset,
    pub batches: Vec<StoredBatch>,
}

/// What a log is at.
pub(in crate::simulator) struct Storing {
    ticket: u64,
    /// What follows when it is done.
    effects: Vec<Effect>,
}

/// What the logs will bring.
pub(in crate::simulator) enum Awaited {
    /// Batches for a follower.
    Follower { id: TopicIdPartition, to: BrokerId, append: Append },
    /// Batches for a client.
    Fetch { id: TopicIdPartition, client: Address, number: u64 },
    /// Everything for a coordinator that begins in this epoch.
    Groups { id: TopicIdPartition, epoch: LeaderEpoch },
    /// The end of DeleteRecords.
    Deletion { id: TopicIdPartition, client: Address, number: u64 },
}

/// What came of looking whether there is something for a follower.
enum Next {
    Nothing,
    /// It cannot be read at present.
    NotYet,
    Sent,
}

impl Process {
    pub(super) fn logs_tell(&mut self, event: LogEvent, env: &mut Env<'_>) {
        match event {
            LogEvent::Opened => {
                self.has_logs = true;
                self.follow_image(env);
            }
            LogEvent::Created(id) => self.log_created(id, env),
            LogEvent::Synced(id, generation, end) => {
                self.input(id, env, |replica, _, effects| replica.synced(generation, end, effects));
            }
            LogEvent::Stored(id, ticket) => self.stored(id, ticket, env),
            LogEvent::Read(ticket, result) => self.have_read(ticket, result, env),
            LogEvent::Deleted(ticket, result) => {
                if let Some(Awaited::Deletion { id, client, number }) = self.awaited.remove(&ticket) {
                    self.follow_log_start(id, env);
                    let response = if result.is_ok() { Response::Done } else { Response::Failed };
                    env.out.push(Out::Send(client, Message::Response(number, response)));
                }
            }
            LogEvent::Maintained => {
                let ids: Vec<TopicIdPartition> = self.partitions.keys().copied().collect();
                ids.into_iter().for_each(|id| self.follow_log_start(id, env));
            }
            LogEvent::Failed(why) => {
                env.trace.note(|| format!("broker {} cannot go on: {why}", self.id));
                env.out.push(Out::Exit("its disk has failed"));
            }
            LogEvent::Broken(id, text) => env.oracle.fail(id, format!("broker {}: {text}", self.id)),
        }
    }

    // ---- what is done to a log

    /// Does it now, or in its turn.
    pub(super) fn enqueue(&mut self, id: TopicIdPartition, work: Work, env: &mut Env<'_>) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.work.push_back(work);
            self.work_off(id, env);
        }
    }

    fn work_off(&mut self, id: TopicIdPartition, env: &mut Env<'_>) {
        while let Some(partition) = self.partitions.get_mut(&id)
            && partition.storing.is_none()
            && let Some(work) = partition.work.pop_front()
        {
            match work {
                Work::State(state) => {
                    self.input(id, env, |replica, now_ms, effects| {
                        replica.state_changed(&state, now_ms, effects)
                    });
                }
                Work::Append(arrived) => self.append_received(id, arrived, env),
            }
        }
    }

    fn append_received(&mut self, id: TopicIdPartition, arrived: Arrived, env: &mut Env<'_>) {
        let Arrived { from, append, consumers_from, mut batches } = arrived;
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        if env.store.is_refusing() && !batches.is_empty() {
            partition.has_refused = true;
            return;
        }
        let spans: Vec<BatchSpan> = batches.iter().map(|batch| batch.span).collect();
        let mut effects = Vec::new();
        let outcome = partition.replica.append_received(from, &append, &spans, &mut effects);
        env.trace.note_partition(id, || {
            format!("broker {} {id}: from {from} {append:?} {spans:?}: {outcome:?}", self.id)
        });
        match outcome {
            AppendOutcome::Refused => self.carry_out(id, effects, env),
            AppendOutcome::Corrupt(problem) => {
                let text = format!("broker {}: {problem}: {append:?} {spans:?}", self.id);
                env.oracle.fail(Some(id), text);
            }
            AppendOutcome::Store { restart_at, truncate_to, skip, log_start_offset } => {
                env.oracle.count("restarts of a log", u64::from(restart_at.is_some()));
                env.oracle.count("truncations", u64::from(truncate_to.is_some()));
                let job = Job {
                    restart_at,
                    truncate_to,
                    batches: batches.split_off(skip),
                    log_start: log_start_offset.unwrap_or(Offset::ZERO).max(consumers_from),
                    generation: partition.replica.log().generation(),
                };
                self.begin_storing(id, job, effects, env);
            }
        }
    }

    /// Lets the log do something that may take its time; until it is done nothing else is done to it.
    pub(super) fn begin_storing(
        &mut self,
        id: TopicIdPartition,
        job: Job,
        effects: Vec<Effect>,
        env: &mut Env<'_>,
    ) {
        let now_ms = self.now_ms(env);
        let ticket = env.store.store(id, job, now_ms);
        let partition = self.partitions.get_mut(&id).expect("it has just said so");
        partition.storing = Some(Storing { ticket, effects });
    }

    fn stored(&mut self, id: TopicIdPartition, ticket: u64, env: &mut Env<'_>) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let Some(Storing { effects, .. }) = partition.storing.take_if(|storing| storing.ticket == ticket)
        else {
            return;
        };
        let end = env.store.content(id).expect("a replica has a log").end();
        assert_eq!(end, partition.replica.log().end(), "the replica knows its log");
        env.oracle.log_begins(id, self.id, env.store.log_start(id));
        self.carry_out(id, effects, env);
        self.work_off(id, env);
    }

    /// Retention, or DeleteRecords, may have moved where the log begins.
    fn follow_log_start(&mut self, id: TopicIdPartition, env: &mut Env<'_>) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        if partition.storing.is_some() {
            return;
        }
        env.oracle.log_begins(id, self.id, env.store.log_start(id));
        let start = env.store.first_batch_offset(id);
        let replica = &mut partition.replica;
        if start > replica.log().start() {
            replica.log_start_advanced(start);
        }
    }

    // ---- what is read

    fn have_read(&mut self, ticket: u64, result: Result<Vec<StoredBatch>, ErrorCode>, env: &mut Env<'_>) {
        match self.awaited.remove(&ticket) {
            Some(Awaited::Follower { id, to, append }) => {
                env.oracle.count("reads from disk", 1);
                let Some(partition) = self.partitions.get_mut(&id) else { return };
                if !partition.read_for.remove(&to) {
                    return;
                }
                match result {
                    Ok(batches) => drop(self.say(id, to, append, batches, env)),
                    Err(_) => partition.replica.not_sent(to),
                }
            }
            Some(Awaited::Fetch { id, client, number }) => {
                env.oracle.count("reads from disk", 1);
                let is_here = self.partitions.contains_key(&id);
                let result = if is_here { result } else { Err(ErrorCode::NOT_LEADER_OR_FOLLOWER) };
                let response = fetched(id, result, env);
                env.out.push(Out::Send(client, Message::Response(number, response)));
            }
            Some(Awaited::Groups { id, epoch }) => {
                let leads_still = self.partitions.get(&id).is_some_and(|partition| {
                    let role = partition.replica.role();
                    matches!(role, Role::Leader { .. }) && partition.replica.leader_epoch() == epoch
                });
                match result {
                    Ok(batches) if leads_still => self.load_coordinator(id, &batches, env),
                    Err(code) if leads_still => {
                        let text = format!("broker {}: groups cannot be read: {code:?}", self.id);
                        env.oracle.fail(Some(id), text);
                    }
                    _ => {}
                }
            }
            Some(Awaited::Deletion { .. }) | None => {}
        }
    }

    /// Sends what there is for followers whose channel is open.
    pub(super) fn pump(&mut self, env: &mut Env<'_>) {
        let ids: Vec<TopicIdPartition> = self.partitions.keys().copied().collect();
        for id in ids {
            let partition = &self.partitions[&id];
            let is_open = |to: &BrokerId| self.connected.contains_key(to) && !partition.read_for.contains(to);
            let open: Vec<BrokerId> = partition.ready.iter().copied().filter(is_open).collect();
            for to in open {
                for _ in 0..MESSAGES_AT_ONCE {
                    match self.say_next(id, to, env) {
                        Next::Sent => {}
                        Next::NotYet => break,
                        Next::Nothing => {
                            if let Some(partition) = self.partitions.get_mut(&id) {
                                partition.ready.remove(&to);
                            }
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Says to a follower what comes next, if that can be read without waiting.
    fn say_next(&mut self, id: TopicIdPartition, to: BrokerId, env: &mut Env<'_>) -> Next {
        self.follow_log_start(id, env);
        let readable_end = env.store.readable_end(id);
        let partition = self.partitions.get_mut(&id).expect("it was there a moment ago");
        let Some(next) = partition.replica.next_message(to) else { return Next::Nothing };
        let can_read = next.from < readable_end;
        if next.has_batches && !can_read && !next.is_probe {
            return Next::NotYet;
        }
        let Some(append) = partition.replica.next_append(to) else { return Next::Nothing };
        if !can_read {
            return self.say(id, to, append, Vec::new(), env);
        }
        match env.store.read(id, append.previous_end, readable_end, Reader::Replica) {
            Ok(Ok(batches)) => self.say(id, to, append, batches, env),
            Ok(Err(code)) => {
                env.trace.note_partition(id, || {
                    format!("broker {} {id}: what {to} lacks cannot be read: {code:?}", self.id)
                });
                if let Some(partition) = self.partitions.get_mut(&id) {
                    partition.replica.not_sent(to);
                }
                Next::NotYet
            }
            Err(ticket) => {
                partition.read_for.insert(to);
                self.awaited.insert(ticket, Awaited::Follower { id, to, append });
                Next::NotYet
            }
        }
    }

    /// Sends a message that was begun, unless this broker does not lead any more. How many of the batches go differs.
    fn say(
        &mut self,
        id: TopicIdPartition,
        to: BrokerId,
        append: Append,
        mut batches: Vec<StoredBatch>,
        env: &mut Env<'_>,
    ) -> Next {
        let log_start = env.store.log_start(id);
        let replica = &mut self.partitions.get_mut(&id).expect("it was there a moment ago").replica;
        let leads_still =
            matches!(replica.role(), Role::Leader { .. }) && replica.leader_epoch() == append.leader_epoch;
        // The batch that holds the offset comes whole, also where it begins earlier; replicas agree on where batches begin.
        let begins_there = batches.first().is_none_or(|first| first.span.base_offset >= append.previous_end);
        if !leads_still || !begins_there {
            return Next::Nothing;
        }
        let at_least = u64::from(append.previous_epoch == LeaderEpoch::UNKNOWN);
        batches.truncate(env.random.between(at_least, 5) as usize);
        let end = batches.last().map_or(append.previous_end, |batch| batch.span.end_offset);
        replica.sent(to, end);
        let consumers_from = log_start.min(append.high_watermark);
        let is_all = end == replica.log().end();
        let message = Message::Append { partition: id, append, consumers_from, batches };
        env.out.push(Out::Send(Address::Broker(to), message));
        if is_all { Next::Nothing } else { Next::Sent }
    }
}
