//! DescribeLogDirs (key 35): the folder for data, its file system, and the size of each partition (KIP-113, KIP-827).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use protocol::ErrorCode;
use protocol::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
    DescribeLogDirsTopic,
};
use storage::disk::file_system_space;

use super::{Answer, Call};
use crate::replication::metrics::behind;
use crate::shard::Shard;

/// Partitions that are asked for; none: all.
type Selection = Option<Arc<HashSet<(String, i32)>>>;

/// Asks all shards for the sizes of their partitions.
pub async fn handle(call: Call) -> Answer {
    let request: DescribeLogDirsRequest<'_> = call.decode()?;
    let selection: Selection = request.topics.as_ref().map(|topics| {
        let of_topic = topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic.to_string(), *partition)));
        Arc::new(of_topic.collect())
    });
    let ask = move |shard: &std::rc::Rc<Shard>| std::future::ready(sizes(shard, &selection));
    let mut by_topic: BTreeMap<String, Vec<DescribeLogDirsPartition<'static>>> = BTreeMap::new();
    for (topic, partition_index, partition_size, offset_lag) in
        call.shard.mesh.call_all(ask).await.into_iter().flatten()
    {
        by_topic.entry(topic).or_default().push(DescribeLogDirsPartition {
            partition_index,
            partition_size,
            offset_lag,
            ..Default::default()
        });
    }
    let topics = by_topic.into_iter().map(|(name, mut partitions)| {
        partitions.sort_unstable_by_key(|partition| partition.partition_index);
        DescribeLogDirsTopic { name: Cow::Owned(name), partitions, ..Default::default() }
    });
    let result = describe(call.shard.broker.data_dir(), topics.collect());
    call.respond(&DescribeLogDirsResponse { results: vec![result], ..Default::default() })
}

/// (topic, partition, bytes, lag) of this shard's partitions. The lag is what a follower lacks of all that its leader has said to be committed.
fn sizes(shard: &Shard, selection: &Selection) -> Vec<(String, i32, i64, i64)> {
    let store = shard.store();
    let rows = store.partitions().into_iter().filter_map(|id| {
        let log = store.partition(&id)?;
        let key = (log.topic().to_string(), id.partition.0);
        if selection.as_ref().is_some_and(|wanted| !wanted.contains(&key)) {
            return None;
        }
        let bytes = i64::try_from(log.size_bytes()).unwrap_or(i64::MAX);
        let leader = shard.replication.replicas.get(&id).and_then(|hosted| hosted.leader_positions());
        let end = log.offsets().log_end_offset;
        let lag = leader.map_or(0, |leader| behind(leader.high_watermark, end));
        Some((key.0, key.1, bytes, lag))
    });
    rows.collect()
}

fn describe(data_dir: &Path, topics: Vec<DescribeLogDirsTopic<'static>>) -> DescribeLogDirsResult<'static> {
    let absolute = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    let log_dir = Cow::Owned(absolute.display().to_string());
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    match file_system_space(data_dir) {
        Ok(space) => DescribeLogDirsResult {
            log_dir,
            topics,
            total_bytes: bytes(space.total_bytes),
            usable_bytes: bytes(space.available_bytes),
            ..Default::default()
        },
        Err(error) => {
            tracing::warn!(data_dir = %data_dir.display(), %error, "the file system cannot be looked at");
            DescribeLogDirsResult {
                error_code: ErrorCode::KAFKA_STORAGE_ERROR.code(),
                log_dir,
                ..Default::default()
            }
        }
    }
}
