//! What was read, lent out to any thread without a copy.
//!
//! The memory of a read belongs to glommio's `ReadResult`, which must not leave its executor. So the result stays here and only its bytes go out;
//! whoever drops the last slice of them, on whatever thread, puts the result's number on a list, and the executor frees it when it comes by.
//! This module holds `unsafe` code for one reason: the bytes that go out are a borrow that the compiler cannot see.

use bytes::Bytes;
use glommio::io::ReadResult;
use std::{
    cell::RefCell,
    mem,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

/// The read results of one executor that are in use somewhere.
#[derive(Debug, Default)]
pub(super) struct Lender {
    lent: RefCell<Slots>,
    returned: Arc<Mutex<Vec<usize>>>,
}

#[derive(Debug, Default)]
struct Slots {
    results: Vec<Option<ReadResult>>,
    free: Vec<usize>,
}

impl Lender {
    /// A part of what was read, as bytes that any thread may hold and drop.
    pub fn lend(&self, result: ReadResult, range: Range<usize>) -> Bytes {
        self.collect();
        let memory: &[u8] = &result[range];
        let (start, len) = (memory.as_ptr(), memory.len());
        let slots = &mut *self.lent.borrow_mut();
        let slot = slots.free.pop().unwrap_or(slots.results.len());
        if slot == slots.results.len() {
            slots.results.push(None);
        }
        slots.results[slot] = Some(result);
        Bytes::from_owner(Loan { start, len, slot, returned: self.returned.clone() })
    }

    /// Frees what has come back.
    pub fn collect(&self) {
        // The list is consistent between any two statements, so a panic elsewhere does no harm.
        let returned = mem::take(&mut *self.returned.lock().unwrap_or_else(PoisonError::into_inner));
        let slots = &mut *self.lent.borrow_mut();
        for slot in returned {
            slots.results[slot] = None;
            slots.free.push(slot);
        }
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        self.collect();
        // Somebody still reads the others, and there will be no executor to bring them back to. This happens at shutdown only.
        for result in self.lent.get_mut().results.drain(..) {
            mem::forget(result);
        }
    }
}

/// The bytes of one result, somewhere.
struct Loan {
    start: *const u8,
    len: usize,
    slot: usize,
    returned: Arc<Mutex<Vec<usize>>>,
}

// SAFETY: the pointer leads to heap memory that is only read from here on, and that stays where it is until this value has been dropped: the
// lender keeps the result (which owns the memory and never moves it) until its number is on the list, or for ever. Numbers and list are
// plain data behind a mutex.
unsafe impl Send for Loan {}
// SAFETY: as above; through a shared reference the bytes can only be read.
unsafe impl Sync for Loan {}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `start` and `len` are those of a slice of the result, which lives as long as `self` (see above), is initialised (the kernel
        // has written it) and not written any more.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner).push(self.slot);
    }
}
