//! Leader election: Raft paper 5.1, 5.2 and 5.4.1; thesis 4.2.3, 6.2 and 9.6.

use std::collections::BTreeSet;
use std::time::Duration;

use openconsensus::engine::{Input, Reply};
use openconsensus::{
    AppendResult, Body, Config, Entries, ForgetLeaderError, LogId, MembershipChange, Message, RoleName,
    VoteKind,
};
use openconsensus_tests::engines::{self, Cluster, ELECTION_TIMEOUT_MS, Letter, nodes};

fn vote_request(cluster: &Cluster, from: u64, term: u64, kind: VoteKind) -> Message<engines::Test> {
    let last = cluster.metrics(from).last;
    Message { term, body: Body::VoteRequest { kind, campaign: 77, last } }
}

fn granted(letter: &Letter) -> Option<bool> {
    match letter.body() {
        Some(Body::VoteResponse { granted, .. }) => Some(*granted),
        _ => None,
    }
}

/// 5.1: terms are exchanged whenever servers talk, and the one with the smaller term takes over the larger.
#[test]
fn section_5_1_a_server_takes_over_a_larger_term() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let term = cluster.term(1);
    let heartbeat = Body::Heartbeat { round: 1, commit: LogId::ZERO };
    cluster.receive(2, 3, Message { term: term + 5, body: heartbeat });
    assert_eq!(cluster.term(2), term + 5);
    cluster.lose_all();
}

/// 5.1: a candidate or leader that finds its term to be out of date becomes a follower at once.
#[test]
fn section_5_1_a_leader_or_candidate_with_a_stale_term_becomes_a_follower() {
    for role in [RoleName::Leader, RoleName::Candidate] {
        let mut cluster = Cluster::of(3);
        match role {
            RoleName::Leader => cluster.elect(1),
            _ => cluster.step(1, Input::Campaign),
        }
        assert_eq!(cluster.role(1), role);
        let term = cluster.term(1) + 1;
        let body = Body::AppendResponse { result: AppendResult::StaleTerm };
        cluster.receive(1, 2, Message { term, body });
        assert_eq!((cluster.role(1), cluster.term(1)), (RoleName::Follower, term));
    }
}

/// 5.1: a request with a term that is over is refused, and the refusal carries the term that is current.
#[test]
fn section_5_1_a_request_of_a_stale_term_is_refused_with_the_current_term() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.elect(2);
    let old = cluster.term(2) - 1;
    let prev = cluster.metrics(3).last;
    let log = cluster.terms(3);
    cluster.receive(
        3,
        1,
        Message { term: old, body: Body::Append { prev, entries: Entries::empty(), commit: 0 } },
    );
    cluster.receive(3, 1, vote_request(&cluster, 1, old, VoteKind::Normal));
    let answers = cluster.intercept(|letter| letter.from == 3);
    assert_eq!(answers.len(), 2);
    for answer in answers {
        match answer.body() {
            Some(Body::AppendResponse { result: AppendResult::StaleTerm }) => {}
            Some(Body::VoteResponse { granted: false, .. }) => {}
            other => panic!("not a refusal: {other:?}"),
        }
        assert_eq!(answer.term(), Some(old + 1));
    }
    assert_eq!(cluster.terms(3), log, "a refused append changes nothing");
}

/// 5.2: servers start as followers, also one that led before it was restarted.
#[test]
fn section_5_2_a_server_starts_as_a_follower() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let term = cluster.term(1);
    cluster.crash(1);
    cluster.restart(1);
    assert_eq!((cluster.role(1), cluster.term(1)), (RoleName::Follower, term));
    assert_eq!(cluster.metrics(1).leader, None);
}

/// 5.2: a server stays a follower as long as it hears from a leader.
#[test]
fn section_5_2_a_follower_that_hears_heartbeats_stays_a_follower() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let term = cluster.term(1);
    cluster.run(20 * ELECTION_TIMEOUT_MS);
    assert!(cluster.is_leader(1));
    for id in 1..=3 {
        assert_eq!((cluster.term(id), cluster.metrics(id).leader), (term, Some(1)));
    }
}

