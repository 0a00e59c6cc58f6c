//! Changes of the membership.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openconsensus::{ChangeMembershipError, MembershipChange, RoleName, Standing, WriteError};
use openconsensus_tests::{Cluster, ClusterOptions, Load, eventually, put};

use crate::{membership_entry, options, other_than, write_bulk};

/// Longer than a learner takes to catch up.
const LONG: Option<Duration> = Some(Duration::from_secs(20));

fn voters_of(cluster: &Cluster, id: u64) -> Vec<u64> {
    cluster.metrics(id).membership.membership.voters().iter().copied().collect()
}

/// Starts `id` and adds it as a learner that has caught up.
async fn add_learner(cluster: &Cluster, id: u64) {
    cluster.start(id).await;
    let leader = cluster.leader().await;
    cluster.raft(leader).add_learner(id, Cluster::address(id), LONG).await.unwrap();
}

/// Asks whoever leads to make a change, again where nothing was begun.
async fn change(cluster: &Cluster, change: MembershipChange<openconsensus_memstore::kv::Kv>) {
    loop {
        let leader = cluster.leader().await;
        match cluster.raft(leader).change_membership(change.clone(), None).await {
            Ok(_) => return,
            Err(
                ChangeMembershipError::NotLeader { .. }
                | ChangeMembershipError::NotReady
                | ChangeMembershipError::NotCaughtUp { .. }
                | ChangeMembershipError::Transferring,
            ) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}: {cluster:?}"),
        }
    }
}

/// Waits until `id` knows a membership with exactly these voters, that is not joint.
async fn sees_voters(cluster: &Cluster, id: u64, voters: &[u64]) {
    eventually("the membership", || {
        let metrics = cluster.metrics(id);
        let is_seen = !metrics.membership.membership.is_joint() && voters_of(cluster, id) == voters;
        if is_seen { Ok(()) } else { Err(metrics) }
    })
    .await;
}

#[tokio::test]
async fn a_learner_is_added_catches_up_and_is_promoted() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let leader = cluster.leader().await;
    write_bulk(&cluster, leader, "k", 3000).await;
    cluster.start(4).await;
    let added = cluster.raft(leader).add_learner(4, Cluster::address(4), LONG).await.unwrap();
    let metrics = cluster.metrics(leader);
    assert_eq!(metrics.membership.log_id, added);
    assert_eq!(metrics.membership.membership.learners().collect::<Vec<_>>(), [4]);
    assert!(metrics.peers[&4].lag_entries <= 1000, "it was waited for");

    let raft = cluster.raft(leader);
    let promoted = raft.change_membership(MembershipChange::Promote([4].into()), Some(added)).await.unwrap();
    assert!(added < promoted);
    sees_voters(&cluster, 4, &[1, 2, 3, 4]).await;
    cluster.wait_equal(&[1, 2, 3, 4]).await;
    // It votes now: with two of four down, nothing can be committed without it.
    let down: Vec<u64> = (1..=3).filter(|id| *id != leader).take(1).collect();
    cluster.crash(down[0]).await;
    cluster.raft(leader).write(put("k", "v")).await.unwrap();
}

#[tokio::test]
async fn a_learner_does_not_count_as_a_voter() {
    let cluster = Cluster::of_voters(1, options(|config| config.write_outcome_timeout_ms = 100)).await;
    add_learner(&cluster, 2).await;
    cluster.crash(2).await;
    cluster.client().must_write(put("k", "v")).await;
    cluster.start(2).await;
    cluster.crash(1).await;
    // It has the log and hears of no leader, and still does not campaign: it would have to before this passes.
    let wait = cluster.raft(2).wait(Duration::from_millis(1500));
    wait.until("a campaign", |metrics| metrics.role != RoleName::Follower).await.unwrap_err();
}

#[tokio::test]
async fn three_nodes_are_replaced_by_three_others_under_load() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let load = Load::start(&cluster, "load", 4);
    load.acknowledged(50).await;
    for id in 4..=6 {
        add_learner(&cluster, id).await;
    }
    let leader = cluster.leader().await;
    let terms = cluster.metrics(leader).term;
    change(&cluster, MembershipChange::SetVoters([4, 5, 6].into())).await;
    let new = cluster.leader_among(&[4, 5, 6]).await;
    load.acknowledged(50).await;
    for id in 4..=6 {
        sees_voters(&cluster, id, &[4, 5, 6]).await;
        assert_eq!(cluster.metrics(id).membership.membership.nodes().len(), 3, "the old ones are gone");
    }
    assert!(cluster.metrics(new).term <= terms + 3, "the change of leaders did not take many elections");
    for id in 1..=3 {
        cluster.stop(id).await;
    }
    load.acknowledged(50).await;
    let history = load.stop().await;
    cluster.wait_equal(&[4, 5, 6]).await;
    for id in 4..=6 {
        history.check(&cluster.reader(id).view());
    }
}

