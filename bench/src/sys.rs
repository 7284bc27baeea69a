//! What needs the operating system directly: pinning a thread to a core, memory and space for direct I/O, and looking at a socket without waiting.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// Alignment of memory, position and length that direct I/O asks for.
pub const DIRECT_ALIGN: usize = 4096;

/// Pins the calling thread to `core`.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    // SAFETY: `cpu_set_t` is a plain bit set for which all zeros is the empty set, CPU_SET checks nothing but stays inside it for
    // cores below CPU_SETSIZE (asserted), and the kernel only reads the set during the call.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        assert!(core < libc::CPU_SETSIZE as usize, "core {core} cannot be named in a cpu_set_t");
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The cores that this process may run on, ascending.
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    // SAFETY: as above; the kernel writes at most the size that is given.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((0..libc::CPU_SETSIZE as usize).filter(|core| libc::CPU_ISSET(*core, &set)).collect())
    }
}

/// Takes what a socket has received, without waiting and without the executor; [`io::ErrorKind::WouldBlock`] when that is nothing.
pub fn receive_now(socket: RawFd, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of a slice that is ours for the call; a descriptor that is none is an error.
    let received = unsafe { libc::recv(socket, into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) };
    usize::try_from(received).map_err(|_| io::Error::last_os_error())
}

/// Reserves space of a file, which reads as zeros and may be written to without asking for more.
pub fn reserve(file: &File, from: u64, bytes: u64) -> io::Result<()> {
    let [from, bytes] = [from, bytes].map(|n| libc::off_t::try_from(n).map_err(io::Error::other));
    // SAFETY: there is no pointer, and the descriptor is open for the call.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), from?, bytes?) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Zeroed memory whose first byte lies on a [`DIRECT_ALIGN`] boundary.
pub struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    /// A buffer of `len` bytes.
    pub fn new(len: usize) -> AlignedBuffer {
        let memory = vec![0; len + DIRECT_ALIGN];
        let start = memory.as_ptr().align_offset(DIRECT_ALIGN);
        AlignedBuffer { memory, start, len }
    }

    /// The buffer's bytes.
    pub fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }

    /// The buffer's bytes.
    pub fn as_ref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_run_on_its_core_only() {
        let core = *allowed_cores().expect("readable").last().expect("at least one core");
        let allowed = std::thread::spawn(move || {
            pin_to_core(core).expect("the core is allowed");
            allowed_cores().expect("readable")
        });
        assert_eq!(allowed.join().expect("no panic"), [core]);
    }

    #[test]
    fn buffers_for_direct_io_are_aligned() {
        let mut buffer = AlignedBuffer::new(8192);
        assert_eq!(buffer.as_ref().as_ptr() as usize % DIRECT_ALIGN, 0);
        assert_eq!(buffer.as_mut().len(), 8192);
    }
}
