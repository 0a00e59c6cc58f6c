//! Membership: changes that divide a cluster, freeze it, or are forgotten half way.

use openconsensus::engine::{Input, Reply};
use openconsensus::{
    AppendResult, Body, ChangeMembershipError, Config, InitializeError, LogId, MembershipChange, Message,
    ProgressName, RoleName, TransferError,
};
use openconsensus_tests::engines::{Cluster, ELECTION_TIMEOUT_MS, Letter, Outcome, nodes};

use super::common::{
    ask, campaign_but, granted, heartbeats, ids, is_changed, is_commit, purging, refusal, with_learners,
};
use super::variations::in_all_variations;

/// The mistake in changes of one server at a time that was found in 2015. One leader's addition reached hardly anyone; the
/// next leader removed another server at once, with a quorum of its own; the first one came back and finished the
/// addition with a quorum that had none of them in common. Here a leader changes nothing before an entry of its own
/// term is committed.
///
/// raft-dev, "bug in single-server membership changes" (2015); `hydro-project/hydro#3192`, `atomix/copycat#23`,
/// `AxonIQ/axon-server-se#120`, `databendlabs/openraft#2051`, `baidu/braft#182`; thesis 4.1 with its correction.
#[test]
fn two_leaders_do_not_each_change_the_membership_that_both_have_inherited() {
    in_all_variations(
        || with_learners(4, [5]),
        |stage| {
            stage.change(1, MembershipChange::Promote(ids([5])));
            stage.settle_but(|letter| letter.is_append() && letter.to != 5);
            stage.plainly(|cluster| assert_eq!(cluster.membership(1).voters(), &ids(1..=5)));
            stage.skip(ELECTION_TIMEOUT_MS);
            stage.step(1, Input::Timeout);
            // Node 2 is elected by 2, 3 and 4 and removes node 1 before anything else.
            let is_far = |letter: &Letter| [1, 5].contains(&letter.to) || [1, 5].contains(&letter.from);
            stage.campaign_but(2, |letter| is_far(letter) || letter.is_append());
            let request = stage.change(2, MembershipChange::Remove(ids([1])));
            stage.plainly(|cluster| {
                assert!(cluster.is_leader(2));
                assert_eq!(refusal(cluster, request), &ChangeMembershipError::NotReady);
            });
            stage.settle_but(|letter| is_far(letter) || letter.to == 4);
            // Node 1 comes back with the votes of 4 and 5, and goes on with its addition.
            stage.isolate(&[2, 3]);
            for _ in 0..2 {
                stage.campaign(1);
            }
            stage.write(1, 7);
            stage.settle();
            stage.plainly(|cluster| {
                assert!(cluster.is_leader(1));
                assert_eq!(cluster.commands(1), [7]);
            });
        },
    );
}

/// A leader that was cut off removed one voter after the other, until the two that were left could commit by themselves;
/// the three that had been removed elected a leader of their own. Here a change waits for the one before it.
///
/// `etcd-io/etcd#12133`, `eBay/NuRaft#67`, `eBay/NuRaft#107`, `RedisLabs/raft#62`; thesis 4.1.
#[test]
fn a_leader_that_is_cut_off_does_not_shrink_the_cluster_to_itself() {
    in_all_variations(
        || Cluster::of(5),
        |stage| {
            stage.campaign(1);
            stage.isolate(&[1, 2]);
            let pending = stage.metrics(1).last.index + 1;
            for (count, id) in [4, 5, 3].into_iter().enumerate() {
                let request = stage.change(1, MembershipChange::Remove(ids([id])));
                stage.settle();
                stage.plainly(|cluster| match cluster.reply(request) {
                    None => assert_eq!(count, 0),
                    Some(Reply::ChangeMembershipFailed(ChangeMembershipError::InProgress {
                        pending: at,
                    })) => {
                        assert_eq!((at.index, 0 < count), (pending, true));
                    }
                    other => panic!("{other:?}"),
                });
            }
            let write = stage.write(1, 7);
            stage.settle();
            stage.plainly(|cluster| assert_eq!(cluster.outcome(write), Outcome::Open));
            stage.campaign(3);
            stage.write(3, 8);
            stage.settle();
            stage.plainly(|cluster| assert_eq!(cluster.commands(3), [8]));
        },
    );
}

