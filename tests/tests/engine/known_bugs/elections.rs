//! Elections: votes that are given twice, counted wrongly, or given to the wrong node.

use std::collections::BTreeSet;

use openconsensus::engine::Input;
use openconsensus::{
    AppendResult, Body, Config, Entries, HardState, LogId, MembershipChange, Message, RoleName, Term,
    VoteKind,
};
use openconsensus_tests::engines::{Cluster, ELECTION_TIMEOUT_MS, Letter, nodes};

use super::common::{append, ask, campaign_but, granted, ids, is_changed, purging, with_learners};
use super::variations::in_all_variations;

const KINDS: [VoteKind; 3] = [VoteKind::Pre, VoteKind::Normal, VoteKind::Transfer];

/// A voter answered from memory and wrote its vote later, or never. Restarted in between, it voted a second time in the
/// same term, and both candidates led it. Here a granted vote waits for the write that makes it durable, so the first
/// one was never given.
///
/// `bakwc/PySyncObj#202`, `bakwc/PySyncObj#201`, `bakwc/PySyncObj#98`, `ongardie/raft.tla#5`,
/// `camunda/camunda#19290`; Raft paper, figure 2 (persistent state).
#[test]
fn a_vote_that_a_crash_has_lost_was_never_given() {
    let mut cluster = Cluster::of(3);
    cluster.cut(1, 2);
    cluster.slow_disk(3);
    cluster.step(1, Input::Campaign);
    cluster.settle();
    cluster.crash(3);
    cluster.restart(3);
    cluster.step(2, Input::Campaign);
    cluster.settle();
    assert_eq!([1, 2].map(|id| cluster.role(id)), [RoleName::Candidate; 2], "no vote is durable yet");
    cluster.complete_write(3);
    cluster.settle();
    assert_eq!([1, 2].map(|id| cluster.is_leader(id)), [false, true]);
    cluster.recover();
}

/// Nodes lost the file with their term and kept their logs. They began again in term 0 with entries of term 5; a leader of
/// term 1 committed what the next candidate, whose last entry was of term 5, overwrote. Here a node whose term is below
/// that of its last entry does not start.
///
/// `bakwc/PySyncObj#98`, `NodeDB-Lab/nodedb#165`
#[test]
fn a_node_that_has_lost_its_term_and_kept_its_log_does_not_start() {
    let log: &[Term] = &[1, 5, 5];
    for term in 0..=5 {
        let mut cluster = Cluster::with_logs(3, &[(1, log), (2, log), (3, log)]);
        let config = Config::default().validate().expect("the default is valid");
        for id in 1..=3 {
            cluster.crash(id);
            let now = cluster.now;
            cluster.node_mut(id).disk.hard_state = HardState { term, voted_for: None, commit: 1 };
            let started = cluster.node_mut(id).start(&config, now);
            assert_eq!(started.is_ok(), term == 5, "term {term}: {started:?}");
        }
    }
}

/// Becoming a follower cleared the vote, also when the term stayed the same: voters that had helped to elect a leader
/// helped a second candidate of the same term as soon as they heard from the first. Here the vote goes only together
/// with the term.
///
/// `ktoso/akka-raft#56`; Raft paper 5.2.
#[test]
fn hearing_the_leader_of_a_term_does_not_free_the_vote_of_that_term() {
    let begin = || Cluster::of(5);
    in_all_variations(begin, |stage| {
        for id in [1, 2, 3] {
            stage.step(id, Input::Campaign);
        }
        let of_3 = stage.intercept(|letter| letter.from == 3);
        stage.settle_but(|letter| letter.from == 2 && letter.is_vote_request());
        stage.plainly(|cluster| {
            assert!(cluster.is_leader(1));
            assert!((2..=5).all(|id| cluster.metrics(id).leader == Some(1)));
        });
        // Late enough that nobody refuses only because the leader was heard just now.
        stage.skip(ELECTION_TIMEOUT_MS);
        for letter in of_3 {
            stage.hand_over(letter);
        }
        stage.plainly(|cluster| {
            assert!(cluster.letters().filter_map(granted).all(|is_granted| !is_granted));
        });
        stage.settle();
    });
}

