//! Keys of the load, and the partition that Kafka's default partitioner gives each of them.

use protocol::partitioner::partition_for_key;

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

/// The partition of key number `key`.
pub fn partition_of(key: u64, partitions: u32) -> u32 {
    let mut text = [0; KEY_BYTES];
    write_key(key, &mut text);
    partition_for_key(&text, partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_ten_digits() {
        let mut text = [0; KEY_BYTES];
        write_key(1234, &mut text);
        assert_eq!(&text, b"0000001234");
    }
}
