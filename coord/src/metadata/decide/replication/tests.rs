//! A cluster of four brokers whose metadata changes by decisions alone.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::*;
use crate::config::ConfigResourceType;
use crate::group::GroupConfig;
use crate::metadata::decide::{
    ConfigChange, ConfigEdit, ConfigOp, CreateTopicsOptions, NewTopic, create_topics,
};
use crate::metadata::{BrokerSessions, DecideContext};
use crate::types::LeaderEpoch;

const BROKERS: [BrokerId; 4] = [BrokerId(0), BrokerId(1), BrokerId(2), BrokerId(3)];

/// The metadata of a cluster of four brokers.
struct Cluster {
    image: MetadataImage,
    defaults: TopicDefaults,
    topic: Uuid,
}

impl Cluster {
    /// With one partition on the brokers 0, 1 and 2.
    fn new(min_insync_replicas: &str) -> Self {
        let mut cluster =
            Cluster { image: MetadataImage::new(), defaults: TopicDefaults::default(), topic: Uuid::nil() };
        for broker in BROKERS {
            cluster.start(broker, true);
        }
        let topic = NewTopic {
            name: "t".to_owned(),
            num_partitions: -1,
            replication_factor: -1,
            assignments: vec![(0, BROKERS[..3].to_vec())],
            configs: vec![("min.insync.replicas".to_owned(), Some(min_insync_replicas.to_owned()))],
        };
        let options = CreateTopicsOptions {
            validate_only: false,
            default_partitions: 1,
            default_replication_factor: 3,
        };
        let mut random = || 1u64 << 40;
        let mut context = DecideContext { random: &mut random };
        let decision = create_topics(&cluster.image, &[topic], options, &mut context).unwrap();
        assert!(decision.reply[0].1.is_ok(), "{:?}", decision.reply);
        cluster.image.replay_all(&decision.records).unwrap();
        cluster.topic = cluster.image.topic("t").unwrap().id;
        cluster
    }

