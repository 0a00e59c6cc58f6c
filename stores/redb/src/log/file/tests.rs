//! Damage that only someone who knows the tables can do.

use std::path::PathBuf;

use openconsensus::{Entry, Payload};
use openconsensus_memstore::kv::{Command, Kv};
use redb::Database;

use super::*;
use crate::codec::seal;
use openconsensus_store_common::Identity;

fn identity() -> Identity {
    Identity::new("test", 1)
}

fn open(path: &Path) -> Result<LogFile<Kv>, OpenError> {
    LogFile::open(Place::File(path.into()), &identity(), 1 << 20)
}

fn entry(term: u64, index: Index) -> Entry<Kv> {
    let command = Command::Delete { key: format!("key {index}") };
    Entry { log_id: LogId::new(term, index), payload: Payload::Command(command) }
}

/// A log of the entries 1 to 9 in term 2, on which `damage` has been done.
fn damaged(damage: impl FnOnce(&WriteTransaction)) -> Result<LogFile<Kv>, OpenError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.redb");
    let mut log = open(&path).unwrap();
    log.append(&(1..10).map(|index| entry(2, index)).collect::<Vec<_>>().into(), 0).unwrap();
    drop(log);
    change(&path, damage);
    open(&path)
}

fn change(path: &Path, change: impl FnOnce(&WriteTransaction)) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

fn store(transaction: &WriteTransaction, entry: &Entry<Kv>) {
    let mut record = Vec::new();
    encode_entry(&mut record, entry).unwrap();
    transaction.open_table(ENTRIES).unwrap().insert(entry.log_id.index, &*record).unwrap();
}

#[track_caller]
fn assert_damaged(result: Result<LogFile<Kv>, OpenError>, expected: &str) {
    match result.map(|log| log.state()) {
        Err(OpenError::Damaged { what, .. }) => assert!(what.contains(expected), "{what}"),
        other => panic!("{other:?} instead of damage: {expected}"),
    }
}

#[test]
fn a_sound_log_opens() {
    assert_eq!(damaged(|_| ()).unwrap().state().last, LogId::new(2, 9));
}

#[test]
fn a_hole_in_the_log_is_damage() {
    let result = damaged(|transaction| {
        let mut table = transaction.open_table(ENTRIES).unwrap();
        table.remove(4).unwrap();
        table.remove(5).unwrap();
    });
    assert_damaged(result, "entries 4 to 5 are missing between 3(t2) and 6");
}

#[test]
fn a_missing_start_or_end_of_the_log_is_damage() {
    let remove = |index| damaged(move |t| drop(t.open_table(ENTRIES).unwrap().remove(index).unwrap()));
    assert_damaged(remove(1), "entries 1 to 1 are missing");
    assert_damaged(remove(9), "the log ends at 8(t2), but its last entry was 9(t2)");
}

#[test]
fn an_entry_behind_the_last_one_is_damage() {
    assert_damaged(
        damaged(|t| store(t, &entry(2, 10))),
        "the log ends at 10(t2), but its last entry was 9(t2)",
    );
}

#[test]
fn a_term_that_falls_is_damage() {
    assert_damaged(damaged(|t| store(t, &entry(1, 5))), "entry 5(t1) follows entry 4(t2): the term falls");
}

#[test]
fn a_changed_entry_is_damage() {
    let change_value = |change: fn(&mut Vec<u8>)| {
        damaged(move |transaction| {
            let mut table = transaction.open_table(ENTRIES).unwrap();
            let mut record = table.get(5).unwrap().unwrap().value().to_vec();
            change(&mut record);
            table.insert(5, &*record).unwrap();
        })
    };
    assert_damaged(change_value(|record| *record.last_mut().unwrap() ^= 1), "entry 5: the checksum");
    assert_damaged(change_value(|record| record.truncate(3)), "entry 5: a record of 3 bytes is too short");
    assert_damaged(change_value(Vec::clear), "entry 5: a record of 0 bytes is too short");
    let sealed = |body: &'static [u8]| {
        damaged(move |transaction| {
            let mut record = Vec::new();
            seal(&mut record, &5_u64.to_le_bytes(), |buffer| buffer.extend_from_slice(body));
            transaction.open_table(ENTRIES).unwrap().insert(5, &*record).unwrap();
        })
    };
    assert_damaged(sealed(&[2, 0, 0]), "entry 5 is too short");
    assert_damaged(sealed(&[2, 0, 0, 0, 0, 0, 0, 0, 9]), "entry 5 is of an unknown kind");
    assert_damaged(sealed(&[2, 0, 0, 0, 0, 0, 0, 0, 1, 77]), "cannot be decoded");
    assert_damaged(sealed(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 1]), "entry 5 is of an unknown kind");
}

