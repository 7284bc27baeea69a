//! The allocator's set-up, and how much memory there is.

/// Large frames are allocated and freed all the time. By default the C library maps each anew and the kernel zeroes its pages; kept on the
/// heap, they are reused. Call it once, first thing in `main`.
pub fn tune_allocator() {
    // SAFETY: mallopt only sets parameters of the allocator; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 20);
    }
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
