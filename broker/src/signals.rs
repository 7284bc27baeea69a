//! SIGTERM and SIGINT as events: the first asks for an orderly stop, the second ends the process at once.

use std::io;
use std::sync::mpsc;

use crate::server::Event;

/// Blocks the signals in this thread and all that it will start; call it in `main` before any other thread exists.
pub fn block() -> io::Result<()> {
    let set = stop_signals();
    // SAFETY: the pointer is to a valid signal set; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Starts the thread that waits for the signals; [`block`] was called before.
pub fn forward(events: mpsc::Sender<Event>) -> io::Result<()> {
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let first = wait();
        let _ = events.send(Event::Signal(first));
        let second = wait();
        eprintln!("second signal: stopping at once");
        std::process::exit(128 + second);
    })?;
    Ok(())
}

fn wait() -> libc::c_int {
    let set = stop_signals();
    let mut signal = 0;
    loop {
        // SAFETY: both pointers are to valid values of their types.
        if unsafe { libc::sigwait(&set, &mut signal) } == 0 {
            return signal;
        }
    }
}

fn stop_signals() -> libc::sigset_t {
    // SAFETY: sigset_t is plain data; sigemptyset initialises it before anything reads it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::sigaddset(&mut set, libc::SIGINT);
        set
    }
}
