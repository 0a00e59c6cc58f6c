//! What the log promises beyond the contract of `RaftLogStorage`, which `conformance.rs` checks: refusals, closing, calls
//! that nobody waits for.

use futures::executor::block_on;
use futures::future::join;
use openconsensus::{LogId, LogState, RaftLogReader, RaftLogStorage};
use openconsensus_memstore::kv::Kv;

use crate::helpers::{append, entries, open_log, read_all};

fn load(dir: &std::path::Path) -> LogState<Kv> {
    block_on(open_log(dir).load()).unwrap()
}

#[test]
fn an_append_that_does_not_follow_is_refused_and_stops_the_log() {
    for wrong in [entries(2, 5..6), entries(2, 3..5), entries(1, 4..5)] {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open_log(dir.path());
        append(&mut log, entries(2, 1..4));
        let error = block_on(log.append(wrong, 0)).unwrap_err();
        assert!(error.to_string().contains("cannot be appended behind entry 3(t2)"), "{error}");
        let later = block_on(log.append(entries(2, 4..5), 0)).unwrap_err();
        assert!(later.to_string().contains("an earlier operation failed"), "{later}");
        drop(log);
        assert_eq!(read_all(&open_log(dir.path())), entries(2, 1..4));
    }
}

#[test]
fn truncating_reaches_down_to_the_purged_entry_and_not_below() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_log(dir.path());
    append(&mut log, entries(3, 1..10));
    block_on(log.purge(LogId::new(3, 4))).unwrap();
    block_on(log.truncate(20)).unwrap();
    assert_eq!(block_on(log.load()).unwrap().last, LogId::new(3, 9), "nothing is there to remove");
    block_on(log.truncate(5)).unwrap();
    assert_eq!(block_on(log.load()).unwrap().last, LogId::new(3, 4));
    let error = block_on(log.truncate(4)).unwrap_err();
    assert!(error.to_string().contains("purged up to 4(t3)"), "{error}");
    drop(log);
    let state = load(dir.path());
    assert_eq!((state.purged, state.last), (LogId::new(3, 4), LogId::new(3, 4)));
}

#[test]
fn an_older_purge_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_log(dir.path());
    append(&mut log, entries(1, 1..10));
    block_on(log.purge(LogId::new(1, 4))).unwrap();
    block_on(log.purge(LogId::new(1, 2))).unwrap();
    drop(log);
    assert_eq!(load(dir.path()).purged, LogId::new(1, 4));
    assert_eq!(read_all(&open_log(dir.path())), entries(1, 5..10));
}

#[test]
fn a_purge_at_the_last_index_in_another_term_empties_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_log(dir.path());
    append(&mut log, entries(1, 1..10));
    block_on(log.purge(LogId::new(2, 9))).unwrap();
    drop(log);
    let state = load(dir.path());
    assert_eq!((state.purged, state.last), (LogId::new(2, 9), LogId::new(2, 9)));
}

#[test]
fn a_reader_of_a_closed_log_says_so_and_does_not_keep_it_open() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_log(dir.path());
    append(&mut log, entries(1, 1..2));
    let mut reader = log.reader();
    drop(log);
    let error = block_on(reader.read(1..2, 0)).unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    assert_eq!(read_all(&open_log(dir.path())).range(), 1..2);
}

#[test]
fn calls_are_carried_out_even_if_nobody_waits_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_log(dir.path());
    drop(log.append(entries(1, 1..5), 0));
    drop(log.append(entries(1, 5..9), 4));
    drop(log);
    let log = open_log(dir.path());
    assert_eq!(read_all(&log).range(), 1..9);
    assert_eq!(log.opened_state().hard_state.commit, 4);
}

#[test]
fn reads_and_writes_do_not_wait_for_each_other_on_one_thread() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_log(dir.path());
    append(&mut log, entries(1, 1..100));
    let mut reader = log.reader();
    let (written, found) = block_on(join(log.append(entries(1, 100..200), 0), reader.read(1..100, u64::MAX)));
    written.unwrap();
    assert_eq!(found.unwrap().range(), 1..100);
}
