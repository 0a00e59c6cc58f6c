//! Log compaction: Raft paper section 7; thesis chapter 5.

use std::collections::BTreeSet;

use openconsensus::engine::{Input, Reply, SnapshotId};
use openconsensus::{
    AppendResult, Body, Config, Entries, InstallSnapshot, InstallSnapshotResponse, LogId, MembershipAt,
    MembershipChange, Message, ProgressName, SnapshotError, SnapshotMeta, Term,
};
use openconsensus_tests::engines::{self, Cluster, ELECTION_TIMEOUT_MS, Letter, Outcome, Test, What, nodes};

/// Nothing is kept behind a snapshot, so that whoever is late needs one.
fn purging() -> Config {
    Config { log_keep_entries: 0, log_hold_entries_max: 0, ..Config::default() }
}

/// Three voters of which node 1 leads, with `count` commands applied everywhere but on the isolated nodes.
fn with_commands(count: u64, isolated: &[u64]) -> Cluster {
    let mut cluster = Cluster::with_config(3, purging());
    cluster.elect(1);
    cluster.isolate(isolated);
    for command in 0..count {
        cluster.write(1, command);
        cluster.settle();
    }
    cluster
}

/// What a snapshot covers whose last entry is `last`, with the first membership.
fn meta(last: LogId) -> SnapshotMeta<Test> {
    let membership = openconsensus::Membership::of_voters(nodes([1, 2, 3]));
    SnapshotMeta { last, membership: MembershipAt { log_id: LogId::new(1, 1), membership }, size_bytes: None }
}

/// What node `id` answers when `leader` announces a snapshot in `term`.
fn offer(
    cluster: &mut Cluster,
    id: u64,
    leader: u64,
    term: Term,
    last: LogId,
) -> Option<InstallSnapshotResponse> {
    let request = cluster.request();
    let snapshot = InstallSnapshot { term, leader, meta: meta(last) };
    cluster.step(id, Input::InstallSnapshot { request, snapshot });
    match cluster.reply(request) {
        Some(Reply::InstallFinished(response)) => Some(*response),
        Some(other) => panic!("{other:?}"),
        None => None,
    }
}

/// Section 7: each server takes snapshots by itself, of what it has applied, and drops the log before it.
#[test]
fn section_7_each_server_takes_its_own_snapshot_and_drops_the_log_before_it() {
    let mut cluster = with_commands(20, &[]);
    let last = cluster.metrics(2).last;
    let request = cluster.build_snapshot(2);
    assert!(matches!(cluster.reply(request), Some(Reply::SnapshotBuilt(built)) if built.last == last));
    assert_eq!((cluster.metrics(2).snapshot, cluster.metrics(2).purged), (last, last));
    assert_eq!(cluster.metrics(1).snapshot, LogId::ZERO, "the others did nothing");
    assert_eq!(cluster.node(2).disk.terms(), [0_u64; 0]);
}

/// Section 7: a snapshot is taken by itself when the log has grown by a fixed amount.
#[test]
fn section_7_a_snapshot_is_taken_when_the_log_has_grown() {
    let config = Config { snapshot_after_entries: Some(10), snapshot_jitter_percent: 0, ..purging() };
    let mut cluster = Cluster::with_config(3, config);
    cluster.elect(1);
    for command in 0..35 {
        cluster.write(1, command);
        cluster.settle();
    }
    for id in 1..=3 {
        let metrics = cluster.metrics(id);
        assert!(30 <= metrics.snapshot.index, "node {id} has a snapshot at {}", metrics.snapshot);
        assert!((2..=4).contains(&metrics.counters.snapshots_built));
    }
}

/// Section 7: a snapshot holds the last entry that it replaces, index and term, so that the entry behind it can be
/// checked; and the membership as of that entry.
#[test]
fn section_7_a_snapshot_knows_its_last_entry_and_the_membership_then() {
    let mut cluster = with_commands(5, &[]);
    cluster.add_fresh(4);
    cluster.node_mut(1).is_building_slow = true;
    let request = cluster.build_snapshot(1);
    let last = cluster.metrics(1).last;
    cluster.change(1, MembershipChange::AddLearners(nodes([4])));
    cluster.settle();
    cluster.speed_up(1);
    let Some(Reply::SnapshotBuilt(built)) = cluster.reply(request) else { panic!("not built") };
    assert_eq!(built.last, last);
    assert!(!built.membership.membership.is_member(4), "node 4 came later");
    assert!(built.membership.log_id <= built.last);
}

