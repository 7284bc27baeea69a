//! Which log is to be cleaned, how far, and which segments become one. Pure (`LogCleanerManager`, `Cleaner`).

use crate::{
    log::{config::LogConfig, index::OFFSET_ENTRY_BYTES, segment::SegmentMeta},
    types::Offset,
};
use std::ops::Range;

/// What is known of a log whose policy is to compact.
#[derive(Debug, Clone, Copy)]
pub struct LogFacts<'a> {
    /// All segments, the active one last.
    pub segments: &'a [SegmentMeta],
    /// Everything below is clean.
    pub clean_end: Offset,
    /// The log start offset.
    pub log_start: Offset,
    /// Nothing at or above this is cleaned: it may be taken back, or belong to an open transaction.
    pub stable_end: Offset,
    /// The clock. Milliseconds since the epoch.
    pub now_ms: i64,
}

/// What could be cleaned of a log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cleanable {
    /// Where the dirty section begins.
    pub first_dirty: Offset,
    /// Where what may be cleaned ends: always the base of a segment.
    pub first_uncleanable: Offset,
    /// Size of the segments before the dirty section. Bytes.
    pub clean_bytes: u64,
    /// Size of the dirty section's segments that may be cleaned. Bytes.
    pub dirty_bytes: u64,
    /// Something in it is older than `max.compaction.lag.ms`.
    pub is_overdue: bool,
}

impl Cleanable {
    /// The dirty share of what may be cleaned, 0 to 1.
    pub fn dirty_ratio(&self) -> f64 {
        match self.clean_bytes + self.dirty_bytes {
            0 => 0.0,
            total => self.dirty_bytes as f64 / total as f64,
        }
    }

    /// Whether the log should be cleaned.
    pub fn is_due(&self, config: &LogConfig) -> bool {
        self.dirty_bytes > 0 && (self.is_overdue || self.dirty_ratio() > config.min_cleanable_dirty_ratio)
    }
}

/// Where the dirty section of a log begins: where the last pass ended, if that still lies within the log.
pub fn first_dirty(facts: &LogFacts<'_>) -> Offset {
    let active = facts.segments.last().map_or(facts.log_start, |s| s.base_offset);
    if facts.clean_end > active { facts.log_start } else { facts.clean_end.max(facts.log_start) }
}

/// The closed segments, by number, that hold something of the dirty section.
pub fn dirty_segments(facts: &LogFacts<'_>) -> Range<usize> {
    let closed = facts.segments.len().saturating_sub(1);
    let from = first_dirty(facts);
    let next = facts.segments.partition_point(|s| s.base_offset <= from);
    next.saturating_sub(1).min(closed)..closed
}

/// Looks at a log. With `min.compaction.lag.ms` the largest timestamps of the dirty segments have to be known, with `max.compaction.lag.ms`
/// their first; one that is not known counts as young.
pub fn assess(facts: &LogFacts<'_>, config: &LogConfig) -> Cleanable {
    let first_dirty = first_dirty(facts);
    let dirty = dirty_segments(facts);
    let size = |segments: &[SegmentMeta]| segments.iter().map(|s| s.size).sum::<u64>();
    let mut found = Cleanable {
        first_dirty,
        first_uncleanable: first_dirty,
        clean_bytes: size(&facts.segments[..dirty.start]),
        dirty_bytes: 0,
        is_overdue: false,
    };
    let young_from = facts.now_ms.saturating_sub(config.min_compaction_lag_ms);
    let overdue_before = facts.now_ms.saturating_sub(config.max_compaction_lag_ms);
    for i in dirty {
        let (segment, end) = (&facts.segments[i], facts.segments[i + 1].base_offset);
        let is_young =
            config.min_compaction_lag_ms > 0 && segment.max_timestamp.is_none_or(|t| t > young_from);
        if end > facts.stable_end || is_young {
            break;
        }
        found.first_uncleanable = end;
        found.dirty_bytes += segment.size;
        found.is_overdue |= segment.first_timestamp.is_some_and(|t| t > 0 && t < overdue_before);
    }
    found
}

/// Whether the active segment has to be closed so that what it holds can be cleaned in time.
pub fn must_roll(active: &SegmentMeta, config: &LogConfig, now_ms: i64) -> bool {
    let overdue_before = now_ms.saturating_sub(config.max_compaction_lag_ms);
    active.size > 0 && active.first_timestamp.is_some_and(|t| t > 0 && t < overdue_before)
}

/// A segment that is being made from several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growing {
    /// Its base offset.
    pub base_offset: Offset,
    /// Its size so far. Bytes.
    pub size: u64,
}

