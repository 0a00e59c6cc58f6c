//! Membership changes: Raft paper section 6; thesis 4.1 to 4.3. Leadership transfer: thesis 3.10.

use std::collections::BTreeSet;

use openconsensus::engine::{Input, Reply};
use openconsensus::{
    Body, ChangeMembershipError, Config, InitializeError, LogId, Membership, MembershipChange, Message,
    ProgressName, RoleName, TransferError, VoteKind,
};
use openconsensus_tests::engines::{Cluster, ELECTION_TIMEOUT_MS, Letter, Outcome, Test, nodes};

fn ids(ids: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
    ids.into_iter().collect()
}

fn refusal(cluster: &Cluster, request: openconsensus::engine::RequestId) -> &ChangeMembershipError<Test> {
    match cluster.reply(request) {
        Some(Reply::ChangeMembershipFailed(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

fn is_changed(cluster: &Cluster, request: openconsensus::engine::RequestId) -> bool {
    matches!(cluster.reply(request), Some(Reply::MembershipChanged { .. }))
}

/// Voters 1 to `voters` with node 1 leading, and learners behind them that have caught up.
fn with_learners(voters: u64, learners: impl IntoIterator<Item = u64>) -> Cluster {
    let mut cluster = Cluster::of(voters);
    let learners = nodes(learners);
    for id in learners.keys() {
        cluster.add_fresh(*id);
    }
    cluster.elect(1);
    let request = cluster.change(1, MembershipChange::AddLearners(learners));
    cluster.settle();
    cluster.run(2 * Config::default().heartbeat_interval_ms);
    assert!(is_changed(&cluster, request));
    cluster
}

/// A server that was removed and the term in which it campaigns for ever.
fn is_commit(letter: &Letter) -> bool {
    matches!(letter.body(), Some(Body::Commit { .. }))
}

// ---- 4.1: when a configuration is in force ----

/// Section 6, thesis 4.1: a server uses the latest configuration in its log from the moment it is appended, committed or
/// not.
#[test]
fn section_6_a_configuration_is_in_force_when_it_is_appended() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.change(1, MembershipChange::Remove(ids([3])));
    assert_eq!(cluster.membership(1).voters(), &ids([1, 2]));
    assert!(cluster.committed(1) < cluster.metrics(1).membership.log_id.index);
    let to_2 = cluster.intercept(|letter| letter.is_append() && letter.to == 2);
    to_2.into_iter().for_each(|letter| cluster.deliver(letter));
    assert_eq!(cluster.membership(2).voters(), &ids([1, 2]));
    cluster.settle();
}

/// Thesis 4.1: when an entry with a configuration is removed from the log, the one before it is in force again.
#[test]
fn thesis_4_1_a_configuration_that_is_truncated_gives_way_to_the_one_before() {
    let mut cluster = Cluster::of(5);
    cluster.elect(1);
    cluster.isolate(&[1, 2]);
    cluster.change(1, MembershipChange::Remove(ids([3])));
    cluster.settle();
    assert_eq!(cluster.membership(2).voters(), &ids([1, 2, 4, 5]));
    cluster.skip(ELECTION_TIMEOUT_MS);
    cluster.step(3, Input::Campaign);
    cluster.settle();
    assert!(cluster.is_leader(3));
    cluster.recover();
    for id in 1..=5 {
        assert_eq!(cluster.membership(id).voters(), &ids(1..=5), "node {id}");
    }
}

/// 4.1: also when the log before that entry has been purged, and after a restart.
#[test]
fn a_truncated_configuration_gives_way_also_behind_a_purged_log_and_a_restart() {
    let config = Config { log_keep_entries: 0, log_hold_entries_max: 0, ..Config::default() };
    let mut cluster = Cluster::with_config(3, config);
    cluster.elect(1);
    cluster.write(1, 7);
    cluster.settle();
    for id in 1..=3 {
        cluster.build_snapshot(id);
        assert_eq!(cluster.metrics(id).purged.index, 3);
    }
    cluster.isolate(&[1]);
    cluster.change(1, MembershipChange::Remove(ids([3])));
    cluster.crash(1);
    cluster.restart(1);
    assert_eq!(cluster.membership(1).voters(), &ids([1, 2]));
    cluster.skip(ELECTION_TIMEOUT_MS);
    cluster.step(2, Input::Campaign);
    cluster.settle();
    cluster.recover();
    assert_eq!(cluster.membership(1).voters(), &ids([1, 2, 3]));
}

/// The mistake in single-server changes that was found in 2015: two leaders, each without having committed anything in
/// its term, could each change the same configuration. A leader first commits an entry of its own term.
#[test]
fn a_new_leader_changes_nothing_before_it_has_committed_an_entry_of_its_term() {
    let mut cluster = with_learners(4, [5]);
    cluster.skip(ELECTION_TIMEOUT_MS);
    cluster.step(2, Input::Campaign);
    cluster.settle_but(Letter::is_append);
    assert!(cluster.is_leader(2));
    let request = cluster.change(2, MembershipChange::Remove(ids([1])));
    assert_eq!(refusal(&cluster, request), &ChangeMembershipError::NotReady);
    cluster.run(2 * Config::default().heartbeat_interval_ms);
    let request = cluster.change(2, MembershipChange::Remove(ids([1])));
    cluster.settle();
    assert!(is_changed(&cluster, request));
}

/// Thesis 4.1: one change at a time. The next is refused until the one before is committed, whoever began it.
#[test]
fn thesis_4_1_one_change_at_a_time() {
    let mut cluster = Cluster::of(5);
    cluster.elect(1);
    cluster.isolate(&[1, 2]);
    cluster.change(1, MembershipChange::Remove(ids([5])));
    cluster.settle();
    let pending = cluster.metrics(1).membership.log_id;
    for change in [MembershipChange::Remove(ids([4])), MembershipChange::AddLearners(nodes([9]))] {
        let request = cluster.change(1, change);
        assert_eq!(refusal(&cluster, request), &ChangeMembershipError::InProgress { pending });
    }
    // The next leader has inherited it, and sees that from its log.
    cluster.crash(1);
    cluster.heal();
    cluster.elect_until(2);
    let request = cluster.change(2, MembershipChange::Remove(ids([4])));
    cluster.settle();
    assert!(is_changed(&cluster, request), "its first commit has committed the one before");
    assert_eq!(cluster.membership(2).voters(), &ids([1, 2, 3]));
}

/// 4.1: while the inherited change is not committed, a new leader refuses others, entry of its term or not.
#[test]
fn a_change_that_was_inherited_counts_as_under_way() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.cut(1, 3);
    cluster.change(1, MembershipChange::AddLearners(nodes([9])));
    cluster.settle_but(Letter::is_append_response);
    cluster.crash(1);
    cluster.skip(ELECTION_TIMEOUT_MS);
    cluster.step(2, Input::Campaign);
    cluster.settle_but(Letter::is_append);
    assert!(cluster.is_leader(2));
    let request = cluster.change(2, MembershipChange::Remove(ids([3])));
    assert!(matches!(
        refusal(&cluster, request),
        ChangeMembershipError::NotReady | ChangeMembershipError::InProgress { .. }
    ));
    assert_eq!(cluster.node(2).view.entries().len(), 4, "nothing was appended");
}

// ---- 4.3: joint consensus ----

/// Section 6, thesis 4.3: more than one voter changes through a joint configuration, which is left as soon as it is
/// committed. Nobody has to ask for the second step.
#[test]
fn section_6_a_joint_configuration_is_entered_and_left() {
    let mut cluster = with_learners(3, [4, 5]);
    let request = cluster.change(1, MembershipChange::SetVoters(ids([3, 4, 5])));
    assert!(cluster.membership(1).is_joint());
    assert_eq!(cluster.membership(1).voters(), &ids([3, 4, 5]));
    assert_eq!(cluster.membership(1).outgoing_voters(), &ids([1, 2, 3]));
    assert_eq!(cluster.reply(request).map(|_| ()), None);
    cluster.settle();
    assert!(is_changed(&cluster, request));
    for id in [3, 4, 5] {
        assert!(!cluster.membership(id).is_joint());
        assert_eq!(cluster.membership(id).voters(), &ids([3, 4, 5]));
    }
}

/// Section 6: while the configuration is joint, an entry needs a majority of the old *and* of the new voters.
#[test]
fn section_6_a_joint_commit_needs_a_majority_of_each_set() {
    // Old voters 1, 2, 3; new ones 3, 4, 5. The nodes that hear the leader, and whether they are enough.
    let cases: &[(&[u64], bool)] = &[
        (&[2], false),
        (&[4, 5], false),
        (&[2, 4], false),
        (&[2, 3], false),
        (&[2, 4, 5], true),
        (&[3, 4], true),
    ];
    for (reachable, is_enough) in cases {
        let mut cluster = with_learners(3, [4, 5]);
        let before = cluster.committed(1);
        let unreachable: Vec<u64> = (2..=5).filter(|id| !reachable.contains(id)).collect();
        cluster.isolate(&unreachable);
        cluster.change(1, MembershipChange::SetVoters(ids([3, 4, 5])));
        cluster.settle();
        assert_eq!(before < cluster.committed(1), *is_enough, "{reachable:?}");
        assert_eq!(!cluster.membership(1).is_joint(), *is_enough, "{reachable:?}");
    }
}

/// Section 6: while the configuration is joint, an election needs a majority of each set too: a majority of all voters
/// together would let two leaders be elected.
#[test]
fn section_6_a_joint_election_needs_a_majority_of_each_set() {
    let cases: &[(&[u64], bool)] =
        &[(&[1, 4], false), (&[4, 5], false), (&[1, 2], false), (&[1, 4, 5], true), (&[3, 4], true)];
    for (granting, is_enough) in cases {
        let mut cluster = with_learners(3, [4, 5]);
        cluster.change(1, MembershipChange::SetVoters(ids([3, 4, 5])));
        // All have the joint entry, and it is not committed.
        cluster.settle_but(Letter::is_append_response);
        assert!((1..=5).all(|id| cluster.membership(id).is_joint()));
        cluster.crash(1);
        cluster.restart(1);
        cluster.skip(ELECTION_TIMEOUT_MS);
        cluster.step(2, Input::Campaign);
        cluster.settle_but(|letter| letter.to != 2 && !granting.contains(&letter.to));
        // Once elected it finishes the change, by which it is no voter any more, and hands over.
        let is_elected = cluster.metrics(2).counters.elections_won == 1;
        assert_eq!(is_elected, *is_enough, "votes of 2 and {granting:?}");
    }
}

/// Section 6: if the leader fails while the configuration is joint, the next one finishes the change.
#[test]
fn section_6_the_next_leader_finishes_a_joint_change() {
    for committed_by_the_first in [false, true] {
        let mut cluster = with_learners(3, [4, 5]);
        cluster.change(1, MembershipChange::SetVoters(ids([2, 3, 4, 5])));
        if committed_by_the_first {
            // The joint entry is committed, the entry that leaves it reaches nobody.
            cluster.settle_but(|letter| match letter.body() {
                Some(Body::Append { entries, .. }) => entries.iter().any(|entry| 5 <= entry.log_id.index),
                _ => false,
            });
            assert!(!cluster.membership(1).is_joint());
        } else {
            cluster.settle_but(Letter::is_append_response);
        }
        cluster.crash(1);
        cluster.run_until(20 * ELECTION_TIMEOUT_MS, "the end of the change", |cluster| {
            (2..=5).all(|id| !cluster.membership(id).is_joint())
        });
        cluster.elect_any();
        assert_eq!(cluster.membership(3).voters(), &ids([2, 3, 4, 5]));
    }
}

/// 4.3: the leader asks and counts *all* voters of both sets while the configuration is joint, also one that is about to
/// lose its vote: with another one down it may be the one that is needed.
#[test]
fn a_voter_on_its_way_out_still_confirms_reads_and_commits() {
    let mut cluster = with_learners(3, [4]);
    cluster.crash(2);
    cluster.change(1, MembershipChange::SetVoters(ids([1, 2, 4])));
    cluster.settle_but(|letter| letter.to == 3 && letter.is_append());
    assert!(cluster.membership(1).is_joint(), "one of 1, 2 and 3 is missing");
    let read = cluster.read(1);
    cluster.settle_but(|letter| letter.to == 3 && letter.is_append());
    assert!(
        matches!(cluster.reply(read), Some(Reply::ReadReady { .. })),
        "3 and 1 are a majority of the old set"
    );
}

/// Section 6, thesis 4.2.2: a leader that is not in the new configuration leads until that is committed, without counting
/// itself, then lets the others know and steps down.
#[test]
fn section_6_a_leader_that_removes_itself_steps_down_when_that_is_committed() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let request = cluster.change(1, MembershipChange::Remove(ids([1])));
    assert!(cluster.is_leader(1), "it still leads");
    let before = cluster.committed(1);
    cluster.settle_but(|letter| letter.to == 3);
    assert_eq!(
        cluster.committed(1),
        before,
        "its own copy does not count: 2 alone is no majority of 2 and 3"
    );
    cluster.run(ELECTION_TIMEOUT_MS);
    assert!(is_changed(&cluster, request));
    assert_eq!(cluster.role(1), RoleName::Follower);
    cluster.run(2 * ELECTION_TIMEOUT_MS);
    let leader = cluster.leader().expect("2 or 3 has taken over");
    assert!([2, 3].contains(&leader));
    assert!(!cluster.is_leader(1));
    let request = cluster.write(leader, 7);
    cluster.settle();
    assert_eq!(cluster.outcome(request), Outcome::Applied);
}

/// Thesis 4.2.2: entries that follow the removal do not count the leader's own copy either.
#[test]
fn a_leader_outside_its_configuration_does_not_count_itself() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.isolate(&[3]);
    cluster.change(1, MembershipChange::Remove(ids([1])));
    let request = cluster.write(1, 7);
    cluster.settle();
    assert_eq!(cluster.outcome(request), Outcome::Open);
    assert!(!cluster.membership(1).is_voter(1));
}

