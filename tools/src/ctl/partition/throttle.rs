//! What moves may cost: `--throttle`, as `kafka-reassign-partitions` has it (KIP-73), and `partition unthrottle`.
//!
//! Each broker that takes part gets a rate, for what it sends and for what it receives, and each topic the list of the replicas that are held to it: those
//! from before as senders, new ones as receivers. A replica that is in sync is not held back.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use serde_json::json;

use super::moves::Moves;
use crate::client::{
    Client, ClientError, ConfigChange, ConfigEntry, ConfigOperation, ConfigResource, ResourceKind,
    TopicPartition,
};
use crate::ctl::CtlError;

const LEADER_RATE: &str = "leader.replication.throttled.rate";
const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";
const LEADER_REPLICAS: &str = "leader.replication.throttled.replicas";
const FOLLOWER_REPLICAS: &str = "follower.replication.throttled.replicas";

/// Brokers that have rates, and topics that have lists.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    brokers: BTreeSet<i32>,
    /// Replicas that send and replicas that receive, each as `partition:broker`.
    topics: BTreeMap<String, (Vec<String>, Vec<String>)>,
}

impl Throttle {
    /// What moves need; `now` has the replicas of the partitions before the moves.
    fn of(moves: &Moves, now: impl Fn(&TopicPartition) -> Vec<i32>) -> Throttle {
        let mut throttle = Throttle::default();
        for (partition, to) in moves {
            let senders = now(partition);
            let receivers: Vec<i32> = to.iter().copied().filter(|broker| !senders.contains(broker)).collect();
            if receivers.is_empty() {
                continue;
            }
            let named = |brokers: &[i32]| -> Vec<String> {
                brokers.iter().map(|broker| format!("{}:{broker}", partition.partition)).collect()
            };
            let (sending, receiving) = throttle.topics.entry(partition.topic.clone()).or_default();
            sending.extend(named(&senders));
            receiving.extend(named(&receivers));
            throttle.brokers.extend(senders.into_iter().chain(receivers));
        }
        throttle
    }

    /// Sets what moves need that have yet to begin. Bytes per second.
    pub fn set(client: &mut Client, moves: &Moves, rate: u64) -> Result<Throttle, CtlError> {
        let names: BTreeSet<&str> = moves.keys().map(|partition| partition.topic.as_str()).collect();
        let topics = client.topics_named(&names.into_iter().collect::<Vec<_>>())?;
        let under_way = client.reassignments()?;
        let throttle = Throttle::of(moves, |partition| {
            let topic = topics.get(&partition.topic);
            let found = topic.and_then(|topic| topic.partition(partition.partition));
            let moving = under_way.iter().find(|moving| moving.partition == *partition);
            let is_new = |broker: &i32| moving.is_some_and(|moving| moving.adding.contains(broker));
            let replicas = found.map_or(&[][..], |found| &found.replicas);
            replicas.iter().copied().filter(|broker| !is_new(broker)).collect()
        });
        for broker in throttle.running(client)? {
            let rate = rate.to_string();
            let changes = [change(LEADER_RATE, Some(&rate)), change(FOLLOWER_RATE, Some(&rate))];
            client.alter_configs(&of_broker(broker), &changes, false)?;
        }
        for (topic, (senders, receivers)) in &throttle.topics {
            let (senders, receivers) = (senders.join(","), receivers.join(","));
            let changes =
                [change(LEADER_REPLICAS, Some(&senders)), change(FOLLOWER_REPLICAS, Some(&receivers))];
            client.alter_configs(&of_topic(topic), &changes, false)?;
        }
        Ok(throttle)
    }

    /// Takes it all away.
    pub fn clear(&self, client: &mut Client) -> Result<(), ClientError> {
        let lists = [change(LEADER_REPLICAS, None), change(FOLLOWER_REPLICAS, None)];
        let names: Vec<&str> = self.topics.keys().map(String::as_str).collect();
        // One may have been deleted meanwhile.
        for topic in client.topics_named(&names)?.keys() {
            client.alter_configs(&of_topic(topic), &lists, false)?;
        }
        let rates = [change(LEADER_RATE, None), change(FOLLOWER_RATE, None)];
        for broker in self.running(client)? {
            client.alter_configs(&of_broker(broker), &rates, false)?;
        }
        Ok(())
    }

    /// Those of its brokers that take part: one that is down sends and receives nothing.
    fn running(&self, client: &mut Client) -> Result<Vec<i32>, ClientError> {
        let brokers = running(client)?;
        Ok(brokers.into_iter().filter(|broker| self.brokers.contains(broker)).collect())
    }
}

