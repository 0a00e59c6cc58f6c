//! Known bugs of snapshots and of compaction.

use std::collections::BTreeSet;

use openconsensus::engine::{Input, Reply, SnapshotEffect, SnapshotId};
use openconsensus::{
    AppendResult, Body, Config, Entries, HardState, Index, InstallSnapshot, InstallSnapshotResponse, LogId,
    Membership, MembershipAt, MembershipChange, Message, Payload, ProgressName, SnapshotMeta, Term,
};
use openconsensus_tests::engines::{
    Cluster, Disk, ELECTION_TIMEOUT_MS, Image, Letter, Outcome, Test, What, command_at, log_of, nodes,
};

use super::lone::Lone;
use super::post::{Post, each_way};

/// Nothing is kept behind a snapshot, so that whoever is late needs one.
fn purging() -> Config {
    Config { log_keep_entries: 0, log_hold_entries_max: 0, ..Config::default() }
}

/// Voters of which node 1 leads, with `count` commands applied everywhere but on the isolated nodes.
fn with_commands(post: &mut Post, voters: u64, config: Config, count: u64, isolated: &[u64]) -> Cluster {
    let mut cluster = Cluster::with_config(voters, config);
    post.elect(&mut cluster, 1);
    cluster.isolate(isolated);
    for command in 0..count {
        cluster.write(1, command);
        post.settle(&mut cluster);
    }
    cluster
}

fn meta(last: LogId) -> SnapshotMeta<Test> {
    let membership = Membership::of_voters(nodes([1, 2, 3]));
    SnapshotMeta { last, membership: MembershipAt { log_id: LogId::new(1, 1), membership }, size_bytes: None }
}

/// A snapshot with the commands of a log of `log_of` that has one term from index 2 on, on its way from node 1.
fn snapshot_letter(to: u64, term: Term, last: LogId) -> Letter {
    let commands = (2..=last.index).map(|index| LogId::new(last.term, index));
    let mut image = Image { commands: commands.map(|id| (id, command_at(id))).collect(), ..Image::default() };
    image.applied.last_applied = last;
    image.applied.membership = meta(last).membership;
    letter_with(to, term, image, 1)
}

/// `image` on its way from node 1.
fn letter_with(to: u64, term: Term, image: Image, id: u64) -> Letter {
    let request = InstallSnapshot { term, leader: 1, meta: image.meta() };
    Letter { from: 1, to, what: What::Snapshot { id: SnapshotId(id), request, image: Box::new(image) } }
}

/// Time passes until a snapshot is under way, which is taken out of the network; everything else arrives.
fn catch_snapshot(cluster: &mut Cluster) -> Letter {
    for _ in 0..100 {
        if let Some(letter) = cluster.intercept(Letter::is_snapshot).pop() {
            return letter;
        }
        cluster.time_out(1);
        for _ in 0..10 {
            let others = cluster.intercept(|letter| !letter.is_snapshot());
            others.into_iter().for_each(|letter| cluster.deliver(letter));
        }
    }
    panic!("no snapshot is sent:\n{}", cluster.describe());
}

/// What node `id` says when a leader announces a snapshot.
fn offer(cluster: &mut Cluster, id: u64, snapshot: InstallSnapshot<Test>) -> InstallSnapshotResponse {
    let request = cluster.request();
    cluster.step(id, Input::InstallSnapshot { request, snapshot });
    match cluster.reply(request) {
        Some(Reply::InstallFinished(response)) => *response,
        other => panic!("not answered at once: {other:?}"),
    }
}

// ---- entries that contradict a snapshot ----

/// Node 3 has entries of term 1 up to `leftover`, which were never committed. Nodes 1 and 2 have gone on behind index 5
/// in later terms; node 1 leads them and has nothing in its log but a snapshot that ends at index 11.
fn with_leftovers(leftover: usize) -> Cluster {
    let mut cluster = Cluster::with_config(3, purging());
    for id in 1..=3 {
        cluster.crash(id);
        let (term, terms) = match id {
            3 => (1, vec![1; leftover]),
            _ => (2, [[1; 5], [2; 5]].concat()),
        };
        let state = HardState { term, voted_for: None, commit: 1 };
        cluster.node_mut(id).disk = Disk::new(state, log_of(3, &terms));
        cluster.restart(id);
    }
    cluster.isolate(&[3]);
    cluster.elect(1);
    cluster.build_snapshot(1);
    assert_eq!((cluster.metrics(1).purged.index, cluster.terms(1)), (11, vec![]));
    cluster
}

