//! A leader without a quorum, or without a disk, neither serves nor stands in the way; and what is sent to whom while nothing
//! is wrong.

use std::time::Duration;

use openconsensus::engine::Input;
use openconsensus::{Body, Config, MembershipChange, Message, RoleName, VoteKind};
use openconsensus_tests::engines::{Cluster, ELECTION_TIMEOUT_MS, Letter, Outcome};

const INTERVAL_MS: u64 = 30;

fn led_by_node_1(voters: u64, config: Config) -> Cluster {
    let mut cluster = Cluster::with_config(voters, config);
    cluster.elect(1);
    cluster.run(ELECTION_TIMEOUT_MS);
    assert!(cluster.is_leader(1));
    cluster
}

/// Runs until this is so, and returns after how many ms. Checked each ms.
fn run_until(cluster: &mut Cluster, limit_ms: u64, is_so: impl Fn(&Cluster) -> bool) -> u64 {
    for ms in 0..=limit_ms {
        if is_so(cluster) {
            return ms;
        }
        cluster.run(1);
    }
    panic!("not within {limit_ms} ms:\n{}", cluster.describe());
}

fn other_leader(cluster: &Cluster) -> bool {
    cluster.alive().any(|id| id != 1 && cluster.is_leader(id))
}

// ---- quorum ----

/// Thesis 6.2. Whichever way the links of a leader break, it leads no longer than an election timeout, and the others have
/// a leader soon after they hear it no more.
#[test]
fn a_leader_that_loses_its_quorum_gives_up_within_one_election_timeout_whichever_way_it_is_lost() {
    for voters in [3, 5] {
        for (from, to) in [(true, true), (true, false), (false, true)] {
            for later_ms in [0, 1, INTERVAL_MS - 1] {
                let mut cluster = led_by_node_1(voters, Config::default());
                cluster.run(later_ms);
                for other in 2..=voters {
                    if from {
                        cluster.cut_one_way(1, other);
                    }
                    if to {
                        cluster.cut_one_way(other, 1);
                    }
                }
                let begun = cluster.now;
                let led = run_until(&mut cluster, 2 * ELECTION_TIMEOUT_MS, |cluster| !cluster.is_leader(1));
                assert!(led <= ELECTION_TIMEOUT_MS, "{voters} voters, cut {from} {to}: it led {led} ms");
                run_until(&mut cluster, 3 * ELECTION_TIMEOUT_MS, other_leader);
                assert!(cluster.now - begun <= Duration::from_millis(4 * ELECTION_TIMEOUT_MS));
            }
        }
    }
}

/// A bridge: node 2 hears the leader, which no quorum hears, and is the only one that the others hear. It must be free to
/// be elected.
#[test]
fn a_follower_of_a_leader_without_a_quorum_becomes_free_to_be_elected() {
    for pre_vote in [true, false] {
        let mut cluster = led_by_node_1(5, Config { pre_vote, ..Config::default() });
        for one in [1, 3, 4, 5] {
            for other in [1, 3, 4, 5] {
                if one < other {
                    cluster.cut(one, other);
                }
            }
        }
        run_until(&mut cluster, 20 * ELECTION_TIMEOUT_MS, |cluster| cluster.is_leader(2));
        let write = cluster.write(2, 7);
        cluster.run(100);
        assert_eq!(cluster.outcome(write), Outcome::Applied);
    }
}

/// A and B, and B and C hear each other, A and C do not. Whoever leads stays leader: the node that cannot hear it asks in
/// vain, and raises no term while it asks first.
#[test]
fn a_partial_partition_neither_changes_leaders_for_ever_nor_stands_still() {
    for leader in [1, 2] {
        for pre_vote in [true, false] {
            let mut cluster = Cluster::with_config(3, Config { pre_vote, ..Config::default() });
            cluster.elect(leader);
            cluster.cut(1, 3);
            cluster.run(2 * ELECTION_TIMEOUT_MS);
            let term = cluster.term(leader);
            for command in 0..40 {
                let write = cluster.write(leader, command);
                cluster.run(ELECTION_TIMEOUT_MS / 2);
                assert_eq!(cluster.outcome(write), Outcome::Applied);
            }
            assert!(cluster.is_leader(leader), "{}", cluster.describe());
            assert_eq!(cluster.term(leader), term);
            if pre_vote {
                assert_eq!(cluster.term(3), term, "it asks and raises no term");
            }
        }
    }
}

