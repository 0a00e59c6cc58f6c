//! Whole nodes on the durable stores, over the network in memory: killed, cut off, restored by snapshots.

use std::collections::BTreeMap;
use std::path::PathBuf;

use openconsensus::{Config, Raft, RoleName, WriteError};
use openconsensus_memstore::kv::Kv;
use openconsensus_redb::kv::{KvApplication, KvReader};
use openconsensus_redb::{Identity, open};
use openconsensus_tests::{ClusterOptions, CrashRuntime, MemNetwork, eventually};

use crate::helpers::put;

struct Node {
    raft: Raft<Kv>,
    reader: KvReader,
    runtime: CrashRuntime,
}

/// Three nodes in folders of their own.
struct Cluster {
    dir: PathBuf,
    network: MemNetwork<Kv>,
    nodes: BTreeMap<u64, Node>,
    starts: u64,
}

impl Cluster {
    async fn start(&mut self, id: u64) {
        // Snapshots come often, and little of the log stays behind them.
        let config = Config {
            snapshot_after_entries: Some(40),
            log_keep_entries: 10,
            log_hold_entries_max: 10,
            ..ClusterOptions::config()
        };
        self.starts += 1;
        let runtime = CrashRuntime::new(self.starts);
        let identity = Identity::new("test", id);
        let (log, state) = open(self.dir.join(id.to_string()), &identity, KvApplication).unwrap();
        let reader = KvReader::new(&state);
        let network = self.network.node(id);
        let raft = Raft::start(id, config, runtime.clone(), network, log, state).await.unwrap();
        self.network.connect(raft.clone());
        self.nodes.insert(id, Node { raft, reader, runtime });
    }

    async fn crash(&mut self, id: u64) {
        let node = self.nodes.remove(&id).unwrap();
        self.network.disconnect(id);
        node.runtime.crash().await;
    }

    async fn leader(&self) -> u64 {
        eventually("a leader", || {
            let roles: Vec<_> = self.nodes.values().map(|node| node.raft.metrics().latest().role).collect();
            let leads = |node: &&Node| node.raft.metrics().latest().role == RoleName::Leader;
            self.nodes.values().find(leads).map(|node| node.raft.id()).ok_or(roles)
        })
        .await
    }

    /// Writes `count` keys, each until it is acknowledged.
    async fn write(&self, round: u64, count: u64) {
        for number in 0..count {
            loop {
                let leader = &self.nodes[&self.leader().await].raft;
                match leader.write(put(format!("{number:04}"), format!("round {round}"))).await {
                    Ok(_) => break,
                    // A put of the same value may be repeated whatever became of it.
                    Err(WriteError::NotLeader { .. } | WriteError::Dropped | WriteError::Unknown { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    /// Waits until all nodes have the same state, and returns its checksum.
    async fn equal(&self) -> u32 {
        eventually("equal states", || {
            let views: Vec<_> = self.nodes.values().map(|node| node.reader.view().unwrap()).collect();
            let applied: Vec<_> = views.iter().map(|view| view.last_applied().unwrap()).collect();
            let sums: Vec<_> = views.iter().map(|view| view.checksum().unwrap()).collect();
            let is_equal = applied.iter().all(|a| *a == applied[0]);
            if is_equal {
                assert!(sums.iter().all(|sum| *sum == sums[0]), "{applied:?}: {sums:?}");
                Ok(sums[0])
            } else {
                Err(applied)
            }
        })
        .await
    }
}

#[tokio::test]
async fn nodes_come_back_from_kills_and_by_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let network = MemNetwork::new(1);
    let mut cluster = Cluster { dir: dir.path().into(), network, nodes: BTreeMap::new(), starts: 0 };
    for id in 1..=3 {
        cluster.start(id).await;
    }
    let addresses = (1..=3).map(|id| (id, format!("node-{id}"))).collect();
    cluster.nodes[&1].raft.initialize(addresses).await.unwrap();
    cluster.write(1, 100).await;

    // A node that was away for longer than the log reaches back.
    let away = 1 + cluster.leader().await % 3;
    cluster.network.isolate(away);
    cluster.write(2, 150).await;
    cluster.network.heal();
    cluster.equal().await;
    let snapshot = cluster.nodes[&away].raft.metrics().latest().snapshot;
    assert!(snapshot.index > 100, "{snapshot}");

    // The leader is killed while it writes, again and again.
    for round in 3..6 {
        cluster.write(round, 30).await;
        let killed = cluster.leader().await;
        cluster.crash(killed).await;
        cluster.write(round, 60).await;
        cluster.start(killed).await;
        cluster.equal().await;
    }

    // All at once.
    let before = cluster.equal().await;
    for id in 1..=3 {
        cluster.crash(id).await;
    }
    for id in 1..=3 {
        cluster.start(id).await;
    }
    cluster.leader().await;
    assert_eq!(cluster.equal().await, before);
    cluster.write(6, 10).await;
    assert_ne!(cluster.equal().await, before);
    for (id, node) in std::mem::take(&mut cluster.nodes) {
        cluster.network.disconnect(id);
        node.raft.shutdown().await;
    }
    // What a shutdown leaves behind is closed, so that it can be opened at once.
    for id in 1..=3 {
        let identity = Identity::new("test", id);
        open::<Kv, _>(dir.path().join(id.to_string()), &identity, KvApplication).unwrap();
    }
}
