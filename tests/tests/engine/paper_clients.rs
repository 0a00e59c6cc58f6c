//! Client interaction: Raft paper section 8; thesis 6.2 to 6.4.

use openconsensus::engine::{Input, Reply, RequestId};
use openconsensus::{Body, Config, LogId, Message, Payload, RoleName};
use openconsensus_tests::engines::{self, Cluster, ELECTION_TIMEOUT_MS, Letter, Outcome};

fn read_index(cluster: &Cluster, request: RequestId) -> Option<u64> {
    match cluster.reply(request) {
        Some(Reply::ReadReady { index }) => Some(*index),
        Some(Reply::ReadFailed { .. }) | None => None,
        Some(other) => panic!("a read was answered by {other:?}"),
    }
}

fn is_read_failed(cluster: &Cluster, request: RequestId) -> bool {
    matches!(cluster.reply(request), Some(Reply::ReadFailed { .. }))
}

// ---- writes ----

/// Section 8, thesis 6.2: a server that does not lead refuses, and says who does as far as it knows.
#[test]
fn section_8_a_follower_names_the_leader() {
    let mut cluster = Cluster::of(3);
    let request = cluster.write(2, 1);
    assert!(matches!(cluster.reply(request), Some(Reply::NotLeader { leader: None })));
    cluster.elect(1);
    let request = cluster.write(2, 1);
    assert!(matches!(cluster.reply(request), Some(Reply::NotLeader { leader: Some(hint) }) if hint.id == 1));
    assert_eq!(cluster.outcome(request), Outcome::NotLeader);
    assert_eq!(cluster.metrics(2).last, cluster.metrics(1).last, "nothing was appended");
}

/// Section 8: commands of one request stand one behind the other, in order.
#[test]
fn commands_of_one_request_are_consecutive() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let first = cluster.metrics(1).last.index + 1;
    let request = cluster.write_many(1, &[3, 1, 2]);
    assert!(matches!(cluster.reply(request), Some(Reply::Appended { first: at }) if at.index == first));
    cluster.settle();
    assert_eq!(cluster.commands(2), [3, 1, 2]);
}

/// Requests that arrive together make one append for each peer and one write of the disk: that is where batches come
/// from.
#[test]
fn requests_that_arrive_together_become_one_append_and_one_write() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.slow_disk(1);
    let requests: Vec<RequestId> = (0..50).map(|_| cluster.request()).collect();
    let inputs: Vec<Input<engines::Test>> = requests
        .iter()
        .map(|request| Input::Write { request: *request, commands: vec![request.0] })
        .collect();
    cluster.step_all(1, inputs);
    assert_eq!(cluster.node(1).writes.len(), 1);
    assert_eq!(cluster.letters().filter(|letter| letter.is_append()).count(), 2);
    cluster.speed_up(1);
    cluster.settle();
    assert!(requests.into_iter().all(|request| cluster.outcome(request) == Outcome::Applied));
}

/// Section 8: what became of a write is told by the entry that is committed at its index, index *and* term. With the
/// index alone, the write of another leader would be taken for one's own.
#[test]
fn a_write_whose_place_was_taken_is_known_to_have_failed() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.isolate(&[1]);
    let lost = cluster.write(1, 7);
    cluster.settle();
    assert_eq!(cluster.outcome(lost), Outcome::Open, "not lost yet: it may still be committed");
    cluster.skip(ELECTION_TIMEOUT_MS);
    cluster.step(2, Input::Campaign);
    cluster.settle();
    let other = cluster.write(2, 8);
    cluster.settle();
    assert_eq!(cluster.outcome(lost), Outcome::Dropped);
    assert_eq!(cluster.outcome(other), Outcome::Applied);
    cluster.recover();
    assert_eq!(cluster.commands(1), [8]);
}

/// Figure 8 seen from a client: an entry that was truncated on one node may still be committed by a later leader that has
/// it, so its truncation alone does not say that it failed.
#[test]
fn a_write_that_was_truncated_here_may_be_committed_all_the_same() {
    let mut cluster = Cluster::of(5);
    cluster.elect(1);
    // The entry is on 1 and 2; node 3 leads next, without it, and overwrites it on node 1 only.
    cluster.isolate(&[1, 2]);
    let request = cluster.write(1, 7);
    cluster.settle();
    cluster.heal();
    cluster.isolate(&[2]);
    cluster.skip(ELECTION_TIMEOUT_MS);
    cluster.step(3, Input::Campaign);
    cluster.settle_but(|letter| letter.is_append());
    assert!(cluster.is_leader(3));
    cluster.settle_but(|letter| letter.is_append());
    cluster.cut(3, 4);
    cluster.cut(3, 5);
    cluster.run_until(2 * ELECTION_TIMEOUT_MS, "its truncation on node 1", |cluster| {
        cluster.metrics(1).counters.truncations == 1
    });
    assert_eq!(cluster.outcome(request), Outcome::Open);
    // Both crash; node 2 has the entry, and nobody that is left has anything later.
    cluster.crash(3);
    cluster.crash(1);
    cluster.heal();
    cluster.elect_until(2);
    assert_eq!(cluster.outcome(request), Outcome::Applied);
    cluster.recover();
    assert_eq!(cluster.commands(1), [7]);
}

