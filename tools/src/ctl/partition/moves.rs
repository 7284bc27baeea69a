//! Replicas on their way: moves are begun a few at a time, waited for, and shown.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::throttle::Throttle;
use crate::client::{Client, ClientError, TopicPartition};
use crate::ctl::CtlError;
use crate::ctl::progress::Progress;
use crate::ctl::table::list_text;

/// Between two looks at what is under way.
const POLL: Duration = Duration::from_millis(500);
/// Between two looks at how large the new replicas have become.
const SIZE_POLL: Duration = Duration::from_secs(2);

/// Where partitions are to be: brokers by partition, the preferred leader first.
pub type Moves = BTreeMap<TopicPartition, Vec<i32>>;

/// How moves are carried out.
#[derive(Debug, Clone, Args)]
pub struct MoveOptions {
    /// Begin the moves and do not wait for them ('brokerctl partition list' shows what is left of them)
    #[arg(long)]
    no_wait: bool,
    /// So many partitions move at the same time
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "no_wait")]
    at_once: u16,
    /// Bytes per second that each broker sends, and each receives, at most for replicas that are not there yet
    #[arg(long, value_name = "BYTES_PER_SECOND", value_parser = clap::value_parser!(u64).range(1..=i64::MAX as u64))]
    throttle: Option<u64>,
}

impl MoveOptions {
    /// Whether the command ends before the moves do.
    pub fn is_hurried(&self) -> bool {
        self.no_wait
    }
}

/// Carries out moves and says for each partition when it has arrived. What is under way when the command is interrupted goes on by itself.
pub fn carry_out(
    client: &mut Client,
    moves: Moves,
    options: &MoveOptions,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    let Some(rate) = options.throttle else { return carry_out_freely(client, moves, options, json, out) };
    let throttle = Throttle::set(client, &moves, rate)?;
    let outcome = carry_out_freely(client, moves, options, json, out);
    // What is under way, be it somebody else's, may need the limits.
    if persist(client, Client::reassignments).is_ok_and(|under_way| under_way.is_empty()) {
        persist(client, |client| throttle.clear(client))?;
    }
    outcome
}

fn carry_out_freely(
    client: &mut Client,
    moves: Moves,
    options: &MoveOptions,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    if options.no_wait {
        begin(client, &moves)?;
        return tell(&moves, "on its way to", json, out).map_err(CtlError::stdout);
    }
    let mut share = Share::new(client, &moves)?;
    let mut waiting = moves;
    let mut under_way = Moves::new();
    loop {
        let free = usize::from(options.at_once) - under_way.len();
        let next: Vec<TopicPartition> = waiting.keys().take(free).cloned().collect();
        let next: Moves = next.into_iter().filter_map(|partition| waiting.remove_entry(&partition)).collect();
        begin(client, &next)?;
        under_way.extend(next);
        let arrived = arrived(client, &under_way)?;
        under_way.retain(|partition, _| !arrived.contains_key(partition));
        tell(&arrived, "is on", json, out).and_then(|()| out.flush()).map_err(CtlError::stdout)?;
        share.draw(client, &arrived, &under_way);
        if under_way.is_empty() && waiting.is_empty() {
            return Ok(());
        }
        sleep(POLL);
    }
}

fn begin(client: &mut Client, moves: &Moves) -> Result<(), CtlError> {
    if moves.is_empty() {
        return Ok(());
    }
    let request = moves.iter().map(|(partition, to)| (partition.clone(), Some(to.clone()))).collect();
    let outcomes = persist(client, |client| client.reassign(&request))?;
    Ok(outcomes.into_values().collect::<Result<(), _>>()?)
}

/// Those whose reassignment has ended; each has to be where it was to go.
fn arrived(client: &mut Client, under_way: &Moves) -> Result<Moves, CtlError> {
    let listed = persist(client, Client::reassignments)?;
    let listed: BTreeSet<&TopicPartition> = listed.iter().map(|moving| &moving.partition).collect();
    let ended: Moves = under_way
        .iter()
        .filter(|(partition, _)| !listed.contains(partition))
        .map(|(partition, to)| (partition.clone(), to.clone()))
        .collect();
    let deadline = Instant::now() + client.timeout();
    loop {
        // The brokers hear a moment later than the controller.
        match misplaced(client, &ended)? {
            None => return Ok(ended),
            Some(_) if Instant::now() < deadline => sleep(POLL),
            Some((partition, replicas)) => {
                return Err(CtlError::Refused(format!(
                    "{partition} is on {} and is not being moved any more: somebody else has changed or called off its move",
                    list_text(&replicas)
                )));
            }
        }
    }
}

