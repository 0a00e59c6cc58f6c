//! Leadership that is handed over.

use futures::future::join_all;
use openconsensus::{ChangeMembershipError, RoleName, TransferError};
use openconsensus_tests::{Cluster, ClusterOptions, Load, eventually, put};
use tokio::task::JoinHandle;

use crate::{options, other_than};

#[tokio::test]
async fn leadership_goes_to_the_node_that_is_named() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    for target in [1, 2, 3, 2, 1] {
        let leader = cluster.leader().await;
        assert_eq!(cluster.raft(leader).transfer_leadership(Some(target)).await, Ok(target));
        assert_eq!(cluster.leader().await, target);
    }
}

#[tokio::test]
async fn any_node_can_be_asked_to_hand_over_to_any_voter() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    cluster.start(4).await;
    let wait = Some(std::time::Duration::from_secs(20));
    cluster.raft(cluster.leader().await).add_learner(4, Cluster::address(4), wait).await.unwrap();
    for (asked, target) in [(4, 2), (1, 3), (3, 1), (2, 2), (4, 3), (1, 1)] {
        assert_eq!(
            cluster.raft(asked).transfer_leadership(Some(target)).await,
            Ok(target),
            "asked of {asked}"
        );
        let role = cluster.raft(target).wait(std::time::Duration::from_secs(20));
        role.until("the target to lead", |metrics| metrics.role == RoleName::Leader).await.unwrap();
    }
    let old = cluster.leader().await;
    let new = cluster.raft(4).transfer_leadership(None).await.unwrap();
    assert_ne!(new, old);
}

#[tokio::test]
async fn leadership_goes_to_some_other_voter_when_none_is_named() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let old = cluster.leader().await;
    let new = cluster.raft(old).transfer_leadership(None).await.unwrap();
    assert_ne!(new, old);
    assert_eq!(cluster.leader().await, new);
}

#[tokio::test]
async fn transfers_lose_nothing_under_load_and_leave_no_outcome_open() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let load = Load::start(&cluster, "load", 8);
    for _ in 0..5 {
        load.acknowledged(30).await;
        let leader = cluster.leader().await;
        match cluster.raft(leader).transfer_leadership(None).await {
            Ok(_) | Err(TransferError::NotLeader { .. } | TransferError::TimedOut { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let history = load.stop().await;
    cluster.wait_equal(&[1, 2, 3]).await;
    history.check(&cluster.reader(1).view());
    assert_eq!(
        (history.unknown(), history.absent()),
        (0, 0),
        "nobody crashed, so nothing needs to be in doubt"
    );
}

#[tokio::test]
async fn a_transfer_brings_its_target_up_to_date_first() {
    let cluster = Cluster::of_voters(3, options(|config| config.transfer_timeout_ms = 10_000)).await;
    let leader = cluster.leader().await;
    let target = other_than(&cluster, leader);
    cluster.log_faults(target).stall();
    crate::write_bulk(&cluster, leader, "k", 1000).await;
    let raft = cluster.raft(leader);
    let transfer = tokio::spawn(async move { raft.transfer_leadership(Some(target)).await });
    tokio::task::yield_now().await;
    cluster.log_faults(target).release();
    assert_eq!(transfer.await.unwrap(), Ok(target));
    cluster.wait_equal(&[1, 2, 3]).await;
}

/// Begins a transfer to a node that is cut off, and waits until it is under way.
async fn begin_to_a_node_that_is_cut_off(
    cluster: &Cluster,
    leader: u64,
) -> (u64, JoinHandle<Result<u64, TransferError<openconsensus_memstore::kv::Kv>>>) {
    let target = other_than(cluster, leader);
    cluster.network().isolate(target);
    let raft = cluster.raft(leader);
    let transfer = tokio::spawn(async move { raft.transfer_leadership(Some(target)).await });
    // A second one is refused as soon as the first one is under way, and until then the target is not a learner.
    let second = other_than(cluster, target);
    let third = (1..=3).find(|id| *id != leader && *id != target).unwrap_or(second);
    tokio::task::yield_now().await;
    let error = cluster.raft(leader).transfer_leadership(Some(third)).await.unwrap_err();
    assert_eq!(error, TransferError::InProgress { target });
    (target, transfer)
}

#[tokio::test]
async fn a_transfer_to_a_node_that_is_cut_off_times_out_and_the_leader_leads_on() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let leader = cluster.leader().await;
    cluster.wait_equal(&[1, 2, 3]).await;
    let term = cluster.metrics(leader).term;
    let (target, transfer) = begin_to_a_node_that_is_cut_off(&cluster, leader).await;
    let held: Vec<_> = (0..20)
        .map(|n| {
            let raft = cluster.raft(leader);
            tokio::spawn(async move { raft.write(put(format!("held {n}"), "1")).await })
        })
        .collect();
    let change = cluster.raft(leader).add_learner(9, Cluster::address(9), None).await;
    assert_eq!(change, Err(ChangeMembershipError::Transferring));
    let error = transfer.await.unwrap().unwrap_err();
    assert_eq!(error, TransferError::TimedOut { target });
    for write in join_all(held).await {
        write.unwrap().expect("what was held back is done");
    }
    let metrics = cluster.metrics(leader);
    assert_eq!((metrics.role, metrics.term), (RoleName::Leader, term));
    assert_eq!(cluster.reader(leader).len(), 20);
    cluster.network().heal();
    cluster.wait_equal(&[1, 2, 3]).await;
    assert_eq!(cluster.metrics(leader).role, RoleName::Leader);
}

#[tokio::test]
async fn transfers_to_nodes_that_cannot_lead_are_refused() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let leader = cluster.leader().await;
    let raft = cluster.raft(leader);
    let error = raft.transfer_leadership(Some(9)).await.unwrap_err();
    assert_eq!(error, TransferError::NotAVoter { target: 9, voters: [1, 2, 3].into() });
    cluster.start(4).await;
    let wait = Some(std::time::Duration::from_secs(20));
    raft.add_learner(4, Cluster::address(4), wait).await.unwrap();
    let error = raft.transfer_leadership(Some(4)).await.unwrap_err();
    assert!(matches!(error, TransferError::NotAVoter { target: 4, .. }), "{error}");
    // In the same words where another node is asked.
    let error = cluster.raft(other_than(&cluster, leader)).transfer_leadership(Some(4)).await.unwrap_err();
    assert_eq!(error, TransferError::NotAVoter { target: 4, voters: [1, 2, 3].into() });
    assert_eq!(cluster.leader().await, leader);
    // To the leader itself there is nothing to do.
    assert_eq!(raft.transfer_leadership(Some(leader)).await, Ok(leader));
}

#[tokio::test]
async fn a_node_alone_has_nobody_to_hand_over_to() {
    let cluster = Cluster::of_voters(1, ClusterOptions::default()).await;
    assert_eq!(cluster.raft(1).transfer_leadership(None).await, Err(TransferError::NoTarget));
}

#[tokio::test]
async fn a_transfer_in_a_cluster_of_two_works_both_ways() {
    let cluster = Cluster::of_voters(2, ClusterOptions::default()).await;
    for _ in 0..4 {
        let old = cluster.leader().await;
        assert_eq!(cluster.raft(old).transfer_leadership(None).await, Ok(3 - old));
        eventually("the other one to lead", || {
            let role = cluster.metrics(3 - old).role;
            if role == RoleName::Leader { Ok(()) } else { Err(role) }
        })
        .await;
        cluster.client().must_write(put("k", "v")).await;
    }
}
