//! A data file of another node or cluster, and one that is in use.

use openconsensus::{Entries, RaftLogStorage};
use openconsensus_memstore::kv::Kv;
use openconsensus_redb::kv::KvApplication;
use openconsensus_redb::{Identity, OpenError, RedbLog, RedbStateMachine, open};

use crate::helpers::{append, apply, entries, identity, open_log, open_state, put, read_all};

fn assert_names_both(error: &OpenError, found: &str, expected: &str) {
    assert!(matches!(error, OpenError::WrongIdentity { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("belongs to {found}, not to {expected}")), "{text}");
}

#[test]
fn a_log_of_another_node_or_cluster_is_refused_with_both_names() {
    let dir = tempfile::tempdir().unwrap();
    append(&mut open_log(dir.path()), entries(1, 1..4));
    for (other, name) in [
        (Identity::new("test", 2), "node 2 of cluster \"test\""),
        (Identity::new("else", 1), "node 1 of cluster \"else\""),
    ] {
        let error = RedbLog::<Kv>::open(dir.path().join("log.redb"), &other).unwrap_err();
        assert_names_both(&error, "node 1 of cluster \"test\"", name);
    }
    assert_eq!(read_all(&open_log(dir.path())), entries(1, 1..4), "nothing was changed");
}

#[test]
fn a_state_of_another_node_or_cluster_is_refused_with_both_names() {
    let dir = tempfile::tempdir().unwrap();
    drop(open_state(dir.path()));
    let (state, snapshots) = (dir.path().join("state.redb"), dir.path().join("snapshots"));
    for (other, name) in [
        (Identity::new("test", 12), "node 12 of cluster \"test\""),
        (Identity::new("", 1), "node 1 of cluster \"\""),
    ] {
        let error = RedbStateMachine::<Kv, _>::open(&state, &snapshots, &other, KvApplication).unwrap_err();
        assert_names_both(&error, "node 1 of cluster \"test\"", name);
    }
}

#[test]
fn a_file_that_is_open_is_refused_until_it_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(dir.path());
    let state = open_state(dir.path());
    let error = RedbLog::<Kv>::open(dir.path().join("log.redb"), &identity()).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("log.redb is in use"), "{error}");
    let error = open::<Kv, _>(dir.path(), &identity(), KvApplication).unwrap_err();
    assert!(matches!(&error, OpenError::Locked { file } if file.ends_with("state.redb")), "{error}");
    drop((log, state));
    open::<Kv, _>(dir.path(), &identity(), KvApplication).unwrap();
}

#[test]
fn a_state_and_a_log_are_not_taken_for_each_other() {
    let dir = tempfile::tempdir().unwrap();
    drop((open_log(dir.path()), open_state(dir.path())));
    let error = RedbLog::<Kv>::open(dir.path().join("state.redb"), &identity()).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    let path = dir.path().join("log.redb");
    let error = RedbStateMachine::<Kv, _>::open(path, dir.path().join("s"), &identity(), KvApplication);
    let error = error.unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
}

#[test]
fn what_a_crash_left_of_making_a_file_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    for content in [&b""[..], b"half", &[0; 100_000]] {
        std::fs::write(dir.path().join("log.redb.new"), content).unwrap();
        std::fs::write(dir.path().join("state.redb.new"), content).unwrap();
        let mut log = open_log(dir.path());
        append(&mut log, Entries::empty());
        append(&mut log, entries(1, 1..2));
        apply(&mut open_state(dir.path()), [put("a", "1")]);
        assert!(!dir.path().join("log.redb.new").exists());
        drop(log);
        std::fs::remove_file(dir.path().join("log.redb")).unwrap();
        std::fs::remove_file(dir.path().join("state.redb")).unwrap();
    }
}

#[test]
fn a_file_that_cannot_be_made_is_an_error_of_the_operating_system() {
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("blocked");
    std::fs::write(&blocked, "a file where a folder is needed").unwrap();
    let error = RedbLog::<Kv>::open(blocked.join("log.redb"), &identity()).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    // A link to nowhere is not an absent file.
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(dir.path().join("nowhere"), dir.path().join("log.redb")).unwrap();
        let error = RedbLog::<Kv>::open(dir.path().join("log.redb"), &identity()).unwrap_err();
        assert!(matches!(error, OpenError::Io { .. }), "{error}");
    }
}

#[test]
fn a_folder_and_its_parents_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b/c");
    let (mut log, _state) = open::<Kv, _>(&deep, &identity(), KvApplication).unwrap();
    futures::executor::block_on(log.load()).unwrap();
    assert!(deep.join("log.redb").is_file());
    assert!(deep.join("snapshots").is_dir());
}
