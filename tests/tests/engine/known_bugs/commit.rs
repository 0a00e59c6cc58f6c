//! Commit: entries that were counted on too few disks, by the wrong members, or in the wrong term.

use openconsensus::engine::{Engine, Input, Recovered, Reply};
use openconsensus::{
    AppendResult, AppliedState, Body, Config, Entries, HardState, LogId, Membership, MembershipAt,
    MembershipChange, Message, RoleName, Term, VoteKind,
};
use openconsensus_tests::engines::{Cluster, ELECTION_TIMEOUT_MS, Letter, Outcome, Test, What, nodes};

use super::common::{answer, append, ask, heartbeats, ids, is_changed, matched, with_learners};
use super::variations::in_all_variations;

/// Figure 8 of the Raft paper, with messages only. An entry of term 2 reaches a majority in term 4 and was committed by
/// counting its copies; then a leader with an entry of term 3 in its place was elected and overwrote it. Here only
/// entries of the leader's own term are counted, and those before them are committed with them.
///
/// `logcabin/logcabin#44`, `canonical/raft#220`, `nats-io/nats-server#6944`, async-raft (its changelog, 106); Raft paper
/// 5.4.2.
#[test]
fn copies_of_an_entry_of_an_earlier_term_commit_nothing() {
    // The leader of term 4 gets nothing of its own term through: its appends arrive without what is of that term.
    let without_own_entries = |mut letter: Letter| {
        if let What::Message(Message { term, body: Body::Append { entries, .. } }) = &mut letter.what {
            let old = entries.iter().filter(|entry| entry.log_id.term < *term).count() as u64;
            let start = entries.range().start;
            *entries = entries.slice(start..start + old);
        }
        letter
    };
    in_all_variations(
        || Cluster::of(5),
        |stage| {
            let only_to_2 = |letter: &Letter| letter.is_append() && letter.to != 2;
            stage.campaign_but(1, only_to_2);
            stage.crash(1);
            stage.campaign_but(5, Letter::is_append);
            stage.plainly(|cluster| {
                assert!(cluster.is_leader(5));
                assert_eq!((cluster.terms(2), cluster.terms(5)), (vec![1, 2], vec![1, 3]));
            });
            stage.crash(5);
            stage.restart(1);
            for _ in 0..2 {
                stage.skip(ELECTION_TIMEOUT_MS);
                stage.step(1, Input::Campaign);
                stage.settle_as(|_| false, without_own_entries);
            }
            stage.plainly(|cluster| {
                assert_eq!((cluster.is_leader(1), cluster.term(1)), (true, 4));
                let copies = cluster.metrics(1).peers.values().filter(|peer| peer.matched == 2).count();
                assert!(2 <= copies, "with its own that is a majority of five: {}", cluster.describe());
                assert_eq!(cluster.committed(1), 1);
            });
            stage.crash(1);
            stage.restart(5);
            for _ in 0..2 {
                stage.campaign(5);
            }
            stage.plainly(|cluster| {
                assert!(cluster.is_leader(5));
                assert_eq!(cluster.terms(3)[..2], [1, 3], "what was never committed may go");
            });
        },
    );
}

/// A follower acknowledged what it had in memory. The power failed at the leader and there, and what had been committed was
/// gone. Here an acknowledgement waits for the write that has the entry.
///
/// `etcd-io/etcd#12589`, `nats-io/nats-server#7564`, `hashicorp/raft#163`, `vesoft-inc/nebula#568`; thesis 3.8.
#[test]
fn an_entry_that_a_power_failure_takes_back_was_not_committed() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.isolate(&[3]);
    cluster.slow_disk(2);
    let request = cluster.write(1, 7);
    cluster.run(heartbeats());
    assert_eq!((cluster.outcome(request), cluster.metrics(2).last.index), (Outcome::Open, 3));
    for id in [1, 2] {
        cluster.crash(id);
        cluster.restart(id);
    }
    assert_eq!(cluster.metrics(2).last.index, 2);
    cluster.crash(1);
    cluster.heal();
    cluster.speed_up(2);
    cluster.elect_until(2);
    cluster.recover();
    assert_eq!(cluster.outcome(request), Outcome::Dropped);
}

