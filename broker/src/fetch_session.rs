//! Fetch sessions (KIP-227): which partitions a consumer follows, remembered between its requests.
//!
//! A consumer of many partitions names them once; later requests carry only what changed, and answers only the
//! partitions that have news. [`FetchSessions`] is a pure core: [`FetchSessions::begin`] turns a request into the
//! list of partitions to read, [`FetchSessions::finish`] filters the results into what the answer carries. It does
//! no I/O, and time is an argument.
//!
//! Each shard keeps the sessions of its own connections, and a connection that moves to another shard takes its session along; a client whose next
//! connection lands on another shard is told `FETCH_SESSION_ID_NOT_FOUND` and starts anew, as the protocol provides. Slots and the partitions that all
//! sessions together remember are bounded; when there is no room a session is declined (id 0), which is legal.
//!
//! Source: KIP-227, `org.apache.kafka.server.FetchSession`.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::AHashMap;
use protocol::error::ErrorCode;
use protocol::wire::Few;
use uuid::Uuid;

/// How a request names a topic: by name up to version 12, by id from version 13.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TopicRef {
    /// By name.
    Name(Arc<str>),
    /// By id.
    Id(Uuid),
}

/// One partition of a fetch request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchPartition {
    /// The topic, as the client named it.
    pub topic: TopicRef,
    /// Partition number.
    pub partition: i32,
    /// The leader epoch that the client knows; -1: unknown.
    pub current_leader_epoch: i32,
    /// First offset wanted.
    pub fetch_offset: i64,
    /// Epoch of the last record that the client holds (KIP-595); -1: unknown.
    pub last_fetched_epoch: i32,
    /// Most bytes for this partition.
    pub max_bytes: i32,
}

/// What the session needs to know of one partition's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionNews {
    /// Error of this partition.
    pub error: ErrorCode,
    /// High watermark in the answer; -1 with an error.
    pub high_watermark: i64,
    /// Log start offset in the answer; -1 with an error.
    pub log_start_offset: i64,
    /// Bytes of records in the answer.
    pub bytes: usize,
    /// The answer names a diverging epoch or a preferred replica.
    pub has_hint: bool,
}

/// Identifies a session within the shard.
pub type SessionId = i32;

/// How a request is answered: which partitions to read, and what [`FetchSessions::finish`] has to do.
#[derive(Debug)]
pub struct FetchPlan {
    /// Partitions to read, in order of service.
    pub partitions: Few<FetchPartition>,
    kind: PlanKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlanKind {
    /// No session: everything is answered, id 0.
    Sessionless,
    /// A full fetch that may start a session.
    Full,
    /// Only news is answered.
    Incremental(SessionId),
}

impl FetchPlan {
    /// Whether this answer leaves out partitions without news.
    pub fn is_incremental(&self) -> bool {
        matches!(self.kind, PlanKind::Incremental(_))
    }
}

/// Limits of a shard's session cache.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// Most sessions (`max.incremental.fetch.session.cache.slots`).
    pub slots: usize,
    /// Most partitions that all sessions together remember.
    pub partitions: usize,
    /// A session idle for longer, in ms, may be evicted by any other (Kafka: 120,000).
    pub evict_idle_ms: i64,
}

/// The parts of a request that concern sessions.
#[derive(Debug)]
pub struct SessionRequest {
    /// `session_id` of the request.
    pub session_id: SessionId,
    /// `session_epoch` of the request: 0 full, -1 final, else incremental.
    pub epoch: i32,
    /// Whether topics are named by id.
    pub uses_topic_ids: bool,
    /// Partitions named in the request.
    pub partitions: Few<FetchPartition>,
    /// Partitions to forget.
    pub forgotten: Vec<(TopicRef, i32)>,
}

type Key = (TopicRef, i32);

#[derive(Debug)]
struct Cached {
    request: FetchPartition,
    high_watermark: i64,
    log_start_offset: i64,
}

#[derive(Debug)]
struct Session {
    /// Epoch that the next request must carry.
    next_epoch: i32,
    uses_topic_ids: bool,
    last_used_ms: i64,
    /// Order of service: those that returned data go to the end.
    order: BTreeMap<u64, Cached>,
    positions: AHashMap<Key, u64>,
    next_position: u64,
}

