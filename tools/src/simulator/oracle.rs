//! Knows everything that anybody was ever told, and says when two things do not go together.
//!
//! The first contradiction is kept as the run's [`Violation`]; what is checked where nodes have to be looked at is in [`super::checks`].

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use coord::metadata::{MetadataImage, MetadataRecord, decode_entry};
use coord::quorum::{CommittedEntry, LogPosition};
use coord::types::{BrokerId, LeaderEpoch};
use storage::{Offset, TopicIdPartition};

use super::sharing::Sharing;
use super::store::{Content, StoredBatch};

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Of which partition; `None` if it concerns the cluster.
    pub partition: Option<TopicIdPartition>,
    /// What is wrong.
    pub text: String,
}

/// A batch that a producer knows to be committed.
#[derive(Debug, Clone, Copy)]
struct Acknowledged {
    invoked_us: u64,
    returned_us: u64,
    base_offset: Offset,
}

/// What is known of one partition.
#[derive(Debug, Default)]
pub struct History {
    /// Everything that a replica has ever shown as committed.
    committed: Vec<StoredBatch>,
    /// In which leader epoch each of them was first shown.
    committed_in: Vec<LeaderEpoch>,
    leaders: BTreeMap<LeaderEpoch, (BrokerId, i64)>,
    acknowledged: Vec<Acknowledged>,
    /// The last sequence number of each producer.
    sequences: BTreeMap<i64, i32>,
    /// Somebody has asked for everything below to be deleted.
    deleted_below: Offset,
    /// Of each producer, where the last batch lies of which it knows that it is committed.
    last_acknowledged: BTreeMap<i64, Offset>,
}

impl History {
    /// The end of what is committed.
    pub fn end(&self) -> Offset {
        self.committed.last().map_or(Offset::ZERO, |batch| batch.span.end_offset)
    }

    /// The committed batches from an offset on.
    pub fn from(&self, offset: Offset) -> &[StoredBatch] {
        &self.committed[self.committed.partition_point(|batch| batch.span.end_offset <= offset)..]
    }

    /// The first batch from `offset` on that a log lacks, or has otherwise.
    pub fn lacking<'a>(&'a self, content: &Content, offset: Offset) -> Option<&'a StoredBatch> {
        let from = offset.max(content.start());
        let (expected, found) = (self.from(from), content.from(from));
        let lacks = |(at, batch): &(usize, &StoredBatch)| found.get(*at) != Some(*batch);
        expected.iter().enumerate().find(lacks).map(|(_, batch)| batch)
    }

    /// The same for a leader: what was committed in earlier epochs. (Who hears late that it led may lack what was committed since; it will not commit anything itself.)
    fn lacking_in(&self, epoch: LeaderEpoch, content: &Content) -> Option<&StoredBatch> {
        let first = self.lacking(content, Offset::ZERO)?;
        let from = self.committed.partition_point(|batch| batch.span.base_offset < first.span.base_offset);
        let is_earlier = |at: &usize| self.committed_in[*at] < epoch;
        (from..self.committed.len()).find(is_earlier).map(|at| &self.committed[at])
    }
}

/// See the module.
#[derive(Debug)]
pub struct Oracle {
    histories: BTreeMap<TopicIdPartition, History>,
    /// The metadata after the last entry that anybody knows to be committed.
    pub truth: MetadataImage,
    truth_index: u64,
    entries: BTreeMap<u64, (u64, Bytes)>,
    quorum_leaders: BTreeMap<u64, BrokerId>,
    /// The groups whose members share the partitions, by name.
    groups: BTreeMap<&'static str, Sharing>,
    /// Partitions whose candidates have to be looked at, and from which offset on.
    pub due: BTreeMap<TopicIdPartition, Offset>,
    /// The first thing that was wrong.
    pub violation: Option<Violation>,
    /// What has happened, how often: a run in which nothing happens proves nothing.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Oracle {
    /// Before anything has happened; the quorum's journals begin with an empty image at index 1.
    pub fn new() -> Self {
        Oracle {
            histories: BTreeMap::new(),
            truth: MetadataImage::new(),
            truth_index: 1,
            entries: BTreeMap::new(),
            quorum_leaders: BTreeMap::new(),
            groups: BTreeMap::new(),
            due: BTreeMap::new(),
            violation: None,
            counts: BTreeMap::new(),
        }
    }

