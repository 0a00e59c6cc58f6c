//! Crashes at any point, and calls that fail.

use fastrand::Rng;
use futures::channel::mpsc;
use futures::{FutureExt, StreamExt};
use openconsensus::{Index, RaftStateMachine, Snapshot, TypeConfig, snapshot_stream};

use super::StateMachineFactory;
use super::story::{LENGTH, Story};
use super::subject::Subject;
use crate::conformance::verdict::{Flaw, holds, same, seeded, seeds, skip, yield_now};

/// How many operations are let through before one fails, at most.
const OPERATIONS_MAX: u64 = 24;

pub(super) async fn a_crash_loses_no_snapshot<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    let story = Story::tell(factory, 1).await?;
    let later = Subject::at(factory, &story, 60).await?.build().await?;
    let mut subject = Subject::new(factory, &story).await?;
    for (upto, what) in [(5, "built"), (40, "built"), (60, "installed"), (75, "built")] {
        if what == "installed" {
            subject.install(&later, 4096).await?;
        } else {
            subject.apply_to(upto).await?;
            subject.build().await?;
        }
        let what = format!("a crash after a snapshot of entry {upto} was {what}");
        let Some(disk) = factory.crashed(&subject.disk) else {
            return skip("`crashed`: what a crash leaves");
        };
        let mut found = Subject::found_on(factory, &story, disk, upto, &what).await?;
        let current = found.current(&what).await?;
        same(format!("{what}, the current snapshot"), current.meta.last, story.log_id(upto))?;
        same(format!("{what}, the last entry after the start"), found.at, upto)?;
        found.apply_to(LENGTH).await?;
        found.check(&format!("{what}, and the entries behind it")).await?;
    }
    Ok(())
}

pub(super) async fn a_crash_at_any_point_leaves_the_state_of_one_moment<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    let story = Story::tell(factory, 1).await?;
    let mut points = 0;
    for seed in seeds(0..2) {
        let mut random = Rng::with_seed(seed);
        let mut subject = Subject::new(factory, &story).await?;
        drop(factory.crashes(&subject.disk));
        let mut latest = 0;
        for step in 0..10 {
            let before = latest;
            match random.u8(0..5) {
                0 if 0 < subject.at => {
                    subject.build().await?;
                    latest = subject.at;
                }
                1 if subject.at < LENGTH => {
                    latest = random.u64(subject.at.max(1)..=LENGTH.min(subject.at + 20));
                    let image = Subject::at(factory, &story, latest).await?.build().await?;
                    subject.install(&image, 4096).await?;
                }
                _ => subject.apply_to(LENGTH.min(subject.at + random.u64(1..9))).await?,
            }
            for (number, disk) in factory.crashes(&subject.disk).into_iter().enumerate() {
                points += 1;
                let what = seeded(&format!("a crash in step {step}, at point {number}"), seed);
                check_crash(factory, &story, disk, subject.at, [before, latest], &what).await?;
            }
        }
    }
    if points == 0 { skip("`crashes`: what crashes in the middle of calls leave") } else { Ok(()) }
}

/// Opens what a crash left. `snapshots` are those that may be current, `upto` is the last entry that was handed over.
async fn check_crash<C, F>(
    factory: &F,
    story: &Story<C>,
    disk: F::Disk,
    upto: Index,
    snapshots: [Index; 2],
    what: &str,
) -> Result<(), Flaw>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    let mut found = Subject::found_on(factory, story, disk, upto, what).await?;
    let current = found.find_current(what).await?.map_or(0, |snapshot| snapshot.meta.last.index);
    holds(
        snapshots.contains(&current),
        format!("{what}: the current snapshot is of entry {current}"),
        format!("of entry {} or {}", snapshots[0], snapshots[1]),
    )?;
    found.apply_to(LENGTH).await?;
    found.check(&format!("{what}, and all entries applied")).await
}

pub(super) async fn a_crash_while_a_snapshot_arrives_leaves_all_as_before<C, F>(
    factory: &F,
) -> Result<(), Flaw>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    let (story, other) = (Story::tell(factory, 1).await?, Story::tell(factory, 2).await?);
    let image = Subject::at(factory, &story, 60).await?.build().await?;
    for part in [1, 5, 9] {
        let mut subject = Subject::at(factory, &other, 30).await?;
        let own = subject.build().await?;
        let disk = {
            let (source, data) = mpsc::unbounded();
            let Snapshot { meta, data: start } = image.snapshot(1000);
            let start = start.take(image.bytes.len() / 1000 * part / 10);
            let data = snapshot_stream(start.chain(data));
            let (machine, disk) = subject.machine_and_disk();
            let mut installing = Box::pin(machine.install_snapshot(Snapshot { meta, data }));
            // It takes what has arrived, and waits for the rest.
            for _ in 0..2000 {
                let ended = (&mut installing).now_or_never();
                let seen = format!("a snapshot that had not arrived yet: {ended:?}");
                holds(ended.is_none(), seen, "it waits for the end of the stream")?;
                yield_now().await;
            }
            let crashed = factory.crashed(disk);
            drop((installing, source));
            crashed
        };
        let Some(disk) = disk else {
            return skip("`crashed`: what a crash leaves");
        };
        let what = format!("a crash when {part} of 10 parts of a snapshot had arrived");
        let mut found = Subject::found_on(factory, &other, disk, 30, &what).await?;
        let current = found.current(&what).await?;
        same(format!("{what}, the current snapshot"), current.meta, own.meta)?;
        found.story = &story;
        found.install(&image, 4096).await?;
        found.check(&format!("{what}, and then all of it")).await?;
    }
    Ok(())
}

pub(super) async fn a_call_that_fails_leaves_nothing_half_done<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    let story = Story::tell(factory, 1).await?;
    let image = Subject::at(factory, &story, 60).await?.build().await?;
    let mut failures = 0;
    for operations in 0..OPERATIONS_MAX {
        let mut subject = Subject::at(factory, &story, 10).await?;
        subject.build().await?;
        if !factory.fail_after(&subject.disk, operations) {
            return skip("`fail_after`: writes that fail");
        }
        let (mut upto, mut snapshots) = (10, [10, 10]);
        let error = loop {
            let result = if upto < 30 {
                let before = upto;
                upto += 4;
                subject.machine().apply(story.batch(before, upto)).await.map(drop)
            } else if upto < 60 && snapshots[1] == 10 {
                snapshots[1] = upto;
                subject.machine().build_snapshot().await.map(drop)
            } else if upto < 60 {
                (snapshots, upto) = ([snapshots[1], 60], 60);
                subject.machine().install_snapshot(image.snapshot(4096)).await
            } else {
                break None;
            };
            if let Err(error) = result {
                break Some(error);
            }
            snapshots[0] = snapshots[1];
        };
        failures += u64::from(error.is_some());
        let what = match error {
            Some(error) => format!("a call of which the disk refused a part ({error})"),
            None => "calls of which none failed".to_string(),
        };
        let Some(disk) = factory.crashed(&subject.disk) else {
            return skip("`crashed`: what is left when calls have failed");
        };
        check_crash(factory, &story, disk, upto, snapshots, &what).await?;
    }
    holds(
        0 < failures,
        format!("none of {OPERATIONS_MAX} disks that refused every write made a call fail"),
        "an error of a call whose writes the disk refuses",
    )
}
