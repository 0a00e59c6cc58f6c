//! Safety: Raft paper 5.4, figure 8, 5.6; thesis 3.8 (what must be durable) and 10.2.1 (the leader's disk in parallel).

use std::time::Duration;

use openconsensus::engine::Input;
use openconsensus::{AppendResult, Body, Config, Entries, LogId, Message, RoleName, Term, VoteKind};
use openconsensus_tests::engines::{self, Cluster, ELECTION_TIMEOUT_MS, Letter, Outcome};

fn is_grant(letter: &Letter) -> bool {
    matches!(letter.body(), Some(Body::VoteResponse { granted: true, .. }))
}

/// 5.4.1: of two logs the one whose last entry has the later term is more up to date; with equal terms the longer one.
/// Both parts are looked at in this order, and not each by itself.
#[test]
fn section_5_4_1_logs_are_compared_by_last_term_and_then_by_length() {
    let cases: &[(&[Term], &[Term], bool)] = &[
        (&[1, 2], &[1, 2], true),
        (&[1, 2, 2], &[1, 2], true),
        (&[1, 2], &[1, 2, 2], false),
        (&[1, 3], &[1, 2, 2, 2, 2], true),
        (&[1, 2, 2, 2, 2], &[1, 3], false),
        (&[1, 1], &[1, 2], false),
        (&[1, 2], &[1, 1, 1], true),
        (&[1, 1, 1], &[1, 2], false),
    ];
    for (candidate, voter, is_granted) in cases {
        for kind in [VoteKind::Pre, VoteKind::Normal, VoteKind::Transfer] {
            let mut cluster = Cluster::with_logs(3, &[(1, candidate), (2, voter), (3, &[1])]);
            let last = cluster.metrics(1).last;
            let body = Body::VoteRequest { kind, campaign: 1, last };
            cluster.receive(2, 1, Message { term: 9, body });
            let granted = cluster.intercept(Letter::is_vote_response).iter().any(is_grant);
            assert_eq!(granted, *is_granted, "{kind:?}: {candidate:?} asks {voter:?}");
        }
    }
}

/// 5.4.1: who lacks a committed entry cannot be elected; who has it can. For every pair out of five that may have it
/// beside the leader, and every candidate.
#[test]
fn section_5_4_1_only_a_server_with_every_committed_entry_is_elected() {
    for (first, second) in (2..=5_u64).flat_map(|a| (a + 1..=5).map(move |b| (a, b))) {
        for candidate in 2..=5_u64 {
            let mut cluster = Cluster::of(5);
            cluster.elect(1);
            let request = cluster.write(1, 7);
            cluster.settle_but(|letter| ![1, first, second].contains(&letter.to));
            assert_eq!(cluster.outcome(request), Outcome::Applied);
            cluster.crash(1);
            cluster.skip(ELECTION_TIMEOUT_MS);
            cluster.step(candidate, Input::Campaign);
            cluster.settle();
            let has_entry = candidate == first || candidate == second;
            assert_eq!(cluster.is_leader(candidate), has_entry, "{candidate}, entry on 1, {first}, {second}");
        }
    }
}

/// 5.4.1: of a long log without the committed entry and a shorter one with it, the shorter one wins.
#[test]
fn section_5_4_1_a_long_log_of_old_terms_does_not_win() {
    let old: Vec<Term> = std::iter::once(1).chain([2; 50]).collect();
    let mut cluster = Cluster::with_logs(3, &[(1, &[1, 3]), (2, &[1, 3]), (3, &old)]);
    cluster.elect_any();
    assert!(!cluster.is_leader(3));
    cluster.run(ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.terms(3), cluster.terms(1));
}

