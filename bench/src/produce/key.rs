//! Keys of the load, and the partition that Kafka's default partitioner gives each of them.

/// Bytes of each key: the key's number, ten decimal digits.
pub const KEY_BYTES: usize = 10;

/// Writes key number `key` into `out` of [`KEY_BYTES`] bytes.
#[inline]
pub fn write_key(key: u64, out: &mut [u8]) {
    let mut rest = key;
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// The partition of key number `key`, as Java's default partitioner chooses it.
pub fn partition_of(key: u64, partitions: u32) -> u32 {
    let mut text = [0; KEY_BYTES];
    write_key(key, &mut text);
    (murmur2(&text) & 0x7fff_ffff) % partitions
}

/// Kafka's murmur2 (`Utils.murmur2`), the 32-bit variant with its fixed seed.
pub fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (shift, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * shift);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_gives_what_kafka_documents() {
        for (text, hash) in [
            ("21", -973_932_308i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }

    #[test]
    fn keys_are_ten_digits_and_reach_every_partition() {
        let mut text = [0; KEY_BYTES];
        write_key(1234, &mut text);
        assert_eq!(&text, b"0000001234");
        let mut seen = [false; 16];
        (0..1000).for_each(|key| seen[partition_of(key, 16) as usize] = true);
        assert!(seen.iter().all(|seen| *seen));
    }
}
