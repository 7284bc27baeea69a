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
    /// Files that are being opened, each with a number of its own. A segment that is forgotten meanwhile is not among them any more.
    opening: Vec<(u64, SegmentKey)>,
}

/// The bounded set of open files and loaded indexes.
pub(crate) struct FileCache<F> {
    lru: RefCell<Lru<F>>,
    max_files: usize,
    max_index_bytes: usize,
}

/// A file is being opened for as long as this lives.
struct Opening<'a, F> {
    cache: &'a FileCache<F>,
    number: u64,
}

impl<'a, F> Opening<'a, F> {
    fn begin(cache: &'a FileCache<F>, key: SegmentKey) -> Self {
        let lru = &mut *cache.lru.borrow_mut();
        lru.clock += 1;
        lru.opening.push((lru.clock, key));
        Self { cache, number: lru.clock }
    }

    /// Whether what was opened may be kept: since it began nobody has removed the segment, whose name another file may have by now.
    fn is_current(&self) -> bool {
        self.cache.lru.borrow().opening.iter().any(|(number, _)| *number == self.number)
    }
}

impl<F> Drop for Opening<'_, F> {
    fn drop(&mut self) {
        self.cache.lru.borrow_mut().opening.retain(|(number, _)| *number != self.number);
    }
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
        let lru = Lru {
            entries: AHashMap::new(),
            by_use: BTreeMap::new(),
            clock: 0,
            index_bytes: 0,
            opening: Vec::new(),
        };
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
        let opening = Opening::begin(self, key);
        let file = Rc::new(disk.open(Path::new(&path()), OpenMode::WRITE).await?);
        if opening.is_current() {
            self.put_file(key, file.clone());
        }
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
        let opening = Opening::begin(self, key);
        let file = Rc::new(disk.open(Path::new(&path()), OpenMode::WRITE_DSYNC).await?);
        if opening.is_current() {
            let lru = &mut *self.lru.borrow_mut();
            lru.entry(key).through = Some(file.clone());
            lru.trim(self.max_files, self.max_index_bytes);
        }
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

    /// Forgets a segment, also what is being opened of it: to be called when its name is gone, or nobody would find another file under it.
    pub fn remove(&self, key: SegmentKey) {
        let lru = &mut *self.lru.borrow_mut();
        lru.opening.retain(|(_, opening)| *opening != key);
        lru.remove(key);
    }

    /// Forgets all segments of a log, as [`remove`](Self::remove) does.
    #[expect(clippy::disallowed_methods, reason = "in any order")]
    pub fn remove_log(&self, log: LogIndex) {
        let mut lru = self.lru.borrow_mut();
        lru.opening.retain(|(_, key)| key.0 != log);
        let keys: Vec<_> = lru.entries.keys().filter(|key| key.0 == log).copied().collect();
        keys.into_iter().for_each(|key| lru.remove(key));
    }

    /// Forgets all.
    #[expect(clippy::disallowed_methods, reason = "in any order")]
    pub fn clear(&self) {
        let mut lru = self.lru.borrow_mut();
        lru.opening.clear();
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
    use crate::disk::{SimDisk, SimFile};
    use futures::{FutureExt, executor::block_on};
    use std::path::PathBuf;

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

    #[test]
    fn a_file_whose_segment_is_removed_while_it_is_opened_is_not_kept() {
        let key = (1, Offset(0), 0);
        let removals: [fn(&FileCache<SimFile>); 3] =
            [|cache| cache.remove((1, Offset(0), 0)), |cache| cache.remove_log(1), |cache| cache.clear()];
        let mut overtaken = 0;
        for (seed, remove) in (0..30).zip(removals.into_iter().cycle()) {
            let (disk, cache) = (SimDisk::new(seed), FileCache::new(10, 1000));
            let path = || PathBuf::from("/segment");
            drop(block_on(disk.open(&path(), OpenMode::CREATE)).unwrap());
            let mut opening = Box::pin(cache.open(&disk, key, path));
            let mut through = Box::pin(cache.open_through(&disk, key, path));
            if opening.as_mut().now_or_never().is_some() || through.as_mut().now_or_never().is_some() {
                continue;
            }
            overtaken += 1;
            let other = block_on(cache.open(&disk, (2, Offset(0), 0), path)).unwrap();
            remove(&cache);
            cache.put_file(key, other.clone());
            block_on(opening).unwrap();
            block_on(through).unwrap();
            let kept = cache.lru.borrow_mut().touch(key).map(|e| (e.file.clone(), e.through.clone()));
            let (file, through) = kept.expect("the file that came after it");
            assert!(file.is_some_and(|file| Rc::ptr_eq(&file, &other)) && through.is_none());
            assert!(cache.lru.borrow().opening.is_empty());
        }
        assert!(overtaken > 5, "{overtaken}");
    }

    #[test]
    fn an_opening_that_nobody_waits_for_any_more_is_forgotten() {
        let (disk, cache) = (SimDisk::new(1), FileCache::<SimFile>::new(10, 1000));
        for _ in 0..20 {
            let _ = cache.open(&disk, (1, Offset(0), 0), || PathBuf::from("/none")).now_or_never();
        }
        assert!(cache.lru.borrow().opening.is_empty());
    }
}
