//! Building snapshots, beside whatever else happens.

use bytes::Bytes;
use futures::future::join;
use futures::{FutureExt, StreamExt, TryStreamExt};
use openconsensus::{AppliedState, RaftStateMachine, TypeConfig};

use super::StateMachineFactory;
use super::image::Image;
use super::story::{LENGTH, Story};
use super::subject::Subject;
use crate::conformance::verdict::{Flaw, holds, same, skip, works, wrong, yield_now};

pub(super) async fn a_snapshot_is_of_the_moment_when_it_was_asked_for<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    let story = Story::tell(factory, 1).await?;
    // Applied before the future is polled first, and beside it.
    for (before, beside) in [(31, 31), (31, LENGTH), (40, 50), (50, 51)] {
        let mut subject = Subject::at(factory, &story, 30).await?;
        let building = subject.machine().build_snapshot();
        subject.apply_to(before).await?;
        let applying = async {
            for upto in before + 1..=beside {
                subject.apply_to(upto).await?;
                yield_now().await;
            }
            Ok(())
        };
        let (meta, applied) = join(building, applying).await;
        applied?;
        let what = format!(
            "a snapshot that was asked for at entry 30, with entries up to {beside} applied beside it"
        );
        let meta = works(&what, meta)?;
        let covered = AppliedState { last_applied: meta.last, membership: meta.membership.clone() };
        same(format!("{what}, what it covers"), covered, story.applied[30].clone())?;
        subject.check(&format!("{what}, the state machine itself")).await?;
        let image = subject.current(&what).await?;
        same(format!("{what}, the current snapshot"), &image.meta, &meta)?;
        let mut other = Subject::new(factory, &story).await?;
        other.install(&image, 10_000).await?;
        other.check(&format!("{what}, installed elsewhere")).await?;
    }
    Ok(())
}

pub(super) async fn a_snapshot_that_was_built_is_current<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    let story = Story::tell(factory, 1).await?;
    let mut subject = Subject::new(factory, &story).await?;
    for upto in [1, 5, 40, LENGTH] {
        subject.apply_to(upto).await?;
        let image = subject.build().await?;
        let what = format!("a snapshot of entry {upto}");
        // Twice at one place, too.
        subject.build().await?;
        subject.restart(&what).await?;
        let again = subject.current(&format!("{what}, after a restart")).await?;
        same(format!("{what}, after a restart"), &again.meta.last, &image.meta.last)?;
        let mut other = Subject::new(factory, &story).await?;
        other.install(&again, 777).await?;
        other.check(&format!("{what}, installed elsewhere")).await?;
    }
    Ok(())
}

pub(super) async fn a_build_that_is_dropped_leaves_the_snapshot_before_it<C, F>(
    factory: &F,
) -> Result<(), Flaw>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    let story = Story::tell(factory, 1).await?;
    for (before, polls) in [(0, 0), (0, 1), (20, 0), (20, 1), (20, 2), (20, 3), (20, 50)] {
        let mut subject = Subject::at(factory, &story, before).await?;
        if 0 < before {
            subject.build().await?;
        }
        subject.apply_to(LENGTH).await?;
        let mut building = subject.machine().build_snapshot();
        let mut is_built = false;
        for _ in 0..polls {
            is_built = is_built || (&mut building).now_or_never().is_some();
            if is_built {
                break;
            }
            yield_now().await;
        }
        drop(building);
        let what = format!("a build of entry {LENGTH} that was polled {polls} times and dropped");
        let first = subject.find_current(&what).await?.map_or(0, |snapshot| snapshot.meta.last.index);
        // Once it has been polled it may have come to its end by itself, a moment before it was dropped.
        let is_right = first == if is_built { LENGTH } else { before } || (0 < polls && first == LENGTH);
        let seen = format!("{what}: the current snapshot is of entry {first}");
        holds(is_right, seen, format!("of entry {before}, where it was not finished"))?;
        subject.restart(&what).await?;
        let again = subject.find_current(&what).await?.map_or(0, |snapshot| snapshot.meta.last.index);
        same(format!("{what}, the last entry of the current snapshot after a restart"), again, first)?;
        if 0 < first {
            let image = subject.current(&what).await?;
            let mut other = Subject::new(factory, &story).await?;
            other.install(&image, 4096).await?;
            other.check(&format!("{what}, the current snapshot installed elsewhere")).await?;
        }
        // The next one is built as if nothing had been.
        subject.build().await?;
    }
    Ok(())
}

