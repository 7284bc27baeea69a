//! The uniform assignor when all members want the same topics: numbers of partitions differ by one at most, and no partition moves that
//! need not.

use super::{GroupSpec, NOBODY, Owners};

/// Every member keeps of its former target what its quota allows; the rest goes round among the members that have room.
pub(super) fn assign(group: &GroupSpec<'_>) -> Owners {
    let mut owners = Owners::nobody(&group.topics);
    let quotas = quotas(group, &mut owners);
    let mut rooms = trim(&mut owners, quotas);
    fill(&mut owners, &mut rooms);
    owners
}

/// Gives each member what it had and may still have, and says how many partitions each is to end with. Who already has more than the
/// smaller quota gets the larger one first: that saves moves.
fn quotas(group: &GroupSpec<'_>, owners: &mut Owners) -> Vec<usize> {
    let mut kept = vec![0; group.members.len()];
    for (index, member) in group.members.iter().enumerate() {
        for partition in member.target.iter() {
            if let Some((position, _)) = owners.position(&group.topics, partition)
                && owners.owners[position] == NOBODY
            {
                owners.owners[position] = index as u32;
                kept[index] += 1;
            }
        }
    }
    let smaller = owners.len() / group.members.len();
    let mut larger_left = owners.len() % group.members.len();
    let mut quotas = vec![smaller; group.members.len()];
    let has_more = |member: &usize| kept[*member] > smaller;
    let has_not = |member: &usize| kept[*member] <= smaller;
    let members = 0..group.members.len();
    for member in members.clone().filter(has_more).chain(members.filter(has_not)) {
        if larger_left == 0 {
            break;
        }
        quotas[member] += 1;
        larger_left -= 1;
    }
    quotas
}

/// Takes from members what exceeds their quota, the last partitions first. Returns the room that each has left.
fn trim(owners: &mut Owners, mut rooms: Vec<usize>) -> Vec<usize> {
    for owner in owners.owners.iter_mut().filter(|owner| **owner != NOBODY) {
        let room = &mut rooms[*owner as usize];
        match room.checked_sub(1) {
            Some(left) => *room = left,
            None => *owner = NOBODY,
        }
    }
    rooms
}

/// Gives what nobody has to the members with room, in turns, so that each gets of each topic.
fn fill(owners: &mut Owners, rooms: &mut [usize]) {
    let mut turn: std::collections::VecDeque<u32> =
        (0..rooms.len() as u32).filter(|member| rooms[*member as usize] > 0).collect();
    for owner in owners.owners.iter_mut().filter(|owner| **owner == NOBODY) {
        let member = turn.pop_front().expect("the quotas add up to the number of partitions");
        *owner = member;
        rooms[member as usize] -= 1;
        if rooms[member as usize] > 0 {
            turn.push_back(member);
        }
    }
}
