//! Log replication: Raft paper 5.3, 5.5 and figure 7; thesis 3.5.

use openconsensus::engine::Input;
use openconsensus::{AppendResult, Body, Config, Entries, LogId, Message, ProgressName, RoleName, Term};
use openconsensus_tests::engines::{self, Cluster, ELECTION_TIMEOUT_MS, Letter, Outcome, command_at, log_of};

fn matched(letter: &Letter) -> Option<u64> {
    match letter.body() {
        Some(Body::AppendResponse { result: AppendResult::Matched { matched } }) => Some(*matched),
        _ => None,
    }
}

/// An append as the leader of `term` might send it: the entries behind `prev` of a log with these terms.
fn append(term: Term, prev: u64, terms: &[Term], commit: u64) -> Message<engines::Test> {
    let log: Entries<engines::Test> = log_of(3, terms).into();
    let entries = log.slice(prev + 1..u64::MAX);
    let prev = log.at(prev).map_or(LogId::ZERO, |entry| entry.log_id);
    Message { term, body: Body::Append { prev, entries, commit } }
}

/// What node `id` answers to a message of the leader.
fn answer(cluster: &mut Cluster, id: u64, leader: u64, message: Message<engines::Test>) -> AppendResult {
    cluster.receive(id, leader, message);
    let answers = cluster.intercept(|letter| letter.from == id);
    match answers.last().and_then(Letter::body) {
        Some(Body::AppendResponse { result }) => *result,
        other => panic!("no answer to an append, but {other:?}"),
    }
}

/// 5.3: the leader appends a command to its log and sends it to all others at the same time.
#[test]
fn section_5_3_a_command_is_sent_to_all_servers_in_parallel() {
    let mut cluster = Cluster::of(5);
    cluster.elect(1);
    cluster.write(1, 7);
    let sent: Vec<u64> = cluster.intercept(Letter::is_append).iter().map(|letter| letter.to).collect();
    assert_eq!(sent, [2, 3, 4, 5]);
}

/// 5.3: an entry is committed as soon as a majority of the servers have it, and only then is it applied and answered.
#[test]
fn section_5_3_an_entry_is_committed_once_a_majority_has_it() {
    for voters in 1..=7_u64 {
        for reached in 0..voters {
            let mut cluster = Cluster::of(voters);
            cluster.elect(1);
            let before = cluster.committed(1);
            let request = cluster.write(1, 7);
            cluster.settle_but(|letter| letter.to > 1 + reached);
            let is_committed = 2 * (reached + 1) > voters;
            assert_eq!(cluster.committed(1) > before, is_committed, "{} of {voters}", reached + 1);
            assert_eq!(cluster.commands(1), if is_committed { vec![7] } else { vec![] });
            assert_eq!(cluster.outcome(request) == Outcome::Applied, is_committed);
        }
    }
}

/// 5.3: a follower that learns that an entry is committed applies it, in the order of the log.
#[test]
fn section_5_3_followers_apply_committed_entries_in_log_order() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    for command in 10..20 {
        cluster.write(1, command);
    }
    cluster.settle();
    for id in 1..=3 {
        assert_eq!(cluster.commands(id), (10..20).collect::<Vec<_>>());
    }
}

/// 5.3: the leader includes the highest index that it knows to be committed in later appends; when there are none it
/// tells all the same, so that a follower does not wait for the next write.
#[test]
fn section_5_3_followers_learn_the_commit_index_without_another_write() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.write(1, 7);
    cluster.settle();
    for id in 1..=3 {
        assert_eq!(cluster.committed(id), cluster.metrics(1).last.index);
    }
}

/// 5.3: when that message is lost, the next heartbeat brings the commit index: the second one, as appends stand for the first.
#[test]
fn a_heartbeat_brings_the_commit_index_that_was_lost() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.write(1, 7);
    cluster.settle_but(|letter| matches!(letter.body(), Some(Body::Commit { .. })));
    let last = cluster.metrics(1).last.index;
    assert_eq!(cluster.committed(1), last);
    assert!(cluster.committed(2) < last);
    cluster.run(2 * Config::default().heartbeat_interval_ms);
    assert_eq!([2, 3].map(|id| cluster.committed(id)), [last; 2]);
}

