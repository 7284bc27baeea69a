//! What is in a file: as a reader sees it, and as it would be found after a loss of power.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

/// The unit in which space is given out.
pub const BLOCK: usize = 4096;
/// The unit in which something unsynced survives or is lost.
const SECTOR: usize = 512;

type Block = Arc<[u8; BLOCK]>;

/// Journals are filled with zeros ahead of use; those share one block of memory.
static ZEROS: LazyLock<Block> = LazyLock::new(|| Arc::new([0; BLOCK]));

/// A file's content. The two versions share the blocks in which they agree.
#[derive(Default)]
pub struct Content {
    current: Version,
    durable: Version,
    /// Blocks in which the versions may differ.
    unsynced: BTreeSet<u64>,
    /// So many blocks at the beginning have their space, written or not.
    reserved: u64,
}

#[derive(Default)]
struct Version {
    len: u64,
    /// A block that is missing is a hole.
    blocks: BTreeMap<u64, Block>,
}

/// What a sync makes durable when it ends.
pub struct Sync {
    blocks: Vec<(u64, Option<Block>)>,
    len: u64,
    is_range: bool,
}

impl Version {
    fn set(&mut self, index: u64, block: Option<Block>) {
        match block {
            Some(block) => self.blocks.insert(index, block),
            None => self.blocks.remove(&index),
        };
    }

    fn bytes(&self, index: u64) -> &[u8; BLOCK] {
        self.blocks.get(&index).unwrap_or(&ZEROS)
    }
}

impl Content {
    /// The length that a reader sees.
    pub fn len(&self) -> u64 {
        self.current.len
    }

    /// Up to `len` bytes from `pos` on, fewer at the end.
    pub fn read(&self, pos: u64, len: usize) -> Vec<u8> {
        let end = self.current.len.min(pos.saturating_add(len as u64));
        let mut found = Vec::with_capacity(end.saturating_sub(pos) as usize);
        let mut at = pos;
        while at < end {
            let (index, within) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
            let take = (BLOCK - within).min((end - at) as usize);
            found.extend_from_slice(&self.current.bytes(index)[within..within + take]);
            at += take as u64;
        }
        found
    }

    /// Writes `data`, unsynced.
    pub fn write(&mut self, pos: u64, data: &[u8]) {
        let mut done = 0;
        while done < data.len() {
            let at = pos + done as u64;
            let (index, within) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
            let take = (BLOCK - within).min(data.len() - done);
            let mut bytes = *self.current.bytes(index);
            bytes[within..within + take].copy_from_slice(&data[done..done + take]);
            let block = if bytes == **ZEROS { ZEROS.clone() } else { Arc::new(bytes) };
            self.current.set(index, Some(block));
            self.unsynced.insert(index);
            done += take;
        }
        self.current.len = self.current.len.max(pos + data.len() as u64);
    }

    /// Cuts or extends the file, unsynced.
    pub fn set_len(&mut self, len: u64) {
        if len < self.current.len {
            let kept = len.div_ceil(BLOCK as u64);
            for index in self.current.blocks.split_off(&kept).into_keys() {
                self.unsynced.insert(index);
            }
            let within = (len % BLOCK as u64) as usize;
            if within > 0 && self.current.blocks.contains_key(&(kept - 1)) {
                let mut bytes = *self.current.bytes(kept - 1);
                bytes[within..].fill(0);
                self.current.set(kept - 1, Some(Arc::new(bytes)));
                self.unsynced.insert(kept - 1);
            }
            self.reserved = self.reserved.min(kept);
        }
        self.current.len = len;
    }

    /// Sets space aside for everything below `end`; with `grow` the file becomes at least so long, unsynced.
    pub fn reserve(&mut self, end: u64, grow: bool) {
        self.reserved = self.reserved.max(end.div_ceil(BLOCK as u64));
        if grow {
            self.current.len = self.current.len.max(end);
        }
    }

    /// A sync begins: of everything that was written, or of what was written to a range (O_DSYNC) and nothing else.
    pub fn begin_sync(&self, range: Option<(u64, usize)>) -> Sync {
        let capture = |index: u64| (index, self.current.blocks.get(&index).cloned());
        match range {
            None => Sync {
                blocks: self.unsynced.iter().copied().map(capture).collect(),
                len: self.current.len,
                is_range: false,
            },
            Some((pos, len)) => {
                let end = pos + len as u64;
                let touched = pos / BLOCK as u64..end.div_ceil(BLOCK as u64);
                Sync { blocks: touched.map(capture).collect(), len: end, is_range: true }
            }
        }
    }

    /// A sync has ended: what stood there when it began is durable. What was written since may not be.
    pub fn end_sync(&mut self, sync: Sync) {
        for (index, block) in sync.blocks {
            let is_same = match (&block, self.current.blocks.get(&index)) {
                (Some(synced), Some(current)) => Arc::ptr_eq(synced, current),
                (None, None) => true,
                _ => false,
            };
            if is_same {
                self.unsynced.remove(&index);
            }
            self.durable.set(index, block);
        }
        self.durable.len = if sync.is_range { self.durable.len.max(sync.len) } else { sync.len };
    }

