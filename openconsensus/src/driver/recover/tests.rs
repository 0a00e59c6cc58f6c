//! What may be found after a crash, and what must be refused.

use futures::executor::block_on;

use super::super::fakes::{FakeLog, FakeStateMachine, SnapshotFault, entries};
use super::*;
use crate::entry::Entry;
use crate::membership::Membership;
use crate::message::SnapshotMeta;
use crate::testing::U64;

fn at(term: u64, index: Index) -> LogId {
    LogId::new(term, index)
}

fn try_recover(log: &FakeLog, state_machine: &FakeStateMachine) -> Result<Recovered<U64>, StartError> {
    let (mut log, mut state_machine) = (log.clone(), state_machine.clone());
    block_on(recover(1, 7, 1000, &mut log, &mut state_machine)).map(|(recovered, _)| recovered)
}

/// The text of a refusal. Each must tell what to do.
fn refusal(log: &FakeLog, state_machine: &FakeStateMachine) -> String {
    match try_recover(log, state_machine).unwrap_err() {
        StartError::Damaged(text) => {
            assert!(text.contains("remove it from the cluster and add it anew"), "{text}");
            text
        }
        other => panic!("not refused as damaged: {other}"),
    }
}

fn state_machine(applied: LogId, snapshot: Option<LogId>) -> FakeStateMachine {
    let state_machine = FakeStateMachine::default();
    state_machine.with(|state| {
        state.applied.last_applied = applied;
        state.snapshot = snapshot.map(|last| {
            (SnapshotMeta { last, membership: MembershipAt::default(), size_bytes: Some(8) }, last.index)
        });
    });
    state_machine
}

/// A log with entries of term 1 in 1..4, 3 in 4..6, 4 in 6..7.
fn log() -> FakeLog {
    let log = FakeLog::default();
    for (term, range) in [(1, 1..4), (3, 4..6), (4, 6..7)] {
        log.add(&entries(term, range));
    }
    log
}

fn purged(log: FakeLog, upto: LogId) -> FakeLog {
    log.with(|state| {
        state.purged = upto;
        state.entries = state.entries.split_off(&(upto.index + 1));
    });
    log
}

#[test]
fn empty_stores_are_a_new_node() {
    let recovered = try_recover(&FakeLog::default(), &FakeStateMachine::default()).unwrap();
    assert_eq!(
        (recovered.purged, recovered.last, recovered.snapshot),
        (LogId::ZERO, LogId::ZERO, LogId::ZERO)
    );
    assert_eq!(recovered.applied, AppliedState::default());
    assert!(recovered.term_starts.is_empty());
}

#[test]
fn terms_begin_where_they_begin_for_every_shape_of_a_log() {
    // Every way to give terms that never fall to up to seven entries behind two purged ones.
    for shape in 0..3_u64.pow(7) {
        let steps = (0..7).map(|place| shape / 3_u64.pow(place) % 3);
        let terms: Vec<u64> = steps
            .scan(1, |term, step| {
                *term += step;
                Some(*term)
            })
            .collect();
        let log = FakeLog::default();
        let mut expected: Vec<LogId> = Vec::new();
        for (term, index) in terms.iter().zip(3..) {
            log.add(&entries(*term, index..index + 1));
            if expected.last().is_none_or(|last| last.term != *term) {
                expected.push(at(*term, index));
            }
        }
        log.with(|state| state.purged = at(1, 2));
        let recovered = try_recover(&log, &state_machine(at(1, 2), None)).unwrap();
        assert_eq!(recovered.term_starts, expected, "{terms:?}");
    }
}

#[test]
fn terms_of_a_long_log_are_found_with_few_reads() {
    // Terms begin at places that have no pattern, some of them right behind each other.
    for (terms, seed) in [(1, 1), (2, 5), (7, 3), (40, 9), (40, 11), (200, 4)] {
        let mut state = seed;
        let mut chance = move || {
            state = u64::wrapping_add(
                u64::wrapping_mul(state, 6_364_136_223_846_793_005),
                1_442_695_040_888_963_407,
            );
            state >> 33
        };
        let mut begins: std::collections::BTreeSet<Index> =
            (1..terms).map(|_| 3 + chance() % 20_000).collect();
        begins.extend([3, 19_000, 19_001].into_iter().take(terms));
        let expected: Vec<LogId> = (1..).zip(&begins).map(|(term, index)| at(term, *index)).collect();
        let log = FakeLog::default();
        for (place, start) in expected.iter().enumerate() {
            let end = expected.get(place + 1).map_or(20_003, |next| next.index);
            log.add(&entries(start.term, start.index..end));
        }
        log.with(|state| state.purged = at(1, 2));
        let recovered =
            try_recover(&log, &state_machine(at(expected.last().unwrap().term, 20_002), None)).unwrap();
        assert_eq!(recovered.term_starts, expected);
        // The entries between two terms are halved down to 64 of them, which are read in up to four pieces here.
        let (found, terms) = (log.with(|state| state.reads), expected.len());
        let halvings = (20_000 / terms / 64).next_power_of_two().ilog2() as usize + 2;
        assert!(found <= 5 + terms * (halvings + 4), "{found} reads for {terms} terms");
    }
}

