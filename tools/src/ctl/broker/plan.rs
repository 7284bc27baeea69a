//! Where the replicas of a broker that leaves go: pure computation.
//!
//! Each replica is replaced in its place of the list by a broker that does not hold the partition yet: one on a rack that the others are not on, as far as there
//! are such racks; of these the one that has least to do (leads least, for a preferred leader; holds least otherwise), counting what the plan gave it before.

use std::collections::{BTreeMap, BTreeSet};

use crate::client::{ClusterBroker, Topic, TopicPartition};
use crate::ctl::partition::moves::Moves;

/// What a broker has to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Duties {
    /// Partitions of which it is the preferred leader.
    leads: usize,
    /// Partitions that it holds.
    holds: usize,
}

/// Moves everything off `leaving`. Partitions that are being moved count by the replicas that they will have.
///
/// # Errors
/// A partition for which there is no other broker.
pub fn plan(topics: &[Topic], brokers: &[ClusterBroker], leaving: i32) -> Result<Moves, TopicPartition> {
    let candidates: Vec<&ClusterBroker> =
        brokers.iter().filter(|broker| broker.id != leaving && !broker.is_fenced).collect();
    let racks: BTreeMap<i32, Option<&str>> =
        brokers.iter().map(|broker| (broker.id, broker.rack.as_deref())).collect();
    let mut duties: BTreeMap<i32, Duties> = BTreeMap::new();
    for partition in topics.iter().flat_map(|topic| &topic.partitions) {
        for (place, broker) in partition.replicas.iter().enumerate() {
            let duties = duties.entry(*broker).or_default();
            duties.leads += usize::from(place == 0);
            duties.holds += 1;
        }
    }
    let mut moves = Moves::new();
    for topic in topics {
        for partition in &topic.partitions {
            let Some(place) = partition.replicas.iter().position(|broker| *broker == leaving) else {
                continue;
            };
            let id = TopicPartition::new(&topic.name, partition.index);
            let others: Vec<i32> =
                partition.replicas.iter().copied().filter(|broker| *broker != leaving).collect();
            let taken: BTreeSet<&str> =
                others.iter().filter_map(|broker| racks.get(broker).copied().flatten()).collect();
            let free = candidates.iter().filter(|broker| !others.contains(&broker.id));
            let best = free.min_by_key(|broker| {
                let Duties { leads, holds } = duties.get(&broker.id).copied().unwrap_or_default();
                let shares_rack = broker.rack.as_deref().is_some_and(|rack| taken.contains(rack));
                (shares_rack, if place == 0 { leads } else { 0 }, holds, broker.id)
            });
            let Some(heir) = best.map(|broker| broker.id) else { return Err(id) };
            let given = duties.entry(heir).or_default();
            given.leads += usize::from(place == 0);
            given.holds += 1;
            let mut replicas = partition.replicas.clone();
            replicas[place] = heir;
            moves.insert(id, replicas);
        }
    }
    Ok(moves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Partition;

    fn broker(id: i32, rack: Option<&str>) -> ClusterBroker {
        ClusterBroker { id, address: String::new(), rack: rack.map(str::to_owned), is_fenced: false }
    }

    fn topic(name: &str, partitions: &[&[i32]]) -> Topic {
        let partition = |(index, replicas): (usize, &&[i32])| Partition {
            index: index as i32,
            leader: replicas[0],
            leader_epoch: 0,
            replicas: replicas.to_vec(),
            in_sync_replicas: replicas.to_vec(),
        };
        let partitions = partitions.iter().enumerate().map(partition).collect();
        Topic { name: name.to_owned(), partitions, ..Topic::default() }
    }

    #[test]
    fn what_a_broker_led_and_held_is_shared_out_and_everything_else_stays() {
        let brokers: Vec<ClusterBroker> = (1..=4).map(|id| broker(id, None)).collect();
        let lists: Vec<&[i32]> =
            vec![&[1, 2], &[1, 3], &[1, 4], &[2, 1], &[3, 1], &[4, 1], &[2, 3], &[3, 4], &[4, 2]];
        let moves = plan(&[topic("t", &lists)], &brokers, 1).expect("there are others");
        assert_eq!(moves.len(), 6, "what it does not hold stays: {moves:?}");
        let mut leads: BTreeMap<i32, usize> = BTreeMap::new();
        let mut holds: BTreeMap<i32, usize> = BTreeMap::new();
        for (index, before) in lists.iter().enumerate() {
            let now = moves.get(&TopicPartition::new("t", index as i32)).map_or(*before, |now| now);
            assert!(!now.contains(&1) && now[0] != now[1], "{now:?}");
            let place = before.iter().position(|broker| *broker == 1);
            assert!((0..2).all(|at| Some(at) == place || now[at] == before[at]), "{before:?} → {now:?}");
            *leads.entry(now[0]).or_default() += 1;
            now.iter().for_each(|broker| *holds.entry(*broker).or_default() += 1);
        }
        // One replica after the other is placed, so it need not come out quite even.
        for counts in [leads, holds] {
            let (most, least) = (counts.values().max(), counts.values().min());
            assert!(counts.len() == 3 && most <= least.map(|least| least + 2).as_ref(), "{counts:?}");
        }
    }

    #[test]
    fn a_rack_that_the_other_replicas_are_not_on_comes_before_a_broker_with_less_to_do() {
        let brokers =
            [broker(1, Some("a")), broker(2, Some("b")), broker(3, Some("b")), broker(4, Some("a"))];
        // 4 has most to do, but is alone on the rack that the partition would lose.
        let topics = [topic("busy", &[&[4], &[4], &[4]]), topic("t", &[&[1, 2]])];
        let moves = plan(&topics, &brokers, 1).expect("there are others");
        assert_eq!(moves, Moves::from([(TopicPartition::new("t", 0), vec![4, 2])]));
    }

    #[test]
    fn fenced_brokers_get_nothing_and_a_partition_that_cannot_go_anywhere_is_named() {
        let mut brokers = vec![broker(1, None), broker(2, None), broker(3, None)];
        brokers[2].is_fenced = true;
        assert_eq!(plan(&[topic("t", &[&[2], &[1, 2]])], &brokers, 1), Err(TopicPartition::new("t", 1)));
        assert_eq!(plan(&[topic("t", &[&[1]])], &brokers, 1).map(|moves| moves.len()), Ok(1));
    }
}
