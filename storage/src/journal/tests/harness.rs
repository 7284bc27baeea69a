//! A workload on a journal, and what must be true of the journal when it is opened again, whatever happened in between.

pub use crate::wake::yield_now;
use crate::{
    DiskError, JournalError, LeaderEpoch, Offset, PartitionId, StorageError, TopicIdPartition,
    disk::{Disk, sim::SimDisk},
    journal::{
        Appended, Commit, CommitSeq, Durability, EntryHeader, EntryKind, Journal, JournalConfig,
        JournalEvent, Scan,
    },
};
use futures::{executor::LocalPool, task::LocalSpawnExt};
use protocol::records::CRC_START;
use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    rc::Rc,
};
use uuid::Uuid;

pub const DIR: &str = "/data/journal/0";

pub fn dir() -> &'static Path {
    Path::new(DIR)
}

pub fn config() -> JournalConfig {
    JournalConfig {
        file_bytes: 64 << 10,
        initial_files: 2,
        max_files: 4,
        max_commit_bytes: 16 << 10,
        ..JournalConfig::new(Uuid::from_u128(0xfeed), 0)
    }
}

pub fn partition(i: u64) -> TopicIdPartition {
    TopicIdPartition::new(Uuid::from_u128(u128::from(i / 2 + 1)), PartitionId((i % 2) as i32))
}

pub fn batch_of(partition: TopicIdPartition, base_offset: i64) -> EntryHeader {
    EntryHeader {
        kind: EntryKind::Batch,
        partition,
        base_offset: Offset(base_offset),
        last_offset: Offset(base_offset),
        leader_epoch: LeaderEpoch(3),
    }
}

/// An entry as the model knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    pub commit: CommitSeq,
    pub header: EntryHeader,
    pub payload: Vec<u8>,
}

/// What was done to a journal over all its lives.
#[derive(Default)]
pub struct Model {
    /// Everything appended, in order.
    pub appended: Vec<Known>,
    /// All commits up to here have to survive.
    pub guaranteed: CommitSeq,
    /// All commits up to here need not be in the journal any more.
    pub released: CommitSeq,
    pub done: Vec<CommitSeq>,
    pub failed: Option<DiskError>,
    pub last_commit: Option<Commit>,
}

pub type SharedModel = Rc<RefCell<Model>>;

impl Model {
    fn event(&mut self, event: JournalEvent) {
        match event {
            JournalEvent::Started(commit) => self.last_commit = Some(commit),
            JournalEvent::Done(commit) => {
                assert_eq!(Some(commit.seq), self.last_commit.as_ref().map(|started| started.seq));
                if commit.durability == Durability::Sync {
                    self.guaranteed = commit.seq;
                }
                self.done.push(commit.seq);
            }
            JournalEvent::FileReady => {}
            JournalEvent::Failed(error) => {
                assert!(self.failed.is_none(), "a journal fails once");
                self.failed = Some(error);
            }
        }
    }

    /// Compares what a scan gave with what is known; afterwards the model knows what is left.
    pub fn check(&mut self, scanned: &[Known], scan: &Scan<SimDisk>) -> Result<(), String> {
        if !scan.damage().is_empty() {
            return Err(format!("a crash is taken for damage: {:?}", scan.damage()));
        }
        if scan.released() > self.released {
            return Err(format!("released up to {}, asked for {}", scan.released(), self.released));
        }
        if scan.last() < self.guaranteed {
            return Err(format!("ends at {}, acknowledged was {}", scan.last(), self.guaranteed));
        }
        self.appended.retain(|known| known.commit <= scan.last());
        let expected: Vec<_> =
            self.appended.iter().filter(|known| known.commit > scan.released()).cloned().collect();
        if scanned != expected {
            let differs = scanned.iter().zip(&expected).position(|(a, b)| a != b);
            return Err(format!(
                "{} entries, expected {} (released {}, last {}), first difference at {differs:?}",
                scanned.len(),
                expected.len(),
                scan.released(),
                scan.last()
            ));
        }
        // What was read has been synced by opening.
        self.guaranteed = scan.last();
        Ok(())
    }
}

pub async fn read_all<D: Disk>(scan: &mut Scan<D>) -> Result<Vec<Known>, StorageError> {
    let mut all = Vec::new();
    let mut previous = CommitSeq::NONE;
    while let Some(commit) = scan.next().await? {
        assert!(commit.seq > previous, "commits in order");
        previous = commit.seq;
        for entry in commit.entries {
            all.push(Known { commit: commit.seq, header: entry.header, payload: entry.payload.to_vec() });
        }
    }
    Ok(all)
}

