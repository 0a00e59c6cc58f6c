//! Bugs that other stores have had, mostly in crashes: what went wrong there, and what keeps it out of here.

use std::path::Path;

use fastrand::Rng;
use futures::executor::block_on;
use openconsensus::{Entries, Entry, HardState, LogId, Payload, RaftLogStorage, RaftStateMachine};
use openconsensus_memstore::kv::Kv;
use openconsensus_redb::kv::{KvApplication, KvReader};
use openconsensus_redb::{OpenError, Options, RedbLog, RedbStateMachine};

use crate::disk::Disk;
use crate::helpers::{
    append, apply, batch_after, entries, identity, numbered, open_log, open_state, pairs, put, read, read_all,
};

fn open(disk: &Disk) -> RedbLog<Kv> {
    RedbLog::open_on("disk", disk.clone(), &identity(), &Options::default()).unwrap()
}

/// What each crash leaves behind: the disk with nothing but what was synced, and some with parts of the rest.
fn crashes(disk: &Disk) -> Vec<(usize, Disk)> {
    let mut random = Rng::with_seed(1);
    let points = disk.take_crash_points();
    assert!(2 < points.len(), "nothing is synced");
    let each = |point: crate::disk::CrashPoint| {
        let torn: Vec<Disk> = (0..2).map(|_| point.torn(&mut random)).collect();
        std::iter::once(point.strict()).chain(torn).map(move |disk| (point.mark, disk)).collect::<Vec<_>>()
    };
    points.into_iter().flat_map(each).collect()
}

/// The terms of all entries.
fn terms(log: &RedbLog<Kv>) -> Vec<u64> {
    read_all(log).iter().map(|entry| entry.log_id.term).collect()
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap())
        .filter(|file| file.path().is_file())
        .map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap()))
        .collect();
    found.sort();
    found
}

// ---- the end of the log ----

/// etcd-io/etcd#5230, #4903, #11488, #14093 and #4012, rabbitmq/ra#589, ROCm/spur#635.
///
/// A crash in the middle of writing left half a record, or zeros behind a length, or a later page without an earlier one.
/// The node did not start any more, although nothing was lost that it had acknowledged. Here an append is one transaction:
/// after any crash it is there or not, and the log opens.
#[test]
fn a_log_opens_whatever_part_of_its_last_record_a_crash_has_left() {
    let large = |index| Entry {
        log_id: LogId::new(1, index),
        payload: Payload::Command(put(format!("key {index}"), vec![index as u8; 20_000])),
    };
    let disk = Disk::default();
    let mut log = open(&disk);
    disk.record();
    for index in 1..=6 {
        disk.mark(index as usize);
        append(&mut log, vec![large(index)].into());
    }
    for (mark, crashed) in crashes(&disk) {
        let mut log = open(&crashed);
        let last = log.opened_state().last.index;
        assert!(mark as u64 <= last + 1, "{last} entries are left of {mark}");
        let expected: Entries<Kv> = (1..=last).map(large).collect::<Vec<_>>().into();
        assert_eq!(read_all(&log), expected);
        append(&mut log, vec![large(last + 1)].into());
    }
}

/// baidu/braft#119, sofastack/sofa-jraft#1188, rabbitmq/ra#557 and #558, nats-io/nats-server#3870 and #3911,
/// canonical/raft#450.
///
/// The end of a log was cut from the front, and a crash left a hole with old entries behind it; or the cut was only made in
/// memory, and the old entries stood behind the new ones again. Here a cut is one transaction, and every log that opens is
/// without a hole and with terms that do not fall.
#[test]
fn entries_that_were_cut_off_do_not_come_back_behind_a_hole() {
    let disk = Disk::default();
    let mut log = open(&disk);
    append(&mut log, entries(1, 1..10));
    disk.record();
    let mut allowed = vec![vec![1; 9]];
    for (term, from) in [(2, 4), (3, 3), (4, 8)] {
        disk.mark(allowed.len());
        let kept = allowed.last().unwrap()[..from - 1].to_vec();
        block_on(log.truncate(from as u64)).unwrap();
        allowed.push(kept.clone());
        disk.mark(allowed.len());
        let first = kept.len() as u64 + 1;
        append(&mut log, entries(term, first..first + 6));
        allowed.push([kept, vec![term; 6]].concat());
    }
    for (mark, crashed) in crashes(&disk) {
        let log = open(&crashed);
        let found = terms(&log);
        let may_be = &allowed[mark.saturating_sub(1)..=mark.min(allowed.len() - 1)];
        assert!(may_be.contains(&found), "after step {mark}: {found:?} is none of {may_be:?}");
        assert_eq!(log.opened_state().last.index, found.len() as u64);
    }
}

