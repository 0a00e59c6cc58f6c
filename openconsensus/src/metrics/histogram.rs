//! `Histogram`: how often values of which size have occurred, in little memory and with a known error.

use std::fmt;
use std::time::Duration;

/// So many buckets for each doubling of the value: the relative error is one divided by it.
const STEPS: u64 = 16;
const STEPS_LOG2: u32 = STEPS.trailing_zeros();
/// Values from two to the power of this on share the last bucket. In nanoseconds that is more than an hour.
const VALUE_BITS: u32 = 42;
const BUCKETS: usize = (VALUE_BITS - STEPS_LOG2 + 1) as usize * STEPS as usize;

/// How often values of which size have occurred since the node was started.
///
/// Values up to 16 are counted each for itself, larger ones in buckets of which sixteen cover each doubling, up to
/// 2⁴²: so a [`quantile`](Self::quantile) is never below the true one, and above it by at most a sixteenth. Count, sum and
/// maximum are exact. Recording costs a few instructions; the memory, 5 KB, is allocated with the first value.
///
/// Times are in nanoseconds. What has happened between two looks at a node is [`since`](Self::since).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Empty, or one for each bucket.
    counts: Vec<u64>,
    count: u64,
    sum: u64,
    max: u64,
}

impl Histogram {
    /// Counts `value`.
    pub fn record(&mut self, value: u64) {
        self.record_many(value, 1);
    }

    /// Counts `value` as if it had occurred `times` times.
    pub fn record_many(&mut self, value: u64, times: u64) {
        if times == 0 {
            return;
        }
        if self.counts.is_empty() {
            self.counts = vec![0; BUCKETS];
        }
        self.counts[bucket_of(value)] += times;
        self.count += times;
        self.sum = self.sum.saturating_add(value.saturating_mul(times));
        self.max = self.max.max(value);
    }

    /// Counts a time, in nanoseconds, as if it had been measured `times` times.
    pub fn record_time(&mut self, time: Duration, times: u64) {
        self.record_many(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), times);
    }

    /// Adds all that `other` has counted.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.is_empty() {
            self.counts.clone_from(&other.counts);
        } else {
            self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        }
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// What was counted after `earlier`, which was an earlier state of this one. Its maximum is that of the bucket of
    /// its largest value: exact to a sixteenth.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = earlier.counts.iter().copied().chain(std::iter::repeat(0));
        let counts: Vec<u64> =
            self.counts.iter().zip(before).map(|(now, before)| now.saturating_sub(before)).collect();
        let largest = counts.iter().rposition(|count| 0 < *count);
        Self {
            count: self.count.saturating_sub(earlier.count),
            sum: self.sum.saturating_sub(earlier.sum),
            max: largest.map_or(0, |bucket| upper_bound(bucket).min(self.max)),
            counts,
        }
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest value; 0 when there is none.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The mean of all values; 0 when there is none.
    pub fn mean(&self) -> u64 {
        self.sum.checked_div(self.count).unwrap_or(0)
    }

    /// The value that `q` of all values are not above, from 0 to 1; 0 when there is none. It is the true one or larger,
    /// by at most a sixteenth.
    pub fn quantile(&self, q: f64) -> u64 {
        // The cast cuts off what lies outside, and NaN becomes 0.
        let rank = ((q * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if rank <= seen {
                return upper_bound(bucket).min(self.max);
            }
        }
        self.max
    }

    /// The median.
    pub fn p50(&self) -> u64 {
        self.quantile(0.5)
    }

    /// What 99 of 100 values are not above.
    pub fn p99(&self) -> u64 {
        self.quantile(0.99)
    }

    /// How many values are not above `bound`. Exact where `bound` plus one is a power of two; otherwise those count
    /// that share a bucket with `bound`.
    pub fn count_up_to(&self, bound: u64) -> u64 {
        let behind = bucket_of(bound) + 1;
        self.counts.iter().take(behind).sum()
    }
}

/// The bucket that a value is counted in.
fn bucket_of(value: u64) -> usize {
    let value = value.min((1 << VALUE_BITS) - 1);
    if value < STEPS {
        return value as usize;
    }
    let shift = value.ilog2() - STEPS_LOG2;
    (u64::from(shift) * STEPS + (value >> shift)) as usize
}

/// The largest value of a bucket. The last one has none: what is larger is counted there too.
fn upper_bound(bucket: usize) -> u64 {
    if bucket + 1 == BUCKETS {
        return u64::MAX;
    }
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    ((bucket % STEPS + STEPS + 1) << shift) - 1
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count)
            .field("p50", &self.p50())
            .field("p99", &self.p99())
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

