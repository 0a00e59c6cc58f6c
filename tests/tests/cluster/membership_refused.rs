//! Changes of the membership that are refused, each with the reason, and leave nothing behind.

use std::collections::BTreeMap;
use std::time::Duration;

use openconsensus::{ChangeMembershipError, LogId, MembershipChange};
use openconsensus_memstore::kv::Kv;
use openconsensus_tests::{Cluster, ClusterOptions, eventually, put};

use crate::{membership_entry, options, other_than, write_bulk};

/// Asks the leader for `change`, which must be refused, and checks that the membership is as it was.
async fn refusal(cluster: &Cluster, change: MembershipChange<Kv>) -> ChangeMembershipError<Kv> {
    let leader = cluster.leader().await;
    let before = cluster.metrics(leader).membership.clone();
    let error = cluster.raft(leader).change_membership(change, None).await.expect_err("it must be refused");
    cluster.client().must_write(put("after", "1")).await;
    assert_eq!(cluster.metrics(leader).membership, before);
    error
}

#[tokio::test]
async fn unknown_nodes_are_refused() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    for change in [
        MembershipChange::Remove([9].into()),
        MembershipChange::Remove([1, 9].into()),
        MembershipChange::Promote([9].into()),
        MembershipChange::Demote([9].into()),
        MembershipChange::SetVoters([1, 2, 9].into()),
        MembershipChange::UpdateNodes(BTreeMap::from([(9, "nine".to_string())])),
    ] {
        let error = refusal(&cluster, change.clone()).await;
        let right =
            "node 9 is not a member; members are {1, 2, 3}; name one of them, or add it as a learner first";
        assert_eq!(error.to_string(), right, "{change:?}");
    }
}

#[tokio::test]
async fn the_last_voter_cannot_go() {
    let cluster = Cluster::of_voters(1, ClusterOptions::default()).await;
    for change in [
        MembershipChange::Remove([1].into()),
        MembershipChange::Demote([1].into()),
        MembershipChange::SetVoters([].into()),
    ] {
        assert_eq!(refusal(&cluster, change.clone()).await, ChangeMembershipError::NoVoters, "{change:?}");
    }
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let all = MembershipChange::Remove([1, 2, 3].into());
    assert_eq!(refusal(&cluster, all).await, ChangeMembershipError::NoVoters);
}

#[tokio::test]
async fn a_change_of_nothing_is_refused() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    for change in [
        MembershipChange::AddLearners(BTreeMap::new()),
        MembershipChange::Promote([].into()),
        MembershipChange::Demote([].into()),
        MembershipChange::Remove([].into()),
        MembershipChange::SetVoters([1, 2, 3].into()),
        MembershipChange::UpdateNodes(BTreeMap::from([(1, Cluster::address(1))])),
    ] {
        assert_eq!(refusal(&cluster, change.clone()).await, ChangeMembershipError::Empty, "{change:?}");
    }
}

#[tokio::test]
async fn a_change_that_does_not_fit_a_node_is_refused() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let learners = MembershipChange::AddLearners(BTreeMap::from([(2, Cluster::address(2))]));
    assert_eq!(refusal(&cluster, learners).await, ChangeMembershipError::AlreadyMember { id: 2 });
    let error = refusal(&cluster, MembershipChange::Promote([2].into())).await;
    assert_eq!(error.to_string(), "node 2 is a voter; this change needs a learner");
    cluster.start(4).await;
    let leader = cluster.leader().await;
    let wait = Some(Duration::from_secs(20));
    cluster.raft(leader).add_learner(4, Cluster::address(4), wait).await.unwrap();
    let error = refusal(&cluster, MembershipChange::Demote([4].into())).await;
    assert_eq!(error.to_string(), "node 4 is a learner; this change needs a voter");
}

#[tokio::test]
async fn a_change_is_refused_when_the_membership_is_not_the_expected_one() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let leader = cluster.raft(cluster.leader().await);
    let actual = leader.metrics().latest().membership.log_id;
    let expected = LogId::new(actual.term + 7, actual.index);
    let gone = other_than(&cluster, leader.id());
    let change = MembershipChange::Remove([gone].into());
    let error = leader.change_membership(change.clone(), Some(expected)).await.unwrap_err();
    assert_eq!(error, ChangeMembershipError::Mismatch { expected, actual });
    let changed = leader.change_membership(change.clone(), Some(actual)).await.unwrap();
    // Two administrators with the same plan: the second one is told that it has been carried out.
    let error = leader.change_membership(change, Some(actual)).await.unwrap_err();
    assert_eq!(error, ChangeMembershipError::Mismatch { expected: actual, actual: changed });
}

