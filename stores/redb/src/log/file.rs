//! The transactions of the log, one for each write, on the thread that owns the file.

use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use openconsensus::{Entries, HardState, Index, LogId, LogState};
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction,
};
use serde::{Deserialize, Serialize};

use crate::codec::{StoredConfig, decode_entry, encode_entry, entry_term};
use crate::database::{self, Kind, Opening, Place};
use crate::error::{About, AboutRedb, OpenError, invalid_data, io_error};
use openconsensus_store_common::Identity;
use openconsensus_store_common::worker::Work;

pub(super) const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("openconsensus.entries");
const HARD_STATE: &str = "hard_state";
const CURSORS: &str = "cursors";

/// How many purged entries are removed in one transaction, so that none grows large.
const SWEEP_ENTRIES_MAX: u64 = 4096;

/// Where the log begins and ends. Written in every transaction that changes one of them, so that entries that are
/// missing at either end are noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursors {
    /// The latest hint.
    commit: Index,
    /// Entries up to here are purged, also those that are still to be removed.
    pub(super) purged: LogId,
    /// The last entry, or `purged`.
    pub(super) last: LogId,
}

impl Cursors {
    pub(super) fn read(transaction: &ReadTransaction) -> io::Result<Self> {
        database::required(transaction, CURSORS)
    }
}

/// The log file. Owned by one thread.
///
/// Invariant: `cursors` and `hard_state` are those of the last transaction.
pub(super) struct LogFile<C: StoredConfig> {
    database: Arc<Database>,
    cursors: Cursors,
    hard_state: HardState<C>,
    /// The first purged entry that may still be stored.
    unswept: Option<Index>,
    /// Where entries are encoded, kept for its memory.
    buffer: Vec<u8>,
}

impl<C: StoredConfig> LogFile<C> {
    pub(super) fn open(place: Place, identity: &Identity, cache_bytes: usize) -> Result<Self, OpenError> {
        let kind = Kind { name: "openconsensus log", version: 1 };
        let path = place.path().to_path_buf();
        let about = About(&path);
        let database =
            Opening { kind, identity, cache_bytes, is_checked: true }.open(place, |transaction| {
                database::put(transaction, HARD_STATE, &HardState::<C>::default())?;
                database::put(transaction, CURSORS, &Cursors::default())?;
                transaction.open_table(ENTRIES).map_err(io_error)?;
                Ok(())
            })?;
        let transaction = database.begin_read().map_err(|error| about.redb(error))?;
        let hard_state = database::required(&transaction, HARD_STATE).map_err(|error| about.io(error))?;
        let cursors = Cursors::read(&transaction).map_err(|error| about.io(error))?;
        let unswept = check::<C>(&transaction, cursors, &path)?;
        drop(transaction);
        Ok(Self { database: Arc::new(database), cursors, hard_state, unswept, buffer: Vec::new() })
    }

    pub(super) fn database(&self) -> Arc<Database> {
        self.database.clone()
    }

    pub(super) fn state(&self) -> LogState<C> {
        let Cursors { commit, purged, last } = self.cursors;
        let hard_state = HardState { commit: commit.max(self.hard_state.commit), ..self.hard_state };
        LogState { hard_state, purged, last }
    }

    pub(super) fn save_hard_state(&mut self, state: HardState<C>) -> io::Result<()> {
        let transaction = self.database.begin_write().map_err(io_error)?;
        database::put(&transaction, HARD_STATE, &state)?;
        transaction.commit().map_err(io_error)?;
        self.hard_state = state;
        Ok(())
    }

    pub(super) fn append(&mut self, entries: &Entries<C>, commit: Index) -> io::Result<()> {
        // A hint alone is not worth a sync: it may be dropped.
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
        let before = self.cursors.last;
        if first.index != before.index + 1 || first.term < before.term {
            return Err(misuse(format!("entry {first} cannot be appended behind entry {before}")));
        }
        let cursors = Cursors { commit: commit.max(self.cursors.commit), last, ..self.cursors };
        let transaction = self.database.begin_write().map_err(io_error)?;
        let unswept = {
            let mut table = transaction.open_table(ENTRIES).map_err(io_error)?;
            for entry in entries.iter() {
                encode_entry(&mut self.buffer, entry)?;
                table.insert(entry.log_id.index, &*self.buffer).map_err(io_error)?;
            }
            // The sync is paid for anyway, so it takes some purged entries with it.
            sweep(&mut table, self.unswept, cursors.purged)?
        };
        self.commit(transaction, cursors, unswept)
    }

