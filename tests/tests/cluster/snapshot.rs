//! Snapshots on their way, and the log that is purged behind them.

use std::time::Duration;

use openconsensus::{Config, ProgressName, PurgeError, SnapshotError};
use openconsensus_tests::{Cluster, ClusterOptions, Load, SnapshotFaults, StateKind, eventually, put};

use crate::{options, other_than, write_bulk};

/// A snapshot of the state that these tests write has more bytes than this.
const SNAPSHOT_BYTES_MIN: u64 = 10_000;

/// Snapshots only when asked for, and nothing kept behind them.
fn config() -> Config {
    Config {
        snapshot_after_entries: None,
        log_keep_entries: 0,
        log_hold_entries_max: 100_000,
        // Longer than a whole snapshot takes: it is seen to move only when it is there.
        snapshot_progress_timeout_ms: 1500,
        snapshot_install_timeout_ms: 2000,
        ..ClusterOptions::config()
    }
}

/// A cluster of three in which one follower has crashed and needs a snapshot. Returns it, its leader and the follower.
async fn with_follower_behind(state: StateKind) -> (Cluster, u64, u64) {
    let options = ClusterOptions { config: config(), state, ..ClusterOptions::default() };
    let cluster = Cluster::of_voters(3, options).await;
    let leader = cluster.leader().await;
    let away = other_than(&cluster, leader);
    cluster.crash(away).await;
    write_bulk(&cluster, leader, "missed", 1000).await;
    for id in cluster.running() {
        snapshot_and_purge(&cluster, id).await;
    }
    (cluster, leader, away)
}

/// Builds a snapshot on `id` and waits until the log is purged behind it.
async fn snapshot_and_purge(cluster: &Cluster, id: u64) {
    let meta = cluster.raft(id).snapshot().await.unwrap();
    assert!(meta.size_bytes.is_some_and(|bytes| SNAPSHOT_BYTES_MIN < bytes), "{meta:?}");
    eventually("the log to be purged", || {
        let metrics = cluster.metrics(id);
        if metrics.purged == meta.last { Ok(()) } else { Err(metrics) }
    })
    .await;
}

async fn check_equal(cluster: &Cluster, away: u64) {
    cluster.client().must_write(put("after", "1")).await;
    cluster.wait_equal(&[1, 2, 3]).await;
    assert_eq!(cluster.reader(away).len(), 201);
}

#[tokio::test]
async fn a_snapshot_on_request_covers_what_was_applied() {
    let cluster = Cluster::of_voters(1, ClusterOptions::default()).await;
    write_bulk(&cluster, 1, "k", 100).await;
    let applied = cluster.metrics(1).applied;
    let meta = cluster.raft(1).snapshot().await.unwrap();
    assert!(applied.index <= meta.last.index, "{meta:?}");
    assert!(meta.membership.membership.is_voter(1));
    eventually("the snapshot to show", || {
        let metrics = cluster.metrics(1);
        if metrics.snapshot == meta.last && metrics.counters.snapshots_built == 1 {
            Ok(())
        } else {
            Err(metrics)
        }
    })
    .await;
}

#[tokio::test]
async fn there_is_no_snapshot_of_nothing() {
    let cluster = Cluster::new(ClusterOptions::default());
    assert_eq!(cluster.start(1).await.snapshot().await, Err(SnapshotError::Empty));
}

#[tokio::test]
async fn snapshots_are_built_and_the_log_is_purged_by_itself() {
    let cluster = Cluster::of_voters(
        3,
        options(|config| {
            config.snapshot_after_entries = Some(200);
            config.log_keep_entries = 50;
        }),
    )
    .await;
    let leader = cluster.leader().await;
    for _ in 0..5 {
        write_bulk(&cluster, leader, "k", 250).await;
    }
    cluster.wait_equal(&[1, 2, 3]).await;
    for id in 1..=3 {
        eventually("the log to be purged", || {
            let metrics = cluster.metrics(id);
            let is_purged = 500 < metrics.purged.index && metrics.purged.index + 50 <= metrics.snapshot.index;
            let stored = cluster.log(id).state().purged;
            if is_purged && stored == metrics.purged { Ok(()) } else { Err((stored, metrics)) }
        })
        .await;
    }
}

