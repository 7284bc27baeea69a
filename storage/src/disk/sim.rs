//! A disk in memory for tests: deterministic, driven by a seed, and as unkind as a real one may be.
//!
//! - [`SimDisk::crash`] gives the disk as it would be found after a power failure: of the writes that were not synced any subset of
//!   512-byte sectors survives, of the names that were not synced any prefix of the changes (file systems journal metadata in order);
//! - [`SimDisk::crash_at`] stops the disk at the n-th mutating operation, so that a test can try every one of them;
//! - operations can be made to fail, syncs to lie, stored bits to flip, space to run out;
//! - every operation takes a seeded number of polls, so that tasks interleave differently with every seed, or as long as [`SimDisk::set_pace`] says.
//!
//! It needs no executor: `futures::executor::LocalPool` will do.

use super::{
    BLOCK, BufferPool, DirEntry, Disk, DiskFile, DiskResult, FrozenBuf, IoBuf, NameStep, OpenMode, Surveyed,
    block_align,
};
use crate::error::{DiskError, DiskOperation};
use bytes::Bytes;
use futures::future::LocalBoxFuture;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    io,
    path::{Path, PathBuf},
    rc::Rc,
    task::Poll,
};

/// The unit in which an unsynced write survives or is lost.
const SECTOR: usize = 512;

/// What part of the unsynced data survives a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Nothing that was not synced.
    Nothing,
    /// Everything that was written, synced or not.
    Everything,
    /// Each sector by the toss of a seeded coin.
    AnySubset,
}

/// The kinds of operation that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimOp {
    /// [`DiskFile::write_at`].
    Write,
    /// [`DiskFile::sync_data`].
    Sync,
    /// [`DiskFile::read_at`].
    Read,
    /// Everything that changes names or lengths, and [`Disk::sync_dir`].
    Meta,
}

/// The simulated disk. Cheap to clone; all clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Rc<RefCell<State>>,
    pool: BufferPool,
}

type InodeId = u64;

struct State {
    seed: u64,
    inodes: BTreeMap<InodeId, Inode>,
    names: BTreeMap<PathBuf, InodeId>,
    durable_names: BTreeMap<PathBuf, InodeId>,
    unsynced_names: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    next_inode: InodeId,
    next_change: u64,
    operations: u64,
    crash_at: Option<u64>,
    stopped: bool,
    /// Kinds of operations, how many more of each succeed, and the error number of the others.
    failing: Vec<(SimOp, u64, i32)>,
    lying_sync: bool,
    is_full: bool,
    /// Files with this extension cannot be written either.
    copied_on_write: Option<&'static str>,
    free_space: u64,
    pace: Option<Pace>,
}

/// How long an operation takes: it goes on when the future is done.
type Pace = Rc<dyn Fn(SimOp) -> LocalBoxFuture<'static, ()>>;

/// Directories are durable at once; only names of files are put at risk.
enum NameChange {
    Link(PathBuf, InodeId),
    Unlink(PathBuf),
    Rename { from: PathBuf, to: PathBuf },
}

#[derive(Default)]
struct Inode {
    /// What a crash cannot take.
    durable: Vec<u8>,
    /// What a reader sees: `durable` with `unsynced` applied.
    current: Vec<u8>,
    /// Oldest first; an entry leaves when it and all before it are durable.
    unsynced: Vec<Pending>,
}

struct Pending {
    id: u64,
    change: Change,
    /// The write has returned, so a sync that starts now covers it.
    returned: bool,
    /// Written through (O_DSYNC) or synced, but something older is not.
    durable: bool,
}

impl Inode {
    fn mark_durable(&mut self, is_covered: impl Fn(&Pending) -> bool) {
        for pending in &mut self.unsynced {
            pending.durable |= is_covered(pending);
        }
        let settled = self.unsynced.iter().take_while(|pending| pending.durable).count();
        for pending in self.unsynced.drain(..settled) {
            pending.change.apply(&mut self.durable, || true);
        }
    }
}

enum Change {
    Write { pos: u64, data: Vec<u8> },
    SetLen(u64),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>, mut survives: impl FnMut() -> bool) {
        match self {
            Change::Write { pos, data } => {
                for (i, sector) in data.chunks(SECTOR).enumerate() {
                    if survives() {
                        let at = *pos as usize + i * SECTOR;
                        if content.len() < at + sector.len() {
                            content.resize(at + sector.len(), 0);
                        }
                        content[at..at + sector.len()].copy_from_slice(sector);
                    }
                }
            }
            Change::SetLen(len) => {
                if survives() {
                    content.resize(*len as usize, 0);
                }
            }
        }
    }
}

