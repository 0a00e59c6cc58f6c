//! What is saved is found again: hard state, hint, entries of every kind and size.

use openconsensus::{Entries, RaftLogReader, TypeConfig};

use super::LogStorageFactory;
use super::subject::Subject;
use crate::conformance::samples::{commands, commands_of, mixed};
use crate::conformance::verdict::{Flaw, same, same_entries, works};

pub(super) async fn a_new_log_is_empty<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    let mut subject = Subject::new(factory).await?;
    subject.check("a new log").await?;
    subject.reopen("a new log").await?;
    subject.reopen("a new log that was opened before").await
}

pub(super) async fn the_hard_state_is_replaced_as_a_whole<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    // A vote that is not given yet, one that is, one that a new term takes back, another in the next.
    let states =
        [(1, None, 0), (1, Some(2), 0), (4, None, 2), (5, Some(1), 2), (5, Some(1), 7), (9, Some(3), 7)];
    let mut subject = Subject::new(factory).await?;
    for (term, vote, commit) in states {
        subject.save(term, vote, commit).await?;
        subject.reopen("a hard state").await?;
    }
    // Several between two openings: the last one counts. Entries leave it alone.
    subject.save(10, None, 7).await?;
    subject.save(11, Some(2), 8).await?;
    subject.append(mixed(factory, 11, 1..20), 0).await?;
    subject.truncate(12).await?;
    subject.purge_to(3).await?;
    subject.reopen("a hard state, then entries").await
}

pub(super) async fn the_commit_hint_is_kept_or_dropped_and_never_ahead<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    let mut subject = Subject::new(factory).await?;
    subject.save(1, Some(1), 0).await?;
    subject.append(mixed(factory, 1, 1..6), 3).await?;
    subject.reopen("a hint").await?;
    // The hard state that is saved later says less: it replaces the term, and the hint may still count.
    subject.save(2, None, 2).await?;
    subject.reopen("a hint before a hard state").await?;
    subject.append(mixed(factory, 2, 6..8), 5).await?;
    subject.append(mixed(factory, 2, 8..9), 7).await?;
    subject.reopen("later hints").await?;
    subject.save(3, None, 8).await?;
    subject.reopen("a later hard state").await
}

pub(super) async fn entries_of_every_kind_are_kept<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    let mut subject = Subject::new(factory).await?;
    // One by one, many at once, in terms that follow each other and that do not.
    for (term, count) in [(1, 1), (1, 1), (1, 12), (2, 1), (7, 25), (7, 1), (1 << 40, 3)] {
        subject.append_next(term, count).await?;
        subject.check("an append").await?;
    }
    // A view that was put together from several.
    let next = subject.model.last().index + 1;
    let parts = [(0, 5), (5, 6), (6, 15)];
    let parts = parts.map(|(from, to)| mixed(factory, 1 << 41, next + from..next + to));
    subject.append(Entries::concat(parts), 0).await?;
    subject.check_twice("an append of several batches in one").await?;
    subject.append_next(1 << 41, 4).await?;
    subject.check_twice("an append behind it").await
}

pub(super) async fn large_entries_and_large_batches_are_kept<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    let mut subject = Subject::new(factory).await?;
    // As large as a command may be by default, between small ones.
    subject.append(commands(factory, 1, 1..3), 0).await?;
    subject.append(commands_of(factory, 1, 3..4, 4 << 20), 0).await?;
    subject.append(commands(factory, 1, 4..6), 0).await?;
    subject.reopen("an entry of 4 MiB").await?;
    let one = subject.read(3..6, 1).await?;
    same("the entries that are read with a limit far below the first one", one.range(), 3..4)?;
    subject.append(commands(factory, 2, 6..3000), 0).await?;
    subject.check("an append of thousands of entries").await?;
    subject.truncate(3).await?;
    subject.append(commands_of(factory, 3, 3..60, 20_000), 0).await?;
    subject.check_twice("entries in the place of large ones").await
}

pub(super) async fn a_reader_sees_what_was_written<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    let mut subject = Subject::new(factory).await?;
    // Made while the log is empty, and its clone.
    let first = subject.reader();
    let mut readers = [first.clone(), first];
    for step in 0..12_u64 {
        match step % 4 {
            3 => subject.truncate(subject.model.last().index - 1).await?,
            2 => subject.purge_to(subject.model.purged.index + 1).await?,
            _ => subject.append_next(step + 1, 4).await?,
        }
        let start = subject.model.purged.index + 1;
        for reader in &mut readers {
            let seen = works("reading after a write", reader.read(start..1000, u64::MAX).await)?;
            same_entries(format!("a reader after write {step}"), &seen, &subject.model.entries)?;
        }
    }
    Ok(())
}