/// Whether a change was under way was a mark that the leader had made when it began one. A new leader, which had only
/// received the entry, had no such mark and began a second change; another compared by one entry too few. Here it
/// follows from the log: the latest membership is under way as long as it is behind the commit index.
///
/// `andrewjstone/rafter#34`, `RedisLabs/redisraft#17`, `eBay/NuRaft#107`, `andy-yx-chen/jraft#1`
#[test]
fn a_change_that_was_received_is_under_way_like_one_that_was_begun() {
    let mut cluster = Cluster::of(5);
    cluster.elect(1);
    cluster.change(1, MembershipChange::AddLearners(nodes([9])));
    cluster.settle_but(|letter| 2 < letter.to || letter.is_append_response());
    cluster.crash(1);
    let pending = cluster.metrics(2).membership.log_id;
    let mut refused = Vec::new();
    let mut try_to_change = |cluster: &mut Cluster| {
        let request = cluster.change(2, MembershipChange::Remove(ids([5])));
        if let Some(Reply::ChangeMembershipFailed(error)) = cluster.reply(request) {
            refused.push(error.clone());
        }
    };
    campaign_but(&mut cluster, 2, Letter::is_append);
    assert!(cluster.is_leader(2) && cluster.committed(2) < pending.index);
    try_to_change(&mut cluster);
    cluster.run_but(heartbeats(), |letter| letter.is_append_response());
    try_to_change(&mut cluster);
    assert_eq!(refused, [ChangeMembershipError::NotReady, ChangeMembershipError::NotReady]);
    cluster.run(heartbeats());
    assert!(pending.index < cluster.committed(2));
    let request = cluster.change(2, MembershipChange::Remove(ids([5])));
    let second = cluster.change(2, MembershipChange::Remove(ids([4])));
    assert!(matches!(refusal(&cluster, second), ChangeMembershipError::InProgress { .. }));
    cluster.settle();
    assert!(is_changed(&cluster, request));
}

/// A learner had been promoted and did not know it yet. Asked for its vote it said that it was a learner, and the one
/// voter that was left could not win without it. Here whoever is asked answers by term and log; the one who asks knows
/// whose vote counts.
///
/// `etcd-io/etcd#10998`, `tikv/raft-rs#57`, `tikv/raft-rs#58`; thesis 4.2.2.
#[test]
fn a_learner_that_does_not_know_of_its_promotion_votes() {
    let mut cluster = with_learners(2, [3]);
    let request = cluster.change(1, MembershipChange::Promote(ids([3])));
    cluster.settle_but(|letter| letter.to == 3);
    assert!(is_changed(&cluster, request) && !cluster.membership(3).is_voter(3));
    cluster.crash(1);
    cluster.run_until(20 * ELECTION_TIMEOUT_MS, "a leader", |cluster| cluster.is_leader(2));
    cluster.recover();
}

/// The joint membership was committed and applied everywhere when its leader fell, just before the entry that leaves it.
/// The next leader waited for the moment of applying it, which had passed: joint for ever, and every later change was
/// refused. Here a leader looks at the state, not at events: a committed joint membership is left.
///
/// `etcd-io/etcd#12136`; thesis 4.3.
#[test]
fn a_joint_membership_that_was_applied_before_the_election_is_left_by_the_new_leader() {
    in_all_variations(
        || with_learners(3, [4, 5]),
        |stage| {
            let joint = stage.metrics(1).last.index + 1;
            stage.change(1, MembershipChange::SetVoters(ids([2, 3, 4, 5])));
            // What comes behind it reaches nobody.
            let is_behind = |letter: &Letter| match letter.body() {
                Some(Body::Append { entries, .. }) => entries.iter().any(|entry| joint < entry.log_id.index),
                _ => false,
            };
            stage.settle_but(is_behind);
            stage.run_but(heartbeats(), is_behind);
            stage.plainly(|cluster| {
                for id in [2, 3, 4, 5] {
                    assert!(cluster.membership(id).is_joint());
                    assert_eq!(cluster.metrics(id).applied.index, joint);
                }
            });
            stage.crash(1);
            for _ in 0..3 {
                stage.campaign(3);
            }
            stage.plainly(|cluster| {
                assert!([2, 3, 4, 5].iter().all(|id| !cluster.membership(*id).is_joint()));
            });
            let request = stage.change(3, MembershipChange::Demote(ids([5])));
            stage.settle();
            stage.plainly(|cluster| assert!(is_changed(cluster, request), "later changes are taken"));
        },
    );
}

