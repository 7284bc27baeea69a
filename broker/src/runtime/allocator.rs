//! The process's allocator: malloc, but for large disk buffers, which are mapped one by one.
//!
//! Disk buffers live in the cache for seconds or hours, requests for milliseconds. On one heap a full load mixes them, and what either kind gives back are
//! holes that the other cannot use: a third of the process's memory was lost to that. Mapped, a disk buffer that is given back is the system's at once.
//!
//! Almost at once: a few are kept for the next who wants one. The pages of a new mapping have to be found and cleared, and for a reader of cold data, who takes
//! a buffer for each piece and lets go of it when it is sent, that took as much processor time as all the rest.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Disk buffers are known by their alignment, which is a page's.
const PAGE_BYTES: usize = 4096;
/// Smaller ones are not worth a system call.
const MAPPED_BYTES_MIN: usize = 256 << 10;
/// So much is kept at most, in so many blocks.
const KEPT_BYTES_MAX: usize = 16 << 20;
const KEPT_BLOCKS_MAX: usize = 32;

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allocator;

/// Blocks of memory that are mapped and unused.
struct Kept {
    /// Address and size of each; none has the size 0.
    blocks: [(usize, usize); KEPT_BLOCKS_MAX],
    bytes: usize,
}

static KEPT: Mutex<Kept> = Mutex::new(Kept::new());

impl Kept {
    const fn new() -> Self {
        Kept { blocks: [(0, 0); KEPT_BLOCKS_MAX], bytes: 0 }
    }

    /// The address of a block of this size.
    fn take(&mut self, bytes: usize) -> Option<usize> {
        let block = self.blocks.iter_mut().find(|block| block.1 == bytes)?;
        self.bytes -= bytes;
        Some(std::mem::take(block).0)
    }

    /// Keeps a block, if there is room for it.
    fn put(&mut self, address: usize, bytes: usize) -> bool {
        let room = self.blocks.iter_mut().find(|block| block.1 == 0);
        let Some(room) = room.filter(|_| self.bytes + bytes <= KEPT_BYTES_MAX) else { return false };
        *room = (address, bytes);
        self.bytes += bytes;
        true
    }
}

fn kept() -> MutexGuard<'static, Kept> {
    // Nothing in here panics.
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives all blocks that are kept back to the system.
pub fn give_back() {
    let blocks = std::mem::replace(&mut *kept(), Kept::new()).blocks;
    for (address, bytes) in blocks.into_iter().filter(|block| block.1 > 0) {
        unmap(ptr::with_exposed_provenance_mut(address), bytes);
    }
}

fn is_mapped(layout: &Layout) -> bool {
    layout.align() == PAGE_BYTES && layout.size() >= MAPPED_BYTES_MIN
}

/// The size of the mapping for a layout: similar ones have the same, so that each can use what the other has left.
fn mapping_bytes(layout: &Layout) -> usize {
    layout.size().next_multiple_of(layout.size().next_power_of_two() / 16)
}

fn map(bytes: usize) -> *mut u8 {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
    let mapped = unsafe { libc::mmap(ptr::null_mut(), bytes, access, kind, -1, 0) };
    if mapped == libc::MAP_FAILED { ptr::null_mut() } else { mapped.cast() }
}

/// `memory` is the start of a mapping of this size, which nobody uses any more.
fn unmap(memory: *mut u8, bytes: usize) {
    // SAFETY: see above; both callers have it from `map`.
    unsafe { libc::munmap(memory.cast(), bytes) };
}