/// 5.2: a leader sends heartbeats when nothing else is to be sent, at least as often as it is configured to.
#[test]
fn section_5_2_an_idle_leader_sends_periodic_heartbeats() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let interval = Duration::from_millis(Config::default().heartbeat_interval_ms);
    for _ in 0..20 {
        let begun = cluster.now;
        cluster.time_out(1);
        assert!(cluster.now - begun <= interval);
        let heartbeats = cluster.intercept(Letter::is_heartbeat);
        assert_eq!(heartbeats.iter().map(|letter| letter.to).collect::<Vec<_>>(), [2, 3]);
        heartbeats.into_iter().for_each(|letter| cluster.deliver(letter));
        cluster.settle();
    }
}

/// 5.2: a follower that hears nothing over its election timeout begins an election: it raises its term, votes for
/// itself and asks all others at the same time.
#[test]
fn section_5_2_silence_over_the_election_timeout_begins_an_election() {
    let mut cluster = Cluster::with_config(5, Config { pre_vote: false, ..Config::default() });
    let term = cluster.term(1);
    cluster.time_out(1);
    let metrics = cluster.metrics(1);
    assert_eq!((metrics.role, metrics.term, metrics.voted_for), (RoleName::Candidate, term + 1, Some(1)));
    let asked: BTreeSet<u64> =
        cluster.intercept(Letter::is_vote_request).iter().map(|letter| letter.to).collect();
    assert_eq!(asked, BTreeSet::from([2, 3, 4, 5]));
}

/// 5.2: a candidate wins with the votes of a majority of the whole cluster, its own among them, and not with fewer.
#[test]
fn section_5_2_a_majority_of_votes_wins_an_election() {
    for voters in 1..=7_u64 {
        for granting in 0..voters {
            let mut cluster = Cluster::of(voters);
            cluster.step(1, Input::Campaign);
            let unreachable: Vec<u64> = (2 + granting..=voters).collect();
            cluster.settle_but(|letter| unreachable.contains(&letter.to));
            let is_majority = 2 * (granting + 1) > voters;
            assert_eq!(cluster.is_leader(1), is_majority, "{} of {voters} votes", granting + 1);
        }
    }
}

/// 5.2: each server votes for at most one candidate in a term, the first that asks; it may say so to that one again.
#[test]
fn section_5_2_a_server_votes_once_in_a_term_first_come_first_served() {
    let mut cluster = Cluster::of(3);
    let term = cluster.term(3) + 1;
    let ask = |cluster: &mut Cluster, from| {
        let request = vote_request(cluster, from, term, VoteKind::Normal);
        cluster.receive(3, from, request);
        let answers = cluster.intercept(Letter::is_vote_response);
        answers.iter().map(|letter| (letter.to, granted(letter))).collect::<Vec<_>>()
    };
    assert_eq!(ask(&mut cluster, 1), [(1, Some(true))]);
    assert_eq!(ask(&mut cluster, 2), [(2, Some(false))]);
    assert_eq!(ask(&mut cluster, 1), [(1, Some(true))]);
    assert_eq!(cluster.metrics(3).voted_for, Some(1));
}

/// 5.2: two requests that arrive before the effects of either are looked at get one vote between them.
#[test]
fn two_requests_in_one_batch_get_one_vote_between_them() {
    let mut cluster = Cluster::of(3);
    let term = cluster.term(3) + 1;
    let receive = |cluster: &Cluster, from| Input::Receive {
        from,
        message: vote_request(cluster, from, term, VoteKind::Normal),
    };
    let inputs = [receive(&cluster, 1), receive(&cluster, 2)];
    cluster.step_all(3, inputs);
    let granted: Vec<bool> = cluster.letters().filter_map(granted).collect();
    assert_eq!(granted.iter().filter(|granted| **granted).count(), 1);
}

/// 5.2: who wins tells all others at once, so that no further election begins.
#[test]
fn section_5_2_a_new_leader_announces_itself_at_once() {
    let mut cluster = Cluster::of(3);
    cluster.step(1, Input::Campaign);
    let requests = cluster.intercept(Letter::is_vote_request);
    cluster.deliver(requests.into_iter().find(|letter| letter.to == 2).expect("a request for node 2"));
    let grants = cluster.intercept(Letter::is_vote_response);
    cluster.deliver(grants.into_iter().next().expect("an answer"));
    assert!(cluster.is_leader(1));
    let told: BTreeSet<u64> =
        cluster.letters().filter(|letter| letter.is_heartbeat()).map(|letter| letter.to).collect();
    assert_eq!(told, BTreeSet::from([2, 3]));
    cluster.settle();
    assert_eq!(cluster.metrics(3).leader, Some(1));
}

