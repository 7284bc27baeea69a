//! The uniform assignor when members want different topics: among the members that want a topic, numbers of partitions (of all topics)
//! differ by one at most as far as moving single partitions can bring it about; members keep what they had unless balance is against it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{GroupSpec, NOBODY, Owners};

/// How often all topics are balanced again because a topic's moves have unbalanced another. Each round moves only towards balance, and
/// few are ever needed; the limit bounds the time that a contrived group can take.
const MAX_ROUNDS: usize = 16;

/// Members keep what they had, the rest goes to whoever has least, and then partitions move from those with most to those with least.
pub(super) fn assign(group: &GroupSpec<'_>, topics_of_members: &[Vec<usize>]) -> Owners {
    let subscribers = group.subscribers().unwrap_or_default();
    let mut assignment =
        Assignment { owners: Owners::nobody(&group.topics), loads: vec![0; group.members.len()] };
    assignment.keep(group, topics_of_members);

    // Topics with many partitions for each subscriber first: they are the hardest to place.
    let mut topics: Vec<usize> =
        (0..group.topics.len()).filter(|topic| !subscribers[*topic].is_empty()).collect();
    topics.sort_by(|a, b| {
        let partitions_times_others =
            |one: usize, other: usize| group.topics[one].partition_count * subscribers[other].len();
        let ratio = partitions_times_others(*b, *a).cmp(&partitions_times_others(*a, *b));
        ratio.then(subscribers[*a].len().cmp(&subscribers[*b].len())).then(a.cmp(b))
    });
    for topic in &topics {
        assignment.fill(*topic, &subscribers[*topic]);
    }
    for _ in 0..MAX_ROUNDS {
        let moved: usize = topics.iter().map(|topic| assignment.balance(*topic, &subscribers[*topic])).sum();
        if moved == 0 {
            break;
        }
    }
    assignment.owners
}

struct Assignment {
    owners: Owners,
    /// The number of partitions that each member has.
    loads: Vec<usize>,
}

impl Assignment {
    /// Gives each member what it had and still wants.
    fn keep(&mut self, group: &GroupSpec<'_>, topics_of_members: &[Vec<usize>]) {
        for (index, member) in group.members.iter().enumerate() {
            for partition in member.target.iter() {
                if let Some((position, topic)) = self.owners.position(&group.topics, partition)
                    && self.owners.owners[position] == NOBODY
                    && topics_of_members[index].binary_search(&topic).is_ok()
                {
                    self.owners.owners[position] = index as u32;
                    self.loads[index] += 1;
                }
            }
        }
    }

    /// Gives the topic's partitions that nobody has to the subscribers with the least load.
    fn fill(&mut self, topic: usize, subscribers: &[u32]) {
        let positions = self.owners.starts[topic]..self.owners.starts[topic + 1];
        let mut free = positions.filter(|position| self.owners.owners[*position] == NOBODY).peekable();
        if free.peek().is_none() {
            return;
        }
        let free: Vec<usize> = free.collect();
        let by_load = subscribers.iter().map(|member| Reverse((self.loads[*member as usize], *member)));
        let mut least: BinaryHeap<_> = by_load.collect();
        for position in free {
            let mut lowest = least.peek_mut().expect("the topic has subscribers");
            let Reverse((load, member)) = &mut *lowest;
            *load += 1;
            self.loads[*member as usize] += 1;
            self.owners.owners[position] = *member;
        }
    }

    /// Moves partitions of the topic from its owners with most to its subscribers with least, while these are more than one apart.
    /// Returns the number of moves.
    fn balance(&mut self, topic: usize, subscribers: &[u32]) -> usize {
        let load = |member: &u32| self.loads[*member as usize];
        let least = subscribers.iter().map(load).min().unwrap_or(0);
        let most = self.owners.of_topic(topic).iter().map(load).max().unwrap_or(0);
        if most <= least + 1 {
            return 0;
        }
        // The topic's partitions in stacks by owner.
        let mut owned: ahash::AHashMap<u32, Vec<usize>> = ahash::AHashMap::new();
        for position in self.owners.starts[topic]..self.owners.starts[topic + 1] {
            owned.entry(self.owners.owners[position]).or_default().push(position);
        }
        #[expect(clippy::disallowed_methods, reason = "a heap of distinct elements gives them in one order")]
        let mut givers: BinaryHeap<(usize, u32)> =
            owned.keys().map(|member| (load(member), *member)).collect();
        let mut takers: BinaryHeap<Reverse<(usize, u32)>> =
            subscribers.iter().map(|member| Reverse((load(member), *member))).collect();
        let mut moves = 0;
        while let (Some((most, giver)), Some(Reverse((least, taker)))) = (givers.pop(), takers.pop()) {
            if most <= least + 1 {
                break;
            }
            // A member never stands in both roles: a giver stays above every taker until the loop ends.
            let Some(position) = owned.get_mut(&giver).and_then(Vec::pop) else {
                takers.push(Reverse((least, taker)));
                continue;
            };
            self.owners.owners[position] = taker;
            self.loads[giver as usize] -= 1;
            self.loads[taker as usize] += 1;
            givers.push((most - 1, giver));
            takers.push(Reverse((least + 1, taker)));
            moves += 1;
        }
        moves
    }
}
