//! An administrator: makes the topics at the beginning, and moves partitions, changes min.insync.replicas, elects preferred leaders and deletes records from
//! then on.

use coord::metadata::decide::NewTopic;
use coord::types::BrokerId;
use storage::Offset;

use super::{Base, ClientEnv};
use crate::simulator::message::{AdminCommand, OFFSETS_TOPIC, Request, Response};

/// See the module.
#[derive(Debug)]
pub struct Admin {
    base: Base<()>,
    has_created: bool,
    allows_unclean_election: bool,
    /// How often it does something. µs; `None` if it only makes the topics.
    pace_us: Option<u64>,
    /// Whether it may let single replicas commit.
    lowers_min_insync: bool,
    deletes_records: bool,
}

impl Admin {
    /// See the fields.
    pub fn new(
        allows_unclean_election: bool,
        pace_us: Option<u64>,
        lowers_min_insync: bool,
        deletes_records: bool,
    ) -> Self {
        Admin {
            base: Base::default(),
            has_created: false,
            allows_unclean_election,
            pace_us,
            lowers_min_insync,
            deletes_records,
        }
    }

    pub(super) fn turn(&mut self, env: &mut ClientEnv<'_>) -> u64 {
        self.base.refresh(env);
        self.base.wants_metadata |= !self.base.timed_out(env.now_us).is_empty();
        if !self.base.asked.is_empty() {
            return env.now_us + 50_000;
        }
        self.has_created |= self.base.metadata.partitions.len() >= 5;
        if !self.has_created {
            self.base.wants_metadata = true;
            self.ask(AdminCommand::CreateTopics(self.topics()), env);
            return env.now_us + 100_000;
        }
        let Some(pace_us) = self.pace_us.filter(|_| !env.is_ending) else { return env.now_us + 500_000 };
        self.base.wants_metadata = true;
        if self.deletes_records && env.random.one_in(2) {
            self.delete_records(env);
        } else if let Some(command) = self.choose(env) {
            self.ask(command, env);
        }
        env.now_us + env.random.between(pace_us / 4, pace_us * 2)
    }

    fn topics(&self) -> Vec<NewTopic> {
        let topic = |name: &str, partitions| NewTopic {
            name: name.to_owned(),
            num_partitions: partitions,
            replication_factor: 3,
            assignments: Vec::new(),
            configs: vec![
                ("min.insync.replicas".to_owned(), Some("2".to_owned())),
                ("unclean.leader.election.enable".to_owned(), Some(self.allows_unclean_election.to_string())),
            ],
        };
        vec![topic(OFFSETS_TOPIC, 2), topic("t0", 2), topic("t1", 1)]
    }

    fn ask(&mut self, command: AdminCommand, env: &mut ClientEnv<'_>) {
        let known = self.base.metadata.controller;
        let to = if known.is_some() && !self.base.wants_metadata { known } else { env.any_broker() };
        let to = if known.is_some() && env.random.one_in(2) { known } else { to };
        self.base.ask(to, (), Request::Admin(command), env);
    }

    /// Deletes records of a partition, not those by which its producers are known.
    fn delete_records(&mut self, env: &mut ClientEnv<'_>) {
        let partitions: Vec<_> = self.base.metadata.data_partitions().cloned().collect();
        let Some(partition) = env.random.pick(&partitions).filter(|partition| partition.leader.is_some())
        else {
            return;
        };
        let most = env.oracle.deletable(partition.id);
        let before = Offset(env.random.below(most.0 as u64 + 1) as i64);
        env.oracle.deleting(partition.id, before);
        self.base.ask(partition.leader, (), Request::DeleteRecords(partition.id, before), env);
    }

    fn choose(&self, env: &mut ClientEnv<'_>) -> Option<AdminCommand> {
        let partition = env.random.pick(&self.base.metadata.partitions)?.clone();
        Some(match env.random.below(6) {
            0 | 1 => {
                let mut brokers: Vec<BrokerId> = (0..env.brokers).map(BrokerId).collect();
                let by = env.random.below(brokers.len() as u64) as usize;
                brokers.rotate_left(by);
                let factor = if env.random.one_in(3) { 2 } else { 3 };
                brokers.truncate(factor);
                AdminCommand::Reassign(partition.id, Some(brokers))
            }
            2 => AdminCommand::Reassign(partition.id, None),
            3 | 4 => {
                let least = if self.lowers_min_insync { 1 } else { 2 };
                AdminCommand::SetMinInsync(partition.topic, env.random.between(least, 3) as usize)
            }
            _ => AdminCommand::ElectPreferred(partition.id),
        })
    }

    pub(super) fn response(&mut self, number: u64, response: &Response) {
        let _ = self.base.answered(number, response);
        self.base.wants_metadata |= matches!(response, Response::Failed);
    }
}
