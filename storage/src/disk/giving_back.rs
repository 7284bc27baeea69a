//! Giving the space of removed files back, slowly.
//!
//! Where free space is discarded at once (the mount option `discard`, or a journal-less ext4), removing a file of 1 GiB keeps the device busy for a quarter of a second, and a
//! journal's write that comes meanwhile waits for all of it. So files are made shorter step by step on a thread of their own, with pauses in which
//! others get their turn. They go only a while after they were let go, so that reads under way end as they began.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// What is taken off a file at once. Bytes.
const STEP_BYTES: u64 = 4 << 20;
const PAUSE: Duration = Duration::from_millis(4);
/// What a read can take at most, with a lot to spare.
const DELAY: Duration = Duration::from_secs(10);

/// The way to the thread. It ends with its senders; what is left then is found by the next start.
#[derive(Debug)]
pub(super) struct GivingBack(mpsc::Sender<(Instant, PathBuf)>);

impl GivingBack {
    pub fn start() -> io::Result<Self> {
        let (sender, doomed) = mpsc::channel::<(Instant, PathBuf)>();
        thread::Builder::new().name("space-return".to_owned()).spawn(move || {
            for (since, path) in doomed {
                thread::sleep((since + DELAY).saturating_duration_since(Instant::now()));
                match remove(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        tracing::warn!(path = %path.display(), %error, "not removed; the next start tries again");
                    }
                    _ => {}
                }
            }
        })?;
        Ok(Self(sender))
    }

    pub fn take(&self, path: &Path) {
        // The thread ends after its senders only.
        let _ = self.0.send((Instant::now(), path.to_owned()));
    }
}

/// Removes a file, or a directory with its files.
fn remove(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return remove_file(path);
    }
    for entry in fs::read_dir(path)? {
        remove_file(&entry?.path())?;
    }
    fs::remove_dir(path)
}

fn remove_file(path: &Path) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).open(path)?;
    let mut bytes = file.metadata()?.len();
    while bytes > STEP_BYTES {
        bytes -= STEP_BYTES;
        file.set_len(bytes)?;
        thread::sleep(PAUSE);
    }
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_directories_go_whatever_their_size() {
        let folder = tempfile::tempdir().unwrap();
        let (file, directory) = (folder.path().join("a.log.deleted"), folder.path().join("orders-0-delete"));
        fs::File::create(&file).unwrap().set_len(2 * STEP_BYTES + 1).unwrap();
        fs::create_dir(&directory).unwrap();
        for (name, bytes) in [("large.log", STEP_BYTES + 1), ("empty.index", 0)] {
            fs::File::create(directory.join(name)).unwrap().set_len(bytes).unwrap();
        }
        remove(&file).unwrap();
        remove(&directory).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(remove(&file).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