fn asks_for_a_vote(cluster: &mut Cluster, kind: VoteKind) -> bool {
    let (term, last) = (cluster.term(1), cluster.metrics(1).last);
    let term = if kind == VoteKind::Pre { term } else { term + 1 };
    cluster.receive(1, 3, Message { term, body: Body::VoteRequest { kind, campaign: 4_711, last } });
    let answers = cluster.intercept(Letter::is_vote_response);
    matches!(answers[0].body(), Some(Body::VoteResponse { granted: true, .. }))
}

/// Thesis 4.2.3: a leader that hears a quorum refuses to help to depose itself, whatever is configured: a node that was
/// removed and has not heard of it would otherwise depose one leader after the other. One that hears none must not stand in
/// the way, also where it is not to step down by itself.
#[test]
fn a_leader_refuses_votes_while_it_hears_a_quorum_and_no_longer() {
    for (pre_vote, check_quorum) in [(true, true), (true, false), (false, true), (false, false)] {
        for kind in [VoteKind::Pre, VoteKind::Normal] {
            let config = Config { pre_vote, check_quorum, ..Config::default() };
            let mut cluster = led_by_node_1(3, config);
            let term = cluster.term(1);
            assert!(!asks_for_a_vote(&mut cluster, kind), "{kind:?}, check_quorum {check_quorum}");
            assert_eq!((cluster.is_leader(1), cluster.term(1)), (true, term));
            // It has not noticed yet that time has passed.
            cluster.isolate(&[1]);
            cluster.skip(ELECTION_TIMEOUT_MS);
            assert!(cluster.is_leader(1));
            assert!(asks_for_a_vote(&mut cluster, kind), "{kind:?}, check_quorum {check_quorum}");
        }
    }
}

/// Answers that a broken network repeats, or holds back, keep no leader in office.
#[test]
fn answers_that_are_repeated_or_late_keep_no_leader_in_office() {
    let mut cluster = led_by_node_1(3, Config::default());
    cluster.time_out(1);
    let heartbeats = cluster.intercept(Letter::is_heartbeat);
    heartbeats.into_iter().for_each(|letter| cluster.deliver(letter));
    let answers = cluster.intercept(Letter::is_heartbeat_response);
    assert_eq!(answers.len(), 2);
    cluster.isolate(&[1]);
    let begun = cluster.now;
    while cluster.is_leader(1) {
        cluster.run(10);
        for letter in answers.clone() {
            let Some(body) = letter.body().cloned() else { continue };
            let term = letter.term().unwrap_or_default();
            cluster.receive(1, letter.from, Message { term, body });
        }
        assert!(cluster.now - begun <= Duration::from_millis(ELECTION_TIMEOUT_MS));
    }
}

/// A split vote is not waited out: both candidates know at once that they have lost, because the third node has not even
/// answered their pre-votes.
#[test]
fn candidates_that_have_split_the_vote_try_again_before_their_timeouts() {
    let (mut most, mut sum, mut rounds) = (0, 0, 0);
    for start in 0..40 {
        let mut cluster = Cluster::of(3);
        cluster.elect(3);
        cluster.run(start);
        cluster.crash(3);
        cluster.skip(ELECTION_TIMEOUT_MS);
        // Both ask at the same time, and are told yes by each other; then both ask for votes.
        cluster.step(1, Input::Timeout);
        cluster.step(2, Input::Timeout);
        let asked = cluster.intercept(Letter::is_vote_request);
        asked.into_iter().for_each(|letter| cluster.deliver(letter));
        let granted = cluster.intercept(Letter::is_vote_response);
        granted.into_iter().for_each(|letter| cluster.deliver(letter));
        assert_eq!([1, 2].map(|id| cluster.role(id)), [RoleName::Candidate; 2]);
        let ms = run_until(&mut cluster, 2 * ELECTION_TIMEOUT_MS, |cluster| cluster.leader().is_some());
        most = most.max(ms);
        sum += ms;
        rounds += 1;
    }
    let min = Config::default().election_timeout_ms_min;
    assert!(sum / rounds < min, "{} ms in the mean", sum / rounds);
    assert!(most <= 2 * min, "{most} ms at most");
}

// ---- the disk ----