    fn run<R>(
        &mut self,
        decide: impl FnOnce(ClusterView<'_>) -> Result<Decision<R>, CoordError>,
    ) -> Result<R, CoordError> {
        let view = ClusterView { image: &self.image, defaults: &self.defaults, planted: Planted::default() };
        let decision = decide(view)?;
        self.image.replay_all(&decision.records).expect("a decision fits the image");
        Ok(decision.reply)
    }

    fn epoch(&self, broker: BrokerId) -> i64 {
        self.image.broker(broker).unwrap().broker_epoch
    }

    fn start(&mut self, broker: BrokerId, is_intact: bool) {
        let command = RegisterBroker {
            id: broker,
            incarnation_id: Uuid::from_u128(self.image.next_offset() as u128 + 1),
            rack: None,
            endpoints: Vec::new(),
            fenced: false,
        };
        self.run(|view| register_replica_broker(view, command, is_intact, true)).unwrap();
        self.heartbeat(broker, false);
    }

    fn heartbeat(&mut self, broker: BrokerId, wants_shutdown: bool) -> BrokerHeartbeatReply {
        let heartbeat = BrokerHeartbeat {
            broker,
            broker_epoch: self.epoch(broker),
            metadata_offset: self.image.next_offset(),
            wants_fence: false,
            wants_shutdown,
        };
        self.run(|view| broker_heartbeat(view, &heartbeat)).unwrap()
    }

    fn fence(&mut self, broker: BrokerId) {
        let epoch = self.epoch(broker);
        self.run(|view| fence_broker(view, broker, epoch)).unwrap();
    }

    fn state(&self) -> PartitionImage {
        self.image.topic_by_id(self.topic).unwrap().partitions[0].clone()
    }

    fn id(&self) -> TopicIdPartition {
        TopicIdPartition::new(self.topic, PartitionId(0))
    }

    fn propose(&mut self, members: &[BrokerId]) -> Result<(), CoordError> {
        let state = self.state();
        let members: Vec<(BrokerId, i64)> = members.iter().map(|id| (*id, self.epoch(*id))).collect();
        let proposal = InSyncProposal {
            sender: state.leader,
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            in_sync_replicas: &members,
        };
        let (id, epoch) = (self.id(), self.epoch(state.leader));
        self.run(|view| alter_partitions(view, epoch, &[(id, proposal)]))
            .map(|mut reply| reply.remove(0).map(|_| ()))?
    }

    fn reassign(&mut self, reassignment: &Reassignment) -> Result<(), CoordError> {
        let id = self.id();
        self.run(|view| reassign_partition(view, id, reassignment, false))
    }
}

fn ids(list: &[BrokerId]) -> Vec<i32> {
    list.iter().map(|id| id.0).collect()
}

#[test]
fn a_silent_leader_is_replaced_by_the_next_replica_in_sync() {
    let mut cluster = Cluster::new("2");
    cluster.fence(BROKERS[0]);
    let state = cluster.state();
    assert_eq!((state.leader, state.leader_epoch, state.partition_epoch), (BROKERS[1], LeaderEpoch(1), 1));
    assert_eq!(ids(&state.in_sync_replicas), [1, 2]);
    assert!(state.eligible_leader_replicas.is_empty());
}

#[test]
fn replicas_that_leave_below_the_minimum_stay_eligible_and_come_back_as_leaders() {
    let mut cluster = Cluster::new("2");
    for broker in &BROKERS[..3] {
        cluster.fence(*broker);
    }
    let state = cluster.state();
    assert_eq!(state.leader, BrokerId::NONE);
    assert!(state.in_sync_replicas.is_empty());
    assert_eq!(ids(&state.eligible_leader_replicas), [1, 2], "broker 0 left while there were enough");
    cluster.start(BROKERS[0], true);
    assert_eq!(cluster.state().leader, BrokerId::NONE, "it may lack what was committed after it had left");
    cluster.start(BROKERS[2], true);
    let state = cluster.state();
    assert_eq!((state.leader, ids(&state.in_sync_replicas)), (BROKERS[2], vec![2]));
    assert_eq!(ids(&state.eligible_leader_replicas), [1]);
    assert_eq!(state.last_unclean_epoch, LeaderEpoch::UNKNOWN);
}

#[test]
fn a_broker_without_its_data_is_eligible_nowhere() {
    let mut cluster = Cluster::new("3");
    cluster.start(BROKERS[1], false);
    let state = cluster.state();
    assert_eq!(ids(&state.in_sync_replicas), [0, 2]);
    assert!(state.eligible_leader_replicas.is_empty());
    assert_eq!(ids(&state.last_known_eligible_leader_replicas), [1]);
}

#[test]
fn an_unclean_election_happens_only_where_the_topic_allows_it_and_is_recorded() {
    let mut cluster = Cluster::new("1");
    cluster.propose(&BROKERS[..1]).unwrap();
    cluster.fence(BROKERS[0]);
    let leader_epoch = cluster.state().leader_epoch;
    assert_eq!(cluster.state().leader, BrokerId::NONE);
    let id = cluster.id();
    cluster.run(|view| Ok(elect_missing_leaders(view))).unwrap();
    assert_eq!(cluster.state().leader, BrokerId::NONE);
    cluster.run(|view| elect_replica_leader(view, id, ElectionType::Unclean)).unwrap();
    let state = cluster.state();
    assert_eq!((state.leader, ids(&state.in_sync_replicas)), (BROKERS[1], vec![1]));
    assert_eq!(state.last_unclean_epoch, LeaderEpoch(leader_epoch.0 + 1));
}

#[test]
fn a_proposal_counts_only_for_the_state_and_the_processes_that_its_leader_saw() {
    let mut cluster = Cluster::new("1");
    cluster.propose(&BROKERS[..2]).unwrap();
    let state = cluster.state();
    assert_eq!(ids(&state.in_sync_replicas), [0, 1]);
    let stale = [(BROKERS[0], cluster.epoch(BROKERS[0])), (BROKERS[2], cluster.epoch(BROKERS[2]) - 1)];
    let current = [(BROKERS[0], cluster.epoch(BROKERS[0]))];
    let proposal = |members, leader_epoch, partition_epoch| InSyncProposal {
        sender: BROKERS[0],
        leader_epoch,
        partition_epoch,
        in_sync_replicas: members,
    };
    let (id, epoch) = (cluster.id(), cluster.epoch(BROKERS[0]));
    let mut outcome = |proposal| {
        cluster.run(|view| alter_partitions(view, epoch, &[(id, proposal)])).unwrap().remove(0).map(|_| ())
    };
    assert_eq!(outcome(proposal(&stale, LeaderEpoch(0), 1)), Err(CoordError::IneligibleReplica));
    assert_eq!(outcome(proposal(&current, LeaderEpoch(0), 0)), Err(CoordError::InvalidPartitionEpoch));
    assert_eq!(outcome(proposal(&current, LeaderEpoch(1), 1)), Err(CoordError::NotController));
    assert_eq!(outcome(proposal(&current, LeaderEpoch(0), 1)), Ok(()));
    cluster.fence(BROKERS[2]);
    assert_eq!(cluster.propose(&[BROKERS[0], BROKERS[2]]), Err(CoordError::IneligibleReplica));
    assert!(matches!(cluster.propose(&[BROKERS[1]]), Err(CoordError::InvalidRequest(_))));
    let (id, epoch) = (cluster.id(), cluster.epoch(BROKERS[0]) - 1);
    let refused =
        cluster.run(|view| alter_partitions(view, epoch, &[(id, proposal(&current, LeaderEpoch(0), 2))]));
    assert!(matches!(refused, Err(CoordError::StaleBrokerEpoch { .. })));
}

#[test]
fn a_broker_that_wants_to_stop_hands_over_what_it_leads() {
    let mut cluster = Cluster::new("2");
    let reply = cluster.heartbeat(BROKERS[0], true);
    assert_eq!(reply, BrokerHeartbeatReply { is_caught_up: true, is_fenced: true, may_stop: true });
    assert_eq!(cluster.state().leader, BROKERS[1]);
    cluster.start(BROKERS[0], true);
    cluster.propose(&BROKERS[..3]).unwrap();
    cluster.run(|view| Ok(balance_leaders(view, &BTreeSet::new(), 10))).unwrap();
    let state = cluster.state();
    assert_eq!((state.leader, state.leader_epoch), (BROKERS[0], LeaderEpoch(2)));
    let id = cluster.id();
    let again = cluster.run(|view| elect_replica_leader(view, id, ElectionType::Preferred));
    assert_eq!(again, Err(CoordError::ElectionNotNeeded));
}

#[test]
fn a_reassignment_adds_first_and_removes_when_the_new_replicas_are_in_sync() {
    let mut cluster = Cluster::new("2");
    let target = Reassignment::To(vec![BROKERS[3], BROKERS[1], BROKERS[2]]);
    cluster.reassign(&target).unwrap();
    let state = cluster.state();
    assert_eq!((ids(&state.replicas), ids(&state.adding_replicas)), (vec![3, 1, 2, 0], vec![3]));
    assert_eq!((ids(&state.removing_replicas), state.leader), (vec![0], BROKERS[0]));
    assert_eq!(reassignments(&cluster.image).count(), 1);
    cluster.propose(&BROKERS).unwrap();
    let state = cluster.state();
    assert_eq!((ids(&state.replicas), ids(&state.in_sync_replicas)), (vec![3, 1, 2], vec![3, 1, 2]));
    assert_eq!((state.leader, state.leader_epoch), (BROKERS[3], LeaderEpoch(1)));
    assert!(!state.is_reassigning());
    assert_eq!(cluster.reassign(&Reassignment::Cancel), Err(CoordError::NoReassignmentInProgress));
}

#[test]
fn a_reassignment_that_is_called_off_leaves_the_replicas_of_before() {
    let mut cluster = Cluster::new("2");
    cluster.reassign(&Reassignment::To(vec![BROKERS[3], BROKERS[1], BROKERS[2]])).unwrap();
    cluster.reassign(&Reassignment::Cancel).unwrap();
    let state = cluster.state();
    assert_eq!((ids(&state.replicas), state.leader), (vec![1, 2, 0], BROKERS[0]));
    assert!(!state.is_reassigning());
    let other_factor = Reassignment::To(BROKERS[..2].to_vec());
    assert!(matches!(cluster.reassign(&other_factor), Err(CoordError::InvalidReplicationFactor(_))));
}

#[test]
fn the_only_replica_that_has_everything_is_not_dropped_because_a_reassignment_ends() {
    let mut cluster = Cluster::new("1");
    cluster.reassign(&Reassignment::To(vec![BROKERS[3], BROKERS[1], BROKERS[2]])).unwrap();
    cluster.propose(&[BROKERS[0], BROKERS[3]]).unwrap();
    cluster.fence(BROKERS[0]);
    assert_eq!(ids(&cluster.state().in_sync_replicas), vec![3]);
    let refuses = |cluster: &mut Cluster| {
        for other in [Reassignment::Cancel, Reassignment::To(BROKERS[..3].to_vec())] {
            assert!(matches!(cluster.reassign(&other), Err(CoordError::InvalidReplicaAssignment(_))));
        }
    };
    refuses(&mut cluster);
    // Nobody leads then, and it is the only one that may.
    cluster.fence(BROKERS[3]);
    refuses(&mut cluster);
}

#[test]
fn the_epoch_grows_when_a_replica_goes_so_that_what_it_acknowledged_does_not_count_for_its_successor() {
    let mut cluster = Cluster::new("2");
    cluster.reassign(&Reassignment::To(vec![BROKERS[0], BROKERS[1], BROKERS[3]])).unwrap();
    assert_eq!(cluster.state().leader_epoch, LeaderEpoch(0), "nobody has gone yet");
    cluster.propose(&BROKERS).unwrap();
    let state = cluster.state();
    assert_eq!(
        (ids(&state.replicas), state.leader, state.leader_epoch),
        (vec![0, 1, 3], BROKERS[0], LeaderEpoch(1))
    );
}

#[test]
fn a_process_that_registers_again_has_the_epoch_that_it_had() {
    let mut cluster = Cluster::new("2");
    let command = RegisterBroker {
        id: BROKERS[3],
        incarnation_id: Uuid::from_u128(77),
        rack: None,
        endpoints: Vec::new(),
        fenced: true,
    };
    let first = cluster.run(|view| register_replica_broker(view, command.clone(), true, true)).unwrap();
    cluster.heartbeat(BROKERS[3], false);
    let again = cluster.run(|view| register_replica_broker(view, command, true, true)).unwrap();
    assert_eq!(again, first);
    assert!(cluster.image.is_active(BROKERS[3]), "it takes part still");
}

#[test]
fn a_change_of_min_insync_replicas_reaches_the_leader_with_the_state_in_which_it_holds() {
    let mut cluster = Cluster::new("2");
    let set = |cluster: &mut Cluster, value: &str| {
        let change = ConfigChange {
            name: "min.insync.replicas".to_owned(),
            op: ConfigOp::Set,
            value: Some(value.to_owned()),
        };
        let resource = AlterConfigs {
            resource_type: ConfigResourceType::Topic,
            resource_name: "t".to_owned(),
            edit: ConfigEdit::Incremental(vec![change]),
        };
        let rules = ConfigRules { read_only: Default::default(), group: GroupConfig::default() };
        cluster
            .run(|view| Ok(alter_replica_configs(view, &[resource], &rules, false)))
            .unwrap()
            .remove(0)
            .unwrap();
        cluster.state()
    };
    let epoch = cluster.state().partition_epoch;
    assert_eq!(set(&mut cluster, "5").partition_epoch, epoch + 1, "as many as there are replicas");
    assert_eq!(set(&mut cluster, "3").partition_epoch, epoch + 1, "that is the same");
    cluster.fence(BROKERS[2]);
    assert_eq!(ids(&cluster.state().eligible_leader_replicas), [2]);
    let state = set(&mut cluster, "2");
    assert!(state.eligible_leader_replicas.is_empty(), "the leader commits without it from now on");
    assert_eq!((state.partition_epoch, state.leader_epoch), (epoch + 3, LeaderEpoch(0)));
}

#[test]
fn brokers_that_are_not_heard_of_for_a_session_expire_and_a_new_controller_waits_for_one() {
    let cluster = Cluster::new("1");
    let mut sessions = BrokerSessions::new(1_000);
    assert!(sessions.expired(&cluster.image, 9_000, 10_000).is_empty());
    assert_eq!(sessions.next_expiry_ms(&cluster.image, 9_000), Some(10_001));
    for broker in &BROKERS[1..] {
        sessions.heard(*broker, 5_000);
    }
    assert_eq!(sessions.expired(&cluster.image, 9_000, 10_001), [(BROKERS[0], cluster.epoch(BROKERS[0]))]);
    sessions.begin_anew(30_000);
    assert!(
        sessions.expired(&cluster.image, 9_000, 39_000).is_empty(),
        "who did not listen cannot say who was silent"
    );
    assert_eq!(sessions.expired(&cluster.image, 9_000, 39_001).len(), BROKERS.len());
}

#[test]
fn a_broker_that_is_let_in_has_been_heard_of_by_then_unless_it_is_an_earlier_process_that_speaks() {
    let cluster = Cluster::new("1");
    let mut sessions = BrokerSessions::default();
    let epoch = cluster.epoch(BROKERS[0]);
    sessions.heard_from(&cluster.image, BROKERS[0], epoch, 5_000);
    sessions.heard_from(&cluster.image, BROKERS[1], cluster.epoch(BROKERS[1]) - 1, 5_000);
    let expired = sessions.expired(&cluster.image, 3_000, 5_100);
    let ids: Vec<BrokerId> = expired.into_iter().map(|(broker, _)| broker).collect();
    assert_eq!(ids, BROKERS[1..]);
}

#[test]
fn brokers_at_whose_address_nobody_listens_leave_soon_unless_they_are_heard_of() {
    let mut cluster = Cluster::new("1");
    let epochs: Vec<i64> = BROKERS.iter().map(|broker| cluster.epoch(*broker)).collect();
    // A new controller has heard of nobody, also of those that were gone before it came.
    let mut sessions = BrokerSessions::new(1_050);
    let gone = [(BROKERS[0], 1_000), (BROKERS[1], 1_000)];
    assert!(sessions.left(&cluster.image, &gone, 1_199).is_empty());
    sessions.heard(BROKERS[1], 1_100);
    assert_eq!(sessions.left(&cluster.image, &gone, 1_200), [(BROKERS[0], epochs[0])]);
    cluster.fence(BROKERS[0]);
    assert!(sessions.left(&cluster.image, &gone, 1_300).is_empty(), "it does not take part any more");
}

#[test]
fn a_broker_whose_disk_is_full_leads_nothing_that_others_can_lead_until_it_has_room() {
    let mut cluster = Cluster::new("2");
    let mut sessions = BrokerSessions::new(0);
    sessions.note_disk(BROKERS[0], true);
    assert_eq!(cluster.run(|view| Ok(relieve_full_brokers(view, sessions.full()))), Ok(1));
    let state = cluster.state();
    assert_eq!((state.leader, state.leader_epoch), (BROKERS[1], LeaderEpoch(1)));
    assert_eq!(ids(&state.in_sync_replicas), [0, 1, 2], "what it has is still there");
    cluster.run(|view| Ok(balance_leaders(view, sessions.full(), 10))).unwrap();
    assert_eq!(cluster.state().leader, BROKERS[1], "the preferred leader has no room");

    sessions.note_disk(BROKERS[0], false);
    cluster.run(|view| Ok(balance_leaders(view, sessions.full(), 10))).unwrap();
    assert_eq!(cluster.state().leader, BROKERS[0]);
}

#[test]
fn brokers_with_full_disks_do_not_hand_leadership_to_each_other() {
    let mut cluster = Cluster::new("2");
    let full: BTreeSet<BrokerId> = BROKERS[..3].iter().copied().collect();
    assert_eq!(cluster.run(|view| Ok(relieve_full_brokers(view, &full))), Ok(0));
    assert_eq!((cluster.state().leader, cluster.state().leader_epoch), (BROKERS[0], LeaderEpoch(0)));
}