/// Thesis 4.2.2: a server that is removed by an entry that is not committed may still be needed: here only it has that
/// entry, so nobody without it can win, and the other voter alone is the new configuration.
#[test]
fn thesis_4_2_2_a_server_may_be_elected_until_its_removal_is_committed() {
    let mut cluster = Cluster::of(2);
    cluster.elect(1);
    cluster.cut(1, 2);
    cluster.change(1, MembershipChange::Remove(ids([1])));
    cluster.lose_all();
    cluster.crash(1);
    cluster.restart(1);
    assert_eq!((cluster.membership(1).voters(), cluster.membership(2).voters()), (&ids([2]), &ids([1, 2])));
    cluster.heal();
    cluster.run_until(20 * ELECTION_TIMEOUT_MS, "the removal of node 1", |cluster| {
        cluster.is_leader(2) && cluster.membership(2).voters() == &ids([2])
    });
}

// ---- 4.2.1: learners ----

/// Section 6, thesis 4.2.1: a new server gets the log before it gets a vote. Until then it is neither counted nor
/// waited for.
#[test]
fn thesis_4_2_1_a_learner_gets_the_log_and_does_not_count() {
    let mut cluster = with_learners(3, [4, 5]);
    cluster.write(1, 7);
    cluster.settle();
    assert_eq!(cluster.commands(4), [7]);
    cluster.crash(2);
    cluster.crash(3);
    let request = cluster.write(1, 8);
    cluster.settle();
    assert_eq!(cluster.metrics(4).last.index, cluster.metrics(1).last.index);
    assert_eq!(
        cluster.outcome(request),
        Outcome::Open,
        "the leader and two learners are no majority of three voters"
    );
}

