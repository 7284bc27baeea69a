//! A latency histogram with 16 buckets for each power of two: at most 6 % off, and cheap to record and to add up.

const SUB_BUCKET_BITS: u32 = 4;
const SUB_BUCKETS: usize = 1 << SUB_BUCKET_BITS;
/// Values of 2^40 and more, twelve days in microseconds, count as the largest bucket.
const MAGNITUDES: usize = 40 - SUB_BUCKET_BITS as usize;
const BUCKETS: usize = (MAGNITUDES + 1) * SUB_BUCKETS;

/// Counts of values by size.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    count: u64,
    sum: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: Box::new([0; BUCKETS]), count: 0, sum: 0 }
    }
}

fn bucket_of(value: u64) -> usize {
    let magnitude = (64 - (value >> SUB_BUCKET_BITS).leading_zeros()) as usize;
    if magnitude <= 1 {
        return value as usize;
    }
    let sub_bucket = (value >> (magnitude - 1)) as usize - SUB_BUCKETS;
    (magnitude * SUB_BUCKETS + sub_bucket).min(BUCKETS - 1)
}

/// The largest value that falls into the bucket.
fn upper_bound(bucket: usize) -> u64 {
    let (magnitude, sub_bucket) = (bucket / SUB_BUCKETS, (bucket % SUB_BUCKETS) as u64);
    if magnitude <= 1 {
        return bucket as u64;
    }
    ((SUB_BUCKETS as u64 + sub_bucket + 1) << (magnitude - 1)) - 1
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        self.counts[bucket_of(value)] += 1;
        self.count += 1;
        self.sum += value;
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(other.counts.iter()).for_each(|(mine, theirs)| *mine += theirs);
        self.count += other.count;
        self.sum += other.sum;
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The value that the fraction `quantile` of all values does not exceed; 0 if there is none.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let rank = ((self.count as f64 * quantile).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_bound(bucket);
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_a_bucket_whose_bound_is_at_most_a_sixteenth_off() {
        for shift in 0..40 {
            for value in [1u64 << shift, (1 << shift) + 1, (1 << shift) * 3 / 2, (2 << shift) - 1] {
                let bound = upper_bound(bucket_of(value));
                assert!(bound >= value && bound - value <= value / 16, "{value} → {bound}");
            }
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_of_a_uniform_spread_are_where_they_belong() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|value| histogram.record(value));
        let mut merged = Histogram::default();
        merged.merge(&histogram);
        assert!((500..=531).contains(&merged.quantile(0.5)));
        assert!((990..=1051).contains(&merged.quantile(0.99)));
        assert_eq!((merged.count(), merged.sum()), (1000, 500_500));
        assert_eq!(Histogram::default().quantile(0.99), 0);
    }
}
