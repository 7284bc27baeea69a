//! A consuming worker: one connection per leader (or several), each with a fetch session, begun again when leaders change.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use futures::future::join_all;
use glommio::timer::sleep;
use protocol::client::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};
use protocol::messages::fetch::{FetchPartition, FetchTopic, PartitionData};
use protocol::messages::{FetchRequest, FetchResponse};

use super::session::Session;
use super::tally::{Checks, next_offset, tally};
use super::{ConsumeArgs, Start};
use crate::client::{Client, Topic, connect_any, describe_topic, error_name};
use crate::clock::Clock;
use crate::error::BenchError;
use crate::load::Event;
use crate::stats::{INTERVAL_NS, Interval};

/// Kafka's error codes that a consumer treats in its own way.
mod code {
    pub const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
    pub const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
}
const TICK: Duration = Duration::from_millis(100);
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// All that a worker needs, to be taken to its thread.
pub struct WorkerSetup {
    /// The run's options.
    pub args: ConsumeArgs,
    /// The partitions to read.
    pub partitions: Vec<i32>,
    /// Where seconds are reported.
    pub events: Sender<Event>,
    /// Where the start is announced.
    pub start: Receiver<Clock>,
}

/// How a worker ended.
#[derive(Debug, Default)]
pub struct WorkerEnd {
    /// When the last records arrived, since the start of the run.
    pub last_arrival_ns: u64,
    /// Records without a stamp.
    pub unstamped: u64,
    /// The first thing that `--verify` found wrong.
    pub wrong: Option<String>,
}

impl WorkerEnd {
    /// Adds another worker's.
    pub fn add(&mut self, other: WorkerEnd) {
        self.last_arrival_ns = self.last_arrival_ns.max(other.last_arrival_ns);
        self.unstamped += other.unstamped;
        self.wrong = self.wrong.take().or(other.wrong);
    }
}

/// One core's part of the run.
struct Worker {
    args: ConsumeArgs,
    clock: Clock,
    checks: Checks,
    last_second: u64,
    /// Where each partition has been read to.
    positions: RefCell<BTreeMap<i32, i64>>,
    /// Where reading from the beginning ends.
    ends: BTreeMap<i32, i64>,
    current: RefCell<Interval>,
    end: RefCell<WorkerEnd>,
    events: Sender<Event>,
    stopped: Cell<bool>,
    /// Some connection broke or a leader moved: all connections of this round end.
    restart: Cell<bool>,
}

