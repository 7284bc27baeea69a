//! The disk: files and directories, what of them is durable, and how much room there is. Without a kernel: `fuse.rs` passes its requests on.
//!
//! As unkind as a file system may be that journals its metadata: names that were not synced are lost, all or the latest of them, in the order in which
//! they were changed; a file's sync says nothing about its name; data and lengths that were not synced are lost sector by sector.

use crate::content::{self, BLOCK, Content};
use fuser::Errno;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::time::SystemTime;

/// The number of the directory that everything is in.
pub const ROOT: u64 = 1;

type Result<T> = std::result::Result<T, Errno>;

/// All that there is.
pub struct Disk {
    nodes: BTreeMap<u64, Node>,
    /// Changes of names that are not durable yet, oldest first.
    unsynced: VecDeque<Change>,
    /// How many changes of names have become durable or were forgotten.
    settled_names: u64,
    /// Nothing becomes durable any more.
    is_off: bool,
    next: u64,
    /// Blocks of space, and how many are taken.
    capacity: u64,
    used: u64,
    open_files: u64,
}

/// A file or a directory.
pub struct Node {
    /// What it holds.
    pub kind: Kind,
    /// Permissions.
    pub mode: u16,
    /// When its content was changed.
    pub modified: SystemTime,
    opened: u64,
}

/// What a node holds.
pub enum Kind {
    /// Bytes.
    File(Content),
    /// Names.
    Directory(Names),
}

/// The names in a directory.
#[derive(Default)]
pub struct Names {
    current: BTreeMap<OsString, u64>,
    durable: BTreeMap<OsString, u64>,
}

/// Something that is durable when it has ended.
pub struct Sync(Syncing);

enum Syncing {
    File(u64, content::Sync),
    /// Changes of names up to this one.
    Names(u64),
}

/// Names that change together: (directory, name, the node that it has from now on).
struct Change(Vec<(u64, OsString, Option<u64>)>);