/// hashicorp/raft#697, databendlabs/openraft#559 and #753, RedisLabs/raft#49, etcd-io/etcd#10358.
///
/// A follower restored the state of a snapshot and kept its own entries where the snapshot ends and behind it. The next
/// append did not match, so the leader sent the snapshot again, and so on for ever. Here a log that has another entry
/// at the end of a snapshot goes as a whole (Raft paper, section 7).
#[test]
fn entries_that_contradict_a_snapshot_are_not_kept_behind_it() {
    each_way(|post| {
        for leftover in [5, 8, 10, 11, 12, 20] {
            let mut cluster = with_leftovers(leftover);
            cluster.heal();
            post.run(&mut cluster, 4 * ELECTION_TIMEOUT_MS);
            assert_eq!(cluster.metrics(3).last, cluster.metrics(1).last, "{leftover} entries before");
            assert_eq!(cluster.terms(3), [0_u64; 0], "{leftover} entries before");
            assert_eq!(cluster.metrics(3).counters.snapshots_installed, 1, "one is enough");
            cluster.recover();
        }
    });
}

/// hashicorp/raft#704, RedisLabs/raft#49.
///
/// The variant with a crash: the snapshot was current already and the entries that contradict it were still on the disk.
/// After the restart the node offered them in an election, and replicated them as a leader. Here they are gone from the
/// disk before the state machine is told to install.
#[test]
fn entries_that_contradict_a_snapshot_do_not_come_back_after_a_crash_in_its_installation() {
    for leftover in [8, 11, 20] {
        for completed in 0..6 {
            let mut cluster = with_leftovers(leftover);
            cluster.slow_disk(3);
            cluster.heal();
            cluster.run(ELECTION_TIMEOUT_MS);
            for _ in 0..completed {
                if cluster.has_writes(3) {
                    cluster.complete_write(3);
                }
            }
            let node = cluster.node(3);
            let is_cut = node.disk.last().index < 11 || node.disk.purged.index == 11;
            assert!(is_cut || node.snapshot_index() == 0, "installed over {:?}", node.disk.terms());
            cluster.crash(3);
            cluster.restart(3);
            let is_installed = cluster.node(3).snapshot_index() > 0;
            assert!(!is_installed || cluster.terms(3).is_empty(), "{:?}", cluster.terms(3));
            cluster.speed_up(3);
            cluster.recover();
            assert!(!cluster.terms(3).contains(&1));
        }
    }
}

// ---- snapshots that come late or early ----

/// etcd-io/etcd#1763, camunda/zeebe#6092, databendlabs/openraft#560, rabbitmq/ra#508.
///
/// A snapshot that had been under way for a long time arrived at a follower that had gone on by then: its log was cut to
/// the end of the snapshot and its state set back, and with them entries that it had acknowledged. Here a snapshot that
/// is not beyond the commit index changes nothing, and is answered with what is there.
#[test]
fn a_snapshot_that_arrives_late_takes_nothing_back() {
    each_way(|post| {
        let mut cluster = with_commands(post, 3, Config::default(), 3, &[]);
        cluster.build_snapshot(1);
        let old = cluster.node(1).snapshot.clone().expect("it was built");
        cluster.node_mut(2).is_machine_slow = true;
        for command in 3..7 {
            cluster.write(1, command);
            post.settle(&mut cluster);
        }
        let before = cluster.metrics(2);
        assert!(before.applied.index < before.committed, "some of it is not applied yet");
        let term = cluster.term(1);
        for id in [71, 72] {
            cluster.deliver(letter_with(2, term, old.clone(), id));
            let answers = cluster.intercept(|letter| matches!(letter.what, What::SnapshotAnswer { .. }));
            let What::SnapshotAnswer { response: Some(response), .. } = answers[0].what else {
                panic!("{answers:?}")
            };
            assert_eq!(response.installed, Some(before.committed), "it says how far it is");
        }
        let after = cluster.metrics(2);
        assert_eq!(
            (after.last, after.committed, after.applied),
            (before.last, before.committed, before.applied)
        );
        assert_eq!(after.counters.snapshots_installed, 0);
        cluster.speed_up(2);
        post.settle(&mut cluster);
        assert_eq!(cluster.commands(2), (0..7).collect::<Vec<_>>());
    });
}

