//! One test for each sentence of the contract of `RaftLogStorage` and `RaftLogReader`.

use futures::executor::block_on;
use futures::future::join;
use openconsensus::{Entry, HardState, LogId, LogState, Payload, RaftLogReader, RaftLogStorage};
use openconsensus_memstore::kv::Kv;

use crate::helpers::{append, entries, membership_entry, open_log, read, read_all};

fn load(dir: &std::path::Path) -> LogState<Kv> {
    block_on(open_log(dir).load()).unwrap()
}

#[test]
fn a_new_log_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(load(dir.path()), LogState::default());
    assert_eq!(load(dir.path()), LogState::default(), "opened again");
}

#[test]
fn the_hard_state_is_replaced_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    for state in [
        HardState { term: 3, voted_for: Some(2), commit: 0 },
        HardState { term: 4, voted_for: None, commit: 7 },
        HardState { term: 4, voted_for: Some(1), commit: 9 },
    ] {
        let mut log = open_log(dir.path());
        block_on(log.save_hard_state(state)).unwrap();
        drop(log);
        assert_eq!(load(dir.path()).hard_state, state);
    }
}

#[test]
fn the_commit_is_raised_to_the_latest_hint() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_log(dir.path());
    block_on(log.append(entries(1, 1..6), 3)).unwrap();
    block_on(log.save_hard_state(HardState { term: 2, voted_for: None, commit: 2 })).unwrap();
    assert_eq!(block_on(log.load()).unwrap().hard_state, HardState { term: 2, voted_for: None, commit: 3 });
    block_on(log.append(entries(2, 6..7), 1)).unwrap();
    block_on(log.save_hard_state(HardState { term: 3, voted_for: None, commit: 5 })).unwrap();
    drop(log);
    assert_eq!(load(dir.path()).hard_state, HardState { term: 3, voted_for: None, commit: 5 });
}

#[test]
fn entries_of_every_kind_are_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_log(dir.path());
    let blank = Entry { log_id: LogId::new(1, 1), payload: Payload::Blank };
    let batch = vec![blank, membership_entry(LogId::new(1, 2)), entries(2, 3..4).at(3).unwrap().clone()];
    append(&mut log, batch.clone().into());
    append(&mut log, entries(2, 4..8));
    drop(log);
    let log = open_log(dir.path());
    let found = read_all(&log);
    assert_eq!(found.slice(1..4), batch.into());
    assert_eq!(found.slice(4..8), entries(2, 4..8));
    assert_eq!(log.opened_state().last, LogId::new(2, 7));
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
fn truncated_entries_do_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_log(dir.path());
    append(&mut log, entries(1, 1..10));
    block_on(log.truncate(6)).unwrap();
    assert_eq!(block_on(log.load()).unwrap().last, LogId::new(1, 5));
    assert!(read(&mut log.reader(), 6..10).is_empty());
    append(&mut log, entries(2, 6..8));
    drop(log);
    let log = open_log(dir.path());
    assert_eq!(log.opened_state().last, LogId::new(2, 7));
    assert_eq!(read_all(&log).slice(6..100), entries(2, 6..8));
    assert_eq!(read_all(&log).slice(1..6), entries(1, 1..6));
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
fn a_truncation_of_everything_is_followed_by_the_first_entry() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_log(dir.path());
    append(&mut log, entries(1, 1..4));
    block_on(log.truncate(1)).unwrap();
    assert_eq!(block_on(log.load()).unwrap().last, LogId::ZERO);
    append(&mut log, entries(2, 1..3));
    drop(log);
    assert_eq!(read_all(&open_log(dir.path())), entries(2, 1..3));
}

#[test]
fn a_purge_removes_the_start_and_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_log(dir.path());
    append(&mut log, entries(1, 1..10));
    block_on(log.purge(LogId::new(1, 4))).unwrap();
    block_on(log.purge(LogId::new(1, 2))).unwrap();
    assert!(read(&mut log.reader(), 4..10).is_empty());
    drop(log);
    let log = open_log(dir.path());
    assert_eq!(log.opened_state().purged, LogId::new(1, 4));
    assert_eq!(read_all(&log), entries(1, 5..10));
}

#[test]
fn a_purge_behind_the_last_entry_empties_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_log(dir.path());
    append(&mut log, entries(1, 1..10));
    block_on(log.purge(LogId::new(4, 100))).unwrap();
    let state = block_on(log.load()).unwrap();
    assert_eq!((state.purged, state.last), (LogId::new(4, 100), LogId::new(4, 100)));
    assert!(read(&mut log.reader(), 1..200).is_empty());
    append(&mut log, entries(4, 101..103));
    drop(log);
    let log = open_log(dir.path());
    assert_eq!(log.opened_state().last, LogId::new(4, 102));
    assert_eq!(read_all(&log), entries(4, 101..103));
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
fn a_huge_purge_is_done_at_once_and_swept_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_log(dir.path());
    append(&mut log, entries(1, 1..20_001));
    block_on(log.purge(LogId::new(1, 19_990))).unwrap();
    // What is below is invisible at once, whether it has been removed or not.
    assert!(read(&mut log.reader(), 1..20_001).is_empty());
    assert!(read(&mut log.reader(), 19_990..20_001).is_empty());
    assert_eq!(read(&mut log.reader(), 19_991..20_001), entries(1, 19_991..20_001));
    append(&mut log, entries(2, 20_001..20_003));
    drop(log);
    let log = open_log(dir.path());
    assert_eq!(log.opened_state().purged, LogId::new(1, 19_990));
    assert_eq!(read_all(&log).range(), 19_991..20_003);
}

#[test]
fn a_read_returns_what_fits_but_at_least_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_log(dir.path());
    append(&mut log, entries(1, 1..10));
    let one = entries(1, 1..2).size_bytes();
    let mut reader = log.reader();
    let mut read = |range, bytes| block_on(reader.read(range, bytes)).unwrap().range();
    assert_eq!(read(1..10, 0), 1..2);
    assert_eq!(read(3..10, 2 * one), 3..5);
    assert_eq!(read(3..10, 3 * one - 1), 3..5);
    assert_eq!(read(3..6, u64::MAX), 3..6);
    assert_eq!(read(3..4, u64::MAX), 3..4);
    assert_eq!(read(3..100, u64::MAX), 3..10, "fewer only where the log ends");
}

#[test]
fn a_read_is_empty_when_its_start_is_purged_or_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_log(dir.path());
    append(&mut log, entries(1, 1..10));
    block_on(log.purge(LogId::new(1, 3))).unwrap();
    let mut reader = log.reader();
    for range in [0..10, 1..10, 3..10, 10..20, 100..u64::MAX, 5..5, std::ops::Range { start: 7, end: 5 }] {
        assert!(read(&mut reader, range.clone()).is_empty(), "{range:?}");
    }
    assert_eq!(read(&mut reader, 4..u64::MAX).range(), 4..10);
}

#[test]
fn readers_run_beside_appends_and_see_entries_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_log(dir.path());
    append(&mut log, entries(1, 1..2));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let mut reader = log.reader();
            std::thread::spawn(move || {
                let mut seen = 1;
                while seen < 400 {
                    let found = read(&mut reader, 1..1000);
                    assert!(seen <= found.len(), "entries that were seen are gone");
                    assert_eq!(found, entries(1, 1..found.len() as u64 + 1));
                    seen = found.len();
                }
            })
        })
        .collect();
    for index in 2..401 {
        append(&mut log, entries(1, index..index + 1));
    }
    readers.into_iter().for_each(|reader| reader.join().unwrap());
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
