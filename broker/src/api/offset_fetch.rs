//! OffsetFetch (key 9): how far groups have read; several groups from version 8 on.
//!
//! Partitions without a committed offset get -1 and no error, whether they exist or not.
//! Source: KIP-709 (several groups), KIP-447 (stable offsets), `KafkaApis.handleOffsetFetchRequest`, `OffsetFetchResponse`.

use coord::group::GroupCoordinator;
use protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};

use super::{Answer, Call};
use crate::groups::{self, GroupRequest};

/// From this version on there may be several groups.
const FIRST_VERSION_WITH_GROUPS: i16 = 8;
/// Before this version there was no error for the whole request.
const FIRST_VERSION_WITH_ERROR: i16 = 2;
const INVALID_OFFSET: i64 = -1;

/// Asks the coordinator of each group.
pub async fn handle(call: Call) -> Answer {
    let request = in_groups(call.decode()?, call.version);
    let version = call.version;
    let submitted = GroupRequest::of(&call);
    let look = move |coordinator: &GroupCoordinator, places: &[usize]| {
        let request = in_groups(submitted.decode(), version);
        let fetch = |place: &usize| coordinator.offset_fetch(&request.groups[*place], request.require_stable);
        places.iter().map(fetch).collect()
    };
    let names: Vec<_> = request.groups.iter().map(|group| group.group_id.clone()).collect();
    let rows = groups::read_groups(&call, &names, look).await;
    let found = request.groups.iter().zip(rows).map(|(group, row)| {
        row.unwrap_or_else(|error| OffsetFetchResponseGroup {
            group_id: group.group_id.to_string().into(),
            error_code: error.code(),
            ..Default::default()
        })
    });
    let mut found: Vec<_> = found.collect();
    if version >= FIRST_VERSION_WITH_GROUPS {
        return call.respond(&OffsetFetchResponse { groups: found, ..Default::default() });
    }
    let found = found.pop().expect("a request of an old version has one group");
    call.respond(&of_one_group(found, &request.groups[0], version))
}

/// The request in the form that it has since version 8.
fn in_groups(request: OffsetFetchRequest<'_>, version: i16) -> OffsetFetchRequest<'_> {
    if version >= FIRST_VERSION_WITH_GROUPS {
        return request;
    }
    let topics = request.topics.map(|topics| {
        let of_topic = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            partition_indexes: topic.partition_indexes,
            ..Default::default()
        });
        of_topic.collect()
    });
    let group = OffsetFetchRequestGroup { group_id: request.group_id.clone(), topics, ..Default::default() };
    OffsetFetchRequest { groups: vec![group], topics: None, ..request }
}

/// The answer in the form that it had before version 8.
fn of_one_group<'a>(
    found: OffsetFetchResponseGroup<'a>,
    asked: &OffsetFetchRequestGroup<'a>,
    version: i16,
) -> OffsetFetchResponse<'a> {
    let mut topics = found.topics;
    if found.error_code != 0 && version < FIRST_VERSION_WITH_ERROR {
        // There is no other place for the error.
        topics = asked.topics.iter().flatten().map(|topic| failed_topic(topic, found.error_code)).collect();
    }
    let of_partition = |row: OffsetFetchResponsePartitions<'a>| OffsetFetchResponsePartition {
        partition_index: row.partition_index,
        committed_offset: row.committed_offset,
        committed_leader_epoch: row.committed_leader_epoch,
        metadata: row.metadata,
        error_code: row.error_code,
        ..Default::default()
    };
    let topics = topics.into_iter().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(of_partition).collect(),
        ..Default::default()
    });
    OffsetFetchResponse { topics: topics.collect(), error_code: found.error_code, ..Default::default() }
}

fn failed_topic<'a>(topic: &OffsetFetchRequestTopics<'a>, error_code: i16) -> OffsetFetchResponseTopics<'a> {
    let row = |&partition_index: &i32| OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: INVALID_OFFSET,
        metadata: Some("".into()),
        error_code,
        ..Default::default()
    };
    OffsetFetchResponseTopics {
        name: topic.name.clone(),
        partitions: topic.partition_indexes.iter().map(row).collect(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use protocol::ErrorCode;
    use protocol::messages::offset_fetch::OffsetFetchRequestTopic;

    use super::*;

    #[test]
    fn an_old_request_is_one_of_a_single_group_and_gets_its_answer_back_in_the_old_form() {
        let topic =
            OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![3, 1], ..Default::default() };
        let old =
            OffsetFetchRequest { group_id: "g".into(), topics: Some(vec![topic]), ..Default::default() };
        let asked = in_groups(old, 7);
        assert_eq!(asked.groups.len(), 1);
        assert_eq!(asked.groups[0].group_id, "g");
        let error_code = ErrorCode::NOT_COORDINATOR.code();
        let failed = OffsetFetchResponseGroup { group_id: "g".into(), error_code, ..Default::default() };
        let first = of_one_group(failed.clone(), &asked.groups[0], 1);
        let rows = first.topics[0]
            .partitions
            .iter()
            .map(|row| (row.partition_index, row.committed_offset, row.error_code));
        assert_eq!(rows.collect::<Vec<_>>(), [(3, -1, error_code), (1, -1, error_code)]);
        let second = of_one_group(failed, &asked.groups[0], 2);
        assert_eq!((second.error_code, second.topics.len()), (error_code, 0));
    }
}