/// The logs of figure 8 (c): S1 leads term 4 and has brought its entry of term 2 to a majority.
fn figure_8_c() -> Cluster {
    let mut cluster =
        Cluster::with_logs(5, &[(1, &[1, 2]), (2, &[1, 2]), (3, &[1]), (4, &[1]), (5, &[1, 3])]);
    for id in 1..=5 {
        cluster.crash(id);
        cluster.node_mut(id).disk.hard_state.term = 3;
        cluster.restart(id);
    }
    cluster.isolate(&[5]);
    cluster.step(1, Input::Campaign);
    // Its own entry of term 4 gets nowhere: every append of it is lost, but the one of term 2 is repeated to S3.
    cluster.settle_but(Letter::is_append);
    assert!(cluster.is_leader(1));
    assert_eq!((cluster.term(1), cluster.terms(1)), (4, vec![1, 2, 4]));
    let log: Entries<engines::Test> = cluster.node(1).view.entries().to_vec().into();
    let body = Body::Append { prev: LogId::new(1, 1), entries: log.slice(2..3), commit: 1 };
    for id in [2, 3] {
        cluster.receive(id, 1, Message { term: 4, body: body.clone() });
    }
    cluster.settle_but(Letter::is_append);
    assert_eq!(cluster.terms(3), [1, 2]);
    cluster
}

/// 5.4.2, figure 8 (c) and (d): an entry of an earlier term on a majority is not committed by that, because a later
/// leader may still replace it.
#[test]
fn figure_8_an_entry_of_an_earlier_term_is_not_committed_by_counting() {
    let mut cluster = figure_8_c();
    let matched = cluster.metrics(1).peers.values().filter(|peer| 2 <= peer.matched).count();
    assert_eq!(matched, 2, "with S1 itself a majority of five");
    assert_eq!(cluster.committed(1), 1);
    cluster.crash(1);
    cluster.heal();
    cluster.skip(ELECTION_TIMEOUT_MS);
    cluster.step(5, Input::Campaign);
    cluster.step(5, Input::Campaign);
    cluster.settle();
    assert!(cluster.is_leader(5));
    cluster.run(ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.terms(3)[..2], [1, 3], "figure 8 (d): the entry of term 2 is gone");
    cluster.recover();
}

/// 5.4.2, figure 8 (e): when an entry of the leader's own term is on a majority, that and all before it are committed.
#[test]
fn figure_8_an_entry_of_the_own_term_commits_all_before_it() {
    let mut cluster = figure_8_c();
    cluster.run(ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.committed(1), 3);
    cluster.crash(1);
    cluster.heal();
    cluster.skip(ELECTION_TIMEOUT_MS);
    cluster.step(5, Input::Campaign);
    cluster.settle();
    assert_eq!(cluster.role(5), RoleName::Follower, "S5 cannot win any more");
    cluster.recover();
    assert_eq!(cluster.terms(5)[..3], [1, 2, 4]);
}

/// 5.4.2: entries keep the term in which they were created when a later leader sends them on.
#[test]
fn section_5_4_2_entries_keep_their_terms() {
    let mut cluster = Cluster::with_logs(3, &[(1, &[1, 2, 3, 3]), (2, &[1]), (3, &[1])]);
    cluster.elect(1);
    assert_eq!(cluster.terms(2), [1, 2, 3, 3, 4]);
}

/// 5.4.3: an entry that is not committed stays in the log until a leader replaces it. Voting, stepping down or
/// campaigning is no reason to drop it: it may be committed without this node knowing.
#[test]
fn an_uncommitted_tail_survives_votes_and_changes_of_role() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.write(1, 7);
    // Node 2 has the entry and has acknowledged it; node 1 knows that it is committed, node 2 does not.
    cluster.settle_but(|letter| letter.to == 3 || letter.to == 2 && !letter.is_append());
    assert_eq!((cluster.committed(1), cluster.committed(2)), (3, 2));
    cluster.crash(1);
    cluster.skip(ELECTION_TIMEOUT_MS);
    let body = Body::VoteRequest { kind: VoteKind::Normal, campaign: 1, last: cluster.metrics(3).last };
    let term = cluster.term(2) + 1;
    cluster.receive(2, 3, Message { term, body });
    cluster.time_out(2);
    cluster.lose_all();
    assert_eq!(cluster.metrics(2).last.index, 3);
    let leader = cluster.elect_any();
    assert_eq!(leader, 2, "node 3 lacks what is committed");
    assert_eq!(cluster.commands(2), [7]);
}

