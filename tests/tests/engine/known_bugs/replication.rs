//! Replication: followers that cut or acknowledge too much, leaders that believe answers that came late.

use std::cell::Cell;

use openconsensus::engine::{Input, LogReadId};
use openconsensus::{
    AppendResult, Body, Config, Entries, LogId, MembershipChange, Message, ProgressName, Term,
};
use openconsensus_tests::engines::{Cluster, ELECTION_TIMEOUT_MS, Letter, Outcome, command_at, nodes};

use super::common::{answer, append, heartbeats, ids, is_changed, matched, purging, with_learners};
use super::variations::in_all_variations;

/// Every append cut the follower's log behind its own entries, so that one that came late removed what later ones had
/// brought and what was acknowledged; after a crash of the leader it was lost. The same with an append without entries.
/// Here a follower cuts only where an entry has another term.
///
/// openraft, commit `9540c904`; `microsoft/CCF#5991`, `eBay/NuRaft#62`, `vesoft-inc/nebula#5881`,
/// `bakwc/PySyncObj#202`; Raft paper 5.3.
#[test]
fn an_append_that_comes_late_cuts_nothing_that_was_acknowledged() {
    let log: &[Term] = &[1, 1, 1, 1, 1];
    for (late_terms, proved) in [(&log[..2], 2), (&log[..3], 3), (&log[..1], 1)] {
        let mut cluster = Cluster::with_logs(3, &[(1, log), (2, &[1]), (3, &[1])]);
        // What is acknowledged is not known to be committed yet: nothing but this rule protects it.
        assert_eq!(answer(&mut cluster, 2, 1, append(2, 1, log, 1)), AppendResult::Matched { matched: 5 });
        let late = answer(&mut cluster, 2, 1, append(2, 1, late_terms, 1));
        assert_eq!(late, AppendResult::Matched { matched: proved });
        let empty = append(2, late_terms.len() as u64, late_terms, 1);
        answer(&mut cluster, 2, 1, empty);
        cluster.receive(
            2,
            1,
            Message { term: 2, body: Body::Heartbeat { round: 1, commit: LogId::new(1, 1) } },
        );
        cluster.lose_all();
        cluster.crash(2);
        cluster.restart(2);
        assert_eq!(cluster.terms(2), log);
    }
}

/// The same, with a real leader, appends that come twice and late, and an election by the follower they go to.
#[test]
fn appends_of_a_leader_that_come_again_before_its_end_lose_nothing() {
    in_all_variations(
        || Cluster::of(3),
        |stage| {
            stage.campaign(1);
            let mut late = Vec::new();
            for command in 1..=4 {
                stage.write(1, command);
                late.extend(stage.letters().filter(|letter| letter.to == 2 && letter.is_append()).cloned());
                stage.settle_but(|letter| letter.to == 3);
            }
            stage.plainly(|cluster| assert_eq!(cluster.committed(1), 6));
            late.into_iter().rev().for_each(|letter| stage.hand_over(letter));
            stage.crash(1);
            stage.crash(2);
            stage.restart(2);
            stage.campaign(3);
            stage.campaign(2);
            stage.plainly(|cluster| {
                assert!(cluster.is_leader(2));
                assert_eq!(cluster.commands(2), [1, 2, 3, 4]);
            });
        },
    );
}

/// A follower acknowledged the end of its own log instead of what the append had proved. Entries there that were left
/// over from another leader were counted, and the leader committed what nobody else had. Here an answer names the last
/// entry of the very append that it answers.
///
/// `microsoft/CCF#6016`, `microsoft/CCF#5325`, `rabbitmq/ra#516`; Raft paper 5.3.
#[test]
fn leftovers_behind_an_append_are_not_acknowledged() {
    let (ours, theirs): (&[Term], &[Term]) = (&[1, 1, 1, 1, 1, 2, 2, 2, 2], &[1; 9]);
    let mut cluster = Cluster::with_logs(3, &[(1, ours), (2, theirs), (3, &[1])]);
    let empty = append(2, 5, &ours[..5], 5);
    assert_eq!(answer(&mut cluster, 2, 1, empty), AppendResult::Matched { matched: 5 });
    let two = append(2, 5, &ours[..7], 5);
    assert_eq!(answer(&mut cluster, 2, 1, two), AppendResult::Matched { matched: 7 });
    assert_eq!(cluster.committed(2), 5);
    // And with the leader counting: it has 6 to 9 of term 2 alone.
    let mut cluster = Cluster::with_logs(3, &[(1, ours), (2, theirs), (3, &[1])]);
    cluster.isolate(&[3]);
    cluster.skip(ELECTION_TIMEOUT_MS);
    cluster.step(1, Input::Campaign);
    cluster.settle_but(|letter| match letter.body() {
        Some(Body::Append { entries, .. }) => !entries.is_empty(),
        _ => false,
    });
    assert!(cluster.is_leader(1) && cluster.committed(1) < 6, "{}", cluster.describe());
    cluster.recover();
}

