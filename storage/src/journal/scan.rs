//! Reading a journal back: which commits count, in which order, and what is missing.
//!
//! [`Scan::open`] reads every file once and checks everything, file by file in bounded memory, keeping only the places of commits. Then
//! [`Scan::next`] reads the commits that count a second time, in order.
//!
//! A commit is *whole* if all its checksums hold. Of the whole commits of this journal that lie in the file life that they were written for,
//!
//! - those are **void** that a crash left behind and that a later generation wrote over: commit sequence at or above the first one of a
//!   later generation;
//! - those are **released** that any header calls released: they are in synced segments;
//! - the others have to be without a hole from the last released one on. A hole followed by a commit that was closed when the missing one
//!   was already synced is **damage**: acknowledged data is gone. A hole without such a follower is the end of the journal: what lies behind it
//!   was written, but not synced, when the power went. (With "sync" durability there is only one commit at a time that is not synced.)
//!
//! Files are not trusted by name but by header, and without a readable header by the commits in them.

use super::{
    config::JournalConfig,
    entry::{CommitSeq, EntryHeader, FileSeq, Location},
    format::{
        self, COMMIT_HEADER_BYTES, CommitHeader, FILE_HEADER_BYTES, FORMAT_VERSION, FileHeader, Identity,
        Parsed,
    },
    maintain::{FILE_SUFFIX, NEW_SUFFIX},
};
use crate::{
    disk::{BLOCK, Disk, DiskFile, DiskResult, OpenMode},
    error::StorageError,
    types::TopicIdPartition,
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    rc::Rc,
};
use uuid::Uuid;

/// How much is read at a time.
const WINDOW_BYTES: usize = 1 << 20;

/// Acknowledged commits that do not verify, or are not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The commits that are hit.
    pub commits: RangeInclusive<CommitSeq>,
    /// The file where they should be.
    pub path: PathBuf,
    /// Where in the file the first of them is, or should be.
    pub position: u64,
    /// The partitions that are known to be hit. [`Scan::next`] gives no entries of theirs from here on.
    pub partitions: Vec<TopicIdPartition>,
    /// Whether there can be no others. If not, a gap in a partition's offsets tells, except where its last entry was hit.
    pub is_complete: bool,
}

/// One commit as it was written.
#[derive(Clone, Debug)]
pub struct ScannedCommit {
    /// Its number.
    pub seq: CommitSeq,
    /// The file in which it lies.
    pub file_seq: FileSeq,
    /// Its entries in the order of their appends.
    pub entries: Vec<ScannedEntry>,
    /// All of it: the entries' locations count from its start. A slice of a larger piece of the file, which it keeps in memory.
    pub bytes: Bytes,
}

/// One entry as it was appended.
#[derive(Clone, Debug)]
pub struct ScannedEntry {
    /// What it says.
    pub header: EntryHeader,
    /// Its payload: a slice of a larger piece of the file, which it keeps in memory.
    pub payload: Bytes,
    /// Where it lies in the commit.
    pub location: Location,
}

/// The commits of a journal from the last released one on.
pub struct Scan<D: Disk> {
    readers: Vec<Reader<D>>,
    files: Vec<FoundFile>,
    pending: VecDeque<Place>,
    damage: Vec<Damage>,
    /// Partitions that are hit, each with the commit from which on nothing of it is given out.
    hit: BTreeMap<TopicIdPartition, CommitSeq>,
    journal: Option<(Uuid, u64)>,
    released: CommitSeq,
    last: CommitSeq,
    max_file_seq: FileSeq,
    dropped: usize,
}

/// A file that holds, or held, commits of this journal.
pub(super) struct FoundFile {
    pub seq: FileSeq,
    pub path: PathBuf,
    pub bytes: u64,
    /// The end of its last commit.
    pub end: u64,
    /// The last commit that counts; 0 if there is none.
    pub last: CommitSeq,
    pub is_damaged: bool,
}

/// A commit in a file, whole or not.
#[derive(Clone)]
struct Place {
    file: usize,
    pos: u64,
    header: CommitHeader,
    is_whole: bool,
    /// Of a commit that is not whole: whether all entries could be named, and those that were hit.
    is_listed: bool,
    hit: BTreeSet<TopicIdPartition>,
}

/// Removes what a crash left half-made.
pub(super) async fn remove_unfinished<D: Disk>(disk: &D, dir: &Path) -> DiskResult<()> {
    for entry in disk.list(dir).await? {
        if entry.name.ends_with(NEW_SUFFIX) {
            disk.remove(&dir.join(entry.name)).await?;
        }
    }
    Ok(())
}

