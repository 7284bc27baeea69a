//! What is to be said to one follower.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use ahash::AHashSet;
use bytes::Bytes;
use coord::replica::{Append, Role};
use coord::types::BrokerId;
use protocol::records;
use protocol::wire::Few;
use storage::log::error::ReadError;
use storage::{Offset, TopicIdPartition, WakeSignal};

use super::host::Host;
use super::hosted::Hosted;
use super::message::{APPEND_HEAD_BYTES, AppendsBuilder};
use super::pace::Pace;
use super::replicas::follow_log_start;
use super::throttle::Ends;

/// A frame takes no further partition from this size on.
const FRAME_BYTES: usize = 1 << 20;
/// Most bytes of one partition in a frame, unless a single batch is larger.
const PARTITION_BYTES: usize = 512 << 10;
/// So much may be under way to a follower before it says that it has taken some of it.
pub(super) const IN_FLIGHT_BYTES_MAX: usize = 8 << 20;
/// What retention has just taken is looked for again so much later. Milliseconds.
const RETENTION_PAUSE_MS: u64 = 5;
/// A new high watermark waits so long for batches that it could go along with. Milliseconds.
const LONE_WATERMARK_DELAY_MS: i64 = 5;

/// The rates for throttled replicas are looked up again after so long, because others may have begun or ceased to send. Milliseconds.
const RATES_KEPT_MS: i64 = 1_000;

/// Partitions with something to say to one follower, each once.
pub struct Outbox {
    follower: BrokerId,
    /// What goes to it of partitions in which it is throttled, and not in sync.
    throttle: RefCell<Pace>,
    /// When the rates for throttled replicas were looked up.
    rates_of_ms: Cell<Option<i64>>,
    ready: RefCell<VecDeque<TopicIdPartition>>,
    is_ready: RefCell<AHashSet<TopicIdPartition>>,
    /// Their batches gather in a commit that has yet to begin.
    unreadable: RefCell<AHashSet<TopicIdPartition>>,
    /// They have nothing to say but how far everything is committed.
    lone: RefCell<Vec<TopicIdPartition>>,
    /// Since when the first of them waits. Milliseconds.
    lone_since_ms: Cell<i64>,
    in_flight: Cell<usize>,
    signal: Rc<WakeSignal>,
}

/// One message on its way into a frame.
struct Said {
    append: Append,
    consumers_from: Offset,
    batches: Few<Bytes>,
}

/// What there is to do for one partition.
enum Next {
    Nothing,
    /// Its batches cannot be read yet.
    Unreadable,
    LoneWatermark,
    /// Batches of segments, for which it is too early.
    Paced(u64),
    Say(Said),
}

impl Outbox {
    pub(super) fn new(follower: BrokerId) -> Self {
        Outbox {
            follower,
            throttle: RefCell::new(Pace::new(0, 0)),
            rates_of_ms: Cell::new(None),
            ready: RefCell::default(),
            is_ready: RefCell::default(),
            unreadable: RefCell::default(),
            lone: RefCell::default(),
            lone_since_ms: Cell::new(0),
            in_flight: Cell::new(0),
            signal: WakeSignal::new(),
        }
    }

    /// A partition has something to say.
    pub(super) fn note(&self, id: TopicIdPartition) {
        // What cannot be read yet is looked at again when a commit begins, and not for each batch that joins it.
        if !self.unreadable.borrow().contains(&id) && self.is_ready.borrow_mut().insert(id) {
            self.ready.borrow_mut().push_back(id);
            self.signal.wake();
        }
    }

    /// A commit has begun: what it holds can be read.
    pub(super) fn readable(&self) {
        let unreadable = self.unreadable.take();
        unreadable.into_iter().for_each(|id| self.note(id));
    }

    /// The rates for throttled replicas may be others.
    pub(super) fn rates_changed(&self) {
        self.rates_of_ms.set(None);
        self.signal.wake();
    }

    /// A new link: nothing is under way on it.
    pub(super) fn forget(&self) {
        self.in_flight.set(0);
        self.readable();
        self.signal.wake();
    }

    /// The follower has taken so much.
    pub fn stored(&self, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.in_flight.set(self.in_flight.get().saturating_sub(bytes));
        self.signal.wake();
    }

    /// Whether the follower has as much to do as it may have.
    pub fn is_full(&self) -> bool {
        self.in_flight.get() >= IN_FLIGHT_BYTES_MAX
    }

