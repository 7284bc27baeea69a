//! What assignors promise, checked on groups at random, and by example.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn topics(partition_counts: &[usize]) -> Vec<AssignableTopic> {
    let ids = (1..).map(Uuid::from_u128);
    ids.zip(partition_counts).map(|(id, &partition_count)| AssignableTopic { id, partition_count }).collect()
}

fn set(partitions: &[(u128, i32)]) -> Partitions {
    let one = |&(topic, partition): &(u128, i32)| {
        TopicIdPartition::new(Uuid::from_u128(topic), PartitionId(partition))
    };
    partitions.iter().map(one).collect()
}

/// A group whose members are named in order and own `targets`.
fn assign(
    assignor: Assignor,
    topics: &[AssignableTopic],
    targets: &[Partitions],
    wants: Option<&[Vec<usize>]>,
) -> Vec<Partitions> {
    let names: Vec<_> = (0..targets.len()).map(|index| format!("member-{index:04}")).collect();
    let members = names.iter().zip(targets);
    assignor.assign(&GroupSpec {
        topics: topics.to_vec(),
        members: members
            .map(|(name, target)| AssignableMember { member_id: name, instance_id: None, target })
            .collect(),
        subscriptions: wants.map_or(Subscriptions::Same, |wants| Subscriptions::Different(wants.to_vec())),
    })
}

fn nothing(members: usize) -> Vec<Partitions> {
    vec![Partitions::default(); members]
}

/// Every partition that somebody wants belongs to exactly one member, which wants it.
fn check_complete(
    topics: &[AssignableTopic],
    wants: &[Vec<usize>],
    assigned: &[Partitions],
) -> Result<(), TestCaseError> {
    let mut seen = BTreeSet::new();
    for (member, partitions) in assigned.iter().enumerate() {
        for partition in partitions.iter() {
            prop_assert!(seen.insert(partition), "{} has two owners", partition);
            let topic = topics.iter().position(|topic| topic.id == partition.topic_id);
            prop_assert!(
                topic.is_some_and(|topic| wants[member].contains(&topic)),
                "{} is not wanted",
                partition
            );
        }
    }
    let wanted: BTreeSet<usize> = wants.iter().flatten().copied().collect();
    let expected: usize = wanted.iter().map(|topic| topics[*topic].partition_count).sum();
    prop_assert_eq!(seen.len(), expected);
    Ok(())
}

fn moved(before: &[Partitions], after: &[Partitions]) -> usize {
    before.iter().zip(after).map(|(before, after)| before.difference(after).len()).sum()
}

/// Topics, members' subscriptions, and whom each partition belonged to (if it did, and whether or not that member still wants it).
fn groups() -> impl Strategy<Value = (Vec<usize>, Vec<Vec<usize>>, Vec<Option<prop::sample::Index>>)> {
    (prop::collection::vec(0usize..12, 1..6), 1usize..12).prop_flat_map(|(counts, members)| {
        let total: usize = counts.iter().sum::<usize>() + 3;
        let topic_count = counts.len();
        let wants =
            prop::collection::vec(prop::collection::btree_set(0..topic_count, 0..=topic_count), members)
                .prop_map(|wants| wants.into_iter().map(|topics| topics.into_iter().collect()).collect());
        let owners = prop::collection::vec(prop::option::weighted(0.8, any::<prop::sample::Index>()), total);
        (Just(counts), wants, owners)
    })
}

/// Former targets: each partition has one owner or none; the last three belong to a topic and to partitions that are gone.
fn former_targets(
    topics: &[AssignableTopic],
    owners: &[Option<prop::sample::Index>],
    members: usize,
) -> Vec<Partitions> {
    let existing = topics.iter().flat_map(|topic| {
        (0..topic.partition_count)
            .map(|partition| TopicIdPartition::new(topic.id, PartitionId(partition as i32)))
    });
    let gone = [(99, 0), (99, 1), (1, 1000)]
        .map(|(id, index)| TopicIdPartition::new(Uuid::from_u128(id), PartitionId(index)));
    let mut targets = vec![Vec::new(); members];
    for (partition, owner) in existing.chain(gone).zip(owners) {
        if let Some(owner) = owner {
            targets[owner.index(members)].push(partition);
        }
    }
    targets.into_iter().map(Partitions::new).collect()
}