impl<D: Disk> Scan<D> {
    /// Reads the journal in `dir` without changing anything: also for the journals of shards that are no more.
    pub async fn open(disk: D, dir: &Path) -> Result<Self, StorageError> {
        let mut scan = Self {
            readers: Vec::new(),
            files: Vec::new(),
            pending: VecDeque::new(),
            damage: Vec::new(),
            hit: BTreeMap::new(),
            journal: None,
            released: CommitSeq::NONE,
            last: CommitSeq::NONE,
            max_file_seq: FileSeq(0),
            dropped: 0,
        };
        let mut headers = Vec::new();
        let mut places = Vec::new();
        for entry in disk.list(dir).await? {
            let Some(number) = entry.name.strip_suffix(FILE_SUFFIX).filter(|_| !entry.is_dir) else {
                continue;
            };
            let named = FileSeq(number.parse().unwrap_or(0));
            scan.max_file_seq = scan.max_file_seq.max(named);
            scan.survey(&disk, dir.join(&entry.name), named, &mut headers, &mut places).await?;
        }
        scan.judge(&headers, places);
        scan.order_files();
        Ok(scan)
    }

    /// The next commit, or nothing after the last one.
    pub async fn next(&mut self) -> Result<Option<ScannedCommit>, StorageError> {
        let Some(place) = self.pending.pop_front() else { return Ok(None) };
        let reader = &mut self.readers[place.file];
        let commit = reader.get(place.pos, place.header.commit_bytes() as usize).await?;
        let (entries, checksum) = format::walk_entries(&commit, &place.header);
        if place.is_whole && !format::is_whole(&place.header, &entries, checksum) {
            return Err(StorageError::Corrupt {
                path: reader.path.clone(),
                position: place.pos,
                what: format!("commit {} was read twice with different outcomes", place.header.seq),
                partitions: Vec::new(),
            });
        }
        let seq = place.header.seq;
        let is_hit = |partition| self.hit.get(partition).is_some_and(|from| *from <= seq);
        let entries = entries
            .iter()
            .filter(|entry| entry.is_intact && !is_hit(&entry.partition))
            .filter_map(|entry| {
                let location =
                    Location { start: entry.payload_start as u32, len: entry.payload_bytes as u32 };
                Some(ScannedEntry {
                    header: entry.header?,
                    payload: commit.slice(location.range()),
                    location,
                })
            })
            .collect();
        let next_file = self.pending.front().map(|next| next.file);
        if next_file != Some(place.file) {
            self.readers[place.file].forget();
        }
        Ok(Some(ScannedCommit { seq, file_seq: place.header.file_seq, entries, bytes: commit }))
    }

    /// Acknowledged commits that are damaged or missing. Empty on a healthy disk, whatever crashed.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Everything up to this commit is in synced segments and is not given out.
    pub fn released(&self) -> CommitSeq {
        self.released
    }

    /// The last commit that counts.
    pub fn last(&self) -> CommitSeq {
        self.last
    }

    /// How many commits were written but not synced before a crash that took one of their predecessors, so that they cannot be used.
    pub fn dropped_commits(&self) -> usize {
        self.dropped
    }

    /// The shard that wrote the journal; nothing if the journal is empty.
    pub fn journal_id(&self) -> Option<Uuid> {
        self.journal.map(|(journal_id, _)| journal_id)
    }

    /// The files, oldest first.
    pub(super) fn files(&self) -> impl Iterator<Item = &FoundFile> {
        self.files.iter()
    }

    pub(super) fn max_file_seq(&self) -> FileSeq {
        self.max_file_seq
    }

    /// Who writes from now on.
    pub(super) fn next_identity(&self, config: &JournalConfig) -> Identity {
        let (journal_id, generation) = self.journal.unwrap_or((config.new_journal_id, 0));
        Identity {
            journal_id,
            shard: config.shard,
            generation: generation + 1,
            generation_first: self.last.next(),
        }
    }