/// 5.2: a candidate that hears from a leader of at least its own term follows it.
#[test]
fn section_5_2_a_candidate_follows_a_leader_of_its_term() {
    let mut cluster = Cluster::of(5);
    cluster.cut(1, 2);
    cluster.step(1, Input::Campaign);
    cluster.step(2, Input::Campaign);
    assert_eq!(cluster.term(1), cluster.term(2));
    let (early, late) = (cluster.intercept(|l| l.from == 1), cluster.intercept(|l| l.from == 2));
    early.into_iter().chain(late).for_each(|letter| cluster.deliver(letter));
    cluster.settle();
    assert!(cluster.is_leader(1));
    assert_eq!(cluster.role(2), RoleName::Follower, "refused by a majority");
    cluster.step(2, Input::Campaign);
    cluster.lose_all();
    assert_eq!(cluster.role(2), RoleName::Candidate);
    let (term, prev) = (cluster.term(2), cluster.metrics(2).last);
    let body = Body::Append { prev, entries: Entries::empty(), commit: 0 };
    cluster.receive(2, 3, Message { term, body });
    assert_eq!((cluster.role(2), cluster.metrics(2).leader), (RoleName::Follower, Some(3)));
}

/// 5.2: a candidate refuses a leader of a smaller term and goes on as a candidate.
#[test]
fn section_5_2_a_candidate_refuses_a_leader_of_a_smaller_term() {
    let mut cluster = Cluster::of(3);
    cluster.step(1, Input::Campaign);
    cluster.lose_all();
    let (term, prev) = (cluster.term(1) - 1, cluster.metrics(1).last);
    let body = Body::Append { prev, entries: Entries::empty(), commit: 0 };
    cluster.receive(1, 2, Message { term, body });
    assert_eq!(cluster.role(1), RoleName::Candidate);
    let answers = cluster.intercept(Letter::is_append_response);
    assert_eq!(answers.iter().map(Letter::term).collect::<Vec<_>>(), [Some(term + 1)]);
}

/// 5.2: when votes are split, each candidate times out and begins another election in a higher term.
#[test]
fn section_5_2_a_split_vote_is_followed_by_an_election_in_a_higher_term() {
    let mut cluster = Cluster::with_config(4, Config { pre_vote: false, ..Config::default() });
    cluster.cut(1, 4);
    cluster.cut(1, 3);
    cluster.cut(2, 3);
    cluster.step(1, Input::Campaign);
    cluster.step(3, Input::Campaign);
    cluster.settle();
    assert_eq!([1, 3].map(|id| cluster.role(id)), [RoleName::Candidate; 2], "two votes each of four");
    let term = cluster.term(1);
    cluster.time_out(1);
    assert_eq!((cluster.role(1), cluster.term(1)), (RoleName::Candidate, term + 1));
    cluster.lose_all();
    cluster.heal();
    cluster.elect_any();
}

/// 5.2: election timeouts are drawn at random from an interval, afresh for each election, and differ between servers.
#[test]
fn section_5_2_election_timeouts_are_random_in_their_interval() {
    let config = Config::default();
    let mut cluster = Cluster::of(5);
    let mut timeouts = BTreeSet::new();
    for id in 1..=5 {
        let begun = cluster.now;
        for _ in 0..20 {
            let begun = cluster.now;
            cluster.time_out(id);
            cluster.lose_all();
            timeouts.insert(cluster.now - begun);
        }
        cluster.now = begun + Duration::from_secs(60);
        cluster.step(id, Input::Timeout);
        cluster.lose_all();
    }
    // The first of each node may have been running for a while when the clock had moved on for another.
    let longest = *timeouts.last().expect("timeouts were drawn");
    assert!(longest <= Duration::from_millis(config.election_timeout_ms_max));
    assert!(timeouts.len() > 80, "{} different timeouts in 100 draws", timeouts.len());
    let short =
        timeouts.iter().filter(|timeout| **timeout < Duration::from_millis(config.election_timeout_ms_min));
    assert!(short.count() <= 5, "no election timeout is shorter than the interval allows");
}

/// 5.2: split votes are resolved quickly, whatever the timeouts that were drawn.
#[test]
fn section_5_2_random_timeouts_resolve_split_votes() {
    for round in 0..50 {
        let mut cluster = Cluster::of(5);
        // Other seeds: each start draws others.
        for _ in 0..round {
            cluster.crash(round % 5 + 1);
            cluster.restart(round % 5 + 1);
        }
        let begun = cluster.now;
        cluster.elect_any();
        assert!(cluster.now - begun < Duration::from_millis(5 * ELECTION_TIMEOUT_MS), "round {round}");
    }
}