    /// Notes that something is wrong, unless something has been before.
    pub fn fail(&mut self, partition: Option<TopicIdPartition>, text: impl Into<String>) {
        if self.violation.is_none() {
            self.violation = Some(Violation { partition, text: text.into() });
        }
    }

    /// Counts an event.
    pub fn count(&mut self, what: &'static str, by: u64) {
        *self.counts.entry(what).or_default() += by;
    }

    /// What is known of a partition.
    pub fn history(&self, id: TopicIdPartition) -> Option<&History> {
        self.histories.get(&id)
    }

    // ---- the quorum

    /// A node takes an entry of the quorum's log for committed.
    pub fn entry_committed(&mut self, node: BrokerId, entry: &CommittedEntry) {
        let LogPosition { term, index } = entry.position;
        if let Some(known) = self.entries.get(&index) {
            if *known != (term, entry.data.clone()) {
                self.fail(
                    None,
                    format!("broker {node} has another metadata entry at index {index} than others"),
                );
            }
            return;
        }
        if index != self.truth_index + 1 {
            self.fail(None, format!("broker {node} jumps to index {index} of the metadata"));
            return;
        }
        self.entries.insert(index, (term, entry.data.clone()));
        self.truth_index = index;
        if entry.data.is_empty() {
            return;
        }
        let records = decode_entry(&entry.data).expect("entries are encoded here");
        for record in &records {
            if let Err(error) = self.truth.replay(record) {
                self.fail(None, error.to_string());
            }
            self.metadata_changed(record);
        }
    }

    fn metadata_changed(&mut self, record: &MetadataRecord) {
        self.count("metadata records", 1);
        let MetadataRecord::PartitionChange { topic_id, partition, state } = record else { return };
        let id = TopicIdPartition::new(*topic_id, *partition);
        self.due.insert(id, Offset::ZERO);
        self.count("partition changes", 1);
        let leads_out_of_sync = state.leader.is_some() && !state.in_sync_replicas.contains(&state.leader);
        let is_strange = |member: &BrokerId| !state.replicas.contains(member);
        if leads_out_of_sync || state.in_sync_replicas.iter().any(is_strange) {
            self.fail(Some(id), format!("a state that cannot be: {state:?}"));
        }
    }

    /// A node has replayed everything up to `index`.
    pub fn image_at(&mut self, node: BrokerId, index: u64, image: &MetadataImage) {
        if index == self.truth_index && *image != self.truth {
            self.fail(None, format!("broker {node} has another image at index {index} than others"));
        }
    }

    /// A node knows a leader of the quorum.
    pub fn quorum_leads(&mut self, term: u64, leader: BrokerId) {
        let known = *self.quorum_leaders.entry(term).or_insert(leader);
        if known != leader {
            self.fail(None, format!("term {term} of the quorum has two leaders: {known} and {leader}"));
        }
    }

    /// The index of the last entry that anybody knows to be committed.
    pub fn truth_index(&self) -> u64 {
        self.truth_index
    }

    // ---- partitions

    /// A process leads a partition: alone in its epoch, and with everything that was ever committed.
    pub fn leads(
        &mut self,
        id: TopicIdPartition,
        epoch: LeaderEpoch,
        leader: (BrokerId, i64),
        content: &Content,
    ) {
        self.count("leaderships", 1);
        let history = self.histories.entry(id).or_default();
        let known = *history.leaders.entry(epoch).or_insert(leader);
        let lacking = history.lacking_in(epoch, content).map(|batch| batch.span);
        if known != leader {
            self.fail(Some(id), format!("epoch {epoch} has two leaders: {known:?} and {leader:?}"));
        }
        if let Some(span) = lacking {
            self.fail(Some(id), format!("broker {} leads epoch {epoch} without {span:?}", leader.0));
        }
    }

