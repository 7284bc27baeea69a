//! From plain bytes to a codec's framing.

use super::{Compression, CompressionError, gzip, lz4, snappy, zstd};

/// Compresses all of `input` with `codec` and appends the result to `out`.
///
/// `level` is the codec's own scale ([`Compression::levels`]); `None` means [`Compression::default_level`]. Snappy has
/// no levels. LZ4 has one effort here whatever the level says: the high-compression variants are not implemented, and
/// the format is the same for every reader.
///
/// # Errors
/// [`CompressionError::Compress`] if the codec's library refuses.
pub fn compress(
    codec: Compression,
    level: Option<i32>,
    input: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    match codec {
        Compression::None => out.extend_from_slice(input),
        Compression::Gzip => gzip::compress(level, input, out)?,
        Compression::Snappy => snappy::compress(input, out)?,
        Compression::Lz4 => lz4::compress(input, out)?,
        Compression::Zstd => zstd::compress(level, input, out)?,
    }
    Ok(())
}
