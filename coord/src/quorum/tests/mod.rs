//! Several controllers in one thread: their journals, the messages between them, and what must hold.

mod cluster;
mod schedule;

use bytes::Bytes;

use super::journal::bootstrap;
use super::{MemberChange, MessageError, QuorumError, QuorumMessage};
use crate::types::BrokerId;
use cluster::Cluster;

const A: BrokerId = BrokerId(0);
const B: BrokerId = BrokerId(1);
const C: BrokerId = BrokerId(2);
const D: BrokerId = BrokerId(3);

#[test]
fn a_single_controller_leads_at_its_first_tick_and_commits_what_is_on_its_disk() {
    let mut cluster = Cluster::new(1, 7);
    cluster.tick(A);
    cluster.sync(A);
    assert!(cluster.node(A).may_decide());
    let position = cluster.propose(A, 1).unwrap();
    assert!(cluster.applied(A) < position.index, "it is not on disk yet");
    cluster.sync(A);
    assert_eq!(cluster.applied(A), position.index);
    assert_eq!(cluster.image(A), [1]);
    cluster.crash(A, 0);
    cluster.restart(A);
    cluster.tick(A);
    cluster.sync(A);
    assert_eq!(cluster.image(A), [1]);
    assert!(cluster.node(A).may_decide());
}

#[test]
fn what_a_single_controller_has_not_synced_is_not_committed_after_a_crash() {
    let mut cluster = Cluster::new(1, 7);
    cluster.tick(A);
    cluster.sync(A);
    cluster.propose(A, 1).unwrap();
    cluster.crash(A, 0);
    cluster.restart(A);
    cluster.tick(A);
    cluster.sync(A);
    assert_eq!(cluster.image(A), [] as [u64; 0]);
}

#[test]
fn two_of_three_go_on_and_one_of_three_does_not() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.elect();
    let others: Vec<BrokerId> = [A, B, C].into_iter().filter(|id| *id != leader).collect();
    cluster.crash(others[0], 0);
    cluster.propose(leader, 5).unwrap();
    cluster.settle(3);
    assert_eq!(cluster.image(leader), [5]);
    cluster.crash(others[1], 0);
    let lost = cluster.propose(leader, 6).unwrap();
    cluster.settle(60);
    assert!(cluster.applied(leader) < lost.index);
    assert_eq!(cluster.node(leader).leader(), BrokerId::NONE, "without a majority it steps down");
    assert_eq!(cluster.propose(leader, 7), Err(QuorumError::NotLeader { leader: BrokerId::NONE }));
    cluster.restart(others[0]);
    cluster.settle(100);
    assert_eq!(cluster.image(others[0])[0], 5);
}

#[test]
fn a_controller_that_was_cut_off_does_not_disturb_the_others_when_it_comes_back() {
    let mut cluster = Cluster::new(3, 3);
    let leader = cluster.elect();
    let term = cluster.node(leader).term();
    let cut_off = [A, B, C].into_iter().find(|id| *id != leader).unwrap();
    cluster.cut_off = Some(cut_off);
    cluster.settle(80);
    cluster.cut_off = None;
    cluster.settle(80);
    assert_eq!((cluster.node(leader).leader(), cluster.node(leader).term()), (leader, term));
    assert_eq!(cluster.node(cut_off).term(), term);
}

#[test]
fn a_leader_that_is_known_to_be_gone_is_replaced_within_a_few_ticks() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(3, seed);
        let leader = cluster.elect();
        cluster.settle(5);
        cluster.crash(leader, 0);
        let others: Vec<BrokerId> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
        others.iter().for_each(|id| cluster.gone(*id, leader));
        cluster.settle(4);
        let heirs = others.iter().filter(|id| cluster.node(**id).may_decide()).count();
        // Where both stand in the same tick their next candidacies decide.
        let is_tie = others.iter().all(|id| !cluster.node(*id).leader().is_some());
        assert!(heirs == 1 || is_tie, "seed {seed}: {heirs} lead");
        assert!(others.contains(&cluster.elect()));
    }
}

