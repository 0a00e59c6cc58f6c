//! Draws operations as bars over time, and says how far an order of them gets.

use std::fmt::Write;

use super::history::{History, Operation, Outcome};
use super::model::Model;
use super::search::Deepest;

/// A chart has at most about so many columns for time.
const COLUMNS_MAX: usize = 120;
/// Of more rows than these the first are left out: nobody reads them, and what goes wrong is at the end.
const ROWS_MAX: usize = 60;

/// The chart of the `shown` operations of a history.
pub(super) fn draw<M: Model>(
    model: &M,
    history: &History<M::Request, M::Response>,
    shown: &[usize],
    is_relaxed: &impl Fn(usize) -> bool,
    deepest: &Deepest<M::State>,
) -> String {
    let (hidden, shown) = shown.split_at(shown.len().saturating_sub(ROWS_MAX));
    let operations: Vec<_> = shown.iter().map(|index| &history.operations()[*index]).collect();
    let columns = Columns::new(&operations);
    let labels: Vec<_> = shown
        .iter()
        .map(|index| {
            let star = if is_relaxed(*index) { " *" } else { "" };
            format!("{}{star}", label(model, &history.operations()[*index]))
        })
        .collect();
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    if !hidden.is_empty() {
        let _ = writeln!(text, "  {} earlier ones, and", hidden.len());
    }
    for (operation, label) in operations.iter().zip(&labels) {
        let fill = " ".repeat(width - label.chars().count());
        let bar = columns.bar(operation);
        let _ = writeln!(text, "  {label}{fill}  {bar}  {}", span(operation));
    }
    if shown.iter().any(|index| is_relaxed(*index)) {
        text.push_str("  * Even if this one took effect later, or never.\n");
    }
    if operations.iter().any(|operation| is_open(operation)) {
        text.push_str("  ? Outcome unknown: at any time after the call, or never.\n");
    }
    stuck(&mut text, model, history, shown, deepest);
    text
}

/// Says how far an order gets, and what cannot be next.
fn stuck<M: Model>(
    text: &mut String,
    model: &M,
    history: &History<M::Request, M::Response>,
    shown: &[usize],
    deepest: &Deepest<M::State>,
) {
    let of = |index: usize| label(model, &history.operations()[index]);
    let order: Vec<_> = deepest.order.iter().rev().take(8).rev().map(|index| of(*index)).collect();
    let late = shown
        .iter()
        .find(|index| history.operations()[**index].ended.is_some_and(|ended| ended.order == deepest.ended));
    let skipped = deepest.order.len() - order.len();
    let before = if skipped == 0 { String::new() } else { format!("{skipped} operations; ") };
    let begin = if order.is_empty() { "nothing".to_string() } else { order.join("; ") };
    let _ = writeln!(text, "  The longest order is: {before}{begin}. Then the state is {:?},", deepest.state);
    if let Some(late) = late {
        let _ = writeln!(text, "  and nothing makes this possible before its end: {}.", of(*late));
    }
}

fn label<M: Model>(model: &M, operation: &Operation<M::Request, M::Response>) -> String {
    let what = match &operation.outcome {
        Outcome::Returned(response) => model.describe(&operation.request, Some(response)),
        Outcome::Absent => format!("{} (absent)", model.describe(&operation.request, None)),
        Outcome::Unknown => format!("{} ?", model.describe(&operation.request, None)),
    };
    format!("client {}: {what}", operation.client)
}

fn is_open<O, R>(operation: &Operation<O, R>) -> bool {
    match operation.outcome {
        Outcome::Unknown => true,
        Outcome::Returned(_) | Outcome::Absent => false,
    }
}

fn span<O, R>(operation: &Operation<O, R>) -> String {
    let ms = |ns: u64| format!("{}.{:03}", ns / 1_000_000, ns / 1_000 % 1_000);
    let called = ms(operation.called.at_ns);
    match operation.ended {
        Some(ended) if !is_open(operation) => format!("{called} to {} ms", ms(ended.at_ns)),
        Some(_) | None => format!("from {called} ms"),
    }
}

/// Where the moments of a chart stand. Not to scale: each moment has the same room, so that no order is lost.
struct Columns {
    moments: Vec<u64>,
    each: usize,
}

impl Columns {
    fn new<O, R>(operations: &[&Operation<O, R>]) -> Self {
        let mut moments: Vec<u64> = operations
            .iter()
            .flat_map(|operation| {
                let ended = operation.ended.filter(|_| !is_open(operation));
                [Some(operation.called.order), ended.map(|ended| ended.order)]
            })
            .flatten()
            .collect();
        moments.sort_unstable();
        let each = (COLUMNS_MAX / moments.len().max(1)).clamp(1, 5);
        Self { moments, each }
    }

    fn at(&self, order: u64) -> usize {
        self.moments.partition_point(|moment| *moment < order) * self.each
    }

    fn bar<O, R>(&self, operation: &Operation<O, R>) -> String {
        let begin = self.at(operation.called.order);
        let last = self.moments.len() * self.each;
        let (end, tip) = match operation.ended {
            Some(ended) if !is_open(operation) => (self.at(ended.order), "┤"),
            Some(_) | None => (last, "→"),
        };
        let line = "─".repeat(end.saturating_sub(begin + 1));
        format!("{}├{line}{tip}{}", " ".repeat(begin), " ".repeat(last - end))
    }
}