#[tokio::test]
async fn a_follower_is_removed_and_does_not_disturb_the_rest() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let leader = cluster.leader().await;
    let gone = other_than(&cluster, leader);
    change(&cluster, MembershipChange::Remove([gone].into())).await;
    let left: Vec<u64> = (1..=3).filter(|id| *id != gone).collect();
    sees_voters(&cluster, leader, &left).await;
    let term = cluster.metrics(leader).term;
    // It hears nothing any more, and may ask for votes as often as it likes.
    let wait = cluster.raft(gone).wait(Duration::from_millis(1500));
    let silent = wait.until("an election", |metrics| metrics.term != term).await;
    assert!(silent.is_err(), "{silent:?}");
    cluster.client().must_write(put("k", "v")).await;
    cluster.wait_equal(&left).await;
    assert_eq!((cluster.metrics(leader).term, cluster.metrics(leader).role), (term, RoleName::Leader));
}

#[tokio::test]
async fn the_leader_removes_itself_and_hands_over() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let load = Load::start(&cluster, "load", 4);
    load.acknowledged(20).await;
    let old = cluster.leader().await;
    cluster.raft(old).change_membership(MembershipChange::Remove([old].into()), None).await.unwrap();
    let left: Vec<u64> = (1..=3).filter(|id| *id != old).collect();
    let new = cluster.leader_among(&left).await;
    sees_voters(&cluster, new, &left).await;
    // It is told who leads now, though it is no member, so that its clients are.
    let wait = cluster.raft(old).wait(Duration::from_secs(20));
    wait.until("the new leader", |metrics| metrics.leader == Some(new)).await.unwrap();
    let metrics = cluster.metrics(old);
    assert_eq!((metrics.role, metrics.standing), (RoleName::Follower, Standing::Removed));
    assert_eq!(metrics.counters.transfers_succeeded, 1);
    let error = cluster.raft(old).write(put("k", "v")).await.unwrap_err();
    assert!(matches!(&error, WriteError::NotLeader { leader: Some(hint) } if hint.id == new), "{error}");
    load.acknowledged(20).await;
    cluster.stop(old).await;
    let history = load.stop().await;
    cluster.wait_equal(&left).await;
    history.check(&cluster.reader(new).view());
}

#[tokio::test]
async fn a_voter_is_demoted_to_a_learner_and_promoted_again() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let leader = cluster.leader().await;
    let demoted = other_than(&cluster, leader);
    change(&cluster, MembershipChange::Demote([demoted].into())).await;
    let membership = cluster.metrics(leader).membership.membership.clone();
    assert_eq!(membership.learners().collect::<Vec<_>>(), [demoted]);
    cluster.client().must_write(put("k", "v")).await;
    cluster.wait_equal(&[1, 2, 3]).await;
    change(&cluster, MembershipChange::Promote([demoted].into())).await;
    sees_voters(&cluster, leader, &[1, 2, 3]).await;
}

#[tokio::test]
async fn several_voters_change_at_once_through_a_joint_membership() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    add_learner(&cluster, 4).await;
    add_learner(&cluster, 5).await;
    change(&cluster, MembershipChange::Promote([4, 5].into())).await;
    let leader = cluster.leader().await;
    sees_voters(&cluster, leader, &[1, 2, 3, 4, 5]).await;
    let gone: BTreeSet<u64> = (1..=5).filter(|id| *id != leader).take(2).collect();
    change(&cluster, MembershipChange::Remove(gone.clone())).await;
    let left: Vec<u64> = (1..=5).filter(|id| !gone.contains(id)).collect();
    sees_voters(&cluster, leader, &left).await;
    cluster.client().must_write(put("k", "v")).await;
    cluster.wait_equal(&left).await;
}

#[tokio::test]
async fn the_next_leader_finishes_a_change_that_its_predecessor_began() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    for id in 4..=6 {
        add_learner(&cluster, id).await;
    }
    cluster.wait_equal(&[1, 2, 3, 4, 5, 6]).await;
    let old = cluster.leader().await;
    // Followers hear the leader, which does not hear them: it begins a change and cannot end it.
    cluster.running().into_iter().filter(|id| *id != old).for_each(|id| {
        cluster.network().cut_one_way(id, old);
    });
    let raft = cluster.raft(old);
    let change = tokio::spawn(async move {
        raft.change_membership(MembershipChange::SetVoters([4, 5, 6].into()), None).await
    });
    for id in cluster.running() {
        eventually("the joint membership to arrive", || {
            let membership = cluster.metrics(id).membership.clone();
            if membership.membership.is_joint() { Ok(()) } else { Err(membership) }
        })
        .await;
    }
    cluster.crash(old).await;
    for id in 4..=6 {
        sees_voters(&cluster, id, &[4, 5, 6]).await;
    }
    cluster.network().heal();
    cluster.leader_among(&[4, 5, 6]).await;
    cluster.wait_equal(&[4, 5, 6]).await;
    change.await.unwrap().expect_err("its leader has crashed");
}