#[tokio::test]
async fn a_follower_whose_entries_are_purged_gets_a_snapshot() {
    for state in [StateKind::Volatile, StateKind::Persistent, StateKind::Lagging(50)] {
        let (cluster, leader, away) = with_follower_behind(state).await;
        cluster.start(away).await;
        check_equal(&cluster, away).await;
        assert_eq!(cluster.metrics(away).counters.snapshots_installed, 1);
        eventually("the leader to count it", || {
            let metrics = cluster.metrics(leader);
            let is_done = metrics.counters.snapshots_sent == 1
                && metrics.peers[&away].progress == ProgressName::Replicate;
            if is_done { Ok(()) } else { Err(metrics) }
        })
        .await;
        // What was installed is found again.
        cluster.crash(away).await;
        cluster.start(away).await;
        cluster.wait_equal(&[1, 2, 3]).await;
    }
}

#[tokio::test]
async fn a_transfer_that_breaks_half_way_is_begun_again() {
    let (cluster, _, away) = with_follower_behind(StateKind::Volatile).await;
    cluster.network().set_snapshot_faults(SnapshotFaults {
        break_after_bytes: Some(SNAPSHOT_BYTES_MIN / 2),
        chunk_bytes: Some(1000),
        ..SnapshotFaults::default()
    });
    cluster.start(away).await;
    broken_transfers(&cluster, 2).await;
    assert_eq!(cluster.reader(away).len(), 0, "half a snapshot is none");
    cluster.network().calm();
    check_equal(&cluster, away).await;
}

#[tokio::test]
async fn a_transfer_that_stalls_is_given_up_and_begun_again() {
    let (cluster, _, away) = with_follower_behind(StateKind::Volatile).await;
    cluster.network().set_snapshot_faults(SnapshotFaults {
        stall_after_bytes: Some(SNAPSHOT_BYTES_MIN / 2),
        chunk_bytes: Some(1000),
        ..SnapshotFaults::default()
    });
    cluster.start(away).await;
    eventually("a second transfer", || {
        let traffic = cluster.network().traffic();
        if 2 <= traffic.snapshots_started { Ok(()) } else { Err(traffic) }
    })
    .await;
    cluster.network().calm();
    check_equal(&cluster, away).await;
}

#[tokio::test]
async fn a_transfer_goes_on_after_the_receiver_crashed_in_it() {
    let (cluster, _, away) = with_follower_behind(StateKind::Volatile).await;
    slow_snapshots(&cluster);
    cluster.start(away).await;
    bytes_passed(&cluster, SNAPSHOT_BYTES_MIN / 4).await;
    cluster.crash(away).await;
    broken_transfers(&cluster, 1).await;
    cluster.network().calm();
    cluster.start(away).await;
    check_equal(&cluster, away).await;
}

#[tokio::test]
async fn the_next_leader_sends_a_snapshot_when_the_first_one_crashed_in_it() {
    let (cluster, leader, away) = with_follower_behind(StateKind::Volatile).await;
    slow_snapshots(&cluster);
    cluster.start(away).await;
    bytes_passed(&cluster, SNAPSHOT_BYTES_MIN / 4).await;
    cluster.crash(leader).await;
    cluster.network().calm();
    cluster.leader_other_than(leader).await;
    cluster.start(leader).await;
    check_equal(&cluster, away).await;
}

#[tokio::test]
async fn a_transfer_that_the_network_cuts_is_begun_again() {
    let (cluster, leader, away) = with_follower_behind(StateKind::Volatile).await;
    slow_snapshots(&cluster);
    cluster.start(away).await;
    bytes_passed(&cluster, SNAPSHOT_BYTES_MIN / 4).await;
    cluster.network().cut(leader, away);
    broken_transfers(&cluster, 1).await;
    cluster.network().heal();
    cluster.network().calm();
    check_equal(&cluster, away).await;
}