impl Disk {
    /// An empty disk with room for so many bytes.
    pub fn new(capacity_bytes: u64) -> Self {
        let root = Node::new(Kind::Directory(Names::default()), 0o755, SystemTime::UNIX_EPOCH);
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            unsynced: VecDeque::new(),
            settled_names: 0,
            is_off: false,
            next: ROOT + 1,
            capacity: capacity_bytes / BLOCK as u64,
            used: 0,
            open_files: 0,
        }
    }

    /// A node by its number.
    pub fn node(&self, number: u64) -> Result<&Node> {
        self.nodes.get(&number).ok_or(Errno::ENOENT)
    }

    /// A file's content.
    pub fn content(&self, number: u64) -> Result<&Content> {
        match &self.node(number)?.kind {
            Kind::File(content) => Ok(content),
            Kind::Directory(_) => Err(Errno::EISDIR),
        }
    }

    fn content_mut(&mut self, number: u64) -> Result<&mut Content> {
        match self.nodes.get_mut(&number).ok_or(Errno::ENOENT)?.kind {
            Kind::File(ref mut content) => Ok(content),
            Kind::Directory(_) => Err(Errno::EISDIR),
        }
    }

    fn names(&self, directory: u64) -> Result<&Names> {
        match &self.node(directory)?.kind {
            Kind::Directory(names) => Ok(names),
            Kind::File(_) => Err(Errno::ENOTDIR),
        }
    }

    /// The node that a name stands for.
    pub fn lookup(&self, directory: u64, name: &OsStr) -> Result<u64> {
        self.names(directory)?.current.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// All names of a directory, sorted.
    pub fn list(&self, directory: u64) -> Result<Vec<(u64, OsString)>> {
        Ok(self.names(directory)?.current.iter().map(|(name, node)| (*node, name.clone())).collect())
    }

    /// Creates a file or a directory.
    pub fn create(
        &mut self,
        directory: u64,
        name: &OsStr,
        kind: Kind,
        mode: u16,
        now: SystemTime,
    ) -> Result<u64> {
        if self.names(directory)?.current.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        // A name needs no space of its own here, but a full disk has none for it either.
        if self.used >= self.capacity {
            return Err(Errno::ENOSPC);
        }
        let number = self.next;
        self.next += 1;
        self.nodes.insert(number, Node::new(kind, mode, now));
        self.change(vec![(directory, name.to_owned(), Some(number))]);
        Ok(number)
    }

    /// Removes a name: of a file, or of an empty directory.
    pub fn remove(&mut self, directory: u64, name: &OsStr, is_directory: bool) -> Result<()> {
        let number = self.lookup(directory, name)?;
        match (&self.node(number)?.kind, is_directory) {
            (Kind::Directory(names), true) if !names.current.is_empty() => return Err(Errno::ENOTEMPTY),
            (Kind::Directory(_), true) | (Kind::File(_), false) => {}
            (Kind::Directory(_), false) => return Err(Errno::EISDIR),
            (Kind::File(_), true) => return Err(Errno::ENOTDIR),
        }
        self.change(vec![(directory, name.to_owned(), None)]);
        Ok(())
    }

    /// Gives a node another name; what had that name before has none any more.
    pub fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Result<()> {
        let number = self.lookup(from.0, from.1)?;
        match self.lookup(to.0, to.1) {
            Ok(replaced) if replaced == number => return Ok(()),
            Ok(replaced) => match &self.node(replaced)?.kind {
                Kind::Directory(names) if !names.current.is_empty() => return Err(Errno::ENOTEMPTY),
                _ => {}
            },
            Err(_) => {
                self.names(to.0)?;
            }
        }
        self.change(vec![(from.0, from.1.to_owned(), None), (to.0, to.1.to_owned(), Some(number))]);
        Ok(())
    }

    fn change(&mut self, parts: Vec<(u64, OsString, Option<u64>)>) {
        let mut unnamed = Vec::new();
        for (directory, name, number) in &parts {
            if let Some(Node { kind: Kind::Directory(names), .. }) = self.nodes.get_mut(directory) {
                let before = set(&mut names.current, name, *number);
                unnamed.extend(before.filter(|before| Some(*before) != *number));
            }
        }
        self.unsynced.push_back(Change(parts));
        for number in unnamed {
            self.let_go(number);
        }
    }

    /// A file is open once more.
    pub fn opened(&mut self, number: u64) -> Result<()> {
        self.nodes.get_mut(&number).ok_or(Errno::ENOENT)?.opened += 1;
        self.open_files += 1;
        Ok(())
    }

    /// A file is open once less.
    pub fn released(&mut self, number: u64) {
        self.open_files = self.open_files.saturating_sub(1);
        if let Some(node) = self.nodes.get_mut(&number) {
            node.opened = node.opened.saturating_sub(1);
        }
        self.let_go(number);
    }

    /// How many files are open.
    pub fn open_files(&self) -> u64 {
        self.open_files
    }

    /// Writes to a file.
    pub fn write(&mut self, number: u64, pos: u64, data: &[u8], now: SystemTime) -> Result<()> {
        let wanted = self.content(number)?.wanted(pos, data.len());
        if wanted > 0 && self.used + wanted > self.capacity {
            return Err(Errno::ENOSPC);
        }
        self.used += wanted;
        self.content_mut(number)?.write(pos, data);
        self.touch(number, now);
        Ok(())
    }

    /// Cuts or extends a file.
    pub fn set_len(&mut self, number: u64, len: u64, now: SystemTime) -> Result<()> {
        self.resize(number, |content| content.set_len(len))?;
        self.touch(number, now);
        Ok(())
    }

    /// Sets space aside for a file (`fallocate`).
    pub fn reserve(&mut self, number: u64, end: u64, grow: bool) -> Result<()> {
        let content = self.content(number)?;
        let blocks = end.div_ceil(BLOCK as u64);
        // At most what it would take if none of it was there.
        if blocks > content.allocated() && self.used + blocks - content.allocated() > self.capacity {
            return Err(Errno::ENOSPC);
        }
        self.resize(number, |content| content.reserve(end, grow))
    }

    fn resize(&mut self, number: u64, change: impl FnOnce(&mut Content)) -> Result<()> {
        let content = self.content_mut(number)?;
        let before = content.allocated();
        change(content);
        let after = content.allocated();
        self.used = self.used + after - before;
        Ok(())
    }

    fn touch(&mut self, number: u64, now: SystemTime) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.modified = now;
        }
    }

    /// Changes permissions.
    pub fn set_mode(&mut self, number: u64, mode: u16) -> Result<()> {
        self.nodes.get_mut(&number).ok_or(Errno::ENOENT)?.mode = mode;
        Ok(())
    }

    /// A sync begins: of a file's content, or of a directory's names with all names that were changed earlier.
    pub fn begin_sync(&self, number: u64) -> Result<Sync> {
        match &self.node(number)?.kind {
            Kind::File(content) => Ok(Sync(Syncing::File(number, content.begin_sync(None)))),
            Kind::Directory(_) => {
                let touches = |change: &Change| change.0.iter().any(|(directory, ..)| *directory == number);
                let covered = self.unsynced.iter().rposition(touches).map_or(0, |last| last as u64 + 1);
                Ok(Sync(Syncing::Names(self.settled_names + covered)))
            }
        }
    }

    /// A sync begins of what was just written to a range of a file, and of nothing else.
    pub fn begin_sync_range(&self, number: u64, pos: u64, len: usize) -> Result<Sync> {
        Ok(Sync(Syncing::File(number, self.content(number)?.begin_sync(Some((pos, len))))))
    }

    /// A sync has ended, if the power was there for so long.
    pub fn end_sync(&mut self, sync: Sync) {
        match sync.0 {
            _ if self.is_off => {}
            Syncing::File(number, sync) => {
                // The file may be gone by now.
                if let Ok(content) = self.content_mut(number) {
                    content.end_sync(sync);
                }
            }
            Syncing::Names(up_to) => {
                let count = up_to.saturating_sub(self.settled_names) as usize;
                self.make_durable(count);
            }
        }
    }

    /// The power goes: nothing becomes durable until [`Disk::forget`].
    pub fn power_off(&mut self) {
        self.is_off = true;
    }

    fn make_durable(&mut self, count: usize) {
        let mut unnamed = Vec::new();
        self.settled_names += count as u64;
        for Change(parts) in self.unsynced.drain(..count) {
            for (directory, name, number) in parts {
                if let Some(Node { kind: Kind::Directory(names), .. }) = self.nodes.get_mut(&directory) {
                    unnamed.extend(
                        set(&mut names.durable, &name, number).filter(|before| Some(*before) != number),
                    );
                }
            }
        }
        for number in unnamed {
            self.let_go(number);
        }
    }

    /// Loss of power, with no file open: of what is unsynced something survives where `survives` says so. How many bytes and names were unsynced.
    pub fn forget(&mut self, mut survives: impl FnMut() -> bool) -> (u64, usize) {
        let unsynced_names = self.unsynced.len();
        let kept = self.unsynced.iter().take_while(|_| survives()).count();
        self.make_durable(kept);
        self.settled_names += self.unsynced.len() as u64;
        self.unsynced.clear();
        self.is_off = false;
        let mut unsynced_bytes = 0;
        for node in self.nodes.values_mut() {
            match &mut node.kind {
                Kind::File(content) => {
                    unsynced_bytes += content.unsynced_bytes();
                    content.forget(&mut survives);
                }
                Kind::Directory(names) => names.current.clone_from(&names.durable),
            }
        }
        let named = self.reachable();
        self.nodes.retain(|number, _| named.contains(number));
        self.used = self.nodes.values().map(Node::allocated).sum();
        (unsynced_bytes, unsynced_names)
    }

    fn reachable(&self) -> BTreeSet<u64> {
        let (mut found, mut next) = (BTreeSet::from([ROOT]), vec![ROOT]);
        while let Some(number) = next.pop() {
            if let Ok(names) = self.names(number) {
                next.extend(names.current.values().filter(|number| found.insert(**number)));
            }
        }
        found
    }

    /// A node that has no name, now or after a loss of power, and is not open, is gone with its space.
    fn let_go(&mut self, number: u64) {
        let Some(node) = self.nodes.get(&number).filter(|node| node.opened == 0 && number != ROOT) else {
            return;
        };
        let has_name = |node: &Node| match &node.kind {
            Kind::Directory(names) => {
                names.current.values().chain(names.durable.values()).any(|named| *named == number)
            }
            Kind::File(_) => false,
        };
        let will_have = |change: &Change| change.0.iter().any(|(.., named)| *named == Some(number));
        if self.nodes.values().any(has_name) || self.unsynced.iter().any(will_have) {
            return;
        }
        self.used -= node.allocated();
        self.nodes.remove(&number);
    }

    /// Space that is taken, and all of it. Blocks.
    pub fn space(&self) -> (u64, u64) {
        (self.used, self.capacity)
    }

    /// Sets how much space there is in all. Bytes.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.capacity = bytes / BLOCK as u64;
    }
}

