//! Clusters in one process, whose network and stores fail on demand.

mod catch_up;
mod churn;
mod failover;
mod limits;
mod membership;
mod membership_refused;
mod names;
mod partition;
mod reads;
mod replication;
mod snapshot;
mod storage;
mod transfer;

use openconsensus::{Config, LogId, WriteError};
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

/// Writes `entries` entries as fast as the cluster takes them, over 200 keys that begin with `prefix`: through `leader`, and
/// where it leads no more, through the next one.
async fn write_bulk(cluster: &Cluster, leader: u64, prefix: &str, entries: u64) {
    let mut leader = leader;
    let commands: Vec<Command> =
        (0..entries).map(|n| put(format!("{prefix}/{}", n % 200), format!("{n:064}"))).collect();
    for batch in commands.chunks(1000) {
        loop {
            match cluster.raft(leader).write_many(batch.to_vec()).await {
                Ok(_) => break,
                // Certainly not written.
                Err(WriteError::NotLeader { .. } | WriteError::Dropped) => leader = cluster.leader().await,
                Err(error) => panic!("the leader takes writes: {error}"),
            }
        }
    }
}

/// The entry of the membership in force on `id`.
fn membership_entry(cluster: &Cluster, id: u64) -> LogId {
    cluster.metrics(id).membership.log_id
}
