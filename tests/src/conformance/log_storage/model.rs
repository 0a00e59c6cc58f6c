//! What a log must be: the model that log storages are compared with.

use std::fmt;
use std::ops::Range;

use openconsensus::{Entries, HardState, Index, LogId, LogState, TypeConfig};

use crate::conformance::verdict::{Flaw, describe, holds, same};

/// What is stored, if the storage is right.
#[derive(Clone, Debug)]
pub(super) struct Model<C: TypeConfig> {
    pub(super) hard_state: HardState<C>,
    /// The greatest commit index that came with entries.
    pub(super) hint: Index,
    pub(super) purged: LogId,
    pub(super) entries: Entries<C>,
}

/// One call of the writing side.
#[derive(Clone)]
pub(super) enum Write<C: TypeConfig> {
    HardState(HardState<C>),
    Append(Entries<C>, Index),
    Truncate(Index),
    Purge(LogId),
}

impl<C: TypeConfig> fmt::Display for Write<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HardState(state) => write!(f, "saving {state:?}"),
            Self::Append(entries, commit) => {
                write!(f, "appending {} with commit {commit}", describe(entries))
            }
            Self::Truncate(from) => write!(f, "truncating from {from}"),
            Self::Purge(upto) => write!(f, "purging up to {upto}"),
        }
    }
}

impl<C: TypeConfig> Default for Model<C> {
    fn default() -> Self {
        Self { hard_state: HardState::default(), hint: 0, purged: LogId::ZERO, entries: Entries::empty() }
    }
}

impl<C: TypeConfig> Model<C> {
    pub(super) fn last(&self) -> LogId {
        self.entries.last().unwrap_or(self.purged)
    }

    /// The name of the entry at `index`, if it is stored or the last that was purged.
    pub(super) fn log_id(&self, index: Index) -> Option<LogId> {
        if index == self.purged.index {
            return Some(self.purged);
        }
        self.entries.at(index).map(|entry| entry.log_id)
    }

    /// What a reader must return.
    pub(super) fn read(&self, range: Range<Index>, bytes_max: u64) -> Entries<C> {
        if self.entries.at(range.start).is_none() {
            return Entries::empty();
        }
        self.entries.slice(range).limit_bytes(bytes_max)
    }

    pub(super) fn carry_out(&mut self, write: &Write<C>) {
        match write {
            Write::HardState(state) => self.hard_state = *state,
            Write::Append(entries, commit) => {
                self.entries = Entries::concat([self.entries.clone(), entries.clone()]);
                self.hint = self.hint.max(*commit);
            }
            Write::Truncate(from) => self.entries = self.entries.slice(0..*from),
            Write::Purge(upto) => {
                self.entries = self.entries.slice(upto.index + 1..Index::MAX);
                self.purged = *upto;
            }
        }
    }

    /// What a crash in the middle of `write` may leave: all of it, none of it, or a start of what is appended.
    pub(super) fn around(&self, write: &Write<C>) -> Vec<Self> {
        let mut after = self.clone();
        after.carry_out(write);
        let mut allowed = vec![after, self.clone()];
        if let Write::Append(entries, commit) = write {
            for end in entries.range().skip(1) {
                let mut between = self.clone();
                between.carry_out(&Write::Append(entries.slice(0..end), *commit));
                allowed.push(between);
            }
        }
        allowed
    }

    /// Fails unless a storage that holds this may report `state`.
    pub(super) fn check_state(&self, what: &str, state: &LogState<C>) -> Result<(), Flaw> {
        same(format!("{what}, the purged entry"), state.purged, self.purged)?;
        same(format!("{what}, the last entry"), state.last, self.last())?;
        same(format!("{what}, the term"), state.hard_state.term, self.hard_state.term)?;
        same(format!("{what}, the vote"), state.hard_state.voted_for, self.hard_state.voted_for)?;
        let (least, most) = (self.hard_state.commit, self.hard_state.commit.max(self.hint));
        holds(
            (least..=most).contains(&state.hard_state.commit),
            format!("{what}, the commit index: {}", state.hard_state.commit),
            format!("{least}, which was saved last, or a later hint, {most} at most"),
        )
    }
}
