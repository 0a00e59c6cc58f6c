//! Leases (thesis 6.4.1): what a promise binds, what a leader may count, and what ends a lease.

use std::collections::BTreeSet;

use openconsensus::engine::{Input, Reply, RequestId};
use openconsensus::{Body, Config, Index, LogId, MembershipChange, Message, VoteKind};
use openconsensus_tests::engines::{Cluster, ELECTION_TIMEOUT_MS, Letter, Outcome, What};

/// The shortest election timeout, which is how long a promise lasts.
const PROMISE_MS: u64 = 150;
/// What is certain of it where clocks are right to 1 %, less a sixteenth.
const LEASE_MS: u64 = 139;
/// It is over then.
const OVER_MS: u64 = LEASE_MS + 1;

fn config() -> Config {
    Config { lease_clock_drift_ppm_max: Some(10_000), ..Config::default() }
}

/// Node 1 leads so many voters and has a lease.
fn led_by_node_1(voters: u64) -> Cluster {
    let mut cluster = Cluster::with_config(voters, config());
    cluster.elect(1);
    assert_eq!(lease(&cluster, 1), Some(LEASE_MS));
    cluster
}

fn lease(cluster: &Cluster, id: u64) -> Option<u64> {
    cluster.metrics(id).lease_ms
}

fn index(cluster: &Cluster, request: RequestId) -> Option<Index> {
    match cluster.reply(request) {
        Some(Reply::ReadReady { index }) => Some(*index),
        None => None,
        Some(other) => panic!("a read was answered by {other:?}"),
    }
}

/// Whether a read by lease is answered by `id` at once.
fn serves(cluster: &mut Cluster, id: u64) -> bool {
    let before = cluster.metrics(id).counters.reads_by_lease;
    let read = cluster.read_by_lease(id);
    let has_served = index(cluster, read).is_some();
    assert_eq!(cluster.metrics(id).counters.reads_by_lease, before + u64::from(has_served));
    has_served
}

/// Whether `voter` would vote for `candidate`, whose log lacks nothing, in a later term than any.
fn would_vote(cluster: &mut Cluster, voter: u64, candidate: u64, kind: VoteKind) -> bool {
    let term = cluster.term(voter) + 10;
    let body = Body::VoteRequest { kind, campaign: 99, last: LogId::new(term - 1, 1_000) };
    cluster.receive(voter, candidate, Message { term, body });
    let answers = cluster.intercept(|letter| letter.from == voter && letter.is_vote_response());
    let [Letter { what: What::Message(answer), .. }] = &answers[..] else { panic!("{answers:?}") };
    matches!(answer.body, Body::VoteResponse { granted: true, .. })
}

fn answer(promise_ms: u64, round: u64, term: u64) -> Message<openconsensus_tests::engines::Test> {
    Message { term, body: Body::HeartbeatResponse { round, promise_ms } }
}

// ---- what a promise binds ----

#[test]
fn a_voter_that_has_promised_helps_to_elect_nobody_else_until_then() {
    let mut cluster = led_by_node_1(3);
    cluster.skip(PROMISE_MS - 1);
    for kind in [VoteKind::Pre, VoteKind::Normal] {
        assert!(!would_vote(&mut cluster, 2, 3, kind), "{kind:?}");
    }
    let term = cluster.term(2);
    cluster.step(2, Input::Campaign);
    assert_eq!((cluster.term(2), cluster.metrics(2).counters.campaigns_refused), (term, 1));
    cluster.skip(1);
    assert!(would_vote(&mut cluster, 2, 3, VoteKind::Normal));
}

/// The leader itself may be elected again: it serves nothing while it campaigns. And whoever was asked by the leader to
/// take over may be elected, because that leader has no lease any more.
#[test]
fn a_promise_binds_neither_against_the_leader_nor_in_a_transfer() {
    let mut cluster = led_by_node_1(3);
    assert!(would_vote(&mut cluster, 2, 1, VoteKind::Normal));
    assert!(would_vote(&mut cluster, 3, 2, VoteKind::Transfer));
}

