//! One core's part of a produce run: its partitions, what is in flight, and what has been counted.
//!
//! The worker decides what goes into the next request of a connection and what an answer means; the connections themselves are in
//! `lane`.

use std::cell::{Cell, RefCell};

use protocol::compression::{Compression, compress};
use protocol::messages::ProduceResponse;

use super::feed::{Batch, Feed, Next, Pace};
use super::frame::{BATCH_OVERHEAD, Frame, RequestFields};
use crate::client::error_name;
use crate::clock::Clock;
use crate::crew::Seconds;
use crate::error::BenchError;
use crate::payload::{BATCH_HEADER_BYTES, BatchFields, Extent, Payload, PayloadPlan, Stamp, finish};
use crate::signal::Signal;
use crate::stats::{INTERVAL_NS, Interval};

/// Kafka's error codes that the producer treats in its own way.
mod code {
    pub const NONE: i16 = 0;
    pub const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
    pub const DUPLICATE_SEQUENCE_NUMBER: i16 = 46;
}

/// How long a partition waits before its batch is sent again.
const RETRY_BACKOFF_NS: u64 = 100_000_000;
/// After so many failures in a row a batch is given up.
const MOST_RETRIES: u32 = 1200;

/// What a worker is told.
#[derive(Debug, Clone)]
pub struct WorkerPlan {
    /// What stands in every request.
    pub request: RequestFields,
    /// Requests in flight on a connection.
    pub max_in_flight: usize,
    /// Largest request, unless one batch is larger.
    pub max_request_bytes: usize,
    /// What records are made of.
    pub payload: PayloadPlan,
    /// What the records say where they come from.
    pub source: u32,
    /// Codec of batches.
    pub compression: Compression,
    /// Producer id and epoch, if idempotent.
    pub producer: Option<(i64, i16)>,
    /// When counting starts, since the start of the run.
    pub warmup_ns: u64,
}

/// A partition of this worker.
pub struct Slot {
    /// Its number.
    pub partition: i32,
    /// What it has to send.
    pub feed: Feed,
    /// Where its records begin among all that there could be: sizes and filler depend on it.
    pub origin: u64,
    /// The round of [`Worker::collect`] that took its last batch.
    pub round: u64,
}

/// Where a slot's batches go, and until when it need not be looked at: of thousands few have something to send.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The connection that leads to its leader.
    lane: usize,
    /// Nothing of it leaves by itself before, since the start of the run; 0 if that is not known.
    at_rest_until_ns: u64,
    /// Nothing of it can travel along with others before.
    empty_until_ns: u64,
}

impl Place {
    fn new(lane: usize) -> Place {
        Place { lane, at_rest_until_ns: 0, empty_until_ns: 0 }
    }
}

/// A batch in flight.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    slot: usize,
    batch: Batch,
    wire_bytes: usize,
    payload_bytes: u64,
}

fn earlier(wake: Option<u64>, at: u64) -> Option<u64> {
    Some(wake.map_or(at, |wake| wake.min(at)))
}

/// One core's part of the run.
pub struct Worker {
    /// What it was told.
    pub plan: WorkerPlan,
    /// The run's clock.
    pub clock: Clock,
    /// When records are due.
    pace: Cell<Pace>,
    /// When the run ends, as far as it has been heeded.
    end_ns: Cell<u64>,
    payload: Payload,
    /// Its partitions.
    slots: RefCell<Vec<Slot>>,
    /// For each slot, apart from them: all are looked at for each request.
    places: RefCell<Vec<Place>>,
    round: Cell<u64>,
    completed: Cell<u64>,
    current: RefCell<Interval>,
    seconds: Seconds,
    last_completion_ns: Cell<u64>,
    gave_up: Cell<u64>,
    fatal: RefCell<Option<BenchError>>,
    stopped: Cell<bool>,
    /// Raised when leaders must be looked up again.
    pub refresh: Signal,
}

impl Worker {
    /// A worker that has sent nothing yet. `slots` are its partitions, each with the number of its lane.
    pub fn new(
        plan: WorkerPlan,
        clock: Clock,
        pace: Pace,
        slots: Vec<(Slot, usize)>,
        seconds: Seconds,
    ) -> Worker {
        let (slots, places) = slots.into_iter().map(|(slot, lane)| (slot, Place::new(lane))).unzip();
        let payload = Payload::new(&plan.payload);
        Worker {
            plan,
            clock,
            pace: Cell::new(pace),
            end_ns: Cell::new(seconds.end_ns()),
            payload,
            slots: RefCell::new(slots),
            places: RefCell::new(places),
            round: Cell::new(0),
            completed: Cell::new(0),
            current: RefCell::new(Interval::new(0)),
            seconds,
            last_completion_ns: Cell::new(0),
            gave_up: Cell::new(0),
            fatal: RefCell::new(None),
            stopped: Cell::new(false),
            refresh: Signal::default(),
        }
    }

