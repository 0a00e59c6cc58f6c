//! One node of the harness: an engine, what it has on its disk, and its state machine.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use openconsensus::engine::{Apply, Engine, LogWrite, Reply, RequestId, SnapshotId};
use openconsensus::{
    AppliedState, ApplyBatch, Entries, Index, InstallSnapshot, LogId, RaftMetrics, RoleName, SnapshotMeta,
    Term, ValidConfig,
};

use super::{Disk, Test};

/// The state of a state machine: the commands that it has applied, in order.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// What has been applied, and the membership there.
    pub applied: AppliedState<Test>,
    /// The commands, in order.
    pub commands: Vec<(LogId, u64)>,
}

impl Image {
    /// What a snapshot of this state covers.
    pub fn meta(&self) -> SnapshotMeta<Test> {
        SnapshotMeta {
            last: self.applied.last_applied,
            membership: self.applied.membership.clone(),
            size_bytes: None,
        }
    }
}

/// A snapshot that has arrived and is to be installed.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub from: u64,
    /// How the sender names the transfer.
    pub id: SnapshotId,
    pub image: Image,
}

/// A snapshot that the state machine is to install.
#[derive(Clone, Debug)]
pub struct Installation {
    pub id: SnapshotId,
    pub request: RequestId,
    pub announced: InstallSnapshot<Test>,
}

/// Work of the state machine.
#[derive(Clone, Debug)]
pub enum Work {
    Apply(Apply<Test>),
    Build(SnapshotId),
    Install(Installation),
}

/// A node, alive or crashed.
#[derive(Debug)]
pub struct Node {
    pub id: u64,
    /// `None` after a crash.
    pub engine: Option<Engine<Test>>,
    /// What survives a crash.
    pub disk: Disk,
    /// What the disk will be when all writes are done: the log as the engine sees it.
    pub view: Disk,
    /// Handed over and not done.
    pub writes: VecDeque<LogWrite<Test>>,
    /// Writes are done only when a test says so.
    pub is_disk_slow: bool,
    pub machine: Image,
    /// The state machine does nothing until a test says so.
    pub is_machine_slow: bool,
    /// What the state machine has to do, in order.
    pub to_do: VecDeque<Work>,
    pub snapshot: Option<Image>,
    /// The snapshot on the disk cannot be read. Nobody knows before it is to be sent, or the node starts.
    pub is_snapshot_damaged: bool,
    /// Whatever snapshot is written to the disk is damaged.
    pub damages_snapshots: bool,
    /// Snapshots are written out only when a test says so.
    pub is_building_slow: bool,
    /// Views of the state that are being written out, beside everything else.
    pub to_build: VecDeque<(SnapshotId, Image)>,
    /// Snapshots are installed only when a test says so.
    pub is_installing_slow: bool,
    /// What is being installed; nothing else is done meanwhile.
    pub installing: Option<Installation>,
    /// Snapshots whose bytes are here, by the request that they were announced with.
    pub arrivals: BTreeMap<RequestId, Arrival>,
    pub replies: BTreeMap<RequestId, Reply<Test>>,
    pub starts: u64,
}

impl Node {
    pub fn new(id: u64, disk: Disk) -> Self {
        Self {
            id,
            engine: None,
            view: disk.clone(),
            disk,
            writes: VecDeque::new(),
            is_disk_slow: false,
            machine: Image::default(),
            is_machine_slow: false,
            to_do: VecDeque::new(),
            snapshot: None,
            is_snapshot_damaged: false,
            damages_snapshots: false,
            is_building_slow: false,
            to_build: VecDeque::new(),
            is_installing_slow: false,
            installing: None,
            arrivals: BTreeMap::new(),
            replies: BTreeMap::new(),
            starts: 0,
        }
    }

    /// Builds an engine from what is on the disk, as a driver does.
    pub fn start(&mut self, config: &ValidConfig, now: Instant) -> Result<(), String> {
        self.start_seeded(config, self.id * 1_000 + self.starts + 1, now)
    }

    /// Like [`start`](Self::start), with a seed for the engine.
    pub fn start_seeded(&mut self, config: &ValidConfig, seed: u64, now: Instant) -> Result<(), String> {
        assert!(self.engine.is_none(), "node {} runs already", self.id);
        self.starts += 1;
        let applied = self.machine.applied.clone();
        if !self.disk.covers(applied.last_applied) {
            // The crash came between installing a snapshot and resetting the log behind it.
            self.disk.purge(applied.last_applied);
        }
        self.view = self.disk.clone();
        // The state machine is persistent, so it has what a damaged snapshot covered.
        let sound = self.snapshot.as_ref().filter(|_| !self.is_snapshot_damaged);
        let snapshot = sound.map_or(LogId::ZERO, |image| image.applied.last_applied);
        let recovered = self.disk.recover(self.id, seed, applied, snapshot);
        self.engine = Some(Engine::new(config.clone(), recovered, now)?);
        Ok(())
    }

    /// Loses everything that is not durable.
    pub fn crash(&mut self) {
        self.engine = None;
        self.writes.clear();
        self.to_do.clear();
        self.to_build.clear();
        self.installing = None;
        self.view = self.disk.clone();
    }

    /// Loses the state too, down to the snapshot: what happens to a state machine in memory.
    pub fn lose_state(&mut self) {
        self.machine = self.snapshot.clone().unwrap_or_default();
    }

    /// The current snapshot is this one from now on.
    pub fn replace_snapshot(&mut self, image: Image) {
        self.snapshot = Some(image);
        self.is_snapshot_damaged = self.damages_snapshots;
    }

    /// What the current snapshot contains, which is as durable as the log.
    pub fn snapshot_index(&self) -> Index {
        self.snapshot.as_ref().map_or(0, |image| image.applied.last_applied.index)
    }

    /// Whether an entry, or the effect of it, would survive a crash.
    pub fn has_durably(&self, id: LogId) -> bool {
        id.index <= self.snapshot_index() || self.disk.covers(id)
    }

    /// Whether it lives and leads in `term`.
    pub fn leads_in(&self, term: Term) -> bool {
        let leads = |engine: &Engine<Test>| engine.role() == RoleName::Leader && engine.term() == term;
        self.engine.as_ref().is_some_and(leads)
    }

    pub fn is_alive(&self) -> bool {
        self.engine.is_some()
    }

    pub fn engine(&self) -> &Engine<Test> {
        self.engine.as_ref().unwrap_or_else(|| panic!("node {} has crashed", self.id))
    }

    pub fn metrics(&self, now: Instant) -> RaftMetrics<Test> {
        self.engine().metrics(now)
    }

    /// Applies what it was handed, reading what is not in memory any more from the disk.
    pub fn apply(&mut self, apply: Apply<Test>) -> LogId {
        let in_memory = apply.entries.range();
        let from_disk_to = if in_memory.is_empty() { apply.range.end } else { in_memory.start };
        let old = self.disk.read(apply.range.start..from_disk_to, u64::MAX);
        let entries = Entries::concat([old, apply.entries]);
        assert_eq!(entries.range(), apply.range, "what is applied is in memory or on the disk");
        for entry in entries.iter() {
            assert!(self.disk.covers(entry.log_id), "{} is applied before it is durable", entry.log_id);
        }
        let batch = ApplyBatch::new(&self.machine.applied, entries);
        self.machine.commands.extend(batch.commands().map(|(log_id, command)| (log_id, *command)));
        self.machine.applied = batch.applied_state().clone();
        self.machine.applied.last_applied
    }
}