    /// A replica shows everything below `high_watermark`; what is below `from` it has shown before.
    pub fn shown(
        &mut self,
        id: TopicIdPartition,
        (node, epoch): (BrokerId, LeaderEpoch),
        content: &Content,
        from: Offset,
        high_watermark: Offset,
    ) {
        let history = self.histories.entry(id).or_default();
        let mut problem = None;
        let shown: Vec<&StoredBatch> =
            content.from(from).iter().filter(|batch| batch.span.end_offset <= high_watermark).collect();
        let shown_end = shown.last().map_or(from.max(content.start()), |batch| batch.span.end_offset);
        // What a leader knows after a start is that everything below the log's start is committed, and that may lie amid a batch.
        let is_at_a_start = high_watermark <= history.deleted_below;
        let is_elsewhere = shown_end != high_watermark && high_watermark > from && !is_at_a_start;
        if high_watermark > content.end() || is_elsewhere {
            problem =
                Some(format!("broker {node}: high watermark {high_watermark} is not an end of its batches"));
        }
        let mut added = 0;
        for batch in shown {
            if batch.span.base_offset >= history.end() {
                if let Err(text) = history.follows(batch) {
                    problem = Some(format!("broker {node}: {text}"));
                }
                self.due
                    .entry(id)
                    .and_modify(|due| *due = (*due).min(batch.span.base_offset))
                    .or_insert(batch.span.base_offset);
                history.committed.push(batch.clone());
                history.committed_in.push(epoch);
                added += 1;
            } else if history.from(batch.span.base_offset).first() != Some(batch) {
                problem =
                    Some(format!("broker {node} shows {:?} where something else was committed", batch.span));
            }
        }
        self.count("batches committed", added);
        if let Some(text) = problem {
            self.fail(Some(id), text);
        }
    }

    /// A consumer has received batches; it had read up to `position`.
    pub fn read(&mut self, id: TopicIdPartition, position: Offset, batches: &[StoredBatch]) {
        let history = self.histories.entry(id).or_default();
        let expected = history.from(position);
        let is_known = batches.len() <= expected.len() && batches == &expected[..batches.len()];
        self.count("batches read", batches.len() as u64);
        if !is_known {
            let spans: Vec<_> = batches.iter().map(|batch| batch.span).collect();
            self.fail(
                Some(id),
                format!("a consumer at {position} reads {spans:?}, which is not what is committed there"),
            );
        }
    }

    /// Up to where records may be deleted: of every producer the last batch that it knows of stays, by which its next ones are recognised.
    pub fn deletable(&self, id: TopicIdPartition) -> Offset {
        let lasts = self.histories.get(&id).and_then(|history| history.last_acknowledged.values().min());
        lasts.copied().unwrap_or(Offset::ZERO)
    }

    /// Somebody asks for everything below an offset to be deleted.
    pub fn deleting(&mut self, id: TopicIdPartition, before: Offset) {
        let deleted_below = &mut self.histories.entry(id).or_default().deleted_below;
        *deleted_below = before.max(*deleted_below);
        self.count("deletions of records", 1);
    }

    /// A broker's log begins here.
    pub fn log_begins(&mut self, id: TopicIdPartition, node: BrokerId, start: Offset) {
        let deleted_below = self.histories.get(&id).map_or(Offset::ZERO, |history| history.deleted_below);
        if start > deleted_below {
            let text = format!(
                "broker {node}: the log begins at {start}, and only what is below {deleted_below} may go"
            );
            self.fail(Some(id), text);
        }
    }

    /// A consumer is told that its position lies before the log's start.
    pub fn out_of_range(&mut self, id: TopicIdPartition, position: Offset, start: Offset) {
        let deleted_below = self.histories.get(&id).map_or(Offset::ZERO, |history| history.deleted_below);
        self.count("positions out of range", 1);
        if position >= start || start > deleted_below {
            let text = format!(
                "a consumer at {position} is told that the log begins at {start}; everything below {deleted_below} may go"
            );
            self.fail(Some(id), text);
        }
    }

