//! A consumer: one connection per leader (or several), each with a fetch session, begun again when leaders change.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use glommio::timer::sleep;
use protocol::client::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};
use protocol::messages::fetch::{FetchPartition, FetchTopic, PartitionData};
use protocol::messages::{FetchRequest, FetchResponse};
use protocol::wire::Few;

use super::session::Session;
use super::tally::{Checks, PartitionTally, next_offset};
use super::verification::Verification;
use super::{FetchArgs, Start};
use crate::client::{ANSWER_LIMIT, Client, Connection, Topic, connect_any, describe_topic, error_name};
use crate::clock::Clock;
use crate::crew::Seconds;
use crate::error::BenchError;
use crate::load::TargetArgs;
use crate::member::{Member, Subscription};
use crate::stats::{INTERVAL_NS, Interval};

/// Kafka's error codes that a consumer treats in its own way.
mod code {
    pub const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
    pub const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
}
const TICK: Duration = Duration::from_millis(100);
const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// As often as Kafka's consumers commit by default (`auto.commit.interval.ms`).
const COMMIT_PERIOD_NS: u64 = 5_000_000_000;
/// A stamp that is further in the past is none of a running load.
const OLDEST_STAMP_NS: u64 = 3_600_000_000_000;

/// When a consumer has read enough.
#[derive(Debug, Clone)]
pub enum Until {
    /// When the run's time is over.
    Time,
    /// When it has read what was there when it began.
    End {
        /// It fails when no broker has answered for so long.
        give_up_after: Duration,
    },
    /// When the run's producers have ended and it has read what they wrote, or the producers' drain time is over once more.
    Producers {
        /// How many of them have not ended.
        left: Arc<AtomicUsize>,
        /// How long to go on without them.
        drain: Duration,
    },
}

/// The group of a run's consumers.
#[derive(Debug, Clone)]
pub struct GroupPlan {
    /// Its name.
    pub group: String,
    /// How many consumers the run has.
    pub members: usize,
}

/// All that a consumer needs, to be taken to its thread.
#[derive(Debug, Clone)]
pub struct ConsumerSetup {
    /// Which broker and topic.
    pub target: TargetArgs,
    /// How to fetch.
    pub fetch: FetchArgs,
    /// The partitions to read, unless a group decides.
    pub partitions: Vec<i32>,
    /// The group, if there is one.
    pub group: Option<GroupPlan>,
    /// Where to begin.
    pub start: Start,
    /// When to end.
    pub until: Until,
    /// When counting starts, since the start of the run.
    pub warmup_ns: u64,
    /// Whether to measure latency.
    pub latency: bool,
}

/// How a consumer ended.
#[derive(Debug, Default)]
pub struct ConsumerEnd {
    /// When the last records arrived, since the start of the run.
    pub last_arrival_ns: u64,
    /// Records without a stamp.
    pub unstamped: u64,
    /// What was wrong with what was read.
    pub verification: Verification,
    /// How many different records of each source were read from each partition.
    pub distinct: BTreeMap<(i32, u32), u64>,
}

impl ConsumerEnd {
    /// Adds another consumer's.
    pub fn add(&mut self, other: ConsumerEnd) {
        self.last_arrival_ns = self.last_arrival_ns.max(other.last_arrival_ns);
        self.unstamped += other.unstamped;
        self.verification.add(other.verification);
        self.distinct.extend(other.distinct);
    }
}

/// A consumer that waits for the start.
pub struct ReadyConsumer {
    setup: ConsumerSetup,
    topic: Topic,
    control: Client,
    member: Option<Member>,
    positions: BTreeMap<i32, i64>,
    ends: Option<BTreeMap<i32, i64>>,
}

/// A consumer at work.
struct Reader {
    setup: ConsumerSetup,
    clock: Clock,
    checks: Checks,
    /// When a broker has last answered, since the start of the run.
    heard_ns: Cell<u64>,
    /// Where each partition has been read to.
    positions: RefCell<BTreeMap<i32, i64>>,
    /// Where reading ends, once that is known.
    ends: RefCell<Option<BTreeMap<i32, i64>>>,
    tallies: RefCell<BTreeMap<i32, PartitionTally>>,
    current: RefCell<Interval>,
    end: RefCell<ConsumerEnd>,
    seconds: Seconds,
    stopped: Cell<bool>,
    /// Some connection broke or a leader moved: all connections of this round end.
    restart: Cell<bool>,
}

