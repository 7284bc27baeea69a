//! Member ids: a name and a random UUID.

use std::rc::Rc;

/// Bytes of a client's name that go into a member id; strings of the protocol hold 32,767 bytes, and ids are sent to every leader.
const MAX_NAME_BYTES: usize = 1_024;

/// Makes UUIDs from a seed (SplitMix64), so that a run can be repeated.
#[derive(Debug)]
pub(super) struct IdGenerator {
    state: u64,
}

impl IdGenerator {
    pub(super) fn new(seed: u64) -> Self {
        IdGenerator { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A random UUID (version 4).
    pub(super) fn uuid(&mut self) -> uuid::Uuid {
        let bits = u128::from(self.next()) << 64 | u128::from(self.next());
        uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
    }

    /// An id for a member of this name: that of its static membership, or the client's.
    pub(super) fn member_id(&mut self, name: &str) -> Rc<str> {
        let end = name.floor_char_boundary(MAX_NAME_BYTES);
        format!("{}-{}", &name[..end], self.uuid().hyphenated()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_ids_start_with_the_name_and_differ() {
        let mut ids = IdGenerator::new(1);
        let (first, second) = (ids.member_id("client"), ids.member_id("client"));
        assert!(first.starts_with("client-") && first.len() == "client-".len() + 36);
        assert_ne!(first, second);
    }

    #[test]
    fn a_very_long_name_is_cut_between_two_characters() {
        let id = IdGenerator::new(1).member_id(&"é".repeat(20_000));
        assert_eq!(id.len(), MAX_NAME_BYTES + 37);
    }
}
