//! The real disk: direct I/O through glommio's ring, directory operations on glommio's helper thread.
//!
//! What of glommio 0.9 matters here:
//! - it decides once per process and device whether the device can be polled by trying a read, and takes disks for pollable that are not;
//!   then it spins during I/O. A *write-only* file cannot be read, so if one is opened first the answer is "no": [`DirectDisk::new`] does that;
//! - `DmaFile::read_at` may return bytes that are not the file's near its end: only `read_at_aligned` is used;
//! - it has no directory listing or synchronisation off the executor's thread: those run through `spawn_blocking`.
//!
//! Files that go are given back by a thread of their own (`giving_back.rs`).

use super::{
    BLOCK, BufferPool, DirEntry, Disk, DiskFile, DiskResult, FrozenBuf, IoBuf, NameStep, OpenMode, Surveyed,
    giving_back::GivingBack, lent::Lender, sys,
};
use crate::error::{DiskError, DiskOperation};
use bytes::Bytes;
use glommio::{GlommioError, io::DmaFile, io::OpenOptions};
use std::{
    cell::OnceCell,
    fmt,
    io::{self, Read, Write},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    rc::Rc,
};

/// Files are for their owner to write.
const FILE_MODE: u32 = 0o644;
/// Threads of one [`Disk::survey`].
const SURVEY_THREADS: usize = 4;

/// A read of at least so much is handed out as it is; a smaller one is copied, so that it does not keep whole blocks and glommio's few registered
/// buffers.
const LENT_READ_BYTES_MIN: usize = 64 << 10;

/// Told of every operation of a [`DirectDisk`]: an executor that sleeps while one is in progress can be found out and woken from outside.
pub trait DiskObserver: fmt::Debug {
    /// An operation begins.
    fn begun(&self);
    /// An operation's result, or its abandonment, has been taken note of.
    fn ended(&self);
}

#[derive(Clone, Debug, Default)]
struct Observed(Option<Rc<dyn DiskObserver>>);

/// An operation in progress.
struct Operation(Observed);

impl Observed {
    fn begin(&self) -> Operation {
        if let Some(observer) = &self.0 {
            observer.begun();
        }
        Operation(self.clone())
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let Some(observer) = &self.0.0 {
            observer.ended();
        }
    }
}

/// The disk of one glommio executor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DirectDisk {
    pool: BufferPool,
    lender: Rc<Lender>,
    observed: Observed,
    giving_back: Rc<OnceCell<GivingBack>>,
}

impl DirectDisk {
    /// The disk for data below `data_dir` (which must exist). Has to be called on every executor before any other file of that file system
    /// is opened through glommio: it settles glommio's probe for polled I/O on "no" (see the module's documentation).
    ///
    /// `max_free_buffer_bytes` bounds the unused I/O buffers that are kept for the next user.
    pub async fn new(data_dir: &Path, max_free_buffer_bytes: usize) -> DiskResult<Self> {
        settle_poll_probe(data_dir).await?;
        Ok(Self {
            pool: BufferPool::new(max_free_buffer_bytes),
            lender: Rc::default(),
            observed: Observed::default(),
            giving_back: Rc::default(),
        })
    }

    /// The same disk, whose operations `observer` is told of from now on.
    pub fn observed_by(self, observer: Rc<dyn DiskObserver>) -> Self {
        Self { observed: Observed(Some(observer)), ..self }
    }

    /// The pool that buffers come from.
    pub fn pool(&self) -> &BufferPool {
        &self.pool
    }
}

/// Opens a write-only `DmaFile` on the file system of `dir`, so that glommio does not use polled I/O there.
pub async fn settle_poll_probe(dir: &Path) -> DiskResult<()> {
    let path = dir.join(format!(".probe-{}", std::process::id()));
    // The name is unique per executor too: several of them probe at the same time.
    let path = path.with_extension(format!("{:?}", std::thread::current().id()).replace(['(', ')'], ""));
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .dma_open(&path)
        .await
        .map_err(|error| disk_error("open", &path, error))?;
    file.close().await.map_err(|error| disk_error("close", &path, error))?;
    blocking("remove", &path, |path| std::fs::remove_file(path)).await
}

fn disk_error(op: impl Into<DiskOperation>, path: &Path, error: GlommioError<()>) -> DiskError {
    let source = match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => source,
        other => io::Error::from(other),
    };
    DiskError::new(op, path, source)
}

/// Runs `work` on the executor's helper thread.
async fn blocking<R: Send + 'static>(
    op: impl Into<DiskOperation>,
    path: &Path,
    work: impl FnOnce(&Path) -> io::Result<R> + Send + 'static,
) -> DiskResult<R> {
    let owned = path.to_owned();
    let result = glommio::executor().spawn_blocking(move || work(&owned)).await;
    result.map_err(|source| DiskError::new(op, path, source))
}

