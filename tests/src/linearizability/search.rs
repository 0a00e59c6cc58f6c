//! The search for an order in which all operations of one part could have taken effect.
//!
//! It goes from configuration to configuration: the set of operations that have taken effect, and the state after them.
//! An operation may be next if none that is still to come has ended before it was called. Depth first, with
//! backtracking; a configuration that has led nowhere is not entered again (Lowe). What keeps it feasible:
//!
//! - *Operations that never change a state are taken at once.* If one may be next and is possible, then in any order
//!   that goes on from here it can be moved to the front: nothing else notices. So nothing else need be tried. (This
//!   does not hold for one that happens not to change this state, a delete of what is absent: later it may be needed.)
//! - *Operations with unknown outcome are tried last and only before one that ended*, because an order need not contain
//!   them: cut off those at its end, and each that is left stands before one that ended. Of equal ones the first is as
//!   good as any. One that does not change the state is not needed. Nor is one of which the next operation sees nothing:
//!   it can be left out, or moved behind the next one.
//! - *Fewer is better.* Of two configurations with the same ended operations and the same state, the one that has used up
//!   fewer of the unknown ones can do all that the other can. So the other is not entered.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use super::check::Work;
use super::model::{Marks, Model};

/// An operation as the search sees it.
pub(super) struct Item<'a, M: Model> {
    pub(super) request: &'a M::Request,
    /// `None`: the outcome is unknown.
    pub(super) response: Option<&'a M::Response>,
    /// The order of its call.
    pub(super) called: u64,
    /// The order of its end; `u64::MAX` where the outcome is unknown.
    pub(super) ended: u64,
    /// Its place in the history.
    pub(super) index: usize,
}

impl<M: Model> Clone for Item<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Model> Copy for Item<'_, M> {}

/// What a search has found.
pub(super) enum Found<S> {
    /// An order that explains everything.
    Order,
    /// There is none.
    Nothing(Deepest<S>),
    /// It did not come to an end within the limits.
    Exhausted,
}

/// How far the search came.
pub(super) struct Deepest<S> {
    /// The operations that took effect, in that order, by their place in the history.
    pub(super) order: Vec<usize>,
    /// The state after them.
    pub(super) state: S,
    /// The end of the operation that should have taken effect by then and could not.
    pub(super) ended: u64,
}

/// Looks for an order of `items`, which are sorted by their calls.
pub(super) fn search<M: Model>(
    model: &M,
    initial: M::State,
    items: &[Item<'_, M>],
    work: &mut Work,
) -> Found<M::State> {
    let (certain, open): (Vec<_>, Vec<_>) = items.iter().copied().partition(|item| item.response.is_some());
    let twins = open
        .iter()
        .enumerate()
        .map(|(at, item)| open[..at].iter().rposition(|earlier| earlier.request == item.request))
        .collect();
    let sees = |items: &[Item<'_, M>]| {
        items.iter().map(|item| model.sees(item.request, item.response)).collect::<Vec<_>>()
    };
    let (certain_sees, open_sees) = (sees(&certain), sees(&open));
    let open_leaves: Vec<_> = open.iter().map(|item| model.leaves(item.request, item.response)).collect();
    let mut leaving: BTreeMap<Option<M::Mark>, Vec<usize>> = BTreeMap::new();
    for (at, leaves) in open_leaves.iter().enumerate() {
        match leaves {
            Marks::Any => leaving.entry(None).or_default().push(at),
            Marks::These(marks) => {
                for mark in marks {
                    leaving.entry(Some(mark.clone())).or_default().push(at);
                }
            }
        }
    }
    let is_read = certain.iter().map(|item| model.leaves(item.request, item.response).is_none()).collect();
    let done = vec![false; certain.len()];
    let entered = HashMap::new();
    let mut search = Search {
        model,
        certain,
        certain_sees,
        is_read,
        open,
        open_sees,
        open_leaves,
        leaving,
        twins,
        done,
        first: 0,
        entered,
        work,
    };
    search.run(initial)
}

struct Search<'a, M: Model> {
    model: &'a M,
    /// The operations that must take effect, in the order of their calls.
    certain: Vec<Item<'a, M>>,
    /// What marks each of them sees.
    certain_sees: Vec<Marks<M::Mark>>,
    /// Which of them never change a state.
    is_read: Vec<bool>,
    /// The operations that may take effect, in the order of their calls.
    open: Vec<Item<'a, M>>,
    /// What marks each of them sees.
    open_sees: Vec<Marks<M::Mark>>,
    /// What marks each of them leaves.
    open_leaves: Vec<Marks<M::Mark>>,
    /// Which of them leave a mark, or with `None` any.
    leaving: BTreeMap<Option<M::Mark>, Vec<usize>>,
    /// For each of `open`, the last equal one before it.
    twins: Vec<Option<usize>>,
    /// Which of `certain` have taken effect.
    done: Vec<bool>,
    /// The first of `certain` that has not.
    first: usize,
    /// The configurations that were entered, and with the least sets of used-up operations.
    entered: HashMap<Configuration<M::State>, Vec<Set>>,
    work: &'a mut Work,
}

