//! One node of the model: the real engine, and a disk whose writes are done when the checker says so.

use std::collections::{BTreeMap, VecDeque};
use std::hash::Hasher;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use openconsensus::engine::{Engine, Fingerprint, LogWrite, RequestId, SnapshotId, WriteId};
use openconsensus::{
    AppliedState, ApplyBatch, Entries, HardState, InstallSnapshot, LogId, SnapshotMeta, ValidConfig,
};
use openconsensus_tests::engines::{Disk, Image, Test};

/// Longer than any timeout of a model.
pub(crate) const HORIZON: Duration = Duration::from_secs(100_000);

/// When all clocks begin.
pub(crate) fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// A hasher that is made for many small numbers: each is mixed in by a multiplication to 128 bits, folded.
#[derive(Default)]
pub(crate) struct Folded(u64);

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        fold(self.0 ^ 0xA076_1D64_78BD_642F, 0xE703_7ED1_A0B4_28DB)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
        self.write_u64(bytes.len() as u64);
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = fold(self.0 ^ number ^ 0x2D35_8DCC_AA6C_78A5, 0x8BB8_4B93_962E_ACC9).rotate_left(23);
    }
}

fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    (product as u64) ^ (product >> 64) as u64
}

/// Another name for each node: the names exchanged, or not.
pub(crate) type Names = [u64; 4];

/// A snapshot on its way to the state machine.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub from: u64,
    /// How the sender names the transfer.
    pub id: SnapshotId,
    pub image: Arc<Image>,
}

/// A snapshot that the state machine has been told to install.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    pub id: SnapshotId,
    pub request: RequestId,
    pub announced: InstallSnapshot<Test>,
}

/// A node. It is never down: one that is not running is one to which nothing happens.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub id: u64,
    pub engine: Engine<Test>,
    /// The time on its clock.
    pub now: Instant,
    /// What survives a crash.
    pub disk: Arc<Disk>,
    /// What the disk will be when all writes are done: the log as the engine sees it. Follows from the two others.
    pub view: Arc<Disk>,
    /// Handed over and not done.
    pub writes: VecDeque<LogWrite<Test>>,
    /// The disk before the last write that was done, for disks that lie.
    pub disk_before: Option<Arc<Disk>>,
    /// The hard state before the last change of it, for disks that lie.
    pub hard_state_before: Option<HardState<Test>>,
    pub machine: Arc<Image>,
    pub snapshot: Option<Arc<Image>>,
    pub installing: Option<Installation>,
    pub arrivals: BTreeMap<RequestId, Arrival>,
    pub starts: u64,
    /// The fingerprint of all this, by each way to name the nodes.
    pub prints: Vec<u64>,
}

/// Builds an engine from what is on the disk, as a driver does.
pub(crate) fn start_engine(
    config: &ValidConfig,
    id: u64,
    starts: u64,
    disk: &mut Disk,
    machine: &Image,
    snapshot: Option<&Image>,
    now: Instant,
) -> Result<Engine<Test>, String> {
    let applied = machine.applied.clone();
    if !disk.covers(applied.last_applied) {
        // The crash came between installing a snapshot and resetting the log behind it.
        disk.purge(applied.last_applied);
    }
    let snapshot = snapshot.map_or(LogId::ZERO, |image| image.applied.last_applied);
    // The seed is the same on all nodes, so that they can exchange their places.
    Engine::new(config.clone(), disk.recover(id, starts, applied, snapshot), now)
}

impl Node {
    pub(crate) fn new(id: u64, config: &ValidConfig, mut disk: Disk) -> Self {
        let machine = Arc::<Image>::default();
        let engine = start_engine(config, id, 0, &mut disk, &machine, None, start());
        let disk = Arc::new(disk);
        Self {
            id,
            engine: engine.expect("a model begins with disks that are in order"),
            now: start(),
            view: disk.clone(),
            disk,
            writes: VecDeque::new(),
            disk_before: None,
            hard_state_before: None,
            machine,
            snapshot: None,
            installing: None,
            arrivals: BTreeMap::new(),
            starts: 0,
            prints: Vec::new(),
        }
    }

    /// The oldest write is done.
    pub(crate) fn persist(&mut self, remembers: bool) -> WriteId {
        let write = self.writes.pop_front().expect("a write is in flight");
        if remembers {
            self.disk_before = Some(self.disk.clone());
            if write.hard_state.is_some() {
                self.hard_state_before = Some(self.disk.hard_state);
            }
        }
        Arc::make_mut(&mut self.disk).carry_out(&write);
        write.id
    }

