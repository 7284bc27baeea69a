//! Which brokers have fallen silent, and whose disks are full: known to the active controller only, and forgotten with it.

use std::collections::{BTreeMap, BTreeSet};

use super::image::MetadataImage;
use crate::types::BrokerId;

/// For so long nobody has to have listened at a broker's address before it counts as gone.
const GONE_MS: i64 = 200;

/// When each broker was last heard of. A new active controller gives everybody a whole session, because it does not know what its predecessor heard.
#[derive(Debug, Clone, Default)]
pub struct BrokerSessions {
    began_ms: i64,
    heard_ms: BTreeMap<BrokerId, i64>,
    full: BTreeSet<BrokerId>,
}

impl BrokerSessions {
    /// Nobody has been heard of yet; all sessions begin now.
    pub fn new(now_ms: i64) -> Self {
        BrokerSessions { began_ms: now_ms, heard_ms: BTreeMap::new(), full: BTreeSet::new() }
    }

    /// A broker has said whether its disk takes what is appended.
    pub fn note_disk(&mut self, broker: BrokerId, is_full: bool) {
        match is_full {
            true => self.full.insert(broker),
            false => self.full.remove(&broker),
        };
    }

    /// Brokers whose disks take nothing: they had better not lead.
    pub fn full(&self) -> &BTreeSet<BrokerId> {
        &self.full
    }

    /// Since when a broker is silent.
    fn silent_since_ms(&self, broker: BrokerId) -> i64 {
        self.heard_ms.get(&broker).copied().unwrap_or(self.began_ms)
    }

    /// The controller itself stood still, and so did not hear: all sessions begin anew.
    pub fn begin_anew(&mut self, now_ms: i64) {
        *self = BrokerSessions::new(now_ms);
    }

    /// A broker has registered or sent a heartbeat.
    pub fn heard(&mut self, broker: BrokerId, now_ms: i64) {
        self.heard_ms.insert(broker, now_ms);
    }

    /// A heartbeat has come, and is about to be decided on: whoever it lets take part has been heard of by then, and how long the decision takes to be committed is not
    /// silence. What an earlier process of the broker says does not count.
    pub fn heard_from(&mut self, image: &MetadataImage, broker: BrokerId, broker_epoch: i64, now_ms: i64) {
        if image.broker(broker).is_some_and(|registered| registered.broker_epoch == broker_epoch) {
            self.heard(broker, now_ms);
        }
    }

    /// Brokers that take part and have not been heard of for `session_ms` (`broker.session.timeout.ms`): to be fenced, the most silent one first, each by a decision of its
    /// own.
    pub fn expired(&self, image: &MetadataImage, session_ms: i64, now_ms: i64) -> Vec<(BrokerId, i64)> {
        let is_over = |broker| self.silent_since_ms(broker).saturating_add(session_ms) < now_ms;
        let mut expired: Vec<(BrokerId, i64)> = image
            .brokers()
            .filter(|broker| !broker.fenced && is_over(broker.id))
            .map(|broker| (broker.id, broker.broker_epoch))
            .collect();
        expired.sort_by_key(|(broker, _)| self.silent_since_ms(*broker));
        expired
    }

    /// Brokers that take part although nobody listens where they were: `gone` says since when. A process that ends takes its listener with it, so they are
    /// fenced without waiting for the session to end, unless they have been heard of since.
    pub fn left(&self, image: &MetadataImage, gone: &[(BrokerId, i64)], now_ms: i64) -> Vec<(BrokerId, i64)> {
        let mut left = Vec::new();
        for (broker, since_ms) in gone {
            let is_heard = self.heard_ms.get(broker).is_some_and(|heard| heard > since_ms);
            let registration = image.broker(*broker).filter(|registration| !registration.fenced);
            if let Some(registration) = registration
                && !is_heard
                && since_ms.saturating_add(GONE_MS) <= now_ms
            {
                left.push((*broker, registration.broker_epoch));
            }
        }
        left
    }

    /// When the next broker expires if nobody is heard of before.
    pub fn next_expiry_ms(&self, image: &MetadataImage, session_ms: i64) -> Option<i64> {
        let active = image.brokers().filter(|broker| !broker.fenced);
        active.map(|broker| self.silent_since_ms(broker.id) + session_ms + 1).min()
    }
}