    /// Loss of power: of what is unsynced, a sector survives when `survives` says so.
    pub fn forget(&mut self, survives: &mut impl FnMut() -> bool) {
        for index in std::mem::take(&mut self.unsynced) {
            let mut bytes = *self.durable.bytes(index);
            for (kept, new) in bytes.chunks_mut(SECTOR).zip(self.current.bytes(index).chunks(SECTOR)) {
                if survives() {
                    kept.copy_from_slice(new);
                }
            }
            let is_hole = !self.durable.blocks.contains_key(&index) && bytes == **ZEROS;
            let block = (!is_hole).then(|| Arc::new(bytes));
            self.durable.set(index, block.clone());
            self.current.set(index, block);
        }
        if self.durable.len != self.current.len && survives() {
            self.durable.len = self.current.len;
        }
        self.current.len = self.durable.len;
    }

    /// Blocks of space that the file has.
    pub fn allocated(&self) -> u64 {
        self.reserved + self.current.blocks.range(self.reserved..).count() as u64
    }

    /// Blocks of space that a write would need in addition.
    pub fn wanted(&self, pos: u64, len: usize) -> u64 {
        let touched = pos / BLOCK as u64..(pos + len as u64).div_ceil(BLOCK as u64);
        touched.filter(|index| *index >= self.reserved && !self.current.blocks.contains_key(index)).count()
            as u64
    }

    /// Bytes at most that are unsynced.
    pub fn unsynced_bytes(&self) -> u64 {
        self.unsynced.len() as u64 * BLOCK as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(content: &mut Content, pos: u64, byte: u8, len: usize) {
        content.write(pos, &vec![byte; len]);
    }

    fn sync(content: &mut Content) {
        let sync = content.begin_sync(None);
        content.end_sync(sync);
    }

    #[test]
    fn what_was_written_during_a_sync_is_not_part_of_it() {
        let mut content = Content::default();
        written(&mut content, 0, 1, 2 * BLOCK);
        let under_way = content.begin_sync(None);
        written(&mut content, 0, 2, BLOCK);
        written(&mut content, 2 * BLOCK as u64, 2, BLOCK);
        content.end_sync(under_way);
        assert_eq!(content.read(0, 1), [2]);
        content.forget(&mut || false);
        assert_eq!(content.read(0, 4 * BLOCK), vec![1; 2 * BLOCK]);
    }

    #[test]
    fn a_sync_that_has_not_ended_is_none() {
        let mut content = Content::default();
        written(&mut content, 0, 1, BLOCK);
        let _under_way = content.begin_sync(None);
        content.forget(&mut || false);
        assert_eq!(content.read(0, BLOCK), []);
    }

    #[test]
    fn what_was_synced_survives_and_what_was_not_is_forgotten() {
        let mut content = Content::default();
        written(&mut content, 0, 1, 3 * BLOCK);
        sync(&mut content);
        written(&mut content, 100, 2, BLOCK);
        written(&mut content, 3 * BLOCK as u64, 3, 10);
        assert_eq!(content.read(99, 2), [1, 2]);
        assert_eq!(content.len(), 3 * BLOCK as u64 + 10);
        content.forget(&mut || false);
        assert_eq!(content.read(0, usize::MAX >> 1), vec![1; 3 * BLOCK]);
    }

    #[test]
    fn a_write_through_takes_nothing_else_along() {
        let mut content = Content::default();
        written(&mut content, 0, 1, 2 * BLOCK);
        written(&mut content, BLOCK as u64, 2, BLOCK);
        let sync = content.begin_sync(Some((BLOCK as u64, BLOCK)));
        content.end_sync(sync);
        content.forget(&mut || false);
        assert_eq!(content.read(0, BLOCK), vec![0; BLOCK]);
        assert_eq!(content.read(BLOCK as u64, BLOCK), vec![2; BLOCK]);
    }

    #[test]
    fn an_unsynced_cut_may_be_undone_and_a_synced_one_stays() {
        let mut content = Content::default();
        written(&mut content, 0, 1, 2 * BLOCK);
        sync(&mut content);
        content.set_len(10);
        content.forget(&mut || false);
        assert_eq!(content.read(0, 4 * BLOCK), vec![1; 2 * BLOCK]);
        content.set_len(10);
        sync(&mut content);
        content.set_len(20);
        sync(&mut content);
        content.forget(&mut || false);
        assert_eq!(content.read(0, BLOCK), [vec![1; 10], vec![0; 10]].concat());
    }

    #[test]
    fn sectors_survive_one_by_one() {
        let mut content = Content::default();
        written(&mut content, 0, 1, BLOCK);
        sync(&mut content);
        written(&mut content, 0, 2, BLOCK);
        let mut coin = false;
        content.forget(&mut || {
            coin = !coin;
            coin
        });
        assert_eq!(content.read(SECTOR as u64 - 1, 2), [2, 1]);
        assert_eq!(content.read(2 * SECTOR as u64 - 1, 2), [1, 2]);
    }

    #[test]
    fn reserved_space_is_taken_once() {
        let mut content = Content::default();
        content.reserve(4 * BLOCK as u64, false);
        assert_eq!((content.allocated(), content.len()), (4, 0));
        assert_eq!(content.wanted(0, 5 * BLOCK), 1);
        written(&mut content, 0, 1, 5 * BLOCK);
        assert_eq!((content.allocated(), content.wanted(0, 5 * BLOCK)), (5, 0));
    }
}
