//! ListPartitionReassignments (key 46): which partitions are on their way to other brokers: none, because there is one broker.

use protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

use super::{Answer, Call};

/// Answers that nothing moves.
pub async fn handle(call: Call) -> Answer {
    let _: ListPartitionReassignmentsRequest<'_> = call.decode()?;
    call.respond(&ListPartitionReassignmentsResponse { error_message: None, ..Default::default() })
}