/// Entering a pre-vote cleared the vote that had been given in the current term. The next request of that term got a second
/// one. Here a pre-vote touches neither term nor vote, of the one who asks or of the one who answers.
///
/// `canonical/raft#196`; thesis 9.6.
#[test]
fn asking_for_pre_votes_does_not_free_the_vote_of_the_term() {
    let mut cluster = Cluster::of(3);
    let (term, last) = (cluster.term(2) + 1, cluster.metrics(2).last);
    assert_eq!(ask(&mut cluster, 2, 1, term, VoteKind::Normal, last), Some(true));
    cluster.time_out(2);
    assert_eq!(cluster.role(2), RoleName::PreCandidate);
    assert_eq!(ask(&mut cluster, 2, 3, term, VoteKind::Normal, last), Some(false));
    assert_eq!(ask(&mut cluster, 2, 3, term, VoteKind::Pre, last), Some(true), "which promises nothing");
    assert_eq!(ask(&mut cluster, 2, 3, term, VoteKind::Normal, last), Some(false));
    assert_eq!(cluster.metrics(2).voted_for, Some(1));
}

/// A candidate counted its own vote without noting it, so it gave the same vote to another candidate of its term, and both
/// won. Here the vote for oneself is a vote like any other.
///
/// `vesoft-inc/nebula#3415`; Raft paper 5.2.
#[test]
fn a_candidate_has_no_second_vote_for_another_candidate_of_its_term() {
    let mut cluster = Cluster::of(5);
    cluster.step(1, Input::Campaign);
    cluster.settle_but(|letter| letter.is_vote_request() && 4 <= letter.to || letter.is_vote_response());
    let (term, campaign) = (cluster.term(1), cluster.campaign_of(1));
    cluster.step(5, Input::Campaign);
    cluster.settle_but(|letter| letter.is_vote_request() && ![1, 4].contains(&letter.to));
    assert_eq!(
        (cluster.term(5), cluster.role(5)),
        (term, RoleName::Candidate),
        "with its own vote and that of 4"
    );
    // What nodes 2 and 3 have granted arrives at last.
    for id in [2, 3] {
        let body = Body::VoteResponse { kind: VoteKind::Normal, campaign, granted: true };
        cluster.receive(1, id, Message { term, body });
    }
    assert!(cluster.is_leader(1));
    cluster.settle();
    cluster.recover();
}

/// The same with a restart: a candidate asked others before its own vote was on the disk, came back without it, and gave
/// it away. Here nobody is asked before.
///
/// `vesoft-inc/nebula#3415`; thesis 3.8.
#[test]
fn a_candidate_that_has_asked_anybody_remembers_its_own_vote_after_a_restart() {
    for write_is_done in [false, true] {
        let mut cluster = Cluster::of(5);
        cluster.slow_disk(1);
        cluster.step(1, Input::Campaign);
        let (term, last) = (cluster.term(1), cluster.metrics(1).last);
        if write_is_done {
            cluster.complete_write(1);
        }
        let has_asked = cluster.intercept(Letter::is_vote_request).len() == 4;
        assert_eq!(has_asked, write_is_done);
        cluster.crash(1);
        cluster.restart(1);
        cluster.speed_up(1);
        let is_granted = ask(&mut cluster, 1, 5, term, VoteKind::Normal, last);
        assert_eq!(is_granted, Some(!has_asked));
    }
}

/// "At least as up to date" was asked of term and index separately. Of two survivors, one with a later term and one
/// with a longer log, neither could win: no leader for ever. Here last entries are compared as a whole, term first.
///
/// openraft, commit `a48a3282`; Raft paper 5.4.1.
#[test]
fn of_a_later_term_and_a_longer_log_the_later_term_wins() {
    let mut cluster = Cluster::with_logs(3, &[(1, &[1, 2]), (2, &[1, 1, 1]), (3, &[1])]);
    cluster.crash(3);
    let (short, long) = (cluster.metrics(1).last, cluster.metrics(2).last);
    for kind in KINDS {
        assert_eq!(ask(&mut cluster, 1, 2, 3, kind, long), Some(false), "{kind:?}");
    }
    for kind in KINDS {
        assert_eq!(ask(&mut cluster, 2, 1, 4, kind, short), Some(true), "{kind:?}");
    }
    cluster.lose_all();
    cluster.run_until(20 * ELECTION_TIMEOUT_MS, "a leader", |cluster| cluster.is_leader(1));
}