/// databendlabs/openraft#560.
///
/// The same with a snapshot that ends behind the commit index and within the log: what follows it had been acknowledged,
/// and was cut off. Here entries behind a snapshot that matches stay (Raft paper, section 7).
#[test]
fn a_snapshot_that_matches_the_log_does_not_cut_what_was_acknowledged_behind_it() {
    let terms = [1, 2, 2, 2, 2, 2];
    for end in 2..=6 {
        let mut cluster = Cluster::with_logs(3, &[(1, &terms), (2, &terms), (3, &terms)]);
        let last = LogId::new(2, end);
        cluster.deliver(snapshot_letter(3, 2, last));
        let metrics = cluster.metrics(3);
        assert_eq!((metrics.purged, metrics.last, metrics.stable), (last, LogId::new(2, 6), 6));
        cluster.crash(3);
        cluster.restart(3);
        assert_eq!(cluster.metrics(3).last, LogId::new(2, 6), "also on the disk");
        cluster.lose_all();
        cluster.recover();
    }
}

/// camunda/zeebe#10202 and #4451, RATIS-2056, RATIS-1305, RATIS-2507, RedisLabs/redisraft#43.
///
/// The log ended at 50 and the snapshot at 65. The log was kept, so the next append, at 66, left a hole: it was refused
/// as a gap, or the node crashed at its next start, or as a leader it had nothing to send for 51 to 65. Here the log is
/// empty behind a snapshot that it does not reach, and begins anew there, also when a crash comes between the two.
#[test]
fn a_snapshot_ahead_of_the_log_leaves_no_hole() {
    each_way(|post| {
        for completed in [None, Some(0), Some(1), Some(2)] {
            let mut cluster = with_commands(post, 5, purging(), 50, &[]);
            cluster.isolate(&[4, 5]);
            for command in 50..65 {
                cluster.write(1, command);
                post.settle(&mut cluster);
            }
            cluster.build_snapshot(1);
            let snapshot = cluster.metrics(1).snapshot;
            // Node 5 stays behind; node 4 gets the snapshot.
            cluster.heal();
            cluster.isolate(&[5]);
            if let Some(completed) = completed {
                cluster.slow_disk(4);
                post.run(&mut cluster, ELECTION_TIMEOUT_MS);
                for _ in 0..completed {
                    if cluster.has_writes(4) {
                        cluster.complete_write(4);
                    }
                }
                cluster.crash(4);
                cluster.restart(4);
                cluster.speed_up(4);
            }
            post.run(&mut cluster, 2 * ELECTION_TIMEOUT_MS);
            assert_eq!((cluster.metrics(4).purged, cluster.metrics(4).last), (snapshot, snapshot));
            let next = cluster.write(1, 65);
            post.settle(&mut cluster);
            assert_eq!(cluster.outcome(next), Outcome::Applied);
            assert_eq!(cluster.node(4).view.id_at(snapshot.index + 1), Some(cluster.metrics(1).last));
            // As a leader it serves one that lacks all of it.
            cluster.crash(4);
            cluster.restart(4);
            cluster.crash(1);
            cluster.heal();
            cluster.elect_until(4);
            post.run(&mut cluster, 4 * ELECTION_TIMEOUT_MS);
            assert_eq!(cluster.commands(5), (0..66).collect::<Vec<_>>());
        }
    });
}

/// databendlabs/openraft (fix eed681d5), eBay/NuRaft#407, RedisLabs/redisraft#449.
///
/// A snapshot was installed while entries were being applied; the task that applied them then set the applied index back
/// to where it was, or applied entries a second time on top of the restored state. Here both stand in one queue, and
/// while a snapshot waits in it nothing is put behind it, whatever is committed meanwhile.
#[test]
fn a_snapshot_and_entries_that_are_being_applied_do_not_race() {
    let terms: Vec<Term> = std::iter::once(1).chain([2; 19]).collect();
    let mut cluster = Cluster::with_logs(3, &[(1, &terms), (2, &terms), (3, &terms)]);
    cluster.node_mut(3).is_machine_slow = true;
    let commit = |cluster: &mut Cluster, commit: Index| {
        let body = Body::Append { prev: LogId::new(2, 20), entries: Entries::empty(), commit };
        cluster.receive(3, 1, Message { term: 2, body });
        cluster.lose_all();
    };
    commit(&mut cluster, 8);
    assert_eq!(cluster.node(3).to_do.len(), 1, "being applied");
    cluster.deliver(snapshot_letter(3, 2, LogId::new(2, 15)));
    assert_eq!(cluster.node(3).to_do.len(), 2, "the snapshot waits behind it");
    commit(&mut cluster, 20);
    assert_eq!(cluster.node(3).to_do.len(), 2, "and nothing behind the snapshot");
    cluster.speed_up(3);
    let expected: Vec<u64> = (2..=20).map(|index| command_at(LogId::new(2, index))).collect();
    assert_eq!(cluster.commands(3), expected, "each of them once");
    assert_eq!(cluster.metrics(3).applied, LogId::new(2, 20));
    cluster.lose_all();
}

