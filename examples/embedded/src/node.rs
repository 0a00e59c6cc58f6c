//! One node: an engine, and somebody who carries out what it asks for.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use openconsensus::engine::{Apply, Effects, Engine, Input, LogWrite, Recovered, Reply, RequestId};
use openconsensus::engine::{SnapshotEffect, SnapshotId};
use openconsensus::{
    AppliedState, ApplyBatch, Config, Entries, HardState, Index, InstallSnapshot, InstallSnapshotResponse,
    LogId, Message, SnapshotMeta, TypeConfig,
};

/// What is replicated: numbers to add.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sum;

impl TypeConfig for Sum {
    type Command = u64;
    type Response = u64;
    type NodeId = u64;
    type Node = ();

    fn command_bytes(_: &u64) -> u64 {
        8
    }
}

/// The state machine, and what a snapshot of it is.
#[derive(Clone, Default)]
pub(crate) struct State {
    applied: AppliedState<Sum>,
    sum: u64,
}

/// What nodes send to each other: messages of the engine and, beside them, snapshots and what became of them.
pub(crate) enum What {
    Message(Message<Sum>),
    Snapshot { id: SnapshotId, announced: Box<InstallSnapshot<Sum>>, state: State },
    SnapshotAnswer { id: SnapshotId, response: InstallSnapshotResponse },
}

/// What survives a crash. A view of entries is as good a log as any: it is cheap to cut and to join.
#[derive(Default)]
pub(crate) struct Disk {
    hard_state: HardState<Sum>,
    purged: LogId,
    entries: Entries<Sum>,
    snapshot: State,
}

/// The disk needs so long for a write.
const WRITING: Duration = Duration::from_millis(3);

pub(crate) struct Node {
    id: u64,
    pub(crate) engine: Engine<Sum>,
    pub(crate) disk: Disk,
    /// Handed to the disk, each with the time when it will be durable.
    writing: VecDeque<(Instant, LogWrite<Sum>)>,
    state: State,
    /// The sum behind each command that was applied here.
    sums: BTreeMap<LogId, u64>,
    pub(crate) replies: BTreeMap<RequestId, Reply<Sum>>,
    /// Snapshots that have come: who sent each under which name, and its bytes.
    arrived: BTreeMap<RequestId, (u64, SnapshotId, State)>,
    arrivals: u64,
    pub(crate) sent_before_durable: usize,
}

impl Node {
    /// Tells a new engine what was found. The state begins with its snapshot; the engine will hand out every committed
    /// entry behind it once more.
    pub(crate) fn start(id: u64, seed: u64, mut disk: Disk, now: Instant) -> Self {
        let state = disk.snapshot.clone();
        let snapshot = state.applied.last_applied;
        if disk.entries.last().unwrap_or(disk.purged).index < snapshot.index {
            // The crash came after a snapshot was installed and before the log was cut: it begins anew behind it.
            (disk.entries, disk.purged) = (Entries::empty(), snapshot);
        }
        let (hard_state, applied) = (disk.hard_state, state.applied.clone());
        let found = Recovered { hard_state, applied, snapshot, ..Recovered::empty(id, seed) };
        let config = Config {
            snapshot_after_entries: Some(30),
            log_keep_entries: 5,
            log_hold_entries_max: 5,
            ..Config::default()
        };
        let config = config.validate().expect("these values are allowed");
        let engine = Engine::new(config, found.with_log(disk.purged, &disk.entries), now);
        Self {
            id,
            engine: engine.expect("what was found does not contradict itself"),
            disk,
            writing: VecDeque::new(),
            state,
            sums: BTreeMap::new(),
            replies: BTreeMap::new(),
            arrived: BTreeMap::new(),
            arrivals: 0,
            sent_before_durable: 0,
        }
    }

    /// When to look at this node again, unless a letter comes before.
    pub(crate) fn next_event(&self) -> Option<Instant> {
        let durable = self.writing.front().map(|(durable, _)| *durable);
        durable.into_iter().chain(self.engine.next_deadline()).min()
    }

    /// The sum, once the state is that of `index` or a later one.
    pub(crate) fn sum_from(&self, index: Index) -> Option<u64> {
        (index <= self.state.applied.last_applied.index).then_some(self.state.sum)
    }

    /// The sum behind `entry`, once its index is applied; `None` in it when that was another entry.
    pub(crate) fn sum_at(&self, entry: LogId) -> Option<Option<u64>> {
        self.sum_from(entry.index).map(|_| self.sums.get(&entry).copied())
    }

    pub(crate) fn receive(&mut self, now: Instant, from: u64, what: What) {
        let input = match what {
            What::Message(message) => Input::Receive { from, message },
            What::Snapshot { id, announced, state } => {
                // Its bytes wait here; the engine decides whether they are wanted.
                self.arrivals += 1;
                let request = RequestId(u64::MAX - self.arrivals);
                self.arrived.insert(request, (from, id, state));
                Input::InstallSnapshot { request, snapshot: *announced }
            }
            What::SnapshotAnswer { id, response } => Input::SnapshotSent { id, response: Some(response) },
        };
        self.engine.step(now, input);
    }

