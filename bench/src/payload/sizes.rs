//! How large values are: all the same, or drawn from a distribution.

use std::fmt;
use std::str::FromStr;

use super::header::VALUE_HEADER_BYTES;
use super::random::scramble;
use crate::units::{UnitError, parse_size};

/// Values in a table of drawn sizes.
const DRAWN: usize = 4096;
/// No value may be larger.
const LARGEST_BYTES: usize = 512 << 20;
const ALLOWED: &str = "write 1KiB, 100..2KiB (evenly), lognormal:1KiB:0.5 (median, sigma) or mix:100=9,10KiB=1 (with weights); \
                       at least 24 bytes, at most 512MiB";

/// A distribution of sizes in bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Sizes {
    /// All the same.
    Fixed(usize),
    /// Evenly between two sizes, both included.
    Uniform(usize, usize),
    /// The logarithm is normal, with this median and standard deviation: many small values, few large ones. Cut off at 3 sigma.
    Lognormal(usize, f64),
    /// Some sizes, each with its weight.
    Mix(Vec<(usize, f64)>),
}

impl FromStr for Sizes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Sizes, UnitError> {
        let malformed =
            || UnitError::Malformed { text: text.to_owned(), what: "a size of records", allowed: ALLOWED };
        let size = |text: &str| {
            parse_size(text)
                .ok()
                .filter(|bytes| (VALUE_HEADER_BYTES..=LARGEST_BYTES).contains(bytes))
                .ok_or_else(malformed)
        };
        let positive = |text: &str| {
            text.parse::<f64>().ok().filter(|number| *number > 0.0 && *number <= 1e6).ok_or_else(malformed)
        };
        if let Some(rest) = text.strip_prefix("lognormal:") {
            let (median, sigma) = rest.split_once(':').ok_or_else(malformed)?;
            let (median, sigma) = (size(median)?, positive(sigma)?);
            let distribution = Sizes::Lognormal(median, sigma);
            return if sigma <= 4.0 && distribution.largest() <= LARGEST_BYTES {
                Ok(distribution)
            } else {
                Err(malformed())
            };
        }
        if let Some(rest) = text.strip_prefix("mix:") {
            let part = |part: &str| {
                let (bytes, weight) = part.split_once('=').ok_or_else(malformed)?;
                Ok((size(bytes)?, positive(weight)?))
            };
            return rest.split(',').map(part).collect::<Result<_, _>>().map(Sizes::Mix);
        }
        match text.split_once("..") {
            None => Ok(Sizes::Fixed(size(text)?)),
            Some((low, high)) => match (size(low)?, size(high)?) {
                (low, high) if low < high => Ok(Sizes::Uniform(low, high)),
                _ => Err(malformed()),
            },
        }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sizes::Fixed(size) => write!(f, "{size}"),
            Sizes::Uniform(low, high) => write!(f, "{low}..{high}"),
            Sizes::Lognormal(median, sigma) => write!(f, "lognormal:{median}:{sigma}"),
            Sizes::Mix(parts) => {
                let parts: Vec<String> =
                    parts.iter().map(|(size, weight)| format!("{size}={weight}")).collect();
                write!(f, "mix:{}", parts.join(","))
            }
        }
    }
}

impl Sizes {
    /// The size at `quantile` (in `0..1`).
    fn at(&self, quantile: f64) -> usize {
        match self {
            Sizes::Fixed(size) => *size,
            Sizes::Uniform(low, high) => low + (quantile * (high - low + 1) as f64) as usize,
            Sizes::Lognormal(median, sigma) => {
                let bytes = *median as f64 * (sigma * normal_quantile(quantile).clamp(-3.0, 3.0)).exp();
                (bytes as usize).max(VALUE_HEADER_BYTES)
            }
            Sizes::Mix(parts) => {
                let total: f64 = parts.iter().map(|(_, weight)| weight).sum();
                let mut rest = quantile * total;
                let part = parts.iter().find(|(_, weight)| {
                    rest -= weight;
                    rest < 0.0
                });
                part.or(parts.last()).map_or(VALUE_HEADER_BYTES, |(size, _)| *size)
            }
        }
    }

    /// The largest size that can come out.
    pub fn largest(&self) -> usize {
        match self {
            Sizes::Mix(parts) => parts.iter().map(|(size, _)| *size).max().unwrap_or_default(),
            other => other.at(1.0 - 1e-9),
        }
    }

