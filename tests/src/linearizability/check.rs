//! `check`: each part of a history on its own, within limits, and what came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use super::chart;
use super::history::{History, Operation, Outcome};
use super::model::{Marks, Model};
use super::search::{Deepest, Found, Item, search};
use super::shrink::shrink;

/// How much a check may do before it gives up on a key. A key that it gives up on is reported, never passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// So many steps of the model for one key. Unlike the time, this gives the same result on every machine.
    pub steps_max: u64,
    /// So many configurations to remember for one key: they take memory.
    pub configurations_max: u64,
    /// So much time for all keys. What is found after a violation to make it small comes on top, at most as long again.
    pub time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { steps_max: 200_000_000, configurations_max: 5_000_000, time_max: Duration::from_secs(120) }
    }
}

/// What a check has found.
#[must_use = "a report may hold violations, or keys that could not be decided"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How many operations were checked.
    pub operations: usize,
    /// How many keys they were about.
    pub keys: usize,
    /// How many steps of the model it took.
    pub steps: u64,
    /// The keys whose operations no order explains.
    pub violations: Vec<Violation>,
    /// The keys that were too much work.
    pub undecided: Vec<Undecided>,
}

/// A key whose operations no order explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The key, as text.
    pub key: String,
    /// How many operations the history has of it.
    pub operations: usize,
    /// Operations that show it on their own, by their place in [`History::operations`]: the rest is not needed. Those of
    /// them that are in [`relaxed`](Self::relaxed) show it even if nobody knew their outcome.
    pub shown: Vec<usize>,
    /// Which of [`shown`](Self::shown) need not have taken effect for the violation, though they did.
    pub relaxed: Vec<usize>,
    /// Whether nothing more can be left out. Otherwise the time for it was over.
    pub is_minimal: bool,
    /// The operations as a chart over time, and how far an order of them gets.
    pub chart: String,
}

/// A key that was too much work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// The key, as text.
    pub key: String,
    /// How many operations the history has of it.
    pub operations: usize,
    /// Which limit was reached.
    pub limit: &'static str,
}

impl Report {
    /// Whether every key was decided and can be explained.
    pub fn is_linearizable(&self) -> bool {
        self.violations.is_empty() && self.undecided.is_empty()
    }

    /// Insists that it is so.
    ///
    /// # Panics
    ///
    /// Otherwise, with the charts of all violations.
    #[track_caller]
    pub fn assert_linearizable(&self) {
        assert!(self.is_linearizable(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for violation in &self.violations {
            writeln!(f, "{violation}")?;
        }
        for Undecided { key, operations, limit } in &self.undecided {
            writeln!(f, "key {key}: undecided, {operations} operations are too much work: {limit}")?;
        }
        let verdict = match (self.violations.len(), self.undecided.len()) {
            (0, 0) => "linearizable".to_string(),
            (0, undecided) => format!("UNDECIDED on {undecided} keys"),
            (violations, 0) => format!("NOT LINEARIZABLE on {violations} keys"),
            (violations, undecided) => {
                format!("NOT LINEARIZABLE on {violations} keys, undecided on {undecided}")
            }
        };
        write!(f, "{verdict}: {} operations on {} keys, {} steps", self.operations, self.keys, self.steps)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, all) = (self.shown.len(), self.operations);
        let least = if self.is_minimal { "the fewest that show it" } else { "fewer may show it" };
        writeln!(f, "key {}: no order explains {shown} of its {all} operations ({least}):", self.key)?;
        f.write_str(&self.chart)
    }
}

/// Checks whether `history` is linearizable: whether [`model`](Model) gives every response that was seen, if each
/// operation takes effect at one moment between its call and its end.
///
/// The result is certain in both directions. What could not be decided within `limits` is reported as such.
pub fn check<M: Model>(model: &M, history: &History<M::Request, M::Response>, limits: &Limits) -> Report {
    let mut parts: BTreeMap<M::Key, Vec<Item<'_, M>>> = BTreeMap::new();
    for (index, operation) in history.operations().iter().enumerate() {
        let part = parts.entry(model.key(&operation.request)).or_default();
        part.extend(item(index, operation));
    }
    let mut report = Report {
        operations: history.operations().len(),
        keys: parts.len(),
        steps: 0,
        violations: Vec::new(),
        undecided: Vec::new(),
    };
    let deadline = Instant::now() + limits.time_max;
    for (key, items) in &parts {
        let mut work = Work::new(limits, deadline);
        let found = explain(model, key, items, &mut work);
        report.steps += work.steps;
        match found {
            Found::Order => {}
            Found::Exhausted => report.undecided.push(Undecided {
                key: key.to_string(),
                operations: items.len(),
                limit: work.limit(),
            }),
            Found::Nothing(deepest) => {
                report.violations.push(violation(model, history, key, items, deepest, limits));
            }
        }
    }
    report
}

/// The operation as the search sees it, if it can have taken effect.
fn item<M: Model>(index: usize, operation: &Operation<M::Request, M::Response>) -> Option<Item<'_, M>> {
    let (response, ended) = match &operation.outcome {
        Outcome::Returned(response) => {
            (Some(response), operation.ended.map_or(u64::MAX, |ended| ended.order))
        }
        Outcome::Unknown => (None, u64::MAX),
        Outcome::Absent => return None,
    };
    Some(Item { request: &operation.request, response, called: operation.called.order, ended, index })
}

