//! One pass over one log: which one, both halves, and what is remembered of it.

use super::{
    decide::{Cleanable, Growing, LogFacts, assess, dirty_segments, fits, must_roll},
    filter::{BadBatch, CleanStats, FilterRules, Filtered, ReadPiece, filter_all, note_all},
    host::{CleanerConfig, CleanerHost},
    offset_map::OffsetMap,
    output::Output,
    pieces::{Piece, Pieces},
    swap::cleaned_name,
};
use crate::{
    disk::{Disk, DiskFile, OpenMode},
    error::StorageError,
    log::{
        config::LogConfig,
        error::ReadError,
        partition::LogInner,
        segment::SegmentMeta,
        state::{Availability, LogState},
    },
    store::{
        ShardStore,
        flusher::checkpoint_logs,
        shared::{Shared, add},
    },
    types::{Offset, TopicIdPartition},
};
use futures::{
    SinkExt, StreamExt,
    channel::mpsc,
    future::{try_join, try_join3},
};
use protocol::records::{BATCH_HEADER_BYTES, BatchHeader};
use std::{rc::Rc, sync::Arc};
use zerocopy::FromBytes;

/// Pieces that are read before anybody computes on them, and that are computed before they are written: the disk and the processor work at the same
/// time, and a thread of idle priority that had to wait for a processor finds more to do.
const PIECES_AHEAD: usize = 4;

/// What a pass has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanReport {
    /// The partition.
    pub partition: TopicIdPartition,
    /// The name of its topic.
    pub topic: Rc<str>,
    /// Where the dirty section began.
    pub first_dirty: Offset,
    /// Everything below is clean now.
    pub clean_end: Offset,
    /// Whether the map of keys became full, so that the rest is left to another pass.
    pub is_map_full: bool,
    /// Keys in the map.
    pub keys: usize,
    /// Memory of the map. Bytes.
    pub map_bytes: usize,
    /// Segments that were cleaned, and those that took their place.
    pub segments: (usize, usize),
    /// Size of the segments that were cleaned, and of those that took their place. Bytes.
    pub bytes: (u64, u64),
    /// Counts.
    pub stats: CleanStats,
}

/// Why a pass ends early.
enum Stop {
    /// The log was deleted, retention has taken a segment away, or the store is being closed.
    Abandoned,
    /// The log holds bytes that cannot be cleaned.
    Uncleanable(String),
    Storage(StorageError),
}

impl<E: Into<StorageError>> From<E> for Stop {
    fn from(error: E) -> Self {
        match error.into() {
            // Retention or the deletion of the topic was faster.
            StorageError::Disk(error) if error.is_not_found() => Self::Abandoned,
            error => Self::Storage(error),
        }
    }
}

impl<D: Disk> ShardStore<D> {
    /// Cleans the log that needs it most; none if no log needs it. One at a time: the caller waits for the end before it asks again.
    ///
    /// Ends early when the store is closed. Dropping the future is like a crash: nothing is lost.
    ///
    /// A log whose files are damaged or cannot be read is left alone from then on.
    ///
    /// # Errors
    /// A full disk, a store that has failed. What was cleaned is clean, the rest is as it was.
    pub async fn clean_next<H: CleanerHost>(
        &self,
        host: &H,
        config: &CleanerConfig,
        now_ms: i64,
    ) -> Result<Option<CleanReport>, StorageError> {
        self.shared.cleaner_looked_ms.set(now_ms);
        let Some(log) = self.dirtiest(now_ms).await? else { return Ok(None) };
        let cuts = log.state.borrow().cuts;
        let pass = Pass { store: self, log: &log, host, config, now_ms, cuts };
        match pass.run().await {
            Ok(report) => {
                add(&self.shared.counters.cleaner_runs, 1);
                Ok(Some(report))
            }
            Err(Stop::Abandoned) => Ok(None),
            // It has come upon the place of the cut.
            Err(Stop::Uncleanable(_)) if pass.is_outdated() => Ok(None),
            Err(Stop::Storage(error)) if pass.is_outdated() && is_of_this_log(&error) => Ok(None),
            Err(Stop::Uncleanable(why)) => {
                log.give_up(why);
                Ok(None)
            }
            Err(Stop::Storage(error)) => match is_of_this_log(&error) {
                true => {
                    log.give_up(error.to_string());
                    Ok(None)
                }
                false => Err(error),
            },
        }
    }

