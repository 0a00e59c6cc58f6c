//! The suites and the contracts belong together: what a check quotes stands in the documentation of the trait, and every
//! sentence there is checked or excused with a reason.

use std::path::Path;

use futures::executor::block_on;
use openconsensus_tests::conformance::{
    Report, check_log_storage, check_network, check_runtime, check_state_machine,
};
use openconsensus_tests::sim_runtime::{NodeClock, Sim};

use crate::memstore::{MemLogs, MemStateMachines};
use crate::networks::InMemory;

/// Sentences that no check quotes, and why.
const EXCUSED: &[(&str, &str)] = &[
    ("See [the chapter of the guide](crate::guide::log_storage).", "leads on"),
    ("See [the chapter of the guide](crate::guide::state_machine).", "leads on"),
    ("See [the chapter of the guide](crate::guide::network).", "leads on"),
    ("The log and the hard state of one node on its disk.", "says what it is"),
    (
        "A storage does its I/O on a thread of its own or completes at once: it must not block the thread that polls it, \
         because elections and heartbeats live there.",
        "a slow thread and a blocked one look the same from outside",
    ),
    (
        "That is the only safe reaction to a failed write or sync, since nobody knows what reached the disk.",
        "says why",
    ),
    ("Reads entries of one log storage, beside its writer.", "says what it is"),
    (
        "A node asks at start for those behind what the state machine has applied, and looks at every entry itself where it \
         gets `None`: with millions of entries that is most of the time that it takes to start.",
        "is what the core does",
    ),
    ("The application.", "says what it is"),
    ("How many snapshots are kept is the state machine's affair.", "allows everything"),
    ("One is enough: the core only ever asks for the current one.", "says why"),
    (
        "What a crash leaves behind of a snapshot that was being built or received is removed at the next start.",
        "where it would be is known to the state machine only",
    ),
    ("The node goes on after such an error, and tries again later.", "is what the core does"),
    ("Called at start, and whenever a peer needs a snapshot.", "is what the core does"),
    (
        "Only where the state after a restart is older than the snapshot, and the log does not have all between, the node \
         refuses to start; so the error says which file is damaged.",
        "is what the core does; a suite does not know what a file is called",
    ),
    ("It is refused, and the leader sends it again, later and later.", "is what the core does"),
    ("Any other error stops the node.", "is what the core does"),
    (
        "To read the state beside it, keep a handle of your own to what it stores, and call \
         [`Raft::read`](crate::Raft::read) first.",
        "is advice to the application",
    ),
    (
        "It is a value, not a set of static functions, so that a simulation can give each node its own clock.",
        "says why",
    ),
    (
        "The time of day, of a clock that goes on while the machine is suspended.",
        "no suite can suspend the machine that it runs on",
    ),
    (
        "Looked at only with [leases](crate::Config::lease_clock_drift_ppm_max): where it and [`now`](Self::now) disagree on \
         how much time has passed, one of them has stopped or was set, and a leader asks a quorum again before it answers a \
         read by its lease.",
        "says what it is for",
    ),
    ("It may be wrong and may be set to anything at any time.", "asks nothing of the runtime"),
    (
        "It seeds the election timeouts; a simulation returns one of its own so that a run can be repeated.",
        "says why",
    ),
];

/// The documentation of the items that begin with `items`, one text for each paragraph, in one line.
fn paragraphs(file: &str, items: &[&str]) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../openconsensus/src").join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut paragraphs = Vec::new();
    let mut pending = Vec::new();
    let mut is_inside = false;
    let mut paragraph = String::new();
    for line in text.lines().chain([""]) {
        let doc = line.trim_start().strip_prefix("///").map(str::trim);
        match doc {
            Some(words) if !words.is_empty() => {
                paragraph += if paragraph.is_empty() { "" } else { " " };
                paragraph += words;
                continue;
            }
            _ => {}
        }
        pending.extend(Some(std::mem::take(&mut paragraph)).filter(|paragraph| !paragraph.is_empty()));
        if doc.is_some() || line.trim_start().starts_with("#[") {
            continue;
        }
        is_inside |= items.iter().any(|item| line.starts_with(item));
        if is_inside {
            paragraphs.append(&mut pending);
        }
        pending.clear();
        is_inside &= line != "}";
    }
    paragraphs
}

/// The sentences of a paragraph: each ends with a full stop before a capital letter, or with the paragraph.
fn sentences(paragraph: &str) -> Vec<&str> {
    let is_end = |at: &usize| {
        let next = paragraph[at + 2..].trim_start_matches(['`', '[']);
        next.starts_with(char::is_uppercase) || paragraph[at + 2..].starts_with('`')
    };
    let ends = paragraph.match_indices(". ").map(|(at, _)| at).filter(is_end);
    let mut sentences = Vec::new();
    let mut start = 0;
    for end in ends.map(|at| at + 1).chain([paragraph.len()]) {
        sentences.push(paragraph[start..end].trim());
        start = end;
    }
    sentences
}

/// The quotations of `report` stand in the documentation of `traits` in `file` or of `others`, each in a file of its own,
/// and that of `traits` is quoted as a whole.
fn check(report: &Report, file: &str, traits: &[&str], others: &[(&str, &str)]) {
    let contract = paragraphs(file, traits);
    assert!(contract.len() > 5, "the contract is not found: {contract:?}");
    let quoted: Vec<&str> = report.outcomes().iter().flat_map(|outcome| outcome.contract).copied().collect();
    let others = others.iter().flat_map(|(file, item)| paragraphs(file, &[item]));
    let all: Vec<String> = contract.iter().cloned().chain(others).collect();
    for quotation in &quoted {
        assert!(all.iter().any(|text| text.contains(quotation)), "no contract says: {quotation}");
    }
    for sentence in contract.iter().flat_map(|paragraph| sentences(paragraph)) {
        let is_quoted = quoted.iter().any(|quotation| quotation.contains(sentence));
        let is_excused = EXCUSED.iter().any(|(excused, _)| *excused == sentence);
        assert!(is_quoted != is_excused, "quoted: {is_quoted}, excused: {is_excused}: {sentence}");
    }
}

#[test]
fn every_sentence_about_log_storages_is_checked() {
    let report = block_on(check_log_storage(&MemLogs));
    let traits = ["pub trait RaftLogStorage<", "pub trait RaftLogReader<"];
    check(&report, "storage.rs", &traits, &[("storage.rs", "pub struct LogState<")]);
}

#[test]
fn every_sentence_about_state_machines_is_checked() {
    let report = block_on(check_state_machine(&MemStateMachines { lag_entries: None }));
    let others = [("message.rs", "pub struct SnapshotMeta<")];
    check(&report, "storage.rs", &["pub trait RaftStateMachine<"], &others);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sentence_about_networks_is_checked() {
    let report = check_network(&InMemory::new()).await;
    let others = [("network.rs", "pub enum NetworkError")];
    check(&report, "network.rs", &["pub trait RaftNetwork<"], &others);
}

#[test]
fn every_sentence_about_runtimes_is_checked() {
    let sim = Sim::new(1);
    let world = sim.world();
    let report = sim.run(check_runtime(|| world.process("node", NodeClock::exact())));
    check(&report, "runtime.rs", &["pub trait AsyncRuntime"], &[]);
}
