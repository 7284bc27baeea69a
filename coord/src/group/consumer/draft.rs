//! A consumer group while a decision about it is made.
//!
//! A decision is a row of steps, each of which looks at what the steps before have done: a member joins, so the epoch grows, so the target
//! is computed, so the member moves. Each step makes records; they are replayed into a copy of the group at once, by the code that will
//! replay them into the group when they have been appended. A decision without records copies nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use ahash::AHashMap;
use protocol::ErrorCode;

use super::assignor::{AssignableMember, AssignableTopic, Assignor, GroupSpec, Subscriptions};
use super::group::{ConsumerGroup, ResolvedRegularExpression};
use super::member::{CurrentAssignment, LEAVE_GROUP_STATIC_MEMBER_EPOCH, Member};
use super::partitions::Partitions;
use super::pattern::TopicPattern;
use super::reconcile::Reconciliation;
use super::records::Records;
use super::refusal::Refusal;
use super::topics::TopicsView;
use crate::group::config::GroupConfig;
use crate::group::record::GroupRecord;

/// Regular expressions of a group are not all resolved again before this time has passed, in ms.
const REGEX_REFRESH_MIN_INTERVAL_MS: i64 = 10_000;

/// What decisions depend on besides the group.
#[derive(Debug, Clone, Copy)]
pub(in crate::group) struct Environment<'a> {
    /// The configs.
    pub config: &'a GroupConfig,
    /// The cluster's topics.
    pub topics: &'a TopicsView,
    /// The version of the first image that has the topics created last.
    pub version_with_new_topics: i64,
    /// The time, in ms since the epoch.
    pub now_ms: i64,
}

impl Environment<'_> {
    /// The assignors that members may choose, the default first.
    pub fn assignors(&self) -> impl Iterator<Item = Assignor> + '_ {
        self.config.group_consumer_assignors.iter().filter_map(|name| Assignor::by_name(name))
    }

    /// The assignor of groups whose members have no wish.
    pub fn default_assignor(&self) -> Assignor {
        self.assignors().next().unwrap_or(Assignor::Uniform)
    }
}

/// A group and the records of the decision so far.
pub(super) struct Draft<'a> {
    pub env: &'a Environment<'a>,
    pub group_id: &'a str,
    pub make: Records<'a>,
    group: Cow<'a, ConsumerGroup>,
    records: Vec<GroupRecord<'static>>,
}

impl<'a> Draft<'a> {
    pub fn new(env: &'a Environment<'a>, group_id: &'a str, group: Cow<'a, ConsumerGroup>) -> Self {
        Draft { env, group_id, make: Records { group_id }, group, records: Vec::new() }
    }

    /// The group as the records so far leave it.
    pub fn group(&self) -> &ConsumerGroup {
        &self.group
    }

    /// Adds a record and applies it.
    pub fn push(&mut self, record: GroupRecord<'static>) {
        self.group.to_mut().replay(&record);
        self.records.push(record);
    }