    /// The log with the largest dirty share among those that are due.
    async fn dirtiest(&self, now_ms: i64) -> Result<Option<Rc<LogInner<D>>>, StorageError> {
        let mut best: Option<(f64, Rc<LogInner<D>>)> = None;
        let count = self.shared.logs.borrow().len() as u32;
        for log in (0..count).filter_map(|index| self.shared.log(index)) {
            if !log.state.borrow().is_compacted() || self.shared.switches.closing.get() {
                continue;
            }
            let found = match log.cleanable(now_ms).await {
                Ok(found) => found,
                Err(ReadError::Storage(error)) if !is_of_this_log(&error) => return Err(error),
                Err(ReadError::Storage(StorageError::Disk(error))) if error.is_not_found() => continue,
                Err(ReadError::Storage(error)) => {
                    log.give_up(error.to_string());
                    continue;
                }
                Err(_) => continue,
            };
            let ratio = found.dirty_ratio();
            let is_due = found.is_due(&log.state.borrow().config);
            if is_due && best.as_ref().is_none_or(|(most, _)| ratio > *most) {
                best = Some((ratio, log));
            }
        }
        Ok(best.map(|(_, log)| log))
    }
}

/// Whether an error is about one log's files, so that other logs can be cleaned all the same.
fn is_of_this_log(error: &StorageError) -> bool {
    match error {
        StorageError::Corrupt { .. } => true,
        StorageError::Disk(error) => !error.is_out_of_space(),
        _ => false,
    }
}

impl LogState {
    /// Whether compaction looks after this log.
    fn is_compacted(&self) -> bool {
        self.config.cleanup_compact
            && self.uncleanable.is_none()
            && matches!(self.availability, Availability::Online)
    }

    fn facts(&self, now_ms: i64) -> LogFacts<'_> {
        LogFacts {
            segments: &self.segments,
            clean_end: self.clean_end,
            log_start: self.log_start,
            stable_end: self.last_stable_offset(),
            now_ms,
        }
    }

    /// The share of the log that is dirty, as far as it can be said without reading; none for a log that is not compacted.
    pub(crate) fn dirty_ratio(&self, now_ms: i64) -> Option<f64> {
        self.is_compacted().then(|| assess(&self.facts(now_ms), &self.config).dirty_ratio())
    }
}

impl<D: Disk> LogInner<D> {
    /// Leaves the log alone until the next start: it cannot be cleaned, and must not keep others from it.
    fn give_up(&self, why: String) {
        let partition = format!("{}-{}", self.topic, self.id.partition);
        tracing::error!(
            partition,
            why,
            "the log cannot be compacted and is left as it is until the next start"
        );
        self.state.borrow_mut().uncleanable = Some(why.into());
    }

    /// What could be cleaned. Closes the active segment if that has waited for too long.
    async fn cleanable(&self, now_ms: i64) -> Result<Cleanable, ReadError> {
        let is_roll_due = || {
            let state = self.state.borrow();
            let active = state.segments.last();
            state.is_compacted() && active.is_some_and(|s| must_roll(s, &state.config, now_ms))
        };
        if is_roll_due() {
            let _lock = self.shared.maintenance.lock().await;
            let _writing = self.writing().await;
            if is_roll_due() {
                self.roll().await?;
            }
        }
        let config = self.state.borrow().config.clone();
        if config.min_compaction_lag_ms > 0 || config.max_compaction_lag_ms < i64::MAX {
            self.learn_timestamps(now_ms, &config).await?;
        }
        let state = self.state.borrow();
        Ok(assess(&state.facts(now_ms), &config))
    }