/// The same where the write fails: the error was logged, and the acknowledgement left all the same. Here nothing leaves
/// that waited for a write that has failed, nor for one behind it.
///
/// `etcd-io/etcd#12589`, `vesoft-inc/nebula#568`
#[test]
fn nothing_that_waited_for_a_failed_write_is_ever_acknowledged() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.isolate(&[3]);
    cluster.slow_disk(2);
    let requests = [7, 8].map(|command| {
        let request = cluster.write(1, command);
        cluster.settle();
        request
    });
    assert_eq!(cluster.node(2).writes.len(), 2);
    cluster.step(2, Input::StorageFailed);
    // A driver that is late tells of a later write.
    let later = cluster.node(2).writes[1].id;
    cluster.step(2, Input::Persisted { write: later });
    cluster.run(heartbeats());
    assert_eq!(requests.map(|request| cluster.outcome(request)), [Outcome::Open; 2]);
}

/// The match index of every follower began at the end of the leader's log instead of at nothing: the first entry was
/// committed before anybody had it, and the next leader wrote another in its place. Here nothing is known of a follower
/// at the beginning of each term.
///
/// `apache/ratis#805`, `async-raft/async-raft#113`; Raft paper, figure 2.
#[test]
fn a_new_leader_knows_nothing_of_anybodys_log() {
    in_all_variations(
        || Cluster::of(3),
        |stage| {
            for leader in [1, 2] {
                stage.campaign_but(leader, Letter::is_append);
                let request = stage.write(leader, leader);
                stage.settle_but(Letter::is_append);
                stage.plainly(|cluster| {
                    let peers = cluster.metrics(leader).peers;
                    assert!(peers.values().all(|peer| peer.matched == 0));
                    assert_eq!((cluster.outcome(request), cluster.committed(leader)), (Outcome::Open, 1));
                });
                stage.skip(ELECTION_TIMEOUT_MS);
                stage.step(leader, Input::Timeout);
            }
            stage.campaign(2);
        },
    );
}

/// A leader alone with two learners made them voters. No voter had a stream yet, so the change was committed at once,
/// with one copy. Here learners count from the moment that the change is in the log, and not before.
///
/// openraft, commits `beb0302b`, `d882e743` and `a10d9906`
#[test]
fn a_change_that_makes_learners_voters_needs_their_copies() {
    let mut cluster = with_learners(1, [2, 3]);
    let before = cluster.committed(1);
    let request = cluster.change(1, MembershipChange::SetVoters(ids([1, 2, 3])));
    let write = cluster.write(1, 7);
    cluster.settle_but(Letter::is_append);
    assert_eq!((cluster.committed(1), cluster.outcome(write)), (before, Outcome::Open));
    assert!(!is_changed(&cluster, request));
    cluster.run(heartbeats());
    assert!(is_changed(&cluster, request));
    cluster.recover();
}

/// The acknowledgements of learners were counted: a leader and two learners committed for three voters.
///
/// openraft, commits `beb0302b` and `d882e743`; thesis 4.2.1.
#[test]
fn acknowledgements_of_learners_commit_nothing() {
    let mut cluster = with_learners(3, [4, 5]);
    cluster.isolate(&[2]);
    cluster.crash(3);
    let request = cluster.write(1, 7);
    cluster.run(heartbeats());
    assert!([4, 5].iter().all(|id| cluster.metrics(1).peers[id].matched == cluster.metrics(1).last.index));
    assert_eq!(cluster.outcome(request), Outcome::Open);
}

/// The quorum of a read was one short of a majority. Here there is one function for every quorum: for reads as for
/// entries and votes, with any number of voters.
///
/// openraft, commit `d60f1e85`; thesis 6.4.
#[test]
fn a_read_is_confirmed_by_a_majority_and_by_nothing_less() {
    for voters in 1..=7_u64 {
        for answering in 0..voters {
            let mut cluster = Cluster::of(voters);
            cluster.elect(1);
            let read = cluster.read(1);
            cluster.settle_but(|letter| letter.to > 1 + answering);
            let is_confirmed = matches!(cluster.reply(read), Some(Reply::ReadReady { .. }));
            assert_eq!(is_confirmed, 2 * (answering + 1) > voters, "{} of {voters}", answering + 1);
        }
    }
}

/// The quorum of nobody was satisfied by nobody.
///
/// openraft, commit `a10d9906`
#[test]
fn a_quorum_is_more_than_half_and_of_nobody_there_is_none() {
    for voters in 0..=9_u64 {
        let membership = Membership::<Test>::of_voters(nodes(1..=voters));
        for agreeing in 0..=voters {
            let is_quorum = membership.is_quorum(|id| id <= agreeing);
            assert_eq!(is_quorum, voters < 2 * agreeing, "{agreeing} of {voters}");
        }
    }
    let learners = Membership::<Test>::new(ids([]), nodes([1, 2, 3])).expect("no voter is missing");
    assert!(!learners.is_quorum(|_| true));
}

