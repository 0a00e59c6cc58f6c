//! Linearizable reads, on the leader and on followers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openconsensus::ReadError;
use openconsensus_tests::{Cluster, ClusterOptions, LinkFaults, Outcome, Register, put};
use tokio::task::JoinSet;

use crate::{options, other_than};

#[tokio::test]
async fn every_node_reads_what_was_acknowledged_anywhere() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let mut client = cluster.client();
    for n in 0..30 {
        let value = n.to_string().into_bytes();
        client.must_write(put("k", value.clone())).await;
        for id in 1..=3 {
            assert_eq!(client.read_at(id, "k").await.unwrap(), Some(value.clone()), "node {id}");
        }
    }
}

#[tokio::test]
async fn a_learner_serves_linearizable_reads() {
    let cluster = Cluster::of_voters(1, ClusterOptions::default()).await;
    cluster.start(2).await;
    let wait = Some(std::time::Duration::from_secs(10));
    cluster.raft(1).add_learner(2, Cluster::address(2), wait).await.unwrap();
    let mut client = cluster.client();
    for n in 0..10 {
        let value = n.to_string().into_bytes();
        client.must_write(put("k", value.clone())).await;
        assert_eq!(client.read_at(2, "k").await.unwrap(), Some(value));
    }
}

#[tokio::test]
async fn a_leader_in_a_minority_does_not_serve_reads() {
    let cluster = Cluster::of_voters(3, options(|config| config.read_timeout_ms = 300)).await;
    let mut client = cluster.client();
    client.must_write(put("k", "1")).await;
    let old = cluster.leader().await;
    cluster.network().isolate(old);
    // Before anybody has noticed the cut, and after.
    let early = client.read_at(old, "k").await;
    assert!(matches!(early, Err(ReadError::NotConfirmed { .. })), "{early:?}");
    let new = cluster.leader_other_than(old).await;
    cluster.raft(new).write(put("k", "2")).await.unwrap();
    let late = client.read_at(old, "k").await;
    assert!(matches!(late, Err(ReadError::NotConfirmed { .. })), "{late:?}");
    assert_eq!(client.read_at(new, "k").await.unwrap(), Some(b"2".to_vec()));
    cluster.network().heal();
    cluster.wait_equal(&[1, 2, 3]).await;
    assert_eq!(client.read_at(old, "k").await.unwrap(), Some(b"2".to_vec()));
}

#[tokio::test]
async fn a_follower_that_is_cut_off_does_not_serve_reads() {
    let cluster = Cluster::of_voters(3, options(|config| config.read_timeout_ms = 300)).await;
    let leader = cluster.leader().await;
    let follower = other_than(&cluster, leader);
    cluster.network().isolate(follower);
    let result = cluster.client().read_at(follower, "k").await;
    assert!(matches!(result, Err(ReadError::NotConfirmed { .. })), "{result:?}");
}

#[tokio::test]
async fn a_new_leader_reads_what_its_predecessor_has_acknowledged() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let mut client = cluster.client();
    let mut leader = cluster.leader().await;
    for n in 0..3 {
        let value = n.to_string().into_bytes();
        client.must_write(put("k", value.clone())).await;
        cluster.crash(leader).await;
        let new = cluster.leader_other_than(leader).await;
        assert_eq!(client.read_at(new, "k").await.unwrap(), Some(value));
        cluster.start(leader).await;
        leader = new;
    }
}

/// One writer and readers on every node, until `disturb` is over: every read is checked.
async fn check_linearizability(cluster: &Cluster, disturb: impl Future<Output = ()>) {
    let register = Arc::new(Register::new("register"));
    let is_over = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    let (mut client, shared, over) = (cluster.client(), register.clone(), is_over.clone());
    tasks.spawn(async move {
        let mut count = 0;
        while !over.load(Ordering::Relaxed) {
            count += u64::from(matches!(shared.write(&mut client).await, Outcome::Applied(_)));
        }
        count
    });
    for id in cluster.running() {
        let (client, shared, over) = (cluster.client(), register.clone(), is_over.clone());
        tasks.spawn(async move {
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                match shared.read_at(&client, id).await {
                    Some(_) => count += 1,
                    None => tokio::task::yield_now().await,
                }
            }
            count
        });
    }
    disturb.await;
    is_over.store(true, Ordering::Relaxed);
    while let Some(done) = tasks.join_next().await {
        let count = done.expect("every read must be linearizable");
        assert!(10 < count, "a client came to only {count} reads or writes");
    }
    register.read(&mut cluster.client()).await;
}

#[tokio::test]
async fn reads_are_linearizable_while_leaders_change() {
    let cluster = Cluster::of_voters(3, options(|config| config.read_timeout_ms = 300)).await;
    check_linearizability(&cluster, async {
        for _ in 0..3 {
            let old = cluster.leader().await;
            cluster.network().isolate(old);
            cluster.leader_other_than(old).await;
            cluster.network().heal();
            cluster.leader().await;
            // Time in which the clients get somewhere.
            let mut acknowledged = 0;
            while acknowledged < 20 {
                let outcome = cluster.client().write(put("between", "1")).await;
                acknowledged += u64::from(matches!(outcome, Outcome::Applied(_)));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn reads_are_linearizable_on_a_rough_network() {
    let cluster = Cluster::of_voters(3, options(|config| config.read_timeout_ms = 300)).await;
    cluster.network().set_faults(LinkFaults::rough());
    let mut client = cluster.client();
    check_linearizability(&cluster, async {
        for n in 0..100 {
            client.write(put("other", n.to_string())).await;
        }
        cluster.network().calm();
    })
    .await;
}
