//! `brokerctl consume`: records as lines, by assignment of partitions.

use std::collections::BTreeMap;
use std::io::Write;
use std::str::FromStr;

use protocol::error::ErrorCode;
use protocol::messages::FetchRequest;
use protocol::messages::fetch::{FetchPartition, FetchTopic};
use protocol::records::{Record, RecordIter, decompress, iter_batches};
use serde_json::{Value, json};

use super::format::{Format, VERBS};
use super::{CtlError, GlobalArgs};
use crate::client::{Client, ClientError, OffsetSpec, Topic};

/// Largest part of one partition in an answer; a batch that is larger comes all the same (KIP-74).
const PARTITION_MAX_BYTES: i32 = 1 << 20;
const MAX_BYTES: i32 = 32 << 20;
/// How long the broker waits for data when there is none.
const MAX_WAIT_MS: i32 = 500;
/// With several leaders, none may keep the others waiting for long.
const MAX_WAIT_AMONG_LEADERS_MS: i32 = 20;
const MOST_DECOMPRESSED_BYTES: usize = 1 << 30;
/// How long a partition whose leader is not known is looked for.
const LEADER_PAUSE: std::time::Duration = std::time::Duration::from_millis(200);
const LEADER_TRIES: u32 = 50;

/// Where reading starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// A position that the broker knows.
    Spec(OffsetSpec),
    /// An offset.
    Offset(i64),
    /// So many records before the end of each partition.
    BeforeEnd(i64),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<From, String> {
        let wrong =
            || format!("'{text}': write earliest, latest, an offset, -N for the last N, or @MILLISECONDS");
        match text {
            "earliest" | "beginning" => Ok(From::Spec(OffsetSpec::Earliest)),
            "latest" | "end" => Ok(From::Spec(OffsetSpec::Latest)),
            _ => {
                if let Some(timestamp) = text.strip_prefix('@') {
                    let timestamp = timestamp.parse().ok().filter(|timestamp: &i64| *timestamp >= 0);
                    return timestamp.map(|at| From::Spec(OffsetSpec::Timestamp(at))).ok_or_else(wrong);
                }
                match text.parse::<i64>().map_err(|_| wrong())? {
                    offset if offset < 0 => Ok(From::BeforeEnd(offset.saturating_neg())),
                    offset => Ok(From::Offset(offset)),
                }
            }
        }
    }
}

/// Options of `consume`.
#[derive(Debug, clap::Args)]
#[command(after_help = VERBS)]
pub struct ConsumeArgs {
    /// The topic
    topic: String,
    /// Only these partitions, separated by commas
    #[arg(long, short, value_delimiter = ',')]
    partition: Vec<i32>,
    /// Where to start: earliest, latest, an offset, -N (the last N of each partition) or @MILLISECONDS
    #[arg(long, short = 'o', default_value = "earliest", allow_hyphen_values = true)]
    from: From,
    /// Stop after this many records
    #[arg(long, short)]
    count: Option<u64>,
    /// Do not stop at the end, wait for more
    #[arg(long, short)]
    follow: bool,
    /// How to print a record
    #[arg(long, value_parser = Format::parse, default_value = "%s\\n")]
    format: Format,
}

/// Runs `consume`.
pub fn run(args: &ConsumeArgs, global: &GlobalArgs, out: &mut dyn Write) -> Result<(), CtlError> {
    let mut client = global.client();
    let topic = client.topic(&args.topic, false)?;
    let partitions = chosen(&topic, &args.partition)?;
    let latest = client.offsets(&topic, &partitions, OffsetSpec::Latest)?;
    let positions = start(&mut client, &topic, &partitions, args.from, &latest)?;
    let mut reader =
        Reader { args, json: global.json, topic, positions, ends: latest, left: args.count, tries: 0 };
    reader.read(&mut client, out)
}

