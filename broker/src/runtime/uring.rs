//! Whether this system lets the broker use io_uring, and what to do if it does not.

use std::io;

use super::limits;

/// glommio refuses to start with less locked memory.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// Checks that rings can be created; the error is a paragraph for the operator.
pub fn check() -> Result<(), String> {
    check_memlock()?;
    match try_ring() {
        Ok(()) => Ok(()),
        Err(error) => Err(explain(&error, disabled_setting().as_deref())),
    }
}

fn check_memlock() -> Result<(), String> {
    match limits::raise(libc::RLIMIT_MEMLOCK) {
        Ok(bytes) if bytes < MEMLOCK_BYTES_MIN => Err(format!(
            "The limit on locked memory is {bytes} bytes; io_uring needs at least {MEMLOCK_BYTES_MIN}. \
             Raise it: LimitMEMLOCK=infinity in the systemd unit, or `ulimit -l 8192` in the shell (memlock in /etc/security/limits.conf)."
        )),
        _ => Ok(()),
    }
}

fn try_ring() -> io::Result<()> {
    /// `struct io_uring_params` is 120 bytes.
    const PARAMS_BYTES: usize = 120;
    let mut params = [0u64; PARAMS_BYTES / 8];
    // SAFETY: `params` is as large as the kernel's structure and zeroed, as it demands.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4 as libc::c_long, params.as_mut_ptr()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just created and nobody else has it.
    unsafe { libc::close(fd as libc::c_int) };
    Ok(())
}

fn disabled_setting() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok().map(|text| text.trim().to_owned())
}

fn explain(error: &io::Error, disabled: Option<&str>) -> String {
    match (error.raw_os_error(), disabled) {
        (Some(libc::EPERM), Some(level @ ("1" | "2"))) => format!(
            "The broker needs io_uring, which this system has switched off (kernel.io_uring_disabled = {level}). \
             Allow it: `sysctl kernel.io_uring_disabled=0`, and the same line in /etc/sysctl.d/ to keep it."
        ),
        (Some(libc::EPERM | libc::EACCES), _) => "The broker needs io_uring, but io_uring_setup is refused, most likely by a seccomp \
             filter of the container or service. Allow io_uring_setup, io_uring_enter and io_uring_register: with Docker or Podman \
             `--security-opt seccomp=profile.json` (or seccomp=unconfined), under systemd take them out of SystemCallFilter=."
            .into(),
        (Some(libc::ENOSYS), _) => {
            "The broker needs io_uring, which this kernel does not have. Use Linux 5.11 or later, with CONFIG_IO_URING.".into()
        }
        (Some(libc::ENOMEM), _) => "The broker needs io_uring, but the kernel has no locked memory left for a ring. \
             Raise the limit: LimitMEMLOCK=infinity in the systemd unit, or `ulimit -l` in the shell."
            .into(),
        _ => format!("The broker needs io_uring, but io_uring_setup fails: {error}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_who_refuses_and_how_to_allow_it() {
        let refused = io::Error::from_raw_os_error(libc::EPERM);
        assert!(explain(&refused, Some("2")).contains("sysctl kernel.io_uring_disabled=0"));
        assert!(explain(&refused, Some("0")).contains("seccomp"));
        assert!(explain(&io::Error::from_raw_os_error(libc::ENOSYS), None).contains("Linux 5.11"));
    }

    #[test]
    fn rings_can_be_created_here() {
        assert_eq!(check(), Ok(()));
    }
}