#[test]
fn a_missing_hard_state_is_damage() {
    let result = damaged(|transaction| database::remove(transaction, HARD_STATE).unwrap());
    assert_damaged(result, "its record \"hard_state\" is missing");
}

#[test]
fn missing_cursors_are_damage() {
    let result = damaged(|transaction| database::remove(transaction, CURSORS).unwrap());
    assert_damaged(result, "its record \"cursors\" is missing");
}

#[test]
fn missing_identity_or_format_is_damage() {
    assert_damaged(
        damaged(|t| database::remove(t, "identity").unwrap()),
        "its record \"identity\" is missing",
    );
    assert_damaged(damaged(|t| database::remove(t, "format").unwrap()), "which format");
}

#[test]
fn a_missing_table_of_entries_is_damage() {
    let result = damaged(|transaction| assert!(transaction.delete_table(ENTRIES).unwrap()));
    assert_damaged(result, "openconsensus.entries");
}

#[test]
fn a_later_format_version_is_refused_with_both_versions() {
    let result = damaged(|transaction| database::put_format(transaction, "openconsensus log", 2).unwrap());
    match result.map(|log| log.state()) {
        Err(error @ OpenError::UnsupportedFormat { .. }) => {
            let text = error.to_string();
            assert!(text.contains("version 2 of the format") && text.contains("knows version 1"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_store_of_another_kind_is_foreign() {
    let result = damaged(|transaction| database::put_format(transaction, "openconsensus state", 1).unwrap());
    assert!(matches!(result.map(|log| log.state()), Err(OpenError::Foreign { .. })));
}

#[test]
fn purged_entries_that_a_crash_left_behind_are_ignored_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("log.redb");
    let mut log = open(&path).unwrap();
    log.append(&(1..10).map(|index| entry(2, index)).collect::<Vec<_>>().into(), 0).unwrap();
    log.purge(LogId::new(2, 6)).unwrap();
    drop(log);
    // As if the crash had come before they were removed; what they say does not matter any more.
    change(&path, |transaction| {
        store(transaction, &entry(9, 2));
        store(transaction, &entry(1, 5));
    });
    let mut log = open(&path).unwrap();
    assert_eq!(log.state().purged, LogId::new(2, 6));
    assert_eq!(log.idle_after(), Some(Duration::ZERO));
    log.idle().unwrap();
    assert_eq!(log.idle_after(), None);
    let table = log.database.begin_read().unwrap().open_table(ENTRIES).unwrap();
    let stored: Vec<_> = table.range::<u64>(..).unwrap().map(|pair| pair.unwrap().0.value()).collect();
    assert_eq!(stored, [7, 8, 9]);
}

#[test]
fn a_huge_purge_removes_at_most_one_piece_in_each_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(&dir.path().join("log.redb")).unwrap();
    let count = 3 * SWEEP_ENTRIES_MAX;
    log.append(&(1..=count).map(|index| entry(1, index)).collect::<Vec<_>>().into(), 0).unwrap();
    let stored = |log: &LogFile<Kv>| {
        let table = log.database.begin_read().unwrap().open_table(ENTRIES).unwrap();
        redb::ReadableTableMetadata::len(&table).unwrap()
    };
    log.purge(LogId::new(1, count - 5)).unwrap();
    assert_eq!(stored(&log), 2 * SWEEP_ENTRIES_MAX);
    log.append(&vec![entry(1, count + 1)].into(), 0).unwrap();
    assert_eq!(stored(&log), SWEEP_ENTRIES_MAX + 1);
    // The log is emptied and begins again while there is something left to remove.
    log.purge(LogId::new(2, count + 10)).unwrap();
    log.append(&vec![entry(2, count + 11)].into(), 0).unwrap();
    while log.idle_after().is_some() {
        log.idle().unwrap();
    }
    assert_eq!(stored(&log), 1);
}
