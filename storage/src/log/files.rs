//! Open segment files of a shard, and the indexes of closed segments: least recently used, so that idle partitions hold no descriptor.

use crate::{
    cache::LogIndex,
    disk::{Disk, DiskResult, OpenMode},
    log::index::SegmentIndex,
    types::Offset,
};
use ahash::AHashMap;
use std::{cell::RefCell, collections::BTreeMap, path::Path, rc::Rc};

/// A segment's file: log, base offset, revision. A file that was opened before compaction put another in its place is not taken for that.
pub(crate) type SegmentKey = (LogIndex, Offset, u64);

struct Entry<F> {
    used_at: u64,
    file: Option<Rc<F>>,
    /// Open for writes that are durable when they return.
    through: Option<Rc<F>>,
    index: Option<Rc<SegmentIndex>>,
}

struct Lru<F> {
    entries: AHashMap<SegmentKey, Entry<F>>,
    by_use: BTreeMap<u64, SegmentKey>,
    clock: u64,
    index_bytes: usize,
}

/// The bounded set of open files and loaded indexes.
pub(crate) struct FileCache<F> {
    lru: RefCell<Lru<F>>,
    max_files: usize,
    max_index_bytes: usize,
}

impl<F> Lru<F> {
    fn entry(&mut self, key: SegmentKey) -> &mut Entry<F> {
        self.clock += 1;
        let now = self.clock;
        let entry =
            self.entries.entry(key).or_insert(Entry { used_at: 0, file: None, through: None, index: None });
        self.by_use.remove(&entry.used_at);
        entry.used_at = now;
        self.by_use.insert(now, key);
        entry
    }

    fn touch(&mut self, key: SegmentKey) -> Option<&mut Entry<F>> {
        self.entries.contains_key(&key).then(|| self.entry(key))
    }

    fn remove(&mut self, key: SegmentKey) {
        if let Some(entry) = self.entries.remove(&key) {
            self.by_use.remove(&entry.used_at);
            self.index_bytes -= entry.index.map_or(0, |i| i.heap_bytes());
        }
    }

    fn trim(&mut self, max_files: usize, max_index_bytes: usize) {
        while self.entries.len() > max_files || (self.index_bytes > max_index_bytes && self.entries.len() > 1)
        {
            let Some((_, key)) = self.by_use.pop_first() else { break };
            self.remove(key);
        }
    }
}

impl<F> FileCache<F> {
    pub fn new(max_files: usize, max_index_bytes: usize) -> Self {
        let lru = Lru { entries: AHashMap::new(), by_use: BTreeMap::new(), clock: 0, index_bytes: 0 };
        Self { lru: RefCell::new(lru), max_files: max_files.max(1), max_index_bytes }
    }

    /// The open file of a segment, opened if need be. It stays usable for whoever holds it, even after it was evicted or unlinked.
    pub async fn open<D: Disk<File = F>>(
        &self,
        disk: &D,
        key: SegmentKey,
        path: impl FnOnce() -> std::path::PathBuf,
    ) -> DiskResult<Rc<F>> {
        if let Some(file) = self.lru.borrow_mut().touch(key).and_then(|e| e.file.clone()) {
            return Ok(file);
        }
        let file = Rc::new(disk.open(Path::new(&path()), OpenMode::WRITE).await?);
        self.put_file(key, file.clone());
        Ok(file)
    }

    /// The same, for writes that are durable when they return.
    pub async fn open_through<D: Disk<File = F>>(
        &self,
        disk: &D,
        key: SegmentKey,
        path: impl FnOnce() -> std::path::PathBuf,
    ) -> DiskResult<Rc<F>> {
        if let Some(file) = self.lru.borrow_mut().touch(key).and_then(|e| e.through.clone()) {
            return Ok(file);
        }
        let file = Rc::new(disk.open(Path::new(&path()), OpenMode::WRITE_DSYNC).await?);
        let mut lru = self.lru.borrow_mut();
        lru.entry(key).through = Some(file.clone());
        lru.trim(self.max_files, self.max_index_bytes);
        Ok(file)
    }

    /// Keeps a file that was just created.
    pub fn put_file(&self, key: SegmentKey, file: Rc<F>) {
        let mut lru = self.lru.borrow_mut();
        lru.entry(key).file = Some(file);
        lru.trim(self.max_files, self.max_index_bytes);
    }

    /// The index of a closed segment, if it is loaded.
    pub fn index(&self, key: SegmentKey) -> Option<Rc<SegmentIndex>> {
        self.lru.borrow_mut().touch(key)?.index.clone()
    }

    /// Keeps the index of a closed segment.
    pub fn put_index(&self, key: SegmentKey, index: Rc<SegmentIndex>) {
        let mut lru = self.lru.borrow_mut();
        let bytes = index.heap_bytes();
        let old = lru.entry(key).index.replace(index).map_or(0, |i| i.heap_bytes());
        lru.index_bytes = lru.index_bytes + bytes - old;
        lru.trim(self.max_files, self.max_index_bytes);
    }

    /// Forgets a segment that is being deleted or closed.
    pub fn remove(&self, key: SegmentKey) {
        self.lru.borrow_mut().remove(key);
    }

    /// Forgets all segments of a log.
    #[expect(clippy::disallowed_methods, reason = "in any order")]
    pub fn remove_log(&self, log: LogIndex) {
        let mut lru = self.lru.borrow_mut();
        let keys: Vec<_> = lru.entries.keys().filter(|key| key.0 == log).copied().collect();
        keys.into_iter().for_each(|key| lru.remove(key));
    }

    /// Forgets all.
    #[expect(clippy::disallowed_methods, reason = "in any order")]
    pub fn clear(&self) {
        let mut lru = self.lru.borrow_mut();
        let keys: Vec<_> = lru.entries.keys().copied().collect();
        keys.into_iter().for_each(|key| lru.remove(key));
    }

    /// Number of open files.
    #[expect(clippy::disallowed_methods, reason = "in any order")]
    pub fn open_files(&self) -> usize {
        self.lru.borrow().entries.values().filter(|e| e.file.is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_file_is_closed_first() {
        let cache = FileCache::new(2, 1000);
        let key = |log| (log, Offset(0), 0);
        for log in 0..2 {
            cache.put_file(key(log), Rc::new(log));
        }
        assert!(cache.lru.borrow_mut().touch(key(0)).is_some());
        cache.put_file(key(2), Rc::new(2));
        assert_eq!(cache.open_files(), 2);
        assert!(cache.lru.borrow_mut().touch(key(1)).is_none());
        cache.put_index(key(0), Rc::default());
        assert!(cache.index(key(0)).is_some());
        cache.clear();
        assert_eq!((cache.open_files(), cache.lru.borrow().by_use.len()), (0, 0));
    }
}
