//! The stores in memory.

use std::io;

use futures::FutureExt;
use futures::executor::block_on;
use openconsensus::{LogState, RaftLogStorage};
use openconsensus_memstore::kv::{Command, Kv};
use openconsensus_memstore::{KvDisk, MemLog, MemStateMachine};
use openconsensus_tests::conformance::{
    KvSamples, LogStorageFactory, Samples, StateMachineFactory, check_log_storage, check_state_machine,
};

/// Implements the samples of the key-value store for a factory.
macro_rules! kv_samples {
    ($factory:ty) => {
        impl Samples<Kv> for $factory {
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
    };
}
pub(crate) use kv_samples;

/// Another log in memory with the same content: what a crash leaves of one whose memory is its disk.
pub(crate) fn copy_of(log: &MemLog<Kv>) -> MemLog<Kv> {
    let LogState { hard_state, purged, .. } = log.state();
    let mut copy = MemLog::new();
    let copying = async {
        copy.load().await?;
        copy.purge(purged).await?;
        copy.append(log.entries(purged.index + 1..u64::MAX), 0).await?;
        copy.save_hard_state(hard_state).await
    };
    let copied = copying.now_or_never().expect("a log in memory completes at once");
    copied.expect("what was stored can be stored again");
    copy
}

pub(crate) struct MemLogs;

kv_samples!(MemLogs);

impl LogStorageFactory<Kv> for MemLogs {
    type Disk = MemLog<Kv>;
    type Log = MemLog<Kv>;

    fn disk(&self) -> MemLog<Kv> {
        MemLog::new()
    }

    async fn open(&self, disk: &MemLog<Kv>) -> io::Result<MemLog<Kv>> {
        Ok(disk.clone())
    }

    fn crashed(&self, disk: &MemLog<Kv>) -> Option<MemLog<Kv>> {
        Some(copy_of(disk))
    }
}

#[test]
fn the_log_in_memory_conforms() {
    // A write in memory has no middle, does not fail, and cannot be damaged.
    block_on(check_log_storage(&MemLogs)).assert_passed_except(&[
        "a_crash_in_the_middle_leaves_the_old_or_the_new",
        "a_write_that_fails_is_reported",
        "damage_is_an_error_and_never_an_empty_log",
    ]);
}

/// What the state machine on a disk keeps; `None` is a volatile one.
pub(crate) struct MemStateMachines {
    pub(crate) lag_entries: Option<u64>,
}

kv_samples!(MemStateMachines);

/// Keys with their values, in order.
pub(crate) fn contents(machine: &MemStateMachine) -> Vec<u8> {
    let mut contents = Vec::new();
    for (key, value) in machine.reader().scan(.., usize::MAX) {
        contents.extend(format!("{key} {} ", value.len()).into_bytes());
        contents.extend(value);
    }
    contents
}

impl StateMachineFactory<Kv> for MemStateMachines {
    type Disk = KvDisk;
    type Machine = MemStateMachine;

    fn disk(&self) -> KvDisk {
        KvDisk::new()
    }

    async fn open(&self, disk: &KvDisk) -> io::Result<MemStateMachine> {
        Ok(match self.lag_entries {
            None => MemStateMachine::volatile(disk),
            Some(entries) => MemStateMachine::persistent_with_lag(disk, entries),
        })
    }

    async fn contents(&self, machine: &mut MemStateMachine) -> io::Result<Vec<u8>> {
        Ok(contents(machine))
    }

    fn damage_snapshot(&self, disk: &KvDisk) -> bool {
        disk.damage_snapshot();
        true
    }
}

/// What a disk in memory does not offer: it is not lost in a crash, nor does it fail.
const NO_DISK: &[&str] = &[
    "a_crash_loses_no_snapshot",
    "a_crash_at_any_point_leaves_the_state_of_one_moment",
    "a_crash_while_a_snapshot_arrives_leaves_all_as_before",
    "a_call_that_fails_leaves_nothing_half_done",
];

#[test]
fn the_volatile_state_machine_in_memory_conforms() {
    block_on(check_state_machine(&MemStateMachines { lag_entries: None })).assert_passed_except(NO_DISK);
}

#[test]
fn the_persistent_state_machine_in_memory_conforms() {
    for entries in [0, 1, 17, 1000] {
        let report = block_on(check_state_machine(&MemStateMachines { lag_entries: Some(entries) }));
        report.assert_passed_except(NO_DISK);
    }
}