/// A promise that is kept with the role of a follower is forgotten with it: the voter hears of a later term, by an answer
/// that comes late, is a follower of nobody in that term, and votes for the next who asks, while its leader still relies
/// on it.
#[test]
fn a_promise_outlives_the_term_in_which_it_was_given() {
    let mut cluster = led_by_node_1(3);
    let term = cluster.term(2) + 5;
    let late = Body::VoteResponse { kind: VoteKind::Pre, campaign: 7, granted: false };
    cluster.receive(2, 3, Message { term, body: late });
    assert_eq!((cluster.term(2), cluster.metrics(2).leader), (term, None));
    assert!(!would_vote(&mut cluster, 2, 3, VoteKind::Normal));
    cluster.step(2, Input::Campaign);
    assert_eq!(cluster.term(2), term, "it does not vote for itself either");
    assert!(serves(&mut cluster, 1), "node 1 knows nothing of it");
    cluster.skip(PROMISE_MS);
    assert!(would_vote(&mut cluster, 2, 3, VoteKind::Normal));
}

/// etcd-io/raft, test data forget_leader_read_only_lease_based; bakwc/PySyncObj#98.
///
/// A voter promised, was restarted and did not remember, and voted for another.
#[test]
fn a_voter_that_was_restarted_is_bound_against_everybody() {
    let mut cluster = led_by_node_1(3);
    cluster.isolate(&[1]);
    cluster.crash(3);
    cluster.restart(3);
    let restarted_at = cluster.now;
    for kind in [VoteKind::Pre, VoteKind::Normal] {
        assert!(!would_vote(&mut cluster, 3, 2, kind));
        assert!(!would_vote(&mut cluster, 3, 1, kind), "it does not know whom it has promised");
    }
    cluster.step(3, Input::Campaign);
    assert_eq!(cluster.metrics(3).counters.campaigns_refused, 1);
    cluster.run(PROMISE_MS - 1);
    assert!(!would_vote(&mut cluster, 3, 2, VoteKind::Normal));
    assert!(!serves(&mut cluster, 1));
    cluster.now = restarted_at + std::time::Duration::from_millis(PROMISE_MS);
    assert!(would_vote(&mut cluster, 3, 2, VoteKind::Normal));
}

/// A voter that has never run answered a heartbeat, and crashed before its first term was durable. It started as one that
/// has never run, so it was not silent, and voted while the leader relied on its promise.
#[test]
fn a_promise_counts_only_when_a_restarted_voter_knows_that_it_has_run() {
    let mut cluster = Cluster::empty(config());
    (1..=3).for_each(|id| cluster.add_fresh(id));
    let request = cluster.request();
    let nodes = openconsensus_tests::engines::nodes([1, 2, 3]);
    cluster.step(1, Input::Initialize { request, nodes });
    cluster.slow_disk(2);
    cluster.step(1, Input::Campaign);
    cluster.settle();
    // Node 2 has not voted, so node 3 has.
    assert!(cluster.is_leader(1));
    cluster.cut(1, 3);
    cluster.run(2 * LEASE_MS);
    assert_eq!(lease(&cluster, 1), None, "what node 2 says is not durable");
    assert!(!would_vote(&mut cluster, 2, 3, VoteKind::Pre), "it keeps to it all the same");
    cluster.crash(2);
    cluster.node_mut(2).is_disk_slow = false;
    cluster.restart(2);
    assert!(would_vote(&mut cluster, 2, 3, VoteKind::Normal), "it knows of nothing");
}

/// A node without leases answers heartbeats too. Its leader must not take that for a promise.
#[test]
fn a_voter_without_leases_promises_nothing() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.step(1, Input::Timeout);
    cluster.skip(30);
    cluster.step(1, Input::Timeout);
    let (heartbeats, term) = (cluster.intercept(Letter::is_heartbeat), cluster.term(1));
    assert_eq!(heartbeats.len(), 2);
    heartbeats.into_iter().for_each(|letter| cluster.deliver(letter));
    for letter in cluster.intercept(Letter::is_heartbeat_response) {
        assert!(matches!(letter.body(), Some(Body::HeartbeatResponse { promise_ms: 0, .. })), "{letter:?}");
    }
    assert_eq!(term, cluster.term(1));
    // And a leader with leases counts what the answers say, not what it would have promised itself.
    let mut cluster = led_by_node_1(3);
    cluster.run_but(30, Letter::is_heartbeat_response);
    let round = next_round(&mut cluster);
    let term = cluster.term(1);
    cluster.skip(OVER_MS);
    cluster.receive(1, 2, answer(0, round, term));
    cluster.receive(1, 3, answer(0, round, term));
    assert_eq!(lease(&cluster, 1), None);
}

