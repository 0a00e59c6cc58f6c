//! The single owner of the state machine: applies entries, answers clients, installs snapshots and begins others.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyerror::AnyError;
use futures::channel::oneshot;
use tracing::Instrument;

use crate::engine::{Apply, Input, SnapshotId};
use crate::entries::Entries;
use crate::entry::{Entry, Index, Payload, Term};
use crate::error::Fatal;
use crate::message::InstallSnapshot;
use crate::network::RaftNetwork;
use crate::runtime::{AsyncRuntime, SnapshotStream, snapshot_stream};
use crate::storage::{AppliedState, ApplyBatch, RaftLogReader, RaftStateMachine, Snapshot};
use crate::type_config::TypeConfig;

use super::inbox::Inbox;
use super::item::Item;
use super::shared::Shared;
use super::snapshot::{self, Transfer};
use super::stages::ApplyTiming;
use super::streams::IncomingStream;
use super::sync::yield_now;
use super::waiters::{Batch, answer};
use super::{catch_up, spawn};

/// So many callers are answered before they get their turn. Tokio keeps 256 tasks of a thread in order, and has those wait
/// much longer that are too many.
const ANSWERS_PER_POLL_MAX: u64 = 128;

/// Something to be done with the state machine. One ordered queue for all of it, so that no installation can race with
/// the entries before it.
pub(super) enum Work<C: TypeConfig> {
    /// Apply entries, and answer those who wait for them.
    Apply { apply: Apply<C>, waiting: Vec<Batch<C>> },
    /// Begin to build a snapshot of the state as it is then.
    BuildSnapshot { id: SnapshotId, cancel: oneshot::Receiver<()> },
    /// Replace the state by that of a snapshot.
    InstallSnapshot {
        id: SnapshotId,
        snapshot: InstallSnapshot<C>,
        data: SnapshotStream,
        cancel: oneshot::Receiver<()>,
    },
    /// Begin to send the current snapshot.
    SendSnapshot { id: SnapshotId, peer: C::NodeId, node: C::Node, term: Term, cancel: oneshot::Receiver<()> },
}

/// The loop and what it owns.
pub(super) struct ApplyLoop<C: TypeConfig, R, N, D, S> {
    pub(super) state_machine: S,
    pub(super) reader: D,
    /// How far the state machine has come.
    pub(super) applied: AppliedState<C>,
    pub(super) queue: Arc<Inbox<Vec<Work<C>>>>,
    pub(super) runtime: R,
    pub(super) network: Arc<N>,
    pub(super) shared: Arc<Shared<C>>,
}