/// Thesis 3.10 and 5.2: a node that is told to campaign does so; a leader that is told to does nothing.
#[test]
fn a_leader_that_is_told_to_campaign_goes_on_leading() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let term = cluster.term(1);
    cluster.step(1, Input::Campaign);
    cluster.settle();
    assert_eq!((cluster.is_leader(1), cluster.term(1)), (true, term));
}

// ---- whose vote counts ----

/// 5.2: votes are a set. An answer that arrives three times is one vote, and one of an earlier campaign is none.
#[test]
fn a_vote_that_arrives_again_or_late_is_not_counted() {
    let mut cluster = Cluster::of(5);
    cluster.step(1, Input::Campaign);
    cluster.settle_but(|letter| letter.is_vote_request() && letter.to != 2 || letter.is_vote_response());
    assert_eq!(cluster.role(1), RoleName::Candidate);
    let (term, campaign) = (cluster.term(1), cluster.campaign_of(1));
    let answer =
        |term, campaign, kind| Message { term, body: Body::VoteResponse { kind, campaign, granted: true } };
    for _ in 0..3 {
        cluster.receive(1, 2, answer(term, campaign, VoteKind::Normal));
    }
    assert_eq!(cluster.role(1), RoleName::Candidate, "the same vote three times");
    cluster.receive(1, 3, answer(term, campaign, VoteKind::Pre));
    assert_eq!(cluster.role(1), RoleName::Candidate, "the answer to a pre-vote");
    cluster.time_out(1);
    let (term, late) = (cluster.term(1), campaign);
    cluster.receive(1, 3, answer(term, late, VoteKind::Pre));
    cluster.receive(1, 4, answer(term, late, VoteKind::Pre));
    assert_eq!(cluster.role(1), RoleName::PreCandidate, "answers to an earlier campaign");
}

/// Thesis 4.2.2: the votes that count are those of voters of the candidate's membership; a learner's is none.
#[test]
fn the_vote_of_a_learner_or_a_stranger_is_not_counted() {
    let mut cluster = Cluster::of(3);
    cluster.add_fresh(4);
    cluster.elect(1);
    cluster.change(1, MembershipChange::AddLearners(nodes([4])));
    cluster.settle();
    cluster.isolate(&[1]);
    cluster.skip(ELECTION_TIMEOUT_MS);
    cluster.step(2, Input::Campaign);
    cluster.settle_but(|letter| letter.to == 3);
    let (term, campaign) = (cluster.term(2), cluster.campaign_of(2));
    for id in [4, 9] {
        let body = Body::VoteResponse { kind: VoteKind::Normal, campaign, granted: true };
        cluster.receive(2, id, Message { term, body });
    }
    assert_eq!(cluster.role(2), RoleName::Candidate);
}

/// 5.2: whoever steps down within a term keeps its vote of that term; else a delayed request would get a second one.
#[test]
fn a_vote_is_not_forgotten_on_stepping_down_within_the_term() {
    let mut cluster = Cluster::of(5);
    for id in [1, 2, 3] {
        cluster.step(id, Input::Campaign);
    }
    let mut requests = cluster.intercept(Letter::is_vote_request);
    let of_3 = requests.extract_if(.., |letter| letter.from == 3).collect::<Vec<_>>();
    requests.into_iter().filter(|letter| letter.from == 1).for_each(|letter| cluster.deliver(letter));
    cluster.settle();
    assert!(cluster.is_leader(1));
    assert_eq!((cluster.role(2), cluster.metrics(2).voted_for), (RoleName::Follower, Some(2)));
    of_3.into_iter().for_each(|letter| cluster.deliver(letter));
    let answers = cluster.intercept(Letter::is_vote_response);
    assert_eq!(answers.iter().map(granted).collect::<Vec<_>>(), [Some(false); 4]);
    cluster.settle();
}

