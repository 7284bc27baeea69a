//! Records of one output as one batch of the partition, by the path that all appends take: into the journal's next commit.

use coord::group::GroupRecord;
use protocol::ErrorCode;
use protocol::compression::Compression;
use protocol::records::{
    BatchBuilder, BatchOptions, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Origin, TimestampType,
    ValidatedBatch,
};
use storage::AppendContext;
use storage::journal::CommitSeq;

use super::coordinators::Partition;

/// Appends the records; nothing is durable before the commit is. The error is what Kafka's coordinators tell clients
/// (`CoordinatorOperationExceptionHelper`), except that a broker that cannot write says so instead of denying that it coordinates.
pub fn append(
    partition: &Partition,
    records: &[GroupRecord<'_>],
    now_ms: i64,
) -> Result<CommitSeq, ErrorCode> {
    let mut builder = BatchBuilder::with_capacity(BatchOptions::default(), 256 * records.len());
    for record in records {
        let (key, value) = record.encode().map_err(|error| {
            tracing::error!(%error, "a record of a group cannot be encoded");
            ErrorCode::UNKNOWN_SERVER_ERROR
        })?;
        builder.append(now_ms, Some(&key), value.as_deref(), &[]);
    }
    let record_count = builder.record_count();
    if builder.uncompressed_size() > partition.log.config().max_message_bytes as usize {
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
    let appended = partition.log.append(&batch, &validated, context).map_err(|error| {
        tracing::warn!(partition = partition.index, %error, "a change of a group cannot be kept");
        match error.code() {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::NOT_LEADER_OR_FOLLOWER => {
                ErrorCode::NOT_COORDINATOR
            }
            ErrorCode::RECORD_LIST_TOO_LARGE => ErrorCode::UNKNOWN_SERVER_ERROR,
            _ => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        }
    })?;
    Ok(appended.commit)
}
