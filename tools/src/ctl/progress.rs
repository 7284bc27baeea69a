//! One line on a terminal that says how far a long work has come.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::table::bytes_text;

const INTERVAL: Duration = Duration::from_millis(200);
/// Work that is over before is not worth a line.
const SILENCE: Duration = Duration::from_millis(500);

/// How far a work has come. It writes to standard error, and only if that is a terminal.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
    started: Instant,
    next: Instant,
    drawn: bool,
    /// What is counted.
    what: &'static str,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct State {
    records: u64,
    bytes: u64,
    /// Done and in all, of whatever the share is counted in.
    share: Option<(u64, u64)>,
}

impl Progress {
    /// A work that begins now; `wanted` is false if its output is for the same terminal.
    pub fn new(wanted: bool) -> Progress {
        let now = Instant::now();
        Progress {
            shown: wanted && std::io::stderr().is_terminal(),
            started: now,
            next: now + SILENCE,
            drawn: false,
            what: "records",
            state: State::default(),
        }
    }

    /// Counts something else than records.
    pub fn counting(self, what: &'static str) -> Progress {
        Progress { what, ..self }
    }

    /// Whether anybody sees the line.
    pub fn is_shown(&self) -> bool {
        self.shown
    }

    /// Counts records, or whatever else is counted, that are done.
    pub fn add(&mut self, records: u64, bytes: u64) {
        self.state.records += records;
        self.state.bytes += bytes;
    }

    /// Says how much of all is done.
    pub fn set_share(&mut self, done: u64, all: u64) {
        self.state.share = Some((done, all));
    }

    /// Draws the line if it is time for it.
    pub fn draw(&mut self) {
        if !self.shown || Instant::now() < self.next {
            return;
        }
        let text = line(self.state, self.what, self.started.elapsed());
        // Whoever cannot see the line does without it.
        let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
        self.drawn = true;
        self.next = Instant::now() + INTERVAL;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(state: State, what: &str, elapsed: Duration) -> String {
    let rate = (state.bytes as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
    let mut text = format!("{} {what}  {}  {}/s", state.records, bytes_text(state.bytes), bytes_text(rate));
    if let Some((done, all)) = state.share
        && all > 0
    {
        let done = done.min(all);
        let filled = (done as u128 * 20 / u128::from(all)) as usize;
        let bar = "#".repeat(filled) + &".".repeat(20 - filled);
        text = format!("[{bar}] {:>3} %  {text}", done as u128 * 100 / u128::from(all));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_counts_rate_and_share() {
        let state = State { records: 10, bytes: 3_000_000, share: Some((1, 4)) };
        assert_eq!(
            line(state, "records", Duration::from_secs(2)),
            "[#####...............]  25 %  10 records  3.0 MB  1.5 MB/s"
        );
        let unknown = State { share: None, ..state };
        assert_eq!(line(unknown, "records", Duration::from_secs(2)), "10 records  3.0 MB  1.5 MB/s");
        let over = State { share: Some((9, 4)), ..state };
        assert!(line(over, "records", Duration::from_secs(2)).contains("100 %"));
    }
}
