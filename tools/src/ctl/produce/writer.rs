//! Records to batches, batches to leaders, again while an error passes.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Instant;

use protocol::error::ErrorCode;
use protocol::messages::produce::{PartitionProduceData, TopicProduceData};
use protocol::messages::{InitProducerIdRequest, ProduceRequest};
use protocol::partitioner::partition_for_key;
use protocol::records::{BatchBuilder, BatchOptions, NO_SEQUENCE, RecordHeader, sequence_after};
use protocol::wire::Few;

use super::ProduceArgs;
use super::input::Input;
use crate::client::{Client, ClientError, RETRY_PAUSE, Topic, check, choose};
use crate::ctl::CtlError;
use crate::ctl::time::now_ms;

/// Gathered bytes at which a partition's batch is written.
const BATCH_BYTES: usize = 512 << 10;

/// Gathers records and writes them.
pub struct Writer<'a> {
    args: &'a ProduceArgs,
    client: Client,
    topic: Topic,
    producer: (i64, i16),
    sequences: BTreeMap<i32, i32>,
    batches: BTreeMap<i32, BatchBuilder>,
    /// Where the next record without key goes.
    turn: usize,
    records: u64,
    bytes: u64,
}

impl<'a> Writer<'a> {
    /// A writer to `topic`.
    pub fn new(args: &'a ProduceArgs, mut client: Client, topic: Topic) -> Result<Writer<'a>, CtlError> {
        choose(&topic, args.partition.as_slice())?;
        let producer = if args.idempotent { init_producer(&mut client)? } else { (-1, -1) };
        Ok(Writer {
            args,
            client,
            topic,
            producer,
            sequences: BTreeMap::new(),
            batches: BTreeMap::new(),
            turn: 0,
            records: 0,
            bytes: 0,
        })
    }

    /// How many records have been taken, and the bytes of their keys and values.
    pub fn written(&self) -> (u64, u64) {
        (self.records, self.bytes)
    }

    /// Takes a record, and writes if enough has been gathered.
    pub fn add(&mut self, input: Input) -> Result<(), CtlError> {
        let (key, value) = (input.key.as_deref(), input.value.as_deref());
        let partition = self.partition_of(&input)?;
        let headers: Vec<RecordHeader<'_>> =
            input.headers.iter().map(|(key, value)| RecordHeader { key, value: value.as_deref() }).collect();
        let base_sequence = match self.args.idempotent {
            true => self.sequences.get(&partition).copied().unwrap_or(0),
            false => NO_SEQUENCE,
        };
        let options = BatchOptions {
            compression: self.args.compression,
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            base_sequence,
            ..BatchOptions::default()
        };
        let batch = self.batches.entry(partition).or_insert_with(|| BatchBuilder::new(options));
        batch.append(input.timestamp.unwrap_or_else(now_ms), key, value, &headers);
        self.records += 1;
        self.bytes += (key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len)) as u64;
        if batch.uncompressed_size() >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn partition_of(&self, input: &Input) -> Result<i32, CtlError> {
        let count = self.topic.partitions.len();
        let known = |at: usize| self.topic.partitions[at].index;
        match (self.args.partition.or(input.partition), input.key.as_deref()) {
            (Some(partition), _) => {
                choose(&self.topic, &[partition])?;
                Ok(partition)
            }
            (None, Some(key)) => Ok(known(partition_for_key(key, count as u32) as usize)),
            (None, None) => Ok(known(self.turn % count)),
        }
    }

    /// Writes what has been gathered, partition by partition.
    pub fn flush(&mut self) -> Result<(), CtlError> {
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
        let deadline = Instant::now() + self.client.timeout();
        loop {
            match self.try_write(partition, batch.clone()) {
                Err(error) if error.is_passing() && Instant::now() < deadline => {
                    sleep(RETRY_PAUSE);
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
            timeout_ms: self.client.timeout_ms(),
            topic_data: Few::one(TopicProduceData {
                name: self.topic.name.as_str().into(),
                topic_id: self.topic.id,
                partition_data: Few::one(PartitionProduceData {
                    index: partition,
                    records: Some(batch.into()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
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

fn init_producer(client: &mut Client) -> Result<(i64, i16), CtlError> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        ..Default::default()
    };
    let attempt = |client: &mut Client| {
        let response = client.any()?.call(&request)?;
        check(|| "a producer id".to_owned(), response.error_code, None)?;
        Ok((response.producer_id, response.producer_epoch))
    };
    let is_passing = |error: &ClientError| error.code().is_some_and(ErrorCode::is_retriable);
    Ok(client.persist(attempt, is_passing)?)
}