// ---- sending ----

/// databendlabs/openraft#1828 (#1830).
///
/// A leader had purged its log to the very end, and nobody wrote. Of a follower it knew nothing any more: there was no
/// entry left to probe it with, a comparison that was off by one kept the way to the snapshot closed, and its heartbeats
/// kept everybody quiet. Here the search ends at the purged entry, and asks for a snapshot there.
#[test]
fn a_fully_purged_leader_sends_a_snapshot_to_a_peer_of_which_it_knows_nothing() {
    each_way(|post| {
        // Purged to the last entry, to those right before it, and not at all.
        for kept in [0, 1, 2, 11, 12, 100] {
            let config = Config { log_keep_entries: kept, log_hold_entries_max: kept, ..Config::default() };
            let mut cluster = with_commands(post, 3, config, 10, &[]);
            cluster.add_fresh(4);
            cluster.change(1, MembershipChange::AddLearners(nodes([4])));
            post.settle_but(&mut cluster, |letter| letter.to == 4);
            cluster.build_snapshot(1);
            let last = cluster.metrics(1).last.index;
            assert_eq!(cluster.metrics(1).purged.index, last.saturating_sub(kept));
            post.run(&mut cluster, 2 * ELECTION_TIMEOUT_MS);
            assert_eq!(cluster.commands(4), (0..10).collect::<Vec<_>>(), "{kept} entries kept");
            // And to one that is taken for lost.
            cluster.isolate(&[3]);
            cluster.write(1, 10);
            post.settle(&mut cluster);
            cluster.build_snapshot(1);
            cluster.step(1, Input::Unreachable { peer: 3 });
            cluster.heal();
            post.run(&mut cluster, 2 * ELECTION_TIMEOUT_MS);
            assert_eq!(cluster.commands(3), (0..=10).collect::<Vec<_>>(), "{kept} entries kept");
        }
    });
}

/// databendlabs/openraft#1706, RATIS-1241, RATIS-1305, vesoft-inc/nebula#1241 and #5240.
///
/// A follower took so long to install a snapshot that the leader had purged the log behind it in the meantime: when it
/// was done it needed another snapshot, and so on for ever. Here the log behind a snapshot on its way is held.
#[test]
fn a_follower_that_installs_slowly_needs_no_second_snapshot() {
    each_way(|post| {
        let config = Config { log_hold_entries_max: 1_000, snapshot_after_entries: Some(5), ..purging() };
        let mut cluster = with_commands(post, 3, config, 20, &[3]);
        // So long without an answer that nothing is held for it.
        post.run(&mut cluster, 4 * ELECTION_TIMEOUT_MS);
        cluster.write(1, 20);
        post.run(&mut cluster, ELECTION_TIMEOUT_MS);
        let snapshot = {
            cluster.heal();
            catch_snapshot(&mut cluster)
        };
        let purged = cluster.metrics(1).purged;
        for command in 21..60 {
            cluster.write(1, command);
            post.run(&mut cluster, 20);
        }
        assert!(cluster.metrics(1).snapshot.index > purged.index + 30, "later ones were built");
        assert_eq!(cluster.metrics(1).purged, purged, "and nothing was purged behind them");
        cluster.deliver(snapshot);
        post.run(&mut cluster, ELECTION_TIMEOUT_MS);
        assert_eq!(cluster.commands(3), (0..60).collect::<Vec<_>>());
        assert_eq!(cluster.metrics(3).counters.snapshots_installed, 1);
    });
}

/// databendlabs/openraft (fix 1a781e1b), vesoft-inc/nebula#5240.
///
/// The newest snapshot was older than the place up to which the log was purged, so neither of the two helped a follower.
/// Here nothing is purged that a snapshot does not cover, and a node that finds its store like that builds one first.
#[test]
fn a_leader_whose_snapshot_is_older_than_its_log_builds_another() {
    each_way(|post| {
        let mut cluster = with_commands(post, 3, purging(), 10, &[]);
        cluster.build_snapshot(1);
        assert_eq!(cluster.metrics(1).purged, cluster.metrics(1).last);
        cluster.crash(1);
        cluster.node_mut(1).snapshot = None;
        cluster.restart(1);
        cluster.elect_until(1);
        assert!(cluster.metrics(1).purged.index <= cluster.metrics(1).snapshot.index);
        cluster.add_fresh(4);
        cluster.change(1, MembershipChange::AddLearners(nodes([4])));
        post.run(&mut cluster, 2 * ELECTION_TIMEOUT_MS);
        assert_eq!(cluster.commands(4), (0..10).collect::<Vec<_>>());
    });
}

