//! Fetches from the leaders of partitions and prints what comes.

use std::collections::BTreeMap;
use std::io::Write;
use std::thread::sleep;
use std::time::Duration;

use protocol::error::ErrorCode;
use protocol::messages::FetchRequest;
use protocol::messages::fetch::{FetchPartition, FetchTopic, PartitionData};
use protocol::records::{RecordIter, decompress, iter_batches};
use protocol::wire::Few;

use super::from::From;
use super::printer::Printer;
use crate::client::{Client, ClientError, Topic, TopicPartition, check};
use crate::ctl::CtlError;
use crate::ctl::progress::Progress;

/// Largest part of one partition in an answer; a batch that is larger comes all the same (KIP-74).
const PARTITION_MAX_BYTES: i32 = 1 << 20;
const MAX_BYTES: i32 = 32 << 20;
/// How long the broker waits for data when there is none.
const MAX_WAIT_MS: i32 = 500;
/// With several leaders, none may keep the others waiting for long.
const MAX_WAIT_AMONG_LEADERS_MS: i32 = 20;
const MOST_DECOMPRESSED_BYTES: usize = 1 << 30;
/// How long a leader that is not known, or does not answer, is looked for.
const LEADER_PAUSE: Duration = Duration::from_millis(200);
const LEADER_TRIES: u32 = 50;

/// Where a partition is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The next offset.
    pub next: i64,
    /// Where reading stops, unless it follows.
    pub end: i64,
}

/// Partitions that are being read.
pub struct Reader<'a> {
    printer: Printer<'a>,
    topics: BTreeMap<String, Topic>,
    /// Where each partition is read.
    pub positions: BTreeMap<TopicPartition, Position>,
    follow: bool,
    left: Option<u64>,
    /// Where to go on when the records at a position are gone; `None`: that is an error.
    pub out_of_range: Option<From>,
    /// Rounds in a row in which a leader was not found.
    tries: u32,
    progress: Progress,
}