    fn take(&self) -> Option<TopicIdPartition> {
        let id = self.ready.borrow_mut().pop_front()?;
        self.is_ready.borrow_mut().remove(&id);
        Some(id)
    }

    /// The next frame for the follower, as slices; waits until there is one and the follower has room. It counts as sent: if it cannot be, the link has to go.
    pub async fn next_frame<H: Host>(&self, host: &Rc<H>) -> Vec<Bytes> {
        loop {
            if self.is_full() {
                self.signal.wait().await;
                continue;
            }
            let (frame, paced_ms) = self.gather(host).await;
            if let Some(frame) = frame {
                return frame;
            }
            let lone_ms = (!self.lone.borrow().is_empty()).then_some(LONE_WATERMARK_DELAY_MS as u64);
            let Some(delay_ms) = [paced_ms, lone_ms].into_iter().flatten().min() else {
                self.signal.wait().await;
                continue;
            };
            // Whoever waits for a low rate hears of a higher one.
            let timer = host.sleep(Duration::from_millis(delay_ms.min(RATES_KEPT_MS as u64)));
            let signal = std::pin::pin!(self.signal.wait());
            futures::future::select(signal, timer).await;
        }
    }

    /// Whether new high watermarks have waited for long enough; then they are ready.
    fn lone_is_due(&self, now_ms: i64) -> bool {
        let waited_ms = now_ms - self.lone_since_ms.get();
        let is_due = !self.lone.borrow().is_empty() && waited_ms >= LONE_WATERMARK_DELAY_MS;
        if is_due {
            let lone = self.lone.take();
            lone.into_iter().for_each(|id| self.note(id));
        }
        is_due
    }

    fn note_lone(&self, id: TopicIdPartition, now_ms: i64) {
        let mut lone = self.lone.borrow_mut();
        if lone.is_empty() {
            self.lone_since_ms.set(now_ms);
        }
        lone.push(id);
    }

    /// What is ready now, if anything; and for how long nothing may be read from segments, if something waits for that.
    pub(super) async fn gather<H: Host>(&self, host: &Rc<H>) -> (Option<Vec<Bytes>>, Option<u64>) {
        let lone_too = self.lone_is_due(host.now_ms());
        self.look_up_rates(host);
        let mut builder = AppendsBuilder::default();
        let (mut again, mut paced) = (Vec::new(), Vec::new());
        let mut paced_ms = None;
        while builder.bytes() + APPEND_HEAD_BYTES < FRAME_BYTES
            && let Some(id) = self.take()
        {
            let Some(hosted) = host.replicas().get(&id) else { continue };
            let room = (FRAME_BYTES - builder.bytes()).min(PARTITION_BYTES);
            match self.next(host, &hosted, room, builder.is_empty(), lone_too).await {
                Next::Nothing => {}
                Next::Unreadable => drop(self.unreadable.borrow_mut().insert(id)),
                Next::LoneWatermark => self.note_lone(id, host.now_ms()),
                Next::Paced(ms) => {
                    paced_ms = Some(ms);
                    paced.push(id);
                }
                Next::Say(Said { append, consumers_from, batches }) => {
                    let bytes = batches.iter().map(Bytes::len).sum::<usize>();
                    host.replicas().counters.bytes_out.add(bytes as u64);
                    builder.put(id, &append, consumers_from, batches);
                    again.push(id);
                }
            }
        }
        // Others come first; whoever has nothing more to say is not asked a third time.
        for id in again.into_iter().chain(paced) {
            let hosted = host.replicas().get(&id);
            let has_more =
                hosted.is_some_and(|hosted| hosted.replica.borrow().next_message(self.follower).is_some());
            if has_more && self.is_ready.borrow_mut().insert(id) {
                self.ready.borrow_mut().push_back(id);
            }
        }
        if builder.is_empty() {
            return (None, paced_ms);
        }
        self.in_flight.set(self.in_flight.get() + builder.bytes());
        (Some(builder.finish()), paced_ms)
    }

    /// A new rate counts at once; that it has to be shared with more or fewer, a little later.
    fn look_up_rates<H: Host>(&self, host: &Rc<H>) {
        let now_ms = host.now_ms();
        if self.rates_of_ms.get().is_some_and(|at_ms| now_ms - at_ms < RATES_KEPT_MS) {
            return;
        }
        self.rates_of_ms.set(Some(now_ms));
        let rates = host.throttled_rates(self.follower);
        host.replicas().throttle.borrow_mut().set_rate(rates.leader);
        self.throttle.borrow_mut().set_rate(rates.follower);
    }