/// canonical/raft#373, #450 and #478.
///
/// A snapshot that ends at 100 was installed and the log removed behind it; a crash left a segment that did not say where it
/// begins, and its entries 60 to 70 were taken for 101 to 111. Here each record carries its index and term and is sealed
/// with them, and what lies below the start of the log is never looked at.
#[test]
fn entries_that_a_purge_has_left_behind_are_not_taken_for_later_ones() {
    let disk = Disk::default();
    let mut log = open(&disk);
    // So many that they are removed in several transactions.
    append(&mut log, entries(1, 1..10_000));
    disk.record();
    let snapshot = LogId::new(2, 20_000);
    block_on(log.purge(snapshot)).unwrap();
    append(&mut log, entries(3, 20_001..20_004));
    for (_, crashed) in crashes(&disk) {
        let mut log = open(&crashed);
        let state = log.opened_state().clone();
        match state.purged {
            LogId::ZERO => assert_eq!(read_all(&log).range(), 1..10_000),
            purged => {
                assert_eq!(purged, snapshot);
                assert!(terms(&log).iter().all(|term| *term == 3), "{:?}", terms(&log));
                assert_eq!(read(&mut log.reader(), 60..71).len(), 0, "they are gone for everybody");
                append(&mut log, entries(4, state.last.index + 1..state.last.index + 3));
            }
        }
    }
}

/// sofastack/sofa-jraft#1156 and #1128, databendlabs/openraft (fixes cc8af8cd and b390356f).
///
/// All segments were deleted behind a snapshot, and with them the term of its last entry: the next append asked for "50002
/// of term 0". Or "purged to the first entry" was stored as "not purged". Here the place before the first entry is stored,
/// index and term, in the transaction of the purge.
#[test]
fn the_term_of_the_last_purged_entry_is_stored() {
    for (upto, last) in
        [(LogId::ZERO, 3), (LogId::new(7, 1), 3), (LogId::new(7, 3), 3), (LogId::new(8, 50_002), 0)]
    {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open_log(dir.path());
        append(&mut log, entries(7, 1..4));
        block_on(log.purge(upto)).unwrap();
        drop(log);
        let mut log = open_log(dir.path());
        let expected = if last == 0 { upto } else { LogId::new(7, last) };
        assert_eq!((log.opened_state().purged, log.opened_state().last), (upto, expected));
        assert_eq!(read(&mut log.reader(), 1..2).len(), usize::from(upto == LogId::ZERO));
        append(&mut log, entries(9, expected.index + 1..expected.index + 2));
    }
}

// ---- the hard state ----

/// ClickHouse/ClickHouse#111454, seaweedfs/raft#9, baidu/braft#254, ROCm/spur#635.
///
/// The file with term and vote was emptied before it was written anew, or renamed without the folder being synced: after a
/// crash the node had no vote or an old one, and voted once more. Here after any crash either the old or the new vote is
/// there, and the new one as soon as the call has returned.
#[test]
fn a_crash_leaves_the_old_vote_or_the_new_one() {
    let vote = |term: u64| HardState { term, voted_for: Some(term % 3 + 1), commit: 0 };
    let disk = Disk::default();
    let mut log = open(&disk);
    disk.record();
    for term in 1..=5 {
        disk.mark(term as usize);
        block_on(log.save_hard_state(vote(term))).unwrap();
        assert_eq!(open(&disk.crash_point().strict()).opened_state().hard_state, vote(term));
    }
    for (mark, crashed) in crashes(&disk) {
        let term = mark as u64;
        let found = open(&crashed).opened_state().hard_state;
        let before = if term < 2 { HardState::default() } else { vote(term - 1) };
        assert!(found == before || found == vote(term), "in the write of term {term}: {found:?}");
    }
}

/// ClickHouse/ClickHouse#111454, ROCm/spur#635.
///
/// The file was there and empty, or gone, and was taken for that of a new node: in term 0, with no vote, beside a log or a
/// state full of entries. Here that is damage, and the node does not start.
#[test]
fn a_store_that_has_become_empty_is_not_taken_for_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.redb");
    let both = || openconsensus_redb::open::<Kv, _>(dir.path(), &identity(), KvApplication);
    let (mut log, mut state) = both().unwrap();
    block_on(log.save_hard_state(HardState { term: 4, voted_for: Some(2), commit: 0 })).unwrap();
    append(&mut log, entries(1, 1..4));
    apply(&mut state, numbered(0..3));
    drop((log, state));
    let whole = std::fs::read(&path).unwrap();
    // Emptied; cut; overwritten with zeros; gone.
    for left in [vec![], whole[..whole.len() / 2].to_vec(), vec![0; whole.len()]] {
        std::fs::write(&path, &left).unwrap();
        let alone = RedbLog::<Kv>::open(&path, &identity()).unwrap_err();
        assert!(matches!(alone, OpenError::Damaged { .. } | OpenError::Foreign { .. }), "{alone}");
        assert_eq!(std::fs::read(&path).unwrap(), left, "and it is left as it is, for whoever repairs it");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(both().unwrap_err(), OpenError::Damaged { .. }));
    assert!(!path.exists());
    std::fs::write(&path, &whole).unwrap();
    drop(both().unwrap());
}

