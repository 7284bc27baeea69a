//! Clients: what they know, what they ask, and what they conclude from the answers.
//!
//! A client knows what real ones know: metadata that may be old, and of a request without an answer nothing. Each has at its disposal a clock that strikes
//! when it wants.

mod admin;
mod assignment;
mod classic;
mod consumer;
mod member;
mod producer;
mod share;
mod sharer;

use std::collections::BTreeMap;

use coord::types::{BrokerId, LeaderEpoch};
use storage::TopicIdPartition;

use super::message::{ClusterMetadata, Request, Response};
use super::oracle::Oracle;
use super::random::Random;
use super::settings;

pub use admin::Admin;
pub use classic::ClassicMember;
pub use consumer::Consumer;
pub use member::Member;
pub use producer::Producer;
pub use sharer::Sharer;

/// What a client works with during one call.
pub struct ClientEnv<'a> {
    /// The virtual time.
    pub now_us: u64,
    /// Chance.
    pub random: &'a mut Random,
    /// Who knows what is right.
    pub oracle: &'a mut Oracle,
    /// Requests to send.
    pub requests: &'a mut Vec<(BrokerId, u64, Request)>,
    /// By which connection each broker can be reached; `None` if its process is down.
    pub connections: &'a [Option<u64>],
    /// All brokers, for who knows nothing yet.
    pub brokers: i32,
    /// Whether the faults are over: nothing new is begun, and what was begun is finished.
    pub is_ending: bool,
}

impl ClientEnv<'_> {
    fn any_broker(&mut self) -> BrokerId {
        BrokerId(self.random.below(self.brokers as u64) as i32)
    }

    /// By which connection a broker can be reached. One that was used before and is another now has broken.
    fn connection(&self, broker: BrokerId) -> Option<u64> {
        self.connections.get(broker.0 as usize).copied().flatten()
    }

    /// A partition's leader epoch, in truth.
    fn leader_epoch(&self, id: TopicIdPartition) -> LeaderEpoch {
        let topic = self.oracle.truth.topic_by_id(id.topic_id);
        let partition = topic.and_then(|topic| topic.partition(id.partition));
        partition.map_or(LeaderEpoch::UNKNOWN, |partition| partition.leader_epoch)
    }
}

/// What all clients have: metadata, and requests that wait for their answers. `T` says what a request was.
#[derive(Debug)]
struct Base<T> {
    metadata: ClusterMetadata,
    wants_metadata: bool,
    metadata_asked_us: Option<u64>,
    next_number: u64,
    asked: BTreeMap<u64, (u64, T)>,
}

impl<T> Default for Base<T> {
    fn default() -> Self {
        Base {
            metadata: ClusterMetadata::default(),
            wants_metadata: true,
            metadata_asked_us: None,
            next_number: 0,
            asked: BTreeMap::new(),
        }
    }
}

impl<T> Base<T> {
    /// Asks somebody for metadata if that is wanted and nobody has been asked lately.
    fn refresh(&mut self, env: &mut ClientEnv<'_>) {
        let is_asked =
            self.metadata_asked_us.is_some_and(|at_us| env.now_us < at_us + settings::REQUEST_TIMEOUT_US / 4);
        if self.wants_metadata && !is_asked {
            self.metadata_asked_us = Some(env.now_us);
            let to = env.any_broker();
            env.requests.push((to, 0, Request::Metadata));
        }
    }

    fn ask(&mut self, to: BrokerId, what: T, request: Request, env: &mut ClientEnv<'_>) -> u64 {
        self.next_number += 1;
        self.asked.insert(self.next_number, (env.now_us, what));
        env.requests.push((to, self.next_number, request));
        self.next_number
    }

    /// What a response answers; `None` if nobody waits for it any more, or it was metadata.
    fn answered(&mut self, number: u64, response: &Response) -> Option<T> {
        if let Response::Metadata(metadata) = response {
            self.wants_metadata = metadata.partitions.is_empty();
            self.metadata_asked_us = None;
            self.metadata.update(metadata);
            return None;
        }
        self.asked.remove(&number).map(|(_, what)| what)
    }

    /// Requests that have waited too long; what became of them nobody knows.
    fn timed_out(&mut self, now_us: u64) -> Vec<T> {
        self.give_up(|asked_us, _| now_us > asked_us + settings::REQUEST_TIMEOUT_US)
    }

    /// Requests that were asked then and are not worth waiting for.
    fn give_up(&mut self, is_lost: impl Fn(u64, &T) -> bool) -> Vec<T> {
        let lost = self.asked.iter().filter(|(_, (asked_us, what))| is_lost(*asked_us, what));
        let lost: Vec<u64> = lost.map(|(number, _)| *number).collect();
        lost.into_iter().filter_map(|number| self.asked.remove(&number).map(|(_, what)| what)).collect()
    }
}

/// One client.
#[derive(Debug)]
pub enum Client {
    /// Sends batches to one partition.
    Producer(Producer),
    /// Reads all partitions from their beginning.
    Consumer(Consumer),
    /// Commits offsets in a group.
    Member(Member),
    /// Shares the partitions with others of its group.
    Sharer(Sharer),
    /// The same by the classic protocol.
    Classic(ClassicMember),
    /// Makes topics and changes them.
    Admin(Admin),
}

impl Client {
    /// Its clock strikes; answers when it is to strike again.
    pub fn turn(&mut self, env: &mut ClientEnv<'_>) -> u64 {
        match self {
            Client::Producer(producer) => producer.turn(env),
            Client::Consumer(consumer) => consumer.turn(env),
            Client::Member(member) => member.turn(env),
            Client::Sharer(sharer) => sharer.turn(env),
            Client::Classic(member) => member.turn(env),
            Client::Admin(admin) => admin.turn(env),
        }
    }

    /// An answer has come.
    pub fn response(&mut self, number: u64, response: Response, env: &mut ClientEnv<'_>) {
        match self {
            Client::Producer(producer) => producer.response(number, &response, env),
            Client::Consumer(consumer) => consumer.response(number, &response, env),
            Client::Member(member) => member.response(number, &response, env),
            Client::Sharer(sharer) => sharer.response(number, &response, env),
            Client::Classic(member) => member.response(number, &response, env),
            Client::Admin(admin) => admin.response(number, &response),
        }
    }

    /// What it still waits for once faults have ended; `None` if nothing.
    pub fn unfinished(&self, oracle: &Oracle) -> Option<String> {
        match self {
            Client::Producer(producer) => producer.unfinished(),
            Client::Consumer(consumer) => consumer.unfinished(oracle),
            Client::Member(member) => member.unfinished(),
            Client::Sharer(sharer) => sharer.unfinished(oracle),
            Client::Classic(member) => member.unfinished(oracle),
            Client::Admin(_) => None,
        }
    }
}
