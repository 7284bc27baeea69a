//! The latest offset of each key of a log's dirty section, in bounded memory (Kafka's `SkimpyOffsetMap`). Pure.
//!
//! The keys themselves are not kept: an entry is the key's 128-bit hash and an offset, 24 bytes, whatever the key's length. Two keys with the same
//! hash would be taken for one, and compaction would delete the earlier one's last record. That does not happen: the hash is SipHash-1-3 with
//! 128 bits of output under a key that is drawn anew for every pass and never leaves the process. To whoever chooses the record keys it is a
//! random function, so nobody can search for two keys that agree (as one can for the MD5 that Kafka uses), and by chance it happens in a
//! pass over n keys with a probability of about n² / 2^129: for a thousand million keys 2^-69, far below that of an error in memory that
//! goes unnoticed. And a pair that agrees under one pass's key would not under the next one's.

use crate::types::Offset;
use siphasher::sip128::SipHasher13;

/// Bytes of memory that one key takes.
pub const ENTRY_BYTES: usize = size_of::<Entry>();

/// A hash in two halves, and an offset plus one; all zeros is an empty slot.
type Entry = [u64; 3];

/// Share of the slots that may be taken (Kafka's `log.cleaner.io.buffer.load.factor`).
const LOAD_FACTOR: f64 = 0.9;

/// Key → latest offset.
pub struct OffsetMap {
    entries: Vec<Entry>,
    hasher: SipHasher13,
    len: usize,
    max_len: usize,
}

impl std::fmt::Debug for OffsetMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OffsetMap({} of at most {} keys)", self.len, self.max_len)
    }
}

impl OffsetMap {
    /// A map for up to `keys` keys, or as many as fit into `max_bytes`. `secret` is the key of the hash: random, and a new one for every map.
    pub fn new(keys: u64, max_bytes: usize, secret: &[u8; 16]) -> Self {
        let wanted = (keys as f64 / LOAD_FACTOR).ceil() as u64 + 1;
        let slots = (max_bytes / ENTRY_BYTES).min(usize::try_from(wanted).unwrap_or(usize::MAX)).max(2);
        // One slot always stays empty, so that every search ends.
        let max_len = ((slots as f64 * LOAD_FACTOR) as usize).clamp(1, slots - 1);
        // Zeroed memory from the system costs nothing before it is touched.
        Self { entries: vec![[0; 3]; slots], hasher: SipHasher13::new_with_key(secret), len: 0, max_len }
    }

    /// Notes that `key` has a record at `offset`; offsets come in ascending order. False: the map is full and the key is new, nothing was noted.
    pub fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let (slot, hash) = self.find(key);
        let entry = &mut self.entries[slot];
        if entry[2] == 0 {
            if self.len == self.max_len {
                return false;
            }
            self.len += 1;
        }
        debug_assert!(offset.0 as u64 >= entry[2].saturating_sub(1), "offsets ascend");
        *entry = [hash[0], hash[1], offset.0 as u64 + 1];
        true
    }

    /// The latest offset that was noted for `key`.
    pub fn get(&self, key: &[u8]) -> Option<Offset> {
        let (slot, _) = self.find(key);
        self.entries[slot][2].checked_sub(1).map(|offset| Offset(offset as i64))
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no key was noted.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of keys that fit.
    pub fn capacity(&self) -> usize {
        self.max_len
    }

    /// Memory of the slots. Bytes.
    pub fn heap_bytes(&self) -> usize {
        self.entries.len() * ENTRY_BYTES
    }

    /// The slot of a key: where it is, or the empty one where it would go.
    fn find(&self, key: &[u8]) -> (usize, [u64; 2]) {
        let hash = u128::from(self.hasher.hash(key));
        let halves = [(hash >> 64) as u64, hash as u64];
        let slots = self.entries.len();
        let mut slot = ((halves[0] as u128 * slots as u128) >> 64) as usize;
        loop {
            let entry = &self.entries[slot];
            if entry[2] == 0 || entry[..2] == halves {
                return (slot, halves);
            }
            slot = if slot + 1 == slots { 0 } else { slot + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_full_map_refuses_new_keys_and_goes_on_with_those_it_has() {
        let mut map = OffsetMap::new(1_000_000, 10 * ENTRY_BYTES, &[1; 16]);
        assert_eq!((map.capacity(), map.heap_bytes()), (9, 240));
        for i in 0..9u8 {
            assert!(map.put(&[i], Offset(i as i64)));
        }
        assert!(!map.put(b"new", Offset(9)));
        assert_eq!((map.get(b"new"), map.len()), (None, 9));
        assert!(map.put(&[3], Offset(10)));
        assert_eq!(map.get(&[3]), Some(Offset(10)));
    }

    #[test]
    fn a_map_is_no_larger_than_its_keys_need_and_holds_them_all() {
        for keys in [0, 1, 2, 9, 10, 11, 1000] {
            let mut map = OffsetMap::new(keys, 1 << 30, &[2; 16]);
            assert!(map.heap_bytes() <= (keys as usize * 10 / 9 + 3) * ENTRY_BYTES);
            for key in 0..keys {
                assert!(map.put(&key.to_be_bytes(), Offset(key as i64)), "{key} of {keys}");
            }
        }
        let mut tiny = OffsetMap::new(100, 0, &[2; 16]);
        assert!(tiny.put(b"a", Offset(0)) && !tiny.put(b"b", Offset(1)));
    }

    proptest! {
        #[test]
        fn it_answers_what_a_map_of_whole_keys_answers(
            keys in prop::collection::vec(prop::collection::vec(0u8..4, 0..4), 1..300),
            secret: [u8; 16],
        ) {
            let mut map = OffsetMap::new(300, 1 << 20, &secret);
            let mut model = HashMap::new();
            for (offset, key) in keys.iter().enumerate() {
                prop_assert!(map.put(key, Offset(offset as i64)));
                model.insert(key.clone(), Offset(offset as i64));
            }
            prop_assert_eq!(map.len(), model.len());
            for (key, offset) in &model {
                prop_assert_eq!(map.get(key), Some(*offset));
            }
            prop_assert_eq!(map.get(b"no such key"), None);
        }
    }
}
