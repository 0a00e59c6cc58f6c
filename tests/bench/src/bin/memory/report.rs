//! What was measured, for people and for programs.

use serde::Serialize;

use super::limits::Limits;
use super::node::Sample;
use super::scenario::Scenario;

/// What a node may take on top of its limits: the process itself with its threads, code and connections, the index of its
/// log, and what the allocator adds by rounding and by keeping what was freed.
const OVERHEAD_BYTES: u64 = 64 << 20;

const MIB: f64 = (1 << 20) as f64;

/// The outcome of one scenario.
#[derive(Serialize)]
pub(crate) struct Result {
    scenario: &'static str,
    bound_bytes: u64,
    overhead_bytes: u64,
    resident_bytes_first: u64,
    resident_bytes_max: u64,
    follower_bytes_max: u64,
    commands_per_second: u64,
    samples: Vec<Sample>,
}

/// Says what is compared.
pub(crate) fn print_head(limits: Limits, bound: u64) {
    println!(
        "limits {limits:?}: their sum is {:.0} MiB; a node may take {} MiB more",
        bound as f64 / MIB,
        OVERHEAD_BYTES >> 20
    );
    println!();
    println!(
        "{:<19} {:>7} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8}  resident memory over time",
        "scenario",
        "cmd/s",
        "resident",
        "follower",
        "at start",
        "admitted",
        "in log",
        "tail",
        "apply",
        "flight",
        "network"
    );
}

impl Result {
    pub(crate) fn of(scenario: Scenario, bound_bytes: u64, samples: Vec<Sample>) -> Self {
        let max = |of: fn(&Sample) -> u64| samples.iter().map(of).max().unwrap_or(0);
        let last = samples.last().cloned().unwrap_or_default();
        Self {
            scenario: scenario.name(),
            bound_bytes,
            overhead_bytes: OVERHEAD_BYTES,
            resident_bytes_first: samples.first().map_or(0, |sample| sample.resident_bytes),
            resident_bytes_max: max(|sample| sample.resident_bytes),
            follower_bytes_max: max(|sample| sample.follower_bytes),
            commands_per_second: last.applied_commands * 1000 / last.ms.max(1),
            samples,
        }
    }

    /// Whether memory has stayed under what the limits allow.
    pub(crate) fn is_within(&self) -> bool {
        let most = self.resident_bytes_max.max(self.follower_bytes_max);
        // Without commands nothing was measured.
        0 < self.commands_per_second && most <= self.bound_bytes + self.overhead_bytes
    }

    pub(crate) fn print(&self) {
        let max = |of: fn(&Sample) -> u64| self.samples.iter().map(of).max().unwrap_or(0);
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / MIB);
        println!(
            "{:<19} {:>7} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8}  {} {}",
            self.scenario,
            self.commands_per_second,
            mib(self.resident_bytes_max),
            mib(self.follower_bytes_max),
            mib(self.resident_bytes_first),
            mib(max(|sample| sample.admitted_bytes)),
            mib(max(|sample| sample.uncommitted_bytes)),
            mib(max(|sample| sample.tail_bytes)),
            mib(max(|sample| sample.apply_backlog_bytes)),
            mib(max(|sample| sample.inflight_bytes)),
            mib(max(|sample| sample.network_bytes)),
            self.sparkline(),
            if self.is_within() { "within" } else { "TOO MUCH" }
        );
    }

    /// Resident memory over time, in fortieths of it; the highest bar is the bound with its overhead.
    fn sparkline(&self) -> String {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        const COLUMNS: usize = 40;
        let all = self.bound_bytes + self.overhead_bytes;
        let width = self.samples.len().div_ceil(COLUMNS).max(1);
        let columns = self.samples.chunks(width);
        let bar = |samples: &[Sample]| {
            let most = samples.iter().map(|sample| sample.resident_bytes).max().unwrap_or(0);
            BARS[((most * 8 / all.max(1)) as usize).min(7)]
        };
        columns.map(bar).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(resident_bytes: u64, applied_commands: u64) -> Result {
        let sample = Sample { ms: 1000, resident_bytes, applied_commands, ..Sample::default() };
        Result::of(Scenario::Healthy, 100 << 20, vec![sample])
    }

    #[test]
    fn more_than_the_bound_with_its_overhead_is_too_much_and_so_is_no_load() {
        let most = (100 << 20) + OVERHEAD_BYTES;
        assert!(result(most, 1).is_within());
        assert!(!result(most + 1, 1).is_within());
        assert!(!result(most, 0).is_within());
        let mut result = result(most, 1);
        result.follower_bytes_max = most + 1;
        assert!(!result.is_within(), "a follower counts too");
    }
}
