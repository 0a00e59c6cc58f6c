//! What was to be reached, and what was.

use openconsensus_bench::{Case, Parameters, Report, Spread, number, parameters};

use crate::results::Results;

/// Something to be reached.
pub(crate) struct Target {
    pub(crate) what: &'static str,
    benchmark: &'static str,
    /// Which cases: those with all parameters of one of these. What counts is the worst of them.
    cases: fn() -> Vec<Parameters>,
    ours: &'static str,
    /// Against whom: the best of them counts. Nobody: the value itself is the target.
    theirs: &'static [&'static str],
    metric: &'static str,
    bound: Bound,
}

/// The bound of a ratio, or of a value.
#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// What was reached of a target.
pub(crate) struct Reached {
    /// The ratio in the worst case, or the value.
    pub(crate) value: Spread,
    pub(crate) is_met: bool,
    /// How many cases there are.
    pub(crate) cases: usize,
}

const MEMORY: &str = "memory_cluster";

/// All targets.
pub(crate) const TARGETS: &[Target] = &[
    Target {
        what: "in memory, two threads, 64 and 256 clients: writes/s against openraft",
        benchmark: MEMORY,
        cases: || memory("two threads", &[64, 256]),
        ours: "openconsensus",
        theirs: &["openraft"],
        metric: "ops_per_s",
        bound: Bound::AtLeast(3.0),
    },
    Target {
        what: "in memory, two threads, 1024 and 4096 clients: writes/s against openraft",
        benchmark: MEMORY,
        cases: || memory("two threads", &[1024, 4096]),
        ours: "openconsensus",
        theirs: &["openraft"],
        metric: "ops_per_s",
        bound: Bound::AtLeast(2.5),
    },
    Target {
        what: "in memory, two threads, batches of 4 and 16: writes/s against openraft",
        benchmark: MEMORY,
        cases: || {
            let batches = [4, 16].into_iter();
            batches.map(|batch| parameters! { topology: "two threads", batch: batch }).collect()
        },
        ours: "openconsensus",
        theirs: &["openraft"],
        metric: "ops_per_s",
        bound: Bound::AtLeast(2.5),
    },
    Target {
        what: "in memory, two threads, 1 client: writes/s against openraft",
        benchmark: MEMORY,
        cases: || memory("two threads", &[1]),
        ours: "openconsensus",
        theirs: &["openraft"],
        metric: "ops_per_s",
        bound: Bound::AtLeast(1.2),
    },
    Target {
        what: "in memory, one worker, 1 client: writes/s against openraft",
        benchmark: MEMORY,
        cases: || memory("one worker", &[1]),
        ours: "openconsensus",
        theirs: &["openraft"],
        metric: "ops_per_s",
        bound: Bound::AtLeast(20.0),
    },
    Target {
        what: "in memory, two threads, 4096 clients: processor time of a write against openraft",
        benchmark: MEMORY,
        cases: || memory("two threads", &[4096]),
        ours: "openconsensus",
        theirs: &["openraft"],
        metric: "cpu_us",
        bound: Bound::AtMost(0.5),
    },
    Target {
        what: "in memory, two threads, 4096 clients: p99 divided by p50",
        benchmark: MEMORY,
        cases: || memory("two threads", &[4096]),
        ours: "openconsensus",
        theirs: &[],
        metric: "p99_by_p50",
        bound: Bound::AtMost(4.0),
    },
    Target {
        what: "engine alone, batch 256: processor time of an entry against raft-rs at its best",
        benchmark: "engine",
        cases: || vec![parameters! { batch: 256 }],
        ours: "openconsensus",
        theirs: &["raft-rs, calls", "raft-rs, one message"],
        metric: "cpu_ns",
        bound: Bound::AtMost(0.4),
    },
    Target {
        what: "engine alone, batch 1: processor time of an entry against raft-rs at its best",
        benchmark: "engine",
        cases: || vec![parameters! { batch: 1 }],
        ours: "openconsensus",
        theirs: &["raft-rs, calls", "raft-rs, one message"],
        metric: "cpu_ns",
        bound: Bound::AtMost(1.0),
    },
    Target {
        what: "write-ahead log, batches of 1, 16 and 256: entries/s against a raw preallocated file",
        benchmark: "log_stores",
        cases: || vec![parameters! { entry_bytes: 256 }],
        ours: "openconsensus wal",
        theirs: &["raw file"],
        metric: "entries_per_s",
        bound: Bound::AtLeast(0.9),
    },
    Target {
        what: "kv, 1 client: puts/s against etcd",
        benchmark: "etcd",
        cases: || vec![parameters! { operation: "put", clients: 1 }],
        ours: "kv",
        theirs: &["etcd"],
        metric: "keys_per_s",
        bound: Bound::AtLeast(2.0),
    },
    Target {
        what: "kv, 16 to 256 clients: puts/s against etcd",
        benchmark: "etcd",
        cases: || many_clients("put"),
        ours: "kv",
        theirs: &["etcd"],
        metric: "keys_per_s",
        bound: Bound::AtLeast(2.5),
    },
    Target {
        what: "kv, puts: p99 against etcd",
        benchmark: "etcd",
        cases: || vec![parameters! { operation: "put" }],
        ours: "kv",
        theirs: &["etcd"],
        metric: "p99_us",
        bound: Bound::AtMost(1.0),
    },
    Target {
        what: "kv, puts of 64 callers on a stream: puts/s against single puts of etcd",
        benchmark: "etcd",
        cases: || vec![parameters! { operation: "puts on a stream", clients: 64 }],
        ours: "kv",
        theirs: &["etcd, single puts"],
        metric: "keys_per_s",
        bound: Bound::AtLeast(8.0),
    },
    Target {
        what: "kv, puts of 64 callers in batches of 16: puts/s against single puts of etcd",
        benchmark: "etcd",
        cases: || vec![parameters! { operation: "batches of 16 puts", clients: 64 }],
        ours: "kv",
        theirs: &["etcd, single puts"],
        metric: "keys_per_s",
        bound: Bound::AtLeast(8.0),
    },
    Target {
        what: "kv, 64 clients: linearizable gets/s against etcd",
        benchmark: "etcd",
        cases: || vec![parameters! { operation: "linearizable get", clients: 64 }],
        ours: "kv",
        theirs: &["etcd"],
        metric: "keys_per_s",
        bound: Bound::AtLeast(3.0),
    },
    Target {
        what: "restart with 10 million entries of 256 B: bytes/s against reading the files",
        benchmark: "scaling",
        cases: || vec![parameters! { log: "wal", entries: 10_000_000, payload_bytes: 256 }],
        ours: "store",
        theirs: &["files"],
        metric: "mib_per_s",
        bound: Bound::AtLeast(0.5),
    },
];