/// 5.1, 5.4: one term counts for votes and for appends. Whoever has promised something in a term takes no entries of an
/// earlier one.
#[test]
fn a_promise_made_to_a_candidate_binds_for_appends_too() {
    let mut cluster = Cluster::of(3);
    let body = Body::VoteRequest { kind: VoteKind::Normal, campaign: 1, last: LogId::new(1, 1) };
    cluster.receive(2, 1, Message { term: 9, body });
    cluster.lose_all();
    let body = Body::Append { prev: LogId::new(1, 1), entries: Entries::empty(), commit: 1 };
    cluster.receive(2, 3, Message { term: 8, body });
    let answers = cluster.intercept(Letter::is_append_response);
    assert!(matches!(answers[0].body(), Some(Body::AppendResponse { result: AppendResult::StaleTerm })));
    assert_eq!((cluster.term(2), cluster.metrics(2).leader), (9, None));
}

/// 5.6: as long as messages take less than the election timeout, a cluster that loses its leader has another one soon.
#[test]
fn section_5_6_a_new_leader_is_elected_soon_after_a_crash() {
    for round in 0..20 {
        let mut cluster = Cluster::of(5);
        let mut down = 0;
        for _ in 0..round + 2 {
            let leader = cluster.elect_any();
            if down > 0 {
                cluster.restart(down);
            }
            cluster.run(50);
            let begun = cluster.now;
            cluster.crash(leader);
            down = leader;
            cluster.elect_any();
            let without = cluster.now - begun;
            assert!(without < Duration::from_millis(3 * ELECTION_TIMEOUT_MS), "{without:?} without a leader");
        }
    }
}

// ---- 3.8: what must be durable ----

/// Thesis 3.8: term and vote are durable before a vote is given. A crash before that leaves no vote, neither there nor
/// in anybody's count.
#[test]
fn thesis_3_8_a_vote_leaves_only_when_it_is_durable() {
    let mut cluster = Cluster::of(3);
    cluster.slow_disk(3);
    let term = cluster.term(3) + 1;
    let ask = |cluster: &mut Cluster, from: u64| {
        let body = Body::VoteRequest { kind: VoteKind::Normal, campaign: 1, last: LogId::new(1, 1) };
        cluster.receive(3, from, Message { term, body });
    };
    ask(&mut cluster, 1);
    assert_eq!(cluster.letters().filter(|letter| is_grant(letter)).count(), 0);
    cluster.crash(3);
    cluster.restart(3);
    ask(&mut cluster, 2);
    cluster.complete_write(3);
    let granted: Vec<u64> =
        cluster.letters().filter(|letter| is_grant(letter)).map(|letter| letter.to).collect();
    assert_eq!(granted, [2], "the vote for node 1 was never given");
    cluster.crash(3);
    cluster.restart(3);
    assert_eq!((cluster.term(3), cluster.metrics(3).voted_for), (term, Some(2)));
    ask(&mut cluster, 1);
    assert_eq!(
        cluster.letters().filter(|letter| is_grant(letter)).count(),
        1,
        "and it is kept over a restart"
    );
}

/// Thesis 3.8: a candidate's vote for itself is a vote like any other: durable before others are asked and before it is
/// counted.
#[test]
fn thesis_3_8_a_candidate_asks_only_when_its_own_vote_is_durable() {
    let mut cluster = Cluster::of(5);
    cluster.slow_disk(1);
    cluster.step(1, Input::Campaign);
    assert_eq!(cluster.letters().count(), 0, "nobody is asked yet");
    cluster.crash(1);
    cluster.restart(1);
    assert_eq!(
        (cluster.term(1), cluster.metrics(1).voted_for),
        (1, None),
        "so nothing is lost by forgetting it"
    );
    cluster.step(1, Input::Campaign);
    cluster.complete_write(1);
    assert_eq!(cluster.letters().filter(|letter| letter.is_vote_request()).count(), 4);
    cluster.crash(1);
    cluster.restart(1);
    let body = Body::VoteRequest { kind: VoteKind::Normal, campaign: 1, last: LogId::new(1, 1) };
    cluster.lose_all();
    cluster.receive(1, 5, Message { term: 2, body });
    assert_eq!(cluster.letters().filter(|letter| is_grant(letter)).count(), 0, "it has voted in term 2");
}

