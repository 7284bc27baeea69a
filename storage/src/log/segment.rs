//! Segments of a partition: names, bookkeeping, and the decisions to roll and to delete. Pure.

use crate::log::config::LogConfig;
use crate::types::Offset;

/// Name of a segment's file with `suffix` ("log", "index", "timeindex"): the base offset in 20 digits.
pub fn file_name(base_offset: Offset, suffix: &str) -> String {
    format!("{:020}.{suffix}", base_offset.0)
}

/// The base offset and the suffix in a segment file's name; `None` for any other file.
pub fn parse_file_name(name: &str) -> Option<(Offset, &str)> {
    let (digits, suffix) = name.split_once('.')?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((Offset(digits.parse().ok()?), suffix))
}

/// What is kept in memory about a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentMeta {
    /// Offset below which the segment holds nothing; its name.
    pub base_offset: Offset,
    /// Bytes of record batches that are in its file.
    pub size: u64,
    /// Largest timestamp of its records. `None` while it is not known (after a restart, until somebody asks). Milliseconds.
    pub max_timestamp: Option<i64>,
    /// Timestamp of its first batch, if known. Milliseconds.
    pub first_timestamp: Option<i64>,
    /// Tells the file from others that had the same name in the life of this process: compaction puts new files in the place of old ones.
    pub revision: u64,
}

impl SegmentMeta {
    /// An empty segment.
    pub fn new(base_offset: Offset) -> Self {
        Self { base_offset, size: 0, max_timestamp: Some(-1), first_timestamp: None, revision: 0 }
    }

    /// Notes a batch of `size` bytes.
    pub fn note(&mut self, size: u32, max_timestamp: i64) {
        if self.size == 0 && max_timestamp >= 0 {
            self.first_timestamp = Some(max_timestamp);
        }
        self.size += size as u64;
        self.max_timestamp = self.max_timestamp.map(|m| m.max(max_timestamp));
    }
}

/// The batch about to be written, as far as rolling is concerned.
#[derive(Debug, Clone, Copy)]
pub struct NextBatch {
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Its size in bytes.
    pub size: u32,
    /// Its largest timestamp. Milliseconds.
    pub max_timestamp: i64,
}

/// Whether the active segment has to be closed before `next` is written (`LogSegment.shouldRoll`).
///
/// `jitter_seed` spreads rolls by time over `segment.jitter.ms`; any stable number of the partition will do.
pub fn should_roll(
    active: &SegmentMeta,
    index_entries: usize,
    next: NextBatch,
    config: &LogConfig,
    jitter_seed: u64,
) -> bool {
    if active.size == 0 {
        return false;
    }
    // Positions in the index are 32 bits wide.
    let segment_bytes = config.segment_bytes.min(i32::MAX as u64);
    let jitter = match config.segment_jitter_ms {
        j if j > 0 => (jitter_seed % j as u64) as i64,
        _ => 0,
    };
    // What may wait only so long for compaction must not stay in the active segment for longer.
    let segment_ms = match config.cleanup_compact && config.max_compaction_lag_ms > 0 {
        true => config.segment_ms.min(config.max_compaction_lag_ms),
        false => config.segment_ms,
    };
    let too_old = active
        .first_timestamp
        .is_some_and(|first| next.max_timestamp.saturating_sub(first) > segment_ms.saturating_sub(jitter));
    let index_full =
        (index_entries as u64 + 1) * super::index::OFFSET_ENTRY_BYTES as u64 > config.segment_index_bytes;
    active.size + next.size as u64 > segment_bytes
        || too_old
        || index_full
        || next.last_offset.0 - active.base_offset.0 > i32::MAX as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_twenty_digits_and_parse_back() {
        assert_eq!(file_name(Offset(1234), "log"), "00000000000000001234.log");
        assert_eq!(parse_file_name("00000000000000001234.timeindex"), Some((Offset(1234), "timeindex")));
        for other in ["partition.metadata", "1234.log", "0000000000000000123x.log", "00000000000000001234"] {
            assert_eq!(parse_file_name(other), None, "{other}");
        }
    }

    #[test]
    fn a_segment_rolls_by_size_age_index_and_offset_range_but_never_when_empty() {
        let config = LogConfig {
            segment_bytes: 1000,
            segment_ms: 100,
            segment_index_bytes: 16,
            ..LogConfig::default()
        };
        let next = NextBatch { last_offset: Offset(10), size: 100, max_timestamp: 50 };
        let mut active = SegmentMeta::new(Offset(0));
        assert!(!should_roll(&active, 0, NextBatch { size: 5000, ..next }, &config, 0));
        active.note(900, 0);
        assert!(!should_roll(&active, 0, next, &config, 0));
        assert!(should_roll(&active, 0, NextBatch { size: 101, ..next }, &config, 0));
        assert!(should_roll(&active, 0, NextBatch { max_timestamp: 101, ..next }, &config, 0));
        assert!(should_roll(&active, 2, next, &config, 0));
        assert!(should_roll(&active, 0, NextBatch { last_offset: Offset(1 << 31), ..next }, &config, 0));
        let jittered = LogConfig { segment_jitter_ms: 60, ..config.clone() };
        assert!(should_roll(&active, 0, next, &jittered, 59));
        let in_a_hurry = LogConfig { cleanup_compact: true, max_compaction_lag_ms: 49, ..config };
        assert!(should_roll(&active, 0, next, &in_a_hurry, 0));
        assert!(!should_roll(&active, 0, next, &LogConfig { cleanup_compact: false, ..in_a_hurry }, 0));
    }
}