/// 5.3: a slow or crashed follower does not delay the others; the leader keeps trying until it has everything.
#[test]
fn section_5_3_a_crashed_follower_delays_nobody_and_is_brought_up_to_date_later() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.crash(3);
    for command in 0..50 {
        let request = cluster.write(1, command);
        cluster.settle();
        assert_eq!(cluster.outcome(request), Outcome::Applied);
    }
    cluster.run(10 * ELECTION_TIMEOUT_MS);
    cluster.restart(3);
    cluster.run(ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.commands(3), (0..50).collect::<Vec<_>>());
}

/// 5.3, 5.5: lost appends are sent again for as long as it takes.
#[test]
fn section_5_5_appends_are_repeated_until_they_arrive() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.write(1, 7);
    cluster.run_but(5 * ELECTION_TIMEOUT_MS, |letter| letter.is_append());
    assert!(cluster.commands(2).is_empty());
    cluster.run(ELECTION_TIMEOUT_MS);
    assert_eq!([1, 2, 3].map(|id| cluster.commands(id)), [[7]; 3]);
}

/// 5.5: a server that crashed after it had done what it was asked, and before it answered, gets the same request again,
/// and doing it twice does no harm.
#[test]
fn section_5_5_an_append_that_was_done_and_not_answered_is_repeated_harmlessly() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.write(1, 7);
    cluster.settle_but(Letter::is_append_response);
    let log = cluster.terms(2);
    cluster.crash(2);
    cluster.restart(2);
    assert_eq!(cluster.terms(2), log);
    cluster.run(2 * ELECTION_TIMEOUT_MS);
    assert_eq!([1, 2, 3].map(|id| cluster.commands(id)), [[7]; 3]);
    assert_eq!(cluster.terms(2), log);
}

/// 5.5: messages that come twice change nothing the second time.
#[test]
fn section_5_5_everything_delivered_twice_has_the_effect_of_once() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    for command in 0..20 {
        cluster.write(1, command);
        for _ in 0..3 {
            let letters = cluster.intercept(|_| true);
            for letter in letters {
                cluster.deliver(letter.clone());
                cluster.deliver(letter);
            }
        }
    }
    cluster.settle();
    assert_eq!([1, 2, 3].map(|id| cluster.commands(id)), [1, 2, 3].map(|_| (0..20).collect::<Vec<_>>()));
}

/// 5.3: the consistency check. A follower that has no entry with the index and term that the new ones follow refuses.
#[test]
fn section_5_3_a_follower_refuses_entries_that_do_not_follow_its_log() {
    let mut cluster = Cluster::with_logs(3, &[(1, &[1, 1, 1]), (2, &[1]), (3, &[1, 1, 1, 1])]);
    // A gap.
    let gap = answer(&mut cluster, 2, 1, append(3, 3, &[1, 1, 1, 3], 1));
    assert_eq!(gap, AppendResult::Conflict { rejected: 3, hint: LogId::new(1, 1) });
    // Another term.
    let other = answer(&mut cluster, 3, 1, append(3, 3, &[1, 2, 2, 3], 1));
    assert!(matches!(other, AppendResult::Conflict { rejected: 3, .. }));
    assert_eq!((cluster.terms(2), cluster.terms(3)), (vec![1], vec![1, 1, 1, 1]), "nothing was touched");
}

/// 5.3: entries that conflict with the leader's are removed with all that follow, and no others.
#[test]
fn section_5_3_conflicting_entries_are_replaced_and_others_are_kept() {
    let mut cluster = Cluster::with_logs(3, &[(1, &[1]), (2, &[1, 1, 2, 2, 2]), (3, &[1])]);
    let result = answer(&mut cluster, 2, 1, append(4, 1, &[1, 1, 2, 3], 1));
    assert_eq!(result, AppendResult::Matched { matched: 4 });
    assert_eq!(cluster.terms(2), [1, 1, 2, 3]);
    assert_eq!(cluster.metrics(2).counters.truncations, 1);
}

/// 5.3: an append that arrives late, after others that go further, does not shorten the log. What follows in the log was
/// acknowledged; cutting it would lose what is committed.
#[test]
fn an_append_that_arrives_late_does_not_shorten_the_log() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.write(1, 1);
    let early = cluster.intercept(|letter| letter.to == 2 && letter.is_append());
    cluster.settle();
    for command in 2..6 {
        cluster.write(1, command);
        cluster.settle();
    }
    cluster.run(ELECTION_TIMEOUT_MS);
    let log = cluster.terms(2);
    assert_eq!(log.len(), 7);
    early.into_iter().for_each(|letter| cluster.deliver(letter));
    let term = cluster.term(1);
    let empty = append(term, 1, &[1], 1);
    assert_eq!(
        answer(&mut cluster, 2, 1, empty),
        AppendResult::Matched { matched: 7 },
        "all of it is committed"
    );
    assert_eq!(cluster.terms(2), log);
    assert_eq!(cluster.metrics(2).counters.truncations, 0);
}