    /// Finds out the timestamps of dirty segments that the lags need.
    async fn learn_timestamps(&self, now_ms: i64, config: &LogConfig) -> Result<(), ReadError> {
        let dirty = {
            let state = self.state.borrow();
            let facts = state.facts(now_ms);
            state.segments[dirty_segments(&facts)].to_vec()
        };
        for segment in dirty {
            if config.min_compaction_lag_ms > 0 && segment.max_timestamp.is_none() {
                self.largest_timestamp(&segment, false).await?;
            }
            if config.max_compaction_lag_ms < i64::MAX && segment.first_timestamp.is_none() {
                let file = self.open_segment(&segment).await?;
                let header = file.read_at(0, BATCH_HEADER_BYTES).await?;
                let Ok((header, _)) = BatchHeader::ref_from_prefix(&header) else { continue };
                let mut state = self.state.borrow_mut();
                let is_it = |s: &&mut SegmentMeta| {
                    (s.base_offset, s.revision) == (segment.base_offset, segment.revision)
                };
                if let Some(meta) = state.segments.iter_mut().find(is_it) {
                    meta.first_timestamp = Some(header.max_timestamp.get());
                }
            }
        }
        Ok(())
    }

    /// Makes durable what recovery must know before closed segments may change: which segment is the active one.
    async fn settle_checkpoint(&self, store: &ShardStore<D>) -> Result<(), StorageError> {
        let active = self.state.borrow().segments.last().copied();
        if let Some(active) = active {
            self.segment_for_writing(active.base_offset).await?.sync_data().await?;
        }
        checkpoint_logs(&self.shared, &store.checkpoints, &[self.index]).await
    }
}

struct Pass<'a, D: Disk, H> {
    store: &'a ShardStore<D>,
    log: &'a Rc<LogInner<D>>,
    host: &'a H,
    config: &'a CleanerConfig,
    now_ms: i64,
    /// How often the log's end had been cut off when the pass began.
    cuts: u64,
}

