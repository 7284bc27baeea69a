//! A partition on several nodes under random schedules: the real [`Replica`](super::Replica)s and the real rules of the controller, over a simulated network and
//! simulated disks, with the invariants checked after every step.
//!
//! - [`disk`]: a log with an order of writes, of which a crash keeps a prefix;
//! - [`controller`]: the partition's state and its history, atomic;
//! - [`world`]: nodes, messages under way, and the steps that can be taken;
//! - [`invariants`]: what must hold after each of them;
//! - [`schedule`]: which step is taken, drawn from a seed;
//! - [`directed`]: schedules made by hand, for what chance meets too rarely.
//!
//! Messages are lost, doubled and overtake each other, although channels do not do that to them: what holds here holds there.

mod controller;
mod directed;
mod disk;
mod invariants;
mod schedule;
mod world;

use std::collections::BTreeMap;

use crate::planted::{Planted, PlantedBug};
use schedule::run;

/// Prints the steps of a failing run, so that it can be read, and fails.
fn fail(seed: u64, planted: Planted, problem: &str) -> ! {
    let (_, trace) = run(seed, planted, true);
    let tail = trace.len().saturating_sub(120);
    panic!("seed {seed}: {problem}\n{}", trace[tail..].join("\n"));
}

#[test]
fn no_schedule_breaks_an_invariant_and_everything_settles_once_faults_end() {
    let seeds = std::env::var("REPLICA_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000u64);
    let mut totals = BTreeMap::new();
    for seed in 0..seeds {
        let (outcome, _) = run(seed, Planted::default(), false);
        match outcome {
            Ok(counts) => {
                counts.into_iter().for_each(|(what, count)| *totals.entry(what).or_insert(0) += count)
            }
            Err(problem) => fail(seed, Planted::default(), &problem),
        }
    }
    // A run in which nothing happens proves nothing.
    for what in ["elections", "commits", "crashes", "in-sync changes", "truncations", "wipes"] {
        assert!(totals.get(what).copied().unwrap_or(0) >= seeds / 4, "{what}: {totals:?}");
    }
    println!("{seeds} seeds: {totals:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..20 {
        assert_eq!(run(seed, Planted::default(), true), run(seed, Planted::default(), true));
    }
}

/// Seeds within which chance finds a bug; the others have schedules in [`directed`].
#[test]
fn random_schedules_find_the_planted_bugs() {
    let mut found = BTreeMap::new();
    for bug in PlantedBug::ALL {
        let budget = if directed::KNOWS.contains(&bug) { 0 } else { 3_000 };
        let first = (0..budget).find(|seed| run(*seed, Planted::bug(bug), false).0.is_err());
        assert!(first.is_some() || budget == 0, "{bug:?} is not found by {budget} seeds");
        found.insert(format!("{bug:?}"), first);
    }
    println!("first seed that finds each: {found:?}");
}
