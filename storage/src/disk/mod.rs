//! The disk as storage sees it: aligned direct I/O on files, and the few directory operations that a crash-safe format needs.
//!
//! Two implementations: [`DirectDisk`] (glommio, O_DIRECT) and [`SimDisk`] (in memory, seeded, loses what was not synced).
//! Both are `!Send`: a disk handle belongs to one executor. Data that leaves the executor is [`Bytes`].
//!
//! Rules that hold for both:
//! - writes start and end on [`BLOCK`] boundaries, both in the file and in the buffer (a write takes a prefix of its buffer);
//! - a write is durable after [`DiskFile::sync_data`] that started after the write returned, or when the write returns on a
//!   file opened with [`OpenMode::dsync`] (that write only, not earlier ones);
//! - a name (created, renamed, removed) is durable after [`Disk::sync_dir`] of its directory;
//! - both are after [`Disk::sync_all`], on disks that have it.

mod direct;
#[expect(clippy::disallowed_methods, reason = "a thread of the real disk")]
mod giving_back;
mod lent;
mod pool;
pub mod sim;
mod sys;

pub use direct::{DirectDisk, DirectFile, DiskObserver};
pub use pool::{BufferPool, FrozenBuf, IoBuf};
pub use sim::{SimDisk, SimFile};
pub use sys::{FileSystemSpace, file_system_space};

use crate::error::DiskError;
use bytes::Bytes;
use std::path::{Path, PathBuf};

/// The unit of writing: alignment of positions, lengths and buffers.
pub const BLOCK: usize = 4096;

/// `len` rounded up to whole blocks.
pub const fn block_align(len: usize) -> usize {
    len.next_multiple_of(BLOCK)
}

/// The outcome of a disk operation.
pub type DiskResult<T> = Result<T, DiskError>;

/// How [`Disk::open`] opens a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenMode {
    /// Open for writing too (else only for reading).
    pub write: bool,
    /// Create the file if there is none.
    pub create: bool,
    /// Fail if the file exists already (with `create`).
    pub exclusive: bool,
    /// Every write is durable when it returns (O_DSYNC). Says nothing about writes through other handles.
    pub dsync: bool,
}

impl OpenMode {
    /// An existing file, for reading.
    pub const READ: OpenMode = OpenMode { write: false, create: false, exclusive: false, dsync: false };
    /// An existing file, for reading and writing.
    pub const WRITE: OpenMode = OpenMode { write: true, ..OpenMode::READ };
    /// An existing file, for reading and writing; every write is durable when it returns.
    pub const WRITE_DSYNC: OpenMode = OpenMode { dsync: true, ..OpenMode::WRITE };
    /// A file for reading and writing that is created if missing.
    pub const CREATE: OpenMode = OpenMode { create: true, ..OpenMode::WRITE };
    /// A file that must not exist yet, for reading and writing.
    pub const CREATE_NEW: OpenMode = OpenMode { exclusive: true, ..OpenMode::CREATE };
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The last component of the path.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// What [`Disk::survey`] finds in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surveyed {
    /// Its files, sorted by name, each with its length in bytes.
    pub files: Vec<(String, u64)>,
    /// The beginning of the file that was asked for, at most a block of it; none if there is no such file.
    pub content: Option<Vec<u8>>,
}

/// A step of [`Disk::carry_out`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameStep {
    /// Creates a directory in one that is there, unless it is there too.
    CreateDir(PathBuf),
    /// Creates a small file, or replaces what it holds.
    WriteFile(PathBuf, Vec<u8>),
    /// Renames a file, replacing one that has the name.
    Rename {
        /// The file.
        from: PathBuf,
        /// Its new name.
        to: PathBuf,
    },
}

