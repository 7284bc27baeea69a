//! System calls for which neither std nor glommio has a safe call that fits.

use std::{
    ffi::CString,
    fs::File,
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// The size of a file system. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystemSpace {
    /// All of it.
    pub total_bytes: u64,
    /// What an unprivileged process can still use.
    pub available_bytes: u64,
}

/// The size of the file system of `path`. Asks the kernel, which knows it without the disk.
pub fn file_system_space(path: &Path) -> io::Result<FileSystemSpace> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut stat = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` is a NUL-terminated string and `stat` has room for the structure; both live through the call.
    if unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it has filled the structure.
    let stat = unsafe { stat.assume_init() };
    Ok(FileSystemSpace {
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
    })
}

/// Whether [`sync_file_system`] makes all durable on the file system of `path`, the disk's own cache included. So it does on ext4 and XFS. Others (FUSE, network
/// file systems) say that they have done so and tell nobody.
pub(super) fn syncs_as_a_whole(path: &Path) -> io::Result<bool> {
    const EXT4: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut stat = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `path` is a NUL-terminated string and `stat` has room for the structure; both live through the call.
    if unsafe { libc::statfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it has filled the structure.
    let kind = unsafe { stat.assume_init() }.f_type;
    // Its type differs between platforms; the numbers have 32 bits.
    Ok(matches!(kind as u64 & 0xffff_ffff, EXT4 | XFS))
}

/// Makes all durable that has been done to the file system of `dir`.
pub(super) fn sync_file_system(dir: &Path) -> io::Result<()> {
    // A new descriptor: an error is told to those that were open when it came.
    let dir = File::open(dir)?;
    // SAFETY: the descriptor is open through the call; no memory is involved.
    if unsafe { libc::syncfs(dir.as_raw_fd()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // Without a journal of its own, ext4 flushes the disk before it waits for the last inodes and directories.
    dir.sync_all()
}

/// The length of an open file. By descriptor: glommio asks by path, which is wrong once the file was renamed.
pub(super) fn file_len(fd: RawFd) -> io::Result<u64> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `stat` has room for the structure and lives through the call; a bad descriptor is an error, not undefined.
    if unsafe { libc::fstat(fd, stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it has filled the structure.
    let stat = unsafe { stat.assume_init() };
    u64::try_from(stat.st_size).map_err(io::Error::other)
}