/// Thesis 9.6: entering a pre-vote does not touch the vote of the current term either.
#[test]
fn a_pre_candidate_keeps_the_vote_that_it_has_given() {
    let mut cluster = Cluster::of(3);
    let request = vote_request(&cluster, 1, cluster.term(2) + 1, VoteKind::Normal);
    cluster.receive(2, 1, request);
    cluster.lose_all();
    cluster.time_out(2);
    assert_eq!((cluster.role(2), cluster.metrics(2).voted_for), (RoleName::PreCandidate, Some(1)));
    let request = vote_request(&cluster, 3, cluster.term(2), VoteKind::Normal);
    cluster.receive(2, 3, request);
    let answers = cluster.intercept(Letter::is_vote_response);
    assert_eq!(answers.iter().map(granted).collect::<Vec<_>>(), [Some(false)]);
}

/// 5.2: only votes make a leader. A refusal, whatever term it carries, raises the term at most.
#[test]
fn a_refusal_never_makes_a_leader() {
    let mut cluster = Cluster::of(3);
    cluster.step(1, Input::Campaign);
    cluster.lose_all();
    let (term, campaign) = (cluster.term(1), cluster.campaign_of(1));
    for id in [2, 3] {
        let body = Body::VoteResponse { kind: VoteKind::Normal, campaign, granted: false };
        cluster.receive(1, id, Message { term: term + 3, body });
    }
    assert_eq!((cluster.role(1), cluster.term(1)), (RoleName::Follower, term + 3));
}

// ---- 4.2.3, 6.2: stickiness and check-quorum ----

/// Thesis 4.2.3: a server that hears from a leader neither votes for another nor takes over its term.
#[test]
fn thesis_4_2_3_a_server_that_hears_a_leader_does_not_help_to_depose_it() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let term = cluster.term(1);
    for voter in [1, 2] {
        let request = vote_request(&cluster, 3, term + 9, VoteKind::Normal);
        cluster.receive(voter, 3, request);
        let answers = cluster.intercept(Letter::is_vote_response);
        assert_eq!(answers.iter().map(granted).collect::<Vec<_>>(), [Some(false)], "voter {voter}");
        assert_eq!(cluster.term(voter), term);
    }
    assert!(cluster.is_leader(1));
}

/// Thesis 4.2.3: the shield lasts for the shortest election timeout after the leader was last heard, no longer.
#[test]
fn thesis_4_2_3_a_server_that_has_not_heard_the_leader_votes() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.crash(1);
    cluster.skip(Config::default().election_timeout_ms_min);
    let request = vote_request(&cluster, 3, cluster.term(3) + 1, VoteKind::Normal);
    cluster.receive(2, 3, request);
    let answers = cluster.intercept(Letter::is_vote_response);
    assert_eq!(answers.iter().map(granted).collect::<Vec<_>>(), [Some(true)]);
}

/// 4.2.3: the leader that is being protected is not refused itself, when it has lost leadership without our knowing.
#[test]
fn the_known_leader_itself_may_ask_for_votes() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.crash(3);
    cluster.crash(1);
    cluster.restart(1);
    let request = vote_request(&cluster, 1, cluster.term(1), VoteKind::Pre);
    cluster.receive(2, 1, request);
    let answers = cluster.intercept(Letter::is_vote_response);
    assert_eq!(answers.iter().map(granted).collect::<Vec<_>>(), [Some(true)]);
}

/// Thesis 6.2: a leader steps down when an election timeout passes without an answer from a majority.
#[test]
fn thesis_6_2_a_leader_without_a_quorum_steps_down() {
    let mut cluster = Cluster::of(5);
    cluster.elect(1);
    cluster.isolate(&[1, 2]);
    cluster.run(2 * ELECTION_TIMEOUT_MS);
    assert_ne!(cluster.role(1), RoleName::Leader);
    assert_eq!(cluster.term(1), cluster.term(2), "and neither of the two raises its term");
}

/// Thesis 6.2, with a link that works one way: the leader's heartbeats arrive, the answers do not. Without stepping down
/// there would be neither a commit nor an election for ever.
#[test]
fn a_leader_that_is_heard_but_hears_nobody_steps_down() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.cut_one_way(2, 1);
    cluster.cut_one_way(3, 1);
    cluster.run_until(10 * ELECTION_TIMEOUT_MS, "another leader", |cluster| {
        cluster.leader().is_some_and(|leader| leader != 1)
    });
    let leader = cluster.leader().expect("there is one");
    let request = cluster.write(leader, 5);
    cluster.settle();
    assert_eq!(cluster.outcome(request), engines::Outcome::Applied);
}

