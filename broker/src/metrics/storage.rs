//! The figures of a shard's store as metrics.

use storage::StoreStats;

use super::Samples;

/// Adds the figures of one shard; `appends_waiting` of its appends wait for room.
pub fn collect(shard: &str, stats: &StoreStats, appends_waiting: usize, samples: &mut Samples) {
    let labels = [("shard", shard)];
    let gauges = [
        ("log_partitions", "Partitions.", stats.partitions as f64),
        ("log_offline_partitions", "Damaged partitions.", stats.offline_partitions as f64),
        ("log_bytes", "Size of all partitions.", stats.log_bytes as f64),
        ("cache_bytes", "Recent batches in memory.", stats.cache_bytes as f64),
        ("cache_pinned_bytes", "Those that segments do not have yet.", stats.pinned_bytes as f64),
        ("read_ahead_bytes", "Old data in memory or on its way there.", stats.read_ahead_bytes as f64),
        ("log_heap_bytes", "Memory of the partitions without the cache.", stats.partition_heap_bytes as f64),
        ("log_open_files", "Open segment files.", stats.open_files as f64),
        (
            "journal_used_ratio",
            "Share of the full journal that holds data which segments do not have yet.",
            stats.journal_used_ratio,
        ),
        ("appends_waiting", "Appends that wait for the flusher.", appends_waiting as f64),
        ("disk_low_space", "1 while produce is refused for want of space.", f64::from(stats.is_low_on_space)),
        ("disk_free_bytes", "Free space of the data directory's file system.", stats.free_bytes as f64),
    ];
    samples.gauge(
        "kafka_server_replicamanager_offline_replica_count",
        "Replicas here that are out of service: damaged.",
        &[],
        stats.offline_partitions as f64,
    );
    let cleaner = [
        (
            "max_dirty_percent",
            "The dirty share of the compacted log where it is largest, in percent.",
            100.0 * stats.max_dirty_ratio,
        ),
        (
            "uncleanable_partitions_count",
            "Damaged logs that compaction leaves alone.",
            stats.uncleanable_partitions as f64,
        ),
        (
            "time_since_last_run_ms",
            "Time since compaction last looked for work, in ms.",
            stats.ms_since_cleaner_look as f64,
        ),
    ];
    for (name, help, value) in cleaner {
        samples.gauge(&format!("kafka_log_logcleanermanager_{name}"), help, &labels, value);
    }
    for (name, help, value) in gauges {
        samples.gauge(&format!("broker_{name}"), help, &labels, value);
    }
    let counters = [
        ("appended_batches", "Batches appended.", stats.appended_batches),
        ("appended_bytes", "Bytes appended.", stats.appended_bytes),
        ("flush_rounds", "Rounds of the flusher.", stats.flush_rounds),
        ("flushed_bytes", "Bytes written to segments.", stats.flushed_bytes),
        (
            "direct_bytes",
            "Bytes of large batches that went straight to segments, and not through the journal.",
            stats.direct_bytes,
        ),
        (
            "segment_written_bytes",
            "Bytes written to segment files, in whole blocks.",
            stats.segment_written_bytes,
        ),
        (
            "journal_written_bytes",
            "Bytes written to the journal, in whole blocks.",
            stats.journal_written_bytes,
        ),
        ("segment_syncs", "Segment files synced.", stats.segment_syncs),
        ("cache_reads", "Reads served from memory.", stats.cache_reads),
        ("cleaner_runs", "Logs compacted.", stats.cleaner_runs),
        ("cleaner_read_bytes", "Bytes read by compaction.", stats.cleaner_read_bytes),
        ("cleaner_written_bytes", "Bytes written by compaction.", stats.cleaner_written_bytes),
        ("cold_reads", "Reads of segment files and of what was read ahead.", stats.cold_reads),
        ("cold_read_bytes", "Bytes read from segment files for readers.", stats.cold_read_bytes),
        ("read_ahead_hits", "Cold reads that did not wait for the disk.", stats.read_ahead_hits),
        (
            "read_ahead_wasted_bytes",
            "Bytes read ahead and dropped before anybody wanted them.",
            stats.read_ahead_wasted_bytes,
        ),
    ];
    for (name, help, value) in counters {
        samples.counter(&format!("broker_{name}_total"), help, &labels, value);
    }
}