/// The joint membership came in force when it was applied. One voter had the commit and too short a log; the new voter
/// had the longer log, did not know of the commit, and took itself for a learner: majorities of both sets were alive and
/// nobody could be elected. Here the new voter has the entry, so it is a voter and campaigns.
///
/// `etcd-io/etcd#12359`; thesis 4.1.
#[test]
fn a_new_voter_with_the_longest_log_is_elected_before_it_knows_of_the_commit() {
    in_all_variations(
        || with_learners(3, [4]),
        |stage| {
            stage.crash(2);
            stage.change(1, MembershipChange::SetVoters(ids([1, 2, 4])));
            let joint = stage.metrics(1).membership.log_id;
            let is_beyond = |letter: &Letter| match letter.body() {
                Some(Body::Append { entries, .. }) => {
                    entries.iter().any(|entry| joint.index < entry.log_id.index)
                }
                _ => false,
            };
            stage.settle_but(|letter| {
                letter.to == 3 && is_beyond(letter) || letter.to == 4 && !letter.is_append()
            });
            stage.write_many(1, &[7; 5]);
            stage.settle_but(|letter| letter.to == 3 || letter.to == 4 && !letter.is_append());
            stage.plainly(|cluster| {
                assert!(joint.index <= cluster.committed(1), "{}", cluster.describe());
                assert!(cluster.metrics(3).last < cluster.metrics(4).last);
            });
            stage.crash(1);
            stage.restart(2);
            if stage.is_as_written() {
                stage.run_until(20 * ELECTION_TIMEOUT_MS, "a leader", |cluster| cluster.leader().is_some());
                let leader = stage.leader().expect("there is one");
                let write = stage.write(leader, 8);
                stage.run(ELECTION_TIMEOUT_MS);
                stage.plainly(|cluster| assert_eq!(cluster.outcome(write), Outcome::Applied));
            }
        },
    );
}

/// A membership that was never committed was overwritten by the next leader. The one before it had been purged from the
/// log, so there was nothing to go back to: the node stopped, or kept the one that was gone. Here the latest applied
/// membership is always known, from the snapshot if need be, and the ones behind it by their indexes.
///
/// `canonical/raft#250`, `canonical/raft#323`, `canonical/raft#354`, openraft, commit `c8fccb22`;
/// `databendlabs/openraft#346`; thesis 4.1.
#[test]
fn a_membership_that_is_overwritten_gives_way_to_one_that_has_been_purged() {
    let begin = || {
        let mut cluster = Cluster::with_config(5, purging());
        cluster.elect(1);
        cluster.write(1, 7);
        cluster.settle();
        for id in 1..=5 {
            cluster.build_snapshot(id);
        }
        cluster
    };
    for (restarted, state_lost) in [(false, false), (true, false), (true, true)] {
        in_all_variations(begin, |stage| {
            stage.isolate(&[1, 2]);
            stage.change(1, MembershipChange::Remove(ids([5])));
            stage.settle();
            let overwritten = (vec![2], ids(1..=4));
            stage.plainly(|cluster| {
                assert_eq!((cluster.terms(2), cluster.membership(2).voters().clone()), overwritten);
            });
            if restarted {
                stage.crash(2);
                if state_lost {
                    stage.node_mut(2).lose_state();
                }
                stage.restart(2);
                stage.plainly(|cluster| {
                    assert_eq!(cluster.membership(2).voters(), &ids(1..=4), "in force, not committed");
                });
            }
            stage.crash(1);
            stage.campaign(3);
            stage.heal();
            stage.run(2 * ELECTION_TIMEOUT_MS);
            stage.plainly(|cluster| {
                assert_eq!(cluster.membership(2).voters(), &ids(1..=5));
                assert_eq!(cluster.terms(2), [3]);
            });
        });
    }
}

