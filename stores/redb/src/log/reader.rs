//! Reads entries beside the writer, on a thread of their own.

use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use openconsensus::{Entries, Index, MaybeSend, RaftLogReader};
use redb::{Database, ReadableDatabase};

use crate::codec::{StoredConfig, decode_entry};
use crate::error::{invalid_data, io_error};
use openconsensus_store_common::worker::{Handle, Work};

use super::file::{Cursors, ENTRIES};

/// Reads entries of one [`RedbLog`](crate::RedbLog) beside its writer. Cheap to clone; all clones share one thread.
pub struct RedbLogReader<C: StoredConfig> {
    handle: Handle<LogReading>,
    // A function of the type, so that the reader is `Send` and `Sync` whatever `C` is.
    config: PhantomData<fn() -> C>,
}

impl<C: StoredConfig> RedbLogReader<C> {
    pub(super) fn new(handle: Handle<LogReading>) -> Self {
        Self { handle, config: PhantomData }
    }
}

impl<C: StoredConfig> RaftLogReader<C> for RedbLogReader<C> {
    fn read(
        &mut self,
        range: Range<Index>,
        bytes_max: u64,
    ) -> impl Future<Output = io::Result<Entries<C>>> + MaybeSend {
        self.handle.read(move |reading| reading.read(range, bytes_max))
    }
}

impl<C: StoredConfig> Clone for RedbLogReader<C> {
    fn clone(&self) -> Self {
        Self::new(self.handle.clone())
    }
}

impl<C: StoredConfig> std::fmt::Debug for RedbLogReader<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedbLogReader").finish_non_exhaustive()
    }
}

/// What the reading thread owns.
pub(super) struct LogReading {
    database: Arc<Database>,
}

impl LogReading {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }

    fn read<C: StoredConfig>(&self, range: Range<Index>, bytes_max: u64) -> io::Result<Entries<C>> {
        // One transaction sees one moment: a purge or truncation beside it changes nothing here.
        let transaction = self.database.begin_read().map_err(io_error)?;
        let Cursors { purged, last, .. } = Cursors::read(&transaction)?;
        if range.is_empty() || range.start <= purged.index || last.index < range.start {
            return Ok(Entries::empty());
        }
        let end = range.end.min(last.index + 1);
        let table = transaction.open_table(ENTRIES).map_err(io_error)?;
        let mut entries = Vec::new();
        let mut bytes = 0_u64;
        for (expected, stored) in (range.start..end).zip(table.range(range.start..end).map_err(io_error)?) {
            let (index, record) = stored.map_err(io_error)?;
            if index.value() != expected {
                return Err(invalid_data(format!("entry {expected} is missing")));
            }
            let entry = decode_entry::<C>(expected, record.value())?;
            bytes = bytes.saturating_add(entry.size_bytes());
            if bytes > bytes_max && !entries.is_empty() {
                return Ok(entries.into());
            }
            entries.push(entry);
        }
        if (entries.len() as u64) < end.saturating_sub(range.start) {
            return Err(invalid_data(format!("entries are missing before {end}")));
        }
        Ok(entries.into())
    }
}

impl Work for LogReading {}