// ---- what a leader may count ----

/// The round of heartbeats that begins now; nobody hears it.
fn next_round(cluster: &mut Cluster) -> u64 {
    cluster.time_out(1);
    let heartbeats = cluster.intercept(Letter::is_heartbeat);
    let Some(Body::Heartbeat { round, .. }) = heartbeats[0].body() else { panic!("{heartbeats:?}") };
    *round
}

/// sofastack/sofa-jraft#34.
///
/// A lease was counted from when the answer came. The voter had promised long before, and voted for another while the
/// lease was still held.
#[test]
fn a_promise_counts_from_when_the_heartbeat_was_sent() {
    let mut cluster = led_by_node_1(3);
    let round = next_round(&mut cluster);
    let term = cluster.term(1);
    cluster.skip(100);
    next_round(&mut cluster);
    cluster.receive(1, 2, answer(PROMISE_MS, round, term));
    assert_eq!(lease(&cluster, 1), Some(LEASE_MS - 100));
    // An answer that comes twice, and one to an earlier round, say nothing new.
    cluster.skip(20);
    cluster.receive(1, 2, answer(PROMISE_MS, round, term));
    cluster.receive(1, 3, answer(PROMISE_MS, round - 1, term));
    assert_eq!(lease(&cluster, 1), Some(LEASE_MS - 120));
    cluster.skip(20);
    assert!(!serves(&mut cluster, 1));
}

#[test]
fn answers_that_name_no_round_of_this_leadership_count_nothing() {
    let mut cluster = led_by_node_1(3);
    let round = next_round(&mut cluster);
    let term = cluster.term(1);
    cluster.skip(OVER_MS);
    cluster.receive(1, 2, answer(PROMISE_MS, round + 1, term));
    cluster.receive(1, 2, answer(PROMISE_MS, u64::MAX, term));
    cluster.receive(1, 2, answer(PROMISE_MS, round, term - 1));
    cluster.receive(1, 9, answer(PROMISE_MS, round, term));
    assert_eq!(lease(&cluster, 1), None);
    // Who acknowledges entries is alive, but does not say when it heard of them.
    cluster.write(1, 1);
    cluster.settle_but(Letter::is_heartbeat);
    assert_eq!(lease(&cluster, 1), None);
    assert!(!serves(&mut cluster, 1));
}

/// A number from the network must not overflow a time, nor make a lease longer than this node watches its clock.
#[test]
fn a_promise_that_lasts_too_long_counts_as_long_as_its_own() {
    let mut cluster = led_by_node_1(3);
    let round = next_round(&mut cluster);
    let term = cluster.term(1);
    cluster.receive(1, 2, answer(u64::MAX, round, term));
    assert_eq!(lease(&cluster, 1), Some(LEASE_MS));
}

#[test]
fn a_lease_needs_the_promises_of_a_quorum() {
    let mut cluster = led_by_node_1(5);
    let round = next_round(&mut cluster);
    let term = cluster.term(1);
    cluster.skip(LEASE_MS - 1);
    cluster.receive(1, 2, answer(PROMISE_MS, round, term));
    cluster.skip(1);
    assert_eq!(lease(&cluster, 1), None, "two of five");
    let round = next_round(&mut cluster);
    cluster.receive(1, 2, answer(PROMISE_MS, round, term));
    cluster.skip(10);
    let round = next_round(&mut cluster);
    cluster.receive(1, 3, answer(PROMISE_MS, round, term));
    // The lease is as long as the shorter of the two that it needs.
    let until_2 = lease(&cluster, 1).unwrap();
    cluster.receive(1, 2, answer(PROMISE_MS, round, term));
    assert!(until_2 < lease(&cluster, 1).unwrap());
}