impl ConsumerSetup {
    /// Finds out where to begin, and where to end if that is known.
    pub async fn prepare(mut self) -> Result<ReadyConsumer, BenchError> {
        let mut control = connect_any(&self.target.bootstrap).await?;
        let topic = find_topic(&mut control, &self.target.topic).await?;
        let mut member = self.join(&topic).await?;
        if let Some(member) = &member {
            self.partitions = member.assigned().to_vec();
        }
        let latest = list_offsets(&topic, &self.partitions, LATEST_TIMESTAMP).await?;
        let (mut positions, ends) = match self.start {
            Start::Tail => (latest, None),
            Start::Beginning => {
                let ends = matches!(self.until, Until::End { .. }).then_some(latest);
                (list_offsets(&topic, &self.partitions, EARLIEST_TIMESTAMP).await?, ends)
            }
        };
        if let Some(member) = &mut member {
            positions.extend(member.committed().await?);
        }
        Ok(ReadyConsumer { setup: self, topic, control, member, positions, ends })
    }

    /// Enters the group, if there is one, and waits until all the run's consumers are in it.
    async fn join(&self, topic: &Topic) -> Result<Option<Member>, BenchError> {
        let Some(plan) = &self.group else {
            return Ok(None);
        };
        let partitions = topic.partitions.iter().map(|info| info.index).collect();
        let subscription = Subscription { topic: topic.name.clone(), partitions };
        let mut member = Member::connect(&self.target.bootstrap, &plan.group, subscription).await?;
        member.join().await?;
        member.settle(plan.members).await?;
        Ok(Some(member))
    }
}

impl ReadyConsumer {
    /// Reads until the end.
    pub async fn run(self, clock: Clock, seconds: Seconds) -> Result<ConsumerEnd, BenchError> {
        let ReadyConsumer { setup, topic, control, member, positions, ends } = self;
        // What a consumer of the run's own producers reads was meant to be sent in the run; others may be late.
        let counted_from = match setup.until {
            Until::Producers { .. } => clock.unix_ns(setup.warmup_ns),
            Until::Time | Until::End { .. } => clock.unix_ns(setup.warmup_ns).saturating_sub(OLDEST_STAMP_NS),
        };
        let tally =
            |(partition, offset): (&i32, &i64)| (*partition, PartitionTally::new(*partition, *offset == 0));
        let reader = Rc::new(Reader {
            checks: Checks {
                latency_from: setup.latency.then_some(counted_from),
                verify: !setup.fetch.no_verify,
            },
            clock,
            heard_ns: Cell::new(0),
            tallies: RefCell::new(positions.iter().map(tally).collect()),
            positions: RefCell::new(positions),
            ends: RefCell::new(ends),
            current: RefCell::new(Interval::new(0)),
            end: RefCell::default(),
            seconds,
            stopped: Cell::new(false),
            restart: Cell::new(false),
            setup,
        });
        sleep(clock.until(0)).await;
        glommio::spawn_local(reader.clone().tick()).detach();
        let committing =
            member.map(|member| glommio::spawn_local(reader.clone().commit_while_reading(member)));
        let outcome = reader.read(topic, control).await;
        reader.stopped.set(true);
        if let Some(committing) = committing {
            committing.await;
        }
        outcome?;
        reader.hand_over();
        let mut end = reader.end.take();
        for (partition, tally) in reader.tallies.borrow().iter() {
            let sources = tally.sequences.distinct();
            end.distinct.extend(sources.map(|(source, distinct)| ((*partition, source), distinct)));
        }
        Ok(end)
    }
}

async fn find_topic(client: &mut Client, name: &str) -> Result<Topic, BenchError> {
    describe_topic(client, name).await?.ok_or_else(|| BenchError::Refused {
        what: format!("topic {name}"),
        code: "UNKNOWN_TOPIC_OR_PARTITION".to_owned(),
        message: String::new(),
    })
}

/// The partitions by the broker that leads them, in at most `connections` groups each.
fn by_connection(topic: &Topic, partitions: &[i32], connections: usize) -> BTreeMap<(i32, usize), Vec<i32>> {
    let leaders: BTreeMap<i32, i32> = topic.partitions.iter().map(|info| (info.index, info.leader)).collect();
    let mut groups: BTreeMap<(i32, usize), Vec<i32>> = BTreeMap::new();
    for (position, partition) in partitions.iter().enumerate() {
        let leader = leaders.get(partition).copied().unwrap_or(-1);
        groups.entry((leader, position % connections)).or_default().push(*partition);
    }
    groups
}