impl State {
    /// SplitMix64: enough randomness for tests, and no dependency.
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn mutating(&mut self) -> io::Result<()> {
        self.alive()?;
        self.operations += 1;
        if self.crash_at == Some(self.operations) {
            self.stopped = true;
        }
        Ok(())
    }

    fn alive(&self) -> io::Result<()> {
        if self.stopped { Err(io::Error::other("the simulated machine has stopped")) } else { Ok(()) }
    }

    fn injected(&mut self, op: SimOp) -> io::Result<()> {
        if let Some(i) = self.failing.iter().position(|(failing, ..)| *failing == op) {
            if self.failing[i].1 == 0 {
                return Err(io::Error::from_raw_os_error(self.failing[i].2));
            }
            self.failing[i].1 -= 1;
        }
        Ok(())
    }

    fn inode(&mut self, id: InodeId) -> &mut Inode {
        self.inodes.get_mut(&id).expect("open files keep their inode")
    }

    /// Makes a change visible to readers, not yet durable; answers with its id.
    fn change(&mut self, id: InodeId, change: Change, returned: bool) -> u64 {
        self.next_change += 1;
        let change_id = self.next_change;
        let inode = self.inode(id);
        change.apply(&mut inode.current, || true);
        inode.unsynced.push(Pending { id: change_id, change, returned, durable: false });
        change_id
    }

    fn lookup(&self, path: &Path) -> io::Result<InodeId> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn apply_name(names: &mut BTreeMap<PathBuf, InodeId>, change: &NameChange) {
        match change {
            NameChange::Link(path, id) => {
                names.insert(path.clone(), *id);
            }
            NameChange::Unlink(path) => {
                names.remove(path);
            }
            NameChange::Rename { from, to } => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
        }
    }

    fn change_name(&mut self, change: NameChange) {
        Self::apply_name(&mut self.names, &change);
        self.unsynced_names.push(change);
    }
}