    /// Takes what the connection `lane` should send now, or when to look again. `cursor` remembers where the next turn begins, so
    /// that no partition is favoured when a request is full.
    pub fn collect(&self, lane: usize, cursor: &Cell<usize>, sent: &mut Vec<Sent>) -> Option<u64> {
        let now = self.clock.now_ns();
        let pace = self.pace.get();
        let largest_batch = self.payload.largest_batch() + BATCH_OVERHEAD;
        let (mut slots, mut places) = (self.slots.borrow_mut(), self.places.borrow_mut());
        let count = slots.len();
        let mut wake: Option<u64> = None;
        let mut bytes = 0;
        let start = cursor.get();
        let round = self.round.get() + 1;
        self.round.set(round);
        // The first round finds out whether any batch has to leave; the second lets the others travel along.
        for eager in [false, true] {
            for step in 0..count {
                let number = if start + step < count { start + step } else { start + step - count };
                let place = &mut places[number];
                if place.lane != lane {
                    continue;
                }
                let is_eager = eager || !sent.is_empty();
                let rests_until = if is_eager { place.empty_until_ns } else { place.at_rest_until_ns };
                if rests_until > now {
                    wake = earlier(wake, place.at_rest_until_ns);
                    continue;
                }
                let slot = &mut slots[number];
                if slot.round == round {
                    continue;
                }
                let origin = slot.origin;
                let room = |first: u64| self.payload.room(origin.wrapping_add(first));
                match slot.feed.next(&pace, now, room, is_eager) {
                    Next::Ready(batch) => {
                        let Extent { batch_bytes, payload_bytes } =
                            self.payload.extent(origin.wrapping_add(batch.first), batch.count);
                        sent.push(Sent { slot: number, batch, wire_bytes: batch_bytes, payload_bytes });
                        slot.round = round;
                        *place = Place::new(lane);
                        bytes += batch_bytes + BATCH_OVERHEAD;
                        cursor.set((number + 1) % count);
                    }
                    Next::At(at) => {
                        let empty_until_ns = slot.feed.empty_until(&pace);
                        *place = Place { lane, at_rest_until_ns: at, empty_until_ns };
                        wake = earlier(wake, at);
                    }
                    Next::Blocked | Next::Finished => {}
                }
                if !sent.is_empty() && bytes + largest_batch > self.plan.max_request_bytes {
                    return None;
                }
            }
            if sent.is_empty() || count == sent.len() {
                break;
            }
        }
        wake
    }