    /// Whether what the follower gets of a partition is held to the rates for throttled replicas: not once it is in sync.
    fn throttled<H: Host>(&self, host: &Rc<H>, hosted: &Hosted<H::Disk>) -> Ends<bool> {
        let limited = Ends {
            leader: host.replicas().throttle.borrow().is_limited(),
            follower: self.throttle.borrow().is_limited(),
        };
        if limited == Ends::default() {
            return limited;
        }
        let named = host.throttled(&hosted.id, self.follower);
        let held =
            Ends { leader: limited.leader && named.leader, follower: limited.follower && named.follower };
        let is_in_sync = || {
            let replica = hosted.replica.borrow();
            replica.followers(host.now_ms()).any(|status| status.id == self.follower && status.is_in_sync)
        };
        if held == Ends::default() || is_in_sync() { Ends::default() } else { held }
    }

    async fn next<H: Host>(
        &self,
        host: &Rc<H>,
        hosted: &Rc<Hosted<H::Disk>>,
        room: usize,
        is_first: bool,
        lone_too: bool,
    ) -> Next {
        follow_log_start(hosted);
        let readable_end = hosted.log.readable_end();
        let next = hosted.replica.borrow().next_message(self.follower);
        let Some(next) = next else { return Next::Nothing };
        let can_read = next.from < readable_end;
        let is_cold = can_read && !hosted.log.is_in_memory(next.from);
        let throttled = if can_read { self.throttled(host, hosted) } else { Ends::default() };
        let replicas = host.replicas();
        let throttles = [(throttled.leader, &replicas.throttle), (throttled.follower, &self.throttle)];
        let throttles = throttles.iter().filter(|(applies, _)| *applies).map(|(_, pace)| *pace);
        let paces = is_cold.then_some(&replicas.pace).into_iter().chain(throttles.clone());
        if !next.is_probe {
            if next.has_batches && !can_read {
                return Next::Unreadable;
            }
            if !next.has_batches && !lone_too {
                return Next::LoneWatermark;
            }
            match paces.clone().map(|pace| pace.borrow_mut().wait_ms(host.now_ms())).max() {
                None | Some(0) => {}
                Some(ms) => return Next::Paced(ms),
            }
        }
        let append = hosted.replica.borrow_mut().next_append(self.follower);
        let Some(append) = append else { return Next::Nothing };
        let offsets = hosted.log.offsets();
        let consumers_from = offsets.log_start_offset.min(append.high_watermark);
        let from = append.previous_end;
        if !can_read {
            return Next::Say(Said { append, consumers_from, batches: Few::new() });
        }
        // The first partition of a frame gets on in any case. One that asks where the logs agree sends little: most of the time they do not, there.
        let max_bytes = if next.is_probe { room.min(64 << 10) } else { room };
        let max_bytes = throttles.map(|pace| pace.borrow().read_bytes_max()).fold(max_bytes, usize::min);
        let at_least_one = is_first || next.is_probe;
        let read = match hosted.log.read_for_replica(from, readable_end, max_bytes, at_least_one).await {
            Ok(read) => read,
            Err(error) => {
                hosted.replica.borrow_mut().not_sent(self.follower);
                if let ReadError::OffsetOutOfRange { .. } = error {
                    // Retention was faster; next time the log begins later.
                    return Next::Paced(RETENTION_PAUSE_MS);
                }
                tracing::warn!(partition = %hosted.id, offset = from.0, %error, "what a follower lacks cannot be read");
                return Next::Unreadable;
            }
        };
        paces.for_each(|pace| pace.borrow_mut().took(read.bytes));
        let mut replica = hosted.replica.borrow_mut();
        let leads_still =
            matches!(replica.role(), Role::Leader { .. }) && replica.leader_epoch() == append.leader_epoch;
        let first = read.slices.first().and_then(|slice| records::iter_batches(slice).next()?.ok());
        // The batch that holds the offset comes whole, also where it begins earlier; replicas agree on where batches begin.
        let begins_there = first.is_none_or(|first| Offset(first.base_offset()) >= from);
        if !leads_still || !begins_there {
            return Next::Nothing;
        }
        replica.sent(self.follower, read.next_offset.max(from));
        Next::Say(Said { append, consumers_from, batches: read.slices })
    }
}
