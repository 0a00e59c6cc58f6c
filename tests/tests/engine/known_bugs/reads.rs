//! Known bugs of linearizable reads, with and without leases. There are no leases here: every read needs a round.

use openconsensus::engine::{Input, Reply, RequestId};
use openconsensus::{Body, Config, Index, LogId, MembershipChange, Message, VoteKind};
use openconsensus_tests::engines::{self, Cluster, ELECTION_TIMEOUT_MS, Letter, Outcome, nodes};

use super::post::{Post, each_way};

fn read_index(cluster: &Cluster, request: RequestId) -> Option<Index> {
    match cluster.reply(request) {
        Some(Reply::ReadReady { index }) => Some(*index),
        Some(Reply::ReadFailed { .. }) | None => None,
        Some(other) => panic!("a read was answered by {other:?}"),
    }
}

fn is_read_failed(cluster: &Cluster, request: RequestId) -> bool {
    matches!(cluster.reply(request), Some(Reply::ReadFailed { .. }))
}

/// Node 1 leads three voters and has committed one command.
fn led_by_node_1(post: &mut Post) -> Cluster {
    let mut cluster = Cluster::of(3);
    post.elect(&mut cluster, 1);
    cluster.write(1, 1);
    post.settle(&mut cluster);
    // These appends stand for the first heartbeats. The next ones are sent.
    cluster.time_out(1);
    assert_eq!(cluster.letters().count(), 0);
    cluster
}

/// Nodes 2 and 3 go on without node 1, which does not know: node 2 leads, and commits a command.
fn go_on_without_node_1(post: &mut Post, cluster: &mut Cluster) {
    cluster.isolate(&[1]);
    post.elect(cluster, 2);
    let request = cluster.write(2, 2);
    post.settle(cluster);
    assert_eq!(cluster.outcome(request), Outcome::Applied);
    assert!(cluster.is_leader(1), "node 1 does not know");
}

// ---- reads ----

/// etcd-io/etcd#741, RedisLabs/redisraft#19.
///
/// A leader answered reads from its own state. Cut off from the others, which had elected another one and gone on, it
/// returned what was overwritten long ago. Here a read is answered only when a quorum has said, after the read had come,
/// that this node still leads (thesis 6.4).
#[test]
fn a_leader_serves_no_read_without_a_proof_that_it_leads() {
    each_way(|post| {
        let mut cluster = led_by_node_1(post);
        go_on_without_node_1(post, &mut cluster);
        let reads = [cluster.read(1), cluster.read(1)];
        post.settle(&mut cluster);
        assert_eq!(reads.map(|read| read_index(&cluster, read)), [None; 2]);
        // When it hears of the others, the next leader answers.
        cluster.heal();
        post.run(&mut cluster, ELECTION_TIMEOUT_MS);
        let new = cluster.committed(2);
        assert_eq!(reads.map(|read| read_index(&cluster, read).is_some_and(|index| new <= index)), [true; 2]);
    });
}

/// deventlab/d-engine#381.
///
/// Reads that came together with the answers of a round of heartbeats were confirmed by these answers, which had been given
/// before. Here a read waits for a round that begins after it, also within one step.
#[test]
fn a_read_is_not_confirmed_by_answers_that_arrive_in_the_same_step() {
    let mut cluster = led_by_node_1(&mut Post::once());
    cluster.time_out(1);
    let heartbeats = cluster.intercept(Letter::is_heartbeat);
    heartbeats.into_iter().for_each(|letter| cluster.deliver(letter));
    let answers = cluster.intercept(Letter::is_heartbeat_response);
    assert_eq!(answers.len(), 2);
    go_on_without_node_1(&mut Post::once(), &mut cluster);
    for read_first in [true, false] {
        let read = cluster.read_later();
        let mut inputs: Vec<Input<engines::Test>> = answers
            .iter()
            .filter_map(|letter| {
                let body = letter.body()?.clone();
                let message = Message { term: letter.term()?, body };
                Some(Input::Receive { from: letter.from, message })
            })
            .collect();
        inputs.insert(if read_first { 0 } else { 2 }, Input::Read { request: read });
        cluster.step_all(1, inputs);
        assert_eq!(read_index(&cluster, read), None);
    }
}