// ---- the state ----

/// etcd-io/etcd#10508, #13766 and its report #13967; shaj13/raft#27.
///
/// The effect of entry 9 was durable and the index 8: after a crash 9 was applied twice. Or the other way round, and it was
/// left out. Here the applied index is part of the transaction with the effects, in every crash.
#[test]
fn the_applied_index_is_that_of_the_effects_after_any_crash() {
    let options = Options { state_sync_entries_max: 3, state_sync_idle_ms: 1 << 40, ..Options::default() };
    let (disk, dir) = (Disk::default(), tempfile::tempdir().unwrap());
    let open = |disk: &Disk| {
        let name = identity();
        RedbStateMachine::open_on("disk", disk.clone(), dir.path(), &name, KvApplication, &options).unwrap()
    };
    let mut state = open(&disk);
    disk.record();
    for number in 0..40 {
        // One entry, one more key.
        apply(&mut state, numbered(number..number + 1));
    }
    drop(state);
    for (_, crashed) in crashes(&disk) {
        let mut state = open(&crashed);
        let applied = block_on(state.applied_state()).unwrap();
        assert_eq!(pairs(&state).len() as u64, applied.last_applied.index);
        // What is lost is applied again, and nothing twice.
        let batch = batch_after(&applied, numbered(applied.last_applied.index..40));
        block_on(state.apply(batch)).unwrap();
        assert_eq!(KvReader::new(&state).last_applied().unwrap(), LogId::new(1, 40));
        assert_eq!(pairs(&state).len(), 40);
    }
}

/// camunda/zeebe#3573, #6907, #4399 and #6894, nats-io/nats-server#7556 and #4410.
///
/// The latest snapshot was damaged. An earlier one was taken in its place, which the log did not continue; or the damage was
/// taken for "no data", all the rest was deleted, and the node joined its group as an empty voter. Here a damaged snapshot
/// is named and never used, nor is an older one. The state, which has all that it covers, is what counts, and it is as before.
#[test]
fn a_damaged_snapshot_is_neither_replaced_by_an_older_one_nor_taken_for_an_empty_state() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = open_state(dir.path());
    let folder = dir.path().join("snapshots");
    let mut older = Vec::new();
    for round in 0..3 {
        apply(&mut state, numbered(10 * round..10 * round + 10));
        block_on(state.build_snapshot()).unwrap();
        let current = files(&folder);
        assert_eq!(current.len(), 1, "only one is kept");
        older.extend(current);
    }
    drop(state);
    let (name, content) = older.pop().unwrap();
    let reopen = || {
        let (path, name) = (dir.path().join("state.redb"), identity());
        RedbStateMachine::<Kv, _>::open(path, &folder, &name, KvApplication).unwrap()
    };
    // Somebody has kept the earlier ones.
    for (old_name, old) in &older {
        std::fs::write(folder.join(old_name), old).unwrap();
    }
    for damaged in [vec![], content[..content.len() - 1].to_vec(), vec![0; content.len()]] {
        std::fs::write(folder.join(&name), &damaged).unwrap();
        let mut state = reopen();
        let error = block_on(state.current_snapshot()).unwrap_err();
        assert!(error.to_string().contains(&name), "{error}");
        assert_eq!(files(&folder), [(name.clone(), damaged)], "it stays until there is another");
        assert_eq!(block_on(state.applied_state()).unwrap().last_applied.index, 30);
        assert_eq!(pairs(&state).len(), 30);
    }
    std::fs::remove_file(folder.join(&name)).unwrap();
    let mut state = reopen();
    assert_eq!(block_on(state.current_snapshot()).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    assert_eq!(block_on(state.build_snapshot()).unwrap().last.index, 30);
    drop(state);
    assert!(block_on(reopen().current_snapshot()).unwrap().is_some());
}

// ---- disks that fail ----

/// lavinmq/lavinmq#2151, tarantool/tarantool#12292.
///
/// Writes to a device that was gone seemed to work, because only the sync would have told, and that was not looked at: 17,000
/// entries were there until the restart. Here nothing counts before its sync, and after one failure nothing is tried again.
#[test]
fn nothing_is_acknowledged_that_has_not_been_synced() {
    let empty = Disk::default();
    drop(open(&empty));
    let disk = empty.with_space(Some(60_000));
    let mut log = open(&disk);
    let mut acknowledged = 0;
    let mut failures = 0;
    for round in 0..200 {
        match block_on(log.append(entries(1, acknowledged + 1..acknowledged + 11), 0)) {
            Ok(()) => {
                assert_eq!(failures, 0, "round {round}: it works again after a failure");
                acknowledged += 10;
                let crashed = open(&disk.crash_point().strict().with_space(None));
                assert_eq!(crashed.opened_state().last.index, acknowledged);
            }
            Err(_) => failures += 1,
        }
    }
    assert!(0 < acknowledged && 100 < failures, "{acknowledged}, {failures}");
}