/// Several threads, so that a disk that has to be asked for directories and inodes is asked for several at a time.
fn survey_in_parallel(dirs: &[PathBuf], file: &str) -> DiskResult<Vec<Surveyed>> {
    let part = dirs.len().div_ceil(SURVEY_THREADS).max(1);
    std::thread::scope(|scope| {
        let look = |dirs: &'_ [PathBuf]| {
            dirs.iter().map(|dir| survey_one(dir, file)).collect::<DiskResult<Vec<_>>>()
        };
        let parts: Vec<_> = dirs.chunks(part).map(|dirs| scope.spawn(move || look(dirs))).collect();
        let mut all = Vec::with_capacity(dirs.len());
        for part in parts {
            all.extend(part.join().expect("looking into a directory does not panic")?);
        }
        Ok(all)
    })
}

fn carry_out(step: &NameStep) -> DiskResult<()> {
    let (op, path, done) = match step {
        NameStep::CreateDir(dir) => {
            let created = std::fs::create_dir(dir);
            let is_there = created.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists);
            ("create directory", dir, if is_there { Ok(()) } else { created })
        }
        NameStep::WriteFile(path, content) => {
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(FILE_MODE);
            ("write", path, options.open(path).and_then(|mut file| file.write_all(content)))
        }
        NameStep::Rename { from, to } => ("rename", from, std::fs::rename(from, to)),
    };
    done.map_err(|source| DiskError::new(op, path, source))
}

fn survey_one(dir: &Path, file: &str) -> DiskResult<Surveyed> {
    let fail = |source| DiskError::new("survey", dir, source);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let metadata = entry.metadata().map_err(fail)?;
        // Our own names are ASCII; what is not UTF-8 is not ours.
        if let (Ok(name), false) = (entry.file_name().into_string(), metadata.is_dir()) {
            files.push((name, metadata.len()));
        }
    }
    files.sort();
    let content = match files.iter().any(|(name, _)| name == file) {
        false => None,
        true => {
            let path = dir.join(file);
            let mut content = Vec::new();
            let read =
                std::fs::File::open(&path).and_then(|f| f.take(BLOCK as u64).read_to_end(&mut content));
            read.map_err(|source| DiskError::new("read", &path, source))?;
            Some(content)
        }
    };
    Ok(Surveyed { files, content })
}

impl Disk for DirectDisk {
    type File = DirectFile;