/// Runs a worker to its end.
pub async fn work(setup: WorkerSetup) -> Result<WorkerEnd, BenchError> {
    let WorkerSetup { args, partitions, events, start } = setup;
    let mut control = connect_any(&args.target.bootstrap).await?;
    let topic = find_topic(&mut control, &args.target.topic).await?;
    let latest = list_offsets(&topic, &partitions, LATEST_TIMESTAMP).await?;
    let (positions, ends) = match args.from {
        Start::Tail => (latest, BTreeMap::new()),
        Start::Beginning => {
            let ends = if args.duration.is_none() { latest } else { BTreeMap::new() };
            (list_offsets(&topic, &partitions, EARLIEST_TIMESTAMP).await?, ends)
        }
    };
    let started = events.send(Event::Ready).is_ok().then(|| start.recv().ok()).flatten();
    let Some(clock) = started else {
        return Ok(WorkerEnd::default());
    };
    let end_ns = args.end_ns();
    let worker = Rc::new(Worker {
        checks: Checks { latency: args.from == Start::Tail, verify: args.verify },
        last_second: end_ns.div_ceil(INTERVAL_NS) - 1,
        clock,
        positions: RefCell::new(positions),
        ends,
        current: RefCell::new(Interval::new(0)),
        end: RefCell::default(),
        events,
        stopped: Cell::new(false),
        restart: Cell::new(false),
        args,
    });
    sleep(clock.until(0)).await;
    glommio::spawn_local(worker.clone().tick(end_ns)).detach();
    worker.read(topic, control).await?;
    worker.hand_over();
    Ok(worker.end.take())
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
    let mut groups: BTreeMap<(i32, usize), Vec<i32>> = BTreeMap::new();
    for (position, partition) in partitions.iter().enumerate() {
        let leader =
            topic.partitions.iter().find(|info| info.index == *partition).map_or(-1, |info| info.leader);
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

impl Worker {
    /// Reads until the end, in rounds: a round lasts until a connection breaks or a leader moves.
    async fn read(&self, topic: Topic, control: Client) -> Result<(), BenchError> {
        let mut topic = topic;
        let mut control = Some(control);
        let partitions: Vec<i32> = self.positions.borrow().keys().copied().collect();
        loop {
            self.restart.set(false);
            let groups = by_connection(&topic, &partitions, usize::from(self.args.target.connections));
            let rounds =
                groups.into_iter().map(|((leader, _), group)| self.read_connection(&topic, leader, group));
            for outcome in join_all(rounds).await {
                match outcome {
                    Ok(()) | Err(BenchError::Connect { .. } | BenchError::Connection { .. }) => {}
                    Err(BenchError::Refused { code, .. }) if code == "LEADER_NOT_AVAILABLE" => {}
                    Err(error) => return Err(error),
                }
            }
            if self.stopped.get() || self.has_reached_the_end() {
                self.stopped.set(true);
                return Ok(());
            }
            self.current.borrow_mut().reconnects += 1;
            sleep(RESTART_PAUSE).await;
            if control.is_none() {
                control = connect_any(&self.args.target.bootstrap).await.ok();
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
        let outcome = self.fetch_loop(topic, leader, group).await;
        self.restart.set(true);
        outcome
    }

    fn is_over(&self) -> bool {
        self.stopped.get() || self.restart.get()
    }

    async fn fetch_loop(&self, topic: &Topic, leader: i32, group: Vec<i32>) -> Result<(), BenchError> {
        let client = Client::connect(address(topic, leader)?).await?;
        let version = client.version::<FetchRequest<'_>>()?;
        let mut session = {
            let positions = self.positions.borrow();
            Session::new(group.iter().map(|partition| (*partition, positions[partition])))
        };
        let (mut sender, connection, mut reader) = client.split();
        sender.send(&connection, &self.request(topic, &mut session), version).await?;
        loop {
            let frame = reader.next(&connection).await?;
            let arrived_ns = self.clock.now_ns();
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
        let partitions: Vec<FetchPartition<'a>> = session
            .name_partitions()
            .into_iter()
            .map(|(partition, fetch_offset)| FetchPartition {
                partition,
                fetch_offset,
                partition_max_bytes: self.args.partition_max_bytes as i32,
                ..Default::default()
            })
            .collect();
        let topics = match partitions.is_empty() {
            true => Vec::new(),
            false => vec![FetchTopic {
                topic: topic.name.as_str().into(),
                topic_id: topic.id,
                partitions,
                ..Default::default()
            }],
        };
        FetchRequest {
            max_wait_ms: self.args.max_wait_ms as i32,
            min_bytes: self.args.min_bytes as i32,
            max_bytes: self.args.fetch_max_bytes as i32,
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
        connection: &crate::client::Connection,
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
        connection: &crate::client::Connection,
        data: &PartitionData<'_>,
        position: i64,
        arrived_ns: u64,
    ) -> Result<(), BenchError> {
        let records = data.records.as_ref().map(|records| records.contiguous()).unwrap_or_default();
        let arrived_unix_ns = self.clock.unix_ns(arrived_ns);
        let mut current = self.current.borrow_mut();
        let tallied = tally(&records, position, self.checks, arrived_unix_ns, &mut current)
            .map_err(|error| connection.nonsense(error))?;
        let mut end = self.end.borrow_mut();
        end.last_arrival_ns = end.last_arrival_ns.max(arrived_ns);
        end.unstamped += tallied.unstamped;
        if let (Some(wrong), None) = (tallied.wrong, &end.wrong) {
            end.wrong = Some(format!("partition {}: {wrong}", data.partition_index));
        }
        Ok(())
    }

    fn group_is_read(&self, session: &Session) -> bool {
        !self.ends.is_empty()
            && session.positions().all(|(partition, offset)| self.is_read(partition, offset))
    }

    fn has_reached_the_end(&self) -> bool {
        !self.ends.is_empty()
            && self.positions.borrow().iter().all(|(partition, offset)| self.is_read(*partition, *offset))
    }

    fn is_read(&self, partition: i32, offset: i64) -> bool {
        self.ends.get(&partition).is_none_or(|end| offset >= *end)
    }

    /// Hands over seconds while nothing arrives, and ends the run when its time is over.
    async fn tick(self: Rc<Self>, end_ns: u64) {
        while !self.stopped.get() {
            let now = self.clock.now_ns();
            self.roll(now);
            if now >= end_ns {
                self.stopped.set(true);
            }
            sleep(TICK.min(Duration::from_nanos(end_ns.saturating_sub(now).max(1)))).await;
        }
    }

    fn roll(&self, now_ns: u64) {
        let second = (now_ns / INTERVAL_NS).min(self.last_second);
        while self.current.borrow().second < second {
            self.hand_over();
        }
    }

    fn hand_over(&self) {
        let second = self.current.borrow().second;
        let past = self.current.replace(Interval::new(second + 1));
        // A send fails only when the run was given up, and then nobody wants the interval.
        let _ = self.events.send(Event::Second(Box::new(past)));
    }
}
