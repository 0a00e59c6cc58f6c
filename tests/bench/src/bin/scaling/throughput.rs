//! Throughput against the size of commands and the number of nodes.

use std::path::PathBuf;
use std::time::Duration;

use openconsensus::Config;
use openconsensus_bench::{Failure, Sample, resident_bytes};
use serde::{Deserialize, Serialize};

use super::load::Load;
use super::nodes::{Cluster, LogKind, NetKind, Plan, patient};

const MIB: u64 = 1 << 20;

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Throughput {
    pub(crate) log: LogKind,
    pub(crate) net: NetKind,
    pub(crate) nodes: u64,
    pub(crate) payload: usize,
    pub(crate) clients: u64,
    pub(crate) duration: Duration,
    pub(crate) folder: PathBuf,
}

/// Little of the log is kept, so that neither the memory nor the disk fills.
fn config() -> Config {
    Config {
        snapshot_after_entries: None,
        snapshot_after_bytes: Some(256 * MIB),
        log_keep_entries: 1000,
        log_keep_bytes: 32 * MIB,
        log_hold_entries_max: 1_000_000,
        ..patient()
    }
}

pub(crate) async fn run(task: Throughput) -> Result<Sample, Failure> {
    let plan = Plan {
        log: task.log,
        net: task.net,
        config: config(),
        folder: task.folder.clone(),
        slots: 0,
        snapshots_on_disk: false,
        last_pause: Duration::ZERO,
    };
    let cluster = Cluster::start(plan, task.nodes).await?;
    let mut load = Load::begin(&cluster.leader(), task.clients, task.payload, None);
    // Warms up.
    load.watch(task.duration / 4).await;
    let seen = load.watch(task.duration).await;
    let resident = resident_bytes()?;
    load.end().await?;
    cluster.stop().await;
    let bytes = seen.per_second() * task.payload as f64;
    Ok(Sample::new()
        .throughput(seen.latencies.count(), &seen.elapsed)
        .with("mib_per_s", bytes / MIB as f64)
        .latencies(&seen.latencies)
        .with("resident_mib", resident as f64 / MIB as f64))
}