/// etcd-io/etcd#7331 and #12762, tikv/tikv#6340 and #9239, RedisLabs/redisraft#18, #22 and #316, jmsadair/raft#65.
///
/// A new leader did not know yet that the last write of its predecessor was committed and acknowledged. It took its own
/// commit index for a read, and the write was not seen. Here a read of a new leader waits for the first entry of its term
/// (thesis 6.4), whatever confirms its leadership.
#[test]
fn a_new_leader_serves_no_read_before_an_entry_of_its_term_is_committed() {
    each_way(|post| {
        let mut cluster = led_by_node_1(post);
        let write = cluster.write(1, 2);
        // The others have the entry, and do not hear that it is committed.
        post.settle_but(&mut cluster, |letter| matches!(letter.body(), Some(Body::Commit { .. })));
        assert_eq!(cluster.outcome(write), Outcome::Applied);
        let acknowledged = cluster.committed(1);
        cluster.crash(1);
        cluster.skip(ELECTION_TIMEOUT_MS);
        cluster.step(2, Input::Campaign);
        post.settle_but(&mut cluster, Letter::is_append);
        assert!(cluster.is_leader(2) && cluster.committed(2) < acknowledged);
        let reads = [cluster.read(2), cluster.read(3)];
        post.run_but(&mut cluster, 100, Letter::is_append);
        for read in reads {
            let index = read_index(&cluster, read).expect("the leadership is confirmed");
            assert!(acknowledged < index, "a read at {index} misses {acknowledged}");
            assert!(cluster.metrics(2).applied.index < index, "and it is not to be served yet");
        }
        post.run(&mut cluster, 2 * ELECTION_TIMEOUT_MS);
        assert_eq!(cluster.commands(2), [1, 2]);
    });
}

/// redpanda-data/redpanda#5025, RedisLabs/redisraft#22.
///
/// The variant in which the end of a new leader's log was shown as final: an entry that no quorum had was read, and then
/// lost against another one. Here the state machine has only what is committed, so nothing else can be read.
#[test]
fn an_entry_that_may_still_be_lost_is_read_nowhere() {
    each_way(|post| {
        let mut cluster = led_by_node_1(post);
        cluster.isolate(&[1]);
        let lost = cluster.write(1, 66);
        let read = cluster.read(1);
        post.settle(&mut cluster);
        assert_eq!(cluster.commands(1), [1], "not in the state of the leader that has appended it");
        assert_eq!(read_index(&cluster, read), None);
        go_on_without_node_1(post, &mut cluster);
        cluster.heal();
        post.run(&mut cluster, 2 * ELECTION_TIMEOUT_MS);
        assert_eq!(cluster.outcome(lost), Outcome::Dropped);
        assert_eq!(cluster.commands(1), [1, 2]);
        assert!(read_index(&cluster, read).is_some());
    });
}

/// rabbitmq/ra#340.
///
/// Followers kept the number of the last round of queries that they had answered. The next leader began to count from 1,
/// was answered "50", and took that for a confirmation of rounds that it had never run. Here rounds belong to a term, an
/// answer repeats the number of the heartbeat that it answers, and a number that was not given out yet proves nothing.
#[test]
fn answers_to_rounds_of_an_earlier_term_confirm_nothing() {
    let mut cluster = led_by_node_1(&mut Post::once());
    // Many rounds.
    cluster.run(3_000);
    let old_term = cluster.term(1);
    cluster.time_out(1);
    let heartbeats = cluster.intercept(Letter::is_heartbeat);
    heartbeats.into_iter().for_each(|letter| cluster.deliver(letter));
    let old_answers = cluster.intercept(Letter::is_heartbeat_response);
    cluster.elect(2);
    cluster.run(100);
    let read = cluster.read(2);
    cluster.lose_all();
    let term = cluster.term(2);
    for letter in old_answers {
        let Some(Body::HeartbeatResponse { round, .. }) = letter.body() else { panic!("{letter:?}") };
        assert!(90 < *round, "the old leader has counted far: {round}");
        for term in [old_term, term] {
            let body = Body::HeartbeatResponse { round: *round, promise_ms: 0 };
            cluster.receive(2, 3, Message { term, body });
            let body = Body::HeartbeatResponse { round: *round, promise_ms: 0 };
            cluster.receive(2, 1, Message { term, body });
        }
    }
    assert_eq!(read_index(&cluster, read), None);
    cluster.run(ELECTION_TIMEOUT_MS);
    assert!(read_index(&cluster, read).is_some());
}

