//! Which replica a consumer had better read from: the leader decides (KIP-392).
//!
//! Source: `ReplicaManager.findPreferredReadReplica`, `RackAwareReplicaSelector`.

use std::cmp::Reverse;

use storage::Offset;

use super::leader::ReplicaStatus;
use super::partition::{Replica, State};
use crate::types::BrokerId;

impl Replica {
    /// The follower in the consumer's rack that is furthest, for a consumer that wants to go on at `fetch_offset`. `None`: it reads from the leader, because
    /// that is in the consumer's rack, too, or because no follower there is in sync and has the offset; also if this is not the leader.
    ///
    /// `rack_of` gives the racks of brokers that are there.
    pub fn preferred_read_replica<'a>(
        &self,
        fetch_offset: Offset,
        client_rack: &str,
        rack_of: impl Fn(BrokerId) -> Option<&'a str>,
        now_ms: i64,
    ) -> Option<BrokerId> {
        let is_near = |id: BrokerId| rack_of(id) == Some(client_rack);
        let leads = matches!(self.state, State::Leader(_));
        if !leads || client_rack.is_empty() || is_near(self.config.me) || fetch_offset < self.log.start() {
            return None;
        }
        let has_offset = |status: &ReplicaStatus| status.durable_end.is_some_and(|end| end >= fetch_offset);
        let near = self
            .followers(now_ms)
            .filter(|status| status.is_in_sync && has_offset(status) && is_near(status.id));
        let best = near.max_by_key(|status| (status.durable_end, Reverse(status.behind_ms), status.id));
        best.map(|status| status.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::testing::leader;
    use crate::replica::{PartitionState, ReplicaBroker};
    use crate::types::LeaderEpoch;

    fn rack_of(id: BrokerId) -> Option<&'static str> {
        ["a", "b", "b", "c"].get(usize::try_from(id.0 - 1).ok()?).copied()
    }

    fn preferred(replica: &Replica, fetch_offset: i64, rack: &str) -> Option<i32> {
        replica.preferred_read_replica(Offset(fetch_offset), rack, rack_of, 0).map(|id| id.0)
    }

    #[test]
    fn a_consumer_is_sent_to_the_follower_in_its_rack_that_has_most() {
        let replica = leader(&[(2, 10), (3, 8), (4, 10)], &[1, 2, 3, 4]);
        assert_eq!(preferred(&replica, 5, "b"), Some(2));
        assert_eq!(preferred(&replica, 5, "c"), Some(4));
        let replica = leader(&[(2, 8), (3, 10)], &[1, 2, 3]);
        assert_eq!(preferred(&replica, 5, "b"), Some(3));
    }

    #[test]
    fn in_the_leaders_rack_in_none_and_in_one_without_replicas_consumers_stay_with_the_leader() {
        let replica = leader(&[(2, 10), (3, 10)], &[1, 2, 3]);
        for rack in ["a", "", "c", "elsewhere"] {
            assert_eq!(preferred(&replica, 5, rack), None, "{rack}");
        }
    }

    #[test]
    fn a_follower_that_is_out_of_sync_or_has_not_got_so_far_is_not_preferred() {
        let replica = leader(&[(2, 7), (3, 10)], &[1, 2]);
        assert_eq!(preferred(&replica, 7, "b"), Some(2));
        assert_eq!(preferred(&replica, 8, "b"), None);
    }

    #[test]
    fn only_a_leader_sends_consumers_elsewhere() {
        let mut replica = leader(&[(2, 10)], &[1, 2]);
        let broker = |id| ReplicaBroker { id: BrokerId(id), broker_epoch: 1, is_active: true };
        let state = PartitionState {
            leader: BrokerId(2),
            leader_epoch: LeaderEpoch(2),
            partition_epoch: 2,
            replicas: [1, 2].map(broker).to_vec(),
            in_sync_replicas: [1, 2].map(BrokerId).to_vec(),
            min_insync_replicas: 1,
            last_unclean_epoch: LeaderEpoch::UNKNOWN,
        };
        replica.state_changed(&state, 0, &mut Vec::new());
        assert_eq!(preferred(&replica, 5, "b"), None);
    }
}
