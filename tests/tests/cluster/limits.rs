//! Limits hold, and everybody who waits is answered.

use std::time::Duration;

use futures::future::join_all;
use openconsensus::{Fatal, ReadError, RoleName, TransferError, WaitError, WriteError};
use openconsensus_memstore::kv::Kv;
use openconsensus_tests::{Cluster, ClusterOptions, eventually, put};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::options;

/// Longer than anything takes that works.
const LONG: Duration = Duration::from_secs(20);

/// Stalls the logs of all nodes but `leader`, so that nothing is committed any more and nobody loses contact.
fn stall_followers(cluster: &Cluster, leader: u64) {
    cluster.running().into_iter().filter(|id| *id != leader).for_each(|id| cluster.log_faults(id).stall());
}

fn release_all(cluster: &Cluster) {
    cluster.running().into_iter().for_each(|id| cluster.log_faults(id).release());
}

/// `count` writers at `id`, each with one command of a little over 1000 bytes.
fn writers(cluster: &Cluster, id: u64, count: u64) -> Vec<JoinHandle<Result<(), WriteError<Kv>>>> {
    (0..count)
        .map(|n| {
            let raft = cluster.raft(id);
            tokio::spawn(async move { raft.write(put(format!("key {n}"), vec![0; 1000])).await.map(|_| ()) })
        })
        .collect()
}

#[tokio::test]
async fn writers_wait_when_the_admission_limit_is_reached_and_go_on_after_it() {
    const LIMIT: u64 = 20_000;
    let cluster = Cluster::of_voters(
        3,
        options(|config| {
            config.uncommitted_bytes_max = LIMIT;
            config.command_bytes_max = 5000;
        }),
    )
    .await;
    let leader = cluster.leader().await;
    let before = cluster.wait_equal(&[1, 2, 3]).await;
    stall_followers(&cluster, leader);
    let writers = writers(&cluster, leader, 200);
    // Each command counts with about 1070 bytes.
    let appended = || cluster.metrics(leader).last.index - before;
    eventually("the limit to be reached", || if 15 <= appended() { Ok(()) } else { Err(appended()) }).await;
    // Let whoever could go over the limit do so: all 200 are waiting by now.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
        assert!(appended() * 1000 <= LIMIT, "{} commands were admitted", appended());
    }
    assert_eq!(cluster.metrics(leader).role, RoleName::Leader);
    release_all(&cluster);
    for result in join_all(writers).await {
        assert_eq!(result.unwrap(), Ok(()));
    }
    cluster.wait_equal(&[1, 2, 3]).await;
    assert_eq!(cluster.reader(leader).len(), 200);
}

#[tokio::test]
async fn writers_that_give_up_waiting_leave_room_for_others() {
    let cluster = Cluster::of_voters(
        3,
        options(|config| {
            config.uncommitted_bytes_max = 5000;
            config.command_bytes_max = 5000;
        }),
    )
    .await;
    let leader = cluster.leader().await;
    cluster.wait_equal(&[1, 2, 3]).await;
    stall_followers(&cluster, leader);
    let impatient = writers(&cluster, leader, 50);
    eventually("the limit to be reached", || {
        let last = cluster.metrics(leader).last;
        if cluster.metrics(leader).committed + 3 <= last.index { Ok(()) } else { Err(last) }
    })
    .await;
    impatient.iter().for_each(JoinHandle::abort);
    join_all(impatient).await;
    release_all(&cluster);
    for result in join_all(writers(&cluster, leader, 50)).await {
        assert_eq!(result.unwrap(), Ok(()));
    }
}