/// etcd-io/etcd#11483, #10589, #13464 and #3879, tikv/tikv#4071, RedisLabs/redisraft#30.
///
/// A read that came before the first commit of the term, or when the leader stepped down, was thrown away without a word,
/// and its caller waited for ever. Here every read ends: with an index, if need be from the next leader, or with an error.
#[test]
fn no_read_is_thrown_away_without_an_answer() {
    each_way(|post| {
        let mut cluster = Cluster::of(3);
        // Nobody leads; then a leader that has committed nothing; then one that steps down.
        let mut reads = vec![cluster.read(1), cluster.read(3)];
        cluster.step(1, Input::Campaign);
        post.settle_but(&mut cluster, |letter| letter.is_append() || letter.is_heartbeat());
        assert!(cluster.is_leader(1));
        reads.extend([cluster.read(1), cluster.read(3)]);
        cluster.lose_all();
        let term = cluster.term(1) + 1;
        let body = Body::Heartbeat { round: 1, commit: LogId::ZERO };
        cluster.receive(1, 2, Message { term, body });
        assert!(!cluster.is_leader(1));
        cluster.lose_all();
        post.run(&mut cluster, 4 * ELECTION_TIMEOUT_MS);
        assert!(reads.iter().all(|read| read_index(&cluster, *read).is_some()), "{}", cluster.describe());
        // And where nobody can confirm them.
        cluster.isolate(&[1]);
        cluster.isolate(&[2]);
        let reads = [1, 2, 3].map(|id| cluster.read(id));
        post.run(&mut cluster, 2 * Config::default().read_timeout_ms);
        assert_eq!(reads.map(|read| is_read_failed(&cluster, read)), [true; 3]);
    });
}

/// tikv/raft-rs#220.
///
/// In a cluster of one voter and a learner a read that the learner had passed on was answered on the leader, to nobody, and
/// the learner waited. Here a read keeps the name of who has asked.
#[test]
fn a_read_of_a_learner_of_a_single_voter_is_answered_to_the_learner() {
    each_way(|post| {
        let mut cluster = Cluster::of(1);
        post.elect(&mut cluster, 1);
        cluster.add_fresh(2);
        cluster.change(1, MembershipChange::AddLearners(nodes([2])));
        cluster.write(1, 7);
        post.run(&mut cluster, 100);
        let read = cluster.read(2);
        post.settle(&mut cluster);
        assert!(
            matches!(cluster.node(2).replies.get(&read), Some(Reply::ReadReady { index }) if *index == cluster.committed(1))
        );
        assert!(!cluster.node(1).replies.contains_key(&read));
    });
}

/// scylladb/scylladb#10379, etcd-io/etcd#13464.
///
/// A follower was told to wait for index 9 and answered what it had at 6; a restarted node answered before it had replayed
/// its log. Here the answer of the engine is an index to wait for, and never one that was not asked of a leader.
#[test]
fn a_read_waits_for_the_index_that_the_leader_has_named() {
    each_way(|post| {
        let mut cluster = led_by_node_1(post);
        cluster.node_mut(3).is_machine_slow = true;
        for command in 2..5 {
            cluster.write(1, command);
            post.settle(&mut cluster);
        }
        let read = cluster.read(3);
        post.settle(&mut cluster);
        let index = read_index(&cluster, read).expect("the leader has answered");
        assert!(cluster.metrics(3).applied.index < index && index == cluster.committed(1));
        cluster.crash(3);
        cluster.restart(3);
        let read = cluster.read(3);
        assert_eq!(read_index(&cluster, read), None, "it has heard of no leader yet");
        post.run(&mut cluster, 100);
        assert!(read_index(&cluster, read).is_some_and(|read| index <= read));
    });
}