    /// Reads one file through and notes what is in it.
    async fn survey(
        &mut self,
        disk: &D,
        path: PathBuf,
        named: FileSeq,
        headers: &mut Vec<(Identity, CommitSeq)>,
        places: &mut Vec<Place>,
    ) -> Result<(), StorageError> {
        let file = Rc::new(disk.open(&path, OpenMode::READ).await?);
        let bytes = file.len().await?;
        let mut reader = Reader { file, path: path.clone(), start: 0, window: Bytes::new() };
        let newer = |found| StorageError::UnsupportedFormat {
            path: path.clone(),
            found,
            supported: FORMAT_VERSION.into(),
        };
        let file_header = match FileHeader::parse(&reader.get(0, FILE_HEADER_BYTES).await?) {
            Parsed::Valid(header) => Some(header),
            Parsed::Newer(found) => return Err(newer(found)),
            Parsed::Invalid => None,
        };
        let index = self.files.len();
        let mut found = Vec::new();
        let mut pos = FILE_HEADER_BYTES as u64;
        while pos + BLOCK as u64 <= bytes {
            let here = match CommitHeader::parse(&reader.get(pos, COMMIT_HEADER_BYTES).await?) {
                Parsed::Valid(header) => Some(header),
                Parsed::Newer(found) => return Err(newer(found)),
                Parsed::Invalid => None,
            };
            let is_ours = |header: &CommitHeader| {
                pos + header.commit_bytes() <= bytes
                    && file_header.is_none_or(|file| {
                        file.file_seq == header.file_seq
                            && file.identity.journal_id == header.identity.journal_id
                    })
            };
            let Some(header) = here.filter(is_ours) else {
                pos += BLOCK as u64;
                continue;
            };
            let commit = reader.get(pos, header.commit_bytes() as usize).await?;
            let place = inspect(index, pos, header, &commit);
            // Inside a commit that is not whole there may be, for all we know, the start of another one.
            pos += if place.is_whole { header.commit_bytes() } else { BLOCK as u64 };
            found.push(place);
        }
        // Without a file header the newest life counts.
        let seq = file_header
            .map(|header| header.file_seq)
            .or_else(|| found.iter().map(|place| place.header.file_seq).max());
        found.retain(|place| Some(place.header.file_seq) == seq);
        let found_end = found.iter().map(|place| place.pos + place.header.commit_bytes()).max();

        for identity in file_header
            .map(|header| header.identity)
            .into_iter()
            .chain(found.iter().map(|place| place.header.identity))
        {
            self.belongs(&identity, &path)?;
        }
        headers.extend(file_header.map(|header| (header.identity, header.released)));
        let seq = seq.unwrap_or(named);
        self.max_file_seq = self.max_file_seq.max(seq);
        self.files.push(FoundFile {
            seq,
            path: path.clone(),
            bytes,
            end: found_end.unwrap_or(FILE_HEADER_BYTES as u64).min(bytes),
            last: CommitSeq::NONE,
            is_damaged: false,
        });
        reader.forget();
        self.readers.push(reader);
        places.extend(found);
        Ok(())
    }

    /// Notes the journal and its newest generation; a file of another journal has no business here.
    fn belongs(&mut self, identity: &Identity, path: &Path) -> Result<(), StorageError> {
        let (journal_id, generation) = self.journal.unwrap_or((identity.journal_id, 0));
        if journal_id != identity.journal_id {
            return Err(StorageError::Corrupt {
                path: path.to_owned(),
                position: 0,
                what: format!("it belongs to journal {} and not to {journal_id}", identity.journal_id),
                partitions: Vec::new(),
            });
        }
        self.journal = Some((journal_id, generation.max(identity.generation)));
        Ok(())
    }

    /// Decides which commits count; see the module's documentation.
    fn judge(&mut self, file_headers: &[(Identity, CommitSeq)], places: Vec<Place>) {
        let whole = || places.iter().filter(|place| place.is_whole).map(|place| &place.header);
        let mut generations = BTreeMap::new();
        for identity in
            file_headers.iter().map(|(identity, _)| *identity).chain(whole().map(|header| header.identity))
        {
            generations.insert(identity.generation, identity.generation_first);
        }
        let is_void = |header: &CommitHeader| {
            generations.range(header.identity.generation + 1..).any(|(_, first)| *first <= header.seq)
        };
        let released = file_headers.iter().map(|(_, released)| *released);
        self.released =
            released.chain(whole().map(|header| header.released)).max().unwrap_or(CommitSeq::NONE);

        let (mut live, mut broken): (Vec<_>, Vec<_>) =
            places.into_iter().filter(|place| !is_void(&place.header)).partition(|place| place.is_whole);
        let in_files: Vec<_> = live.iter().map(|place| (place.file, place.header.seq)).collect();
        live.retain(|place| place.header.seq > self.released);
        live.sort_by_key(|place| (place.header.seq, place.header.identity.generation));
        broken.sort_by_key(|place| place.header.seq);

        let mut synced_later = vec![CommitSeq::NONE; live.len() + 1];
        for (i, place) in live.iter().enumerate().rev() {
            synced_later[i] = synced_later[i + 1].max(place.header.synced);
        }
        self.last = self.released;
        let total = live.len();
        for (i, place) in live.into_iter().enumerate() {
            let expected = self.last.next();
            if place.header.seq > expected {
                if synced_later[i] < expected {
                    self.dropped = total - i;
                    break;
                }
                let missing = expected..=CommitSeq(place.header.seq.0 - 1);
                self.note_damage(missing, &place, &broken);
            }
            self.last = place.header.seq;
            self.pending.push_back(place);
        }
        for (file, seq) in in_files.into_iter().filter(|(_, seq)| *seq <= self.last) {
            let last = &mut self.files[file].last;
            *last = (*last).max(seq);
        }
    }

