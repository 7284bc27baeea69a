//! Membership in a consumer group by the new protocol (KIP-848): the broker assigns, the member says what it has given up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use protocol::error::ErrorCode;
use protocol::messages::ConsumerGroupHeartbeatRequest;
use protocol::messages::consumer_group_heartbeat::TopicPartitions;
use uuid::Uuid;

use super::error::{ClientError, check};
use super::{Client, TopicPartition};

/// Epoch with which a member joins.
const JOIN_EPOCH: i32 = 0;
/// Epoch with which a member leaves.
const LEAVE_EPOCH: i32 = -1;

/// What a heartbeat has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heartbeat {
    /// All stays as it is.
    Unchanged,
    /// The member is to have these partitions: it stops reading all others, commits them, and calls [`Member::own`].
    Assigned(BTreeSet<TopicPartition>),
    /// The group has taken the member for dead: all it had is lost, commits included; the next heartbeat joins anew.
    Lost,
}

/// This process as a member of a group.
#[derive(Debug)]
pub struct Member {
    group: String,
    topics: Vec<String>,
    rebalance_timeout_ms: i32,
    id: String,
    epoch: i32,
    owned: BTreeSet<TopicPartition>,
    /// What is owned has changed since the broker was told.
    untold: bool,
    topic_ids: BTreeMap<String, Uuid>,
    next_heartbeat: Instant,
}

impl Member {
    /// A member that has not joined yet. It promises to give up partitions within `rebalance_timeout`.
    pub fn new(group: &str, topics: Vec<String>, rebalance_timeout: Duration) -> Member {
        Member {
            group: group.to_owned(),
            topics,
            rebalance_timeout_ms: i32::try_from(rebalance_timeout.as_millis()).unwrap_or(i32::MAX),
            id: Uuid::new_v4().to_string(),
            epoch: JOIN_EPOCH,
            owned: BTreeSet::new(),
            untold: false,
            topic_ids: BTreeMap::new(),
            next_heartbeat: Instant::now(),
        }
    }

    /// Its id and epoch, for commits.
    pub fn identity(&self) -> (&str, i32) {
        (&self.id, self.epoch)
    }

    /// Whether it is time to call [`Member::heartbeat`].
    pub fn is_due(&self) -> bool {
        self.untold || Instant::now() >= self.next_heartbeat
    }

    /// Says that the member has now exactly these partitions; the next heartbeat, which is due at once, tells the broker.
    pub fn own(&mut self, partitions: BTreeSet<TopicPartition>) {
        self.untold |= self.owned != partitions;
        self.owned = partitions;
    }

    /// Joins, or says that the member is alive and what it owns.
    pub fn heartbeat(&mut self, client: &mut Client) -> Result<Heartbeat, ClientError> {
        let joins = self.epoch == JOIN_EPOCH;
        let request = ConsumerGroupHeartbeatRequest {
            group_id: self.group.as_str().into(),
            member_id: self.id.as_str().into(),
            member_epoch: self.epoch,
            rebalance_timeout_ms: if joins { self.rebalance_timeout_ms } else { -1 },
            subscribed_topic_names: joins
                .then(|| self.topics.iter().map(|topic| topic.as_str().into()).collect()),
            topic_partitions: (joins || self.untold).then(|| self.wire_owned()),
            ..Default::default()
        };
        let outcome = client.at_coordinator(&self.group, |connection| {
            let response = connection.call(&request)?;
            let what = || format!("joining group '{}'", self.group);
            check(what, response.error_code, response.error_message.as_deref())?;
            let assigned = response.assignment.as_ref().map(|assignment| {
                let topics = assignment.topic_partitions.iter();
                topics.map(|topic| (topic.topic_id, topic.partitions.clone())).collect::<Vec<_>>()
            });
            let interval = u64::try_from(response.heartbeat_interval_ms).unwrap_or_default();
            let id = response.member_id.as_deref().map(str::to_owned);
            Ok((id, response.member_epoch, Duration::from_millis(interval), assigned))
        });
        let (id, epoch, interval, assigned) = match outcome {
            Err(error) if !joins && is_expelled(&error) => {
                self.epoch = JOIN_EPOCH;
                self.owned.clear();
                self.next_heartbeat = Instant::now();
                return Ok(Heartbeat::Lost);
            }
            outcome => outcome?,
        };
        self.id = id.unwrap_or_else(|| std::mem::take(&mut self.id));
        self.epoch = epoch;
        self.untold = false;
        self.next_heartbeat = Instant::now() + interval;
        match assigned {
            None => Ok(Heartbeat::Unchanged),
            Some(assigned) => Ok(Heartbeat::Assigned(self.named(client, assigned)?)),
        }
    }

    /// Leaves the group, so that the others need not wait for the session's end.
    pub fn leave(&mut self, client: &mut Client) -> Result<(), ClientError> {
        if self.epoch <= JOIN_EPOCH {
            return Ok(());
        }
        let request = ConsumerGroupHeartbeatRequest {
            group_id: self.group.as_str().into(),
            member_id: self.id.as_str().into(),
            member_epoch: LEAVE_EPOCH,
            ..Default::default()
        };
        let outcome = client.at_coordinator(&self.group, |connection| {
            let response = connection.call(&request)?;
            let what = || format!("leaving group '{}'", self.group);
            check(what, response.error_code, response.error_message.as_deref())
        });
        self.epoch = JOIN_EPOCH;
        match outcome {
            Err(error) if is_expelled(&error) => Ok(()),
            outcome => outcome,
        }
    }

    fn wire_owned<'a>(&self) -> Vec<TopicPartitions<'a>> {
        let mut by_topic: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
        for partition in &self.owned {
            if let Some(id) = self.topic_ids.get(&partition.topic) {
                by_topic.entry(*id).or_default().push(partition.partition);
            }
        }
        let topic = |(topic_id, partitions)| TopicPartitions { topic_id, partitions, ..Default::default() };
        by_topic.into_iter().map(topic).collect()
    }

    /// Topics by their names; a topic that does not exist any more is left out.
    fn named(
        &mut self,
        client: &mut Client,
        assigned: Vec<(Uuid, Vec<i32>)>,
    ) -> Result<BTreeSet<TopicPartition>, ClientError> {
        if assigned.iter().any(|(id, _)| !self.topic_ids.values().any(|known| known == id)) {
            let names: Vec<&str> = self.topics.iter().map(String::as_str).collect();
            let topics = client.topics_named(&names)?;
            self.topic_ids = topics.into_iter().map(|(name, topic)| (name, topic.id)).collect();
        }
        let mut partitions = BTreeSet::new();
        for (id, indexes) in assigned {
            if let Some((name, _)) = self.topic_ids.iter().find(|(_, known)| **known == id) {
                partitions.extend(indexes.into_iter().map(|index| TopicPartition::new(name, index)));
            }
        }
        Ok(partitions)
    }
}

/// Whether the group does not count the member any more.
fn is_expelled(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Some(ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_MEMBER_EPOCH | ErrorCode::GROUP_ID_NOT_FOUND)
    )
}
