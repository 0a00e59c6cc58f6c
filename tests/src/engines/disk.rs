//! A model of the log storage: what is on it, and whether what it is asked for makes sense.

use std::ops::Range;

use openconsensus::engine::{LogWrite, Recovered};
use openconsensus::{AppliedState, Entries, Entry, HardState, Index, LogId, Term};

use super::Test;

/// What a node has on its disk, or would have if everything that it has handed over were durable.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// The last one that was saved.
    pub hard_state: HardState<Test>,
    /// The last entry that was purged.
    pub purged: LogId,
    /// Consecutive entries behind `purged`.
    entries: Vec<Entry<Test>>,
}

impl Disk {
    /// A disk with a log that begins at index 1.
    pub fn new(hard_state: HardState<Test>, entries: Vec<Entry<Test>>) -> Self {
        Self { hard_state, purged: LogId::ZERO, entries }
    }

    /// Does what a log storage has to do, and panics where an engine must not ask for it.
    pub fn carry_out(&mut self, write: &LogWrite<Test>) {
        self.carry_out_parts(write, usize::MAX);
    }

    /// Of how many parts a write consists: the hard state, the truncation, the purge, and each entry.
    pub fn parts_of(write: &LogWrite<Test>) -> usize {
        usize::from(write.hard_state.is_some())
            + usize::from(write.truncate.is_some())
            + usize::from(write.purge.is_some())
            + write.append.len()
    }

    /// Does the first `parts` of a write, as a crash in the middle of it leaves it.
    pub fn carry_out_parts(&mut self, write: &LogWrite<Test>, mut parts: usize) {
        let mut is_done = |is_part: bool| {
            let is_done = is_part && 0 < parts;
            parts -= usize::from(is_done);
            is_done
        };
        if let Some(hard_state) = write.hard_state
            && is_done(true)
        {
            self.save(hard_state);
        }
        if let Some(from) = write.truncate
            && is_done(true)
        {
            assert!(self.purged.index < from, "truncation from {from}, but purged to {}", self.purged);
            self.entries.truncate((from - self.purged.index - 1) as usize);
        }
        if let Some(upto) = write.purge
            && is_done(true)
        {
            self.purge(upto);
        }
        for entry in write.append.iter() {
            if !is_done(true) {
                return;
            }
            let (entry_id, last) = (entry.log_id, self.last());
            assert_eq!(entry_id.index, last.index + 1, "append of {entry_id} behind {last}");
            assert!(last.term <= entry_id.term, "append of {entry_id} behind {last}");
            self.entries.push(entry.clone());
        }
        if !write.append.is_empty() {
            self.hard_state.commit = self.hard_state.commit.max(write.commit);
        }
    }

    fn save(&mut self, hard_state: HardState<Test>) {
        let before = self.hard_state;
        assert!(before.term <= hard_state.term, "the term falls: {before:?} to {hard_state:?}");
        if before.term == hard_state.term && before.voted_for.is_some() {
            assert_eq!(
                before.voted_for, hard_state.voted_for,
                "the vote changes within term {}",
                before.term
            );
        }
        self.hard_state = HardState { commit: before.commit.max(hard_state.commit), ..hard_state };
    }

    /// Removes what is at or before `upto`.
    pub fn purge(&mut self, upto: LogId) {
        assert!(self.purged.index <= upto.index, "the purged index falls from {} to {upto}", self.purged);
        let replaced = self.id_at(upto.index);
        let gone = (upto.index - self.purged.index).min(self.entries.len() as u64);
        self.entries.drain(..gone as usize);
        if replaced.is_some_and(|replaced| replaced != upto) {
            assert!(
                self.entries.is_empty(),
                "entries behind {replaced:?} are kept behind {upto}: {:?}",
                self.terms()
            );
        }
        self.purged = upto;
    }

    /// The last entry, or the purged one when there is none behind it.
    pub fn last(&self) -> LogId {
        self.entries.last().map_or(self.purged, |entry| entry.log_id)
    }

    /// The name of the entry at `index`, from the purged one to the last.
    pub fn id_at(&self, index: Index) -> Option<LogId> {
        if index == self.purged.index {
            return Some(self.purged);
        }
        self.at(index).map(|entry| entry.log_id)
    }

    /// The entry at `index`, if it is there.
    pub fn at(&self, index: Index) -> Option<&Entry<Test>> {
        let place = index.checked_sub(self.purged.index + 1)?;
        self.entries.get(place as usize)
    }

    /// Whether it has this entry, or a snapshot in place of it.
    pub fn covers(&self, id: LogId) -> bool {
        id.index < self.purged.index || self.id_at(id.index) == Some(id)
    }

    /// The entries behind the purged one.
    pub fn entries(&self) -> &[Entry<Test>] {
        &self.entries
    }

    /// The terms of the entries behind the purged one.
    pub fn terms(&self) -> Vec<Term> {
        self.entries.iter().map(|entry| entry.log_id.term).collect()
    }

    /// The entries of `range`, at least the first, then as many as `bytes_max` allows.
    pub fn read(&self, range: Range<Index>, bytes_max: u64) -> Entries<Test> {
        let Some(start) = range.start.checked_sub(self.purged.index + 1) else { return Entries::empty() };
        let behind = self.entries.get(start as usize..).unwrap_or_default();
        let count = range.end.saturating_sub(range.start).min(behind.len() as u64);
        let entries: Entries<Test> = behind[..count as usize].to_vec().into();
        entries.limit_bytes(bytes_max)
    }

    /// What a driver finds when it starts a node on this disk.
    pub fn recover(
        &self,
        id: u64,
        seed: u64,
        applied: AppliedState<Test>,
        snapshot: LogId,
    ) -> Recovered<Test> {
        let entries = Entries::from(self.entries.clone());
        Recovered { hard_state: self.hard_state, applied, snapshot, ..Recovered::empty(id, seed) }
            .with_log(self.purged, &entries)
    }
}