/// databendlabs/openraft (fix cf4badd0), etcd-io/etcd#2624.
///
/// Entries were purged between the decision to send them and the reading. The reader's "not found" ended the task that
/// served the peer, or a short read was taken for the end of the log. Here a read that finds nothing makes the leader look
/// again, and then only a snapshot is left; what it found before the purge is not sent behind a place that is gone.
#[test]
fn entries_that_were_purged_while_they_were_read_are_replaced_by_a_snapshot() {
    for finds in [0, 3, 19] {
        let mut lone = Lone::leader(20, Config { tail_bytes_max: 0, ..purging() });
        let term = lone.term();
        lone.hear(2, AppendResult::Conflict { rejected: 20, hint: LogId::new(1, 1) });
        lone.hear(2, AppendResult::Matched { matched: 1 });
        let read = lone.reads.pop().expect("old entries are read from the disk");
        assert_eq!(read.range.start, 2);
        let found = lone.disk.read(2..2 + finds, u64::MAX);
        // The other peer has everything; the entries are applied, and purged behind a snapshot.
        lone.hear(3, AppendResult::Matched { matched: 21 });
        lone.build_snapshot();
        assert_eq!(lone.disk.purged, LogId::new(term, 21));
        lone.messages.clear();
        lone.step(Input::LogRead { read: read.id, entries: found });
        let is_append = |(peer, message): &(u64, Message<Test>)| {
            *peer == 2 && matches!(message.body, Body::Append { .. })
        };
        assert!(!lone.messages.iter().any(is_append), "{:?}", lone.messages);
        let is_sent = |effect: &SnapshotEffect<Test>| matches!(effect, SnapshotEffect::Send { peer: 2, .. });
        assert!(lone.snapshots.iter().any(is_sent), "found {finds}: {:?}", lone.snapshots);
    }
}

/// etcd-io/etcd#10225, dgraph-io/dgraph#2707, tikv/tikv#2341, RedisLabs/raft#162.
///
/// A follower was killed while a snapshot was on its way to it, or could not install what it had got. Nothing took the
/// leader out of its state of waiting for the snapshot, although the follower answered its heartbeats. Here every transfer
/// ends in an answer of the driver, and the next one begins from the start.
#[test]
fn a_follower_that_is_killed_in_a_transfer_gets_the_snapshot_again() {
    each_way(|post| {
        for fails_first in [false, true] {
            let mut cluster = with_commands(post, 3, purging(), 10, &[3]);
            cluster.build_snapshot(1);
            cluster.heal();
            let snapshot = catch_snapshot(&mut cluster);
            cluster.node_mut(3).is_installing_slow = true;
            cluster.deliver(snapshot.clone());
            if fails_first {
                cluster.fail_installing(3);
            } else {
                cluster.crash(3);
                cluster.restart(3);
            }
            cluster.node_mut(3).is_installing_slow = false;
            assert!(cluster.commands(3).is_empty(), "half of it is nothing");
            post.run(&mut cluster, 4 * ELECTION_TIMEOUT_MS);
            assert_eq!(cluster.commands(3), (0..10).collect::<Vec<_>>());
            assert_eq!(cluster.metrics(1).peers[&3].progress, ProgressName::Replicate);
            // The first one arrives once more.
            cluster.deliver(snapshot);
            post.settle(&mut cluster);
            assert_eq!(cluster.commands(3), (0..10).collect::<Vec<_>>());
        }
    });
}

