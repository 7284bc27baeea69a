//! The codecs of record batches, in the framings that Kafka's clients write and read.
//!
//! | file | owns |
//! |---|---|
//! | `codec` | [`Compression`], the codec ids and names; [`CompressionError`] |
//! | `compress` | [`compress`]: a whole payload into a codec's framing |
//! | `decompress` | [`Decompressor`]: block after block in bounded memory; [`decompress_bounded`]: into one buffer |
//! | `gzip`, `snappy`, `lz4`, `zstd` | one framing each |
//!
//! Compressed bytes come from strangers. So every reader works in blocks, counts what comes out against a limit
//! that the caller gives, and never allocates for a length only because somebody declared it.

mod codec;
mod compress;
mod decompress;
mod gzip;
mod lz4;
mod snappy;
mod zstd;

pub use codec::{Compression, CompressionError};
pub use compress::compress;
pub use decompress::{DecompressionLimit, Decompressor, decompress_bounded};