/// While three voters were replaced by three others, only one of the two sets was asked: entries were committed by the old
/// one alone, or by the new one alone. Here every decision needs a majority of each.
///
/// openraft, commit `6c0ccaf3`; `microsoft/CCF#3948`; Raft paper, section 6.
#[test]
fn half_of_a_joint_membership_commits_nothing() {
    for reachable in [&[2, 3][..], &[4, 5], &[2, 4]] {
        let mut cluster = with_learners(3, [4, 5]);
        let before = cluster.committed(1);
        let request = cluster.change(1, MembershipChange::SetVoters(ids([3, 4, 5])));
        let write = cluster.write(1, 7);
        // Node 3 is in both sets; it is never among those that hear.
        cluster.settle_but(|letter| letter.to != 1 && (letter.to == 3 || !reachable.contains(&letter.to)));
        assert_eq!((cluster.committed(1), cluster.outcome(write)), (before, Outcome::Open), "{reachable:?}");
        cluster.run(ELECTION_TIMEOUT_MS);
        cluster.recover();
        assert!(is_changed(&cluster, request));
    }
}

/// The votes of 1, 2 and 4 are a majority of the five together, and not one of 3, 4 and 5: with that, two leaders could
/// be elected side by side.
///
/// `microsoft/CCF#3948`; Raft paper, section 6.
#[test]
fn a_majority_of_both_sets_together_elects_nobody() {
    in_all_variations(
        || with_learners(3, [4, 5]),
        |stage| {
            stage.change(1, MembershipChange::SetVoters(ids([3, 4, 5])));
            stage.settle_but(Letter::is_append_response);
            stage.plainly(|cluster| assert!((1..=5).all(|id| cluster.membership(id).is_joint())));
            stage.crash(1);
            stage.restart(1);
            for _ in 0..2 {
                stage.campaign_but(2, |letter| ![1, 2, 4].contains(&letter.to));
                stage.plainly(|cluster| assert_ne!(cluster.role(2), RoleName::Leader));
            }
        },
    );
}

/// A node that was restarted in a joint membership looked at one of the sets to find out whether it was alone, and led
/// the cluster by itself. Both directions: from three voters to one, and from one to three.
///
/// openraft, commit `6c0ccaf3`
#[test]
fn a_restarted_node_is_not_alone_while_either_set_has_others() {
    for (voters, learners, target) in [(3, vec![], ids([1])), (1, vec![2, 3], ids([1, 2, 3]))] {
        let mut cluster = with_learners(voters, learners);
        cluster.isolate(&[1]);
        cluster.change(1, MembershipChange::SetVoters(target));
        assert!(cluster.membership(1).is_joint());
        let before = cluster.committed(1);
        cluster.crash(1);
        cluster.restart(1);
        cluster.run(10 * ELECTION_TIMEOUT_MS);
        cluster.step(1, Input::Campaign);
        assert_ne!(cluster.role(1), RoleName::Leader);
        assert!(cluster.committed(1) <= before);
        cluster.recover();
    }
}

/// A voter that was on its way out was not sent the rounds that confirm reads, although the old set still needed it: with
/// another one slow, reads hung. Here rounds go to every member, and each voter of either set is counted.
///
/// `scylladb/scylladb#29226`
#[test]
fn a_voter_on_its_way_out_is_asked_to_confirm_reads() {
    let mut cluster = with_learners(3, [4]);
    cluster.crash(2);
    cluster.change(1, MembershipChange::SetVoters(ids([1, 2, 4])));
    // The joint membership stays uncommitted.
    let is_append_to_3 = |letter: &Letter| letter.to == 3 && letter.is_append();
    cluster.settle_but(is_append_to_3);
    assert!(cluster.membership(1).is_joint());
    let read = cluster.read(1);
    let asked: Vec<u64> =
        cluster.letters().filter(|letter| letter.is_heartbeat()).map(|letter| letter.to).collect();
    assert_eq!(asked, [2, 3, 4]);
    cluster.settle_but(is_append_to_3);
    assert!(matches!(cluster.reply(read), Some(Reply::ReadReady { .. })));
}

