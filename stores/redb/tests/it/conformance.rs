//! The stores keep their contracts: the suites of conformance, on disks that lose what was not synced.

use std::cell::RefCell;
use std::io;
use std::path::Path;

use fastrand::Rng;
use futures::executor::block_on;
use openconsensus_memstore::kv::{Command, Kv};
use openconsensus_redb::kv::{KvApplication, KvReader};
use openconsensus_redb::{OpenError, Options, RedbLog, RedbStateMachine};
use openconsensus_tests::conformance::{
    KvSamples, LogStorageFactory, Samples, StateMachineFactory, check_log_storage, check_state_machine,
};
use tempfile::TempDir;

use crate::disk::{CrashPoint, Disk};
use crate::helpers::{KvState, identity};

/// Makes stores. Chance decides what of that which was not synced a crash leaves, and what is damaged.
struct Stores {
    random: RefCell<Rng>,
}

impl Stores {
    fn new() -> Self {
        Self { random: RefCell::new(Rng::with_seed(1)) }
    }

    /// What a crash at `point` may leave: nothing that was not synced, and some of it.
    fn disks_of(&self, point: &CrashPoint) -> [Disk; 2] {
        [point.strict(), point.torn(&mut self.random.borrow_mut())]
    }
}

impl Samples<Kv> for Stores {
    fn command(&self, number: u64, bytes: usize) -> Command {
        KvSamples.command(number, bytes)
    }

    fn node_id(&self, number: u64) -> u64 {
        KvSamples.node_id(number)
    }

    fn node(&self, number: u64) -> String {
        KvSamples.node(number)
    }
}

impl LogStorageFactory<Kv> for Stores {
    type Disk = Disk;
    type Log = RedbLog<Kv>;

    fn disk(&self) -> Disk {
        Disk::default()
    }

    async fn open(&self, disk: &Disk) -> io::Result<RedbLog<Kv>> {
        let opened = RedbLog::open_on("disk", disk.clone(), &identity(), &Options::default());
        opened.map_err(io::Error::other)
    }

    fn crashed(&self, disk: &Disk) -> Option<Disk> {
        Some(disk.crash_point().strict())
    }

    fn crashes(&self, disk: &Disk) -> Vec<Disk> {
        disk.record();
        disk.take_crash_points().iter().flat_map(|point| self.disks_of(point)).collect()
    }

    fn fail_after(&self, disk: &Disk, operations: u64) -> bool {
        disk.fail_after(operations);
        true
    }

    fn damaged(&self, disk: &Disk, number: u64) -> Option<Disk> {
        let mut random = self.random.borrow_mut();
        Some(disk.changed(|bytes| {
            let place = random.usize(0..bytes.len());
            match number % 3 {
                0 => bytes[place] ^= 1 << random.u8(0..8),
                1 => bytes.iter_mut().skip(place).take(512).for_each(|byte| *byte = 0),
                _ => bytes.iter_mut().skip(place).take(64).for_each(|byte| *byte = random.u8(..)),
            }
        }))
    }
}

#[test]
fn the_log_conforms() {
    block_on(check_log_storage(&Stores::new())).assert_passed_except(&[]);
}

/// The state machine is synced when so many entries were applied.
struct StateMachines {
    stores: Stores,
    sync_entries: u64,
}

impl Samples<Kv> for StateMachines {
    fn command(&self, number: u64, bytes: usize) -> Command {
        self.stores.command(number, bytes)
    }

    fn node_id(&self, number: u64) -> u64 {
        self.stores.node_id(number)
    }

    fn node(&self, number: u64) -> String {
        self.stores.node(number)
    }
}

/// A disk for the database, and a folder for the snapshots.
type Place = (Disk, TempDir);

fn open(disk: &Disk, snapshots: &Path, sync_entries: u64) -> Result<KvState, OpenError> {
    // Syncs come at places that do not depend on time.
    let options =
        Options { state_sync_entries_max: sync_entries, state_sync_idle_ms: 1 << 40, ..Options::default() };
    RedbStateMachine::open_on("disk", disk.clone(), snapshots, &identity(), KvApplication, &options)
}

fn place_of(point: &CrashPoint, disk: Disk) -> Place {
    let folder = TempDir::new().expect("there is a place for temporary files");
    point.write_files(folder.path());
    (disk, folder)
}

impl StateMachineFactory<Kv> for StateMachines {
    type Disk = Place;
    type Machine = KvState;

    fn disk(&self) -> Place {
        let (disk, folder) = (Disk::default(), TempDir::new().expect("there is a place for temporary files"));
        disk.watch(folder.path());
        (disk, folder)
    }

    async fn open(&self, (disk, folder): &Place) -> io::Result<KvState> {
        let machine = open(disk, folder.path(), self.sync_entries).map_err(io::Error::other)?;
        // Whatever a crash or a failure has left over is gone when it is open.
        let files = std::fs::read_dir(folder.path())?.count();
        if 1 < files {
            return Err(io::Error::other(format!("{files} files are in the folder of snapshots")));
        }
        Ok(machine)
    }

    async fn contents(&self, machine: &mut KvState) -> io::Result<Vec<u8>> {
        let mut contents = Vec::new();
        for (key, value) in KvReader::new(machine).scan(.., usize::MAX)? {
            contents.extend(format!("{key} {} ", value.len()).into_bytes());
            contents.extend(value);
        }
        Ok(contents)
    }

    fn damage_snapshot(&self, (_, folder): &Place) -> bool {
        let files = std::fs::read_dir(folder.path()).expect("the folder is there");
        for file in files.map(|file| file.expect("the folder can be read").path()) {
            let mut bytes = std::fs::read(&file).expect("the snapshot can be read");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&file, bytes).expect("the snapshot can be written");
        }
        true
    }

    fn crashed(&self, (disk, _): &Place) -> Option<Place> {
        let point = disk.crash_point();
        Some(place_of(&point, point.strict()))
    }

    fn crashes(&self, (disk, _): &Place) -> Vec<Place> {
        disk.record();
        let points = disk.take_crash_points();
        let places =
            points.iter().flat_map(|point| self.stores.disks_of(point).map(|disk| place_of(point, disk)));
        places.collect()
    }

    fn fail_after(&self, (disk, _): &Place, operations: u64) -> bool {
        disk.fail_after(operations);
        true
    }
}

#[test]
fn the_state_machine_conforms_when_it_is_synced_with_every_batch() {
    let machines = StateMachines { stores: Stores::new(), sync_entries: 1 };
    block_on(check_state_machine(&machines)).assert_passed_except(&[]);
}

#[test]
fn the_state_machine_conforms_when_it_is_synced_now_and_then() {
    let machines = StateMachines { stores: Stores::new(), sync_entries: 20 };
    block_on(check_state_machine(&machines)).assert_passed_except(&[]);
}
