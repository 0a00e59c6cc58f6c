//! The names of spans and events, held against the table in the guide: those in the source, and those that nodes really
//! trace.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use openconsensus::Config;
use openconsensus_tests::{Cluster, ClusterOptions, eventually};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::{other_than, write_bulk};

const TABLE: &str = include_str!("../../../openconsensus/guide/names.md");

/// One row of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Name {
    levels: BTreeSet<String>,
    /// Fields that are always there.
    fields: BTreeSet<String>,
    /// Fields that may be missing.
    optional: BTreeSet<String>,
}

impl Name {
    fn has(&self, field: &str) -> bool {
        self.fields.contains(field) || self.optional.contains(field)
    }
}

/// The rows of the table whose first column is headed so.
fn table(head: &str) -> BTreeMap<String, Name> {
    let rows = TABLE.lines().skip_while(|line| !line.starts_with(&format!("| {head} |"))).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let levels = cells[2].split(" or ").map(str::to_owned).collect();
        let mut name = Name { levels, ..Name::default() };
        for field in cells[3].split(", ") {
            let place = if field.starts_with('(') { &mut name.optional } else { &mut name.fields };
            place.insert(field.trim_matches(['(', ')', '`']).to_owned());
        }
        (cells[1].trim_matches('`').to_owned(), name)
    })
    .collect()
}

// ---- in the source -----------------------------------------------------------------------------------------------

/// The names that the calls of some macros in `text` give, each with its level and fields. A call without one is named by
/// its text.
fn names_in(text: &str, suffix: &str) -> Vec<(String, Name)> {
    let mut found = Vec::new();
    for level in ["error", "warn", "info", "debug", "trace"] {
        let opening = format!("tracing::{level}{suffix}!(");
        for (at, _) in text.match_indices(&opening) {
            let arguments = arguments(&text[at + opening.len()..]);
            let mut name = arguments.first().map_or("", String::as_str).to_owned();
            let mut fields = BTreeSet::new();
            for (place, argument) in arguments.iter().enumerate() {
                if let Some(given) = argument.strip_prefix("name:") {
                    name = given.trim().trim_matches('"').to_owned();
                } else if place == 0 && argument.starts_with('"') && suffix == "_span" {
                    name = argument.trim_matches('"').to_owned();
                } else if argument.starts_with('"') {
                    break;
                } else {
                    let field = argument.split('=').next().unwrap_or_default().trim();
                    fields.insert(field.trim_start_matches(['%', '?']).to_owned());
                }
            }
            let levels = BTreeSet::from([level.to_owned()]);
            found.push((name, Name { levels, fields, optional: BTreeSet::new() }));
        }
    }
    found
}

/// The arguments of a call, from behind its opening parenthesis on.
fn arguments(text: &str) -> Vec<String> {
    let (mut depth, mut is_text, mut all) = (0, false, vec![String::new()]);
    for c in text.chars() {
        match c {
            '"' => is_text = !is_text,
            '(' | '[' | '{' if !is_text => depth += 1,
            ')' | ']' | '}' if !is_text && depth == 0 => break,
            ')' | ']' | '}' if !is_text => depth -= 1,
            ',' if !is_text && depth == 0 => {
                all.push(String::new());
                continue;
            }
            _ => {}
        }
        all.last_mut().expect("never empty").push(c);
    }
    all.into_iter()
        .map(|argument| argument.trim().to_owned())
        .filter(|argument| !argument.is_empty())
        .collect()
}

/// What `text` is made of without its tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

fn source_texts(folder: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            source_texts(&path, texts);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            texts.push(without_tests(&fs::read_to_string(&path).unwrap()).to_owned());
        }
    }
}

/// Joins all that is known of each name: a field that some call leaves out is optional.
fn joined(found: Vec<(String, Name)>) -> BTreeMap<String, Name> {
    let mut joined: BTreeMap<String, Name> = BTreeMap::new();
    for (name, call) in found {
        let Some(known) = joined.get_mut(&name) else {
            joined.insert(name, call);
            continue;
        };
        known.levels.extend(call.levels);
        let all: BTreeSet<_> = known.fields.union(&call.fields).cloned().collect();
        known.fields = known.fields.intersection(&call.fields).cloned().collect();
        known.optional.extend(all.difference(&known.fields).cloned());
    }
    joined
}

