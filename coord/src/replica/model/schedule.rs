//! Which step is taken, drawn from a seed.

use std::collections::BTreeMap;

use super::world::{Checked, World};
use crate::planted::Planted;
use crate::types::BrokerId;

const STEPS: u64 = 500;
const NODES: u64 = 3;

/// SplitMix64: seeds next to each other give unrelated sequences.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.bits() % limit.max(1)
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

pub(super) type Outcome = Result<BTreeMap<&'static str, u64>, String>;

/// Runs one seed; returns what happened, how often, or the first invariant that broke, and the trace if it is wanted.
pub(super) fn run(seed: u64, planted: Planted, traces: bool) -> (Outcome, Vec<String>) {
    let mut random = Random::new(seed);
    let min_insync_replicas = if random.one_in(4) { 1 } else { 2 };
    let mut world = World::new(NODES as i32, min_insync_replicas, planted);
    world.trace = traces.then(Vec::new);
    let outcome = drive(&mut world, &mut random, min_insync_replicas);
    (outcome.map(|()| std::mem::take(&mut world.counts)), world.trace.unwrap_or_default())
}

fn drive(world: &mut World, random: &mut Random, min_insync_replicas: usize) -> Checked {
    // How rough it is differs from seed to seed: with constant faults little is ever committed.
    let fault_chance = 8 << random.below(4);
    for _ in 0..STEPS {
        match random.one_in(fault_chance) {
            true => fault(world, random, min_insync_replicas)?,
            false => progress(world, random)?,
        }
        world.check()?;
    }
    world.heal()
}

fn progress(world: &mut World, random: &mut Random) -> Checked {
    let node = random.below(NODES) as usize;
    match random.below(20) {
        0..=7 if !world.network.is_empty() => {
            let at = random.below(world.network.len() as u64) as usize;
            let keeps_copy = random.one_in(12);
            world.deliver(at, keeps_copy)
        }
        0..=9 => {
            let ready: Vec<BrokerId> = world.nodes[node].ready.iter().copied().collect();
            let peer = BrokerId(random.below(NODES) as i32);
            let to = if ready.is_empty() { peer } else { ready[random.below(ready.len() as u64) as usize] };
            let at_most = random.below(4) as usize;
            world.send(node, to, at_most);
            Ok(())
        }
        10..=11 => world.produce(node, 1 + random.below(3) as i64),
        12..=13 => {
            world.begin_sync(node);
            Ok(())
        }
        14..=15 => world.end_sync(node),
        16..=17 => world.hear(node),
        18 => {
            world.now_ms += random.below(8) as i64;
            world.tick(node)
        }
        _ => {
            world.heartbeat(node);
            Ok(())
        }
    }
}

fn fault(world: &mut World, random: &mut Random, min_insync_replicas: usize) -> Checked {
    let node = random.below(NODES) as usize;
    let kind = random.below(24);
    world.note(|| format!("fault {kind} on {node}"));
    match kind {
        0..=3 if world.is_up(node) => world.crash(node, random.bits()),
        0..=5 => {
            if !world.is_up(node) && min_insync_replicas > 1 && random.one_in(3) {
                world.wipe(node);
            }
            let heard = world.nodes[node].metadata_at as u64;
            let back = random.below(6);
            world.restart(node, heard.saturating_sub(back) as usize);
        }
        6..=8 => world.fence(node),
        9 => world.elect_preferred(),
        10 => return world.retain(node),
        11 => world.now_ms += random.below(120) as i64,
        12..=15 => return world.open_channel(node, BrokerId(random.below(NODES) as i32)),
        16..=22 if !world.network.is_empty() => {
            let at = random.below(world.network.len() as u64) as usize;
            world.network.swap_remove(at);
        }
        _ => world.network.clear(),
    }
    Ok(())
}
