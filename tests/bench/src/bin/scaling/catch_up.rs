//! How long a follower that was away takes to catch up, and what that does to those who write meanwhile.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use openconsensus::{Config, Index, Raft};
use openconsensus_bench::{Failure, Sample, Stopwatch};
use serde::{Deserialize, Serialize};

use super::blob::{Blob, Payload};
use super::load::Load;
use super::nodes::{Cluster, LogKind, NetKind, PATIENCE, Plan, patient, pieces};

const MIB: f64 = (1 << 20) as f64;
/// So many clients write meanwhile, each of them so often: far less than the nodes could do.
const CLIENTS: u64 = 16;
const PAUSE: Duration = Duration::from_millis(8);
const COMMAND_BYTES: usize = 256;

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CatchUp {
    pub(crate) log: LogKind,
    pub(crate) net: NetKind,
    pub(crate) from: From,
    /// How many entries it lacks.
    pub(crate) entries: u64,
    pub(crate) payload: usize,
    /// Whether anybody writes meanwhile.
    pub(crate) writes: bool,
    /// How long is looked at those who write, before.
    pub(crate) duration: Duration,
    pub(crate) folder: PathBuf,
}

/// What it is fed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum From {
    /// The entries, which are still in the log.
    Log,
    /// A snapshot of as many bytes: the entries are gone.
    Snapshot,
}

impl From {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Snapshot => "snapshot",
        }
    }
}

pub(crate) async fn run(task: CatchUp) -> Result<Sample, Failure> {
    let keep = match task.from {
        From::Log => u64::MAX,
        From::Snapshot => 0,
    };
    let config = Config {
        snapshot_after_entries: None,
        log_keep_entries: keep,
        log_keep_bytes: keep,
        log_hold_entries_max: keep,
        ..patient()
    };
    let plan = Plan {
        log: task.log,
        net: task.net,
        config,
        folder: task.folder.clone(),
        slots: match task.from {
            From::Log => 0,
            From::Snapshot => task.entries as usize,
        },
        snapshots_on_disk: task.log.is_durable(),
        last_pause: Duration::ZERO,
    };
    let mut cluster = Cluster::start(plan, 3).await?;
    let leader = cluster.leader();
    cluster.stop_node(3).await;
    write(&leader, task.entries, task.payload).await?;
    if task.from == From::Snapshot {
        let snapshot = leader.snapshot().await?;
        leader.purge_log(snapshot.last.index).await?;
    }
    let load = task.writes.then(|| Load::begin(&leader, CLIENTS, COMMAND_BYTES, Some(PAUSE)));
    let before = match load {
        Some(mut load) => {
            let seen = load.watch(task.duration).await;
            Some((load, seen))
        }
        None => None,
    };
    let timed = catch_up(&mut cluster).await?;
    let megabytes = task.entries as f64 * task.payload as f64 / MIB;
    let mut sample = Sample::new()
        .with("mib_per_s", megabytes / timed.fed.as_secs_f64())
        .with("entries_per_s", task.entries as f64 / timed.fed.as_secs_f64())
        .with("noticed_ms", timed.noticed.as_secs_f64() * 1e3)
        .with("fed_s", timed.fed.as_secs_f64())
        .with("cpu_us_per_entry", timed.processor.as_secs_f64() * 1e6 / task.entries as f64);
    if let Some((mut load, before)) = before {
        let during = load.take();
        // A smoke may be over before anybody has written.
        let during = if during.latencies.count() == 0 { load.watch(Duration::ZERO).await } else { during };
        load.end().await?;
        sample = sample
            .with("writes_before_per_s", before.per_second())
            .with("writes_during_per_s", during.per_second())
            .with("p50_before_us", before.latencies.quantile_us(0.5))
            .with("p50_during_us", during.latencies.quantile_us(0.5))
            .with("p99_before_us", before.latencies.quantile_us(0.99))
            .with("p99_during_us", during.latencies.quantile_us(0.99));
    }
    cluster.stop().await;
    Ok(sample)
}

/// Writes what the one that is away will lack.
async fn write(leader: &Raft<Blob>, entries: u64, payload: usize) -> Result<(), Failure> {
    let command = Payload::new(7, payload);
    let batch = (1 << 20) / (payload as u64 + 256).max(1);
    for range in pieces(0..entries, batch.max(1)) {
        leader.write_many(range.map(|_| command.clone()).collect()).await?;
    }
    Ok(())
}

/// How it went.
struct Timed {
    /// Until the first entries, or the snapshot, had come.
    noticed: Duration,
    /// From then until it had applied all that the leader had committed when it came back.
    fed: Duration,
    processor: Duration,
}

async fn catch_up(cluster: &mut Cluster) -> Result<Timed, Failure> {
    let goal: Index = cluster.leader().metrics().latest().committed;
    let watch = Stopwatch::start();
    let began = Instant::now();
    cluster.start_node(3, 3).await?;
    let back = cluster.node(3);
    back.pause_elections(true)?;
    let had = back.metrics().latest().last.index;
    let is_fed = |index: Index, installing: bool| had < index || installing;
    back.wait(PATIENCE)
        .until("the first entry to come", |metrics| {
            is_fed(metrics.last.index, metrics.is_installing_snapshot)
        })
        .await?;
    let noticed = began.elapsed();
    back.wait(PATIENCE).applied(goal).await?;
    Ok(Timed { noticed, fed: began.elapsed() - noticed, processor: watch.stop().processor })
}