/// A removed voter cannot keep a lease alive, and what a learner has promised counts from the moment in which it is a voter.
#[test]
fn promises_are_counted_by_the_membership_in_force() {
    let mut cluster = led_by_node_1(3);
    cluster.add_fresh(4);
    cluster.change(1, MembershipChange::AddLearners(openconsensus_tests::engines::nodes([4])));
    cluster.run(60);
    cluster.isolate(&[2, 3]);
    cluster.run(OVER_MS);
    assert_eq!(lease(&cluster, 1), None, "a learner does not vote");
    cluster.heal();
    cluster.run(60);
    assert!(lease(&cluster, 1).is_some());
    let promoted = cluster.change(1, MembershipChange::Promote(BTreeSet::from([4])));
    assert!(lease(&cluster, 1).is_some(), "it promises too");
    cluster.settle();
    assert!(matches!(cluster.reply(promoted), Some(Reply::MembershipChanged { .. })));
    // Of 1, 2, 3 and 4 the nodes 3 and 4 go: the others need each other.
    for id in [3, 4] {
        cluster.change(1, MembershipChange::Remove(BTreeSet::from([id])));
        cluster.settle();
    }
    cluster.isolate(&[2]);
    cluster.run(OVER_MS);
    assert_eq!(lease(&cluster, 1), None, "what nodes 3 and 4 say is of no use");
}

/// A leader that is no voter any more does not count itself.
#[test]
fn a_leader_counts_itself_only_where_it_votes() {
    let mut cluster = led_by_node_1(3);
    cluster.isolate(&[3]);
    cluster.run(60);
    assert!(lease(&cluster, 1).is_some(), "itself and node 2");
    cluster.change(1, MembershipChange::Remove(BTreeSet::from([1])));
    cluster.intercept(|_| true);
    assert!(cluster.is_leader(1));
    // Node 3 was heard until it was cut off.
    cluster.skip(OVER_MS - 60);
    let round = next_round(&mut cluster);
    let term = cluster.term(1);
    cluster.receive(1, 2, answer(PROMISE_MS, round, term));
    assert_eq!(lease(&cluster, 1), None, "node 2 alone is no majority of 2 and 3");
}

/// Rounds that reads ask for follow each other as fast as the network allows. The leader remembers when each was sent, but
/// not without end.
#[test]
fn a_leader_forgets_rounds_that_are_too_many() {
    let mut cluster = led_by_node_1(3);
    let term = cluster.term(1);
    let first = next_round(&mut cluster);
    for round in first..first + 1024 {
        cluster.read(1);
        cluster.receive(1, 2, answer(0, round, term));
        cluster.intercept(Letter::is_heartbeat);
    }
    cluster.skip(60);
    cluster.receive(1, 3, answer(PROMISE_MS, first, term));
    assert!(lease(&cluster, 1).unwrap() <= LEASE_MS - 60);
    cluster.skip(LEASE_MS - 60 - 1);
    cluster.receive(1, 3, answer(PROMISE_MS, first + 1024, term));
    assert_eq!(lease(&cluster, 1), Some(1), "the latest is remembered, and was sent at the same time");
}

// ---- what ends a lease ----

/// tikv/tikv#964, sofastack/sofa-jraft#25.
///
/// The machine was suspended, the others elected another leader, and when it went on its clock showed that no time had passed.
#[test]
fn rounds_that_were_sent_before_the_clock_stopped_count_no_longer() {
    let mut cluster = led_by_node_1(3);
    let before = next_round(&mut cluster);
    let term = cluster.term(1);
    // The answer has arrived, but the driver looks at the clock first.
    let message = answer(PROMISE_MS, before, term);
    let read = cluster.read_later();
    let inputs = [
        Input::ClockJumped,
        Input::Receive { from: 2, message: message.clone() },
        Input::Receive { from: 3, message },
        Input::ReadByLease { request: read },
    ];
    cluster.step_all(1, inputs);
    assert_eq!((lease(&cluster, 1), index(&cluster, read)), (None, None));
    assert_eq!(cluster.metrics(1).counters.clock_jumps, 1);
    cluster.settle();
    assert!(
        index(&cluster, read).is_some() && serves(&mut cluster, 1),
        "the round of the read has renewed it"
    );
}

