//! What values are filled with. How well it compresses decides what a run with compression says.

use super::random::Random;

/// Kinds of filler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Filling {
    /// Events as applications log them, in JSON with frequent and rare words: shrinks to about a third with zstd or gzip, to half with lz4 or
    /// snappy
    Text,
    /// Bytes that no codec can shrink
    Random,
    /// Zeros: shrinks to nothing, and shows what a codec costs at least
    Zeros,
}

impl Filling {
    /// The name, as the command line takes it.
    pub fn name(self) -> &'static str {
        match self {
            Filling::Text => "text",
            Filling::Random => "random",
            Filling::Zeros => "zeros",
        }
    }
}

const WORDS: usize = 4096;
const SYLLABLES: [&str; 32] = [
    "an", "ber", "co", "dra", "el", "fi", "gor", "ha", "in", "ju", "ka", "lo", "mer", "ne", "or", "pa",
    "qui", "re", "sta", "ti", "u", "ver", "wen", "xa", "yo", "zu", "ment", "sion", "er", "al", "ing", "pre",
];

/// A source of filler that never ends.
pub struct Filler {
    filling: Filling,
    random: Random,
    words: Vec<String>,
    /// What has been made and not been taken.
    ready: Vec<u8>,
    taken: usize,
}

impl Filler {
    /// The filler of a kind; always the same.
    pub fn new(filling: Filling) -> Filler {
        let mut random = Random::new(0x0b5e_55ed);
        let mut word = || {
            let syllables = 1 + random.next() % 4;
            (0..syllables).map(|_| SYLLABLES[(random.next() % SYLLABLES.len() as u64) as usize]).collect()
        };
        let words = (0..WORDS).map(|_| word()).collect();
        Filler { filling, random, words, ready: Vec::new(), taken: 0 }
    }

    /// Appends the next `len` bytes to `out`.
    pub fn fill(&mut self, len: usize, out: &mut Vec<u8>) {
        let end = out.len() + len;
        match self.filling {
            Filling::Zeros => out.resize(end, 0),
            Filling::Random => {
                while out.len() < end {
                    let word = self.random.next().to_ne_bytes();
                    out.extend_from_slice(&word[..word.len().min(end - out.len())]);
                }
            }
            Filling::Text => {
                while out.len() < end {
                    if self.taken == self.ready.len() {
                        self.make_event();
                    }
                    let part = (end - out.len()).min(self.ready.len() - self.taken);
                    out.extend_from_slice(&self.ready[self.taken..self.taken + part]);
                    self.taken += part;
                }
            }
        }
    }

    /// A word; the n-th is n times as rare as the first, as in natural texts (Zipf's law).
    fn word(&mut self) -> &str {
        let rank = (WORDS as f64).powf(self.random.unit()) as usize;
        &self.words[rank.min(WORDS) - 1]
    }

    fn make_event(&mut self) {
        let id = self.random.next();
        let level = ["INFO", "INFO", "INFO", "INFO", "WARN", "ERROR"][(id % 6) as usize];
        let service = self.word().to_owned();
        let millis = self.random.next() % 10_000;
        let count = 4 + self.random.next() % 20;
        let text: Vec<String> = (0..count).map(|_| self.word().to_owned()).collect();
        self.ready = format!(
            "{{\"id\":\"{id:016x}\",\"level\":\"{level}\",\"service\":\"{service}\",\"took_ms\":{millis},\"message\":\"{}\"}}\n",
            text.join(" ")
        )
        .into_bytes();
        self.taken = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::compression::{Compression, compress};

    /// What is left of a batch of 64 KiB.
    fn left(filling: Filling, codec: Compression) -> f64 {
        let mut plain = Vec::new();
        Filler::new(filling).fill(64 << 10, &mut plain);
        let mut packed = Vec::new();
        compress(codec, None, &plain, &mut packed).expect("compresses");
        packed.len() as f64 / plain.len() as f64
    }

    #[test]
    fn each_filling_compresses_as_its_description_says() {
        for (codec, expected) in [
            (Compression::Zstd, 0.33),
            (Compression::Gzip, 0.33),
            (Compression::Lz4, 0.5),
            (Compression::Snappy, 0.5),
        ] {
            let text = left(Filling::Text, codec);
            assert!((text - expected).abs() < 0.08, "text with {codec}: {text}");
            assert!(left(Filling::Random, codec) > 0.99, "{codec}");
            assert!(left(Filling::Zeros, codec) < 0.06, "{codec}");
        }
    }

    #[test]
    fn the_filler_is_the_same_in_every_run_however_it_is_taken() {
        for filling in [Filling::Text, Filling::Random, Filling::Zeros] {
            let (mut whole, mut parts) = (Vec::new(), Vec::new());
            Filler::new(filling).fill(8000, &mut whole);
            let mut filler = Filler::new(filling);
            // Random filler is made in words of eight bytes.
            (0..10).for_each(|_| filler.fill(800, &mut parts));
            assert!(whole == parts, "{filling:?}");
        }
    }
}
