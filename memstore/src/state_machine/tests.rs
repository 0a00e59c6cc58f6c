//! A state machine in memory: its views, its snapshots, and what survives a restart.

use std::ops::Range;

use futures::executor::block_on;
use openconsensus::{Entry, Index, LogId, Payload};

use super::*;
use crate::kv::Command;

/// Puts `key {index}` at each index of `range`.
fn puts(before: &AppliedState<Kv>, range: Range<Index>) -> ApplyBatch<Kv> {
    let command = |index| Command::Put { key: format!("key {index}"), value: vec![index as u8; 10] };
    let entries: Vec<_> = range
        .map(|index| Entry { log_id: LogId::new(1, index), payload: Payload::Command(command(index)) })
        .collect();
    ApplyBatch::new(before, entries.into())
}

fn apply(machine: &mut MemStateMachine, range: Range<Index>) -> Vec<Response> {
    let before = block_on(machine.applied_state()).unwrap();
    block_on(machine.apply(puts(&before, range))).unwrap()
}

fn current(machine: &mut MemStateMachine) -> Snapshot<Kv> {
    block_on(machine.current_snapshot()).unwrap().unwrap()
}

/// A snapshot at `index`, and the checksum of its state.
fn snapshot_at(index: Index) -> (Snapshot<Kv>, u32) {
    let mut machine = MemStateMachine::default();
    apply(&mut machine, 1..index + 1);
    block_on(machine.build_snapshot()).unwrap();
    (current(&mut machine), machine.reader().checksum())
}

#[test]
fn a_reader_sees_what_was_applied_and_a_view_stays_as_it_was() {
    let mut machine = MemStateMachine::default();
    let reader = machine.reader();
    assert!(reader.is_empty());
    assert_eq!(apply(&mut machine, 1..4), vec![Response::Previous(None); 3]);
    let view = reader.view();
    apply(&mut machine, 4..13);

    assert_eq!((view.len(), view.last_applied()), (3, LogId::new(1, 3)));
    assert_eq!((reader.len(), reader.last_applied()), (12, LogId::new(1, 12)));
    assert_eq!(view.get("key 7"), None);
    assert_eq!(reader.get("key 7"), Some(vec![7; 10]));
    assert_ne!(view.checksum(), reader.checksum());
    let keys = |found: Vec<(String, Vec<u8>)>| found.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(keys(reader.scan_prefix("key 1", 99)), ["key 1", "key 10", "key 11", "key 12"]);
    assert_eq!(keys(reader.scan_prefix("key 1", 2)), ["key 1", "key 10"]);
    assert_eq!(keys(reader.scan("key 2".to_string().."key 4".to_string(), 99)), ["key 2", "key 3"]);
    assert_eq!(keys(reader.scan(.., 2)), ["key 1", "key 10"]);
}

#[test]
fn a_batch_that_does_not_follow_is_refused() {
    let mut machine = MemStateMachine::default();
    let before = AppliedState { last_applied: LogId::new(1, 4), ..AppliedState::default() };
    let error = block_on(machine.apply(puts(&before, 5..6))).unwrap_err();
    assert_eq!(error.to_string(), "entry 5(t1) cannot be applied: the next one is at 1");
    assert!(machine.reader().is_empty());
}

#[test]
fn a_broken_stream_or_an_older_snapshot_leaves_everything_as_it_was() {
    let mut machine = MemStateMachine::default();
    apply(&mut machine, 1..4);
    block_on(machine.build_snapshot()).unwrap();
    let before = machine.reader().checksum();

    let (Snapshot { meta, data }, _) = snapshot_at(9);
    let broken = stream::iter([Err(io::Error::from(io::ErrorKind::BrokenPipe))]);
    let data = snapshot_stream(data.take(2).chain(broken));
    let error = block_on(machine.install_snapshot(Snapshot { meta: meta.clone(), data })).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);

    let data = snapshot_stream(snapshot_at(9).0.data.take(2));
    let error = block_on(machine.install_snapshot(Snapshot { meta, data })).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);

    let error = block_on(machine.install_snapshot(snapshot_at(2).0)).unwrap_err();
    assert!(error.to_string().contains("ends with 2(t1)"), "{error}");

    assert_eq!(machine.reader().checksum(), before);
    assert_eq!(current(&mut machine).meta.last, LogId::new(1, 3));
}

#[test]
fn volatile_state_is_gone_after_a_restart_and_its_snapshot_is_not() {
    let disk = KvDisk::new();
    let mut machine = MemStateMachine::volatile(&disk);
    apply(&mut machine, 1..4);
    block_on(machine.build_snapshot()).unwrap();
    drop(machine);

    let mut machine = MemStateMachine::volatile(&disk);
    assert_eq!(block_on(machine.applied_state()).unwrap(), AppliedState::default());
    assert_eq!(current(&mut machine).meta.last, LogId::new(1, 3));
    assert_eq!(disk.snapshot().map(|meta| meta.last), Some(LogId::new(1, 3)));
}

#[test]
fn persistent_state_survives_a_restart_up_to_its_lag() {
    for (lag, expected) in [(0, 9), (4, 5), (100, 0)] {
        let disk = KvDisk::new();
        let mut machine = MemStateMachine::persistent_with_lag(&disk, lag);
        for index in 1..10 {
            apply(&mut machine, index..index + 1);
        }
        drop(machine);
        let mut machine = MemStateMachine::persistent_with_lag(&disk, lag);
        let applied = block_on(machine.applied_state()).unwrap();
        assert_eq!(applied.last_applied.index, expected, "lag {lag}");
        assert_eq!(machine.reader().len() as u64, expected);
    }
}

#[test]
fn an_installed_snapshot_is_on_the_disk_of_a_persistent_state_machine() {
    let disk = KvDisk::new();
    let (snapshot, checksum) = snapshot_at(9);
    block_on(MemStateMachine::persistent_with_lag(&disk, 100).install_snapshot(snapshot)).unwrap();
    let machine = MemStateMachine::persistent(&disk);
    assert_eq!((machine.reader().checksum(), machine.reader().last_applied().index), (checksum, 9));
}

#[test]
fn a_damaged_snapshot_is_never_sent_as_good_and_the_same_state_takes_its_place() {
    let disk = KvDisk::new();
    let mut machine = MemStateMachine::volatile(&disk);
    apply(&mut machine, 1..4);
    block_on(machine.build_snapshot()).unwrap();
    let read = |machine: &mut MemStateMachine| block_on(current(machine).data.collect::<Vec<_>>());
    assert!(read(&mut machine).iter().all(Result::is_ok));
    disk.damage_snapshot();
    let chunks = read(&mut machine);
    let error = chunks.last().unwrap().as_ref().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("is damaged: its checksum is"), "{error}");
    // Nor is it restored from.
    let error =
        block_on(MemStateMachine::volatile(&disk).install_snapshot(current(&mut machine))).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    block_on(machine.build_snapshot()).unwrap();
    assert!(read(&mut machine).iter().all(Result::is_ok));
}
