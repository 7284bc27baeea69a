//! Block-aligned buffers for direct I/O, pooled, and their journey to other threads and back.
//!
//! A buffer is written by one owner ([`IoBuf`]), then frozen ([`FrozenBuf`]) and shared in slices ([`Bytes`]) that any thread may
//! hold and drop. Whoever drops the last reference puts the memory back into the pool's free list, which is the one structure here that
//! threads share (a mutex around a few vectors, taken once per buffer and not per slice).
//!
//! The memory is glommio's `DmaBuffer`, because only that type can be written through its ring. This module holds the storage crate's
//! only `unsafe` code for two reasons: `DmaBuffer` is not `Send` although the kind used here (plain heap memory, not part of a
//! ring's registered region) is free of thread affinity; and a `DmaBuffer` can only be written as a whole, while we write a prefix.

use super::{BLOCK, block_align};
use bytes::Bytes;
use glommio::io::DmaBuffer;
use std::{
    collections::BTreeMap,
    fmt,
    mem::ManuallyDrop,
    ops::{Deref, DerefMut, RangeBounds},
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Up to this size there are so many of each capacity that nothing is gained by giving out larger ones.
const SMALL_BYTES: usize = 64 * 1024;

/// The pool of an executor's I/O buffers. Cheap to clone; all clones are the same pool.
#[derive(Clone)]
pub struct BufferPool {
    home: Arc<Home>,
}

/// The free list that buffers return to, from whatever thread.
struct Home {
    max_free_bytes: usize,
    free: Mutex<FreeList>,
}

#[derive(Default)]
struct FreeList {
    by_capacity: BTreeMap<usize, Vec<HeapBuffer>>,
    free_bytes: usize,
}

/// A `DmaBuffer` that is known to be plain heap memory.
struct HeapBuffer(DmaBuffer);

// SAFETY: `HeapBuffer::new` is the only constructor and takes the memory from `allocate_dma_buffer_global`, which uses the global
// allocator and gives `DmaBuffer` its `Sys` storage: a pointer and a layout, without reference to an executor or a ring. Such memory
// may be read, written and freed on any thread.
unsafe impl Send for HeapBuffer {}
// SAFETY: as above; through a shared reference the bytes can only be read.
unsafe impl Sync for HeapBuffer {}

impl HeapBuffer {
    fn new(capacity: usize) -> Self {
        let mut buffer = glommio::allocate_dma_buffer_global(capacity);
        // Fresh heap memory is uninitialised: this makes the reference to it sound. It also faults the pages in, once per buffer and not
        // once per write.
        // SAFETY: the pointer is valid for `capacity` bytes, and nobody else knows it yet.
        unsafe { std::ptr::write_bytes(buffer.as_mut_ptr(), 0, capacity) };
        Self(buffer)
    }
}

impl BufferPool {
    /// A pool that keeps at most `max_free_bytes` of unused buffers; what comes back beyond that is freed.
    pub fn new(max_free_bytes: usize) -> Self {
        Self { home: Arc::new(Home { max_free_bytes, free: Mutex::default() }) }
    }

    /// A buffer of at least `len` bytes, with unspecified content. It may be larger than its [`size_class`]: a new one would have to be cleared.
    pub fn alloc(&self, len: usize) -> IoBuf {
        let capacity = size_class(len);
        let reused = self.home.lock().take_fitting(capacity);
        let buffer = reused.unwrap_or_else(|| HeapBuffer::new(capacity));
        IoBuf { shared: Shared { buffer: ManuallyDrop::new(buffer), home: self.home.clone() } }
    }

    /// Bytes in unused buffers that wait for their next user.
    pub fn free_bytes(&self) -> usize {
        self.home.lock().free_bytes
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool").field("free_bytes", &self.free_bytes()).finish_non_exhaustive()
    }
}

/// The capacity that a new buffer for `len` bytes has: powers of two up to 64 KiB, then four steps per power of two, so that one
/// that is pinned by cached batches is at most a quarter larger than its content; one that is used again may be larger.
pub fn size_class(len: usize) -> usize {
    let len = block_align(len.max(1));
    if len <= SMALL_BYTES {
        return len.next_power_of_two();
    }
    let step = (len.next_power_of_two() / 8).max(BLOCK);
    len.next_multiple_of(step)
}

impl Home {
    fn lock(&self) -> MutexGuard<'_, FreeList> {
        // The list is consistent between any two statements, so a panic elsewhere does no harm.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, buffer: HeapBuffer) {
        self.lock().put(buffer);
        loop {
            // Freed without the lock.
            let surplus = self.lock().take_surplus(self.max_free_bytes);
            if surplus.is_none() {
                return;
            }
        }
    }
}

impl FreeList {
    fn take(&mut self, capacity: usize) -> Option<HeapBuffer> {
        let buffer = self.by_capacity.get_mut(&capacity)?.pop()?;
        self.free_bytes -= capacity;
        Some(buffer)
    }