    /// Applies entries, those that are not in memory any more from the disk.
    pub(crate) fn apply(&mut self, apply: openconsensus::engine::Apply<Test>) -> LogId {
        let in_memory = apply.entries.range();
        let from_disk_to = if in_memory.is_empty() { apply.range.end } else { in_memory.start };
        let old = self.disk.read(apply.range.start..from_disk_to, u64::MAX);
        let entries = Entries::concat([old, apply.entries]);
        assert_eq!(entries.range(), apply.range, "what is applied is in memory or on the disk");
        let batch = ApplyBatch::new(&self.machine.applied, entries);
        let machine = Arc::make_mut(&mut self.machine);
        machine.commands.extend(batch.commands().map(|(log_id, command)| (log_id, *command)));
        machine.applied = batch.applied_state().clone();
        self.machine.applied.last_applied
    }

    /// Whether an entry, or the effect of it, would survive a crash.
    pub(crate) fn has_durably(&self, id: LogId) -> bool {
        let in_snapshot = |image: &Arc<Image>| id.index <= image.applied.last_applied.index;
        self.snapshot.as_ref().is_some_and(in_snapshot) || self.disk.covers(id)
    }

    /// A name for a snapshot that arrives.
    pub(crate) fn next_request(&self) -> RequestId {
        let is_free = |number: &u64| !self.arrivals.contains_key(&RequestId(*number));
        RequestId((1_000_000..).find(is_free).expect("there are many numbers"))
    }

    /// Takes the fingerprints again, after a change.
    pub(crate) fn print(&mut self, ways: &[Names]) {
        self.prints = ways.iter().map(|names| self.print_as(names)).collect();
    }

    fn print_as(&self, names: &Names) -> u64 {
        let name = |id: u64| names[id as usize];
        let mut hasher = Folded::default();
        let mut to = Fingerprint::new(self.now, HORIZON, &name, &mut hasher);
        to.engine(&self.engine);
        to.value(self.starts);
        print_disk(&self.disk, &mut to);
        to.value(self.writes.len());
        for write in &self.writes {
            print_write(write, &mut to);
        }
        to.value((self.disk_before.is_some(), self.hard_state_before.is_some()));
        if let Some(disk) = &self.disk_before {
            print_disk(disk, &mut to);
        }
        if let Some(hard_state) = &self.hard_state_before {
            print_hard_state(hard_state, &mut to);
        }
        print_image(&self.machine, &mut to);
        to.value(self.snapshot.is_some());
        if let Some(snapshot) = &self.snapshot {
            print_image(snapshot, &mut to);
        }
        if let Some(Installation { id, request, announced }) = &self.installing {
            to.value((id, request));
            to.install_snapshot(announced);
        }
        to.value(self.arrivals.len());
        for (request, Arrival { from, id, image }) in &self.arrivals {
            to.value((request, id));
            to.node(*from);
            print_image(image, &mut to);
        }
        hasher.finish()
    }
}

fn print_hard_state(hard_state: &HardState<Test>, to: &mut Fingerprint<'_, Test>) {
    let HardState { term, voted_for, commit } = hard_state;
    to.value((term, commit));
    to.node_or_none(*voted_for);
}

fn print_disk(disk: &Disk, to: &mut Fingerprint<'_, Test>) {
    print_hard_state(&disk.hard_state, to);
    to.value((disk.purged, disk.entries().len()));
    disk.entries().iter().for_each(|entry| to.entry(entry));
}

/// The number of a write is left out: the engine has it.
fn print_write(write: &LogWrite<Test>, to: &mut Fingerprint<'_, Test>) {
    let LogWrite { id: _, hard_state, truncate, purge, append, commit } = write;
    to.value((hard_state.is_some(), truncate, purge, append.len(), commit));
    hard_state.iter().for_each(|hard_state| print_hard_state(hard_state, to));
    append.iter().for_each(|entry| to.entry(entry));
}

pub(crate) fn print_image(image: &Image, to: &mut Fingerprint<'_, Test>) {
    let Image { applied: AppliedState { last_applied, membership }, commands } = image;
    to.value((last_applied, membership.log_id, commands));
    to.membership(&membership.membership);
}

/// What a snapshot of this state covers.
pub(crate) fn meta_of(image: &Image) -> SnapshotMeta<Test> {
    image.meta()
}