impl Node {
    fn new(kind: Kind, mode: u16, modified: SystemTime) -> Self {
        Self { kind, mode, modified, opened: 0 }
    }

    /// Blocks of space that it has.
    pub fn allocated(&self) -> u64 {
        match &self.kind {
            Kind::File(content) => content.allocated(),
            Kind::Directory(_) => 0,
        }
    }
}

fn set(names: &mut BTreeMap<OsString, u64>, name: &OsStr, number: Option<u64>) -> Option<u64> {
    match number {
        Some(number) => names.insert(name.to_owned(), number),
        None => names.remove(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: SystemTime = SystemTime::UNIX_EPOCH;

    fn disk() -> Disk {
        Disk::new(64 * BLOCK as u64)
    }

    fn file(disk: &mut Disk, name: &str, content: &[u8]) -> u64 {
        let number = disk.create(ROOT, name.as_ref(), Kind::File(Content::default()), 0o644, THEN).unwrap();
        disk.write(number, 0, content, THEN).unwrap();
        number
    }

    fn sync(disk: &mut Disk, number: u64) {
        let sync = disk.begin_sync(number).unwrap();
        disk.end_sync(sync);
    }

    #[test]
    fn a_sync_that_ends_after_the_power_went_makes_nothing_durable() {
        let mut disk = disk();
        let number = file(&mut disk, "name", b"1");
        sync(&mut disk, ROOT);
        let (content, names) = (disk.begin_sync(number).unwrap(), disk.begin_sync(ROOT).unwrap());
        disk.power_off();
        disk.end_sync(content);
        disk.end_sync(names);
        disk.forget(|| false);
        assert_eq!(disk.content(number).unwrap().len(), 0);
        sync(&mut disk, number);
    }

    fn names(disk: &Disk) -> Vec<String> {
        disk.list(ROOT).unwrap().into_iter().map(|(_, name)| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_synced_file_whose_name_was_not_synced_is_gone_after_a_loss_of_power() {
        let mut disk = disk();
        let kept = file(&mut disk, "kept", b"1");
        sync(&mut disk, kept);
        sync(&mut disk, ROOT);
        let lost = file(&mut disk, "lost", b"2");
        sync(&mut disk, lost);
        disk.forget(|| false);
        assert_eq!(names(&disk), ["kept"]);
        assert_eq!(disk.content(kept).unwrap().read(0, 10), b"1");
        assert_eq!(disk.space().0, 1);
    }

    #[test]
    fn a_rename_is_either_done_or_not() {
        for survives in [false, true] {
            let mut disk = disk();
            let old = file(&mut disk, "name", b"old");
            let new = file(&mut disk, "name.tmp", b"new");
            sync(&mut disk, old);
            sync(&mut disk, new);
            sync(&mut disk, ROOT);
            disk.rename((ROOT, "name.tmp".as_ref()), (ROOT, "name".as_ref())).unwrap();
            assert_eq!(names(&disk), ["name"]);
            disk.forget(|| survives);
            let expected: &[&str] = if survives { &["name"] } else { &["name", "name.tmp"] };
            assert_eq!(names(&disk), expected);
            let content = disk.content(disk.lookup(ROOT, "name".as_ref()).unwrap()).unwrap().read(0, 10);
            assert_eq!(content, if survives { b"new" } else { b"old" });
        }
    }

    #[test]
    fn an_unsynced_removal_is_undone_and_a_synced_one_gives_the_space_back() {
        let mut disk = disk();
        let number = file(&mut disk, "name", &[1; 3 * BLOCK]);
        sync(&mut disk, number);
        sync(&mut disk, ROOT);
        disk.remove(ROOT, "name".as_ref(), false).unwrap();
        assert_eq!(names(&disk), [""; 0]);
        disk.forget(|| false);
        assert_eq!((names(&disk), disk.space().0), (vec!["name".to_owned()], 3));
        disk.opened(number).unwrap();
        disk.remove(ROOT, "name".as_ref(), false).unwrap();
        sync(&mut disk, ROOT);
        assert_eq!(disk.content(number).unwrap().read(0, 1), [1]);
        disk.released(number);
        assert_eq!((disk.space().0, disk.node(number).is_err()), (0, true));
    }

    #[test]
    fn a_full_disk_takes_what_has_its_space_already_and_nothing_else() {
        let mut disk = disk();
        let number = file(&mut disk, "name", b"");
        disk.reserve(number, 4 * BLOCK as u64, false).unwrap();
        disk.set_capacity(4 * BLOCK as u64);
        disk.write(number, 0, &[1; 4 * BLOCK], THEN).unwrap();
        assert_eq!(
            disk.write(number, 4 * BLOCK as u64, &[1], THEN).unwrap_err().code(),
            Errno::ENOSPC.code()
        );
        assert_eq!(disk.reserve(number, 5 * BLOCK as u64, false).unwrap_err().code(), Errno::ENOSPC.code());
        let refused = disk.create(ROOT, "other".as_ref(), Kind::File(Content::default()), 0o644, THEN);
        assert_eq!(refused.unwrap_err().code(), Errno::ENOSPC.code());
        disk.set_len(number, 0, THEN).unwrap();
        assert_eq!(disk.space(), (0, 4));
    }
}
