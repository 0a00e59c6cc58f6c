//! The folder, the files in it, and everything that programs do with them.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use openconsensus_wal::disk::{Disk, DiskFile};

use super::content::{Content, Time};
use super::crash::{Choice, CrashPoint};
use super::faults::{Fault, Faults, broken, full};

/// Something that changes the disk, or makes changes durable. These are counted: each is a moment to crash or to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Write,
    Sync,
    Rename,
    Remove,
    SyncFolder,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct SimDisk {
    machine: Arc<Machine>,
}

/// An open file. It goes on to work when its name is gone.
#[derive(Clone, Debug)]
pub(crate) struct SimFile {
    machine: Arc<Machine>,
    file: u64,
}

/// Held as long as a log is open.
#[derive(Debug)]
pub(crate) struct SimLock {
    machine: Arc<Machine>,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.machine.inner.lock().unwrap().is_locked = false;
    }
}

#[derive(Debug, Default)]
struct Machine {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    state: State,
    faults: Faults,
    /// How many operations there were.
    operations: Time,
    /// Which they were, and whether they succeeded.
    log: Vec<(Operation, bool)>,
    records: bool,
    points: Vec<CrashPoint>,
    acknowledged: usize,
    made: usize,
    /// Syncs wait while this is set.
    holds_syncs: bool,
    /// How many syncs wait.
    held_syncs: usize,
    is_locked: bool,
}

/// Everything that is on the disk, and what is not for sure.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    files: BTreeMap<u64, Arc<Content>>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// Since the folder was synced.
    changes: Vec<(Time, Change)>,
    next_file: u64,
    /// How many unique numbers were given.
    uniques: u64,
}

/// A change of the folder.
#[derive(Clone, Debug)]
enum Change {
    Create(String, u64),
    Rename { from: String, to: String, file: u64 },
    Remove(String, u64),
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        let remove = |names: &mut BTreeMap<String, u64>, name: &String, file: &u64| {
            if names.get(name) == Some(file) {
                names.remove(name);
            }
        };
        match self {
            Self::Create(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Rename { from, to, file } => {
                remove(names, from, file);
                names.insert(to.clone(), *file);
            }
            Self::Remove(name, file) => remove(names, name, file),
        }
    }
}

impl State {
    fn file(&mut self, file: u64) -> &mut Content {
        Arc::make_mut(self.files.get_mut(&file).expect("an open file has a content"))
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().map(|file| self.files[file].bytes().len() as u64).sum()
    }

    fn change(&mut self, time: Time, change: Change) {
        change.apply(&mut self.names);
        self.changes.push((time, change));
    }

    /// How many things there are of which a crash leaves one version or another.
    pub(super) fn choices(&self) -> usize {
        self.changes.len() + self.files.values().map(|content| content.choices()).sum::<usize>()
    }

    pub(super) fn crashed(&self, choice: &mut Choice) -> Self {
        let mut names = self.durable_names.clone();
        for (time, change) in &self.changes {
            if choice.version(None, &[*time]).is_some() {
                change.apply(&mut names);
            }
        }
        let mut files = BTreeMap::new();
        for (number, content) in &self.files {
            choice.begin_file();
            files.insert(*number, Arc::new(content.crashed(choice)));
        }
        files.retain(|number, _| names.values().any(|file| file == number));
        Self {
            files,
            durable_names: names.clone(),
            names,
            changes: Vec::new(),
            next_file: self.next_file,
            uniques: self.uniques,
        }
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::of(State::default())
    }
}

impl SimDisk {
    pub(super) fn of(state: State) -> Self {
        let inner = Mutex::new(Inner { state, ..Inner::default() });
        Self { machine: Arc::new(Machine { inner, changed: Condvar::new() }) }
    }

    /// From now on each operation is followed by a moment at which the machine might crash.
    pub(crate) fn record(&self) {
        let mut inner = self.lock_state();
        inner.records = true;
        inner.note_point("the beginning".into());
    }

    /// Stamps what is recorded from here on.
    pub(crate) fn mark(&self, acknowledged: usize, made: usize) {
        let mut inner = self.lock_state();
        (inner.acknowledged, inner.made) = (acknowledged, made);
        if inner.records {
            inner.note_point("nothing".into());
        }
    }

    pub(crate) fn take_points(&self) -> Vec<CrashPoint> {
        std::mem::take(&mut self.lock_state().points)
    }

    /// What a crash right now would leave behind.
    pub(crate) fn point(&self) -> CrashPoint {
        self.lock_state().point("now".into())
    }

    /// How many operations there were.
    pub(crate) fn operations(&self) -> Time {
        self.lock_state().operations
    }

    /// The operations from the `from`-th on, and whether they succeeded.
    pub(crate) fn log_from(&self, from: Time) -> Vec<(Operation, bool)> {
        self.lock_state().log[from as usize..].to_vec()
    }

    /// The operation that comes after `further` more goes wrong so.
    pub(crate) fn plan(&self, further: u64, fault: Fault) {
        let mut inner = self.lock_state();
        let operation = inner.operations + further + 1;
        inner.faults.plan(operation, fault);
    }

