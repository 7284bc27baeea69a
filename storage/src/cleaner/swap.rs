//! How a cleaned segment takes the place of the segments that it was made from, whatever happens meanwhile.
//!
//! 1. The new segment is written to `<base>.log.cleaned` and synced.
//! 2. It is renamed to `<base>.<end>.swap`, where the numbers say which offsets it stands for, from the first up to but excluding the second. When this
//!    name is durable the exchange has happened: whoever finds it completes the rest.
//! 3. The segments with base offsets in that range are removed with their indexes, durably.
//! 4. The file is renamed to `<base>.log`.
//!
//! So after a crash there is either a `.cleaned` file, which is thrown away, and all old segments; or a `.swap` file, and some of the old ones,
//! which go; or the new segment alone. A segment of which nothing is left does not get its name in step 4 but goes too, unless it is
//! the log's first, whose name says where the log begins.

use crate::{
    disk::{DELETED_ENDING, Disk, DiskFile, OpenMode},
    error::StorageError,
    log::{
        index::SegmentIndex,
        partition::LogInner,
        segment::{SegmentMeta, file_name, parse_file_name},
        state::Availability,
    },
    store::partition_dir::remove_segment,
    types::Offset,
};
use std::{path::Path, rc::Rc};

const CLEANED_SUFFIX: &str = "log.cleaned";
const SWAP_SUFFIX: &str = "swap";

/// Name of a segment that is being written.
pub(crate) fn cleaned_name(base_offset: Offset) -> String {
    file_name(base_offset, CLEANED_SUFFIX)
}

/// Name of a segment that stands for the offsets from `base` up to `end`.
fn swap_name(base: Offset, end: Offset) -> String {
    file_name(base, &format!("{:020}.{SWAP_SUFFIX}", end.0))
}

fn parse_swap_name(name: &str) -> Option<(Offset, Offset)> {
    let (base, rest) = parse_file_name(name)?;
    let (end, suffix) = parse_file_name(rest)?;
    (suffix == SWAP_SUFFIX).then_some((base, end))
}

/// Completes the exchanges that a crash has interrupted, and removes what was not finished; `names` are those of the directory's files. Before its
/// segments are looked at. Answers whether there was anything to do.
pub(crate) async fn recover<D: Disk>(
    disk: &D,
    directory: &Path,
    names: impl Iterator<Item = &str> + Clone,
) -> Result<bool, StorageError> {
    let mut has_changed = false;
    for name in names.clone() {
        if name.ends_with(DELETED_ENDING) {
            disk.give_back(&directory.join(name)).await?;
        }
        if parse_file_name(name).is_some_and(|(_, suffix)| suffix == CLEANED_SUFFIX) {
            disk.remove(&directory.join(name)).await?;
            has_changed = true;
        }
    }
    for (base, end) in names.clone().filter_map(parse_swap_name) {
        has_changed = true;
        let segment = |name: &str| {
            let (offset, suffix) = parse_file_name(name)?;
            matches!(suffix, "log" | "index" | "timeindex").then_some(offset)
        };
        let offsets = || names.clone().filter_map(segment);
        let doomed: Vec<Offset> = offsets().filter(|offset| (base..end).contains(offset)).collect();
        let is_first = offsets().all(|offset| offset >= base);
        let file = disk.open(&directory.join(swap_name(base, end)), OpenMode::READ).await?;
        let is_empty = file.len().await? == 0;
        file.close().await?;
        complete(disk, directory, (base, end), &doomed, is_empty && !is_first).await?;
        tracing::info!(directory = %directory.display(), %base, %end, "completed an exchange of segments");
    }
    Ok(has_changed)
}

/// Steps 3 and 4.
async fn complete<D: Disk>(
    disk: &D,
    directory: &Path,
    (base, end): (Offset, Offset),
    doomed: &[Offset],
    goes_too: bool,
) -> Result<(), StorageError> {
    for offset in doomed {
        remove_segment(disk, directory, *offset).await?;
    }
    disk.sync_dir(directory).await?;
    let swap = directory.join(swap_name(base, end));
    match goes_too {
        true => disk.remove(&swap).await?,
        false => disk.rename(&swap, &directory.join(file_name(base, "log"))).await?,
    }
    disk.sync_dir(directory).await?;
    Ok(())
}

