//! Inputs to the engine, effects to everybody else; the only owner of the engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::channel::oneshot;

use crate::engine::{Effects, Engine, Input, LogRead, SnapshotEffect, SnapshotId, WriteHold, WriteId};
use crate::entry::{Index, LogId};
use crate::error::WriteError;
use crate::leadership::LeadershipEvent;
use crate::network::RaftNetwork;
use crate::runtime::AsyncRuntime;
use crate::type_config::TypeConfig;

use super::alarm::Alarm;
use super::apply_loop::Work;
use super::arrivals::Arrivals;
use super::clock_watch::ClockWatch;
use super::gathered::Gathered;
use super::inbox::Inbox;
use super::item::Item;
use super::log_loop::LogQueue;
use super::outbox::Outbox;
use super::pending::Pending;
use super::publish::{Publisher, Sources};
use super::requests::{Asker, Readers, Requests};
use super::shared::Shared;
use super::stages::Stages;
use super::waiters::Batch;
use super::writes::Writes;

/// How long it takes at most to see that the state machine has applied something for which nobody waits.
const LOOK_AT_APPLIED: Duration = Duration::from_millis(1);

/// How many turns are taken before other tasks of the thread get their turn.
const TURNS_PER_POLL_MAX: usize = 8;

/// The loop and what it owns.
///
/// It never waits for anything in the middle of a turn. A turn takes what has come in, lets the engine see all of it,
/// and carries out what the engine wants: everything that arrives meanwhile forms the next turn.
pub(super) struct Core<C: TypeConfig, R, N> {
    engine: Engine<C>,
    runtime: R,
    shared: Arc<Shared<C>>,
    queues: Queues<C>,
    /// Taken from the inbox and not looked at yet.
    taken: Arrivals<C>,
    /// Since when the first writer or reader has waited of those that were taken last.
    taken_since: Option<Instant>,
    /// The last entry that was handed to the state machine.
    handed_over: Index,
    /// The entry that this leader is to apply before it says that it is ready.
    ready_at: Index,
    /// What clients want and the engine has not been asked for yet.
    gathered: Gathered<C>,
    requests: Requests<C>,
    pending: Pending<C>,
    /// Dropping one gives up the snapshot that is being built, sent or installed under its id.
    cancels: BTreeMap<SnapshotId, oneshot::Sender<()>>,
    /// The last entry of each snapshot that is being installed.
    installing: BTreeMap<SnapshotId, Index>,
    stages: Stages,
    publisher: Publisher<C>,
    outbox: Outbox<C, N>,
    alarm: Alarm,
    /// When to look how far the state machine has come, while it has something before it.
    look_at_applied: Option<Instant>,
    /// Only where leases rest on the clock.
    clock_watch: Option<ClockWatch>,
}

/// The ways to the other loops.
pub(super) struct Queues<C: TypeConfig> {
    pub(super) log: Arc<LogQueue<C>>,
    pub(super) apply: Arc<Inbox<Vec<Work<C>>>>,
    pub(super) catch_up: Arc<Inbox<Vec<LogRead>>>,
}