impl Session {
    fn upsert(&mut self, request: FetchPartition) {
        let key = (request.topic.clone(), request.partition);
        if let Some(cached) = self.positions.get(&key).and_then(|p| self.order.get_mut(p)) {
            cached.request = request;
            return;
        }
        self.positions.insert(key, self.next_position);
        self.order.insert(self.next_position, Cached { request, high_watermark: -1, log_start_offset: -1 });
        self.next_position += 1;
    }

    fn forget(&mut self, key: &Key) {
        if let Some(position) = self.positions.remove(key) {
            self.order.remove(&position);
        }
    }

    /// Records what is being answered; returns whether it is news.
    fn observe(&mut self, key: &Key, news: &PartitionNews) -> bool {
        let Some(&position) = self.positions.get(key) else {
            return true;
        };
        let cached = self.order.get_mut(&position).expect("positions and order name the same partitions");
        let is_news = news.bytes > 0
            || news.error != ErrorCode::NONE
            || news.has_hint
            || news.high_watermark != cached.high_watermark
            || news.log_start_offset != cached.log_start_offset;
        // After an error the partition is told again as soon as it is well.
        let failed = news.error != ErrorCode::NONE;
        cached.high_watermark = if failed { -1 } else { news.high_watermark };
        cached.log_start_offset = if failed { -1 } else { news.log_start_offset };
        if news.bytes > 0 {
            let cached = self.order.remove(&position).expect("looked up above");
            self.order.insert(self.next_position, cached);
            self.positions.insert(key.clone(), self.next_position);
            self.next_position += 1;
        }
        is_news
    }
}

/// A session on its way to another shard.
#[derive(Debug)]
pub struct MovedSession {
    id: SessionId,
    session: Session,
}

/// The sessions of one shard's connections.
#[derive(Debug)]
pub struct FetchSessions {
    limits: SessionLimits,
    sessions: AHashMap<SessionId, Session>,
    cached_partitions: usize,
    /// Ids are `shard + n * shards`, so that two shards never give out the same one.
    next_id: SessionId,
    stride: SessionId,
}

impl FetchSessions {
    /// An empty cache for shard `shard` of `shards`.
    pub fn new(limits: SessionLimits, shard: usize, shards: usize) -> Self {
        let stride = SessionId::try_from(shards).expect("a machine has fewer than 2^31 cores");
        let first = SessionId::try_from(shard).expect("shard < shards") + stride;
        Self { limits, sessions: AHashMap::new(), cached_partitions: 0, next_id: first, stride }
    }

    /// Sessions that are open.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether no session is open.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Partitions that all sessions together remember.
    pub fn cached_partitions(&self) -> usize {
        self.cached_partitions
    }