/// A snapshot was stored with the latest membership, which was not committed yet. The change was overwritten, and the
/// snapshot brought it back. Here a snapshot has the membership of its last entry.
///
/// `canonical/raft#250`; Raft paper, section 7.
#[test]
fn a_snapshot_has_the_membership_of_its_last_entry_and_not_the_latest() {
    let mut cluster = Cluster::with_config(3, purging());
    cluster.elect(1);
    cluster.write(1, 7);
    cluster.settle();
    cluster.isolate(&[1]);
    cluster.change(1, MembershipChange::Remove(ids([3])));
    let request = cluster.build_snapshot(1);
    let Some(Reply::SnapshotBuilt(meta)) = cluster.reply(request) else { panic!("no snapshot was built") };
    assert_eq!((meta.last.index, meta.membership.log_id), (3, LogId::new(1, 1)));
    assert_eq!(meta.membership.membership.voters(), &ids([1, 2, 3]));
    cluster.crash(1);
    cluster.node_mut(1).lose_state();
    cluster.restart(1);
    campaign_but(&mut cluster, 2, |_| false);
    cluster.recover();
    assert_eq!(cluster.membership(1).voters(), &ids([1, 2, 3]));
}

/// After a restart the latest membership in the log passed for committed. Here nothing behind the commit index is, so a
/// voter that it removes is still a candidate: it may be the only one that has the entry.
///
/// `canonical/raft#323`; thesis 4.2.2.
#[test]
fn a_restart_does_not_commit_the_latest_membership() {
    let mut cluster = Cluster::of(2);
    cluster.elect(1);
    cluster.isolate(&[1]);
    cluster.change(1, MembershipChange::Remove(ids([1])));
    cluster.lose_all();
    let at = cluster.metrics(1).membership.log_id;
    cluster.crash(1);
    cluster.restart(1);
    assert!(cluster.committed(1) < at.index);
    cluster.heal();
    cluster.run_until(20 * ELECTION_TIMEOUT_MS, "the end of the change", |cluster| {
        cluster.is_leader(2) && at.index <= cluster.committed(2)
    });
}

/// A removed server was served no more from the moment that its removal was in the log, so it never learned of it. It
/// timed out, raised its term, and deposed the leader, again and again. Here it is served until it knows, for a while;
/// one that cannot be reached gets no vote while the others hear their leader, and raises nobody's term.
///
/// `PikaLabs/floyd#25`, `RedisLabs/redisraft#136`, `hashicorp/raft#524`, `hashicorp/raft#525`, `hashicorp/raft#526`,
/// `hashicorp/raft#235`; thesis 4.2.3.
#[test]
fn a_removed_server_is_told_and_cannot_disturb_if_it_was_not() {
    for (pre_vote, reachable) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut cluster = Cluster::with_config(3, Config { pre_vote, ..Config::default() });
        cluster.elect(1);
        if !reachable {
            cluster.isolate(&[3]);
        }
        let request = cluster.change(1, MembershipChange::Remove(ids([3])));
        cluster.settle();
        assert!(is_changed(&cluster, request));
        assert_eq!(cluster.membership(3).is_member(3), !reachable);
        let removed_at = cluster.metrics(1).membership.log_id.index;
        assert_eq!(removed_at <= cluster.committed(3), reachable, "it is told that it is committed");
        cluster.run(10 * ELECTION_TIMEOUT_MS);
        let term = cluster.term(1);
        cluster.heal();
        cluster.run(20 * ELECTION_TIMEOUT_MS);
        assert_eq!((cluster.is_leader(1), cluster.term(1)), (true, term), "{pre_vote} {reachable}");
        // And whatever it says:
        let last = cluster.metrics(3).last;
        for kind in [openconsensus::VoteKind::Pre, openconsensus::VoteKind::Normal] {
            assert_eq!(ask(&mut cluster, 2, 3, term + 50, kind, last), Some(false));
        }
        for body in [
            Body::HeartbeatResponse { round: 1, promise_ms: 0 },
            Body::AppendResponse { result: AppendResult::StaleTerm },
            Body::AppendResponse { result: AppendResult::Matched { matched: 1 } },
            Body::ReadRequest { read: 1, by_lease: false },
        ] {
            cluster.receive(1, 3, Message { term: term + 50, body });
        }
        assert_eq!((cluster.is_leader(1), cluster.term(1), cluster.term(2)), (true, term, term));
    }
}