#[test]
fn memberships_behind_what_is_applied_are_found_and_no_others() {
    let log = log();
    let membership = |id| Membership::of_voters([(id, ())].into());
    log.with(|state| {
        for (index, id) in [(2, 1), (4, 2), (6, 3)] {
            let entry: &mut Entry<U64> = state.entries.get_mut(&index).unwrap();
            entry.payload = Payload::Membership(membership(id));
        }
    });
    let recovered = try_recover(&log, &state_machine(at(1, 2), None)).unwrap();
    assert_eq!(
        recovered.memberships,
        [
            MembershipAt { log_id: at(3, 4), membership: membership(2) },
            MembershipAt { log_id: at(4, 6), membership: membership(3) },
        ]
    );
}

#[test]
fn memberships_that_the_storage_knows_are_taken_without_looking_at_the_entries() {
    // The entries carry none: what is found is what the storage said.
    let known = |indexes: &[Index]| {
        let log = log();
        let memberships = indexes.iter().map(|index| MembershipAt {
            log_id: at(1, *index),
            membership: Membership::of_voters([(*index, ())].into()),
        });
        log.with(|state| state.known_memberships = Some(memberships.collect()));
        log
    };
    let applied = state_machine(at(1, 2), None);
    let recovered = try_recover(&known(&[3, 6]), &applied).unwrap();
    let found = recovered.memberships.iter().map(|membership| membership.log_id.index);
    assert_eq!(found.collect::<Vec<_>>(), [3, 6]);
    for wrong in [&[2, 4][..], &[4, 4], &[5, 4], &[4, 7]] {
        let text = refusal(&known(wrong), &applied);
        assert!(
            text.contains(&format!("among entries 3..7, the log reader named entries {wrong:?}")),
            "{text}"
        );
    }
}

#[test]
fn a_persistent_state_machine_goes_on_where_it_was() {
    let recovered = try_recover(&purged(log(), at(1, 2)), &state_machine(at(3, 5), Some(at(1, 3)))).unwrap();
    assert_eq!((recovered.purged, recovered.last), (at(1, 2), at(4, 6)));
    assert_eq!((recovered.applied.last_applied, recovered.snapshot), (at(3, 5), at(1, 3)));
}

#[test]
fn a_volatile_state_machine_is_restored_from_its_snapshot() {
    let state_machine = state_machine(LogId::ZERO, Some(at(3, 5)));
    let recovered = try_recover(&purged(log(), at(1, 2)), &state_machine).unwrap();
    assert_eq!((recovered.applied.last_applied, recovered.snapshot), (at(3, 5), at(3, 5)));
    assert_eq!(state_machine.with(|state| (state.applied.last_applied, state.sum)), (at(3, 5), 5));
}

#[test]
fn a_volatile_state_machine_without_a_snapshot_begins_with_the_whole_log() {
    let recovered = try_recover(&log(), &FakeStateMachine::default()).unwrap();
    assert_eq!(recovered.applied.last_applied, LogId::ZERO);
}

#[test]
fn a_commit_hint_ahead_of_the_log_is_passed_on_as_it_is() {
    let log = log();
    log.with(|state| state.hard_state.commit = 100);
    assert_eq!(try_recover(&log, &FakeStateMachine::default()).unwrap().hard_state.commit, 100);
}

#[test]
fn a_log_that_ends_before_an_installed_snapshot_begins_anew_behind_it() {
    let log = log();
    let recovered = try_recover(&log, &state_machine(at(4, 9), Some(at(4, 9)))).unwrap();
    assert_eq!(log.calls(), ["purge 9(t4)"]);
    assert_eq!((recovered.purged, recovered.last), (at(4, 9), at(4, 9)));
    assert!(recovered.term_starts.is_empty() && recovered.memberships.is_empty());
}

#[test]
fn a_log_with_another_entry_in_place_of_an_installed_snapshot_begins_anew_behind_it() {
    // The entries from 5 on were never committed; the snapshot of another leader took their place.
    let log = log();
    let recovered = try_recover(&log, &state_machine(at(4, 5), Some(at(4, 5)))).unwrap();
    assert_eq!(log.calls(), ["truncate 5", "purge 5(t4)"]);
    assert_eq!((recovered.purged, recovered.last), (at(4, 5), at(4, 5)));
}

#[test]
fn a_state_that_is_ahead_of_the_log_without_a_snapshot_is_refused() {
    for snapshot in [None, Some(at(4, 6))] {
        let text = refusal(&log(), &state_machine(at(4, 9), snapshot));
        assert!(text.contains("applied entries up to 9(t4), but the log ends with 6(t4)"), "{text}");
    }
}