#[tokio::test]
async fn a_learner_that_lacks_too_much_is_not_promoted() {
    let cluster = Cluster::of_voters(3, options(|config| config.promotion_lag_entries_max = 100)).await;
    let leader = cluster.leader().await;
    cluster.start(4).await;
    let wait = Some(Duration::from_secs(20));
    cluster.raft(leader).add_learner(4, Cluster::address(4), wait).await.unwrap();
    // Its disk takes no writes, but it answers heartbeats.
    cluster.log_faults(4).stall();
    write_bulk(&cluster, leader, "k", 500).await;
    let error = refusal(&cluster, MembershipChange::Promote([4].into())).await;
    let ChangeMembershipError::NotCaughtUp { id: 4, behind, limit: 100 } = error else { panic!("{error}") };
    assert!((400..=520).contains(&behind), "{behind} behind");
    let voters = MembershipChange::SetVoters([1, 2, 3, 4].into());
    let error = refusal(&cluster, voters.clone()).await;
    assert!(matches!(error, ChangeMembershipError::NotCaughtUp { .. }), "{error}");
    cluster.log_faults(4).release();
    cluster.wait_equal(&[1, 2, 3, 4]).await;
    eventually("the leader to know", || {
        let lag = cluster.metrics(leader).peers[&4].lag_entries;
        if lag <= 100 { Ok(()) } else { Err(lag) }
    })
    .await;
    cluster.raft(leader).change_membership(voters, None).await.unwrap();
}

#[tokio::test]
async fn a_learner_that_does_not_answer_is_not_promoted() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let leader = cluster.leader().await;
    cluster.raft(leader).add_learner(4, Cluster::address(4), None).await.unwrap();
    let error = refusal(&cluster, MembershipChange::Promote([4].into())).await;
    assert_eq!(error, ChangeMembershipError::NotActive { id: 4 });
}

#[tokio::test]
async fn waiting_for_a_learner_that_is_down_ends_and_keeps_it() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let leader = cluster.leader().await;
    let wait = Some(Duration::from_millis(100));
    let error = cluster.raft(leader).add_learner(4, Cluster::address(4), wait).await.unwrap_err();
    let ChangeMembershipError::StillCatchingUp { id: 4, matched: 0, last } = error else { panic!("{error}") };
    assert!(0 < last);
    assert!(cluster.metrics(leader).membership.membership.is_member(4));
    cluster.start(4).await;
    cluster.wait_equal(&[1, 2, 3, 4]).await;
}

#[tokio::test]
async fn a_second_change_waits_for_the_first() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let leader = cluster.leader().await;
    cluster.wait_equal(&[1, 2, 3]).await;
    (1..=3).filter(|id| *id != leader).for_each(|id| cluster.log_faults(id).stall());
    let before = membership_entry(&cluster, leader);
    let raft = cluster.raft(leader);
    let first = tokio::spawn(async move { raft.add_learner(8, Cluster::address(8), None).await });
    let pending = eventually("the change to be appended", || {
        let entry = membership_entry(&cluster, leader);
        if before < entry { Ok(entry) } else { Err(entry) }
    })
    .await;
    let error = cluster.raft(leader).add_learner(9, Cluster::address(9), None).await.unwrap_err();
    assert_eq!(error, ChangeMembershipError::InProgress { pending });
    (1..=3).for_each(|id| cluster.log_faults(id).release());
    assert_eq!(first.await.unwrap(), Ok(pending));
    cluster.raft(leader).add_learner(9, Cluster::address(9), None).await.unwrap();
}

#[tokio::test]
async fn a_follower_does_not_change_the_membership() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let leader = cluster.leader().await;
    let follower = cluster.raft(other_than(&cluster, leader));
    let error = follower.change_membership(MembershipChange::Remove([1].into()), None).await.unwrap_err();
    let ChangeMembershipError::NotLeader { leader: Some(hint) } = error else { panic!("{error}") };
    assert_eq!(hint.id, leader);
}
