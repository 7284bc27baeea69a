//! Numbers as people write and read them: rates (`1M`), sizes (`1KiB`), durations (`30s`), and how we print them back.

use std::time::Duration;

use crate::error::BenchError;

/// Why a number on the command line was refused; the text names the value and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// The text is not a number followed by a known suffix.
    #[error("'{text}' is not {what}: {allowed}")]
    Malformed {
        /// What was given.
        text: String,
        /// What was expected.
        what: &'static str,
        /// Examples of what is allowed.
        allowed: &'static str,
    },
}

/// Splits `12.5KiB` into the number and the suffix.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let number: f64 = text[..end].replace('_', "").parse().ok()?;
    Some((number, text[end..].trim()))
}

/// The seconds of a time that ends with a whole one, such as a warm-up.
pub fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs_f64().ceil() as u64
}

/// Refuses a measured time that is too short to say anything.
pub fn check_measured(duration: Duration) -> Result<(), BenchError> {
    if duration < Duration::from_secs(1) {
        return Err(BenchError::Option("--duration: at least 1s".to_owned()));
    }
    Ok(())
}

/// How fast records are offered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// Open loop: this many records per second, whatever the broker does.
    PerSecond(f64),
    /// Closed loop: as fast as the requests in flight allow.
    Max,
}

/// Parses `1000`, `50k`, `1M`, `1.5M/s` or `max`.
pub fn parse_rate(text: &str) -> Result<Rate, UnitError> {
    const ALLOWED: &str = "write records per second as 1000, 50k, 1M, or 'max' for a closed loop";
    let malformed =
        || UnitError::Malformed { text: text.to_owned(), what: "a rate of records", allowed: ALLOWED };
    if text.eq_ignore_ascii_case("max") {
        return Ok(Rate::Max);
    }
    let (number, suffix) = split(text.trim_end_matches("/s")).ok_or_else(malformed)?;
    let factor = match suffix {
        "" => 1.0,
        "k" | "K" => 1e3,
        "m" | "M" => 1e6,
        "g" | "G" => 1e9,
        _ => return Err(malformed()),
    };
    let rate = number * factor;
    if (1e-3..=1e9).contains(&rate) { Ok(Rate::PerSecond(rate)) } else { Err(malformed()) }
}

/// Parses `100`, `1KiB`, `16k`, `1MiB`, `1MB` into bytes (`k`, `m`, `g` alone are powers of 1024, as in `KiB`).
pub fn parse_size(text: &str) -> Result<usize, UnitError> {
    const ALLOWED: &str = "write bytes as 100, 1KiB, 16k, 1MiB, 1MB or 1GiB";
    let malformed = || UnitError::Malformed { text: text.to_owned(), what: "a size", allowed: ALLOWED };
    let (number, suffix) = split(text).ok_or_else(malformed)?;
    let factor: f64 = match suffix.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "k" | "ki" | "kib" => 1024.0,
        "m" | "mi" | "mib" => 1024.0 * 1024.0,
        "g" | "gi" | "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(malformed()),
    };
    let bytes = number * factor;
    if (0.0..=1e13).contains(&bytes) && bytes.fract() == 0.0 { Ok(bytes as usize) } else { Err(malformed()) }
}

/// Parses `30`, `30s`, `500ms`, `2m`, `1h` (a bare number is seconds).
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    const ALLOWED: &str = "write a duration as 30s, 500ms, 250us, 2m or 1h";
    let malformed = || UnitError::Malformed { text: text.to_owned(), what: "a duration", allowed: ALLOWED };
    let (number, suffix) = split(text).ok_or_else(malformed)?;
    let factor = match suffix {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(malformed()),
    };
    let seconds = number * factor;
    if (0.0..=1e7).contains(&seconds) { Ok(Duration::from_secs_f64(seconds)) } else { Err(malformed()) }
}

/// Parses a set of cores: `1`, `0-3`, `0,2,4-5`.
pub fn parse_cores(text: &str) -> Result<Vec<usize>, UnitError> {
    let malformed = || UnitError::Malformed {
        text: text.to_owned(),
        what: "a set of cores",
        allowed: "write cores as 1, 0-3 or 0,2,4-5",
    };
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| malformed())?;
        let last: usize = last.trim().parse().map_err(|_| malformed())?;
        if first > last || last > 4095 {
            return Err(malformed());
        }
        cores.extend(first..=last);
    }
    cores.sort_unstable();
    cores.dedup();
    Ok(cores)
}