    fn alloc(&self, len: usize) -> IoBuf {
        self.pool.alloc(len)
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> DiskResult<DirectFile> {
        let _operation = self.observed.begin();
        let mut options = OpenOptions::new();
        options.read(true).write(mode.write).create(mode.create && !mode.exclusive);
        options.create_new(mode.create && mode.exclusive).mode(FILE_MODE);
        if mode.dsync {
            options.custom_flags(libc::O_DSYNC);
        }
        let file = options.dma_open(path).await.map_err(|error| disk_error("open", path, error))?;
        let Self { pool, lender, observed, .. } = self.clone();
        Ok(DirectFile { file: Rc::new(file), path: path.into(), pool, lender, observed })
    }

    async fn list(&self, dir: &Path) -> DiskResult<Vec<DirEntry>> {
        let _operation = self.observed.begin();
        blocking("list", dir, |dir| {
            let mut entries = Vec::new();
            for entry in std::fs::read_dir(dir)? {
                let entry = entry?;
                // Our own names are ASCII; what is not UTF-8 is not ours.
                if let Ok(name) = entry.file_name().into_string() {
                    entries.push(DirEntry { name, is_dir: entry.file_type()?.is_dir() });
                }
            }
            entries.sort();
            Ok(entries)
        })
        .await
    }

    async fn survey(&self, dirs: Vec<PathBuf>, file: &'static str) -> DiskResult<Vec<Surveyed>> {
        let _operation = self.observed.begin();
        glommio::executor().spawn_blocking(move || survey_in_parallel(&dirs, file)).await
    }

    async fn create_dir_all(&self, dir: &Path) -> DiskResult<()> {
        let _operation = self.observed.begin();
        let parents = blocking("create directory", dir, |dir| {
            let mut parents = Vec::new();
            let mut at = Some(dir);
            while let Some(path) = at.filter(|path| !path.as_os_str().is_empty() && !path.is_dir()) {
                at = path.parent();
                parents.extend(at.filter(|parent| !parent.as_os_str().is_empty()).map(Path::to_owned));
            }
            std::fs::create_dir_all(dir)?;
            Ok(parents)
        })
        .await?;
        if parents.is_empty() {
            return Ok(());
        }
        blocking(DiskOperation::Sync("sync directory above"), dir, move |_| {
            parents.iter().rev().try_for_each(|parent| std::fs::File::open(parent)?.sync_all())
        })
        .await
    }

    async fn carry_out(&self, steps: Vec<NameStep>) -> DiskResult<()> {
        let _operation = self.observed.begin();
        glommio::executor().spawn_blocking(move || steps.iter().try_for_each(carry_out)).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> DiskResult<()> {
        let _operation = self.observed.begin();
        let to = to.to_owned();
        blocking("rename", from, move |from| std::fs::rename(from, to)).await
    }

    async fn remove(&self, path: &Path) -> DiskResult<()> {
        let _operation = self.observed.begin();
        blocking("remove", path, |path| std::fs::remove_file(path)).await
    }

    async fn give_back(&self, path: &Path) -> DiskResult<()> {
        if self.giving_back.get().is_none() {
            let started =
                GivingBack::start().map_err(|source| DiskError::new("start a thread for", path, source))?;
            let _ = self.giving_back.set(started);
        }
        self.giving_back.get().expect("it was just started").take(path);
        Ok(())
    }

    async fn remove_dir(&self, dir: &Path) -> DiskResult<()> {
        let _operation = self.observed.begin();
        blocking("remove directory", dir, |dir| std::fs::remove_dir(dir)).await
    }

    async fn sync_dir(&self, dir: &Path) -> DiskResult<()> {
        let _operation = self.observed.begin();
        blocking(DiskOperation::Sync("sync directory"), dir, |dir| std::fs::File::open(dir)?.sync_all()).await
    }

    async fn can_sync_all(&self, dir: &Path) -> DiskResult<bool> {
        let _operation = self.observed.begin();
        blocking("stat the file system of", dir, sys::syncs_as_a_whole).await
    }

    async fn sync_all(&self, dir: &Path) -> DiskResult<()> {
        let _operation = self.observed.begin();
        blocking(DiskOperation::Sync("sync the file system of"), dir, sys::sync_file_system).await
    }

    async fn free_space(&self, path: &Path) -> DiskResult<u64> {
        let _operation = self.observed.begin();
        // This is called once in a while, reads perhaps not any more.
        self.lender.collect();
        let space = blocking("stat the file system of", path, sys::file_system_space).await?;
        Ok(space.available_bytes)
    }
}

/// An open file of [`DirectDisk`].
#[derive(Clone, Debug)]
pub struct DirectFile {
    file: Rc<DmaFile>,
    path: Rc<Path>,
    pool: BufferPool,
    lender: Rc<Lender>,
    observed: Observed,
}

impl DirectFile {
    fn fail(&self, op: impl Into<DiskOperation>) -> impl FnOnce(GlommioError<()>) -> DiskError + '_ {
        let op = op.into();
        move |error| disk_error(op, &self.path, error)
    }
}

impl DiskFile for DirectFile {
    async fn write_at(&self, pos: u64, buf: &FrozenBuf, len: usize) -> DiskResult<()> {
        let _operation = self.observed.begin();
        assert!(
            pos.is_multiple_of(BLOCK as u64) && len.is_multiple_of(BLOCK),
            "unaligned write of {len} at {pos}"
        );
        let prefix = buf.dma_prefix(len);
        let written = self.file.write_rc_at(prefix.handle(), pos).await.map_err(self.fail("write"))?;
        if written != len {
            // The kernel writes less than asked when space or a limit runs out; the next attempt would tell, but a journal
            // must not try again, and a flusher starts over from its own state.
            let what = format!("{written} of {len} bytes were written");
            return Err(DiskError::new("write", &self.path, io::Error::new(io::ErrorKind::WriteZero, what)));
        }
        Ok(())
    }

    async fn read_at(&self, pos: u64, len: usize) -> DiskResult<Bytes> {
        let _operation = self.observed.begin();
        let start = pos - pos % BLOCK as u64;
        let skip = (pos - start) as usize;
        let aligned = (skip + len).next_multiple_of(BLOCK);
        let read = self.file.read_at_aligned(start, aligned).await.map_err(self.fail("read"))?;
        let end = read.len().min(skip + len);
        if end <= skip {
            return Ok(Bytes::new());
        }
        if end - skip >= LENT_READ_BYTES_MIN {
            return Ok(self.lender.lend(read, skip..end));
        }
        let mut buffer = self.pool.alloc(end - skip);
        buffer[..end - skip].copy_from_slice(&read[skip..end]);
        Ok(buffer.freeze().slice(..end - skip))
    }

    async fn sync_data(&self) -> DiskResult<()> {
        let _operation = self.observed.begin();
        self.file.fdatasync().await.map_err(self.fail(DiskOperation::Sync("sync")))
    }

    async fn preallocate(&self, len: u64) -> DiskResult<()> {
        let _operation = self.observed.begin();
        self.file.pre_allocate(len, false).await.map_err(self.fail("preallocate"))
    }

    async fn truncate(&self, len: u64) -> DiskResult<()> {
        let _operation = self.observed.begin();
        self.file.truncate(len).await.map_err(self.fail("truncate"))
    }

    async fn len(&self) -> DiskResult<u64> {
        sys::file_len(self.file.as_raw_fd()).map_err(|source| DiskError::new("stat", &self.path, source))
    }

    async fn close(self) -> DiskResult<()> {
        let Self { file, path, observed, .. } = self;
        let _operation = observed.begin();
        file.close_rc().await.map(|_| ()).map_err(|error| disk_error("close", &path, error))
    }
}
