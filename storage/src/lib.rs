//! One shard's data on disk.
