//! Ranges and limits of reads.

use openconsensus::{MembershipAt, Payload, RaftLogReader, TypeConfig};

use super::LogStorageFactory;
use super::subject::Subject;
use crate::conformance::samples::commands_of;
use crate::conformance::verdict::{Flaw, holds, same_entries, works};

pub(super) async fn every_range_is_read_exactly<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    // Batches that begin and end at various places; the first ones are purged, in the middle of one.
    let mut subject = Subject::new(factory).await?;
    for (term, count) in [(1, 4), (1, 1), (2, 5), (3, 1), (3, 3)] {
        subject.append_next(term, count).await?;
    }
    subject.purge_to(3).await?;
    let mut reader = subject.reader();
    let end = subject.model.last().index + 3;
    for start in 0..=end {
        for stop in (0..=end).chain([u64::MAX]) {
            let range = start..stop;
            let what = format!("reading {range:?} of {:?}", subject.model.entries.range());
            let seen = works(&what, reader.read(range.clone(), u64::MAX).await)?;
            let right =
                if range.is_empty() { Default::default() } else { subject.model.read(range, u64::MAX) };
            same_entries(&what, &seen, &right)?;
        }
    }
    Ok(())
}

pub(super) async fn a_limit_in_bytes_is_kept_but_for_the_first_entry<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    let mut subject = Subject::new(factory).await?;
    for (index, bytes) in (1..).zip([0, 10, 3000, 0, 0, 200, 20_000, 5, 70, 9_000, 0]) {
        subject.append(commands_of(factory, 1, index..index + 1, bytes), 0).await?;
    }
    subject.append(commands_of(factory, 2, 12..40, 100), 0).await?;
    for start in 1..=14 {
        // The limits at which one entry more fits, and those right below and above.
        let mut sums = vec![0, 1, u64::MAX];
        let mut sum = 0;
        for entry in subject.model.entries.slice(start..start + 8).iter() {
            sum += entry.size_bytes();
            sums.extend([sum - 1, sum, sum + 1]);
        }
        for limit in sums {
            let seen = subject.read(start..40, limit).await?;
            let right = subject.model.read(start..40, limit);
            same_entries(format!("reading {start}..40 with at most {limit} bytes"), &seen, &right)?;
        }
    }
    Ok(())
}

pub(super) async fn memberships_that_are_known_are_those_of_the_entries<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    let mut subject = Subject::new(factory).await?;
    // Entries of every kind, cut at both ends and appended again; then found again.
    for (term, count) in [(1, 9), (1, 1), (2, 17)] {
        subject.append_next(term, count).await?;
    }
    subject.truncate(14).await?;
    subject.append_next(3, 20).await?;
    subject.purge_to(4).await?;
    for opening in ["before", "after"] {
        let mut reader = subject.reader();
        let end = subject.model.last().index + 3;
        for start in 0..=end {
            for stop in [start, start + 1, start + 7, end, u64::MAX] {
                let what = format!("the memberships in {start}..{stop}, {opening} it was opened again");
                let Some(found) = works(&what, reader.memberships(start..stop).await)? else { continue };
                let stored = subject.model.entries.slice(start..stop.max(start));
                let right = stored.iter().filter_map(|entry| match &entry.payload {
                    Payload::Membership(membership) => {
                        Some(MembershipAt { log_id: entry.log_id, membership: membership.clone() })
                    }
                    Payload::Blank | Payload::Command(_) => None,
                });
                let right: Vec<_> = right.collect();
                holds(found == right, format!("{what}: {found:?}"), format!("{right:?}"))?;
            }
        }
        subject.reopen("memberships").await?;
    }
    Ok(())
}
