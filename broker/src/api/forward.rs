//! Requests that change the cluster, or ask what only the active controller knows: whichever broker a client sends them to, the active controller answers, and
//! the broker passes the answer on when all its shards know what it is about.

use coord::config::ConfigResourceType;
use futures::future::LocalBoxFuture;
use protocol::ApiKey;
use protocol::messages::IncrementalAlterConfigsRequest;
use protocol::wire::Few;

use super::Call;
use crate::controller::control::{PATIENCE, ask};
use crate::net::DispatchOutcome;

/// Whether requests of this type are for the active controller.
fn concerns_the_cluster(key: ApiKey) -> bool {
    matches!(
        key,
        ApiKey::CreateTopics
            | ApiKey::DeleteTopics
            | ApiKey::CreatePartitions
            | ApiKey::AlterConfigs
            | ApiKey::IncrementalAlterConfigs
            | ApiKey::ElectLeaders
            | ApiKey::AlterPartitionReassignments
            | ApiKey::ListPartitionReassignments
            | ApiKey::UpdateFeatures
            | ApiKey::UnregisterBroker
            | ApiKey::AddRaftVoter
            | ApiKey::RemoveRaftVoter
            | ApiKey::DescribeQuorum
    )
}

/// Whether the request is for the active controller.
pub fn is_for_controller(call: &Call) -> bool {
    // The levels of a broker's loggers are its own affair.
    concerns_the_cluster(call.key) && !(call.key == ApiKey::IncrementalAlterConfigs && is_about_loggers(call))
}

/// Whether a node that is a controller only answers requests of this type, as Kafka's does on its controller's listener (KIP-919): it holds no partitions and
/// coordinates no groups.
pub fn is_served_by_controllers(key: ApiKey) -> bool {
    concerns_the_cluster(key)
        || matches!(key, ApiKey::ApiVersions | ApiKey::DescribeCluster | ApiKey::DescribeConfigs)
}

fn is_about_loggers(call: &Call) -> bool {
    call.decode::<IncrementalAlterConfigsRequest<'_>>().is_ok_and(|request| {
        let loggers = ConfigResourceType::BrokerLogger.wire();
        !request.resources.is_empty()
            && request.resources.iter().all(|resource| resource.resource_type == loggers)
    })
}

/// Has the active controller answer. If none is found, `handler` says so in the words of the request.
pub async fn handle(
    call: Call,
    handler: fn(Call) -> LocalBoxFuture<'static, DispatchOutcome>,
) -> DispatchOutcome {
    match ask(&call.shard, call.frame(), PATIENCE).await {
        Ok(answered) => DispatchOutcome::Respond(Few::one(answered.response)),
        Err(error) => {
            tracing::debug!(request = call.key.name(), %error, "a request for the active controller found none");
            handler(call).await
        }
    }
}
