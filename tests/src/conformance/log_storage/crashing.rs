//! Opened again after every write, after a crash at any point, after a write that failed, and with damage.

use openconsensus::{HardState, RaftLogReader, RaftLogStorage, TypeConfig};

use super::LogStorageFactory;
use super::model::{Model, Write};
use super::random::Workload;
use super::subject::{Subject, check_found};
use crate::conformance::samples::{commands, commands_of, mixed};
use crate::conformance::verdict::{Flaw, describe, holds, seeded, seeds, skip, works};

/// How many operations are let through before one fails, at most.
const OPERATIONS_MAX: u64 = 60;
/// In how many ways a store is damaged.
const DAMAGES: u64 = 24;

pub(super) async fn everything_is_found_after_every_write<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    let mut subject = Subject::new(factory).await?;
    let mut workload = Workload::new(1);
    for step in 0..60 {
        let write = workload.next(factory, &subject.model);
        let what = format!("write {step}: {write}");
        subject.write(write).await?;
        subject.reopen(&what).await?;
    }
    Ok(())
}

pub(super) async fn a_crash_loses_nothing_that_was_acknowledged<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    for seed in seeds(0..2) {
        let mut subject = Subject::new(factory).await?;
        let mut workload = Workload::new(seed);
        for step in 0..35 {
            let write = workload.next(factory, &subject.model);
            let what = seeded(&format!("a crash after write {step}, {write}"), seed);
            subject.write(write).await?;
            let Some(disk) = factory.crashed(&subject.disk) else {
                return skip("`crashed`: what a crash leaves");
            };
            check_found(factory, &disk, std::slice::from_ref(&subject.model), &what).await?;
        }
    }
    Ok(())
}

pub(super) async fn a_crash_in_the_middle_leaves_the_old_or_the_new<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    let mut points = 0;
    for seed in seeds(0..2) {
        let mut subject = Subject::new(factory).await?;
        // From here on.
        drop(factory.crashes(&subject.disk));
        let mut workload = Workload::new(seed);
        for step in 0..30 {
            let write = workload.next(factory, &subject.model);
            let allowed = subject.model.around(&write);
            let what = format!("a crash in write {step}, {write}");
            subject.write(write).await?;
            for (number, disk) in factory.crashes(&subject.disk).into_iter().enumerate() {
                points += 1;
                let what = seeded(&format!("{what}, at point {number}"), seed);
                check_found(factory, &disk, &allowed, &what).await?;
            }
        }
    }
    if points == 0 { skip("`crashes`: what crashes in the middle of writes leave") } else { Ok(()) }
}

pub(super) async fn a_write_that_fails_is_reported<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    let mut failures = 0;
    for operations in 0..OPERATIONS_MAX {
        let mut subject = Subject::new(factory).await?;
        subject.save(1, Some(1), 0).await?;
        subject.append(mixed(factory, 1, 1..6), 0).await?;
        if !factory.fail_after(&subject.disk, operations) {
            return skip("`fail_after`: writes that fail");
        }
        let mut workload = Workload::new(operations);
        for step in 0..60 {
            let write = workload.next(factory, &subject.model);
            if let Err(error) = subject.try_write(&write).await {
                failures += 1;
                let allowed = subject.model.around(&write);
                let what = format!("write {step}, {write}, of which the disk refused a part ({error})");
                after_failure(&mut subject, allowed, &what).await?;
                break;
            }
            subject.model.carry_out(&write);
        }
    }
    holds(
        failures > OPERATIONS_MAX / 2,
        format!("{failures} of {OPERATIONS_MAX} disks that refused every write made one fail"),
        "an error of every write that the disk refuses",
    )
}

/// What was acknowledged is there after a write has failed; what is acknowledged behind it is there, too.
async fn after_failure<C, F>(
    subject: &mut Subject<'_, C, F>,
    mut allowed: Vec<Model<C>>,
    what: &str,
) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    // No node writes again. A storage that lets it be done must not say that it was.
    let term = subject.model.hard_state.term + 1;
    let later = HardState { term, voted_for: Some(subject.factory.node_id(3)), commit: 0 };
    if subject.try_write(&Write::HardState(later)).await.is_ok() {
        allowed.iter_mut().for_each(|model| model.hard_state = later);
    }
    let Some(disk) = subject.factory.crashed(&subject.disk) else {
        return skip("`crashed`: what is left when writes have failed");
    };
    check_found(subject.factory, &disk, &allowed, what).await
}

pub(super) async fn damage_is_an_error_and_never_an_empty_log<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    let mut subject = Subject::new(factory).await?;
    subject.save(3, Some(2), 0).await?;
    subject.append(commands(factory, 1, 1..200), 0).await?;
    subject.append(commands_of(factory, 2, 200..220, 5000), 7).await?;
    subject.truncate(215).await?;
    subject.purge_to(9).await?;
    subject.close();
    for number in 0..DAMAGES {
        let Some(disk) = factory.damaged(&subject.disk, number) else {
            return skip("`damaged`: a damaged store");
        };
        let what = format!("damage {number}");
        // An error wherever it is noticed is right. So is a store in which nothing that counts was damaged.
        let Ok(mut log) = factory.open(&disk).await else { continue };
        let Ok(state) = log.load().await else { continue };
        subject.model.check_state(&what, &state)?;
        let Ok(found) = log.reader().read(10..300, u64::MAX).await else { continue };
        let seen = format!("{what}, reading all: {}", describe(&found));
        holds(found == subject.model.entries, seen, "an error, or what was stored")?;
    }
    // The one that is not damaged is what it was.
    let state = works("opening it again", factory.open(&subject.disk).await)?.load().await;
    subject.model.check_state("the store that was not damaged", &works("loading it", state)?)
}
