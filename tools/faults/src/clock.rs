//! A wall clock that is wrong by as much as a file says, for a program that is started with this library in `LD_PRELOAD`.
//!
//! The file named in `JUMPING_CLOCK` holds one number, the nanoseconds by which the clock is ahead (signed, 64 bits, the machine's byte order). It is
//! mapped, so a change is seen at once, as somebody's `date -s` would be. Only `CLOCK_REALTIME` jumps: the monotonic clocks of a real machine do not
//! either. It is for programs that ask through libc's `clock_gettime`, as those in Rust do.

use std::ffi::{CStr, c_int};
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicPtr, Ordering};

const VARIABLE: &CStr = c"JUMPING_CLOCK";
const NANOS_PER_SECOND: i64 = 1_000_000_000;

type ClockGettime = unsafe extern "C" fn(libc::clockid_t, *mut libc::timespec) -> c_int;

/// libc's own function, once it was looked for.
static REAL: AtomicPtr<libc::c_void> = AtomicPtr::new(ptr::null_mut());
/// The mapped number, once the file was opened.
static AHEAD: AtomicPtr<AtomicI64> = AtomicPtr::new(ptr::null_mut());
/// What [`AHEAD`] points to without a file.
static NOTHING: AtomicI64 = AtomicI64::new(0);

/// libc's `clock_gettime`, whose wall clock is ahead by what the file says.
///
/// # Safety
/// As libc's: `time` is null or points to room for a `timespec`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    // SAFETY: the caller's promise is libc's condition.
    let result = unsafe { real()(clock, time) };
    if result == 0 && matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE) {
        let ahead = nanos_ahead();
        if ahead != 0 {
            // SAFETY: the call has succeeded, so `time` points to a timespec that it has filled.
            let time = unsafe { &mut *time };
            let nanos = time.tv_nsec + ahead.rem_euclid(NANOS_PER_SECOND);
            time.tv_sec += ahead.div_euclid(NANOS_PER_SECOND) + nanos / NANOS_PER_SECOND;
            time.tv_nsec = nanos % NANOS_PER_SECOND;
        }
    }
    result
}

fn real() -> ClockGettime {
    let mut found = REAL.load(Ordering::Acquire);
    if found.is_null() {
        // SAFETY: the name is a string that ends with NUL.
        found = unsafe { libc::dlsym(libc::RTLD_NEXT, c"clock_gettime".as_ptr()) };
        if found.is_null() {
            // SAFETY: abort is always allowed; there is no clock to go on with.
            unsafe { libc::abort() };
        }
        REAL.store(found, Ordering::Release);
    }
    // SAFETY: it is libc's function of this name, which has this type.
    unsafe { mem::transmute::<*mut libc::c_void, ClockGettime>(found) }
}

fn nanos_ahead() -> i64 {
    let mut mapped = AHEAD.load(Ordering::Acquire);
    if mapped.is_null() {
        mapped = map().unwrap_or(ptr::from_ref(&NOTHING).cast_mut());
        // Two threads at once map it twice, which does no harm.
        AHEAD.store(mapped, Ordering::Release);
    }
    // SAFETY: it points to `NOTHING` or to a mapping that stays for ever, both aligned and of that size.
    unsafe { (*mapped).load(Ordering::Relaxed) }
}

/// With libc alone: this runs inside of a function that everything else may call.
fn map() -> Option<*mut AtomicI64> {
    // SAFETY: the strings end with NUL; the descriptor is open when it is mapped, and the mapping outlives it.
    unsafe {
        let path = libc::getenv(VARIABLE.as_ptr());
        if path.is_null() {
            return None;
        }
        let file = libc::open(path, libc::O_RDONLY | libc::O_CLOEXEC);
        if file < 0 {
            return None;
        }
        let mapped =
            libc::mmap(ptr::null_mut(), size_of::<AtomicI64>(), libc::PROT_READ, libc::MAP_SHARED, file, 0);
        libc::close(file);
        (mapped != libc::MAP_FAILED).then(|| mapped.cast())
    }
}