#[test]
fn one_that_alone_takes_the_leader_for_gone_does_not_disturb_it() {
    let mut cluster = Cluster::new(3, 7);
    let leader = cluster.elect();
    cluster.settle(5);
    let term = cluster.node(leader).term();
    let other = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    cluster.gone(other, leader);
    cluster.settle(40);
    assert_eq!((cluster.node(leader).term(), cluster.node(other).leader()), (term, leader));
}

#[test]
fn a_controller_joins_by_snapshot_learns_votes_and_leaves() {
    let mut cluster = Cluster::new(1, 5);
    cluster.tick(A);
    cluster.sync(A);
    for number in 0..20 {
        cluster.propose(A, number).unwrap();
        cluster.sync(A);
    }
    cluster.snapshot(A);
    cluster.sync(A);
    assert_eq!(cluster.node(A).entries_since_snapshot(), 0);
    cluster.join(B);
    assert!(matches!(cluster.change(A, MemberChange::Promote(B)), Err(QuorumError::InvalidChange(..))));
    cluster.change(A, MemberChange::AddLearner(B)).unwrap();
    assert_eq!(cluster.change(A, MemberChange::AddLearner(C)), Err(QuorumError::ChangeInProgress));
    cluster.sync(A);
    assert_eq!(cluster.change(A, MemberChange::Promote(B)), Err(QuorumError::NotCaughtUp(B)));
    cluster.settle(20);
    assert_eq!(cluster.image(B), cluster.image(A));
    cluster.change(A, MemberChange::Promote(B)).unwrap();
    cluster.settle(20);
    assert_eq!(cluster.node(B).members().voters, [A, B]);
    assert_eq!(cluster.node(A).member_status().len(), 2);
    cluster.cut_off = Some(B);
    let waits = cluster.propose(A, 99).unwrap();
    cluster.settle(2);
    assert!(cluster.applied(A) < waits.index, "both votes are needed now");
    cluster.cut_off = None;
    cluster.settle(40);
    assert!(matches!(cluster.change(A, MemberChange::Remove(A)), Err(QuorumError::InvalidChange(..))));
    cluster.hand_over(A, B);
    cluster.settle(20);
    assert_eq!(cluster.node(A).leader(), B);
    cluster.change(B, MemberChange::Remove(A)).unwrap();
    cluster.settle(5);
    cluster.crash(A, 0);
    // What it has once known of its quorum it knows after a crash too: it does not wait for somebody who has left.
    cluster.sync(B);
    cluster.crash(B, 0);
    cluster.restart(B);
    cluster.settle(3);
    assert!(cluster.node(B).may_decide());
    assert_eq!(cluster.node(B).members().voters, [B]);
}

#[test]
fn a_voter_that_is_demoted_learns_on_and_the_others_do_without_its_vote() {
    let mut cluster = Cluster::new(3, 9);
    let leader = cluster.elect();
    let others: Vec<BrokerId> = [A, B, C].into_iter().filter(|id| *id != leader).collect();
    assert!(matches!(
        cluster.change(leader, MemberChange::Demote(leader)),
        Err(QuorumError::InvalidChange(..))
    ));
    cluster.change(leader, MemberChange::Demote(others[0])).unwrap();
    cluster.settle(20);
    assert_eq!(cluster.node(leader).members().learners, [others[0]]);
    assert_eq!(cluster.node(others[0]).members().learners, [others[0]]);
    let entry = cluster.propose(leader, 7).unwrap();
    cluster.settle(20);
    assert!(cluster.applied(leader) >= entry.index);
    assert_eq!(cluster.image(others[0]), cluster.image(leader), "it learns on");
    // Two voters are left, and both are needed.
    cluster.cut_off = Some(others[1]);
    let waits = cluster.propose(leader, 8).unwrap();
    cluster.settle(2);
    assert!(cluster.applied(leader) < waits.index);
}

