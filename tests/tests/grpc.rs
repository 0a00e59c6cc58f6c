//! Durable clusters in one process: nodes over gRPC on loopback ports, with their data in files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openconsensus::{Config, InitializeError, Raft, WriteError};
use openconsensus_memstore::kv::Kv;
use openconsensus_network_grpc::{GrpcConfig, GrpcNetwork, GrpcServer, PeerErrorKind, Serving};
use openconsensus_redb::kv::{KvApplication, KvReader};
use openconsensus_redb::{Identity, OpenError, open};
use openconsensus_tests::{ClusterOptions, CrashRuntime, Outcome, Writes, eventually, put};
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

const CLUSTER: &str = "grpc test";

/// Nodes of one cluster, each with a folder and a port of its own.
struct Nodes {
    dir: TempDir,
    addresses: BTreeMap<u64, String>,
    running: Mutex<BTreeMap<u64, Node>>,
}

/// A node that runs.
struct Node {
    raft: Raft<Kv>,
    reader: KvReader,
    network: GrpcNetwork<Kv>,
    runtime: CrashRuntime,
    serving: Serving,
}

impl Nodes {
    /// Takes a port for each of `1..=count` and starts them, without a membership.
    async fn start(count: u64) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut servers = Vec::new();
        for id in 1..=count {
            servers.push((id, GrpcServer::bind("127.0.0.1:0").await.expect("a free port")));
        }
        let addresses = servers.iter().map(|(id, server)| (*id, server.local_addr().to_string())).collect();
        let nodes = Self { dir, addresses, running: Mutex::default() };
        for (id, server) in servers {
            nodes.start_on(id, CLUSTER, server).await;
        }
        nodes
    }

    fn folder(&self, id: u64) -> PathBuf {
        self.dir.path().join(format!("node-{id}"))
    }

    async fn start_on(&self, id: u64, cluster: &str, server: GrpcServer) {
        let identity = Identity::new(cluster, id);
        let (log, machine) = open(self.folder(id), &identity, KvApplication).expect("the folder opens");
        let reader = KvReader::new(&machine);
        let network = GrpcNetwork::new(GrpcConfig::new(cluster), id, self.addresses[&id].clone()).unwrap();
        let runtime = CrashRuntime::new(id);
        let config =
            Config { snapshot_after_entries: Some(500), log_keep_entries: 50, ..ClusterOptions::config() };
        let raft = Raft::start(id, config, runtime.clone(), network.clone(), log, machine).await.unwrap();
        let serving = server.serve(network.service(raft.clone()), None);
        let node = Node { raft, reader, network, runtime, serving };
        assert!(self.running.lock().await.insert(id, node).is_none(), "node {id} runs already");
    }

    /// Starts `id` again, on its old port and with its old data.
    async fn restart(&self, id: u64) {
        let server = GrpcServer::bind(&self.addresses[&id]).await.expect("its old port is free");
        self.start_on(id, CLUSTER, server).await;
    }

    /// Kills `id`: its tasks end where they stand, its connections break.
    async fn kill(&self, id: u64) {
        let node = self.running.lock().await.remove(&id).expect("it runs");
        let Node { raft, reader, network, runtime, serving } = node;
        runtime.crash().await;
        drop((raft, reader, network));
        serving.shutdown().await;
    }

    async fn stop(&self, id: u64) {
        let node = self.running.lock().await.remove(&id).expect("it runs");
        node.raft.shutdown().await;
        node.serving.shutdown().await;
    }

    async fn node<R>(&self, id: u64, look: impl FnOnce(&Node) -> R) -> Option<R> {
        self.running.lock().await.get(&id).map(look)
    }

    /// Waits until all that run agree on a leader that runs.
    async fn leader(&self) -> u64 {
        let metrics: Vec<_> = self.running.lock().await.values().map(|node| node.raft.metrics()).collect();
        eventually("a leader", || {
            let seen: Vec<_> = metrics.iter().map(openconsensus::MetricsWatch::latest).collect();
            let is_ready = |id: u64| seen.iter().any(|node| node.id == id && node.applied.term == node.term);
            let leader = seen[0].leader.filter(|leader| is_ready(*leader));
            let agree = seen.iter().all(|node| node.leader == leader && node.term == seen[0].term);
            leader.filter(|_| agree).ok_or(seen)
        })
        .await
    }

    async fn write(&self, key: &str) -> Outcome {
        loop {
            for id in self.addresses.keys() {
                let Some((raft, runtime)) =
                    self.node(*id, |node| (node.raft.clone(), node.runtime.clone())).await
                else {
                    continue;
                };
                match raft.write(put(key, Writes::value_of(key))).await {
                    Ok(response) => return Outcome::Applied(response),
                    Err(_) if runtime.is_crashed() => return Outcome::Unknown,
                    Err(WriteError::NotLeader { .. }) => tokio::task::yield_now().await,
                    Err(WriteError::Dropped) => return Outcome::Absent,
                    Err(_) => return Outcome::Unknown,
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await; // paces the attempts
        }
    }

    /// Waits until all nodes have applied the same log, and checks their states.
    async fn check(&self, history: &Writes) {
        let nodes = self.running.lock().await;
        eventually("equal nodes", || {
            let seen: Vec<_> = nodes.values().map(|node| node.raft.metrics().latest()).collect();
            let is_equal = seen.iter().all(|node| {
                node.last == seen[0].last && node.applied == node.last && node.committed == node.last.index
            });
            if is_equal { Ok(()) } else { Err(seen) }
        })
        .await;
        let checksum = nodes.values().next().expect("a node runs").reader.checksum().unwrap();
        for node in nodes.values() {
            assert_eq!(node.reader.checksum().unwrap(), checksum);
            history.check_values(|key| node.reader.get(key).unwrap());
        }
    }

    fn voters(&self) -> BTreeMap<u64, String> {
        self.addresses.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_cluster_over_grpc_loses_nothing_when_its_leaders_are_killed() {
    let nodes = Arc::new(Nodes::start(3).await);
    let raft = nodes.node(1, |node| node.raft.clone()).await.unwrap();
    raft.initialize(nodes.voters()).await.unwrap();
    drop(raft);
    nodes.leader().await;

    let history = Arc::new(Writes::new());
    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..4 {
        let (nodes, history, is_over) = (nodes.clone(), history.clone(), is_over.clone());
        writers.spawn(async move {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                count += 1;
                let key = format!("{writer}/{count:06}");
                let outcome = nodes.write(&key).await;
                history.record(&key, &outcome);
            }
        });
    }
    let acknowledged = |more: usize| {
        let (goal, history) = (history.acknowledged() + more, history.clone());
        async move {
            eventually("acknowledged writes", || {
                let count = history.acknowledged();
                if goal <= count { Ok(()) } else { Err(count) }
            })
            .await;
        }
    };
    for _ in 0..2 {
        acknowledged(100).await;
        let leader = nodes.leader().await;
        nodes.kill(leader).await;
        nodes.leader().await;
        acknowledged(100).await;
        nodes.restart(leader).await;
    }
    // Far enough behind that it needs a snapshot over the network.
    nodes.kill(2).await;
    acknowledged(1200).await;
    nodes.restart(2).await;
    acknowledged(50).await;
    is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.expect("a writer must not panic");
    }
    nodes.check(&history).await;
    let installed = nodes.node(2, |node| node.raft.metrics().latest().counters.snapshots_installed).await;
    assert_eq!(installed, Some(1), "it came back by a snapshot");

    for id in 1..=3 {
        nodes.stop(id).await;
    }
    for id in 1..=3 {
        nodes.restart(id).await;
    }
    nodes.leader().await;
    nodes.check(&history).await;
    for id in 1..=3 {
        let raft = nodes.node(id, |node| node.raft.clone()).await.unwrap();
        raft.read().await.expect("every node confirms a linearizable read");
    }
}

#[tokio::test]
async fn an_address_that_leads_to_another_node_is_refused_with_both_names() {
    let nodes = Nodes::start(3).await;
    let mut voters = nodes.voters();
    voters.insert(2, nodes.addresses[&3].clone());
    let raft = nodes.node(1, |node| node.raft.clone()).await.unwrap();
    raft.initialize(voters).await.unwrap();
    let network = nodes.node(1, |node| node.network.clone()).await.unwrap();
    let error = eventually("the refusal", || {
        let error = network.last_error(2);
        error.clone().filter(|error| error.kind == PeerErrorKind::Refused).ok_or(error)
    })
    .await;
    assert!(error.text.contains("node 2") && error.text.contains("node 3"), "{error}");

    // The two that reach each other are a quorum.
    eventually("a leader", || raft.metrics().latest().leader.ok_or_else(|| raft.metrics().latest())).await;
    assert!(matches!(nodes.write("k").await, Outcome::Applied(_)));
    // With its address set right the third one is one of them.
    let right = BTreeMap::from([(2, nodes.addresses[&2].clone())]);
    loop {
        let leader = eventually("a leader", || raft.metrics().latest().leader.ok_or(())).await;
        let leader = nodes.node(leader, |node| node.raft.clone()).await.unwrap();
        let change = openconsensus::MembershipChange::UpdateNodes(right.clone());
        match leader.change_membership(change, None).await {
            Ok(_) => break,
            Err(error) => tracing::debug!("again: {error}"),
        }
    }
    let history = Writes::new();
    history.record("k", &Outcome::Applied(openconsensus_memstore::kv::Response::Previous(None)));
    nodes.check(&history).await;
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_with_both_names() {
    let nodes = Nodes::start(1).await;
    let server = GrpcServer::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().to_string();
    let stranger = Nodes {
        dir: tempfile::tempdir().unwrap(),
        addresses: [(2, address.clone())].into(),
        running: Mutex::default(),
    };
    stranger.start_on(2, "another cluster", server).await;
    let raft = nodes.node(1, |node| node.raft.clone()).await.unwrap();
    raft.initialize(nodes.voters()).await.unwrap();
    nodes.leader().await;
    raft.add_learner(2, address, None).await.unwrap();
    let network = nodes.node(1, |node| node.network.clone()).await.unwrap();
    let error = eventually("the refusal", || {
        let error = network.last_error(2);
        error.clone().filter(|error| error.kind == PeerErrorKind::Refused).ok_or(error)
    })
    .await;
    assert!(error.text.contains(CLUSTER) && error.text.contains("another cluster"), "{error}");
}

#[tokio::test]
async fn a_data_folder_of_another_node_is_refused_with_both_names() {
    let nodes = Nodes::start(1).await;
    nodes.stop(1).await;
    let error =
        open::<Kv, _>(nodes.folder(1), &Identity::new(CLUSTER, 2), KvApplication).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::WrongIdentity { .. }));
    let text = error.to_string();
    assert!(text.contains("node 1 of") && text.contains("node 2 of"), "{text}");
}