/// 5.3: an answer says how far *this* append has proved the log to be equal. Entries behind it may be leftovers of
/// another leader: acknowledging them would commit what nobody has.
#[test]
fn an_acknowledgement_covers_what_the_append_proved_and_no_more() {
    let mut cluster = Cluster::with_logs(3, &[(1, &[1, 1, 1, 1]), (2, &[1, 1, 1, 1, 1, 1]), (3, &[1])]);
    assert_eq!(answer(&mut cluster, 2, 1, append(2, 3, &[1, 1, 1], 3)), AppendResult::Matched { matched: 3 });
    let partly = append(2, 3, &[1, 1, 1, 1], 3);
    assert_eq!(answer(&mut cluster, 2, 1, partly), AppendResult::Matched { matched: 4 });
    assert_eq!(cluster.terms(2).len(), 6, "leftovers that do not conflict stay");
}

/// 5.3: a follower commits what the leader has committed *and* this leader has proved to be equal here. Its own last
/// entry proves nothing.
#[test]
fn a_commit_index_from_the_leader_does_not_commit_leftovers() {
    let mut cluster = Cluster::with_logs(3, &[(1, &[1, 1, 3]), (2, &[1, 1, 2]), (3, &[1, 1, 3])]);
    answer(&mut cluster, 2, 1, append(4, 2, &[1, 1], 3));
    assert_eq!(cluster.committed(2), 2);
    let heartbeat = Body::Heartbeat { round: 1, commit: LogId::new(3, 3) };
    cluster.receive(2, 1, Message { term: 4, body: heartbeat });
    assert_eq!(cluster.committed(2), 2, "entry 3 has another term here");
    cluster.lose_all();
    answer(&mut cluster, 2, 1, append(4, 2, &[1, 1, 3], 3));
    assert_eq!(
        (cluster.committed(2), cluster.commands(2)),
        (3, [2, 3].map(|i| command_at(LogId::new(2 * i - 3, i))).to_vec())
    );
}

/// 5.3: a commit index beyond the end of the log is no reason to panic; it is taken over as far as the log reaches.
#[test]
fn a_commit_index_beyond_the_log_is_taken_as_far_as_the_log_goes() {
    let mut cluster = Cluster::of(3);
    let result = answer(&mut cluster, 2, 1, append(2, 1, &[1], 90));
    assert_eq!(result, AppendResult::Matched { matched: 1 });
    for body in
        [Body::Heartbeat { round: 1, commit: LogId::new(2, 90) }, Body::Commit { commit: LogId::new(2, 91) }]
    {
        cluster.receive(2, 1, Message { term: 2, body });
    }
    assert_eq!(cluster.committed(2), 1);
}

/// 5.3: what a follower knows to be committed does not fall when a new leader knows less.
#[test]
fn the_commit_index_does_not_fall_under_a_leader_that_knows_less() {
    let mut cluster = Cluster::with_logs(3, &[(1, &[1, 2]), (2, &[1]), (3, &[1, 2])]);
    answer(&mut cluster, 2, 1, append(2, 1, &[1, 2], 2));
    assert_eq!(cluster.committed(2), 2);
    answer(&mut cluster, 2, 3, append(3, 2, &[1, 2, 3], 1));
    assert_eq!(cluster.committed(2), 2);
}

/// Figure 3, Leader Append-Only: a leader never overwrites or removes entries of its own log, whatever is answered.
#[test]
fn figure_3_a_leader_never_changes_its_own_entries() {
    let mut cluster = Cluster::with_logs(3, &[(1, &[1, 2, 2]), (2, &[1, 1, 1, 1, 1]), (3, &[1, 2])]);
    cluster.elect(1);
    assert_eq!(cluster.terms(1)[..3], [1, 2, 2]);
    assert_eq!(cluster.terms(2), cluster.terms(1));
    assert_eq!(cluster.metrics(1).counters.truncations, 0);
}

// ---- figure 7 ----

const FIGURE_7_LEADER: &[Term] = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6];