/// Runs `work` beside the journal's own loops.
pub fn with_journal<R: 'static, F: Future<Output = R> + 'static>(
    disk: &SimDisk,
    config: JournalConfig,
    model: &SharedModel,
    work: impl FnOnce(Journal<SimDisk>, Vec<Known>) -> F + 'static,
) -> Result<R, String> {
    let mut pool = LocalPool::new();
    let spawner = pool.spawner();
    let (disk, model) = (disk.clone(), model.clone());
    pool.run_until(async move {
        let (journal, mut scan) =
            Journal::open(disk, dir(), config).await.map_err(|error| error.to_string())?;
        let scanned = read_all(&mut scan).await.map_err(|error| error.to_string())?;
        model.borrow_mut().check(&scanned, &scan)?;
        let observed = model.clone();
        journal.set_observer(move |event| observed.borrow_mut().event(event));
        let running = journal.clone();
        spawner
            .spawn_local(async move {
                let _ = running.run().await;
            })
            .expect("the pool lives");
        Ok(work(journal, scanned).await)
    })
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Appends one entry, writing its base offset through `patch` as the broker does (and the checksum that a batch has), and tells the model.
pub fn append(
    journal: &Journal<SimDisk>,
    model: &SharedModel,
    header: EntryHeader,
    durability: Durability,
    payload: &[u8],
) -> Result<Appended, JournalError> {
    let (front, back) = payload.split_at(payload.len() / 3);
    let offset = header.base_offset.0.to_be_bytes();
    let stamp = |copy: &mut [u8]| {
        let len = copy.len().min(8);
        copy[..len].copy_from_slice(&offset[..len]);
        if let Some((front, covered)) = copy.split_at_mut_checked(CRC_START) {
            front[CRC_START - 4..].copy_from_slice(&crc32c::crc32c(covered).to_be_bytes());
        }
    };
    let appended = journal.append(&header, durability, &[front, back], stamp)?;
    let mut payload = payload.to_vec();
    stamp(&mut payload);
    model.borrow_mut().appended.push(Known { commit: appended.commit, header, payload });
    Ok(appended)
}

/// As [`append`], but plays the flusher when the ring is full.
pub async fn append_or_flush(
    journal: &Journal<SimDisk>,
    model: &SharedModel,
    header: EntryHeader,
    durability: Durability,
    payload: &[u8],
) -> Result<Appended, JournalError> {
    loop {
        match append(journal, model, header, durability, payload) {
            Err(JournalError::Full) => {
                release(journal, model, journal.durable_end());
                yield_now().await;
            }
            outcome => return outcome,
        }
    }
}

pub fn release(journal: &Journal<SimDisk>, model: &SharedModel, up_to: CommitSeq) {
    let mut model = model.borrow_mut();
    model.released = model.released.max(up_to);
    journal.release(up_to);
}

/// What a workload does.
#[derive(Clone, Copy)]
pub struct Load {
    pub seed: u64,
    pub rounds: u64,
    pub largest: u64,
    /// Of ten appends, how many ask for a write only.
    pub written_of_ten: u64,
    pub shuts_down: bool,
}

/// Appends, waits, releases and syncs as the dice fall, until the end or a failure.
pub async fn run_load(journal: Journal<SimDisk>, model: SharedModel, load: Load) -> Result<(), JournalError> {
    let mut random = Random(load.seed);
    let mut offset = 1000 * load.seed as i64 % 1_000_000;
    for _ in 0..load.rounds {
        let mut last = CommitSeq::NONE;
        for _ in 0..1 + random.below(3) {
            let len = random.below(load.largest) as usize;
            let payload: Vec<u8> = (0..len).map(|i| (i as u64 ^ random.0) as u8).collect();
            let durability =
                if random.below(10) < load.written_of_ten { Durability::Write } else { Durability::Sync };
            let header = batch_of(partition(random.below(6)), offset);
            offset += 1;
            last = append_or_flush(&journal, &model, header, durability, &payload).await?.commit;
        }
        match random.below(8) {
            0..=3 => journal.durable(last).await?,
            4 => {
                let (target, end) = (journal.durable_end(), random.below(4));
                release(&journal, &model, CommitSeq(target.0.saturating_sub(end)).max(CommitSeq::NONE));
            }
            5 => {
                let target = journal.durable_end();
                journal.sync_now().await?;
                let mut model = model.borrow_mut();
                model.guaranteed = model.guaranteed.max(target);
            }
            _ => yield_now().await,
        }
    }
    journal.durable(journal.last_appended()).await?;
    if load.shuts_down {
        journal.shutdown().await?;
        let mut model = model.borrow_mut();
        model.guaranteed = journal.last_appended();
    }
    Ok(())
}

/// One life of a journal under load. The outer error is a broken promise, the inner one is the end of the journal.
pub fn live(disk: &SimDisk, model: &SharedModel, load: Load) -> Result<Result<(), JournalError>, String> {
    let shared = model.clone();
    with_journal(disk, config(), model, move |journal, _| run_load(journal, shared, load))
}

/// The only check, without a life after it.
pub fn verify(disk: &SimDisk, model: &SharedModel) -> Result<Vec<Known>, String> {
    LocalPool::new().run_until(async {
        let mut scan = Scan::open(disk.clone(), dir()).await.map_err(|error| error.to_string())?;
        let scanned = read_all(&mut scan).await.map_err(|error| error.to_string())?;
        model.borrow_mut().check(&scanned, &scan)?;
        Ok(scanned)
    })
}

pub fn journal_files(disk: &SimDisk) -> Vec<PathBuf> {
    disk.files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "journal"))
        .collect()
}
