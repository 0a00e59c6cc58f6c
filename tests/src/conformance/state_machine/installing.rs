//! Installing snapshots: whole, in any chunks, broken off, with wrong bytes.

use std::io;

use openconsensus::{RaftStateMachine, TypeConfig};

use super::StateMachineFactory;
use super::image::Image;
use super::story::{LENGTH, Story};
use super::subject::Subject;
use crate::conformance::verdict::{Flaw, holds, same, skip, wrong};

pub(super) async fn a_snapshot_replaces_everything<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    // The state before it is that of another story: whatever is left of it would be seen.
    let (story, other) = (Story::tell(factory, 1).await?, Story::tell(factory, 2).await?);
    let image = Subject::at(factory, &story, 60).await?.build().await?;
    for (before, is_built) in [(0, false), (1, false), (59, false), (30, true), (60, true)] {
        let what = format!("a snapshot of entry 60 over another state of entry {before}");
        let mut subject = Subject::at(factory, &other, before).await?;
        if is_built {
            subject.build().await?;
        }
        subject.story = &story;
        subject.install(&image, 4096).await?;
        for round in ["at once", "after a restart"] {
            let what = format!("{what}, {round}");
            subject.check(&what).await?;
            let current = subject.current(&what).await?;
            same(format!("{what}, the current snapshot"), current.meta.last, image.meta.last)?;
            same(format!("{what}, its membership"), current.meta.membership, image.meta.membership.clone())?;
            subject.restart(&what).await?;
        }
        // It goes on from there, and gives what it got.
        subject.apply_to(LENGTH).await?;
        subject.check(&format!("{what}, and the entries behind it")).await?;
        subject.build().await?;
    }
    Ok(())
}

pub(super) async fn a_snapshot_may_come_in_chunks_of_any_size<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    let story = Story::tell(factory, 1).await?;
    // A small one byte by byte, too.
    for (at, chunks) in [(5, [1, 3, usize::MAX]), (LENGTH, [101, 65_536, usize::MAX])] {
        let image = Subject::at(factory, &story, at).await?.build().await?;
        for chunk in chunks {
            let mut subject = Subject::new(factory, &story).await?;
            subject.install(&image, chunk.min(image.bytes.len().max(1))).await?;
            subject.check(&format!("a snapshot of entry {at} in chunks of {chunk} bytes")).await?;
            let current = subject.current("what was installed").await?;
            let mut other = Subject::new(factory, &story).await?;
            other.install(&current, 5000).await?;
            other.check("a snapshot that was installed, given on").await?;
        }
    }
    Ok(())
}

/// A snapshot of entry 60, and a state machine with another state of entry 30 and a snapshot of that. `attempt` tries to
/// install what it must not keep; all must be as before, and then the snapshot must still be installed.
async fn refuse<C, F>(
    factory: &F,
    attempt: impl AsyncFn(&mut F::Machine, &Image<C>) -> Result<(), Flaw>,
) -> Result<(), Flaw>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    let (story, other) = (Story::tell(factory, 1).await?, Story::tell(factory, 2).await?);
    let image = Subject::at(factory, &story, 60).await?.build().await?;
    let mut subject = Subject::at(factory, &other, 30).await?;
    let own = subject.build().await?;
    subject.apply_to(33).await?;
    attempt(subject.machine(), &image).await?;
    let what = "after a snapshot that could not be installed";
    subject.check(what).await?;
    let current = subject.current(what).await?;
    same(format!("{what}, the current snapshot"), current.meta, own.meta.clone())?;
    subject.apply_to(36).await?;
    subject.check(&format!("{what}, entries applied behind it")).await?;
    subject.restart(what).await?;
    let current = subject.current(what).await?;
    same(format!("{what}, the current snapshot after a restart"), current.meta, own.meta)?;
    subject.story = &story;
    subject.install(&image, 4096).await?;
    subject.check(&format!("{what}, and then could")).await
}

pub(super) async fn a_stream_that_breaks_leaves_all_as_before<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    refuse(factory, async |machine: &mut F::Machine, image: &Image<C>| {
        // Before the first byte, in the middle, and behind the last one, where all that is missing is the end.
        for part in [0, 1, 10, 15, 20] {
            let bytes = image.bytes.len() * part / 20;
            if machine.install_snapshot(image.broken(bytes)).await.is_ok() {
                let what =
                    format!("a stream that ended in an error after {bytes} of {} bytes", image.bytes.len());
                return wrong(format!("{what} was installed"), "an error");
            }
        }
        Ok(())
    })
    .await
}

pub(super) async fn wrong_bytes_are_refused_as_a_whole<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    if !factory.detects_damage() {
        return skip("`detects_damage`: a way to tell wrong bytes");
    }
    for part in 0..8 {
        refuse(factory, async |machine: &mut F::Machine, image: &Image<C>| {
            let place = image.bytes.len() * (part / 2) / 4;
            let (what, bytes) = if part % 2 == 0 {
                let mut wrong = image.bytes.to_vec();
                wrong[place] ^= 0x10;
                (format!("a snapshot whose byte {place} was changed"), wrong)
            } else {
                (format!("the first {place} bytes of a snapshot"), image.bytes[..place].to_vec())
            };
            let result = machine.install_snapshot(image.with_bytes(bytes).snapshot(1000)).await;
            let Err(error) = result else {
                return wrong(format!("{what} was installed"), "an error, if damage is detected");
            };
            let is_to_blame = error.kind() == io::ErrorKind::InvalidData;
            holds(
                is_to_blame,
                format!("{what}: {error} ({:?})", error.kind()),
                "an error of the kind InvalidData",
            )
        })
        .await?;
    }
    Ok(())
}
