//! Inputs to the engine, effects to everybody else; the only owner of the engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::channel::oneshot;

use crate::engine::{Effects, Engine, Input, LogRead, SnapshotId, WriteHold, WriteId};
use crate::entry::{Index, LogId};
use crate::error::WriteError;
use crate::leadership::LeadershipEvent;
use crate::network::RaftNetwork;
use crate::runtime::AsyncRuntime;
use crate::type_config::TypeConfig;

mod ending;
mod snapshots;

use super::alarm::Alarm;
use super::apply_loop::Work;
use super::arrivals::Arrivals;
use super::clock_watch::ClockWatch;
use super::gathered::Gathered;
use super::idle::Idle;
use super::inbox::{Inbox, Queue as _};
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
    /// The last write that has become durable, and that the engine has not been told.
    persisted: Option<WriteId>,
    idle: Idle,
    /// Other tasks of the thread have had their turn since the last one of this.
    has_yielded: bool,
    /// How many commands were asked for when some were asked for last.
    written_last: usize,
    /// When there is something to do even if nothing comes in.
    deadline: Option<Instant>,
    /// When to look how far the state machine has come, while it has something before it.
    look_at_applied: Option<Instant>,
    /// Only where leases rest on the clock.
    clock_watch: Option<ClockWatch>,
}

/// What has come in.
enum Arrived {
    Nothing,
    /// The writes of some clients, and more are expected at once.
    FirstWrites,
    Something,
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
        let mut core = Self {
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
            outbox: Outbox::new(
                network,
                &metrics.membership,
                Duration::from_millis(shared.config.commit_delay_ms_max),
            ),
            alarm: Alarm::new(shared.clock.clone(), shared.inbox.consumer().clone()),
            persisted: None,
            idle: Idle::new(shared.config.idle_looks_max),
            has_yielded: false,
            written_last: 0,
            deadline: None,
            look_at_applied: None,
            clock_watch: ClockWatch::of(&shared.config),
            shared,
        };
        core.deadline = core.next_deadline();
        core
    }

    pub(super) fn shared(&self) -> &Shared<C> {
        &self.shared
    }

    /// Takes a turn if there is something to do. Ready when the node is to stop.
    ///
    /// One turn only: what a leader has sent is seen by the followers of the same thread before its next turn, and their
    /// answers go into that. A leader that went on would append ever smaller batches as they come in and leave its followers
    /// waiting.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.idle.is_looking() && !self.may_have_something() && self.idle.looks_again() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Before the first look: what comes in behind it wakes this task again.
        self.shared.inbox.listen(cx);
        if self.shared.fatal().is_some() {
            return Poll::Ready(());
        }
        let arrived = self.take_arrivals();
        self.persisted = self.queues.log.take_done().or(self.persisted);
        let mut has_rung = self.alarm.has_rung();
        let is_pressed = matches!(arrived, Arrived::Something) || has_rung || self.may_write();
        if !is_pressed && self.has_time() {
            if matches!(arrived, Arrived::Nothing) && self.persisted.is_none() {
                // Before it is looked for anything: the other tasks between two looks may take long.
                has_rung = self.alarm.set(self.deadline);
                if !has_rung {
                    // A closed inbox has woken this task, but then the reason is set.
                    if self.shared.fatal().is_some() {
                        return Poll::Ready(());
                    }
                    if self.idle.looks_again() {
                        cx.waker().wake_by_ref();
                    }
                    return Poll::Pending;
                }
            } else if !std::mem::replace(&mut self.has_yielded, true) {
                // What other tasks of this thread have for this one then goes into the same turn.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        self.has_yielded = false;
        self.idle.is_over();
        self.turn(has_rung);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether it is worth a look into everything. Without a lock: producers are not held up.
    fn may_have_something(&self) -> bool {
        self.shared.inbox.has_news() || self.queues.log.has_done() || self.alarm.may_have_rung()
    }

    /// Whether nothing is late if other tasks get their turn before this one sees that its log has written something. A
    /// leader may be acknowledged by others in the meantime; a follower holds back its answer until then.
    fn has_time(&self) -> bool {
        self.persisted.is_none()
            || self.engine.leading_term().is_some() && 1 < self.engine.membership().nodes().len()
    }

    /// Takes what has come in, if there is anything for which a turn is to be taken.
    ///
    /// Where many write, those who were answered together write again together: they get their turn first, once, so that
    /// they are one batch. An executor would run this task behind the first of them otherwise.
    fn take_arrivals(&mut self) -> Arrived {
        if !self.taken.is_empty() {
            return Arrived::Something;
        }
        let wants_applied = self.wants_applied();
        // A little more than last time, so that batches can grow.
        self.taken.writes.reserve(self.written_last + self.written_last / 4);
        let expects_more = 1 < self.written_last && !self.has_yielded;
        let mut arrived = Arrived::Nothing;
        self.taken.wants_applied = wants_applied;
        self.shared.inbox.take_if(&mut self.taken, |arrivals| {
            arrivals.wants_applied = wants_applied;
            arrived = match () {
                () if arrivals.is_quiet() => Arrived::Nothing,
                () if expects_more && arrivals.has_only_writes() => Arrived::FirstWrites,
                () => Arrived::Something,
            };
            matches!(arrived, Arrived::Something)
        });
        arrived
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
            self.outbox.next_deadline(),
            self.look_at_applied,
        ];
        deadlines.into_iter().flatten().min()
    }

    fn turn(&mut self, has_rung: bool) {
        if self.taken.is_empty() {
            // What nobody has waited for, if there is anything.
            self.shared.inbox.take_all(&mut self.taken);
        }
        // Behind the look into the inbox: who reads by a lease must have asked before this time.
        let now = self.runtime.now();
        let is_due = has_rung || self.deadline.is_some_and(|deadline| deadline <= now);
        if let Some(watch) = &mut self.clock_watch
            && watch.has_jumped(now, self.runtime.wall_clock())
        {
            tracing::warn!(name: "raft.clock_jumped", node = %self.shared.id, "the clock has stopped or jumped: no lease is relied on");
            self.engine.step(now, Input::ClockJumped);
        }
        if let Some(write) = self.persisted.take() {
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
        self.deadline = self.next_deadline();
    }

    /// Lets the engine see what was taken, up to a limit.
    fn accept_arrivals(&mut self, now: Instant) {
        for (last, timing) in self.taken.applied.drain(..) {
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
                self.written_last = commands.len();
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
        self.outbox.send(now, self.engine.membership(), messages);
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

    fn publish(&mut self, now: Instant, when: fn(&mut Publisher<C>, Instant, &Sources<'_, C>)) {
        let Self { engine, stages, requests, queues, shared, publisher, outbox, .. } = self;
        let spared = outbox.spared();
        when(publisher, now, &Sources { engine, stages, requests, log: &queues.log, shared, spared });
    }
}