/// A log with room for only a part of a batch took that part, and all of it was acknowledged. Here the log takes a write
/// in full or the node stops; and an acknowledgement waits for the write that has its last entry, so that what is still
/// on its way to the disk is not promised.
///
/// `hazelcast/hazelcast#14596`; thesis 3.8.
#[test]
fn only_the_part_of_the_entries_that_is_stored_is_acknowledged() {
    let log: &[Term] = &[1, 1, 1, 1, 1, 1, 1];
    let mut cluster = Cluster::with_logs(3, &[(1, log), (2, &[1]), (3, &[1])]);
    cluster.slow_disk(2);
    cluster.receive(2, 1, append(1, 1, &log[..3], 1));
    cluster.receive(2, 1, append(1, 3, log, 1));
    let acknowledged = |cluster: &Cluster| cluster.letters().filter_map(matched).max();
    assert_eq!(acknowledged(&cluster), None);
    cluster.complete_write(2);
    assert_eq!(acknowledged(&cluster), Some(3));
    cluster.step(2, Input::StorageFailed);
    cluster.receive(2, 1, append(1, 3, log, 1));
    assert_eq!(acknowledged(&cluster), Some(3), "the rest was not stored");
}

/// A follower committed as far as the leader's index and its own last entry allowed, whichever entries those were: it
/// applied leftovers of another leader. Here it commits no further than the leader has proved its log to be equal.
///
/// openraft, commit `9540c904`; `rabbitmq/ra#508`, `talent-plan/tinykv#191`, `etcd-io/raft#139`; Raft paper 5.3.
#[test]
fn leftovers_are_not_committed_by_the_leaders_index() {
    let (ours, theirs): (&[Term], &[Term]) = (&[1, 1, 3], &[1, 1, 2]);
    let mut cluster = Cluster::with_logs(3, &[(1, ours), (2, theirs), (3, ours)]);
    assert_eq!(answer(&mut cluster, 2, 1, append(3, 1, &ours[..2], 3)), AppendResult::Matched { matched: 2 });
    assert_eq!(cluster.committed(2), 2);
    for body in [
        Body::Heartbeat { round: 1, commit: LogId::new(3, 3) },
        Body::Commit { commit: LogId::new(3, 3) },
        Body::Append { prev: LogId::new(1, 2), entries: Entries::empty(), commit: 3 },
    ] {
        cluster.receive(2, 1, Message { term: 3, body });
        assert_eq!((cluster.committed(2), cluster.terms(2)), (2, theirs.to_vec()));
    }
    answer(&mut cluster, 2, 1, append(3, 2, ours, 3));
    assert_eq!(cluster.commands(2), [command_at(LogId::new(1, 2)), command_at(LogId::new(3, 3))]);
}

/// A node whose log begins behind a snapshot, with everything in it proved and acknowledged: entries 11 and 12 behind a
/// snapshot that ends with 10.
fn compacted(restarted_without_hint: bool) -> Cluster {
    let mut cluster = Cluster::with_config(3, purging());
    let log: &[Term] = &[1; 15];
    answer(&mut cluster, 3, 1, append(1, 1, log, 1));
    answer(&mut cluster, 2, 1, append(1, 1, &log[..10], 10));
    cluster.build_snapshot(2);
    answer(&mut cluster, 2, 1, append(1, 10, log, 10));
    assert_eq!((cluster.metrics(2).purged.index, cluster.metrics(2).last.index), (10, 15));
    if restarted_without_hint {
        cluster.crash(2);
        cluster.node_mut(2).disk.hard_state.commit = 0;
        cluster.restart(2);
    }
    cluster
}

