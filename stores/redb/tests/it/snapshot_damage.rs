//! Snapshot files that are damaged, missing or left over.

use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use futures::executor::block_on;
use openconsensus::RaftStateMachine;
use openconsensus_redb::kv::{KvApplication, KvReader};
use openconsensus_redb::{OpenError, Options, RedbStateMachine};

use crate::helpers::{KvState, apply, batch_after, identity, open_state, put};

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
    let (mut on_opening, mut on_sending) = (0, 0);
    let near_ends = (0..60).chain(whole.len() - 30..whole.len());
    for place in near_ends.chain((60..whole.len()).step_by(9973)) {
        let mut wrong = whole.clone();
        wrong[place] ^= 1;
        std::fs::write(&path, &wrong).unwrap();
        let mut state = open_state(dir.path());
        let is_opened = block_on(state.current_snapshot()).is_ok();
        *if is_opened { &mut on_sending } else { &mut on_opening } += 1;
        let error = send(&mut state).expect_err("it was sent as good");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{place}: {error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{place}: {error}");
    }
    assert!(on_opening > 10 && on_sending > 10, "{on_opening}, {on_sending}");
}

/// The state has all that it covers, so the node need not be lost with it.
#[test]
fn a_truncated_or_longer_snapshot_is_never_used_and_the_next_one_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = with_snapshot(dir.path());
    let whole = std::fs::read(&path).unwrap();
    let longer = [&whole[..], b"x"].concat();
    for wrong in [&[][..], &whole[..10], &whole[..whole.len() / 2], &whole[..whole.len() - 1], &longer] {
        std::fs::write(&path, wrong).unwrap();
        let mut state = open_state(dir.path());
        let error = send(&mut state).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(error.to_string().contains(&format!("has {} bytes instead of", wrong.len())), "{error}");
        // The error is one of the snapshot, not of the store.
        apply(&mut state, [put("more", "x")]);
        assert!(send(&mut state).is_err());
    }
    let mut state = open_state(dir.path());
    block_on(state.build_snapshot()).unwrap();
    send(&mut state).unwrap();
    assert_ne!(snapshot_file(dir.path()), path, "the damaged file is still there");
}

/// The core asks for the same state again when the snapshot of it is damaged.
#[test]
fn a_snapshot_of_the_same_entry_takes_the_place_of_a_damaged_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = with_snapshot(dir.path());
    std::fs::write(&path, "garbage").unwrap();
    let mut state = open_state(dir.path());
    assert!(send(&mut state).is_err());
    block_on(state.build_snapshot()).unwrap();
    send(&mut state).unwrap();
    drop(state);
    send(&mut open_state(dir.path())).unwrap();
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
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    // The state itself is whole.
    block_on(state.build_snapshot()).unwrap();
    send(&mut state).unwrap();
}

#[test]
fn a_missing_snapshot_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = with_snapshot(dir.path());
    std::fs::remove_file(&path).unwrap();
    let mut state = open_state(dir.path());
    let error = send(&mut state).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    block_on(state.build_snapshot()).unwrap();
    send(&mut state).unwrap();
}

/// A build that failed stopped the store for good, so that the node was lost with the room for one file.
#[test]
fn a_snapshot_that_cannot_be_written_leaves_the_store_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = with_snapshot(dir.path());
    let mut state = open_state(dir.path());
    apply(&mut state, [put("more", "x")]);
    // Nothing can be made in a folder that is not one.
    let (folder, aside) = (dir.path().join("snapshots"), dir.path().join("aside"));
    std::fs::rename(&folder, &aside).unwrap();
    std::fs::write(&folder, "").unwrap();
    for _ in 0..2 {
        block_on(state.build_snapshot()).unwrap_err();
        apply(&mut state, [put("even more", "y")]);
    }
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&aside, &folder).unwrap();
    assert!(path.exists(), "the one before it is gone");
    assert_eq!(block_on(state.build_snapshot()).unwrap().last.index, 3003);
    send(&mut state).unwrap();
}

/// What was applied goes on in one transaction; a snapshot that has to be given up must not take it along.
#[test]
fn a_snapshot_that_cannot_be_given_its_name_loses_nothing_that_was_applied() {
    let dir = tempfile::tempdir().unwrap();
    with_snapshot(dir.path());
    let mut state = open_state(dir.path());
    apply(&mut state, [put("more", "x")]);
    // A file cannot take the place of a folder.
    let in_its_place = dir.path().join("snapshots").join("00000002-at-3001.snapshot");
    std::fs::create_dir(&in_its_place).unwrap();
    block_on(async {
        let building = state.build_snapshot();
        let applied = state.applied_state().await.unwrap();
        // It is applied while the snapshot is built, so it is in an open transaction when that is given up.
        state.apply(batch_after(&applied, [put("even more", "y")])).await.unwrap();
        building.await.unwrap_err();
    });
    let reader = KvReader::new(&state);
    assert_eq!(reader.get("even more").unwrap(), Some(b"y".to_vec()));
    drop(state);
    std::fs::remove_dir(&in_its_place).unwrap();
    let mut state = open_state(dir.path());
    assert_eq!(block_on(state.applied_state()).unwrap().last_applied.index, 3002);
    assert_eq!(KvReader::new(&state).get("even more").unwrap(), Some(b"y".to_vec()));
    block_on(state.build_snapshot()).unwrap();
}

#[test]
fn as_many_snapshots_are_kept_as_are_wanted_and_what_is_being_read_can_be_read_on() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let options = Options { snapshots_kept: 3, ..Options::default() };
        let (state, snapshots) = (dir.path().join("state.redb"), dir.path().join("snapshots"));
        RedbStateMachine::open_with(state, snapshots, &identity(), KvApplication, &options).unwrap()
    };
    let names = || {
        let files = std::fs::read_dir(dir.path().join("snapshots")).unwrap();
        let mut names: Vec<_> = files.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let mut state = open();
    let mut first = None;
    for round in 1..=5_u64 {
        apply(&mut state, (0..3000).map(|i| put(format!("key {i}"), format!("value {round}").repeat(20))));
        block_on(state.build_snapshot()).unwrap();
        assert_eq!(names().len() as u64, round.min(3));
        // Begun to be read while it was the current one.
        first = first.or_else(|| block_on(state.current_snapshot()).unwrap());
    }
    let kept = ["00000003-at-9000.snapshot", "00000004-at-12000.snapshot", "00000005-at-15000.snapshot"];
    assert_eq!(names(), kept);
    let chunks: Vec<_> = block_on(first.unwrap().data.try_collect()).unwrap();
    assert!(100_000 < chunks.iter().map(|chunk: &bytes::Bytes| chunk.len()).sum::<usize>());
    // Named, but the crash came before the transaction: it does not count among those that are kept.
    drop(state);
    let folder = dir.path().join("snapshots");
    std::fs::copy(folder.join(kept[2]), folder.join("00000006-at-15000.snapshot")).unwrap();
    drop(open());
    assert_eq!(names(), kept);
    drop(open_state(dir.path()));
    assert_eq!(names(), kept[2..], "one is the default");
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
    let error = send(&mut open_state(dir.path())).unwrap_err();
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
