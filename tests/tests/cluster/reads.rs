//! Linearizable reads, on the leader and on followers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use openconsensus::ReadError;
use openconsensus_tests::{Cluster, ClusterOptions, LinkFaults, Register, eventually, put};
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

/// A node was asked for a read, learnt from its leader which entry it had to apply first, and was removed from the
/// cluster before it got that entry. The reader waited for ever.
#[tokio::test]
async fn a_read_ends_on_a_node_that_does_not_get_the_entry_it_waits_for() {
    let cluster = Cluster::of_voters(3, options(|config| config.read_timeout_ms = 300)).await;
    let leader = cluster.leader().await;
    let follower = other_than(&cluster, leader);
    cluster.wait_equal(&[1, 2, 3]).await;
    cluster.machine_faults(follower).stall();
    cluster.client().must_write(put("k", "1")).await;
    let result = cluster.client().read_at(follower, "k").await;
    let Err(ReadError::Behind { needed, applied }) = result else { panic!("{result:?}") };
    assert!(applied < needed, "it has applied {applied} and needs {needed}");
    cluster.machine_faults(follower).release();
    assert_eq!(cluster.client().read_at(follower, "k").await.unwrap(), Some(b"1".to_vec()));
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

/// A register with one writer, and readers on every node, until [`stop`](Self::stop), which checks every read.
struct Checked {
    cluster: Cluster,
    register: Arc<Register>,
    is_over: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Checked {
    fn start(cluster: &Cluster) -> Self {
        let mut checked = Self {
            cluster: cluster.clone(),
            register: Arc::new(Register::new("register")),
            is_over: Arc::default(),
            reads: Arc::default(),
            tasks: JoinSet::new(),
        };
        let (mut client, register, is_over) =
            (cluster.client(), checked.register.clone(), checked.is_over.clone());
        checked.tasks.spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                register.write(&mut client).await;
            }
        });
        for id in cluster.running() {
            let (client, register) = (cluster.client(), checked.register.clone());
            let (is_over, reads) = (checked.is_over.clone(), checked.reads.clone());
            checked.tasks.spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    if register.read_at(&client, id).await {
                        reads.fetch_add(1, Ordering::Relaxed);
                    } else {
                        tokio::task::yield_now().await;
                    }
                }
            });
        }
        checked
    }

    /// Waits until there were so many more reads.
    async fn reads(&self, count: u64) {
        let goal = self.reads.load(Ordering::Relaxed) + count;
        eventually("more reads", || {
            let reads = self.reads.load(Ordering::Relaxed);
            if goal <= reads { Ok(()) } else { Err(reads) }
        })
        .await;
    }

    async fn stop(mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("nobody may panic");
        }
        self.register.read(&mut self.cluster.client()).await;
        self.register.check();
    }
}

#[tokio::test]
async fn reads_are_linearizable_while_leaders_change() {
    let cluster = Cluster::of_voters(3, options(|config| config.read_timeout_ms = 300)).await;
    let checked = Checked::start(&cluster);
    for _ in 0..3 {
        checked.reads(100).await;
        let old = cluster.leader().await;
        cluster.network().isolate(old);
        cluster.leader_other_than(old).await;
        checked.reads(100).await;
        cluster.network().heal();
        cluster.leader().await;
    }
    checked.stop().await;
}

#[tokio::test]
async fn reads_are_linearizable_on_a_rough_network() {
    let cluster = Cluster::of_voters(3, options(|config| config.read_timeout_ms = 300)).await;
    cluster.network().set_faults(LinkFaults::rough());
    let checked = Checked::start(&cluster);
    checked.reads(300).await;
    cluster.network().calm();
    checked.reads(100).await;
    checked.stop().await;
}