/// A node that had raised its term while it was cut off came back as a learner, and each of its answers deposed the leader.
/// Here it costs one election at most: the next leader's term is above its own, and it follows.
///
/// `hashicorp/raft#524`
#[test]
fn a_learner_with_a_high_term_costs_one_election_at_most() {
    let mut cluster = Cluster::with_config(4, Config { pre_vote: false, ..Config::default() });
    cluster.elect(1);
    cluster.isolate(&[4]);
    let removed = cluster.change(1, MembershipChange::Remove(ids([4])));
    cluster.settle();
    assert!(is_changed(&cluster, removed));
    cluster.run(20 * ELECTION_TIMEOUT_MS);
    assert!(cluster.term(1) + 5 < cluster.term(4));
    cluster.heal();
    cluster.change(1, MembershipChange::AddLearners(nodes([4])));
    cluster.run(4 * ELECTION_TIMEOUT_MS);
    let leader = cluster.leader().expect("there is one again");
    let elections: u64 = (1..=3).map(|id| cluster.metrics(id).counters.elections_won).sum();
    assert!(elections <= 2, "{elections} elections");
    let term = cluster.term(leader);
    cluster.run(20 * ELECTION_TIMEOUT_MS);
    assert_eq!((1..=4).map(|id| cluster.term(id)).collect::<Vec<_>>(), [term; 4]);
}

/// A leader that had removed or demoted itself led on: it sent heartbeats and refused every write, so the others had no
/// reason for an election. Or it left at once, before the others knew that its removal was committed. Here it leads until
/// the change is committed, passes the commit on, tells the best voter to take over, and follows.
///
/// openraft, commit `0023cff1`; `microsoft/CCF#5973`, `microsoft/CCF#1713`, `microsoft/CCF#2547`; thesis 4.2.2.
#[test]
fn a_leader_that_removes_itself_hands_over_and_leaves() {
    for change in [MembershipChange::Remove(ids([1])), MembershipChange::Demote(ids([1]))] {
        in_all_variations(
            || Cluster::of(3),
            |stage| {
                stage.campaign(1);
                let request = stage.change(1, change.clone());
                let at = stage.metrics(1).membership.log_id;
                stage.plainly(|cluster| assert!(cluster.is_leader(1), "until it is committed"));
                stage.settle();
                // It leads until it hears that somebody else does: with its next heartbeat.
                stage.run(heartbeats());
                stage.plainly(|cluster| {
                    assert!(is_changed(cluster, request));
                    assert_ne!(cluster.role(1), RoleName::Leader);
                    assert!([2, 3].iter().all(|id| at.index <= cluster.committed(*id)), "{change:?}");
                });
                if stage.is_as_written() {
                    let leader = stage.leader().expect("nobody had to wait for a timeout");
                    let write = stage.write(leader, 7);
                    stage.run(heartbeats());
                    stage.plainly(|cluster| assert_eq!(cluster.outcome(write), Outcome::Applied));
                }
            },
        );
    }
}