    /// The smallest buffer of at least this capacity, but of large ones none that is more than half as large again.
    fn take_fitting(&mut self, capacity: usize) -> Option<HeapBuffer> {
        let most = if capacity > SMALL_BYTES { capacity + capacity / 2 } else { capacity };
        let (&fitting, _) = self.by_capacity.range(capacity..=most).find(|(_, free)| !free.is_empty())?;
        self.take(fitting)
    }

    fn put(&mut self, buffer: HeapBuffer) {
        let capacity = buffer.0.len();
        self.free_bytes += capacity;
        self.by_capacity.entry(capacity).or_default().push(buffer);
    }

    /// If there are more bytes than that: a buffer of the size of which most are unused. So those that come back by the thousand leave room for the few of another size that are
    /// wanted as often: a new one has to be cleared.
    fn take_surplus(&mut self, max_free_bytes: usize) -> Option<HeapBuffer> {
        if self.free_bytes <= max_free_bytes {
            return None;
        }
        let (&capacity, _) = self.by_capacity.iter().max_by_key(|(capacity, free)| *capacity * free.len())?;
        self.take(capacity)
    }
}

/// A buffer on its way; returns home when dropped.
struct Shared {
    buffer: ManuallyDrop<HeapBuffer>,
    home: Arc<Home>,
}

impl Shared {
    fn bytes(&self) -> &[u8] {
        self.buffer.0.as_bytes()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: taken here only, and `self.buffer` is not used afterwards.
        let buffer = unsafe { ManuallyDrop::take(&mut self.buffer) };
        self.home.give_back(buffer);
    }
}

/// A block-aligned buffer that its one owner fills. Dereferences to its bytes.
pub struct IoBuf {
    shared: Shared,
}

impl IoBuf {
    /// Ends writing; from here on the bytes are shared and never change.
    pub fn freeze(self) -> FrozenBuf {
        let shared = Arc::new(self.shared);
        FrozenBuf { bytes: Bytes::from_owner(SliceOwner(shared.clone())), shared }
    }
}

impl Deref for IoBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.shared.bytes()
    }
}

impl DerefMut for IoBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.shared.buffer.0.as_bytes_mut()
    }
}

impl fmt::Debug for IoBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoBuf").field("capacity", &self.len()).finish()
    }
}

struct SliceOwner(Arc<Shared>);

impl AsRef<[u8]> for SliceOwner {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// A buffer whose bytes no longer change: it can be written to disk and handed out in slices, on any thread.
/// When the last slice is gone the memory returns to the pool that it came from.
#[derive(Clone)]
pub struct FrozenBuf {
    bytes: Bytes,
    shared: Arc<Shared>,
}

impl FrozenBuf {
    /// A part of the buffer, without a copy. Keeps the whole buffer in memory.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Bytes {
        self.bytes.slice(range)
    }

    /// All bytes of the buffer, used or not.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The buffer's size: what one retained slice of it keeps in memory.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// The first `len` bytes in the form that glommio writes.
    pub(super) fn dma_prefix(&self, len: usize) -> DmaPrefix {
        assert!(len <= self.capacity(), "a write of {len} bytes from a buffer of {}", self.capacity());
        // SAFETY: this makes a second `DmaBuffer` value for the same memory, so three things must hold. (1) It is never dropped as a
        // `DmaBuffer`, or the memory would be freed twice: `DmaPrefix::drop` takes it apart if it is the last holder, and otherwise keeps
        // the count above zero for ever. (2) The memory outlives it: `DmaPrefix` holds `keep_alive`, and leaks it in the same case.
        // (3) Nobody writes the memory meanwhile: frozen buffers are only read, and `Shared` does not return home before (2) ends.
        let mut twin = unsafe { std::ptr::read(&self.shared.buffer.0) };
        twin.trim_to_size(len);
        DmaPrefix {
            twin: ManuallyDrop::new(Rc::new(twin)),
            keep_alive: ManuallyDrop::new(self.shared.clone()),
        }
    }
}

impl fmt::Debug for FrozenBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrozenBuf").field("capacity", &self.capacity()).finish()
    }
}

/// A shortened alias of a frozen buffer for the duration of one write.
pub(super) struct DmaPrefix {
    twin: ManuallyDrop<Rc<DmaBuffer>>,
    keep_alive: ManuallyDrop<Arc<Shared>>,
}

impl DmaPrefix {
    /// A handle for `DmaFile::write_rc_at`. May outlive `self` (a dropped write that the kernel still works on).
    pub(super) fn handle(&self) -> Rc<DmaBuffer> {
        Rc::clone(&self.twin)
    }
}