/// A set of small numbers. No zero at the end, so that equal sets are equal.
type Set = Vec<u64>;

#[derive(PartialEq, Eq, Hash)]
struct Configuration<S> {
    /// All of the certain operations before this one have taken effect, this one has not.
    first: usize,
    /// Which of those after it have.
    window: Set,
    state: S,
}

/// A certain operation that may be next, after some open ones.
struct Move<S> {
    through: Vec<usize>,
    next: usize,
    state: S,
    used: Set,
}

/// A configuration on the way, and what can be tried from it.
struct Frame<S> {
    state: S,
    used: Set,
    /// How it was reached: nothing for the first one.
    through: Vec<usize>,
    by: Option<usize>,
    first_before: usize,
    moves: std::vec::IntoIter<Move<S>>,
    /// Whether moves through open operations are still to be tried.
    is_open_untried: bool,
}

impl<M: Model> Search<'_, M> {
    fn run(&mut self, initial: M::State) -> Found<M::State> {
        let mut deepest: Option<Deepest<M::State>> = None;
        let root = Move { through: Vec::new(), next: usize::MAX, state: initial, used: Set::new() };
        let mut frames = vec![self.frame(root, None, 0)];
        loop {
            if self.first == self.certain.len() {
                return Found::Order;
            }
            if self.work.is_exhausted() {
                return Found::Exhausted;
            }
            let Some(frame) = frames.last_mut() else {
                return Found::Nothing(deepest.expect("the first configuration has been looked at"));
            };
            if let Some(next) = frame.moves.next() {
                let (at, first_before) = (next.next, self.first);
                self.take(at);
                if self.enter(&next.state, &next.used) {
                    frames.push(self.frame(next, Some(at), first_before));
                } else {
                    self.undo(at, first_before);
                }
            } else if frame.is_open_untried {
                frame.is_open_untried = false;
                let (state, used) = (frame.state.clone(), frame.used.clone());
                frame.moves = self.moves_through_open(&state, &used).into_iter();
            } else {
                let ended = self.horizon().1;
                if deepest.as_ref().is_none_or(|deepest| deepest.ended < ended) {
                    deepest = Some(Deepest { order: self.order(&frames), state: state_of(&frames), ended });
                }
                let frame = frames.pop().expect("it was looked at just now");
                if let Some(at) = frame.by {
                    self.undo(at, frame.first_before);
                }
            }
        }
    }

    fn frame(&mut self, by: Move<M::State>, at: Option<usize>, first_before: usize) -> Frame<M::State> {
        let (moves, is_enough) = self.moves(&by.state, &by.used);
        Frame {
            state: by.state,
            used: by.used,
            through: by.through,
            by: at,
            first_before,
            moves: moves.into_iter(),
            is_open_untried: !is_enough && !self.open.is_empty(),
        }
    }

    fn take(&mut self, at: usize) {
        self.done[at] = true;
        while self.first < self.done.len() && self.done[self.first] {
            self.first += 1;
        }
    }

    fn undo(&mut self, at: usize, first_before: usize) {
        self.done[at] = false;
        self.first = first_before;
    }

    /// Remembers the configuration with this state. `false` if one that can do as much was entered before.
    fn enter(&mut self, state: &M::State, used: &Set) -> bool {
        let window = self.window();
        let entered = self
            .entered
            .entry(Configuration { first: self.first, window, state: state.clone() })
            .or_default();
        if entered.iter().any(|before| is_subset(before, used)) {
            return false;
        }
        entered.retain(|before| !is_subset(used, before));
        entered.push(used.clone());
        self.work.configurations += 1;
        true
    }

    /// Up to where in `certain` something may be next, and the first end among what is still to come. They are sorted by
    /// their calls, so an operation further on cannot have ended before one of these was called.
    fn horizon(&self) -> (usize, u64) {
        let mut least_end = u64::MAX;
        let mut at = self.first;
        while at < self.certain.len() && self.certain[at].called <= least_end {
            if !self.done[at] {
                least_end = least_end.min(self.certain[at].ended);
            }
            at += 1;
        }
        (at, least_end)
    }

    /// Which of the certain operations after the first missing one have taken effect: all of them stand before the
    /// horizon, because each could be next when it was taken.
    fn window(&self) -> Set {
        let mut window = Set::new();
        for at in self.first..self.horizon().0 {
            if self.done[at] {
                insert(&mut window, at - self.first);
            }
        }
        window
    }

    /// The certain operations that may be next, those first that end first.
    fn candidates(&self) -> (Vec<usize>, u64) {
        let (end, least_end) = self.horizon();
        let mut candidates: Vec<usize> = (self.first..end).filter(|at| !self.done[*at]).collect();
        candidates.sort_by_key(|at| self.certain[*at].ended);
        (candidates, least_end)
    }

    /// What can be next without the help of open operations, and whether nothing else need be tried.
    fn moves(&mut self, state: &M::State, used: &Set) -> (Vec<Move<M::State>>, bool) {
        let mut moves = Vec::new();
        for next in self.candidates().0 {
            let Some(after) = self.step(state, self.certain[next]) else {
                continue;
            };
            let is_read = self.is_read[next];
            let this = Move { through: Vec::new(), next, state: after, used: used.clone() };
            if is_read {
                return (vec![this], true);
            }
            moves.push(this);
        }
        (moves, false)
    }

    /// What can be next after some open operations, the fewest first.
    fn moves_through_open(&mut self, state: &M::State, used: &Set) -> Vec<Move<M::State>> {
        let (candidates, least_end) = self.candidates();
        let mut helpful = self.helpful(&candidates);
        helpful.retain(|open| self.open[*open].called <= least_end && !contains(used, *open));
        let mut reached = vec![(state.clone(), used.clone(), Vec::new())];
        let mut moves = Vec::new();
        let mut at = 0;
        while at < reached.len() && !self.work.is_exhausted() {
            let (before, used, through) = reached[at].clone();
            for open in helpful.iter().copied() {
                let is_twin_left = self.twins[open].is_some_and(|twin| !contains(&used, twin));
                let sees_last = |last: &usize| is_seen(&self.open_leaves[*last], &self.open_sees[open]);
                if is_twin_left || contains(&used, open) || !through.last().is_none_or(sees_last) {
                    continue;
                }
                let Some(after) = self.step(&before, self.open[open]) else {
                    continue;
                };
                let mut used = used.clone();
                insert(&mut used, open);
                // This also leaves out those that do not change the state.
                if reached.iter().any(|(state, before, _)| *state == after && is_subset(before, &used)) {
                    continue;
                }
                let mut through = through.clone();
                through.push(open);
                for next in candidates.iter().copied() {
                    if is_seen(&self.open_leaves[open], &self.certain_sees[next])
                        && let Some(state) = self.step(&after, self.certain[next])
                    {
                        moves.push(Move { through: through.clone(), next, state, used: used.clone() });
                    }
                }
                reached.push((after, used, through));
            }
            at += 1;
        }
        moves
    }

    /// The open operations of which one of the `candidates` sees something, or another open one that does.
    fn helpful(&self, candidates: &[usize]) -> BTreeSet<usize> {
        let mut helpful = BTreeSet::new();
        let mut to_explain: Vec<_> = candidates.iter().map(|at| &self.certain_sees[*at]).collect();
        while let Some(sees) = to_explain.pop() {
            let Marks::These(marks) = sees else {
                return (0..self.open.len()).collect();
            };
            let named = marks.iter().map(|mark| Some(mark.clone())).chain([None]);
            for open in named.filter_map(|mark| self.leaving.get(&mark)).flatten() {
                if helpful.insert(*open) {
                    to_explain.push(&self.open_sees[*open]);
                }
            }
        }
        helpful
    }

    fn step(&mut self, state: &M::State, item: Item<'_, M>) -> Option<M::State> {
        self.work.steps += 1;
        self.model.step(state, item.request, item.response)
    }

    fn order(&self, frames: &[Frame<M::State>]) -> Vec<usize> {
        let open = |at: &usize| self.open[*at].index;
        let indexes = frames.iter().flat_map(|frame| {
            frame.through.iter().map(open).chain(frame.by.map(|at| self.certain[at].index))
        });
        indexes.collect()
    }
}

fn is_seen<M: Ord>(leaves: &Marks<M>, sees: &Marks<M>) -> bool {
    match (leaves, sees) {
        (Marks::These(leaves), Marks::These(sees)) => leaves.iter().any(|mark| sees.contains(mark)),
        (Marks::Any, _) | (_, Marks::Any) => true,
    }
}

fn state_of<S: Clone>(frames: &[Frame<S>]) -> S {
    frames.last().expect("there is one").state.clone()
}

fn contains(set: &Set, member: usize) -> bool {
    set.get(member / 64).is_some_and(|word| word & (1 << (member % 64)) != 0)
}

fn insert(set: &mut Set, member: usize) {
    let word = member / 64;
    if set.len() <= word {
        set.resize(word + 1, 0);
    }
    set[word] |= 1 << (member % 64);
}

fn is_subset(small: &Set, large: &Set) -> bool {
    small.iter().enumerate().all(|(at, word)| word & !large.get(at).copied().unwrap_or(0) == 0)
}
