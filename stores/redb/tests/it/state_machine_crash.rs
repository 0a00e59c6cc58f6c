//! A random workload of a state machine on a disk that loses what was not synced, together with its folder of
//! snapshots: after a crash at any sync the state is that of some entry, at or behind the current snapshot.

use std::path::Path;

use fastrand::Rng;
use futures::TryStreamExt;
use futures::executor::block_on;
use openconsensus::{AppliedState, Index, LogId, RaftStateMachine, Snapshot};
use openconsensus_memstore::kv::{Command, Kv};
use openconsensus_redb::kv::{KvApplication, KvReader};
use openconsensus_redb::{Options, RedbStateMachine};

use crate::disk::{CrashPoint, Disk};
use crate::helpers::{KvState, batch_after, identity, open_state, put};

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

/// A snapshot of `index` from another node.
fn foreign_snapshot(index: Index) -> Snapshot<Kv> {
    let dir = tempfile::tempdir().unwrap();
    let mut leader = open_state(dir.path());
    apply_to(&mut leader, index);
    let meta = block_on(leader.build_snapshot()).unwrap();
    let snapshot = block_on(leader.current_snapshot()).unwrap().unwrap();
    let chunks: Vec<_> = block_on(snapshot.data.try_collect()).unwrap();
    let chunks = futures::stream::iter(chunks.into_iter().map(Ok));
    Snapshot { meta, data: openconsensus::snapshot_stream(chunks) }
}

/// Opens what a crash left, checks it, and goes on. `snapshots` are those that may be current, `upto` is the last
/// entry that was handed over.
fn check(point: &CrashPoint, disk: &Disk, snapshots: &[Index], upto: Index, context: &str) {
    let dir = tempfile::tempdir().unwrap();
    point.write_files(dir.path());
    let mut state = open(disk, dir.path());
    let index = applied(&mut state);
    assert_eq!(KvReader::new(&state).checksum().unwrap(), checksum_at(index), "{context}: at {index}");
    let current = match block_on(state.current_snapshot()).unwrap() {
        None => 0,
        Some(snapshot) => {
            let _: Vec<_> = block_on(snapshot.data.try_collect()).unwrap();
            snapshot.meta.last.index
        }
    };
    assert!(snapshots.contains(&current), "{context}: {current} is current, allowed are {snapshots:?}");
    assert!(current <= index && index <= upto, "{context}: at {index}, between {current} and {upto}");
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, usize::from(current > 0), "{context}: files are left over");
    apply_to(&mut state, upto + 10);
    assert_eq!(KvReader::new(&state).checksum().unwrap(), checksum_at(upto + 10), "{context}");
}

fn crash_everywhere(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let (disk, dir) = (Disk::default(), tempfile::tempdir().unwrap());
    let mut state = open(&disk, dir.path());
    disk.record_with(dir.path());
    // For each step: the current snapshot before it, and the last entry after it.
    let mut steps = vec![];
    let mut snapshot = 0;
    for _ in 0..20 {
        let before = snapshot;
        let last = applied(&mut state);
        disk.mark(steps.len());
        match random.u8(0..6) {
            0 => snapshot = block_on(state.build_snapshot()).unwrap().last.index,
            1 => {
                snapshot = last + random.u64(0..30).max(u64::from(last == 0));
                block_on(state.install_snapshot(foreign_snapshot(snapshot))).unwrap();
            }
            _ => apply_to(&mut state, last + random.u64(1..40)),
        }
        // The next call comes behind the sync of this one.
        steps.push((before, snapshot, applied(&mut state)));
        let point = disk.crash_point();
        let context = format!("seed {seed}: after step {}", steps.len());
        check(&point, &point.strict(), &[snapshot], applied(&mut state), &context);
    }
    drop(state);
    for (number, point) in disk.take_crash_points().into_iter().enumerate() {
        let (before, after, upto) = steps[point.mark];
        let context = format!("seed {seed}: crash point {number} in step {}", point.mark + 1);
        check(&point, &point.strict(), &[before, after], upto, &context);
        check(&point, &point.torn(&mut random), &[before, after], upto, &context);
    }
}

#[test]
fn a_crash_at_any_sync_leaves_a_whole_state_and_its_snapshot() {
    for seed in 0..3 {
        crash_everywhere(seed);
    }
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
