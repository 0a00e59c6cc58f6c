//! What clients want and the engine has not been asked for yet.

use std::time::Instant;

use crate::error::WriteError;
use crate::type_config::TypeConfig;

use super::item::Reader;
use super::writes::Writes;

/// What clients want, put together so that the engine is asked once in a turn.
pub(super) struct Gathered<C: TypeConfig> {
    /// Kept back while the engine holds writes.
    writes: Writes<C>,
    /// When the first of the writers has asked.
    written_at: Option<Instant>,
    readers: Vec<Reader<C>>,
    lease_readers: Vec<Reader<C>>,
}

impl<C: TypeConfig> Gathered<C> {
    pub(super) fn new() -> Self {
        Self { writes: Writes::default(), written_at: None, readers: Vec::new(), lease_readers: Vec::new() }
    }

    /// Takes over `writes`. `since` is when the first writer has asked, or one who came before it.
    pub(super) fn write(&mut self, since: Instant, writes: &mut Writes<C>) {
        self.writes.join(writes);
        self.written_at.get_or_insert(since);
    }

    pub(super) fn read(&mut self, reader: Reader<C>) {
        self.readers.push(reader);
    }

    pub(super) fn read_by_lease(&mut self, reader: Reader<C>) {
        self.lease_readers.push(reader);
    }

    pub(super) fn has_commands(&self) -> bool {
        !self.writes.is_empty()
    }

    /// The first commands, `count_max` at most, with those who wait for them, and when the first of those has asked.
    pub(super) fn take_writes(&mut self, count_max: usize) -> (Writes<C>, Option<Instant>) {
        let writes = self.writes.take(count_max);
        let since = if self.writes.is_empty() { self.written_at.take() } else { self.written_at };
        (writes, since)
    }

    /// All readers, those who take a lease for proof apart.
    pub(super) fn take_readers(&mut self) -> (Vec<Reader<C>>, Vec<Reader<C>>) {
        (std::mem::take(&mut self.readers), std::mem::take(&mut self.lease_readers))
    }

    /// Commands are kept back: those who do not wait for that are told why, and their commands are gone.
    pub(super) fn refuse_impatient(&mut self, why: &WriteError<C>) {
        self.writes.refuse_impatient(why);
        if self.writes.is_empty() {
            self.written_at = None;
        }
    }
}
