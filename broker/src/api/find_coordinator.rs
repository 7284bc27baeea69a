//! FindCoordinator (key 10): which broker coordinates a group or a transactional id.
//!
//! A group is coordinated by the leader of its partition of `__consumer_offsets`; the first who asks for one has that topic created. (Kafka answers
//! COORDINATOR_NOT_AVAILABLE while it creates the topic.) Transactional ids get an error that ends the wait, because a producer that hangs in
//! initTransactions helps nobody. Share groups are answered as by a Kafka in which they are switched off.
//! Source: `KafkaApis.handleFindCoordinatorRequest`, `FindCoordinatorResponse.prepareOldResponse`.

use std::borrow::Cow;

use coord::metadata::MetadataImage;
use protocol::ErrorCode;
use protocol::messages::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};

use storage::PartitionId;

use super::{Answer, Call};
use crate::config::HostPort;
use crate::controller::CLIENT_LISTENER;
use crate::groups::routing::{self, OffsetsTopic};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;
const FIRST_VERSION_WITH_KEYS: i16 = 4;
const FIRST_VERSION_WITH_SHARE: i16 = 6;

/// Answers for each key.
pub async fn handle(call: Call) -> Answer {
    let request: FindCoordinatorRequest<'_> = call.decode()?;
    let for_groups = match request.key_type {
        GROUP => routing::ensure_topic(&call.shard).await.map_err(|_| ErrorCode::COORDINATOR_NOT_AVAILABLE),
        _ => Ok(()),
    };
    let image = call.shard.image();
    let offsets_topic = call.shard.groups.topic().filter(|_| call.shard.broker.cluster.is_some());
    let here = Here {
        node_id: call.shard.broker_id().0,
        address: &call.shard.broker.advertised,
        for_groups,
        cluster: offsets_topic.map(|topic| (&*image, topic)),
    };
    call.respond(&here.response(&request, call.version))
}

/// What there is to say about this broker.
struct Here<'a> {
    node_id: i32,
    address: &'a HostPort,
    /// Whether groups can be coordinated.
    for_groups: Result<(), ErrorCode>,
    /// Where there are other brokers: who they are, and what says which of them it is.
    cluster: Option<(&'a MetadataImage, OffsetsTopic)>,
}

/// A broker, and where clients reach it.
struct Place<'a> {
    node_id: i32,
    host: &'a str,
    port: u16,
}

impl Here<'_> {
    fn response<'a>(
        &'a self,
        request: &'a FindCoordinatorRequest<'_>,
        version: i16,
    ) -> FindCoordinatorResponse<'a> {
        if version >= FIRST_VERSION_WITH_KEYS {
            let coordinators =
                request.coordinator_keys.iter().map(|key| self.coordinator(request.key_type, key, version));
            return FindCoordinatorResponse { coordinators: coordinators.collect(), ..Default::default() };
        }
        let found = self.coordinator(request.key_type, &request.key, version);
        FindCoordinatorResponse {
            error_code: found.error_code,
            error_message: Some(if found.error_code == 0 {
                Cow::Borrowed("NONE")
            } else {
                found
                    .error_message
                    .filter(|text| !text.is_empty())
                    .unwrap_or(Cow::Borrowed(ErrorCode(found.error_code).message()))
            }),
            node_id: found.node_id,
            host: found.host,
            port: found.port,
            ..Default::default()
        }
    }

    /// The leader of the group's partition.
    fn home_of(&self, group_id: &str) -> Result<Place<'_>, ErrorCode> {
        let Some((image, topic)) = self.cluster else {
            return Ok(Place { node_id: self.node_id, host: &self.address.host, port: self.address.port });
        };
        let partition = PartitionId(routing::partition_of(group_id, topic.partitions));
        let found = image.topic_by_id(topic.id).and_then(|topic| topic.partition(partition));
        let leader = found.and_then(|partition| image.broker(partition.leader));
        let endpoint = leader.and_then(|broker| Some((broker.id, broker.endpoint(CLIENT_LISTENER)?)));
        match endpoint {
            Some((id, endpoint)) => Ok(Place { node_id: id.0, host: &endpoint.host, port: endpoint.port }),
            None => Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        }
    }

    fn coordinator<'a>(&'a self, key_type: i8, key: &'a str, version: i16) -> Coordinator<'a> {
        let outcome = match key_type {
            GROUP => self.for_groups.and_then(|()| self.home_of(key)).map_err(|error| (error, "")),
            TRANSACTION => Err((
                ErrorCode::UNSUPPORTED_VERSION,
                "Transactions are not available in this version of the broker.",
            )),
            SHARE if version >= FIRST_VERSION_WITH_SHARE && is_share_key(key) => {
                Err((ErrorCode::COORDINATOR_NOT_AVAILABLE, ""))
            }
            SHARE => Err((ErrorCode::INVALID_REQUEST, "")),
            _ => Err((ErrorCode::INVALID_REQUEST, ErrorCode::INVALID_REQUEST.message())),
        };
        match outcome {
            Ok(Place { node_id, host, port }) => Coordinator {
                key: Cow::Borrowed(key),
                node_id,
                host: Cow::Borrowed(host),
                port: i32::from(port),
                error_message: Some(Cow::Borrowed("")),
                ..Default::default()
            },
            Err((error, message)) => Coordinator {
                key: Cow::Borrowed(key),
                node_id: -1,
                port: -1,
                error_code: error.code(),
                error_message: Some(Cow::Borrowed(message)),
                ..Default::default()
            },
        }
    }
}

