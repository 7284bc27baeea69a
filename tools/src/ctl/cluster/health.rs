//! How partitions are: which have no leader, which lack replicas, and how far each replica is behind. Pure, but for asking replicas where they end.

use std::collections::{BTreeMap, BTreeSet};

use crate::client::{Client, ClientError, Partition, Reassignment, Topic, TopicPartition};

/// What there is to say about one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionHealth {
    /// Which.
    pub partition: TopicPartition,
    /// Who leads, or -1.
    pub leader: i32,
    /// All replicas, preferred leader first.
    pub replicas: Vec<i32>,
    /// Those in sync.
    pub in_sync: Vec<i32>,
    /// Nobody leads it.
    pub is_offline: bool,
    /// Not all of its replicas are in sync; those that a reassignment adds do not count.
    pub is_under_replicated: bool,
    /// Fewer are in sync than `min.insync.replicas`: producers with acks=all are refused.
    pub is_under_min_isr: bool,
    /// A reassignment is under way.
    pub is_moving: bool,
    /// Records that followers lack, by broker; without those that did not answer.
    pub lags: BTreeMap<i32, i64>,
}

impl PartitionHealth {
    /// Whether an operator should look at it.
    pub fn is_worth_a_look(&self) -> bool {
        self.is_offline || self.is_under_replicated || self.is_under_min_isr || self.is_moving
    }

    /// What is to be said about it, in words.
    pub fn states(&self) -> Vec<&'static str> {
        let states = [
            (self.is_offline, "offline"),
            (self.is_under_replicated, "under-replicated"),
            (self.is_under_min_isr, "under min.insync.replicas"),
            (self.is_moving, "moving"),
        ];
        states.into_iter().filter_map(|(holds, text)| holds.then_some(text)).collect()
    }
}

/// Whether some replica is not in sync that no reassignment adds.
pub fn lacks_replicas(partition: &Partition, moving: Option<&Reassignment>) -> bool {
    let adding = moving.map_or(0, |moving| moving.adding.len());
    partition.in_sync_replicas.len() + adding < partition.replicas.len()
}

/// Judges all partitions; `min_insync_replicas` of topics that lack replicas.
pub fn judge(
    topics: &[Topic],
    reassignments: &[Reassignment],
    min_insync_replicas: &BTreeMap<String, usize>,
) -> Vec<PartitionHealth> {
    let moving: BTreeMap<&TopicPartition, &Reassignment> =
        reassignments.iter().map(|moving| (&moving.partition, moving)).collect();
    let judge_one = |topic: &Topic, found: &Partition| {
        let partition = TopicPartition::new(&topic.name, found.index);
        let moving = moving.get(&partition).copied();
        let least = min_insync_replicas.get(&topic.name).copied().unwrap_or(1).min(found.replicas.len());
        PartitionHealth {
            leader: found.leader,
            replicas: found.replicas.clone(),
            in_sync: found.in_sync_replicas.clone(),
            is_offline: found.leader < 0,
            is_under_replicated: lacks_replicas(found, moving),
            is_under_min_isr: found.in_sync_replicas.len() < least,
            is_moving: moving.is_some(),
            lags: BTreeMap::new(),
            partition,
        }
    };
    topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(move |found| judge_one(topic, found)))
        .collect()
}

/// Asks for the lags of these partitions' replicas: first the leaders where their logs end, then the followers, so that no lag is made up by what
/// was appended in between. Brokers of `down` are not asked.
pub fn ask_lags(
    client: &mut Client,
    partitions: &mut [PartitionHealth],
    down: &BTreeSet<i32>,
) -> Result<(), ClientError> {
    let mut of_leaders: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
    let mut of_followers = of_leaders.clone();
    for health in partitions.iter().filter(|health| !health.is_offline) {
        for broker in health.replicas.iter().filter(|broker| !down.contains(broker)) {
            let side = if *broker == health.leader { &mut of_leaders } else { &mut of_followers };
            side.entry(*broker).or_default().push(health.partition.clone());
        }
    }
    let mut leader_ends = BTreeMap::new();
    for (broker, asked) in of_leaders {
        leader_ends.extend(ends_or_none(client, broker, &asked)?);
    }
    let mut ends = BTreeMap::new();
    for (broker, asked) in of_followers {
        ends.insert(broker, ends_or_none(client, broker, &asked)?);
    }
    for health in partitions {
        let Some(leader_end) = leader_ends.get(&health.partition) else { continue };
        let lags = ends.iter().filter_map(|(broker, ends)| {
            ends.get(&health.partition).map(|end| (*broker, (leader_end - end).max(0)))
        });
        health.lags = lags.collect();
    }
    Ok(())
}

/// A broker that cannot be reached, or does not answer such questions, says nothing; the picture is drawn without it.
fn ends_or_none(
    client: &mut Client,
    broker: i32,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
    match client.replica_ends(broker, partitions) {
        Err(error) if error.is_passing() || matches!(error, ClientError::Unsupported { .. }) => {
            Ok(BTreeMap::new())
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(index: i32, leader: i32, replicas: &[i32], in_sync: &[i32]) -> Partition {
        Partition {
            index,
            leader,
            leader_epoch: 0,
            replicas: replicas.to_vec(),
            in_sync_replicas: in_sync.to_vec(),
        }
    }

    #[test]
    fn a_partition_is_judged_by_leader_in_sync_replicas_and_what_is_being_moved() {
        let topic = Topic {
            name: "t".to_owned(),
            partitions: vec![
                partition(0, 1, &[1, 2, 3], &[1, 2, 3]),
                partition(1, 1, &[1, 2, 3], &[1, 2]),
                partition(2, 1, &[1, 2, 3], &[1]),
                partition(3, -1, &[3], &[3]),
                partition(4, 1, &[4, 1, 2], &[1, 2]),
            ],
            ..Topic::default()
        };
        let moving = Reassignment {
            partition: TopicPartition::new("t", 4),
            replicas: vec![4, 1, 2],
            adding: vec![4],
            removing: vec![1],
        };
        let judged = judge(&[topic], &[moving], &BTreeMap::from([("t".to_owned(), 2)]));
        let states: Vec<String> = judged.iter().map(|health| health.states().join(" and ")).collect();
        assert_eq!(
            states,
            [
                "",
                "under-replicated",
                "under-replicated and under min.insync.replicas",
                "offline",
                // What it had before the reassignment is in sync.
                "moving",
            ]
        );
        assert_eq!(judged.iter().filter(|health| health.is_worth_a_look()).count(), 4);
    }
}