/// An append from the very beginning was always taken to follow, also by a log that began behind a snapshot: entries 1 to
/// 3 were added a second time, behind 12. Here what is at or before the purged entry is committed and passed over, and
/// what is left must follow.
///
/// `willemt/raft#118`, `RedisLabs/raft#49`; Raft paper, section 7.
#[test]
fn an_append_from_the_very_beginning_adds_nothing_to_a_compacted_log() {
    for restarted in [false, true] {
        for count in [1, 3, 9, 10] {
            let mut cluster = compacted(restarted);
            let old = append(1, 0, &[1; 15][..count], 2);
            assert_eq!(answer(&mut cluster, 2, 1, old), AppendResult::Matched { matched: 10 });
            assert_eq!((cluster.metrics(2).last.index, cluster.terms(2)), (15, vec![1; 5]));
            // Reaching over the end of the log, it adds what is missing and no more.
            let long = append(1, 0, &[1; 17], 2);
            assert_eq!(answer(&mut cluster, 2, 1, long), AppendResult::Matched { matched: 17 });
            assert_eq!(cluster.metrics(2).last.index, 17);
        }
    }
}

/// The entry before an append had been purged, so its term was not known and it was taken for a conflict: the follower
/// removed its whole log, with what was committed. Here everything at or before the purged entry matches by definition,
/// and a restarted node knows from its snapshot that so much is committed.
///
/// openraft, commits `71a290cd` and `44381b0c`; `nats-io/nats-server#7095`, `RedisLabs/raft#49`
#[test]
fn an_append_that_follows_a_purged_entry_is_no_conflict() {
    for restarted in [false, true] {
        for prev in 1..10 {
            let mut cluster = compacted(restarted);
            assert_eq!(cluster.committed(2), 10);
            let below = append(1, prev, &[1; 9], 1);
            assert_eq!(answer(&mut cluster, 2, 1, below), AppendResult::Matched { matched: 10 });
            let across = append(1, prev, &[1; 12], 1);
            assert_eq!(answer(&mut cluster, 2, 1, across), AppendResult::Matched { matched: 12 });
            assert_eq!(cluster.terms(2), [1; 5]);
            assert_eq!(cluster.metrics(2).counters.truncations, 0);
        }
    }
}

/// Answers that overtook each other moved what a leader knew of a follower back: the match index fell, the next index
/// fell below it, and two late refusals took it below the first entry. Here the match index only grows, the next index
/// stays above it, and a refusal counts only where it answers the question that is open.
///
/// `microsoft/CCF#5326`, `bakwc/PySyncObj#167`, `zhebrak/raftos#25`, `ongardie/raft.tla#18`, `etcd-io/raft#149`,
/// `andreev-io/little-raft#18`; Raft paper 5.3.
#[test]
fn late_answers_move_nothing_back_that_the_leader_knows() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    for command in 0..6 {
        cluster.write(1, command);
        cluster.settle();
    }
    let (term, last) = (cluster.term(1), cluster.metrics(1).last.index);
    let say = |cluster: &mut Cluster, result| {
        cluster.receive(1, 2, Message { term, body: Body::AppendResponse { result } });
        let peer = &cluster.metrics(1).peers[&2];
        assert_eq!((peer.matched, peer.next), (last, last + 1), "after {result:?}");
    };
    for matched in (0..=last).rev() {
        say(&mut cluster, AppendResult::Matched { matched });
    }
    for (rejected, hint) in (0..=last).flat_map(|rejected| (0..=rejected).map(move |hint| (rejected, hint))) {
        for _ in 0..2 {
            let hint = LogId::new(u64::from(0 < hint), hint);
            say(&mut cluster, AppendResult::Conflict { rejected, hint });
        }
    }
    // A refusal that is news moves the next index back, but not to what is known to match.
    let request = cluster.write(1, 9);
    cluster.lose_all();
    say(&mut cluster, AppendResult::Conflict { rejected: last + 1, hint: LogId::ZERO });
    cluster.run(ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.outcome(request), Outcome::Applied);
    cluster.recover();
}

