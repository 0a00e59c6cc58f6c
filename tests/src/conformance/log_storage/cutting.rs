//! Truncation and purge, in the middle and at the edges.

use openconsensus::{LogId, TypeConfig};

use super::LogStorageFactory;
use super::subject::Subject;
use crate::conformance::samples::{commands, mixed};
use crate::conformance::verdict::Flaw;

pub(super) async fn truncation_removes_the_end_wherever_it_begins<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    for from in 1..=12 {
        let mut subject = Subject::with_entries(factory, 13).await?;
        let what = format!("12 entries truncated from {from}");
        subject.truncate(from).await?;
        subject.check_twice(&what).await?;
        subject.append_next(3, 3).await?;
        subject.check_twice(&format!("{what}, then others appended")).await?;
    }
    Ok(())
}

pub(super) async fn truncated_entries_do_not_come_back<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    // Fewer entries, as many and more than were there, in another term.
    for count in [1, 7, 20] {
        let mut subject = Subject::with_entries(factory, 13).await?;
        subject.truncate(6).await?;
        subject.append_next(4, count).await?;
        let what = format!("entries 6 to 12 truncated, then {count} others appended");
        subject.check_twice(&what).await?;
        // Cut again inside of them, and once more without opening it in between.
        subject.truncate(6).await?;
        subject.append_next(5, 1).await?;
        subject.truncate(4).await?;
        subject.append_next(6, 1).await?;
        subject.check_twice(&format!("{what}, then cut twice more")).await?;
    }
    Ok(())
}

pub(super) async fn truncation_to_the_purged_entry_empties_the_log<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    for purged in [0, 5, 12] {
        let mut subject = Subject::with_entries(factory, 13).await?;
        subject.purge_to(purged).await?;
        subject.truncate(purged + 1).await?;
        let what = format!("12 entries purged up to {purged}, the rest truncated");
        subject.check_twice(&what).await?;
        subject.append_next(3, 2).await?;
        subject.check_twice(&format!("{what}, then others appended")).await?;
    }
    Ok(())
}

pub(super) async fn truncation_behind_the_end_changes_nothing<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    let mut subject = Subject::new(factory).await?;
    subject.truncate(1).await?;
    subject.check_twice("an empty log, truncated").await?;
    let mut subject = Subject::with_entries(factory, 13).await?;
    for from in [13, 14, 100] {
        subject.truncate(from).await?;
        subject.check(&format!("12 entries truncated from {from}")).await?;
    }
    subject.append_next(2, 2).await?;
    subject.check_twice("12 entries truncated behind their end").await
}

pub(super) async fn a_purge_removes_the_start_and_is_remembered<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    for upto in 1..12 {
        let mut subject = Subject::with_entries(factory, 13).await?;
        subject.purge_to(upto).await?;
        let what = format!("12 entries purged up to {upto}");
        subject.check_twice(&what).await?;
        subject.append_next(2, 2).await?;
        subject.purge_to(upto + 2).await?;
        subject.check_twice(&format!("{what}, then further")).await?;
    }
    Ok(())
}

pub(super) async fn a_purge_of_nothing_changes_nothing<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    let mut subject = Subject::new(factory).await?;
    subject.purge(LogId::ZERO).await?;
    subject.check_twice("a new log, purged up to nothing").await?;
    let mut subject = Subject::with_entries(factory, 13).await?;
    for upto in [4, 12] {
        subject.purge_to(upto).await?;
        subject.purge_to(upto).await?;
        subject.check_twice(&format!("12 entries purged up to {upto} twice")).await?;
    }
    subject.append_next(2, 2).await?;
    subject.check_twice("an append behind them").await
}

pub(super) async fn a_purge_to_the_last_entry_empties_the_log<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    let mut subject = Subject::with_entries(factory, 13).await?;
    subject.purge_to(12).await?;
    subject.check_twice("12 entries purged up to the last").await?;
    subject.append_next(2, 1).await?;
    subject.check_twice("one entry appended behind them").await?;
    subject.purge_to(13).await?;
    subject.check_twice("and purged").await
}

pub(super) async fn a_purge_behind_the_end_begins_the_log_anew<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    // On a new log, behind entries, and behind a log that was purged to its end.
    for (entries, purged) in [(0, 0), (12, 0), (12, 5), (12, 12)] {
        for upto in [13, 14, 1000] {
            let mut subject = Subject::with_entries(factory, entries + 1).await?;
            subject.purge_to(purged).await?;
            subject.purge(LogId::new(5, upto)).await?;
            let what = format!("{entries} entries, purged up to {purged}, then up to {upto}");
            subject.check_twice(&what).await?;
            subject.append(mixed(factory, 5, upto + 1..upto + 4), 0).await?;
            subject.check_twice(&format!("{what}, then others appended")).await?;
            subject.truncate(upto + 2).await?;
            subject.check_twice(&format!("{what}, then cut")).await?;
        }
    }
    Ok(())
}

pub(super) async fn a_large_purge_is_complete_at_once<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    let mut subject = Subject::new(factory).await?;
    subject.append(commands(factory, 1, 1..12_001), 0).await?;
    subject.purge_to(11_990).await?;
    // Whatever the storage does later to get the space back: it is not to be seen.
    for start in [1, 2, 6_000, 11_989, 11_990] {
        let seen = subject.read(start..12_001, u64::MAX).await?;
        crate::conformance::verdict::holds(
            seen.is_empty(),
            format!("reading from {start} on after a purge up to 11990: {:?}", seen.range()),
            "no entries",
        )?;
    }
    subject.append_next(2, 3).await?;
    subject.check_twice("11990 of 12000 entries purged").await?;
    subject.truncate(11_995).await?;
    subject.append_next(3, 2).await?;
    subject.check_twice("and cut behind it").await
}
