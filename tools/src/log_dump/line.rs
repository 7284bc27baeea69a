//! The lines of a dump. Text follows `kafka-dump-log`, whose output people have scripts for; JSON has the same facts.

use std::fmt;

use protocol::records::{BatchView, ControlRecord, Record, TimestampType};
use serde::{Serialize, Serializer};

/// One line of output.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Line<'a> {
    File { path: String },
    Batch(BatchLine),
    Record(RecordLine<'a>),
    OffsetIndex { offset: i64, position: u32 },
    TimeIndex { timestamp: i64, offset: i64 },
    Damage { path: &'a str, position: u64, reason: String },
    Padding { position: u64, bytes: u64 },
    SegmentSummary { path: &'a str, batches: u64, records: u64, bytes: u64, sound: bool },
    IndexSummary { path: &'a str, entries: u64, sound: bool },
}

#[derive(Debug, Serialize)]
pub(super) struct BatchLine {
    base_offset: i64,
    last_offset: i64,
    count: i32,
    base_sequence: i32,
    last_sequence: i32,
    producer_id: i64,
    producer_epoch: i16,
    partition_leader_epoch: i32,
    is_transactional: bool,
    is_control: bool,
    delete_horizon_ms: Option<i64>,
    position: u64,
    timestamp_type: &'static str,
    max_timestamp: i64,
    size: usize,
    compression: String,
    crc: u32,
    is_valid: bool,
}

impl BatchLine {
    pub(super) fn new(batch: &BatchView<'_>, position: u64, is_valid: bool) -> Self {
        let attributes = batch.attributes();
        Self {
            base_offset: batch.base_offset(),
            last_offset: batch.last_offset(),
            count: batch.record_count(),
            base_sequence: batch.base_sequence(),
            last_sequence: batch.last_sequence(),
            producer_id: batch.producer_id(),
            producer_epoch: batch.producer_epoch(),
            partition_leader_epoch: batch.leader_epoch(),
            is_transactional: batch.is_transactional(),
            is_control: batch.is_control(),
            delete_horizon_ms: batch.delete_horizon_ms(),
            position,
            timestamp_type: name_of(batch.timestamp_type()),
            max_timestamp: batch.max_timestamp(),
            size: batch.size(),
            compression: attributes.compression().map_or_else(
                || format!("unknown ({})", attributes.codec_id()),
                |codec| codec.name().to_owned(),
            ),
            crc: batch.crc(),
            is_valid,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct RecordLine<'a> {
    offset: i64,
    timestamp_type: &'static str,
    timestamp: i64,
    key: Option<Blob<'a>>,
    value: Option<Blob<'a>>,
    headers: Vec<(Blob<'a>, Option<Blob<'a>>)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    control: Option<String>,
}

impl<'a> RecordLine<'a> {
    pub(super) fn new(batch: &BatchView<'_>, record: &Record<'a>) -> Self {
        let control = match ControlRecord::parse(record.key, record.value).filter(|_| batch.is_control()) {
            None => None,
            Some(ControlRecord::EndTxn(marker)) => {
                let outcome = if marker.committed { "COMMIT" } else { "ABORT" };
                Some(format!("{outcome} coordinatorEpoch: {}", marker.coordinator_epoch))
            }
            Some(ControlRecord::Other { control_type }) => Some(format!("type {control_type}")),
        };
        Self {
            offset: record.offset,
            timestamp_type: name_of(batch.timestamp_type()),
            timestamp: record.timestamp,
            key: record.key.map(Blob),
            value: record.value.map(Blob),
            headers: record
                .headers
                .clone()
                .map(|header| (Blob(header.key), header.value.map(Blob)))
                .collect(),
            control,
        }
    }
}

fn name_of(timestamp_type: TimestampType) -> &'static str {
    match timestamp_type {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    }
}

/// Bytes that are text more often than not: shown as text if they are UTF-8 without control characters, else in hex.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blob<'a>(&'a [u8]);

impl Blob<'_> {
    fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.0).ok().filter(|text| !text.chars().any(char::is_control))
    }

    fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Blob<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Some(text) => f.write_str(text),
            None => write!(f, "0x{}", self.hex()),
        }
    }
}

impl Serialize for Blob<'_> {
    /// A string, or `{"hex": "…"}`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_map([("hex", self.hex())]),
        }
    }
}

/// "null" as Kafka's tool leaves it out: by saying that the size is -1.
fn size_of_blob(blob: Option<&Blob<'_>>) -> i64 {
    blob.map_or(-1, |blob| blob.0.len() as i64)
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path } => write!(f, "Dumping {path}"),
            Self::Batch(batch) => batch.fmt(f),
            Self::Record(record) => record.fmt(f),
            Self::OffsetIndex { offset, position } => write!(f, "offset: {offset} position: {position}"),
            Self::TimeIndex { timestamp, offset } => write!(f, "timestamp: {timestamp} offset: {offset}"),
            Self::Damage { path, position, reason } => {
                write!(f, "DAMAGED {path} at position {position}: {reason}")
            }
            Self::Padding { position, bytes } => {
                write!(f, "{bytes} zero bytes from position {position}: room that is not written yet")
            }
            Self::SegmentSummary { path, batches, records, bytes, sound } => {
                let state = state(*sound);
                write!(f, "{path}: {batches} batches, {records} records, {bytes} bytes, {state}")
            }
            Self::IndexSummary { path, entries, sound } => {
                write!(f, "{path}: {entries} entries, {}", state(*sound))
            }
        }
    }
}

fn state(sound: bool) -> &'static str {
    if sound { "sound" } else { "DAMAGED" }
}

impl fmt::Display for BatchLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "baseOffset: {} lastOffset: {} count: {} baseSequence: {} lastSequence: {} producerId: {} \
             producerEpoch: {} partitionLeaderEpoch: {} isTransactional: {} isControl: {} deleteHorizonMs: ",
            self.base_offset,
            self.last_offset,
            self.count,
            self.base_sequence,
            self.last_sequence,
            self.producer_id,
            self.producer_epoch,
            self.partition_leader_epoch,
            self.is_transactional,
            self.is_control,
        )?;
        match self.delete_horizon_ms {
            Some(horizon) => write!(f, "OptionalLong[{horizon}]")?,
            None => f.write_str("OptionalLong.empty")?,
        }
        write!(
            f,
            " position: {} {}: {} size: {} magic: 2 compresscodec: {} crc: {} isvalid: {}",
            self.position,
            self.timestamp_type,
            self.max_timestamp,
            self.size,
            self.compression,
            self.crc,
            self.is_valid,
        )
    }
}

impl fmt::Display for RecordLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "| offset: {} {}: {} keySize: {} valueSize: {} headerKeys: [",
            self.offset,
            self.timestamp_type,
            self.timestamp,
            size_of_blob(self.key.as_ref()),
            size_of_blob(self.value.as_ref()),
        )?;
        for (index, (key, value)) in self.headers.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{key}")?;
            if let Some(value) = value {
                write!(f, "={value}")?;
            }
        }
        f.write_str("]")?;
        if let Some(control) = &self.control {
            return write!(f, " endTxnMarker: {control}");
        }
        if let Some(key) = &self.key {
            write!(f, " key: {key}")?;
        }
        if let Some(value) = &self.value {
            write!(f, " payload: {value}")?;
        }
        Ok(())
    }
}
