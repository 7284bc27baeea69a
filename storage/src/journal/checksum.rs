//! Checksums of payloads, without reading a large one again.
//!
//! A record batch carries the CRC-32C of nearly all of itself, and whoever appends it has just checked that (or written it). CRCs are linear,
//! so the checksum of the whole follows from that of the front and the one inside: a multiplication by x^(8 n) in GF(2)\[x\] modulo the
//! polynomial shifts a CRC over n bytes that follow (Mark Adler's method of `crc32_combine` in zlib).

use super::entry::EntryKind;
use protocol::records::CRC_START;

/// CRC-32C (Castagnoli), bits reversed: the coefficient of x^0 is the highest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;
const ONE: u32 = 1 << 31;

/// The checksum of a batch stands right before the bytes that it covers.
const CRC_OFFSET: usize = CRC_START - 4;

/// x^(2^k) modulo the polynomial: as many as a length of 32 bits, in bits, needs.
const POWERS: [u32; 35] = powers();

/// Below this a second look is cheaper than the arithmetic.
const COMBINE_FROM_BYTES: usize = 16 * 1024;

/// The CRC-32C of a payload. A batch's own checksum has to be right.
pub(super) fn of_payload(kind: EntryKind, payload: &[u8]) -> u32 {
    if kind != EntryKind::Batch || payload.len() < COMBINE_FROM_BYTES {
        return crc32c::crc32c(payload);
    }
    let (front, covered) = payload.split_at(CRC_START);
    let stored = front[CRC_OFFSET..].try_into().expect("four bytes before what the CRC covers");
    let whole = combine(crc32c::crc32c(front), u32::from_be_bytes(stored), covered.len() as u32);
    debug_assert_eq!(whole, crc32c::crc32c(payload), "a batch with a wrong checksum is appended");
    whole
}

/// The checksum of a followed by b, from that of a, that of b, and the length of b.
fn combine(a: u32, b: u32, b_bytes: u32) -> u32 {
    multiply(power_of_x8(b_bytes), a) ^ b
}

/// x^(8 n) modulo the polynomial.
fn power_of_x8(n: u32) -> u32 {
    let (mut product, mut rest, mut k) = (ONE, n, 3);
    while rest != 0 {
        if rest & 1 == 1 {
            product = multiply(POWERS[k], product);
        }
        rest >>= 1;
        k += 1;
    }
    product
}

/// The product of two polynomials modulo the polynomial.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let (mut product, mut bit) = (0, ONE);
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        bit >>= 1;
        b = if b & 1 == 1 { (b >> 1) ^ POLYNOMIAL } else { b >> 1 };
    }
    product
}

const fn powers() -> [u32; 35] {
    let mut powers = [ONE >> 1; 35];
    let mut k = 1;
    while k < 35 {
        powers[k] = multiply(powers[k - 1], powers[k - 1]);
        k += 1;
    }
    powers
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn combining_gives_the_checksum_of_both_together(bytes in proptest::collection::vec(any::<u8>(), 0..5000), cut in any::<prop::sample::Index>()) {
            let (a, b) = bytes.split_at(cut.index(bytes.len() + 1));
            prop_assert_eq!(combine(crc32c::crc32c(a), crc32c::crc32c(b), b.len() as u32), crc32c::crc32c(&bytes));
        }
    }

    #[test]
    fn a_large_batch_has_the_checksum_of_its_bytes() {
        let mut batch: Vec<u8> = (0..1_000_003u32).map(|i| (i * 7) as u8).collect();
        let stored = crc32c::crc32c(&batch[CRC_START..]);
        batch[CRC_OFFSET..CRC_START].copy_from_slice(&stored.to_be_bytes());
        assert_eq!(of_payload(EntryKind::Batch, &batch), crc32c::crc32c(&batch));
    }

    #[test]
    fn what_is_no_batch_is_read_whole() {
        let bytes = vec![7; 100_000];
        assert_eq!(of_payload(EntryKind::Truncate, &bytes), crc32c::crc32c(&bytes));
    }
}