/// A leader that had removed itself went on counting its own copy: an entry on it and on one of the two voters that were
/// left was committed, and lost with the two of them. Here a node counts itself only as a voter of the membership in
/// force.
///
/// `databendlabs/openraft#923`, `databendlabs/openraft#920`; thesis 4.2.2.
#[test]
fn a_leader_that_has_removed_itself_does_not_count_its_own_copy() {
    in_all_variations(
        || Cluster::of(3),
        |stage| {
            stage.campaign(1);
            stage.settle();
            let removal = stage.change(1, MembershipChange::Remove(ids([1])));
            let write = stage.write(1, 8);
            let removed_at = stage.metrics(1).last.index - 1;
            // Node 3 gets the removal and not what follows it; node 2 gets both.
            stage.settle_but(|letter| match letter.body() {
                Some(Body::Append { entries, .. }) => {
                    letter.to == 3 && entries.last().is_some_and(|last| removed_at < last.index)
                }
                _ => false,
            });
            stage.plainly(|cluster| {
                assert!(!cluster.membership(1).is_voter(1));
                assert_eq!(cluster.outcome(write), Outcome::Open, "{}", cluster.describe());
                assert!(cluster.reply(removal).is_none() || is_changed(cluster, removal));
            });
            stage.crash(1);
            stage.campaign(3);
            stage.campaign(2);
        },
    );
}

/// A commit index from the leader was taken over by a follower whose log did not reach so far, or had other entries there:
/// it committed those, or panicked. Here heartbeats name the committed entry with its term, and appends commit what
/// they prove.
///
/// `etcd-io/raft#138`, `etcd-io/raft#139`, `talent-plan/tinykv#191`, `lni/dragonboat#393`, `etcd-io/etcd#5664`,
/// `etcd-io/raft#18`, `bakwc/PySyncObj#166`
#[test]
fn a_commit_index_beyond_what_is_proved_commits_nothing_and_panics_nobody() {
    let ours: Vec<Term> = [&[1; 7][..], &[2; 8]].concat();
    let mut cluster = Cluster::with_logs(3, &[(1, &ours), (2, &ours), (3, &[1; 10])]);
    answer(&mut cluster, 3, 1, append(2, 6, &ours[..7], 7));
    assert_eq!(cluster.committed(3), 7);
    for commit in [8, 10, 15, 90] {
        let commit = LogId::new(2, commit);
        for body in [
            Body::Heartbeat { round: 1, commit },
            Body::Commit { commit },
            Body::Append { prev: LogId::new(1, 7), entries: Entries::empty(), commit: commit.index },
        ] {
            cluster.receive(3, 1, Message { term: 2, body });
            assert_eq!(cluster.committed(3), 7, "{commit}");
        }
    }
    assert_eq!(cluster.terms(3), [1; 10]);
}

/// A follower was restarted with a commit index that its log no longer reached, because the end of the log had not been
/// synced, and it crashed over that each time. Here the index is a hint. A state that is ahead of the log is another
/// matter: something acknowledged is lost, and the node says so and does not start.
///
/// `lni/dragonboat#393`, `matrixorigin/matrixone#25029`
#[test]
fn a_commit_index_ahead_of_the_log_is_cut_and_a_state_ahead_of_it_is_refused() {
    let log: &[Term] = &[1; 11];
    let mut cluster = Cluster::with_logs(3, &[(1, log), (2, log), (3, log)]);
    cluster.crash(3);
    cluster.node_mut(3).disk.hard_state.commit = 12;
    cluster.restart(3);
    assert_eq!(cluster.committed(3), 11);
    cluster.recover();

    let config = Config::default().validate().expect("the default is valid");
    let mut recovered = Recovered::<Test>::empty(3, 1);
    recovered.hard_state = HardState { term: 1, voted_for: None, commit: 12 };
    recovered.last = LogId::new(1, 11);
    recovered.term_starts = vec![LogId::new(1, 1)];
    let membership =
        MembershipAt { log_id: LogId::new(1, 1), membership: Membership::of_voters(nodes([1, 2, 3])) };
    recovered.applied = AppliedState { last_applied: LogId::new(1, 12), membership };
    let refused = Engine::new(config, recovered, cluster.now).expect_err("entry 12 is lost");
    assert!(refused.contains("1.12") || refused.contains("12"), "{refused}");
}