/// The same with the last messages of the leader lost, and with one of the others dead: whoever is left finishes with it or
/// without it, it leads for as long as a transfer may take, and it goes on answering as long as it is asked.
///
/// `canonical/raft#235`, `microsoft/CCF#1713`
#[test]
fn a_leader_that_has_left_still_votes_and_takes_entries() {
    in_all_variations(
        || Cluster::of(3),
        |stage| {
            stage.campaign(1);
            stage.change(1, MembershipChange::Remove(ids([1])));
            let at = stage.metrics(1).membership.log_id.index;
            // Nobody hears of the commit or that it is to take over.
            stage.settle_but(|letter| is_commit(letter) || matches!(letter.body(), Some(Body::TimeoutNow)));
            stage.plainly(|cluster| {
                assert!(cluster.is_leader(1) && cluster.node(1).engine().holds_writes());
                assert!(at <= cluster.committed(1) && cluster.committed(2) < at);
            });
            stage.skip(Config::default().transfer_timeout_ms);
            stage.time_out(1);
            stage.plainly(|cluster| assert_eq!(cluster.role(1), RoleName::Follower));
            stage.lose_all();
            let term = stage.term(1) + 1;
            let last = stage.metrics(2).last;
            stage.skip(ELECTION_TIMEOUT_MS);
            let body = Body::VoteRequest { kind: openconsensus::VoteKind::Normal, campaign: 1, last };
            stage.receive(1, 2, Message { term, body });
            stage.plainly(|cluster| {
                assert!(cluster.letters().filter_map(granted).any(|is_granted| is_granted));
            });
            stage.lose_all();
            stage.campaign(2);
            stage.campaign(2);
        },
    );
    // With one of the two others dead its removal cannot be committed: then it does not leave.
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.crash(3);
    let request = cluster.change(1, MembershipChange::Remove(ids([1])));
    cluster.run(ELECTION_TIMEOUT_MS / 2);
    assert!(cluster.is_leader(1) && !is_changed(&cluster, request));
    cluster.restart(3);
    cluster.run(4 * ELECTION_TIMEOUT_MS);
    assert!(is_changed(&cluster, request));
    assert!(cluster.leader().is_some_and(|leader| leader != 1));
}

/// A node was removed and its name given to a new one with an empty disk. The new one read of "its" removal in the log and
/// shut itself down; or the removal, carried out late, dropped the leader's knowledge of the new one. Here a removal
/// is no command: what a node is follows from the latest membership in its log.
///
/// `RedisLabs/redisraft#2`, `cockroachdb/cockroach#756`, `willemt/raft#119`, `goraft/raft#108`, `etcd-io/raft#94`
#[test]
fn a_name_that_is_used_again_survives_the_removal_in_its_log() {
    for is_reachable in [true, false] {
        let mut cluster = Cluster::of(3);
        cluster.elect(1);
        cluster.write(1, 7);
        cluster.settle();
        cluster.crash(3);
        cluster.nodes.remove(&3);
        for change in [MembershipChange::Remove(ids([3])), MembershipChange::AddLearners(nodes([3]))] {
            let request = cluster.change(1, change);
            cluster.settle();
            assert!(is_changed(&cluster, request));
        }
        if is_reachable {
            cluster.add_fresh(3);
        }
        // Longer than removed nodes are served: the one that is back is not taken for one of them.
        cluster.run(10 * ELECTION_TIMEOUT_MS);
        if !is_reachable {
            cluster.add_fresh(3);
            cluster.run(ELECTION_TIMEOUT_MS);
        }
        assert_eq!(cluster.commands(3), [7]);
        let request = cluster.change(1, MembershipChange::Promote(ids([3])));
        cluster.settle();
        assert!(is_changed(&cluster, request));
        cluster.recover();
    }
}