    /// A producer has heard that its batch is committed.
    pub fn acknowledged(
        &mut self,
        id: TopicIdPartition,
        base_offset: Offset,
        sequence: (i64, i32),
        times_us: (u64, u64),
    ) {
        let history = self.histories.entry(id).or_default();
        let found = history.from(base_offset).first();
        let is_there = found.is_some_and(|batch| {
            let view = batch.view();
            batch.span.base_offset == base_offset && (view.producer_id(), view.base_sequence()) == sequence
        });
        let (invoked_us, returned_us) = times_us;
        let last = history.last_acknowledged.entry(sequence.0).or_default();
        *last = base_offset.max(*last);
        history.acknowledged.push(Acknowledged { invoked_us, returned_us, base_offset });
        self.count("batches acknowledged", 1);
        if !is_there {
            let (producer, number) = sequence;
            self.fail(
                Some(id),
                format!("sequence {number} of producer {producer} is acknowledged at {base_offset}, and not committed there"),
            );
        }
    }

    // ---- groups whose members share the partitions

    fn group(&mut self, group: &'static str) -> &mut Sharing {
        self.groups.entry(group).or_default()
    }

    /// A member owns these from now on, and nothing else.
    pub fn owns(&mut self, group: &'static str, member: usize, partitions: &BTreeSet<TopicIdPartition>) {
        if let Err((id, text)) = self.group(group).owns(member, partitions) {
            self.fail(Some(id), format!("{group}: {text}"));
        }
    }

    /// How many partitions have an owner in a group.
    pub fn owned_partitions(&self, group: &str) -> usize {
        self.groups.get(group).map_or(0, Sharing::owned_partitions)
    }

    /// A number that the owner of a partition commits.
    pub fn offset_to_commit(&mut self, group: &'static str, id: TopicIdPartition) -> i64 {
        self.group(group).offset_to_commit(id)
    }

    /// The owner has heard that it is committed.
    pub fn offset_committed(&mut self, group: &'static str, id: TopicIdPartition, offset: i64) {
        self.group(group).offset_committed(id, offset);
        self.count("offsets committed by owners", 1);
    }

    /// The owner has looked for what is committed.
    pub fn offset_found(&mut self, group: &'static str, id: TopicIdPartition, found: i64) {
        if let Err(text) = self.group(group).offset_found(id, found) {
            self.fail(Some(id), format!("{group}: {text}"));
        }
    }

    /// Checks, at the end, that each partition could have taken its batches one by one: whoever began after another had its answer lies after it.
    pub fn check_linearizable(&mut self) {
        let mut problem = None;
        for (id, history) in &self.histories {
            let mut by_begin: Vec<&Acknowledged> = history.acknowledged.iter().collect();
            let mut by_end = by_begin.clone();
            by_begin.sort_by_key(|operation| operation.invoked_us);
            by_end.sort_by_key(|operation| operation.returned_us);
            let (mut done, mut last) = (0, Offset(-1));
            for operation in by_begin {
                while by_end.get(done).is_some_and(|earlier| earlier.returned_us < operation.invoked_us) {
                    last = last.max(by_end[done].base_offset);
                    done += 1;
                }
                if operation.base_offset <= last {
                    problem = Some((
                        *id,
                        format!("{operation:?} lies before {last}, which was acknowledged earlier"),
                    ));
                }
            }
            let distinct: BTreeSet<Offset> =
                history.acknowledged.iter().map(|operation| operation.base_offset).collect();
            if distinct.len() != history.acknowledged.len() {
                problem = Some((*id, "two batches were acknowledged at one offset".to_owned()));
            }
        }
        if let Some((id, text)) = problem {
            self.fail(Some(id), text);
        }
    }
}

impl Default for Oracle {
    fn default() -> Self {
        Self::new()
    }
}

impl History {
    /// Whether a batch continues what its producer has committed (invariant 5 of the cluster: no duplicate, no gap).
    fn follows(&mut self, batch: &StoredBatch) -> Result<(), String> {
        let view = batch.view();
        if !view.has_producer_id() {
            return Ok(());
        }
        let expected = self.sequences.get(&view.producer_id()).map_or(0, |last| last + 1);
        self.sequences.insert(view.producer_id(), view.last_sequence());
        if view.base_sequence() == expected {
            Ok(())
        } else {
            let (producer, found) = (view.producer_id(), view.base_sequence());
            Err(format!("{:?} of producer {producer} has sequence {found} instead of {expected}", batch.span))
        }
    }
}
