//! `flush.messages` and `flush.ms`: when what was only written has to be synced too. Pure.
//!
//! They matter with [`Durability::Write`] alone; otherwise everything is synced before it is acknowledged. A sync is the journal's, so it covers all
//! partitions of the shard: one topic's demand is every topic's gain.

use crate::{journal::Durability, log::config::LogConfig};

/// What of one log may not be synced yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Unsynced {
    /// Records since the last sync.
    records: i64,
    /// When the first of them came. Milliseconds.
    since_ms: i64,
    /// The commit that holds the last of them.
    last_commit: u64,
}

impl Unsynced {
    /// How durable an append of `records` records has to be; everything up to commit `synced` is synced.
    pub fn durability(
        &mut self,
        config: &LogConfig,
        at_least: Durability,
        synced: u64,
        records: i64,
        now_ms: i64,
    ) -> Durability {
        if at_least == Durability::Sync {
            return at_least;
        }
        if self.last_commit <= synced {
            *self = Self::default();
        }
        if self.records == 0 {
            self.since_ms = now_ms;
        }
        self.records = self.records.saturating_add(records);
        let is_due = self.records >= config.flush_messages
            || (config.flush_ms < i64::MAX && now_ms >= self.since_ms.saturating_add(config.flush_ms));
        if is_due { Durability::Sync } else { Durability::Write }
    }

    /// The append has gone to this commit.
    pub fn note(&mut self, commit: u64) {
        self.last_commit = commit;
    }

    /// When a sync is due although nothing more is appended.
    pub fn due_ms(&self, config: &LogConfig) -> Option<i64> {
        (self.records > 0 && config.flush_ms < i64::MAX)
            .then(|| self.since_ms.saturating_add(config.flush_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Durability::{Sync, Write};

    #[test]
    fn every_so_many_records_are_synced() {
        let config = LogConfig { flush_messages: 5, ..LogConfig::default() };
        let mut log = Unsynced::default();
        let mut synced = 0;
        let mut append = |commit: u64, records| {
            let durability = log.durability(&config, Write, synced, records, 0);
            log.note(commit);
            if durability == Sync {
                synced = commit;
            }
            durability
        };
        let asked: Vec<_> =
            [3, 1, 1, 4, 1, 9].iter().zip(1..).map(|(n, commit)| append(commit, *n)).collect();
        assert_eq!(asked, [Write, Write, Sync, Write, Sync, Sync]);
    }

    #[test]
    fn nothing_stays_unsynced_for_longer_than_so_long() {
        let config = LogConfig { flush_ms: 100, ..LogConfig::default() };
        let mut log = Unsynced::default();
        assert_eq!(log.due_ms(&config), None);
        assert_eq!(log.durability(&config, Write, 0, 1, 1_000), Write);
        log.note(1);
        assert_eq!(log.durability(&config, Write, 0, 1, 1_099), Write);
        log.note(2);
        assert_eq!(log.due_ms(&config), Some(1_100));
        assert_eq!(log.durability(&config, Write, 0, 1, 1_100), Sync);
        log.note(3);
        assert_eq!(log.durability(&config, Write, 3, 1, 1_101), Write, "the clock starts anew after a sync");
        log.note(4);
        assert_eq!(log.due_ms(&config), Some(1_201));
    }

    #[test]
    fn by_default_nothing_is_asked_for_and_what_is_synced_anyway_stays_so() {
        let mut log = Unsynced::default();
        assert_eq!(log.durability(&LogConfig::default(), Write, 0, i64::MAX - 1, 0), Write);
        assert_eq!(log.due_ms(&LogConfig::default()), None);
        assert_eq!(log.durability(&LogConfig::default(), Sync, 0, 1, 0), Sync);
    }
}