/// `1234567.0` as `1.23M`: for counts and rates of records.
pub fn count(value: f64) -> String {
    scaled(value, 1000.0, &["", "k", "M", "G", "T"])
}

/// Bytes per second as `1.23 GB/s` (powers of 1000, as network and disk figures are written).
pub fn bytes_per_second(value: f64) -> String {
    scaled(value, 1000.0, &[" B/s", " kB/s", " MB/s", " GB/s", " TB/s"])
}

/// Bytes as `1.50 MiB`.
pub fn bytes(value: f64) -> String {
    scaled(value, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

/// Nanoseconds as `123 µs`, `1.23 ms` or `4.56 s`.
pub fn nanos(value: u64) -> String {
    scaled(value as f64, 1000.0, &[" ns", " µs", " ms", " s"])
}

/// A part of a whole as `41.2 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn scaled(value: f64, base: f64, suffixes: &[&str]) -> String {
    let mut value = value;
    let mut suffix = 0;
    // 999.5 would be printed as 1000: it belongs to the next suffix.
    while value.abs() >= base * 0.9995 && suffix + 1 < suffixes.len() {
        value /= base;
        suffix += 1;
    }
    let whole = suffix == 0 && value.fract() == 0.0;
    let digits = if whole || value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}{}", suffixes[suffix])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        assert_eq!(parse_rate("1M"), Ok(Rate::PerSecond(1e6)));
        assert_eq!(parse_rate("50k"), Ok(Rate::PerSecond(5e4)));
        assert_eq!(parse_rate("1_000/s"), Ok(Rate::PerSecond(1e3)));
        assert_eq!(parse_rate("0.5"), Ok(Rate::PerSecond(0.5)));
        assert_eq!(parse_rate("MAX"), Ok(Rate::Max));
        for bad in ["", "fast", "1Mi", "-1", "0", "1e9", "NaN", "1.2.3"] {
            assert!(parse_rate(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn sizes_distinguish_decimal_from_binary_suffixes() {
        assert_eq!(parse_size("100"), Ok(100));
        assert_eq!(parse_size("1KiB"), Ok(1024));
        assert_eq!(parse_size("16k"), Ok(16384));
        assert_eq!(parse_size("1MB"), Ok(1_000_000));
        assert_eq!(parse_size("1.5MiB"), Ok(1_572_864));
        assert_eq!(parse_size("2GiB"), Ok(2 << 30));
        for bad in ["", "k", "1.3", "12 parsecs", "-4"] {
            assert!(parse_size(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn durations_default_to_seconds() {
        assert_eq!(parse_duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("250us"), Ok(Duration::from_micros(250)));
        assert!(parse_duration("5 fortnights").is_err());
    }

    #[test]
    fn core_sets_are_ranges_and_lists() {
        assert_eq!(parse_cores("1"), Ok(vec![1]));
        assert_eq!(parse_cores("0-2,5,1"), Ok(vec![0, 1, 2, 5]));
        for bad in ["", "a", "3-1", "0-", "0-99999999"] {
            assert!(parse_cores(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn a_refusal_says_what_is_allowed() {
        let message = parse_size("12 parsecs").unwrap_err().to_string();
        assert!(message.contains("'12 parsecs'") && message.contains("1KiB"), "{message}");
    }

    #[test]
    fn numbers_are_printed_with_three_digits() {
        assert_eq!(count(1_234_567.0), "1.23M");
        assert_eq!(count(999_999.0), "1.00M");
        assert_eq!(count(12.0), "12");
        assert_eq!(bytes_per_second(2.2e9), "2.20 GB/s");
        assert_eq!(bytes(1_572_864.0), "1.50 MiB");
        assert_eq!(nanos(140_000), "140 µs");
        assert_eq!(nanos(4_560_000_000), "4.56 s");
        assert_eq!(percent(0.412), "41.2 %");
    }
}