/// Figure 7: the leader of term 8 brings a follower with this log to its own.
fn figure_7(follower: &[Term]) {
    let logs: Vec<(u64, &[Term])> = vec![(1, FIGURE_7_LEADER), (2, follower), (3, FIGURE_7_LEADER)];
    let mut cluster = Cluster::with_logs(3, &logs);
    for id in 1..=3 {
        cluster.crash(id);
        cluster.node_mut(id).disk.hard_state.term = 7;
    }
    for id in 1..=3 {
        cluster.restart(id);
    }
    cluster.elect(1);
    let expected = [FIGURE_7_LEADER, &[8]].concat();
    assert_eq!(cluster.term(1), 8);
    for id in 1..=3 {
        assert_eq!(cluster.terms(id), expected, "node {id}");
        assert_eq!(cluster.committed(id), 11);
    }
}

/// Figure 7 (a): the follower lacks an entry.
#[test]
fn figure_7_a_a_follower_that_lacks_an_entry() {
    figure_7(&[1, 1, 1, 4, 4, 5, 5, 6, 6]);
}

/// Figure 7 (b): the follower lacks many.
#[test]
fn figure_7_b_a_follower_that_lacks_many_entries() {
    figure_7(&[1, 1, 1, 4]);
}

/// Figure 7 (c): the follower has an uncommitted entry too many.
#[test]
fn figure_7_c_a_follower_with_an_extra_entry_of_the_last_term() {
    figure_7(&[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6]);
}

/// Figure 7 (d): the follower has entries of a term that the leader has none of.
#[test]
fn figure_7_d_a_follower_with_extra_entries_of_a_later_term() {
    figure_7(&[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7]);
}

/// Figure 7 (e): the follower lacks entries and has others in their place.
#[test]
fn figure_7_e_a_follower_with_other_entries_of_an_old_term() {
    figure_7(&[1, 1, 1, 4, 4, 4, 4]);
}

/// Figure 7 (f): the follower has a long tail of old terms that never were committed.
#[test]
fn figure_7_f_a_follower_with_a_long_divergent_tail() {
    figure_7(&[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3]);
}

/// 5.3: with a hint in the refusal, conflicts cost a round trip for each term and not for each entry. Both logs here
/// have a hundred entries for each of five terms that the other has none of.
#[test]
fn section_5_3_a_conflict_costs_a_round_trip_for_each_term() {
    let mut ours: Vec<Term> = vec![1];
    let mut theirs: Vec<Term> = vec![1];
    for round in 0..5 {
        ours.extend([2 + 2 * round; 100]);
        theirs.extend([3 + 2 * round; 100]);
    }
    let last = ours.len() as u64;
    theirs.truncate(401);
    let mut cluster = Cluster::with_logs(3, &[(1, &ours), (2, &theirs), (3, &ours)]);
    cluster.cut(1, 2);
    cluster.elect(1);
    cluster.heal();
    let conflicts = std::cell::Cell::new(0);
    cluster.run_but(2 * ELECTION_TIMEOUT_MS, |letter| {
        let is_conflict =
            matches!(letter.body(), Some(Body::AppendResponse { result: AppendResult::Conflict { .. } }));
        conflicts.set(conflicts.get() + u32::from(is_conflict));
        false
    });
    assert_eq!(cluster.metrics(2).last.index, last + 1);
    assert!(conflicts.get() <= 12, "{} conflicts for ten terms", conflicts.get());
}

/// 5.3: both sides skip. Here the leader has a hundred terms of one entry each where the follower has a hundred entries of
/// one earlier term: the leader sees from the first refusal that none of them can match.
#[test]
fn section_5_3_a_leader_skips_its_own_terms_that_are_later_than_the_hint() {
    let ours: Vec<Term> = std::iter::once(1).chain(3..103).collect();
    let theirs: Vec<Term> = std::iter::once(1).chain([2; 100]).collect();
    let mut cluster = Cluster::with_logs(3, &[(1, &ours), (2, &theirs), (3, &ours)]);
    cluster.cut(1, 2);
    cluster.elect(1);
    cluster.heal();
    let asked = std::cell::Cell::new(0);
    cluster.run_but(2 * ELECTION_TIMEOUT_MS, |letter| {
        asked.set(asked.get() + u32::from(letter.to == 2 && letter.is_append()));
        false
    });
    assert_eq!(cluster.terms(2), cluster.terms(1));
    assert!(asked.get() <= 10, "{} appends", asked.get());
}