/// Thesis 4.2.1: a learner is promoted only when it has caught up, and when it is there at all.
#[test]
fn thesis_4_2_1_a_learner_is_promoted_when_it_has_caught_up() {
    let config = Config { promotion_lag_entries_max: 10, ..Config::default() };
    let mut cluster = Cluster::with_config(3, config);
    cluster.add_fresh(4);
    cluster.elect(1);
    cluster.isolate(&[4]);
    let added = cluster.change(1, MembershipChange::AddLearners(nodes([4])));
    cluster.settle();
    assert!(is_changed(&cluster, added));
    let request = cluster.change(1, MembershipChange::Promote(ids([4])));
    assert_eq!(refusal(&cluster, request), &ChangeMembershipError::NotActive { id: 4 });
    for command in 0..50 {
        cluster.write(1, command);
    }
    cluster.settle();
    cluster.heal();
    cluster
        .run_but(2 * Config::default().heartbeat_interval_ms, |letter| letter.to == 4 && letter.is_append());
    let request = cluster.change(1, MembershipChange::Promote(ids([4])));
    assert!(matches!(
        refusal(&cluster, request),
        ChangeMembershipError::NotCaughtUp { id: 4, limit: 10, .. }
    ));
    cluster.run(ELECTION_TIMEOUT_MS);
    let request = cluster.change(1, MembershipChange::Promote(ids([4])));
    cluster.settle();
    assert!(is_changed(&cluster, request));
    assert_eq!(cluster.membership(4).voters(), &ids([1, 2, 3, 4]));
}