// ---- what a lease would get wrong ----

/// tikv/tikv#964, sofastack/sofa-jraft#15, #24, #25 and #26.
///
/// A leader kept a lease by its role and by counting ticks. Its process was suspended; when it went on, the others had
/// elected another leader, and before the first tick it answered a read from its old state. Here no time since the last
/// answers, be it none at all, stands in for a round.
#[test]
fn a_leader_that_was_suspended_serves_no_read_on_the_strength_of_its_role() {
    each_way(|post| {
        for suspended_ms in [0, 1, 3 * ELECTION_TIMEOUT_MS] {
            let mut cluster = led_by_node_1(post);
            post.run(&mut cluster, 100);
            cluster.isolate(&[1]);
            if suspended_ms > 0 {
                cluster.skip(suspended_ms);
                cluster.step(2, Input::Campaign);
                post.settle(&mut cluster);
            }
            if suspended_ms > 1 {
                assert!(cluster.is_leader(2));
                cluster.write(2, 2);
                post.settle(&mut cluster);
            }
            let read = cluster.read(1);
            post.settle(&mut cluster);
            assert_eq!(read_index(&cluster, read), None);
        }
    });
}

/// sofastack/sofa-jraft#34.
///
/// The lease was counted from when an answer arrived, not from when the heartbeat was sent, so it was still held when the
/// followers had already elected another leader. Here an answer that comes late renews nothing at all.
#[test]
fn answers_that_come_late_do_not_let_a_deposed_leader_read() {
    let mut cluster = led_by_node_1(&mut Post::once());
    cluster.time_out(1);
    let heartbeats = cluster.intercept(Letter::is_heartbeat);
    heartbeats.into_iter().for_each(|letter| cluster.deliver(letter));
    let late = cluster.intercept(Letter::is_heartbeat_response);
    go_on_without_node_1(&mut Post::once(), &mut cluster);
    cluster.heal();
    let before = cluster.read(1);
    cluster.lose_all();
    for letter in late {
        cluster.deliver(letter.clone());
        let between = cluster.read(1);
        cluster.lose_all();
        cluster.deliver(letter);
        assert_eq!([before, between].map(|read| read_index(&cluster, read)), [None; 2]);
    }
}

/// databendlabs/openraft#2085.
///
/// The opposite: a leader whose peers answered appends all the time, but whose heartbeats were not answered, lost its lease
/// and stepped down. Here an answer to an append proves contact too. One that repeats itself does not: it may have come
/// from the network alone.
#[test]
fn an_answer_to_an_append_proves_contact() {
    each_way(|post| {
        let mut cluster = led_by_node_1(post);
        let term = cluster.term(1);
        cluster.crash(3);
        for command in 0..60 {
            cluster.write(1, command);
            post.run_but(&mut cluster, 20, Letter::is_heartbeat_response);
        }
        assert_eq!((cluster.is_leader(1), cluster.term(1)), (true, term));
        // Only a refusal, again and again.
        for _ in 0..60 {
            let result = openconsensus::AppendResult::Conflict { rejected: 1, hint: LogId::ZERO };
            cluster.receive(1, 2, Message { term, body: Body::AppendResponse { result } });
            post.run_but(&mut cluster, 20, |letter| letter.from == 2);
        }
        assert!(!cluster.is_leader(1));
    });
}

