//! A disk that becomes full under a state machine.

use std::path::Path;

use futures::executor::block_on;
use openconsensus::{AppliedState, Index, LogId, RaftStateMachine};
use openconsensus_memstore::kv::Command;
use openconsensus_redb::kv::{KvApplication, KvReader};
use openconsensus_redb::{Options, RedbStateMachine};

use crate::disk::Disk;
use crate::helpers::{KvState, batch_after, identity, put};

/// Syncs come often and at places that do not depend on time.
fn options() -> Options {
    Options { state_sync_entries_max: 50, state_sync_idle_ms: 1 << 40, ..Options::default() }
}

fn open(disk: &Disk, snapshots: &Path) -> KvState {
    RedbStateMachine::open_on("disk", disk.clone(), snapshots, &identity(), KvApplication, &options())
        .unwrap()
}

/// The command of every log in this test: what is applied at an index does not depend on how it came there.
fn command(index: Index) -> Command {
    put(format!("key {}", index % 70), format!("value {index}"))
}

fn apply_to(state: &mut KvState, upto: Index) {
    let before = block_on(state.applied_state()).unwrap();
    let commands = (before.last_applied.index + 1..=upto).map(command);
    block_on(state.apply(batch_after(&before, commands))).unwrap();
}

fn checksum_at(index: Index) -> u32 {
    use openconsensus_memstore::kv::Checksum;
    let mut pairs = std::collections::BTreeMap::new();
    for index in 1..=index {
        let Command::Put { key, value } = command(index) else { unreachable!() };
        pairs.insert(key, value);
    }
    let mut checksum = Checksum::new();
    pairs.iter().for_each(|(key, value)| checksum.add(key, value));
    checksum.finish()
}

fn applied(state: &mut KvState) -> Index {
    let AppliedState { last_applied, .. } = block_on(state.applied_state()).unwrap();
    assert_eq!(last_applied.term, u64::from(last_applied.index > 0));
    last_applied.index
}

#[test]
fn a_full_disk_is_an_error_and_the_state_is_as_before() {
    let (empty, dir) = (Disk::default(), tempfile::tempdir().unwrap());
    drop(open(&empty, dir.path()));
    let mut errors = 0;
    for space in (20_000..300_000).step_by(20_000) {
        let disk = empty.with_space(Some(space));
        let mut state = open(&disk, dir.path());
        let mut error = None;
        for upto in 1..200 {
            let before = block_on(state.applied_state());
            let batch = match before {
                Ok(before) => batch_after(&before, [command(upto)]),
                Err(failed) => {
                    error = Some(failed);
                    break;
                }
            };
            if let Err(failed) = block_on(state.apply(batch)) {
                error = Some(failed);
                break;
            }
        }
        if let Some(error) = error {
            errors += 1;
            assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
        }
        drop(state);
        let mut state = open(&disk.crash_point().strict().with_space(None), dir.path());
        let index = applied(&mut state);
        assert_eq!(KvReader::new(&state).checksum().unwrap(), checksum_at(index), "{space}");
        apply_to(&mut state, index + 10);
        assert_eq!(KvReader::new(&state).last_applied().unwrap(), LogId::new(1, index + 10));
    }
    assert!(errors > 3, "{errors}");
}