/// Ours, of the same kind: a removed node is served for a while, so that it learns of its removal. When a new one was added
/// under its name within that time, the leader went on with what the old one had acknowledged: it held the new one to
/// have the log, would have promoted it at once, and never sent it the beginning. Now the new one begins anew.
#[test]
fn what_a_removed_node_has_acknowledged_does_not_count_for_the_one_that_takes_its_name() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.write_many(1, &[7; 10]);
    cluster.settle();
    cluster.crash(3);
    cluster.nodes.remove(&3);
    cluster.add_fresh(3);
    cluster.isolate(&[3]);
    for change in [MembershipChange::Remove(ids([3])), MembershipChange::AddLearners(nodes([3]))] {
        let request = cluster.change(1, change);
        cluster.settle();
        assert!(is_changed(&cluster, request));
    }
    let peer = &cluster.metrics(1).peers[&3];
    assert_eq!((peer.matched, peer.progress), (0, ProgressName::Probe));
    let promotion = cluster.change(1, MembershipChange::Promote(ids([3])));
    assert_eq!(refusal(&cluster, promotion), &ChangeMembershipError::NotActive { id: 3 });
    cluster.heal();
    cluster.run(heartbeats());
    assert_eq!(cluster.commands(3), [7; 10]);
}

/// A third of the voters was dead, and a fourth was added that did not exist yet: three of four were needed, and the
/// change that would have repaired it could not be committed. Here a node is a learner first, and is promoted only when it
/// answers and has caught up.
///
/// `f-rustrated/EastGuard#150`, `async-raft/async-raft#113`; thesis 4.2.1.
#[test]
fn a_node_that_does_not_exist_gets_no_vote() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.crash(3);
    let added = cluster.change(1, MembershipChange::AddLearners(nodes([4])));
    cluster.settle();
    assert!(is_changed(&cluster, added));
    cluster.run(ELECTION_TIMEOUT_MS);
    for change in [
        MembershipChange::Promote(ids([4])),
        MembershipChange::SetVoters(ids([1, 2, 3, 4])),
        MembershipChange::SetVoters(ids([1, 2, 4])),
    ] {
        let request = cluster.change(1, change);
        assert_eq!(refusal(&cluster, request), &ChangeMembershipError::NotActive { id: 4 });
    }
    let transfer = cluster.transfer(1, Some(4));
    assert!(matches!(
        cluster.reply(transfer),
        Some(Reply::TransferFailed(TransferError::NotAVoter { target: 4, .. }))
    ));
    let write = cluster.write(1, 7);
    cluster.settle();
    assert_eq!(cluster.outcome(write), Outcome::Applied);
    let removed = cluster.change(1, MembershipChange::Remove(ids([4])));
    cluster.settle();
    assert!(is_changed(&cluster, removed), "and it is removed as easily");
}

/// The removal of a dead node waited for the stream to it to end, and that repeated a snapshot without end. Here a removal
/// is committed by those who are left, whatever the one that goes is being sent.
///
/// `databendlabs/openraft#808`
#[test]
fn a_removal_does_not_wait_for_the_one_that_is_removed() {
    let mut cluster = Cluster::with_config(3, purging());
    cluster.elect(1);
    cluster.cut_one_way(1, 3);
    cluster.write_many(1, &[7; 5]);
    cluster.settle();
    cluster.build_snapshot(1);
    cluster.node_mut(3).is_installing_slow = true;
    cluster.heal();
    cluster.run(ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.metrics(1).peers[&3].progress, ProgressName::Snapshot, "{}", cluster.describe());
    cluster.isolate(&[3]);
    let request = cluster.change(1, MembershipChange::Remove(ids([3])));
    cluster.settle();
    assert!(is_changed(&cluster, request));
    cluster.run(6 * ELECTION_TIMEOUT_MS);
    assert!(!cluster.metrics(1).peers.contains_key(&3), "and in the end it is served no more");
}

