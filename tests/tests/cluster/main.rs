//! Clusters in one process, whose network and stores fail on demand.

mod catch_up;
mod churn;
mod failover;
mod limits;
mod membership;
mod membership_refused;
mod partition;
mod reads;
mod replication;
mod snapshot;
mod storage;
mod transfer;

use openconsensus::{Config, LogId};
use openconsensus_memstore::kv::Command;
use openconsensus_tests::{Cluster, ClusterOptions, put};

/// The default options, with another configuration.
fn options(change: impl FnOnce(&mut Config)) -> ClusterOptions {
    let mut options = ClusterOptions::default();
    change(&mut options.config);
    options
}

/// Some node that runs and is not `id`.
fn other_than(cluster: &Cluster, id: u64) -> u64 {
    cluster.running().into_iter().find(|other| *other != id).expect("more than one node runs")
}

/// Writes `entries` entries through `leader` as fast as it takes them, over 200 keys that begin with `prefix`.
async fn write_bulk(cluster: &Cluster, leader: u64, prefix: &str, entries: u64) {
    let raft = cluster.raft(leader);
    let commands: Vec<Command> =
        (0..entries).map(|n| put(format!("{prefix}/{}", n % 200), format!("{n:064}"))).collect();
    let mut left = commands.into_iter();
    loop {
        let batch: Vec<Command> = left.by_ref().take(1000).collect();
        if batch.is_empty() {
            return;
        }
        raft.write_many(batch).await.expect("the leader takes writes");
    }
}

/// The entry of the membership in force on `id`.
fn membership_entry(cluster: &Cluster, id: u64) -> LogId {
    cluster.metrics(id).membership.log_id
}