    pub(super) fn truncate(&mut self, from: Index) -> io::Result<()> {
        let Cursors { purged, last, .. } = self.cursors;
        if from <= purged.index {
            return Err(misuse(format!(
                "the log cannot be truncated from {from}: it is purged up to {purged}"
            )));
        }
        if last.index < from {
            return Ok(());
        }
        let transaction = self.database.begin_write().map_err(io_error)?;
        let last = {
            let mut table = transaction.open_table(ENTRIES).map_err(io_error)?;
            remove(&mut table, from..=last.index)?;
            match from - 1 {
                index if index == purged.index => purged,
                index => LogId::new(stored_term(&table, index)?, index),
            }
        };
        self.commit(transaction, Cursors { last, ..self.cursors }, self.unswept)
    }

    /// Records the new start of the log, and removes what is not large. Readers, and `open` after a crash, ignore
    /// what is left below the start; later writes and idle time remove it.
    pub(super) fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let Cursors { purged, last, .. } = self.cursors;
        if upto.index <= purged.index {
            return Ok(());
        }
        let last = if upto.index < last.index { last } else { upto };
        let unswept = self.unswept.unwrap_or(purged.index + 1);
        let transaction = self.database.begin_write().map_err(io_error)?;
        let unswept = {
            let mut table = transaction.open_table(ENTRIES).map_err(io_error)?;
            sweep(&mut table, Some(unswept), upto)?
        };
        self.commit(transaction, Cursors { purged: upto, last, ..self.cursors }, unswept)
    }

    fn commit(
        &mut self,
        transaction: WriteTransaction,
        cursors: Cursors,
        unswept: Option<Index>,
    ) -> io::Result<()> {
        if cursors != self.cursors {
            database::put(&transaction, CURSORS, &cursors)?;
        }
        transaction.commit().map_err(io_error)?;
        self.cursors = cursors;
        self.unswept = unswept;
        Ok(())
    }
}

impl<C: StoredConfig> Work for LogFile<C> {
    fn idle_after(&self) -> Option<Duration> {
        self.unswept.map(|_| Duration::ZERO)
    }

    fn idle(&mut self) -> io::Result<()> {
        let transaction = self.database.begin_write().map_err(io_error)?;
        let unswept = {
            let mut table = transaction.open_table(ENTRIES).map_err(io_error)?;
            sweep(&mut table, self.unswept, self.cursors.purged)?
        };
        self.commit(transaction, self.cursors, unswept)
    }
}

/// A call that the contract of the trait forbids.
fn misuse(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

fn stored_term(table: &Table<'_, u64, &[u8]>, index: Index) -> io::Result<u64> {
    let record = table.get(index).map_err(io_error)?;
    let record = record.ok_or_else(|| invalid_data(format!("entry {index} is missing")))?;
    entry_term(index, record.value())
}

fn remove(table: &mut Table<'_, u64, &[u8]>, range: RangeInclusive<Index>) -> io::Result<()> {
    table.retain_in(range, |_, _| false).map_err(io_error)
}

/// Removes some of the purged entries from `unswept` on, and returns where to go on.
fn sweep(
    table: &mut Table<'_, u64, &[u8]>,
    unswept: Option<Index>,
    purged: LogId,
) -> io::Result<Option<Index>> {
    let Some(from) = unswept else { return Ok(None) };
    let upto = purged.index.min(from.saturating_add(SWEEP_ENTRIES_MAX - 1));
    remove(table, from..=upto)?;
    Ok((upto < purged.index).then_some(upto + 1))
}

/// Checks that the entries are those between the cursors, each whole, with terms that do not fall. Returns the first
/// purged entry that is still stored.
fn check<C: StoredConfig>(
    transaction: &ReadTransaction,
    cursors: Cursors,
    path: &Path,
) -> Result<Option<Index>, OpenError> {
    let about = About(path);
    let Cursors { purged, last, .. } = cursors;
    let table = transaction.open_table(ENTRIES).map_err(|error| about.redb(error))?;
    let unswept = table.first().map_err(|error| about.redb(error))?.map(|(index, _)| index.value());
    let unswept = unswept.filter(|index| *index <= purged.index);
    let mut previous = purged;
    for stored in table.range(purged.index + 1..).map_err(|error| about.redb(error))? {
        let (index, record) = stored.map_err(|error| about.redb(error))?;
        let index = index.value();
        if index != previous.index + 1 {
            return Err(about.damaged(format!(
                "entries {} to {} are missing between {previous} and {index}",
                previous.index + 1,
                index - 1
            )));
        }
        // It is decoded now, so that a damaged entry is found before the node promises anything.
        let entry = decode_entry::<C>(index, record.value()).map_err(|error| about.io(error))?;
        if entry.log_id.term < previous.term {
            return Err(
                about.damaged(format!("entry {} follows entry {previous}: the term falls", entry.log_id))
            );
        }
        previous = entry.log_id;
    }
    if previous != last {
        return Err(about.damaged(format!("the log ends at {previous}, but its last entry was {last}")));
    }
    Ok(unswept)
}

#[cfg(test)]
mod tests;
