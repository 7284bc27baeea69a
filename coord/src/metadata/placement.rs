//! Which brokers hold a new partition.
//!
//! The aims of Kafka's `StripedReplicaPlacer`: leaders spread evenly, replicas of one partition on as many racks as there are, fenced
//! brokers only where there are not enough others (and then never as leader).

use crate::error::CoordError;
use crate::metadata::image::{BrokerRegistration, MetadataImage};
use crate::types::BrokerId;

/// A list of replicas for each new partition, the preferred leader first.
pub fn place(
    image: &MetadataImage,
    partitions: usize,
    replication_factor: i16,
    random: &mut dyn FnMut() -> u64,
) -> Result<Vec<Box<[BrokerId]>>, CoordError> {
    let refuse = |problem: String| {
        let text = format!("Unable to replicate the partition {replication_factor} time(s): {problem}");
        CoordError::InvalidReplicationFactor(text)
    };
    let factor = usize::try_from(replication_factor).unwrap_or(0);
    if factor == 0 {
        return Err(refuse(format!(
            "Invalid replication factor {replication_factor}: the replication factor must be positive."
        )));
    }
    let active = striped(image, false, random);
    let fenced = striped(image, true, random);
    let registered = active.len() + fenced.len();
    if active.is_empty() {
        return Err(refuse("All brokers are currently fenced.".to_owned()));
    }
    if factor > registered {
        return Err(refuse(format!(
            "The target replication factor of {factor} cannot be reached because only {registered} broker(s) \
             are registered."
        )));
    }
    Ok((0..partitions).map(|partition| replicas(&active, &fenced, partition, factor)).collect())
}

/// Brokers that are (not) fenced, so that neighbours in the list are on different racks as far as possible; where racks and brokers
/// start is random, so that many small topics do not all land on the first broker.
fn striped<'a>(
    image: &'a MetadataImage,
    fenced: bool,
    random: &mut dyn FnMut() -> u64,
) -> Vec<&'a BrokerRegistration> {
    let mut racks: Vec<(Option<&str>, Vec<&BrokerRegistration>)> = Vec::new();
    for broker in image.brokers().filter(|broker| broker.fenced == fenced) {
        let rack = broker.rack.as_deref();
        match racks.iter_mut().find(|(name, _)| *name == rack) {
            Some((_, brokers)) => brokers.push(broker),
            None => racks.push((rack, vec![broker])),
        }
    }
    rotate(&mut racks, random);
    racks.iter_mut().for_each(|(_, brokers)| rotate(brokers, random));
    let longest = racks.iter().map(|(_, brokers)| brokers.len()).max().unwrap_or(0);
    (0..longest)
        .flat_map(|row| racks.iter().filter_map(move |(_, brokers)| brokers.get(row).copied()))
        .collect()
}

fn rotate<T>(list: &mut [T], random: &mut dyn FnMut() -> u64) {
    if list.len() > 1 {
        list.rotate_left((random() % list.len() as u64) as usize);
    }
}