/// Only lengths were compared, so a long log of an old term won and erased what a shorter one had committed in a later
/// term. That holds also where the entries are in a snapshot and the log behind it is empty.
///
/// `hydro-project/hydro#3082`; Raft paper 5.4.1.
#[test]
fn a_long_log_of_an_old_term_does_not_win_also_against_a_snapshot() {
    let mut cluster = Cluster::with_config(3, purging());
    cluster.elect(2);
    cluster.isolate(&[2]);
    cluster.write_many(2, &[7; 20]);
    cluster.elect(1);
    cluster.write(1, 8);
    cluster.settle();
    cluster.build_snapshot(3);
    let committed = cluster.metrics(3).last;
    assert_eq!(cluster.metrics(3).purged, committed, "its log is empty");
    let long = cluster.metrics(2).last;
    assert!(long.term < committed.term && committed.index < long.index);
    cluster.skip(ELECTION_TIMEOUT_MS);
    let term = cluster.term(3) + 1;
    for (voter, kind) in KINDS.iter().flat_map(|kind| [(1, kind), (3, kind)]) {
        let is_granted = ask(&mut cluster, voter, 2, term, *kind, long);
        assert_eq!(is_granted, Some(false), "{kind:?} of {voter}");
    }
    assert_eq!(ask(&mut cluster, 3, 1, term, VoteKind::Normal, committed), Some(true));
    cluster.lose_all();
    cluster.recover();
}

/// Two requests were handled beside each other: both found the vote free, and both were granted. Here one step decides
/// and notes the vote, the next one sees it, and neither answer leaves before the disk is done. Also in the middle of a
/// change of role.
///
/// `camunda/camunda#5356`, `camunda/camunda#1068`; Raft paper 5.2.
#[test]
fn two_requests_that_are_handled_before_the_disk_is_done_get_one_vote() {
    for was_candidate in [false, true] {
        let mut cluster = Cluster::of(5);
        if was_candidate {
            cluster.step(3, Input::Campaign);
        }
        cluster.lose_all();
        cluster.slow_disk(3);
        let last = cluster.metrics(3).last;
        let request = |from| {
            let body = Body::VoteRequest { kind: VoteKind::Normal, campaign: 1, last };
            Input::Receive { from, message: Message { term: 9, body } }
        };
        cluster.step_all(3, [request(1), request(2), request(1)]);
        cluster.step(3, request(2));
        cluster.step(3, request(4));
        let is_granted = |letter: &Letter| granted(letter) == Some(true);
        assert_eq!(cluster.letters().filter(|letter| is_granted(letter)).count(), 0);
        cluster.speed_up(3);
        let to: BTreeSet<u64> =
            cluster.letters().filter(|letter| is_granted(letter)).map(|letter| letter.to).collect();
        assert_eq!(to, ids([1]));
    }
}

/// The mirror image: the term was raised and the vote of the old one was kept. The voter had "already voted" in a term
/// that nobody had campaigned in, and refused everyone. Here a later term begins without a vote, whatever brings it.
///
/// `camunda/camunda#5356`
#[test]
fn a_later_term_begins_with_a_free_vote_whatever_brings_it() {
    let bring: [fn(Term) -> Body<openconsensus_tests::engines::Test>; 4] = [
        |_| Body::Heartbeat { round: 1, commit: LogId::ZERO },
        |_| Body::HeartbeatResponse { round: 1, promise_ms: 0 },
        |_| Body::AppendResponse { result: AppendResult::StaleTerm },
        |_| Body::VoteRequest { kind: VoteKind::Normal, campaign: 3, last: LogId::ZERO },
    ];
    for body in bring {
        let mut cluster = Cluster::of(3);
        let last = cluster.metrics(3).last;
        assert_eq!(ask(&mut cluster, 3, 1, 9, VoteKind::Normal, last), Some(true));
        cluster.receive(3, 2, Message { term: 10, body: body(10) });
        cluster.lose_all();
        assert_eq!((cluster.term(3), cluster.metrics(3).voted_for), (10, None));
        cluster.skip(ELECTION_TIMEOUT_MS);
        assert_eq!(ask(&mut cluster, 3, 2, 10, VoteKind::Normal, last), Some(true));
    }
}