    /// Decides which partitions a request reads. An error is the whole answer's error code, with an empty body:
    /// `FETCH_SESSION_ID_NOT_FOUND`, `INVALID_FETCH_SESSION_EPOCH` or `FETCH_SESSION_TOPIC_ID_ERROR`.
    pub fn begin(&mut self, request: SessionRequest, now_ms: i64) -> Result<FetchPlan, ErrorCode> {
        const INITIAL_EPOCH: i32 = 0;
        const FINAL_EPOCH: i32 = -1;
        if request.epoch == INITIAL_EPOCH || request.epoch == FINAL_EPOCH {
            self.remove(request.session_id);
            let kind = if request.epoch == FINAL_EPOCH { PlanKind::Sessionless } else { PlanKind::Full };
            return Ok(FetchPlan { partitions: request.partitions, kind });
        }

        let session =
            self.sessions.get_mut(&request.session_id).ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if session.next_epoch != request.epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        if session.uses_topic_ids != request.uses_topic_ids {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        let before = session.order.len();
        for partition in request.partitions {
            session.upsert(partition);
        }
        for key in &request.forgotten {
            session.forget(key);
        }
        session.next_epoch = next_epoch(session.next_epoch);
        session.last_used_ms = now_ms;
        let after = session.order.len();
        let partitions: Few<_> = session.order.values().map(|cached| cached.request.clone()).collect();
        self.cached_partitions = self.cached_partitions + after - before;
        if after == 0 || self.cached_partitions > self.limits.partitions {
            // Nothing left to follow, or grown beyond what we remember for others: answer in full, end the session.
            self.remove(request.session_id);
            return Ok(FetchPlan { partitions, kind: PlanKind::Sessionless });
        }
        Ok(FetchPlan { partitions, kind: PlanKind::Incremental(request.session_id) })
    }

    /// Decides which results the answer carries (`include[i]` belongs to `plan.partitions[i]`) and under which
    /// session id. `news` is in the plan's order.
    pub fn finish(
        &mut self,
        plan: &FetchPlan,
        news: &[PartitionNews],
        uses_topic_ids: bool,
        now_ms: i64,
    ) -> FinishedFetch {
        assert_eq!(plan.partitions.len(), news.len(), "one result for each partition asked for");
        match plan.kind {
            PlanKind::Sessionless => FinishedFetch { session_id: 0, include: all_of(news) },
            PlanKind::Full => {
                let session_id = self.try_create(plan, news, uses_topic_ids, now_ms);
                FinishedFetch { session_id, include: all_of(news) }
            }
            PlanKind::Incremental(session_id) => {
                let include = match self.sessions.get_mut(&session_id) {
                    Some(session) => plan
                        .partitions
                        .iter()
                        .zip(news)
                        .map(|(p, news)| session.observe(&(p.topic.clone(), p.partition), news))
                        .collect(),
                    // Evicted while the request was parked: the answer stays truthful, the next one starts anew.
                    None => all_of(news),
                };
                FinishedFetch { session_id, include }
            }
        }
    }

    fn try_create(
        &mut self,
        plan: &FetchPlan,
        news: &[PartitionNews],
        uses_topic_ids: bool,
        now_ms: i64,
    ) -> SessionId {
        let wanted = plan.partitions.len();
        if wanted == 0 || !self.make_room(wanted, now_ms) {
            return 0;
        }
        let id = self.take_id();
        let mut session = Session {
            next_epoch: 1,
            uses_topic_ids,
            last_used_ms: now_ms,
            order: BTreeMap::new(),
            positions: AHashMap::with_capacity(wanted),
            next_position: 0,
        };
        for (partition, news) in plan.partitions.iter().zip(news) {
            session.upsert(partition.clone());
            session.observe(&(partition.topic.clone(), partition.partition), news);
        }
        self.cached_partitions += session.order.len();
        self.sessions.insert(id, session);
        id
    }

    /// Makes room for a session of `wanted` partitions: the least recently used gives way if it has been idle for
    /// long, or if it is smaller than the newcomer.
    fn make_room(&mut self, wanted: usize, now_ms: i64) -> bool {
        if wanted > self.limits.partitions || self.limits.slots == 0 {
            return false;
        }
        while self.sessions.len() >= self.limits.slots
            || self.cached_partitions + wanted > self.limits.partitions
        {
            let oldest = self.sessions.iter().min_by_key(|(_, session)| session.last_used_ms);
            let Some((&id, session)) = oldest else { return false };
            let idle = now_ms - session.last_used_ms > self.limits.evict_idle_ms;
            if !idle && session.order.len() >= wanted {
                return false;
            }
            self.remove(id);
        }
        true
    }

    fn take_id(&mut self) -> SessionId {
        loop {
            let id = self.next_id;
            self.next_id = id.checked_add(self.stride).unwrap_or(self.next_id % self.stride + self.stride);
            if !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }

    /// Lets go of a session, for good or because its connection moves to another shard; none if there is none.
    pub fn release(&mut self, id: SessionId) -> Option<MovedSession> {
        let session = self.sessions.remove(&id)?;
        self.cached_partitions -= session.order.len();
        Some(MovedSession { id, session })
    }

    /// Takes over what another shard has let go of, under the same id. Where there is no room the client is told to start anew.
    pub fn adopt(&mut self, moved: MovedSession, now_ms: i64) {
        let partitions = moved.session.order.len();
        if self.make_room(partitions, now_ms) {
            self.cached_partitions += partitions;
            self.sessions.insert(moved.id, moved.session);
        }
    }

    fn remove(&mut self, id: SessionId) {
        drop(self.release(id));
    }
}

/// What the answer to a fetch carries.
#[derive(Debug, PartialEq, Eq)]
pub struct FinishedFetch {
    /// `session_id` of the answer; 0: no session.
    pub session_id: SessionId,
    /// Which of the plan's partitions the answer names.
    pub include: Few<bool>,
}

/// The answer names every partition.
fn all_of(news: &[PartitionNews]) -> Few<bool> {
    news.iter().map(|_| true).collect()
}

/// Epochs count 1, 2, … and wrap to 1.
fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SessionLimits = SessionLimits { slots: 2, partitions: 100, evict_idle_ms: 120_000 };

    fn partition(n: i32, offset: i64) -> FetchPartition {
        FetchPartition {
            topic: TopicRef::Id(Uuid::from_u128(1)),
            partition: n,
            current_leader_epoch: -1,
            fetch_offset: offset,
            last_fetched_epoch: -1,
            max_bytes: 1024,
        }
    }

    #[test]
    fn a_session_goes_on_with_its_id_and_epoch_on_another_shard() {
        let [mut here, mut there] = [0, 1].map(|shard| FetchSessions::new(LIMITS, shard, 2));
        let id = open(&mut here, 3, 0);
        there.adopt(here.release(id).expect("open"), 0);
        assert!(here.is_empty() && here.cached_partitions() == 0 && here.release(id).is_none());
        let plan = there.begin(request(id, 1, vec![]), 0).expect("the next epoch");
        assert_eq!((plan.is_incremental(), plan.partitions.len()), (true, 3));
        let finished = there.finish(&plan, &[quiet(0), quiet(0), quiet(5)], true, 0);
        assert_eq!(finished.include, [false, false, true], "what the client has been told came along");
        assert_eq!(here.begin(request(id, 2, vec![]), 0).unwrap_err(), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    }

    #[test]
    fn a_session_without_room_on_its_new_shard_is_given_up() {
        let [mut here, mut there] = [0, 1].map(|shard| FetchSessions::new(LIMITS, shard, 2));
        let id = open(&mut here, 3, 0);
        open(&mut there, 90, 0);
        open(&mut there, 10, 0);
        there.adopt(here.release(id).expect("open"), 0);
        assert_eq!((there.len(), there.cached_partitions()), (2, 100));
    }

    fn request(session_id: i32, epoch: i32, partitions: Vec<FetchPartition>) -> SessionRequest {
        SessionRequest {
            session_id,
            epoch,
            uses_topic_ids: true,
            partitions: partitions.into(),
            forgotten: vec![],
        }
    }

    fn quiet(high_watermark: i64) -> PartitionNews {
        PartitionNews {
            error: ErrorCode::NONE,
            high_watermark,
            log_start_offset: 0,
            bytes: 0,
            has_hint: false,
        }
    }

    fn open(sessions: &mut FetchSessions, count: i32, now_ms: i64) -> SessionId {
        let plan =
            sessions.begin(request(0, 0, (0..count).map(|n| partition(n, 0)).collect()), now_ms).unwrap();
        let news = vec![quiet(0); plan.partitions.len()];
        sessions.finish(&plan, &news, true, now_ms).session_id
    }

    #[test]
    fn a_full_fetch_opens_a_session_and_answers_everything() {
        let mut sessions = FetchSessions::new(LIMITS, 1, 4);
        let plan = sessions.begin(request(0, 0, vec![partition(0, 0), partition(1, 5)]), 0).unwrap();
        let finished = sessions.finish(&plan, &[quiet(0), quiet(5)], true, 0);
        assert_eq!(finished.include, vec![true, true]);
        assert_ne!(finished.session_id, 0);
        assert_eq!(finished.session_id % 4, 1);
    }

    #[test]
    fn an_incremental_fetch_reads_all_partitions_and_answers_only_news() {
        let mut sessions = FetchSessions::new(LIMITS, 0, 1);
        let id = open(&mut sessions, 3, 0);
        let plan = sessions.begin(request(id, 1, vec![]), 1).unwrap();
        assert_eq!(plan.partitions.len(), 3);
        let with_data = PartitionNews { bytes: 10, high_watermark: 1, ..quiet(1) };
        let finished = sessions.finish(&plan, &[quiet(0), with_data, quiet(0)], true, 1);
        assert_eq!(finished.include, vec![false, true, false]);
        // The one that returned data is served last next time.
        let plan = sessions.begin(request(id, 2, vec![]), 2).unwrap();
        assert_eq!(plan.partitions.iter().map(|p| p.partition).collect::<Vec<_>>(), vec![0, 2, 1]);
    }

    #[test]
    fn updates_and_forgotten_partitions_change_what_is_followed() {
        let mut sessions = FetchSessions::new(LIMITS, 0, 1);
        let id = open(&mut sessions, 2, 0);
        let mut update = request(id, 1, vec![partition(1, 42), partition(7, 0)]);
        update.forgotten.push((TopicRef::Id(Uuid::from_u128(1)), 0));
        let plan = sessions.begin(update, 1).unwrap();
        let got: Vec<_> = plan.partitions.iter().map(|p| (p.partition, p.fetch_offset)).collect();
        assert_eq!(got, vec![(1, 42), (7, 0)]);
        assert_eq!(sessions.cached_partitions(), 2);
    }

    #[test]
    fn a_partition_that_failed_is_told_again_when_it_is_well() {
        let mut sessions = FetchSessions::new(LIMITS, 0, 1);
        let id = open(&mut sessions, 1, 0);
        let plan = sessions.begin(request(id, 1, vec![]), 1).unwrap();
        let failed = PartitionNews { error: ErrorCode::NOT_LEADER_OR_FOLLOWER, ..quiet(-1) };
        assert_eq!(sessions.finish(&plan, &[failed], true, 1).include, vec![true]);
        let plan = sessions.begin(request(id, 2, vec![]), 2).unwrap();
        assert_eq!(sessions.finish(&plan, &[quiet(0)], true, 2).include, vec![true]);
        let plan = sessions.begin(request(id, 3, vec![]), 3).unwrap();
        assert_eq!(sessions.finish(&plan, &[quiet(0)], true, 3).include, vec![false]);
    }

    #[test]
    fn wrong_epochs_unknown_ids_and_mixed_topic_names_are_refused() {
        let mut sessions = FetchSessions::new(LIMITS, 0, 1);
        let id = open(&mut sessions, 1, 0);
        let code = |r: Result<FetchPlan, ErrorCode>| r.unwrap_err();
        assert_eq!(code(sessions.begin(request(id, 2, vec![]), 0)), ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        assert_eq!(
            code(sessions.begin(request(id + 1, 1, vec![]), 0)),
            ErrorCode::FETCH_SESSION_ID_NOT_FOUND
        );
        let mut by_name = request(id, 1, vec![]);
        by_name.uses_topic_ids = false;
        assert_eq!(code(sessions.begin(by_name, 0)), ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        // None of the refusals has moved the session on.
        assert!(sessions.begin(request(id, 1, vec![]), 0).is_ok());
    }

    #[test]
    fn closing_a_session_and_emptying_one_both_free_it() {
        let mut sessions = FetchSessions::new(LIMITS, 0, 1);
        let id = open(&mut sessions, 1, 0);
        let plan = sessions.begin(request(id, -1, vec![]), 0).unwrap();
        assert_eq!(sessions.finish(&plan, &[], true, 0).session_id, 0);
        assert!(sessions.is_empty());
        let id = open(&mut sessions, 1, 0);
        let mut last = request(id, 1, vec![]);
        last.forgotten.push((TopicRef::Id(Uuid::from_u128(1)), 0));
        assert!(!sessions.begin(last, 0).unwrap().is_incremental());
        assert!(sessions.is_empty());
        assert_eq!(sessions.cached_partitions(), 0);
    }

    #[test]
    fn a_full_cache_declines_small_newcomers_and_evicts_idle_or_smaller_sessions() {
        let mut sessions = FetchSessions::new(LIMITS, 0, 1);
        let first = open(&mut sessions, 5, 0);
        let second = open(&mut sessions, 5, 1);
        assert_eq!(open(&mut sessions, 5, 2), 0, "neither idle nor smaller: declined");
        assert_ne!(open(&mut sessions, 6, 3), 0, "larger than the oldest: it gives way");
        assert!(sessions.begin(request(first, 1, vec![]), 4).is_err());
        assert!(sessions.begin(request(second, 1, vec![]), 5).is_ok());
        assert_ne!(open(&mut sessions, 1, 200_000), 0, "idle for two minutes: it gives way");
    }

    #[test]
    fn partitions_remembered_by_all_sessions_are_bounded() {
        let mut sessions = FetchSessions::new(LIMITS, 0, 1);
        assert_eq!(open(&mut sessions, 101, 0), 0);
        let id = open(&mut sessions, 90, 0);
        let grow = request(id, 1, (90..150).map(|n| partition(n, 0)).collect());
        let plan = sessions.begin(grow, 1).unwrap();
        assert_eq!(plan.partitions.len(), 150, "the request itself is still answered in full");
        assert!(!plan.is_incremental());
        assert_eq!(sessions.cached_partitions(), 0);
    }

    #[test]
    fn epochs_wrap_to_one() {
        assert_eq!(next_epoch(1), 2);
        assert_eq!(next_epoch(i32::MAX), 1);
    }
}
