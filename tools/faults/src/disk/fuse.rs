//! The kernel's requests to the disk, and its answers.
//!
//! Everything is direct I/O: the kernel keeps no pages, names or attributes, so that after a loss of power it knows nothing that the disk has forgotten.

use crate::content::Content;
use crate::tree::{Disk, Kind, Sync};
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// The kernel may remember nothing.
const TTL: Duration = Duration::ZERO;
const GENERATION: Generation = Generation(0);

/// The disk, for the kernel's requests and for who controls it.
#[derive(Clone)]
pub struct Shared(Arc<Inner>);

struct Inner {
    disk: Mutex<Disk>,
    released: Condvar,
    /// Whether nobody is answered at present.
    is_closed: Mutex<bool>,
    reopened: Condvar,
}

impl Shared {
    /// Wraps a disk.
    pub fn new(disk: Disk) -> Self {
        Self(Arc::new(Inner {
            disk: Mutex::new(disk),
            released: Condvar::new(),
            is_closed: Mutex::new(false),
            reopened: Condvar::new(),
        }))
    }

    /// The disk, for as long as the guard lives.
    pub fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk for somebody who will be answered: not before the power is back.
    fn answering(&self) -> MutexGuard<'_, Disk> {
        self.wait_until_open();
        self.lock()
    }

    fn wait_until_open(&self) {
        let closed = self.0.is_closed.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.reopened.wait_while(closed, |closed| *closed));
    }

    fn set_closed(&self, closed: bool) {
        *self.0.is_closed.lock().unwrap_or_else(PoisonError::into_inner) = closed;
        self.0.reopened.notify_all();
    }

    /// The power goes: nothing becomes durable any more, and nobody is answered.
    pub fn power_off(&self) {
        self.set_closed(true);
        self.lock().power_off();
    }

    /// The disk when no file is open any more; an error if that takes too long. Whoever waits for an answer gets one: it must be dead by now.
    pub fn lock_unused(&self, patience: Duration) -> Result<MutexGuard<'_, Disk>, String> {
        self.set_closed(false);
        let in_use = |disk: &mut Disk| disk.open_files() > 0;
        let (disk, waited) = self
            .0
            .released
            .wait_timeout_while(self.lock(), patience, in_use)
            .unwrap_or_else(PoisonError::into_inner);
        match waited.timed_out() {
            true => Err(format!("{} files are still open", disk.open_files())),
            false => Ok(disk),
        }
    }
}

/// What the kernel talks to.
pub struct Requests {
    disk: Shared,
    later: Sender<(Instant, Sync, Answer)>,
    sync_takes: Duration,
}

enum Answer {
    Synced(ReplyEmpty),
    Written(ReplyWrite, u32),
}

impl Requests {
    /// Passes requests on to `disk`. A sync takes `sync_takes`: then what it covers is durable, and it is answered.
    pub fn new(disk: Shared, sync_takes: Duration) -> Self {
        let (later, waiting) = channel::<(Instant, Sync, Answer)>();
        let syncing = disk.clone();
        thread::spawn(move || {
            for (when, sync, answer) in waiting {
                thread::sleep(when.saturating_duration_since(Instant::now()));
                syncing.answering().end_sync(sync);
                match answer {
                    Answer::Synced(reply) => reply.ok(),
                    Answer::Written(reply, size) => reply.written(size),
                }
            }
        });
        Self { disk, later, sync_takes }
    }

    fn answer_later(&self, sync: Sync, answer: Answer) {
        let when = Instant::now() + self.sync_takes;
        // The thread lives as long as this, so somebody takes it.
        let _ = self.later.send((when, sync, answer));
    }

    fn sync(&self, number: INodeNo, reply: ReplyEmpty) {
        let sync = self.disk.answering().begin_sync(number.0);
        match sync {
            Ok(sync) => self.answer_later(sync, Answer::Synced(reply)),
            Err(errno) => reply.error(errno),
        }
    }

    fn create(&self, parent: INodeNo, name: &OsStr, kind: Kind, mode: u32) -> Result<FileAttr, Errno> {
        let mut disk = self.disk.answering();
        let number = disk.create(parent.0, name, kind, permissions(mode), SystemTime::now())?;
        attributes(&disk, number)
    }
}

fn permissions(mode: u32) -> u16 {
    (mode & 0o7777) as u16
}