pub(super) async fn a_build_that_ends_late_does_not_replace_a_later_snapshot<C, F>(
    factory: &F,
) -> Result<(), Flaw>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    let story = Story::tell(factory, 1).await?;
    let later = Subject::at(factory, &story, 60).await?.build().await?;
    let mut subject = Subject::at(factory, &story, 30).await?;
    let building = subject.machine().build_snapshot();
    subject.install(&later, 4096).await?;
    let what = "a build of entry 30 that ends after a snapshot of entry 60 was installed";
    works(what, building.await)?;
    let current = subject.current(what).await?;
    same(format!("{what}, the current snapshot"), current.meta.last, later.meta.last)?;
    subject.check(what).await?;
    subject.restart(what).await?;
    let current = subject.current(what).await?;
    same(format!("{what}, the current snapshot after a restart"), current.meta.last, later.meta.last)
}

pub(super) async fn a_stream_outlives_its_snapshot<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    let story = Story::tell(factory, 1).await?;
    let mut subject = Subject::at(factory, &story, 45).await?;
    let image = subject.build().await?;
    let what = "the stream of a snapshot that another one has replaced";
    let mut streams = Vec::new();
    // One that has been begun, and one that has not.
    for is_begun in [true, false] {
        let mut data = subject.find_current(what).await?.map(|snapshot| snapshot.data).into_iter();
        let mut data = data.next().expect("it was there a moment ago");
        let first = if is_begun { data.next().await } else { None };
        streams.push((first, data));
    }
    subject.apply_to(LENGTH).await?;
    subject.build().await?;
    for (first, data) in streams {
        let mut bytes = works(what, first.transpose())?.unwrap_or_default().to_vec();
        let rest: Vec<Bytes> = works(what, data.try_collect().await)?;
        bytes.extend(rest.concat());
        let seen = format!("{what}: {} bytes", bytes.len());
        holds(bytes == image.bytes, seen, format!("the {} bytes that it had", image.bytes.len()))?;
        let mut other = Subject::new(factory, &story).await?;
        let image = Image { meta: image.meta.clone(), bytes: bytes.into() };
        other.install(&image, 4096).await?;
        other.check(&format!("{what}, installed elsewhere")).await?;
    }
    Ok(())
}

pub(super) async fn a_damaged_snapshot_is_an_error_and_is_replaced_by_the_next<C, F>(
    factory: &F,
) -> Result<(), Flaw>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    let story = Story::tell(factory, 1).await?;
    let what = "the snapshot of entry 30, which was damaged";
    // Replaced by one of the same state, and by one of a later one.
    for upto in [30, 35] {
        let mut subject = Subject::at(factory, &story, 30).await?;
        subject.build().await?;
        if !factory.damage_snapshot(&subject.disk) {
            return skip("`damage_snapshot`: a way to damage what is stored");
        }
        is_noticed(subject.machine(), what).await?;
        subject.check(&format!("after an attempt to read {what}")).await?;
        subject.apply_to(upto).await?;
        let image = subject.build().await?;
        subject.restart(&format!("a snapshot in the place of {what}")).await?;
        let mut other = Subject::new(factory, &story).await?;
        other.install(&image, 4096).await?;
        other.check(&format!("a snapshot in the place of {what}, installed elsewhere")).await?;
    }
    let mut subject = Subject::at(factory, &story, 30).await?;
    subject.build().await?;
    factory.damage_snapshot(&subject.disk);
    subject.close();
    let mut machine = works(format!("{what}, opening"), factory.open(&subject.disk).await)?;
    let applied = works(format!("{what}, the applied state"), machine.applied_state().await)?;
    let applied = applied.last_applied.index;
    if 0 < applied && applied < 30 {
        let found =
            works(format!("{what}, behind a state of entry {applied}"), machine.current_snapshot().await)?;
        let covers = found.map_or(0, |snapshot| snapshot.meta.last.index);
        same(format!("{what}, the last entry that it is said to cover"), covers, 30)?;
    }
    is_noticed(&mut machine, &format!("{what}, after a restart")).await
}

/// Fails unless reading the current snapshot does.
async fn is_noticed<C: TypeConfig>(machine: &mut impl RaftStateMachine<C>, what: &str) -> Result<(), Flaw> {
    let seen = match machine.current_snapshot().await {
        Err(_) => return Ok(()),
        Ok(None) => "no snapshot".to_string(),
        Ok(Some(snapshot)) => match snapshot.data.try_collect::<Vec<Bytes>>().await {
            Err(_) => return Ok(()),
            Ok(chunks) => format!("{} bytes", chunks.concat().len()),
        },
    };
    wrong(format!("{what}: {seen}"), "an error")
}
