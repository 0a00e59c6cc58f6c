//! `Story`: a log to apply, and what it must come to at every entry.

use openconsensus::{
    AppliedState, ApplyBatch, Entries, Entry, Index, LogId, Payload, RaftStateMachine, TypeConfig,
};

use super::StateMachineFactory;
use crate::conformance::samples::membership;
use crate::conformance::verdict::{Flaw, same, works};

/// So many entries a story has.
pub(super) const LENGTH: Index = 90;

/// A log with entries of every kind; what a state machine that applies them one by one has told and become.
pub(super) struct Story<C: TypeConfig> {
    pub(super) entries: Entries<C>,
    /// By index; the first is that of a new state machine.
    pub(super) applied: Vec<AppliedState<C>>,
    pub(super) contents: Vec<Vec<u8>>,
    /// By index; `None` where there is no command.
    pub(super) responses: Vec<Option<C::Response>>,
}

impl<C: TypeConfig> Story<C> {
    /// Tells a story. One of another `number` has other commands at the same entries.
    pub(super) async fn tell<F: StateMachineFactory<C>>(factory: &F, number: u64) -> Result<Self, Flaw> {
        let entries: Vec<_> = (1..=LENGTH).map(|index| entry(factory, number, index)).collect();
        let mut story = Self {
            entries: entries.into(),
            applied: vec![AppliedState::default()],
            contents: Vec::new(),
            responses: vec![None],
        };
        let disk = factory.disk();
        let mut machine = works("opening a new state machine", factory.open(&disk).await)?;
        let applied = works("the applied state of a new one", machine.applied_state().await)?;
        same("the applied state of a new state machine", applied, AppliedState::default())?;
        story.contents.push(works("reading the contents", factory.contents(&mut machine).await)?);
        for index in 1..=LENGTH {
            let batch = story.batch(index - 1, index);
            let applied = batch.applied_state().clone();
            let has_command = batch.commands().count();
            let mut responses = works(format!("applying entry {index}"), machine.apply(batch).await)?;
            same(format!("the number of responses to entry {index}"), responses.len(), has_command)?;
            story.responses.push(responses.pop());
            story.applied.push(applied);
            story.contents.push(works("reading the contents", factory.contents(&mut machine).await)?);
        }
        Ok(story)
    }

    /// The entries behind `before`, up to and including `upto`.
    pub(super) fn batch(&self, before: Index, upto: Index) -> ApplyBatch<C> {
        ApplyBatch::new(&self.applied[before as usize], self.entries.slice(before + 1..upto + 1))
    }

    /// The name of the entry at `index`.
    pub(super) fn log_id(&self, index: Index) -> LogId {
        self.applied[index as usize].last_applied
    }
}

fn entry<C: TypeConfig, F: StateMachineFactory<C>>(factory: &F, story: u64, index: Index) -> Entry<C> {
    let payload = match index % 9 {
        1 => Payload::Blank,
        4 => Payload::Membership(membership(factory, index + story)),
        _ => {
            // Large enough now and then that a snapshot does not fit into one piece of anything.
            let bytes = if index.is_multiple_of(10) { 12_000 } else { 0 };
            Payload::Command(factory.command(1000 * story + index, bytes))
        }
    };
    Entry { log_id: LogId::new(1 + index / 20, index), payload }
}