/// Offsets of `partitions` at a timestamp or its special values, asked of their leaders.
async fn list_offsets(
    topic: &Topic,
    partitions: &[i32],
    timestamp: i64,
) -> Result<BTreeMap<i32, i64>, BenchError> {
    let mut offsets = BTreeMap::new();
    for ((leader, _), group) in by_connection(topic, partitions, 1) {
        let mut client = Client::connect(address(topic, leader)?).await?;
        let request = protocol::client::list_offsets([(topic.name.as_str(), group)], timestamp);
        let response = client.call(&request).await?;
        for answer in response.topics.iter().flat_map(|topic| &topic.partitions) {
            if answer.error_code != 0 {
                return Err(BenchError::Refused {
                    what: format!("offsets of {}-{}", topic.name, answer.partition_index),
                    code: error_name(answer.error_code),
                    message: String::new(),
                });
            }
            offsets.insert(answer.partition_index, answer.offset);
        }
    }
    Ok(offsets)
}

fn address(topic: &Topic, broker: i32) -> Result<&str, BenchError> {
    topic.brokers.get(&broker).map(String::as_str).ok_or_else(|| BenchError::Refused {
        what: format!("topic {}", topic.name),
        code: "LEADER_NOT_AVAILABLE".to_owned(),
        message: String::new(),
    })
}

impl Reader {
    /// Reads until the end, in rounds: a round lasts until a connection breaks or a leader moves.
    async fn read(&self, topic: Topic, control: Client) -> Result<(), BenchError> {
        let mut topic = topic;
        let mut control = Some(control);
        loop {
            self.restart.set(false);
            let partitions = self.unread();
            let groups = by_connection(&topic, &partitions, usize::from(self.setup.target.connections));
            let rounds =
                groups.into_iter().map(|((leader, _), group)| self.read_connection(&topic, leader, group));
            let mut trouble = None;
            for outcome in join_all(rounds).await {
                match outcome {
                    Ok(()) => {}
                    Err(error) if error.may_pass() => trouble = Some(error),
                    Err(error) => return Err(error),
                }
            }
            if let Some(error) = trouble.filter(|_| self.is_given_up()) {
                return Err(error);
            }
            if self.stopped.get() || self.has_reached_the_end() {
                self.stopped.set(true);
                return Ok(());
            }
            self.current.borrow_mut().reconnects += 1;
            sleep(RESTART_PAUSE).await;
            if control.is_none() {
                control = connect_any(&self.setup.target.bootstrap).await.ok();
            }
            match &mut control {
                None => {}
                Some(client) => match describe_topic(client, &topic.name).await {
                    Ok(Some(found)) => topic = found,
                    Ok(None) => {}
                    Err(_) => control = None,
                },
            }
        }
    }

    async fn read_connection(&self, topic: &Topic, leader: i32, group: Vec<i32>) -> Result<(), BenchError> {
        let outcome = self.fetch_loop(topic, leader, &group).await;
        // Who has come to the end leaves the others alone.
        if !self.are_read(self.positions_of(&group)) {
            self.restart.set(true);
        }
        outcome
    }

    /// Whether nothing but an answer would end the run, and none has come for too long.
    fn is_given_up(&self) -> bool {
        let silence = Duration::from_nanos(self.clock.now_ns().saturating_sub(self.heard_ns.get()));
        matches!(self.setup.until, Until::End { give_up_after } if silence > give_up_after)
    }

    fn is_over(&self) -> bool {
        self.stopped.get() || self.restart.get()
    }

