//! What one contender has shown in one round.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::allocations::Allocations;
use crate::processor::Elapsed;

/// What one contender has shown in one round: named values, whose names end with their unit.
///
/// The first one is what ratios in the table are made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    pub(crate) values: Vec<(String, f64)>,
}

impl Sample {
    /// One without values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value. A name with `_per_s` says that more is better, any other that less is.
    ///
    /// # Panics
    ///
    /// If there is one of that name, or the value is not a finite number: then nothing was measured.
    #[must_use]
    pub fn with(mut self, name: &str, value: f64) -> Self {
        assert!(self.value(name).is_none(), "{name} was added before");
        assert!(value.is_finite(), "{name} is {value}: nothing was measured");
        self.values.push((name.to_owned(), value));
        self
    }

    /// All values, in the order in which they were added.
    pub fn values(&self) -> impl Iterator<Item = (&str, f64)> {
        self.values.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// The value of that name.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(own, _)| own == name).map(|(_, value)| *value)
    }

    /// Adds what `operations` have taken in this process: `ops_per_s`, and `cpu_us`, the processor time of one.
    #[must_use]
    pub fn throughput(self, operations: u64, elapsed: &Elapsed) -> Self {
        self.with("ops_per_s", operations as f64 / elapsed.wall.as_secs_f64())
            .with("cpu_us", elapsed.processor.as_secs_f64() * 1e6 / operations as f64)
    }

    /// Adds how long operations have taken: `p50_us`, `p99_us` and `max_us`.
    #[must_use]
    pub fn latencies(self, latencies: &Latencies) -> Self {
        self.with("p50_us", latencies.quantile_us(0.5))
            .with("p99_us", latencies.quantile_us(0.99))
            .with("max_us", latencies.max_us())
    }

    /// Adds what one of `operations` has allocated: `allocations` and `allocated_bytes`.
    #[must_use]
    pub fn allocations(self, operations: u64, allocations: Allocations) -> Self {
        self.with("allocations", allocations.count as f64 / operations as f64)
            .with("allocated_bytes", allocations.bytes as f64 / operations as f64)
    }
}

/// How long operations have taken: a histogram with an error of at most a thousandth.
#[derive(Clone, Debug)]
pub struct Latencies {
    nanoseconds: Histogram<u64>,
}

impl Latencies {
    /// One without operations.
    pub fn new() -> Self {
        Self { nanoseconds: Histogram::new(3).expect("three digits are allowed") }
    }

    /// One operation has taken so long.
    pub fn record(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.record(nanoseconds).expect("a histogram that grows takes every value");
    }

    /// Adds those of another client.
    pub fn add(&mut self, other: &Self) {
        self.nanoseconds.add(&other.nanoseconds).expect("a histogram that grows takes every value");
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.nanoseconds.len()
    }

    /// What so large a part of them has not exceeded, in microseconds. Not a number if there are none.
    pub fn quantile_us(&self, quantile: f64) -> f64 {
        self.us_if_any(self.nanoseconds.value_at_quantile(quantile))
    }

    /// The longest one, in microseconds. Not a number if there are none.
    pub fn max_us(&self) -> f64 {
        self.us_if_any(self.nanoseconds.max())
    }

    fn us_if_any(&self, nanoseconds: u64) -> f64 {
        if self.nanoseconds.is_empty() { f64::NAN } else { nanoseconds as f64 / 1000.0 }
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_of_clients_add_up() {
        let (mut one, mut other) = (Latencies::new(), Latencies::new());
        (1..=98).for_each(|us| one.record(Duration::from_micros(us)));
        other.record(Duration::from_secs(3));
        other.record(Duration::from_secs(100));
        one.add(&other);
        assert_eq!(one.count(), 100);
        assert!((one.quantile_us(0.5) - 50.0).abs() < 0.1, "{}", one.quantile_us(0.5));
        assert!((one.quantile_us(0.99) / 3e6 - 1.0).abs() < 0.01, "{}", one.quantile_us(0.99));
        assert!((one.max_us() / 1e8 - 1.0).abs() < 0.01, "{}", one.max_us());
        assert!(Latencies::new().max_us().is_nan());
    }

    #[test]
    fn a_sample_knows_what_one_operation_takes() {
        let elapsed = Elapsed { wall: Duration::from_secs(2), processor: Duration::from_secs(3) };
        let sample = Sample::new()
            .throughput(1_000_000, &elapsed)
            .allocations(1_000_000, Allocations { count: 2_000_000, bytes: 64_000_000 });
        assert_eq!(sample.value("ops_per_s"), Some(500_000.0));
        assert_eq!(sample.value("cpu_us"), Some(3.0));
        assert_eq!(sample.value("allocations"), Some(2.0));
        assert_eq!(sample.value("allocated_bytes"), Some(64.0));
        assert_eq!(sample.value("p50_us"), None);
    }
}
