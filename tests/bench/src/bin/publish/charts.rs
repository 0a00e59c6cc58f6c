//! Which charts there are.

use openconsensus_bench::{Case, Parameters, Report, parameters};

use crate::chart::Chart;
use crate::results::Results;

/// One chart: some cases of a benchmark side by side.
pub(crate) struct Wanted {
    /// The name of its file.
    pub(crate) name: &'static str,
    pub(crate) benchmark: &'static str,
    pub(crate) title: &'static str,
    /// Which cases: those with all these parameters.
    cases: fn() -> Parameters,
    /// The parameter in which they differ.
    groups: &'static str,
    metric: &'static str,
    unit: &'static str,
    is_logarithmic: bool,
}

/// All charts.
pub(crate) const CHARTS: &[Wanted] = &[
    Wanted {
        name: "memory-threads",
        benchmark: "memory_cluster",
        title: "Three nodes in memory, one thread for clients and one for nodes, 16 B",
        cases: || parameters! { topology: "two threads", payload_bytes: 16, batch: 1 },
        groups: "clients",
        metric: "ops_per_s",
        unit: "writes/s",
        is_logarithmic: true,
    },
    Wanted {
        name: "memory-worker",
        benchmark: "memory_cluster",
        title: "Three nodes in memory, one thread for everything, 16 B",
        cases: || parameters! { topology: "one worker", payload_bytes: 16, batch: 1 },
        groups: "clients",
        metric: "ops_per_s",
        unit: "writes/s",
        is_logarithmic: true,
    },
    Wanted {
        name: "memory-cpu",
        benchmark: "memory_cluster",
        title: "Three nodes in memory, two threads, 16 B: processor time of a write",
        cases: || parameters! { topology: "two threads", payload_bytes: 16, batch: 1 },
        groups: "clients",
        metric: "cpu_us",
        unit: "µs",
        is_logarithmic: true,
    },
    Wanted {
        name: "engine",
        benchmark: "engine",
        title: "The engine alone, three nodes, 16 B: processor time of an entry",
        cases: || parameters! { payload_bytes: 16 },
        groups: "batch",
        metric: "cpu_ns",
        unit: "ns",
        is_logarithmic: true,
    },
    Wanted {
        name: "log-stores",
        benchmark: "log_stores",
        title: "Append and sync of entries of 256 B",
        cases: || parameters! { entry_bytes: 256 },
        groups: "batch",
        metric: "entries_per_s",
        unit: "entries/s",
        is_logarithmic: true,
    },
    Wanted {
        name: "etcd-puts",
        benchmark: "etcd",
        title: "Three processes on one machine: puts of 128 B",
        cases: || parameters! { operation: "put", value_bytes: 128 },
        groups: "clients",
        metric: "keys_per_s",
        unit: "puts/s",
        is_logarithmic: false,
    },
    Wanted {
        name: "etcd-gets",
        benchmark: "etcd",
        title: "Three processes on one machine: linearizable gets",
        cases: || parameters! { operation: "linearizable get" },
        groups: "clients",
        metric: "keys_per_s",
        unit: "gets/s",
        is_logarithmic: false,
    },
    Wanted {
        name: "payloads",
        benchmark: "scaling",
        title: "Three nodes: bytes of commands, by the size of a command",
        cases: || parameters! { nodes: 3 },
        groups: "payload_bytes",
        metric: "mib_per_s",
        unit: "MiB/s",
        is_logarithmic: true,
    },
    Wanted {
        name: "nodes",
        benchmark: "scaling",
        title: "Writes of 256 B from 256 clients, by the number of nodes",
        cases: || parameters! { payload_bytes: 256, clients: 256 },
        groups: "nodes",
        metric: "ops_per_s",
        unit: "writes/s",
        is_logarithmic: true,
    },
];

/// All charts for which something was measured: the name of the file, and the drawing.
pub(crate) fn all(results: &Results) -> Vec<(&'static str, String)> {
    let drawn = |wanted: &Wanted| Some((wanted.name, wanted.chart(results.of(wanted.benchmark)?)?.svg()));
    CHARTS.iter().filter_map(drawn).collect()
}

impl Wanted {
    /// `None` if nothing of it was measured.
    pub(crate) fn chart(&self, report: &Report) -> Option<Chart> {
        let wanted = (self.cases)();
        let cases = report.cases.iter().filter(|case| {
            wanted.iter().all(|parameter| case.parameters.contains(parameter))
                && case.parameter(self.groups).is_some()
                && case.contenders.iter().any(|contender| contender.rounds(self.metric).is_some())
        });
        // The last one of a name counts: a case that stands in two parts of a benchmark is drawn once.
        let mut groups: Vec<(String, &Case)> = Vec::new();
        for case in cases {
            let name = case.parameter(self.groups)?.to_string();
            groups.retain(|(other, _)| *other != name);
            groups.push((name, case));
        }
        groups.sort_by_key(|(_, case)| case.parameter(self.groups).cloned());
        let mut series: Vec<String> = Vec::new();
        for contender in groups.iter().flat_map(|(_, case)| &case.contenders) {
            if !series.contains(&contender.name) {
                series.push(contender.name.clone());
            }
        }
        let bars =
            |case: &Case| series.iter().map(|name| case.contender(name)?.spread(self.metric)).collect();
        let groups: Vec<_> = groups.into_iter().map(|(name, case)| (name, bars(case))).collect();
        (!groups.is_empty()).then(|| Chart {
            title: self.title.into(),
            unit: self.unit.into(),
            groups_are: self.groups.replace('_', " "),
            series: series.clone(),
            groups,
            is_logarithmic: self.is_logarithmic,
        })
    }
}
