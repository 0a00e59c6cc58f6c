//! Followers that were away for long, and the memory of the leader meanwhile.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use openconsensus::{ChangeMembershipError, MembershipChange, MetricsWatch};
use openconsensus_memstore::kv::Kv;
use openconsensus_tests::{Cluster, ClusterOptions, Load, eventually_within};

use crate::{options, other_than, write_bulk};

/// How many entries a follower misses.
const MISSED: u64 = 100_000;

/// What is kept of recent entries: a small part of what is missed.
const TAIL_BYTES: u64 = 1 << 20;

/// Follows the metrics of a leader and returns the most bytes that its tail has had, until it is aborted.
fn watch_tail(mut metrics: MetricsWatch<Kv>) -> tokio::task::JoinHandle<u64> {
    tokio::spawn(async move {
        let mut most = 0;
        loop {
            let latest = metrics.changed().await;
            most = most.max(latest.tail_bytes);
            if latest.fatal.is_some() {
                return most;
            }
        }
    })
}

/// Waits until `id` has applied what `leader` had committed when this was called.
async fn caught_up(cluster: &Cluster, id: u64, leader: u64) {
    let goal = cluster.metrics(leader).committed;
    eventually_within(Duration::from_secs(60), "a follower to catch up", || {
        let applied = cluster.metrics(id).applied.index;
        if goal <= applied { Ok(()) } else { Err((applied, goal, cluster.clone())) }
    })
    .await;
}

/// A follower misses 100,000 entries and comes back while writes go on. Returns the cluster, its leader and the
/// follower.
async fn miss_and_return(cluster: Cluster) -> (Cluster, u64, u64) {
    let leader = cluster.leader().await;
    let tail = watch_tail(cluster.raft(leader).metrics());
    let away = other_than(&cluster, leader);
    cluster.crash(away).await;
    write_bulk(&cluster, leader, "missed", MISSED).await;
    let load = Load::start(&cluster, "load", 4);
    load.acknowledged(10).await;
    cluster.start(away).await;
    caught_up(&cluster, away, leader).await;
    load.acknowledged(10).await;
    let history = load.stop().await;
    cluster.wait_equal(&[1, 2, 3]).await;
    history.check(&cluster.reader(away).view());
    assert_eq!(cluster.metrics(leader).leader, Some(leader), "the leader has led all the time");

    let sent = cluster.metrics(leader).counters;
    let installed = cluster.metrics(away).counters;
    tracing::debug!(?sent, ?installed, "caught up");
    cluster.raft(leader).shutdown().await;
    // One batch of a writer may be on its way to the log on top of what is kept.
    let limit = TAIL_BYTES + 1000 * 300;
    let most = tail.await.expect("the watch ends with the node");
    assert!(TAIL_BYTES / 4 < most && most <= limit, "the tail had {most} bytes, the limit is {limit}");
    (cluster, leader, away)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_misses_100_000_entries_catches_up_by_log_while_writes_go_on() {
    let cluster = Cluster::of_voters(
        3,
        options(|config| {
            config.tail_bytes_max = TAIL_BYTES;
            config.snapshot_after_entries = None;
        }),
    )
    .await;
    let (cluster, leader, away) = miss_and_return(cluster).await;
    assert!(10 < cluster.metrics(leader).counters.catch_up_reads, "old entries were read from the log");
    assert_eq!(cluster.metrics(away).counters.snapshots_installed, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_misses_100_000_entries_catches_up_by_snapshot_when_the_log_is_purged() {
    let cluster = Cluster::of_voters(
        3,
        options(|config| {
            config.tail_bytes_max = TAIL_BYTES;
            config.snapshot_after_entries = Some(20_000);
            config.log_keep_entries = 1000;
            config.log_hold_entries_max = 10_000;
        }),
    )
    .await;
    let (cluster, leader, away) = miss_and_return(cluster).await;
    assert!(MISSED / 2 < cluster.metrics(leader).purged.index, "the log was purged behind the snapshots");
    assert_eq!(cluster.metrics(away).counters.snapshots_installed, 1);
}

#[tokio::test]
async fn a_learner_is_watched_until_it_may_be_promoted() {
    let cluster = Cluster::of_voters(1, options(|config| config.promotion_lag_entries_max = 5)).await;
    write_bulk(&cluster, 1, "k", 500).await;
    let raft = cluster.raft(1);
    let long = Duration::from_secs(20);
    let unknown = raft.wait_for_learner(2, long).await.unwrap_err();
    assert_eq!(unknown, ChangeMembershipError::UnknownNode { id: 2, members: [1].into() });
    // It is not there yet: nothing is known of it but that.
    let late = raft.add_learner(2, Cluster::address(2), Some(Duration::from_millis(50))).await.unwrap_err();
    assert!(matches!(late, ChangeMembershipError::StillCatchingUp { id: 2, matched: 0, .. }), "{late}");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let watching = {
        let (raft, seen) = (raft.clone(), seen.clone());
        tokio::spawn(async move {
            raft.watch_learner(2, long, |peer| seen.lock().unwrap().push((peer.matched, peer.lag_entries)))
                .await
        })
    };
    cluster.start(2).await;
    assert_eq!(watching.await.unwrap(), Ok(()));
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert!(seen.windows(2).all(|pair| pair[0].0 <= pair[1].0), "it only comes on: {seen:?}");
    assert_eq!(seen[0].0, 0);
    assert!(seen.last().is_some_and(|(matched, lag)| 500 < *matched && *lag <= 5), "{seen:?}");
    raft.promote([2]).await.unwrap();
    // A node that does not lead knows nothing of it.
    let error = cluster.raft(2).wait_for_learner(2, long).await.unwrap_err();
    assert!(
        matches!(&error, ChangeMembershipError::NotLeader { leader: Some(hint) } if hint.id == 1),
        "{error}"
    );
}

#[tokio::test]
async fn waiting_for_a_learner_ends_when_it_is_removed() {
    let cluster = Cluster::of_voters(1, ClusterOptions::default()).await;
    let raft = cluster.raft(1);
    raft.add_learner(2, Cluster::address(2), None).await.unwrap();
    let waiting = {
        let raft = raft.clone();
        tokio::spawn(async move { raft.wait_for_learner(2, Duration::from_secs(20)).await })
    };
    tokio::task::yield_now().await;
    raft.change_membership(MembershipChange::Remove([2].into()), None).await.unwrap();
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error, ChangeMembershipError::UnknownNode { id: 2, members: [1].into() });
}
