//! The key-value store of [`openconsensus_memstore::kv`], durable.

use std::io;
use std::ops::{Bound, RangeBounds};

use openconsensus::{ApplyBatch, LogId};
use openconsensus_memstore::kv::{Checksum, Kv, KvMap, Response, apply_command};
use redb::{ReadableTable, ReadableTableMetadata, Table, TableDefinition};

use crate::application::{Application, StateTable, Transaction};
use crate::error::{BoxError, io_error};
use crate::reader::{StateReader, StateView};
use crate::state_machine::RedbStateMachine;

const PAIRS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("kv");

/// A key-value store, in one table.
#[derive(Clone, Copy, Debug, Default)]
pub struct KvApplication;

impl Application<Kv> for KvApplication {
    fn tables(&self) -> Vec<StateTable> {
        vec![StateTable::new(PAIRS)]
    }

    fn apply(
        &self,
        transaction: &Transaction<'_>,
        batch: &ApplyBatch<Kv>,
    ) -> Result<Vec<Response>, BoxError> {
        let mut pairs = Pairs(transaction.open_table(PAIRS)?);
        let mut responses = Vec::new();
        for (_, command) in batch.commands() {
            responses.push(apply_command(&mut pairs, command)?);
        }
        Ok(responses)
    }
}

/// The open table, as commands see it.
struct Pairs<'a>(Table<'a, &'static str, &'static [u8]>);

impl KvMap for Pairs<'_> {
    fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(key).map_err(io_error)?.map(|value| value.value().to_vec()))
    }

    fn put(&mut self, key: &str, value: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.insert(key, value).map_err(io_error)?.map(|value| value.value().to_vec()))
    }

    fn delete(&mut self, key: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.remove(key).map_err(io_error)?.map(|value| value.value().to_vec()))
    }
}

/// Reads the key-value state of a node while it goes on applying. Cheap to clone.
///
/// Each call looks at the state of its own moment; calls that must agree are made on one [`view`](Self::view). See
/// [`StateReader`] for what a read promises.
#[derive(Clone, Debug)]
pub struct KvReader {
    state: StateReader<Kv>,
}

impl KvReader {
    /// A reader of `state_machine`.
    pub fn new(state_machine: &RedbStateMachine<Kv, KvApplication>) -> Self {
        Self { state: state_machine.reader() }
    }

    /// The whole state as it is now.
    pub fn view(&self) -> io::Result<KvView> {
        Ok(KvView { state: self.state.view()? })
    }

    /// As [`view`](Self::view), without blocking the thread.
    pub async fn fresh_view(&self) -> io::Result<KvView> {
        Ok(KvView { state: self.state.fresh_view().await? })
    }

    /// See [`KvView::get`].
    pub fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        self.view()?.get(key)
    }

    /// See [`KvView::scan`].
    pub fn scan(&self, range: impl RangeBounds<String>, limit: usize) -> io::Result<Vec<(String, Vec<u8>)>> {
        self.view()?.scan(range, limit)
    }

    /// See [`KvView::scan_prefix`].
    pub fn scan_prefix(&self, prefix: &str, limit: usize) -> io::Result<Vec<(String, Vec<u8>)>> {
        self.view()?.scan_prefix(prefix, limit)
    }

    /// See [`KvView::len`].
    pub fn len(&self) -> io::Result<u64> {
        self.view()?.len()
    }

    /// See [`KvView::is_empty`].
    pub fn is_empty(&self) -> io::Result<bool> {
        self.view()?.is_empty()
    }

    /// See [`KvView::checksum`].
    pub fn checksum(&self) -> io::Result<u32> {
        self.view()?.checksum()
    }

    /// See [`KvView::last_applied`].
    pub fn last_applied(&self) -> io::Result<LogId> {
        self.view()?.last_applied()
    }
}

/// The state of a key-value store at one moment.
#[derive(Debug)]
pub struct KvView {
    state: StateView<Kv>,
}

impl KvView {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        let pairs = self.state.open_table(PAIRS)?;
        let value = pairs.get_owned(key).map_err(io_error)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    /// Keys in `range` with their values, in ascending order, `limit` at most. A range that ends before it begins has
    /// none.
    pub fn scan(&self, range: impl RangeBounds<String>, limit: usize) -> io::Result<Vec<(String, Vec<u8>)>> {
        let range = (str_bound(range.start_bound()), str_bound(range.end_bound()));
        if is_inverted(range) {
            return Ok(Vec::new());
        }
        self.collect(range, limit, |_| true)
    }

    /// Keys that begin with `prefix` with their values, in ascending order, `limit` at most.
    pub fn scan_prefix(&self, prefix: &str, limit: usize) -> io::Result<Vec<(String, Vec<u8>)>> {
        self.collect((Bound::Included(prefix), Bound::Unbounded), limit, |key| key.starts_with(prefix))
    }

    fn collect(
        &self,
        range: (Bound<&str>, Bound<&str>),
        limit: usize,
        is_in: impl Fn(&str) -> bool,
    ) -> io::Result<Vec<(String, Vec<u8>)>> {
        let pairs = self.state.open_table(PAIRS)?;
        let mut found = Vec::new();
        for pair in pairs.range::<&str>(range).map_err(io_error)?.take(limit) {
            let (key, value) = pair.map_err(io_error)?;
            if !is_in(key.value()) {
                break;
            }
            found.push((key.value().to_owned(), value.value().to_vec()));
        }
        Ok(found)
    }

    /// How many keys there are.
    pub fn len(&self) -> io::Result<u64> {
        self.state.open_table(PAIRS)?.len().map_err(io_error)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The [`Checksum`] of all keys and values. Reads them all.
    pub fn checksum(&self) -> io::Result<u32> {
        let pairs = self.state.open_table(PAIRS)?;
        let mut checksum = Checksum::new();
        for pair in pairs.iter().map_err(io_error)? {
            let (key, value) = pair.map_err(io_error)?;
            checksum.add(key.value(), value.value());
        }
        Ok(checksum.finish())
    }

    /// The last entry whose effect is in this state.
    pub fn last_applied(&self) -> io::Result<LogId> {
        self.state.last_applied()
    }
}

/// Whether a range ends before it begins, where redb expects none.
fn is_inverted((start, end): (Bound<&str>, Bound<&str>)) -> bool {
    match (start, end) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(start), Bound::Included(end)) => end < start,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => {
            end <= start
        }
    }
}

fn str_bound(bound: Bound<&String>) -> Bound<&str> {
    bound.map(String::as_str)
}
