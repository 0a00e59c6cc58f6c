//! Known bugs of the transfer of leadership.

use openconsensus::engine::{Input, Reply};
use openconsensus::{Body, Config, Message, TransferError, VoteKind};
use openconsensus_tests::engines::{Cluster, ELECTION_TIMEOUT_MS, Letter, Outcome};

use super::post::each_way;

fn is_timeout_now(letter: &Letter) -> bool {
    matches!(letter.body(), Some(Body::TimeoutNow))
}

/// databendlabs/openraft#1747 and #2088, hashicorp/raft#581, canonical/raft#477, tikv/tikv#19922, baidu/braft#262.
///
/// Leadership was being handed over to a node that was dead. Writes were answered with "go there"; reads went on, and their
/// heartbeats kept everybody else from an election: nobody could write for hours. Here a transfer has a deadline, and then
/// the leader goes on as if nothing had been asked.
#[test]
fn a_transfer_to_a_dead_node_ends_and_writes_go_on() {
    each_way(|post| {
        let mut cluster = Cluster::of(3);
        post.elect(&mut cluster, 1);
        cluster.crash(2);
        let request = cluster.transfer(1, Some(2));
        let refused = cluster.write(1, 1);
        assert_eq!(cluster.outcome(refused), Outcome::NotLeader);
        let steps = Config::default().transfer_timeout_ms / 10;
        for _ in 0..=steps {
            cluster.read(1);
            cluster.read(3);
            post.run(&mut cluster, 10);
        }
        let timed_out = TransferError::TimedOut { target: 2 };
        assert!(matches!(cluster.reply(request), Some(Reply::TransferFailed(error)) if *error == timed_out));
        let write = cluster.write(1, 2);
        post.settle(&mut cluster);
        assert_eq!(cluster.outcome(write), Outcome::Applied);
        // And the next transfer is not held up by the last one.
        let request = cluster.transfer(1, Some(3));
        post.run(&mut cluster, 100);
        assert!(matches!(cluster.reply(request), Some(Reply::Transferred { leader: 3 })));
    });
}

/// rabbitmq/ra (3.1.8), RedisLabs/raft#88, camunda/camunda#62873.
///
/// The target ignored the order because it had not written everything to its disk, and nobody asked it again. Or writes went
/// on all the time, so that it never had everything. Here it is told when its acknowledgements reach the end of the log, and
/// once more with each round of heartbeats, and no write is taken meanwhile.
#[test]
fn a_target_that_lags_is_told_when_it_has_everything_and_told_again() {
    each_way(|post| {
        for lost in 0..4 {
            let mut cluster = Cluster::of(3);
            post.elect(&mut cluster, 1);
            cluster.slow_disk(2);
            for command in 0..5 {
                cluster.write(1, command);
            }
            post.settle(&mut cluster);
            let request = cluster.transfer(1, Some(2));
            post.run_but(&mut cluster, 100, |letter| {
                assert!(!is_timeout_now(letter), "its disk has not everything yet");
                false
            });
            let term = cluster.term(1);
            cluster.speed_up(2);
            for _ in 0..lost {
                // As many are lost as may be within the time for a transfer.
                while !cluster.letters().any(is_timeout_now) {
                    let letters = cluster.intercept(|_| true);
                    if letters.is_empty() {
                        cluster.time_out(1);
                    }
                    letters.into_iter().for_each(|letter| cluster.deliver(letter));
                }
                cluster.intercept(is_timeout_now);
            }
            post.run(&mut cluster, 100);
            assert!(cluster.is_leader(2), "after {lost} losses:\n{}", cluster.describe());
            assert_eq!(cluster.term(2), term + 1, "told twice, it is elected once");
            assert!(matches!(cluster.reply(request), Some(Reply::Transferred { leader: 2 })));
        }
    });
}

/// hashicorp/raft#306, canonical/raft#477.
///
/// The target began with a pre-vote, which everybody refused who had just heard the leader, or a heartbeat of the same term
/// called it back; in a cluster of five the voters shielded the leader against its own wish. Here the target asks for votes
/// at once, and says that it was told to; voters do not hold the living leader against it.
#[test]
fn voters_that_have_just_heard_the_leader_vote_for_the_target_of_a_transfer() {
    each_way(|post| {
        for pre_vote in [true, false] {
            let mut cluster = Cluster::with_config(5, Config { pre_vote, ..Config::default() });
            post.elect(&mut cluster, 1);
            cluster.step(1, Input::Timeout);
            post.settle(&mut cluster);
            let begun = cluster.now;
            let request = cluster.transfer(1, Some(4));
            // A heartbeat of the old leader arrives behind the order, and those of everybody else are late.
            let order = cluster.intercept(is_timeout_now);
            assert_eq!(order.len(), 1);
            order.into_iter().for_each(|letter| cluster.deliver(letter));
            let asked = cluster.intercept(Letter::is_vote_request);
            assert!(asked.iter().all(|letter| matches!(
                letter.body(),
                Some(Body::VoteRequest { kind: VoteKind::Transfer, .. })
            )));
            cluster.time_out(1);
            let heartbeats = cluster.intercept(Letter::is_heartbeat);
            assert!(!heartbeats.is_empty());
            heartbeats.into_iter().for_each(|letter| cluster.deliver(letter));
            cluster.lose_all();
            asked.into_iter().for_each(|letter| cluster.deliver(letter));
            post.settle(&mut cluster);
            assert!(cluster.is_leader(4), "{}", cluster.describe());
            assert!((cluster.now - begun).as_millis() <= 60, "nobody had to wait for an election");
            post.run(&mut cluster, 100);
            assert!(matches!(cluster.reply(request), Some(Reply::Transferred { leader: 4 })));
        }
    });
}

/// baidu/braft#262, databendlabs/openraft#2088.
///
/// An order that came late, when another leader had been elected or the transfer was given up, deposed whoever led then.
/// Here it counts only in its own term and from the leader that the node follows; what was given up in the same term is
/// obeyed at most once, by a target that has everything.
#[test]
fn an_order_to_take_over_that_comes_late_does_no_harm() {
    each_way(|post| {
        let mut cluster = Cluster::of(3);
        post.elect(&mut cluster, 1);
        let request = cluster.transfer(1, Some(2));
        let late = cluster.intercept(is_timeout_now);
        cluster.isolate(&[2]);
        post.run(&mut cluster, 2 * Config::default().transfer_timeout_ms);
        assert!(matches!(cluster.reply(request), Some(Reply::TransferFailed(_))));
        cluster.heal();
        post.elect(&mut cluster, 3);
        let term = cluster.term(3);
        for letter in late {
            cluster.deliver(letter.clone());
            cluster.deliver(letter);
        }
        // As the leader of the term has never said.
        cluster.receive(2, 1, Message { term, body: Body::TimeoutNow });
        post.run(&mut cluster, ELECTION_TIMEOUT_MS);
        assert_eq!((cluster.is_leader(3), cluster.term(3)), (true, term));
        cluster.recover();
    });
}
