//! `brokerctl produce`: lines as records.
//!
//! Lines that are there are gathered into batches; when the input pauses, what has been gathered is written at once, so that typing
//! at a terminal works as well as a file of gigabytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use protocol::compression::Compression;
use protocol::error::ErrorCode;
use protocol::messages::produce::{PartitionProduceData, TopicProduceData};
use protocol::messages::{InitProducerIdRequest, ProduceRequest};
use protocol::partitioner::partition_for_key;
use protocol::records::{BatchBuilder, BatchOptions, NO_SEQUENCE, RecordHeader, sequence_after};
use protocol::wire::Records;
use serde_json::json;

use super::format::unescape;
use super::topic::parse_entry;
use super::{CtlError, GlobalArgs};
use crate::client::{Client, ClientError, Topic};

/// Gathered bytes at which a partition's batch is written.
const BATCH_BYTES: usize = 512 << 10;
/// Longest line; a record must fit in a broker's message.max.bytes anyway.
const INPUT_BYTES: usize = 256 << 10;
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Options of `produce`.
#[derive(Debug, clap::Args)]
pub struct ProduceArgs {
    /// The topic
    topic: String,
    /// Read lines from this file [default: standard input]
    #[arg(long, short = 'i', value_name = "FILE")]
    file: Option<PathBuf>,
    /// Lines are key, this separator (\t for a tab), value
    #[arg(long, short = 'K', value_name = "SEPARATOR", value_parser = unescape)]
    key_separator: Option<std::vec::Vec<u8>>,
    /// The key of every record
    #[arg(long, short, conflicts_with = "key_separator")]
    key: Option<String>,
    /// A header of every record (may be repeated)
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = parse_entry)]
    header: Vec<(String, String)>,
    /// Write to this partition [default: by key as Kafka does it, or in turn]
    #[arg(long, short)]
    partition: Option<i32>,
    /// An empty value becomes null, which deletes the key in a compacted topic
    #[arg(long)]
    null_empty: bool,
    /// Who must have a record before it counts as written: 0, 1 or all
    #[arg(long, default_value = "all", value_parser = parse_acks)]
    acks: i16,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, short = 'z', default_value_t = Compression::None)]
    compression: Compression,
    /// Use an idempotent producer: no record twice, whatever is sent again
    #[arg(long)]
    idempotent: bool,
}

fn parse_acks(text: &str) -> Result<i16, String> {
    match text {
        "0" => Ok(0),
        "1" => Ok(1),
        "all" | "-1" => Ok(-1),
        _ => Err("write 0, 1 or all".to_owned()),
    }
}

/// Runs `produce`.
pub fn run(
    args: &ProduceArgs,
    global: &GlobalArgs,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    if args.idempotent && args.acks != -1 {
        return Err(CtlError::Usage("--idempotent needs --acks all".to_owned()));
    }
    let mut file;
    let input: &mut dyn BufRead = match &args.file {
        None => &mut BufReader::with_capacity(INPUT_BYTES, input),
        Some(path) => {
            let opened = File::open(path)
                .map_err(|source| CtlError::Io { what: format!("cannot open {}", path.display()), source })?;
            file = BufReader::with_capacity(INPUT_BYTES, opened);
            &mut file
        }
    };
    let mut client = global.client();
    let topic = client.topic(&args.topic, true)?;
    let mut writer = Writer::new(args, client, topic, Duration::from_secs(global.timeout))?;
    writer.read_lines(input)?;
    let Writer { records, bytes, .. } = writer;
    match global.json {
        true => writeln!(out, "{}", json!({ "topic": args.topic, "records": records, "bytes": bytes })),
        false => Ok(()),
    }
    .map_err(CtlError::stdout)
}

struct Writer<'a> {
    args: &'a ProduceArgs,
    client: Client,
    topic: Topic,
    timeout: Duration,
    producer: (i64, i16),
    sequences: BTreeMap<i32, i32>,
    batches: BTreeMap<i32, BatchBuilder>,
    /// Where the next record without key goes.
    turn: usize,
    records: u64,
    bytes: u64,
}