/// A follower that knew more of what is committed than a new leader took over the smaller index. Here it only grows.
///
/// `etcd-io/etcd#1740`
#[test]
fn a_leader_that_knows_less_takes_no_commit_back() {
    in_all_variations(
        || Cluster::of(3),
        |stage| {
            stage.campaign(1);
            let request = stage.write(1, 7);
            // Node 2 has the entry and does not learn that it is committed.
            stage.settle_but(|letter| letter.from == 1 && !letter.is_append());
            stage.plainly(|cluster| {
                assert_eq!((cluster.committed(1), cluster.committed(2)), (3, 2));
                assert_eq!(cluster.outcome(request), Outcome::Applied);
            });
            stage.skip(ELECTION_TIMEOUT_MS);
            stage.step(1, Input::Timeout);
            stage.campaign_but(2, |letter| letter.is_append_response());
            stage.plainly(|cluster| {
                assert!(cluster.is_leader(2));
                assert_eq!((cluster.committed(1), cluster.committed(2)), (3, 2));
            });
        },
    );
}

/// A node that was asked for its vote, or that changed its role, first "cleaned up" what it did not know to be committed.
/// The entry was committed, and only the leader knew it; the vote then elected somebody without it. Here a log is cut by
/// the entries or the snapshot of a leader, where they conflict, and by nothing else.
///
/// `vesoft-inc/nebula#1303`, `vesoft-inc/nebula#2419`, `microsoft/CCF#5674`; Raft paper 5.4.3.
#[test]
fn what_a_voter_does_not_know_to_be_committed_stays_in_its_log() {
    in_all_variations(
        || Cluster::of(3),
        |stage| {
            stage.campaign(1);
            let request = stage.write(1, 7);
            stage.settle_but(|letter| letter.to == 3 || letter.to == 2 && !letter.is_append());
            stage.plainly(|cluster| {
                assert_eq!((cluster.outcome(request), cluster.committed(2)), (Outcome::Applied, 2));
            });
            stage.crash(1);
            // Pre-votes and votes, asked and given, and a role for each.
            stage.time_out(3);
            stage.settle();
            stage.campaign(3);
            stage.time_out(2);
            stage.lose_all();
            stage.campaign_but(2, Letter::is_vote_response);
            stage.campaign(3);
            stage.plainly(|cluster| {
                assert!(!cluster.is_leader(3));
                assert_eq!(cluster.metrics(2).last, LogId::new(2, 3));
            });
            for _ in 0..3 {
                stage.campaign(2);
            }
            stage.plainly(|cluster| {
                assert!(cluster.is_leader(2));
                assert_eq!(cluster.commands(2), [7]);
            });
        },
    );
    // Also the vote itself, of each kind.
    for kind in [VoteKind::Pre, VoteKind::Normal, VoteKind::Transfer] {
        let mut cluster = Cluster::with_logs(3, &[(1, &[1]), (2, &[1, 1, 1]), (3, &[1, 1])]);
        assert_eq!(ask(&mut cluster, 2, 3, 5, kind, LogId::new(1, 2)), Some(false));
        assert_eq!(ask(&mut cluster, 2, 1, 5, kind, LogId::new(4, 2)), Some(true));
        assert_eq!(cluster.terms(2), [1, 1, 1], "{kind:?}");
    }
}

/// Of four voters two were dead. The membership shrank until the two others were enough for what they had long
/// acknowledged, but nobody looked again: commit moved only with an acknowledgement. Here it is looked at whenever
/// anything has happened.
///
/// `camunda/camunda#8324`, `rabbitmq/ra#516`, `databendlabs/openraft#1246`
#[test]
fn what_a_smaller_membership_has_already_is_committed_without_another_answer() {
    let mut cluster = Cluster::of(4);
    cluster.elect(1);
    cluster.crash(3);
    cluster.crash(4);
    let write = cluster.write(1, 7);
    cluster.settle();
    assert_eq!(cluster.outcome(write), Outcome::Open, "two of four");
    cluster.change(1, MembershipChange::Remove(ids([4])));
    assert_eq!(cluster.outcome(write), Outcome::Applied, "two of three, and nobody has said anything");
    cluster.settle();
    let second = cluster.change(1, MembershipChange::Remove(ids([3])));
    cluster.settle();
    assert!(is_changed(&cluster, second));
}