/// etcd-io/raft#110, and its test data snapshot_succeed_via_app_resp and snapshot_succeed_via_app_resp_behind.
///
/// A follower got a snapshot that ends at 11 by another way. The leader waited for the one that ends at 12, found 11 to be
/// too little and went on waiting, although its log has 12. Here every acknowledgement that reaches what is still in the
/// log ends the waiting, and the rest is sent at once, with no write to help.
#[test]
fn an_acknowledgement_that_the_log_can_continue_ends_the_waiting_for_a_snapshot() {
    for lacks in [0, 1, 2] {
        let config = Config { log_keep_entries: 2, log_hold_entries_max: 2, ..Config::default() };
        let mut cluster = Cluster::with_config(3, config);
        cluster.elect(1);
        cluster.isolate(&[3]);
        let mut by_another_way = None;
        for command in 0..10 {
            cluster.write(1, command);
            cluster.settle();
            if command + lacks == 9 {
                cluster.build_snapshot(2);
                by_another_way = cluster.node(2).snapshot.clone();
            }
        }
        cluster.build_snapshot(1);
        assert_eq!((cluster.metrics(1).snapshot.index, cluster.metrics(1).purged.index), (12, 10));
        cluster.heal();
        let _lost_without_a_word = catch_snapshot(&mut cluster);
        assert_eq!(cluster.metrics(1).peers[&3].progress, ProgressName::Snapshot);
        let term = cluster.term(1);
        cluster.deliver(letter_with(3, term, by_another_way.expect("it was built"), 99));
        cluster.lose_all();
        let result = AppendResult::Matched { matched: 12 - lacks };
        cluster.receive(1, 3, Message { term, body: Body::AppendResponse { result } });
        cluster.settle();
        assert_eq!(cluster.metrics(1).peers[&3].progress, ProgressName::Replicate, "lacks {lacks}");
        assert_eq!(cluster.commands(3), (0..10).collect::<Vec<_>>(), "lacks {lacks}");
    }
}

// ---- receiving ----

/// databendlabs/openraft (fixes 2eccb9e1 and eee8e534), logcabin/logcabin#174, camunda/zeebe#19862.
///
/// The last chunk of a snapshot came once more when the snapshot was installed: it opened a new one, and nothing at all was
/// installed over the state. Here a snapshot is one stream, and one that is announced again is answered without a look at
/// its bytes.
#[test]
fn a_snapshot_that_is_announced_again_is_not_installed_again() {
    let mut cluster = with_leftovers(5);
    cluster.heal();
    let snapshot = catch_snapshot(&mut cluster);
    let What::Snapshot { request, .. } = snapshot.what.clone() else { panic!("{snapshot:?}") };
    cluster.deliver(snapshot);
    cluster.settle();
    let state = cluster.commands(3);
    assert!(!state.is_empty());
    for _ in 0..2 {
        // With no bytes at all behind it.
        let response = offer(&mut cluster, 3, request.clone());
        assert_eq!(response.installed, Some(request.meta.last.index));
    }
    assert_eq!(cluster.metrics(3).counters.snapshots_installed, 1);
    assert_eq!(cluster.commands(3), state);
}

/// camunda/zeebe#19862, logcabin/logcabin#174.
///
/// Chunks of two snapshots, of one leader or of two, were written into one file. Here the second is refused while the
/// first is being installed, and its leader comes back when the first has ended.
#[test]
fn two_snapshots_on_their_way_do_not_mix() {
    each_way(|post| {
        for changes_leader in [false, true] {
            let mut cluster = with_commands(post, 5, purging(), 10, &[5]);
            for id in 1..=4 {
                cluster.build_snapshot(id);
            }
            cluster.heal();
            let first = catch_snapshot(&mut cluster);
            cluster.node_mut(5).is_installing_slow = true;
            cluster.deliver(first);
            assert!(cluster.node(5).installing.is_some());
            let next = if changes_leader {
                cluster.isolate(&[1]);
                cluster.skip(ELECTION_TIMEOUT_MS);
                cluster.step(2, Input::Campaign);
                post.settle(&mut cluster);
                2
            } else {
                1
            };
            for command in 10..20 {
                cluster.write(next, command);
                post.settle(&mut cluster);
            }
            cluster.build_snapshot(next);
            // Whoever leads sends what it has now, into the installation of what was there before.
            let image = cluster.node(next).snapshot.clone().expect("it was built");
            let request = InstallSnapshot { term: cluster.term(next), leader: next, meta: image.meta() };
            let response = offer(&mut cluster, 5, request);
            assert_eq!(response.installed, None, "refused until the first has ended");
            cluster.speed_up(5);
            post.run(&mut cluster, 4 * ELECTION_TIMEOUT_MS);
            assert_eq!(cluster.commands(5), (0..20).collect::<Vec<_>>());
        }
    });
}

