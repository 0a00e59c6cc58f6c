//! `FaultyLog`: a log storage that fails on demand.

use std::io;
use std::ops::Range;

use openconsensus::{
    Entries, HardState, Index, LogId, LogState, MaybeSync, RaftLogReader, RaftLogStorage, TypeConfig,
};

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

impl<C: TypeConfig, L: RaftLogStorage<C> + MaybeSync> RaftLogStorage<C> for FaultyLog<L> {
    type Reader = FaultyLogReader<L::Reader>;

    fn reader(&self) -> Self::Reader {
        FaultyLogReader { inner: self.inner.reader() }
    }

    async fn load(&mut self) -> io::Result<LogState<C>> {
        self.inner.load().await
    }

    async fn save_hard_state(&mut self, state: HardState<C>) -> io::Result<()> {
        let vote = state.voted_for.map_or("no vote".into(), |id| format!("vote {id}"));
        let what = format!("term {}, {vote}, commit {}", state.term, state.commit);
        let number = self.faults.before_write(&what).await?;
        self.inner.save_hard_state(state).await?;
        self.faults.after_write(number, &what).await
    }

    async fn append(&mut self, entries: Entries<C>, commit: Index) -> io::Result<()> {
        let range = entries.range();
        let what = format!("append {}..{}", range.start, range.end);
        let number = self.faults.before_write(&what).await?;
        match self.faults.tear(entries.len()) {
            None => self.inner.append(entries, commit).await?,
            Some(place) => {
                let middle = range.start + place as Index;
                self.inner.append(entries.slice(range.start..middle), commit.min(middle - 1)).await?;
                self.faults.take_time().await;
                self.inner.append(entries.slice(middle..range.end), commit).await?;
            }
        }
        self.faults.after_write(number, &what).await
    }

    async fn truncate(&mut self, from: Index) -> io::Result<()> {
        let what = format!("truncate {from}");
        let number = self.faults.before_write(&what).await?;
        self.inner.truncate(from).await?;
        self.faults.after_write(number, &what).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let what = format!("purge {upto}");
        let number = self.faults.before_write(&what).await?;
        self.inner.purge(upto).await?;
        self.faults.after_write(number, &what).await
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