// SAFETY: `is_mapped` and `mapping_bytes` depend on the layout alone, so memory goes back to where it came from. What is mapped is aligned to pages and nobody
// else's: a block is either in use or kept. The default `realloc` copies by `alloc` and `dealloc`.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !is_mapped(&layout) {
            // SAFETY: the caller keeps the contract of `alloc`.
            return unsafe { System.alloc(layout) };
        }
        let bytes = mapping_bytes(&layout);
        match kept().take(bytes) {
            Some(address) => ptr::with_exposed_provenance_mut(address),
            None => map(bytes),
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if !is_mapped(&layout) {
            // SAFETY: the caller keeps the contract of `dealloc`.
            return unsafe { System.dealloc(memory, layout) };
        }
        let bytes = mapping_bytes(&layout);
        let is_kept = kept().put(memory.expose_provenance(), bytes);
        if !is_kept {
            unmap(memory, bytes);
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_mapped(&layout) {
            // A new mapping is zeroed.
            map(mapping_bytes(&layout))
        } else {
            // SAFETY: the caller keeps the contract of `alloc_zeroed`.
            unsafe { System.alloc_zeroed(layout) }
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        // SAFETY: the caller has made sure that the new size is valid for this alignment.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_bytes, layout.align()) };
        if !is_mapped(&layout) && !is_mapped(&new_layout) {
            // SAFETY: the caller keeps the contract of `realloc`.
            return unsafe { System.realloc(memory, layout, new_bytes) };
        }
        // SAFETY: the caller keeps the contract of `realloc`; both blocks are at least as large as what is copied, and different.
        unsafe {
            let new = self.alloc(new_layout);
            if !new.is_null() {
                ptr::copy_nonoverlapping(memory, new, layout.size().min(new_bytes));
                self.dealloc(memory, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_disk_buffers_are_mapped_and_keep_their_content_when_they_grow_or_shrink() {
        let layout = |bytes| Layout::from_size_align(bytes, PAGE_BYTES).expect("valid");
        assert!(!is_mapped(&Layout::from_size_align(1 << 20, 16).expect("valid")));
        for (from, to) in [(4096, 1 << 20), (1 << 20, 4096), (1 << 20, 2 << 20)] {
            // SAFETY: each block is used within its size and given back once, with its layout.
            unsafe {
                let memory = Allocator.alloc(layout(from));
                ptr::write_bytes(memory, 7, from);
                let memory = Allocator.realloc(memory, layout(from), to);
                assert!(memory.addr().is_multiple_of(PAGE_BYTES));
                let kept = std::slice::from_raw_parts(memory, from.min(to));
                assert!(kept.iter().all(|byte| *byte == 7));
                Allocator.dealloc(memory, layout(to));
            }
        }
    }

    #[test]
    fn blocks_are_kept_for_others_of_their_size_up_to_a_bound() {
        let mut kept = Kept::new();
        assert!(kept.put(1, 1 << 20) && kept.put(2, 9 << 17));
        assert_eq!(kept.take(1 << 19), None);
        assert_eq!(kept.take(9 << 17), Some(2));
        assert_eq!(kept.take(9 << 17), None, "it is in use");
        let count = (3..).take_while(|address| kept.put(*address, 1 << 20)).count();
        assert_eq!((count, kept.bytes), (15, KEPT_BYTES_MAX), "one was there before");
        assert_eq!(kept.take(1 << 20).into_iter().len(), 1);
        let mut small = Kept::new();
        assert_eq!(
            (1..).take_while(|address| small.put(*address, MAPPED_BYTES_MIN)).count(),
            KEPT_BLOCKS_MAX
        );
    }

    #[test]
    fn similar_sizes_share_blocks_and_at_most_an_eighth_of_one_is_in_vain() {
        let bytes = |size| mapping_bytes(&Layout::from_size_align(size, PAGE_BYTES).expect("valid"));
        assert_eq!(bytes(1 << 20), 1 << 20);
        assert_eq!((bytes((1 << 20) + 4096), bytes((1 << 20) + 65536)), (9 << 17, 9 << 17));
        for pages in MAPPED_BYTES_MIN / PAGE_BYTES..3000 {
            let size = pages * PAGE_BYTES;
            assert!((size..=size + size / 8).contains(&bytes(size)), "{size}");
        }
    }

    #[test]
    fn what_has_to_be_zero_is() {
        let layout = Layout::from_size_align(1 << 20, PAGE_BYTES).expect("valid");
        // SAFETY: each block is used within its size and given back once, with its layout.
        unsafe {
            let memory = Allocator.alloc(layout);
            ptr::write_bytes(memory, 7, layout.size());
            Allocator.dealloc(memory, layout);
            let memory = Allocator.alloc_zeroed(layout);
            assert!(std::slice::from_raw_parts(memory, layout.size()).iter().all(|byte| *byte == 0));
            Allocator.dealloc(memory, layout);
        }
        give_back();
    }
}
