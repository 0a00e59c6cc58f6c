//! What is known of one group in memory: cursors, and where its entries are.

use std::collections::VecDeque;
use std::ops::Range;

use openconsensus::{Index, LogId, Term};

use crate::frame::{Cursors, Hard};
use crate::records::Summary;

/// A run ends when it has become so long, so that the index stays small and a read does not begin far before its entry.
pub(crate) const RUN_BYTES: u64 = 64 << 10;

/// Consecutive entries of one segment. They end where the next run begins, or with the last entry: what a truncation
/// has removed stands behind them in the segment, and is never looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The first entry.
    pub(crate) first: Index,
    /// The number of the segment.
    pub(crate) segment: u64,
    /// Where the frame with the first entry begins.
    pub(crate) offset: u64,
}

/// What is durable of one group.
///
/// Invariant: `runs` are in the order of `first`; together they hold the entries from the first of them on, up to `last`.
/// `term_starts` begins with the first entry of the first run or an earlier one, and each has another term than the one
/// before it. Entries at or below `purged` may still be there.
#[derive(Debug, Default)]
pub(crate) struct GroupState {
    cursors: Cursors,
    runs: VecDeque<Run>,
    term_starts: VecDeque<LogId>,
    memberships: VecDeque<Index>,
    /// The next entries begin a run: there are others where they would continue the last one.
    is_cut: bool,
    /// How often entries were truncated.
    truncations: u64,
}

impl GroupState {
    /// A group of which older segments hold entries that are not known.
    pub(crate) fn new(cursors: Cursors) -> Self {
        Self { cursors, ..Self::default() }
    }

    pub(crate) fn cursors(&self) -> &Cursors {
        &self.cursors
    }

    pub(crate) fn truncations(&self) -> u64 {
        self.truncations
    }

    /// The first entry whose place is known; the one behind the last when there is none.
    pub(crate) fn first_known(&self) -> Index {
        self.runs.front().map_or(self.cursors.last.index + 1, |run| run.first)
    }

    /// The entries that are there.
    pub(crate) fn live(&self) -> Range<Index> {
        self.cursors.purged.index + 1..self.cursors.last.index + 1
    }

    /// The oldest segment that holds entries which are needed.
    pub(crate) fn oldest_segment(&self) -> Option<u64> {
        self.runs.front().map(|run| run.segment)
    }

    /// The term of an entry that is there, or of the purged one. 0 where only an older segment would say.
    pub(crate) fn term_at(&self, index: Index) -> Term {
        if index == self.cursors.purged.index {
            return self.cursors.purged.term;
        }
        let place = self.term_starts.partition_point(|start| start.index <= index);
        place.checked_sub(1).map_or(0, |place| self.term_starts[place].term)
    }

    pub(crate) fn set_hard(&mut self, hard: Hard) {
        self.cursors.hard = hard;
    }

    /// Why entries that begin with `first` cannot follow, if they cannot.
    pub(crate) fn check_append(last: LogId, first: LogId) -> Result<(), String> {
        if first.index != last.index + 1 || first.term < last.term {
            return Err(format!("entry {first} cannot be appended behind entry {last}"));
        }
        Ok(())
    }

    /// Entries stand in the frame at `offset` of a segment. They follow the last one.
    pub(crate) fn append(&mut self, segment: u64, offset: u64, summary: Summary, commit: Index) {
        let Some(first) = summary.term_starts.first().map(|start| start.index) else { return };
        let continues = !self.is_cut
            && self.runs.back().is_some_and(|run| run.segment == segment && offset < run.offset + RUN_BYTES);
        if !continues {
            self.runs.push_back(Run { first, segment, offset });
            self.is_cut = false;
        }
        let term_before = self.term_starts.back().map(|start| start.term);
        let starts = summary.term_starts.into_iter();
        self.term_starts.extend(starts.filter(|start| Some(start.term) != term_before));
        self.memberships.extend(summary.memberships);
        self.cursors.last = LogId::new(summary.last_term, first + u64::from(summary.count) - 1);
        self.cursors.hint = self.cursors.hint.max(commit);
    }

    /// Removes the entries at and after `from`, which is above the purged one and not behind the end.
    pub(crate) fn truncate(&mut self, from: Index) {
        let last = LogId::new(self.term_at(from - 1), from - 1);
        while self.runs.back().is_some_and(|run| from <= run.first) {
            self.runs.pop_back();
        }
        while self.term_starts.back().is_some_and(|start| from <= start.index) {
            self.term_starts.pop_back();
        }
        while self.memberships.back().is_some_and(|index| from <= *index) {
            self.memberships.pop_back();
        }
        self.cursors.last = last;
        self.is_cut = true;
        self.truncations += 1;
    }

