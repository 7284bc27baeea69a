//! Which members of a consumer group may commit and fetch offsets.

use protocol::ErrorCode;

use super::group::ConsumerGroup;
use super::member::Member;

/// First version of OffsetCommit that says STALE_MEMBER_EPOCH, which members of the consumer protocol have to understand.
const OFFSET_COMMIT_WITH_MEMBER_EPOCH: i16 = 9;

impl ConsumerGroup {
    /// Whether this member may commit offsets in this epoch. An epoch below 0 is somebody outside (an administrator), who may while there
    /// are no members.
    pub(in crate::group) fn validate_offset_commit(
        &self,
        member_id: &str,
        _group_instance_id: Option<&str>,
        member_epoch: i32,
        api_version: i16,
    ) -> Result<(), ErrorCode> {
        if member_epoch < 0 && self.is_empty() {
            return Ok(());
        }
        let member = self.members.get(member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if !member.uses_classic_protocol() && api_version < OFFSET_COMMIT_WITH_MEMBER_EPOCH {
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        check_epoch(member, member_epoch)
    }

    /// Whether this member may fetch offsets in this epoch; no member and an epoch below 0 is somebody outside, who may.
    pub(in crate::group) fn validate_offset_fetch(
        &self,
        member_id: Option<&str>,
        member_epoch: i32,
    ) -> Result<(), ErrorCode> {
        if member_id.is_none_or(str::is_empty) && member_epoch < 0 {
            return Ok(());
        }
        let member = self.members.get(member_id.unwrap_or_default()).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        check_epoch(member, member_epoch)
    }
}

fn check_epoch(member: &Member, epoch: i32) -> Result<(), ErrorCode> {
    match epoch == member.current.member_epoch {
        true => Ok(()),
        false if member.uses_classic_protocol() => Err(ErrorCode::ILLEGAL_GENERATION),
        false => Err(ErrorCode::STALE_MEMBER_EPOCH),
    }
}