#[test]
fn a_controller_that_has_yet_to_write_a_snapshot_does_not_stand_for_election() {
    let mut cluster = Cluster::new(3, 3);
    let leader = cluster.elect();
    let behind = [A, B, C].into_iter().find(|id| *id != leader).unwrap();
    cluster.cut_off = Some(behind);
    for number in 0..5 {
        cluster.propose(leader, number).unwrap();
        cluster.settle(2);
    }
    cluster.snapshot(leader);
    cluster.settle(2);
    cluster.cut_off = None;
    for _ in 0..100 {
        for id in [A, B, C].into_iter().filter(|id| *id != behind) {
            cluster.tick(id);
            cluster.sync(id);
        }
        while !cluster.network.is_empty() {
            cluster.deliver(0, false);
        }
        if cluster.image(behind).len() == 5 {
            break;
        }
    }
    assert_eq!(cluster.image(behind).len(), 5, "it has the snapshot, in memory");
    (0..60).for_each(|_| cluster.tick(behind));
    cluster.settle(20);
    assert_eq!(cluster.image(behind), cluster.image(leader));
}

#[test]
fn random_schedules_never_break_agreement_and_settle_once_faults_end() {
    let seeds = std::env::var("QUORUM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(150u64);
    let (mut elections, mut committed) = (0, 0);
    for seed in 0..seeds {
        let cluster = schedule::run(seed);
        elections += cluster.leaders.len();
        committed += cluster.committed.len();
    }
    assert!(elections as u64 > seeds && committed as u64 > 10 * seeds, "{elections} {committed}");
    println!("{seeds} seeds: {elections} terms with a leader, {committed} entries");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..10 {
        let (first, second) = (schedule::run(seed), schedule::run(seed));
        assert_eq!(first.leaders, second.leaders);
        assert_eq!(first.committed, second.committed);
        assert_eq!(first.messages_sent, second.messages_sent);
    }
}

#[test]
fn messages_survive_encoding_and_damaged_ones_are_refused() {
    let mut cluster = Cluster::new(3, 9);
    cluster.elect();
    let mut seen = cluster.sample.clone();
    assert!(seen.len() > 10);
    // A snapshot travels as well.
    let mut joined = Cluster::new(1, 5);
    joined.tick(A);
    joined.sync(A);
    joined.join(D);
    joined.change(A, MemberChange::AddLearner(D)).unwrap();
    joined.sync(A);
    joined.settle(20);
    seen.extend(joined.sample.iter().cloned());
    assert!(seen.iter().any(|bytes| QuorumMessage::decode(bytes).unwrap().is_snapshot()));
    for bytes in seen {
        let message = QuorumMessage::decode(&bytes).unwrap();
        assert_eq!(message.encode(), bytes);
        for end in 0..bytes.len() {
            assert!(QuorumMessage::decode(&bytes[..end]).is_err());
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(QuorumMessage::decode(&longer).is_err());
    }
}

#[test]
fn messages_for_others_or_from_others_than_they_say_are_refused() {
    let mut cluster = Cluster::new(3, 9);
    cluster.elect();
    let message = QuorumMessage::decode(&cluster.sample[0]).unwrap();
    let (from, to) = (message.from(), message.to());
    let third = [A, B, C].into_iter().find(|id| *id != from && *id != to).unwrap();
    assert_eq!(cluster.receive(third, from, message.clone()), Err(MessageError::NotForMe(to)));
    assert_eq!(cluster.receive(to, third, message), Err(MessageError::NotFromThere(from)));
    assert_eq!(bootstrap(&[A], Bytes::new()).len(), 1);
}

#[test]
fn who_has_lost_what_it_has_acknowledged_is_told_and_does_not_break() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.elect();
    for number in 0..5 {
        cluster.propose(leader, number).unwrap();
    }
    cluster.settle(5);
    let wiped = [A, B, C].into_iter().find(|id| *id != leader).unwrap();
    cluster.crash(wiped, 0);
    // It comes back under its number with an empty disk.
    cluster.join(wiped);
    let mut told = 0;
    for _ in 0..10 {
        cluster.tick(leader);
        for (from, to, bytes) in std::mem::take(&mut cluster.network) {
            let message = QuorumMessage::decode(&bytes).unwrap();
            if to == wiped
                && matches!(cluster.receive(to, from, message), Err(MessageError::LostEntries { .. }))
            {
                told += 1;
            }
        }
    }
    assert!(told > 0);
}
