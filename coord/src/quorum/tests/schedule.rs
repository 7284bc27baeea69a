//! Random schedules: messages that are lost, doubled and overtake each other, crashes that lose what was not synced, snapshots at any time.

use super::cluster::Cluster;
use crate::types::BrokerId;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = super::super::node::mix(self.0);
        (self.0 % limit.max(1) as u64) as usize
    }
}

pub(super) fn run(seed: u64) -> Cluster {
    let mut random = Random(seed);
    let nodes = [1, 3, 3, 5][random.below(4)];
    let mut cluster = Cluster::new(nodes as i32, seed);
    let fault_chance = 8 << random.below(4);
    for step in 0..600u64 {
        let id = BrokerId(random.below(nodes) as i32);
        if random.below(fault_chance) == 0 {
            fault(&mut cluster, id, &mut random);
            continue;
        }
        match random.below(16) {
            0..=6 if !cluster.network.is_empty() => {
                let at = random.below(cluster.network.len().min(8));
                let keeps_copy = random.below(20) == 0;
                cluster.deliver(at, keeps_copy);
            }
            0..=9 => cluster.tick(id),
            10..=13 => cluster.sync(id),
            _ => {
                let leader =
                    cluster.ids().into_iter().find(|id| cluster.is_up(*id) && cluster.node(*id).may_decide());
                if let Some(leader) = leader {
                    // It may have lost leadership to somebody it has not heard of.
                    let _ = cluster.propose(leader, step);
                }
            }
        }
    }
    heal(&mut cluster);
    cluster
}

fn fault(cluster: &mut Cluster, id: BrokerId, random: &mut Random) {
    match random.below(8) {
        0..=1 if cluster.is_up(id) => cluster.crash(id, random.below(4)),
        0..=2 if !cluster.is_up(id) => cluster.restart(id),
        3 => cluster.snapshot(id),
        4 => cluster.cut_off = if cluster.cut_off.is_some() { None } else { Some(id) },
        5..=6 if !cluster.network.is_empty() => {
            let at = random.below(cluster.network.len());
            cluster.network.remove(at);
        }
        _ => cluster.network.clear(),
    }
}

fn heal(cluster: &mut Cluster) {
    cluster.cut_off = None;
    for id in cluster.ids() {
        if !cluster.is_up(id) {
            cluster.restart(id);
        }
    }
    cluster.settle(60);
    let leader = cluster.elect();
    let position = cluster.propose(leader, u64::MAX).expect("it leads");
    cluster.settle(20);
    for id in cluster.ids() {
        assert!(cluster.applied(id) >= position.index, "node {id} has not caught up");
        assert_eq!(cluster.image(id), cluster.image(leader));
    }
}
