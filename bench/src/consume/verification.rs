//! What was found wrong with what was read.

use serde::Serialize;

use super::sequence::Place;

/// Counts of all that can be wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Records whose checksum and number were looked at.
    pub checked: u64,
    /// Records that never came: gaps in the numbers of a source.
    pub lost: u64,
    /// Records that came again.
    pub duplicated: u64,
    /// Records that came after their successors.
    pub reordered: u64,
    /// Records whose bytes have changed.
    pub damaged: u64,
    /// Batches whose CRC is wrong, or whose offsets do not follow those before.
    pub wrong_batches: u64,
    /// Records of other programs, which cannot be checked.
    pub foreign: u64,
    /// The first thing that was wrong.
    pub first: Option<String>,
}

impl Verification {
    /// Counts a record; `describe` says where it was, should it be wrong.
    #[inline]
    pub fn place(&mut self, place: Place, describe: impl Fn() -> String) {
        self.checked += 1;
        match place {
            Place::Next => return,
            Place::After(missing) => self.lost += missing,
            Place::Again => self.duplicated += 1,
            Place::Late => {
                self.lost = self.lost.saturating_sub(1);
                self.reordered += 1;
            }
        }
        self.note(|| {
            let what = match place {
                Place::After(missing) => format!("{missing} records of its source are missing before it"),
                Place::Again => "it has been read before".to_owned(),
                Place::Late | Place::Next => "it comes after its successors".to_owned(),
            };
            format!("{}: {what}", describe())
        });
    }

    /// Counts a damaged record.
    pub fn damaged(&mut self, describe: impl Fn() -> String) {
        self.checked += 1;
        self.damaged += 1;
        self.note(|| format!("{}: its bytes do not have its checksum", describe()));
    }

    /// Sets the number of lost records, for who knows what there should have been: gaps may be records that were never acknowledged, and behind the
    /// last record there is no gap.
    pub fn settle_lost(&mut self, lost: u64) {
        self.lost = lost;
        if lost > 0 {
            self.note(|| format!("{lost} acknowledged records never came"));
        }
    }

    /// Counts a wrong batch.
    pub fn wrong_batch(&mut self, what: String) {
        self.wrong_batches += 1;
        self.note(|| what);
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        self.first.get_or_insert_with(what);
    }

    /// Whether nothing was wrong.
    pub fn is_sound(&self) -> bool {
        self.violations() == 0
    }

    /// All that was wrong together.
    pub fn violations(&self) -> u64 {
        self.lost + self.duplicated + self.reordered + self.damaged + self.wrong_batches
    }

    /// Adds another reader's.
    pub fn add(&mut self, other: Verification) {
        self.checked += other.checked;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.damaged += other.damaged;
        self.wrong_batches += other.wrong_batches;
        self.foreign += other.foreign;
        self.first = self.first.take().or(other.first);
    }

    /// One line for people.
    pub fn text(&self) -> String {
        if self.checked == 0 && self.is_sound() {
            return "nothing to verify".to_owned();
        }
        if self.is_sound() {
            return format!("{} records: none lost, none twice, all in order, none damaged", self.checked);
        }
        format!(
            "{} records: {} LOST, {} TWICE, {} OUT OF ORDER, {} DAMAGED, {} WRONG BATCHES; first: {}",
            self.checked,
            self.lost,
            self.duplicated,
            self.reordered,
            self.damaged,
            self.wrong_batches,
            self.first.as_deref().unwrap_or("unknown")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_record_is_no_longer_lost() {
        let mut verification = Verification::default();
        for place in [Place::Next, Place::After(2), Place::Late, Place::Again] {
            verification.place(place, || "t-0 at offset 5".to_owned());
        }
        assert_eq!((verification.lost, verification.reordered, verification.duplicated), (1, 1, 1));
        assert!(!verification.is_sound());
        let text = verification.text();
        assert!(
            text.contains("1 LOST") && text.contains("t-0 at offset 5: 2 records of its source"),
            "{text}"
        );
    }

    #[test]
    fn foreign_records_are_no_violation() {
        let verification = Verification { foreign: 7, ..Verification::default() };
        assert!(verification.is_sound());
    }
}