/// Thesis 3.8: entries are durable before they are acknowledged. Else a quorum could be counted that a loss of power
/// takes back.
#[test]
fn thesis_3_8_an_append_is_acknowledged_only_when_it_is_durable() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.slow_disk(2);
    cluster.isolate(&[3]);
    let request = cluster.write(1, 7);
    cluster.settle();
    assert_eq!(cluster.outcome(request), Outcome::Open);
    assert_eq!(cluster.metrics(2).last.index, 3, "it is in memory");
    cluster.complete_write(2);
    cluster.settle();
    assert_eq!(cluster.outcome(request), Outcome::Applied);
}

/// 3.8: of two writes that are under way the first completes what it carries, and says nothing of the second.
#[test]
fn an_append_waits_for_the_write_that_carries_it_and_not_for_an_earlier_one() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.slow_disk(2);
    cluster.isolate(&[3]);
    let requests = [7, 8].map(|command| {
        let request = cluster.write(1, command);
        // Twice: the second time the entry is on its way to the disk already.
        for letter in cluster.intercept(|letter| letter.to == 2) {
            cluster.deliver(letter.clone());
            cluster.deliver(letter);
        }
        request
    });
    assert_eq!(cluster.node(2).writes.len(), 2);
    cluster.complete_write(2);
    cluster.settle();
    assert_eq!(requests.map(|request| cluster.outcome(request)), [Outcome::Applied, Outcome::Open]);
    cluster.complete_write(2);
    cluster.settle();
    assert_eq!(requests.map(|request| cluster.outcome(request)), [Outcome::Applied; 2]);
}

/// 3.8: the completion of an earlier write does not count a candidate's vote for itself, also where that alone decides.
#[test]
fn a_vote_for_oneself_waits_for_the_write_that_carries_it() {
    let mut cluster = Cluster::empty(Config::default());
    cluster.add_fresh(1);
    cluster.slow_disk(1);
    let request = cluster.request();
    cluster.step(1, Input::Initialize { request, nodes: engines::nodes([1]) });
    cluster.time_out(1);
    assert_eq!((cluster.role(1), cluster.node(1).writes.len()), (RoleName::Candidate, 2));
    cluster.complete_write(1);
    assert_eq!(cluster.role(1), RoleName::Candidate, "only the first membership is durable");
    cluster.complete_write(1);
    assert!(cluster.is_leader(1));
}

/// 3.8: an acknowledgement waits for the term too, not for the entries alone: else a node could come back in the old
/// term and vote again in it.
#[test]
fn an_acknowledgement_waits_for_the_term_it_is_given_in() {
    let mut cluster = Cluster::of(3);
    cluster.slow_disk(2);
    let body = Body::Append { prev: LogId::new(1, 1), entries: Entries::empty(), commit: 1 };
    cluster.receive(2, 1, Message { term: 7, body });
    assert_eq!(cluster.letters().filter(|letter| letter.is_append_response()).count(), 0);
    cluster.complete_write(2);
    assert_eq!(cluster.letters().filter(|letter| letter.is_append_response()).count(), 1);
    assert_eq!(cluster.node(2).disk.hard_state.term, 7);
}

/// 3.8: a refusal promises nothing, so it waits for no disk.
#[test]
fn a_refusal_waits_for_no_disk() {
    let mut cluster = Cluster::of(3);
    cluster.slow_disk(2);
    let body = Body::Append { prev: LogId::new(7, 50), entries: Entries::empty(), commit: 1 };
    cluster.receive(2, 1, Message { term: 7, body });
    assert_eq!(cluster.letters().filter(|letter| letter.is_append_response()).count(), 1);
    assert!(cluster.has_writes(2));
}