/// Serialized as what people ask for: `count`, `sum`, `p50`, `p90`, `p99`, `p999` and `max`.
#[cfg(feature = "serde")]
impl serde::Serialize for Histogram {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut fields = serializer.serialize_struct("Histogram", 7)?;
        fields.serialize_field("count", &self.count)?;
        fields.serialize_field("sum", &self.sum)?;
        fields.serialize_field("p50", &self.p50())?;
        fields.serialize_field("p90", &self.quantile(0.9))?;
        fields.serialize_field("p99", &self.p99())?;
        fields.serialize_field("p999", &self.quantile(0.999))?;
        fields.serialize_field("max", &self.max)?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of all orders of magnitude below two to the power of `bits`.
    fn values(count: u64, bits: u32) -> Vec<u64> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 1
        };
        (0..count).map(|_| next() >> (63 - bits + (next() >> 40) as u32 % bits)).collect()
    }

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        values.iter().for_each(|value| histogram.record(*value));
        histogram
    }

    #[test]
    fn buckets_follow_each_other_without_gap_and_are_a_sixteenth_wide_at_most() {
        let mut first = 0;
        for bucket in 0..BUCKETS - 1 {
            let last = upper_bound(bucket);
            assert!(first <= last, "bucket {bucket} is empty: {first}..={last}");
            assert_eq!((bucket_of(first), bucket_of(last)), (bucket, bucket), "{first}..={last}");
            assert!((last - first) * STEPS <= first, "bucket {bucket} is too wide: {first}..={last}");
            first = last + 1;
        }
        for value in [first, 1 << VALUE_BITS, u64::MAX] {
            assert_eq!(bucket_of(value), BUCKETS - 1);
        }
    }

    #[test]
    fn every_quantile_is_the_true_one_or_at_most_a_sixteenth_above() {
        for size in [1, 2, 3, 10, 1000] {
            let mut values = values(size, VALUE_BITS);
            let histogram = of(&values);
            values.sort_unstable();
            for permille in 0..=1000_usize {
                let rank = (permille * values.len()).div_ceil(1000).clamp(1, values.len());
                let (exact, told) = (values[rank - 1], histogram.quantile(permille as f64 / 1000.0));
                assert!(exact <= told && told <= exact + exact / STEPS, "{permille}: {told} for {exact}");
            }
            assert_eq!(histogram.max(), values[values.len() - 1]);
            assert_eq!(histogram.sum(), values.iter().sum::<u64>());
            assert_eq!(histogram.count(), size);
        }
    }

    #[test]
    fn merging_is_recording_both() {
        let values = values(100, 55);
        for cut in [0, 1, 50, 100] {
            let mut merged = of(&values[..cut]);
            merged.merge(&of(&values[cut..]));
            assert_eq!(merged, of(&values));
        }
    }

    #[test]
    fn what_came_since_is_what_was_recorded_since() {
        let (before, after) = ([5, 100, 1 << 30], [7, 7, 1000]);
        let earlier = of(&before);
        let mut later = earlier.clone();
        after.iter().for_each(|value| later.record(*value));
        let since = later.since(&earlier);
        assert_eq!((since.count(), since.sum(), since.p50()), (3, 1014, 7));
        assert!(1000 <= since.max() && since.max() <= 1000 + 1000 / STEPS);
        assert_eq!(later.since(&Histogram::default()).quantile(1.0), later.max());
        assert_eq!(later.since(&later).count(), 0);
    }

    #[test]
    fn counting_many_times_is_counting_that_often() {
        let mut many = Histogram::default();
        many.record_many(300, 4);
        many.record_many(9, 0);
        assert_eq!(many, of(&[300; 4]));
        assert_eq!(Histogram::default().quantile(0.5), 0);
        assert_eq!(Histogram::default().mean(), 0);
    }

    #[test]
    fn cumulative_counts_are_exact_below_powers_of_two() {
        let values: Vec<u64> = (0..5000).collect();
        let histogram = of(&values);
        for bits in 0..=12 {
            assert_eq!(histogram.count_up_to((1 << bits) - 1), 1 << bits);
        }
        assert_eq!(histogram.count_up_to(u64::MAX), 5000);
    }

    #[test]
    fn sums_do_not_overflow() {
        let mut histogram = of(&[u64::MAX]);
        histogram.record_many(u64::MAX, 3);
        assert_eq!((histogram.sum(), histogram.max(), histogram.p50()), (u64::MAX, u64::MAX, u64::MAX));
    }
}
