//! Batches, responses, the applied state, restarts.

use fastrand::Rng;
use openconsensus::{AppliedState, RaftStateMachine, TypeConfig};

use super::StateMachineFactory;
use super::story::{LENGTH, Story};
use super::subject::Subject;
use crate::conformance::verdict::{Flaw, holds, same, seeded, seeds, works};

pub(super) async fn a_new_state_machine_has_applied_nothing<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    let disk = factory.disk();
    for round in ["a new state machine", "one that was opened before"] {
        let mut machine = works(format!("opening {round}"), factory.open(&disk).await)?;
        let applied = works(format!("the applied state of {round}"), machine.applied_state().await)?;
        same(format!("the applied state of {round}"), applied, AppliedState::default())?;
        let current = works("the current snapshot", machine.current_snapshot().await)?;
        holds(current.is_none(), format!("{round} has the snapshot {current:?}"), "none")?;
    }
    Ok(())
}

pub(super) async fn each_command_has_its_response_in_order<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    // The story was told one entry at a time; how it is cut into batches must not matter.
    let story = Story::tell(factory, 1).await?;
    for batch in [1, 2, 7, 30, LENGTH] {
        let mut subject = Subject::new(factory, &story).await?;
        while subject.at < LENGTH {
            subject.apply_to((subject.at + batch).min(LENGTH)).await?;
            subject.check(&format!("in batches of {batch}, at entry {}", subject.at)).await?;
        }
    }
    Ok(())
}

pub(super) async fn entries_without_a_command_are_applied_too<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    // Entry 1 is blank, entry 4 has a membership, and so on. What a snapshot covers tells what was applied.
    let story = Story::tell(factory, 1).await?;
    let mut subject = Subject::new(factory, &story).await?;
    for upto in [1, 3, 4, 9, 10, 13, 19, 20, 22] {
        subject.apply_to(upto).await?;
        subject.check(&format!("at entry {upto}")).await?;
        subject.build().await?;
        subject.restart(&format!("at entry {upto}")).await?;
    }
    Ok(())
}

pub(super) async fn two_instances_do_the_same<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    let story = Story::tell(factory, 2).await?;
    let (mut one, mut other) = (Subject::new(factory, &story).await?, Subject::new(factory, &story).await?);
    one.apply_to(40).await?;
    for upto in 1..=25 {
        other.apply_to(upto).await?;
    }
    // The one gets where it is by itself, the other by the snapshot of the one; then they go on side by side.
    let image = one.build().await?;
    other.install(&image, 5000).await?;
    other.check("an instance that installed the snapshot of another").await?;
    for upto in [41, 50, 51, 70, LENGTH] {
        one.apply_to(upto).await?;
        other.apply_to(upto).await?;
        one.check("the instance that applied everything").await?;
        other.check("the instance that installed a snapshot").await?;
    }
    // And a third gets the same from the snapshot of the other.
    let image = other.build().await?;
    let mut third = Subject::new(factory, &story).await?;
    third.install(&image, 5000).await?;
    third.check("an instance that installed the snapshot of one that had installed a snapshot").await
}

pub(super) async fn a_restart_finds_state_and_applied_state_of_one_moment<C, F>(
    factory: &F,
) -> Result<(), Flaw>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    let story = Story::tell(factory, 1).await?;
    let mut subject = Subject::new(factory, &story).await?;
    for upto in 1..=20 {
        subject.apply_to(upto).await?;
        subject.restart(&format!("at entry {upto}")).await?;
    }
    let image = subject.build().await?;
    subject.apply_to(35).await?;
    for round in ["behind a snapshot", "once more"] {
        subject.restart(round).await?;
        let found = subject.current(round).await?;
        same(format!("{round}, the current snapshot"), &found.meta, &image.meta)?;
    }
    subject.apply_to(LENGTH).await?;
    subject.restart("at the end").await
}

pub(super) async fn a_random_workload_does_as_the_story<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    let story = Story::tell(factory, 1).await?;
    for seed in seeds(0..3) {
        let mut random = Rng::with_seed(seed);
        let mut subject = Subject::new(factory, &story).await?;
        let mut latest = 0;
        for step in 0..30 {
            let what = seeded(&format!("step {step}, at entry {}", subject.at), seed);
            match random.u8(0..8) {
                0 if 0 < subject.at => {
                    subject.build().await?;
                    latest = subject.at;
                }
                1 => subject.restart(&what).await?,
                2 if subject.at < LENGTH => {
                    let other = random.u64(subject.at.max(1)..=LENGTH.min(subject.at + 20));
                    let image = Subject::at(factory, &story, other).await?.build().await?;
                    subject.install(&image, random.usize(100..9000)).await?;
                    latest = other;
                }
                _ => subject.apply_to(LENGTH.min(subject.at + random.u64(1..6))).await?,
            }
            subject.check(&what).await?;
            let current = subject.find_current(&what).await?.map_or(0, |snapshot| snapshot.meta.last.index);
            same(format!("{what}, the last entry of the current snapshot"), current, latest)?;
        }
    }
    Ok(())
}
