//! `brokerctl cluster`: brokers, the metadata quorum, and partitions that are not as they should be; with `--verbose` everything.
//!
//! | file | owns |
//! |---|---|
//! | `health` | how partitions are, and how far replicas are behind |

mod health;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use clap::Args;
use protocol::messages::{ApiVersionsRequest, DescribeConfigsRequest, DescribeLogDirsRequest};
use protocol::uuid_text;
use serde_json::json;

use super::table::{bytes_text, cell, count_text, list_text, write_table};
use super::{CtlError, GlobalArgs};
use crate::client::{
    Client, ClientError, ClusterBroker, ConfigResource, LogDir, Quorum, QuorumMember, Reassignment,
    ResourceKind, Topic,
};
use health::PartitionHealth;

const NOTES: &str = "\
Partitions are shown if they have no leader, lack replicas or are being moved; LAG is how many records each follower lacks, by broker.
The quorum keeps the metadata: its leader is the active controller, observers follow without a vote.";

/// Options of `cluster`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub struct ClusterArgs {
    /// Show every partition, every member of the quorum, and the features
    #[arg(long, short)]
    verbose: bool,
}

/// The cluster as its brokers tell.
struct Cluster {
    id: String,
    controller: i32,
    brokers: Vec<Broker>,
    quorum: Option<Quorum>,
    /// All partitions; lags only of those that are shown.
    partitions: Vec<PartitionHealth>,
    features: Vec<Feature>,
    log_dirs: Vec<LogDir>,
    shows_all: bool,
}

struct Broker {
    known: ClusterBroker,
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
pub fn run(args: &ClusterArgs, global: &GlobalArgs, out: &mut dyn Write) -> Result<(), CtlError> {
    let mut client = global.client();
    let described = client.describe_cluster()?;
    let topics = client.topics()?;
    let quorum = match client.quorum() {
        // A cluster without an active controller is what somebody wants to see who asks.
        Err(ClientError::Refused { .. }) => None,
        outcome => outcome?,
    };
    let brokers: Vec<Broker> = described
        .brokers
        .into_iter()
        .map(|known| {
            let (leads, replicas) = duties(&topics, known.id);
            Broker { known, leads, replicas }
        })
        .collect();
    let reassignments = client.reassignments_if_served()?;
    let min_insync_replicas = min_insync_replicas(&mut client, &topics, &reassignments)?;
    let judged = health::judge(&topics, &reassignments, &min_insync_replicas);
    let (mut shown, rest): (Vec<_>, Vec<_>) =
        judged.into_iter().partition(|health| args.verbose || health.is_worth_a_look());
    health::ask_lags(&mut client, &mut shown, &down(&brokers, &topics))?;
    shown.extend(rest);
    let cluster = Cluster {
        id: described.id,
        controller: described.controller,
        quorum,
        partitions: shown,
        features: features(&mut client)?,
        log_dirs: log_dirs(&mut client, &brokers)?,
        brokers,
        shows_all: args.verbose,
    };
    match global.json {
        true => writeln!(out, "{}", cluster.json()),
        false => cluster.write(out),
    }
    .map_err(CtlError::stdout)
}

/// Brokers that hold replicas and are not up.
fn down(brokers: &[Broker], topics: &[Topic]) -> BTreeSet<i32> {
    let is_up = |id: &i32| brokers.iter().any(|broker| broker.known.id == *id && !broker.known.is_fenced);
    let holders = topics.iter().flat_map(|topic| &topic.partitions).flat_map(|found| &found.replicas);
    holders.filter(|id| !is_up(id)).copied().collect()
}

/// `min.insync.replicas` of the topics that lack replicas: of no others it matters.
fn min_insync_replicas(
    client: &mut Client,
    topics: &[Topic],
    reassignments: &[Reassignment],
) -> Result<BTreeMap<String, usize>, ClientError> {
    let mut found = BTreeMap::new();
    if client.any()?.version::<DescribeConfigsRequest<'_>>().is_none() {
        return Ok(found);
    }
    let moving = |topic: &Topic, index: i32| {
        reassignments
            .iter()
            .find(|moving| moving.partition.topic == topic.name && moving.partition.partition == index)
    };
    let lacks =
        |topic: &&Topic| topic.partitions.iter().any(|p| health::lacks_replicas(p, moving(topic, p.index)));
    for topic in topics.iter().filter(lacks) {
        let resource = ConfigResource { kind: ResourceKind::Topic, name: topic.name.clone() };
        let entries = match client.describe_configs(&resource, false) {
            // It may be gone by now.
            Err(ClientError::Refused { .. }) => continue,
            outcome => outcome?,
        };
        let entry = entries.into_iter().find(|entry| entry.name == "min.insync.replicas");
        if let Some(value) = entry.and_then(|entry| entry.value?.parse().ok()) {
            found.insert(topic.name.clone(), value);
        }
    }
    Ok(found)
}