/// A pre-candidate began another round with the answers of the one before still in its list: it won without a single new
/// vote. Here each campaign has a number, and answers to another one are dropped.
///
/// `tikv/raft-rs#83`; thesis 9.6.
#[test]
fn answers_to_an_earlier_pre_vote_do_not_win_the_next() {
    let mut cluster = Cluster::of(5);
    let term = cluster.term(1);
    cluster.time_out(1);
    cluster.settle_but(|letter| letter.is_vote_request() && 3 < letter.to || letter.is_vote_response());
    let campaign = cluster.campaign_of(1);
    let answer = |cluster: &mut Cluster, from| {
        let body = Body::VoteResponse { kind: VoteKind::Pre, campaign, granted: true };
        cluster.receive(1, from, Message { term, body });
    };
    answer(&mut cluster, 2);
    cluster.time_out(1);
    cluster.lose_all();
    answer(&mut cluster, 2);
    answer(&mut cluster, 3);
    assert_eq!((cluster.role(1), cluster.term(1)), (RoleName::PreCandidate, term));
}

/// Votes were counted as a number: an answer that the network had doubled was two votes, one that came late was counted in
/// the next term, and an answer to a pre-vote passed for a vote. Here the votes of a campaign are a set of nodes.
///
/// `ktoso/akka-raft#47`; Raft paper 5.2.
#[test]
fn a_vote_counts_once_in_its_own_campaign_and_for_what_was_asked() {
    let mut cluster = Cluster::of(5);
    cluster.step(1, Input::Campaign);
    cluster.settle_but(|letter| letter.is_vote_request() && letter.to != 2);
    assert_eq!(cluster.role(1), RoleName::Candidate, "two of five");
    let (term, campaign) = (cluster.term(1), cluster.campaign_of(1));
    let answer = |cluster: &mut Cluster, from, term, kind, campaign| {
        let body = Body::VoteResponse { kind, campaign, granted: true };
        cluster.receive(1, from, Message { term, body });
    };
    answer(&mut cluster, 2, term, VoteKind::Normal, campaign);
    assert_eq!(cluster.role(1), RoleName::Candidate, "the same again");
    for from in [3, 4, 5] {
        answer(&mut cluster, from, term, VoteKind::Pre, campaign);
        answer(&mut cluster, from, term, VoteKind::Normal, campaign - 1);
    }
    assert_eq!(cluster.role(1), RoleName::Candidate, "what nobody was asked for");
    cluster.step(1, Input::Campaign);
    for from in [2, 3, 4, 5] {
        answer(&mut cluster, from, term, VoteKind::Normal, campaign);
        answer(&mut cluster, from, term + 1, VoteKind::Normal, campaign);
    }
    assert_eq!(
        (cluster.role(1), cluster.term(1)),
        (RoleName::Candidate, term + 1),
        "votes of the term before"
    );
}

/// Learners were asked and counted: with three voters and two learners, one voter and two learners elected a leader. Here
/// the candidate counts by the voters of the membership in force.
///
/// `eBay/HomeStore#764`; thesis 4.2.1.
#[test]
fn learners_and_strangers_elect_nobody() {
    let mut cluster = with_learners(3, [4, 5]);
    cluster.isolate(&[1, 3]);
    campaign_but(&mut cluster, 2, |_| false);
    let (term, campaign) = (cluster.term(2), cluster.campaign_of(2));
    for from in [4, 5, 8, 9] {
        let body = Body::VoteResponse { kind: VoteKind::Normal, campaign, granted: true };
        cluster.receive(2, from, Message { term, body });
    }
    assert_eq!(cluster.role(2), RoleName::Candidate);
}

/// A learner that was restarted began as a follower like any other, and campaigned when the leader fell silent. Here a
/// node knows what it is from the membership in its log and snapshot, each time that it wants to know.
///
/// openraft, commit `39690593`; `eBay/HomeStore#764`
#[test]
fn a_learner_is_a_learner_after_a_restart_too() {
    let mut cluster = with_learners(3, [4]);
    for has_snapshot in [false, true] {
        if has_snapshot {
            cluster.build_snapshot(4);
        }
        cluster.crash(4);
        cluster.restart(4);
        let term = cluster.term(4);
        cluster.isolate(&[4]);
        cluster.run(10 * ELECTION_TIMEOUT_MS);
        cluster.step(4, Input::Campaign);
        assert_eq!((cluster.role(4), cluster.term(4)), (RoleName::Follower, term));
        cluster.heal();
        cluster.recover();
    }
}