/// Two nodes were each started as a cluster of their own and added a third to it: it had two leaders of one term, and logs
/// with other entries under the same names. Or a node with data was started with the flag that begins a cluster, and
/// did. Here a cluster is begun on a node that has nothing, once; every other attempt is refused, cut off or not,
/// restarted or not. That two *new* clusters do not meet is for the names of clusters in stores and connections.
///
/// `eBay/NuRaft#233`, `hashicorp/raft#114`, `hashicorp/raft#122`, `hashicorp/raft#336`, `seaweedfs/seaweedfs#10880`,
/// `microsoft/CCF#4582`, `databendlabs/openraft#1557`
#[test]
fn a_node_that_has_anything_begins_no_cluster() {
    let initialize = |cluster: &mut Cluster, id: u64| {
        let request = cluster.request();
        cluster.step(id, Input::Initialize { request, nodes: nodes([id]) });
        match cluster.reply(request) {
            Some(Reply::InitializeFailed(error)) => Some(error.clone()),
            _ => None,
        }
    };
    let mut cluster = Cluster::with_config(3, purging());
    cluster.add_fresh(4);
    cluster.elect(1);
    cluster.change(1, MembershipChange::AddLearners(nodes([4])));
    cluster.settle();
    for id in 1..=4 {
        cluster.isolate(&[id]);
        let last = cluster.metrics(id).last;
        assert_eq!(initialize(&mut cluster, id), Some(InitializeError::AlreadyInitialized { last }));
        // An empty log behind a snapshot is not nothing.
        cluster.build_snapshot(id);
        cluster.crash(id);
        cluster.restart(id);
        let last = cluster.metrics(id).last;
        assert_eq!(cluster.metrics(id).purged, last);
        assert_eq!(initialize(&mut cluster, id), Some(InitializeError::AlreadyInitialized { last }));
        cluster.heal();
    }
    cluster.recover();
    // Twice on the same node, before and after the disk is done.
    let mut fresh = Cluster::empty(Config::default());
    fresh.add_fresh(1);
    fresh.slow_disk(1);
    assert_eq!(initialize(&mut fresh, 1), None);
    assert!(matches!(initialize(&mut fresh, 1), Some(InitializeError::AlreadyInitialized { .. })));
    fresh.speed_up(1);
    assert!(matches!(initialize(&mut fresh, 1), Some(InitializeError::AlreadyInitialized { .. })));
}

/// A server was away when it was removed. Nobody spoke to it any more; without pre-votes it deposed the leader whenever the
/// check of terms let it, for ever. Here a member tells it, and it is silent: it costs one election at most.
///
/// `PikaLabs/floyd#25`, `RedisLabs/redisraft#136`, `hashicorp/raft#524`; thesis 4.2.3.
#[test]
fn a_removed_server_that_was_away_disturbs_once_at_most() {
    for (pre_vote, check_quorum) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut cluster = Cluster::with_config(3, Config { pre_vote, check_quorum, ..Config::default() });
        cluster.elect(1);
        cluster.isolate(&[3]);
        cluster.change(1, MembershipChange::Remove(ids([3])));
        cluster.settle();
        cluster.run(10 * ELECTION_TIMEOUT_MS);
        let won = |cluster: &Cluster| -> u64 {
            [1, 2].map(|id| cluster.metrics(id).counters.elections_won).iter().sum()
        };
        let before = won(&cluster);
        cluster.heal();
        cluster.run(40 * ELECTION_TIMEOUT_MS);
        let elections = won(&cluster) - before;
        assert!(elections <= 1, "{elections} elections with {pre_vote} {check_quorum}");
        assert_eq!(cluster.metrics(3).standing, openconsensus::Standing::Removed);
    }
}

/// A voter was removed while another one was dead, which left one that answers of two: nothing could be committed any more,
/// and neither could the repair. Here it is refused, with the dead one named, until that one is removed.
///
/// `f-rustrated/EastGuard#150`; thesis 4.2.1.
#[test]
fn a_removal_that_would_freeze_the_cluster_is_refused() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.crash(3);
    cluster.run(3 * ELECTION_TIMEOUT_MS);
    let request = cluster.change(1, MembershipChange::Remove(ids([2])));
    let expected = ChangeMembershipError::QuorumSilent { silent: ids([3]), voters: ids([1, 3]) };
    assert_eq!(refusal(&cluster, request), &expected);
    for gone in [3, 2] {
        let request = cluster.change(1, MembershipChange::Remove(ids([gone])));
        cluster.settle();
        assert!(is_changed(&cluster, request), "{gone}");
    }
    let write = cluster.write(1, 7);
    cluster.settle();
    assert_eq!(cluster.outcome(write), Outcome::Applied);
}