    pub(crate) fn look_at_disk_and_clock(&mut self, now: Instant) {
        let durable = self.writing.partition_point(|(durable, _)| *durable <= now);
        for (_, write) in self.writing.drain(..durable) {
            let id = write.id;
            self.disk.carry_out(write);
            self.engine.step(now, Input::Persisted { write: id });
        }
        // Too early does no harm.
        self.engine.step(now, Input::Timeout);
    }

    /// Carries out what the engine wants, in the order of the fields, and returns what is to be sent.
    pub(crate) fn carry_out(&mut self, now: Instant) -> Vec<(u64, What)> {
        let mut letters = Vec::new();
        loop {
            let effects = self.engine.take_effects(now);
            if effects.is_empty() {
                return letters;
            }
            let Effects {
                write,
                messages,
                replies,
                reads,
                apply,
                snapshots,
                leadership: _,
                state_changed: _,
            } = effects;
            // 1. The disk begins. Nothing below waits for it: the engine keeps back what depends on it.
            let appends = write.as_ref().is_some_and(|write| !write.append.is_empty());
            self.writing.extend(write.map(|write| (now + WRITING, write)));
            // 2. So the messages leave now: a leader's appends beside its own write.
            self.sent_before_durable += if appends { messages.len() } else { 0 };
            letters.extend(messages.into_iter().map(|(to, message)| (to, What::Message(message))));
            // 3. Answers.
            for (request, reply) in replies {
                match (reply, self.arrived.remove(&request)) {
                    (Reply::InstallFinished(response), Some((from, id, _))) => {
                        letters.push((from, What::SnapshotAnswer { id, response }));
                    }
                    (reply, _) => drop(self.replies.insert(request, reply)),
                }
            }
            // 4. Old entries for peers that lag.
            for read in reads {
                let entries = self.disk.entries.slice(read.range).limit_bytes(read.bytes_max);
                self.engine.step(now, Input::LogRead { read: read.id, entries });
            }
            // 5. The state machine, and 6. behind it the snapshots.
            if let Some(apply) = apply {
                self.apply(now, apply);
            }
            for effect in snapshots {
                letters.extend(self.carry_out_snapshot(now, effect));
            }
        }
    }

    fn apply(&mut self, now: Instant, Apply { range, entries }: Apply<Sum>) {
        // What is not in memory any more is on the disk, for only what is durable is applied.
        let old = self.disk.entries.slice(range.start..range.end - entries.len() as u64);
        let batch = ApplyBatch::new(&self.state.applied, Entries::concat([old, entries]));
        for (entry, number) in batch.commands() {
            self.state.sum += number;
            self.sums.insert(entry, self.state.sum);
        }
        self.state.applied = batch.applied_state().clone();
        self.engine.step(now, Input::Applied { last: self.state.applied.last_applied });
    }

    fn carry_out_snapshot(&mut self, now: Instant, effect: SnapshotEffect<Sum>) -> Option<(u64, What)> {
        match effect {
            SnapshotEffect::Build { id } => {
                self.disk.snapshot = self.state.clone();
                self.engine.step(now, Input::SnapshotBuilt { id, meta: self.disk.snapshot.meta() });
                None
            }
            SnapshotEffect::Send { id, peer, term } => {
                let state = self.disk.snapshot.clone();
                let announced = InstallSnapshot { term, leader: self.id, meta: state.meta() }.into();
                Some((peer, What::Snapshot { id, announced, state }))
            }
            SnapshotEffect::Install { id, request, .. } => {
                self.disk.snapshot = self.arrived[&request].2.clone();
                self.state = self.disk.snapshot.clone();
                self.engine.step(now, Input::SnapshotInstalled { id, installed: true });
                None
            }
            // A snapshot is one letter here: there is nothing that could be given up half-way.
            SnapshotEffect::Discard { .. } => None,
        }
    }
}

impl State {
    fn meta(&self) -> SnapshotMeta<Sum> {
        let AppliedState { last_applied: last, membership } = self.applied.clone();
        SnapshotMeta { last, membership, size_bytes: None }
    }
}

impl Disk {
    /// The parts of a write, in the order in which they stand.
    fn carry_out(&mut self, write: LogWrite<Sum>) {
        self.hard_state = write.hard_state.unwrap_or(self.hard_state);
        self.entries = self.entries.slice(0..write.truncate.unwrap_or(Index::MAX));
        if let Some(upto) = write.purge {
            self.entries = self.entries.slice(upto.index + 1..Index::MAX);
            self.purged = upto;
        }
        self.entries = Entries::concat([std::mem::take(&mut self.entries), write.append]);
        self.hard_state.commit = self.hard_state.commit.max(write.commit);
    }
}