impl<'a> Reader<'a> {
    /// A reader of no partitions of these topics, that stops after `count` records.
    pub fn new(
        printer: Printer<'a>,
        topics: BTreeMap<String, Topic>,
        follow: bool,
        count: Option<u64>,
    ) -> Reader<'a> {
        let progress = Progress::new(!std::io::IsTerminal::is_terminal(&std::io::stdout()));
        let positions = BTreeMap::new();
        Reader { printer, topics, positions, follow, left: count, out_of_range: None, tries: 0, progress }
    }

    /// The topics that are read.
    pub fn topics(&self) -> &BTreeMap<String, Topic> {
        &self.topics
    }

    /// Whether as many records have been printed as wanted.
    pub fn is_sated(&self) -> bool {
        self.left == Some(0)
    }

    /// Whether nothing more is to be read.
    pub fn is_finished(&self) -> bool {
        let at_end = |position: &Position| position.next >= position.end;
        self.is_sated() || (!self.follow && self.positions.values().all(at_end))
    }

    /// Asks each leader once for the partitions that are not read to their ends, prints what comes, and flushes it.
    pub fn round(&mut self, client: &mut Client, out: &mut dyn Write) -> Result<(), CtlError> {
        let groups = self.by_leader();
        let max_wait_ms = if groups.len() > 1 { MAX_WAIT_AMONG_LEADERS_MS } else { MAX_WAIT_MS };
        let mut lost = false;
        for (leader, partitions) in groups {
            match self.fetch(client, leader, &partitions, max_wait_ms, out) {
                Err(CtlError::Client(error)) if error.is_passing() && self.tries < LEADER_TRIES => {
                    lost = true
                }
                outcome => outcome?,
            }
            if self.is_sated() {
                break;
            }
        }
        out.flush().map_err(CtlError::stdout)?;
        self.progress.draw();
        self.tries = if lost { self.tries + 1 } else { 0 };
        if lost {
            sleep(LEADER_PAUSE);
            self.look_again(client);
        }
        Ok(())
    }

    /// Asks for the leaders again. If nobody answers now, the next round's failure says so.
    fn look_again(&mut self, client: &mut Client) {
        client.reset();
        let names: Vec<&str> = self.topics.keys().map(String::as_str).collect();
        if let Ok(found) = client.topics_named(&names) {
            self.topics.extend(found);
        }
    }

    /// The partitions that still have something to give, by leader.
    fn by_leader(&self) -> BTreeMap<i32, Vec<TopicPartition>> {
        let mut groups: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
        for (partition, position) in &self.positions {
            if self.follow || position.next < position.end {
                let topic = self.topics.get(&partition.topic);
                let leader =
                    topic.and_then(|topic| topic.partition(partition.partition)).map_or(-1, |p| p.leader);
                groups.entry(leader).or_default().push(partition.clone());
            }
        }
        groups
    }

    fn fetch(
        &mut self,
        client: &mut Client,
        leader: i32,
        partitions: &[TopicPartition],
        max_wait_ms: i32,
        out: &mut dyn Write,
    ) -> Result<(), CtlError> {
        let mut topics: Few<FetchTopic<'_>> = Few::new();
        for partition in partitions {
            let asked = FetchPartition {
                partition: partition.partition,
                fetch_offset: self.positions[partition].next,
                partition_max_bytes: PARTITION_MAX_BYTES,
                ..Default::default()
            };
            match topics.last_mut() {
                Some(topic) if topic.topic == partition.topic.as_str() => topic.partitions.push(asked),
                _ => topics.push(FetchTopic {
                    topic: partition.topic.clone().into(),
                    topic_id: self.topics.get(&partition.topic).map(|topic| topic.id).unwrap_or_default(),
                    partitions: Few::one(asked),
                    ..Default::default()
                }),
            }
        }
        let request =
            FetchRequest { max_wait_ms, min_bytes: 1, max_bytes: MAX_BYTES, topics, ..Default::default() };
        let mut gone = Vec::new();
        let response = client.broker(leader)?.call(&request)?;
        check(|| "fetch".to_owned(), response.error_code, None)?;
        for answer in &response.responses {
            // Answers name topics by their ids since version 13.
            let named = (!answer.topic.is_empty()).then_some(answer.topic.as_ref());
            let by_id = || {
                self.topics
                    .values()
                    .find(|topic| topic.id == answer.topic_id)
                    .map(|topic| topic.name.as_str())
            };
            let Some(name) = named.or_else(by_id).map(str::to_owned) else { continue };
            for data in &answer.partitions {
                let partition = TopicPartition::new(&name, data.partition_index);
                let Some(position) = self.positions.get(&partition) else { continue };
                if ErrorCode(data.error_code) == ErrorCode::OFFSET_OUT_OF_RANGE && self.out_of_range.is_some()
                {
                    gone.push(partition);
                    continue;
                }
                check(|| format!("reading {partition} at offset {}", position.next), data.error_code, None)?;
                self.print(&partition, data, out)?;
            }
        }
        self.reset(client, &gone)
    }

    /// Goes on elsewhere in partitions whose records are gone.
    fn reset(&mut self, client: &mut Client, gone: &[TopicPartition]) -> Result<(), CtlError> {
        let (Some(from), false) = (self.out_of_range, gone.is_empty()) else {
            return Ok(());
        };
        let latest = client.offsets(self.topics.values(), gone, crate::client::OffsetSpec::Latest)?;
        for (partition, offset) in from.resolve(client, self.topics.values(), gone, &latest)? {
            if let Some(position) = self.positions.get_mut(&partition) {
                eprintln!(
                    "brokerctl: {partition} holds no record at offset {} any more; going on at {offset}",
                    position.next
                );
                position.next = offset;
            }
        }
        Ok(())
    }

    fn print(
        &mut self,
        partition: &TopicPartition,
        data: &PartitionData<'_>,
        out: &mut dyn Write,
    ) -> Result<(), CtlError> {
        let Some(Position { mut next, end }) = self.positions.get(partition).copied() else {
            return Ok(());
        };
        let bytes = data.records.as_ref().map(|records| records.contiguous()).unwrap_or_default();
        let damaged = |error| {
            CtlError::Data(format!(
                "{partition}: unreadable record batch: {error}. 'brokerctl log dump' on the broker's files says more"
            ))
        };
        let outcome = (|| {
            for batch in iter_batches(&bytes).tolerate_cut_tail() {
                let batch = batch.map_err(damaged)?;
                batch.check_crc().map_err(damaged)?;
                if !batch.is_control() {
                    let payload = decompress(&batch, MOST_DECOMPRESSED_BYTES).map_err(damaged)?;
                    for record in RecordIter::new(&batch, &payload) {
                        let record = record.map_err(damaged)?;
                        if record.offset < next {
                            continue;
                        }
                        if !self.follow && record.offset >= end {
                            // Compaction leaves gaps: nothing has to lie right before the end.
                            next = end;
                            return Ok(());
                        }
                        if self.is_sated() {
                            return Ok(());
                        }
                        self.printer.print(partition, &record, out)?;
                        self.left = self.left.map(|left| left - 1);
                        self.progress.add(1, record.size as u64);
                        next = record.offset + 1;
                    }
                }
                next = next.max(batch.next_offset());
            }
            Ok(())
        })();
        if let Some(position) = self.positions.get_mut(partition) {
            position.next = next;
        }
        outcome
    }

    /// Says how much of all has been read, when that is known.
    pub fn show_share(&mut self, begun: &BTreeMap<TopicPartition, Position>) {
        let all: i64 = begun.values().map(|position| (position.end - position.next).max(0)).sum();
        let left: i64 = self.positions.values().map(|position| (position.end - position.next).max(0)).sum();
        self.progress.set_share((all - left).max(0) as u64, all.max(0) as u64);
    }
}

/// Ends of partitions, where reading that does not follow stops: what is there now, or `until` if that comes before.
pub fn ends<'a>(
    client: &mut Client,
    topics: impl IntoIterator<Item = &'a Topic> + Clone,
    partitions: &[TopicPartition],
    latest: &BTreeMap<TopicPartition, i64>,
    until: Option<From>,
) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
    let mut ends = latest.clone();
    if let Some(until) = until {
        for (partition, offset) in until.resolve(client, topics, partitions, latest)? {
            if let Some(end) = ends.get_mut(&partition) {
                *end = offset.min(*end);
            }
        }
    }
    Ok(ends)
}