impl SimDisk {
    /// An empty disk whose chances are drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        Self::with_state(State {
            seed,
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            dirs: BTreeSet::from([PathBuf::from("/")]),
            next_inode: 1,
            next_change: 0,
            operations: 0,
            crash_at: None,
            stopped: false,
            failing: Vec::new(),
            lying_sync: false,
            is_full: false,
            copied_on_write: None,
            free_space: 1 << 40,
            pace: None,
        })
    }

    fn with_state(state: State) -> Self {
        Self { state: Rc::new(RefCell::new(state)), pool: BufferPool::new(16 << 20) }
    }

    /// How many mutating operations (writes, syncs, changes of names and lengths) the disk has seen.
    pub fn operations(&self) -> u64 {
        self.state.borrow().operations
    }

    /// Stops the disk when the `operation`-th mutating operation (counted from 1) begins: it happens in part or not at all, and it
    /// and everything after it fails.
    pub fn crash_at(&self, operation: u64) {
        self.state.borrow_mut().crash_at = Some(operation);
    }

    /// Whether the point of [`SimDisk::crash_at`] was reached.
    pub fn has_stopped(&self) -> bool {
        self.state.borrow().stopped
    }

    /// The disk after a power failure at this moment. Handles of the old disk fail from now on.
    pub fn crash(&self, survival: Survival, seed: u64) -> SimDisk {
        let old = &mut *self.state.borrow_mut();
        old.stopped = true;
        let mut chance = State { seed, ..Self::new(seed).take_state() };
        let survives = |coin: u64| match survival {
            Survival::Nothing => false,
            Survival::Everything => true,
            Survival::AnySubset => coin & 1 == 1,
        };
        let mut names = old.durable_names.clone();
        let kept = match survival {
            Survival::Nothing => 0,
            Survival::Everything => old.unsynced_names.len(),
            Survival::AnySubset => (chance.random() % (old.unsynced_names.len() as u64 + 1)) as usize,
        };
        for change in &old.unsynced_names[..kept] {
            State::apply_name(&mut names, change);
        }
        let mut inodes = BTreeMap::new();
        for id in names.values() {
            let inode = &old.inodes[id];
            let mut content = inode.durable.clone();
            for pending in &inode.unsynced {
                pending.change.apply(&mut content, || pending.durable || survives(chance.random() >> 32));
            }
            inodes.insert(*id, Inode { durable: content.clone(), current: content, unsynced: Vec::new() });
        }
        Self::with_state(State {
            seed: chance.random(),
            inodes,
            durable_names: names.clone(),
            names,
            dirs: old.dirs.clone(),
            next_inode: old.next_inode,
            free_space: old.free_space,
            ..Self::new(seed).take_state()
        })
    }

    fn take_state(self) -> State {
        Rc::into_inner(self.state).expect("a disk that nobody else knows").into_inner()
    }

    /// After `successes` more operations of this kind, all of them fail with EIO.
    pub fn fail_after(&self, op: SimOp, successes: u64) {
        self.state.borrow_mut().failing.push((op, successes, libc::EIO));
    }

    /// The same with ENOSPC, as on a file system that finds its blocks late.
    pub fn fill_up_after(&self, op: SimOp, successes: u64) {
        self.state.borrow_mut().failing.push((op, successes, libc::ENOSPC));
    }

    /// From now on syncs (and O_DSYNC writes) return success and make nothing durable: for tests of the tests.
    pub fn lie_about_syncs(&self) {
        self.state.borrow_mut().lying_sync = true;
    }

    /// From now on no file can grow by [`DiskFile::preallocate`] or [`DiskFile::truncate`] (ENOSPC).
    pub fn fill_up(&self) {
        self.state.borrow_mut().is_full = true;
    }

    /// The same, and writes to files with this extension fail, too, wherever they go: as on a file system that copies on write.
    pub fn fill_up_for_writes(&self, extension: &'static str) {
        self.fill_up();
        self.state.borrow_mut().copied_on_write = Some(extension);
    }

    /// Files can grow and be written again.
    pub fn make_room(&self) {
        let mut state = self.state.borrow_mut();
        (state.is_full, state.copied_on_write) = (false, None);
    }

    /// From now on every operation waits for the future that `pace` gives for its kind: for who has a clock. A crash forgets it.
    pub fn set_pace(&self, pace: impl Fn(SimOp) -> LocalBoxFuture<'static, ()> + 'static) {
        self.state.borrow_mut().pace = Some(Rc::new(pace));
    }

    /// Sets what [`Disk::free_space`] reports.
    pub fn set_free_space(&self, bytes: u64) {
        self.state.borrow_mut().free_space = bytes;
    }

    /// Flips bits of the byte at `pos` of a file, also in what is durable.
    pub fn corrupt(&self, path: &Path, pos: u64, xor: u8) {
        let state = &mut *self.state.borrow_mut();
        let id = state.lookup(path).expect("a file to corrupt");
        let inode = state.inode(id);
        for content in [&mut inode.durable, &mut inode.current] {
            if let Some(byte) = content.get_mut(pos as usize) {
                *byte ^= xor;
            }
        }
    }

    /// A copy of a file's content as a reader sees it.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state.borrow();
        let id = state.lookup(path).ok()?;
        Some(state.inodes[&id].current.clone())
    }

    /// All file names.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state.borrow().names.keys().cloned().collect()
    }

    /// Lets other tasks run, a seeded number of times, or for as long as the pace says.
    async fn delay(&self, op: SimOp) {
        let pace = self.state.borrow().pace.clone();
        if let Some(pace) = pace {
            return pace(op).await;
        }
        let mut polls = self.state.borrow_mut().random() % 3;
        poll_fn(|cx| {
            if polls == 0 {
                return Poll::Ready(());
            }
            polls -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// One operation on names: counted, delayed, and then carried out at once.
    async fn meta<R>(
        &self,
        op: impl Into<DiskOperation>,
        path: &Path,
        work: impl FnOnce(&mut State) -> io::Result<R>,
    ) -> DiskResult<R> {
        self.delay(SimOp::Meta).await;
        let state = &mut *self.state.borrow_mut();
        let counted =
            state.mutating().and_then(|()| state.injected(SimOp::Meta)).and_then(|()| state.alive());
        counted.and_then(|()| work(state)).map_err(|source| DiskError::new(op, path, source))
    }
}

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.borrow();
        f.debug_struct("SimDisk")
            .field("operations", &state.operations)
            .field("stopped", &state.stopped)
            .finish()
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn alloc(&self, len: usize) -> IoBuf {
        self.pool.alloc(len)
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> DiskResult<SimFile> {
        self.delay(SimOp::Meta).await;
        let state = &mut *self.state.borrow_mut();
        let id = (|| {
            state.alive()?;
            match state.lookup(path) {
                Ok(_) if mode.create && mode.exclusive => Err(io::ErrorKind::AlreadyExists.into()),
                Ok(id) => Ok(id),
                Err(_) if mode.create => {
                    if !path.parent().is_some_and(|parent| state.dirs.contains(parent)) {
                        return Err(io::Error::from(io::ErrorKind::NotFound));
                    }
                    state.mutating()?;
                    state.injected(SimOp::Meta)?;
                    state.alive()?;
                    let id = state.next_inode;
                    state.next_inode += 1;
                    state.inodes.insert(id, Inode::default());
                    state.change_name(NameChange::Link(path.to_owned(), id));
                    Ok(id)
                }
                Err(error) => Err(error),
            }
        })()
        .map_err(|source| DiskError::new("open", path, source))?;
        Ok(SimFile { disk: self.clone(), id, path: path.into(), mode })
    }

    async fn list(&self, dir: &Path) -> DiskResult<Vec<DirEntry>> {
        self.delay(SimOp::Meta).await;
        let state = self.state.borrow();
        let known = if state.dirs.contains(dir) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) };
        state.alive().and(known).map_err(|source| DiskError::new("list", dir, source))?;
        let is_child = |path: &&PathBuf| path.parent() == Some(dir);
        let name =
            |path: &PathBuf| path.file_name().expect("children have names").to_string_lossy().into_owned();
        let files =
            state.names.keys().filter(is_child).map(|path| DirEntry { name: name(path), is_dir: false });
        let dirs = state.dirs.iter().filter(is_child).map(|path| DirEntry { name: name(path), is_dir: true });
        let mut entries: Vec<_> = files.chain(dirs).collect();
        entries.sort();
        Ok(entries)
    }

    async fn survey(&self, dirs: Vec<PathBuf>, file: &'static str) -> DiskResult<Vec<Surveyed>> {
        let mut all = Vec::with_capacity(dirs.len());
        for dir in dirs {
            let mut surveyed = Surveyed::default();
            for entry in self.list(&dir).await?.into_iter().filter(|entry| !entry.is_dir) {
                let opened = self.open(&dir.join(&entry.name), OpenMode::READ).await?;
                if entry.name == file {
                    surveyed.content = Some(opened.read_at(0, BLOCK).await?.to_vec());
                }
                surveyed.files.push((entry.name, opened.len().await?));
            }
            all.push(surveyed);
        }
        Ok(all)
    }

    async fn create_dir_all(&self, dir: &Path) -> DiskResult<()> {
        self.meta("create directory", dir, |state| {
            state.dirs.extend(dir.ancestors().map(Path::to_owned));
            Ok(())
        })
        .await
    }

    async fn carry_out(&self, steps: Vec<NameStep>) -> DiskResult<()> {
        for step in steps {
            match step {
                NameStep::CreateDir(dir) => {
                    self.meta("create directory", &dir, |state| {
                        if !dir.parent().is_some_and(|parent| state.dirs.contains(parent)) {
                            return Err(io::ErrorKind::NotFound.into());
                        }
                        state.dirs.insert(dir.clone());
                        Ok(())
                    })
                    .await?;
                }
                NameStep::WriteFile(path, content) => {
                    let file = self.open(&path, OpenMode::CREATE).await?;
                    file.truncate(0).await?;
                    if !content.is_empty() {
                        let mut buffer = self.alloc(content.len());
                        buffer[..content.len()].copy_from_slice(&content);
                        file.write_at(0, &buffer.freeze(), block_align(content.len())).await?;
                    }
                    file.truncate(content.len() as u64).await?;
                }
                NameStep::Rename { from, to } => self.rename(&from, &to).await?,
            }
        }
        Ok(())
    }

    async fn rename(&self, from: &Path, to: &Path) -> DiskResult<()> {
        self.meta("rename", from, |state| {
            if state.dirs.contains(from) {
                return rename_dir(state, from, to);
            }
            state.lookup(from)?;
            state.change_name(NameChange::Rename { from: from.to_owned(), to: to.to_owned() });
            Ok(())
        })
        .await
    }

    async fn remove(&self, path: &Path) -> DiskResult<()> {
        self.meta("remove", path, |state| {
            state.lookup(path)?;
            state.change_name(NameChange::Unlink(path.to_owned()));
            Ok(())
        })
        .await
    }

    async fn give_back(&self, path: &Path) -> DiskResult<()> {
        let is_dir = self.state.borrow().dirs.contains(path);
        if !is_dir {
            return self.remove(path).await;
        }
        for entry in self.list(path).await? {
            self.remove(&path.join(entry.name)).await?;
        }
        self.remove_dir(path).await
    }

    async fn remove_dir(&self, dir: &Path) -> DiskResult<()> {
        self.meta("remove directory", dir, |state| {
            if !state.dirs.contains(dir) {
                return Err(io::ErrorKind::NotFound.into());
            }
            let inside = |path: &PathBuf| path.parent() == Some(dir);
            if state.names.keys().any(inside) || state.dirs.iter().any(inside) {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            state.dirs.remove(dir);
            state.durable_names.retain(|path, _| !path.starts_with(dir));
            Ok(())
        })
        .await
    }

    async fn sync_dir(&self, dir: &Path) -> DiskResult<()> {
        self.meta(DiskOperation::Sync("sync directory"), dir, |state| {
            if !state.lying_sync {
                // The file system's journal is one: a commit takes all earlier changes of names along.
                for change in std::mem::take(&mut state.unsynced_names) {
                    State::apply_name(&mut state.durable_names, &change);
                }
            }
            Ok(())
        })
        .await
    }

    async fn can_sync_all(&self, _: &Path) -> DiskResult<bool> {
        Ok(true)
    }

    async fn sync_all(&self, dir: &Path) -> DiskResult<()> {
        let op = DiskOperation::Sync("sync the file system of");
        let fail = |source| DiskError::new(op, dir, source);
        let (covered, names) = {
            let state = &mut *self.state.borrow_mut();
            let counted =
                state.mutating().and_then(|()| state.injected(SimOp::Sync)).and_then(|()| state.alive());
            counted.map_err(fail)?;
            let pending = state.inodes.values().flat_map(|inode| &inode.unsynced);
            let covered: BTreeSet<_> = pending.filter(|p| p.returned).map(|p| p.id).collect();
            (covered, state.unsynced_names.len())
        };
        self.delay(SimOp::Sync).await;
        let state = &mut *self.state.borrow_mut();
        state.alive().map_err(fail)?;
        if !state.lying_sync {
            // A sync of a directory meanwhile has taken names along.
            let names = names.min(state.unsynced_names.len());
            for change in state.unsynced_names.drain(..names).collect::<Vec<_>>() {
                State::apply_name(&mut state.durable_names, &change);
            }
            for inode in state.inodes.values_mut() {
                inode.mark_durable(|pending| covered.contains(&pending.id));
            }
        }
        Ok(())
    }

    async fn free_space(&self, path: &Path) -> DiskResult<u64> {
        self.delay(SimOp::Meta).await;
        let state = self.state.borrow();
        state.alive().map_err(|source| DiskError::new("stat the file system of", path, source))?;
        Ok(state.free_space)
    }
}

/// Renames a directory with all that is in it; durable at once, as all of the simulation's directories are.
fn rename_dir(state: &mut State, from: &Path, to: &Path) -> io::Result<()> {
    let moved = |path: &Path| match path.strip_prefix(from) {
        Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
        Ok(rest) => to.join(rest),
        Err(_) => path.to_owned(),
    };
    state.dirs = state.dirs.iter().map(|path| moved(path)).collect();
    state.names = std::mem::take(&mut state.names).into_iter().map(|(path, id)| (moved(&path), id)).collect();
    state.durable_names =
        std::mem::take(&mut state.durable_names).into_iter().map(|(path, id)| (moved(&path), id)).collect();
    for change in &mut state.unsynced_names {
        match change {
            NameChange::Link(path, _) | NameChange::Unlink(path) => *path = moved(path),
            NameChange::Rename { from, to } => (*from, *to) = (moved(from), moved(to)),
        }
    }
    Ok(())
}

/// An open file of [`SimDisk`]. Stays usable after its name is removed, as on a real disk.
#[derive(Clone, Debug)]
pub struct SimFile {
    disk: SimDisk,
    id: InodeId,
    path: Rc<Path>,
    mode: OpenMode,
}

impl SimFile {
    fn fail(&self, op: impl Into<DiskOperation>) -> impl FnOnce(io::Error) -> DiskError + '_ {
        let op = op.into();
        move |source| DiskError::new(op, &self.path, source)
    }

    fn writable(&self) -> io::Result<()> {
        if self.mode.write { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EBADF)) }
    }
}