/// 4.2.1: what the leader knows of a learner's log is kept when it becomes a voter, and of the others too.
#[test]
fn progress_is_kept_over_a_change_of_membership() {
    let mut cluster = with_learners(1, [2, 3, 4]);
    for command in 0..20 {
        cluster.write(1, command);
    }
    cluster.settle();
    let last = cluster.metrics(1).last.index;
    cluster.change(1, MembershipChange::Promote(ids([2, 3])));
    for (id, peer) in &cluster.metrics(1).peers {
        assert_eq!((peer.matched, peer.progress), (last, ProgressName::Replicate), "peer {id}");
    }
    cluster.settle();
    cluster.write(1, 99);
    cluster.settle();
    assert_eq!(cluster.commands(4).last(), Some(&99), "the learner that was left alone is still served");
}

/// Thesis 4.2.2: any server answers a vote request by its term and log. One that has been promoted may be needed before
/// it knows.
#[test]
fn a_promoted_learner_votes_before_it_knows_that_it_is_a_voter() {
    let mut cluster = with_learners(2, [3]);
    cluster.change(1, MembershipChange::Promote(ids([3])));
    cluster.settle_but(|letter| letter.to == 3 || is_commit(letter));
    assert!(!cluster.membership(3).is_voter(3));
    cluster.crash(1);
    cluster.skip(ELECTION_TIMEOUT_MS);
    cluster.step(2, Input::Campaign);
    cluster.settle();
    assert!(cluster.is_leader(2), "with its own vote and that of node 3");
}

