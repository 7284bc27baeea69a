//! The data directory as a whole: one broker at a time, and a format that this program knows. Called once at start, before any shard runs.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// The format that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

const LOCK_FILE: &str = ".lock";
const FORMAT_FILE: &str = "format";

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another broker has it.
    #[error("{} is in use by another broker: it holds the lock on {LOCK_FILE}", .0.display())]
    Locked(PathBuf),
    /// A newer program wrote it.
    #[error("{} has format version {found}, this program reads up to {FORMAT_VERSION}: use the newer program", path.display())]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Its format file is no format file.
    #[error("{} is not a data directory of this program: its file \"{FORMAT_FILE}\" cannot be read as one", .0.display())]
    UnknownFormat(PathBuf),
    /// There are files in it, but no format file.
    #[error("{} is not empty and not a data directory of this program", .0.display())]
    Foreign(PathBuf),
    /// The system refuses.
    #[error("cannot open the data directory {}: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A data directory that this process has locked; the lock lasts as long as the value.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// Creates the directory if there is none, locks it, and checks its format.
///
/// # Errors
/// See [`DataDirError`].
pub fn open(path: &Path) -> Result<DataDir, DataDirError> {
    let failed = |source| DataDirError::Io { path: path.to_owned(), source };
    fs::create_dir_all(path).map_err(failed)?;
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join(LOCK_FILE))
        .map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(DataDirError::Locked(path.to_owned())),
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    check_format(path)?;
    Ok(DataDir { path: path.to_owned(), _lock: lock })
}

impl DataDir {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn check_format(path: &Path) -> Result<(), DataDirError> {
    let failed = |source| DataDirError::Io { path: path.to_owned(), source };
    match fs::read_to_string(path.join(FORMAT_FILE)) {
        Ok(text) => match text.strip_prefix("version: ").and_then(|v| v.trim_end().parse::<u32>().ok()) {
            Some(found) if found <= FORMAT_VERSION => Ok(()),
            Some(found) => Err(DataDirError::NewerFormat { path: path.to_owned(), found }),
            None => Err(DataDirError::UnknownFormat(path.to_owned())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            for entry in fs::read_dir(path).map_err(failed)? {
                let name = entry.map_err(failed)?.file_name();
                // A file system's root has this directory; the other is left by a crash in the next lines.
                if ![LOCK_FILE, "lost+found", "format.tmp"].iter().any(|known| name == *known) {
                    return Err(DataDirError::Foreign(path.to_owned()));
                }
            }
            write_format(path).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(DataDirError::UnknownFormat(path.to_owned()))
        }
        Err(error) => Err(failed(error)),
    }
}

fn write_format(path: &Path) -> io::Result<()> {
    let temporary = path.join("format.tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(format!("version: {FORMAT_VERSION}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path.join(FORMAT_FILE))?;
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_broker_is_told_that_the_directory_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let first = open(&path).unwrap();
        assert!(matches!(open(&path), Err(DataDirError::Locked(_))));
        drop(first);
        open(&path).unwrap();
    }

    #[test]
    fn a_newer_format_and_foreign_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        fs::write(dir.path().join(FORMAT_FILE), "version: 2\n").unwrap();
        assert!(matches!(open(dir.path()), Err(DataDirError::NewerFormat { found: 2, .. })));
        fs::write(dir.path().join(FORMAT_FILE), "what?").unwrap();
        assert!(matches!(open(dir.path()), Err(DataDirError::UnknownFormat(_))));
        fs::remove_file(dir.path().join(FORMAT_FILE)).unwrap();
        fs::write(dir.path().join("thesis.tex"), "").unwrap();
        assert!(matches!(open(dir.path()), Err(DataDirError::Foreign(_))));
    }
}