/// A heartbeat is answered without the disk, and it keeps the follower calm: a slow disk must not look like a dead node
/// on either side.
#[test]
fn a_slow_disk_neither_delays_heartbeats_nor_starts_elections() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let term = cluster.term(1);
    cluster.slow_disk(2);
    for command in 0..5 {
        cluster.write(1, command);
        cluster.run(ELECTION_TIMEOUT_MS);
    }
    assert_eq!((cluster.is_leader(1), cluster.term(1), cluster.term(2)), (true, term, term));
    assert!(cluster.metrics(1).peers[&2].active);
}

/// 10.2.1 with truncation: entries 3 to 5 of one leader are in flight to the disk when the next leader replaces them
/// with an entry of its own. When the first write is done, the new entry 3 is not durable yet.
#[test]
fn the_completion_of_an_old_write_says_nothing_of_entries_that_replaced_it() {
    let mut cluster = Cluster::with_logs(3, &[(1, &[1]), (2, &[1]), (3, &[1])]);
    cluster.slow_disk(2);
    let old: Entries<engines::Test> = engines::log_of(3, &[1, 2, 2, 2]).into();
    let new: Entries<engines::Test> = engines::log_of(3, &[1, 3]).into();
    let append = |term, entries: &Entries<engines::Test>| Message {
        term,
        body: Body::Append { prev: LogId::new(1, 1), entries: entries.slice(2..u64::MAX), commit: 1 },
    };
    cluster.receive(2, 1, append(2, &old));
    cluster.receive(2, 3, append(3, &new));
    let matched = |letter: &Letter| {
        matches!(letter.body(), Some(Body::AppendResponse { result: AppendResult::Matched { .. } }))
    };
    cluster.complete_write(2);
    assert_eq!(cluster.letters().filter(|letter| matched(letter)).count(), 0);
    assert_eq!(cluster.metrics(2).stable, 1);
    cluster.complete_write(2);
    assert_eq!(cluster.letters().filter(|letter| matched(letter)).count(), 1);
    assert_eq!((cluster.metrics(2).stable, cluster.node(2).disk.terms()), (2, vec![1, 3]));
}

/// 3.8: a commit index on disk is a hint. When it is ahead of the log, because the end of the log was not durable, it is
/// cut to the log; when it is missing, nothing is lost.
#[test]
fn a_commit_hint_ahead_of_the_log_is_cut_to_the_log() {
    for hint in [0, 1, 2, 3, 40] {
        let mut cluster = Cluster::with_logs(3, &[(1, &[1, 1]), (2, &[1, 1]), (3, &[1, 1])]);
        cluster.crash(2);
        cluster.node_mut(2).disk.hard_state.commit = hint;
        cluster.restart(2);
        assert!(cluster.committed(2) <= 2);
        cluster.recover();
    }
}

// ---- 10.2.1: the leader's disk in parallel ----

/// Thesis 10.2.1: a leader sends its entries before they are on its own disk.
#[test]
fn thesis_10_2_1_a_leader_sends_entries_before_its_own_disk_has_them() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.slow_disk(1);
    cluster.write(1, 7);
    assert_eq!(cluster.letters().filter(|letter| letter.is_append()).count(), 2);
    assert!(cluster.has_writes(1));
}

/// Thesis 10.2.1: an entry is committed when a majority of the others have it, even before the leader itself has. It is
/// applied there only when it is durable there, so that no state is ahead of its log.
#[test]
fn thesis_10_2_1_a_majority_without_the_leader_commits() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.slow_disk(1);
    cluster.write(1, 7);
    cluster.settle();
    assert_eq!(cluster.committed(1), 3);
    assert!(cluster.commands(1).is_empty());
    assert_eq!([2, 3].map(|id| cluster.commands(id)), [[7]; 2]);
    cluster.complete_write(1);
    assert_eq!(cluster.commands(1), [7]);
}

