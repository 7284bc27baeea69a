//! A signal that interrupts whatever a thread waits for in the kernel, and does nothing else.
//!
//! A thread that sleeps in its ring returns from there (`EINTR`) and looks around, whatever became of the wakes that were sent before. A signal that
//! comes while the thread is running has no effect.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

/// Ignored by default, and not used by libraries for anything that reaches us.
const SIGNAL: libc::c_int = libc::SIGURG;

extern "C" fn do_nothing(_signal: libc::c_int) {}

/// Makes the signal interrupt instead of being ignored. May be called again.
pub fn install() -> io::Result<()> {
    // SAFETY: the structure is plain data, initialised as sigaction asks for; the handler does nothing, which is safe in any context.
    let outcome = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = do_nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        libc::sigemptyset(&mut action.sa_mask);
        // Without SA_RESTART: the wait is to end.
        libc::sigaction(SIGNAL, &action, std::ptr::null_mut())
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The thread that is to be interrupted, once it has said who it is.
#[derive(Debug, Default)]
pub struct NudgedThread {
    /// Its number in the kernel; 0 if not known.
    id: AtomicI32,
}

impl NudgedThread {
    /// It is the calling thread.
    pub fn is_this(&self) {
        // SAFETY: gettid has no preconditions.
        self.id.store(unsafe { libc::gettid() }, Ordering::Relaxed);
    }

    /// Interrupts its wait. Harmless after its end: at worst another thread of this process is interrupted.
    pub fn nudge(&self) {
        let id = self.id.load(Ordering::Relaxed);
        if id != 0 {
            // SAFETY: tgkill takes plain numbers and signals threads of this process only; the handler is harmless everywhere.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), id, SIGNAL) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_thread_that_waits_in_the_kernel_is_interrupted() {
        install().expect("a handler");
        let thread: Arc<NudgedThread> = Arc::default();
        let waiting = std::thread::spawn({
            let thread = thread.clone();
            move || {
                thread.is_this();
                // SAFETY: no descriptors are given, so none is read; it waits for a signal.
                let outcome = unsafe { libc::poll(std::ptr::null_mut(), 0, -1) };
                (outcome, io::Error::last_os_error().kind())
            }
        });
        while !waiting.is_finished() {
            thread.nudge();
            std::thread::yield_now();
        }
        assert_eq!(waiting.join().expect("no panic"), (-1, io::ErrorKind::Interrupted));
    }
}