/// etcd-io/etcd#10864 and #9498, tikv/raft-rs#269.
///
/// A voter had been made a learner while it was cut off. It refused every snapshot that said so, because "a voter cannot
/// become a learner", or a fresh node refused a snapshot whose membership it was new to. Here the membership of a leader's
/// snapshot is what is right, whatever the receiver takes itself for.
#[test]
fn a_snapshot_is_installed_whatever_its_receiver_takes_itself_for() {
    each_way(|post| {
        let learner = |cluster: &Cluster| {
            let membership = cluster.membership(3);
            membership.is_member(3) && !membership.is_voter(3)
        };
        // Made a learner; removed and added again; added, and never heard of before.
        for changes in [
            vec![MembershipChange::Demote(BTreeSet::from([3]))],
            vec![MembershipChange::Remove(BTreeSet::from([3])), MembershipChange::AddLearners(nodes([3]))],
            vec![
                MembershipChange::Remove(BTreeSet::from([3])),
                MembershipChange::AddLearners(nodes([3])),
                MembershipChange::AddLearners(nodes([4])),
            ],
        ] {
            let mut cluster = with_commands(post, 3, purging(), 1, &[3]);
            cluster.add_fresh(4);
            cluster.isolate(&[3]);
            for change in changes {
                let request = cluster.change(1, change);
                post.settle_but(&mut cluster, |letter| letter.to == 4);
                assert!(matches!(cluster.reply(request), Some(Reply::MembershipChanged { .. })));
            }
            cluster.write(1, 7);
            post.settle_but(&mut cluster, |letter| letter.to == 4);
            cluster.build_snapshot(1);
            assert!(cluster.metrics(3).is_voter(), "so it believes");
            cluster.heal();
            post.run(&mut cluster, 2 * ELECTION_TIMEOUT_MS);
            assert_eq!(cluster.commands(3), [0, 7]);
            assert!(learner(&cluster), "{}", cluster.membership(3));
            let fresh = if cluster.membership(1).is_member(4) { vec![0, 7] } else { vec![] };
            assert_eq!(cluster.commands(4), fresh);
        }
    });
}

// ---- the edges of a purged log ----

/// sofastack/sofa-jraft#1156 and #1128, databendlabs/openraft (fix cc8af8cd).
///
/// With the whole log purged the term of the last entry was not known any more: the next append asked for "index 50002 of
/// term 0", which no follower has. Here the last purged entry is remembered with its term, in memory and on the disk.
#[test]
fn the_term_of_the_last_purged_entry_is_not_lost() {
    each_way(|post| {
        for restarts in [false, true] {
            let mut cluster = with_commands(post, 3, purging(), 10, &[]);
            for id in 1..=3 {
                cluster.build_snapshot(id);
                assert_eq!(cluster.terms(id), [0_u64; 0]);
                if restarts {
                    cluster.crash(id);
                    cluster.restart(id);
                }
                assert_ne!(cluster.metrics(id).purged.term, 0);
                assert_eq!(cluster.metrics(id).purged, cluster.metrics(id).last);
            }
            cluster.elect_until(2);
            let request = cluster.write(2, 99);
            post.settle(&mut cluster);
            assert_eq!(cluster.outcome(request), Outcome::Applied);
            assert_eq!(cluster.metrics(1).last, cluster.metrics(2).last);
            let counters = [1, 2, 3].map(|id| cluster.metrics(id).counters.snapshots_installed);
            assert_eq!(counters, [0; 3], "everybody could follow");
        }
    });
}

/// databendlabs/openraft (fixes cc8af8cd and b390356f).
///
/// "Nothing is purged" and "purged up to the first entry" were one value, so the first entry was taken for purged and never
/// sent. Here the first entry has index 1, and the place before it is a name of its own.
#[test]
fn a_log_of_which_nothing_is_purged_still_has_its_first_entry() {
    each_way(|post| {
        let config = Config { log_keep_entries: 0, log_hold_entries_max: 0, ..Config::default() };
        let mut cluster = Cluster::with_config(3, config);
        post.elect(&mut cluster, 1);
        assert_eq!(cluster.metrics(1).purged, LogId::ZERO);
        cluster.add_fresh(4);
        cluster.change(1, MembershipChange::AddLearners(nodes([4])));
        post.run(&mut cluster, ELECTION_TIMEOUT_MS);
        let first = cluster.node(4).view.at(1).expect("the first entry was sent");
        assert!(matches!(first.payload, Payload::Membership(_)));
        assert_eq!(cluster.metrics(4).counters.snapshots_installed, 0);
        // A fresh node that is asked about the place before the first entry has it.
        cluster.add_fresh(5);
        let body = Body::Append { prev: LogId::ZERO, entries: Entries::empty(), commit: 0 };
        cluster.receive(5, 1, Message { term: 1, body });
        let answers = cluster.intercept(|letter| letter.from == 5);
        cluster.crash(5);
        cluster.restart(5);
        assert!(answers.iter().all(|letter| !matches!(
            letter.body(),
            Some(Body::AppendResponse { result: AppendResult::Conflict { .. } })
        )));
    });
}

