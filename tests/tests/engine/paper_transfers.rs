//! Transfers that are asked for on any node, with messages that are lost, late or come twice: what the asker is told.

use openconsensus::engine::{Reply, RequestId};
use openconsensus::{Body, Config, Message, RoleName, TransferAnswer, TransferError};
use openconsensus_tests::engines::{Cluster, Letter, Outcome};

use super::known_bugs::common::{purging, with_learners};

fn is_request(letter: &Letter) -> bool {
    matches!(letter.body(), Some(Body::TransferRequest { .. }))
}

fn is_response(letter: &Letter) -> bool {
    matches!(letter.body(), Some(Body::TransferResponse { .. }))
}

fn error(cluster: &Cluster, request: RequestId) -> TransferError<openconsensus_tests::engines::Test> {
    match cluster.reply(request) {
        Some(Reply::TransferFailed(error)) => error.clone(),
        other => panic!("not refused: {other:?}"),
    }
}

fn begun(cluster: &Cluster, id: u64) -> u64 {
    cluster.metrics(id).counters.transfers_begun
}

/// How long an asker waits at most, as `Raft::transfer_leadership` promises.
fn longest_ms(config: &Config) -> u64 {
    2 * (config.transfer_timeout_ms + config.election_timeout_ms_max)
}

/// Whatever single message is lost or comes twice, and whoever is asked to hand over to whomever: the asker is answered
/// in time, and what it is told is true.
#[test]
fn every_asker_is_answered_in_time_and_rightly_whatever_message_is_lost() {
    for asker in 1..=4 {
        for target in [None, Some(1), Some(2), Some(3), Some(4)] {
            for lost in 0..14 {
                for is_repeated in [false, true] {
                    ask_and_lose(asker, target, lost, is_repeated);
                }
            }
        }
    }
}

fn ask_and_lose(asker: u64, target: Option<u64>, lost: usize, is_repeated: bool) {
    let mut cluster = with_learners(3, [4]);
    let config = Config::default();
    let request = cluster.transfer(asker, target);
    let mut place = 0;
    while let Some(letter) = cluster.take_oldest() {
        match (place == lost, is_repeated) {
            (true, false) => cluster.lose(letter),
            (true, true) => {
                cluster.deliver(letter.clone());
                cluster.deliver(letter);
            }
            (false, _) => cluster.deliver(letter),
        }
        place += 1;
        if 100 < place {
            break;
        }
    }
    let deadline = cluster.now + std::time::Duration::from_millis(longest_ms(&config));
    while cluster.reply(request).is_none() && cluster.now < deadline {
        cluster.run(30);
    }
    let leader = cluster.leader().expect("somebody leads");
    let case = format!("asked of {asker} to {target:?}, letter {lost}, repeated: {is_repeated}");
    match (target, cluster.reply(request)) {
        (Some(4), Some(Reply::TransferFailed(TransferError::NotAVoter { target: 4, .. }))) => {
            assert_eq!((leader, begun(&cluster, 1)), (1, 0), "{case}");
        }
        (target, Some(Reply::Transferred { leader: told })) => {
            assert!(target.is_none_or(|target| target == *told), "{case}: {told}");
            assert_eq!(*told, leader, "{case}: nobody else has been elected since");
            assert_eq!(begun(&cluster, 1), u64::from(target != Some(1)), "{case}: begun once");
        }
        (_, reply) => panic!("{case}: {reply:?}\n{}", cluster.describe()),
    }
}

/// A request that comes again when the transfer that it began has failed is told so, and begins no other.
#[test]
fn a_request_that_comes_late_begins_no_second_transfer() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.cut(1, 3);
    let request = cluster.transfer(2, Some(3));
    let copies: Vec<Letter> = cluster.letters().filter(|letter| is_request(letter)).cloned().collect();
    cluster.run(2 * Config::default().transfer_timeout_ms);
    assert_eq!(error(&cluster, request), TransferError::TimedOut { target: 3 });
    assert_eq!(begun(&cluster, 1), 1);
    // Now the target would take over.
    cluster.heal();
    cluster.run(4 * Config::default().heartbeat_interval_ms);
    assert!(cluster.metrics(1).peers[&3].active);
    for letter in copies.iter().cycle().take(3) {
        cluster.deliver(letter.clone());
        let answers = cluster.intercept(is_response);
        assert!(
            matches!(
                answers.last().and_then(Letter::body),
                Some(Body::TransferResponse { answer: TransferAnswer::Refused(_), .. })
            ),
            "{answers:?}"
        );
    }
    assert_eq!((begun(&cluster, 1), cluster.is_leader(1)), (1, true));
    // And in a later term nobody listens to it.
    cluster.elect(2);
    cluster.elect(1);
    copies.into_iter().for_each(|letter| cluster.deliver(letter));
    assert_eq!(begun(&cluster, 1), 1);
}

/// An answer counts only for the request that it names, and only from the leader that was asked.
#[test]
fn an_answer_to_another_request_or_of_another_node_means_nothing() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let request = cluster.transfer(2, Some(3));
    let asked = cluster.intercept(is_request);
    let Some(Body::TransferRequest { transfer, .. }) = asked[0].body() else { panic!("{asked:?}") };
    let (transfer, term) = (*transfer, cluster.term(1));
    let leads = |transfer| {
        let answer = TransferAnswer::Leads { leader: 3 };
        Message { term, body: Body::TransferResponse { transfer, answer } }
    };
    cluster.receive(2, 1, leads(transfer - 1));
    cluster.receive(2, 3, leads(transfer));
    assert!(cluster.reply(request).is_none());
    asked.into_iter().for_each(|letter| cluster.deliver(letter));
    cluster.settle();
    assert!(matches!(cluster.reply(request), Some(Reply::Transferred { leader: 3 })));
}