/// `group:topic id:partition`, as the coordinators of share groups are asked for (`SharePartitionKey`).
fn is_share_key(key: &str) -> bool {
    let mut parts = key.rsplitn(3, ':');
    let partition = parts.next().is_some_and(|text| text.parse::<i32>().is_ok());
    let topic = parts.next().is_some_and(|text| protocol::parse_uuid_text(text).is_some());
    partition && topic && parts.next().is_some_and(|group| !group.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(address: &HostPort) -> Here<'_> {
        Here { node_id: 7, address, for_groups: Ok(()), cluster: None }
    }

    fn address() -> HostPort {
        HostPort { host: "h".into(), port: 9 }
    }

    #[test]
    fn groups_are_here_and_every_key_gets_its_answer() {
        let request = FindCoordinatorRequest {
            key_type: GROUP,
            coordinator_keys: vec!["a".into(), "b".into()],
            ..Default::default()
        };
        let address = address();
        let here = here(&address);
        let response = here.response(&request, 4);
        let rows = response
            .coordinators
            .iter()
            .map(|c| (c.key.as_ref(), c.node_id, c.host.as_ref(), c.port, c.error_code));
        assert_eq!(rows.collect::<Vec<_>>(), [("a", 7, "h", 9, 0), ("b", 7, "h", 9, 0)]);
        let old = FindCoordinatorRequest { key: "a".into(), ..Default::default() };
        let response = here.response(&old, 1);
        assert_eq!(
            (response.error_code, response.node_id, response.error_message.as_deref()),
            (0, 7, Some("NONE"))
        );
    }

    #[test]
    fn transactions_are_refused_for_good_and_unknown_types_are_invalid() {
        let address = address();
        let here = here(&address);
        let error =
            |key_type, key: &str, version| ErrorCode(here.coordinator(key_type, key, version).error_code);
        assert!(!error(TRANSACTION, "t", 6).is_retriable());
        assert_eq!(error(SHARE, "g:AAAAAAAAAAAAAAAAAAAAAA:0", 5), ErrorCode::INVALID_REQUEST);
        assert_eq!(error(SHARE, "g:AAAAAAAAAAAAAAAAAAAAAA:0", 6), ErrorCode::COORDINATOR_NOT_AVAILABLE);
        assert_eq!(error(SHARE, "bad", 6), ErrorCode::INVALID_REQUEST);
        assert_eq!(error(7, "x", 6), ErrorCode::INVALID_REQUEST);
    }
}
