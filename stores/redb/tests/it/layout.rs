//! The files are laid out byte by byte as the documentation of the crate says: written out here by hand, so that a
//! change of a derive, a codec or a table cannot change the format unnoticed.

use std::collections::BTreeMap;
use std::path::Path;

use futures::TryStreamExt;
use futures::executor::block_on;
use openconsensus::{ApplyBatch, HardState, LogId, RaftLogStorage, RaftStateMachine};
use openconsensus_redb::redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle};

use crate::helpers::{append, entries, membership_entry, open_log, open_state, put};

/// Checksum and body, as a record with this key has them.
fn sealed(key: &[u8], body: &[u8]) -> Vec<u8> {
    let sum = crc32fast::hash(&[key, body].concat());
    [&sum.to_le_bytes()[..], body].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&[text.len() as u8][..], text.as_bytes()].concat()
}

/// The membership of `membership_entry`: two voters; nobody outgoing or retiring; nodes 1 at "a:1" and 2 at "b:2".
const MEMBERSHIP: &[u8] = b"\x02\x01\x02\0\0\x02\x01\x03a:1\x02\x03b:2";

/// The records of a file, and the names of its tables.
fn meta(path: &Path) -> (BTreeMap<String, Vec<u8>>, Vec<String>) {
    let transaction = Database::open(path).unwrap().begin_read().unwrap();
    let table = transaction.open_table(TableDefinition::<&str, &[u8]>::new("openconsensus.meta")).unwrap();
    let records = table.iter().unwrap().map(|pair| {
        let (key, value) = pair.unwrap();
        (key.value().to_string(), value.value().to_vec())
    });
    let mut tables: Vec<_> = transaction.list_tables().unwrap().map(|t| t.name().to_string()).collect();
    tables.sort();
    (records.collect(), tables)
}

#[test]
fn the_log_is_as_documented() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_log(dir.path());
    block_on(log.save_hard_state(HardState { term: 300, voted_for: Some(2), commit: 1 })).unwrap();
    append(&mut log, entries(299, 1..2));
    append(&mut log, vec![membership_entry(LogId::new(300, 2))].into());
    block_on(log.append(entries(300, 3..4), 2)).unwrap();
    block_on(log.purge(LogId::new(299, 1))).unwrap();
    drop(log);
    let path = dir.path().join("log.redb");
    let (records, tables) = meta(&path);
    let expected = BTreeMap::from([
        ("format".into(), b"openconsensus log\x01\0\0\0".to_vec()),
        ("identity".into(), sealed(b"identity", b"\x04test\x011")),
        // 300 as a varint is AC 02, 299 is AB 02.
        ("hard_state".into(), sealed(b"hard_state", &[0xac, 2, 1, 2, 1])),
        ("cursors".into(), sealed(b"cursors", &[2, 0xab, 2, 1, 0xac, 2, 3])),
    ]);
    assert_eq!(records, expected);
    assert_eq!(tables, ["openconsensus.entries", "openconsensus.meta"]);

    let transaction = Database::open(&path).unwrap().begin_read().unwrap();
    let table = TableDefinition::<u64, &[u8]>::new("openconsensus.entries");
    let table = transaction.open_table(table).unwrap();
    let record = |index: u64| table.get(index).unwrap().unwrap().value().to_vec();
    let term = 300_u64.to_le_bytes();
    let membership = [&term[..], &[2], MEMBERSHIP].concat();
    assert_eq!(record(2), sealed(&2_u64.to_le_bytes(), &membership));
    let command = [&[0][..], &text("key 3"), &text("value 3 of term 300")].concat();
    assert_eq!(record(3), sealed(&3_u64.to_le_bytes(), &[&term[..], &[1], &command].concat()));
    assert_eq!(table.iter().unwrap().count(), 2);
}

#[test]
fn the_state_and_its_snapshot_are_as_documented() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = open_state(dir.path());
    let batch = ApplyBatch::new(&Default::default(), vec![membership_entry(LogId::new(3, 1))].into());
    let before = batch.applied_state().clone();
    block_on(state.apply(batch)).unwrap();
    let command = openconsensus::Payload::Command(put("k", "value"));
    let entry = openconsensus::Entry { log_id: LogId::new(4, 2), payload: command };
    block_on(state.apply(ApplyBatch::new(&before, vec![entry].into()))).unwrap();
    block_on(state.build_snapshot()).unwrap();
    let snapshot = block_on(state.current_snapshot()).unwrap().unwrap();
    let file: Vec<_> = block_on(snapshot.data.try_collect()).unwrap();
    let file = file.concat();
    drop(state);

    let name = "00000001-at-2.snapshot";
    assert!(std::fs::read(dir.path().join("snapshots").join(name)).unwrap() == file);
    let applied = [&[4, 2, 3, 1], MEMBERSHIP].concat();
    let size = file.len() as u8;
    assert!(size < 128, "as a varint it would have two bytes");
    let current = [&[1][..], &text(name), &applied, &[size]].concat();
    let (records, tables) = meta(&dir.path().join("state.redb"));
    let expected = BTreeMap::from([
        ("format".into(), b"openconsensus state\x01\0\0\0".to_vec()),
        ("identity".into(), sealed(b"identity", b"\x04test\x011")),
        ("applied_state".into(), sealed(b"applied_state", &applied)),
        ("snapshot".into(), sealed(b"snapshot", &current)),
    ]);
    assert_eq!(records, expected);
    assert_eq!(tables, ["kv", "openconsensus.meta"]);

    let long = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat();
    let table = [&[1][..], &long(b"kv"), &long(b"&str"), &long(b"&[u8]")].concat();
    let pair = [&[2][..], &long(b"k"), &long(b"value")].concat();
    let content = [&table[..], &pair, &[0]].concat();
    let header = [&text("test")[..], &applied].concat();
    let mut expected = [b"OCSNAP\r\n\x01\0\0\0", &long(&header)[..]].concat();
    expected.extend(crc32fast::hash(&expected).to_le_bytes());
    expected.extend((content.len() as u32).to_le_bytes());
    expected.extend(crc32fast::hash(&content).to_le_bytes());
    expected.extend(&content);
    expected.extend([0; 4]);
    expected.extend((content.len() as u64).to_le_bytes());
    expected.extend(crc32fast::hash(&expected).to_le_bytes());
    assert_eq!(file, expected);
}