#[test]
fn a_state_of_another_entry_than_the_log_has_is_refused() {
    let text = refusal(&log(), &state_machine(at(2, 5), None));
    assert!(text.contains("applied entry 5(t2), but the log has 5(t3)"), "{text}");
    let text = refusal(&purged(log(), at(1, 3)), &state_machine(at(2, 3), Some(at(2, 3))));
    assert!(text.contains("applied entry 3(t2), but the log has 3(t1)"), "{text}");
}

#[test]
fn a_state_that_lacks_purged_entries_is_refused() {
    let text = refusal(&purged(log(), at(3, 5)), &state_machine(at(1, 2), Some(at(1, 1))));
    assert!(text.contains("applied entries up to 2(t1) and the log begins behind 5(t3)"), "{text}");
}

#[test]
fn a_snapshot_of_another_entry_than_the_state_is_refused() {
    let text = refusal(&log(), &state_machine(at(3, 5), Some(at(2, 5))));
    assert!(text.contains("up to 5(t3), but its snapshot ends with 5(t2)"), "{text}");
}

#[test]
fn a_hard_state_older_than_the_log_or_the_state_is_refused() {
    let log = log();
    log.with(|state| state.hard_state.term = 3);
    let text = refusal(&log, &FakeStateMachine::default());
    assert!(text.contains("the hard state is of term 3, but there is an entry 6(t4)"), "{text}");
    let text = refusal(&FakeLog::default(), &state_machine(at(1, 2), Some(at(1, 2))));
    assert!(text.contains("the hard state is of term 0, but there is an entry 2(t1)"), "{text}");
}

#[test]
fn an_entry_that_is_missing_is_named() {
    let log = log();
    for hole in [4, 5] {
        log.with(|state| state.hole = Some(hole));
        let text = refusal(&log, &FakeStateMachine::default());
        assert!(text.contains(&format!("entry {hole} is missing")), "{text}");
    }
}

#[test]
fn a_reader_that_contradicts_the_last_entry_is_refused() {
    let log = log();
    log.with(|state| state.claimed_last = Some(at(5, 6)));
    log.with(|state| state.hard_state.term = 5);
    let text = refusal(&log, &FakeStateMachine::default());
    assert!(text.contains("said to end with 6(t5), but its reader finds 6(t4)"), "{text}");
}

fn with_damaged_snapshot(applied: LogId, snapshot: LogId, fault: SnapshotFault) -> FakeStateMachine {
    let state_machine = state_machine(applied, Some(snapshot));
    state_machine.with(|state| {
        state.snapshot_fault = Some(fault);
    });
    state_machine
}

/// A node of which nothing but a file for others was damaged was taken out of its cluster.
#[test]
fn a_damaged_snapshot_is_no_loss_where_the_state_has_all_of_it() {
    for fault in [SnapshotFault::Open, SnapshotFault::Read] {
        let log = purged(log(), at(1, 2));
        let recovered = try_recover(&log, &with_damaged_snapshot(at(3, 5), at(1, 3), fault)).unwrap();
        assert_eq!(recovered.applied.last_applied, at(3, 5));
        // What could only be opened is found to be damaged when it is sent.
        let found = if fault == SnapshotFault::Open { LogId::ZERO } else { at(1, 3) };
        assert_eq!(recovered.snapshot, found);
    }
}

#[test]
fn a_volatile_state_begins_with_the_log_where_that_has_all_that_a_damaged_snapshot_covered() {
    let state_machine = with_damaged_snapshot(LogId::ZERO, at(3, 5), SnapshotFault::Read);
    let recovered = try_recover(&log(), &state_machine).unwrap();
    assert_eq!((recovered.applied.last_applied, recovered.snapshot), (LogId::ZERO, LogId::ZERO));
}

/// A node whose only copy of the state was damaged began anew with nothing, and voted for others that had nothing.
#[test]
fn a_node_that_has_lost_something_with_its_snapshot_does_not_start() {
    let cases = [
        // The log begins behind it.
        (purged(log(), at(1, 2)), LogId::ZERO, at(1, 3), SnapshotFault::Read),
        // It was installed just before a crash, and the log ends before it, or has something else in its place.
        (log(), LogId::ZERO, at(4, 9), SnapshotFault::Read),
        (log(), at(1, 3), at(4, 9), SnapshotFault::Read),
        (log(), LogId::ZERO, at(4, 5), SnapshotFault::Read),
        // Nobody knows what it covered.
        (log(), LogId::ZERO, at(3, 5), SnapshotFault::Open),
        (purged(log(), at(3, 4)), at(1, 3), at(3, 5), SnapshotFault::Open),
    ];
    for (log, applied, snapshot, fault) in cases {
        let text = refusal(&log, &with_damaged_snapshot(applied, snapshot, fault));
        assert!(text.contains("the snapshot file is damaged"), "{text}");
        assert!(log.calls().is_empty(), "{:?}", log.calls());
    }
}