/// Cases of [`MEMORY`] with single writes.
fn memory(topology: &str, clients: &[u64]) -> Vec<Parameters> {
    let case = |clients: &u64| parameters! { topology: topology, batch: 1, clients: *clients };
    clients.iter().map(case).collect()
}

fn many_clients(operation: &str) -> Vec<Parameters> {
    let clients = [16, 64, 256].into_iter();
    clients.map(|clients| parameters! { operation: operation, clients: clients }).collect()
}

impl Target {
    /// The bound as text.
    pub(crate) fn bound(&self) -> String {
        let times = if self.theirs.is_empty() { "" } else { " ×" };
        match self.bound {
            Bound::AtLeast(bound) => format!("≥ {bound}{times}"),
            Bound::AtMost(bound) => format!("≤ {bound}{times}"),
        }
    }

    /// What was reached as text.
    pub(crate) fn shown(&self, reached: &Reached) -> String {
        let times = if self.theirs.is_empty() { "" } else { " ×" };
        let Spread { median, min, max } = reached.value;
        let worst =
            if reached.cases == 1 { String::new() } else { format!(", worst of {} cases", reached.cases) };
        format!("{}{times} ({} to {}){worst}", number(median), number(min), number(max))
    }

    /// `None` if nothing of it was measured.
    pub(crate) fn reached(&self, results: &Results) -> Option<Reached> {
        let values = self.values(results.of(self.benchmark)?);
        let worse = |one: &Spread, other: &Spread| match self.bound {
            Bound::AtLeast(_) => one.median.total_cmp(&other.median),
            Bound::AtMost(_) => other.median.total_cmp(&one.median),
        };
        let cases = values.len();
        let value = values.into_iter().min_by(worse)?;
        let is_met = match self.bound {
            Bound::AtLeast(bound) => bound <= value.median,
            Bound::AtMost(bound) => value.median <= bound,
        };
        Some(Reached { value, is_met, cases })
    }

    fn values(&self, report: &Report) -> Vec<Spread> {
        let wanted = (self.cases)();
        let is_wanted = |case: &&Case| {
            wanted.iter().any(|wanted| wanted.iter().all(|parameter| case.parameters.contains(parameter)))
        };
        report.cases.iter().filter(is_wanted).filter_map(|case| self.value(case)).collect()
    }

    fn value(&self, case: &Case) -> Option<Spread> {
        if self.theirs.is_empty() {
            return case.contender(self.ours)?.spread(self.metric);
        }
        let ratios = self.theirs.iter().filter_map(|theirs| case.ratio(self.ours, theirs, self.metric));
        // The best of them is the one that leaves us the worst ratio.
        match self.bound {
            Bound::AtLeast(_) => ratios.min_by(|one, other| one.median.total_cmp(&other.median)),
            Bound::AtMost(_) => ratios.max_by(|one, other| one.median.total_cmp(&other.median)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openconsensus_bench::{Options, Sample};

    #[test]
    fn the_worst_case_against_the_best_peer_counts() {
        let options = Options { rounds: 1, seconds: 1.0, out: None, smoke: false };
        let mut report = Report::new("engine", &options);
        for (payload, ours) in [(16, 100.0), (256, 130.0)] {
            let contender = |name: &str, cpu: f64| (name.to_owned(), vec![Sample::new().with("cpu_ns", cpu)]);
            let contenders = vec![
                contender("openconsensus", ours),
                contender("raft-rs, calls", 1000.0),
                contender("raft-rs, one message", 400.0),
            ];
            report.add(parameters! { payload_bytes: payload, batch: 256 }, contenders);
        }
        let results = Results::with(vec![report]);
        let target = |batch: &str| TARGETS.iter().find(|target| target.what.contains(batch)).unwrap();
        let reached = target("batch 256").reached(&results).unwrap();
        assert_eq!(target("batch 256").shown(&reached), "0.325 × (0.325 to 0.325), worst of 2 cases");
        assert!(reached.is_met);
        assert!(target("batch 1:").reached(&results).is_none());
    }
}