// ---- 4.2.3: removed servers ----

/// Thesis 4.2.3: a removed server that does not know of it cannot disturb the others, with or without pre-vote.
#[test]
fn thesis_4_2_3_a_removed_server_does_not_disturb_the_others() {
    for pre_vote in [true, false] {
        let mut cluster = Cluster::with_config(4, Config { pre_vote, ..Config::default() });
        cluster.elect(1);
        cluster.isolate(&[4]);
        let request = cluster.change(1, MembershipChange::Remove(ids([4])));
        cluster.settle();
        assert!(is_changed(&cluster, request));
        // Long enough for the leader to give up on telling it.
        cluster.run(10 * ELECTION_TIMEOUT_MS);
        let term = cluster.term(1);
        cluster.heal();
        cluster.run(20 * ELECTION_TIMEOUT_MS);
        assert_eq!((cluster.is_leader(1), cluster.term(1)), (true, term), "pre-vote {pre_vote}");
    }
}

/// Thesis 4.2.2: a removed server is told of its removal when it can be reached, and then stays quiet by itself.
#[test]
fn a_removed_server_learns_that_it_was_removed() {
    let mut cluster = Cluster::of(4);
    cluster.elect(1);
    cluster.change(1, MembershipChange::Remove(ids([4])));
    cluster.settle();
    assert!(!cluster.membership(4).is_member(4));
    assert_eq!(cluster.committed(4), cluster.metrics(1).membership.log_id.index);
    cluster.run(20 * ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.role(4), RoleName::Follower);
    assert!(!cluster.metrics(1).peers.contains_key(&4), "and is not served any more");
}

/// 4.2.3: an answer of somebody who is no member does not raise a leader's term, whatever term it carries.
#[test]
fn an_answer_of_a_stranger_does_not_depose_the_leader() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let term = cluster.term(1);
    let result = openconsensus::AppendResult::StaleTerm;
    cluster.receive(1, 9, Message { term: term + 100, body: Body::AppendResponse { result } });
    cluster.receive(
        1,
        9,
        Message { term: term + 100, body: Body::HeartbeatResponse { round: 1, promise_ms: 0 } },
    );
    assert_eq!((cluster.is_leader(1), cluster.term(1)), (true, term));
}

/// 6: shrinking the configuration can be what an entry was waiting for: commit is looked at again, with no new answer.
#[test]
fn an_entry_that_the_smaller_configuration_has_is_committed() {
    let mut cluster = Cluster::of(4);
    cluster.elect(1);
    cluster.crash(4);
    let first = cluster.change(1, MembershipChange::Remove(ids([4])));
    cluster.settle();
    assert!(is_changed(&cluster, first));
    cluster.crash(3);
    let request = cluster.write(1, 7);
    let second = cluster.change(1, MembershipChange::Remove(ids([3])));
    cluster.settle();
    assert_eq!(cluster.outcome(request), Outcome::Applied);
    assert!(is_changed(&cluster, second));
}