fn replicas(
    active: &[&BrokerRegistration],
    fenced: &[&BrokerRegistration],
    partition: usize,
    factor: usize,
) -> Box<[BrokerId]> {
    let count = active.len();
    let leader = partition % count;
    let mut chosen: Vec<&BrokerRegistration> = vec![active[leader]];
    // Followers of one broker's partitions are not always the same brokers: the start of the search moves with each round.
    let shift = (partition / count) % count.saturating_sub(1).max(1);
    let followers =
        (0..count - 1).map(|step| active[(leader + 1 + (shift + step) % (count - 1).max(1)) % count]);
    let candidates: Vec<&BrokerRegistration> = followers.chain(fenced.iter().copied()).collect();
    while chosen.len() < factor {
        let free = |broker: &&&BrokerRegistration| chosen.iter().all(|c| c.id != broker.id);
        let other_rack =
            |broker: &&&BrokerRegistration| !broker.fenced && chosen.iter().all(|c| c.rack != broker.rack);
        let next = candidates
            .iter()
            .find(|broker| free(broker) && other_rack(broker))
            .or_else(|| candidates.iter().find(free))
            .expect("the replication factor is at most the number of registered brokers");
        chosen.push(next);
    }
    chosen.iter().map(|broker| broker.id).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use uuid::Uuid;

    use super::*;
    use crate::metadata::MetadataRecord;

    fn cluster(brokers: &[(i32, Option<&str>, bool)]) -> MetadataImage {
        let mut image = MetadataImage::new();
        for (id, rack, fenced) in brokers {
            let registration = BrokerRegistration {
                id: BrokerId(*id),
                incarnation_id: Uuid::from_u128(1),
                broker_epoch: image.next_offset(),
                fenced: *fenced,
                rack: rack.map(str::to_owned),
                endpoints: Vec::new(),
            };
            image.replay(&MetadataRecord::RegisterBroker(registration)).unwrap();
        }
        image
    }

    fn counter() -> impl FnMut() -> u64 {
        let mut state = 7u64;
        move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            state >> 33
        }
    }

    #[test]
    fn leaders_are_spread_evenly_and_replicas_are_distinct() {
        let image = cluster(&[(0, None, false), (1, None, false), (2, None, false), (3, None, false)]);
        let placed = place(&image, 400, 3, &mut counter()).unwrap();
        let mut leaders = BTreeMap::new();
        for replicas in &placed {
            *leaders.entry(replicas[0]).or_insert(0) += 1;
            let mut sorted = replicas.to_vec();
            sorted.sort();
            sorted.dedup();
            assert_eq!(sorted.len(), 3);
        }
        assert_eq!(leaders.into_values().collect::<Vec<_>>(), [100; 4]);
    }

    #[test]
    fn replicas_span_racks() {
        let racks =
            [(0, Some("a"), false), (1, Some("a"), false), (2, Some("b"), false), (3, Some("b"), false)];
        let image = cluster(&racks);
        for replicas in place(&image, 50, 2, &mut counter()).unwrap() {
            let rack = |id: BrokerId| image.broker(id).unwrap().rack.clone();
            assert_ne!(rack(replicas[0]), rack(replicas[1]));
        }
    }

    #[test]
    fn every_broker_holds_as_many_replicas_as_every_other_with_racks_and_without() {
        let on_racks = |racks: [&'static str; 6]| {
            let brokers: Vec<_> = (0..6).map(|id| (id, Some(racks[id as usize]), false)).collect();
            cluster(&brokers)
        };
        let without = cluster(&[0, 1, 2, 3, 4, 5].map(|id| (id, None, false)));
        for (image, factor) in [
            (on_racks(["a", "a", "a", "b", "b", "b"]), 2),
            (on_racks(["a", "a", "b", "b", "c", "c"]), 3),
            (without, 3),
        ] {
            let mut held = BTreeMap::new();
            for replicas in place(&image, 600, factor, &mut counter()).unwrap() {
                replicas.iter().for_each(|broker| *held.entry(*broker).or_insert(0) += 1);
            }
            assert_eq!(held.into_values().collect::<Vec<_>>(), [100 * i32::from(factor); 6]);
        }
    }

    #[test]
    fn fenced_brokers_come_last_and_never_lead() {
        let image = cluster(&[(0, None, true), (1, None, false), (2, None, false)]);
        for replicas in place(&image, 20, 2, &mut counter()).unwrap() {
            assert!(!replicas.contains(&BrokerId(0)));
        }
        for replicas in place(&image, 20, 3, &mut counter()).unwrap() {
            assert_eq!(replicas[2], BrokerId(0));
        }
    }

    #[test]
    fn unreachable_factors_are_refused_in_kafkas_words() {
        let image = cluster(&[(0, None, false)]);
        assert_eq!(
            place(&image, 1, 3, &mut counter()).unwrap_err().to_string(),
            "Unable to replicate the partition 3 time(s): The target replication factor of 3 cannot be reached because \
             only 1 broker(s) are registered."
        );
        let image = cluster(&[(0, None, true)]);
        assert_eq!(
            place(&image, 1, 1, &mut counter()).unwrap_err().to_string(),
            "Unable to replicate the partition 1 time(s): All brokers are currently fenced."
        );
    }
}
