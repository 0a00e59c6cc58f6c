//! The log as the engine sees it: recent entries in memory, the terms of all of them, and the cursors.

use std::hash::Hash;
use std::ops::Range;

use crate::entries::Entries;
use crate::entry::{Entry, Index, LogId, Payload, Term};
use crate::membership::{Membership, MembershipAt};
use crate::type_config::TypeConfig;

use super::sizes::Sizes;
use super::tail::Tail;
use super::uncommitted::Uncommitted;
use super::{Fingerprint, Recovered};

/// The log and its cursors.
///
/// ```text
/// purged ≤ applied ≤ dispatched ≤ min(committed, stable)
/// stable ≤ written ≤ last,   committed ≤ last
/// ```
///
/// `committed` may be ahead of `stable` (a quorum has what this disk has not yet, thesis 10.2.1), but nothing is
/// applied here before it is stable here: otherwise a crash could leave a state that is ahead of its log.
#[derive(Clone, Debug)]
pub(super) struct Log<C: TypeConfig> {
    /// The place before the first entry.
    purged: LogId,
    last: LogId,
    /// Handed to the log storage.
    written: Index,
    /// Durable here.
    stable: Index,
    committed: Index,
    /// Handed to the state machine.
    dispatched: Index,
    applied: LogId,
    /// The first entry of each term behind `purged`, in order.
    term_starts: Vec<LogId>,
    tail: Tail<C>,
    sizes: Sizes,
    uncommitted: Uncommitted,
    /// The latest membership at or before `applied`, then all later ones, in order. Never empty.
    memberships: Vec<MembershipAt<C>>,
}

impl<C: TypeConfig> Log<C> {
    pub(super) fn recover(recovered: &Recovered<C>) -> Result<Self, String> {
        let Recovered { purged, last, applied, hard_state, .. } = recovered;
        let applied_at = applied.last_applied;
        if applied_at.index < purged.index || last.index < applied_at.index {
            return Err(format!("applied {applied_at} is not between purged {purged} and last {last}"));
        }
        let membership_at = applied.membership.log_id;
        if applied_at.index < membership_at.index || applied_at.term < membership_at.term {
            return Err(format!(
                "the state of {applied_at} has the membership of {membership_at}, a later entry"
            ));
        }
        if hard_state.term < last.term {
            return Err(format!(
                "the term is {}, but the log ends at {last}: the hard state was lost",
                hard_state.term
            ));
        }
        let mut log = Self {
            purged: *purged,
            last: *last,
            written: last.index,
            stable: last.index,
            // The commit index is a hint: never more than there is, never less than has been applied.
            committed: hard_state.commit.min(last.index).max(applied_at.index),
            dispatched: applied_at.index,
            applied: applied_at,
            term_starts: recovered.term_starts.clone(),
            tail: Tail::new(last.index + 1),
            sizes: Sizes::new(last.index),
            uncommitted: Uncommitted::default(),
            memberships: vec![applied.membership.clone()],
        };
        log.memberships.extend(recovered.memberships.iter().cloned());
        log.check_recovered()?;
        Ok(log)
    }

    fn check_recovered(&self) -> Result<(), String> {
        let mut before = self.purged;
        for start in &self.term_starts {
            let first = before == self.purged;
            let in_order = before.index < start.index
                && (before.term < start.term || first && before.term <= start.term);
            if !in_order || self.last.index < start.index {
                return Err(format!(
                    "term start {start} does not fit behind {before} in a log that ends at {}",
                    self.last
                ));
            }
            before = *start;
        }
        if before.term != self.last.term {
            return Err(format!("the log ends at {}, but its last term start is {before}", self.last));
        }
        if self.term_at(self.applied.index) != Some(self.applied.term) {
            return Err(format!("the state machine has applied {}, which is not in the log", self.applied));
        }
        for pair in self.memberships.windows(2) {
            if pair[1].log_id.index <= pair[0].log_id.index {
                return Err(format!("membership {} does not follow {}", pair[1].log_id, pair[0].log_id));
            }
        }
        Ok(())
    }