/// What the target says counts only while a transfer to it is under way.
#[test]
fn only_the_target_declines() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let term = cluster.term(1);
    let declined = || Message { term, body: Body::TimeoutNowDeclined };
    cluster.receive(1, 2, declined());
    let request = cluster.transfer(1, Some(2));
    let order = cluster.intercept(|letter| matches!(letter.body(), Some(Body::TimeoutNow)));
    cluster.receive(1, 3, declined());
    assert!(cluster.reply(request).is_none());
    cluster.receive(1, 2, declined());
    assert_eq!(error(&cluster, request), TransferError::Declined { target: 2 });
    let metrics = cluster.metrics(1);
    assert_eq!((metrics.role, metrics.transfer_to), (RoleName::Leader, None));
    assert_eq!((metrics.counters.transfers_begun, metrics.counters.transfers_failed), (1, 1));
    let write = cluster.write(1, 7);
    cluster.settle();
    assert_eq!(cluster.outcome(write), Outcome::Applied);
    // Late, it is obeyed all the same: the target has no way to know. Nothing is lost by that.
    order.into_iter().for_each(|letter| cluster.deliver(letter));
    cluster.settle();
    cluster.run(100);
    assert_eq!(cluster.commands(cluster.leader().expect("somebody leads")), [7]);
}

/// A target that has everything, and whose disk hangs over something else, says so to the leader that hands over to it.
#[test]
fn a_target_that_cannot_campaign_declines_at_once() {
    let mut cluster = Cluster::with_config(3, Config { write_stall_timeout_ms: 50, ..purging() });
    cluster.elect(1);
    cluster.slow_disk(2);
    cluster.build_snapshot(2);
    cluster.run(60);
    assert!(cluster.has_writes(2), "it purges its log");
    let request = cluster.transfer(1, Some(2));
    cluster.settle();
    assert_eq!(error(&cluster, request), TransferError::Declined { target: 2 });
    assert!(cluster.is_leader(1));
    cluster.speed_up(2);
    let request = cluster.transfer(1, Some(2));
    cluster.settle();
    assert!(matches!(cluster.reply(request), Some(Reply::Transferred { leader: 2 })));
}

/// Writes are kept back until it is known who leads, so that their clients are told where to go. One that is stepped in
/// nevertheless is told who was asked to take over.
#[test]
fn writes_wait_until_the_new_leader_is_known() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.transfer(1, Some(2));
    let holds = |cluster: &Cluster| cluster.node(1).engine().holds_writes();
    assert!(holds(&cluster));
    assert_eq!(cluster.metrics(1).transfer_to, Some(2));
    // It has voted for the target and leads no more; the new leader has not been heard.
    while cluster.is_leader(1) {
        cluster.deliver_oldest();
    }
    assert!(holds(&cluster), "the target is about to lead");
    assert_eq!((cluster.metrics(1).leader, cluster.metrics(1).transfer_to), (None, None));
    let write = cluster.write(1, 7);
    assert!(
        matches!(cluster.reply(write), Some(Reply::NotLeader { leader: Some(hint) }) if hint.id == 2),
        "{:?}",
        cluster.reply(write)
    );
    cluster.settle();
    assert!(!holds(&cluster));
    assert_eq!(cluster.metrics(1).counters.transfers_succeeded, 1);
    let write = cluster.write(1, 8);
    assert!(matches!(cluster.reply(write), Some(Reply::NotLeader { leader: Some(hint) }) if hint.id == 2));
}

/// They do not wait for ever for a leader that is never heard.
#[test]
fn writes_wait_no_longer_than_a_transfer_may_take() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let request = cluster.transfer(1, Some(2));
    while cluster.is_leader(1) {
        cluster.deliver_oldest();
    }
    cluster.lose_all();
    cluster.isolate(&[1]);
    let config = Config::default();
    cluster.run(config.transfer_timeout_ms + config.election_timeout_ms_max + 1);
    assert!(!cluster.node(1).engine().holds_writes());
    assert_eq!(error(&cluster, request), TransferError::Failed { target: 2, leader: None });
    assert_eq!(cluster.metrics(1).counters.transfers_failed, 1);
}

/// With no target named: the voter that has most of the log, of those that answer and need no snapshot.
#[test]
fn the_best_of_those_that_answer_is_chosen() {
    // Node 5 is dead and has everything that 3 and 4 have, node 2 lags, node 6 is a learner.
    let mut cluster = with_learners(5, [6]);
    cluster.cut(1, 2);
    cluster.write(1, 7);
    cluster.settle();
    cluster.crash(5);
    cluster.run(Config::default().election_timeout_ms_max);
    assert_eq!(cluster.metrics(1).peers[&5].matched, cluster.metrics(1).peers[&4].matched);
    assert!(cluster.metrics(1).peers[&2].matched < cluster.metrics(1).peers[&4].matched);
    let request = cluster.transfer(1, None);
    cluster.settle();
    assert!(
        matches!(cluster.reply(request), Some(Reply::Transferred { leader: 4 })),
        "{}",
        cluster.describe()
    );
}
