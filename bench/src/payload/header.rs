//! What the value of each record begins with, so that a reader can measure and check it without knowing anything else.
//!
//! ```text
//! offset size field
//!  0      8   intended send time, nanoseconds since 1970
//!  8      2   magic
//! 10      6   number of the record among those of its source in its partition, from 0
//! 16      4   source: the producer of one run
//! 20      4   CRC-32C of the value's other bytes from 24 on, then of the key, then of bytes 0 to 19
//! 24          filler
//! ```
//! All big-endian. The checksum ends with what differs from record to record, so that a producer whose filler stays the same computes no more
//! than the end of it.

use crc32c::{crc32c, crc32c_append};

/// Bytes before the filler; no value is shorter.
pub const VALUE_HEADER_BYTES: usize = 24;
const MAGIC: [u8; 2] = [0xbe, 0x9c];
const CRC_AT: usize = 20;
/// Numbers start again at 0 behind this one.
const LARGEST_NUMBER: u64 = (1 << 48) - 1;

/// What a record says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// When it was meant to be sent, nanoseconds since 1970.
    pub intended_unix_ns: u64,
    /// Which producer of which run wrote it.
    pub source: u32,
    /// Its number among those of the source in the partition.
    pub number: u64,
}

/// The part of the checksum that does not depend on the stamp.
pub fn filler_checksum(filler: &[u8]) -> u32 {
    crc32c(filler)
}

/// Writes the header of a value. `filler` is the checksum of what follows it.
#[inline]
pub fn seal(out: &mut [u8; VALUE_HEADER_BYTES], stamp: Stamp, filler: u32, key: &[u8]) {
    out[..8].copy_from_slice(&stamp.intended_unix_ns.to_be_bytes());
    // Six bytes hold the number, and the magic stands in the two above them.
    out[8..16].copy_from_slice(&(stamp.number & LARGEST_NUMBER).to_be_bytes());
    out[8..10].copy_from_slice(&MAGIC);
    out[16..20].copy_from_slice(&stamp.source.to_be_bytes());
    let checksum =
        crc32c_append(if key.is_empty() { filler } else { crc32c_append(filler, key) }, &out[..CRC_AT]);
    out[CRC_AT..].copy_from_slice(&checksum.to_be_bytes());
}

/// What a value turns out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// As it was written.
    Sound(Stamp),
    /// Written by this program, and changed since.
    Damaged,
    /// Written by somebody else.
    Foreign,
}

/// Reads a value's stamp without checking anything but that it has one.
#[inline]
pub fn stamp(value: &[u8]) -> Option<Stamp> {
    let header = value.first_chunk::<VALUE_HEADER_BYTES>().filter(|header| header[8..10] == MAGIC)?;
    let word = |at: usize| u64::from_be_bytes(*header[at..].first_chunk().expect("inside the header"));
    Some(Stamp {
        intended_unix_ns: word(0),
        source: (word(16) >> 32) as u32,
        number: word(8) & LARGEST_NUMBER,
    })
}

/// Reads a value and compares it with its checksum.
#[inline]
pub fn check(value: &[u8], key: &[u8]) -> Contents {
    let Some(stamp) = stamp(value) else {
        return Contents::Foreign;
    };
    let filler = filler_checksum(&value[VALUE_HEADER_BYTES..]);
    let checksum = crc32c_append(crc32c_append(filler, key), &value[..CRC_AT]);
    if value[CRC_AT..VALUE_HEADER_BYTES] == checksum.to_be_bytes() {
        Contents::Sound(stamp)
    } else {
        Contents::Damaged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(filler: &[u8], key: &[u8]) -> (Stamp, Vec<u8>) {
        let stamp = Stamp {
            intended_unix_ns: 1_790_000_000_123_456_789,
            source: 0xdead_beef,
            number: 0x1234_5678_9abc,
        };
        let mut value = [&[0; VALUE_HEADER_BYTES], filler].concat();
        seal(value.first_chunk_mut().expect("long enough"), stamp, filler_checksum(filler), key);
        (stamp, value)
    }

    #[test]
    fn a_sealed_value_is_read_as_it_was_meant() {
        for (filler, key) in
            [(&b""[..], &b""[..]), (b"some text", b""), (b"", b"k"), (b"some text", b"0000000007")]
        {
            let (meant, value) = sealed(filler, key);
            assert_eq!(check(&value, key), Contents::Sound(meant));
            assert_eq!(stamp(&value), Some(meant));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (_, value) = sealed(b"some text", b"key");
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let contents = check(&flipped, b"key");
            assert!(matches!(contents, Contents::Damaged | Contents::Foreign), "bit {bit}: {contents:?}");
        }
        assert_eq!(check(&value, b"kez"), Contents::Damaged, "another key");
        assert_eq!(check(&value[..value.len() - 1], b"key"), Contents::Damaged, "cut");
    }

    #[test]
    fn what_others_wrote_is_not_taken_for_damage() {
        for value in [&b""[..], b"short", b"a text of more than twenty-four bytes"] {
            assert_eq!(check(value, b""), Contents::Foreign);
        }
    }
}