    /// Removes the entries up to `upto`, which is behind the purged one.
    pub(crate) fn purge(&mut self, upto: LogId) {
        self.cursors.purged = upto;
        if self.cursors.last.index <= upto.index {
            self.cursors.last = upto;
            self.runs.clear();
            self.term_starts.clear();
            self.memberships.clear();
            return;
        }
        let next = upto.index + 1;
        while self.runs.get(1).is_some_and(|run| run.first <= next) {
            self.runs.pop_front();
        }
        while self.term_starts.get(1).is_some_and(|start| start.index <= next) {
            self.term_starts.pop_front();
        }
        while self.memberships.front().is_some_and(|index| *index < next) {
            self.memberships.pop_front();
        }
    }

    /// The memberships among the entries in `range`.
    pub(crate) fn memberships(&self, range: &Range<Index>) -> Vec<Index> {
        let from = self.memberships.partition_point(|index| *index < range.start);
        let in_range = self.memberships.range(from..).take_while(|index| **index < range.end);
        in_range.copied().collect()
    }

    /// The runs in which the entries from `index` on are, each with the index behind its last one; at most `count_max`.
    pub(crate) fn runs_from(&self, index: Index, count_max: usize) -> Vec<(Run, Index)> {
        let next = self.runs.partition_point(|run| run.first <= index);
        let Some(from) = next.checked_sub(1) else { return Vec::new() };
        let ends = self.runs.range(next..).map(|run| run.first).chain([self.cursors.last.index + 1]);
        self.runs.range(from..).copied().zip(ends).take(count_max).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(term: Term, range: Range<Index>) -> Summary {
        let count = (range.end - range.start) as u32;
        Summary {
            count,
            term_starts: vec![LogId::new(term, range.start)],
            last_term: term,
            memberships: vec![],
        }
    }

    fn runs(state: &GroupState, index: Index) -> Vec<(Index, u64, u64, Index)> {
        let runs = state.runs_from(index, 9).into_iter();
        runs.map(|(run, end)| (run.first, run.segment, run.offset, end)).collect()
    }

    #[test]
    fn entries_of_one_segment_become_runs_of_a_bounded_length() {
        let mut state = GroupState::default();
        state.append(1, 4096, summary(1, 1..4), 0);
        state.append(1, 5000, summary(1, 4..6), 2);
        state.append(1, 4096 + RUN_BYTES - 8, summary(2, 6..8), 1);
        state.append(1, 4096 + RUN_BYTES, summary(2, 8..9), 0);
        state.append(2, 4096, summary(2, 9..11), 0);
        let all = [(1, 1, 4096, 8), (8, 1, 4096 + RUN_BYTES, 9), (9, 2, 4096, 11)];
        assert_eq!(runs(&state, 1), all);
        assert_eq!(runs(&state, 7), all);
        assert_eq!(runs(&state, 8), all[1..]);
        assert_eq!(runs(&state, 10), all[2..]);
        assert_eq!(state.runs_from(1, 2).len(), 2);
        assert_eq!(state.cursors().last, LogId::new(2, 10));
        assert_eq!(state.cursors().hint, 2);
        assert_eq!([1, 5, 6, 10].map(|index| state.term_at(index)), [1, 1, 2, 2]);
    }

    #[test]
    fn what_follows_a_truncation_begins_a_run() {
        let mut state = GroupState::default();
        state.append(1, 4096, summary(1, 1..9), 0);
        state.truncate(5);
        assert_eq!((state.cursors().last, runs(&state, 1)), (LogId::new(1, 4), vec![(1, 1, 4096, 5)]));
        state.append(1, 4200, summary(3, 5..7), 0);
        assert_eq!(runs(&state, 2), [(1, 1, 4096, 5), (5, 1, 4200, 7)]);
        assert_eq!([4, 5].map(|index| state.term_at(index)), [1, 3]);
        state.truncate(1);
        assert_eq!((state.cursors().last, runs(&state, 1)), (LogId::ZERO, vec![]));
        assert_eq!(state.truncations(), 2);
    }

    #[test]
    fn a_purge_forgets_what_no_entry_needs() {
        let mut state = GroupState::default();
        state.append(1, 4096, summary(1, 1..5), 0);
        state.append(2, 4096, Summary { memberships: vec![5, 6], ..summary(2, 5..7) }, 0);
        state.append(3, 4096, summary(3, 7..9), 0);
        assert_eq!(state.memberships(&(5..6)), [5]);
        for (upto, oldest) in [(1, 1), (3, 1), (4, 2), (5, 2), (6, 3)] {
            state.purge(LogId::new(state.term_at(upto), upto));
            assert_eq!(state.oldest_segment(), Some(oldest), "{upto}");
            assert_eq!([7, 8].map(|index| state.term_at(index)), [3, 3]);
            assert_eq!(state.live(), upto + 1..9);
        }
        assert_eq!(state.memberships(&(1..9)), []);
        state.purge(LogId::new(4, 20));
        assert_eq!((state.cursors().last, state.oldest_segment()), (LogId::new(4, 20), None));
        assert_eq!(state.first_known(), 21);
        state.append(3, 5000, summary(4, 21..22), 0);
        assert_eq!(runs(&state, 21), [(21, 3, 5000, 22)]);
    }
}