/// The same while the leader looks for the match: refusals of earlier questions do not answer the present one.
///
/// `etcd-io/raft#149`, `andreev-io/little-raft#18`
#[test]
fn refusals_that_come_twice_and_in_another_order_do_not_confuse_the_search_for_the_match() {
    let ours: Vec<Term> = std::iter::once(1).chain((0..20).map(|i| 2 + i / 3 * 2)).collect();
    let theirs: Vec<Term> = std::iter::once(1).chain((0..20).map(|i| 3 + i / 2 * 2)).collect();
    let mut cluster = Cluster::with_logs(3, &[(1, &ours), (2, &theirs), (3, &ours)]);
    for _ in 0..10 {
        cluster.skip(ELECTION_TIMEOUT_MS);
        cluster.step(1, Input::Campaign);
        let seen = std::cell::RefCell::new(Vec::<Letter>::new());
        cluster.settle_but(|letter| {
            if letter.from == 2 && letter.is_append_response() {
                seen.borrow_mut().push(letter.clone());
            }
            false
        });
        let mut again = seen.into_inner();
        again.reverse();
        for letter in again.iter().chain(again.iter()) {
            cluster.deliver(letter.clone());
        }
        cluster.settle();
    }
    cluster.recover();
    assert_eq!(cluster.terms(2), cluster.terms(1));
}

/// A heartbeat overtook the append of the entry that it named. The refusal of the one and the acknowledgement of the other
/// arrived in turn; the leader concluded that the follower had lost an entry, and panicked. Here a heartbeat claims
/// nothing of the follower's log, and a refusal that is older than an acknowledgement is dropped.
///
/// `databendlabs/openraft#1500`
#[test]
fn a_heartbeat_before_its_append_and_a_refusal_behind_its_acknowledgement_harm_nobody() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let request = cluster.write(1, 7);
    let appends = cluster.intercept(Letter::is_append);
    let last = cluster.metrics(1).last;
    let term = cluster.term(1);
    for body in [
        Body::Heartbeat { round: 1, commit: last },
        Body::Append { prev: last, entries: Entries::empty(), commit: last.index },
    ] {
        cluster.receive(2, 1, Message { term, body });
    }
    let refusals = cluster.intercept(|letter| letter.from == 2 && letter.is_append_response());
    assert!(refusals.iter().all(|letter| matched(letter).is_none()) && !refusals.is_empty());
    appends.into_iter().for_each(|letter| cluster.deliver(letter));
    cluster.settle();
    refusals.into_iter().for_each(|letter| cluster.deliver(letter));
    cluster.settle();
    assert!(cluster.is_leader(1));
    assert_eq!(cluster.outcome(request), Outcome::Applied);
    assert_eq!(cluster.metrics(1).peers[&2].progress, ProgressName::Replicate);
}

/// A learner lost its log and came back empty. Its leader had no writes to send, kept to what had once been
/// acknowledged, and repeated its heartbeats for ever. Here what a node has acknowledged stays acknowledged, because
/// nobody may forget it and go on under the same name; the node is added anew, and then it is served from the
/// beginning, also by a leader that nobody writes to. Another leader has no such memory and serves it at once.
///
/// `ArcadeData/arcadedb#4081`, `databendlabs/openraft#1389`
#[test]
fn an_idle_leader_serves_a_learner_that_lost_its_log_once_it_is_added_anew() {
    for by_another_leader in [false, true] {
        let mut cluster = with_learners(3, [4]);
        cluster.write_many(1, &[7; 10]);
        cluster.settle();
        cluster.crash(4);
        cluster.nodes.remove(&4);
        cluster.add_fresh(4);
        cluster.run(4 * ELECTION_TIMEOUT_MS);
        if by_another_leader {
            cluster.elect(2);
        } else {
            let removed = cluster.change(1, MembershipChange::Remove(ids([4])));
            cluster.settle();
            let added = cluster.change(1, MembershipChange::AddLearners(nodes([4])));
            cluster.settle();
            assert!(is_changed(&cluster, removed) && is_changed(&cluster, added));
        }
        cluster.run(heartbeats());
        assert_eq!(cluster.commands(4), [7; 10], "by another leader: {by_another_leader}");
    }
}

/// Ours, and next to the one before: a follower that had lost what it had acknowledged refused every append. The leader
/// would not look for the match before what was acknowledged, and asked again at once where it had just been refused:
/// thousands of times a second, as fast as the network carried it. Now such a refusal is not news, and the next
/// question waits for the next heartbeat.
#[test]
fn a_peer_that_has_lost_what_it_acknowledged_is_asked_once_for_each_heartbeat() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.write_many(1, &[7; 10]);
    cluster.settle();
    cluster.crash(2);
    cluster.nodes.remove(&2);
    cluster.add_fresh(2);
    cluster.write(1, 8);
    let asked = Cell::new(0);
    let heartbeats = 20;
    cluster.run_but(heartbeats * Config::default().heartbeat_interval_ms, |letter| {
        asked.set(asked.get() + u64::from(letter.to == 2 && letter.is_append()));
        false
    });
    assert!((1..=heartbeats + 2).contains(&asked.get()), "{} appends", asked.get());
    assert!(cluster.is_leader(1) && cluster.metrics(2).last == LogId::ZERO);
    assert_eq!(cluster.metrics(1).peers[&2].progress, ProgressName::Probe, "which an operator can see");
}