impl<C, R, N, D, S> ApplyLoop<C, R, N, D, S>
where
    C: TypeConfig,
    R: AsyncRuntime,
    N: RaftNetwork<C>,
    D: RaftLogReader<C>,
    S: RaftStateMachine<C>,
{
    /// Works until the queue is closed. What is still queued then is dropped, which answers those who wait for it.
    pub(super) async fn run(mut self) -> Result<(), Fatal> {
        let mut taken = Vec::new();
        let mut works = VecDeque::new();
        while self.queue.take(&mut taken).await {
            works.extend(taken.drain(..));
            while let Some(work) = works.pop_front() {
                if self.queue.is_closed() {
                    break;
                }
                self.work(work, &mut works).await?;
            }
        }
        Ok(())
    }

    async fn work(&mut self, work: Work<C>, next: &mut VecDeque<Work<C>>) -> Result<(), Fatal> {
        match work {
            Work::Apply { mut apply, mut waiting } => {
                self.join_next(&mut apply, &mut waiting, next);
                self.apply(apply, waiting).await
            }
            Work::BuildSnapshot { id, cancel } => {
                let building = self.state_machine.build_snapshot();
                let applied = self.applied.clone();
                let span = tracing::info_span!("raft.snapshot.build", node = %self.shared.id, last = %applied.last_applied);
                let task = snapshot::build(id, building, applied, cancel, self.shared.clone());
                spawn(&self.runtime, &self.shared, task.instrument(span));
                Ok(())
            }
            Work::InstallSnapshot { id, snapshot, data, cancel } => {
                let last = snapshot.meta.last;
                let span = tracing::info_span!("raft.snapshot.install", node = %self.shared.id, leader = %snapshot.leader, %last);
                self.install(id, snapshot, data, cancel).instrument(span).await
            }
            Work::SendSnapshot { id, peer, node, term, mut cancel } => {
                if !matches!(cancel.try_recv(), Ok(None)) {
                    self.tell(Item::input(Input::SnapshotSent { id, response: None }));
                    return Ok(());
                }
                let Snapshot { meta, data } = match self.state_machine.current_snapshot().await {
                    Ok(Some(snapshot)) => snapshot,
                    Ok(None) => {
                        snapshot::report_unreadable(id, None, "there is none", &self.shared);
                        return Ok(());
                    }
                    Err(error) => {
                        snapshot::report_unreadable(id, None, &error.to_string(), &self.shared);
                        return Ok(());
                    }
                };
                let last = meta.last;
                let request = InstallSnapshot { term, leader: self.shared.id, meta };
                let transfer = Transfer { id, peer, node, request, data, cancel };
                let span = tracing::info_span!("raft.snapshot.send", node = %self.shared.id, %peer, %last);
                let task = snapshot::send(transfer, self.network.clone(), self.shared.clone());
                spawn(&self.runtime, &self.shared, task.instrument(span));
                Ok(())
            }
        }
    }

    /// Joins what was queued meanwhile with `apply`, as far as it fits into one call of the state machine.
    fn join_next(&self, apply: &mut Apply<C>, waiting: &mut Vec<Batch<C>>, next: &mut VecDeque<Work<C>>) {
        let entries_max = self.shared.config.apply_entries_max;
        let mut parts = Vec::new();
        let mut end = apply.entries.range().end;
        while let Some(Work::Apply { apply: later, .. }) = next.front()
            && later.range == later.entries.range()
            && later.range.start == end
            && later.range.end - apply.range.start <= entries_max
        {
            if let Some(Work::Apply { apply: later, waiting: later_waiting }) = next.pop_front() {
                end = later.range.end;
                parts.push(later.entries);
                waiting.extend(later_waiting);
                apply.range.end = end;
            }
        }
        if !parts.is_empty() {
            parts.insert(0, std::mem::take(&mut apply.entries));
            apply.entries = Entries::concat(parts);
        }
    }

    async fn apply(&mut self, apply: Apply<C>, mut waiting: Vec<Batch<C>>) -> Result<(), Fatal> {
        let Apply { range, entries } = apply;
        let entries_max = self.shared.config.apply_entries_max;
        let mut next = range.start;
        while next < range.end && !self.queue.is_closed() {
            let chunk_end = range.end.min(next + entries_max);
            let in_memory = if entries.is_empty() { range.end } else { entries.range().start };
            let chunk = if next < in_memory {
                self.read(next..chunk_end.min(in_memory)).await?
            } else {
                entries.slice(next..chunk_end)
            };
            next = chunk.range().end;
            self.apply_chunk(chunk, &mut waiting).await?;
        }
        Ok(())
    }

    /// Reads committed entries that are not in memory any more: some, and at least one.
    async fn read(&mut self, range: Range<Index>) -> Result<Entries<C>, Fatal> {
        let start = range.start;
        let bytes_max = self.shared.config.append_bytes_max;
        let entries = catch_up::read(&mut self.reader, range, bytes_max)
            .await
            .map_err(|error| Fatal::LogStorage(AnyError::new(&error)))?;
        if entries.is_empty() {
            return Err(Fatal::LogStorage(AnyError::error(format!(
                "entry {start} is committed and not applied, but the log reader does not find it"
            ))));
        }
        Ok(entries)
    }

    async fn apply_chunk(&mut self, entries: Entries<C>, waiting: &mut Vec<Batch<C>>) -> Result<(), Fatal> {
        let range = entries.range();
        let batch = ApplyBatch::new(&self.applied, entries.clone());
        let applied = batch.applied_state().clone();
        let commands = batch.commands_len();
        let began = self.shared.clock.now();
        let responses = self.state_machine.apply(batch).await.map_err(|error| {
            let what = format!("while applying entries {}..{}", range.start, range.end);
            Fatal::StateMachine(AnyError::new(&error).add_context(|| what))
        })?;
        if responses.len() != commands {
            return Err(Fatal::StateMachine(AnyError::error(format!(
                "apply returned {} responses for the {commands} commands of entries {}..{}; it must return one for \
                 each",
                responses.len(),
                range.start,
                range.end
            ))));
        }
        self.applied = applied;
        if !waiting.is_empty() {
            self.answer(&entries, commands, responses, waiting).await;
        }
        let timing = ApplyTiming { began, answered: self.shared.clock.now() };
        self.shared.inbox.push_applied(self.applied.last_applied, timing);
        Ok(())
    }

    /// Answers those who wait for `entries`, and lets them go on: executors keep only so many tasks in order.
    async fn answer(
        &mut self,
        entries: &Entries<C>,
        commands: usize,
        responses: Vec<C::Response>,
        waiting: &mut Vec<Batch<C>>,
    ) {
        let range = entries.range();
        let mut responses = responses.into_iter();
        let mut next = range.start;
        while next < range.end {
            let end = range.end.min(next + ANSWERS_PER_POLL_MAX);
            let part = entries.slice(next..end);
            let is_command = |entry: &&Entry<C>| matches!(entry.payload, Payload::Command(_));
            let own =
                if commands == entries.len() { part.len() } else { part.iter().filter(is_command).count() };
            for entry in answer(&part, own, responses.by_ref(), waiting) {
                self.tell(Item::Superseded { entry });
            }
            next = end;
            if next < range.end {
                yield_now().await;
            }
        }
    }

    async fn install(
        &mut self,
        id: SnapshotId,
        snapshot: InstallSnapshot<C>,
        data: SnapshotStream,
        mut cancel: oneshot::Receiver<()>,
    ) -> Result<(), Fatal> {
        if !matches!(cancel.try_recv(), Ok(None)) {
            self.tell(Item::SnapshotInstalled { id, installed: false });
            return Ok(());
        }
        let meta = snapshot.meta;
        let node = self.shared.id;
        tracing::info!(name: "raft.snapshot.install", %node, leader = %snapshot.leader, last = %meta.last, "installing a snapshot");
        let timeout = Duration::from_millis(self.shared.config.snapshot_progress_timeout_ms);
        let (data, failure) =
            IncomingStream::new(data, meta.size_bytes, self.shared.clock.clone(), timeout, cancel);
        let applied = AppliedState { last_applied: meta.last, membership: meta.membership.clone() };
        let last = meta.last;
        let snapshot = Snapshot { meta, data: snapshot_stream(data) };
        let result = self.state_machine.install_snapshot(snapshot).await;
        match result {
            Ok(()) if failure.has_failed() => {
                return Err(Fatal::StateMachine(AnyError::error(format!(
                    "install_snapshot returned no error for the snapshot of entry {last}, whose stream had ended in \
                     one: its state is incomplete"
                ))));
            }
            Ok(()) => {
                tracing::info!(name: "raft.snapshot.installed", %node, %last, "installed a snapshot");
                self.applied = applied;
                self.tell(Item::SnapshotInstalled { id, installed: true });
            }
            // Broken off, or damaged on its way: the state is as before, and the leader sends it again.
            Err(error) if failure.has_failed() || error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!(name: "raft.snapshot.failed", %node, %last, %error, "snapshot not installed");
                self.tell(Item::SnapshotInstalled { id, installed: false });
            }
            Err(error) => {
                return Err(Fatal::StateMachine(
                    AnyError::new(&error).add_context(|| "while installing a snapshot"),
                ));
            }
        }
        Ok(())
    }

    fn tell(&self, item: Item<C>) {
        // A closed inbox means that the node stops: this loop sees it next.
        let _ = self.shared.inbox.push(item);
    }
}

#[cfg(test)]
mod tests;