/// The same with a voter that was made a learner: its snapshot is older than the change and still names it a voter. The
/// log behind the snapshot counts.
///
/// openraft, commit `39690593`
#[test]
fn a_voter_that_was_demoted_after_its_snapshot_does_not_campaign() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.build_snapshot(3);
    let request = cluster.change(1, MembershipChange::Demote(ids([3])));
    cluster.settle();
    assert!(is_changed(&cluster, request));
    cluster.crash(3);
    cluster.node_mut(3).lose_state();
    cluster.node_mut(3).disk.hard_state.commit = 0;
    cluster.restart(3);
    assert!(!cluster.membership(3).is_voter(3));
    // Only what its snapshot contains is known to be committed, so a vote may still be asked of it and by it; but it
    // wins nothing without the voters of the membership in its log, and they hear their leader.
    cluster.run(10 * ELECTION_TIMEOUT_MS);
    assert!(cluster.is_leader(1));
    assert_eq!(cluster.role(3), RoleName::Follower);
    let term = cluster.term(3);
    cluster.isolate(&[3]);
    cluster.run(10 * ELECTION_TIMEOUT_MS);
    assert_eq!((cluster.role(3), cluster.term(3)), (RoleName::Follower, term));
}

/// A leader's disk went back to an older state. It asked for votes after the restart, and the refusal carried what the
/// voter remembered: that this very node leads the term. It took that for an election and gave away indexes a second
/// time. Here an answer says whether the vote is given and in which term, and only counted votes make a leader.
///
/// `databendlabs/openraft#1385`; Raft paper 5.2.
#[test]
fn a_refusal_by_who_took_it_for_the_leader_does_not_make_a_leader() {
    for pre_vote in [false, true] {
        let mut cluster = Cluster::with_config(3, Config { pre_vote, ..Config::default() });
        cluster.elect(2);
        cluster.write_many(2, &[1; 10]);
        cluster.settle();
        let (disk, machine) = (cluster.node(1).disk.clone(), cluster.node(1).machine.clone());
        cluster.elect(1);
        cluster.isolate(&[3]);
        cluster.write_many(1, &[2; 10]);
        cluster.settle();
        let (term, committed) = (cluster.term(1), cluster.committed(1));
        assert_eq!(cluster.metrics(2).leader, Some(1));
        cluster.crash(1);
        (cluster.node_mut(1).disk, cluster.node_mut(1).machine) = (disk, machine);
        cluster.oracle.loses_disk(1);
        cluster.restart(1);
        assert!(cluster.term(1) < term);
        for _ in 0..5 {
            campaign_but(&mut cluster, 1, |_| false);
            assert_ne!(cluster.role(1), RoleName::Leader);
        }
        cluster.run_until(20 * ELECTION_TIMEOUT_MS, "a leader that has it all", |c| c.is_leader(2));
        cluster.run(ELECTION_TIMEOUT_MS);
        assert!(committed < cluster.committed(1));
    }
}

/// A node lost its disk and came back empty under its old name. The leader's commit index was far beyond its log, and it
/// crashed over that, again and again. Here it takes what the messages prove and nothing else. That it must not vote
/// either is a matter of its identity: it is to be removed and added anew, which brings it back.
///
/// `lni/dragonboat#256`, `matrixorigin/matrixone#25029`, `nats-io/nats-server#7567`
#[test]
fn an_empty_node_under_a_known_name_survives_the_leaders_commit_index_and_can_be_added_anew() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.write_many(1, &[1; 10]);
    cluster.settle();
    cluster.crash(2);
    cluster.nodes.remove(&2);
    cluster.add_fresh(2);
    cluster.write(1, 2);
    cluster.run(ELECTION_TIMEOUT_MS);
    let empty = cluster.metrics(2);
    assert_eq!((empty.last, empty.committed), (LogId::ZERO, 0), "nothing that was sent follows an empty log");
    for change in [
        MembershipChange::Remove(ids([2])),
        MembershipChange::AddLearners(nodes([2])),
        MembershipChange::Promote(ids([2])),
    ] {
        let request = cluster.change(1, change.clone());
        cluster.run(ELECTION_TIMEOUT_MS);
        assert!(is_changed(&cluster, request), "{change:?}: {:?}", cluster.reply(request));
    }
    assert_eq!(cluster.commands(2), cluster.commands(1));
    cluster.recover();
}

