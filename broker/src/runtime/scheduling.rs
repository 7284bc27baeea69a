//! What the kernel's scheduler is told about a shard's thread and about the kernel's workers behind its rings.
//!
//! A synced write passes through two kernel threads: a worker of the ring, which submits it, and one that completes it. Both have to run soon, or the
//! acknowledgement waits for the next tick of the scheduler (4 ms with HZ=250).

use std::io;
use std::time::Duration;

/// `IORING_REGISTER_IOWQ_AFF` of `io_uring_register(2)` (Linux 5.14).
const REGISTER_IOWQ_AFFINITY: libc::c_uint = 17;

/// How long the thread may run before whoever wakes on its core gets a turn; the scheduler's default is about 3 ms. The shortest that it takes.
pub const SHARD_SLICE: Duration = Duration::from_micros(100);

/// Keeps the workers of this thread's rings on `core`. The scheduler would send them to any core, also to one that somebody else
/// keeps busy.
pub fn keep_ring_workers_on(core: usize) -> io::Result<()> {
    // SAFETY: a set of bits, for which zeros are the empty set.
    let mut cores: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: ignores what does not fit into the set.
    unsafe { libc::CPU_SET(core, &mut cores) };
    let ring = any_ring()?.ok_or_else(|| io::Error::other("this process has no ring"))?;
    // The setting is the calling thread's, whichever ring it goes through.
    // SAFETY: the kernel reads the set, whose size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring,
            REGISTER_IOWQ_AFFINITY,
            &raw const cores,
            size_of_val(&cores),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The descriptor of some ring of this process: glommio does not tell its own.
fn any_ring() -> io::Result<Option<libc::c_int>> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        // A descriptor may be closed meanwhile.
        if std::fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == "anon_inode:[io_uring]")
        {
            return Ok(entry.file_name().to_str().and_then(|name| name.parse().ok()));
        }
    }
    Ok(None)
}

/// Lets the calling thread run for `slice` at a time when others want its core (Linux 6.12; older kernels ignore it). What else is set for it
/// stays as it is.
pub fn run_in_slices_of(slice: Duration) -> io::Result<()> {
    let mut attr = SchedAttr::default();
    // SAFETY: the kernel writes as many bytes as it is told there are.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, size_of::<SchedAttr>(), 0) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if attr.policy != libc::SCHED_OTHER as u32 {
        return Ok(());
    }
    attr.runtime = slice.as_nanos() as u64;
    // SAFETY: the kernel reads the structure, whose size it contains.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `struct sched_attr` of `sched_setattr(2)` in its first version.
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{ExecutorOptions, spawn_executor};

    #[test]
    fn a_thread_with_rings_may_give_both_hints() {
        let executor = spawn_executor(ExecutorOptions::default(), || async {
            keep_ring_workers_on(0)?;
            run_in_slices_of(SHARD_SLICE)
        });
        executor.expect("an executor").join().expect("an orderly end").expect("both are taken");
    }
}
