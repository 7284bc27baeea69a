//! Which segments retention lets go of. Pure; `UnifiedLog.deleteOldSegments`.

use crate::log::config::LogConfig;
use crate::log::segment::SegmentMeta;
use crate::types::Offset;

/// Why the log start offset moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetentionReason {
    /// `retention.ms`.
    Time,
    /// `retention.bytes`.
    Size,
    /// The segment lies wholly below the log start offset (delete-records).
    LogStartOffset,
}

/// How many segments from the front may go, given what is known, and what has to be found out to decide further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetentionDecision {
    /// Nothing goes.
    Keep,
    /// The oldest segment goes.
    DeleteFirst(RetentionReason),
    /// The largest timestamp of the oldest segment must be read first.
    NeedTimestamp,
}

/// The facts about a log that retention looks at.
#[derive(Debug, Clone, Copy)]
pub struct RetentionFacts<'a> {
    /// The oldest segment.
    pub first: &'a SegmentMeta,
    /// Offset after its last: the base of the next segment, or the log end offset.
    pub first_end: Offset,
    /// Whether it is the only (active) segment.
    pub first_is_active: bool,
    /// Bytes in all segments and in the tail that is not in a segment yet.
    pub total_bytes: u64,
    /// The log start offset.
    pub log_start_offset: Offset,
    /// Nothing at or above this goes.
    pub high_watermark: Offset,
    /// The clock. Milliseconds since the epoch.
    pub now_ms: i64,
}

/// Decides about the oldest segment.
pub fn decide(facts: RetentionFacts<'_>, config: &LogConfig) -> RetentionDecision {
    let RetentionFacts { first, .. } = facts;
    if (first.size == 0 && facts.first_is_active) || facts.first_end > facts.high_watermark {
        return RetentionDecision::Keep;
    }
    if facts.first_end <= facts.log_start_offset && !facts.first_is_active {
        return RetentionDecision::DeleteFirst(RetentionReason::LogStartOffset);
    }
    if !config.cleanup_delete {
        return RetentionDecision::Keep;
    }
    if first.size == 0 {
        // Compaction has emptied it: it must not stand in the way of the next.
        return RetentionDecision::DeleteFirst(RetentionReason::Time);
    }
    if config.retention_bytes >= 0
        && facts.total_bytes.saturating_sub(first.size) >= config.retention_bytes as u64
        && (!facts.first_is_active || config.retention_bytes == 0)
    {
        return RetentionDecision::DeleteFirst(RetentionReason::Size);
    }
    if config.retention_ms >= 0 {
        let Some(largest) = first.max_timestamp else {
            return RetentionDecision::NeedTimestamp;
        };
        // Without any timestamp there is nothing to judge by; size retention still applies.
        if largest >= 0 && facts.now_ms.saturating_sub(largest) > config.retention_ms {
            return RetentionDecision::DeleteFirst(RetentionReason::Time);
        }
    }
    RetentionDecision::Keep
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(first: &SegmentMeta) -> RetentionFacts<'_> {
        RetentionFacts {
            first,
            first_end: Offset(100),
            first_is_active: false,
            total_bytes: 3000,
            log_start_offset: Offset(0),
            high_watermark: Offset(300),
            now_ms: 10_000,
        }
    }

    fn segment() -> SegmentMeta {
        SegmentMeta {
            base_offset: Offset(0),
            size: 1000,
            max_timestamp: Some(5000),
            first_timestamp: Some(0),
            revision: 0,
        }
    }

    fn keep_all() -> LogConfig {
        LogConfig { retention_ms: -1, retention_bytes: -1, ..LogConfig::default() }
    }

    #[test]
    fn a_segment_goes_when_its_newest_record_is_too_old() {
        let s = segment();
        let config = LogConfig { retention_ms: 4999, ..keep_all() };
        assert_eq!(decide(facts(&s), &config), RetentionDecision::DeleteFirst(RetentionReason::Time));
        let config = LogConfig { retention_ms: 5000, ..keep_all() };
        assert_eq!(decide(facts(&s), &config), RetentionDecision::Keep);
        let unknown = SegmentMeta { max_timestamp: None, ..s };
        assert_eq!(decide(facts(&unknown), &config), RetentionDecision::NeedTimestamp);
        let timeless = SegmentMeta { max_timestamp: Some(-1), ..s };
        assert_eq!(decide(facts(&timeless), &config), RetentionDecision::Keep);
    }

    #[test]
    fn a_segment_goes_when_the_rest_is_still_large_enough() {
        let s = segment();
        let config = LogConfig { retention_bytes: 2000, ..keep_all() };
        assert_eq!(decide(facts(&s), &config), RetentionDecision::DeleteFirst(RetentionReason::Size));
        let config = LogConfig { retention_bytes: 2001, ..keep_all() };
        assert_eq!(decide(facts(&s), &config), RetentionDecision::Keep);
    }

    #[test]
    fn a_segment_below_the_log_start_offset_goes_whatever_the_policy() {
        let s = segment();
        let config = LogConfig { cleanup_delete: false, ..keep_all() };
        let f = RetentionFacts { log_start_offset: Offset(100), ..facts(&s) };
        assert_eq!(decide(f, &config), RetentionDecision::DeleteFirst(RetentionReason::LogStartOffset));
        let f = RetentionFacts { log_start_offset: Offset(99), ..facts(&s) };
        assert_eq!(decide(f, &config), RetentionDecision::Keep);
    }

    #[test]
    fn a_segment_that_compaction_has_emptied_goes_at_once() {
        let s = SegmentMeta { size: 0, max_timestamp: Some(-1), ..segment() };
        assert_eq!(decide(facts(&s), &keep_all()), RetentionDecision::DeleteFirst(RetentionReason::Time));
        let active = RetentionFacts { first_is_active: true, ..facts(&s) };
        assert_eq!(decide(active, &keep_all()), RetentionDecision::Keep);
        let compact = LogConfig { cleanup_delete: false, cleanup_compact: true, ..keep_all() };
        assert_eq!(decide(facts(&s), &compact), RetentionDecision::Keep);
    }

    #[test]
    fn nothing_above_the_high_watermark_goes_and_compacted_logs_stay() {
        let s = segment();
        let config = LogConfig { retention_ms: 1, retention_bytes: 0, ..keep_all() };
        let f = RetentionFacts { high_watermark: Offset(99), ..facts(&s) };
        assert_eq!(decide(f, &config), RetentionDecision::Keep);
        let config = LogConfig { cleanup_delete: false, cleanup_compact: true, ..config };
        assert_eq!(decide(facts(&s), &config), RetentionDecision::Keep);
    }
}
