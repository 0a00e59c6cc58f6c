//! Networks that lose, hold back, repeat and reorder.

use std::time::Duration;

use openconsensus::{Config, RoleName, WriteError};
use openconsensus_tests::{Cluster, ClusterOptions, LinkFaults, Load, eventually, put};

use crate::options;

async fn check_history(cluster: &Cluster, ids: &[u64], load: Load) {
    let history = load.stop().await;
    cluster.wait_equal(ids).await;
    for id in ids {
        history.check(&cluster.reader(*id).view());
    }
}

#[tokio::test]
async fn the_larger_part_goes_on_and_the_smaller_one_does_not() {
    let cluster = Cluster::of_voters(5, options(|config| config.write_outcome_timeout_ms = 30_000)).await;
    let old = cluster.leader().await;
    let (small, large): (Vec<u64>, Vec<u64>) = (1..=5).partition(|id| *id == old || *id == old % 5 + 1);
    cluster.network().partition(&[&small, &large]);
    let raft = cluster.raft(old);
    let lost = tokio::spawn(async move { raft.write(put("lost", "1")).await });

    let new = cluster.leader_among(&large).await;
    cluster.raft(new).write(put("kept", "1")).await.unwrap();
    let stepped_down = || {
        let metrics = cluster.metrics(old);
        if metrics.role == RoleName::Leader { Err(metrics) } else { Ok(()) }
    };
    eventually("the leader of the smaller part to step down", stepped_down).await;
    for id in &small {
        let result = cluster.raft(*id).write(put("refused", "1")).await;
        assert!(matches!(result, Err(WriteError::NotLeader { .. })), "{result:?}");
    }

    cluster.network().heal();
    assert_eq!(lost.await.unwrap(), Err(WriteError::Dropped));
    cluster.wait_equal(&[1, 2, 3, 4, 5]).await;
    assert_eq!(cluster.reader(old).scan(.., 9).len(), 1);
}

#[tokio::test]
async fn a_node_that_was_cut_off_does_not_disturb_when_it_comes_back() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let leader = cluster.leader().await;
    let term = cluster.metrics(leader).term;
    let away = crate::other_than(&cluster, leader);
    cluster.network().isolate(away);
    eventually("the node that is away to look for votes", || {
        let metrics = cluster.metrics(away);
        if metrics.role == RoleName::PreCandidate { Ok(()) } else { Err(metrics) }
    })
    .await;
    cluster.network().heal();
    cluster.client().must_write(put("k", "v")).await;
    cluster.wait_equal(&[1, 2, 3]).await;
    assert_eq!((cluster.metrics(leader).role, cluster.metrics(leader).term), (RoleName::Leader, term));
}

#[tokio::test]
async fn a_node_that_only_its_leader_cannot_reach_does_not_disturb() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let leader = cluster.leader().await;
    let term = cluster.metrics(leader).term;
    let apart = crate::other_than(&cluster, leader);
    cluster.network().cut(leader, apart);
    let load = Load::start(&cluster, "load", 2);
    eventually("the node apart to look for votes", || {
        let metrics = cluster.metrics(apart);
        if metrics.role == RoleName::PreCandidate { Ok(()) } else { Err(metrics) }
    })
    .await;
    load.acknowledged(100).await;
    assert_eq!((cluster.metrics(leader).role, cluster.metrics(leader).term), (RoleName::Leader, term));
    cluster.network().heal();
    check_history(&cluster, &[1, 2, 3], load).await;
}

#[tokio::test]
async fn a_leader_that_nobody_hears_is_replaced() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let load = Load::start(&cluster, "load", 4);
    load.acknowledged(50).await;
    let old = cluster.leader().await;
    (1..=3).filter(|id| *id != old).for_each(|id| cluster.network().cut_one_way(old, id));
    cluster.leader_other_than(old).await;
    load.acknowledged(50).await;
    cluster.network().heal();
    check_history(&cluster, &[1, 2, 3], load).await;
}

#[tokio::test]
async fn a_leader_that_hears_nobody_steps_down_and_is_replaced() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let load = Load::start(&cluster, "load", 4);
    load.acknowledged(50).await;
    let old = cluster.leader().await;
    (1..=3).filter(|id| *id != old).for_each(|id| cluster.network().cut_one_way(id, old));
    cluster.leader_other_than(old).await;
    load.acknowledged(50).await;
    cluster.network().heal();
    check_history(&cluster, &[1, 2, 3], load).await;
}

async fn check_faults(seed: u64, faults: LinkFaults, config: Config) {
    let cluster = Cluster::of_voters(3, ClusterOptions { seed, config, ..ClusterOptions::default() }).await;
    cluster.network().set_faults(faults);
    let load = Load::start(&cluster, "load", 16);
    load.acknowledged(400).await;
    cluster.network().calm();
    check_history(&cluster, &[1, 2, 3], load).await;
}

#[tokio::test]
async fn delayed_messages_do_no_harm() {
    let delay = Duration::from_millis(1)..Duration::from_millis(20);
    check_faults(21, LinkFaults { delay, ..LinkFaults::default() }, ClusterOptions::config()).await;
}

#[tokio::test]
async fn repeated_messages_do_no_harm() {
    let hold = Duration::from_millis(50);
    let faults = LinkFaults { duplicate: 0.5, hold, ..LinkFaults::default() };
    check_faults(22, faults, ClusterOptions::config()).await;
}

#[tokio::test]
async fn reordered_messages_do_no_harm() {
    let hold = Duration::from_millis(30);
    let faults = LinkFaults { reorder: 0.3, hold, ..LinkFaults::default() };
    check_faults(23, faults, ClusterOptions::config()).await;
}

#[tokio::test]
async fn lost_messages_do_no_harm() {
    check_faults(24, LinkFaults { drop: 0.2, ..LinkFaults::default() }, ClusterOptions::config()).await;
}

#[tokio::test]
async fn all_of_it_at_once_with_small_limits_does_no_harm() {
    let config = Config {
        append_bytes_max: 1024,
        inflight_appends_max: 4,
        inflight_bytes_max: 2048,
        tail_bytes_max: 4096,
        snapshot_after_entries: Some(60),
        log_keep_entries: 10,
        log_hold_entries_max: 100,
        ..ClusterOptions::config()
    };
    check_faults(25, LinkFaults::rough(), config).await;
}
