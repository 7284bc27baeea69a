//! Codec ids and names, and what can go wrong with compressed bytes.

use std::{fmt, ops::RangeInclusive, str::FromStr};

/// A codec as bits 0-2 of a record batch's attributes name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// The records stand in the batch as they are.
    #[default]
    None,
    /// One or more gzip members (RFC 1952).
    Gzip,
    /// Snappy blocks in the framing of Java's `SnappyOutputStream`; on read also a bare snappy block.
    Snappy,
    /// An LZ4 frame with independent blocks.
    Lz4,
    /// One or more zstd frames.
    Zstd,
}

impl Compression {
    /// All codecs in the order of their ids.
    pub const ALL: [Compression; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this id in a batch's attributes; `None` for the ids 5-7, which nobody has defined.
    pub fn from_id(id: u8) -> Option<Compression> {
        Self::ALL.get(usize::from(id)).copied()
    }

    /// The id in a batch's attributes.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// Kafka's name, as `compression.type` of a producer or topic spells it, with "none" for no compression.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The level used when none is configured (`compression.<codec>.level`'s default), for codecs that have levels.
    pub fn default_level(self) -> Option<i32> {
        match self {
            Self::Gzip => Some(-1),
            Self::Lz4 => Some(9),
            Self::Zstd => Some(3),
            Self::None | Self::Snappy => None,
        }
    }

    /// The levels that Kafka's `compression.<codec>.level` admits; gzip admits -1 (zlib's default) besides.
    pub fn levels(self) -> Option<RangeInclusive<i32>> {
        match self {
            Self::Gzip => Some(1..=9),
            Self::Lz4 => Some(1..=17),
            Self::Zstd => Some(-131_072..=22),
            Self::None | Self::Snappy => None,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is none of Kafka's codecs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown compression {0:?}: expected none, gzip, snappy, lz4 or zstd")]
pub struct UnknownCompression(pub String);

impl FromStr for Compression {
    type Err = UnknownCompression;

    /// Accepts Kafka's names; "uncompressed" (a topic's spelling) is the same as "none" (a producer's).
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "uncompressed" => Ok(Self::None),
            _ => Self::ALL
                .into_iter()
                .find(|codec| codec.name() == name)
                .ok_or_else(|| UnknownCompression(name.to_owned())),
        }
    }
}

/// Why compressed bytes could not be read, or bytes could not be compressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// The bytes are not what the codec writes.
    #[error("{codec} data is damaged: {reason}")]
    Damaged {
        /// The codec that the bytes claim.
        codec: Compression,
        /// What was found.
        reason: String,
    },
    /// More came out than the caller allowed. Nothing beyond the limit was kept.
    #[error("{codec} data expands beyond {limit} bytes")]
    TooLarge {
        /// The codec of the bytes.
        codec: Compression,
        /// The limit in bytes that was passed.
        limit: usize,
    },
    /// The codec's library refused to compress (out of memory, or a level that it does not know).
    #[error("{codec} compression failed: {reason}")]
    Compress {
        /// The codec that was asked for.
        codec: Compression,
        /// The library's words.
        reason: String,
    },
}

impl CompressionError {
    pub(super) fn damaged(codec: Compression, reason: impl fmt::Display) -> Self {
        Self::Damaged { codec, reason: reason.to_string() }
    }

    pub(super) fn compress(codec: Compression, reason: impl fmt::Display) -> Self {
        Self::Compress { codec, reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_round_trip() {
        for codec in Compression::ALL {
            assert_eq!(Compression::from_id(codec.id()), Some(codec));
            assert_eq!(codec.name().parse(), Ok(codec));
        }
        assert_eq!("uncompressed".parse(), Ok(Compression::None));
    }

    #[test]
    fn undefined_ids_and_names_are_refused() {
        for id in 5..=u8::MAX {
            assert_eq!(Compression::from_id(id), None);
        }
        assert!("brotli".parse::<Compression>().is_err());
    }
}