impl<D: Disk, H: CleanerHost> Pass<'_, D, H> {
    async fn run(&self) -> Result<CleanReport, Stop> {
        {
            let _lock = self.shared().maintenance.lock().await;
            self.go_on()?;
            self.log.settle_checkpoint(self.store).await?;
        }
        let (found, segments, ends, dirty) = {
            let state = self.log.state.borrow();
            let facts = state.facts(self.now_ms);
            let found = assess(&facts, &state.config);
            let closed = state.segments.partition_point(|s| s.base_offset < found.first_uncleanable);
            let ends: Vec<Offset> = state.segments.iter().skip(1).map(|s| s.base_offset).collect();
            (found, state.segments[..closed].to_vec(), ends, dirty_segments(&facts).start)
        };
        let mut stats = CleanStats::default();
        let (map, map_end) =
            self.note_dirty(&found, &segments[dirty.min(segments.len())..], &mut stats).await?;
        let mut report = CleanReport {
            partition: self.log.id,
            topic: self.log.topic.clone(),
            first_dirty: found.first_dirty,
            clean_end: map_end,
            is_map_full: map_end < found.first_uncleanable,
            keys: map.len(),
            map_bytes: map.heap_bytes(),
            segments: (0, 0),
            bytes: (0, 0),
            stats,
        };
        let (rules, config) = {
            let state = self.log.state.borrow();
            let last_of_producer = state.producers.entries().iter();
            let last_of_producer = last_of_producer
                .filter_map(|e| Some((e.producer_id.0, e.batches.back()?.last_offset.0)))
                .collect();
            let delete_retention_ms = state.config.delete_retention_ms;
            let rules =
                FilterRules { map, map_end, now_ms: self.now_ms, delete_retention_ms, last_of_producer };
            (Arc::new(rules), state.config.clone())
        };
        let known = segments.partition_point(|s| s.base_offset < map_end);
        let mut rest = &segments[..known];
        while !rest.is_empty() {
            let taken = self
                .clean_neighbours(rest, &ends[known - rest.len()..], &rules, &config, &mut report)
                .await?;
            rest = &rest[taken..];
        }
        let _lock = self.shared().maintenance.lock().await;
        self.go_on()?;
        {
            let mut state = self.log.state.borrow_mut();
            state.clean_end = map_end.min(state.written_end);
        }
        checkpoint_logs(self.shared(), &self.store.checkpoints, &[self.log.index]).await?;
        Ok(report)
    }

    fn shared(&self) -> &Rc<Shared<D>> {
        &self.store.shared
    }

    /// Whether an unclean election has cut the log meanwhile: what the pass knows may be of records that are gone, not of those that came after them.
    fn is_outdated(&self) -> bool {
        self.log.state.borrow().cuts != self.cuts
    }

    /// Whether the pass still makes sense.
    fn go_on(&self) -> Result<(), Stop> {
        let is_there =
            matches!(self.log.state.borrow().availability, Availability::Online) && !self.is_outdated();
        let switches = &self.shared().switches;
        match is_there && !switches.closing.get() && switches.failed.borrow().is_none() {
            true => Ok(()),
            false => Err(Stop::Abandoned),
        }
    }

    /// The first half: what the dirty section's latest offsets are. Answers too where the map's knowledge ends.
    async fn note_dirty(
        &self,
        found: &Cleanable,
        dirty: &[SegmentMeta],
        stats: &mut CleanStats,
    ) -> Result<(OffsetMap, Offset), Stop> {
        let from = found.first_dirty;
        let records = (found.first_uncleanable - from).max(0) as u64;
        let mut map = OffsetMap::new(records, self.config.dedupe_buffer_bytes, &self.host.secret());
        for segment in dirty {
            let (read, pieces) = mpsc::channel::<ReadPiece>(PIECES_AHEAD);
            let noting = async {
                let mut gathered = pieces.ready_chunks(PIECES_AHEAD);
                while let Some(pieces) = gathered.next().await {
                    stats.bytes_read += pieces.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
                    let noting = self.host.compute(move || {
                        let noted = note_all(&mut map, &pieces, from);
                        (map, noted)
                    });
                    let (returned, noted) = noting.await;
                    map = returned;
                    match noted {
                        Ok(None) => {}
                        Ok(Some(full_at)) => return Ok((map, Some(full_at))),
                        Err((position, bad)) => return Err(self.bad(segment, position, bad)),
                    }
                }
                Ok((map, None))
            };
            let ((), (returned, full_at)) = try_join(self.read_ahead(segment, read), noting).await?;
            map = returned;
            if let Some(full_at) = full_at {
                return Ok((map, full_at));
            }
        }
        Ok((map, found.first_uncleanable))
    }

    /// The second half for the first of the segments, and for those behind it that fit into one with it. Answers how many that were.
    async fn clean_neighbours(
        &self,
        rest: &[SegmentMeta],
        ends: &[Offset],
        rules: &Arc<FilterRules>,
        config: &LogConfig,
        report: &mut CleanReport,
    ) -> Result<usize, Stop> {
        let base_offset = rest[0].base_offset;
        let path = self.log.directory().join(cleaned_name(base_offset));
        self.check_space(rest.iter().map(|s| s.size).sum::<u64>().min(config.segment_bytes))?;
        let mut output = {
            // Deletion of the partition looks at the directory under this lock.
            let _lock = self.shared().maintenance.lock().await;
            self.go_on()?;
            let (interval, piece) = (config.index_interval_bytes, self.config.io_buffer_bytes);
            Output::create(&self.shared().disk, &path, base_offset, interval, piece).await?
        };
        let exchanged = async {
            let mut is_unchanged = true;
            let mut taken = 0;
            while let Some(next) = rest.get(taken) {
                let growing = Growing { base_offset, size: output.size() };
                if taken > 0 && !fits(growing, next, ends[taken], config) {
                    break;
                }
                is_unchanged &= self.copy(next, &mut output, rules, &mut report.stats).await?;
                taken += 1;
            }
            if is_unchanged && taken == 1 {
                return Ok((taken, None));
            }
            let (new, index) = output.finish(&self.shared().gates.writes).await?;
            let end = ends[taken - 1];
            match self.log.replace_segments(&rest[..taken], end, self.cuts, new, index).await? {
                true => Ok((taken, Some(new.size))),
                false => Err(Stop::Abandoned),
            }
        };
        let exchanged: Result<_, Stop> = exchanged.await;
        if !matches!(exchanged, Ok((_, Some(_)))) {
            // It is of no use to anybody; what stays after a failure goes with the next start.
            let _ = self.shared().disk.remove(&path).await;
        }
        let (taken, new_size) = exchanged?;
        let size: u64 = rest[..taken].iter().map(|s| s.size).sum();
        report.segments.0 += taken;
        report.segments.1 += 1;
        report.bytes.0 += size;
        report.bytes.1 += new_size.unwrap_or(size);
        Ok(taken)
    }

    /// Copies what stays of a segment. Answers whether that is all of it.
    async fn copy(
        &self,
        segment: &SegmentMeta,
        output: &mut Output<D>,
        rules: &Arc<FilterRules>,
        stats: &mut CleanStats,
    ) -> Result<bool, Stop> {
        let (read, pieces) = mpsc::channel(PIECES_AHEAD);
        let (mut cleaned, mut to_write) = mpsc::channel(PIECES_AHEAD);
        let filtering = async move {
            let mut gathered = pieces.ready_chunks(PIECES_AHEAD);
            while let Some(pieces) = gathered.next().await {
                let rules = rules.clone();
                let filtered = self.host.compute(move || filter_all(&rules, &pieces)).await;
                let filtered = filtered.map_err(|(position, bad)| self.bad(segment, position, bad))?;
                for piece in filtered {
                    if cleaned.send(piece).await.is_err() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        };
        let writing = async {
            let mut is_unchanged = true;
            while let Some(filtered) = to_write.next().await {
                self.write(filtered, output, stats, &mut is_unchanged).await?;
            }
            Ok(is_unchanged)
        };
        let ((), (), is_unchanged) = try_join3(self.read_ahead(segment, read), filtering, writing).await?;
        Ok(is_unchanged)
    }

    /// Adds what stays of a piece to the new segment.
    async fn write(
        &self,
        filtered: Filtered,
        output: &mut Output<D>,
        stats: &mut CleanStats,
        is_unchanged: &mut bool,
    ) -> Result<(), Stop> {
        *is_unchanged &= filtered.is_unchanged;
        if output.size() + filtered.bytes.len() as u64 > i32::MAX as u64 {
            // Batches that were packed more tightly than we pack them; positions in the index have 31 bits.
            let what = "what is left of its segments is larger than 2 GiB".to_owned();
            return Err(Stop::Uncleanable(what));
        }
        self.host.pace(filtered.bytes.len()).await;
        output.append(&filtered, &self.shared().gates.writes).await?;
        *stats += filtered.stats;
        add(&self.shared().counters.cleaner_written_bytes, filtered.bytes.len() as u64);
        Ok(())
    }

    /// Reads a segment to its end, or until nobody takes any more of it.
    async fn read_ahead(&self, segment: &SegmentMeta, mut to: mpsc::Sender<ReadPiece>) -> Result<(), Stop> {
        let mut pieces = self.pieces(segment).await?;
        loop {
            self.go_on()?;
            let piece = pieces.next().await?;
            let Some((position, bytes)) = self.whole(segment, piece)? else { return Ok(()) };
            self.host.pace(bytes.len()).await;
            if to.send((position, bytes)).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn pieces(&self, segment: &SegmentMeta) -> Result<Pieces<D::File>, Stop> {
        let path = self.log.segment_file(segment.base_offset, "log");
        let file = self.shared().disk.open(&path, OpenMode::READ).await?;
        Ok(Pieces::new(file, segment.size, self.config.io_buffer_bytes))
    }

    /// The piece's batches; none at the segment's end.
    fn whole(&self, segment: &SegmentMeta, piece: Piece) -> Result<Option<ReadPiece>, Stop> {
        match piece {
            Piece::Batches(position, bytes) => {
                add(&self.shared().counters.cleaner_read_bytes, bytes.len() as u64);
                Ok(Some((position, bytes)))
            }
            Piece::NotABatch(at, error) => Err(self.bad(segment, at, BadBatch { at: 0, error })),
            Piece::End => Ok(None),
        }
    }

    fn bad(&self, segment: &SegmentMeta, position: u64, bad: BadBatch) -> Stop {
        let path = self.log.segment_file(segment.base_offset, "log");
        Stop::Uncleanable(format!("{} at byte {}: {}", path.display(), position + bad.at as u64, bad.error))
    }

    /// A copy must not be what makes the disk run low, nor be begun when there is no room for it.
    fn check_space(&self, bytes: u64) -> Result<(), StorageError> {
        let shared = self.shared();
        let (free_bytes, low_space_bytes) = (shared.free_bytes.get(), shared.config.low_space_bytes);
        let is_low = shared.switches.low_space.get().is_some();
        let needed = if is_low { bytes } else { bytes + low_space_bytes };
        match free_bytes < needed {
            true => Err(StorageError::LowSpace { free_bytes, low_space_bytes }),
            false => Ok(()),
        }
    }
}
