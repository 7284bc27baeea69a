//! The buffers that a shard's connections receive small requests into: one after the other into the same, so that a silent connection holds none.
//!
//! A request that needs its bytes for a moment only (a produce request: they are in the journal's buffer after its first poll) reads them where they were received. Should it keep
//! them all the same, as when it waits for room or goes to another shard, its buffer is lent until the last slice of it is dropped, on whatever thread; meanwhile
//! another one is received into. So that requests that wait cannot take all memory, only a few are lent, and what comes then is copied.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;

/// Size of each.
pub const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;
/// As many may be lent. With the one that is received into they are what a shard has, outside its memory budget.
const LENT_MAX: usize = 4;

/// One of them.
#[derive(Clone)]
pub struct ReceiveBuffer {
    memory: Arc<Vec<u8>>,
}

impl ReceiveBuffer {
    fn new() -> ReceiveBuffer {
        ReceiveBuffer { memory: Arc::new(vec![0; RECEIVE_BUFFER_BYTES]) }
    }

    /// Its memory, to receive into; none while a request reads from it.
    pub fn writable(&mut self) -> Option<&mut [u8]> {
        Arc::get_mut(&mut self.memory).map(Vec::as_mut_slice)
    }

    fn is_lent(&self) -> bool {
        Arc::strong_count(&self.memory) > 1
    }

    /// Its memory, to keep slices of.
    pub fn lend(&self) -> Bytes {
        Bytes::from_owner(self.clone())
    }
}

impl AsRef<[u8]> for ReceiveBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

/// All of a shard.
#[derive(Default)]
pub struct ReceiveBuffers {
    /// The last that was received into first. They are free, or lent and may have become free since.
    kept: RefCell<Vec<ReceiveBuffer>>,
}

impl ReceiveBuffers {
    /// One that nobody reads from.
    pub fn take(&self) -> ReceiveBuffer {
        let mut kept = self.kept.borrow_mut();
        let free = kept.iter_mut().position(|buffer| buffer.writable().is_some());
        free.map_or_else(ReceiveBuffer::new, |place| kept.remove(place))
    }

    /// Whether requests may keep slices of the one that has been taken.
    pub fn may_lend(&self) -> bool {
        self.kept.borrow().iter().filter(|buffer| buffer.is_lent()).count() < LENT_MAX
    }

    /// Takes it back, lent or not.
    pub fn put_back(&self, buffer: ReceiveBuffer) {
        self.kept.borrow_mut().insert(0, buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(buffer: &ReceiveBuffer) -> usize {
        buffer.as_ref().as_ptr().addr()
    }

    #[test]
    fn one_buffer_does_unless_it_is_lent() {
        let buffers = ReceiveBuffers::default();
        let first = buffers.take();
        let place = address(&first);
        let lent = first.lend().slice(10..20);
        buffers.put_back(first);
        let mut second = buffers.take();
        assert_ne!(address(&second), place, "somebody reads from the first");
        assert!(second.writable().is_some());
        buffers.put_back(second);
        std::thread::spawn(move || drop(lent)).join().expect("joined");
        let all: Vec<_> = (0..2).map(|_| buffers.take()).collect();
        assert!(all.iter().any(|buffer| address(buffer) == place), "it is free again");
    }

    #[test]
    fn only_a_few_are_lent() {
        let buffers = ReceiveBuffers::default();
        let mut lent = Vec::new();
        while buffers.may_lend() {
            let buffer = buffers.take();
            lent.push(buffer.lend());
            buffers.put_back(buffer);
        }
        assert_eq!(lent.len(), LENT_MAX);
        let mut another = buffers.take();
        assert!(another.writable().is_some());
        buffers.put_back(another);
        assert_eq!(buffers.kept.borrow().len(), LENT_MAX + 1);
        lent.pop();
        assert!(buffers.may_lend());
    }
}