/// Looks for an order of those `items` that matter.
pub(super) fn explain<M: Model>(
    model: &M,
    key: &M::Key,
    items: &[Item<'_, M>],
    work: &mut Work,
) -> Found<M::State> {
    search(model, model.initial(key), &seen(model, items), work)
}

/// `items` without those with an unknown outcome of which no other can have seen anything. An order that contains such a
/// one explains as much without it, by the promise of [`Model::leaves`].
pub(super) fn seen<'a, M: Model>(model: &M, items: &[Item<'a, M>]) -> Vec<Item<'a, M>> {
    let mut kept = items.to_vec();
    loop {
        // Until when somebody looks for each mark, and for any.
        let mut until: BTreeMap<M::Mark, u64> = BTreeMap::new();
        let mut until_any = None;
        for item in &kept {
            match model.sees(item.request, item.response) {
                Marks::Any => until_any = until_any.max(Some(item.ended)),
                Marks::These(marks) => {
                    for mark in marks {
                        let until = until.entry(mark).or_default();
                        *until = item.ended.max(*until);
                    }
                }
            }
        }
        let last = until.values().copied().max().max(until_any);
        let is_seen = |item: &Item<'_, M>| {
            let is_before = |until: Option<u64>| until.is_some_and(|until| item.called <= until);
            match model.leaves(item.request, item.response) {
                Marks::Any => is_before(last),
                Marks::These(marks) if marks.is_empty() => false,
                Marks::These(marks) => {
                    is_before(until_any) || marks.iter().any(|mark| is_before(until.get(mark).copied()))
                }
            }
        };
        let before = kept.len();
        kept.retain(|item| item.response.is_some() || is_seen(item));
        if kept.len() == before {
            return kept;
        }
    }
}

fn violation<M: Model>(
    model: &M,
    history: &History<M::Request, M::Response>,
    key: &M::Key,
    items: &[Item<'_, M>],
    deepest: Deepest<M::State>,
    limits: &Limits,
) -> Violation {
    let shrunk = shrink(model, key, items, deepest, limits);
    let relaxed = |index: usize| {
        let is_open = shrunk.items.iter().any(|item| item.index == index && item.response.is_none());
        is_open && matches!(history.operations()[index].outcome, Outcome::Returned(_))
    };
    let shown: Vec<usize> = shrunk.items.iter().map(|item| item.index).collect();
    Violation {
        key: key.to_string(),
        operations: items.len(),
        relaxed: shown.iter().copied().filter(|index| relaxed(*index)).collect(),
        chart: chart::draw(model, history, &shown, &relaxed, &shrunk.deepest),
        shown,
        is_minimal: shrunk.is_minimal,
    }
}

/// What has been done for one key, and how much is allowed.
pub(super) struct Work {
    pub(super) steps: u64,
    pub(super) configurations: u64,
    limits: Limits,
    deadline: Instant,
    /// The steps after which to look at the clock again.
    look_again_at: u64,
    is_late: bool,
}

impl Work {
    pub(super) fn new(limits: &Limits, deadline: Instant) -> Self {
        Self { steps: 0, configurations: 0, limits: *limits, deadline, look_again_at: 0, is_late: false }
    }

    pub(super) fn is_exhausted(&mut self) -> bool {
        if self.look_again_at <= self.steps {
            self.look_again_at = self.steps + 1_000;
            self.is_late = self.is_late || self.deadline <= Instant::now();
        }
        self.is_late
            || self.limits.steps_max <= self.steps
            || self.limits.configurations_max <= self.configurations
    }

    fn limit(&self) -> &'static str {
        if self.is_late {
            "time_max"
        } else if self.limits.steps_max <= self.steps {
            "steps_max"
        } else {
            "configurations_max"
        }
    }
}
