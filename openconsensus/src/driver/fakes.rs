//! A runtime, stores and a network for unit tests: in memory, deterministic, and they fail when they are told to.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::poll_fn;
use futures::{FutureExt, StreamExt};

use crate::entries::Entries;
use crate::entry::{Entry, HardState, Index, LogId, Payload, Term};
use crate::membership::MembershipAt;
use crate::message::{InstallSnapshot, InstallSnapshotResponse, Message, SnapshotMeta};
use crate::network::{NetworkError, RaftNetwork};
use crate::runtime::{AsyncRuntime, BoxFuture, MaybeSend, SnapshotStream, snapshot_stream};
use crate::storage::{
    AppliedState, ApplyBatch, LogState, RaftLogReader, RaftLogStorage, RaftStateMachine, Snapshot,
};
use crate::testing::{U64, start};

use super::sync::lock;

/// Commands that equal their index.
pub(crate) fn entries(term: Term, range: Range<Index>) -> Entries<U64> {
    let entry = |index| Entry { log_id: LogId::new(term, index), payload: Payload::Command(index) };
    range.map(entry).collect::<Vec<_>>().into()
}

/// A clock that a test moves, and tasks that run when it says so.
#[derive(Clone)]
pub(crate) struct FakeRuntime {
    state: Arc<Mutex<RuntimeState>>,
    woken: Arc<Flag>,
}

struct RuntimeState {
    now: Instant,
    timers: Vec<(Instant, Waker)>,
    timers_made: usize,
    tasks: Vec<BoxFuture<'static, ()>>,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl FakeRuntime {
    pub(crate) fn new() -> Self {
        let state = RuntimeState { now: start(), timers: Vec::new(), timers_made: 0, tasks: Vec::new() };
        Self { state: Arc::new(Mutex::new(state)), woken: Arc::new(Flag(AtomicBool::new(false))) }
    }

    pub(crate) fn timers_made(&self) -> usize {
        lock(&self.state).timers_made
    }

    /// How many tasks have not ended.
    pub(crate) fn tasks(&self) -> usize {
        lock(&self.state).tasks.len()
    }

    pub(crate) fn advance(&self, by: Duration) {
        let due: Vec<Waker> = {
            let mut state = lock(&self.state);
            state.now += by;
            let now = state.now;
            let (due, later) = std::mem::take(&mut state.timers).into_iter().partition(|(at, _)| *at <= now);
            state.timers = later;
            let due: Vec<(Instant, Waker)> = due;
            due.into_iter().map(|(_, waker)| waker).collect()
        };
        due.into_iter().for_each(Waker::wake);
    }

    /// Runs all tasks until none can go on.
    pub(crate) fn run(&self) {
        let waker = Waker::from(self.woken.clone());
        let mut cx = Context::from_waker(&waker);
        loop {
            self.woken.0.store(false, Ordering::SeqCst);
            let mut tasks = std::mem::take(&mut lock(&self.state).tasks);
            tasks.retain_mut(|task| task.poll_unpin(&mut cx).is_pending());
            let mut state = lock(&self.state);
            let has_new = !state.tasks.is_empty();
            tasks.append(&mut state.tasks);
            state.tasks = tasks;
            if !has_new && !self.woken.0.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    /// Runs all tasks and `future` until it resolves, `None` when none of them can go on.
    pub(crate) fn run_until<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = Box::pin(future);
        let waker = Waker::from(self.woken.clone());
        let mut cx = Context::from_waker(&waker);
        loop {
            self.woken.0.store(false, Ordering::SeqCst);
            if let Poll::Ready(value) = future.poll_unpin(&mut cx) {
                return Some(value);
            }
            let woken_by_itself = self.woken.0.load(Ordering::SeqCst);
            self.run();
            if let Poll::Ready(value) = future.poll_unpin(&mut cx) {
                return Some(value);
            }
            if !woken_by_itself && !self.woken.0.load(Ordering::SeqCst) {
                return None;
            }
        }
    }

    /// As if the executor were shut down: drops all tasks.
    pub(crate) fn drop_tasks(&self) {
        let tasks = std::mem::take(&mut lock(&self.state).tasks);
        drop(tasks);
    }
}

impl AsyncRuntime for FakeRuntime {
    fn spawn(&self, task: impl Future<Output = ()> + MaybeSend + 'static) {
        lock(&self.state).tasks.push(Box::pin(task));
        self.woken.0.store(true, Ordering::SeqCst);
    }