fn running(client: &mut Client) -> Result<Vec<i32>, ClientError> {
    let brokers = client.describe_cluster()?.brokers;
    Ok(brokers.into_iter().filter(|broker| !broker.is_fenced).map(|broker| broker.id).collect())
}

fn of_broker(id: i32) -> ConfigResource {
    ConfigResource { kind: ResourceKind::Broker, name: id.to_string() }
}

fn of_topic(name: &str) -> ConfigResource {
    ConfigResource { kind: ResourceKind::Topic, name: name.to_owned() }
}

fn change(name: &str, value: Option<&str>) -> ConfigChange {
    let operation = if value.is_some() { ConfigOperation::Set } else { ConfigOperation::Unset };
    ConfigChange { name: name.to_owned(), operation, value: value.unwrap_or_default().to_owned() }
}

/// The rates that brokers have been given: what each sends and what it receives. Bytes per second.
fn rates(client: &mut Client) -> Result<BTreeMap<i32, [Option<String>; 2]>, ClientError> {
    let mut rates = BTreeMap::new();
    for broker in running(client)? {
        let entries = client.describe_configs(&of_broker(broker), false)?;
        let rate = [LEADER_RATE, FOLLOWER_RATE].map(|name| own(&entries, name));
        if rate.iter().any(Option::is_some) {
            rates.insert(broker, rate);
        }
    }
    Ok(rates)
}

fn own(entries: &[ConfigEntry], name: &str) -> Option<String> {
    entries.iter().find(|entry| entry.name == name && entry.is_own)?.value.clone()
}

/// Says which brokers are throttled, if any are.
pub fn tell(client: &mut Client, out: &mut dyn Write) -> Result<(), CtlError> {
    let rates = rates(client)?;
    for (broker, [sends, receives]) in &rates {
        let told = [("sends", sends), ("receives", receives)];
        let told = told
            .into_iter()
            .filter_map(|(verb, rate)| Some(format!("{verb} {} bytes per second", rate.as_ref()?)));
        let told = told.collect::<Vec<_>>().join(" and ");
        writeln!(out, "Broker {broker} {told} at most for throttled replicas.").map_err(CtlError::stdout)?;
    }
    if !rates.is_empty() {
        writeln!(out, "'brokerctl partition unthrottle' takes that away.").map_err(CtlError::stdout)?;
    }
    Ok(())
}

/// Runs `partition unthrottle`: nothing is throttled any more.
pub fn remove(client: &mut Client, json: bool, out: &mut dyn Write) -> Result<(), CtlError> {
    let brokers: BTreeSet<i32> = rates(client)?.into_keys().collect();
    let mut topics = BTreeMap::new();
    for topic in client.topics()? {
        let entries = client.describe_configs(&of_topic(&topic.name), false)?;
        if [LEADER_REPLICAS, FOLLOWER_REPLICAS].iter().any(|name| own(&entries, name).is_some()) {
            topics.insert(topic.name, Default::default());
        }
    }
    let throttle = Throttle { brokers, topics };
    throttle.clear(client)?;
    let names: Vec<&String> = throttle.topics.keys().collect();
    match json {
        true => writeln!(out, "{}", json!({ "brokers": throttle.brokers, "topics": names })),
        false if throttle == Throttle::default() => writeln!(out, "Nothing is throttled."),
        false => {
            let brokers = throttle.brokers.iter().map(|broker| format!("broker {broker}"));
            let topics = names.iter().map(|name| format!("topic '{name}'"));
            brokers.chain(topics).try_for_each(|name| writeln!(out, "{name}: not throttled any more"))
        }
    }
    .map_err(CtlError::stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_from_before_send_and_new_ones_receive() {
        let moves = Moves::from([
            (TopicPartition::new("a", 0), vec![3, 1]),
            (TopicPartition::new("a", 1), vec![2, 1]),
            (TopicPartition::new("a", 2), vec![4, 5]),
        ]);
        let throttle = Throttle::of(&moves, |_| vec![1, 2]);
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let expected = (texts(&["0:1", "0:2", "2:1", "2:2"]), texts(&["0:3", "2:4", "2:5"]));
        assert_eq!(throttle.topics, BTreeMap::from([("a".to_owned(), expected)]));
        assert_eq!(throttle.brokers, BTreeSet::from([1, 2, 3, 4, 5]));
        // Another order alone copies nothing.
        let order = Moves::from([(TopicPartition::new("a", 1), vec![2, 1])]);
        assert_eq!(Throttle::of(&order, |_| vec![1, 2]), Throttle::default());
    }
}