/// Nobody waits for an election timeout when a disk hangs: the leader names its successor, to the moment, also while its
/// heartbeats are paused. While the disk hangs the node does not campaign, and declines to take over; then all of that ends by
/// itself.
#[test]
fn a_leader_whose_disk_hangs_hands_over_at_once_and_recovers_by_itself() {
    for paused in [false, true] {
        let config = Config { write_stall_timeout_ms: 200, ..Config::default() };
        let mut cluster = led_by_node_1(3, config);
        cluster.step(1, Input::PauseHeartbeats { paused });
        cluster.slow_disk(1);
        let begun = cluster.now;
        cluster.write(1, 7);
        cluster.run(199);
        assert!(cluster.is_leader(1) && !cluster.metrics(1).disk_stalled);
        cluster.run(1);
        assert_eq!(cluster.now - begun, Duration::from_millis(200));
        assert!(other_leader(&cluster), "nobody waits:\n{}", cluster.describe());
        assert!(cluster.metrics(1).disk_stalled);
        // Asked to campaign, and told to take over, it does not.
        cluster.step(1, Input::Campaign);
        let (leader, term) = (cluster.leader().expect("another one"), cluster.term(1));
        cluster.receive(1, leader, Message { term, body: Body::TimeoutNow });
        cluster.run(4 * ELECTION_TIMEOUT_MS);
        assert_eq!((cluster.role(1), cluster.term(leader)), (RoleName::Follower, term));
        cluster.speed_up(1);
        assert!(!cluster.metrics(1).disk_stalled);
        cluster.run(100);
        cluster.transfer(leader, Some(1));
        cluster.run(100);
        assert!(cluster.is_leader(1), "{}", cluster.describe());
    }
}

/// Whoever lacks what is committed, is silent or has no vote is not asked to take over.
#[test]
fn leadership_is_handed_over_to_the_voter_that_is_furthest_and_answers() {
    let mut cluster = led_by_node_1(5, Config::default());
    cluster.change(1, MembershipChange::Demote([4].into()));
    cluster.run(100);
    // Node 2 is behind. Nodes 3, 4 and 5 have everything, but node 4 is a learner, and node 5 is gone.
    cluster.slow_disk(2);
    cluster.write(1, 7);
    cluster.run(100);
    cluster.crash(5);
    cluster.run(2 * ELECTION_TIMEOUT_MS);
    assert!(cluster.is_leader(1));
    cluster.step(1, Input::StorageFailed);
    let asked = |cluster: &Cluster| -> Vec<u64> {
        let is_asked = |letter: &&Letter| matches!(letter.body(), Some(Body::TimeoutNow));
        cluster.letters().filter(is_asked).map(|letter| letter.to).collect()
    };
    assert_eq!(asked(&cluster), [3]);
    // Where everybody is silent there is nobody to ask.
    let mut cluster = led_by_node_1(3, Config { check_quorum: false, ..Config::default() });
    cluster.isolate(&[1]);
    cluster.run(ELECTION_TIMEOUT_MS);
    assert!(cluster.is_leader(1));
    cluster.step(1, Input::StorageFailed);
    assert_eq!(asked(&cluster), [0; 0]);
}

// ---- heartbeats ----

/// Appends that are answered say all that heartbeats say: under load hardly any are sent, and nobody misses them.
#[test]
fn under_load_appends_stand_for_heartbeats() {
    let mut cluster = led_by_node_1(3, Config::default());
    let before = cluster.metrics(1).counters;
    let term = cluster.term(1);
    for command in 0..400 {
        cluster.write(1, command);
        cluster.run(5);
    }
    let after = cluster.metrics(1).counters;
    let (sent, skipped) = (
        after.sent.heartbeats - before.sent.heartbeats,
        after.heartbeats_skipped - before.heartbeats_skipped,
    );
    assert!(sent <= 4 && 120 <= skipped, "{sent} sent, {skipped} skipped in 2 s");
    assert_eq!((cluster.is_leader(1), cluster.term(1)), (true, term));
    // A read has its round, all the same.
    let reads = after.sent.heartbeats;
    cluster.write(1, 400);
    cluster.read(1);
    assert_eq!(cluster.metrics(1).counters.sent.heartbeats, reads + 2);
}

/// What was sent last may be lost, and then nobody speaks: only answers to heartbeats tell. So none is left out when nothing
/// was answered.
#[test]
fn a_last_append_that_is_lost_is_found_under_load_too() {
    let mut cluster = led_by_node_1(3, Config::default());
    for command in 0..20 {
        cluster.write(1, command);
        cluster.run(5);
    }
    let last = cluster.write(1, 20);
    cluster.lose_all();
    let ms =
        run_until(&mut cluster, ELECTION_TIMEOUT_MS, |cluster| cluster.outcome(last) == Outcome::Applied);
    assert!(ms <= 5 * INTERVAL_MS, "{ms} ms");
}