    fn now(&self) -> Instant {
        lock(&self.state).now
    }

    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> + MaybeSend + 'static {
        let state = self.state.clone();
        lock(&state).timers_made += 1;
        poll_fn(move |cx| {
            let mut state = lock(&state);
            if deadline <= state.now {
                return Poll::Ready(());
            }
            state.timers.push((deadline, cx.waker().clone()));
            Poll::Pending
        })
    }

    fn seed(&self) -> u64 {
        7
    }
}

/// A log in memory that writes down its calls. All clones are one log.
#[derive(Clone, Default)]
pub(crate) struct FakeLog(Arc<Mutex<FakeLogState>>);

#[derive(Default)]
pub(crate) struct FakeLogState {
    pub(crate) hard_state: HardState<U64>,
    pub(crate) purged: LogId,
    pub(crate) entries: BTreeMap<Index, Entry<U64>>,
    calls: Vec<String>,
    fail_at: Option<String>,
    pub(crate) panic_at_append: bool,
    pub(crate) hang_at_append: bool,
    hanging: Option<Waker>,
    /// What is said to be the last entry, if it is not the truth.
    pub(crate) claimed_last: Option<LogId>,
    /// Reads see nothing at this index.
    pub(crate) hole: Option<Index>,
    /// How often it was read.
    pub(crate) reads: usize,
    /// What the reader says of memberships.
    pub(crate) known_memberships: Option<Vec<MembershipAt<U64>>>,
}

impl FakeLog {
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut FakeLogState) -> T) -> T {
        change(&mut lock(&self.0))
    }

    pub(crate) fn add(&self, entries: &Entries<U64>) {
        self.with(|state| {
            state.entries.extend(entries.iter().map(|entry| (entry.log_id.index, entry.clone())));
            if let Some(last) = entries.last() {
                state.hard_state.term = last.term;
            }
        });
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.with(|state| state.calls.clone())
    }

    /// Lets an append that hangs go on.
    pub(crate) fn release(&self) {
        let hanging = self.with(|state| {
            state.hang_at_append = false;
            state.hanging.take()
        });
        hanging.into_iter().for_each(Waker::wake);
    }

    /// How many hold this log, readers included.
    pub(crate) fn owners(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// The call that is written down like this fails.
    pub(crate) fn fail_at(&self, call: &str) {
        self.with(|state| state.fail_at = Some(call.to_owned()));
    }

    fn call(&self, call: String, change: impl FnOnce(&mut FakeLogState)) -> io::Result<()> {
        self.with(|state| {
            let fails = state.fail_at.as_ref() == Some(&call);
            state.calls.push(call);
            if fails {
                return Err(io::Error::other("no space left"));
            }
            change(state);
            Ok(())
        })
    }
}

impl RaftLogStorage<U64> for FakeLog {
    type Reader = Self;

    fn reader(&self) -> Self {
        self.clone()
    }

    async fn load(&mut self) -> io::Result<LogState<U64>> {
        Ok(self.with(|state| LogState {
            hard_state: state.hard_state,
            purged: state.purged,
            last: state
                .claimed_last
                .unwrap_or_else(|| state.entries.values().last().map_or(state.purged, |entry| entry.log_id)),
        }))
    }

    async fn save_hard_state(&mut self, hard_state: HardState<U64>) -> io::Result<()> {
        self.call(format!("save_hard_state term {}", hard_state.term), |state| state.hard_state = hard_state)
    }

    async fn append(&mut self, entries: Entries<U64>, commit: Index) -> io::Result<()> {
        let this = self.clone();
        poll_fn(|cx| {
            this.with(|state| {
                if !state.hang_at_append {
                    return Poll::Ready(());
                }
                state.hanging = Some(cx.waker().clone());
                Poll::Pending
            })
        })
        .await;
        let range = entries.range();
        self.call(format!("append {}..{} commit {commit}", range.start, range.end), |state| {
            assert!(!state.panic_at_append, "a bug in append");
            state.entries.extend(entries.iter().map(|entry| (entry.log_id.index, entry.clone())));
        })
    }

