//! Files to measure on: nameless, so that nothing is left behind.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Size of a filled file.
pub(super) const FILE_BYTES: u64 = 128 << 20;
const FILL_BYTES: usize = 1 << 20;

/// A file without a name, which is gone when the measurement ends, however it ends.
pub(super) struct Scratch(File);

impl Scratch {
    /// An empty file on the file system of `dir`.
    pub(super) fn create(dir: &Path) -> io::Result<Scratch> {
        let path = dir.join(format!(".bench-limits-{}.tmp", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Scratch(file))
    }

    /// Where it can be opened once more.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }

    /// A file filled with zeros.
    pub(super) fn filled(dir: &Path) -> io::Result<Scratch> {
        let scratch = Scratch::create(dir)?;
        let zeros = vec![0; FILL_BYTES];
        for position in (0..FILE_BYTES).step_by(FILL_BYTES) {
            scratch.0.write_all_at(&zeros, position)?;
        }
        scratch.0.sync_all()?;
        Ok(scratch)
    }

    /// Opens it for direct writes.
    pub(super) fn open(&self, flags: i32, remarks: &mut Vec<String>) -> io::Result<File> {
        match OpenOptions::new().write(true).custom_flags(libc::O_DIRECT | flags).open(self.path()) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                let remark = "this file system has no direct I/O: journal figures are of cached writes";
                if !remarks.iter().any(|known| known == remark) {
                    remarks.push(remark.to_owned());
                }
                OpenOptions::new().write(true).custom_flags(flags).open(self.path())
            }
            other => other,
        }
    }
}