/// A follower refused with a hint that never went below a window, or that went back by one entry for each heartbeat: the
/// match was never found, or only after days. Here both sides skip whole terms, at the speed of the network.
///
/// openraft, commit `6d53aa12`; `cockroachdb/cockroach#60921`; Raft paper 5.3.
#[test]
fn a_long_tail_of_another_term_is_passed_in_a_few_round_trips() {
    let tail = |term| -> Vec<Term> { std::iter::once(1).chain([term; 1000]).collect() };
    for (leader, follower) in [(tail(3), tail(2)), (tail(2), tail(3))] {
        let mut cluster = Cluster::with_logs(3, &[(1, &leader), (2, &follower), (3, &leader)]);
        for id in 1..=3 {
            cluster.crash(id);
            cluster.node_mut(id).disk.hard_state.term = 9;
            cluster.restart(id);
        }
        // The log of node 2 may be the better one; it is not there when the leader is elected.
        cluster.crash(2);
        cluster.elect(1);
        cluster.restart(2);
        if leader[1] < follower[1] {
            cluster.write(1, 7);
        }
        let conflicts = Cell::new(0);
        cluster.run_but(heartbeats(), |letter| {
            let result = match letter.body() {
                Some(Body::AppendResponse { result }) => Some(*result),
                _ => None,
            };
            conflicts.set(conflicts.get() + u32::from(matches!(result, Some(AppendResult::Conflict { .. }))));
            false
        });
        assert_eq!(cluster.terms(2), cluster.terms(1));
        assert!(conflicts.get() <= 4, "{} conflicts", conflicts.get());
    }
}

/// The bytes of entries were counted where an append is put together from memory, and left out where it is put together
/// from what was read from the log: a leader that fed a peer for hours seemed to send it nothing but 64 bytes a message.
#[test]
fn entries_that_are_read_from_the_log_for_a_peer_count_as_sent() {
    let config = Config { tail_bytes_max: 0, append_bytes_max: 1024, ..Config::default() };
    let mut cluster = Cluster::with_config(3, config);
    cluster.elect(1);
    cluster.isolate(&[3]);
    for command in 0..60 {
        cluster.write(1, command);
        cluster.settle();
    }
    cluster.heal();
    let bytes = |cluster: &Cluster| {
        let counters = |id| cluster.metrics(id).counters;
        (counters(1).sent.bytes, counters(2).received.bytes + counters(3).received.bytes)
    };
    let before = bytes(&cluster);
    cluster.run(2 * ELECTION_TIMEOUT_MS);
    cluster.settle();
    let after = bytes(&cluster);
    assert_eq!(cluster.terms(3), cluster.terms(1));
    assert!(0 < cluster.metrics(1).counters.catch_up_reads);
    assert_eq!(after.0 - before.0, after.1 - before.1, "what was sent and what has arrived");
}

/// A follower that lagged was caught up by two streams at once. One ended, the follower acknowledged live entries, and a
/// late message of the other made it cut its log back. Here there is one way to append with one set of rules, and one
/// read of old entries at a time for each peer; whatever else comes back is dropped.
///
/// `nats-io/nats-server#7424`, `nats-io/nats-server#7151`, `nats-io/nats-server#6944`
#[test]
fn late_entries_of_an_earlier_catch_up_cut_nothing() {
    let config = Config { tail_bytes_max: 0, append_bytes_max: 1024, ..Config::default() };
    let mut cluster = Cluster::with_config(3, config);
    cluster.elect(1);
    cluster.isolate(&[3]);
    for command in 0..60 {
        cluster.write(1, command);
        cluster.settle();
    }
    cluster.heal();
    let streamed = std::cell::RefCell::new(Vec::<Letter>::new());
    cluster.run_but(ELECTION_TIMEOUT_MS, |letter| {
        if letter.to == 3 && letter.is_append() {
            streamed.borrow_mut().push(letter.clone());
        }
        false
    });
    assert!(0 < cluster.metrics(1).counters.catch_up_reads);
    for command in 60..80 {
        cluster.write(1, command);
        // Acknowledged, and not known to be committed by node 3.
        cluster.settle_but(|letter| letter.to == 3 && !letter.is_append());
    }
    let log = cluster.terms(3);
    for letter in streamed.into_inner() {
        cluster.deliver(letter);
        assert_eq!(cluster.terms(3), log);
    }
    cluster.settle();
    let entries = cluster.node(1).disk.read(1..30, u64::MAX);
    for read in 0..3 {
        cluster.step(1, Input::LogRead { read: LogReadId(read), entries: entries.clone() });
    }
    assert_eq!(
        cluster.letters().filter(|letter| letter.is_append()).count(),
        0,
        "nobody has asked for these"
    );
    cluster.recover();
    assert_eq!(cluster.commands(3), (0..80).collect::<Vec<_>>());
}

