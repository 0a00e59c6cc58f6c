//! `Subject`: a log storage under test beside its model.

use std::ops::Range;

use openconsensus::{
    Entries, HardState, Index, LogId, LogState, RaftLogReader, RaftLogStorage, Term, TypeConfig,
};

use super::LogStorageFactory;
use super::model::{Model, Write};
use crate::conformance::samples::mixed;
use crate::conformance::verdict::{Flaw, holds, same_entries, works};

/// A log storage on a disk of its own, and what it must hold.
pub(super) struct Subject<'a, C: TypeConfig, F: LogStorageFactory<C>> {
    pub(super) factory: &'a F,
    /// `None` only while it is being opened again. Stands before its disk, so that it is dropped before it.
    log: Option<F::Log>,
    pub(super) disk: F::Disk,
    pub(super) model: Model<C>,
}

impl<'a, C, F> Subject<'a, C, F>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    /// A new log, which has been loaded.
    pub(super) async fn new(factory: &'a F) -> Result<Self, Flaw> {
        let disk = factory.disk();
        let mut log = works("opening a new log", factory.open(&disk).await)?;
        let state = works("loading a new log", log.load().await)?;
        let model = Model::default();
        model.check_state("loading a new log", &state)?;
        Ok(Self { factory, disk, log: Some(log), model })
    }

    /// A log with the entries `1..end`, of every kind, in term 1 and 2.
    pub(super) async fn with_entries(factory: &'a F, end: Index) -> Result<Self, Flaw> {
        let mut subject = Self::new(factory).await?;
        let middle = end / 2 + 1;
        for (term, range) in [(1, 1..middle), (2, middle..end)] {
            if !range.is_empty() {
                subject.append(mixed(factory, term, range), 0).await?;
            }
        }
        Ok(subject)
    }

    pub(super) fn log(&mut self) -> &mut F::Log {
        self.log.as_mut().expect("a subject is open between calls")
    }

    pub(super) fn reader(&self) -> <F::Log as RaftLogStorage<C>>::Reader {
        self.log.as_ref().expect("a subject is open between calls").reader()
    }

    pub(super) async fn save(&mut self, term: Term, vote: Option<u64>, commit: Index) -> Result<(), Flaw> {
        let voted_for = vote.map(|number| self.factory.node_id(number));
        self.write(Write::HardState(HardState { term, voted_for, commit })).await
    }

    pub(super) async fn append(&mut self, entries: Entries<C>, commit: Index) -> Result<(), Flaw> {
        self.write(Write::Append(entries, commit)).await
    }

    /// Appends entries of `term` behind the last one, of every kind.
    pub(super) async fn append_next(&mut self, term: Term, count: u64) -> Result<(), Flaw> {
        let first = self.model.last().index + 1;
        self.append(mixed(self.factory, term, first..first + count), 0).await
    }

    pub(super) async fn truncate(&mut self, from: Index) -> Result<(), Flaw> {
        self.write(Write::Truncate(from)).await
    }

    pub(super) async fn purge(&mut self, upto: LogId) -> Result<(), Flaw> {
        self.write(Write::Purge(upto)).await
    }

    /// Purges up to an entry that is stored.
    pub(super) async fn purge_to(&mut self, index: Index) -> Result<(), Flaw> {
        let upto = self.model.log_id(index).expect("the model knows the entry");
        self.purge(upto).await
    }

    /// Carries out a write on both, which must succeed.
    pub(super) async fn write(&mut self, write: Write<C>) -> Result<(), Flaw> {
        let result = self.try_write(&write).await;
        works(&write, result)?;
        self.model.carry_out(&write);
        Ok(())
    }

    /// Carries out a write on the log alone.
    pub(super) async fn try_write(&mut self, write: &Write<C>) -> std::io::Result<()> {
        let log = self.log();
        match write.clone() {
            Write::HardState(state) => log.save_hard_state(state).await,
            Write::Append(entries, commit) => log.append(entries, commit).await,
            Write::Truncate(from) => log.truncate(from).await,
            Write::Purge(upto) => log.purge(upto).await,
        }
    }

    /// Fails unless a reader finds what the model holds, and nothing around it.
    pub(super) async fn check(&mut self, what: &str) -> Result<(), Flaw> {
        let mut reader = self.reader();
        check_entries(&mut reader, &self.model, what).await
    }

    /// Closes the log, opens it again, and fails unless what is found is what the model holds.
    pub(super) async fn reopen(&mut self, what: &str) -> Result<(), Flaw> {
        self.close();
        let what = format!("{what}, opened again");
        let (log, state) = open(self.factory, &self.disk, &what).await?;
        self.log = Some(log);
        self.model.check_state(&what, &state)?;
        // A hint may be dropped; what has been dropped does not come back.
        self.model.hint = state.hard_state.commit;
        self.check(&what).await
    }

    /// [`check`](Self::check) and [`reopen`](Self::reopen).
    pub(super) async fn check_twice(&mut self, what: &str) -> Result<(), Flaw> {
        self.check(what).await?;
        self.reopen(what).await
    }

    pub(super) fn close(&mut self) {
        drop(self.log.take());
    }

    /// Reads from the log.
    pub(super) async fn read(&mut self, range: Range<Index>, bytes_max: u64) -> Result<Entries<C>, Flaw> {
        let what = format!("reading {range:?} with at most {bytes_max} bytes");
        works(what, self.reader().read(range, bytes_max).await)
    }
}

/// Opens and loads the log on `disk`.
pub(super) async fn open<C: TypeConfig, F: LogStorageFactory<C>>(
    factory: &F,
    disk: &F::Disk,
    what: &str,
) -> Result<(F::Log, LogState<C>), Flaw> {
    let mut log = works(format!("{what}, opening"), factory.open(disk).await)?;
    let state = works(format!("{what}, loading"), log.load().await)?;
    Ok((log, state))
}

/// Fails unless the log on `disk` holds what one of `allowed` says.
pub(super) async fn check_found<C, F>(
    factory: &F,
    disk: &F::Disk,
    allowed: &[Model<C>],
    what: &str,
) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    let (log, state) = open(factory, disk, what).await?;
    let mut flaw = Ok(());
    for model in allowed {
        let mut reader = log.reader();
        let found = match model.check_state(what, &state) {
            Ok(()) => check_entries(&mut reader, model, what).await,
            Err(flaw) => Err(flaw),
        };
        if found.is_ok() {
            return Ok(());
        }
        // That of the first is the most telling: what it would be if all had been done.
        flaw = flaw.and(found);
    }
    flaw
}

async fn check_entries<C: TypeConfig<Command: PartialEq>>(
    reader: &mut impl RaftLogReader<C>,
    model: &Model<C>,
    what: &str,
) -> Result<(), Flaw> {
    let (first, last) = (model.purged.index + 1, model.last().index);
    let all = works(format!("{what}, reading all"), reader.read(first..last + 10, u64::MAX).await)?;
    same_entries(format!("{what}, reading all"), &all, &model.entries)?;
    for start in [model.purged.index, last + 1] {
        let none = works(format!("{what}, reading"), reader.read(start..last + 10, u64::MAX).await)?;
        let seen = format!("{what}, reading from {start} on, which is not stored: {:?}", none.range());
        holds(none.is_empty(), seen, "no entries")?;
    }
    Ok(())
}