// ---- the beginning of a term ----

/// Section 8, thesis 6.4: a leader begins its term with an entry that carries nothing, so that it learns what is
/// committed without waiting for a client.
#[test]
fn section_8_a_new_leader_appends_an_empty_entry() {
    let mut cluster = Cluster::with_logs(3, &[(1, &[1, 1, 1]), (2, &[1, 1, 1]), (3, &[1, 1, 1])]);
    cluster.elect(1);
    let last = cluster.metrics(1).last;
    assert_eq!((last.term, last.index), (cluster.term(1), 4));
    let entry = cluster.node(1).view.at(4).expect("the last entry");
    assert!(matches!(entry.payload, Payload::Blank));
    assert_eq!([1, 2, 3].map(|id| cluster.committed(id)), [4; 3], "and with it all that it has inherited");
}

// ---- reads ----

/// Section 8, thesis 6.4: a read returns what was committed when it arrived, without an entry in the log.
#[test]
fn section_8_a_read_sees_all_that_was_committed_before_it() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.write(1, 7);
    cluster.settle();
    let last = cluster.metrics(1).last;
    let read = cluster.read(1);
    cluster.settle();
    assert_eq!(read_index(&cluster, read), Some(last.index));
    assert_eq!(cluster.metrics(1).last, last, "nothing was appended");
}

/// Section 8: a leader answers a read only after a majority has confirmed that it still leads. One that was deposed
/// without knowing never gets that.
#[test]
fn section_8_a_deposed_leader_serves_no_read() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.isolate(&[1]);
    cluster.skip(ELECTION_TIMEOUT_MS);
    cluster.step(2, Input::Campaign);
    cluster.settle();
    cluster.write(2, 7);
    cluster.settle();
    assert!(cluster.is_leader(1), "it does not know");
    let read = cluster.read(1);
    cluster.settle();
    assert_eq!(read_index(&cluster, read), None);
    cluster.run(2 * Config::default().read_timeout_ms);
    assert!(is_read_failed(&cluster, read), "and the reader is told in the end");
}

/// Thesis 6.4: the round that confirms a read begins after the read has arrived. An answer to an earlier heartbeat
/// proves nothing, because leadership may have been lost since.
#[test]
fn thesis_6_4_an_answer_to_an_earlier_heartbeat_confirms_nothing() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.time_out(1);
    cluster.intercept(Letter::is_heartbeat).into_iter().for_each(|letter| cluster.deliver(letter));
    let early = cluster.intercept(Letter::is_heartbeat_response);
    assert_eq!(early.len(), 2);
    let read = cluster.read(1);
    let own_round = cluster.intercept(Letter::is_heartbeat);
    for letter in early {
        cluster.deliver(letter.clone());
        cluster.deliver(letter);
    }
    assert_eq!(read_index(&cluster, read), None);
    let term = cluster.term(1);
    cluster.receive(1, 2, Message { term, body: Body::HeartbeatResponse { round: 0, promise_ms: 0 } });
    assert_eq!(read_index(&cluster, read), None);
    own_round.into_iter().for_each(|letter| cluster.deliver(letter));
    cluster.settle();
    cluster.run(2 * Config::default().heartbeat_interval_ms);
    assert!(read_index(&cluster, read).is_some());
}

/// Thesis 6.4: answers of an earlier term confirm nothing either; rounds begin anew with every term.
#[test]
fn answers_of_an_earlier_term_confirm_no_read() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let old = cluster.term(1);
    cluster.elect(2);
    let read = cluster.read(2);
    cluster.lose_all();
    for from in [1, 3] {
        cluster.receive(
            2,
            from,
            Message { term: old, body: Body::HeartbeatResponse { round: 1_000, promise_ms: 0 } },
        );
        let term = cluster.term(2);
        cluster.receive(
            2,
            from,
            Message { term, body: Body::HeartbeatResponse { round: 1_000, promise_ms: 0 } },
        );
    }
    assert_eq!(read_index(&cluster, read), None, "nor do answers to rounds that never were");
    cluster.run(ELECTION_TIMEOUT_MS);
    assert!(read_index(&cluster, read).is_some());
}

