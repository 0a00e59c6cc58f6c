//! `MemLog`: a log storage in memory that completes at once.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openconsensus::{
    Entries, HardState, Index, LogId, LogState, RaftLogReader, RaftLogStorage, Term, TypeConfig,
};

/// A log storage in memory. Every write completes at once, and is as durable as this value's memory.
///
/// A clone is another handle to the same log, as if the same file was opened again: to restart a node, keep a clone
/// and start from it. [`load`](RaftLogStorage::load) makes its handle the only one that may write; a handle that was
/// loaded earlier gets errors from then on, so a node that was given up for dead cannot write behind the back of its
/// successor.
///
/// It checks the contract of [`RaftLogStorage`] and refuses, with [`io::ErrorKind::InvalidInput`] and without any
/// change, what a caller must not do: an append that leaves a gap, a truncation of purged or committed entries, a term
/// that falls, a vote that changes within a term.
pub struct MemLog<C: TypeConfig> {
    data: Arc<Mutex<LogData<C>>>,
    /// Which `load` made this handle the writer; `None` before it.
    writer: Option<u64>,
}

impl<C: TypeConfig> MemLog<C> {
    /// An empty log.
    pub fn new() -> Self {
        Self { data: Arc::new(Mutex::new(LogData::default())), writer: None }
    }

    /// What [`load`](RaftLogStorage::load) would return now. May be called at any time and changes nothing.
    pub fn state(&self) -> LogState<C> {
        lock(&self.data).state()
    }

    /// The entries whose indexes are in `range`, as far as they are stored.
    pub fn entries(&self, range: Range<Index>) -> Entries<C> {
        lock(&self.data).read(range, u64::MAX)
    }

    /// The data, if this handle may write.
    fn for_writing(&self) -> io::Result<MutexGuard<'_, LogData<C>>> {
        let data = lock(&self.data);
        match self.writer {
            None => Err(invalid("load must be called before the first write".into())),
            Some(writer) if writer != data.loads => Err(invalid(
                "the log was loaded again: only the handle that was loaded last may write".into(),
            )),
            Some(_) => Ok(data),
        }
    }
}

impl<C: TypeConfig> Clone for MemLog<C> {
    /// Another handle to the same log. It has to be loaded before it can write.
    fn clone(&self) -> Self {
        Self { data: self.data.clone(), writer: None }
    }
}

impl<C: TypeConfig> Default for MemLog<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: TypeConfig> fmt::Debug for MemLog<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemLog").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl<C: TypeConfig> RaftLogStorage<C> for MemLog<C> {
    type Reader = MemLogReader<C>;

    fn reader(&self) -> Self::Reader {
        MemLogReader { data: self.data.clone() }
    }

    async fn load(&mut self) -> io::Result<LogState<C>> {
        let mut data = lock(&self.data);
        data.loads += 1;
        self.writer = Some(data.loads);
        Ok(data.state())
    }

    async fn save_hard_state(&mut self, state: HardState<C>) -> io::Result<()> {
        self.for_writing()?.save_hard_state(state)
    }

    async fn append(&mut self, entries: Entries<C>, commit: Index) -> io::Result<()> {
        self.for_writing()?.append(entries, commit)
    }

    async fn truncate(&mut self, from: Index) -> io::Result<()> {
        self.for_writing()?.truncate(from)
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.for_writing()?.purge(upto)
    }
}

/// Reads a [`MemLog`] beside its writer.
pub struct MemLogReader<C: TypeConfig> {
    data: Arc<Mutex<LogData<C>>>,
}

impl<C: TypeConfig> Clone for MemLogReader<C> {
    fn clone(&self) -> Self {
        Self { data: self.data.clone() }
    }
}

impl<C: TypeConfig> fmt::Debug for MemLogReader<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemLogReader").finish_non_exhaustive()
    }
}

impl<C: TypeConfig> RaftLogReader<C> for MemLogReader<C> {
    async fn read(&mut self, range: Range<Index>, bytes_max: u64) -> io::Result<Entries<C>> {
        Ok(lock(&self.data).read(range, bytes_max))
    }
}

/// What is stored.
///
/// Invariant: no batch is empty; the first one begins at `purged.index + 1`, each of the others where the one before
/// it ends.
struct LogData<C: TypeConfig> {
    hard_state: HardState<C>,
    /// The latest commit index that came with entries.
    commit_hint: Index,
    purged: LogId,
    batches: VecDeque<Entries<C>>,
    /// How often the log was loaded.
    loads: u64,
}

impl<C: TypeConfig> Default for LogData<C> {
    fn default() -> Self {
        Self {
            hard_state: HardState::default(),
            commit_hint: 0,
            purged: LogId::ZERO,
            batches: VecDeque::new(),
            loads: 0,
        }
    }
}