proptest! {
    #[test]
    fn uniform_gives_equal_members_equal_shares_and_moves_no_more_than_it_must((counts, wants, owners) in groups()) {
        let (topics, members) = (topics(&counts), wants.len());
        let before = former_targets(&topics, &owners, members);
        let after = assign(Assignor::Uniform, &topics, &before, None);
        check_complete(&topics, &vec![(0..topics.len()).collect(); members], &after)?;
        let sizes: Vec<_> = after.iter().map(Partitions::len).collect();
        let (least, most) = (*sizes.iter().min().unwrap(), *sizes.iter().max().unwrap());
        prop_assert!(most - least <= 1, "shares {:?}", sizes);
        // The fewest moves that equal shares permit: what exceeds the larger share, and the smaller one where the larger are used up.
        let exists = |partition: TopicIdPartition| topics.iter().any(|topic| {
            topic.id == partition.topic_id && (partition.partition.0 as usize) < topic.partition_count
        });
        let kept: Vec<_> = before.iter().map(|target| target.retain(exists)).collect();
        let total: usize = counts.iter().sum();
        let (smaller, larger) = (total / members, total % members);
        let over: Vec<_> = kept.iter().map(|target| target.len().saturating_sub(smaller)).collect();
        let fewest = over.iter().sum::<usize>() - over.iter().filter(|over| **over > 0).count().min(larger);
        prop_assert_eq!(moved(&kept, &after), fewest);
        prop_assert_eq!(assign(Assignor::Uniform, &topics, &after, None), after);
    }

    #[test]
    fn uniform_balances_members_with_different_wishes_as_far_as_single_moves_can((counts, wants, owners) in groups()) {
        let (topics, members) = (topics(&counts), wants.len());
        let before = former_targets(&topics, &owners, members);
        let after = assign(Assignor::Uniform, &topics, &before, Some(&wants));
        check_complete(&topics, &wants, &after)?;
        for (giver, partitions) in after.iter().enumerate() {
            for partition in partitions.iter() {
                let topic = topics.iter().position(|topic| topic.id == partition.topic_id).unwrap();
                for taker in (0..members).filter(|member| wants[*member].contains(&topic)) {
                    prop_assert!(
                        partitions.len() <= after[taker].len() + 1,
                        "{} could move from member {} with {} to member {} with {}",
                        partition, giver, partitions.len(), taker, after[taker].len()
                    );
                }
            }
        }
        prop_assert_eq!(assign(Assignor::Uniform, &topics, &after, Some(&wants)), after, "what is balanced stays");
    }

    #[test]
    fn range_gives_each_subscriber_consecutive_partitions((counts, wants, _) in groups()) {
        let (topics, members) = (topics(&counts), wants.len());
        let assigned = assign(Assignor::Range, &topics, &nothing(members), Some(&wants));
        check_complete(&topics, &wants, &assigned)?;
        for partitions in &assigned {
            for (_, partitions) in partitions.by_topic() {
                prop_assert!(partitions.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{:?}", partitions);
            }
        }
    }
}

#[test]
fn a_member_that_joins_takes_its_share_and_nothing_else_moves() {
    let topics = topics(&[200]);
    let mut targets = nothing(99);
    targets = assign(Assignor::Uniform, &topics, &targets, None);
    targets.push(Partitions::default());
    let after = assign(Assignor::Uniform, &topics, &targets, None);
    assert_eq!(after[99].len(), 2);
    assert_eq!(moved(&targets, &after), 2);
}

#[test]
fn uniform_spreads_each_topic_over_all_members() {
    let assigned = assign(Assignor::Uniform, &topics(&[4, 4]), &nothing(2), None);
    assert!(
        assigned
            .iter()
            .all(|partitions| partitions.by_topic().iter().all(|(_, partitions)| partitions.len() == 2))
    );
}

#[test]
fn range_gives_equal_members_the_same_partitions_of_topics_of_one_size() {
    let assigned = assign(Assignor::Range, &topics(&[3, 3]), &nothing(2), None);
    assert_eq!(assigned, [set(&[(1, 0), (1, 1), (2, 0), (2, 1)]), set(&[(1, 2), (2, 2)])]);
}

#[test]
fn range_puts_static_members_first_in_the_order_of_their_instances() {
    let (topics, none) = (topics(&[3]), Partitions::default());
    let member = |member_id, instance_id| AssignableMember { member_id, instance_id, target: &none };
    let members = vec![member("a", None), member("b", Some("2")), member("c", Some("1"))];
    let assigned = Assignor::Range.assign(&GroupSpec { topics, members, subscriptions: Subscriptions::Same });
    assert_eq!(assigned, [set(&[(1, 2)]), set(&[(1, 1)]), set(&[(1, 0)])]);
}

#[test]
fn partitions_of_a_topic_that_only_one_member_wants_are_all_its_and_the_others_share_the_rest() {
    // Member 0 wants both topics, member 1 the first only.
    let assigned = assign(Assignor::Uniform, &topics(&[4, 2]), &nothing(2), Some(&[vec![0, 1], vec![0]]));
    assert_eq!(assigned.iter().map(Partitions::len).collect::<Vec<_>>(), [3, 3]);
    assert!(set(&[(2, 0), (2, 1)]).is_subset(&assigned[0]));
}

#[test]
fn nobody_and_nothing_can_be_assigned() {
    assert!(assign(Assignor::Uniform, &topics(&[3]), &[], None).is_empty());
    assert_eq!(assign(Assignor::Range, &[], &nothing(2), None), nothing(2));
    assert_eq!(assign(Assignor::Uniform, &[], &nothing(2), Some(&[vec![], vec![]])), nothing(2));
}