/// Thesis 10.2.1: the leader counts itself only once its own write is done; when that is what was missing, the commit
/// moves then and not with the next message.
#[test]
fn thesis_10_2_1_a_leader_counts_itself_when_its_write_is_done() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.isolate(&[3]);
    cluster.slow_disk(1);
    let request = cluster.write(1, 7);
    cluster.settle();
    assert_eq!(cluster.outcome(request), Outcome::Open, "only node 2 has it");
    cluster.complete_write(1);
    assert_eq!(cluster.outcome(request), Outcome::Applied);
}

/// 10.2.1: a leader that crashes before its own write is done loses its copy, and the entry is still there for the next.
#[test]
fn a_leader_may_lose_its_own_copy_of_what_is_committed() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.slow_disk(1);
    let request = cluster.write(1, 7);
    cluster.settle();
    assert_eq!(cluster.outcome(request), Outcome::Applied);
    cluster.crash(1);
    cluster.restart(1);
    assert_eq!(cluster.metrics(1).last.index, 2);
    cluster.recover();
    assert_eq!([1, 2, 3].map(|id| cluster.commands(id)), [[7]; 3]);
}

/// A disk that fails ends leadership: the index of an entry that others may have seen must never get another entry from
/// the same leader. Nothing that waited for the write ever leaves.
#[test]
fn a_failed_disk_ends_leadership_and_silences_the_node() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.slow_disk(1);
    cluster.write(1, 7);
    cluster.step(1, Input::StorageFailed);
    assert_ne!(cluster.role(1), RoleName::Leader);
    cluster.lose_all();
    let again = cluster.write(1, 8);
    assert_eq!(cluster.outcome(again), Outcome::NotLeader);
    cluster.step(1, Input::Timeout);
    cluster.step(1, Input::Campaign);
    let body = Body::VoteRequest { kind: VoteKind::Normal, campaign: 1, last: LogId::new(9, 9) };
    cluster.receive(1, 2, Message { term: 9, body });
    assert_eq!(cluster.letters().count(), 0, "it never speaks again");
    cluster.run_until(10 * ELECTION_TIMEOUT_MS, "another leader", |cluster| {
        [2, 3].iter().any(|id| cluster.is_leader(*id))
    });
}

/// A follower whose write fails never acknowledges what was in it.
#[test]
fn a_follower_with_a_failed_disk_acknowledges_nothing() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.slow_disk(2);
    cluster.isolate(&[3]);
    let request = cluster.write(1, 7);
    cluster.settle();
    cluster.step(2, Input::StorageFailed);
    cluster.settle();
    assert_eq!(cluster.outcome(request), Outcome::Open);
}

/// One completion may speak for all writes before it.
#[test]
fn one_completion_completes_all_writes_before_it() {
    let mut cluster = Cluster::of(1);
    cluster.elect(1);
    cluster.slow_disk(1);
    let requests: Vec<_> = (0..5).map(|command| cluster.write(1, command)).collect();
    assert_eq!(cluster.node(1).writes.len(), 5);
    let last = cluster.complete_all_writes_at_once(1);
    assert_eq!(last, 5);
    assert!(requests.into_iter().all(|request| cluster.outcome(request) == Outcome::Applied));
}

/// A cluster of one that restarts elects itself again and finishes what it had not committed.
#[test]
fn a_single_voter_that_restarts_commits_what_it_has() {
    let mut cluster = Cluster::with_logs(1, &[(1, &[1, 1, 1])]);
    assert_eq!(cluster.committed(1), 1);
    cluster.run(2 * ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.committed(1), 4);
    assert_eq!(cluster.commands(1).len(), 2);
}

/// 3.8: a store that contradicts itself is refused with the reason: such a node has lost what it had promised to keep.
#[test]
fn a_store_that_has_lost_its_term_is_refused() {
    let mut cluster = Cluster::with_logs(3, &[(1, &[1, 5, 5]), (2, &[1]), (3, &[1])]);
    cluster.crash(1);
    cluster.node_mut(1).disk.hard_state = openconsensus::HardState::default();
    let config = Config::default().validate().expect("the default is valid");
    let now = cluster.now;
    let error = cluster.node_mut(1).start(&config, now).expect_err("the hard state is gone");
    assert!(error.contains("hard state"), "{error}");
}