/// 5.3: each refusal makes the next probe earlier, so the search ends even where nothing but the first entry matches.
#[test]
fn a_search_for_the_match_always_ends() {
    let ours: Vec<Term> = std::iter::once(1).chain((0..60).map(|i| 2 + i / 3 * 2)).collect();
    let theirs: Vec<Term> = std::iter::once(1).chain((0..60).map(|i| 3 + i / 7 * 2)).collect();
    for (leader, follower) in [(&ours, &theirs), (&theirs, &ours)] {
        let term = ours.last().max(theirs.last()).copied().expect("not empty") + 1;
        let leader: Vec<Term> = [leader.as_slice(), &[term]].concat();
        let mut cluster = Cluster::with_logs(3, &[(1, &leader), (2, follower), (3, &leader)]);
        cluster.elect(1);
        assert_eq!(cluster.terms(2), cluster.terms(1));
    }
}

// ---- what the leader knows of its peers ----

/// 5.3, figure 2: a leader knows nothing of its peers' logs when it is elected, whatever it knew in an earlier term.
#[test]
fn figure_2_match_index_starts_at_zero_and_next_index_behind_the_log() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.write(1, 1);
    cluster.settle();
    let last = cluster.metrics(2).last.index;
    cluster.skip(ELECTION_TIMEOUT_MS);
    cluster.step(2, Input::Campaign);
    cluster.settle_but(|letter| letter.is_append());
    assert!(cluster.is_leader(2));
    for peer in cluster.metrics(2).peers.values() {
        assert_eq!((peer.matched, peer.next, peer.progress), (0, last + 1, ProgressName::Probe));
    }
    assert_eq!(cluster.committed(2), last, "nothing new is committed on the strength of guesses");
    cluster.run(ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.committed(2), last + 1);
}

/// 5.3: what a peer is known to have never becomes less, in whatever order its answers arrive.
#[test]
fn answers_that_arrive_late_or_in_another_order_move_nothing_back() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    for command in 0..5 {
        cluster.write(1, command);
    }
    let appends = cluster.intercept(Letter::is_append);
    appends.into_iter().for_each(|letter| cluster.deliver(letter));
    let mut answers = cluster.intercept(|letter| matched(letter).is_some());
    assert!(answers.len() >= 4);
    answers.reverse();
    let last = cluster.metrics(1).last.index;
    for answer in answers {
        cluster.deliver(answer);
        assert_eq!(cluster.committed(1), last, "the first to arrive was the latest");
    }
    let term = cluster.term(1);
    let refuse = |cluster: &mut Cluster, rejected| {
        let result = AppendResult::Conflict { rejected, hint: LogId::ZERO };
        cluster.receive(1, 2, Message { term, body: Body::AppendResponse { result } });
        let peer = &cluster.metrics(1).peers[&2];
        (peer.matched, peer.next, peer.progress)
    };
    for rejected in [0, 1, 3, last] {
        let expected = (last, last + 1, ProgressName::Replicate);
        assert_eq!(refuse(&mut cluster, rejected), expected, "a late refusal of {rejected}");
    }
    // One that is not late, but older than what has been acknowledged since: nothing below that is searched.
    cluster.write(1, 5);
    cluster.lose_all();
    let (matched, next, _) = refuse(&mut cluster, last + 1);
    assert_eq!(matched, last);
    assert!(last < next);
    cluster.run(ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.commands(2), (0..6).collect::<Vec<_>>());
}

/// 5.3: a heartbeat asserts nothing about the log, so one that overtakes an append makes nobody believe that a follower
/// has lost entries.
#[test]
fn a_heartbeat_that_overtakes_an_append_is_no_conflict() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.write(1, 7);
    let appends = cluster.intercept(Letter::is_append);
    cluster.run(2 * Config::default().heartbeat_interval_ms);
    appends.into_iter().for_each(|letter| cluster.deliver(letter));
    cluster.settle();
    assert_eq!([1, 2, 3].map(|id| cluster.commands(id)), [[7]; 3]);
    assert_eq!(cluster.metrics(1).peers[&2].progress, ProgressName::Replicate);
}

/// 5.3: an acknowledgement of what was never sent cannot be true, and is not believed.
#[test]
fn an_acknowledgement_of_what_was_never_sent_is_ignored() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let term = cluster.term(1);
    let result = AppendResult::Matched { matched: 1_000 };
    cluster.receive(1, 2, Message { term, body: Body::AppendResponse { result } });
    assert!(cluster.metrics(1).peers[&2].matched <= cluster.metrics(1).last.index);
    cluster.settle();
}