/// Whether all of a further segment, which ends at `end`, would fit in as well within the limits of one segment.
pub fn fits(growing: Growing, next: &SegmentMeta, end: Offset, config: &LogConfig) -> bool {
    let total = growing.size + next.size;
    let index_entries = config.segment_index_bytes / OFFSET_ENTRY_BYTES as u64;
    total <= config.segment_bytes.min(i32::MAX as u64)
        && total / config.index_interval_bytes.max(1) <= index_entries
        && end - growing.base_offset <= i32::MAX as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    /// Segments of these sizes, ten offsets each; the last one is active. Timestamps: segment n has 1000 n to 1000 n + 999.
    fn segments(sizes: &[u64]) -> Vec<SegmentMeta> {
        let segment = |(i, size): (usize, &u64)| SegmentMeta {
            size: *size,
            max_timestamp: Some(1000 * i as i64 + 999),
            first_timestamp: Some(1000 * i as i64),
            ..SegmentMeta::new(Offset(10 * i as i64))
        };
        sizes.iter().enumerate().map(segment).collect()
    }

    fn facts(segments: &[SegmentMeta], clean_end: i64) -> LogFacts<'_> {
        LogFacts {
            segments,
            clean_end: Offset(clean_end),
            log_start: Offset(0),
            stable_end: Offset(1000),
            now_ms: NOW,
        }
    }

    #[test]
    fn the_dirty_ratio_is_that_of_closed_segments_and_a_log_is_due_above_it() {
        let s = segments(&[100, 100, 200, 999]);
        let config = LogConfig { min_cleanable_dirty_ratio: 0.5, ..LogConfig::default() };
        let half = assess(&facts(&s, 20), &config);
        assert_eq!((half.first_dirty, half.first_uncleanable), (Offset(20), Offset(30)));
        assert_eq!((half.clean_bytes, half.dirty_bytes, half.dirty_ratio()), (200, 200, 0.5));
        assert!(!half.is_due(&config));
        assert!(assess(&facts(&s, 15), &config).is_due(&config), "a segment in part dirty counts as dirty");
        let zero = LogConfig { min_cleanable_dirty_ratio: 0.0, ..config };
        assert!(half.is_due(&zero));
        let clean = assess(&facts(&s, 30), &zero);
        assert_eq!((clean.dirty_bytes, clean.is_due(&zero)), (0, false));
        assert!(!assess(&facts(&[], 0), &zero).is_due(&zero));
        assert!(!assess(&facts(&s[3..], 0), &zero).is_due(&zero), "the active segment is not cleaned");
    }

    #[test]
    fn a_clean_end_outside_of_the_log_does_not_count() {
        let s = segments(&[100, 100, 100]);
        assert_eq!(first_dirty(&facts(&s, 25)), Offset(0), "above the active segment's base");
        assert_eq!(first_dirty(&LogFacts { log_start: Offset(12), ..facts(&s, 5) }), Offset(12));
    }

    #[test]
    fn young_and_unstable_segments_are_left_alone() {
        let s = segments(&[100, 100, 100, 100]);
        let end = |config: &LogConfig, facts: LogFacts<'_>| assess(&facts, config).first_uncleanable.0;
        let config = LogConfig { min_compaction_lag_ms: NOW - 1999, ..LogConfig::default() };
        assert_eq!(end(&config, facts(&s, 0)), 20, "1999 is as old as it has to be");
        let config = LogConfig { min_compaction_lag_ms: NOW - 1998, ..config };
        assert_eq!(end(&config, facts(&s, 0)), 10);
        let mut unknown = s.clone();
        unknown[0].max_timestamp = None;
        assert_eq!(end(&config, facts(&unknown, 0)), 0);
        let config = LogConfig::default();
        assert_eq!(end(&config, LogFacts { stable_end: Offset(29), ..facts(&s, 0) }), 20);
    }

    #[test]
    fn what_has_waited_for_too_long_makes_the_log_due_and_closes_the_active_segment() {
        let s = segments(&[900, 100, 100]);
        let config = LogConfig { max_compaction_lag_ms: NOW - 1000, ..LogConfig::default() };
        assert!(!assess(&facts(&s, 10), &config).is_overdue);
        let config = LogConfig { max_compaction_lag_ms: NOW - 1001, ..LogConfig::default() };
        let overdue = assess(&facts(&s, 10), &config);
        assert!(overdue.is_overdue && overdue.is_due(&config));
        assert!(!must_roll(&s[2], &config, NOW));
        assert!(must_roll(&s[2], &config, NOW + 1000));
        assert!(!must_roll(&SegmentMeta::new(Offset(0)), &config, NOW + 1000));
        assert!(!must_roll(&s[2], &LogConfig::default(), NOW + 1000));
    }

    #[test]
    fn neighbours_become_one_within_the_limits_of_a_segment() {
        let config = LogConfig { segment_bytes: 100, index_interval_bytes: 1, ..LogConfig::default() };
        let growing = Growing { base_offset: Offset(5), size: 60 };
        let next = |size| SegmentMeta { size, ..SegmentMeta::new(Offset(20)) };
        assert!(fits(growing, &next(40), Offset(30), &config));
        assert!(!fits(growing, &next(41), Offset(30), &config));
        assert!(!fits(growing, &next(1), Offset(6 + i32::MAX as i64), &config));
        let few_entries = LogConfig { segment_index_bytes: 99 * 8, ..config };
        assert!(!fits(growing, &next(40), Offset(30), &few_entries));
        assert!(fits(growing, &next(39), Offset(30), &few_entries));
    }
}
