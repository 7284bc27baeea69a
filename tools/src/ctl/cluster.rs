//! `brokerctl cluster`: brokers, features and log folders.

use std::io::Write;

use protocol::messages::{
    ApiVersionsRequest, DescribeClusterRequest, DescribeLogDirsRequest, MetadataRequest,
};
use serde_json::json;

use super::table::{bytes_text, cell, write_table};
use super::{CtlError, GlobalArgs};
use crate::client::{Client, ClientError, LogDir, Topic, check};

/// The cluster as its brokers tell.
struct Cluster {
    id: String,
    controller: i32,
    brokers: Vec<Broker>,
    features: Vec<Feature>,
    log_dirs: Vec<LogDir>,
}

struct Broker {
    id: i32,
    address: String,
    rack: Option<String>,
    is_fenced: bool,
    leads: usize,
    replicas: usize,
}

struct Feature {
    name: String,
    /// The level that the cluster has agreed on; `None`: none.
    level: Option<i16>,
    min: i16,
    max: i16,
}

/// Runs `cluster`.
pub fn run(global: &GlobalArgs, out: &mut dyn Write) -> Result<(), CtlError> {
    let mut client = global.client();
    let (id, controller, mut brokers) = describe(&mut client)?;
    let topics = client.topics()?;
    for broker in &mut brokers {
        (broker.leads, broker.replicas) = duties(&topics, broker.id);
    }
    let mut log_dirs = Vec::new();
    for broker in brokers.iter().filter(|broker| !broker.is_fenced) {
        if client.broker(broker.id)?.version::<DescribeLogDirsRequest<'_>>().is_some() {
            log_dirs.extend(client.log_dirs(broker.id, None)?);
        }
    }
    let cluster = Cluster { id, controller, brokers, features: features(&mut client)?, log_dirs };
    match global.json {
        true => writeln!(out, "{}", cluster.json()),
        false => cluster.write(out),
    }
    .map_err(CtlError::stdout)
}

/// Partitions that a broker leads, and replicas that it has.
fn duties(topics: &[Topic], broker: i32) -> (usize, usize) {
    let partitions = || topics.iter().flat_map(|topic| &topic.partitions);
    let leads = partitions().filter(|partition| partition.leader == broker).count();
    (leads, partitions().filter(|partition| partition.replicas.contains(&broker)).count())
}

fn describe(client: &mut Client) -> Result<(String, i32, Vec<Broker>), ClientError> {
    if client.any()?.version::<DescribeClusterRequest>().is_none() {
        return describe_by_metadata(client);
    }
    let connection = client.any()?;
    let include_fenced_brokers =
        connection.version::<DescribeClusterRequest>().is_some_and(|version| version >= 2);
    let request = DescribeClusterRequest { include_fenced_brokers, ..Default::default() };
    let response = connection.call(&request)?;
    check(|| "describing the cluster".to_owned(), response.error_code, response.error_message.as_deref())?;
    let broker = |broker: &protocol::messages::describe_cluster::DescribeClusterBroker<'_>| Broker {
        id: broker.broker_id,
        address: format!("{}:{}", broker.host, broker.port),
        rack: broker.rack.as_deref().map(str::to_owned),
        is_fenced: broker.is_fenced,
        leads: 0,
        replicas: 0,
    };
    let brokers = response.brokers.iter().map(broker).collect();
    Ok((response.cluster_id.to_string(), response.controller_id, brokers))
}

fn describe_by_metadata(client: &mut Client) -> Result<(String, i32, Vec<Broker>), ClientError> {
    let request = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
    let response = client.any()?.call(&request)?;
    let broker = |broker: &protocol::messages::metadata::MetadataResponseBroker<'_>| Broker {
        id: broker.node_id,
        address: format!("{}:{}", broker.host, broker.port),
        rack: broker.rack.as_deref().map(str::to_owned),
        is_fenced: false,
        leads: 0,
        replicas: 0,
    };
    let brokers = response.brokers.iter().map(broker).collect();
    Ok((response.cluster_id.as_deref().unwrap_or("-").to_owned(), response.controller_id, brokers))
}

