//! A member of a classic group.

use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;
use protocol::messages::join_group::JoinGroupRequestProtocol;

use crate::group::api::ReplyToken;

/// A request that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub(in crate::group) struct Waiting {
    /// Where the answer goes.
    pub(in crate::group) token: ReplyToken,
    /// Version of the request.
    pub(in crate::group) api_version: i16,
}

/// A protocol that a member can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicProtocol {
    /// Its name: that of an assignor, for consumers.
    pub name: Rc<str>,
    /// The member's metadata for it (for consumers, its subscription), opaque to the coordinator.
    pub metadata: Bytes,
}

/// A member of a classic group.
#[derive(Debug)]
pub struct ClassicMember {
    /// The member's id.
    pub member_id: Rc<str>,
    /// The static membership id (KIP-345), if the member is static.
    pub group_instance_id: Option<Rc<str>>,
    /// Name the client gives itself.
    pub client_id: Rc<str>,
    /// Address the client connects from.
    pub client_host: Rc<str>,
    /// How long the member may take to rejoin, in ms.
    pub rebalance_timeout_ms: i32,
    /// Silence after which the member counts as dead, in ms.
    pub session_timeout_ms: i32,
    /// What the member can use, most wanted first, no name twice.
    pub protocols: Vec<ClassicProtocol>,
    /// What the leader assigned in the current generation; empty before.
    pub assignment: Bytes,
    /// Whether the member has not seen a generation yet; its session cannot be kept alive until then.
    pub(in crate::group) is_new: bool,
    /// Its JoinGroup, while that waits.
    pub(in crate::group) awaiting_join: Option<Waiting>,
    /// Its SyncGroup, while that waits.
    pub(in crate::group) awaiting_sync: Option<Waiting>,
}

impl ClassicMember {
    /// The metadata for a protocol; empty if the member cannot use it.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|candidate| &*candidate.name == protocol)
            .map_or_else(Bytes::new, |candidate| candidate.metadata.clone())
    }

    /// Whether a JoinGroup says the same about the member as the last one did.
    pub(super) fn matches(&self, protocols: &[ClassicProtocol]) -> bool {
        self.protocols == protocols
    }

    /// Whether the member need not send heartbeats at the moment, because a request of it waits.
    pub(super) fn has_satisfied_heartbeat(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }
}

/// The protocols of a request, copied; of protocols with one name, the first.
pub(super) fn protocols_from(request: &[JoinGroupRequestProtocol<'_>]) -> Vec<ClassicProtocol> {
    let mut seen = BTreeSet::new();
    let distinct = request.iter().filter(|protocol| seen.insert(&*protocol.name));
    distinct
        .map(|protocol| ClassicProtocol {
            name: (&*protocol.name).into(),
            metadata: Bytes::copy_from_slice(&protocol.metadata),
        })
        .collect()
}