// ---- bad requests ----

/// A change that cannot be right is refused with the reason, and nothing is appended.
#[test]
fn an_impossible_change_is_refused_with_the_reason() {
    let mut cluster = with_learners(3, [4]);
    let last = cluster.metrics(1).last;
    let refused: Vec<(MembershipChange<Test>, ChangeMembershipError<Test>)> = vec![
        (MembershipChange::Remove(ids([1, 2, 3])), ChangeMembershipError::NoVoters),
        (MembershipChange::SetVoters(ids([])), ChangeMembershipError::NoVoters),
        (
            MembershipChange::Promote(ids([9])),
            ChangeMembershipError::UnknownNode { id: 9, members: ids(1..=4) },
        ),
        (
            MembershipChange::Remove(ids([9])),
            ChangeMembershipError::UnknownNode { id: 9, members: ids(1..=4) },
        ),
        (MembershipChange::AddLearners(nodes([2])), ChangeMembershipError::AlreadyMember { id: 2 }),
        (
            MembershipChange::Promote(ids([2])),
            ChangeMembershipError::WrongRole { id: 2, actual: "a voter", needed: "a learner" },
        ),
        (
            MembershipChange::Demote(ids([4])),
            ChangeMembershipError::WrongRole { id: 4, actual: "a learner", needed: "a voter" },
        ),
        (MembershipChange::SetVoters(ids([1, 2, 3])), ChangeMembershipError::Empty),
    ];
    for (change, error) in refused {
        let request = cluster.change(1, change.clone());
        assert_eq!(refusal(&cluster, request), &error, "{change:?}");
    }
    let request = cluster.request();
    let change = MembershipChange::Remove(ids([4]));
    cluster.step(1, Input::ChangeMembership { request, change, expected: Some(LogId::new(1, 1)) });
    assert!(matches!(refusal(&cluster, request), ChangeMembershipError::Mismatch { .. }));
    let request = cluster.change(2, MembershipChange::Remove(ids([4])));
    assert!(
        matches!(refusal(&cluster, request), ChangeMembershipError::NotLeader { leader: Some(hint) } if hint.id == 1)
    );
    assert_eq!(cluster.metrics(1).last, last);
}

/// A cluster is begun once, by a node that is in it: a node with a log refuses.
#[test]
fn a_cluster_is_initialized_once() {
    let mut cluster = Cluster::of(3);
    cluster.add_fresh(8);
    let mut try_to = |id: u64, voters: &[u64]| {
        let request = cluster.request();
        cluster.step(id, Input::Initialize { request, nodes: nodes(voters.iter().copied()) });
        match cluster.reply(request) {
            Some(Reply::InitializeFailed(error)) => error.clone(),
            other => panic!("not refused: {other:?}"),
        }
    };
    assert!(
        matches!(try_to(1, &[1]), InitializeError::AlreadyInitialized { last } if last == LogId::new(1, 1))
    );
    assert_eq!(try_to(8, &[]), InitializeError::Empty);
    assert_eq!(try_to(8, &[1, 2]), InitializeError::NotAMember { id: 8 });
}

// ---- 3.10: leadership transfer ----

/// Thesis 3.10: the leader stops taking writes, brings the target's log up to its own, and tells it to campaign at once;
/// the target wins without waiting for an election timeout, although everybody has just heard the leader.
#[test]
fn thesis_3_10_leadership_is_transferred_to_an_up_to_date_target() {
    let mut cluster = Cluster::of(5);
    cluster.elect(1);
    cluster.cut(1, 4);
    for command in 0..20 {
        cluster.write(1, command);
    }
    cluster.settle();
    cluster.heal();
    let begun = cluster.now;
    let request = cluster.transfer(1, Some(4));
    assert_eq!(cluster.letters().filter(|letter| matches!(letter.body(), Some(Body::TimeoutNow))).count(), 0);
    cluster.run(3 * Config::default().heartbeat_interval_ms);
    assert!(cluster.is_leader(4), "{}", cluster.describe());
    assert!(matches!(cluster.reply(request), Some(Reply::Transferred { leader: 4 })));
    assert_eq!(cluster.commands(4), (0..20).collect::<Vec<_>>());
    assert!((cluster.now - begun).as_millis() < u128::from(Config::default().election_timeout_ms_min));
}

