//! Leaders that die, and what becomes of the writes that were in flight.

use futures::future::join_all;
use openconsensus::{RoleName, WriteError};
use openconsensus_memstore::kv::Kv;
use openconsensus_tests::{Cluster, ClusterOptions, Load, Outcome, StateKind, Writes, eventually, put};
use tokio::task::JoinHandle;

use crate::options;

async fn check_leader_crashes(state: StateKind, seed: u64) {
    let cluster = Cluster::of_voters(3, ClusterOptions { state, seed, ..ClusterOptions::default() }).await;
    let load = Load::start(&cluster, "load", 8);
    for _ in 0..3 {
        load.acknowledged(50).await;
        let leader = cluster.leader().await;
        cluster.crash(leader).await;
        cluster.leader_other_than(leader).await;
        load.acknowledged(50).await;
        cluster.start(leader).await;
    }
    let history = load.stop().await;
    cluster.wait_equal(&[1, 2, 3]).await;
    for id in 1..=3 {
        history.check(&cluster.reader(id).view());
    }
}

#[tokio::test]
async fn no_acknowledged_write_is_lost_when_leaders_with_volatile_state_crash() {
    check_leader_crashes(StateKind::Volatile, 11).await;
}

#[tokio::test]
async fn no_acknowledged_write_is_lost_when_leaders_with_persistent_state_crash() {
    check_leader_crashes(StateKind::Persistent, 12).await;
}

#[tokio::test]
async fn no_acknowledged_write_is_lost_when_leaders_with_lagging_state_crash() {
    check_leader_crashes(StateKind::Lagging(70), 13).await;
}

/// A write that somebody else waits for: its key, and what became of it.
type Write = JoinHandle<(String, Result<(), WriteError<Kv>>)>;

/// Writes `count` keys at node `id` without waiting for them to be answered. Returns the answers to come.
fn write_in_background(cluster: &Cluster, id: u64, count: usize) -> Vec<Write> {
    let raft = cluster.raft(id);
    (0..count)
        .map(|n| {
            let (raft, key) = (raft.clone(), format!("in flight {n}"));
            tokio::spawn(async move {
                let result = raft.write(put(&key, Writes::value_of(&key))).await;
                (key, result.map(|_| ()))
            })
        })
        .collect()
}

/// Waits until `id` has `count` more entries than `before`.
async fn appended(cluster: &Cluster, id: u64, before: u64, count: u64) {
    eventually("writes to be appended", || {
        let last = cluster.metrics(id).last.index;
        if before + count <= last { Ok(()) } else { Err(last) }
    })
    .await;
}

#[tokio::test]
async fn writes_of_a_leader_that_was_cut_off_are_dropped_when_another_leader_took_their_place() {
    let cluster = Cluster::of_voters(3, options(|config| config.write_outcome_timeout_ms = 30_000)).await;
    let old = cluster.leader().await;
    let before = cluster.wait_equal(&[1, 2, 3]).await;
    cluster.network().isolate(old);
    let writes = write_in_background(&cluster, old, 10);
    appended(&cluster, old, before, 10).await;
    let new = cluster.leader_other_than(old).await;
    cluster.raft(new).write(put("k", "v")).await.unwrap();
    cluster.network().heal();
    for write in join_all(writes).await {
        let (key, result) = write.unwrap();
        assert_eq!(result, Err(WriteError::Dropped), "{key}");
    }
    cluster.wait_equal(&[1, 2, 3]).await;
    assert_eq!(cluster.reader(old).len(), 1, "none of the dropped writes is there");
    assert!(1 <= cluster.metrics(old).counters.truncations);
}

#[tokio::test]
async fn writes_are_unknown_when_nobody_can_tell_in_time() {
    let cluster = Cluster::of_voters(3, options(|config| config.write_outcome_timeout_ms = 50)).await;
    let old = cluster.leader().await;
    let before = cluster.wait_equal(&[1, 2, 3]).await;
    cluster.network().isolate(old);
    let writes = write_in_background(&cluster, old, 10);
    for (write, n) in join_all(writes).await.into_iter().zip(1..) {
        let (_, result) = write.unwrap();
        let Err(WriteError::Unknown { log_id }) = result else { panic!("{result:?}") };
        assert!((before + 1..=before + 10).contains(&log_id.index), "write {n}: {log_id}");
    }
    assert_ne!(cluster.metrics(old).role, RoleName::Leader, "a leader without a quorum steps down");
}

