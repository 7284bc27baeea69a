//! Which topics the members of a group of consumers have subscribed to.
//!
//! The metadata of consumers has a layout (`ConsumerProtocolSubscription`) of which every version begins like version 0: the version, then
//! the names of the topics. No more than that is read, so that later versions do no harm.

use std::collections::BTreeSet;

use protocol::messages::ConsumerProtocolSubscription;
use protocol::{Decoder, Message};

use super::members::ClassicGroup;

/// The topics of a consumer's metadata; `None` if it is not what consumers send.
pub fn subscribed_topics(metadata: &[u8]) -> Option<Vec<String>> {
    let mut decoder = Decoder::new(metadata);
    let version = decoder.int16().ok()?;
    if version < 0 {
        return None;
    }
    let subscription = ConsumerProtocolSubscription::decode(&mut decoder, 0).ok()?;
    Some(subscription.topics.into_iter().map(|topic| topic.into_owned()).collect())
}

impl ClassicGroup {
    /// The topics of all members: empty without members, `None` if the members are no consumers or one of them cannot be understood.
    pub(super) fn compute_subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if !self.uses_consumer_group_protocol() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol_name.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscribed_topics(&member.metadata(protocol))?);
        }
        Some(topics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_found_in_metadata_of_versions_yet_to_come() {
        let metadata = b"\x00\x63\x00\x00\x00\x02\x00\x01a\x00\x02bc\xff\xff\xff\xffwhatever follows";
        assert_eq!(subscribed_topics(metadata), Some(vec!["a".to_owned(), "bc".to_owned()]));
    }

    #[test]
    fn metadata_that_no_consumer_sends_tells_no_topics() {
        assert_eq!(subscribed_topics(b""), None);
        assert_eq!(subscribed_topics(b"\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff"), None);
        assert_eq!(subscribed_topics(b"\x00\x00\x7f\xff\xff\xff\x00\x01a"), None);
    }
}
