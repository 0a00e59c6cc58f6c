//! Snapshot files that are damaged, missing or left over.

use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use futures::executor::block_on;
use openconsensus::RaftStateMachine;
use openconsensus_redb::kv::{KvApplication, KvReader};
use openconsensus_redb::{OpenError, RedbStateMachine};

use crate::helpers::{KvState, apply, identity, open_state, put};

fn try_open(dir: &Path) -> Result<KvState, OpenError> {
    RedbStateMachine::open(dir.join("state.redb"), dir.join("snapshots"), &identity(), KvApplication)
}

/// A folder with a state and a snapshot of some chunks, and the path of the snapshot.
fn with_snapshot(dir: &Path) -> PathBuf {
    let mut state = open_state(dir);
    apply(&mut state, (0..3000).map(|i| put(format!("key {i}"), "value".repeat(20))));
    block_on(state.build_snapshot()).unwrap();
    snapshot_file(dir)
}

fn snapshot_file(dir: &Path) -> PathBuf {
    let mut files = std::fs::read_dir(dir.join("snapshots")).unwrap();
    let file = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none());
    file
}

/// The whole stream of the current snapshot, or the error that ended it.
fn send(state: &mut KvState) -> std::io::Result<Vec<u8>> {
    let snapshot = block_on(state.current_snapshot())?.expect("there is a snapshot");
    let chunks: Vec<_> = block_on(snapshot.data.try_collect())?;
    Ok(chunks.concat())
}

#[test]
fn a_damaged_snapshot_is_never_sent_as_good() {
    let dir = tempfile::tempdir().unwrap();
    let path = with_snapshot(dir.path());
    let whole = std::fs::read(&path).unwrap();
    assert!(send(&mut open_state(dir.path())).unwrap() == whole);
    let (mut at_open, mut on_sending) = (0, 0);
    let near_ends = (0..60).chain(whole.len() - 30..whole.len());
    for place in near_ends.chain((60..whole.len()).step_by(9973)) {
        let mut wrong = whole.clone();
        wrong[place] ^= 1;
        std::fs::write(&path, &wrong).unwrap();
        let error = match try_open(dir.path()) {
            Ok(mut state) => {
                on_sending += 1;
                send(&mut state).expect_err("it was sent as good").to_string()
            }
            Err(error) => {
                at_open += 1;
                assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
                error.to_string()
            }
        };
        assert!(error.contains(path.to_str().unwrap()), "{place}: {error}");
    }
    assert!(at_open > 10 && on_sending > 10, "{at_open}, {on_sending}");
}

#[test]
fn a_truncated_or_longer_snapshot_is_refused_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = with_snapshot(dir.path());
    let whole = std::fs::read(&path).unwrap();
    let longer = [&whole[..], b"x"].concat();
    for wrong in [&[][..], &whole[..10], &whole[..whole.len() / 2], &whole[..whole.len() - 1], &longer] {
        std::fs::write(&path, wrong).unwrap();
        let error = try_open(dir.path()).unwrap_err();
        assert!(matches!(&error, OpenError::Damaged { file, .. } if *file == path), "{error}");
        assert!(error.to_string().contains(&format!("has {} bytes instead of", wrong.len())), "{error}");
    }
}

#[test]
fn a_snapshot_that_is_damaged_while_the_node_runs_is_replaced_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let path = with_snapshot(dir.path());
    let mut state = open_state(dir.path());
    let mut wrong = std::fs::read(&path).unwrap();
    let middle = wrong.len() / 2;
    wrong[middle] ^= 1;
    std::fs::write(&path, &wrong).unwrap();
    let error = send(&mut state).unwrap_err();
    assert!(error.to_string().contains("build another snapshot"), "{error}");
    // The state itself is whole.
    block_on(state.build_snapshot()).unwrap();
    send(&mut state).unwrap();
}

#[test]
fn a_missing_snapshot_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = with_snapshot(dir.path());
    std::fs::remove_file(&path).unwrap();
    let error = try_open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("the current snapshot is missing"), "{error}");
}

#[test]
fn a_snapshot_of_another_moment_is_not_taken_for_the_current_one() {
    let (dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = with_snapshot(dir.path());
    let other = with_snapshot(other_dir.path());
    // One more entry with an effect of the same size, so that only the header tells them apart.
    let mut state = open_state(other_dir.path());
    apply(&mut state, [put("key 0", "value".repeat(20))]);
    block_on(state.build_snapshot()).unwrap();
    drop(state);
    assert_ne!(other, snapshot_file(other_dir.path()));
    std::fs::copy(snapshot_file(other_dir.path()), &path).unwrap();
    let error = try_open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("it is of entry 3001(t1), not of entry 3000(t1)"), "{error}");
}

#[test]
fn leftovers_of_a_crash_are_removed_and_other_files_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = with_snapshot(dir.path());
    let folder = dir.path().join("snapshots");
    std::fs::write(folder.join("77-3.tmp"), "half a snapshot").unwrap();
    // Named, but the crash came before the transaction.
    std::fs::copy(&path, folder.join("00000002-at-3000.snapshot")).unwrap();
    std::fs::write(folder.join("README"), "of the operator").unwrap();
    let mut state = open_state(dir.path());
    let mut names: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["00000001-at-3000.snapshot", "README"]);
    send(&mut state).unwrap();
}

#[test]
fn a_state_that_is_gone_is_not_taken_for_a_new_one_while_its_snapshots_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = with_snapshot(dir.path());
    std::fs::remove_file(dir.path().join("state.redb")).unwrap();
    let error = try_open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("the file is missing, though there are snapshots of it"), "{error}");
    assert!(path.exists(), "the snapshot was removed");
    std::fs::remove_file(&path).unwrap();
    let state = try_open(dir.path()).unwrap();
    assert!(KvReader::new(&state).is_empty().unwrap());
}