    /// The commits `missing` were synced before `next` was written, and are not whole.
    fn note_damage(&mut self, missing: RangeInclusive<CommitSeq>, next: &Place, broken: &[Place]) {
        let previous = self.pending.back().map(|place| (place.file, place.pos + place.header.commit_bytes()));
        let remains: Vec<_> =
            broken.iter().filter(|place| missing.contains(&place.header.seq)).cloned().collect();
        let (file, position) = match (remains.first(), previous) {
            (Some(place), _) => (place.file, place.pos),
            (None, Some(end_of_previous)) => end_of_previous,
            (None, None) => (next.file, FILE_HEADER_BYTES as u64),
        };
        for file in remains.iter().map(|place| place.file).chain([file, next.file]) {
            self.files[file].is_damaged = true;
        }
        let listed: BTreeSet<_> =
            remains.iter().filter(|place| place.is_listed).map(|place| place.header.seq).collect();
        let partitions: BTreeSet<_> = remains.iter().flat_map(|place| place.hit.iter().copied()).collect();
        for partition in &partitions {
            self.hit.entry(*partition).or_insert(*missing.start());
        }
        self.damage.push(Damage {
            path: self.files[file].path.clone(),
            position,
            partitions: partitions.into_iter().collect(),
            is_complete: listed.len() as u64 == missing.end().0 - missing.start().0 + 1,
            commits: missing,
        });
        // What is left of them is as good as ever for the partitions that were not hit.
        self.pending.extend(remains);
    }

    /// Oldest life first, readers with their files.
    fn order_files(&mut self) {
        let mut order: Vec<usize> = (0..self.files.len()).collect();
        order.sort_by_key(|i| self.files[*i].seq);
        let new_index: BTreeMap<usize, usize> =
            order.iter().enumerate().map(|(new, old)| (*old, new)).collect();
        for place in &mut self.pending {
            place.file = new_index[&place.file];
        }
        let mut both: Vec<_> = std::mem::take(&mut self.files)
            .into_iter()
            .zip(std::mem::take(&mut self.readers))
            .enumerate()
            .map(|(old, pair)| (new_index[&old], pair))
            .collect();
        both.sort_by_key(|(new, _)| *new);
        (self.files, self.readers) = both.into_iter().map(|(_, pair)| pair).unzip();
    }
}

/// Checks one commit whose header is sound.
fn inspect(file: usize, pos: u64, header: CommitHeader, commit: &[u8]) -> Place {
    let (entries, checksum) = format::walk_entries(commit, &header);
    let is_whole = format::is_whole(&header, &entries, checksum);
    let listed_bytes: usize =
        entries.iter().map(|entry| format::ENTRY_HEADER_BYTES + entry.payload_bytes).sum();
    let is_listed =
        listed_bytes == header.entries_bytes as usize && entries.len() == header.entry_count as usize;
    let is_hit = |entry: &&format::EntryView| !entry.is_intact || entry.header.is_none();
    let hit = entries.iter().filter(is_hit).map(|entry| entry.partition).collect();
    Place { file, pos, header, is_whole, is_listed, hit }
}

/// Reads a file in large pieces.
struct Reader<D: Disk> {
    file: Rc<D::File>,
    path: PathBuf,
    start: u64,
    window: Bytes,
}

impl<D: Disk> Reader<D> {
    /// `len` bytes at `pos`; fewer only at the end of the file.
    async fn get(&mut self, pos: u64, len: usize) -> DiskResult<Bytes> {
        let end = self.start + self.window.len() as u64;
        if pos < self.start || pos + len as u64 > end {
            self.window = self.file.read_at(pos, len.max(WINDOW_BYTES)).await?;
            self.start = pos;
        }
        let from = (pos - self.start) as usize;
        let to = (from + len).min(self.window.len());
        Ok(self.window.slice(from..to))
    }

    /// Gives the memory back; later reads are still possible.
    fn forget(&mut self) {
        self.window = Bytes::new();
    }
}
