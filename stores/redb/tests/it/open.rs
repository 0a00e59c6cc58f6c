//! The folder of a node: the log and the state must both be there, and fit together.

use std::path::Path;

use futures::executor::block_on;
use openconsensus::{LogId, RaftLogStorage, RaftStateMachine};
use openconsensus_memstore::kv::Kv;
use openconsensus_redb::kv::KvApplication;
use openconsensus_redb::{OpenError, RedbLog, RedbStateMachine, open};

use crate::helpers::{append, apply, entries, identity, put};

type Stores = (RedbLog<Kv>, RedbStateMachine<Kv, KvApplication>);

fn try_open(dir: &Path) -> Result<Stores, OpenError> {
    open(dir, &identity(), KvApplication)
}

/// A folder in which ten entries are stored and `applied` of them applied.
fn with_entries(dir: &Path, applied: u64) {
    let (mut log, mut state) = try_open(dir).unwrap();
    append(&mut log, entries(1, 1..11));
    apply(&mut state, (0..applied).map(|i| put(format!("key {i}"), "value")));
}

#[track_caller]
fn assert_damaged(dir: &Path, file: &str, expected: &str) {
    let error = try_open(dir).unwrap_err();
    assert!(matches!(&error, OpenError::Damaged { file: found, .. } if found.ends_with(file)), "{error}");
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn a_folder_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    with_entries(dir.path(), 4);
    let (log, mut state) = try_open(dir.path()).unwrap();
    assert_eq!(log.opened_state().last, LogId::new(1, 10));
    assert_eq!(block_on(state.applied_state()).unwrap().last_applied, LogId::new(1, 4));
    let mut names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["log.redb", "snapshots", "state.redb"]);
}

#[test]
fn a_missing_file_is_damage_when_the_other_is_there() {
    let dir = tempfile::tempdir().unwrap();
    with_entries(dir.path(), 4);
    let (log, state) = (dir.path().join("log.redb"), dir.path().join("state.redb"));
    std::fs::rename(&log, dir.path().join("away")).unwrap();
    assert_damaged(dir.path(), "log.redb", "the file is missing, though the state is of 4(t1)");
    assert!(!log.exists(), "a log was made");
    std::fs::rename(dir.path().join("away"), &log).unwrap();
    std::fs::remove_file(&state).unwrap();
    assert_damaged(dir.path(), "state.redb", "the file is missing, though the log is there");
    assert!(!state.exists(), "a state was made");
}

#[test]
fn a_crash_between_making_the_two_files_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    drop(try_open(dir.path()).unwrap());
    std::fs::remove_file(dir.path().join("log.redb")).unwrap();
    try_open(dir.path()).unwrap();
}

#[test]
fn a_log_from_an_older_copy_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    with_entries(dir.path(), 0);
    std::fs::copy(dir.path().join("log.redb"), dir.path().join("copy")).unwrap();
    let (mut log, mut state) = try_open(dir.path()).unwrap();
    append(&mut log, entries(1, 11..14));
    apply(&mut state, (0..12).map(|i| put(format!("key {i}"), "value")));
    drop((log, state));
    std::fs::rename(dir.path().join("copy"), dir.path().join("log.redb")).unwrap();
    assert_damaged(dir.path(), "log.redb", "it ends at entry 10(t1), but the state has applied entry 12(t1)");
}

#[test]
fn a_state_from_an_older_copy_is_damage_when_the_log_has_been_purged() {
    let dir = tempfile::tempdir().unwrap();
    with_entries(dir.path(), 3);
    std::fs::copy(dir.path().join("state.redb"), dir.path().join("copy")).unwrap();
    let (mut log, mut state) = try_open(dir.path()).unwrap();
    apply(&mut state, (0..5).map(|i| put(format!("key {i}"), "value")));
    block_on(log.purge(LogId::new(1, 7))).unwrap();
    drop((log, state));
    std::fs::rename(dir.path().join("copy"), dir.path().join("state.redb")).unwrap();
    assert_damaged(dir.path(), "state.redb", "it is of entry 3(t1), but the log begins behind entry 7(t1)");
}

#[test]
fn a_crash_right_after_a_snapshot_was_installed_is_not_damage() {
    let (dir, leader_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_, mut leader) = try_open(leader_dir.path()).unwrap();
    apply(&mut leader, (0..50).map(|i| put(format!("key {i}"), "value")));
    block_on(leader.build_snapshot()).unwrap();
    let snapshot = block_on(leader.current_snapshot()).unwrap().unwrap();
    with_entries(dir.path(), 4);
    let (log, mut state) = try_open(dir.path()).unwrap();
    block_on(state.install_snapshot(snapshot)).unwrap();
    drop((log, state));
    // The log ends at 10; the core will purge it up to the snapshot.
    let (log, mut state) = try_open(dir.path()).unwrap();
    assert_eq!(log.opened_state().last, LogId::new(1, 10));
    assert_eq!(block_on(state.applied_state()).unwrap().last_applied, LogId::new(1, 50));
}
