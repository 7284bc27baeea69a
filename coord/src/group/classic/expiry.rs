//! What happens when time is up.

use tracing::{debug, info};

use super::operation::ClassicOperation;
use super::state::ClassicGroupState;

impl ClassicOperation<'_> {
    /// Nothing was heard of a member for its session time-out.
    pub(in crate::group) fn session_over(&mut self, member_id: &str) {
        if self.group.pending_join_members.contains(member_id) {
            debug!(group = %self.group.group_id, member = %member_id, "a member id was not used in time");
            self.group.remove(member_id);
            if self.group.state == ClassicGroupState::PreparingRebalance
                && self.group.has_all_members_joined()
            {
                self.complete_join();
            }
            return;
        }
        let failed = self.group.member(member_id).is_some_and(|member| !member.has_satisfied_heartbeat());
        if failed {
            info!(group = %self.group.group_id, member = %member_id, "a member's session is over");
            self.remove_member(member_id, "a member's session is over");
        }
    }

    /// The time for members to join is up.
    pub(in crate::group) fn join_over(&mut self) {
        if self.group.state != ClassicGroupState::PreparingRebalance {
            return;
        }
        match self.group.initial_delay {
            Some(delay) => self.initial_delay_over(delay),
            None => self.complete_join(),
        }
    }

    /// The time for members to synchronize is up: those who have not are removed.
    pub(in crate::group) fn sync_over(&mut self) {
        let synchronizing =
            matches!(self.group.state, ClassicGroupState::CompletingRebalance | ClassicGroupState::Stable);
        if !synchronizing || self.group.pending_sync_members.is_empty() {
            return;
        }
        for member_id in std::mem::take(&mut self.group.pending_sync_members) {
            info!(group = %self.group.group_id, member = %member_id, "removing a member that has not synchronized");
            self.drop_member(&member_id);
        }
        self.prepare_rebalance("members have not synchronized in time");
    }
}