impl<D: Disk> LogInner<D> {
    /// Puts the finished `.cleaned` file `new`, which was made from `old`, in their place; they end at `end`, and the log's end had been cut off `cuts` times
    /// before they were looked at. False: they are not there any more as they were, nothing has happened.
    ///
    /// # Errors
    /// A disk that fails when there is no way back is final: the log goes offline and the store fails. The next start completes the exchange.
    pub(crate) async fn replace_segments(
        self: &Rc<Self>,
        old: &[SegmentMeta],
        end: Offset,
        cuts: u64,
        new: SegmentMeta,
        index: SegmentIndex,
    ) -> Result<bool, StorageError> {
        let shared = &self.shared;
        let _lock = shared.maintenance.lock().await;
        let Some(at) = self.find_closed(old, end, cuts) else { return Ok(false) };
        let (disk, directory, base) = (&shared.disk, self.directory(), new.base_offset);
        let swap = directory.join(swap_name(base, end));
        disk.rename(&directory.join(cleaned_name(base)), &swap).await?;

        self.state.borrow_mut().is_swapping = true;
        let doomed: Vec<Offset> = old.iter().map(|s| s.base_offset).collect();
        let goes_too = new.size == 0 && at > 0;
        let exchanged = async {
            disk.sync_dir(&directory).await?;
            complete(disk, &directory, (base, end), &doomed, goes_too).await
        };
        let exchanged = exchanged.await;

        for segment in old {
            shared.files.remove(self.segment_key(segment));
        }
        shared.read_ahead.borrow_mut().forget(self.index);
        if let Err(error) = exchanged {
            self.take_offline(format!(
                "its segments could not be exchanged, a restart completes that: {error}"
            ));
            self.state.borrow_mut().is_swapping = false;
            shared.fail(&error);
            shared.swapped.notify_all();
            return Err(error);
        }
        let new = {
            let state = &mut *self.state.borrow_mut();
            state.swaps += 1;
            state.is_swapping = false;
            let new = SegmentMeta { revision: state.swaps, ..new };
            let kept = (!goes_too).then_some(new);
            state.segments.splice(at..at + old.len(), kept);
            // What is cached of these offsets is as it was before.
            state.tail.forget_below(end);
            new
        };
        if !goes_too {
            let index = Rc::new(index);
            shared.files.put_index(self.segment_key(&new), index.clone());
            if let Err(error) = self.write_index_files(base, &index).await {
                tracing::warn!(%error, "an index is not written; it will be rebuilt when it is needed");
            }
        }
        shared.swapped.notify_all();
        Ok(true)
    }

    /// The place of these neighbours among the log's closed segments, if they are all there and end at `end`. Where the log was cut others of the same size
    /// may have grown.
    fn find_closed(&self, old: &[SegmentMeta], end: Offset, cuts: u64) -> Option<usize> {
        let state = self.state.borrow();
        if !matches!(state.availability, Availability::Online) || state.cuts != cuts {
            return None;
        }
        let at = state.segments.iter().position(|s| s.base_offset == old[0].base_offset)?;
        let found = state.segments.get(at..at + old.len())?;
        let are_same = found
            .iter()
            .zip(old)
            .all(|(a, b)| (a.base_offset, a.revision, a.size) == (b.base_offset, b.revision, b.size));
        let next = state.segments.get(at + old.len())?;
        (are_same && next.base_offset == end).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;
    use futures::executor::block_on;
    use std::path::PathBuf;

    #[test]
    fn names_say_which_offsets_a_segment_stands_for() {
        let name = swap_name(Offset(12), Offset(345));
        assert_eq!(name, "00000000000000000012.00000000000000000345.swap");
        assert_eq!(parse_swap_name(&name), Some((Offset(12), Offset(345))));
        for other in ["00000000000000000012.log", "00000000000000000012.log.cleaned", "12.345.swap"] {
            assert_eq!(parse_swap_name(other), None, "{other}");
        }
        assert_eq!(cleaned_name(Offset(12)), "00000000000000000012.log.cleaned");
    }

    /// What a directory with these files holds after recovery. Files are empty, except those that are named with a block.
    fn recovered(empty: &[&str], full: &[&str]) -> Vec<String> {
        block_on(async {
            let disk = SimDisk::new(1);
            let directory = PathBuf::from("/d");
            disk.create_dir_all(&directory).await.unwrap();
            for (names, len) in [(empty, 0), (full, 4096)] {
                for name in names {
                    let file = disk.open(&directory.join(name), OpenMode::CREATE).await.unwrap();
                    file.truncate(len).await.unwrap();
                }
            }
            recover(&disk, &directory, empty.iter().chain(full).copied()).await.unwrap();
            let left = disk.list(&directory).await.unwrap();
            left.into_iter().map(|entry| entry.name).collect()
        })
    }

    #[test]
    fn what_was_not_finished_goes_and_what_was_begun_is_completed() {
        let log = |n: i64| file_name(Offset(n), "log");
        let index = |n: i64| file_name(Offset(n), "index");
        let swap = |a: i64, b: i64| swap_name(Offset(a), Offset(b));
        assert_eq!(recovered(&[], &[&cleaned_name(Offset(0)), &log(0), &index(0)]), [index(0), log(0)]);
        let all = [log(0), index(0), log(10), log(20), index(20), swap(0, 20)];
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        assert_eq!(recovered(&[], &all), [log(0), index(20), log(20)]);
        assert_eq!(recovered(&[], &[&log(20), &swap(0, 20)]), [log(0), log(20)]);
        assert_eq!(recovered(&[&swap(10, 20)], &[&log(0), &log(10), &log(20)]), [log(0), log(20)]);
        assert_eq!(recovered(&[&swap(0, 20)], &[&log(0), &log(10), &log(20)]), [log(0), log(20)]);
    }
}