/// One that is not where it was to go, and where it is. A topic that was deleted meanwhile is as good as arrived.
fn misplaced(client: &mut Client, ended: &Moves) -> Result<Option<(TopicPartition, Vec<i32>)>, ClientError> {
    let names: BTreeSet<&str> = ended.keys().map(|partition| partition.topic.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let topics = persist(client, |client| client.topics_named(&names))?;
    for (partition, to) in ended {
        let found = topics.get(&partition.topic).and_then(|topic| topic.partition(partition.partition));
        if let Some(found) = found.filter(|found| found.replicas != *to) {
            return Ok(Some((partition.clone(), found.replicas.clone())));
        }
    }
    Ok(None)
}

/// Brokers may stop and controllers change while replicas move: what passes is tried again, on fresh connections.
fn persist<T>(
    client: &mut Client,
    mut attempt: impl FnMut(&mut Client) -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let attempt = |client: &mut Client| {
        attempt(client).inspect_err(|error| {
            if !matches!(error, ClientError::Refused { .. }) {
                client.reset();
            }
        })
    };
    client.persist(attempt, ClientError::is_passing)
}

fn tell(moves: &Moves, verb: &str, json: bool, out: &mut dyn Write) -> std::io::Result<()> {
    for (partition, to) in moves {
        match json {
            true => {
                let row =
                    json!({ "topic": partition.topic, "partition": partition.partition, "replicas": to });
                writeln!(out, "{row}")?;
            }
            false => writeln!(out, "{partition} {verb} {}", list_text(to))?,
        }
    }
    Ok(())
}

/// How much of what is to be copied has been.
struct Share {
    progress: Progress,
    /// Bytes of each new replica when it will be complete; without those that are.
    missing: BTreeMap<(TopicPartition, i32), u64>,
    all: u64,
    copied: u64,
    next: Instant,
}

impl Share {
    fn new(client: &mut Client, moves: &Moves) -> Result<Share, CtlError> {
        let progress = Progress::new(true).counting("partitions");
        let missing = if progress.is_shown() { new_replicas(client, moves)? } else { BTreeMap::new() };
        Ok(Share { progress, all: missing.values().sum(), missing, copied: 0, next: Instant::now() })
    }

    /// Draws the line, with the partitions that have come to where they were to go.
    fn draw(&mut self, client: &mut Client, arrived: &Moves, under_way: &Moves) {
        self.progress.add(arrived.len() as u64, 0);
        self.missing.retain(|(partition, _), _| !arrived.contains_key(partition));
        if !self.progress.is_shown() || Instant::now() < self.next {
            return self.progress.draw();
        }
        self.next = Instant::now() + SIZE_POLL;
        let brokers: BTreeSet<i32> = under_way.values().flatten().copied().collect();
        let sizes: BTreeMap<i32, BTreeMap<TopicPartition, u64>> =
            brokers.into_iter().map(|broker| (broker, sizes(client, broker))).collect();
        let left = self.missing.iter().map(|((partition, broker), bytes)| {
            let there = sizes.get(broker).and_then(|sizes| sizes.get(partition));
            bytes.saturating_sub(there.copied().unwrap_or_default())
        });
        let copied = self.all.saturating_sub(left.sum()).max(self.copied);
        self.progress.add(0, copied - self.copied);
        self.copied = copied;
        self.progress.set_share(copied, self.all);
        self.progress.draw();
    }
}

/// The replicas that moves add, each with the size that its partition's leader has.
fn new_replicas(
    client: &mut Client,
    moves: &Moves,
) -> Result<BTreeMap<(TopicPartition, i32), u64>, ClientError> {
    let names: BTreeSet<&str> = moves.keys().map(|partition| partition.topic.as_str()).collect();
    let topics = client.topics_named(&names.into_iter().collect::<Vec<_>>())?;
    let mut new: BTreeMap<i32, Vec<(TopicPartition, i32)>> = BTreeMap::new();
    for (partition, to) in moves {
        let topic = topics.get(&partition.topic);
        let Some(found) = topic.and_then(|topic| topic.partition(partition.partition)) else { continue };
        let added = to.iter().filter(|broker| !found.replicas.contains(broker));
        new.entry(found.leader).or_default().extend(added.map(|broker| (partition.clone(), *broker)));
    }
    let mut bytes = BTreeMap::new();
    for (leader, replicas) in new {
        let of_leader = sizes(client, leader);
        bytes.extend(replicas.into_iter().map(|replica| {
            let bytes = of_leader.get(&replica.0).copied().unwrap_or_default();
            (replica, bytes)
        }));
    }
    Ok(bytes)
}

/// Sizes of a broker's replicas; none if it does not tell.
fn sizes(client: &mut Client, broker: i32) -> BTreeMap<TopicPartition, u64> {
    let dirs = client.log_dirs(broker, None).unwrap_or_default();
    dirs.into_iter().flat_map(|dir| dir.replicas).map(|replica| (replica.partition, replica.bytes)).collect()
}