/// The followers had acknowledged before the leader's own disk was done; when it was, nobody counted again. And a single
/// voter, which nobody ever answers, never committed anything after a restart.
///
/// `camunda/camunda#8324`, `databendlabs/openraft#1246`
#[test]
fn the_leaders_own_disk_commits_what_waited_for_it() {
    for voters in [1, 2, 3] {
        let mut cluster = Cluster::of(voters);
        cluster.elect(1);
        if voters == 3 {
            cluster.crash(3);
        }
        cluster.slow_disk(1);
        let write = cluster.write(1, 7);
        cluster.settle();
        assert_eq!(cluster.outcome(write), Outcome::Open);
        cluster.complete_write(1);
        assert_eq!(cluster.outcome(write), Outcome::Applied, "of {voters} voters");
        cluster.speed_up(1);
        if voters == 1 {
            cluster.write(1, 8);
            cluster.crash(1);
            cluster.node_mut(1).disk.hard_state.commit = 0;
            cluster.restart(1);
            cluster.run(2 * ELECTION_TIMEOUT_MS);
            assert_eq!(cluster.commands(1), [7, 8]);
        }
    }
}

/// The leader's own write failed after the entry had been sent. It took the entry back, stayed leader, and gave its index
/// to another command of the same term: two entries with one name, which no check of Raft can ever tell apart. Here a
/// write that fails ends leadership and silences the node.
///
/// `tarantool/tarantool#12292`, `vesoft-inc/nebula#568`, `vesoft-inc/nebula#3415`
#[test]
fn an_index_that_was_sent_is_never_given_to_another_command_of_the_term() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.slow_disk(1);
    let lost = cluster.write(1, 7);
    let sent = cluster.metrics(1).last;
    cluster.settle_but(|letter| letter.to != 2 || !letter.is_append());
    assert_eq!(cluster.metrics(2).last, sent);
    cluster.step(1, Input::StorageFailed);
    let again = cluster.write(1, 8);
    assert_eq!(cluster.outcome(again), Outcome::NotLeader);
    cluster.step(1, Input::Timeout);
    cluster.step(1, Input::Campaign);
    let is_hand_over = |letter: &Letter| matches!(letter.body(), Some(Body::TimeoutNow));
    assert!(cluster.letters().all(is_hand_over), "it says nothing any more, but that another may lead");
    cluster.lose_all();
    // The process is started again. It has lost the entry, and node 2 has not.
    cluster.crash(1);
    cluster.restart(1);
    cluster.speed_up(1);
    assert_eq!(cluster.metrics(1).last.index, sent.index - 1);
    cluster.elect_until(2);
    cluster.recover();
    assert_eq!(cluster.outcome(lost), Outcome::Applied);
    assert_eq!([1, 2, 3].map(|id| cluster.commands(id)), [[7]; 3]);
}

/// Ours is the case between the two: the disk of a leader is not done when it is deposed, and the entry that it never had
/// durably comes back to it, or another does in its place. What completes late is counted for neither.
///
/// `tarantool/tarantool#12292`
#[test]
fn a_write_that_is_done_after_its_entries_were_replaced_counts_for_nothing() {
    in_all_variations(
        || Cluster::of(3),
        |stage| {
            stage.campaign(1);
            stage.slow_disk(1);
            stage.write_many(1, &[7, 8]);
            stage.lose_all();
            stage.skip(ELECTION_TIMEOUT_MS);
            stage.step(1, Input::Timeout);
            // Node 3 is not heard: only node 1 can make a quorum with the leader.
            stage.campaign(2);
            stage.isolate(&[3]);
            stage.settle();
            let write = stage.write(2, 9);
            stage.settle();
            stage.plainly(|cluster| {
                assert_eq!(cluster.terms(1), [1, 2, 3]);
                assert!(cluster.node(1).writes.iter().any(|write| write.truncate.is_some()));
                assert_eq!(cluster.outcome(write), Outcome::Open);
            });
            while stage.has_writes(1) {
                stage.complete_write(1);
                let is_done = !stage.has_writes(1);
                stage.plainly(|cluster| {
                    let promised = cluster.letters().filter_map(matched).max();
                    assert!(is_done || promised.is_none(), "{promised:?} while the old entries are there");
                });
            }
            stage.speed_up(1);
            stage.settle();
            stage.plainly(|cluster| assert_eq!(cluster.outcome(write), Outcome::Applied));
            let result = AppendResult::Matched { matched: 4 };
            let term = stage.term(2) - 1;
            stage.receive(2, 1, Message { term, body: Body::AppendResponse { result } });
        },
    );
}
