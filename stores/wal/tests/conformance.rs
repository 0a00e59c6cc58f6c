//! The log keeps its contract: the suite of conformance, in folders of the operating system.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::Path;

use fastrand::Rng;
use futures::executor::block_on;
use openconsensus::PostcardCodec;
use openconsensus_memstore::kv::{Command, Kv};
use openconsensus_tests::conformance::{KvSamples, LogStorageFactory, Samples, check_log_storage};
use openconsensus_wal::{Identity, WalLog, WalOptions};
use tempfile::TempDir;

/// Makes logs. Chance decides what is damaged.
struct Folders {
    random: RefCell<Rng>,
    options: WalOptions,
}

impl Folders {
    fn new(options: WalOptions) -> Self {
        Self { random: RefCell::new(Rng::with_seed(1)), options }
    }
}

fn folder() -> TempDir {
    TempDir::new().expect("there is a place for temporary files")
}

/// What a process leaves that is killed now: the operating system still has what was not synced.
fn copy(from: &Path) -> TempDir {
    let to = folder();
    for file in fs::read_dir(from).expect("the folder can be read") {
        let file = file.expect("the folder can be read").path();
        // One that is being made may be gone or renamed meanwhile, as it may be in a folder of a killed process.
        let _ = fs::copy(&file, to.path().join(file.file_name().expect("a file has a name")));
    }
    to
}

impl Samples<Kv> for Folders {
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

impl LogStorageFactory<Kv> for Folders {
    type Disk = TempDir;
    type Log = WalLog<Kv, PostcardCodec>;

    fn disk(&self) -> TempDir {
        folder()
    }

    async fn open(&self, disk: &TempDir) -> io::Result<Self::Log> {
        WalLog::open(disk.path(), &Identity::new("test", 1), &self.options).map_err(io::Error::from)
    }

    fn crashed(&self, disk: &TempDir) -> Option<TempDir> {
        Some(copy(disk.path()))
    }

    fn damaged(&self, disk: &TempDir, number: u64) -> Option<TempDir> {
        let damaged = copy(disk.path());
        let mut random = self.random.borrow_mut();
        let mut files: Vec<_> = fs::read_dir(damaged.path()).ok()?.map(|file| file.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "segment"));
        files.sort();
        let file = &files[random.usize(..files.len())];
        let mut bytes = fs::read(file).ok()?;
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
        let place = random.usize(..used);
        match number % 4 {
            0 => bytes[place] ^= 1 << random.u8(0..8),
            1 => bytes.iter_mut().skip(place).take(512).for_each(|byte| *byte = 0),
            2 => bytes.truncate(place),
            _ => bytes.iter_mut().skip(place).take(64).for_each(|byte| *byte = random.u8(..)),
        }
        fs::write(file, bytes).ok()?;
        Some(damaged)
    }
}

/// Segments, groups and frames so small that every test goes through many of them.
fn small() -> WalOptions {
    WalOptions {
        segment_bytes: 64 << 10,
        group_bytes_max: 4 << 10,
        frame_bytes_max: 1 << 10,
        ..WalOptions::default()
    }
}

/// What the suite skips: a folder shows neither the middle of writes nor failures.
const SKIPPED: &[&str] =
    &["a_crash_in_the_middle_leaves_the_old_or_the_new", "a_write_that_fails_is_reported"];

#[test]
fn a_log_of_small_segments_conforms() {
    block_on(check_log_storage(&Folders::new(small()))).assert_passed_except(SKIPPED);
}
