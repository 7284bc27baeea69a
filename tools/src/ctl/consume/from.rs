//! Where reading starts and stops.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::client::{Client, ClientError, OffsetSpec, Topic, TopicPartition};
use crate::ctl::time::{MOMENT_HELP, moment};

/// A position in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// A position that the broker knows.
    Spec(OffsetSpec),
    /// An offset.
    Offset(i64),
    /// So many records before the end of each partition.
    BeforeEnd(i64),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<From, String> {
        match text {
            "earliest" | "beginning" => Ok(From::Spec(OffsetSpec::Earliest)),
            "latest" | "end" => Ok(From::Spec(OffsetSpec::Latest)),
            _ => {
                if let Some(at) = text.strip_prefix('@') {
                    return moment(at).map(|at| From::Spec(OffsetSpec::Timestamp(at)));
                }
                let wrong = |_| {
                    format!(
                        "'{text}': write earliest, latest, an offset, -N for the last N, or @TIME ({MOMENT_HELP})"
                    )
                };
                match text.parse::<i64>().map_err(wrong)? {
                    offset if offset < 0 => Ok(From::BeforeEnd(offset.saturating_neg())),
                    offset => Ok(From::Offset(offset)),
                }
            }
        }
    }
}

impl From {
    /// The offset that this is in each of `partitions`, whose ends are `latest`. A time after all records is the end.
    pub fn resolve<'a>(
        self,
        client: &mut Client,
        topics: impl IntoIterator<Item = &'a Topic>,
        partitions: &[TopicPartition],
        latest: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
        let end = |partition: &TopicPartition| latest.get(partition).copied().unwrap_or_default();
        match self {
            From::Spec(OffsetSpec::Latest) => Ok(latest.clone()),
            From::Spec(spec) => {
                let mut offsets = client.offsets(topics, partitions, spec)?;
                for (partition, offset) in offsets.iter_mut().filter(|(_, offset)| **offset < 0) {
                    *offset = end(partition);
                }
                Ok(offsets)
            }
            From::Offset(offset) => {
                Ok(partitions.iter().map(|partition| (partition.clone(), offset)).collect())
            }
            From::BeforeEnd(count) => {
                let mut offsets = client.offsets(topics, partitions, OffsetSpec::Earliest)?;
                for (partition, offset) in &mut offsets {
                    *offset = (*offset).max(end(partition).saturating_sub(count));
                }
                Ok(offsets)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_names_offsets_distances_and_times() {
        assert_eq!("earliest".parse(), Ok(From::Spec(OffsetSpec::Earliest)));
        assert_eq!("latest".parse(), Ok(From::Spec(OffsetSpec::Latest)));
        assert_eq!("42".parse(), Ok(From::Offset(42)));
        assert_eq!("-10".parse(), Ok(From::BeforeEnd(10)));
        assert_eq!("@1700000000000".parse(), Ok(From::Spec(OffsetSpec::Timestamp(1_700_000_000_000))));
        assert_eq!("@1970-01-02".parse(), Ok(From::Spec(OffsetSpec::Timestamp(86_400_000))));
        for bad in ["", "soon", "@", "@-3", "1.5"] {
            assert!(bad.parse::<From>().is_err(), "{bad} was accepted");
        }
    }
}