/// What no leader can have sent changes nothing and panics nobody: entries that do not follow what they claim to follow,
/// or are from a later term than their sender.
#[test]
fn an_append_that_contradicts_itself_is_dropped() {
    let mut cluster = Cluster::of(3);
    let log: Entries<engines::Test> = log_of(3, &[1, 1, 1, 4, 4]).into();
    let claims = [
        (LogId::new(1, 1), log.slice(3..4)),
        (LogId::new(1, 1), log.slice(2..6)),
        (LogId::new(5, 1), log.slice(2..4)),
    ];
    for (prev, entries) in claims {
        cluster.receive(2, 1, Message { term: 3, body: Body::Append { prev, entries, commit: 5 } });
    }
    assert_eq!(cluster.letters().count(), 0);
    assert_eq!((cluster.terms(2), cluster.committed(2)), (vec![1], 1));
}

/// A window full of appends that were all lost does not stay full for ever.
#[test]
fn a_window_of_lost_appends_opens_again() {
    let config = Config { inflight_appends_max: 2, ..Config::default() };
    let mut cluster = Cluster::with_config(3, config);
    cluster.elect(1);
    cluster.crash(3);
    for command in 0..10 {
        cluster.write(1, command);
        cluster.settle_but(|letter| letter.is_append());
    }
    assert_eq!(cluster.metrics(1).peers[&2].inflight_appends, 2);
    cluster.run(ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.commands(2), (0..10).collect::<Vec<_>>());
}

/// A peer that could not be reached and lacks nothing is replicated to again with the next write.
#[test]
fn a_peer_that_was_unreachable_is_replicated_to_again() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.step(1, Input::Unreachable { peer: 2 });
    assert_eq!(cluster.metrics(1).peers[&2].progress, ProgressName::Probe);
    cluster.run(2 * Config::default().heartbeat_interval_ms);
    assert_eq!(cluster.metrics(1).peers[&2].progress, ProgressName::Replicate);
    cluster.write(1, 7);
    cluster.settle();
    assert_eq!(cluster.commands(2), [7]);
}

/// Appends are limited in bytes; an entry that is larger than the limit travels alone.
#[test]
fn an_append_carries_no_more_bytes_than_the_limit() {
    let config = Config { append_bytes_max: 1024, ..Config::default() };
    let mut cluster = Cluster::with_config(3, config);
    cluster.elect(1);
    cluster.write_many(1, &(0..100).collect::<Vec<_>>());
    while let Some(letter) = cluster.intercept(Letter::is_append).into_iter().next() {
        let Some(Body::Append { entries, .. }) = letter.body() else { panic!("not an append") };
        assert!(entries.size_bytes() <= 1024, "{} bytes in one append", entries.size_bytes());
        cluster.deliver(letter);
        let answers = cluster.intercept(Letter::is_append_response);
        answers.into_iter().for_each(|answer| cluster.deliver(answer));
    }
    cluster.run(ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.commands(3), (0..100).collect::<Vec<_>>());
}

/// A peer that needs entries that are not in memory any more gets them from the disk, and the leader's memory stays
/// within its limit.
#[test]
fn a_peer_far_behind_is_served_from_the_disk() {
    let config = Config { tail_bytes_max: 1024, append_bytes_max: 2048, ..Config::default() };
    let mut cluster = Cluster::with_config(3, config);
    cluster.elect(1);
    cluster.isolate(&[3]);
    for command in 0..200 {
        cluster.write(1, command);
        cluster.settle();
    }
    assert!(cluster.metrics(1).tail_bytes <= 1024 + 56, "{} bytes in memory", cluster.metrics(1).tail_bytes);
    cluster.heal();
    cluster.run(2 * ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.commands(3), (0..200).collect::<Vec<_>>());
    assert!(cluster.metrics(1).counters.catch_up_reads > 0);
}

/// 5.3: a leader without any client still brings a follower back that has nothing at all.
#[test]
fn an_idle_leader_brings_an_empty_learner_up_to_date() {
    let mut cluster = Cluster::of(3);
    cluster.add_fresh(4);
    cluster.elect(1);
    cluster.write(1, 7);
    cluster.settle();
    cluster.change(1, openconsensus::MembershipChange::AddLearners(engines::nodes([4])));
    cluster.settle();
    assert_eq!(cluster.commands(4), [7]);
    assert_eq!(cluster.role(4), RoleName::Follower);
}
