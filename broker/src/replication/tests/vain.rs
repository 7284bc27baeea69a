//! Leaders that lead in vain, and find out.

use super::*;
use crate::replication::vain;

fn host(cluster: &Cluster, node: usize) -> Rc<TestHost> {
    Rc::clone(&cluster.nodes[node].life.as_ref().unwrap().host)
}

/// Node 0, which leads partition 0.
fn leader(cluster: &Cluster) -> Rc<TestHost> {
    host(cluster, 0)
}

#[test]
fn a_leader_that_hears_no_controller_and_does_not_reach_a_replica_in_sync_sends_producers_and_readers_away_until_it_does()
 {
    let mut cluster = Cluster::new(7, "2");
    let (host, id) = (leader(&cluster), cluster.id(0));
    let waiting = cluster.append(0, 0, &batch(1, 0, 10)).unwrap();
    let log = host.store.partition(&id).unwrap();
    let signal = WakeSignal::new();
    log.subscribe(&signal);

    vain::set_unreachable(&host, BTreeSet::from([BrokerId(2)]));
    assert_eq!(waiting.now_or_never(), Some(CommitOutcome::NotLeader));
    assert_eq!(signal.wait().now_or_never(), Some(()), "readers look elsewhere for more");
    assert_eq!(host.roles.borrow()[&id], Role::Leaderless, "groups, too");
    for acks_all in [true, false] {
        let refused = host.replicas.get(&id).unwrap().check_append(acks_all);
        assert_eq!(refused, Err(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    }

    vain::set_unreachable(&host, BTreeSet::new());
    assert!(matches!(host.roles.borrow()[&id], Role::Leader { .. }));
    let mut producer = Producer::default();
    producer.run(&mut cluster, 0, 10);
    cluster.settle();
    producer.run(&mut cluster, 0, 10);
    assert!(producer.acknowledged > 0, "the batch that was appended before is known by its sequence number");
}

#[test]
fn who_is_out_of_sync_need_not_be_reached() {
    let mut cluster = Cluster::new(8, "2");
    let host = leader(&cluster);
    let epoch = cluster.image.broker(BrokerId(2)).unwrap().broker_epoch;
    let fenced = fence_broker(cluster.view(), BrokerId(2), epoch).unwrap();
    cluster.replay(fenced.records);
    cluster.publish();
    vain::set_unreachable(&host, BTreeSet::from([BrokerId(2)]));
    assert!(cluster.append(0, 0, &batch(1, 0, 10)).is_ok());
}

#[test]
fn a_leader_whose_follower_knows_a_later_epoch_leads_in_vain_until_the_metadata_says_who_does() {
    let mut cluster = Cluster::new(9, "1");
    let (host, id) = (leader(&cluster), cluster.id(0));
    let waiting = cluster.append(0, 0, &batch(1, 0, 10)).unwrap();
    let hosted = host.replicas.get(&id).unwrap();
    let later = LeaderEpoch(hosted.leader_epoch().0 + 1);
    vain::heard_of_later_epoch(&host, &hosted, later);
    assert_eq!(waiting.now_or_never(), Some(CommitOutcome::NotLeader));
    assert_eq!(hosted.role(), Role::Leaderless);

    let epoch = cluster.image.broker(BrokerId(0)).unwrap().broker_epoch;
    let fenced = fence_broker(cluster.view(), BrokerId(0), epoch).unwrap();
    cluster.replay(fenced.records);
    cluster.publish();
    assert_eq!(hosted.leader_epoch(), later);
    assert_eq!(
        hosted.role(),
        Role::Follower { leader: cluster.image.topic("orders").unwrap().partitions[0].leader }
    );
}

#[test]
fn a_deposed_leader_whose_disk_is_full_cuts_its_log_when_there_is_room() {
    let mut cluster = Cluster::new(10, "1");
    // Nobody else gets this.
    let waiting = cluster.append(0, 0, &batch(1, 0, 10)).unwrap();
    cluster.pass_time(10);
    cluster.nodes[0].disk.fill_up();
    let epoch = cluster.image.broker(BrokerId(0)).unwrap().broker_epoch;
    let fenced = fence_broker(cluster.view(), BrokerId(0), epoch).unwrap();
    cluster.replay(fenced.records);
    cluster.publish();
    assert_eq!(waiting.now_or_never(), Some(CommitOutcome::NotLeader));
    let leader = cluster.leader(0).unwrap();
    cluster.append(leader, 0, &batch(2, 0, 10)).map(drop).unwrap();
    let id = cluster.id(0);
    let log = host(&cluster, 0).store.partition(&id).unwrap();
    for _ in 0..20 {
        cluster.carry(leader, 0, false);
        cluster.pass_time(1_000);
    }
    assert_eq!(log.offsets().high_watermark, Offset(0), "its own batch is still there");

    cluster.nodes[0].disk.make_room();
    cluster.settle();
    assert_eq!(log.offsets().high_watermark, Offset(1));
    assert_eq!(cluster.content(0, 0), cluster.content(leader, 0));
}