fn features(client: &mut Client) -> Result<Vec<Feature>, ClientError> {
    let request = ApiVersionsRequest {
        client_software_name: "brokerctl".into(),
        client_software_version: env!("CARGO_PKG_VERSION").into(),
        ..Default::default()
    };
    let response = client.any()?.call(&request)?;
    let level = |name: &str| {
        response
            .finalized_features
            .iter()
            .find(|known| known.name == name)
            .map(|known| known.max_version_level)
    };
    let mut features: Vec<Feature> = response
        .supported_features
        .iter()
        .map(|feature| Feature {
            name: feature.name.to_string(),
            level: level(&feature.name),
            min: feature.min_version,
            max: feature.max_version,
        })
        .collect();
    features.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(features)
}

impl Cluster {
    fn json(&self) -> serde_json::Value {
        let broker = |broker: &Broker| {
            json!({
                "id": broker.id, "address": broker.address, "rack": broker.rack, "fenced": broker.is_fenced,
                "partitions_led": broker.leads, "replicas": broker.replicas,
            })
        };
        let feature = |feature: &Feature| json!({ "name": feature.name, "level": feature.level, "min": feature.min, "max": feature.max });
        let dir = |dir: &LogDir| {
            json!({
                "broker": dir.broker, "path": dir.path, "replicas": dir.replicas.len(), "bytes": used(dir),
                "total_bytes": dir.total_bytes, "usable_bytes": dir.usable_bytes,
            })
        };
        json!({
            "id": self.id, "controller": self.controller,
            "brokers": self.brokers.iter().map(broker).collect::<Vec<_>>(),
            "features": self.features.iter().map(feature).collect::<Vec<_>>(),
            "log_dirs": self.log_dirs.iter().map(dir).collect::<Vec<_>>(),
        })
    }

    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "cluster {}   controller {}", self.id, self.controller)?;
        let state = |broker: &Broker| if broker.is_fenced { "fenced" } else { "up" };
        let row = |broker: &Broker| {
            vec![
                broker.id.to_string(),
                broker.address.clone(),
                cell(broker.rack.as_deref()),
                state(broker).to_owned(),
                broker.leads.to_string(),
                broker.replicas.to_string(),
            ]
        };
        let rows: Vec<Vec<String>> = self.brokers.iter().map(row).collect();
        write_table(out, &["BROKER", "ADDRESS", "RACK", "STATE", "LEADS", "REPLICAS"], &rows)?;
        if !self.features.is_empty() {
            let row = |feature: &Feature| {
                vec![feature.name.clone(), cell(feature.level), format!("{}..{}", feature.min, feature.max)]
            };
            writeln!(out)?;
            let rows: Vec<Vec<String>> = self.features.iter().map(row).collect();
            write_table(out, &["FEATURE", "LEVEL", "SUPPORTED"], &rows)?;
        }
        if !self.log_dirs.is_empty() {
            let row = |dir: &LogDir| {
                vec![
                    dir.broker.to_string(),
                    dir.path.clone(),
                    dir.replicas.len().to_string(),
                    bytes_text(used(dir)),
                    cell(dir.usable_bytes.map(bytes_text)),
                    cell(dir.total_bytes.map(bytes_text)),
                ]
            };
            writeln!(out)?;
            let rows: Vec<Vec<String>> = self.log_dirs.iter().map(row).collect();
            write_table(out, &["BROKER", "LOG FOLDER", "REPLICAS", "SIZE", "FREE", "VOLUME"], &rows)?;
        }
        Ok(())
    }
}

fn used(dir: &LogDir) -> u64 {
    dir.replicas.iter().map(|replica| replica.bytes).sum()
}