    /// Builds the request that carries `sent`, and notes the size of compressed batches.
    pub fn build<'f>(
        &self,
        frame: &'f mut Frame,
        correlation_id: i32,
        sent: &mut [Sent],
    ) -> Result<&'f [u8], BenchError> {
        frame.begin(&self.plan.request, correlation_id, sent.len());
        let slots = self.slots.borrow();
        let pace = self.pace.get();
        let mut scratch = Vec::new();
        let mut packed = Vec::new();
        for entry in sent {
            let Slot { partition, origin, feed, .. } = &slots[entry.slot];
            let batch = entry.batch;
            let stamp = |number| pace.intended_ns(&feed.share, &batch, number);
            let (producer_id, producer_epoch, base_sequence) = match self.plan.producer {
                Some((id, epoch)) => (id, epoch, batch.sequence),
                None => (-1, -1, -1),
            };
            let fields = BatchFields {
                base_offset: 0,
                timestamp_ms: (self.clock.unix_ns(stamp(0)) / 1_000_000) as i64,
                attributes: i16::from(self.plan.compression.id()),
                producer_id,
                producer_epoch,
                base_sequence,
            };
            // Record i of the schedule has key i mod keys, which is its place in the cycle.
            let key = |number: u32| match self.plan.payload.keyed {
                true => feed.share.place_of(batch.first + u64::from(number)),
                false => 0,
            };
            let stamp_and_key = |number: u32| {
                let stamp = Stamp {
                    intended_unix_ns: self.clock.unix_ns(stamp(number)),
                    source: self.plan.source,
                    number: batch.first + u64::from(number),
                };
                (stamp, key(number))
            };
            let (at, len) = (origin.wrapping_add(batch.first), entry.wire_bytes);
            if self.plan.compression == Compression::None {
                frame.batch(*partition, len, batch.count, |out, patch| {
                    self.payload.write_records(out, at, batch.count, patch, stamp_and_key);
                    finish(out, batch.count, &fields);
                });
            } else {
                scratch.resize(len, 0);
                self.payload.write_records(&mut scratch, at, batch.count, false, stamp_and_key);
                packed.clear();
                compress(self.plan.compression, None, &scratch[BATCH_HEADER_BYTES..], &mut packed)
                    .map_err(|error| BenchError::Option(format!("--compression: {error}")))?;
                frame.compressed_batch(*partition, &packed, |out| finish(out, batch.count, &fields));
                entry.wire_bytes = BATCH_HEADER_BYTES + packed.len();
            }
        }
        Ok(frame.finish())
    }

    /// A request without answer (acks=0) is in the kernel's hands.
    pub fn written_without_answer(&self, sent: &[Sent]) {
        self.count_request();
        for entry in sent {
            self.complete(entry);
        }
    }

    /// Takes the broker's answer to a request. Returns false if the answer does not fit the request.
    pub fn answered(&self, sent: &[Sent], response: &ProduceResponse<'_>) -> bool {
        self.count_request();
        let mut open: Vec<Option<&Sent>> = sent.iter().map(Some).collect();
        let answers = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        for (number, answer) in answers.enumerate() {
            let position = {
                let slots = self.slots.borrow();
                let is_meant = |entry: &Option<&Sent>| {
                    entry.is_some_and(|sent| slots[sent.slot].partition == answer.index)
                };
                // Brokers answer in the order of the request, though nothing obliges them to.
                let expected = open.get(number).is_some_and(is_meant).then_some(number);
                expected.or_else(|| open.iter().position(is_meant))
            };
            let Some(entry) = position.and_then(|position| open[position].take()) else {
                return false;
            };
            self.answered_batch(entry, answer.error_code, answer.error_message.as_deref());
        }
        open.iter().all(Option::is_none)
    }

    /// The records that were written, by partition.
    pub fn written(&self) -> Vec<(i32, u64)> {
        self.slots.borrow().iter().map(|slot| (slot.partition, slot.feed.written())).collect()
    }

    fn answered_batch(&self, entry: &Sent, error_code: i16, message: Option<&str>) {
        match error_code {
            code::NONE | code::DUPLICATE_SEQUENCE_NUMBER => self.complete(entry),
            error_code => {
                let error = protocol::error::ErrorCode(error_code);
                self.current.borrow_mut().count_error(&error_name(error_code), u64::from(entry.batch.count));
                // Behind a batch that failed, an idempotent producer's later ones are out of order until it is sent again.
                let order = error_code == code::OUT_OF_ORDER_SEQUENCE_NUMBER && self.plan.producer.is_some();
                if error.is_retriable() || order {
                    self.refresh.raise();
                    self.send_again(entry);
                } else {
                    self.give_up(entry, &error_name(error_code), message);
                }
            }
        }
    }

    /// The connection is gone: what was in flight on it must be sent again.
    pub fn connection_lost(&self, sent: &[Sent]) {
        for entry in sent {
            self.current.borrow_mut().count_error("CONNECTION_LOST", u64::from(entry.batch.count));
            self.send_again(entry);
        }
        self.refresh.raise();
    }

    /// Gives each partition the lane that `choose` says, by position and number; one that gets another changes its connection.
    pub fn choose_lanes(&self, mut choose: impl FnMut(usize, i32) -> Option<usize>) {
        let (mut slots, mut places) = (self.slots.borrow_mut(), self.places.borrow_mut());
        for (position, (slot, place)) in slots.iter_mut().zip(places.iter_mut()).enumerate() {
            if let Some(lane) = choose(position, slot.partition).filter(|lane| *lane != place.lane) {
                *place = Place::new(lane);
                slot.feed.change_connection();
            }
        }
    }

    /// A connection had to be made again.
    pub fn count_reconnect(&self) {
        self.current.borrow_mut().reconnects += 1;
    }

    fn send_again(&self, entry: &Sent) {
        let failures = self.slots.borrow()[entry.slot].feed.failures_in_a_row();
        if failures >= MOST_RETRIES {
            return self.give_up(entry, "too many retries", None);
        }
        self.current.borrow_mut().retried += u64::from(entry.batch.count);
        let not_before = self.clock.now_ns() + RETRY_BACKOFF_NS;
        self.slots.borrow_mut()[entry.slot].feed.send_again(entry.batch, not_before);
        let place = &mut self.places.borrow_mut()[entry.slot];
        *place = Place::new(place.lane);
    }

    fn give_up(&self, entry: &Sent, why: &str, message: Option<&str>) {
        let mut slots = self.slots.borrow_mut();
        slots[entry.slot].feed.give_up();
        self.gave_up.set(self.gave_up.get() + u64::from(entry.batch.count));
        if self.plan.producer.is_some() {
            // The sequence has a gap now: whatever follows would be refused.
            self.fatal.borrow_mut().get_or_insert(BenchError::Refused {
                what: format!("idempotent produce to partition {}", slots[entry.slot].partition),
                code: why.to_owned(),
                message: message.map(|text| format!(": {text}")).unwrap_or_default(),
            });
        }
    }

    fn complete(&self, entry: &Sent) {
        let now = self.clock.now_ns();
        self.roll(now);
        self.last_completion_ns.set(now);
        let mut slots = self.slots.borrow_mut();
        let feed = &mut slots[entry.slot].feed;
        feed.settle(&entry.batch);
        let batch = &entry.batch;
        let mut current = self.current.borrow_mut();
        let in_warmup = current.second * INTERVAL_NS < self.plan.warmup_ns;
        match batch.closed_loop_ns {
            Some(sent) => {
                current.latency.saturating_record_n(now.saturating_sub(sent), u64::from(batch.count))
            }
            None => {
                let pace = self.pace.get();
                for number in 0..batch.count {
                    let intended = pace.intended_ns(&feed.share, batch, number);
                    // A record of the warm-up that completes late must not stain the measured seconds.
                    if in_warmup || intended >= self.plan.warmup_ns {
                        current.latency.saturating_record(now.saturating_sub(intended));
                    }
                }
            }
        }
        self.completed.set(self.completed.get() + u64::from(batch.count));
        current.records += u64::from(batch.count);
        current.batches += 1;
        current.payload_bytes += entry.payload_bytes;
        current.wire_bytes += entry.wire_bytes as u64;
    }

    fn count_request(&self) {
        self.roll(self.clock.now_ns());
        self.current.borrow_mut().requests += 1;
    }

    /// When the run ends.
    pub fn end_ns(&self) -> u64 {
        self.end_ns.get()
    }

    /// The run may have been interrupted: then it ends earlier, and nothing waits for records that are not due any more. True if it has just been.
    pub fn heed_interruption(&self) -> bool {
        let end_ns = self.seconds.end_ns();
        if end_ns == self.end_ns.replace(end_ns) {
            return false;
        }
        self.pace.set(self.pace.get().until(end_ns));
        self.places.borrow_mut().iter_mut().for_each(|place| *place = Place::new(place.lane));
        true
    }

    /// Hands over the seconds that are past at `now_ns`.
    pub fn roll(&self, now_ns: u64) {
        let second = (now_ns / INTERVAL_NS).min(self.seconds.last());
        while self.current.borrow().second < second {
            self.hand_over();
        }
    }

    fn hand_over(&self) {
        let second = self.current.borrow().second;
        let mut past = self.current.replace(Interval::new(second + 1));
        past.backlog = self.backlog((second + 1) * INTERVAL_NS);
        self.seconds.hand_over(past);
    }

    /// Hands over the last second, together with how long what was never answered has waited until `end_ns`.
    pub fn finish(&self, end_ns: u64) {
        self.roll(u64::MAX);
        {
            let mut current = self.current.borrow_mut();
            let Interval { latency, lower_bounds, .. } = &mut *current;
            let pace = self.pace.get();
            for slot in self.slots.borrow().iter() {
                *lower_bounds += slot.feed.charge_unwritten(&pace, self.plan.warmup_ns, end_ns, latency);
            }
        }
        self.hand_over();
    }

    fn backlog(&self, now_ns: u64) -> u64 {
        let pace = self.pace.get();
        self.slots.borrow().iter().map(|slot| slot.feed.backlog(&pace, now_ns)).sum()
    }

    /// Records of the schedule (in a closed loop: records sent) that have neither completed nor been given up.
    pub fn unfinished(&self) -> u64 {
        let slots = self.slots.borrow();
        let all: u64 = match &self.pace.get() {
            Pace::Open { schedule, .. } => {
                slots.iter().map(|slot| slot.feed.share.count_in(schedule.total())).sum()
            }
            Pace::Closed { .. } => slots.iter().map(|slot| slot.feed.taken()).sum(),
        };
        // Of a run that was cut short, more may have been sent than was due at its end.
        all.saturating_sub(self.completed.get() + self.gave_up.get())
    }

    /// Records given up after an error.
    pub fn gave_up(&self) -> u64 {
        self.gave_up.get()
    }

    /// When the last batch completed, since the start of the run.
    pub fn last_completion_ns(&self) -> u64 {
        self.last_completion_ns.get()
    }

    /// Ends the run with an error, if it cannot go on.
    pub fn take_fatal(&self) -> Option<BenchError> {
        self.fatal.take()
    }

    /// Whether the run cannot go on.
    pub fn has_failed(&self) -> bool {
        self.fatal.borrow().is_some()
    }

    /// Ends the run with `error`.
    pub fn fail(&self, error: BenchError) {
        self.fatal.borrow_mut().get_or_insert(error);
    }

    /// Whether connections should end.
    pub fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    /// Lets connections end.
    pub fn stop(&self) {
        self.stopped.set(true);
    }
}