/// Section 7: with everything purged, the consistency check of the next append is against the snapshot's last entry.
#[test]
fn section_7_the_append_behind_a_snapshot_is_checked_against_it() {
    let mut cluster = with_commands(10, &[]);
    let last = cluster.metrics(2).last;
    cluster.build_snapshot(2);
    let term = cluster.term(1);
    let mut ask = |prev| {
        cluster.receive(
            2,
            1,
            Message { term, body: Body::Append { prev, entries: Entries::empty(), commit: 0 } },
        );
        let answers = cluster.intercept(Letter::is_append_response);
        match answers[0].body() {
            Some(Body::AppendResponse { result }) => *result,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ask(last), AppendResult::Matched { matched: last.index });
    assert!(matches!(ask(LogId::new(last.term, last.index + 1)), AppendResult::Conflict { .. }));
}

/// Section 7: also after a restart; the last purged entry is stored, with its term.
#[test]
fn section_7_a_server_restarts_from_its_snapshot_and_the_log_behind_it() {
    for loses_state in [false, true] {
        let mut cluster = with_commands(10, &[]);
        cluster.build_snapshot(1);
        for command in 10..15 {
            cluster.write(1, command);
        }
        cluster.settle();
        cluster.crash(1);
        if loses_state {
            cluster.node_mut(1).lose_state();
            assert_eq!(cluster.commands(1).len(), 10);
        }
        cluster.restart(1);
        cluster.recover();
        assert_eq!(cluster.commands(1), (0..15).collect::<Vec<_>>());
    }
}

/// Section 7: a leader whose whole log is purged goes on: the next entry follows the last one, term and all.
#[test]
fn a_leader_with_an_empty_log_goes_on_behind_its_snapshot() {
    let mut cluster = with_commands(10, &[]);
    for id in 1..=3 {
        cluster.build_snapshot(id);
        assert_eq!(cluster.terms(id), [0_u64; 0]);
    }
    let request = cluster.write(1, 99);
    cluster.settle();
    assert_eq!(cluster.outcome(request), Outcome::Applied);
    cluster.elect(2);
    assert_eq!(cluster.commands(3).last(), Some(&99));
}

/// 5.4.1 with section 7: with an empty log, the last entry of the snapshot is what is compared in an election.
#[test]
fn an_empty_log_behind_a_snapshot_is_as_up_to_date_as_the_snapshot() {
    let mut cluster = with_commands(10, &[3]);
    cluster.build_snapshot(2);
    cluster.crash(1);
    cluster.heal();
    cluster.skip(ELECTION_TIMEOUT_MS);
    cluster.step(3, Input::Campaign);
    cluster.settle();
    assert!(!cluster.is_leader(3), "it lacks what node 2 has in its snapshot");
    cluster.elect_until(2);
}

/// Section 7: what is purged is committed, so it matches by definition. An append that begins before the purged entry and
/// goes beyond the end of the log is no conflict; the log is not cut, and the rest is taken.
#[test]
fn an_append_that_begins_before_the_purged_entry_is_no_conflict() {
    let mut cluster = with_commands(10, &[]);
    cluster.build_snapshot(2);
    assert_eq!(cluster.metrics(2).purged.index, 12);
    cluster.cut(1, 2);
    cluster.write_many(1, &[10, 11]);
    cluster.settle();
    cluster.heal();
    let log: Entries<Test> = cluster.node(1).view.entries().to_vec().into();
    let term = cluster.term(1);
    for (prev, entries) in [(7, log.slice(8..14)), (0, log.slice(1..4)), (3, log.slice(4..15))] {
        let prev =
            if prev == 0 { LogId::ZERO } else { cluster.node(1).view.id_at(prev).expect("node 1 has it") };
        cluster.receive(2, 1, Message { term, body: Body::Append { prev, entries, commit: 12 } });
    }
    let answers = cluster.intercept(Letter::is_append_response);
    let matched: Vec<_> = answers
        .iter()
        .map(|letter| match letter.body() {
            Some(Body::AppendResponse { result: AppendResult::Matched { matched } }) => *matched,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(matched, [13, 12, 14]);
    assert_eq!((cluster.metrics(2).last.index, cluster.metrics(2).counters.truncations), (14, 0));
}

// ---- sending ----

/// Section 7: a follower that needs entries that have been dropped gets the snapshot, and then the log behind it.
#[test]
fn section_7_a_follower_that_lags_gets_the_snapshot_and_the_log_behind_it() {
    let mut cluster = with_commands(30, &[3]);
    cluster.build_snapshot(1);
    for command in 30..40 {
        cluster.write(1, command);
        cluster.settle();
    }
    cluster.heal();
    cluster.run(2 * ELECTION_TIMEOUT_MS);
    let metrics = cluster.metrics(3);
    assert_eq!(metrics.counters.snapshots_installed, 1);
    assert_eq!(cluster.commands(3), (0..40).collect::<Vec<_>>());
    assert_eq!(cluster.metrics(1).peers[&3].progress, ProgressName::Replicate);
    assert_eq!(cluster.metrics(1).counters.snapshots_sent, 1);
}

/// Section 7: a follower that has the entries gets no snapshot, however old its acknowledgement.
#[test]
fn section_7_a_follower_that_is_up_to_date_gets_no_snapshot() {
    let mut cluster = with_commands(30, &[]);
    cluster.build_snapshot(1);
    cluster.elect(1);
    cluster.run(ELECTION_TIMEOUT_MS);
    assert_eq!([2, 3].map(|id| cluster.metrics(id).counters.snapshots_installed), [0, 0]);
}

/// Section 7: a new server gets the snapshot first. Also where the log is purged to its very end and nobody writes.
#[test]
fn a_fresh_learner_gets_a_snapshot_from_a_leader_that_has_nothing_else() {
    let mut cluster = with_commands(10, &[]);
    cluster.add_fresh(4);
    cluster.change(1, MembershipChange::AddLearners(nodes([4])));
    cluster.settle_but(|letter| letter.to == 4);
    cluster.build_snapshot(1);
    assert_eq!(cluster.metrics(1).purged, cluster.metrics(1).last);
    cluster.run(2 * ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.commands(4), (0..10).collect::<Vec<_>>());
    assert!(cluster.membership(4).is_member(4), "the membership comes with the snapshot");
}

/// Section 7: for all places at which the log may have been purged and the follower's may end.
#[test]
fn a_follower_is_brought_up_to_date_whatever_has_been_purged() {
    for had in [0, 3, 9, 10] {
        for snapshot_at in [1, 5, 10] {
            let mut cluster = with_commands(had, &[]);
            cluster.isolate(&[3]);
            for command in had..10 {
                cluster.write(1, command);
                cluster.settle();
                if command + 1 == snapshot_at {
                    cluster.build_snapshot(1);
                }
            }
            cluster.heal();
            cluster.run(2 * ELECTION_TIMEOUT_MS);
            assert_eq!(
                cluster.commands(3),
                (0..10).collect::<Vec<_>>(),
                "had {had}, snapshot at {snapshot_at}"
            );
        }
    }
}

/// While a snapshot is on its way, appends to that follower pause and the others go on; the log that it will need behind
/// the snapshot is kept meanwhile. Purged ahead of it, it would need another snapshot, and so on for ever.
#[test]
fn the_log_behind_a_snapshot_on_its_way_is_kept_for_the_follower() {
    let config = Config { log_hold_entries_max: 1_000, snapshot_after_entries: Some(5), ..purging() };
    let mut cluster = Cluster::with_config(3, config);
    cluster.elect(1);
    cluster.isolate(&[3]);
    for command in 0..20 {
        cluster.write(1, command);
        cluster.settle();
    }
    // So long without an answer that nothing is held for it.
    cluster.run(4 * ELECTION_TIMEOUT_MS);
    cluster.write(1, 20);
    cluster.run(ELECTION_TIMEOUT_MS);
    cluster.heal();
    cluster.node_mut(3).is_installing_slow = true;
    cluster.run(ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.metrics(1).peers[&3].progress, ProgressName::Snapshot);
    let sent = cluster.metrics(1).purged.index;
    for command in 21..60 {
        cluster.write(1, command);
        cluster.run(10);
    }
    assert!(cluster.metrics(1).snapshot.index > sent + 20, "snapshots are taken meanwhile");
    cluster.speed_up(3);
    cluster.run(ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.metrics(3).counters.snapshots_installed, 1, "one was enough");
    assert_eq!(cluster.commands(3), (0..60).collect::<Vec<_>>());
    cluster.write(1, 60);
    cluster.run(ELECTION_TIMEOUT_MS);
    assert!(cluster.metrics(1).purged.index > sent + 20, "and then it is purged after all");
}

/// What is held back for a slow follower has a limit: beyond it the log is purged, and the follower gets a snapshot.
#[test]
fn the_log_is_not_held_back_beyond_the_limit() {
    let config = Config { log_hold_entries_max: 10, snapshot_after_entries: Some(5), ..purging() };
    let mut cluster = Cluster::with_config(3, config);
    cluster.elect(1);
    for _ in 0..30 {
        cluster.write_many(1, &[7; 100]);
        // It answers heartbeats, and appends do not get through.
        cluster.run_but(10, |letter| letter.to == 3 && letter.is_append());
    }
    let metrics = cluster.metrics(1);
    assert_eq!(metrics.purged.index + 10, metrics.snapshot.index, "purged to {}", metrics.purged);
    cluster.run(ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.commands(3).len(), 3000);
}

/// What is held back is for peers that answer. One that has been silent for two election timeouts gets a snapshot when it
/// comes back, and holds up nothing until then.
#[test]
fn the_log_is_not_held_back_for_a_silent_follower() {
    let config = Config { log_hold_entries_max: 1_000_000, snapshot_after_entries: None, ..purging() };
    let mut cluster = Cluster::with_config(3, config);
    cluster.elect(1);
    cluster.isolate(&[3]);
    cluster.write_many(1, &[7; 100]);
    cluster.settle();
    cluster.build_snapshot(1);
    cluster.settle();
    let metrics = cluster.metrics(1);
    assert!(metrics.purged.index + 100 <= metrics.snapshot.index, "it may answer yet");
    cluster.run(3 * ELECTION_TIMEOUT_MS);
    let metrics = cluster.metrics(1);
    assert_eq!(metrics.purged, metrics.snapshot);
    cluster.heal();
    cluster.run(4 * ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.commands(3).len(), 100);
}

/// 5.1: a leader whose snapshot is answered from a later term is no leader any more.
#[test]
fn a_snapshot_that_is_answered_from_a_later_term_ends_leadership() {
    let mut cluster = with_commands(10, &[3]);
    cluster.build_snapshot(1);
    cluster.node_mut(3).is_installing_slow = true;
    cluster.heal();
    cluster.run(4 * ELECTION_TIMEOUT_MS);
    let id = cluster.node(3).arrivals.values().next().expect("the snapshot has arrived").id;
    let term = cluster.term(1) + 5;
    cluster.step(
        1,
        Input::SnapshotSent { id, response: Some(InstallSnapshotResponse { term, installed: None }) },
    );
    assert!(!cluster.is_leader(1));
    assert_eq!(cluster.term(1), term);
}

/// A transfer that breaks off is begun again later: nobody stays in the state of waiting for it.
#[test]
fn a_snapshot_that_did_not_arrive_is_sent_again() {
    let mut cluster = with_commands(10, &[3]);
    cluster.build_snapshot(1);
    cluster.heal();
    for _ in 0..3 {
        cluster.run_until(4 * ELECTION_TIMEOUT_MS, "a snapshot on its way", |cluster| {
            cluster.metrics(1).peers[&3].progress == ProgressName::Snapshot
                || cluster.metrics(3).counters.snapshots_installed > 0
        });
        if cluster.metrics(3).counters.snapshots_installed > 0 {
            break;
        }
        let lost = cluster.intercept(Letter::is_snapshot);
        lost.into_iter().for_each(|letter| cluster.lose(letter));
    }
    cluster.run(4 * ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.commands(3), (0..10).collect::<Vec<_>>());
}

/// Also when the follower cannot install it, or crashes over it.
#[test]
fn a_snapshot_that_could_not_be_installed_is_sent_again() {
    for crashes in [false, true] {
        let mut cluster = with_commands(10, &[3]);
        cluster.build_snapshot(1);
        cluster.node_mut(3).is_installing_slow = true;
        cluster.heal();
        cluster.run(ELECTION_TIMEOUT_MS);
        let installing = |cluster: &Cluster| cluster.node(3).installing.as_ref().map(|work| work.id);
        let begun = installing(&cluster);
        assert!(begun.is_some());
        let state = cluster.metrics(3).applied;
        if crashes {
            cluster.crash(3);
            cluster.restart(3);
        } else {
            cluster.fail_installing(3);
        }
        assert_eq!(cluster.metrics(3).applied, state, "its state is as before");
        cluster.settle();
        cluster.run(2 * ELECTION_TIMEOUT_MS);
        assert!(installing(&cluster).is_some_and(|again| Some(again) != begun));
        cluster.speed_up(3);
        cluster.run(ELECTION_TIMEOUT_MS);
        assert_eq!(cluster.commands(3), (0..10).collect::<Vec<_>>());
    }
}

/// The result of a transfer that nobody waits for any more is no news.
#[test]
fn a_late_result_of_a_transfer_is_ignored() {
    let mut cluster = with_commands(10, &[]);
    let before = cluster.metrics(1);
    let response = InstallSnapshotResponse { term: before.term, installed: Some(12) };
    for response in [Some(response), None] {
        cluster.step(1, Input::SnapshotSent { id: SnapshotId(12_345), response });
    }
    assert_eq!(cluster.metrics(1), before);
}

/// A leader that is deposed gives its transfers up.
#[test]
fn a_deposed_leader_gives_its_transfers_up() {
    let mut cluster = with_commands(10, &[3]);
    cluster.build_snapshot(1);
    cluster.heal();
    while !cluster.letters().any(Letter::is_snapshot) {
        cluster.time_out(1);
        for letter in cluster.intercept(|letter| !letter.is_snapshot()) {
            cluster.deliver(letter);
        }
    }
    let term = cluster.term(1) + 1;
    let body = Body::Heartbeat { round: 1, commit: LogId::ZERO };
    cluster.receive(1, 2, Message { term, body });
    assert_eq!(cluster.letters().filter(|letter| letter.is_snapshot()).count(), 0);
    cluster.lose_all();
}

// ---- receiving ----

/// Section 7: a snapshot that goes beyond the receiver's log, or contradicts it, replaces the whole log.
#[test]
fn section_7_a_snapshot_that_contradicts_the_log_replaces_it() {
    // All of these are leftovers of a leader of term 2; the others have gone on in term 3.
    for tail in [2, 9, 15] {
        let stale: Vec<Term> = std::iter::once(1).chain([2; 30]).take(1 + tail).collect();
        let mut cluster = Cluster::with_config(3, purging());
        for id in 1..=3 {
            cluster.crash(id);
        }
        let entries = engines::log_of(3, &stale);
        let state = openconsensus::HardState { term: 2, voted_for: None, commit: 1 };
        cluster.node_mut(3).disk = engines::Disk::new(state, entries);
        for id in 1..=3 {
            cluster.node_mut(id).disk.hard_state.term = 2;
            cluster.restart(id);
        }
        cluster.isolate(&[3]);
        cluster.elect(1);
        for command in 0..9 {
            cluster.write(1, command);
            cluster.settle();
        }
        cluster.build_snapshot(1);
        cluster.heal();
        cluster.run(4 * ELECTION_TIMEOUT_MS);
        assert_eq!(cluster.commands(3), (0..9).collect::<Vec<_>>(), "{tail} leftovers");
        assert!(!cluster.terms(3).contains(&2), "none of them is left: {:?}", cluster.terms(3));
        assert_eq!(cluster.metrics(3).last, cluster.metrics(1).last);
        cluster.crash(3);
        cluster.restart(3);
        assert!(!cluster.terms(3).contains(&2), "nor on the disk");
        cluster.recover();
    }
}

/// Section 7: entries that conflict are gone from the disk before the snapshot becomes current, or they would come back
/// after a crash between the two.
#[test]
fn conflicting_entries_are_removed_before_the_snapshot_is_installed() {
    let mut cluster = Cluster::with_logs(3, &[(1, &[1, 3, 3]), (2, &[1, 3, 3]), (3, &[1, 2, 2, 2])]);
    cluster.slow_disk(3);
    assert_eq!(offer(&mut cluster, 3, 1, 3, LogId::new(3, 3)), None);
    assert!(cluster.node(3).installing.is_none(), "not before the truncation is durable");
    cluster.node_mut(3).is_installing_slow = true;
    while cluster.has_writes(3) {
        cluster.complete_write(3);
    }
    assert_eq!(cluster.node(3).disk.terms(), [1, 2]);
    assert!(cluster.node(3).installing.is_some());
}

/// Section 7: a snapshot that describes a prefix of the log replaces that prefix; what follows is kept and stays valid.
#[test]
fn section_7_entries_behind_a_snapshot_that_matches_are_kept() {
    let mut cluster =
        Cluster::with_logs(3, &[(1, &[1, 2, 2, 2, 2]), (2, &[1, 2, 2, 2, 2]), (3, &[1, 2, 2, 2, 2])]);
    cluster.elect(1);
    cluster.isolate(&[3]);
    let mut cluster = Cluster::with_logs(3, &[(1, &[1, 2, 2]), (2, &[1, 2, 2]), (3, &[1, 2, 2, 2, 2])]);
    let last = LogId::new(2, 3);
    cluster.deliver(snapshot_letter(3, 2, last));
    assert_eq!((cluster.metrics(3).purged, cluster.metrics(3).last), (last, LogId::new(2, 5)));
    assert_eq!((cluster.committed(3), cluster.metrics(3).applied), (3, last));
    cluster.crash(3);
    cluster.restart(3);
    assert_eq!(cluster.terms(3), [2, 2]);
}

/// A snapshot of node 1 with the commands that `log_of` has up to `last`, on its way to node `to` in `term`.
fn snapshot_letter(to: u64, term: Term, last: LogId) -> Letter {
    let mut image = engines::Image::default();
    let meta = meta(last);
    image.applied.last_applied = last;
    image.applied.membership = meta.membership.clone();
    image.commands = (2..=last.index)
        .map(|index| LogId::new(last.term, index))
        .map(|log_id| (log_id, engines::command_at(log_id)))
        .collect();
    let request = InstallSnapshot { term, leader: 1, meta };
    Letter { from: 1, to, what: What::Snapshot { id: SnapshotId(1), request, image: Box::new(image) } }
}

/// A snapshot that comes late, when the log has gone beyond it, takes nothing back: neither entries nor state.
#[test]
fn a_snapshot_older_than_the_commit_index_changes_nothing() {
    let mut cluster = with_commands(10, &[]);
    let before = (cluster.metrics(2).last, cluster.metrics(2).applied, cluster.terms(2));
    let term = cluster.term(1);
    let response = offer(&mut cluster, 2, 1, term, LogId::new(term, 5)).expect("answered at once");
    assert_eq!(response.installed, Some(before.0.index), "it says how far it is");
    assert_eq!((cluster.metrics(2).last, cluster.metrics(2).applied, cluster.terms(2)), before);
}

/// Section 7, 5.1: a snapshot of a leader of the past is refused, with the term that is current.
#[test]
fn a_snapshot_of_a_stale_leader_is_refused() {
    let mut cluster = with_commands(3, &[]);
    let term = cluster.term(2);
    let response = offer(&mut cluster, 2, 3, term - 1, LogId::new(term - 1, 50)).expect("answered at once");
    assert_eq!((response.term, response.installed), (term, None));
}

/// A snapshot that no leader of this cluster can have is refused: its last entry is from a later term than its sender's.
#[test]
fn an_impossible_snapshot_is_refused() {
    let mut cluster = with_commands(3, &[]);
    let term = cluster.term(2);
    let response = offer(&mut cluster, 2, 1, term, LogId::new(term + 3, 50)).expect("answered at once");
    assert_eq!(response.installed, None);
    let own = offer(&mut cluster, 2, 2, term + 1, LogId::new(term, 50)).expect("answered at once");
    assert_eq!(own.installed, None, "nobody sends a snapshot to itself");
}

/// Section 7: the leader's snapshot is authoritative about who is what: a node that believes to be a voter and is a
/// learner now takes it all the same.
#[test]
fn a_snapshot_that_makes_a_voter_a_learner_is_installed() {
    let mut cluster = Cluster::with_config(3, purging());
    cluster.elect(1);
    cluster.isolate(&[3]);
    let request = cluster.change(1, MembershipChange::Demote(BTreeSet::from([3])));
    cluster.settle();
    assert!(matches!(cluster.reply(request), Some(Reply::MembershipChanged { .. })));
    cluster.write(1, 7);
    cluster.settle();
    cluster.build_snapshot(1);
    assert!(cluster.metrics(3).is_voter());
    cluster.heal();
    cluster.run(2 * ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.commands(3), [7]);
    assert!(!cluster.metrics(3).is_voter());
}

/// Section 7: while a snapshot is installed nothing else is applied, and afterwards the state goes on from it: entries
/// are applied once, whatever was under way.
#[test]
fn entries_that_were_being_applied_and_a_snapshot_do_not_mix() {
    let mut cluster = with_commands(5, &[]);
    cluster.node_mut(3).is_machine_slow = true;
    cluster.write(1, 5);
    cluster.settle();
    assert_eq!(cluster.node(3).to_do.len(), 1, "on its way to the state machine");
    cluster.isolate(&[3]);
    for command in 6..20 {
        cluster.write(1, command);
        cluster.settle();
    }
    cluster.build_snapshot(1);
    cluster.heal();
    cluster.run(2 * ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.node(3).to_do.len(), 2, "a snapshot behind what is to be applied");
    cluster.speed_up(3);
    cluster.run(ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.commands(3), (0..20).collect::<Vec<_>>());
    assert_eq!(cluster.metrics(3).counters.snapshots_installed, 1);
}

/// Section 7: a node that is replacing its state does not campaign; it has nothing to lead with.
#[test]
fn a_node_that_is_installing_a_snapshot_does_not_campaign() {
    let mut cluster = with_commands(10, &[3]);
    cluster.build_snapshot(1);
    cluster.node_mut(3).is_installing_slow = true;
    cluster.heal();
    cluster.run(ELECTION_TIMEOUT_MS);
    assert!(cluster.node(3).installing.is_some());
    cluster.isolate(&[3]);
    let term = cluster.term(3);
    cluster.run(4 * ELECTION_TIMEOUT_MS);
    cluster.step(3, Input::Campaign);
    assert_eq!(cluster.term(3), term);
}

/// Section 7: a node may crash between installing a snapshot and resetting its log; it starts from the snapshot.
#[test]
fn a_crash_between_snapshot_and_log_starts_from_the_snapshot() {
    let mut cluster = with_commands(10, &[3]);
    cluster.build_snapshot(1);
    cluster.node_mut(3).is_installing_slow = true;
    cluster.heal();
    cluster.run_until(4 * ELECTION_TIMEOUT_MS, "a snapshot that is being installed", |cluster| {
        cluster.node(3).installing.is_some()
    });
    cluster.slow_disk(3);
    cluster.node_mut(3).is_installing_slow = false;
    cluster.step(3, Input::Timeout);
    assert_eq!((cluster.commands(3).len(), cluster.node(3).disk.last().index), (10, 2));
    cluster.crash(3);
    cluster.restart(3);
    assert_eq!(cluster.metrics(3).purged.index, 12);
    cluster.recover();
    assert_eq!(cluster.commands(3), (0..10).collect::<Vec<_>>());
}

/// Nothing to take a snapshot of: the request says so, and one that comes while another is built gets the same one.
#[test]
fn a_request_for_a_snapshot_is_answered_in_every_case() {
    let mut cluster = Cluster::with_config(3, purging());
    cluster.add_fresh(4);
    let request = cluster.build_snapshot(4);
    assert!(matches!(cluster.reply(request), Some(Reply::SnapshotFailed(SnapshotError::Empty))));
    cluster.node_mut(1).is_building_slow = true;
    let (first, second) = (cluster.build_snapshot(1), cluster.build_snapshot(1));
    assert_eq!(cluster.node(1).to_build.len(), 1);
    cluster.speed_up(1);
    for request in [first, second] {
        assert!(matches!(cluster.reply(request), Some(Reply::SnapshotBuilt(_))));
    }
}
