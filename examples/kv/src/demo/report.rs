//! What the demonstration tells at its end: a table for people, JSON for scripts.

use std::fmt::Write as _;
use std::path::PathBuf;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::check::{Checksum, Findings};
use super::model::{Fault, Tally};

/// All figures.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Report {
    /// Whether every promise was kept.
    pub(super) ok: bool,
    /// What was imported.
    pub(super) import: ImportFigures,
    /// What the clients did.
    pub(super) load: LoadFigures,
    /// Each kill of a leader.
    pub(super) kills: Vec<KillFigures>,
    /// How long there was no leader after a kill, over all kills.
    pub(super) without_leader: Option<WithoutLeader>,
    /// What was changed under load, and how long it took.
    pub(super) changes: Vec<ChangeFigures>,
    /// What was read back through each node.
    pub(super) nodes: Vec<NodeFigures>,
    /// The checksum that all state machines have; `None` when they differ.
    pub(super) checksum: Option<Checksum>,
    /// Why there is no such checksum.
    pub(super) checksum_error: Option<String>,
    /// Reads under load that returned what they must not have.
    pub(super) stale_reads: u64,
    /// The first of those reads.
    pub(super) load_faults: Vec<Fault>,
    /// Keys without the effect of an acknowledged write: the most that any node has.
    pub(super) lost: u64,
    /// Keys that differ in another way: the most that any node has.
    pub(super) differing: u64,
    /// How long everything took.
    pub(super) seconds: f64,
    /// Where data and logs are, if they were kept.
    pub(super) folder: Option<PathBuf>,
}

/// What was imported.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct ImportFigures {
    /// Lines acknowledged.
    pub(super) lines: u64,
    /// Lines of the input that were no records.
    pub(super) malformed: u64,
    /// Batches sent again because their outcome was unknown.
    pub(super) batches_resent: u64,
    /// Lines a second before the first kill, beside the load.
    pub(super) lines_per_second: f64,
    /// How long it had something to do; times without a leader included.
    pub(super) seconds: f64,
    /// Lines for each of these seconds.
    pub(super) lines_per_second_overall: f64,
}

/// What the clients did.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct LoadFigures {
    /// How many clients there were.
    pub(super) clients: usize,
    /// How their operations ended.
    #[serde(flatten)]
    pub(super) tally: Tally,
    /// How many keys they have written.
    pub(super) keys: usize,
    /// How long they ran.
    pub(super) seconds: f64,
    /// Acknowledged writes and answered reads for each of these seconds.
    pub(super) operations_per_second: f64,
}

/// One kill of a leader.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct KillFigures {
    /// The leader that was killed.
    pub(super) node: u64,
    /// Its term.
    pub(super) term: u64,
    /// Who followed it.
    pub(super) next_leader: u64,
    /// The term of that one.
    pub(super) next_term: u64,
    /// From the kill until a node reported that it leads.
    pub(super) leader_ms: f64,
    /// From the kill until the first write that began after it was acknowledged.
    pub(super) write_ms: f64,
    /// From the restart until the killed node had caught up.
    pub(super) caught_up_ms: f64,
}

/// Times without a leader: from the kill until the first acknowledged write.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct WithoutLeader {
    /// Half of the kills took no longer.
    pub(super) median_ms: f64,
    /// The longest.
    pub(super) worst_ms: f64,
}

impl WithoutLeader {
    /// Of a list of kills; `None` for none.
    pub(super) fn of(kills: &[KillFigures]) -> Option<Self> {
        let mut times: Vec<f64> = kills.iter().map(|kill| kill.write_ms).collect();
        times.sort_by(f64::total_cmp);
        let worst_ms = *times.last()?;
        let middle = times.len() / 2;
        let median_ms = if times.len() % 2 == 1 {
            times[middle]
        } else {
            f64::midpoint(times[middle - 1], times[middle])
        };
        Some(Self { median_ms, worst_ms })
    }
}

/// A change of membership, or another operation on the whole cluster.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ChangeFigures {
    /// What was done.
    pub(super) what: String,
    /// How long it took.
    pub(super) ms: f64,
    /// How often it was necessary to ask: more than once when an election came between.
    pub(super) attempts: u32,
}

