//! Writes that have been appended and whose outcome is open: who waits for which entry.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use crate::entry::{Index, LogId, Term};
use crate::type_config::TypeConfig;

use super::waiters::Batch;

/// Who waits for which entry, by its whole name: index *and* term.
///
/// An outcome is told when an entry is applied at the index, never when one is truncated: a truncated entry may still
/// be committed by another leader that has it (Raft paper, figure 8).
pub(super) struct Pending<C: TypeConfig> {
    /// Appended under the leadership of this node that goes on, or has ended unnoticed so far; in the order of their
    /// indexes, all of one term.
    leading: VecDeque<Batch<C>>,
    /// Appended under leaderships that have ended. Several may wait for one index, with different terms.
    orphans: Vec<Orphan<C>>,
}

struct Orphan<C: TypeConfig> {
    batch: Batch<C>,
    /// Until then its outcome is waited for.
    deadline: Instant,
}

impl<C: TypeConfig> Pending<C> {
    pub(super) fn new() -> Self {
        Self { leading: VecDeque::new(), orphans: Vec::new() }
    }

    /// Adds waiters of entries that have just been appended. `deadline` is for those of an earlier leadership, if
    /// there are any.
    pub(super) fn appended(&mut self, batch: Batch<C>, deadline: Instant) {
        self.keep_only(Some(batch.next().term), deadline);
        self.leading.push_back(batch);
    }

    /// This node now leads in `term`, or not at all. Writes of another leadership are waited for until `deadline`.
    pub(super) fn keep_only(&mut self, term: Option<Term>, deadline: Instant) {
        // All of them have the same term.
        if self.leading.front().is_some_and(|batch| Some(batch.next().term) != term) {
            self.orphans.extend(self.leading.drain(..).map(|batch| Orphan { batch, deadline }));
        }
    }

    /// Takes out those who wait for the entries of `range`, which are about to be applied.
    pub(super) fn hand_over(&mut self, range: Range<Index>) -> Vec<Batch<C>> {
        let mut handed_over = Vec::new();
        while let Some(batch) = self.leading.front_mut()
            && batch.next().index < range.end
        {
            if range.end < batch.end() {
                let tail = batch.split_off(range.end);
                handed_over.push(std::mem::replace(batch, tail));
            } else {
                handed_over.extend(self.leading.pop_front());
            }
        }
        if !self.orphans.is_empty() {
            self.hand_over_orphans(range.end, &mut handed_over);
        }
        handed_over
    }

    fn hand_over_orphans(&mut self, end: Index, handed_over: &mut Vec<Batch<C>>) {
        for Orphan { mut batch, deadline } in std::mem::take(&mut self.orphans) {
            if batch.next().index < end {
                if end < batch.end() {
                    self.orphans.push(Orphan { batch: batch.split_off(end), deadline });
                }
                handed_over.push(batch);
            } else {
                self.orphans.push(Orphan { batch, deadline });
            }
        }
    }

    /// Another entry was applied in the place of `entry`: it and all that the same leader has put behind it will never
    /// be committed.
    pub(super) fn superseded(&mut self, entry: LogId) {
        let batches = self.orphans.iter_mut().map(|orphan| &mut orphan.batch).chain(&mut self.leading);
        for batch in batches.filter(|batch| batch.next().term == entry.term) {
            // Those before it have been handed over.
            if entry.index < batch.next().index {
                batch.supersede();
            }
        }
        self.orphans.retain(|orphan| orphan.batch.is_open());
        self.leading.retain(Batch::is_open);
    }

    /// A snapshot has taken the place of the entries up to `last`: whether it contains the writes nobody can tell.
    pub(super) fn covered_by_snapshot(&mut self, last: Index) {
        // Dropping a batch tells that its outcome is unknown.
        drop(self.hand_over(0..last + 1));
    }

    /// When [`expire`](Self::expire) is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.orphans.iter().map(|orphan| orphan.deadline).min()
    }

    /// Answers those who have waited long enough for what became of a lost leadership: unknown.
    pub(super) fn expire(&mut self, now: Instant) {
        self.orphans.retain(|orphan| now < orphan.deadline);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::waiters::answer;
    use super::super::waiters::tests::{answers, batch, command};
    use super::*;
    use crate::error::WriteError;
    use crate::testing::{U64, start};

    fn ranges(batches: &[Batch<U64>]) -> Vec<(u64, Range<Index>)> {
        batches.iter().map(|batch| (batch.next().term, batch.next().index..batch.end())).collect()
    }

    #[test]
    fn waiters_are_handed_over_with_the_entries_that_they_wait_for() {
        let now = start();
        let mut pending = Pending::new();
        let (a, _a) = batch(LogId::new(1, 2), 3);
        let (b, _b) = batch(LogId::new(1, 7), 2);
        pending.appended(a, now);
        pending.appended(b, now);
        assert_eq!(ranges(&pending.hand_over(1..2)), []);
        assert_eq!(ranges(&pending.hand_over(2..4)), [(1, 2..4)]);
        assert_eq!(ranges(&pending.hand_over(4..20)), [(1, 4..5), (1, 7..9)]);
        assert!(pending.leading.is_empty());
    }

    #[test]
    fn waiters_of_a_lost_leadership_stay_beside_those_of_the_next_one() {
        let now = start();
        let later = now + Duration::from_secs(1);
        let mut pending = Pending::new();
        let (a, mut a_replies) = batch(LogId::new(1, 5), 3);
        let (b, _b) = batch(LogId::new(4, 6), 3);
        pending.appended(a, now);
        pending.appended(b, later);
        assert_eq!(pending.leading.len(), 1);
        let mut handed_over = pending.hand_over(5..7);
        assert_eq!(ranges(&handed_over), [(4, 6..7), (1, 5..7)]);
        let applied = [(2, 5), (4, 6)].map(|(term, index)| command(LogId::new(term, index)));
        answer(&Vec::from(applied).into(), 2, [0, 0].into_iter(), &mut handed_over);
        let dropped = || Some(Err(WriteError::Dropped));
        assert_eq!(answers(&mut a_replies), [dropped(), dropped(), None]);
        assert_eq!(pending.next_deadline(), Some(later));
        // What the apply loop has found out decides those that it was not given.
        pending.superseded(LogId::new(1, 5));
        assert_eq!(answers(&mut a_replies[2..]), [dropped()]);
        assert_eq!(pending.next_deadline(), None);
        assert_eq!(ranges(&pending.hand_over(7..20)), [(4, 7..9)]);
    }

    #[test]
    fn losing_leadership_answers_nobody_before_the_deadline() {
        let now = start();
        let deadline = now + Duration::from_secs(1);
        let mut pending = Pending::new();
        let (a, mut replies) = batch(LogId::new(1, 5), 1);
        pending.appended(a, now);
        pending.keep_only(Some(1), deadline);
        assert_eq!(pending.next_deadline(), None);
        pending.keep_only(None, deadline);
        pending.expire(now);
        assert_eq!(answers(&mut replies), [None]);
        pending.expire(deadline);
        assert_eq!(answers(&mut replies), [Some(Err(WriteError::Unknown { log_id: LogId::new(1, 5) }))]);
    }

    #[test]
    fn a_snapshot_over_waiting_indexes_answers_unknown_and_leaves_the_rest() {
        let now = start();
        let mut pending = Pending::new();
        let (a, mut replies) = batch(LogId::new(1, 5), 2);
        pending.appended(a, now);
        pending.covered_by_snapshot(5);
        assert_eq!(
            answers(&mut replies),
            [Some(Err(WriteError::Unknown { log_id: LogId::new(1, 5) })), None]
        );
    }
}