    async fn fetch_loop(&self, topic: &Topic, leader: i32, group: &[i32]) -> Result<(), BenchError> {
        let client = Client::connect(address(topic, leader)?).await?;
        let version = client.version::<FetchRequest<'_>>()?;
        let mut session = Session::new(self.positions_of(group));
        let (mut sender, connection, mut reader) = client.split();
        sender.send(&connection, &self.request(topic, &mut session), version).await?;
        loop {
            let limit = ANSWER_LIMIT + Duration::from_millis(self.setup.fetch.max_wait_ms.into());
            let frame = connection.within(limit, reader.next(&connection)).await?;
            let arrived_ns = self.clock.now_ns();
            self.heard_ns.set(arrived_ns);
            let (_, response) = protocol::frame::decode_response::<FetchResponse<'_>>(frame, version)
                .map_err(|error| connection.nonsense(error))?;
            self.roll(arrived_ns);
            self.current.borrow_mut().requests += 1;
            if !self.accept(&mut session, &response) {
                return Ok(());
            }
            // The next request leaves before this answer is looked at, so that the broker works meanwhile.
            let before: BTreeMap<i32, i64> = self.advance(&connection, &mut session, &response)?;
            let over = self.is_over() || self.group_is_read(&session);
            if !over {
                sender.send(&connection, &self.request(topic, &mut session), version).await?;
            }
            for data in response.responses.iter().flat_map(|topic| &topic.partitions) {
                if let Some(position) = before.get(&data.partition_index) {
                    self.count(&connection, data, *position, arrived_ns)?;
                }
            }
            self.positions.borrow_mut().extend(session.positions());
            if over {
                return Ok(());
            }
        }
    }