    async fn truncate(&mut self, from: Index) -> io::Result<()> {
        self.call(format!("truncate {from}"), |state| drop(state.entries.split_off(&from)))
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.call(format!("purge {upto}"), |state| {
            state.entries = state.entries.split_off(&(upto.index + 1));
            state.purged = upto;
        })
    }
}

impl RaftLogReader<U64> for FakeLog {
    async fn read(&mut self, range: Range<Index>, bytes_max: u64) -> io::Result<Entries<U64>> {
        Ok(self.with(|state| {
            state.reads += 1;
            let end = state.hole.filter(|hole| range.contains(hole)).unwrap_or(range.end);
            let found: Vec<_> =
                state.entries.range(range.start..end).map(|(_, entry)| entry.clone()).collect();
            Entries::from(found).limit_bytes(bytes_max)
        }))
    }

    async fn memberships(&mut self, _range: Range<Index>) -> io::Result<Option<Vec<MembershipAt<U64>>>> {
        Ok(self.with(|state| state.known_memberships.clone()))
    }
}

/// A state machine that sums up its commands. All clones are one state machine.
#[derive(Clone, Default)]
pub(crate) struct FakeStateMachine(Arc<Mutex<FakeState>>);

#[derive(Default)]
pub(crate) struct FakeState {
    pub(crate) applied: AppliedState<U64>,
    pub(crate) sum: u64,
    /// The commands of each call of `apply`.
    pub(crate) batches: Vec<Vec<u64>>,
    pub(crate) snapshot: Option<(SnapshotMeta<U64>, u64)>,
    /// What `apply` does wrong.
    pub(crate) apply_fault: Option<Fault>,
    hanging: Option<Waker>,
    /// Whether `install_snapshot` overlooks errors of its stream, or fails without one.
    pub(crate) install_fault: Option<Fault>,
    /// Whether snapshots can be built.
    pub(crate) build_fault: Option<Fault>,
    /// What is wrong with the current snapshot.
    pub(crate) snapshot_fault: Option<SnapshotFault>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Error,
    Panic,
    /// One response too few; an error of the stream that is overlooked.
    Wrong,
    /// Does not return before the state machine is released.
    Hangs,
    /// Says that the snapshot that came is damaged.
    Damage,
}

/// How a snapshot on the disk is damaged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SnapshotFault {
    /// It cannot be opened.
    Open,
    /// Reading it fails half way.
    Read,
    /// It is shorter than it should be, and nobody has noticed.
    Cut,
}

impl FakeStateMachine {
    /// Lets a call that hangs go on.
    pub(crate) fn release(&self) {
        let hanging = self.with(|state| {
            state.apply_fault = None;
            state.hanging.take()
        });
        hanging.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut FakeState) -> T) -> T {
        change(&mut lock(&self.0))
    }
}

impl RaftStateMachine<U64> for FakeStateMachine {
    async fn applied_state(&mut self) -> io::Result<AppliedState<U64>> {
        Ok(self.with(|state| state.applied.clone()))
    }

    async fn apply(&mut self, batch: ApplyBatch<U64>) -> io::Result<Vec<u64>> {
        let fault = self.with(|state| state.apply_fault);
        let this = self.clone();
        poll_fn(|cx| {
            this.with(|state| {
                if state.apply_fault != Some(Fault::Hangs) {
                    return Poll::Ready(());
                }
                state.hanging = Some(cx.waker().clone());
                Poll::Pending
            })
        })
        .await;
        self.with(|state| {
            let commands: Vec<u64> = batch.commands().map(|(_, command)| *command).collect();
            let mut responses: Vec<u64> = Vec::new();
            for command in &commands {
                state.sum += command;
                responses.push(state.sum);
            }
            state.batches.push(commands);
            state.applied = batch.applied_state().clone();
            match fault {
                Some(Fault::Error) => return Err(io::Error::other("disk on fire")),
                Some(Fault::Panic) => panic!("a bug in apply"),
                Some(Fault::Wrong) => drop(responses.pop()),
                Some(Fault::Hangs | Fault::Damage) | None => {}
            }
            Ok(responses)
        })
    }

