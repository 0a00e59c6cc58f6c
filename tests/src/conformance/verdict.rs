//! The words in which checks judge: what was seen, and what would be right.

use std::fmt::{Debug, Display};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use openconsensus::{Entries, TypeConfig};

/// Why a check has not passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    Skip { why: String },
    Wrong { seen: String, right: String },
}

/// What is printed of one value at most.
const SHOWN_CHARS: usize = 400;

/// Ends a check as failed.
pub(super) fn wrong<T>(seen: impl Display, right: impl Display) -> Result<T, Flaw> {
    Err(Flaw::Wrong { seen: shorten(seen.to_string()), right: shorten(right.to_string()) })
}

/// Ends a check as skipped. `needs` is what the factory would have to offer.
pub(super) fn skip<T>(needs: impl Display) -> Result<T, Flaw> {
    Err(Flaw::Skip { why: format!("the factory offers no {needs}") })
}

/// Fails unless both are the same.
pub(super) fn same<T: PartialEq + Debug>(what: impl Display, seen: T, right: T) -> Result<(), Flaw> {
    if seen == right {
        return Ok(());
    }
    wrong(format!("{what}: {}", shorten(format!("{seen:?}"))), format!("{right:?}"))
}

/// Fails unless it holds.
pub(super) fn holds(is_so: bool, seen: impl Display, right: impl Display) -> Result<(), Flaw> {
    if is_so { Ok(()) } else { wrong(seen, right) }
}

/// Fails unless it worked.
pub(super) fn works<T>(what: impl Display, result: io::Result<T>) -> Result<T, Flaw> {
    result.or_else(|error| wrong(format!("{what}: the error {error:?}: {error}"), "it works"))
}

/// Fails unless both are the same entries.
pub(super) fn same_entries<C>(what: impl Display, seen: &Entries<C>, right: &Entries<C>) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
{
    if seen == right {
        return Ok(());
    }
    let differs = seen.iter().zip(right.iter()).find(|(seen, right)| seen != right);
    let detail = differs.map_or(String::new(), |(seen, right)| {
        format!(
            "; the first that differs is {} with {}, not {} with {}",
            seen.log_id,
            cut(seen),
            right.log_id,
            cut(right)
        )
    });
    wrong(format!("{what}: {}{detail}", describe(seen)), describe(right))
}

fn cut(value: &impl Debug) -> String {
    let mut text = format!("{value:?}");
    if let Some((at, _)) = text.char_indices().nth(80) {
        text.truncate(at);
        text.push('…');
    }
    text
}

/// Which entries they are: those of one term together.
pub(super) fn describe<C: TypeConfig>(entries: &Entries<C>) -> String {
    let mut runs: Vec<(u64, u64, u64)> = Vec::new();
    for entry in entries.iter() {
        let (term, index) = (entry.log_id.term, entry.log_id.index);
        match runs.last_mut() {
            Some((run_term, _, last)) if *run_term == term => *last = index,
            Some(_) | None => runs.push((term, index, index)),
        }
    }
    if runs.is_empty() {
        return "no entries".into();
    }
    let runs: Vec<_> =
        runs.iter().map(|(term, first, last)| format!("entries {first} to {last} of term {term}")).collect();
    runs.join(", ")
}

fn shorten(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(3 * SHOWN_CHARS) {
        text.truncate(at);
        text.push('…');
    }
    text
}

/// Lets other futures of the same task run, and those that other threads complete.
pub(super) async fn yield_now() {
    struct Yield(bool);
    impl Future for Yield {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            if std::mem::replace(&mut self.0, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        }
    }
    Yield(false).await;
}

/// What a random check says first, so that it can be repeated.
pub(super) fn seeded(what: &str, seed: u64) -> String {
    format!("{what} (seed {seed}: CONFORMANCE_SEED={seed} repeats it)")
}

/// The seeds of random checks: `fixed`, or the one that the environment variable `CONFORMANCE_SEED` says.
pub(super) fn seeds(fixed: std::ops::Range<u64>) -> Vec<u64> {
    let asked = std::env::var("CONFORMANCE_SEED").ok();
    match asked.map(|text| text.parse().expect("CONFORMANCE_SEED must be a number")) {
        Some(seed) => vec![seed],
        None => fixed.collect(),
    }
}
