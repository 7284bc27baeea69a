//! A producer's life: connect, wait for the start, send, follow the leaders, drain, end.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use glommio::timer::sleep;
use protocol::error::ErrorCode;
use protocol::messages::InitProducerIdRequest;

use super::ProduceArgs;
use super::feed::{Feed, Pace};
use super::frame::RequestFields;
use super::lane::Lane;
use super::worker::{Slot, Worker, WorkerPlan};
use crate::client::{CLIENT_ID, Client, Topic, connect_any, describe_topic};
use crate::clock::Clock;
use crate::crew::Seconds;
use crate::error::BenchError;
use crate::payload::{PayloadPlan, partition_of, scramble};
use crate::schedule::{Schedule, Share};
use crate::stats::INTERVAL_NS;
use crate::units::Rate;

const TICK: Duration = Duration::from_millis(100);
const DRAIN_TICK: Duration = Duration::from_millis(5);
const REFRESH_PAUSE: Duration = Duration::from_millis(100);
/// A broker that has just started may need a while until it hands out producer ids.
const INIT_PRODUCER_TRIES: u32 = 300;
/// Room for what a request holds besides batches.
const REQUEST_OVERHEAD: usize = 1024;
/// Kafka's default for the largest request of a producer.
const REQUEST_BYTES: usize = 1 << 20;

/// All that a producer needs, to be taken to its thread.
pub struct ProducerSetup {
    args: ProduceArgs,
    topic: Topic,
    /// Which of the run's producers it is.
    number: usize,
    /// What its records say where they come from.
    source: u32,
}

impl ProducerSetup {
    /// The setup of producer `number` of the run. Every producer writes to all partitions.
    pub fn new(args: &ProduceArgs, topic: &Topic, number: usize, source: u32) -> ProducerSetup {
        ProducerSetup { args: args.clone(), topic: topic.clone(), number, source }
    }

    /// Which records of the producer's schedule go to which partition, in the order of partitions.
    fn shares(&self) -> Vec<Share> {
        let partitions = self.topic.partitions.len();
        if self.args.keys == 0 {
            // Producers begin at different partitions, or all would fill the same batch at the same time.
            let shift = self.number * partitions / self.args.producers();
            let place = |position: usize| ((position + shift) % partitions) as u64;
            return (0..partitions)
                .map(|position| Share::new(partitions as u64, vec![place(position)]))
                .collect();
        }
        let mut places = vec![Vec::new(); partitions];
        for key in 0..self.args.keys {
            places[partition_of(key, partitions as u32) as usize].push(key);
        }
        places.into_iter().map(|places| Share::new(self.args.keys, places)).collect()
    }

    /// Connects to all leaders.
    pub async fn prepare(self) -> Result<ReadyProducer, BenchError> {
        let shares = self.shares();
        let ProducerSetup { args, topic, number, source } = self;
        let lanes =
            Rc::new(Lanes { list: RefCell::default(), connections: usize::from(args.target.connections) });
        let mut slots = Vec::new();
        for (position, (info, share)) in topic.partitions.iter().zip(shares).enumerate() {
            let lane = lanes.lane_for(&topic, info.leader, position);
            let origin = scramble((info.index as u64) << 32 | number as u64);
            slots.push((Slot { partition: info.index, origin, feed: Feed::new(share), round: 0 }, lane));
        }
        let mut clients = Vec::new();
        let list = lanes.list.borrow().clone();
        for lane in &list {
            clients.push(lane.connect().await?);
        }
        let mut version = i16::MAX;
        for client in &clients {
            version = version.min(Lane::produce_version(client)?);
        }
        let mut control = connect_any(&args.target.bootstrap).await?;
        let producer = if args.idempotent { Some(init_producer(&mut control).await?) } else { None };
        let plan = plan(&args, version, producer, source);
        Ok(ReadyProducer { args, number, topic, lanes, slots, clients, control, plan })
    }
}

/// A producer that waits for the start.
pub struct ReadyProducer {
    args: ProduceArgs,
    number: usize,
    topic: Topic,
    lanes: Rc<Lanes>,
    slots: Vec<(Slot, usize)>,
    /// The first connection of each lane.
    clients: Vec<Client>,
    control: Client,
    plan: WorkerPlan,
}