/// One node at the end.
#[derive(Clone, Debug, Serialize)]
pub(super) struct NodeFigures {
    /// The node.
    pub(super) node: u64,
    /// What was wrong with what it contains.
    pub(super) contents: Findings,
    /// What was wrong with keys read one by one.
    pub(super) sample: Findings,
    /// Of its log on disk.
    pub(super) log_bytes: u64,
    /// Of its state machine on disk.
    pub(super) state_bytes: u64,
    /// Of its snapshots on disk.
    pub(super) snapshot_bytes: u64,
    /// Its checksum.
    pub(super) checksum: Checksum,
}

impl Report {
    /// Derives the verdict from the figures.
    pub(super) fn conclude(&mut self) {
        self.without_leader = WithoutLeader::of(&self.kills);
        let findings = || self.nodes.iter().flat_map(|node| [&node.contents, &node.sample]);
        self.lost = findings().map(|findings| findings.lost).max().unwrap_or(0);
        self.differing = findings().map(|findings| findings.differing).max().unwrap_or(0);
        let all_right = findings().all(Findings::are_none);
        self.ok = all_right && !self.nodes.is_empty() && self.stale_reads == 0 && self.checksum.is_some();
    }

    /// The report for people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let out = &mut text;
        // Writing to a string does not fail.
        let _ = writeln!(out, "{}\n", self.figures());
        if !self.kills.is_empty() {
            let _ = writeln!(out, "{}\n", self.kill_table());
        }
        let _ = writeln!(out, "{}\n", self.node_table());
        self.write_faults(out);
        let verdict = if self.ok {
            "Nothing is lost: every acknowledged write was read back through every node."
        } else {
            "FAILED: a promise was broken; see above."
        };
        let _ = writeln!(out, "{verdict}");
        if let Some(folder) = &self.folder {
            let _ = writeln!(out, "Data and logs are kept in {}", folder.display());
        }
        text
    }

    fn figures(&self) -> Table {
        let mut table = table(&[]);
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_owned(), value]);
        };
        let tally = self.load.tally;
        let import = &self.import;
        let (rate, overall) = (import.lines_per_second, import.lines_per_second_overall);
        row("imported", format!("{} lines, {rate:.0} a second ({overall:.0} with the kills)", import.lines));
        if self.import.malformed > 0 {
            row("malformed", format!("{} lines, left out", self.import.malformed));
        }
        row("acknowledged", format!("{} lines and {} writes", self.import.lines, tally.acknowledged));
        row(
            "unknown",
            format!("{} writes, {} batches sent again", tally.unknown, self.import.batches_resent),
        );
        row("lost", format!("{}", self.lost));
        row("differing", format!("{}", self.differing));
        row("stale reads", format!("{} of {}", self.stale_reads, tally.reads));
        if tally.refused + tally.reads_failed > 0 {
            row("not done", format!("{} writes and {} reads", tally.refused, tally.reads_failed));
        }
        let rate = self.load.operations_per_second;
        row("load", format!("{} clients, {rate:.0} operations a second", self.load.clients));
        if let Some(WithoutLeader { median_ms, worst_ms }) = self.without_leader {
            row("without a leader", format!("median {median_ms:.0} ms, worst {worst_ms:.0} ms"));
        }
        for change in &self.changes {
            let again = match change.attempts {
                0 | 1 => String::new(),
                attempts => format!(", {attempts} attempts"),
            };
            row(&change.what, format!("{:.0} ms{again}", change.ms));
        }
        let checksum = match (&self.checksum, &self.checksum_error) {
            (Some(c), _) => {
                format!("{:08x} on all {} nodes at entry {}", c.checksum, self.nodes.len(), c.applied)
            }
            (None, Some(error)) => error.clone(),
            (None, None) => "not taken".into(),
        };
        row("checksum", checksum);
        row("time", format!("{:.1} s", self.seconds));
        table
    }

    fn kill_table(&self) -> Table {
        let mut table =
            table(&["kill of", "term", "next", "term", "leader known", "first write", "caught up"]);
        for kill in &self.kills {
            table.add_row([
                format!("node {}", kill.node),
                kill.term.to_string(),
                format!("node {}", kill.next_leader),
                kill.next_term.to_string(),
                format!("{:.0} ms", kill.leader_ms),
                format!("{:.0} ms", kill.write_ms),
                format!("{:.0} ms", kill.caught_up_ms),
            ]);
        }
        table
    }

    fn node_table(&self) -> Table {
        let mut table =
            table(&["node", "keys", "lost", "differing", "log", "state", "snapshots", "checksum"]);
        for node in &self.nodes {
            table.add_row([
                node.node.to_string(),
                node.contents.keys.to_string(),
                node.contents.lost.to_string(),
                node.contents.differing.to_string(),
                mebibytes(node.log_bytes),
                mebibytes(node.state_bytes),
                mebibytes(node.snapshot_bytes),
                format!("{:08x}", node.checksum.checksum),
            ]);
        }
        table
    }

    fn write_faults(&self, out: &mut String) {
        for fault in &self.load_faults {
            let _ = writeln!(out, "under load: {fault}");
        }
        for node in &self.nodes {
            for fault in node.contents.faults.iter().chain(&node.sample.faults) {
                let _ = writeln!(out, "node {}: {fault}", node.node);
            }
        }
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    if !header.is_empty() {
        table.set_header(header);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::super::model::FaultKind;
    use super::*;

    fn kill(write_ms: f64) -> KillFigures {
        KillFigures {
            node: 1,
            term: 1,
            next_leader: 2,
            next_term: 2,
            leader_ms: 1.0,
            write_ms,
            caught_up_ms: 1.0,
        }
    }

    fn good() -> Report {
        let checksum = Checksum { node: 1, applied: 9, checksum: 0xfeed };
        let node = NodeFigures {
            node: 1,
            contents: Findings { keys: 7, ..Findings::default() },
            sample: Findings::default(),
            log_bytes: 3 << 20,
            state_bytes: 2 << 20,
            snapshot_bytes: 1 << 19,
            checksum,
        };
        let mut report = Report {
            nodes: vec![node.clone(), NodeFigures { node: 2, ..node }],
            kills: vec![kill(300.0), kill(100.0), kill(200.0)],
            checksum: Some(checksum),
            ..Report::default()
        };
        report.conclude();
        report
    }

    #[test]
    fn a_report_without_faults_is_good_and_names_the_figures() {
        let report = good();
        assert!(report.ok);
        let text = report.text();
        for expected in [
            "median 200 ms, worst 300 ms",
            "0000feed on all 2 nodes at entry 9",
            "3.0 MiB",
            "Nothing is lost",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
        }
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["ok"], true);
        assert_eq!(json["without_leader"]["median_ms"], 200.0);
        assert_eq!(json["lost"], 0);
        assert_eq!(json["load"]["acknowledged"], 0);
    }

    #[test]
    fn each_broken_promise_makes_the_report_bad_and_is_named() {
        let fault = Fault {
            kind: FaultKind::Outdated,
            key: "the key".into(),
            detail: "what was wrong with it".into(),
        };
        let spoilers: [fn(&mut Report, Fault); 5] = [
            |report, fault| {
                report.nodes[1].contents.lost = 1;
                report.nodes[1].contents.faults.push(fault);
            },
            |report, fault| {
                report.nodes[0].sample.differing = 1;
                report.nodes[0].sample.faults.push(fault);
            },
            |report, fault| {
                report.stale_reads = 1;
                report.load_faults.push(fault);
            },
            |report, fault| {
                report.checksum = None;
                report.checksum_error = Some(format!("the state machines differ: {fault}"));
            },
            |report, fault| {
                report.nodes.clear();
                report.load_faults.push(fault);
            },
        ];
        for spoil in spoilers {
            let mut report = good();
            spoil(&mut report, fault.clone());
            report.conclude();
            assert!(!report.ok);
            let text = report.text();
            assert!(text.contains("the key: what was wrong with it"), "{text}");
            assert!(text.contains("FAILED"), "{text}");
            assert_eq!(serde_json::to_value(&report).unwrap()["ok"], false);
        }
    }

    #[test]
    fn the_median_of_an_even_number_of_kills_is_between_the_middle_ones() {
        let kills = [kill(1.0), kill(9.0), kill(3.0), kill(5.0)];
        assert_eq!(WithoutLeader::of(&kills), Some(WithoutLeader { median_ms: 4.0, worst_ms: 9.0 }));
        assert_eq!(WithoutLeader::of(&[]), None);
    }
}