fn attributes(disk: &Disk, number: u64) -> Result<FileAttr, Errno> {
    let node = disk.node(number)?;
    let (kind, size) = match &node.kind {
        Kind::File(content) => (FileType::RegularFile, content.len()),
        Kind::Directory(_) => (FileType::Directory, 0),
    };
    Ok(FileAttr {
        ino: INodeNo(number),
        size,
        blocks: node.allocated() * 8,
        atime: node.modified,
        mtime: node.modified,
        ctime: node.modified,
        crtime: node.modified,
        kind,
        perm: node.mode,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: crate::content::BLOCK as u32,
        flags: 0,
    })
}

fn answer_entry(attributes: Result<FileAttr, Errno>, reply: ReplyEntry) {
    match attributes {
        Ok(attributes) => reply.entry(&TTL, &attributes, GENERATION),
        Err(errno) => reply.error(errno),
    }
}

fn answer(done: Result<(), Errno>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for Requests {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Several direct reads and writes of a file at a time, as on a real disk. A kernel without them does well too.
        let _ = config.add_capabilities(InitFlags::FUSE_ASYNC_DIO);
        let _ = config.set_max_write(1 << 20);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let disk = self.disk.answering();
        answer_entry(disk.lookup(parent.0, name).and_then(|number| attributes(&disk, number)), reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match attributes(&self.disk.answering(), ino.0) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut disk = self.disk.answering();
        let done = mode
            .map_or(Ok(()), |mode| disk.set_mode(ino.0, permissions(mode)))
            .and_then(|()| size.map_or(Ok(()), |size| disk.set_len(ino.0, size, SystemTime::now())));
        match done.and_then(|()| attributes(&disk, ino.0)) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let kind = Kind::Directory(crate::tree::Names::default());
        answer_entry(self.create(parent, name, kind, mode & !umask), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.disk.answering().remove(parent.0, name, false), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.disk.answering().remove(parent.0, name, true), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        answer(self.disk.answering().rename((parent.0, name), (new_parent.0, new_name)), reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let mut disk = self.disk.answering();
        let mut done = disk.opened(ino.0);
        if done.is_ok() && flags.0 & libc::O_TRUNC != 0 {
            done = disk.set_len(ino.0, 0, SystemTime::now());
        }
        match done {
            Ok(()) => reply.opened(FileHandle(0), open_flags()),
            Err(errno) => reply.error(errno),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        match self.create(parent, name, Kind::File(Content::default()), mode & !umask) {
            Ok(attributes) => {
                // It was created a moment ago, so it is there.
                let _ = self.disk.answering().opened(attributes.ino.0);
                reply.created(&TTL, &attributes, GENERATION, FileHandle(0), open_flags());
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let found = self.disk.answering().content(ino.0).map(|content| content.read(offset, size as usize));
        match found {
            Ok(data) => reply.data(&data),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let through = flags.0 & libc::O_DSYNC != 0;
        let mut disk = self.disk.answering();
        let done = disk.write(ino.0, offset, data, SystemTime::now()).and_then(|()| match through {
            true => disk.begin_sync_range(ino.0, offset, data.len()).map(Some),
            false => Ok(None),
        });
        match done {
            Ok(Some(sync)) => self.answer_later(sync, Answer::Written(reply, data.len() as u32)),
            Ok(None) => reply.written(data.len() as u32),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.disk.answering().released(ino.0);
        self.disk.0.released.notify_all();
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.sync(ino, reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.sync(ino, reply);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let disk = self.disk.answering();
        let names = match disk.list(ino.0) {
            Ok(names) => names,
            Err(errno) => return reply.error(errno),
        };
        for (position, (number, name)) in names.into_iter().enumerate().skip(offset as usize) {
            let kind = match disk.node(number).map(|node| &node.kind) {
                Ok(Kind::Directory(_)) => FileType::Directory,
                _ => FileType::RegularFile,
            };
            if reply.add(INodeNo(number), position as u64 + 1, kind, &name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (used, capacity) = self.disk.answering().space();
        let (free, block) = (capacity.saturating_sub(used), crate::content::BLOCK as u32);
        reply.statfs(capacity, free, free, 1 << 20, 1 << 20, block, 255, block);
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode & !libc::FALLOC_FL_KEEP_SIZE != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let grow = mode & libc::FALLOC_FL_KEEP_SIZE == 0;
        answer(self.disk.answering().reserve(ino.0, offset.saturating_add(length), grow), reply);
    }
}

fn open_flags() -> FopenFlags {
    FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES
}