    /// So many more operations are carried out, and every further one fails.
    pub(crate) fn break_after(&self, further: u64) {
        let mut inner = self.lock_state();
        let operation = inner.operations + further + 1;
        inner.faults.break_from(operation);
    }

    /// After so many more operations, syncs report success and make nothing durable.
    pub(crate) fn lie_after(&self, further: u64) {
        let mut inner = self.lock_state();
        let operation = inner.operations + further + 1;
        inner.faults.lie_from(operation);
    }

    /// There is room for so many more bytes.
    pub(crate) fn leave_space(&self, bytes: u64) {
        let mut inner = self.lock_state();
        inner.faults.space = Some(inner.state.used_bytes() + bytes);
    }

    /// There is all the room in the world.
    pub(crate) fn free_space(&self) {
        self.lock_state().faults.space = None;
    }

    /// Logs that are made from now on have other numbers than those of a disk on which this was said with another seed.
    pub(crate) fn number_logs_from(&self, seed: u64) {
        self.lock_state().state.uniques = seed << 20;
    }

    /// Reads return less than they were asked for, now and then.
    pub(crate) fn read_short(&self, seed: u64) {
        self.lock_state().faults.short_reads = Some(fastrand::Rng::with_seed(seed));
    }

    /// So many more reads succeed.
    pub(crate) fn break_reads_after(&self, reads: u64) {
        self.lock_state().faults.reads = Some(reads);
    }

    /// Syncs wait from now on, or go on.
    pub(crate) fn hold_syncs(&self, holds: bool) {
        self.lock_state().holds_syncs = holds;
        self.machine.changed.notify_all();
    }

    /// Waits until a sync waits, or until `condition` holds. Returns whether a sync waits.
    pub(crate) fn wait_for_held_sync(&self, mut condition: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut inner = self.lock_state();
        while inner.held_syncs == 0 && !condition() {
            assert!(Instant::now() < deadline, "no sync was asked for");
            inner = self.machine.changed.wait_timeout(inner, Duration::from_millis(1)).unwrap().0;
        }
        0 < inner.held_syncs
    }

    /// The names of all files.
    pub(crate) fn names(&self) -> Vec<String> {
        self.lock_state().state.names.keys().cloned().collect()
    }

    /// What is in a file.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        let inner = self.lock_state();
        inner.state.files[&inner.state.names[name]].bytes().to_vec()
    }

    /// All files.
    pub(crate) fn all_bytes(&self) -> BTreeMap<String, Vec<u8>> {
        // At one moment: the log may be at work.
        let inner = self.lock_state();
        let files = &inner.state.files;
        let names = inner.state.names.iter();
        names.map(|(name, file)| (name.clone(), files[file].bytes().to_vec())).collect()
    }

    /// A disk with these files, all durable.
    pub(crate) fn with(files: BTreeMap<String, Vec<u8>>) -> Self {
        let mut state = State::default();
        for (name, bytes) in files {
            state.files.insert(state.next_file, Arc::new(Content::of(bytes)));
            state.names.insert(name, state.next_file);
            state.next_file += 1;
        }
        state.durable_names = state.names.clone();
        Self::of(state)
    }

    fn lock_state(&self) -> MutexGuard<'_, Inner> {
        self.machine.inner.lock().unwrap()
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn list(&self) -> io::Result<Vec<String>> {
        self.lock_state().faults.read_len(0)?;
        Ok(self.names())
    }

    fn lock(&self) -> io::Result<SimLock> {
        if std::mem::replace(&mut self.lock_state().is_locked, true) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        Ok(SimLock { machine: Arc::clone(&self.machine) })
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new("disk").join(name)
    }

    fn unique_number(&self) -> u64 {
        let mut inner = self.lock_state();
        inner.state.uniques += 1;
        // As those of different logs, these have nothing in common.
        0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(inner.state.uniques)
    }

    fn create(&self, name: &str) -> io::Result<SimFile> {
        let mut inner = self.lock_state();
        let (time, fault) = inner.begin(Operation::Create);
        let is_full = inner.faults.space.is_some_and(|space| space <= inner.state.used_bytes());
        let result = match fault {
            Some(Fault::Fails | Fault::Partial) => Err(broken()),
            Some(Fault::Lies) | None if inner.state.names.contains_key(name) => {
                Err(io::ErrorKind::AlreadyExists.into())
            }
            Some(Fault::Lies) | None if is_full => Err(full()),
            Some(Fault::Lies) | None => {
                let file = inner.state.next_file;
                inner.state.next_file += 1;
                inner.state.files.insert(file, Arc::default());
                inner.state.change(time, Change::Create(name.into(), file));
                Ok(file)
            }
        };
        let file = inner.end(Operation::Create, result, || format!("creating {name}"))?;
        Ok(SimFile { machine: Arc::clone(&self.machine), file })
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let inner = self.lock_state();
        let file = *inner.state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(SimFile { machine: Arc::clone(&self.machine), file })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.lock_state();
        let (time, fault) = inner.begin(Operation::Rename);
        let file = inner.state.names.get(from).copied();
        let result = match (fault, file) {
            (Some(Fault::Fails | Fault::Partial), _) => Err(broken()),
            (Some(Fault::Lies) | None, None) => Err(io::ErrorKind::NotFound.into()),
            (Some(Fault::Lies) | None, Some(file)) => {
                let change = Change::Rename { from: from.into(), to: to.into(), file };
                inner.state.change(time, change);
                Ok(())
            }
        };
        inner.end(Operation::Rename, result, || format!("renaming {from} to {to}"))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.lock_state();
        let (time, fault) = inner.begin(Operation::Remove);
        let file = inner.state.names.get(name).copied();
        let result = match (fault, file) {
            (Some(Fault::Fails | Fault::Partial), _) => Err(broken()),
            (Some(Fault::Lies) | None, None) => Err(io::ErrorKind::NotFound.into()),
            (Some(Fault::Lies) | None, Some(file)) => {
                inner.state.change(time, Change::Remove(name.into(), file));
                Ok(())
            }
        };
        inner.end(Operation::Remove, result, || format!("removing {name}"))
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut inner = self.lock_state();
        let (_, fault) = inner.begin(Operation::SyncFolder);
        let result = match fault {
            Some(Fault::Fails | Fault::Partial) => Err(broken()),
            Some(Fault::Lies) => Ok(()),
            None => {
                inner.state.durable_names = inner.state.names.clone();
                inner.state.changes.clear();
                Ok(())
            }
        };
        inner.end(Operation::SyncFolder, result, || "syncing the folder".into())
    }
}