#[tokio::test]
async fn a_purge_does_not_cut_off_a_transfer_in_flight() {
    let (cluster, leader, away) = with_follower_behind(StateKind::Volatile).await;
    slow_snapshots(&cluster);
    cluster.start(away).await;
    bytes_passed(&cluster, 1).await;
    // Each of these would purge what the follower needs next, if it was allowed to.
    for _ in 0..3 {
        write_bulk(&cluster, leader, "missed", 100).await;
        cluster.raft(leader).snapshot().await.unwrap();
    }
    assert_eq!(cluster.metrics(away).counters.snapshots_installed, 0, "the transfer is still under way");
    check_equal(&cluster, away).await;
    assert_eq!(cluster.network().traffic().snapshots_started, 1, "one transfer was enough");
    assert_eq!(cluster.metrics(away).counters.snapshots_installed, 1);
}

#[tokio::test]
async fn writes_go_on_while_a_snapshot_is_sent_and_while_one_is_built() {
    let (cluster, leader, away) = with_follower_behind(StateKind::Volatile).await;
    slow_snapshots(&cluster);
    cluster.machine_faults(leader).slow_down(Duration::from_millis(1));
    cluster.start(away).await;
    let load = Load::start(&cluster, "load", 4);
    bytes_passed(&cluster, 1).await;
    load.acknowledged(20).await;
    let raft = cluster.raft(leader);
    let building = tokio::spawn(async move { raft.snapshot().await });
    load.acknowledged(20).await;
    building.await.unwrap().unwrap();
    cluster.network().calm();
    let history = load.stop().await;
    cluster.wait_equal(&[1, 2, 3]).await;
    history.check(&cluster.reader(away).view());
}

/// A state machine that had no room for a snapshot stopped its node, and the cluster lost a voter for want of a file that
/// nobody needed.
#[tokio::test]
async fn a_snapshot_that_cannot_be_built_is_told_and_the_node_goes_on() {
    let cluster =
        Cluster::of_voters(1, ClusterOptions { config: config(), ..ClusterOptions::default() }).await;
    write_bulk(&cluster, 1, "k", 100).await;
    let first = cluster.raft(1).snapshot().await.unwrap();
    // The write after the next one is the snapshot.
    cluster.client().must_write(put("more", "1")).await;
    cluster.machine_faults(1).fail_write(1);
    let error = cluster.raft(1).snapshot().await.unwrap_err();
    assert!(
        matches!(&error, SnapshotError::Failed(error) if error.to_string().contains("made to fail")),
        "{error}"
    );
    cluster.client().must_write(put("even more", "2")).await;
    eventually("the failure to be counted", || {
        let metrics = cluster.metrics(1);
        let counters = &metrics.counters;
        let is_counted = (counters.snapshots_built, counters.snapshots_failed) == (1, 1);
        if is_counted && metrics.snapshot == first.last { Ok(()) } else { Err(metrics) }
    })
    .await;
    assert_eq!(cluster.metrics(1).fatal, None);
    let second = cluster.raft(1).snapshot().await.unwrap();
    assert!(first.last.index < second.last.index, "{second:?}");
}

#[tokio::test]
async fn a_snapshot_that_is_damaged_on_the_leaders_disk_is_replaced_and_sent() {
    for state in [StateKind::Volatile, StateKind::Persistent] {
        let (cluster, leader, away) = with_follower_behind(state).await;
        for id in cluster.running() {
            cluster.machine_disk(id).damage_snapshot();
        }
        cluster.start(away).await;
        check_equal(&cluster, away).await;
        let leader = cluster.metrics(leader);
        let counters = leader.counters;
        assert_eq!((counters.snapshots_damaged, counters.snapshots_built), (1, 2), "{counters:?}");
        assert_eq!(counters.snapshots_unsent, 1);
        assert_eq!(leader.fatal, None);
    }
}

