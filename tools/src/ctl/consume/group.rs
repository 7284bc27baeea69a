//! Reading as a member of a group: partitions come and go, what has been printed is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use protocol::error::ErrorCode;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::ConsumeArgs;
use super::reader::{Position, Reader, ends};
use crate::client::{Client, Heartbeat, Member, OffsetSpec, TopicPartition};
use crate::ctl::CtlError;

/// As `auto.commit.interval.ms` of Kafka's consumer.
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);
/// How long giving up partitions may take: one round and a commit.
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a member without partitions looks whether it should stop.
const IDLE_PAUSE: Duration = Duration::from_millis(100);
/// How long a member that reads only what is there waits for partitions that others hold.
const PATIENCE: Duration = Duration::from_secs(15);

/// A flag that SIGINT and SIGTERM raise; the second of them ends the process at once.
pub fn stop_on_signals() -> Result<Arc<AtomicBool>, CtlError> {
    let stop = Arc::new(AtomicBool::new(false));
    let failed = |source| CtlError::Io { what: "handling of signals".to_owned(), source };
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))
            .map_err(failed)?;
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(failed)?;
    }
    Ok(stop)
}

/// Joins `group`, reads what it is given until the end or until `stop`, commits, and leaves.
pub fn read(
    args: &ConsumeArgs,
    group: &str,
    mut reader: Reader<'_>,
    client: &mut Client,
    stop: &AtomicBool,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    let topics = reader.topics().keys().cloned().collect();
    // Retention may have passed what the group has committed.
    reader.out_of_range = Some(args.from);
    let mut session = Session {
        args,
        group,
        member: Member::new(group, topics, REBALANCE_TIMEOUT),
        reader,
        committed: BTreeMap::new(),
        next_commit: Instant::now() + COMMIT_INTERVAL,
        empty_since: Some(Instant::now()),
    };
    let outcome = session.run(client, stop, out);
    // What has been printed counts also when reading ended with an error.
    let commit = match out.flush() {
        Ok(()) => session.commit(client),
        Err(_) => Ok(()),
    };
    let left = session.member.leave(client);
    outcome.and(commit).and(left.map_err(CtlError::from))
}

struct Session<'a> {
    args: &'a ConsumeArgs,
    group: &'a str,
    member: Member,
    reader: Reader<'a>,
    /// What the group knows to be read.
    committed: BTreeMap<TopicPartition, i64>,
    next_commit: Instant,
    /// Since when the member has had no partition.
    empty_since: Option<Instant>,
}

impl Session<'_> {
    fn run(&mut self, client: &mut Client, stop: &AtomicBool, out: &mut dyn Write) -> Result<(), CtlError> {
        while !stop.load(Ordering::Relaxed) {
            if self.member.is_due() {
                match self.member.heartbeat(client)? {
                    Heartbeat::Unchanged => {}
                    Heartbeat::Assigned(partitions) => self.take(client, partitions)?,
                    Heartbeat::Lost => {
                        eprintln!("brokerctl: group '{}' has taken us for dead; joining again", self.group);
                        self.forget();
                    }
                }
            }
            if self.is_finished() {
                return Ok(());
            }
            if self.reader.positions.is_empty() {
                sleep(IDLE_PAUSE);
                continue;
            }
            self.reader.round(client, out)?;
            if Instant::now() >= self.next_commit {
                self.commit(client)?;
            }
        }
        Ok(())
    }

    /// Whoever does not follow stops at the end of what it was given, or when others keep everything.
    fn is_finished(&self) -> bool {
        match self.empty_since {
            Some(since) => !self.args.follow && since.elapsed() >= PATIENCE,
            None => self.reader.is_finished(),
        }
    }

    /// Gives up what is not in `partitions`, begins what is new.
    fn take(&mut self, client: &mut Client, partitions: BTreeSet<TopicPartition>) -> Result<(), CtlError> {
        if self.reader.positions.keys().any(|partition| !partitions.contains(partition)) {
            self.commit(client)?;
            self.reader.positions.retain(|partition, _| partitions.contains(partition));
            self.committed.retain(|partition, _| partitions.contains(partition));
        }
        let new: Vec<TopicPartition> = partitions
            .iter()
            .filter(|partition| !self.reader.positions.contains_key(*partition))
            .cloned()
            .collect();
        if !new.is_empty() {
            let committed = client.committed(self.group)?;
            let topics = self.reader.topics();
            let latest = client.offsets(topics.values(), &new, OffsetSpec::Latest)?;
            let begin = self.args.from.resolve(client, topics.values(), &new, &latest)?;
            let ends = ends(client, topics.values(), &new, &latest, self.args.until)?;
            for partition in new {
                let known = committed.get(&partition).map(|committed| committed.offset);
                let next = known.or_else(|| begin.get(&partition).copied()).unwrap_or_default();
                let end = ends.get(&partition).copied().unwrap_or_default();
                // A start that nobody has committed yet is committed too, so that the group's lag is known.
                self.committed.extend(known.map(|offset| (partition.clone(), offset)));
                self.reader.positions.insert(partition, Position { next, end });
            }
        }
        self.empty_since = match (self.reader.positions.is_empty(), self.empty_since) {
            (true, since) => since.or_else(|| Some(Instant::now())),
            (false, _) => None,
        };
        self.member.own(partitions);
        Ok(())
    }

    fn forget(&mut self) {
        self.reader.positions.clear();
        self.committed.clear();
        self.empty_since = Some(Instant::now());
    }

    /// Commits what has been printed since the last time.
    fn commit(&mut self, client: &mut Client) -> Result<(), CtlError> {
        self.next_commit = Instant::now() + COMMIT_INTERVAL;
        let moved: BTreeMap<TopicPartition, i64> = self
            .reader
            .positions
            .iter()
            .filter(|(partition, position)| self.committed.get(partition) != Some(&position.next))
            .map(|(partition, position)| (partition.clone(), position.next))
            .collect();
        if moved.is_empty() || self.args.no_commit {
            return Ok(());
        }
        match client.commit(self.group, Some(self.member.identity()), &moved) {
            // The member's epoch has moved on: a heartbeat tells the new one.
            Err(error) if error.code() == Some(ErrorCode::STALE_MEMBER_EPOCH) => {
                let heartbeat = self.member.heartbeat(client)?;
                if heartbeat == Heartbeat::Lost {
                    self.forget();
                    return Ok(());
                }
                client.commit(self.group, Some(self.member.identity()), &moved)?;
                self.committed.extend(moved);
                match heartbeat {
                    Heartbeat::Assigned(partitions) => self.take(client, partitions),
                    Heartbeat::Unchanged | Heartbeat::Lost => Ok(()),
                }
            }
            outcome => {
                outcome?;
                self.committed.extend(moved);
                Ok(())
            }
        }
    }
}
