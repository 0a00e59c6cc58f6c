//! `FaultyLog`: a log storage that fails on demand.

use std::io;
use std::ops::Range;

use openconsensus::{Entries, HardState, Index, LogId, LogState, RaftLogReader, RaftLogStorage, TypeConfig};

use crate::store_faults::StoreFaults;

/// Another log storage whose writes fail, stall or crawl as its [`StoreFaults`] say. Loading and reading always work.
#[derive(Clone, Debug)]
pub struct FaultyLog<L> {
    inner: L,
    faults: StoreFaults,
}

impl<L> FaultyLog<L> {
    /// `inner`, with `faults` before every write.
    pub fn new(inner: L, faults: StoreFaults) -> Self {
        Self { inner, faults }
    }
}

impl<C: TypeConfig, L: RaftLogStorage<C> + Sync> RaftLogStorage<C> for FaultyLog<L> {
    type Reader = FaultyLogReader<L::Reader>;

    fn reader(&self) -> Self::Reader {
        FaultyLogReader { inner: self.inner.reader() }
    }

    async fn load(&mut self) -> io::Result<LogState<C>> {
        self.inner.load().await
    }

    async fn save_hard_state(&mut self, state: HardState<C>) -> io::Result<()> {
        self.faults.before_write().await?;
        self.inner.save_hard_state(state).await
    }

    async fn append(&mut self, entries: Entries<C>, commit: Index) -> io::Result<()> {
        self.faults.before_write().await?;
        self.inner.append(entries, commit).await
    }

    async fn truncate(&mut self, from: Index) -> io::Result<()> {
        self.faults.before_write().await?;
        self.inner.truncate(from).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.faults.before_write().await?;
        self.inner.purge(upto).await
    }
}

/// The reader of a [`FaultyLog`].
#[derive(Clone, Debug)]
pub struct FaultyLogReader<R> {
    inner: R,
}

impl<C: TypeConfig, R: RaftLogReader<C>> RaftLogReader<C> for FaultyLogReader<R> {
    async fn read(&mut self, range: Range<Index>, bytes_max: u64) -> io::Result<Entries<C>> {
        self.inner.read(range, bytes_max).await
    }
}