/// How a producer ended.
#[derive(Debug, Clone, Default)]
pub struct ProducerEnd {
    /// What its records say where they come from.
    pub source: u32,
    /// Records that were written, by partition.
    pub written: Vec<(i32, u64)>,
    /// Records that never completed.
    pub unfinished: u64,
    /// Records given up after an error.
    pub gave_up: u64,
    /// When the last batch completed, since the start of the run.
    pub last_completion_ns: u64,
}

/// The connections of a producer.
struct Lanes {
    list: RefCell<Vec<Rc<Lane>>>,
    connections: usize,
}

impl Lanes {
    /// The number of the lane to `broker` for the slot at `position`; new lanes are added to `list` without connection.
    fn lane_for(&self, topic: &Topic, broker: i32, position: usize) -> usize {
        let mut list = self.list.borrow_mut();
        let turn = position % self.connections;
        if let Some((number, _)) = list.iter().enumerate().filter(|(_, lane)| lane.broker == broker).nth(turn)
        {
            return number;
        }
        let address = topic.brokers.get(&broker).cloned().unwrap_or_default();
        let present = list.iter().filter(|lane| lane.broker == broker).count();
        for _ in present..=turn {
            let lane = Lane::new(list.len(), broker, address.clone());
            list.push(Rc::new(lane));
        }
        list.len() - 1
    }
}

impl ReadyProducer {
    /// Sends until the end of the schedule, and waits for what is in flight.
    pub async fn run(self, clock: Clock, seconds: Seconds) -> Result<ProducerEnd, BenchError> {
        let ReadyProducer { args, number, topic, lanes, slots, clients, control, plan } = self;
        let end_ns = seconds.end_ns();
        let producers = args.producers() as f64;
        let pace = match args.rate {
            Rate::Max => Pace::Closed { end_ns },
            Rate::PerSecond(rate) => Pace::Open {
                schedule: Schedule::new(rate / producers, end_ns).later_by(number as f64 / producers),
                linger_ns: (args.linger_ms * 1e6) as u64,
            },
        };
        let source = plan.source;
        let worker = Rc::new(Worker::new(plan, clock, pace, slots, seconds));
        sleep(clock.until(0)).await;
        let list = lanes.list.borrow().clone();
        for (lane, client) in list.into_iter().zip(clients) {
            spawn_lane(&worker, lane, Some(client));
        }
        glommio::spawn_local(follow_leaders(
            worker.clone(),
            lanes.clone(),
            args.target.bootstrap.clone(),
            topic.name,
            control,
        ))
        .detach();
        tick_until_done(&worker, &lanes, &args).await;
        worker.stop();
        worker.refresh.raise();
        for lane in lanes.list.borrow().iter() {
            lane.end();
        }
        if let Some(error) = worker.take_fatal() {
            return Err(error);
        }
        worker.finish(worker.clock.now_ns());
        Ok(ProducerEnd {
            source,
            written: worker.written(),
            unfinished: worker.unfinished(),
            gave_up: worker.gave_up(),
            last_completion_ns: worker.last_completion_ns(),
        })
    }
}

fn plan(args: &ProduceArgs, version: i16, producer: Option<(i64, i16)>, source: u32) -> WorkerPlan {
    WorkerPlan {
        request: RequestFields {
            version,
            client_id: CLIENT_ID.to_owned(),
            acks: args.acks,
            timeout_ms: args.request_timeout.as_millis().min(i32::MAX as u128) as i32,
            topic: args.target.topic.clone(),
        },
        max_in_flight: usize::from(args.max_in_flight),
        max_request_bytes: REQUEST_BYTES.max(args.batch_bytes + REQUEST_OVERHEAD),
        payload: PayloadPlan {
            sizes: args.size.clone(),
            filling: args.payload,
            keyed: args.keys > 0,
            batch_bytes: args.batch_bytes,
        },
        source,
        compression: args.compression,
        producer,
        warmup_ns: args.warmup_seconds() * INTERVAL_NS,
    }
}

