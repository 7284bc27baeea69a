//! Random values of every message, reproducible from a seed. The build script writes the generators.

use bytes::Bytes;
use protocol::{Records, TaggedFields, wire::SHARE_FROM_BYTES};
use std::borrow::Cow;
use uuid::Uuid;

/// A value that is valid in a version: fields of other versions have their defaults, null stands only where allowed.
pub trait Generate {
    /// The next random value.
    fn generate(g: &mut Gen, version: i16) -> Self;
}

/// A source of random values (splitmix64).
pub struct Gen {
    state: u64,
    depth: u32,
    unknown_tags: bool,
}

impl Gen {
    /// The same seed gives the same values.
    pub fn new(seed: u64) -> Self {
        Gen { state: seed, depth: 0, unknown_tags: true }
    }

    /// Like `new`, but no struct gets unknown tagged fields: they cannot move to a version without tags.
    pub fn without_unknown_tags(seed: u64) -> Self {
        Gen { unknown_tags: false, ..Gen::new(seed) }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.bits() % limit
    }

    pub fn bool(&mut self) -> bool {
        self.below(2) == 1
    }

    pub fn int(&mut self) -> i64 {
        match self.below(4) {
            0 => [0, -1, 1, i64::MIN, i64::MAX][self.below(5) as usize],
            1 => self.below(200) as i64 - 100,
            _ => self.bits() as i64,
        }
    }

    pub fn float(&mut self) -> f64 {
        self.int() as f64 / 1024.0
    }

    pub fn uuid(&mut self) -> Uuid {
        if self.below(5) == 0 { Uuid::nil() } else { Uuid::from_u64_pair(self.bits(), self.bits()) }
    }

    pub fn string(&mut self) -> Cow<'static, str> {
        let len = match self.below(16) {
            0 => 0,
            1 => 126 + self.below(4),
            _ => self.below(12),
        };
        (0..len)
            .map(|_| ['a', 'Z', '7', '.', '-', 'é', '€', '\0'][self.below(8) as usize])
            .collect::<String>()
            .into()
    }

    pub fn bytes(&mut self) -> Cow<'static, [u8]> {
        let len = self.below(20);
        (0..len).map(|_| self.bits() as u8).collect::<Vec<u8>>().into()
    }

    pub fn records(&mut self) -> Records<'static> {
        let slices = self.below(3);
        let len = |g: &mut Gen| if g.bool() { g.below(9) } else { SHARE_FROM_BYTES as u64 + g.below(9) };
        Records::Shared(
            (0..slices).map(|_| Bytes::from(vec![self.bits() as u8; len(self) as usize])).collect(),
        )
    }

    pub fn array<T>(&mut self, mut element: impl FnMut(&mut Gen) -> T) -> Vec<T> {
        // Long arrays at the top, so that lengths of two varint bytes occur, short ones below.
        let len = match (self.depth, self.below(16)) {
            (0, 0) => 127 + self.below(3),
            (0..2, _) => self.below(4),
            _ => self.below(3),
        };
        self.depth += 1;
        let elements = (0..len).map(|_| element(self)).collect();
        self.depth -= 1;
        elements
    }

    pub fn option<T>(&mut self, value: impl FnOnce(&mut Gen) -> T) -> Option<T> {
        if self.below(3) == 0 { None } else { Some(value(self)) }
    }

    /// Tagged fields beyond the `known` ones; often the very next tag, which a forgotten field would have.
    pub fn tagged_fields(&mut self, known: u32) -> TaggedFields<'static> {
        let mut fields = TaggedFields::default();
        if self.unknown_tags && self.below(3) == 0 {
            let mut tag = known;
            for _ in 0..=self.below(2) {
                fields.insert(tag, self.bytes());
                tag += 1 + self.below(200) as u32;
            }
        }
        fields
    }
}

include!(concat!(env!("OUT_DIR"), "/generate.rs"));