    /// The sizes of a run's values.
    pub fn draw(&self) -> DrawnSizes {
        DrawnSizes((0..DRAWN).map(|n| self.at((n as f64 + 0.5) / DRAWN as f64) as u32).collect())
    }
}

/// Sizes that depend on nothing but a record's number: a record that is sent again has the size that it had.
#[derive(Debug)]
pub struct DrawnSizes(Vec<u32>);

impl DrawnSizes {
    /// The size of value `number`.
    #[inline]
    pub fn of(&self, number: u64) -> usize {
        self.0[scramble(number) as usize % DRAWN] as usize
    }
}

/// How many standard deviations from the mean the normal distribution's `quantile` is: bisection over the distribution itself, as a
/// power series (Marsaglia, "Evaluating the Normal Distribution").
fn normal_quantile(quantile: f64) -> f64 {
    let distribution = |x: f64| {
        let (mut sum, mut term, mut n) = (x, x, 3.0);
        while sum + term != sum {
            term *= x * x / n;
            sum += term;
            n += 2.0;
        }
        0.5 + sum * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
    };
    let (mut low, mut high) = (-6.0, 6.0);
    for _ in 0..50 {
        let middle = (low + high) / 2.0;
        if distribution(middle) < quantile { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str) -> Vec<usize> {
        let sizes = text.parse::<Sizes>().expect("a distribution").draw();
        let mut drawn: Vec<usize> = (0..100_000).map(|number| sizes.of(number)).collect();
        drawn.sort_unstable();
        drawn
    }

    #[test]
    fn distributions_are_read_and_shown_as_they_are_written() {
        for (text, sizes) in [
            ("100", Sizes::Fixed(100)),
            ("1KiB", Sizes::Fixed(1024)),
            ("100..2KiB", Sizes::Uniform(100, 2048)),
            ("lognormal:1KiB:0.5", Sizes::Lognormal(1024, 0.5)),
            ("mix:100=9,10KiB=1", Sizes::Mix(vec![(100, 9.0), (10240, 1.0)])),
        ] {
            assert_eq!(text.parse(), Ok(sizes.clone()), "{text}");
            assert_eq!(sizes.to_string().parse(), Ok(sizes), "{text}");
        }
        for bad in [
            "",
            "8",
            "1GiB",
            "100..100",
            "2k..1k",
            "lognormal:1k",
            "lognormal:1k:9",
            "mix:",
            "mix:100",
            "mix:100=0",
            "100..x",
        ] {
            let refused = bad.parse::<Sizes>().expect_err(bad).to_string();
            assert!(refused.contains("lognormal:1KiB:0.5"), "{refused}");
        }
    }

    #[test]
    fn an_even_distribution_reaches_from_end_to_end() {
        let drawn = drawn("100..2KiB");
        assert!(drawn[0] >= 100 && drawn[0] < 110 && drawn[99_999] <= 2048 && drawn[99_999] > 2030);
        assert!(drawn[50_000].abs_diff(1074) < 30, "{}", drawn[50_000]);
    }

    #[test]
    fn a_lognormal_distribution_has_its_median_and_its_spread() {
        let drawn = drawn("lognormal:1KiB:0.5");
        assert!(drawn[50_000].abs_diff(1024) < 20, "{}", drawn[50_000]);
        // One standard deviation above the median: 1024 times e to the 0.5.
        assert!(drawn[84_134].abs_diff(1688) < 50, "{}", drawn[84_134]);
        assert!(drawn[99_999] <= "lognormal:1KiB:0.5".parse::<Sizes>().expect("valid").largest());
        assert!(drawn_smallest("lognormal:30:2") >= VALUE_HEADER_BYTES);
    }

    fn drawn_smallest(text: &str) -> usize {
        drawn(text)[0]
    }

    #[test]
    fn a_mix_follows_its_weights() {
        let drawn = drawn("mix:100=9,10KiB=1");
        let small = drawn.iter().filter(|size| **size == 100).count();
        assert!(small.abs_diff(90_000) < 1000, "{small}");
        assert_eq!("mix:100=9,10KiB=1".parse::<Sizes>().expect("valid").largest(), 10240);
    }
}
