//! `Subject`: a state machine under test, and how far it has come in its story.

use openconsensus::{AppliedState, Index, RaftStateMachine, Snapshot, TypeConfig};

use super::StateMachineFactory;
use super::image::Image;
use super::story::Story;
use crate::conformance::verdict::{Flaw, holds, same, works, wrong};

/// A state machine on a disk of its own that has applied a story up to some entry.
pub(super) struct Subject<'a, C: TypeConfig, F: StateMachineFactory<C>> {
    pub(super) factory: &'a F,
    pub(super) story: &'a Story<C>,
    /// `None` only while it is being opened again. Stands before its disk, so that it is dropped before it.
    machine: Option<F::Machine>,
    pub(super) disk: F::Disk,
    /// The last entry of the story that was applied.
    pub(super) at: Index,
}

impl<'a, C, F> Subject<'a, C, F>
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    /// A new state machine.
    pub(super) async fn new(factory: &'a F, story: &'a Story<C>) -> Result<Self, Flaw> {
        let disk = factory.disk();
        let mut machine = works("opening a new state machine", factory.open(&disk).await)?;
        let applied = works("the applied state of a new one", machine.applied_state().await)?;
        same("the applied state of a new state machine", applied, AppliedState::default())?;
        Ok(Self { factory, story, disk, machine: Some(machine), at: 0 })
    }

    /// One that has applied the story up to `at`.
    pub(super) async fn at(factory: &'a F, story: &'a Story<C>, at: Index) -> Result<Self, Flaw> {
        let mut subject = Self::new(factory, story).await?;
        subject.apply_to(at).await?;
        Ok(subject)
    }

    pub(super) fn machine(&mut self) -> &mut F::Machine {
        self.machine.as_mut().expect("a subject is open between calls")
    }

    pub(super) fn machine_and_disk(&mut self) -> (&mut F::Machine, &F::Disk) {
        (self.machine.as_mut().expect("a subject is open between calls"), &self.disk)
    }

    /// Applies the story up to `upto` in one batch, and compares the responses.
    pub(super) async fn apply_to(&mut self, upto: Index) -> Result<(), Flaw> {
        if upto <= self.at {
            return Ok(());
        }
        let (before, story) = (self.at, self.story);
        let what = format!("applying entries {} to {upto}", before + 1);
        let responses = works(&what, self.machine().apply(story.batch(before, upto)).await)?;
        let expected = &story.responses[before as usize + 1..=upto as usize];
        let expected: Vec<_> = expected.iter().flatten().collect();
        same(format!("{what}, the responses"), responses.iter().collect(), expected)?;
        self.at = upto;
        Ok(())
    }

    /// Fails unless the contents are those of the story at the entry that was applied last.
    pub(super) async fn check(&mut self, what: &str) -> Result<(), Flaw> {
        let factory = self.factory;
        let contents =
            works(format!("{what}, reading the contents"), factory.contents(self.machine()).await)?;
        if contents != self.story.contents[self.at as usize] {
            let other = self.story.contents.iter().position(|other| *other == contents);
            let seen = match other {
                Some(index) => format!("those of entry {index}"),
                None => format!("{} bytes that are those of no entry", contents.len()),
            };
            return wrong(format!("{what}, the contents: {seen}"), format!("those of entry {}", self.at));
        }
        Ok(())
    }

    /// Builds a snapshot, which must cover exactly what was applied.
    pub(super) async fn build(&mut self) -> Result<Image<C>, Flaw> {
        let what = format!("a snapshot that was built at entry {}", self.at);
        let meta = works(&what, self.machine().build_snapshot().await)?;
        let covered = AppliedState { last_applied: meta.last, membership: meta.membership.clone() };
        same(format!("{what}, what it covers"), covered, self.story.applied[self.at as usize].clone())?;
        let image = self.current(&what).await?;
        same(format!("{what}, the current snapshot"), &image.meta, &meta)?;
        Ok(image)
    }

    /// The current snapshot, which must be there.
    pub(super) async fn current(&mut self, what: &str) -> Result<Image<C>, Flaw> {
        match self.find_current(what).await? {
            Some(snapshot) => Image::of(&format!("{what}, the current snapshot"), snapshot).await,
            None => wrong(format!("{what}: no current snapshot"), "the latest that was built or installed"),
        }
    }

    pub(super) async fn find_current(&mut self, what: &str) -> Result<Option<Snapshot<C>>, Flaw> {
        works(format!("{what}, the current snapshot"), self.machine().current_snapshot().await)
    }

    /// Installs a snapshot of this story.
    pub(super) async fn install(&mut self, image: &Image<C>, chunk: usize) -> Result<(), Flaw> {
        let what = format!("installing the snapshot of entry {} over entry {}", image.meta.last, self.at);
        works(what, self.machine().install_snapshot(image.snapshot(chunk)).await)?;
        self.at = image.meta.last.index;
        Ok(())
    }

    /// Closes the state machine, opens it again, and does what a driver does at its start: a state that is older than its
    /// own snapshot is brought up to it. Fails unless what is found is of one moment of the story. Then the rest of what
    /// had been applied is applied again.
    pub(super) async fn restart(&mut self, what: &str) -> Result<(), Flaw> {
        let upto = self.at;
        self.close();
        let what = format!("{what}, opened again");
        self.recover(&what, upto).await?;
        self.apply_to(upto).await?;
        self.check(&format!("{what}, what it lacked applied again")).await
    }

    /// As [`restart`](Self::restart), on another disk, with nothing applied again.
    pub(super) async fn found_on(
        factory: &'a F,
        story: &'a Story<C>,
        disk: F::Disk,
        upto: Index,
        what: &str,
    ) -> Result<Self, Flaw> {
        let mut subject = Self { factory, story, disk, machine: None, at: 0 };
        subject.recover(what, upto).await?;
        Ok(subject)
    }

    async fn recover(&mut self, what: &str, upto: Index) -> Result<(), Flaw> {
        let factory = self.factory;
        let mut machine = works(format!("{what}, opening"), factory.open(&self.disk).await)?;
        let applied = works(format!("{what}, the applied state"), machine.applied_state().await)?;
        self.machine = Some(machine);
        let index = applied.last_applied.index;
        let seen = format!("{what}: entry {index} applied");
        holds(index <= upto, seen, format!("entry {upto} at most, which was handed over last"))?;
        same(format!("{what}, the applied state"), applied, self.story.applied[index as usize].clone())?;
        self.at = index;
        self.check(what).await?;
        if let Some(snapshot) = self.find_current(what).await?
            && index < snapshot.meta.last.index
        {
            let image = Image::of(&format!("{what}, its own snapshot"), snapshot).await?;
            self.install(&image, 4096).await?;
            self.check(&format!("{what}, brought up to its own snapshot")).await?;
        }
        Ok(())
    }

    pub(super) fn close(&mut self) {
        drop(self.machine.take());
    }
}