/// Where an interval is long for the election timeout, or leases last by heartbeats, each one is sent.
#[test]
fn no_heartbeat_is_left_out_where_it_might_be_missed() {
    let long = Config { heartbeat_interval_ms: 60, ..Config::default() };
    let leases = Config { lease_clock_drift_ppm_max: Some(1_000), ..Config::default() };
    for config in [long, leases] {
        let mut cluster = led_by_node_1(3, config);
        for command in 0..100 {
            cluster.write(1, command);
            cluster.run(5);
        }
        assert_eq!(cluster.metrics(1).counters.heartbeats_skipped, 0);
    }
}

// ---- back-off ----

/// A peer that is reported as unreachable hears from its leader less often, and still in time: when it is back it is served
/// before it would campaign, and it was never missed as a voter.
#[test]
fn a_peer_that_was_unreachable_is_served_again_before_it_would_campaign() {
    for pre_vote in [true, false] {
        let mut cluster = led_by_node_1(3, Config { pre_vote, ..Config::default() });
        let term = cluster.term(1);
        cluster.crash(3);
        for _ in 0..100 {
            cluster.step(1, Input::Unreachable { peer: 3 });
            cluster.run(10);
        }
        let peer = &cluster.metrics(1).peers[&3];
        assert!(peer.unreachable && !peer.active && peer.backoff_ms == 75, "{peer:?}");
        let before = cluster.metrics(1).counters.sent.heartbeats;
        cluster.run(1_200);
        let sent = cluster.metrics(1).counters.sent.heartbeats - before;
        assert!((55..=65).contains(&sent), "40 to node 2 and half as many to node 3, not {sent}");
        cluster.restart(3);
        let ms = run_until(&mut cluster, 75, |cluster| !cluster.metrics(1).peers[&3].unreachable);
        assert!(ms <= 75);
        assert_eq!(cluster.metrics(1).peers[&3].backoff_ms, 0);
        // Now it is the one that makes a quorum.
        cluster.crash(2);
        cluster.run(2 * ELECTION_TIMEOUT_MS);
        assert_eq!((cluster.is_leader(1), cluster.term(1)), (true, term));
    }
}

/// Reads follow each other at the speed of the network. They do not ask a peer in vain each time that cannot be reached; but
/// where nobody else makes a quorum, it is asked.
#[test]
fn reads_ask_an_unreachable_peer_only_where_it_is_needed() {
    let mut cluster = led_by_node_1(3, Config::default());
    cluster.cut(1, 3);
    cluster.step(1, Input::Unreachable { peer: 3 });
    cluster.run(INTERVAL_MS);
    let before = cluster.metrics(1).counters.sent.heartbeats;
    for _ in 0..20 {
        cluster.read(1);
        cluster.settle();
    }
    let sent = cluster.metrics(1).counters.sent.heartbeats - before;
    assert!((20..=22).contains(&sent), "{sent}");
    cluster.step(1, Input::Unreachable { peer: 2 });
    cluster.heal();
    let read = cluster.read(1);
    cluster.settle();
    assert!(cluster.reply(read).is_some(), "they are back, and the read finds it out");
}

/// A peer that answers heartbeats and no appends, as across a link that lets only small messages through, is sent fewer and
/// fewer of them, and at once again when one is answered.
#[test]
fn appends_that_are_never_answered_become_rare() {
    let mut cluster = led_by_node_1(3, Config::default());
    cluster.write(1, 1);
    cluster.lose_all();
    cluster.step(1, Input::Unreachable { peer: 3 });
    let is_lost = |letter: &Letter| letter.is_append() && letter.to == 3;
    let count = |cluster: &mut Cluster, ms: u64| {
        let before = cluster.metrics(1).counters.sent.appends;
        cluster.run_but(ms, is_lost);
        cluster.metrics(1).counters.sent.appends - before
    };
    let begin = count(&mut cluster, 300);
    let later = count(&mut cluster, 3_000);
    assert!(begin <= 8 && (2..=6).contains(&later), "{begin} in the first 300 ms, {later} in the next 3 s");
    assert!(cluster.metrics(1).peers[&3].active && cluster.is_leader(1));
    let backoff = cluster.metrics(1).peers[&3].backoff_ms;
    assert_eq!(backoff, Config::default().unreachable_backoff_ms_max);
    run_until(&mut cluster, backoff + 2 * INTERVAL_MS, |cluster| cluster.commands(3) == [1]);
    assert_eq!(cluster.metrics(1).peers[&3].backoff_ms, 0);
}