#[tokio::test]
async fn shutdown_answers_everybody_who_waits() {
    let cluster = Cluster::of_voters(
        3,
        options(|config| {
            config.uncommitted_bytes_max = 20_000;
            config.command_bytes_max = 5000;
            config.transfer_timeout_ms = 60_000;
            config.read_timeout_ms = 60_000;
        }),
    )
    .await;
    let leader = cluster.leader().await;
    let before = cluster.wait_equal(&[1, 2, 3]).await;
    let raft = cluster.raft(leader);
    stall_followers(&cluster, leader);
    let writers = writers(&cluster, leader, 100);
    eventually("writes to be appended", || {
        let last = cluster.metrics(leader).last.index;
        if before + 10 <= last { Ok(()) } else { Err(last) }
    })
    .await;
    let (waiting, changing, transferring) = (raft.clone(), raft.clone(), raft.clone());
    let waiting = tokio::spawn(async move { waiting.wait(LONG).applied(u64::MAX).await });
    let transferring = tokio::spawn(async move { transferring.transfer_leadership(None).await });
    let changing =
        tokio::spawn(async move { changing.add_learner(9, Cluster::address(9), Some(LONG)).await });
    tokio::task::yield_now().await;

    timeout(LONG, raft.shutdown()).await.expect("a shutdown ends");
    let mut unknown = 0;
    for result in timeout(LONG, join_all(writers)).await.expect("every writer is answered") {
        match result.unwrap() {
            Err(WriteError::Unknown { .. }) => unknown += 1,
            Err(WriteError::Fatal(Fatal::Stopped)) => {}
            result => panic!("{result:?}"),
        }
    }
    assert!(10 <= unknown, "what was appended is unknown: {unknown}");
    assert_eq!(waiting.await.unwrap(), Err(WaitError::Fatal(Fatal::Stopped)));
    let transferred = timeout(LONG, transferring).await.expect("the transfer is answered").unwrap();
    assert!(matches!(transferred, Err(TransferError::Fatal(Fatal::Stopped))), "{transferred:?}");
    timeout(LONG, changing).await.expect("the change is answered").unwrap().expect_err("it cannot be done");

    assert_eq!(raft.write(put("k", "v")).await, Err(WriteError::Fatal(Fatal::Stopped)));
    assert_eq!(raft.read().await, Err(ReadError::Fatal(Fatal::Stopped)));
    assert_eq!(raft.metrics().latest().fatal, Some(Fatal::Stopped));
    timeout(LONG, raft.shutdown()).await.expect("a second shutdown ends at once");
    release_all(&cluster);
}

#[tokio::test]
async fn shutdown_answers_reads_that_wait_for_a_quorum() {
    let cluster = Cluster::of_voters(3, options(|config| config.read_timeout_ms = 60_000)).await;
    let leader = cluster.leader().await;
    let raft = cluster.raft(leader);
    cluster.network().isolate(leader);
    let reads: Vec<_> = (0..10)
        .map(|_| {
            let raft = raft.clone();
            tokio::spawn(async move { raft.read().await })
        })
        .collect();
    tokio::task::yield_now().await;
    timeout(LONG, raft.shutdown()).await.expect("a shutdown ends");
    for read in reads {
        let result = timeout(LONG, read).await.expect("every reader is answered").unwrap();
        assert!(matches!(result, Err(ReadError::Fatal(Fatal::Stopped))), "{result:?}");
    }
}

#[tokio::test]
async fn a_node_stops_when_its_last_handle_is_dropped() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let leader = cluster.leader().await;
    let mut metrics = cluster.raft(leader).metrics();
    cluster.forget(leader);
    let stopped = async {
        loop {
            let latest = metrics.changed().await;
            if let Some(fatal) = latest.fatal.clone() {
                return fatal;
            }
        }
    };
    assert_eq!(timeout(LONG, stopped).await.expect("the node stops"), Fatal::Stopped);
    cluster.leader_other_than(leader).await;
}

#[tokio::test]
async fn waiting_ends_at_its_deadline_and_says_what_it_saw() {
    let cluster = Cluster::of_voters(1, ClusterOptions::default()).await;
    let wait = cluster.raft(1).wait(Duration::from_millis(30));
    let error = wait.applied(1_000_000).await.unwrap_err();
    let WaitError::TimedOut { condition, waited_ms, last } = &error else { panic!("{error}") };
    assert!(condition.contains("1000000"), "{condition}");
    assert_eq!(*waited_ms, 30);
    assert!(last.contains("leader"), "{last}");
    cluster.raft(1).wait(LONG).applied(1).await.unwrap();
    assert_eq!(cluster.raft(1).wait(LONG).leader().await.unwrap(), 1);
}
