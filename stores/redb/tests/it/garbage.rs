//! Files with anything in them: an error that says what to do, never an empty store.

use std::path::Path;

use fastrand::Rng;
use openconsensus_memstore::kv::Kv;
use openconsensus_redb::kv::{KvApplication, KvReader};
use openconsensus_redb::{OpenError, RedbLog, RedbStateMachine};

use crate::helpers::{append, apply, entries, identity, open_log, open_state, put, read_all};

fn open_file(path: &Path) -> Result<RedbLog<Kv>, OpenError> {
    RedbLog::open(path, &identity())
}

fn open_state_file(path: &Path) -> Result<RedbStateMachine<Kv, KvApplication>, OpenError> {
    RedbStateMachine::open(path, path.with_extension("snapshots"), &identity(), KvApplication)
}

fn assert_damaged<T: std::fmt::Debug>(result: Result<T, OpenError>) {
    let error = result.unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("file.redb") && text.contains("add it again with an empty folder"), "{text}");
}

#[test]
fn garbage_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.redb");
    let mut random = Rng::with_seed(1);
    for len in [0, 1, 7, 100, 4096, 100_000] {
        let garbage: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(len).collect();
        for content in [garbage, vec![0; len], b"#!/bin/sh\n".repeat(len / 10)] {
            std::fs::write(&path, &content).unwrap();
            assert_damaged(open_file(&path));
            assert_damaged(open_state_file(&path));
            assert!(std::fs::read(&path).unwrap() == content, "the file was changed");
        }
    }
}

#[test]
fn a_database_of_another_program_is_foreign() {
    use openconsensus_redb::redb::{Database, TableDefinition};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.redb");
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(TableDefinition::<u64, u64>::new("other")).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(matches!(open_file(&path).unwrap_err(), OpenError::Foreign { .. }));
    assert!(matches!(open_state_file(&path).unwrap_err(), OpenError::Foreign { .. }));
}

#[test]
fn a_truncated_file_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    append(&mut open_log(dir.path()), entries(1, 1..2000));
    apply(&mut open_state(dir.path()), (0..2000).map(|i| put(format!("key {i}"), "value")));
    let path = dir.path().join("file.redb");
    for (name, is_log) in [("log.redb", true), ("state.redb", false)] {
        let whole = std::fs::read(dir.path().join(name)).unwrap();
        for part in 0..20 {
            std::fs::write(&path, &whole[..whole.len() * part / 20]).unwrap();
            if is_log {
                assert_damaged(open_file(&path));
            } else {
                assert_damaged(open_state_file(&path));
            }
        }
    }
}

#[test]
fn overwritten_pieces_of_a_log_are_refused_or_do_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    append(&mut open_log(dir.path()), entries(1, 1..2000));
    let path = dir.path().join("file.redb");
    let refused = overwrite_pieces(&dir.path().join("log.redb"), &path, || {
        open_file(&path).map(|log| assert_eq!(read_all(&log), entries(1, 1..2000)))
    });
    assert!(refused > 10, "{refused}");
}

#[test]
fn overwritten_pieces_of_a_state_are_refused_or_do_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = open_state(dir.path());
    apply(&mut state, (0..2000).map(|i| put(format!("key {i}"), "value")));
    let checksum = KvReader::new(&state).checksum().unwrap();
    drop(state);
    let path = dir.path().join("file.redb");
    let refused = overwrite_pieces(&dir.path().join("state.redb"), &path, || {
        open_state_file(&path).map(|state| assert_eq!(KvReader::new(&state).checksum().unwrap(), checksum))
    });
    assert!(refused > 10, "{refused}");
}

/// Overwrites random pieces of the file `whole` in a copy at `path`, each time in a fresh one, and has it opened. A
/// piece may be in a page that nothing uses: then what is found must be as it was. Returns how many were refused.
fn overwrite_pieces(whole: &Path, path: &Path, open: impl Fn() -> Result<(), OpenError>) -> usize {
    let whole = std::fs::read(whole).unwrap();
    let mut random = Rng::with_seed(7);
    let mut refused = 0;
    for round in 0..150 {
        let mut content = whole.clone();
        // Where pages are in use, at the beginning, damage is likelier to matter.
        let end = if round % 2 == 0 { content.len() } else { content.len() / 8 };
        let start = random.usize(..end);
        let len = random.usize(1..200).min(content.len() - start);
        random.fill(&mut content[start..start + len]);
        std::fs::write(path, &content).unwrap();
        match open() {
            Ok(()) => {}
            Err(OpenError::Damaged { .. } | OpenError::UnsupportedFormat { .. }) => refused += 1,
            Err(error) => panic!("bytes {start} to {}: {error:?}", start + len),
        }
    }
    refused
}