// ---- snapshots that cannot be ----

/// databendlabs/openraft#1892, #1894 and #1930.
///
/// A snapshot that was left over from an earlier cluster was taken, although it ended with an entry of a term that its
/// sender had never reached, or with a later entry of an earlier term than what was committed. From then on the terms in
/// the log were out of order, and a probe crashed far from the cause. Here it is looked at before anything is touched: the
/// later of two committed entries is never of an earlier term.
#[test]
fn a_snapshot_that_no_leader_of_this_cluster_can_have_is_refused() {
    let terms = [1, 3, 3, 3];
    let mut cluster = Cluster::with_logs(3, &[(1, &terms), (2, &terms), (3, &terms)]);
    cluster.elect(1);
    let (term, committed) = (cluster.term(1), cluster.metrics(2).last);
    assert_eq!((term, committed, cluster.committed(2)), (4, LogId::new(4, 5), 5));
    let impossible = [
        // Of a term that its sender has not reached.
        LogId::new(term + 1, 50),
        // Later than what is committed, and of an earlier term.
        LogId::new(2, 50),
        LogId::new(term - 1, 6),
        // Where another entry is committed, or of a later term and before it.
        LogId::new(3, 5),
        LogId::new(4, 4),
        LogId::new(4, 0),
    ];
    for last in impossible {
        for leader in [1, 9] {
            let before = (cluster.metrics(2).last, cluster.metrics(2).applied, cluster.terms(2));
            let membership = MembershipAt { log_id: LogId::new(1, 1), ..meta(last).membership };
            let request = InstallSnapshot { term, leader, meta: SnapshotMeta { membership, ..meta(last) } };
            let response = offer(&mut cluster, 2, request);
            assert_eq!(response.installed, None, "{last} of {leader}");
            let after = (cluster.metrics(2).last, cluster.metrics(2).applied, cluster.terms(2));
            assert_eq!(after, before, "{last} of {leader}");
        }
    }
    let own = InstallSnapshot { term: term + 1, leader: 2, meta: meta(LogId::new(term, 50)) };
    assert_eq!(offer(&mut cluster, 2, own).installed, None, "nobody sends a snapshot to itself");
    cluster.recover();
}

/// matrixorigin/matrixone#24966 and #24920.
///
/// The membership of index 40 was put into a snapshot of index 900 and labelled with 900, so it won over later ones. Here a
/// membership carries the name of its own entry, a snapshot has the one that was in force at its end and never a later one,
/// and one whose membership is later than its end is refused.
#[test]
fn the_membership_of_a_snapshot_keeps_the_name_of_its_own_entry() {
    each_way(|post| {
        let mut cluster = with_commands(post, 3, purging(), 2, &[3]);
        cluster.add_fresh(4);
        cluster.change(1, MembershipChange::AddLearners(nodes([4])));
        post.settle(&mut cluster);
        let named = cluster.metrics(1).membership.log_id;
        for command in 2..10 {
            cluster.write(1, command);
            post.settle(&mut cluster);
        }
        cluster.build_snapshot(1);
        cluster.heal();
        post.run(&mut cluster, 2 * ELECTION_TIMEOUT_MS);
        let installed = cluster.node(3).snapshot.clone().expect("it was installed");
        assert_eq!(installed.applied.membership.log_id, named, "not that of the snapshot's end");
        assert_eq!(cluster.metrics(3).membership.log_id, named);
        cluster.crash(3);
        cluster.restart(3);
        assert_eq!(cluster.metrics(3).membership.log_id, named);
        let term = cluster.term(1);
        for log_id in [LogId::new(term, 60), LogId::new(term + 1, 2)] {
            let last = LogId::new(term, 50);
            let membership = MembershipAt { log_id, ..meta(last).membership };
            let request =
                InstallSnapshot { term, leader: 1, meta: SnapshotMeta { membership, ..meta(last) } };
            assert_eq!(offer(&mut cluster, 3, request).installed, None, "{log_id}");
        }
    });
}