    fn build_snapshot(&mut self) -> BoxFuture<'static, io::Result<SnapshotMeta<U64>>> {
        let this = self.clone();
        let (applied, sum) = self.with(|state| (state.applied.clone(), state.sum));
        Box::pin(async move {
            if this.with(|state| state.build_fault.is_some()) {
                return Err(io::Error::new(io::ErrorKind::StorageFull, "no room for a snapshot"));
            }
            let meta = SnapshotMeta {
                last: applied.last_applied,
                membership: applied.membership,
                size_bytes: Some(8),
            };
            this.with(|state| {
                state.snapshot = Some((meta.clone(), sum));
                state.snapshot_fault = None;
            });
            Ok(meta)
        })
    }

    async fn current_snapshot(&mut self) -> io::Result<Option<Snapshot<U64>>> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the snapshot file is damaged");
        let (snapshot, fault) = self.with(|state| (state.snapshot.clone(), state.snapshot_fault));
        let Some((meta, sum)) = snapshot else { return Ok(None) };
        let whole = Bytes::copy_from_slice(&sum.to_be_bytes());
        let chunks = match fault {
            None => vec![Ok(whole)],
            Some(SnapshotFault::Open) => return Err(damaged()),
            Some(SnapshotFault::Read) => vec![Ok(whole.slice(..4)), Err(damaged())],
            Some(SnapshotFault::Cut) => vec![Ok(whole.slice(..4))],
        };
        Ok(Some(Snapshot { meta, data: snapshot_stream(futures::stream::iter(chunks)) }))
    }

    async fn install_snapshot(&mut self, snapshot: Snapshot<U64>) -> io::Result<()> {
        let fault = self.with(|state| state.install_fault);
        let Snapshot { meta, mut data } = snapshot;
        let mut bytes = Vec::new();
        while let Some(chunk) = data.next().await {
            match chunk {
                Ok(chunk) => bytes.extend_from_slice(&chunk),
                Err(_) if fault == Some(Fault::Wrong) => {}
                Err(error) => return Err(error),
            }
        }
        match fault {
            Some(Fault::Error) => return Err(io::Error::other("disk on fire")),
            Some(Fault::Damage) => return Err(io::Error::new(io::ErrorKind::InvalidData, "it is damaged")),
            Some(Fault::Panic | Fault::Wrong | Fault::Hangs) | None => {}
        }
        let sum = bytes.try_into().map_or(0, u64::from_be_bytes);
        self.with(|state| {
            state.sum = sum;
            state.applied = AppliedState { last_applied: meta.last, membership: meta.membership.clone() };
            state.snapshot = Some((meta, sum));
        });
        Ok(())
    }
}

/// A network whose peers answer nothing, and take snapshots as they are told.
#[derive(Clone, Default)]
pub(crate) struct FakeNetwork(Arc<Mutex<FakeNetworkState>>);

#[derive(Default)]
pub(crate) struct FakeNetworkState {
    pub(crate) panics: bool,
    pub(crate) sent: Vec<(u64, Message<U64>)>,
    /// To whom messages were sent without an address.
    pub(crate) without_address: Vec<u64>,
    /// What a peer does with a snapshot: takes none of it, takes all and is silent, or takes all and answers.
    pub(crate) takes_snapshots: bool,
    pub(crate) answers_snapshots: bool,
}

impl FakeNetwork {
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut FakeNetworkState) -> T) -> T {
        change(&mut lock(&self.0))
    }
}

impl RaftNetwork<U64> for FakeNetwork {
    fn send(&self, peer: u64, node: Option<&()>, messages: Vec<Message<U64>>) {
        let panics = self.with(|state| {
            state.sent.extend(messages.into_iter().map(|message| (peer, message)));
            if node.is_none() {
                state.without_address.push(peer);
            }
            state.panics
        });
        assert!(!panics, "a bug in send");
    }

    fn send_snapshot(
        &self,
        _peer: u64,
        _node: &(),
        request: InstallSnapshot<U64>,
        mut data: SnapshotStream,
    ) -> impl Future<Output = Result<InstallSnapshotResponse, NetworkError>> + MaybeSend + 'static {
        let (takes, answers) = self.with(|state| (state.takes_snapshots, state.answers_snapshots));
        async move {
            if takes {
                while data.next().await.is_some() {}
            }
            if !answers {
                std::future::pending::<()>().await;
            }
            Ok(InstallSnapshotResponse { term: request.term, installed: Some(request.meta.last.index) })
        }
    }
}
