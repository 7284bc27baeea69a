//! Schedules made by hand: each finds a planted bug that chance meets too rarely, and passes without it.

use super::world::{Checked, Message, World};
use crate::planted::{Planted, PlantedBug};
use crate::types::BrokerId;

/// The bugs that have a schedule here.
pub(super) const KNOWS: [PlantedBug; 2] =
    [PlantedBug::RefusedProposalForgotten, PlantedBug::RestartForgetsEpoch];

/// Three nodes that have heard of the first state, in which node 0 leads and all are in sync.
fn world(planted: Planted) -> World {
    let mut world = World::new(3, 2, planted);
    (0..3).for_each(|node| world.hear(node).expect("nothing can be wrong yet"));
    world.network.clear();
    world
}

fn hear_all(world: &mut World, node: usize) -> Checked {
    while world.nodes[node].metadata_at < world.controller.history.len() {
        world.hear(node)?;
    }
    Ok(())
}

/// Delivers the oldest message that fits, and keeps a copy of it if that is wanted.
fn deliver(world: &mut World, fits: impl Fn(&Message) -> bool, keeps_copy: bool) -> Checked {
    let at = world.network.iter().position(fits).expect("such a message is under way");
    world.deliver(at, keeps_copy)
}

fn sync(world: &mut World, node: usize) -> Checked {
    world.begin_sync(node);
    world.end_sync(node)
}

/// `leader` sends all that it has to `follower`, which makes it durable and says so.
fn replicate(world: &mut World, leader: usize, follower: usize) -> Checked {
    let (from, to) = (BrokerId(leader as i32), BrokerId(follower as i32));
    for _ in 0..4 {
        world.send(leader, to, 10);
        let is_between = |message: &Message| match message {
            Message::Append { to: receiver, .. } => *receiver == to,
            Message::Reply { from: sender, to: receiver, .. } => (*sender, *receiver) == (to, from),
            _ => false,
        };
        while world.network.iter().any(is_between) {
            deliver(world, is_between, false)?;
        }
        sync(world, follower)?;
    }
    Ok(())
}

fn is_alter(message: &Message) -> bool {
    matches!(message, Message::Alter { .. })
}

fn a_copy_of_a_refused_proposal_is_accepted_later(world: &mut World) -> Checked {
    world.fence(2);
    hear_all(world, 0)?;
    hear_all(world, 1)?;
    hear_all(world, 2)?;
    world.heartbeat(2);
    hear_all(world, 0)?;
    replicate(world, 0, 2)?;
    assert!(world.network.iter().any(is_alter), "the leader wants node 2 in sync");
    world.fence(2);
    deliver(world, is_alter, true)?;
    deliver(world, |message| matches!(message, Message::AlterRefused { .. }), false)?;
    world.heartbeat(2);
    world.produce(0, 1)?;
    sync(world, 0)?;
    replicate(world, 0, 1)?;
    deliver(world, is_alter, false)?;
    assert_eq!(world.controller.partition.in_sync_replicas.len(), 3);
    world.check()
}

fn a_restarted_follower_hears_of_a_replaced_leader(world: &mut World) -> Checked {
    world.produce(0, 1)?;
    world.fence(0);
    hear_all(world, 1)?;
    hear_all(world, 2)?;
    world.produce(1, 1)?;
    sync(world, 1)?;
    replicate(world, 1, 2)?;
    assert_eq!(world.oracle.committed(), 1);
    world.crash(2, 0);
    world.restart(2, 0);
    world.hear(2)?;
    replicate(world, 0, 2)?;
    world.check()
}

#[test]
fn schedules_made_by_hand_find_their_bugs_and_nothing_else() {
    type Schedule = fn(&mut World) -> Checked;
    let schedules: [Schedule; 2] =
        [a_copy_of_a_refused_proposal_is_accepted_later, a_restarted_follower_hears_of_a_replaced_leader];
    for (bug, schedule) in KNOWS.into_iter().zip(schedules) {
        let mut correct = world(Planted::default());
        schedule(&mut correct).unwrap_or_else(|problem| panic!("{bug:?} is not planted, but {problem}"));
        correct.heal().expect("everything settles");
        let mut broken = world(Planted::bug(bug));
        assert!(schedule(&mut broken).is_err(), "{bug:?} is not found");
    }
}