#[tokio::test]
async fn a_snapshot_that_is_damaged_on_its_way_is_refused_and_sent_again() {
    let (cluster, leader, away) = with_follower_behind(StateKind::Persistent).await;
    cluster
        .network()
        .set_snapshot_faults(SnapshotFaults { flip_bit_at: Some(1000), ..SnapshotFaults::default() });
    cluster.start(away).await;
    eventually("damaged snapshots to be refused", || {
        let metrics = cluster.metrics(away);
        if 2 <= metrics.counters.snapshots_refused { Ok(()) } else { Err(metrics) }
    })
    .await;
    let metrics = cluster.metrics(away);
    assert_eq!((metrics.snapshot, &metrics.fatal), (openconsensus::LogId::ZERO, &None));
    assert_eq!(cluster.reader(away).len(), 0, "the state is as before");
    cluster.network().calm();
    check_equal(&cluster, away).await;
    // It was not the leader's snapshot that was damaged.
    assert_eq!(cluster.metrics(leader).counters.snapshots_damaged, 0);
}

/// With its state on the disk a node needs no snapshot, and builds another one for others. With nothing but the snapshot
/// it has lost what its log begins behind.
#[tokio::test]
async fn a_node_whose_snapshot_is_damaged_starts_only_if_it_has_its_state() {
    for (state, starts) in [(StateKind::Persistent, true), (StateKind::Volatile, false)] {
        let (cluster, leader, away) = with_follower_behind(state).await;
        let other = (1..=3).find(|id| *id != leader && *id != away).unwrap();
        cluster.crash(other).await;
        cluster.machine_disk(other).damage_snapshot();
        let started = cluster.try_start(other).await;
        if starts {
            cluster.client().must_write(put("after", "1")).await;
            cluster.wait_equal(&[leader, other]).await;
            continue;
        }
        let error = started.map(drop).unwrap_err().to_string();
        assert!(error.contains("is damaged: its checksum is"), "{error}");
        assert!(error.contains("remove it from the cluster and add it anew"), "{error}");
    }
}

/// Operators purge for want of room; whoever is late gets a snapshot.
#[tokio::test]
async fn a_log_that_is_purged_by_hand_is_purged_on_the_disk_and_late_peers_get_a_snapshot() {
    let config = Config { log_keep_entries: 100_000, ..config() };
    let cluster = Cluster::of_voters(3, ClusterOptions { config, ..ClusterOptions::default() }).await;
    let leader = cluster.leader().await;
    let away = other_than(&cluster, leader);
    cluster.crash(away).await;
    write_bulk(&cluster, leader, "missed", 1000).await;
    let raft = cluster.raft(leader);
    let upto = cluster.metrics(leader).applied.index;
    let refused = raft.purge_log(upto).await.unwrap_err();
    assert_eq!(refused, PurgeError::NotInSnapshot { upto, snapshot: openconsensus::LogId::ZERO });
    let snapshot = raft.snapshot().await.unwrap().last;
    assert_eq!(cluster.log(leader).state().purged.index, 0);
    assert_eq!(raft.purge_log(snapshot.index).await, Ok(snapshot));
    assert_eq!(cluster.log(leader).state().purged, snapshot);
    cluster.start(away).await;
    check_equal(&cluster, away).await;
    assert_eq!(cluster.metrics(away).counters.snapshots_installed, 1);
}

/// Lets a snapshot take about half a second.
fn slow_snapshots(cluster: &Cluster) {
    cluster.network().set_snapshot_faults(SnapshotFaults {
        chunk_bytes: Some(200),
        chunk_delay: Duration::from_millis(5),
        ..SnapshotFaults::default()
    });
}

async fn bytes_passed(cluster: &Cluster, bytes: u64) {
    eventually("a snapshot to be under way", || {
        let traffic = cluster.network().traffic();
        if bytes <= traffic.snapshot_bytes { Ok(()) } else { Err(traffic) }
    })
    .await;
}

async fn broken_transfers(cluster: &Cluster, count: u64) {
    eventually("transfers to break", || {
        let traffic = cluster.network().traffic();
        if count <= traffic.snapshots_broken { Ok(()) } else { Err(traffic) }
    })
    .await;
}
