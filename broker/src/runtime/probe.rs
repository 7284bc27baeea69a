//! Makes glommio see that disks are not pollable.
//!
//! At the first `DmaFile` of a device glommio tries a polled read. Done on an ordinary file of some file systems the trial succeeds although the
//! device does not poll, and from then on the executor spins during disk I/O. On a file that is open only for writing the trial cannot succeed,
//! and glommio settles on "no polling" for that device and executor.

use std::io;
use std::path::Path;

use glommio::io::OpenOptions;

const PROBE_FILE: &str = ".probe";

/// Opens a write-only file in `dir`, on this executor, and removes it. Call it on every executor and for every data file system, before
/// any other file of that file system is opened.
pub async fn settle_on_no_polling(dir: &Path, shard: usize) -> io::Result<()> {
    let path = dir.join(format!("{PROBE_FILE}-{shard}"));
    let file = OpenOptions::new().write(true).create(true).truncate(true).dma_open(&path).await;
    let file = file.map_err(io::Error::from)?;
    file.close().await.map_err(io::Error::from)?;
    std::fs::remove_file(&path)
}