/// A learner had acknowledged entry 349 when it was promoted. What was known of it began again at nothing, an
/// acknowledgement of 340 that came late was "going back", and the leader stopped. Here what is known of a node is kept
/// as long as it is a member, and an acknowledgement only adds to it.
///
/// `databendlabs/openraft#584`, `rabbitmq/ra#516`
#[test]
fn a_promotion_keeps_what_is_known_of_the_learner() {
    let mut cluster = with_learners(3, [4]);
    cluster.write_many(1, &(0..300).collect::<Vec<_>>());
    cluster.settle();
    let (term, known) = (cluster.term(1), cluster.metrics(1).peers[&4].matched);
    let acknowledge = |cluster: &mut Cluster, matched| {
        let result = AppendResult::Matched { matched };
        cluster.receive(1, 4, Message { term, body: Body::AppendResponse { result } });
        cluster.metrics(1).peers[&4].matched
    };
    let request = cluster.change(1, MembershipChange::Promote(ids([4])));
    assert_eq!(cluster.metrics(1).peers[&4].matched, known);
    assert_eq!(acknowledge(&mut cluster, known - 9), known);
    cluster.settle();
    assert!(is_changed(&cluster, request));
    assert_eq!(acknowledge(&mut cluster, known - 9), known + 1);
    cluster.recover();
}

/// One voter with three learners became three voters, and the fourth node was served no more. Here every member is
/// served, whatever it is.
///
/// openraft, commit `2896b98e`
#[test]
fn a_learner_that_stays_one_is_served_over_a_change_of_the_others() {
    let mut cluster = with_learners(1, [2, 3, 4]);
    for voters in [ids([1, 2, 3]), ids([1]), ids([1, 2])] {
        let request = cluster.change(1, MembershipChange::SetVoters(voters.clone()));
        cluster.settle();
        assert!(is_changed(&cluster, request), "{voters:?}");
        let command = cluster.metrics(1).last.index;
        cluster.write(1, command);
        cluster.settle();
        assert_eq!(cluster.commands(4).last(), Some(&command), "{voters:?}");
        for id in [2, 3] {
            if cluster.membership(1).is_member(id) {
                continue;
            }
            let request = cluster.change(1, MembershipChange::AddLearners(nodes([id])));
            cluster.settle();
            assert!(is_changed(&cluster, request));
        }
        cluster.run(heartbeats());
    }
}

/// The whole of the rules above at once: two leaders whose entries conflict, each cut off in turn, and a third that must
/// not lose what the second has committed, while messages come twice and late and disks are slow.
#[test]
fn conflicting_leaders_and_late_messages_lose_nothing() {
    in_all_variations(
        || Cluster::of(3),
        |stage| {
            stage.campaign(1);
            stage.isolate(&[1]);
            stage.write_many(1, &[1, 2, 3]);
            stage.settle();
            stage.campaign(2);
            let request = stage.write(2, 4);
            stage.settle();
            stage.plainly(|cluster| assert_eq!(cluster.outcome(request), Outcome::Applied));
            stage.isolate(&[2]);
            stage.write_many(2, &[5, 6]);
            stage.settle();
            stage.heal();
            stage.isolate(&[2]);
            // Node 1 notices that it has been alone all the while.
            stage.skip(ELECTION_TIMEOUT_MS);
            stage.step(1, Input::Timeout);
            stage.campaign(3);
            stage.campaign(3);
            stage.write(3, 7);
            stage.settle();
            stage.plainly(|cluster| assert_eq!([1, 3].map(|id| cluster.commands(id)), [[4, 7], [4, 7]]));
        },
    );
}
