//! The process's allocator: malloc, but for large disk buffers, which are mapped one by one.
//!
//! Disk buffers live in the cache for seconds or hours, requests for milliseconds. On one heap a full load mixes them, and what either kind gives back are
//! holes that the other cannot use: a third of the process's memory was lost to that. Mapped, a disk buffer that is given back is the system's at once.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;

/// Disk buffers are known by their alignment, which is a page's.
const PAGE_BYTES: usize = 4096;
/// Smaller ones are not worth a system call.
const MAPPED_BYTES_MIN: usize = 256 << 10;

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allocator;

fn is_mapped(layout: &Layout) -> bool {
    layout.align() == PAGE_BYTES && layout.size() >= MAPPED_BYTES_MIN
}

// SAFETY: `is_mapped` depends on the layout alone, so memory goes back to where it came from. What is mapped is aligned to pages, zeroed, and nobody
// else's; the default `realloc` copies by `alloc` and `dealloc`.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !is_mapped(&layout) {
            // SAFETY: the caller keeps the contract of `alloc`.
            return unsafe { System.alloc(layout) };
        }
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let mapped = unsafe { libc::mmap(ptr::null_mut(), layout.size(), access, kind, -1, 0) };
        if mapped == libc::MAP_FAILED { ptr::null_mut() } else { mapped.cast() }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if is_mapped(&layout) {
            // SAFETY: `memory` is the start of a mapping of this size, which the caller does not use any more.
            unsafe { libc::munmap(memory.cast(), layout.size()) };
        } else {
            // SAFETY: the caller keeps the contract of `dealloc`.
            unsafe { System.dealloc(memory, layout) };
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_mapped(&layout) {
            // SAFETY: the caller keeps the contract; a new mapping is zeroed.
            unsafe { self.alloc(layout) }
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
}