/// 4.2.3: a node that can be heard but hears nobody does not disturb the others.
#[test]
fn a_node_that_hears_nobody_does_not_depose_the_leader() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let term = cluster.term(1);
    cluster.cut_one_way(1, 3);
    cluster.cut_one_way(2, 3);
    cluster.run(20 * ELECTION_TIMEOUT_MS);
    assert_eq!((cluster.is_leader(1), cluster.term(1)), (true, term));
    cluster.recover();
    assert_eq!((cluster.is_leader(1), cluster.term(1)), (true, term));
}

// ---- 9.6: pre-vote ----

/// Thesis 9.6: a server raises its term only when a majority would vote for it.
#[test]
fn thesis_9_6_a_server_that_cannot_win_does_not_raise_its_term() {
    let mut cluster = Cluster::of(5);
    cluster.elect(1);
    let term = cluster.term(1);
    cluster.isolate(&[5]);
    cluster.run(20 * ELECTION_TIMEOUT_MS);
    assert_eq!((cluster.role(5), cluster.term(5)), (RoleName::PreCandidate, term));
    cluster.heal();
    cluster.run(2 * ELECTION_TIMEOUT_MS);
    assert_eq!((cluster.is_leader(1), cluster.term(1)), (true, term), "its return disturbs nobody");
    assert_eq!(cluster.metrics(5).leader, Some(1));
}

/// Thesis 9.6: a pre-vote is given under the same rules as a vote, by who has not heard from a leader for a while.
#[test]
fn thesis_9_6_a_pre_vote_follows_the_rules_of_votes() {
    let mut cluster = Cluster::with_logs(3, &[(1, &[1, 1, 2]), (2, &[1, 1, 1]), (3, &[1, 1, 2])]);
    let ask = |cluster: &mut Cluster, from: u64, to: u64| {
        let request = vote_request(cluster, from, cluster.term(to), VoteKind::Pre);
        cluster.receive(to, from, request);
        granted(&cluster.intercept(Letter::is_vote_response)[0])
    };
    assert_eq!(ask(&mut cluster, 2, 1), Some(false), "the log of who asks is behind");
    assert_eq!(ask(&mut cluster, 3, 1), Some(true));
    assert_eq!(ask(&mut cluster, 2, 1), Some(false));
    cluster.elect(1);
    assert_eq!(ask(&mut cluster, 3, 2), Some(false), "a leader is alive");
}

/// Thesis 9.6: giving a pre-vote changes neither term nor vote nor timer of the voter, so it may be given to many.
#[test]
fn thesis_9_6_a_pre_vote_changes_nothing_at_the_voter() {
    let mut cluster = Cluster::of(3);
    let before = (cluster.term(3), cluster.metrics(3).voted_for, cluster.node(3).engine().next_deadline());
    for from in [1, 2] {
        let request = vote_request(&cluster, from, cluster.term(from), VoteKind::Pre);
        cluster.receive(3, from, request);
        assert_eq!(granted(&cluster.intercept(Letter::is_vote_response)[0]), Some(true));
    }
    let after = (cluster.term(3), cluster.metrics(3).voted_for, cluster.node(3).engine().next_deadline());
    assert_eq!(before, after);
    assert!(!cluster.has_writes(3));
}

/// 9.6: a candidate that has raised its term once and does not win goes back to asking first.
#[test]
fn thesis_9_6_every_election_begins_with_a_pre_vote() {
    let mut cluster = Cluster::of(3);
    cluster.time_out(1);
    cluster.settle_but(|letter| {
        letter.body().is_some_and(|body| matches!(body, Body::VoteRequest { kind: VoteKind::Normal, .. }))
    });
    assert_eq!(cluster.role(1), RoleName::Candidate);
    let term = cluster.term(1);
    cluster.isolate(&[1]);
    for _ in 0..10 {
        cluster.time_out(1);
        assert_eq!((cluster.role(1), cluster.term(1)), (RoleName::PreCandidate, term));
    }
}

/// 9.6: terms that have drifted apart do not stop an election. The survivor with the low term and the good log learns
/// the higher term from the answer to its pre-vote; else neither of two could ever win.
#[test]
fn a_pre_candidate_learns_a_higher_term_from_a_refusal() {
    let mut cluster = Cluster::with_logs(3, &[(1, &[1, 1]), (2, &[1]), (3, &[1, 1])]);
    // Node 2 has seen later terms, but its log is behind that of node 1.
    cluster.crash(2);
    cluster.node_mut(2).disk.hard_state.term = 5;
    cluster.restart(2);
    cluster.crash(3);
    cluster.run_until(20 * ELECTION_TIMEOUT_MS, "a leader", |cluster| cluster.is_leader(1));
    assert!(5 < cluster.term(1));
}