#[tokio::test]
async fn a_write_that_the_next_leader_commits_is_acknowledged() {
    let cluster = Cluster::of_voters(3, options(|config| config.write_outcome_timeout_ms = 30_000)).await;
    let old = cluster.leader().await;
    let before = cluster.wait_equal(&[1, 2, 3]).await;
    let followers: Vec<u64> = (1..=3).filter(|id| *id != old).collect();
    // The followers hear the leader, which does not hear them.
    followers.iter().for_each(|id| cluster.network().cut_one_way(*id, old));
    let writes = write_in_background(&cluster, old, 10);
    for id in &followers {
        appended(&cluster, *id, before, 10).await;
    }
    let new = cluster.leader_other_than(old).await;
    assert_eq!(cluster.reader(old).len(), 0, "it cannot know yet that they are committed");
    cluster.network().heal();
    for write in join_all(writes).await {
        let (key, result) = write.unwrap();
        assert_eq!(result, Ok(()), "{key}");
    }
    cluster.wait_equal(&[1, 2, 3]).await;
    assert_eq!(cluster.reader(new).len(), 10);
}

async fn check_restart_of_all(state: StateKind, is_crash: bool) {
    let options = options(|config| {
        config.snapshot_after_entries = Some(100);
        config.log_keep_entries = 20;
    });
    let cluster = Cluster::of_voters(3, ClusterOptions { state, ..options }).await;
    let load = Load::start(&cluster, "load", 4);
    load.acknowledged(300).await;
    for id in 1..=3 {
        if is_crash { cluster.crash(id).await } else { cluster.stop(id).await }
    }
    for id in 1..=3 {
        cluster.start(id).await;
    }
    cluster.leader().await;
    load.acknowledged(50).await;
    let history = load.stop().await;
    cluster.wait_equal(&[1, 2, 3]).await;
    for id in 1..=3 {
        history.check(&cluster.reader(id).view());
    }
}

#[tokio::test]
async fn nothing_is_lost_when_every_node_crashes_at_once() {
    for state in [StateKind::Volatile, StateKind::Persistent, StateKind::Lagging(70)] {
        check_restart_of_all(state, true).await;
    }
}

#[tokio::test]
async fn nothing_is_lost_when_every_node_is_stopped_and_started() {
    for state in [StateKind::Volatile, StateKind::Persistent] {
        check_restart_of_all(state, false).await;
    }
}

#[tokio::test]
async fn a_node_alone_keeps_what_it_has_acknowledged_over_crashes() {
    let cluster = Cluster::of_voters(1, ClusterOptions::default()).await;
    let load = Load::start(&cluster, "load", 4);
    for _ in 0..5 {
        load.acknowledged(20).await;
        cluster.crash(1).await;
        cluster.start(1).await;
    }
    let history = load.stop().await;
    cluster.wait_equal(&[1]).await;
    history.check(&cluster.reader(1).view());
}

#[tokio::test]
async fn two_nodes_need_each_other() {
    let cluster = Cluster::of_voters(2, options(|config| config.write_outcome_timeout_ms = 100)).await;
    let mut client = cluster.client();
    client.must_write(put("k", "1")).await;
    let leader = cluster.leader().await;
    cluster.crash(3 - leader).await;
    let result = cluster.raft(leader).write(put("k", "2")).await;
    assert!(matches!(result, Err(WriteError::Unknown { .. })), "{result:?}");
    cluster.start(3 - leader).await;
    assert!(matches!(client.write(put("k", "3")).await, Outcome::Applied(_)));
    cluster.wait_equal(&[1, 2]).await;
    assert_eq!(cluster.reader(leader).get("k"), Some(b"3".to_vec()));
}
