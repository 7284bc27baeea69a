//! How long the journal's commits take.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use storage::store::CommitEvent;

use super::{Histogram, Samples};

/// One shard's commits. They are written one at a time.
#[derive(Debug, Default)]
pub struct CommitMetrics {
    /// Since when one is being written.
    begun: Cell<Option<Instant>>,
    took: RefCell<Histogram>,
}

impl CommitMetrics {
    /// Takes note of what the journal has done.
    pub fn note(&self, event: CommitEvent<'_>) {
        match event {
            CommitEvent::Readable => self.begun.set(Some(Instant::now())),
            CommitEvent::Done => {
                if let Some(begun) = self.begun.take() {
                    let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                    self.took.borrow_mut().record(took);
                }
            }
            CommitEvent::Durable(_) => {}
        }
    }

    /// Adds count, sum and quantiles.
    pub fn collect(&self, shard: &str, samples: &mut Samples) {
        samples.summary(
            "broker_journal_commit_time_ms",
            "Milliseconds that a commit of the journal took to be written, and synced unless its topics ask for less.",
            &[("shard", shard)],
            &self.took.borrow(),
            1e-3,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_counts_once_it_is_done() {
        let commits = CommitMetrics::default();
        for event in [CommitEvent::Done, CommitEvent::Readable, CommitEvent::Durable(&[])] {
            commits.note(event);
        }
        assert_eq!(commits.took.borrow().count(), 0, "one began before this listened, one goes on");
        commits.note(CommitEvent::Done);
        assert_eq!(commits.took.borrow().count(), 1);
        let mut samples = Samples::default();
        commits.collect("3", &mut samples);
        assert!(samples.to_text().contains("\nbroker_journal_commit_time_ms_count{shard=\"3\"} 1\n"));
    }
}