/// A disk of one executor. Cheap to clone.
#[allow(async_fn_in_trait, reason = "disks are !Send by design; no caller wants a Send bound")]
pub trait Disk: Clone + 'static {
    /// An open file.
    type File: DiskFile;

    /// A block-aligned buffer of at least `len` bytes (rounded up to the pool's size class). Its content is unspecified.
    fn alloc(&self, len: usize) -> IoBuf;
    /// Opens or creates a file. Creation is durable after [`Disk::sync_dir`].
    async fn open(&self, path: &Path, mode: OpenMode) -> DiskResult<Self::File>;
    /// The names in a directory, sorted.
    async fn list(&self, dir: &Path) -> DiskResult<Vec<DirEntry>>;
    /// Looks into many directories at once: what files they hold, and what is in those named `file`. As [`Disk::list`], [`DiskFile::len`] and
    /// [`DiskFile::read_at`] would tell it one by one, which takes long when there are thousands. Fails if one of the directories does not exist.
    async fn survey(&self, dirs: Vec<PathBuf>, file: &'static str) -> DiskResult<Vec<Surveyed>>;
    /// Does all this, in order, until something fails: what takes long one by one if there are thousands. Durable after [`Disk::sync_all`].
    async fn carry_out(&self, steps: Vec<NameStep>) -> DiskResult<()>;
    /// Creates a directory and its missing parents, durably. No error if it exists.
    async fn create_dir_all(&self, dir: &Path) -> DiskResult<()>;
    /// Renames a file or directory, replacing a file at `to`. Durable after [`Disk::sync_dir`] of both directories.
    async fn rename(&self, from: &Path, to: &Path) -> DiskResult<()>;
    /// Removes a file.
    async fn remove(&self, path: &Path) -> DiskResult<()>;
    /// Removes a file, or a directory with its files, some time later and bit by bit: freeing much space at once can hold up every other
    /// write. Nobody wants anything of it any more, and its name says so, because after a crash it may still be there.
    async fn give_back(&self, path: &Path) -> DiskResult<()>;
    /// Removes an empty directory.
    async fn remove_dir(&self, dir: &Path) -> DiskResult<()>;
    /// Makes the names in a directory durable.
    async fn sync_dir(&self, dir: &Path) -> DiskResult<()>;
    /// Whether [`Disk::sync_all`] does what it says on the file system of `dir`.
    async fn can_sync_all(&self, dir: &Path) -> DiskResult<bool>;
    /// Makes all durable that has been done to the file system of `dir`: writes that have returned, lengths and names. For thousands of files it takes a
    /// small part of what it takes to sync each. Somebody else's data goes along.
    async fn sync_all(&self, dir: &Path) -> DiskResult<()>;
    /// Bytes that an unprivileged writer can still use on the file system of `path`.
    async fn free_space(&self, path: &Path) -> DiskResult<u64>;
}

/// An open file. All methods take `&self`: wrap it in an `Rc` to share it.
#[allow(async_fn_in_trait, reason = "disks are !Send by design; no caller wants a Send bound")]
#[allow(
    clippy::len_without_is_empty,
    reason = "a file's length takes an operation that can fail; nobody asks whether it is 0"
)]
pub trait DiskFile: 'static {
    /// Writes the first `len` bytes of `buf` at `pos`; both must be multiples of [`BLOCK`]. Writes all or fails.
    /// If the future is dropped the write may still reach the disk.
    async fn write_at(&self, pos: u64, buf: &FrozenBuf, len: usize) -> DiskResult<()>;
    /// Reads up to `len` bytes at `pos` (no alignment needed); fewer only at the end of the file. Large reads are not copied.
    async fn read_at(&self, pos: u64, len: usize) -> DiskResult<Bytes>;
    /// Makes all writes that have returned durable, and the file's length with them.
    async fn sync_data(&self) -> DiskResult<()>;
    /// Reserves space so that the file is at least `len` bytes long; new bytes read as zeros.
    /// Note that the first write to such space still costs a metadata commit; see [`zero_fill`].
    async fn preallocate(&self, len: u64) -> DiskResult<()>;
    /// Cuts or extends (with zeros) the file.
    async fn truncate(&self, len: u64) -> DiskResult<()>;
    /// The file's length.
    async fn len(&self) -> DiskResult<u64>;
    /// Closes the file; dropping it does the same without waiting.
    async fn close(self) -> DiskResult<()>;
}

/// Ending of the names of files that are being given back.
pub const DELETED_ENDING: &str = ".deleted";

/// Takes a file that may be large out of the way, and has its space given back. Durable after [`Disk::sync_dir`].
pub async fn remove_slowly<D: Disk>(disk: &D, path: &Path) -> DiskResult<()> {
    let mut doomed = path.as_os_str().to_owned();
    doomed.push(DELETED_ENDING);
    disk.rename(path, Path::new(&doomed)).await?;
    disk.give_back(Path::new(&doomed)).await
}

/// Writes zeros over `from..to` (multiples of [`BLOCK`]) in large pieces. Not synced.
pub async fn zero_fill<D: Disk>(disk: &D, file: &D::File, from: u64, to: u64) -> DiskResult<()> {
    const PIECE: usize = 256 * 1024;
    let mut zeros = disk.alloc(PIECE);
    zeros.fill(0);
    let zeros = zeros.freeze();
    let mut pos = from;
    while pos < to {
        let len = (to - pos).min(PIECE as u64) as usize;
        file.write_at(pos, &zeros, len).await?;
        pos += len as u64;
    }
    Ok(())
}