impl Drop for DmaPrefix {
    fn drop(&mut self) {
        // SAFETY: both are taken here only, and not used afterwards.
        let (twin, keep_alive) =
            unsafe { (ManuallyDrop::take(&mut self.twin), ManuallyDrop::take(&mut self.keep_alive)) };
        match Rc::try_unwrap(twin) {
            Ok(twin) => std::mem::forget(twin),
            // The write's future was dropped while the kernel holds the memory: give both up. This happens at shutdown only.
            Err(in_flight) => {
                std::mem::forget(in_flight);
                std::mem::forget(keep_alive);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_are_whole_blocks_and_waste_at_most_a_quarter_of_large_requests() {
        for len in [1, 4096, 4097, 65_536, 65_537, 100_000, 1 << 20, (1 << 20) + 4096, 5_000_000] {
            let capacity = size_class(len);
            assert!(capacity >= len && capacity.is_multiple_of(BLOCK), "{len} -> {capacity}");
            assert!(len <= 65_536 || capacity <= len + len / 4, "{len} -> {capacity}");
            assert_eq!(size_class(capacity), capacity);
        }
        assert_eq!(size_class(200), 4096);
    }

    #[test]
    fn slices_dropped_on_other_threads_bring_the_buffer_home_once_the_last_one_is_gone() {
        let pool = BufferPool::new(1 << 20);
        let mut buffer = pool.alloc(64 * 1024);
        for (i, byte) in buffer.iter_mut().enumerate() {
            *byte = (i % 251) as u8;
        }
        let frozen = buffer.freeze();
        let threads: Vec<_> = (0..8usize)
            .map(|t| {
                let slice = frozen.slice(t * 8192..(t + 1) * 8192);
                std::thread::spawn(move || {
                    assert!(slice.iter().enumerate().all(|(i, byte)| *byte == ((t * 8192 + i) % 251) as u8));
                })
            })
            .collect();
        let last = frozen.slice(1..2);
        drop(frozen);
        for thread in threads {
            thread.join().expect("the slice holds the written bytes");
        }
        assert_eq!(pool.free_bytes(), 0, "one slice still holds the buffer");
        std::thread::spawn(move || drop(last)).join().expect("drops");
        assert_eq!(pool.free_bytes(), 64 * 1024);
        let again = pool.alloc(64 * 1024);
        assert_eq!(pool.free_bytes(), 0, "the buffer was used again");
        drop(again);
        assert_eq!(pool.free_bytes(), 64 * 1024);
    }

    #[test]
    fn the_pool_frees_what_it_may_not_retain() {
        let pool = BufferPool::new(100_000);
        let buffers: Vec<_> = (0..4).map(|_| pool.alloc(65_536)).collect();
        drop(buffers);
        assert_eq!(pool.free_bytes(), 65_536);
    }

    #[test]
    fn what_there_is_much_of_makes_room_for_what_there_is_little_of() {
        let pool = BufferPool::new(1 << 20);
        let many: Vec<_> = (0..40).map(|_| pool.alloc(65_536)).collect();
        let few = [pool.alloc(256 << 10), pool.alloc(256 << 10)];
        drop(many);
        drop(few);
        assert_eq!(pool.free_bytes(), 1 << 20);
        let again = [pool.alloc(256 << 10), pool.alloc(256 << 10)];
        assert_eq!(pool.free_bytes(), 512 << 10, "both had been kept");
        drop(again);
    }

    #[test]
    fn a_free_buffer_that_is_a_little_too_large_does_as_well() {
        let pool = BufferPool::new(4 << 20);
        drop([pool.alloc(8192), pool.alloc(300 << 10), pool.alloc(400 << 10)]);
        let free_bytes = pool.free_bytes();
        let large = pool.alloc(256 << 10);
        assert_eq!(large.len(), 320 << 10, "the smaller one that is large enough");
        let another = pool.alloc(256 << 10);
        assert_eq!(another.len(), 256 << 10, "the other would be too much");
        let small = pool.alloc(4096);
        assert_eq!(small.len(), 4096, "there are many of these");
        assert_eq!(pool.free_bytes(), free_bytes - (320 << 10));
    }

    #[test]
    fn slices_outlive_the_pool() {
        let pool = BufferPool::new(1 << 20);
        let mut buffer = pool.alloc(4096);
        buffer.fill(7);
        let slice = buffer.freeze().slice(..);
        drop(pool);
        assert!(slice.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn a_write_alias_is_shorter_and_leaves_ownership_alone() {
        let pool = BufferPool::new(1 << 20);
        let frozen = pool.alloc(8192).freeze();
        let prefix = frozen.dma_prefix(4096);
        assert_eq!(prefix.handle().len(), 4096);
        drop(frozen);
        assert_eq!(pool.free_bytes(), 0, "the write keeps the memory");
        drop(prefix);
        assert_eq!(pool.free_bytes(), 8192);
    }

    #[test]
    fn a_write_alias_that_outlives_its_guard_keeps_the_memory_for_ever() {
        let pool = BufferPool::new(1 << 20);
        let mut buffer = pool.alloc(4096);
        buffer.fill(3);
        let frozen = buffer.freeze();
        let prefix = frozen.dma_prefix(4096);
        let kernel = prefix.handle();
        drop((frozen, prefix));
        assert!(kernel.as_bytes().iter().all(|byte| *byte == 3));
        drop(kernel);
        assert_eq!(pool.free_bytes(), 0);
    }
}