/// tikv/tikv#1593, #1595 and #4680, databendlabs/openraft#1747 and #1749, etcd-io/etcd#12704.
///
/// A leader had told another node to take over, and that was elected in spite of the lease. The old leader's lease went on,
/// renewed by a batch of reads that was under way, and it answered from its old state. Here a read that comes after the
/// next leader has committed something needs answers that the old one does not get any more.
#[test]
fn a_leader_that_is_handing_over_serves_no_read_without_a_round_of_its_own() {
    let mut cluster = led_by_node_1(&mut Post::once());
    cluster.run(100);
    let early = cluster.read(1);
    let heartbeats = cluster.intercept(Letter::is_heartbeat);
    heartbeats.into_iter().for_each(|letter| cluster.deliver(letter));
    let answers = cluster.intercept(Letter::is_heartbeat_response);
    assert_eq!(answers.len(), 2, "given before the transfer");
    cluster.transfer(1, Some(2));
    let told = cluster.intercept(|letter| matches!(letter.body(), Some(Body::TimeoutNow)));
    told.into_iter().for_each(|letter| cluster.deliver(letter));
    // Node 1 hears nothing of it.
    let away = |letter: &Letter| letter.to == 1 || letter.from == 1;
    cluster.settle_but(away);
    assert!(cluster.is_leader(2) && cluster.is_leader(1));
    let write = cluster.write(2, 2);
    cluster.settle_but(away);
    assert_eq!(cluster.outcome(write), Outcome::Applied);
    let joined = cluster.read(1);
    cluster.lose_all();
    for letter in answers {
        cluster.deliver(letter);
    }
    assert!(
        read_index(&cluster, early).is_some(),
        "it was asked for before, so the old state is good enough"
    );
    assert_eq!(read_index(&cluster, joined), None, "it has joined a round that had begun before it");
    cluster.run_but(100, away);
    assert_eq!(read_index(&cluster, joined), None);
    cluster.run(2 * ELECTION_TIMEOUT_MS);
    assert!(read_index(&cluster, joined).is_some_and(|index| cluster.committed(2) <= index));
}

/// databendlabs/openraft#1215, bakwc/PySyncObj#98, and the test data forget_leader_read_only_lease_based of
/// etcd-io/raft.
///
/// A voter had promised its leader to vote for nobody for a while, was restarted, or told to forget the leader, and voted at
/// once for another, while the first leader went on reading under its lease. Here a voter may forget, because no leader
/// relies on what it has promised.
#[test]
fn a_voter_that_forgets_its_leader_makes_no_read_wrong() {
    each_way(|post| {
        let mut cluster = led_by_node_1(post);
        post.run(&mut cluster, 100);
        // Node 2 has been cut off from node 1 for long, and lacks nothing.
        cluster.cut(1, 2);
        cluster.skip(Config::default().election_timeout_ms_min / 2);
        cluster.step(1, Input::Timeout);
        post.settle(&mut cluster);
        assert!(cluster.metrics(1).peers[&3].active, "node 3 has just answered node 1");
        cluster.crash(3);
        cluster.restart(3);
        let term = cluster.term(2) + 1;
        let last = cluster.metrics(2).last;
        let body = Body::VoteRequest { kind: VoteKind::Normal, campaign: 4_711, last };
        cluster.receive(3, 2, Message { term, body });
        let granted =
            |letter: &Letter| matches!(letter.body(), Some(Body::VoteResponse { granted: true, .. }));
        assert_eq!(cluster.letters().filter(|letter| granted(letter)).count(), 1, "it has forgotten");
        cluster.lose_all();
        cluster.isolate(&[1]);
        cluster.skip(ELECTION_TIMEOUT_MS);
        cluster.step(2, Input::Campaign);
        post.settle(&mut cluster);
        if !cluster.is_leader(2) {
            cluster.skip(ELECTION_TIMEOUT_MS);
            cluster.step(2, Input::Campaign);
            post.settle(&mut cluster);
        }
        cluster.write(2, 2);
        post.settle(&mut cluster);
        let read = cluster.read(1);
        post.settle(&mut cluster);
        assert_eq!(read_index(&cluster, read), None);
    });
}