/// Thesis 3.10: a target that is up to date is told at once: no time passes.
#[test]
fn thesis_3_10_an_up_to_date_target_takes_over_at_once() {
    for target in [Some(3), None] {
        let mut cluster = Cluster::of(3);
        cluster.elect(1);
        let request = cluster.transfer(1, target);
        cluster.settle();
        let leader = cluster.leader().expect("somebody leads");
        assert_ne!(leader, 1);
        assert!(matches!(cluster.reply(request), Some(Reply::Transferred { leader: to }) if *to == leader));
        let write = cluster.write(leader, 7);
        cluster.settle();
        assert_eq!(cluster.outcome(write), Outcome::Applied);
    }
}

/// Thesis 3.10: writes are not taken while leadership moves, or the target would never be up to date.
#[test]
fn thesis_3_10_no_writes_are_taken_during_a_transfer() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.crash(2);
    cluster.transfer(1, Some(2));
    let request = cluster.write(1, 7);
    assert_eq!(cluster.outcome(request), Outcome::NotLeader);
    assert!(cluster.node(1).engine().holds_writes());
}

/// Thesis 3.10: a transfer that takes too long is given up, and the leader takes writes again.
#[test]
fn thesis_3_10_a_transfer_to_a_dead_target_is_given_up() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.crash(2);
    let request = cluster.transfer(1, Some(2));
    cluster.run(2 * Config::default().transfer_timeout_ms);
    assert!(matches!(
        cluster.reply(request),
        Some(Reply::TransferFailed(TransferError::TimedOut { target: 2 }))
    ));
    let write = cluster.write(1, 7);
    cluster.settle();
    assert_eq!(cluster.outcome(write), Outcome::Applied);
}

/// Thesis 3.10: when the message that tells the target is lost, it is sent again.
#[test]
fn a_lost_timeout_now_is_repeated() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let request = cluster.transfer(1, Some(2));
    let lost = cluster.intercept(|letter| matches!(letter.body(), Some(Body::TimeoutNow)));
    assert_eq!(lost.len(), 1);
    cluster.run(3 * Config::default().heartbeat_interval_ms);
    assert!(matches!(cluster.reply(request), Some(Reply::Transferred { leader: 2 })));
}

/// Thesis 3.10: the request of a target of a transfer is answered although a leader is alive; any other is not.
#[test]
fn thesis_3_10_voters_do_not_shield_the_leader_from_its_own_target() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let last = cluster.metrics(2).last;
    let term = cluster.term(3) + 1;
    for (kind, is_granted) in [(VoteKind::Pre, false), (VoteKind::Normal, false), (VoteKind::Transfer, true)]
    {
        cluster.receive(3, 2, Message { term, body: Body::VoteRequest { kind, campaign: 1, last } });
        let answers = cluster.intercept(Letter::is_vote_response);
        assert_eq!(
            matches!(answers[0].body(), Some(Body::VoteResponse { granted: true, .. })),
            is_granted,
            "{kind:?}"
        );
    }
}

/// 3.10: TimeoutNow moves nobody who is not a voter, and nobody on behalf of a leader of the past.
#[test]
fn timeout_now_is_obeyed_only_by_voters_and_from_the_leader() {
    let mut cluster = with_learners(3, [4]);
    let term = cluster.term(1);
    cluster.receive(4, 1, Message { term, body: Body::TimeoutNow });
    cluster.receive(2, 3, Message { term, body: Body::TimeoutNow });
    cluster.receive(2, 1, Message { term: term - 1, body: Body::TimeoutNow });
    assert_eq!([2, 4].map(|id| (cluster.role(id), cluster.term(id))), [(RoleName::Follower, term); 2]);
}

