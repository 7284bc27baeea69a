//! What a pass needs of the program around it: somewhere to compute, and leave to read and write.

/// Settings of the cleaner of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanerConfig {
    /// Most memory for the map of keys (a shard's part of `log.cleaner.dedupe.buffer.size`). Bytes.
    pub dedupe_buffer_bytes: usize,
    /// How much is read, and written, at once (`log.cleaner.io.buffer.size`); a larger batch goes as a whole. Bytes.
    pub io_buffer_bytes: usize,
}

impl Default for CleanerConfig {
    fn default() -> Self {
        Self { dedupe_buffer_bytes: 128 << 20, io_buffer_bytes: 512 << 10 }
    }
}

/// The cleaner's surroundings. The broker computes on threads of idle priority and keeps to a rate; tests compute on the spot.
#[allow(async_fn_in_trait, reason = "hosts belong to one executor; no caller wants a Send bound")]
pub trait CleanerHost {
    /// Runs `work`, which may compute for some milliseconds, where it delays nobody.
    async fn compute<R, F>(&self, work: F) -> R
    where
        R: Send + 'static,
        F: FnOnce() -> R + Send + 'static;

    /// Waits until `bytes` more may be read or written (`log.cleaner.io.max.bytes.per.second`).
    async fn pace(&self, bytes: usize);

    /// Sixteen random bytes, new ones with every call.
    fn secret(&self) -> [u8; 16];
}
