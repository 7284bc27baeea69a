//! The embedded protocol of classic consumers: what they tell of their subscriptions and are told of their assignments
//! (`ConsumerProtocol`). A 16-bit version stands in front; later versions only add to the end, so what follows is not read.

use protocol::messages::consumer_protocol::{
    AssignedTopicPartition, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
};
use protocol::{DecodeError, Decoder, Encoder, Message};
use storage::types::{PartitionId, TopicIdPartition};

use super::partitions::Partitions;
use super::topics::TopicsView;

/// `protocol_type` of groups of consumers.
pub(super) const PROTOCOL_TYPE: &str = "consumer";

/// The version in front, and the message after it in the latest version that is known here.
fn decode<'a, M: Message<'a>>(bytes: &'a [u8]) -> Result<(i16, M), DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let version = decoder.int16()?;
    let message = M::decode(&mut decoder, version.clamp(*M::VERSIONS.start(), *M::VERSIONS.end()))?;
    Ok((version, message))
}

/// A member's subscription and the version in which it speaks.
pub(super) fn subscription(bytes: &[u8]) -> Result<(i16, ConsumerProtocolSubscription<'_>), DecodeError> {
    decode(bytes)
}

/// The partitions that a subscription says the member owns; those of topics that do not exist are left out.
pub(super) fn owned(subscription: &ConsumerProtocolSubscription<'_>, topics: &TopicsView) -> Partitions {
    let owned = subscription.owned_partitions.iter();
    by_name(owned.map(|topic| (topic.topic.as_ref(), topic.partitions.as_slice())), topics)
}

/// An assignment: its partitions, without those of topics that do not exist, and whether an assignor has added data of its own.
pub(super) fn assignment(bytes: &[u8], topics: &TopicsView) -> Result<(Partitions, bool), DecodeError> {
    if bytes.is_empty() {
        return Ok((Partitions::default(), false));
    }
    let (_, assignment) = decode::<ConsumerProtocolAssignment<'_>>(bytes)?;
    let assigned = assignment.assigned_partitions.iter();
    let partitions =
        by_name(assigned.map(|topic| (topic.topic.as_ref(), topic.partitions.as_slice())), topics);
    Ok((partitions, assignment.user_data.is_some_and(|data| !data.is_empty())))
}

fn by_name<'a>(listed: impl Iterator<Item = (&'a str, &'a [i32])>, topics: &TopicsView) -> Partitions {
    let existing = listed.filter_map(|(name, partitions)| Some((topics.topic(name)?.id, partitions)));
    let of_topic = |(id, partitions): (uuid::Uuid, &'a [i32])| {
        partitions.iter().map(move |partition| TopicIdPartition::new(id, PartitionId(*partition)))
    };
    existing.flat_map(of_topic).collect()
}

/// The assignment of these partitions in this version (the latest that is known, if it is later).
pub(super) fn encode_assignment(version: i16, partitions: &Partitions, topics: &TopicsView) -> Vec<u8> {
    let known = ConsumerProtocolAssignment::<'static>::VERSIONS;
    let version = version.clamp(*known.start(), *known.end());
    let named = partitions.by_topic().into_iter().filter_map(|(id, partitions)| {
        Some(AssignedTopicPartition { topic: topics.name(id)?.to_string().into(), partitions })
    });
    let assignment = ConsumerProtocolAssignment { assigned_partitions: named.collect(), user_data: None };
    let mut encoder = Encoder::new();
    encoder.int16(version);
    assignment
        .encode(&mut encoder, version)
        .expect("names of topics are short, and every version has these fields");
    encoder.finish_contiguous().to_vec()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::topics::TopicView;
    use super::*;

    #[test]
    fn an_assignment_survives_encoding_in_every_version() {
        let view = TopicView { id: Uuid::from_u128(7), partition_count: 3, racks: Vec::new() };
        let topics = TopicsView::new(1, [("t".into(), view)]);
        let partitions: Partitions = [0, 2]
            .map(|partition| TopicIdPartition::new(Uuid::from_u128(7), PartitionId(partition)))
            .into_iter()
            .collect();
        for version in [0, 1, 2, 3, 99] {
            let bytes = encode_assignment(version, &partitions, &topics);
            assert_eq!(assignment(&bytes, &topics), Ok((partitions.clone(), false)));
        }
        assert_eq!(assignment(&[], &topics), Ok((Partitions::default(), false)));
        assert!(assignment(&[0], &topics).is_err());
    }
}
