//! Which shard owns a partition: a stable function of topic id, partition and number of shards, and of nothing on disk, so that
//! a restart with another number of cores just works.

use std::fmt;

use uuid::Uuid;

/// Number of a shard: 0 to the number of `--cores` minus 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub usize);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The shard that owns the partition. Never change this function: data of other shards is moved at start, which takes time.
pub fn shard_of(topic_id: Uuid, partition: i32, shards: usize) -> ShardId {
    assert!(shards > 0, "a broker has at least one shard");
    let (high, low) = topic_id.as_u64_pair();
    let hash = mixed(mixed(high ^ mixed(low)).wrapping_add(partition as u32 as u64));
    ShardId(((hash as u128 * shards as u128) >> 64) as usize)
}

/// The finalizer of SplitMix64: every input bit changes every output bit with probability one half.
fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_never_changes_between_releases() {
        let topic_id = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        let owners: Vec<usize> = (0..16).map(|partition| shard_of(topic_id, partition, 8).0).collect();
        assert_eq!(owners, [3, 0, 1, 4, 2, 5, 6, 5, 6, 1, 5, 7, 6, 3, 2, 3]);
    }

    #[test]
    fn partitions_of_one_topic_and_topics_of_one_partition_spread_evenly() {
        let mut by_partition = [0; 7];
        let mut by_topic = [0; 7];
        for n in 0..7_000 {
            by_partition[shard_of(Uuid::from_u128(42), n, 7).0] += 1;
            by_topic[shard_of(Uuid::from_u128(n as u128), 0, 7).0] += 1;
        }
        for counts in [by_partition, by_topic] {
            assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        }
    }
}