/// One term was kept for votes and another for replication. A node that had asked for votes in term 195 followed a
/// leader of term 185, and cut its log for it. Here there is one term, and every kind of message is held against it.
///
/// `vesoft-inc/nebula#685`; Raft paper 5.1.
#[test]
fn whoever_has_voted_in_a_later_term_follows_no_leader_of_an_earlier_one() {
    for is_candidate in [false, true] {
        let mut cluster = Cluster::with_logs(3, &[(1, &[1, 179, 179]), (2, &[1, 179]), (3, &[1])]);
        if is_candidate {
            for _ in 180..=195 {
                cluster.step(1, Input::Campaign);
            }
            cluster.lose_all();
        } else {
            let last = cluster.metrics(1).last;
            assert_eq!(ask(&mut cluster, 1, 3, 195, VoteKind::Normal, last), Some(true));
        }
        let before = cluster.metrics(1);
        assert_eq!(before.term, 195);
        let commit = LogId::new(185, 3);
        for body in [
            Body::Append { prev: LogId::new(179, 2), entries: Entries::empty(), commit: 3 },
            Body::Heartbeat { round: 1, commit },
            Body::Commit { commit },
            Body::TimeoutNow,
        ] {
            cluster.receive(1, 2, Message { term: 185, body });
        }
        cluster.receive(1, 2, append(185, 1, &[1, 185], 2));
        let after = cluster.metrics(1);
        assert_eq!((after.term, after.voted_for, after.role), (195, before.voted_for, before.role));
        assert_eq!((after.last, after.committed, after.leader), (before.last, before.committed, None));
        let answers = cluster.intercept(|letter| letter.from == 1);
        assert!(!answers.is_empty() && answers.iter().all(|letter| letter.term() == Some(195)));
        assert!(
            answers
                .iter()
                .all(|letter| letter.is_append_response() && super::common::matched(letter).is_none())
        );
    }
}

/// The membership came in force when it was applied. Two voters had been added; a node that had both entries in its log
/// and had applied neither won with two of the three voters that it knew, beside the leader of the five. Here a
/// membership is in force from the moment that it is in the log, so it makes no difference who has applied what, nor
/// what makes the node campaign.
///
/// `etcd-io/etcd#7280`, `etcd-io/etcd#12133`, `etcd-io/etcd#11284`, `etcd-io/raft#456`, `etcd-io/raft#469`; thesis 4.1.
#[test]
fn a_candidate_that_has_not_applied_the_latest_members_still_needs_their_votes() {
    let triggers: [fn(&mut Cluster); 3] = [
        |cluster| cluster.time_out(3),
        |cluster| cluster.step(3, Input::Campaign),
        |cluster| {
            let term = cluster.term(3);
            cluster.receive(3, 1, Message { term, body: Body::TimeoutNow });
        },
    ];
    let begin = || {
        let mut cluster = with_learners(3, [4, 5]);
        cluster.node_mut(3).is_machine_slow = true;
        let before = cluster.metrics(3).applied;
        for id in [4, 5] {
            let request = cluster.change(1, MembershipChange::Promote(ids([id])));
            cluster.settle();
            assert!(is_changed(&cluster, request));
        }
        assert_eq!((cluster.metrics(3).applied, cluster.membership(3).voters()), (before, &ids(1..=5)));
        cluster
    };
    for campaign in triggers {
        in_all_variations(begin, |stage| {
            stage.skip(ELECTION_TIMEOUT_MS);
            stage.step(1, Input::Timeout);
            campaign(stage);
            stage.settle_but(|letter| ![1, 3].contains(&letter.to));
            stage.plainly(|cluster| assert_ne!(cluster.role(3), RoleName::Leader, "two of five"));
            for _ in 0..2 {
                stage.campaign_but(2, |letter| ![2, 4, 5].contains(&letter.to));
            }
            stage.plainly(|cluster| assert!(cluster.is_leader(2), "three of five"));
        });
    }
}