impl SimFile {
    fn lock_state(&self) -> MutexGuard<'_, Inner> {
        self.machine.inner.lock().unwrap()
    }
}

impl DiskFile for SimFile {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.lock_state().state.files[&self.file].bytes().len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let mut inner = self.lock_state();
        let len = inner.faults.read_len(out.len())?;
        let bytes = inner.state.files[&self.file].bytes();
        let start = usize::try_from(offset).unwrap().min(bytes.len());
        let len = len.min(bytes.len() - start);
        out[..len].copy_from_slice(&bytes[start..start + len]);
        Ok(len)
    }

    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let data: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
        let data = data.concat();
        let offset = usize::try_from(offset).unwrap();
        let mut inner = self.lock_state();
        let (time, fault) = inner.begin(Operation::Write);
        let used = inner.state.used_bytes();
        let file = self.file;
        let len = inner.state.files[&file].bytes().len();
        let growth = (offset + data.len()).saturating_sub(len) as u64;
        let left = inner.faults.space.map_or(u64::MAX, |space| space.saturating_sub(used));
        let result = match fault {
            Some(Fault::Fails) => Err(broken()),
            Some(Fault::Partial) => {
                inner.state.file(file).write(time, offset, &data[..data.len() / 2]);
                Err(broken())
            }
            Some(Fault::Lies) | None if left < growth => {
                let fits = (len + left as usize).saturating_sub(offset).min(data.len());
                inner.state.file(file).write(time, offset, &data[..fits]);
                Err(full())
            }
            Some(Fault::Lies) | None => {
                inner.state.file(file).write(time, offset, &data);
                Ok(())
            }
        };
        let what = || format!("writing {} bytes at {offset} of file {file}", data.len());
        inner.end(Operation::Write, result, what)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.lock_state();
        while inner.holds_syncs {
            inner.held_syncs += 1;
            self.machine.changed.notify_all();
            inner = self.machine.changed.wait(inner).unwrap();
            inner.held_syncs -= 1;
        }
        let (_, fault) = inner.begin(Operation::Sync);
        let file = self.file;
        let result = match fault {
            Some(Fault::Fails | Fault::Partial) => {
                inner.state.file(file).forget_dirty();
                Err(broken())
            }
            Some(Fault::Lies) => Ok(()),
            None => {
                inner.state.file(file).sync();
                Ok(())
            }
        };
        inner.end(Operation::Sync, result, || format!("syncing file {file}"))
    }
}

impl Inner {
    /// The number of the operation that begins, and what goes wrong with it.
    fn begin(&mut self, operation: Operation) -> (Time, Option<Fault>) {
        self.operations += 1;
        let fault = self.faults.of(self.operations);
        // Only syncs lie.
        let is_sync = matches!(operation, Operation::Sync | Operation::SyncFolder);
        (self.operations, fault.filter(|fault| is_sync || *fault != Fault::Lies))
    }

    fn end<T>(
        &mut self,
        operation: Operation,
        result: io::Result<T>,
        what: impl FnOnce() -> String,
    ) -> io::Result<T> {
        self.log.push((operation, result.is_ok()));
        if self.records {
            let what = what();
            let outcome = if result.is_ok() { "" } else { ", which failed" };
            self.note_point(format!("{what}{outcome}"));
        }
        result
    }

    fn note_point(&mut self, what: String) {
        let point = self.point(what);
        self.points.push(point);
    }

    fn point(&self, what: String) -> CrashPoint {
        CrashPoint {
            state: self.state.clone(),
            operation: self.operations,
            acknowledged: self.acknowledged,
            made: self.made,
            what,
        }
    }
}