    pub(super) fn fingerprint(&self, to: &mut Fingerprint<'_, C>)
    where
        C::Command: Hash,
        C::Node: Hash,
    {
        let Self {
            purged,
            last,
            written,
            stable,
            committed,
            dispatched,
            applied,
            term_starts,
            tail,
            // Fed by the engine, where a limit in bytes decides anything.
            sizes: _,
            uncommitted,
            memberships,
        } = self;
        to.value((purged, last, written, stable, committed, dispatched, applied));
        to.value((term_starts, memberships.len()));
        uncommitted.fingerprint(to);
        tail.fingerprint(to);
        for MembershipAt { log_id, membership } in memberships {
            to.value(log_id);
            to.membership(membership);
        }
    }

    pub(super) fn purged(&self) -> LogId {
        self.purged
    }

    pub(super) fn last(&self) -> LogId {
        self.last
    }

    pub(super) fn written(&self) -> Index {
        self.written
    }

    pub(super) fn stable(&self) -> Index {
        self.stable
    }

    pub(super) fn committed(&self) -> Index {
        self.committed
    }

    pub(super) fn dispatched(&self) -> Index {
        self.dispatched
    }

    pub(super) fn applied(&self) -> LogId {
        self.applied
    }

    pub(super) fn tail_bytes(&self) -> u64 {
        self.tail.bytes()
    }

    /// The bytes of all entries from `from` on; `None` when some of them are not in memory.
    pub(super) fn bytes_from(&self, from: Index) -> Option<u64> {
        self.tail.bytes_from(from)
    }

    /// How many bytes the entries have, as far as that is known.
    pub(super) fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Bytes of entries that are not committed, or not durable here.
    pub(super) fn uncommitted_bytes(&self) -> u64 {
        self.uncommitted.bytes()
    }

    fn settle(&mut self) {
        self.uncommitted.settle(self.committed.min(self.stable));
    }

    /// The membership in force: the latest in the log, be it committed or not (Raft paper, section 6).
    pub(super) fn membership(&self) -> &Membership<C> {
        &self.membership_at().membership
    }

    pub(super) fn membership_at(&self) -> &MembershipAt<C> {
        self.memberships.last().expect("there is always a membership, if only the empty one")
    }

    /// The latest membership that is committed for certain.
    ///
    /// The commit index may be older than the truth after a restart. But no change begins before the one before it is
    /// committed, so all memberships but the last one in a log are.
    pub(super) fn committed_membership(&self) -> &MembershipAt<C> {
        let behind = self.memberships.partition_point(|at| at.log_id.index <= self.committed);
        // The first one is applied, so there is always one at or before the commit index.
        &self.memberships[behind.max(self.memberships.len() - 1).max(1) - 1]
    }

    /// Whether one of the memberships that are still known names a node.
    pub(super) fn has_named(&self, id: C::NodeId) -> bool {
        self.memberships.iter().any(|at| at.membership.is_member(id))
    }

    /// The term of the entry at `index`, if it is known: from the purged entry to the last.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        if index < self.purged.index || self.last.index < index {
            return None;
        }
        // Most questions are about the end of the log.
        if let Some(start) = self.term_starts.last()
            && start.index <= index
            && self.purged.index < index
        {
            return Some(start.term);
        }
        let place = self.term_starts.partition_point(|start| start.index <= index);
        if place == 0 || index == self.purged.index {
            return Some(self.purged.term);
        }
        Some(self.term_starts[place - 1].term)
    }

    pub(super) fn log_id_at(&self, index: Index) -> Option<LogId> {
        self.term_at(index).map(|term| LogId { term, index })
    }

    /// Whether this very entry is in the log, or just before it.
    pub(super) fn contains(&self, id: LogId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// The last entry at or before `index` whose term is at most `term`: entries behind it cannot match a log that has
    /// `term` at `index`. `None` when that lies before the purged entry. Both sides of a conflict skip whole terms with
    /// it, so that the match is found in as many round trips as there are terms (Raft paper, 5.3).
    pub(super) fn last_not_above(&self, index: Index, term: Term) -> Option<LogId> {
        let mut end = index.min(self.last.index);
        for start in self.term_starts.iter().rev() {
            if end < start.index {
                continue;
            }
            if start.term <= term {
                return Some(LogId { term: start.term, index: end });
            }
            end = start.index - 1;
        }
        let at_purged = self.purged.index <= end && self.purged.term <= term;
        at_purged.then_some(LogId { term: self.purged.term, index: end })
    }

    /// Adds entries behind the last one.
    pub(super) fn append(&mut self, entries: Entries<C>) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        assert_eq!(
            first.index,
            self.last.index + 1,
            "entries from {first} do not follow the log, which ends at {}",
            self.last
        );
        assert!(
            self.last.term <= first.term,
            "entries from {first} have a lower term than the last entry {}",
            self.last
        );
        for entry in entries.notable() {
            self.note_entry(entry);
        }
        self.last = last;
        let bytes = entries.size_bytes();
        self.uncommitted.push(first.index, last.index, bytes);
        self.tail.push(entries, bytes);
        self.sizes.append(last.index, bytes);
    }

    fn note_entry(&mut self, entry: &Entry<C>) {
        let term_of_last = self.term_starts.last().map_or(self.purged.term, |start| start.term);
        if term_of_last != entry.log_id.term {
            self.term_starts.push(entry.log_id);
        }
        if let Payload::Membership(membership) = &entry.payload {
            self.memberships.push(MembershipAt { log_id: entry.log_id, membership: membership.clone() });
        }
    }

    /// Removes the entries at and after `from`. They conflict with the leader's, so none of them is committed.
    /// Returns whether any of them had been handed to the log storage.
    pub(super) fn truncate(&mut self, from: Index) -> bool {
        assert!(
            self.committed < from,
            "entries from {from} on cannot be removed: {} is committed",
            self.committed
        );
        self.tail.truncate(from);
        let kept = from - 1;
        self.uncommitted.truncate_behind(kept, |first| self.tail.bytes_from(first));
        self.sizes.truncate_behind(kept);
        self.last = self.log_id_at(kept).expect("what precedes an uncommitted entry is in the log");
        self.term_starts.retain(|start| start.index < from);
        // The membership before an uncommitted one comes back in force.
        while from <= self.membership_at().log_id.index {
            self.memberships.pop();
        }
        let was_written = kept < self.written;
        self.written = self.written.min(kept);
        self.stable = self.stable.min(kept);
        self.settle();
        was_written
    }

    /// Forgets the entries up to `upto`. When it is not in the log, or the log does not reach it, all entries go and
    /// the log starts behind it.
    pub(super) fn purge(&mut self, upto: LogId) {
        if upto.index <= self.purged.index {
            return;
        }
        if self.contains(upto) {
            // Entries before the first start that is left have the term of the purged one.
            self.term_starts.retain(|start| upto.index < start.index);
            self.tail.evict_to(upto.index);
        } else {
            let last = self.last;
            assert!(
                last.index < upto.index,
                "the log ends at {last} and has another entry where {upto} should be"
            );
            self.term_starts.clear();
            self.tail = Tail::new(upto.index + 1);
            self.uncommitted = Uncommitted::default();
            self.last = upto;
        }
        self.sizes.purge(upto.index);
        self.purged = upto;
        self.written = self.written.max(upto.index);
    }

    /// The state machine has the state of a snapshot now.
    pub(super) fn install(&mut self, last: LogId, membership: MembershipAt<C>) {
        self.purge(last);
        self.committed = self.committed.max(last.index);
        self.dispatched = last.index;
        self.applied = last;
        // What a snapshot contains is durable, although this log never held it.
        self.stable = self.stable.max(last.index);
        self.settle();
        self.memberships.retain(|at| last.index < at.log_id.index);
        self.memberships.insert(0, membership);
    }

    pub(super) fn commit_to(&mut self, index: Index) -> bool {
        assert!(index <= self.last.index, "commit {index} is beyond the last entry {}", self.last);
        let moved = self.committed < index;
        self.committed = self.committed.max(index);
        self.settle();
        moved
    }

    /// Everything appended so far has been handed to the log storage.
    pub(super) fn take_unwritten(&mut self) -> Entries<C> {
        if !self.has_unwritten() {
            return Entries::empty();
        }
        let entries = self.tail.range(self.written + 1..self.last.index + 1);
        assert_eq!(
            entries.len() as u64,
            self.last.index - self.written,
            "entries that are not written yet must be in memory"
        );
        self.written = self.last.index;
        entries
    }

    pub(super) fn has_unwritten(&self) -> bool {
        self.written < self.last.index
    }

    pub(super) fn stable_to(&mut self, index: Index) {
        assert!(index <= self.written, "{index} cannot be stable: only {} was written", self.written);
        self.stable = self.stable.max(index);
        self.settle();
    }

    pub(super) fn dispatched_to(&mut self, index: Index) {
        assert!(
            index <= self.committed.min(self.stable),
            "{index} cannot be applied: committed {}, stable {}",
            self.committed,
            self.stable
        );
        self.dispatched = index;
    }

    pub(super) fn applied_to(&mut self, last: LogId) {
        assert!(
            self.applied.index <= last.index && last.index <= self.dispatched,
            "applied {last} was never handed out: {} was",
            self.dispatched
        );
        self.applied = last;
        let older = self.memberships.partition_point(|at| at.log_id.index <= last.index);
        self.memberships.drain(..older.saturating_sub(1));
    }

    /// Entries from `from` on, as many as fit into `bytes_max`, at least one. `None` when they are not in memory.
    pub(super) fn recent(&self, from: Index, bytes_max: u64) -> Option<Entries<C>> {
        self.tail.from(from, bytes_max)
    }

    /// The part of `range` that is in memory: its end, possibly nothing.
    pub(super) fn recent_range(&self, range: Range<Index>) -> Entries<C> {
        self.tail.range(range)
    }

    /// Lets go of the oldest entries in memory beyond `bytes_max`, but of none that the log storage could not return.
    pub(super) fn shrink_tail(&mut self, bytes_max: u64) {
        self.tail.shrink(bytes_max, self.stable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::U64;

    fn recovered() -> Recovered<U64> {
        Recovered::empty(1, 1)
    }

    /// A log with entries of the given terms from index 1 on, all of them stable.
    fn log(terms: &[Term]) -> Log<U64> {
        let last = terms.last().copied().unwrap_or(0);
        let mut start = recovered();
        start.hard_state.term = last;
        let mut log = Log::recover(&start).unwrap();
        for (index, term) in (1..).zip(terms) {
            let log_id = LogId { term: *term, index };
            log.append(vec![Entry { log_id, payload: Payload::Command(index) }].into());
        }
        log.take_unwritten();
        log.stable_to(terms.len() as Index);
        log
    }

    #[test]
    fn the_term_of_every_entry_is_known_also_after_a_purge() {
        let terms = [1, 1, 2, 2, 2, 5, 5, 9];
        for upto in 0..=terms.len() {
            let mut log = log(&terms);
            log.commit_to(8);
            log.dispatched_to(8);
            log.applied_to(LogId::new(9, 8));
            if 0 < upto {
                log.purge(LogId::new(terms[upto - 1], upto as Index));
            }
            for index in 0..=10_usize {
                let expected = match index {
                    _ if index < upto || terms.len() < index => None,
                    0 => Some(0),
                    _ => Some(terms[index - 1]),
                };
                assert_eq!(log.term_at(index as Index), expected, "index {index}, purged to {upto}");
            }
            // By definition, the slow way.
            for index in 0..=9_u64 {
                for term in 0..=10 {
                    let candidates = (0..=index).rev().filter_map(|i| log.log_id_at(i));
                    let expected = candidates.into_iter().find(|id| id.term <= term);
                    assert_eq!(
                        log.last_not_above(index, term),
                        expected,
                        "index {index} term {term} purged {upto}"
                    );
                }
            }
        }
    }

    /// A snapshot may end with the very entry of a membership, which is known once then, and not twice.
    #[test]
    fn the_membership_of_a_snapshot_takes_the_place_of_the_same_one_in_the_log() {
        let mut log = log(&[1]);
        let membership = Membership::of_voters([(1, ())].into());
        let log_id = LogId::new(1, 2);
        log.append(vec![Entry { log_id, payload: Payload::Membership(membership.clone()) }].into());
        log.take_unwritten();
        log.stable_to(2);
        log.install(log_id, MembershipAt { log_id, membership });
        assert_eq!(log.memberships.len(), 1);
        assert_eq!(log.membership_at().log_id, log_id);
    }

    /// Users see it in the metrics, as the memory that a log takes.
    #[test]
    fn the_bytes_of_recent_entries_are_those_of_the_entries_that_are_kept() {
        let mut log = log(&[1, 1, 1]);
        let all = log.recent_range(1..4).size_bytes();
        assert!(0 < all);
        assert_eq!(log.tail_bytes(), all);
        log.commit_to(3);
        log.dispatched_to(3);
        log.shrink_tail(0);
        assert_eq!(log.tail_bytes(), 0);
    }

    #[test]
    fn a_truncated_log_takes_other_entries_and_is_no_longer_stable_there() {
        let mut log = log(&[1, 1, 2, 2]);
        assert!(log.truncate(3));
        assert_eq!((log.last(), log.stable(), log.written()), (LogId::new(1, 2), 2, 2));
        log.append(vec![Entry { log_id: LogId::new(3, 3), payload: Payload::Blank }].into());
        assert_eq!(log.term_at(3), Some(3));
        // The new entry was not handed to the storage yet.
        assert!(!log.truncate(3));
    }

    /// What comes over a network is one batch, whatever it was on its way to the leader's log.
    #[test]
    fn terms_and_memberships_are_found_wherever_they_stand_in_a_batch() {
        let membership = |id: u64| Payload::Membership(Membership::of_voters([(id, ())].into()));
        let payload = |index| match index {
            3 | 5 => membership(index),
            _ => Payload::Command(index),
        };
        // In the first batch the term changes and no membership comes, in the second it is the other way round.
        for (terms, members) in [([1, 1, 2, 2, 3, 3], false), ([1; 6], true), ([1, 2, 2, 3, 3, 3], true)] {
            let mut log = log(&[]);
            let entry = |(index, term): (Index, &Term)| Entry {
                log_id: LogId { term: *term, index },
                payload: if members { payload(index) } else { Payload::Command(index) },
            };
            let batch = Entries::from((1..).zip(&terms).map(entry).collect::<Vec<_>>());
            for view in [batch.clone(), Entries::concat([batch.slice(1..2), batch.slice(2..7)])] {
                log.append(view);
                for (index, term) in (1..).zip(terms) {
                    assert_eq!(log.term_at(index), Some(term), "index {index} of {terms:?}");
                }
                for (id, is_known) in [(3, members), (5, members), (4, false)] {
                    assert_eq!(log.has_named(id), is_known, "node {id} with {terms:?}");
                }
                log.truncate(1);
            }
        }
    }

    #[test]
    fn a_truncated_membership_gives_way_to_the_one_before() {
        let mut log = log(&[]);
        let membership = |id: u64| Payload::Membership(Membership::of_voters([(id, ())].into()));
        for index in 1..=3 {
            log.append(vec![Entry { log_id: LogId::new(1, index), payload: membership(index) }].into());
        }
        assert!(log.membership().is_voter(3));
        log.truncate(3);
        assert!(log.membership().is_voter(2));
        log.truncate(1);
        assert!(log.membership().is_empty());
    }

    /// Of two voters the leader had removed itself, and only its log had that. Both were restarted without a hint of what
    /// was committed. The one that was removed did not campaign, as no membership in which it votes was known to be
    /// committed, and the other could not win: nobody led any more.
    #[test]
    fn the_membership_before_the_last_one_is_committed_even_if_nobody_remembers_it() {
        let mut log = log(&[]);
        let append = |index, log: &mut Log<U64>| {
            let payload = Payload::Membership(Membership::of_voters([(index, ())].into()));
            log.append(vec![Entry { log_id: LogId::new(1, index), payload }].into());
        };
        append(1, &mut log);
        assert!(log.committed_membership().membership.is_empty());
        append(2, &mut log);
        assert!(log.committed_membership().membership.is_voter(1));
        log.commit_to(2);
        assert!(log.committed_membership().membership.is_voter(2));
        append(3, &mut log);
        assert!(log.committed_membership().membership.is_voter(2));
    }

    #[test]
    fn a_log_that_does_not_reach_a_snapshot_starts_anew_behind_it() {
        let mut log = log(&[1, 1, 1]);
        log.install(LogId::new(4, 10), MembershipAt::default());
        assert_eq!(
            (log.last(), log.purged(), log.applied()),
            (LogId::new(4, 10), LogId::new(4, 10), LogId::new(4, 10))
        );
        assert_eq!((log.committed(), log.stable(), log.written()), (10, 10, 10));
        log.append(vec![Entry { log_id: LogId::new(4, 11), payload: Payload::Blank }].into());
        assert_eq!(log.term_at(11), Some(4));
    }

    #[test]
    fn a_log_that_goes_beyond_a_snapshot_keeps_what_is_behind_it() {
        let mut log = log(&[1, 1, 1, 2, 2]);
        log.install(LogId::new(1, 3), MembershipAt::default());
        assert_eq!((log.last(), log.purged()), (LogId::new(2, 5), LogId::new(1, 3)));
        assert_eq!(log.recent_range(0..10).range(), 4..6);
    }

    #[test]
    fn a_commit_hint_is_brought_into_the_bounds_of_log_and_state() {
        for (hint, applied, expected) in [(9, 0, 4), (0, 3, 3), (2, 1, 2)] {
            let mut start = recovered();
            start.hard_state = crate::HardState { term: 1, voted_for: None, commit: hint };
            start.last = LogId::new(1, 4);
            start.term_starts = vec![LogId::new(1, 1)];
            start.applied.last_applied = LogId::new(if applied == 0 { 0 } else { 1 }, applied);
            assert_eq!(Log::recover(&start).unwrap().committed(), expected);
        }
    }

    #[test]
    fn a_log_without_the_hard_state_of_its_term_is_refused() {
        let mut start = recovered();
        start.last = LogId::new(3, 4);
        start.term_starts = vec![LogId::new(3, 1)];
        let error = Log::<U64>::recover(&start).unwrap_err();
        assert!(error.contains("hard state was lost"), "{error}");
    }
}