/// Two nodes were each started as a cluster of their own by mistake, and both added a third one. It followed two leaders of
/// the same term whose logs had other entries under the same names. Here every connection says for which cluster it is,
/// before a term is looked at, and a node that has a cluster begins no other, restarted or not.
///
/// `eBay/NuRaft#233`, `hashicorp/raft#114`, `microsoft/CCF#4582`, `databendlabs/openraft#1557`
#[tokio::test]
async fn known_bug_a_node_is_not_drawn_into_a_second_cluster() {
    let nodes = Nodes::start(2).await;
    let server = GrpcServer::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().to_string();
    let other = Nodes {
        dir: tempfile::tempdir().unwrap(),
        addresses: [(3, address.clone())].into(),
        running: Mutex::default(),
    };
    other.start_on(3, "begun by mistake", server).await;
    let first = nodes.node(1, |node| node.raft.clone()).await.unwrap();
    let third = other.node(3, |node| node.raft.clone()).await.unwrap();
    first.initialize([(1, nodes.addresses[&1].clone())].into()).await.unwrap();
    third.initialize([(3, address)].into()).await.unwrap();
    for raft in [&first, &third] {
        eventually("a leader that is ready", || {
            let metrics = raft.metrics().latest();
            let is_ready = metrics.leader.is_some() && metrics.applied.term == metrics.term;
            if is_ready { Ok(()) } else { Err(metrics) }
        })
        .await;
    }
    // The second cluster is the first to ask for node 2.
    third.add_learner(2, nodes.addresses[&2].clone(), None).await.unwrap();
    let network = other.node(3, |node| node.network.clone()).await.unwrap();
    eventually("the refusal", || network.last_error(2).ok_or(())).await;
    let second = nodes.node(2, |node| node.raft.clone()).await.unwrap();
    assert_eq!(second.metrics().latest().term, 0, "no term was taken over");
    first.add_learner(2, nodes.addresses[&2].clone(), None).await.unwrap();
    eventually("node 2 to follow", || {
        let metrics = second.metrics().latest();
        let follows = metrics.leader == Some(1) && metrics.membership.membership.is_member(2);
        if follows { Ok(()) } else { Err(metrics) }
    })
    .await;
    assert!(!second.metrics().latest().membership.membership.is_member(3));

    // With data, restarted and cut off, it begins no cluster.
    nodes.kill(1).await;
    nodes.kill(2).await;
    nodes.restart(2).await;
    let second = nodes.node(2, |node| node.raft.clone()).await.unwrap();
    let refused = second.initialize([(2, nodes.addresses[&2].clone())].into()).await.unwrap_err();
    assert!(matches!(refused, InitializeError::AlreadyInitialized { .. }), "{refused}");
}