/// tikv/tikv#1593, #1595 and #4680, databendlabs/openraft#1747.
///
/// The voters elected the target of a transfer in spite of the lease, which went on. Here it ends with the message to the
/// target, and does not come back when the transfer has timed out: the message may still be on its way.
#[test]
fn a_lease_does_not_come_back_after_somebody_was_asked_to_campaign() {
    let mut cluster = led_by_node_1(3);
    let transfer = cluster.transfer(1, Some(2));
    let sent = cluster.intercept(|letter| matches!(letter.body(), Some(Body::TimeoutNow)));
    assert_eq!(sent.len(), 1);
    cluster.run_but(600, |letter| matches!(letter.body(), Some(Body::TimeoutNow)));
    assert!(matches!(cluster.reply(transfer), Some(Reply::TransferFailed(_))));
    assert!(cluster.is_leader(1));
    assert_eq!(lease(&cluster, 1), None);
    cluster.isolate(&[1]);
    cluster.heal();
    // Late, and the others follow it although they have just answered a heartbeat.
    cluster.cut(1, 2);
    cluster.cut(1, 3);
    let late = sent.into_iter().next().unwrap();
    cluster.heal();
    cluster.deliver(late);
    cluster.cut(1, 2);
    cluster.cut(1, 3);
    cluster.settle();
    assert!(cluster.is_leader(2) && cluster.is_leader(1));
    let write = cluster.write(2, 5);
    cluster.settle();
    assert_eq!(cluster.outcome(write), Outcome::Applied);
    assert!(!serves(&mut cluster, 1));
}

/// A leader that steps down and is elected again begins without a lease: what it was promised was for the term before.
#[test]
fn a_lease_ends_with_the_term() {
    let mut cluster = led_by_node_1(3);
    let term = cluster.term(1) + 1;
    let refusal = Body::VoteResponse { kind: VoteKind::Normal, campaign: 0, granted: false };
    cluster.receive(1, 2, Message { term, body: refusal });
    assert!(!cluster.is_leader(1));
    assert_eq!(lease(&cluster, 1), None);
    cluster.skip(ELECTION_TIMEOUT_MS);
    cluster.step(1, Input::Campaign);
    cluster.settle_but(Letter::is_heartbeat);
    assert!(cluster.is_leader(1));
    assert_eq!(lease(&cluster, 1), None);
}

// ---- reads ----

/// A follower asks again until it is answered. The leader answered each question, and kept all of them for as long as it had
/// no quorum: without check-quorum for ever.
#[test]
fn a_leader_without_a_quorum_does_not_gather_reads_of_its_followers() {
    let config = Config { check_quorum: false, read_timeout_ms: 1000, ..Config::default() };
    let mut cluster = Cluster::with_config(5, config);
    cluster.elect(1);
    cluster.isolate(&[1, 2]);
    let read = cluster.read(2);
    let (mut asked, end) = (0, cluster.now + std::time::Duration::from_millis(900));
    while cluster.now < end {
        cluster.run_but(10, |letter| letter.is_vote_request());
        asked += cluster.intercept(|letter| matches!(letter.body(), Some(Body::ReadRequest { .. }))).len();
    }
    assert_eq!((asked, index(&cluster, read)), (0, None), "they have arrived");
    cluster.heal();
    cluster.settle();
    cluster.time_out(1);
    let answers = |letter: &Letter| matches!(letter.body(), Some(Body::ReadResponse { .. }));
    let mut answered = 0;
    for _ in 0..100 {
        answered += cluster.intercept(answers).len();
        cluster.deliver_oldest();
    }
    assert_eq!(answered, 1);
}

/// A node that has been restarted re-applies to its commit hint before it serves any read: what it had applied before, its
/// clients may have seen.
#[test]
fn a_read_is_never_answered_below_the_saved_commit_index() {
    for by_lease in [false, true] {
        let mut cluster = led_by_node_1(3);
        for command in 1..=5 {
            cluster.write(1, command);
            cluster.run(60);
        }
        let hint = cluster.node(3).disk.hard_state.commit;
        assert!(3 <= hint, "the hint that rides along with entries");
        cluster.crash(3);
        cluster.node_mut(3).lose_state();
        cluster.node_mut(3).is_machine_slow = true;
        cluster.restart(3);
        assert_eq!(cluster.committed(3), hint);
        let read = if by_lease { cluster.read_by_lease(3) } else { cluster.read(3) };
        cluster.run(60);
        let index = index(&cluster, read).expect("the leader has answered");
        assert!(hint <= index && cluster.metrics(3).applied.index < hint, "there is something to wait for");
    }
}