impl<C: TypeConfig> LogData<C> {
    fn state(&self) -> LogState<C> {
        let commit = self.hard_state.commit.max(self.commit_hint);
        LogState {
            hard_state: HardState { commit, ..self.hard_state },
            purged: self.purged,
            last: self.last(),
        }
    }

    fn last(&self) -> LogId {
        self.batches.back().and_then(Entries::last).unwrap_or(self.purged)
    }

    /// The place of the batch that contains `index`, or would.
    fn place(&self, index: Index) -> usize {
        self.batches.partition_point(|batch| batch.range().end <= index)
    }

    fn term_at(&self, index: Index) -> Option<Term> {
        let entry = self.batches.get(self.place(index))?.at(index)?;
        Some(entry.log_id.term)
    }

    fn read(&self, range: Range<Index>, bytes_max: u64) -> Entries<C> {
        if self.term_at(range.start).is_none() {
            return Entries::empty();
        }
        let mut parts = Vec::new();
        let mut bytes_left = bytes_max;
        for batch in self.batches.range(self.place(range.start)..) {
            let part = batch.slice(range.clone());
            let fitting = part.limit_bytes(bytes_left);
            let is_first = parts.is_empty();
            if fitting.is_empty() || (!is_first && fitting.size_bytes() > bytes_left) {
                break;
            }
            bytes_left = bytes_left.saturating_sub(fitting.size_bytes());
            let is_whole = fitting.len() == part.len();
            parts.push(fitting);
            if !is_whole {
                break;
            }
        }
        Entries::concat(parts)
    }

    fn save_hard_state(&mut self, state: HardState<C>) -> io::Result<()> {
        let before = self.hard_state;
        if state.term < before.term {
            return Err(invalid(format!(
                "term {} must not fall behind the stored term {}",
                state.term, before.term
            )));
        }
        if let Some(vote) = before.voted_for
            && state.term == before.term
            && state.voted_for != before.voted_for
        {
            let new = state.voted_for.map_or("nobody".into(), |id| id.to_string());
            return Err(invalid(format!(
                "the vote of term {} went to {vote} and must not change to {new}",
                before.term
            )));
        }
        self.hard_state = state;
        Ok(())
    }

    fn append(&mut self, entries: Entries<C>, commit: Index) -> io::Result<()> {
        let last = self.last();
        if let Some(first) = entries.first() {
            if first.index != last.index + 1 {
                return Err(invalid(format!(
                    "entry {first} cannot be appended: the last entry is {last}, the next one must be at {}",
                    last.index + 1
                )));
            }
            if first.term < last.term {
                return Err(invalid(format!(
                    "entry {first} cannot be appended: its term is below that of the last entry, {last}"
                )));
            }
            self.batches.push_back(entries);
        }
        self.commit_hint = self.commit_hint.max(commit);
        Ok(())
    }

    fn truncate(&mut self, from: Index) -> io::Result<()> {
        if from <= self.purged.index {
            return Err(invalid(format!(
                "cannot truncate from {from}: the log is purged up to {}, the least is {}",
                self.purged,
                self.purged.index + 1
            )));
        }
        let commit = self.hard_state.commit.max(self.commit_hint);
        if from <= commit && from <= self.last().index {
            return Err(invalid(format!(
                "cannot truncate from {from}: entries up to {commit} are known to be committed"
            )));
        }
        let place = self.place(from);
        let kept = self.batches.get(place).map(|batch| batch.slice(0..from));
        self.batches.truncate(place);
        self.batches.extend(kept.filter(|batch| !batch.is_empty()));
        Ok(())
    }

    fn purge(&mut self, upto: LogId) -> io::Result<()> {
        if upto.index < self.purged.index {
            return Err(invalid(format!(
                "cannot purge up to {upto}: the log is purged up to {} already",
                self.purged
            )));
        }
        let stored =
            if upto.index == self.purged.index { Some(self.purged.term) } else { self.term_at(upto.index) };
        if let Some(term) = stored
            && term != upto.term
        {
            return Err(invalid(format!(
                "cannot purge up to {upto}: the stored entry is {}",
                LogId::new(term, upto.index)
            )));
        }
        let place = self.place(upto.index);
        let kept = self.batches.get(place).map(|batch| batch.slice(upto.index + 1..Index::MAX));
        self.batches.drain(..self.batches.len().min(place + 1));
        if let Some(kept) = kept.filter(|batch| !batch.is_empty()) {
            self.batches.push_front(kept);
        }
        self.purged = upto;
        Ok(())
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// A panic elsewhere does not make the data worse: every change is complete before the lock is given back.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
