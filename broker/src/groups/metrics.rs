//! What the coordinators of one shard count, under the names that Kafka's metrics have in Prometheus.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use coord::group::GroupRecord;

use super::coordinators::{Groups, PartitionState};
use crate::metrics::{Counter, Samples};

/// Protocols with the states that their groups can be in.
const GROUP_STATES: [(&str, &str); 8] = [
    ("classic", "empty"),
    ("classic", "preparingrebalance"),
    ("classic", "completingrebalance"),
    ("classic", "stable"),
    ("consumer", "empty"),
    ("consumer", "assigning"),
    ("consumer", "reconciling"),
    ("consumer", "stable"),
];

/// The counters of one shard.
#[derive(Debug, Default)]
pub struct GroupMetrics {
    /// Offsets committed: one for each partition of each commit.
    pub offset_commits: Counter,
    /// Offsets that expired, were deleted, or went with their group or topic.
    pub offsets_removed: Counter,
    /// Generations of classic groups, and epochs of consumer groups, that were written.
    pub generations: Counter,
    /// Changes that could not be appended.
    pub refused_appends: Counter,
    loads: Counter,
    load_ms_sum: Counter,
    load_ms_max: Cell<u64>,
}

impl GroupMetrics {
    /// Counts what was appended.
    pub fn count_records(&self, records: &[GroupRecord<'_>]) {
        for record in records {
            match record {
                GroupRecord::OffsetCommit(_, Some(_)) => self.offset_commits.increment(),
                GroupRecord::OffsetCommit(_, None) => self.offsets_removed.increment(),
                GroupRecord::GroupMetadata(_, Some(_)) | GroupRecord::ConsumerGroupMetadata(_, Some(_)) => {
                    self.generations.increment();
                }
                _ => {}
            }
        }
    }

    /// Counts a partition that was loaded.
    pub fn note_load(&self, took: Duration) {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.loads.increment();
        self.load_ms_sum.add(took_ms);
        self.load_ms_max.set(self.load_ms_max.get().max(took_ms));
    }
}

impl Groups {
    /// Adds this shard's figures.
    pub fn collect(&self, shard: &str, samples: &mut Samples) {
        const PREFIX: &str = "kafka_server_group_coordinator_metrics";
        let mut states = [("active", 0), ("loading", 0), ("failed", 0)];
        let mut offsets = 0;
        // All of them, so that a graph shows none where there is none.
        let none = GROUP_STATES.iter().map(|(kind, state)| ((kind.to_string(), state.to_string()), 0));
        let mut groups: BTreeMap<(String, String), u64> = none.collect();
        for partition in self.partitions() {
            match &*partition.state.borrow() {
                PartitionState::Loading => states[1].1 += 1,
                PartitionState::Failed => states[2].1 += 1,
                PartitionState::Active(coordinator) => {
                    states[0].1 += 1;
                    offsets += coordinator.offset_count();
                    for group in coordinator.list_groups(&[], &[]) {
                        let state = (group.group_type.to_lowercase(), group.group_state.to_lowercase());
                        *groups.entry(state).or_default() += 1;
                    }
                }
            }
        }
        for (state, count) in states {
            samples.gauge(
                &format!("{PREFIX}_num_partitions"),
                "Partitions of __consumer_offsets by the state of their coordinator.",
                &[("state", state)],
                f64::from(count),
            );
        }
        for ((protocol, state), count) in &groups {
            samples.gauge(
                &format!("{PREFIX}_group_count"),
                "Groups by protocol and state.",
                &[("protocol", protocol), ("state", state)],
                *count as f64,
            );
        }
        samples.gauge(&format!("{PREFIX}_num_offsets"), "Committed offsets.", &[], offsets as f64);
        let metrics = &self.metrics;
        let counters = [
            ("offset_commit_total", "Offsets committed.", &metrics.offset_commits),
            (
                "offset_removal_total",
                "Offsets that expired, were deleted, or went with their group or topic.",
                &metrics.offsets_removed,
            ),
            (
                "group_generation_total",
                "Generations of classic groups and epochs of consumer groups that were written.",
                &metrics.generations,
            ),
            ("append_refused_total", "Changes of groups that could not be kept.", &metrics.refused_appends),
            ("partition_load_total", "Partitions loaded.", &metrics.loads),
            ("partition_load_time_ms_total", "Time to load partitions.", &metrics.load_ms_sum),
        ];
        for (name, help, counter) in counters {
            samples.counter(&format!("{PREFIX}_{name}"), help, &[], counter.get());
        }
        let labels = [("shard", shard)];
        samples.gauge(
            &format!("{PREFIX}_partition_load_time_max"),
            "The longest time that a partition took to load, in ms.",
            &labels,
            metrics.load_ms_max.get() as f64,
        );
        samples.gauge(
            "broker_group_requests_waiting",
            "JoinGroup and SyncGroup requests that wait for their group.",
            &labels,
            self.waiting.len() as f64,
        );
    }
}
