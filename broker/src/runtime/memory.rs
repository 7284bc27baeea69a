//! The allocator's set-up, and how much memory there is.

use std::time::Duration;

/// How often it is looked whether the process takes too much memory, and how seldom when nothing can be done about it.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);
const WATCH_INTERVAL_MAX: Duration = Duration::from_secs(5);
/// Giving back is of use if that was at least this part of the memory allowed.
const USEFUL_SHARE: u64 = 32;

/// Large frames are allocated and freed all the time. By default the C library maps each anew and the kernel zeroes its pages; kept on the
/// heap, they are reused. Call it once, first thing in `main`.
pub fn tune_allocator() {
    // SAFETY: mallopt only sets parameters of the allocator; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 20);
    }
}

/// Gives back what the allocator keeps without use whenever the process takes more than `memory_bytes`. What is in use is bounded elsewhere; but after
/// a peak of one kind of memory, holes in it cannot serve a peak of another kind. Starts a thread for the life of the process.
pub fn keep_within(memory_bytes: u64) -> std::io::Result<()> {
    let watch = move || {
        let mut pause = WATCH_INTERVAL;
        loop {
            std::thread::sleep(pause);
            if resident_bytes() <= memory_bytes {
                pause = WATCH_INTERVAL;
                continue;
            }
            let before = resident_bytes();
            super::allocator::give_back();
            // SAFETY: a plain call, allowed at any time from any thread.
            unsafe { libc::malloc_trim(0) };
            // While it is of no use it is tried less and less often.
            let is_of_use = before.saturating_sub(resident_bytes()) >= memory_bytes / USEFUL_SHARE;
            pause = if is_of_use { WATCH_INTERVAL } else { (pause * 2).min(WATCH_INTERVAL_MAX) };
        }
    };
    std::thread::Builder::new().name("memory".into()).spawn(watch)?;
    Ok(())
}

/// Memory that the machine, or the control group if that has less, gives this process.
pub fn available_to_process() -> u64 {
    let machine = machine_bytes();
    let group = std::fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("0::").map(str::to_owned)))
        .and_then(|group| std::fs::read_to_string(format!("/sys/fs/cgroup{group}/memory.max")).ok())
        .and_then(|limit| limit.trim().parse().ok());
    group.map_or(machine, |limit: u64| limit.min(machine))
}

fn machine_bytes() -> u64 {
    // SAFETY: sysconf only reads numbers.
    let (pages, page) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    u64::try_from(pages).unwrap_or(0) * u64::try_from(page).unwrap_or(4096)
}

/// Resident memory of this process.
pub fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()));
    pages.unwrap_or(0) * 4096
}