impl DiskFile for SimFile {
    async fn write_at(&self, pos: u64, buf: &FrozenBuf, len: usize) -> DiskResult<()> {
        assert!(
            pos.is_multiple_of(BLOCK as u64) && len.is_multiple_of(BLOCK),
            "unaligned write of {len} at {pos}"
        );
        let change_id = {
            let state = &mut *self.disk.state.borrow_mut();
            let change = Change::Write { pos, data: buf.slice(..len).to_vec() };
            self.writable().and_then(|()| state.mutating()).map_err(self.fail("write"))?;
            state.injected(SimOp::Write).map_err(self.fail("write"))?;
            if state.copied_on_write.is_some_and(|e| self.path.extension().is_some_and(|own| own == e)) {
                return Err(self.fail("write")(io::ErrorKind::StorageFull.into()));
            }
            // The data may reach the disk from here on, also if the machine stops in this operation.
            state.change(self.id, change, false)
        };
        self.disk.delay(SimOp::Write).await;
        let state = &mut *self.disk.state.borrow_mut();
        state.alive().map_err(self.fail("write"))?;
        let written_through = self.mode.dsync && !state.lying_sync;
        let inode = state.inode(self.id);
        for pending in inode.unsynced.iter_mut().filter(|pending| pending.id == change_id) {
            pending.returned = true;
        }
        if written_through {
            inode.mark_durable(|pending| pending.id == change_id);
        }
        Ok(())
    }

