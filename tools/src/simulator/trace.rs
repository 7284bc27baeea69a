//! What happened: a hash of every step, by which two runs are compared, and on demand lines that a person can read.

use std::fmt;

use storage::TopicIdPartition;

/// One line of a trace.
#[derive(Debug, Clone)]
pub struct Line {
    at_us: u64,
    /// Of which partition the line tells; `None` of the cluster.
    partition: Option<TopicIdPartition>,
    text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ms, us) = (self.at_us / 1_000, self.at_us % 1_000);
        write!(f, "{ms:>8}.{us:03} ms  {}", self.text)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    /// The virtual time, for lines.
    pub now_us: u64,
    lines: Option<Vec<Line>>,
}

impl Trace {
    /// With lines, or with the hash alone.
    pub fn new(keeps_lines: bool) -> Self {
        Trace { hash: 0, now_us: 0, lines: keeps_lines.then(Vec::new) }
    }

    /// Takes a number into the hash.
    pub fn mix(&mut self, number: u64) {
        self.hash = (self.hash.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Notes something about the cluster.
    pub fn note(&mut self, text: impl FnOnce() -> String) {
        self.push(None, text);
    }

    /// Notes something about one partition.
    pub fn note_partition(&mut self, partition: TopicIdPartition, text: impl FnOnce() -> String) {
        self.push(Some(partition), text);
    }

    fn push(&mut self, partition: Option<TopicIdPartition>, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(Line { at_us: self.now_us, partition, text: text() });
        }
    }

    /// All lines.
    pub fn lines(&self) -> &[Line] {
        self.lines.as_deref().unwrap_or_default()
    }

    /// The last lines that tell of a partition or of the cluster.
    pub fn last_of(&self, partition: Option<TopicIdPartition>, count: usize) -> Vec<&Line> {
        let concerns = |line: &&Line| match partition {
            Some(_) => line.partition == partition || line.partition.is_none(),
            None => true,
        };
        let mut lines: Vec<&Line> = self.lines().iter().rev().filter(concerns).take(count).collect();
        lines.reverse();
        lines
    }
}
