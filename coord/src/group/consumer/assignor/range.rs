//! The range assignor: consecutive partitions of each topic, topic by topic. Members stand in a fixed order (static ones by their
//! instance id, then the others by member id), so members with the same subscription get the same partitions of all topics of one size.

use super::{GroupSpec, Owners};

/// Deals out each topic in ranges; the first members get one more if the numbers do not divide.
pub(super) fn assign(group: &GroupSpec<'_>) -> Owners {
    let mut owners = Owners::nobody(&group.topics);
    let mut order: Vec<u32> = (0..group.members.len() as u32).collect();
    order.sort_by_key(|member| {
        let member = &group.members[*member as usize];
        (member.instance_id.is_none(), member.instance_id, member.member_id)
    });
    let mut rank = vec![0; order.len()];
    order.iter().enumerate().for_each(|(place, member)| rank[*member as usize] = place);

    let subscribers = group.subscribers();
    for topic in 0..group.topics.len() {
        let range = owners.starts[topic]..owners.starts[topic + 1];
        match &subscribers {
            None => deal(&mut owners.owners[range], &order),
            Some(subscribers) => {
                let mut members = subscribers[topic].clone();
                members.sort_by_key(|member| rank[*member as usize]);
                deal(&mut owners.owners[range], &members);
            }
        }
    }
    owners
}

fn deal(partitions: &mut [u32], members: &[u32]) {
    if members.is_empty() {
        return;
    }
    let (each, more) = (partitions.len() / members.len(), partitions.len() % members.len());
    let mut rest = partitions;
    for (place, member) in members.iter().enumerate() {
        let (range, after) = rest.split_at_mut(each + usize::from(place < more));
        range.fill(*member);
        rest = after;
    }
}