fn log_dirs(client: &mut Client, brokers: &[Broker]) -> Result<Vec<LogDir>, ClientError> {
    let mut log_dirs = Vec::new();
    for broker in brokers.iter().filter(|broker| !broker.known.is_fenced) {
        let id = broker.known.id;
        let asked = client.broker(id).map(|connection| connection.version::<DescribeLogDirsRequest<'_>>());
        match asked {
            Ok(Some(_)) => log_dirs.extend(client.log_dirs(id, None)?),
            Ok(None) => {}
            // One that has just stopped does not hide the others.
            Err(error) if error.is_passing() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(log_dirs)
}

/// Partitions that a broker leads, and replicas that it has.
fn duties(topics: &[Topic], broker: i32) -> (usize, usize) {
    let partitions = || topics.iter().flat_map(|topic| &topic.partitions);
    let leads = partitions().filter(|partition| partition.leader == broker).count();
    (leads, partitions().filter(|partition| partition.replicas.contains(&broker)).count())
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
    fn shown(&self) -> impl Iterator<Item = &PartitionHealth> {
        self.partitions.iter().filter(|health| self.shows_all || health.is_worth_a_look())
    }

    fn count(&self, counts: impl Fn(&PartitionHealth) -> bool) -> usize {
        self.partitions.iter().filter(|health| counts(health)).count()
    }

    fn json(&self) -> serde_json::Value {
        let broker = |broker: &Broker| {
            let ClusterBroker { id, address, rack, is_fenced } = &broker.known;
            json!({
                "id": id, "address": address, "rack": rack, "fenced": is_fenced,
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
        let partition = |health: &PartitionHealth| {
            let replica = |id: &i32| json!({ "broker": id, "in_sync": health.in_sync.contains(id), "lag": health.lags.get(id) });
            json!({
                "topic": health.partition.topic, "partition": health.partition.partition, "leader": health.leader,
                "state": health.states(), "replicas": health.replicas.iter().map(replica).collect::<Vec<_>>(),
            })
        };
        json!({
            "id": self.id, "controller": self.controller,
            "brokers": self.brokers.iter().map(broker).collect::<Vec<_>>(),
            "quorum": self.quorum.as_ref().map(quorum_json),
            "partition_counts": {
                "all": self.partitions.len(),
                "offline": self.count(|health| health.is_offline),
                "under_replicated": self.count(|health| health.is_under_replicated),
                "under_min_isr": self.count(|health| health.is_under_min_isr),
                "moving": self.count(|health| health.is_moving),
            },
            "partitions": self.shown().map(partition).collect::<Vec<_>>(),
            "features": self.features.iter().map(feature).collect::<Vec<_>>(),
            "log_dirs": self.log_dirs.iter().map(dir).collect::<Vec<_>>(),
        })
    }

    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "cluster {}   controller {}", self.id, self.controller)?;
        let row = |broker: &Broker| {
            let ClusterBroker { id, address, rack, is_fenced } = &broker.known;
            vec![
                id.to_string(),
                address.clone(),
                cell(rack.as_deref()),
                if *is_fenced { "fenced" } else { "up" }.to_owned(),
                broker.leads.to_string(),
                broker.replicas.to_string(),
            ]
        };
        let rows: Vec<Vec<String>> = self.brokers.iter().map(row).collect();
        write_table(out, &["BROKER", "ADDRESS", "RACK", "STATE", "LEADS", "REPLICAS"], &rows)?;
        self.write_quorum(out)?;
        self.write_partitions(out)?;
        if self.shows_all && !self.features.is_empty() {
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

    fn write_quorum(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let Some(quorum) = &self.quorum else { return Ok(()) };
        let ids = |voters: bool| {
            let members = quorum.members.iter().filter(|member| member.is_voter == voters);
            members.map(|member| member.id).collect::<Vec<_>>()
        };
        let (voters, observers) = (ids(true), ids(false));
        write!(out, "\nquorum leader {}   epoch {}", quorum.leader, quorum.epoch)?;
        write!(out, "   high watermark {}   voters {}", quorum.high_watermark, list_text(&voters))?;
        if !observers.is_empty() {
            write!(out, "   observers {}", list_text(&observers))?;
        }
        let furthest = quorum.members.iter().map(|member| quorum.lag(member)).max().unwrap_or_default();
        writeln!(out, "   lag at most {furthest}")?;
        if !self.shows_all {
            return Ok(());
        }
        let row = |member: &QuorumMember| {
            let role = match member.is_voter {
                true if member.id == quorum.leader => "leader",
                true => "voter",
                false => "observer",
            };
            vec![
                member.id.to_string(),
                role.to_owned(),
                member.log_end_offset.to_string(),
                quorum.lag(member).to_string(),
                uuid_text(member.directory),
            ]
        };
        let rows: Vec<Vec<String>> = quorum.members.iter().map(row).collect();
        write_table(out, &["NODE", "ROLE", "LOG END", "LAG", "DIRECTORY"], &rows)
    }

    fn write_partitions(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let all = count_text(self.partitions.len(), "partition");
        let counts = [
            (self.count(|health| health.is_offline), "offline"),
            (self.count(|health| health.is_under_replicated), "under-replicated"),
            (self.count(|health| health.is_under_min_isr), "under min.insync.replicas"),
            (self.count(|health| health.is_moving), "moving"),
        ];
        let counts: Vec<String> = counts.iter().map(|(count, what)| format!("{count} {what}")).collect();
        writeln!(out, "\n{all}: {}", counts.join(", "))?;
        let row = |health: &PartitionHealth| {
            let lags: Vec<String> = health.lags.iter().map(|(id, lag)| format!("{id}:{lag}")).collect();
            vec![
                health.partition.topic.clone(),
                health.partition.partition.to_string(),
                health.leader.to_string(),
                list_text(&health.replicas),
                list_text(&health.in_sync),
                cell(Some(lags.join(" ")).filter(|text| !text.is_empty())),
                health.states().join(", "),
            ]
        };
        let rows: Vec<Vec<String>> = self.shown().map(row).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let header = ["TOPIC", "PARTITION", "LEADER", "REPLICAS", "IN SYNC", "LAG", "STATE"];
        write_table(out, &header, &rows)
    }
}

fn quorum_json(quorum: &Quorum) -> serde_json::Value {
    let member = |member: &QuorumMember| {
        json!({
            "id": member.id, "voter": member.is_voter, "log_end_offset": member.log_end_offset, "lag": quorum.lag(member),
            "caught_up_ms": member.caught_up_ms, "directory": uuid_text(member.directory),
        })
    };
    json!({
        "leader": quorum.leader, "epoch": quorum.epoch, "high_watermark": quorum.high_watermark,
        "members": quorum.members.iter().map(member).collect::<Vec<_>>(),
    })
}

fn used(dir: &LogDir) -> u64 {
    dir.replicas.iter().map(|replica| replica.bytes).sum()
}
