//! Bugs that other stores have had with votes, appends and whose data it is: what went wrong there.

use fastrand::Rng;
use futures::executor::block_on;
use openconsensus::{HardState, LogId, RaftLogStorage};
use openconsensus_memstore::kv::Kv;
use openconsensus_redb::kv::KvApplication;
use openconsensus_redb::{Identity, OpenError, Options, RedbLog, open};

use crate::disk::Disk;
use crate::helpers::{append, apply, entries, identity, open_log, put, read_all};

fn open_on(disk: &Disk) -> RedbLog<Kv> {
    RedbLog::open_on("disk", disk.clone(), &identity(), &Options::default()).unwrap()
}

/// A vote was given as soon as it had been handed to the file system, or written into a file of its own that the next
/// write replaced. The power failed, the voter came back without the vote or without the term, and voted again. Here
/// term and vote are one record, and are synced when saving them returns: whatever is lost with the power, it is the
/// one that was acknowledged or a later one that was under way.
///
/// `bakwc/PySyncObj#98`, `NodeDB-Lab/nodedb#165`; Raft thesis 3.8.
#[test]
fn a_vote_is_on_the_disk_when_saving_it_returns() {
    let mut random = Rng::with_seed(7);
    let disk = Disk::default();
    let mut log = open_on(&disk);
    disk.record();
    let states: Vec<HardState<Kv>> = (1..40)
        .map(|number| HardState {
            term: number / 2 + 1,
            voted_for: (number % 2 == 1).then_some(number),
            commit: 0,
        })
        .collect();
    for (number, state) in states.iter().enumerate() {
        block_on(log.save_hard_state(*state)).unwrap();
        disk.mark(number + 1);
        assert_eq!(open_on(&disk.crash_point().strict()).opened_state().hard_state, *state);
    }
    drop(log);
    let mut points = 0;
    for point in disk.take_crash_points() {
        for crashed in [point.strict(), point.torn(&mut random)] {
            let found = open_on(&crashed).opened_state().hard_state;
            let mut allowed =
                vec![point.mark.checked_sub(1).map_or(HardState::default(), |last| states[last])];
            allowed.extend(states.get(point.mark));
            assert!(allowed.contains(&found), "{found:?}, not one of {allowed:?}");
            points += 1;
        }
    }
    assert!(states.len() < points, "{points} crashes");
}

/// A node whose log was lost came back as if it were new, under its old name: it voted for a candidate without the entries
/// that it had acknowledged, and they were gone. Here a folder that has lost its log and kept its state, or the other
/// way round, is damaged; it is not made anew.
///
/// `lni/dragonboat#256`, `nats-io/nats-server#7567`
#[test]
fn a_folder_that_has_lost_its_log_is_not_taken_for_that_of_a_new_node() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, mut state) = open::<Kv, _>(dir.path(), &identity(), KvApplication).unwrap();
    append(&mut log, entries(1, 1..21));
    apply(&mut state, (0..20).map(|i| put(format!("key {i}"), "value")));
    drop((log, state));
    std::fs::remove_file(dir.path().join("log.redb")).unwrap();
    for _ in 0..2 {
        let error = open::<Kv, _>(dir.path(), &identity(), KvApplication).map(|_| ()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert!(!dir.path().join("log.redb").exists(), "nothing was made in its place");
    }
}

/// An append that did not follow the log was taken, and the log had a hole or entries twice. Here the store refuses it,
/// and then everything else: whoever hands it over has lost track of the log.
///
/// `willemt/raft#118`, `bakwc/PySyncObj#202`
#[test]
fn an_append_that_does_not_follow_the_log_is_refused_and_changes_nothing() {
    for range in [1..3, 5..8, 3..4, 8..9] {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open_log(dir.path());
        append(&mut log, entries(1, 1..6));
        let result = block_on(log.append(entries(2, range.clone()), 0));
        assert!(result.is_err(), "{range:?}");
        drop(log);
        let log = open_log(dir.path());
        assert_eq!((log.opened_state().last, read_all(&log)), (LogId::new(1, 5), entries(1, 1..6)));
    }
}

/// Two clusters were begun by mistake, and a node was started on the data of the other one: it took over its term and its
/// log. Here a folder says to which cluster and node it belongs, and opens for no other.
///
/// `eBay/NuRaft#233`, `databendlabs/openraft#1557`
#[test]
fn data_of_another_cluster_is_not_continued() {
    let dir = tempfile::tempdir().unwrap();
    drop(open::<Kv, _>(dir.path(), &Identity::new("first", 2), KvApplication).unwrap());
    for other in [Identity::new("second", 2), Identity::new("first", 3)] {
        let error = open::<Kv, _>(dir.path(), &other, KvApplication).map(|_| ()).unwrap_err();
        assert!(matches!(error, OpenError::WrongIdentity { .. }), "{error}");
    }
    open::<Kv, _>(dir.path(), &Identity::new("first", 2), KvApplication).unwrap();
}
