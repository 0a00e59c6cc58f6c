//! Known bugs of what clients are told, and of races between what happens at the same time.

use openconsensus::engine::{Input, Reply};
use openconsensus::{Body, LogId, MembershipChange, Message, RoleName, VoteKind};
use openconsensus_tests::engines::{Cluster, ELECTION_TIMEOUT_MS, Letter, Outcome, nodes};

use super::post::each_way;

// ---- what clients are told ----

/// RedisLabs/redisraft#23, fluree/db#1839, driftluo/libraft#5.
///
/// A leader had appended a write and sent it to one other node, stepped down, and told its client that there is no leader:
/// nothing was done. The other node was elected and committed it. Here what was appended is never called failed because of
/// a change of leaders; only another entry, committed in its place, says so.
#[test]
fn a_write_that_was_appended_is_not_called_failed_when_its_leader_steps_down() {
    each_way(|post| {
        let mut cluster = Cluster::of(3);
        post.elect(&mut cluster, 1);
        let write = cluster.write(1, 7);
        post.settle_but(&mut cluster, |letter| letter.to == 3 || letter.is_append_response());
        cluster.isolate(&[1]);
        post.run(&mut cluster, 4 * ELECTION_TIMEOUT_MS);
        assert!(!cluster.is_leader(1));
        assert!(matches!(cluster.reply(write), Some(Reply::Appended { .. })), "and nothing else");
        assert!(cluster.is_leader(2), "only node 2 has it");
        assert_eq!(cluster.outcome(write), Outcome::Applied);
        cluster.recover();
        assert_eq!(cluster.commands(1), [7]);
    });
}

/// Hoverbear/old-raft-rs#115, sofastack/sofa-jraft#341.
///
/// A client waited for index 7 at a leader that was deposed. Another leader's entry was applied at index 7, and the client
/// was told that its own was written. Here a write is known by its index and its term.
#[test]
fn a_write_is_not_taken_for_the_one_that_was_applied_in_its_place() {
    each_way(|post| {
        let mut cluster = Cluster::of(3);
        post.elect(&mut cluster, 1);
        cluster.isolate(&[1]);
        let lost = cluster.write_many(1, &[60, 61]);
        post.settle(&mut cluster);
        post.elect(&mut cluster, 2);
        let others = cluster.write_many(2, &[70, 71]);
        post.settle(&mut cluster);
        cluster.heal();
        post.run(&mut cluster, 2 * ELECTION_TIMEOUT_MS);
        assert_eq!([lost, others].map(|write| cluster.outcome(write)), [Outcome::Dropped, Outcome::Applied]);
        let Some(Reply::Appended { first }) = cluster.reply(lost) else { panic!("it was appended") };
        let in_its_place = cluster.node(1).view.id_at(first.index).expect("another one stands there");
        assert!(in_its_place != *first && in_its_place.index == first.index);
        assert_eq!(cluster.commands(1), [70, 71]);
    });
}

/// etcd-io/etcd#5214 and #8975, cockroachdb/cockroach#1677, eBay/HomeStore#745, scylladb/scylladb#31329.
///
/// A write that was given to a node without a leader was thrown away without a word, and a change of the membership or a
/// transfer that its leader could not finish was never answered. Here every request ends in an answer, and what is not known
/// is called unknown.
#[test]
fn every_request_is_answered_when_its_leader_is_lost() {
    each_way(|post| {
        let mut cluster = Cluster::of(3);
        let nobody_leads = cluster.write(2, 1);
        assert!(matches!(cluster.reply(nobody_leads), Some(Reply::NotLeader { leader: None })));
        post.elect(&mut cluster, 1);
        cluster.isolate(&[1]);
        let change = cluster.change(1, MembershipChange::AddLearners(nodes([4])));
        let transfer = cluster.transfer(1, Some(2));
        let read = cluster.read(1);
        let refused = cluster.write(1, 2);
        let snapshot = cluster.build_snapshot(1);
        post.run(&mut cluster, 20 * ELECTION_TIMEOUT_MS);
        assert_eq!(cluster.role(1), RoleName::PreCandidate);
        for request in [change, transfer, read, refused, snapshot] {
            assert!(cluster.reply(request).is_some(), "{request:?} is not answered");
        }
        let Some(Reply::ChangeMembershipFailed(error)) = cluster.reply(change) else { panic!("it failed") };
        assert!(matches!(error, openconsensus::ChangeMembershipError::Unknown { .. }), "{error}");
    });
}

// ---- one owner ----