impl<'a> Writer<'a> {
    fn new(
        args: &'a ProduceArgs,
        mut client: Client,
        topic: Topic,
        timeout: Duration,
    ) -> Result<Writer<'a>, CtlError> {
        if let Some(partition) = args.partition
            && !topic.partitions.iter().any(|known| known.index == partition)
        {
            return Err(ClientError::Refused {
                what: format!(
                    "partition {partition} of '{}', which has {}",
                    topic.name,
                    topic.partitions.len()
                ),
                code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                message: None,
            }
            .into());
        }
        let producer = if args.idempotent { init_producer(&mut client, timeout)? } else { (-1, -1) };
        Ok(Writer {
            args,
            client,
            topic,
            timeout,
            producer,
            sequences: BTreeMap::new(),
            batches: BTreeMap::new(),
            turn: 0,
            records: 0,
            bytes: 0,
        })
    }

    fn read_lines(&mut self, input: &mut dyn BufRead) -> Result<(), CtlError> {
        let failed = |source| CtlError::Io { what: "reading lines".to_owned(), source };
        let mut line = Vec::new();
        loop {
            // How much is left of what the last read from the file or pipe brought.
            let buffered = input.fill_buf().map_err(failed)?.len();
            if buffered == 0 {
                return self.flush();
            }
            line.clear();
            let read = input.read_until(b'\n', &mut line).map_err(failed)?;
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            self.add(&line)?;
            if read >= buffered {
                self.flush()?;
            }
        }
    }

    fn add(&mut self, line: &[u8]) -> Result<(), CtlError> {
        let (key, value) = match &self.args.key_separator {
            Some(separator) if !separator.is_empty() => {
                match line.windows(separator.len()).position(|window| window == separator) {
                    Some(at) => (Some(&line[..at]), &line[at + separator.len()..]),
                    None => (None, line),
                }
            }
            _ => (self.args.key.as_deref().map(str::as_bytes), line),
        };
        let count = self.topic.partitions.len();
        let partition = match (self.args.partition, key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => self.topic.partitions[partition_for_key(key, count as u32) as usize].index,
            (None, None) => self.topic.partitions[self.turn % count].index,
        };
        let value = if value.is_empty() && self.args.null_empty { None } else { Some(value) };
        let headers: Vec<RecordHeader<'_>> = self
            .args
            .header
            .iter()
            .map(|(name, value)| RecordHeader { key: name.as_bytes(), value: Some(value.as_bytes()) })
            .collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        let options = BatchOptions {
            compression: self.args.compression,
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            ..BatchOptions::default()
        };
        let sequence = match self.args.idempotent {
            true => self.sequences.get(&partition).copied().unwrap_or(0),
            false => NO_SEQUENCE,
        };
        let batch = self
            .batches
            .entry(partition)
            .or_insert_with(|| BatchBuilder::new(BatchOptions { base_sequence: sequence, ..options }));
        batch.append(now, key, value, &headers);
        self.records += 1;
        self.bytes += line.len() as u64;
        if batch.uncompressed_size() >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what has been gathered, partition by partition.
    fn flush(&mut self) -> Result<(), CtlError> {
        self.turn += 1;
        for (partition, batch) in std::mem::take(&mut self.batches) {
            let count = batch.record_count();
            let bytes = batch.build().map_err(|error| {
                CtlError::Data(format!("partition {partition}: cannot build a batch: {error}"))
            })?;
            self.write(partition, bytes)?;
            let sequence = self.sequences.entry(partition).or_insert(0);
            *sequence = sequence_after(*sequence, count);
        }
        Ok(())
    }

    /// Writes one batch, again and again while the error is one that passes and there is time.
    fn write(&mut self, partition: i32, batch: bytes::Bytes) -> Result<(), CtlError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            match self.try_write(partition, batch.clone()) {
                Err(error) if is_passing(&error) && Instant::now() < deadline => {
                    std::thread::sleep(RETRY_PAUSE);
                    self.client.reset();
                    if let Ok(topic) = self.client.topic(&self.args.topic, false) {
                        self.topic = topic;
                    }
                }
                outcome => return Ok(outcome?),
            }
        }
    }

    fn try_write(&mut self, partition: i32, batch: bytes::Bytes) -> Result<(), ClientError> {
        let known = self.topic.partitions.iter().find(|known| known.index == partition);
        let leader = known.map_or(-1, |known| known.leader);
        let request = ProduceRequest {
            acks: self.args.acks,
            timeout_ms: self.timeout.as_millis() as i32,
            topic_data: vec![TopicProduceData {
                name: self.topic.name.as_str().into(),
                topic_id: self.topic.id,
                partition_data: vec![PartitionProduceData {
                    index: partition,
                    records: Some(Records::Shared(vec![batch])),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let connection = self.client.broker(leader)?;
        if self.args.acks == 0 {
            return connection.tell(&request);
        }
        let response = connection.call(&request)?;
        for answer in response.responses.iter().flat_map(|topic| &topic.partition_responses) {
            let code = ErrorCode(answer.error_code);
            // The broker has this batch already: an earlier try got through.
            if code.is_err() && code != ErrorCode::DUPLICATE_SEQUENCE_NUMBER {
                return Err(ClientError::Refused {
                    what: format!("writing to {}-{partition}", self.args.topic),
                    code,
                    message: answer.error_message.as_deref().map(str::to_owned),
                });
            }
        }
        Ok(())
    }
}

/// Whether trying again may help.
fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::Connect { .. } | ClientError::Connection { .. } | ClientError::UnknownBroker { .. } => {
            true
        }
        ClientError::Refused { code, .. } => code.is_retriable(),
        _ => false,
    }
}

fn init_producer(client: &mut Client, timeout: Duration) -> Result<(i64, i16), CtlError> {
    let deadline = Instant::now() + timeout;
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        ..Default::default()
    };
    loop {
        let response = client.any()?.call(&request)?;
        let code = ErrorCode(response.error_code);
        if code.is_none() {
            return Ok((response.producer_id, response.producer_epoch));
        }
        if !code.is_retriable() || Instant::now() >= deadline {
            return Err(ClientError::Refused { what: "a producer id".to_owned(), code, message: None }.into());
        }
        std::thread::sleep(RETRY_PAUSE);
    }
}