    async fn read_at(&self, pos: u64, len: usize) -> DiskResult<Bytes> {
        self.disk.delay(SimOp::Read).await;
        let state = &mut *self.disk.state.borrow_mut();
        state.alive().and_then(|()| state.injected(SimOp::Read)).map_err(self.fail("read"))?;
        let content = &state.inode(self.id).current;
        let start = (pos as usize).min(content.len());
        let end = (start + len).min(content.len());
        Ok(Bytes::copy_from_slice(&content[start..end]))
    }

    async fn sync_data(&self) -> DiskResult<()> {
        let covered = {
            let state = &mut *self.disk.state.borrow_mut();
            state
                .mutating()
                .and_then(|()| state.injected(SimOp::Sync))
                .map_err(self.fail(DiskOperation::Sync("sync")))?;
            state.alive().map_err(self.fail(DiskOperation::Sync("sync")))?;
            let returned = |pending: &&Pending| pending.returned;
            state
                .inode(self.id)
                .unsynced
                .iter()
                .filter(returned)
                .map(|pending| pending.id)
                .collect::<BTreeSet<_>>()
        };
        self.disk.delay(SimOp::Sync).await;
        let state = &mut *self.disk.state.borrow_mut();
        state.alive().map_err(self.fail(DiskOperation::Sync("sync")))?;
        if !state.lying_sync {
            state.inode(self.id).mark_durable(|pending| covered.contains(&pending.id));
        }
        Ok(())
    }

    async fn preallocate(&self, len: u64) -> DiskResult<()> {
        if self.len().await? < len { self.truncate(len).await } else { Ok(()) }
    }

    async fn truncate(&self, len: u64) -> DiskResult<()> {
        self.disk
            .meta("truncate", &self.path, |state| {
                self.writable()?;
                if state.is_full && len > state.inode(self.id).current.len() as u64 {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                state.change(self.id, Change::SetLen(len), true);
                Ok(())
            })
            .await
    }

    async fn len(&self) -> DiskResult<u64> {
        self.disk.delay(SimOp::Meta).await;
        let state = &mut *self.disk.state.borrow_mut();
        state.alive().map_err(self.fail("stat"))?;
        Ok(state.inode(self.id).current.len() as u64)
    }

    async fn close(self) -> DiskResult<()> {
        self.disk.delay(SimOp::Meta).await;
        Ok(())
    }
}
