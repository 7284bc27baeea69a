//! Records of one output as a batch of the partition, by the path that all appends take: into the journal's next commit.
//!
//! An output is one batch, so that all of it survives or nothing. Only what consists of tombstones may take several, when it is too large for one: each
//! of them removes its key whatever becomes of the others, and who has the answer to, say, DeleteGroups knows that all of them are durable.

use coord::group::GroupRecord;
use protocol::ErrorCode;
use protocol::compression::Compression;
use protocol::records::{
    BatchBuilder, BatchOptions, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Origin, TimestampType,
    ValidatedBatch,
};
use storage::AppendContext;

use super::coordinators::Partition;
use super::kept::Kept;
use crate::replication::{LeadError, replicas};

/// What a record without value and headers takes besides its key, at most. Bytes.
const RECORD_OVERHEAD_BYTES: usize = 32;

/// Appends the records, or as many of them as one batch takes if they may be separated; answers how many. Nothing is durable before the commit is.
/// The error is what Kafka's coordinators tell clients (`CoordinatorOperationExceptionHelper`), except that a broker that cannot write says so
/// instead of denying that it coordinates.
pub fn append(
    partition: &Partition,
    records: &[GroupRecord<'_>],
    now_ms: i64,
) -> Result<(Kept, usize), ErrorCode> {
    let max_bytes = partition.log.config().max_message_bytes as usize;
    let builder = gather(records, max_bytes, now_ms)?;
    let record_count = builder.record_count();
    if builder.uncompressed_size() > max_bytes {
        tracing::warn!(
            partition = partition.index,
            bytes = builder.uncompressed_size(),
            "what a group has to keep is larger than max.message.bytes of __consumer_offsets"
        );
        return Err(ErrorCode::UNKNOWN_SERVER_ERROR);
    }
    let batch = builder.build().map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)?;
    let validated = ValidatedBatch {
        size: batch.len(),
        record_count,
        last_offset_delta: record_count - 1,
        base_timestamp: now_ms,
        max_timestamp: now_ms,
        max_timestamp_offset_delta: 0,
        timestamp_type: TimestampType::CreateTime,
        compression: Compression::None,
        producer_id: NO_PRODUCER_ID,
        producer_epoch: NO_PRODUCER_EPOCH,
        base_sequence: NO_SEQUENCE,
        is_transactional: false,
        is_control: false,
    };
    let context = AppendContext { leader_epoch: partition.leader_epoch, now_ms, origin: Origin::Coordinator };
    let appended = match &partition.replica {
        None => partition.log.append(&batch, &validated, context).map_err(LeadError::from),
        Some((shard, hosted)) => {
            // The process is ending if it has gone.
            let shard = shard.upgrade().ok_or(ErrorCode::NOT_COORDINATOR)?;
            replicas::append(&shard, hosted, &batch, &validated, context, true)
        }
    };
    let appended = appended.map_err(|error| {
        tracing::warn!(partition = partition.index, %error, "a change of a group cannot be kept");
        match error.code() {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::NOT_LEADER_OR_FOLLOWER => {
                ErrorCode::NOT_COORDINATOR
            }
            ErrorCode::RECORD_LIST_TOO_LARGE => ErrorCode::UNKNOWN_SERVER_ERROR,
            _ => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        }
    })?;
    Ok((Kept::of(partition, &appended), record_count as usize))
}

/// A batch of the records: of all of them, or of the first ones, at least one, if they may be separated and there is no room for more.
fn gather(records: &[GroupRecord<'_>], max_bytes: usize, now_ms: i64) -> Result<BatchBuilder, ErrorCode> {
    let may_be_separated = records.iter().all(GroupRecord::is_tombstone);
    let mut builder =
        BatchBuilder::with_capacity(BatchOptions::default(), (256 * records.len()).min(max_bytes));
    for record in records {
        let (key, value) = record.encode().map_err(|error| {
            tracing::error!(%error, "a record of a group cannot be encoded");
            ErrorCode::UNKNOWN_SERVER_ERROR
        })?;
        let bytes = key.len() + RECORD_OVERHEAD_BYTES;
        if may_be_separated && builder.record_count() > 0 && builder.uncompressed_size() + bytes > max_bytes {
            break;
        }
        builder.append(now_ms, Some(&key), value.as_deref(), &[]);
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::messages::group_log::OffsetCommitKey;

    #[test]
    fn only_tombstones_are_separated_and_none_is_lost_or_too_large() {
        let key = |partition| OffsetCommitKey { group: "group".into(), topic: "topic".into(), partition };
        let tombstones: Vec<_> = (0..1000).map(|n| GroupRecord::OffsetCommit(key(n), None)).collect();
        let (mut rest, mut batches) = (&tombstones[..], 0);
        while !rest.is_empty() {
            let builder = gather(rest, 2_000, 5).unwrap();
            assert!(builder.uncompressed_size() <= 2_000);
            rest = &rest[builder.record_count() as usize..];
            batches += 1;
        }
        assert!((10..100).contains(&batches), "{batches}");
        let together = gather(&tombstones, 1 << 20, 5).unwrap();
        assert_eq!(together.record_count(), 1000);
        let huge = gather(&tombstones, 10, 5).unwrap();
        assert_eq!(huge.record_count(), 1, "a batch that cannot be is told by its size");
    }
}