/// 3.10: bad requests for a transfer are refused with the reason.
#[test]
fn an_impossible_transfer_is_refused_with_the_reason() {
    let mut cluster = with_learners(3, [4]);
    let mut try_to = |id: u64, target| {
        let request = cluster.transfer(id, target);
        match cluster.reply(request) {
            Some(Reply::TransferFailed(error)) => error.clone(),
            other => panic!("not refused: {other:?}"),
        }
    };
    assert_eq!(try_to(1, Some(4)), TransferError::NotAVoter { target: 4, voters: ids([1, 2, 3]) });
    assert_eq!(try_to(1, Some(9)), TransferError::NotAVoter { target: 9, voters: ids([1, 2, 3]) });
    let mut alone = Cluster::of(1);
    alone.elect(1);
    let request = alone.transfer(1, None);
    assert!(matches!(alone.reply(request), Some(Reply::TransferFailed(TransferError::NoTarget))));
}

/// A membership never has a voter that is no member.
#[test]
fn a_membership_names_every_voter() {
    assert!(Membership::<Test>::new(ids([1, 2]), nodes([1])).is_none());
    assert!(Membership::<Test>::new(ids([1]), nodes([1, 2])).is_some());
}

/// Thesis 4.2.1: a learner is promoted when it answers. One that has been silent for two election timeouts does not.
#[test]
fn a_silent_learner_is_not_promoted() {
    let silence = 2 * Config::default().election_timeout_ms_max;
    for (ms, is_promoted) in [(silence - 1, true), (silence, false)] {
        let mut cluster = Cluster::of(3);
        cluster.elect(1);
        cluster.add_fresh(4);
        cluster.change(1, MembershipChange::AddLearners(nodes([4])));
        cluster.settle();
        cluster.skip(ms);
        let request = cluster.change(1, MembershipChange::Promote(BTreeSet::from([4])));
        let is_refused = matches!(
            cluster.reply(request),
            Some(Reply::ChangeMembershipFailed(ChangeMembershipError::NotActive { id: 4 }))
        );
        assert_eq!(is_refused, !is_promoted, "after {ms} ms: {:?}", cluster.reply(request));
    }
}

/// Thesis 4.2.1: what a membership needs to commit anything must be there. A change after which the voters that answer
/// would be no majority is refused, and its error names the silent ones; one that makes that no worse is not, or what is
/// dead could never be removed.
#[test]
fn a_change_whose_quorum_is_silent_is_refused_unless_it_makes_that_no_worse() {
    let silence = 2 * Config::default().election_timeout_ms_max;
    let to = |voters: &[u64]| MembershipChange::SetVoters(ids(voters.iter().copied()));
    // Of five voters 4 and 5 are silent, and for how long.
    for (ms, voters, silent) in [
        (silence, vec![1, 2, 4], None),
        (silence, vec![1, 4, 5], Some(vec![4, 5])),
        (silence, vec![1, 2, 4, 5], Some(vec![4, 5])),
        (silence - 1, vec![1, 2, 4, 5], None),
        (silence, vec![1, 2, 3, 4], None),
        (silence, vec![1, 2, 3], None),
        (silence, vec![1], None),
        (silence, vec![4], Some(vec![4])),
        (silence, vec![2], None),
    ] {
        let mut cluster = Cluster::with_config(5, Config { check_quorum: false, ..Config::default() });
        cluster.elect(1);
        let last_heard = cluster.now;
        cluster.isolate(&[4, 5]);
        while cluster.now < last_heard + std::time::Duration::from_millis(ms) {
            cluster.settle();
            cluster.step(1, Input::Timeout);
            cluster.settle();
            cluster.skip(1);
        }
        let request = cluster.change(1, to(&voters));
        let refused = match cluster.reply(request) {
            Some(Reply::ChangeMembershipFailed(ChangeMembershipError::QuorumSilent {
                silent,
                voters: named,
            })) => {
                assert_eq!(*named, ids(voters.iter().copied()));
                Some(silent.iter().copied().collect::<Vec<_>>())
            }
            None => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused, silent, "to {voters:?} after {ms} ms");
    }
    // Nothing can be committed, and it could not be after the change: it is begun all the same.
    let mut cluster = Cluster::with_config(3, Config { check_quorum: false, ..Config::default() });
    cluster.elect(1);
    cluster.isolate(&[1]);
    cluster.skip(silence);
    let request = cluster.change(1, MembershipChange::Remove(ids([3])));
    assert!(cluster.reply(request).is_none(), "{:?}", cluster.reply(request));
    cluster.heal();
    cluster.run(10 * Config::default().heartbeat_interval_ms);
    assert!(is_changed(&cluster, request), "{}", cluster.describe());
}