/// hashicorp/raft#695 (#701) and #717.
///
/// A leader had read its term for a new entry when another task took over a later term from a heartbeat: the entry was
/// stored and sent in a term in which this node never led, and there were two entries of one name. Here everything that
/// happens goes through one step after the other; in whatever order they come, an entry has the term in which its node led.
#[test]
fn a_write_and_the_heartbeat_of_a_later_leader_do_not_race() {
    for write_first in [true, false] {
        let mut cluster = Cluster::of(3);
        cluster.elect(1);
        let (old, last) = (cluster.term(1), cluster.metrics(1).last);
        cluster.isolate(&[1]);
        cluster.elect(2);
        let new = cluster.term(2);
        cluster.lose_all();
        let request = cluster.request();
        let body = Body::Heartbeat { round: 1, commit: LogId::ZERO };
        let heartbeat = Input::Receive { from: 2, message: Message { term: new, body } };
        let write = Input::Write { request, commands: vec![66] };
        let inputs = if write_first { [write, heartbeat] } else { [heartbeat, write] };
        cluster.step_all(1, inputs);
        assert_eq!((cluster.role(1), cluster.term(1)), (RoleName::Follower, new));
        let appended = cluster.node(1).view.entries().iter().map(|entry| entry.log_id);
        let appended: Vec<LogId> = appended.filter(|id| last.index < id.index).collect();
        let expected = if write_first { vec![LogId::new(old, last.index + 1)] } else { vec![] };
        assert_eq!(appended, expected);
        assert_eq!(cluster.outcome(request), if write_first { Outcome::Dropped } else { Outcome::NotLeader });
        assert!(cluster.letters().all(|letter| letter.from != 1 || !letter.is_append()));
        cluster.lose_all();
        cluster.recover();
    }
}

/// hashicorp/raft#695 (the variant with votes).
///
/// Two requests for votes of one term that are handled at the same time
/// got two votes. Here the second one sees what the first has been given, also before anything is on the disk.
#[test]
fn two_candidates_that_ask_at_the_same_time_get_one_vote_between_them() {
    for (first, second) in [(1, 3), (3, 1)] {
        let mut cluster = Cluster::of(3);
        cluster.slow_disk(2);
        let last = cluster.metrics(2).last;
        let ask = |from| {
            let body = Body::VoteRequest { kind: VoteKind::Normal, campaign: from, last };
            Input::Receive { from, message: Message { term: 5, body } }
        };
        cluster.step_all(2, [ask(first), ask(second), ask(first), ask(second)]);
        cluster.speed_up(2);
        let granted = cluster
            .intercept(|letter| matches!(letter.body(), Some(Body::VoteResponse { granted: true, .. })));
        assert!(!granted.is_empty() && granted.iter().all(|letter| letter.to == first), "{granted:?}");
        assert_eq!(cluster.metrics(2).voted_for, Some(first));
    }
}

/// redpanda-data/redpanda#21345, vesoft-inc/nebula#568, databendlabs/openraft#994.
///
/// The requests of one campaign hung for so long that the next one had begun. The late answers made the node a leader, the
/// end of the other campaign made it a follower again, and its timer was that of a leader: it never campaigned again, and
/// only it had the whole log. Here answers belong to one campaign, and every role begins with its own timers.
#[test]
fn answers_to_a_campaign_that_is_over_change_nothing() {
    let late_by = |kind: VoteKind| {
        let mut cluster = Cluster::of(3);
        cluster.elect(2);
        cluster.isolate(&[2]);
        cluster.skip(ELECTION_TIMEOUT_MS);
        match kind {
            VoteKind::Pre => cluster.time_out(1),
            VoteKind::Normal | VoteKind::Transfer => cluster.step(1, Input::Campaign),
        }
        let asked = cluster.intercept(Letter::is_vote_request);
        asked.into_iter().for_each(|letter| cluster.deliver(letter));
        let late = cluster.intercept(Letter::is_vote_response);
        assert_eq!(late.len(), 1);
        // The next campaign, of which nothing arrives.
        cluster.time_out(1);
        cluster.lose_all();
        (cluster, late)
    };
    for kind in [VoteKind::Pre, VoteKind::Normal] {
        let (mut cluster, late) = late_by(kind);
        let before = cluster.metrics(1);
        assert_eq!(before.role, RoleName::PreCandidate);
        for letter in late {
            cluster.deliver(letter.clone());
            cluster.deliver(letter);
        }
        let after = cluster.metrics(1);
        assert_eq!((after.role, after.term), (before.role, before.term), "{kind:?}");
        let deadline = cluster.node(1).engine().next_deadline().expect("it goes on");
        assert!((deadline - cluster.now).as_millis() <= u128::from(ELECTION_TIMEOUT_MS));
        // And it is elected in the end, with node 3 alone.
        cluster.run(20 * ELECTION_TIMEOUT_MS);
        assert!(cluster.leader().is_some());
    }
}

/// databendlabs/openraft#1840.
///
/// A leader was told to campaign. It went to the next term and went on leading in the old one; its heartbeats made the voters
/// refuse its own requests, so that the campaign could never succeed. Here it does nothing: a leader leads already.
#[test]
fn a_leader_that_is_told_to_campaign_goes_on_leading_in_its_term() {
    each_way(|post| {
        let mut cluster = Cluster::of(3);
        post.elect(&mut cluster, 1);
        let term = cluster.term(1);
        for command in 0..5 {
            cluster.step(1, Input::Campaign);
            let write = cluster.write(1, command);
            post.run(&mut cluster, 50);
            assert_eq!(cluster.outcome(write), Outcome::Applied);
        }
        assert_eq!([1, 2, 3].map(|id| cluster.term(id)), [term; 3]);
        // A follower that is told so ends what it was, and begins with new timers.
        cluster.step(2, Input::Campaign);
        assert_eq!((cluster.role(2), cluster.metrics(2).leader), (RoleName::Candidate, None));
        cluster.lose_all();
        cluster.recover();
    });
}
