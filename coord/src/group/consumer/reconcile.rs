//! The next step of a member towards its target (Kafka's `CurrentAssignmentBuilder`).
//!
//! A partition passes from one member to another in three steps, each with a heartbeat of its own: the old owner is told to give it up,
//! the old owner says that it has, the new owner is told that it may use it. Meanwhile it is in exactly one member's
//! [`CurrentAssignment`], as assigned or as pending revocation, and so it never has two owners.

use storage::types::TopicIdPartition;

use super::member::{CurrentAssignment, MemberState};
use super::partitions::Partitions;

/// What a member's next step depends on.
pub(super) struct Reconciliation<'a, F: Fn(TopicIdPartition) -> bool> {
    /// Where the member is.
    pub current: &'a CurrentAssignment,
    /// The epoch of the group's target assignment.
    pub target_epoch: i32,
    /// What the member is to have.
    pub target: &'a Partitions,
    /// What the member says it owns; `None` if it did not say.
    pub owned: Option<&'a Partitions>,
    /// Whether a partition belongs to another member.
    pub belongs_to_another: F,
}

/// The member is in a state that this version does not know: it has to rejoin without partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnknownState;

impl<F: Fn(TopicIdPartition) -> bool> Reconciliation<'_, F> {
    /// Where the member is afterwards; the same as before if it cannot move.
    pub fn next(&self) -> Result<CurrentAssignment, UnknownState> {
        let current = self.current;
        match current.state {
            MemberState::Stable if current.member_epoch == self.target_epoch => Ok(current.clone()),
            MemberState::UnrevokedPartitions if self.may_own(&current.pending_revocation) => {
                Ok(current.clone())
            }
            MemberState::Stable | MemberState::UnrevokedPartitions | MemberState::UnreleasedPartitions => {
                Ok(self.step())
            }
            MemberState::Unknown if self.owned.is_some_and(Partitions::is_empty) => Ok(self.step()),
            MemberState::Unknown => Err(UnknownState),
        }
    }

    /// Whether the member may still use one of the partitions: it has not said what it owns, or says so.
    fn may_own(&self, partitions: &Partitions) -> bool {
        self.owned.is_none_or(|owned| owned.intersects(partitions))
    }

    fn step(&self) -> CurrentAssignment {
        let kept = self.current.assigned.intersection(self.target);
        let to_revoke = self.current.assigned.difference(self.target);
        if !to_revoke.is_empty() && self.may_own(&to_revoke) {
            // The epoch stays, so that the member may still commit offsets of what it gives up.
            return CurrentAssignment {
                member_epoch: self.current.member_epoch,
                previous_member_epoch: self.current.member_epoch,
                state: MemberState::UnrevokedPartitions,
                assigned: kept,
                pending_revocation: to_revoke,
            };
        }
        let missing = self.target.difference(&kept);
        let free = missing.retain(|partition| !(self.belongs_to_another)(partition));
        let all_free = free.len() == missing.len();
        CurrentAssignment {
            member_epoch: self.target_epoch,
            previous_member_epoch: self.current.member_epoch,
            state: if all_free { MemberState::Stable } else { MemberState::UnreleasedPartitions },
            assigned: kept.union(&free),
            pending_revocation: Partitions::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use storage::types::PartitionId;
    use uuid::Uuid;

    use super::*;

    fn set(partitions: &[i32]) -> Partitions {
        let one = |partition: &i32| TopicIdPartition::new(Uuid::from_u128(1), PartitionId(*partition));
        partitions.iter().map(one).collect()
    }

    fn at(
        member_epoch: i32,
        state: MemberState,
        assigned: &[i32],
        pending_revocation: &[i32],
    ) -> CurrentAssignment {
        CurrentAssignment {
            member_epoch,
            previous_member_epoch: member_epoch,
            state,
            assigned: set(assigned),
            pending_revocation: set(pending_revocation),
        }
    }

    /// The next step towards `target` in epoch 11, when the partitions `others` belong to other members.
    fn next(
        current: &CurrentAssignment,
        target: &[i32],
        owned: Option<&[i32]>,
        others: &[i32],
    ) -> CurrentAssignment {
        let (target, owned, others) = (set(target), owned.map(set), set(others));
        let reconciliation = Reconciliation {
            current,
            target_epoch: 11,
            target: &target,
            owned: owned.as_ref(),
            belongs_to_another: |partition| others.contains(partition),
        };
        reconciliation.next().expect("the state is known")
    }

    #[test]
    fn a_member_that_has_nothing_to_give_up_gets_free_partitions_and_the_new_epoch_at_once() {
        let after = next(&at(10, MemberState::Stable, &[1], &[]), &[1, 2], None, &[]);
        assert_eq!(
            after,
            CurrentAssignment { previous_member_epoch: 10, ..at(11, MemberState::Stable, &[1, 2], &[]) }
        );
    }

    #[test]
    fn a_member_that_must_give_up_partitions_keeps_its_epoch_and_gets_nothing_new() {
        let after = next(&at(10, MemberState::Stable, &[1, 2], &[]), &[2, 3], None, &[]);
        assert_eq!(after, at(10, MemberState::UnrevokedPartitions, &[2], &[1]));
    }

    #[test]
    fn a_member_that_does_not_say_what_it_owns_has_not_given_up_anything() {
        let before = at(10, MemberState::UnrevokedPartitions, &[2], &[1]);
        assert_eq!(next(&before, &[2, 3], None, &[]), before);
        assert_eq!(next(&before, &[2, 3], Some(&[1, 2]), &[]), before);
    }

    #[test]
    fn a_member_that_has_given_up_its_partitions_moves_on() {
        let before = at(10, MemberState::UnrevokedPartitions, &[2], &[1]);
        let after = next(&before, &[2, 3], Some(&[2]), &[]);
        assert_eq!(
            after,
            CurrentAssignment { previous_member_epoch: 10, ..at(11, MemberState::Stable, &[2, 3], &[]) }
        );
    }

    #[test]
    fn a_member_waits_in_the_new_epoch_for_partitions_of_others_and_gets_them_when_they_are_free() {
        let waiting = next(&at(10, MemberState::Stable, &[1], &[]), &[1, 2, 3], None, &[3]);
        assert_eq!(waiting.state, MemberState::UnreleasedPartitions);
        assert_eq!((waiting.member_epoch, &waiting.assigned), (11, &set(&[1, 2])));
        let done = next(&waiting, &[1, 2, 3], None, &[]);
        assert_eq!((done.state, &done.assigned), (MemberState::Stable, &set(&[1, 2, 3])));
    }

    #[test]
    fn a_target_that_changes_while_a_member_gives_up_partitions_can_give_them_back() {
        let before = at(10, MemberState::UnrevokedPartitions, &[2], &[1]);
        let after = next(&before, &[1, 2], Some(&[2]), &[]);
        assert_eq!((after.state, &after.assigned), (MemberState::Stable, &set(&[1, 2])));
    }

    #[test]
    fn a_member_in_a_state_of_a_later_version_has_to_come_back_with_empty_hands() {
        let (target, before) = (set(&[1]), at(10, MemberState::Unknown, &[1], &[2]));
        let with = |owned: Option<Partitions>| {
            let belongs_to_another = |_| false;
            Reconciliation {
                current: &before,
                target_epoch: 11,
                target: &target,
                owned: owned.as_ref(),
                belongs_to_another,
            }
            .next()
        };
        assert_eq!(with(None), Err(UnknownState));
        assert_eq!(with(Some(set(&[1]))), Err(UnknownState));
        assert_eq!(with(Some(set(&[]))).map(|after| after.member_epoch), Ok(11));
    }
}