    /// The decision.
    pub fn into_records(self) -> Vec<GroupRecord<'static>> {
        self.records
    }

    /// The member's new metadata, if they are new. Returns whether it has subscribed to other topics by name.
    pub fn update_member(&mut self, member_id: &str, before: &Member, after: &Member) -> bool {
        if before.has_same_metadata(after) && self.group.members.contains_key(member_id) {
            return false;
        }
        self.push(self.make.member(member_id, after));
        before.subscribed_topic_names != after.subscribed_topic_names
    }

    /// Puts `member`, under the id `new_id`, in the place of the static member `old_id`.
    pub fn replace_member(&mut self, old_id: &str, new_id: &str, member: &Member) {
        let target = self.group.target(old_id);
        for record in self.make.no_member(old_id) {
            self.push(record);
        }
        self.push(self.make.member(new_id, member));
        self.push(self.make.target(new_id, &target));
        self.push(self.make.current(new_id, &member.current));
    }

    /// Removes members, and the regular expressions that only they had; the epoch grows.
    pub fn remove_members(&mut self, member_ids: &[Rc<str>]) {
        for member_id in member_ids {
            for record in self.make.no_member(member_id) {
                self.push(record);
            }
        }
        self.drop_unused_regexes();
        self.push(self.make.epoch(self.group.group_epoch + 1, self.metadata_hash()));
    }

    /// A static member leaves for a while: it keeps its partitions, which whoever comes back with its instance id takes over.
    pub fn leave_for_a_while(&mut self, member_id: &str) {
        let Some(member) = self.group.members.get(member_id) else { return };
        let current = CurrentAssignment {
            member_epoch: LEAVE_GROUP_STATIC_MEMBER_EPOCH,
            pending_revocation: Partitions::default(),
            ..member.current.clone()
        };
        self.push(self.make.current(member_id, &current));
    }

    fn drop_unused_regexes(&mut self) {
        let unused: Vec<_> = self
            .group
            .resolved
            .keys()
            .filter(|regex| self.group.subscribers_of_regex(regex) == 0)
            .cloned()
            .collect();
        for regex in unused {
            self.push(self.make.no_regex(&regex));
        }
    }

    /// Resolves regular expressions: a new one at once, all of them when it is time. To be called after the member's metadata have been
    /// updated. Returns whether the topics that members want have (or may have) changed.
    pub fn update_regexes(&mut self, before: &Member, after: &Member) -> Result<bool, Refusal> {
        let mut changed = before.subscribed_topic_regex != after.subscribed_topic_regex;
        if changed {
            self.drop_unused_regexes();
        }
        let is_unresolved = |regex: &Rc<str>| !self.group.resolved.contains_key(regex);
        let subscribed = self.group.subscribed_regexes();
        // A new one is looked at alone, so the others may be behind: the oldest look counts.
        let oldest_ms = self.group.resolved.values().map(|resolved| resolved.timestamp_ms).min();
        let oldest_version = self.group.resolved.values().map(|resolved| resolved.version).min();
        let age_ms = oldest_ms.map_or(0, |oldest_ms| self.env.now_ms.saturating_sub(oldest_ms));
        let has_new_topics = oldest_version.is_some_and(|version| version < self.env.version_with_new_topics);
        let is_due = age_ms > i64::from(self.env.config.group_consumer_regex_refresh_interval_ms)
            || (has_new_topics && age_ms > REGEX_REFRESH_MIN_INTERVAL_MS);
        let to_resolve: Vec<_> =
            subscribed.into_iter().filter(|regex| is_due || is_unresolved(regex)).collect();
        for regex in to_resolve {
            let own = after.subscribed_topic_regex.as_ref() == Some(&regex);
            let pattern = match TopicPattern::compile(&regex) {
                Ok(pattern) => pattern,
                Err(reason) if own => return Err(invalid_regex(&regex, &reason)),
                // It was valid when it came, so this takes another version's idea of patterns; it stands for nothing then.
                Err(_) => continue,
            };
            let topics = Rc::new(pattern.resolve(self.env.topics.iter().map(|(name, _)| name.as_ref())));
            changed |= self.group.resolved.get(&regex).is_none_or(|resolved| resolved.topics != topics);
            let resolved = ResolvedRegularExpression {
                topics,
                version: self.env.topics.version(),
                timestamp_ms: self.env.now_ms,
            };
            self.push(self.make.regex(&regex, &resolved));
        }
        Ok(changed)
    }

    fn metadata_hash(&self) -> i64 {
        self.env.topics.metadata_hash(self.group.subscribed_topics())
    }

    /// Lets the epoch grow if subscriptions have changed, or else if their topics have.
    pub fn update_epoch(&mut self, subscriptions_changed: bool) {
        let metadata_hash = self.metadata_hash();
        if subscriptions_changed || metadata_hash != self.group.metadata_hash {
            self.push(self.make.epoch(self.group.group_epoch + 1, metadata_hash));
        }
        if self.group.has_partition_metadata_record {
            self.push(self.make.no_partition_metadata());
        }
    }

    /// Computes new targets if the epoch has grown since the last time.
    pub fn update_targets(&mut self) {
        if self.group.group_epoch <= self.group.assignment_epoch {
            return;
        }
        for (member_id, target) in self.compute_targets() {
            if self.group.targets.get(&member_id) != Some(&target) {
                self.push(self.make.target(&member_id, &target));
            }
        }
        self.push(self.make.assignment_epoch(self.group.group_epoch));
    }

    fn compute_targets(&self) -> Vec<(Rc<str>, Partitions)> {
        let group = &*self.group;
        // Most members have the same subscription; each different one is looked up once.
        let mut subscriptions: AHashMap<_, Vec<_>> = AHashMap::new();
        for member in group.members.values() {
            let key = (&*member.subscribed_topic_names, member.subscribed_topic_regex.as_deref());
            subscriptions.entry(key).or_insert_with(|| self.topic_ids(member));
        }
        #[expect(clippy::disallowed_methods, reason = "the map that they go to is ordered")]
        let mut topics: BTreeMap<_, _> = subscriptions.values().flatten().copied().collect();
        topics.retain(|_, partition_count| *partition_count > 0);
        let topics: Vec<_> =
            topics.into_iter().map(|(id, partition_count)| AssignableTopic { id, partition_count }).collect();
        let none = Partitions::default();
        let members = group.members.iter().map(|(member_id, member)| AssignableMember {
            member_id,
            instance_id: member.instance_id.as_deref(),
            target: group.targets.get(member_id).unwrap_or(&none),
        });
        let positions = |member: &Member| -> Vec<usize> {
            let key = (&*member.subscribed_topic_names, member.subscribed_topic_regex.as_deref());
            let ids = subscriptions.get(&key).map(Vec::as_slice).unwrap_or_default();
            let mut positions: Vec<_> = ids
                .iter()
                .filter_map(|(id, _)| topics.binary_search_by_key(id, |topic| topic.id).ok())
                .collect();
            positions.sort_unstable();
            positions
        };
        let spec = GroupSpec {
            members: members.collect(),
            subscriptions: match subscriptions.len() {
                0 | 1 => Subscriptions::Same,
                _ => Subscriptions::Different(group.members.values().map(positions).collect()),
            },
            topics: topics.clone(),
        };
        let assigned = self.preferred_assignor().assign(&spec);
        group.members.keys().cloned().zip(assigned).collect()
    }

    /// Ids and partition counts of the existing topics that the member wants.
    fn topic_ids(&self, member: &Member) -> Vec<(uuid::Uuid, usize)> {
        let resolved =
            member.subscribed_topic_regex.as_ref().and_then(|regex| self.group.resolved.get(regex));
        let by_pattern = resolved.into_iter().flat_map(|resolved| resolved.topics.iter());
        let names = by_pattern.filter(|name| !member.subscribed_topic_names.contains(*name));
        let names = member.subscribed_topic_names.iter().chain(names);
        names
            .filter_map(|name| self.env.topics.topic(name))
            .map(|topic| (topic.id, topic.partition_count))
            .collect()
    }

    /// The assignor that most members wish for.
    pub fn preferred_assignor(&self) -> Assignor {
        preferred_assignor(self.env, &self.group)
    }

    /// Moves a member towards its target. Returns what it owns then.
    pub fn reconcile(
        &mut self,
        member_id: &str,
        owned: Option<&Partitions>,
    ) -> Result<CurrentAssignment, Refusal> {
        let member = self.group.members.get(member_id).expect("the draft has the member whose request it is");
        if member.current.is_reconciled_to(self.group.assignment_epoch) {
            return Ok(member.current.clone());
        }
        let reconciliation = Reconciliation {
            current: &member.current,
            target_epoch: self.group.assignment_epoch,
            target: &self.group.target(member_id),
            owned,
            belongs_to_another: |partition| {
                self.group.owner(partition).is_some_and(|owner| owner.as_ref() != member_id)
            },
        };
        let next = reconciliation.next().map_err(|_| {
            let message = "The consumer group member is in a unknown state. The member must abandon all its partitions and rejoin.";
            Refusal::new(ErrorCode::FENCED_MEMBER_EPOCH, message)
        })?;
        if next != member.current {
            // The last step: nothing looks at the group any more, so the copy may stay as it is (or need not be made at all).
            self.records.push(self.make.current(member_id, &next));
        }
        Ok(next)
    }
}

/// The assignor that most members wish for; among equals the one that stands first in the configs.
pub(super) fn preferred_assignor(env: &Environment<'_>, group: &ConsumerGroup) -> Assignor {
    let votes = |assignor: Assignor| {
        let wishes = group.members.values().filter_map(|member| member.server_assignor.as_deref());
        wishes.filter(|wish| *wish == assignor.name()).count()
    };
    let mut best = (0, env.default_assignor());
    for assignor in env.assignors() {
        let votes = votes(assignor);
        if votes > best.0 {
            best = (votes, assignor);
        }
    }
    best.1
}

fn invalid_regex(regex: &str, reason: &str) -> Refusal {
    let message = format!("SubscribedTopicRegex `{regex}` is not a valid regular expression: {reason}.");
    Refusal::new(ErrorCode::INVALID_REGULAR_EXPRESSION, message)
}