fn chosen(topic: &Topic, asked: &[i32]) -> Result<Vec<i32>, CtlError> {
    let all: Vec<i32> = topic.partitions.iter().map(|partition| partition.index).collect();
    match asked.iter().find(|index| !all.contains(index)) {
        Some(index) => Err(ClientError::Refused {
            what: format!("partition {index} of '{}', which has {}", topic.name, all.len()),
            code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            message: None,
        }
        .into()),
        None if asked.is_empty() => Ok(all),
        None => Ok(asked.to_vec()),
    }
}

/// The offset at which each partition is begun.
fn start(
    client: &mut Client,
    topic: &Topic,
    partitions: &[i32],
    from: From,
    latest: &BTreeMap<i32, i64>,
) -> Result<BTreeMap<i32, i64>, CtlError> {
    match from {
        From::Spec(OffsetSpec::Latest) => Ok(latest.clone()),
        From::Spec(spec) => {
            let mut offsets = client.offsets(topic, partitions, spec)?;
            for (partition, offset) in &mut offsets {
                // No record is so young: begin at the end.
                if *offset < 0 {
                    *offset = latest.get(partition).copied().unwrap_or_default();
                }
            }
            Ok(offsets)
        }
        From::Offset(offset) => Ok(partitions.iter().map(|partition| (*partition, offset)).collect()),
        From::BeforeEnd(count) => {
            let mut offsets = client.offsets(topic, partitions, OffsetSpec::Earliest)?;
            for (partition, offset) in &mut offsets {
                *offset =
                    (*offset).max(latest.get(partition).copied().unwrap_or_default().saturating_sub(count));
            }
            Ok(offsets)
        }
    }
}

struct Reader<'a> {
    args: &'a ConsumeArgs,
    json: bool,
    topic: Topic,
    positions: BTreeMap<i32, i64>,
    ends: BTreeMap<i32, i64>,
    left: Option<u64>,
    /// Rounds in a row in which a leader was not found.
    tries: u32,
}