#[test]
fn the_guide_names_every_event_in_the_source_with_its_level_and_fields() {
    let mut texts = Vec::new();
    source_texts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../openconsensus/src"), &mut texts);
    let events = joined(texts.iter().flat_map(|text| names_in(text, "")).collect());
    let listed = table("event");
    for name in events.keys().chain(listed.keys()) {
        assert_eq!(events.get(name), listed.get(name), "event {name}: in the source, and in guide/names.md");
    }
    let spans = joined(texts.iter().flat_map(|text| names_in(text, "_span")).collect());
    let listed = table("span");
    for name in spans.keys().chain(listed.keys()) {
        let (Some(span), Some(listed)) = (spans.get(name), listed.get(name)) else {
            panic!("span {name} is in the source or in guide/names.md, but not in both");
        };
        assert_eq!(span.levels, listed.levels, "span {name}");
        let all: BTreeSet<_> = listed.fields.union(&listed.optional).cloned().collect();
        assert_eq!(span.fields, all, "fields of span {name}: in the source, and in guide/names.md");
    }
}

#[test]
fn names_are_found_in_source_texts() {
    let text = r#"
        tracing::warn!(name: "a.b", %node, from = %x.f(1, "c, d"), ?entries, "said");
        tracing::info!("unnamed");
        let span = tracing::info_span!("c.d", node = %id, outcome = Empty);
    "#;
    let row = |level: &str, fields: &[&str]| Name {
        levels: BTreeSet::from([level.to_owned()]),
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        optional: BTreeSet::new(),
    };
    let events = names_in(text, "");
    assert_eq!(events[0], ("a.b".to_owned(), row("warn", &["node", "from", "entries"])));
    assert_eq!(events[1], ("\"unnamed\"".to_owned(), row("info", &[])));
    assert_eq!(names_in(text, "_span"), [("c.d".to_owned(), row("info", &["node", "outcome"]))]);
}

// ---- in a cluster ------------------------------------------------------------------------------------------------

/// A span or an event that a node has traced.
#[derive(Clone, Debug, Default)]
struct Traced {
    name: String,
    level: String,
    values: BTreeMap<String, String>,
    /// The `raft.node` that it is inside of.
    inside: Option<String>,
}

#[derive(Default)]
struct Seen {
    /// A span has its place as its id.
    spans: Vec<Traced>,
    events: Vec<Traced>,
    entered: Vec<usize>,
}

/// Remembers all that the core traces on this thread.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Seen>>);