/// Thesis 6.4: a new leader may not know what is committed. A read waits until an entry of its own term is, or it could
/// miss what the leader before it has acknowledged.
#[test]
fn thesis_6_4_a_new_leader_reads_behind_the_first_entry_of_its_term() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let request = cluster.write(1, 7);
    cluster.settle_but(|letter| matches!(letter.body(), Some(Body::Commit { .. })));
    assert_eq!(cluster.outcome(request), Outcome::Applied);
    let acknowledged = cluster.committed(1);
    assert!(cluster.committed(2) < acknowledged);
    cluster.crash(1);
    cluster.skip(ELECTION_TIMEOUT_MS);
    cluster.step(2, Input::Campaign);
    cluster.settle_but(Letter::is_append);
    assert!(cluster.is_leader(2));
    let read = cluster.read(2);
    cluster.run_but(Config::default().heartbeat_interval_ms * 2, |letter| letter.is_append());
    if let Some(index) = read_index(&cluster, read) {
        assert!(acknowledged < index, "a read at {index} would miss {acknowledged}");
        assert!(cluster.committed(2) < index, "and it cannot be served before that is applied");
    }
}

/// Thesis 6.4: one round of heartbeats confirms all reads that have gathered.
#[test]
fn thesis_6_4_one_round_confirms_many_reads() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.run(Config::default().heartbeat_interval_ms / 2);
    let requests: Vec<RequestId> = (0..100).map(|_| cluster.read_later()).collect();
    let inputs: Vec<Input<engines::Test>> =
        requests.iter().map(|request| Input::Read { request: *request }).collect();
    cluster.step_all(1, inputs);
    assert_eq!(cluster.letters().filter(|letter| letter.is_heartbeat()).count(), 2, "one to each peer");
    cluster.settle();
    assert!(requests.iter().all(|request| read_index(&cluster, *request).is_some()));
}

/// Thesis 6.4: a cluster of one confirms itself.
#[test]
fn a_single_voter_confirms_its_own_reads() {
    let mut cluster = Cluster::of(1);
    cluster.elect(1);
    let read = cluster.read(1);
    assert!(read_index(&cluster, read).is_some());
}

/// Thesis 6.4.1: a follower asks the leader for the index and serves the read itself; a learner can do that too.
#[test]
fn thesis_6_4_a_follower_serves_a_read_after_asking_the_leader() {
    let mut cluster = Cluster::of(3);
    cluster.add_fresh(4);
    cluster.elect(1);
    cluster.change(1, openconsensus::MembershipChange::AddLearners(engines::nodes([4])));
    cluster.write(1, 7);
    cluster.settle();
    for id in [2, 4] {
        let read = cluster.read(id);
        assert_eq!(read_index(&cluster, read), None);
        cluster.settle();
        assert_eq!(read_index(&cluster, read), Some(cluster.committed(1)), "node {id}");
        assert!(
            matches!(cluster.node(id).replies.get(&read), Some(Reply::ReadReady { .. })),
            "answered where it was asked"
        );
    }
}

/// 6.4: a read on a follower that lags is answered with the index that it has to wait for, not with what it has.
#[test]
fn a_read_on_a_lagging_follower_waits_for_the_leaders_index() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.write(1, 7);
    cluster.settle_but(|letter| letter.to == 3);
    let read = cluster.read(3);
    cluster.settle_but(|letter| {
        letter.to == 3 && (letter.is_append() || matches!(letter.body(), Some(Body::Commit { .. })))
    });
    let index = read_index(&cluster, read).expect("the leader has answered");
    assert_eq!(index, cluster.committed(1));
    assert!(cluster.metrics(3).applied.index < index);
}

/// 6.4: reads that cannot be confirmed are refused after a while; none waits for ever, whoever was asked.
#[test]
fn a_read_that_nobody_confirms_is_refused_in_time() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.isolate(&[1]);
    cluster.isolate(&[2]);
    let reads = [1, 2, 3].map(|id| cluster.read(id));
    cluster.run(2 * Config::default().read_timeout_ms);
    assert_eq!(reads.map(|read| is_read_failed(&cluster, read)), [true; 3]);
}