/// 9.6: while two nodes are pre-candidates, each answers the other; the one with the better log wins.
#[test]
fn a_pre_candidate_and_a_candidate_still_answer_others() {
    let mut cluster = Cluster::with_logs(3, &[(1, &[1, 1, 1]), (2, &[1]), (3, &[1, 1, 1])]);
    cluster.crash(3);
    cluster.time_out(2);
    cluster.lose_all();
    assert_eq!(cluster.role(2), RoleName::PreCandidate);
    cluster.time_out(1);
    cluster.settle();
    assert!(cluster.is_leader(1));
}

// ---- who may campaign ----

/// Thesis 4.2.1: a learner never campaigns, also after a restart: what it is follows from its log.
#[test]
fn a_learner_does_not_campaign_also_after_a_restart() {
    let mut cluster = Cluster::of(3);
    cluster.add_fresh(4);
    cluster.elect(1);
    cluster.change(1, MembershipChange::AddLearners(nodes([4])));
    cluster.settle();
    assert!(!cluster.metrics(4).is_voter());
    cluster.crash(4);
    cluster.restart(4);
    cluster.isolate(&[4]);
    let term = cluster.term(4);
    cluster.run(20 * ELECTION_TIMEOUT_MS);
    cluster.step(4, Input::Campaign);
    assert_eq!((cluster.role(4), cluster.term(4)), (RoleName::Follower, term));
}

/// 5.2: a node that knows no membership never campaigns, and a cluster of one elects itself.
#[test]
fn a_fresh_node_waits_and_a_cluster_of_one_elects_itself() {
    let mut cluster = Cluster::empty(Config::default());
    cluster.add_fresh(1);
    cluster.run(20 * ELECTION_TIMEOUT_MS);
    assert_eq!((cluster.role(1), cluster.term(1)), (RoleName::Follower, 0));
    let request = cluster.request();
    cluster.step(1, Input::Initialize { request, nodes: nodes([1]) });
    assert!(matches!(cluster.reply(request), Some(Reply::Initialized)));
    cluster.run(2 * ELECTION_TIMEOUT_MS);
    assert!(cluster.is_leader(1));
    assert_eq!(cluster.committed(1), 2);
}

/// 5.2: a cluster begins by one of its nodes alone; the others follow whoever is elected.
#[test]
fn a_cluster_that_one_node_has_initialized_elects_a_leader() {
    let mut cluster = Cluster::empty(Config::default());
    for id in 1..=3 {
        cluster.add_fresh(id);
    }
    let request = cluster.request();
    cluster.step(2, Input::Initialize { request, nodes: nodes([1, 2, 3]) });
    cluster.recover();
    assert!(cluster.is_leader(2), "only node 2 knew that there is a cluster");
    assert_eq!(cluster.membership(3).voters(), &BTreeSet::from([1, 2, 3]));
}

/// Thesis 3.10: a candidate whose pre-vote or vote is lost tries again; loss alone never stops elections for good.
#[test]
fn elections_go_on_while_messages_are_lost() {
    let mut cluster = Cluster::of(3);
    let lost = std::cell::Cell::new(0);
    cluster.run_but(6 * ELECTION_TIMEOUT_MS, |letter| {
        lost.set(lost.get() + 1);
        letter.is_vote_response()
    });
    assert_eq!(cluster.leader(), None);
    assert!(lost.get() > 10);
    cluster.elect_any();
}

/// 4.2.3 and 6.4.1: with leases a follower has promised its leader to vote for nobody else. An operator must not be told
/// that it has forgotten that leader and may vote.
#[test]
fn section_6_4_1_a_follower_does_not_forget_a_leader_that_may_have_a_lease() {
    let config = Config { lease_clock_drift_ppm_max: Some(1000), ..Config::default() };
    let mut cluster = Cluster::with_config(3, config);
    let leader = cluster.elect_any();
    let follower = 1 + leader % 3;
    let request = cluster.request();
    cluster.step(follower, Input::ForgetLeader { request });
    let reply = cluster.reply(request);
    assert!(matches!(reply, Some(Reply::ForgetLeaderFailed(ForgetLeaderError::Leases))), "{reply:?}");
    assert_eq!(cluster.metrics(follower).leader, Some(leader));
}
