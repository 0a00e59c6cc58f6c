//! The log keeps its contract on a disk that loses what was not synced, fails, and is damaged.

use std::cell::RefCell;
use std::io;

use fastrand::Rng;
use futures::executor::block_on;
use openconsensus_memstore::kv::{Command, Kv};
use openconsensus_tests::conformance::{KvSamples, LogStorageFactory, Samples, check_log_storage};
use openconsensus_wal::WalLog;

use crate::disk::{SimDisk, Survival};
use crate::helpers::{Raw, identity, options};

/// Makes logs. Chance decides what of that which was not synced a crash leaves, and what is damaged.
struct Logs {
    random: RefCell<Rng>,
}

impl Samples<Kv> for Logs {
    fn command(&self, number: u64, bytes: usize) -> Command {
        // The codec of these tests knows puts only.
        match KvSamples.command(number, bytes) {
            put @ Command::Put { .. } => put,
            other => Command::Put { key: number.to_string(), value: format!("{other:?}").into_bytes() },
        }
    }

    fn node_id(&self, number: u64) -> u64 {
        KvSamples.node_id(number)
    }

    fn node(&self, number: u64) -> String {
        KvSamples.node(number)
    }
}

impl LogStorageFactory<Kv> for Logs {
    type Disk = SimDisk;
    type Log = WalLog<Kv, Raw>;

    fn disk(&self) -> SimDisk {
        SimDisk::default()
    }

    async fn open(&self, disk: &SimDisk) -> io::Result<Self::Log> {
        WalLog::open_on(disk.clone(), &identity(), &options(64 << 10)).map_err(io::Error::from)
    }

    fn crashed(&self, disk: &SimDisk) -> Option<SimDisk> {
        Some(disk.point().survive(Survival::Nothing))
    }

    fn crashes(&self, disk: &SimDisk) -> Vec<SimDisk> {
        disk.record();
        let mut random = self.random.borrow_mut();
        let points = disk.take_points();
        let left = points.iter().flat_map(|point| {
            [Survival::Nothing, Survival::Sectors(random.u64(..))].map(|survival| point.survive(survival))
        });
        left.collect()
    }

    fn fail_after(&self, disk: &SimDisk, operations: u64) -> bool {
        disk.break_after(operations);
        true
    }

    fn damaged(&self, disk: &SimDisk, number: u64) -> Option<SimDisk> {
        let mut random = self.random.borrow_mut();
        let mut files = disk.all_bytes();
        let chosen = random.usize(..files.len());
        let bytes = files.values_mut().nth(chosen)?;
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
        let place = random.usize(..used);
        match number % 3 {
            0 => bytes[place] ^= 1 << random.u8(0..8),
            1 => bytes.iter_mut().skip(place).take(512).for_each(|byte| *byte = 0),
            _ => bytes.truncate(place),
        }
        Some(SimDisk::with(files))
    }
}

#[test]
fn the_log_conforms_with_nothing_skipped() {
    let logs = Logs { random: RefCell::new(Rng::with_seed(1)) };
    block_on(check_log_storage(&logs)).assert_passed_except(&[]);
}