    fn request<'a>(&self, topic: &'a Topic, session: &mut Session) -> FetchRequest<'a> {
        let (session_id, session_epoch) = session.identity();
        let partitions: Few<FetchPartition<'a>> = session
            .name_partitions()
            .into_iter()
            .map(|(partition, fetch_offset)| FetchPartition {
                partition,
                fetch_offset,
                partition_max_bytes: self.setup.fetch.partition_max_bytes as i32,
                ..Default::default()
            })
            .collect();
        let topics = match partitions.is_empty() {
            true => Few::new(),
            false => Few::one(FetchTopic {
                topic: topic.name.as_str().into(),
                topic_id: topic.id,
                partitions,
                ..Default::default()
            }),
        };
        FetchRequest {
            max_wait_ms: self.setup.fetch.max_wait_ms as i32,
            min_bytes: self.setup.fetch.min_bytes as i32,
            max_bytes: self.setup.fetch.fetch_max_bytes as i32,
            session_id,
            session_epoch,
            topics,
            ..Default::default()
        }
    }

    /// Takes the answer's own error and session; false if the connection should be begun again.
    fn accept(&self, session: &mut Session, response: &FetchResponse<'_>) -> bool {
        match response.error_code {
            0 => session.answered(response.session_id),
            code::FETCH_SESSION_ID_NOT_FOUND | code::INVALID_FETCH_SESSION_EPOCH => session.reopen(),
            error_code => {
                self.current.borrow_mut().count_error(&error_name(error_code), 1);
                return false;
            }
        }
        true
    }

    /// Moves the session past what arrived; returns where the partitions with data stood before.
    fn advance(
        &self,
        connection: &Connection,
        session: &mut Session,
        response: &FetchResponse<'_>,
    ) -> Result<BTreeMap<i32, i64>, BenchError> {
        let mut before = BTreeMap::new();
        for data in response.responses.iter().flat_map(|topic| &topic.partitions) {
            let Some(position) = session.position(data.partition_index) else {
                continue;
            };
            match data.error_code {
                0 => {
                    let records =
                        data.records.as_ref().map(|records| records.contiguous()).unwrap_or_default();
                    let next = next_offset(&records, position).map_err(|error| connection.nonsense(error))?;
                    if next > position {
                        before.insert(data.partition_index, position);
                        session.advance(data.partition_index, next);
                    }
                }
                code::OFFSET_OUT_OF_RANGE => {
                    // Retention removed what we wanted to read: go on with what is left.
                    self.current.borrow_mut().count_error(&error_name(data.error_code), 1);
                    session.advance(data.partition_index, data.log_start_offset.max(0));
                }
                error_code => {
                    self.current.borrow_mut().count_error(&error_name(error_code), 1);
                    self.restart.set(true);
                }
            }
        }
        Ok(before)
    }

    fn count(
        &self,
        connection: &Connection,
        data: &PartitionData<'_>,
        position: i64,
        arrived_ns: u64,
    ) -> Result<(), BenchError> {
        let records = data.records.as_ref().map(|records| records.contiguous()).unwrap_or_default();
        let arrived_unix_ns = self.clock.unix_ns(arrived_ns);
        let mut tallies = self.tallies.borrow_mut();
        let Some(tally) = tallies.get_mut(&data.partition_index) else {
            return Err(connection.nonsense("records of a partition that was not asked for"));
        };
        let (mut current, mut end) = (self.current.borrow_mut(), self.end.borrow_mut());
        let tallied = tally
            .count(&records, position, self.checks, arrived_unix_ns, &mut current, &mut end.verification)
            .map_err(|error| connection.nonsense(error))?;
        end.last_arrival_ns = end.last_arrival_ns.max(arrived_ns);
        end.unstamped += tallied.unstamped;
        Ok(())
    }

    fn group_is_read(&self, session: &Session) -> bool {
        self.are_read(session.positions())
    }

    fn has_reached_the_end(&self) -> bool {
        self.are_read(self.positions.borrow().iter().map(|(partition, offset)| (*partition, *offset)))
    }

    fn are_read(&self, mut positions: impl Iterator<Item = (i32, i64)>) -> bool {
        self.ends.borrow().is_some() && positions.all(|(partition, offset)| self.is_read(partition, offset))
    }

    /// Whether the partition is to be read up to an end, and that is reached.
    fn is_read(&self, partition: i32, offset: i64) -> bool {
        let ends = self.ends.borrow();
        ends.as_ref().is_some_and(|ends| ends.get(&partition).is_none_or(|end| offset >= *end))
    }

    /// The partitions that have not been read to their end.
    fn unread(&self) -> Vec<i32> {
        let positions = self.positions.borrow();
        let unread = positions.iter().filter(|(partition, offset)| !self.is_read(**partition, **offset));
        unread.map(|(partition, _)| *partition).collect()
    }

    fn positions_of(&self, group: &[i32]) -> impl Iterator<Item = (i32, i64)> {
        let positions = self.positions.borrow();
        group.iter().map(move |partition| (*partition, positions[partition]))
    }

    /// Hands over seconds while nothing arrives, and ends the run when its time is over.
    async fn tick(self: Rc<Self>) {
        while !self.stopped.get() {
            let end_ns = self.seconds.end_ns();
            let now = self.clock.now_ns();
            self.roll(now);
            let mut pause = TICK.min(Duration::from_nanos(end_ns.saturating_sub(now).max(1)));
            if now >= end_ns {
                pause = TICK;
                match &self.setup.until {
                    Until::Time | Until::End { .. } => self.stopped.set(true),
                    Until::Producers { drain, .. } if now >= end_ns + 2 * drain.as_nanos() as u64 => {
                        self.stopped.set(true);
                    }
                    Until::Producers { left, .. } => {
                        if left.load(Ordering::Acquire) == 0 && self.ends.borrow().is_none() {
                            // Without an answer the next tick asks again.
                            let ends = self.find_ends().await.ok();
                            self.ends.replace(ends);
                        }
                    }
                }
            }
            sleep(pause).await;
        }
    }

    /// Commits where the partitions have been read to, every few seconds and at the end, and leaves the group.
    async fn commit_while_reading(self: Rc<Self>, mut member: Member) {
        loop {
            let next_ns = self.clock.now_ns() + COMMIT_PERIOD_NS;
            while !self.stopped.get() && self.clock.now_ns() < next_ns {
                sleep(TICK).await;
            }
            let offsets: Vec<(i32, i64)> =
                self.positions.borrow().iter().map(|(partition, offset)| (*partition, *offset)).collect();
            let name = match member.commit(&offsets).await {
                Ok(code) if code.is_none() => None,
                Ok(code) => Some(code.name()),
                Err(_) => Some("CONNECTION_LOST"),
            };
            if let Some(name) = name {
                self.current.borrow_mut().count_error(&format!("commit: {name}"), 1);
            }
            if self.stopped.get() {
                return member.leave().await;
            }
        }
    }

    /// The end of each partition as it is now.
    async fn find_ends(&self) -> Result<BTreeMap<i32, i64>, BenchError> {
        let mut client = connect_any(&self.setup.target.bootstrap).await?;
        let topic = find_topic(&mut client, &self.setup.target.topic).await?;
        list_offsets(&topic, &self.setup.partitions, LATEST_TIMESTAMP).await
    }

    fn roll(&self, now_ns: u64) {
        let second = (now_ns / INTERVAL_NS).min(self.seconds.last());
        while self.current.borrow().second < second {
            self.hand_over();
        }
    }

    fn hand_over(&self) {
        let second = self.current.borrow().second;
        self.seconds.hand_over(self.current.replace(Interval::new(second + 1)));
    }
}
