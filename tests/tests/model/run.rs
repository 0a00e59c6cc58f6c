//! Runs the checker, and says what it has found.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

use crate::system::System;
use crate::systems::Bound;

/// The names of the events, in their order.
const EVENTS: [&str; 9] = [
    "elections",
    "commits",
    "truncations",
    "reads",
    "installs",
    "joint memberships entered",
    "and left",
    "memberships committed",
    "restarts",
];

/// What an exploration has come to.
pub(crate) struct Explored {
    pub states: usize,
    pub depth: usize,
    /// The rules that were broken, each with the path to it.
    pub broken: BTreeMap<&'static str, String>,
    /// What should have been seen at least once, and was not.
    pub missing: Vec<&'static str>,
    pub is_complete: bool,
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text}, which is not a number")))
}

/// Explores all states of a system, or until a rule is broken, or for as long as it may take.
///
/// One thread finds the shortest path to what is broken; `MODEL_THREADS` asks for more.
pub(crate) fn explore(system: System) -> Explored {
    let name = system.name;
    let begun = Instant::now();
    let threads = number("MODEL_THREADS").unwrap_or(1) as usize;
    let until = number("MODEL_SECONDS").map(|seconds| begun + Duration::from_secs(seconds));
    let steps_max = number("MODEL_STEPS").unwrap_or_else(|| Bound::from_environment().steps_max());
    let checker = System { until, steps_max, ..system }
        .checker()
        .threads(threads)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let elapsed = begun.elapsed();
    let is_complete = !checker.model().is_cut.load(Ordering::Relaxed);
    let counts = checker.model().counts.iter().map(|count| count.load(Ordering::Relaxed));
    let counts: Vec<String> = EVENTS
        .iter()
        .zip(counts)
        .filter(|(_, count)| 0 < *count)
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    let explored = Explored {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        broken: BTreeMap::new(),
        missing: Vec::new(),
        is_complete,
    };
    println!(
        "{name}: {} states, {} transitions, depth {}, {:.1} s{}: {}",
        explored.states,
        checker.state_count(),
        explored.depth,
        elapsed.as_secs_f64(),
        if is_complete { "" } else { " (not finished)" },
        counts.join(", "),
    );
    finish(explored, &checker)
}

fn finish(mut explored: Explored, checker: &impl Checker<System>) -> Explored {
    let discoveries = checker.discoveries();
    for property in checker.model().properties() {
        let found = discoveries.get(property.name);
        match (property.expectation.discovery_is_failure(), found) {
            (true, Some(path)) => {
                explored.broken.insert(property.name, describe(checker.model(), path.clone()));
            }
            (false, None) => explored.missing.push(property.name),
            (true, None) | (false, Some(_)) => {}
        }
    }
    explored
}

/// A path as text: each action, and the nodes after it.
fn describe(model: &System, path: stateright::Path<crate::state::State, crate::system::Action>) -> String {
    let mut text = String::new();
    let steps = path.into_vec();
    let mut violation = None;
    for (number, (state, action)) in steps.into_iter().enumerate() {
        let _ = write!(text, "{state}");
        if let Some(action) = action {
            let _ = writeln!(text, "{:>3}. {}", number + 1, model.format_action(&action));
        }
        violation = state.violation;
    }
    if let Some(violation) = violation {
        let _ = writeln!(text, "     {:?}: {}", violation.rule, violation.what);
    }
    text
}

/// Explores a system in which nothing must be broken, and in which everything must have happened that can.
pub(crate) fn check_all(system: System) {
    let name = system.name;
    let explored = explore(system);
    if let Some((rule, path)) = explored.broken.first_key_value() {
        panic!("{name}: {rule} is broken:\n{path}\nTo repeat: {}", command());
    }
    if explored.is_complete {
        assert!(explored.missing.is_empty(), "{name}: never seen: {:?}", explored.missing);
    }
    assert!(
        explored.is_complete
            || Bound::from_environment() != Bound::Small
            || number("MODEL_SECONDS").is_some(),
        "{name}: {} states, not all there are",
        explored.states
    );
}

/// Explores a system in which something is broken on purpose, until the checker finds it.
pub(crate) fn find(rule: &str, system: System) {
    let (name, breaks) = (system.name, system.breaks);
    let explored = explore(system);
    let Some(path) = explored.broken.get(rule) else {
        panic!("{name} with {breaks:?}: {rule} was not found to be broken, but {:#?}", explored.broken);
    };
    println!("{rule} is broken by {breaks:?}:\n{path}");
}

fn command() -> String {
    let bound = std::env::var("MODEL_BOUND").unwrap_or_else(|_| "small".to_owned());
    format!("MODEL_BOUND={bound} cargo test --release -p openconsensus-tests --test model -- --nocapture")
}