impl Reader<'_> {
    fn read(&mut self, client: &mut Client, out: &mut dyn Write) -> Result<(), CtlError> {
        while self.left != Some(0) {
            let groups = self.by_leader();
            if groups.is_empty() {
                return Ok(());
            }
            let max_wait_ms = if groups.len() > 1 { MAX_WAIT_AMONG_LEADERS_MS } else { MAX_WAIT_MS };
            let mut lost = false;
            for (leader, partitions) in groups {
                lost |= !self.fetch(client, leader, &partitions, max_wait_ms, out)?;
                if self.left == Some(0) {
                    return Ok(());
                }
            }
            out.flush().map_err(CtlError::stdout)?;
            self.tries = if lost { self.tries + 1 } else { 0 };
            if lost {
                std::thread::sleep(LEADER_PAUSE);
                self.topic = client.topic(&self.args.topic, false)?;
            }
        }
        Ok(())
    }

    /// The partitions that still have something to give, by leader.
    fn by_leader(&self) -> BTreeMap<i32, Vec<i32>> {
        let mut groups: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for (partition, position) in &self.positions {
            let end = self.ends.get(partition).copied().unwrap_or_default();
            if self.args.follow || *position < end {
                let leader =
                    self.topic.partitions.iter().find(|p| p.index == *partition).map_or(-1, |p| p.leader);
                groups.entry(leader).or_default().push(*partition);
            }
        }
        groups
    }

    /// Fetches from one leader; false if it has to be looked for again.
    fn fetch(
        &mut self,
        client: &mut Client,
        leader: i32,
        partitions: &[i32],
        max_wait_ms: i32,
        out: &mut dyn Write,
    ) -> Result<bool, CtlError> {
        let request = FetchRequest {
            max_wait_ms,
            min_bytes: 1,
            max_bytes: MAX_BYTES,
            topics: vec![FetchTopic {
                topic: self.topic.name.clone().into(),
                topic_id: self.topic.id,
                partitions: partitions
                    .iter()
                    .map(|partition| FetchPartition {
                        partition: *partition,
                        fetch_offset: self.positions[partition],
                        partition_max_bytes: PARTITION_MAX_BYTES,
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = client.broker(leader)?.call(&request)?;
        self.check(response.error_code, || "fetch".to_owned())?;
        for data in response.responses.iter().flat_map(|topic| &topic.partitions) {
            let index = data.partition_index;
            let code = ErrorCode(data.error_code);
            if code.is_retriable() && code != ErrorCode::OFFSET_OUT_OF_RANGE && self.tries < LEADER_TRIES {
                return Ok(false);
            }
            self.check(code.code(), || match self.positions.get(&index) {
                Some(position) => format!("reading {}-{index} at offset {position}", self.args.topic),
                None => format!("reading {}-{index}", self.args.topic),
            })?;
            let records = data.records.as_ref().map(|records| records.contiguous()).unwrap_or_default();
            self.print(index, &records, out)?;
        }
        Ok(true)
    }

    fn check(&self, code: i16, what: impl FnOnce() -> String) -> Result<(), CtlError> {
        let code = ErrorCode(code);
        if code.is_none() {
            return Ok(());
        }
        Err(ClientError::Refused { what: what(), code, message: None }.into())
    }

    fn print(&mut self, partition: i32, bytes: &[u8], out: &mut dyn Write) -> Result<(), CtlError> {
        let Some(mut position) = self.positions.get(&partition).copied() else {
            return Ok(());
        };
        let data_error = |error| {
            CtlError::Data(format!("{}-{partition}: unreadable record batch: {error}", self.args.topic))
        };
        let end = self.ends.get(&partition).copied().unwrap_or(i64::MAX);
        for batch in iter_batches(bytes).tolerate_cut_tail() {
            let batch = batch.map_err(data_error)?;
            batch.check_crc().map_err(data_error)?;
            let next_offset = batch.next_offset();
            if !batch.is_control() {
                let payload = decompress(&batch, MOST_DECOMPRESSED_BYTES).map_err(data_error)?;
                for record in RecordIter::new(&batch, &payload) {
                    let record = record.map_err(data_error)?;
                    let beyond = !self.args.follow && record.offset >= end;
                    if record.offset < position || beyond || self.left == Some(0) {
                        continue;
                    }
                    self.print_record(partition, &record, out).map_err(CtlError::stdout)?;
                    self.left = self.left.map(|left| left - 1);
                }
            }
            position = position.max(next_offset);
        }
        self.positions.insert(partition, position);
        Ok(())
    }

    fn print_record(&self, partition: i32, record: &Record<'_>, out: &mut dyn Write) -> std::io::Result<()> {
        if !self.json {
            return self.args.format.write(&self.args.topic, partition, record, out);
        }
        let headers: Vec<Value> = record
            .headers
            .clone()
            .map(|header| json!([String::from_utf8_lossy(header.key), text(header.value)]))
            .collect();
        let value = json!({
            "topic": self.args.topic, "partition": partition, "offset": record.offset,
            "timestamp": record.timestamp, "key": text(record.key), "value": text(record.value),
            "headers": headers,
        });
        writeln!(out, "{value}")
    }
}

/// Bytes as JSON text; bytes that are no text are shown as `{"hex": …}`.
fn text(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => Value::Null,
        Some((_, Ok(text))) => Value::from(text),
        Some((bytes, Err(_))) => {
            json!({ "hex": bytes.iter().map(|b| format!("{b:02x}")).collect::<String>() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_names_offsets_distances_and_times() {
        assert_eq!("earliest".parse(), Ok(From::Spec(OffsetSpec::Earliest)));
        assert_eq!("latest".parse(), Ok(From::Spec(OffsetSpec::Latest)));
        assert_eq!("42".parse(), Ok(From::Offset(42)));
        assert_eq!("-10".parse(), Ok(From::BeforeEnd(10)));
        assert_eq!("@1700000000000".parse(), Ok(From::Spec(OffsetSpec::Timestamp(1_700_000_000_000))));
        for bad in ["", "soon", "@", "@-3", "1.5"] {
            assert!(bad.parse::<From>().is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn bytes_that_are_no_text_become_hex_in_json() {
        assert_eq!(text(None), Value::Null);
        assert_eq!(text(Some("é".as_bytes())), json!("é"));
        assert_eq!(text(Some(&[0xff, 0x00])), json!({ "hex": "ff00" }));
    }
}