async fn init_producer(client: &mut Client) -> Result<(i64, i16), BenchError> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        ..Default::default()
    };
    let mut tries = 0;
    loop {
        let response = client.call(&request).await?;
        let code = ErrorCode(response.error_code);
        tries += 1;
        if code.is_none() {
            return Ok((response.producer_id, response.producer_epoch));
        }
        if !code.is_retriable() || tries == INIT_PRODUCER_TRIES {
            return Err(BenchError::Refused {
                what: "a producer id for --idempotent".to_owned(),
                code: code.name().to_owned(),
                message: String::new(),
            });
        }
        sleep(REFRESH_PAUSE).await;
    }
}

fn spawn_lane(worker: &Rc<Worker>, lane: Rc<Lane>, client: Option<Client>) {
    let worker = worker.clone();
    glommio::spawn_local(async move { lane.run(worker, client).await }).detach();
}

/// Hands over seconds and ends connections without answer, until everything has completed or the drain time is over.
async fn tick_until_done(worker: &Worker, lanes: &Lanes, args: &ProduceArgs) {
    // The broker may take its whole time; after twice that nothing will come.
    let timeout_ns = 2 * args.request_timeout.as_nanos() as u64;
    loop {
        if worker.heed_interruption() {
            lanes.list.borrow().iter().for_each(|lane| lane.wake.raise());
        }
        let end_ns = worker.end_ns();
        let give_up_ns = end_ns + args.drain.as_nanos() as u64;
        let now = worker.clock.now_ns();
        worker.roll(now);
        for lane in lanes.list.borrow().iter() {
            lane.check_timeout(now, timeout_ns);
        }
        let done = now >= end_ns && worker.unfinished() == 0;
        if done || now >= give_up_ns || worker.has_failed() {
            return;
        }
        let until_end = Duration::from_nanos(end_ns.saturating_sub(now));
        sleep(if until_end.is_zero() { DRAIN_TICK } else { TICK.min(until_end) }).await;
    }
}

/// Looks leaders up whenever a connection finds that it has to, and moves partitions to the connections of their new leaders.
async fn follow_leaders(
    worker: Rc<Worker>,
    lanes: Rc<Lanes>,
    bootstrap: Vec<String>,
    name: String,
    control: Client,
) {
    let mut control = Some(control);
    let mut known: BTreeSet<String> = bootstrap.into_iter().collect();
    loop {
        worker.refresh.wait(None).await;
        if worker.is_stopped() {
            return;
        }
        if control.is_none() {
            control = connect_any(&known.iter().cloned().collect::<Vec<_>>()).await.ok();
        }
        let found = match &mut control {
            Some(client) => describe_topic(client, &name).await,
            None => Ok(None),
        };
        match found {
            Ok(Some(topic)) => {
                known.extend(topic.brokers.values().cloned());
                move_partitions(&worker, &lanes, &topic);
            }
            Ok(None) => worker.refresh.raise(),
            Err(_) => {
                control = None;
                worker.refresh.raise();
            }
        }
        sleep(REFRESH_PAUSE).await;
    }
}

fn move_partitions(worker: &Rc<Worker>, lanes: &Lanes, topic: &Topic) {
    let before = lanes.list.borrow().len();
    let mut leaderless = false;
    let leaders: BTreeMap<i32, i32> = topic.partitions.iter().map(|info| (info.index, info.leader)).collect();
    worker.choose_lanes(|position, partition| {
        let leader = leaders.get(&partition).copied().filter(|leader| topic.brokers.contains_key(leader));
        leaderless |= leader.is_none();
        leader.map(|leader| lanes.lane_for(topic, leader, position))
    });
    for lane in lanes.list.borrow().iter() {
        if let Some(address) = topic.brokers.get(&lane.broker) {
            lane.address.replace(address.clone());
        }
        lane.wake.raise();
    }
    let new = lanes.list.borrow()[before..].to_vec();
    for lane in new {
        spawn_lane(worker, lane, None);
    }
    if leaderless {
        worker.refresh.raise();
    }
}