impl Visit for Traced {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.values.insert(field.name().to_owned(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl Seen {
    fn traced(&self, metadata: &Metadata<'_>) -> Traced {
        let mut nodes =
            self.entered.iter().map(|place| &self.spans[*place]).filter(|span| span.name == "raft.node");
        Traced {
            name: metadata.name().to_owned(),
            level: metadata.level().to_string().to_lowercase(),
            values: BTreeMap::new(),
            inside: nodes.next_back().map(|span| span.values["node"].clone()),
        }
    }
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        (target == "openconsensus" || target.starts_with("openconsensus::"))
            && *metadata.level() <= Level::TRACE
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut seen = self.0.lock().unwrap();
        let mut span = seen.traced(attributes.metadata());
        attributes.record(&mut span);
        seen.spans.push(span);
        Id::from_u64(seen.spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        values.record(&mut self.0.lock().unwrap().spans[span.into_u64() as usize - 1]);
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut seen = self.0.lock().unwrap();
        let mut traced = seen.traced(event.metadata());
        event.record(&mut traced);
        traced.values.remove("message");
        seen.events.push(traced);
    }

    fn enter(&self, span: &Id) {
        self.0.lock().unwrap().entered.push(span.into_u64() as usize - 1);
    }

    fn exit(&self, span: &Id) {
        let mut seen = self.0.lock().unwrap();
        let left = seen.entered.pop();
        assert_eq!(
            left,
            Some(span.into_u64() as usize - 1),
            "spans are left in the order in which they nest"
        );
    }
}

/// Elections, a snapshot that is built, sent and installed, a change, a transfer, and the end.
async fn eventful_life() {
    let config = Config {
        snapshot_after_entries: None,
        log_keep_entries: 0,
        log_hold_entries_max: 0,
        ..ClusterOptions::config()
    };
    let cluster = Cluster::of_voters(3, ClusterOptions { config, ..ClusterOptions::default() }).await;
    let leader = cluster.leader().await;
    let away = other_than(&cluster, leader);
    cluster.stop(away).await;
    write_bulk(&cluster, leader, "k", 100).await;
    let leader = cluster.leader().await;
    let meta = cluster.raft(leader).snapshot().await.unwrap();
    eventually("the log to be purged", || {
        let metrics = cluster.metrics(leader);
        if metrics.purged == meta.last { Ok(()) } else { Err(metrics) }
    })
    .await;
    cluster.start(away).await;
    cluster.wait_equal(&[1, 2, 3]).await;
    cluster.start(4).await;
    let leader = cluster.leader().await;
    cluster.raft(leader).add_learner(4, Cluster::address(4), None).await.unwrap();
    cluster.raft(leader).transfer_leadership(None).await.unwrap();
    let nobody = cluster.raft(cluster.leader_other_than(leader).await).transfer_leadership(Some(9)).await;
    nobody.unwrap_err();
    for id in cluster.running() {
        cluster.stop(id).await;
    }
}

#[tokio::test]
async fn nodes_trace_under_the_names_of_the_guide_and_inside_of_their_node() {
    let collector = Collector::default();
    // A second one, because with one alone another thread that comes to an event first, and collects nothing, turns the
    // event off for all threads.
    let _second = tracing::Dispatch::new(Collector::default());
    let guard = tracing::subscriber::set_default(collector.clone());
    eventful_life().await;
    drop(guard);
    let seen = collector.0.lock().unwrap();
    for (kind, traced) in [("span", &seen.spans), ("event", &seen.events)] {
        let listed = table(kind);
        for one in traced {
            let row = listed.get(&one.name).unwrap_or_else(|| panic!("{kind} {one:?} is not in the guide"));
            assert!(row.levels.contains(&one.level), "{kind} {one:?} has another level: {row:?}");
            assert!(
                one.values.keys().all(|field| row.has(field)),
                "{kind} {one:?} has other fields: {row:?}"
            );
            let has_all = row.fields.iter().all(|field| one.values.contains_key(field));
            assert!(has_all, "{kind} {one:?} lacks a field: {row:?}");
            if let (Some(node), Some(inside)) = (one.values.get("node"), &one.inside) {
                assert_eq!(node, inside, "{kind} {one:?} is inside of another node");
            }
        }
    }
    let names = |traced: &[Traced]| traced.iter().map(|one| one.name.clone()).collect::<BTreeSet<_>>();
    let listed: BTreeSet<_> = table("span").into_keys().collect();
    assert_eq!(names(&seen.spans), listed, "all kinds of spans are opened");
    for expected in [
        "raft.started",
        "raft.role",
        "raft.leader",
        "raft.membership",
        "raft.standing",
        "raft.snapshot.built",
        "raft.snapshot.send",
        "raft.snapshot.sent",
        "raft.snapshot.install",
        "raft.snapshot.installed",
        "raft.stopped",
    ] {
        assert!(names(&seen.events).contains(expected), "nobody has traced {expected}");
    }
    let inside: Vec<_> = seen.spans.iter().filter(|span| span.name != "raft.node").collect();
    assert!(inside.iter().all(|span| span.inside.is_some()), "a span outside of its node: {inside:?}");
    let outcomes = |name: &str| {
        let spans = seen.spans.iter().filter(|span| span.name == name);
        spans.filter_map(|span| span.values.get("outcome").cloned()).collect::<BTreeSet<_>>()
    };
    assert!(outcomes("raft.election").contains("won"));
    assert_eq!(outcomes("raft.membership.change"), BTreeSet::from(["done".to_owned()]));
    assert_eq!(outcomes("raft.transfer"), BTreeSet::from(["done".to_owned(), "failed".to_owned()]));
}
