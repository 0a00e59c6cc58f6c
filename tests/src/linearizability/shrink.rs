//! Makes a violation small: leaves out or relaxes operations for as long as the rest still cannot be explained.
//!
//! Only what makes a history easier to explain is done to it, so that what remains is never a violation that the history
//! does not have: an operation that leaves nothing behind is left out; one that does is relaxed, as if nobody knew its
//! outcome, and disappears when nobody has seen anything of it.

use std::ops::Range;
use std::time::Instant;

use super::check::{Limits, Work, explain, seen};
use super::model::Model;
use super::search::{Deepest, Found, Item};

/// Operations that still cannot be explained.
pub(super) struct Shrunk<'a, M: Model> {
    pub(super) items: Vec<Item<'a, M>>,
    pub(super) deepest: Deepest<M::State>,
    pub(super) is_minimal: bool,
}

/// Makes a violation small. `items` cannot be explained, and `deepest` is how far one gets.
pub(super) fn shrink<'a, M: Model>(
    model: &M,
    key: &M::Key,
    items: &[Item<'a, M>],
    deepest: Deepest<M::State>,
    limits: &Limits,
) -> Shrunk<'a, M> {
    let cut = until(items, deepest.ended);
    let best = Shrunk { items: seen(model, items), deepest, is_minimal: false };
    let deadline = Instant::now() + limits.time_max;
    let mut shrinking = Shrinking { model, key, limits, deadline, steps_max: limits.steps_max, best };
    // No order gets beyond this end, so most often what comes after it does not matter.
    shrinking.try_with(&cut);
    // Reads first: with them disappears what only they have seen, and every attempt after that is cheaper.
    shrinking.pass_through_sizes(What::Reads);
    shrinking.pass_through_sizes(What::Everything);
    shrinking.best
}

struct Shrinking<'m, 'a, M: Model> {
    model: &'m M,
    key: &'m M::Key,
    limits: &'m Limits,
    deadline: Instant,
    /// What an attempt may cost. A relaxed history can be far more work than the whole one; then another way is better.
    steps_max: u64,
    best: Shrunk<'a, M>,
}

/// What is left out or relaxed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Reads,
    Everything,
}

impl<'a, M: Model> Shrinking<'_, 'a, M> {
    /// Goes on with `items` if they cannot be explained either. `false` if they can, or if it takes too long to tell.
    fn try_with(&mut self, items: &[Item<'a, M>]) -> bool {
        let mut work = Work::new(&Limits { steps_max: self.steps_max, ..*self.limits }, self.deadline);
        match explain(self.model, self.key, items, &mut work) {
            Found::Nothing(deepest) => {
                self.best = Shrunk { items: seen(self.model, items), deepest, is_minimal: false };
                self.steps_max = self.limits.steps_max.min(10_000 + 10 * work.steps);
                true
            }
            Found::Order | Found::Exhausted => false,
        }
    }

    /// Leaves out or relaxes larger parts and then smaller ones, until no single operation is left that can be.
    fn pass_through_sizes(&mut self, what: What) {
        let mut size = self.best.items.len();
        loop {
            size = size.div_ceil(2);
            let mut begin = 0;
            let mut has_changed = false;
            while begin < self.best.items.len() {
                if self.deadline <= Instant::now() {
                    return;
                }
                let end = self.best.items.len().min(begin + size);
                // Where it succeeds, others have moved to this place, or the same ones cannot be relaxed once more.
                match relaxed(self.model, &self.best.items, begin..end, what) {
                    Some(items) if self.try_with(&items) => has_changed = true,
                    Some(_) | None => begin = end,
                }
            }
            if size == 1 && !has_changed {
                self.best.is_minimal = what == What::Everything;
                return;
            }
        }
    }
}

/// What was known at the moment `end`.
fn until<'a, M: Model>(items: &[Item<'a, M>], end: u64) -> Vec<Item<'a, M>> {
    let called = items.iter().filter(|item| item.called <= end);
    called.map(|item| if item.ended <= end { *item } else { open(item) }).collect()
}

/// `items` with those of a range left out or relaxed. `None` if that changes nothing.
fn relaxed<'a, M: Model>(
    model: &M,
    items: &[Item<'a, M>],
    range: Range<usize>,
    what: What,
) -> Option<Vec<Item<'a, M>>> {
    let mut has_changed = false;
    let mut relaxed = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let is_read = model.leaves(item.request, item.response).is_none();
        if !range.contains(&at) || item.response.is_none() || (what == What::Reads && !is_read) {
            relaxed.push(*item);
            continue;
        }
        has_changed = true;
        if !is_read {
            relaxed.push(open(item));
        }
    }
    has_changed.then_some(relaxed)
}

fn open<'a, M: Model>(item: &Item<'a, M>) -> Item<'a, M> {
    Item { response: None, ended: u64::MAX, ..*item }
}
