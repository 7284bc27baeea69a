//! Where a reset leads: pure computation, and the file format of offsets.

use std::collections::BTreeMap;

use crate::client::TopicPartition;

/// What is known of a partition before a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// What the group has committed.
    pub committed: Option<i64>,
    /// The first offset that is there.
    pub start: i64,
    /// The end.
    pub end: i64,
}

/// Where a partition's committed offset should go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// To an offset.
    Offset(i64),
    /// So far forwards, or, if negative, backwards.
    Shift(i64),
    /// To the first record of a time, which the broker has found; `None`: all records are older.
    Time(Option<i64>),
}

/// A partition of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The new offset; `None`: it stays.
    pub new: Option<i64>,
    /// What a person should know about it.
    pub note: &'static str,
}

/// Where `target` leads in a partition: never to where there is no record.
pub fn step(target: Target, known: Known) -> Step {
    let wanted = match (target, known.committed) {
        (Target::Offset(offset), _) => offset,
        (Target::Shift(by), Some(committed)) => committed.saturating_add(by),
        (Target::Shift(_), None) => return Step { new: None, note: "nothing committed: stays so" },
        (Target::Time(Some(offset)), _) => offset,
        (Target::Time(None), _) => {
            return Step { new: Some(known.end), note: "all records are older: to the end" };
        }
    };
    let new = wanted.clamp(known.start, known.end);
    let note = match wanted {
        wanted if wanted < known.start => "first record is later: to the beginning",
        wanted if wanted > known.end => "beyond the end: to the end",
        _ if known.committed == Some(new) => "is there already",
        _ => "",
    };
    Step { new: Some(new), note }
}

/// Reads lines of `topic,partition,offset`, as `--export` and Kafka's own tool write them; also with a group in front, if it is
/// `group`. The error says which line is wrong.
pub fn parse_offsets(text: &str, group: &str) -> Result<BTreeMap<TopicPartition, i64>, String> {
    let mut offsets = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fields: Vec<&str> = line.split(',').map(|field| field.trim().trim_matches('"')).collect();
        let (topic, partition, offset) = match fields[..] {
            [topic, partition, offset] => (topic, partition, offset),
            [of, topic, partition, offset] if of == group => (topic, partition, offset),
            [_, _, _, _] => continue,
            _ => return Err(format!("line {}: '{line}' is not topic,partition,offset", number + 1)),
        };
        match (partition.parse::<i32>(), offset.parse::<i64>()) {
            (Ok(partition), Ok(offset)) if partition >= 0 && offset >= 0 => {
                if offsets.insert(TopicPartition::new(topic, partition), offset).is_some() {
                    return Err(format!("line {}: {topic}-{partition} stands there twice", number + 1));
                }
            }
            _ => return Err(format!("line {}: '{line}' is not topic,partition,offset", number + 1)),
        }
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known = Known { committed: Some(50), start: 10, end: 100 };

    #[test]
    fn a_step_never_leads_to_where_no_record_is() {
        for (target, new) in [
            (Target::Offset(70), Some(70)),
            (Target::Offset(0), Some(10)),
            (Target::Offset(i64::MAX), Some(100)),
            (Target::Shift(-20), Some(30)),
            (Target::Shift(i64::MIN), Some(10)),
            (Target::Shift(i64::MAX), Some(100)),
            (Target::Time(Some(42)), Some(42)),
            (Target::Time(None), Some(100)),
        ] {
            assert_eq!(step(target, KNOWN).new, new, "{target:?}");
        }
    }

    #[test]
    fn what_was_never_committed_cannot_be_shifted_but_set() {
        let fresh = Known { committed: None, ..KNOWN };
        assert_eq!(step(Target::Shift(5), fresh).new, None);
        assert_eq!(step(Target::Offset(20), fresh), Step { new: Some(20), note: "" });
        assert_eq!(step(Target::Offset(50), KNOWN).note, "is there already");
    }

    #[test]
    fn files_of_offsets_are_read_with_and_without_a_group() {
        let text = "# saved before the migration\n\"t\",0,5\ng,t,1,6\nother,t,2,7\n\n";
        let offsets = parse_offsets(text, "g").expect("read");
        let expected = [(TopicPartition::new("t", 0), 5), (TopicPartition::new("t", 1), 6)];
        assert_eq!(offsets, BTreeMap::from(expected));
        for bad in ["t,0", "t,x,1", "t,0,-1", "t,0,1\nt,0,2"] {
            assert!(parse_offsets(bad, "g").is_err_and(|reason| reason.starts_with("line ")), "{bad}");
        }
    }
}
