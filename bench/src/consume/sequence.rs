//! Whether every record of every source arrives once and in order: a pure core, one for each partition.

use std::collections::BTreeMap;

/// So many gaps are remembered; what fills an older one counts as a repetition.
const MOST_GAPS: usize = 65_536;

/// How a record stands to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The next one.
    Next,
    /// So many before it have not come.
    After(u64),
    /// It fills a gap: it comes later than its successors.
    Late,
    /// It has been there already.
    Again,
}

impl Place {
    /// What a live line calls it, unless it is as it should be.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Place::Next => None,
            Place::After(_) => Some("GAP"),
            Place::Late => Some("LATE"),
            Place::Again => Some("AGAIN"),
        }
    }
}

/// The records of one source.
#[derive(Debug, Clone, Default)]
struct Sequence {
    next: u64,
    /// Gaps by their beginnings, with their ends.
    gaps: BTreeMap<u64, u64>,
    /// Records that came, each counted once.
    distinct: u64,
}

impl Sequence {
    fn see(&mut self, number: u64) -> Place {
        if number == self.next {
            self.next += 1;
            self.distinct += 1;
            return Place::Next;
        }
        if number > self.next {
            let missing = number - self.next;
            if self.gaps.len() < MOST_GAPS {
                self.gaps.insert(self.next, number);
            }
            self.next = number + 1;
            self.distinct += 1;
            return Place::After(missing);
        }
        let gap = self.gaps.range(..=number).next_back().map(|(from, until)| (*from, *until));
        match gap {
            Some((from, until)) if number < until => {
                self.gaps.remove(&from);
                if from < number {
                    self.gaps.insert(from, number);
                }
                if number + 1 < until {
                    self.gaps.insert(number + 1, until);
                }
                self.distinct += 1;
                Place::Late
            }
            _ => Place::Again,
        }
    }
}

/// The sources of one partition.
#[derive(Debug, Default)]
pub struct Sequences {
    sources: Vec<(u32, Sequence)>,
    /// Where the source of the last record is.
    last: usize,
    /// Whether reading began with the partition's first record, so that each source must begin with its own.
    from_first: bool,
}

impl Sequences {
    /// Nothing read yet.
    pub fn new(from_first: bool) -> Sequences {
        Sequences { from_first, ..Sequences::default() }
    }

    /// Record `number` of `source` has arrived.
    #[inline]
    pub fn see(&mut self, source: u32, number: u64) -> Place {
        if self.sources.get(self.last).is_none_or(|(known, _)| *known != source) {
            self.last = self.position(source, number);
        }
        self.sources[self.last].1.see(number)
    }

    fn position(&mut self, source: u32, number: u64) -> usize {
        self.sources.iter().position(|(known, _)| *known == source).unwrap_or_else(|| {
            let next = if self.from_first { 0 } else { number };
            self.sources.push((source, Sequence { next, ..Sequence::default() }));
            self.sources.len() - 1
        })
    }

    /// How many different records of each source have come.
    pub fn distinct(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.sources.iter().map(|(source, sequence)| (*source, sequence.distinct))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn see(sequences: &mut Sequences, numbers: &[u64]) -> Vec<Place> {
        numbers.iter().map(|number| sequences.see(7, *number)).collect()
    }

    #[test]
    fn records_in_order_are_all_that_is_wanted() {
        let mut sequences = Sequences::new(true);
        assert!((0..1000).all(|number| sequences.see(7, number) == Place::Next));
        assert!((0..1000).all(|number| sequences.see(8, number) == Place::Next), "each source for itself");
        assert_eq!(sequences.distinct().collect::<Vec<_>>(), [(7, 1000), (8, 1000)]);
    }

    #[test]
    fn a_gap_a_repetition_and_a_late_record_are_told_apart() {
        use Place::{After, Again, Late, Next};
        let mut sequences = Sequences::new(true);
        let seen = see(&mut sequences, &[0, 1, 5, 1, 3, 3, 2, 4, 4, 6, 5]);
        assert_eq!(seen, [Next, Next, After(3), Again, Late, Again, Late, Late, Again, Next, Again]);
        assert_eq!(sequences.distinct().collect::<Vec<_>>(), [(7, 7)]);
    }

    #[test]
    fn who_begins_in_the_middle_accepts_the_first_number_and_no_gap_behind_it() {
        let mut sequences = Sequences::new(false);
        assert_eq!(see(&mut sequences, &[41, 42, 44]), [Place::Next, Place::Next, Place::After(1)]);
        let mut sequences = Sequences::new(true);
        assert_eq!(see(&mut sequences, &[41]), [Place::After(41)]);
    }

    #[test]
    fn gaps_without_end_take_no_memory_without_end() {
        let mut sequences = Sequences::new(true);
        for number in 0..200_000u64 {
            assert!(matches!(sequences.see(7, number * 2 + 1), Place::After(1)));
        }
        assert!(sequences.sources[0].1.gaps.len() <= MOST_GAPS);
    }
}