#[tokio::test]
async fn a_change_that_was_not_committed_is_rolled_back() {
    let cluster = Cluster::of_voters(3, options(|config| config.write_outcome_timeout_ms = 30_000)).await;
    let old = cluster.leader().await;
    cluster.wait_equal(&[1, 2, 3]).await;
    let before = membership_entry(&cluster, old);
    cluster.network().isolate(old);
    let raft = cluster.raft(old);
    let adding = tokio::spawn(async move { raft.add_learner(9, Cluster::address(9), None).await });
    eventually("the change to be appended", || {
        let entry = membership_entry(&cluster, old);
        if before < entry { Ok(()) } else { Err(entry) }
    })
    .await;
    let new = cluster.leader_other_than(old).await;
    cluster.raft(new).write(put("k", "v")).await.unwrap();
    cluster.network().heal();
    cluster.wait_equal(&[1, 2, 3]).await;
    assert_eq!(membership_entry(&cluster, old), before);
    assert!(!cluster.metrics(old).membership.membership.is_member(9));
    let outcome = adding.await.unwrap();
    assert!(matches!(outcome, Err(ChangeMembershipError::Unknown { .. })), "{outcome:?}");
}

#[tokio::test]
async fn the_way_to_reach_a_node_can_be_changed() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let moved = BTreeMap::from([(2, "elsewhere".to_string())]);
    change(&cluster, MembershipChange::UpdateNodes(moved)).await;
    cluster.wait_equal(&[1, 2, 3]).await;
    for id in 1..=3 {
        let membership = cluster.metrics(id).membership.membership.clone();
        assert_eq!(membership.node(2).map(String::as_str), Some("elsewhere"));
        assert_eq!(membership.voters().len(), 3);
    }
}

#[tokio::test]
async fn memberships_survive_restarts_and_snapshots() {
    let cluster = Cluster::of_voters(
        1,
        options(|config| {
            config.snapshot_after_entries = None;
            config.log_keep_entries = 0;
        }),
    )
    .await;
    add_learner(&cluster, 2).await;
    change(&cluster, MembershipChange::Promote([2].into())).await;
    add_learner(&cluster, 3).await;
    cluster.client().must_write(put("k", "v")).await;
    cluster.wait_equal(&[1, 2, 3]).await;
    let before = cluster.metrics(1).membership.clone();
    for id in 1..=3 {
        cluster.raft(id).snapshot().await.unwrap();
    }
    for id in 1..=3 {
        cluster.crash(id).await;
    }
    for id in 1..=3 {
        assert_eq!(cluster.start(id).await.metrics().latest().membership, before);
    }
    cluster.client().must_write(put("k", "w")).await;
    cluster.wait_equal(&[1, 2, 3]).await;
}

#[tokio::test]
async fn a_node_that_was_away_when_it_was_removed_reports_it_and_can_be_added_again() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let leader = cluster.leader().await;
    let away = other_than(&cluster, leader);
    cluster.stop(away).await;
    change(&cluster, MembershipChange::Remove([away].into())).await;
    cluster.client().must_write(put("k", "v")).await;
    let raft = cluster.start(away).await;
    let wait = raft.wait(Duration::from_secs(20));
    wait.until("its removal", |metrics| metrics.standing == Standing::Removed).await.unwrap();
    assert_eq!(raft.metrics().latest().role, RoleName::Follower);
    // It is a member again as soon as a leader speaks to it.
    let leader = cluster.raft(cluster.leader().await);
    leader.add_learner(away, Cluster::address(away), LONG).await.unwrap();
    wait.until("to be a learner", |metrics| metrics.standing == Standing::Learner).await.unwrap();
    leader.promote([away]).await.unwrap();
    wait.until("to be a voter", |metrics| metrics.standing == Standing::Voter).await.unwrap();
    cluster.wait_equal(&[1, 2, 3]).await;
}

#[tokio::test]
async fn any_change_is_made_in_one_call_and_only_to_the_membership_that_was_seen() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let leader = cluster.leader().await;
    let raft = cluster.raft(leader);
    for id in [4, 5] {
        cluster.start(id).await;
    }
    let seen = raft.add_learner(4, Cluster::address(4), LONG).await.unwrap();
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    // One voter goes, the other becomes a learner, the learner a voter, and a new learner comes.
    let nodes: BTreeMap<u64, String> = [leader, others[0], 4, 5].map(|id| (id, Cluster::address(id))).into();
    let set = MembershipChange::Set { voters: [leader, 4].into(), nodes: nodes.clone() };
    raft.change_membership(set.clone(), Some(seen)).await.unwrap();
    let membership = cluster.metrics(leader).membership.membership.clone();
    assert_eq!(membership.voters(), &BTreeSet::from([leader, 4]));
    assert_eq!(membership.nodes(), &nodes);
    let again = raft.change_membership(set, Some(seen)).await.unwrap_err();
    assert!(matches!(again, ChangeMembershipError::Mismatch { expected, .. } if expected == seen), "{again}");
    cluster.wait_equal(&[leader, others[0], 4, 5]).await;
}