impl<C, R, N> Core<C, R, N>
where
    C: TypeConfig,
    R: AsyncRuntime,
    N: RaftNetwork<C>,
{
    pub(super) fn new(
        engine: Engine<C>,
        runtime: R,
        network: Arc<N>,
        shared: Arc<Shared<C>>,
        queues: Queues<C>,
    ) -> Self {
        let metrics = shared.watch.latest();
        let publisher = Publisher::new(&engine, shared.config.metrics_interval_ms);
        Self {
            engine,
            runtime,
            queues,
            taken: Arrivals::default(),
            taken_since: None,
            handed_over: metrics.applied.index,
            ready_at: 0,
            gathered: Gathered::new(),
            requests: Requests::new(shared.id, metrics.applied.index),
            pending: Pending::new(),
            cancels: BTreeMap::new(),
            installing: BTreeMap::new(),
            stages: Stages::new(),
            publisher,
            outbox: Outbox::new(network, &metrics.membership),
            alarm: Alarm::new(shared.clock.clone(), shared.inbox.consumer().clone()),
            look_at_applied: None,
            clock_watch: ClockWatch::of(&shared.config),
            shared,
        }
    }

    pub(super) fn shared(&self) -> &Shared<C> {
        &self.shared
    }

    /// Takes turns while there is something to do. Ready when the node is to stop.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Before the first look: what comes in behind it wakes this task again.
        self.shared.inbox.listen(cx);
        for _ in 0..TURNS_PER_POLL_MAX {
            if self.shared.fatal().is_some() {
                return Poll::Ready(());
            }
            let has_arrivals = self.take_arrivals();
            let persisted = self.queues.log.take_done();
            let mut has_rung = self.alarm.has_rung();
            if !has_arrivals && persisted.is_none() && !self.may_write() {
                has_rung |= self.alarm.set(self.next_deadline());
                if !has_rung {
                    // A closed inbox has woken this task, but then the reason is set.
                    return if self.shared.fatal().is_some() { Poll::Ready(()) } else { Poll::Pending };
                }
            }
            self.turn(persisted, has_rung);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes what has come in, if there is anything for which a turn is to be taken. Says whether there is.
    fn take_arrivals(&mut self) -> bool {
        let wants_applied = self.wants_applied();
        let Self { shared, taken, .. } = self;
        if !taken.is_empty() {
            return true;
        }
        taken.wants_applied = wants_applied;
        shared.inbox.take_loud(taken, |arrivals| arrivals.wants_applied = wants_applied)
    }

    /// Whether somebody waits for what the state machine has applied. Nobody else need be woken for it: it is seen soon
    /// enough with whatever comes next.
    fn wants_applied(&self) -> bool {
        let applied = self.engine.applied().index;
        let ready = self.engine.committed().min(self.engine.stable());
        applied < self.handed_over
            && (self.requests.has_readers() || applied < self.ready_at || self.handed_over < ready)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.engine.next_deadline(),
            self.pending.next_deadline(),
            self.requests.next_deadline(),
            self.publisher.next_deadline(),
            self.look_at_applied,
        ];
        deadlines.into_iter().flatten().min()
    }

    fn turn(&mut self, persisted: Option<WriteId>, has_rung: bool) {
        if self.taken.is_empty() {
            // What nobody has waited for, if there is anything.
            self.shared.inbox.take_all(&mut self.taken);
        }
        // Behind the look into the inbox: who reads by a lease must have asked before this time.
        let now = self.runtime.now();
        let is_due = has_rung || self.next_deadline().is_some_and(|deadline| deadline <= now);
        if let Some(watch) = &mut self.clock_watch
            && watch.has_jumped(now, self.runtime.wall_clock())
        {
            tracing::warn!(name: "raft.clock_jumped", node = %self.shared.id, "the clock has stopped or jumped: no lease is relied on");
            self.engine.step(now, Input::ClockJumped);
        }
        if let Some(write) = persisted {
            self.engine.step(now, Input::Persisted { write });
        }
        self.accept_arrivals(now);
        // Behind the messages: a leader that was heard of only now must not be taken for dead.
        if is_due {
            self.engine.step(now, Input::Timeout);
        }
        self.ask(now);
        let effects = self.engine.take_effects(now);
        self.carry_out(now, effects);
        if is_due {
            self.pending.expire(now);
            self.requests.expire(now);
        }
        let is_applying = self.engine.applied().index < self.handed_over;
        self.look_at_applied = is_applying.then(|| now + LOOK_AT_APPLIED);
        self.publish(now, Publisher::publish_if_due);
    }

    /// Lets the engine see what was taken, up to a limit.
    fn accept_arrivals(&mut self, now: Instant) {
        for (last, timing) in std::mem::take(&mut self.taken.applied) {
            self.stages.applied(last, last.index - self.engine.applied().index, &timing);
            self.engine.step(now, Input::Applied { last });
            self.requests.applied(now, last.index);
        }
        if !self.taken.writes.is_empty() {
            let since = self.taken.since.unwrap_or(now);
            self.gathered.write(since, &mut self.taken.writes);
        }
        self.taken_since = self.taken.since.take();
        let inputs_max = self.shared.config.inputs_per_turn_max as usize;
        let mut items = std::mem::take(&mut self.taken.items);
        for item in items.drain(..inputs_max.min(items.len())) {
            self.accept(now, item);
        }
        // Keeps the allocation, and what was too much for this turn.
        self.taken.items = items;
    }

    fn accept(&mut self, now: Instant, item: Item<C>) {
        match item {
            Item::Read { reader } => self.gathered.read(reader),
            Item::ReadByLease { reader } => self.gathered.read_by_lease(reader),
            Item::Receive { from, messages, permit } => {
                for message in messages {
                    self.engine.step(now, Input::Receive { from, message });
                }
                drop(permit);
            }
            Item::Request { request, permit } => {
                self.requests.admit_next(permit);
                let input = self.requests.input(*request);
                self.engine.step(now, input);
            }
            Item::Superseded { entry } => self.pending.superseded(entry),
            Item::SnapshotInstalled { id, installed } => {
                self.cancels.remove(&id);
                let last = self.installing.remove(&id);
                self.engine.step(now, Input::SnapshotInstalled { id, installed });
                if let Some(last) = last
                    && installed
                {
                    self.pending.covered_by_snapshot(last);
                    self.requests.applied(now, last);
                }
            }
            Item::Input(input) => {
                if let Input::SnapshotBuilt { id, .. }
                | Input::SnapshotBuildFailed { id, .. }
                | Input::SnapshotUnreadable { id, .. }
                | Input::SnapshotSent { id, .. } = &*input
                {
                    self.cancels.remove(id);
                }
                self.engine.step(now, *input);
            }
        }
    }

    /// Whether there are commands that the engine may be asked to append.
    fn may_write(&self) -> bool {
        self.gathered.has_commands() && !self.engine.holds_writes()
    }

    /// Asks the engine once for all writers and once for all readers of one kind.
    fn ask(&mut self, now: Instant) {
        match self.engine.write_hold() {
            Some(WriteHold::Transfer) => self.gathered.refuse_impatient(&WriteError::Transferring),
            Some(WriteHold::Uncommitted { bytes }) => {
                let limit = self.shared.config.uncommitted_bytes_max;
                self.gathered.refuse_impatient(&WriteError::Busy { bytes, limit });
            }
            None if self.gathered.has_commands() => {
                let inputs_max = self.shared.config.inputs_per_turn_max as usize;
                let (Writes { commands, waiters }, since) = self.gathered.take_writes(inputs_max);
                let request = self.requests.add(Asker::Write(waiters, since.unwrap_or(now)));
                self.engine.step(now, Input::Write { request, commands });
            }
            None => {}
        }
        let since = self.taken_since.unwrap_or(now);
        let (readers, lease_readers) = self.gathered.take_readers();
        if !readers.is_empty() {
            let request = self.requests.add(Asker::Read(Readers { readers, since, by_lease: false }));
            self.engine.step(now, Input::Read { request });
        }
        if !lease_readers.is_empty() {
            let request =
                self.requests.add(Asker::Read(Readers { readers: lease_readers, since, by_lease: true }));
            self.engine.step(now, Input::ReadByLease { request });
        }
    }

    /// Carries out the fields in the order in which they stand, as [`Effects`] asks for.
    fn carry_out(&mut self, now: Instant, effects: Effects<C>) {
        let Effects { write, messages, replies, reads, apply, snapshots, leadership, state_changed } =
            effects;
        if let Some(write) = write {
            self.queues.log.push(write);
        }
        self.outbox.send(self.engine.membership(), messages);
        let outcome_deadline = now + Duration::from_millis(self.shared.config.write_outcome_timeout_ms);
        let read_deadline = now + Duration::from_millis(self.shared.config.read_timeout_ms);
        for (request, reply) in replies {
            if let Some((batch, asked)) = self.requests.answer(request, reply, now, read_deadline) {
                let (first, end) = (batch.next(), batch.end());
                let last = LogId::new(first.term, end - 1);
                self.stages.appended(now, asked, last, end - first.index);
                self.pending.appended(batch, outcome_deadline);
            }
        }
        for read in reads {
            // A queue of another loop is closed only when the node stops.
            let _ = self.queues.catch_up.push(read);
        }
        if let Some(apply) = apply {
            self.handed_over = apply.range.end - 1;
            let waiting: Vec<Batch<C>> = self.pending.hand_over(apply.range.clone());
            let _ = self.queues.apply.push(Work::Apply { apply, waiting });
        }
        for effect in snapshots {
            self.carry_out_snapshot(effect);
        }
        self.stages.look(now, &self.engine);
        if !leadership.is_empty() {
            for event in &leadership {
                if let LeadershipEvent::Started { ready_at, .. } = event {
                    self.ready_at = *ready_at;
                }
            }
            self.shared.leadership.publish(leadership);
        }
        if state_changed {
            self.publish(now, Publisher::look);
            self.pending.keep_only(self.publisher.leading_term(), outcome_deadline);
            self.outbox.learn_addresses(self.engine.membership_at());
        }
    }

    fn carry_out_snapshot(&mut self, effect: SnapshotEffect<C>) {
        let work = match effect {
            SnapshotEffect::Build { id } => Work::BuildSnapshot { id, cancel: self.cancel(id) },
            SnapshotEffect::Send { id, peer, term } => {
                let Some(node) = self.outbox.address(self.engine.membership(), peer).cloned() else {
                    // It was never a member.
                    let input = Input::SnapshotSent { id, response: None };
                    let _ = self.shared.inbox.push(Item::input(input));
                    return;
                };
                Work::SendSnapshot { id, peer, node, term, cancel: self.cancel(id) }
            }
            SnapshotEffect::Install { id, request, snapshot } => {
                let Some(data) = self.requests.take_stream(request) else {
                    panic!("the engine installs a snapshot for {request:?}, which did not come with one");
                };
                self.installing.insert(id, snapshot.meta.last.index);
                Work::InstallSnapshot { id, snapshot, data, cancel: self.cancel(id) }
            }
            SnapshotEffect::Discard { id } => {
                self.cancels.remove(&id);
                return;
            }
        };
        let _ = self.queues.apply.push(work);
    }

    fn cancel(&mut self, id: SnapshotId) -> oneshot::Receiver<()> {
        let (cancel, cancelled) = oneshot::channel();
        self.cancels.insert(id, cancel);
        cancelled
    }

    fn publish(&mut self, now: Instant, when: fn(&mut Publisher<C>, Instant, &Sources<'_, C>)) {
        let Self { engine, stages, requests, queues, shared, publisher, .. } = self;
        when(publisher, now, &Sources { engine, stages, requests, log: &queues.log, shared });
    }

    /// A write to the log has failed: the engine names a successor and falls silent. Nothing else but its replies is
    /// passed on.
    pub(super) fn storage_failed(&mut self) {
        let now = self.runtime.now();
        self.engine.step(now, Input::StorageFailed);
        let Effects { messages, replies, leadership, .. } = self.engine.take_effects(now);
        // All that a node without a disk may still say: who is to take over.
        self.outbox.send(self.engine.membership(), messages);
        self.shared.leadership.publish(leadership);
        for (request, reply) in replies {
            if let Some((batch, _)) = self.requests.answer(request, reply, now, now) {
                self.pending.appended(batch, now);
            }
        }
        self.publish(now, Publisher::look);
    }

    /// Answers everybody who still waits. Nothing may be asked of the core afterwards.
    ///
    /// `has_panicked` tells that the core was interrupted in the middle of a turn.
    pub(super) fn finish(&mut self, has_panicked: bool) {
        self.queues.apply.close();
        self.queues.catch_up.close();
        self.cancels.clear();
        let reason = self.shared.reason();
        if has_panicked {
            self.requests.forget_writers();
        } else {
            self.publish(self.runtime.now(), Publisher::publish_last);
        }
        self.requests.fail(&reason);
        // Dropping those who wait for entries tells them that the outcome is unknown.
        self.pending = Pending::new();
        self.gathered.take_writes(usize::MAX).0.waiters.fail(&WriteError::Fatal(reason.clone()));
        std::mem::take(&mut self.taken).refuse(&reason);
        self.shared.inbox.drain().refuse(&reason);
        self.shared.leadership.close();
        self.shared.watch.stop(reason);
    }
}