/// 6.4: each read has a time of its own. The first that is refused takes no later one with it.
#[test]
fn a_later_read_of_a_leader_waits_for_its_own_time() {
    let config = Config { check_quorum: false, ..Config::default() };
    let timeout = config.read_timeout_ms;
    let mut cluster = Cluster::with_config(3, config);
    cluster.elect(1);
    cluster.isolate(&[1]);
    let early = cluster.read(1);
    cluster.run(timeout / 2);
    let late = cluster.read(1);
    cluster.run(timeout / 2 + 10);
    assert!(is_read_failed(&cluster, early));
    assert!(!is_read_failed(&cluster, late), "it was asked half of the time later");
    cluster.run(timeout / 2);
    assert!(is_read_failed(&cluster, late));
}

/// 6.4: a read that comes while a round is under way waits for the next one, and begins none of its own: rounds would
/// follow each other as fast as readers come. A round that is lost is repeated.
#[test]
fn reads_begin_one_round_at_a_time() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let rounds = |cluster: &mut Cluster| {
        cluster.intercept(|letter| letter.from == 1 && letter.is_heartbeat() && letter.to == 2).len()
    };
    cluster.read(1);
    assert_eq!(rounds(&mut cluster), 1);
    let second = cluster.read(1);
    cluster.read(1);
    assert_eq!(rounds(&mut cluster), 0, "the first is under way");
    cluster.run(2 * Config::default().heartbeat_interval_ms);
    assert!(read_index(&cluster, second).is_some());
}

/// 6.4: also while a leader is heard all the time, and only its answers are lost.
#[test]
fn a_forwarded_read_whose_answer_never_arrives_is_refused_in_time() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let read = cluster.read(3);
    cluster.run_but(2 * Config::default().read_timeout_ms, |letter| {
        matches!(letter.body(), Some(Body::ReadResponse { .. }))
    });
    assert_eq!(cluster.metrics(3).leader, Some(1));
    assert!(is_read_failed(&cluster, read));
}

/// 6.4: a read survives a change of leader: it is confirmed by the next one.
#[test]
fn a_read_is_confirmed_by_the_next_leader() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let on_leader = {
        let read = cluster.read(1);
        cluster.lose_all();
        read
    };
    let on_follower = cluster.read(3);
    cluster.lose_all();
    cluster.isolate(&[1]);
    cluster.run_until(4 * ELECTION_TIMEOUT_MS, "another leader", |cluster| cluster.leader() != Some(1));
    cluster.heal();
    cluster.run(2 * ELECTION_TIMEOUT_MS);
    assert_eq!([on_leader, on_follower].map(|read| read_index(&cluster, read).is_some()), [true; 2]);
}

/// 6.4: a lost question or answer is repeated, and an answer that comes twice answers once.
#[test]
fn a_forwarded_read_survives_loss_and_repetition() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let read = cluster.read(2);
    let question = cluster.intercept(|letter| matches!(letter.body(), Some(Body::ReadRequest { .. })));
    assert_eq!(question.len(), 1);
    let stray = Message { term: cluster.term(2), body: Body::ReadResponse { read: 4_711, index: 1 } };
    cluster.receive(2, 1, stray);
    assert_eq!(read_index(&cluster, read), None, "the answer to another question");
    cluster.run(4 * Config::default().heartbeat_interval_ms);
    assert!(read_index(&cluster, read).is_some(), "it was asked again");
    let late = question.into_iter().next().expect("it was intercepted");
    cluster.deliver(late.clone());
    cluster.deliver(late);
    cluster.run(4 * Config::default().heartbeat_interval_ms);
}

/// 6.4: a restarted node has nothing to serve reads from until a leader has told it an index, whatever it knew.
#[test]
fn a_restarted_node_serves_no_read_by_itself() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.write(1, 7);
    cluster.settle();
    for id in 1..=3 {
        cluster.crash(id);
        cluster.restart(id);
    }
    let read = cluster.read(2);
    cluster.settle();
    assert_eq!(read_index(&cluster, read), None);
    cluster.elect_any();
    cluster.run(ELECTION_TIMEOUT_MS);
    assert!(read_index(&cluster, read).is_some());
}

/// 6.4: after the disk has failed, everybody who asks is told at once.
#[test]
fn a_node_with_a_failed_disk_answers_every_request() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let pending = cluster.read(1);
    cluster.lose_all();
    cluster.step(1, Input::StorageFailed);
    assert!(is_read_failed(&cluster, pending));
    let read = cluster.read(1);
    assert!(is_read_failed(&cluster, read));
    let transfer = cluster.transfer(1, Some(2));
    assert!(matches!(cluster.reply(transfer), Some(Reply::TransferFailed(_))));
    assert_eq!(cluster.role(1), RoleName::Follower);
    assert_eq!(cluster.metrics(1).applied, LogId::new(2, 2));
}
