//! Stores that fail, fill up and stall.

use openconsensus::{Fatal, ReadError, WriteError};
use openconsensus_tests::{Cluster, ClusterOptions, Load, StateKind, StoreFaults, eventually, put};

use crate::other_than;

/// Waits until `id` has stopped, and returns why.
async fn fatal(cluster: &Cluster, id: u64) -> Fatal {
    eventually("the node to stop", || {
        let metrics = cluster.metrics(id);
        metrics.fatal.clone().ok_or(metrics)
    })
    .await
}

/// A store of one node fails under load: that node stops, the others go on, and after a repair nothing is missing.
async fn check_failure(
    is_leader: bool,
    break_store: impl FnOnce(&Cluster, u64),
    repair: impl FnOnce(&Cluster, u64),
) -> Fatal {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let load = Load::start(&cluster, "load", 4);
    load.acknowledged(50).await;
    let leader = cluster.leader().await;
    let failing = if is_leader { leader } else { other_than(&cluster, leader) };
    break_store(&cluster, failing);
    let reason = fatal(&cluster, failing).await;

    // The reason sticks.
    let raft = cluster.raft(failing);
    assert_eq!(raft.write(put("k", "v")).await, Err(WriteError::Fatal(reason.clone())));
    assert_eq!(raft.read().await, Err(ReadError::Fatal(reason.clone())));

    let others: Vec<u64> = (1..=3).filter(|id| *id != failing).collect();
    cluster.leader_among(&others).await;
    load.acknowledged(50).await;
    if !is_leader {
        assert_eq!(cluster.leader_among(&others).await, leader, "a leader does not fall with a follower");
    }
    repair(&cluster, failing);
    cluster.stop(failing).await;
    cluster.start(failing).await;
    let history = load.stop().await;
    cluster.wait_equal(&[1, 2, 3]).await;
    for id in 1..=3 {
        history.check(&cluster.reader(id).view());
    }
    reason
}

fn is_full(fatal: &Fatal) -> bool {
    matches!(fatal, Fatal::LogStorage(error) if error.to_string().contains("no space left"))
}

#[tokio::test]
async fn a_full_disk_stops_the_leader_and_loses_nothing() {
    let fill = |cluster: &Cluster, id| cluster.log_faults(id).fill();
    let free = |cluster: &Cluster, id| cluster.log_faults(id).free();
    let reason = check_failure(true, fill, free).await;
    assert!(is_full(&reason), "{reason}");
}

#[tokio::test]
async fn a_full_disk_stops_a_follower_and_loses_nothing() {
    let fill = |cluster: &Cluster, id| cluster.log_faults(id).fill();
    let free = |cluster: &Cluster, id| cluster.log_faults(id).free();
    let reason = check_failure(false, fill, free).await;
    assert!(is_full(&reason), "{reason}");
}

#[tokio::test]
async fn one_failed_write_stops_a_node_even_if_the_next_would_work() {
    for nth in [1, 2, 5] {
        let reason =
            check_failure(true, |cluster, id| cluster.log_faults(id).fail_write(nth), |_, _| {}).await;
        assert!(
            matches!(&reason, Fatal::LogStorage(error) if error.to_string().contains("made to fail")),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn a_state_machine_that_fails_stops_its_node() {
    for is_leader in [true, false] {
        let fail = |cluster: &Cluster, id| cluster.machine_faults(id).fail_write(3);
        let reason = check_failure(is_leader, fail, |_, _| {}).await;
        assert!(matches!(reason, Fatal::StateMachine(_)), "{reason}");
    }
}

#[tokio::test]
async fn a_full_disk_of_a_node_alone_keeps_what_was_acknowledged() {
    let cluster = Cluster::of_voters(1, ClusterOptions::default()).await;
    let load = Load::start(&cluster, "load", 4);
    load.acknowledged(50).await;
    cluster.log_faults(1).fill();
    fatal(&cluster, 1).await;
    cluster.log_faults(1).free();
    cluster.crash(1).await;
    cluster.start(1).await;
    load.acknowledged(10).await;
    let history = load.stop().await;
    cluster.wait_equal(&[1]).await;
    history.check(&cluster.reader(1).view());
}

/// Stalls a store of one node under load: the others go on, and it catches up afterwards.
async fn check_stall(is_leader: bool, faults: impl Fn(&Cluster, u64) -> StoreFaults) {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let load = Load::start(&cluster, "load", 4);
    load.acknowledged(50).await;
    let leader = cluster.leader().await;
    let stalled = if is_leader { leader } else { other_than(&cluster, leader) };
    faults(&cluster, stalled).stall();
    load.acknowledged(100).await;
    faults(&cluster, stalled).release();
    let history = load.stop().await;
    cluster.wait_equal(&[1, 2, 3]).await;
    for id in 1..=3 {
        history.check(&cluster.reader(id).view());
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_before_a_quorum_has_it_on_disk() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let leader = cluster.leader().await;
    let before = cluster.wait_equal(&[1, 2, 3]).await;
    let followers: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    followers.iter().for_each(|id| cluster.log_faults(*id).stall());
    let raft = cluster.raft(leader);
    let write = tokio::spawn(async move { raft.write(put("k", "v")).await });
    for id in &followers {
        eventually("the entry to arrive", || {
            let last = cluster.metrics(*id).last.index;
            if before < last { Ok(()) } else { Err(last) }
        })
        .await;
    }
    // A round of heartbeats and its answers: whatever was sent before them has arrived too.
    cluster.raft(leader).read().await.unwrap();
    assert_eq!(cluster.metrics(leader).committed, before, "two of three have it in memory alone");
    assert!(!write.is_finished());
    cluster.log_faults(followers[0]).release();
    write.await.unwrap().expect("two of three have it on their disks");
    cluster.log_faults(followers[1]).release();
    cluster.wait_equal(&[1, 2, 3]).await;
}

#[tokio::test]
async fn a_leader_whose_disk_stalls_does_not_hold_up_the_others() {
    check_stall(true, Cluster::log_faults).await;
}

#[tokio::test]
async fn a_follower_whose_disk_stalls_does_not_hold_up_the_others() {
    check_stall(false, Cluster::log_faults).await;
}

#[tokio::test]
async fn a_follower_whose_state_machine_stalls_does_not_hold_up_the_others() {
    check_stall(false, Cluster::machine_faults).await;
}

#[tokio::test]
async fn slow_disks_make_writes_slow_and_nothing_else() {
    let cluster =
        Cluster::of_voters(3, ClusterOptions { state: StateKind::Persistent, ..ClusterOptions::default() })
            .await;
    let leader = cluster.leader().await;
    let term = cluster.metrics(leader).term;
    for id in 1..=3 {
        cluster.log_faults(id).slow_down(std::time::Duration::from_millis(30));
    }
    let load = Load::start(&cluster, "load", 16);
    load.acknowledged(200).await;
    let history = load.stop().await;
    cluster.wait_equal(&[1, 2, 3]).await;
    history.check(&cluster.reader(leader).view());
    assert_eq!(cluster.metrics(leader).term, term, "no election was needed");
}
